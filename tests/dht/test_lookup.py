"""
Tests for L{dtt.dht.lookup} and L{dtt.dht.candidates}.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from dtt.dht.buckets import K
from dtt.dht.candidates import MAX_CANDIDATES, MAX_PER_NETWORK, Candidates, State
from dtt.dht.lookup import (
    ALPHA,
    MAX_AT_ONCE,
    MAX_NODES,
    MAX_QUERIES,
    SLOT_WIDTH,
    Lookup,
    neighbouring_targets,
)
from dtt.dht.node_id import distance
from dtt.interfaces import Contact
from dtt.krpc.messages import Response
from tests.dht.swarm import TARGET, Swarm


class LookupTests(SynchronousTestCase):
    """
    Who is asked, and when a lookup ends.
    """

    def test_one_of_a_network(self) -> None:
        """
        Of the nearest nodes in one /24 only one is asked and counts, and the
        next one when that does not answer.
        """
        for dead in (0, 2):
            swarm = Swarm(60)
            near = swarm.near(TARGET, 60)
            crowd = [Contact(each.node_id, f"80.0.0.{n + 1}", 1) for n, each in enumerate(near[:6])]
            swarm.contacts = [*crowd, *near[6:]]
            swarm.dead = set(crowd[:dead])
            lookup = swarm.lookup([near[-1]])
            results, _ = swarm.run(lookup.start())
            found = [contact for contact in results[0] if contact in crowd]
            self.assertEqual(len(results[0]), 8)
            self.assertEqual(found, crowd[dead : dead + 1])
            self.assertEqual(len({c for c in swarm.asked if c in crowd}), dead + 1)

    def assertFinds(
        self, swarm: Swarm, lookup: Lookup[Contact], expected: list[Contact], within: float
    ) -> None:
        results, seconds = swarm.run(lookup.start())
        self.assertEqual(results, [expected])
        self.assertLessEqual(seconds, within + 1e-9)

    def test_nearest(self) -> None:
        """
        From one node on, the 8 nearest of a network are found, in order.
        """
        for seed in range(5):
            swarm = Swarm(300, seed)
            self.assertFinds(swarm, swarm.lookup(swarm.contacts[:1]), swarm.near(TARGET, 8), 0.05)
            self.assertEqual(len(swarm.asked), len(set(swarm.asked)), f"seed {seed}")

    def test_no_node(self) -> None:
        """
        Without a node to begin with it ends at once, with nothing.
        """
        self.assertEqual(self.successResultOf(Swarm(0).lookup([]).start()), [])

    def test_alpha(self) -> None:
        """
        No more than alpha queries are in flight, slow ones apart, those for
        neighbouring subtrees included.
        """
        swarm = Swarm(300)
        swarm.run(swarm.lookup(swarm.contacts[:100], width=SLOT_WIDTH).start())
        self.assertEqual(swarm.most_open, ALPHA)
        for seed in range(200):
            swarm = Swarm(40 + 2 * seed, seed)
            alpha = swarm.rng.choice((1, 3, 8, 16, 40))
            swarm.dead = set(swarm.rng.sample(swarm.contacts, 8 + seed // 2))
            swarm.lags = {contact: swarm.rng.uniform(0.005, 0.08) for contact in swarm.contacts}
            starts = swarm.rng.sample(swarm.contacts, swarm.rng.choice((3, 30)))
            results, _ = swarm.run(swarm.lookup(starts, width=SLOT_WIDTH, alpha=alpha).start(), 20.0)
            self.assertEqual(len(results), 1, f"seed {seed}")
            self.assertLessEqual(swarm.most_open, alpha, f"seed {seed}")

    def test_alpha_changes(self) -> None:
        """
        Alpha can be changed while a lookup runs, up and down.
        """
        for seed in range(20):
            swarm = Swarm(300, seed)
            lookup = swarm.lookup(swarm.contacts[:100], width=SLOT_WIDTH, alpha=2)
            done = lookup.start()
            swarm.clock.advance(0.01)
            self.assertEqual(swarm.most_open, 2, f"seed {seed}")
            lookup.alpha = 12
            swarm.clock.advance(0.01)
            self.assertEqual(swarm.most_open, 12, f"seed {seed}")
            lookup.alpha = 1
            asked = len(swarm.asked)
            swarm.clock.advance(0.01)
            swarm.most_open = 0
            (results,), _ = swarm.run(done)
            self.assertEqual(results[:K], swarm.near(TARGET, K), f"seed {seed}")
            self.assertGreater(len(swarm.asked), asked, f"seed {seed}")
            self.assertEqual(swarm.most_open, 1, f"seed {seed}")

    def test_queries_of_one_turn(self) -> None:
        """
        What begins it, and each answer, sets off a few queries; all others go
        in later turns of the reactor, those for neighbouring subtrees, too.
        """
        swarm = Swarm(300)
        turns = 0

        def later(call: Callable[[], None]) -> Any:
            nonlocal turns
            turns += 1
            return swarm.clock.callLater(0.0, counted, call)

        def counted(call: Callable[[], None]) -> None:
            before = len(swarm.asked)
            call()
            self.assertLessEqual(len(swarm.asked) - before, MAX_AT_ONCE)

        lookup = swarm.lookup(swarm.contacts[:100], width=SLOT_WIDTH, later=later)
        done = lookup.start()
        self.assertEqual(len(swarm.asked), MAX_AT_ONCE)
        (results,), _ = swarm.run(done)
        self.assertEqual(results[:K], swarm.near(TARGET, K))
        self.assertGreater(turns, 0)

    def test_end_in_a_turn(self) -> None:
        """
        Nothing is left to be called when it ends before its next turn.
        """
        swarm = Swarm(30)
        lookup = swarm.lookup(swarm.contacts)
        done = lookup.start()
        lookup.stop()
        self.successResultOf(done)
        swarm.clock.advance(0.0)
        self.assertEqual(len(swarm.asked), MAX_AT_ONCE)

    def test_wide_lookup_fills_its_width(self) -> None:
        """
        All nodes tell the same 8 nearest; a wide lookup finds the ranks behind
        them all the same.
        """
        for count, share in ((10, 1.0), (16, 1.0), (30, 1.0), (60, 0.85), (300, 0.85)):
            found = expected = 0
            for seed in range(5):
                swarm = Swarm(count, seed)
                results, seconds = swarm.run(swarm.lookup(swarm.contacts[:1], width=SLOT_WIDTH).start())
                nearest = swarm.near(TARGET, SLOT_WIDTH)
                found += len(set(nearest) & set(results[0]))
                expected += len(nearest)
                self.assertLess(seconds, 0.1)
                self.assertLess(len(swarm.asked), 100)
            self.assertGreaterEqual(found, share * expected, f"{count} nodes")

    def test_dead_nodes_cost_a_soft_timeout(self) -> None:
        """
        With 20 % dead nodes a lookup ends without waiting for any of them.
        """
        for seed in range(5):
            swarm = Swarm(100, seed)
            swarm.dead = set(swarm.rng.sample(swarm.contacts[1:], 20))
            expected = [contact for contact in swarm.near(TARGET, 100) if contact not in swarm.dead]
            results, seconds = swarm.run(swarm.lookup(swarm.contacts[:40], width=SLOT_WIDTH).start())
            self.assertEqual(results[0][:5], expected[:5], f"seed {seed}")
            self.assertLess(seconds, 0.3, f"seed {seed}")

    def test_late_answer_counts(self) -> None:
        """
        The answer of a slow node is among the results if the lookup still runs.
        """
        swarm = Swarm(20)
        nearest, *others = swarm.near(TARGET, 8)
        swarm.lags = {nearest: 0.07, others[0]: 0.03}
        swarm.lags |= {contact: 0.04 for contact in swarm.contacts if contact not in swarm.lags}
        lookup = swarm.lookup(swarm.contacts)
        results, _ = swarm.run(lookup.start())
        self.assertNotIn(nearest, results[0])
        self.assertIn(nearest, lookup.silent())
        swarm.nodes = lambda contact, target: []
        swarm.lags = dict.fromkeys(swarm.contacts, 0.01) | {nearest: 0.07}
        far = swarm.near(TARGET, 20)[-1]
        swarm.lags[far] = 0.04
        chain = dict(zip(others, [*others[1:], far], strict=True))
        swarm.lags |= dict.fromkeys(others, 0.02)
        swarm.nodes = lambda contact, target: [chain[contact]] if contact in chain else []
        results, _ = swarm.run(swarm.lookup([nearest, others[0]]).start())
        self.assertEqual(results[0][0], nearest)

    def test_own_silence(self) -> None:
        """
        When most of the few near nodes are silent, it may be our own network:
        the lookup waits until most have answered; once the time-out is trusted,
        only until one has.
        """
        for trusted, answers in ((False, 3), (True, 1)):
            swarm = Swarm(5)
            swarm.lags = {contact: 0.3 + number / 100 for number, contact in enumerate(swarm.contacts)}
            results, _ = swarm.run(
                swarm.lookup(swarm.contacts, trusts_timeout=lambda trusted=trusted: trusted).start()
            )
            self.assertEqual(len(results[0]), answers)

    def test_trusted_timeout(self) -> None:
        """
        Where the time-out is trusted, the silence of most of a few nodes costs
        a soft time-out only.
        """
        for trusted, within in ((True, 0.06), (False, 2.01)):
            swarm = Swarm(6)
            swarm.dead = set(swarm.near(TARGET, 4))
            lookup = swarm.lookup(swarm.contacts, trusts_timeout=lambda trusted=trusted: trusted)
            self.assertFinds(swarm, lookup, swarm.alive(2), within)
            self.assertEqual(swarm.clock.seconds() > 1.0, not trusted)

    def test_all_dead(self) -> None:
        """
        When nobody answers at all it ends with the hard time-outs.
        """
        swarm = Swarm(5)
        swarm.dead = set(swarm.contacts)
        self.assertFinds(swarm, swarm.lookup(swarm.contacts), [], 2.01)

    def test_endless_nodes(self) -> None:
        """
        Against nodes that invent ever nearer ones, which all answer, queries
        are bounded, those for neighbouring subtrees included.
        """
        for seed in range(10):
            swarm = Swarm(20, seed)
            serial = iter(range(1 << 30))

            def invent(
                contact: Contact, target: bytes, serial: Any = serial, most: int = 8 if seed % 2 else 100
            ) -> list[Contact]:
                return [
                    Contact(
                        (int.from_bytes(contact.node_id) >> 1 ^ next(serial)).to_bytes(20),
                        f"11.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}",
                        1,
                    )
                    for number in (next(serial) for _ in range(most))
                ]

            swarm.nodes = invent
            lookup = swarm.lookup(swarm.contacts, width=swarm.rng.choice((K, SLOT_WIDTH)))
            results, _ = swarm.run(lookup.start())
            self.assertEqual(len(results), 1, f"seed {seed}")
            self.assertLessEqual(len(swarm.asked), MAX_QUERIES, f"seed {seed}")
            self.assertEqual(lookup.queries, len(swarm.asked), f"seed {seed}")

    def test_queries_are_bounded(self) -> None:
        """
        When the bound is reached while neighbouring subtrees are asked for, no
        more of those queries are sent either.
        """
        reached = 0
        for seed in range(20):
            swarm = Swarm(400, seed)
            swarm.dead = set(swarm.rng.sample(swarm.contacts, 330))
            lookup = swarm.lookup(swarm.contacts[:200], width=100)
            swarm.run(lookup.start(), 20.0)
            self.assertLessEqual(len(swarm.asked), MAX_QUERIES, f"seed {seed}")
            reached += lookup.queries == MAX_QUERIES
        self.assertGreater(reached, 0)

    def test_answer_with_another_id(self) -> None:
        """
        A node that has another id than we were told is ranked by its own.
        """
        swarm = Swarm(10)
        liar = Contact(TARGET, "10.77.0.1", 1)
        true = Contact(b"\xff" * 20, "10.77.0.1", 1)

        def ask(contact: Contact, *rest: Any) -> Deferred[Response]:
            return Swarm.ask(swarm, true if contact == liar else contact, *rest)

        lookup = swarm.lookup([liar, *swarm.contacts], ask=ask)
        results, _ = swarm.run(lookup.start())
        self.assertEqual(results[0], swarm.near(TARGET, 8))

    def test_cancel(self) -> None:
        """
        Cancelling ends all queries.
        """
        swarm = Swarm(30)
        done = swarm.lookup(swarm.contacts, width=SLOT_WIDTH).start()
        swarm.clock.pump([0.0] * ALPHA)
        done.cancel()
        self.failureResultOf(done, CancelledError)
        self.assertEqual(swarm.cancelled, ALPHA)
        self.assertEqual([call for call in swarm.clock.getDelayedCalls() if call.active()], [])

    def test_cancel_ends_slow_queries(self) -> None:
        """
        Cancelling ends those queries, too, that nobody waits for any more: for
        neighbouring subtrees, and to candidates.
        """
        for slow_method in (b"find_node", b"get"):
            swarm = Swarm(300)
            slow: list[Contact] = []

            def ask(
                contact: Contact,
                method: bytes,
                *rest: Any,
                swarm: Swarm = swarm,
                slow: list[Contact] = slow,
                slow_method: bytes = slow_method,
            ) -> Deferred[Response]:
                if method == slow_method and not slow:
                    slow.append(contact)
                swarm.lags = dict.fromkeys(swarm.contacts, 0.02)
                if method == slow_method and contact in slow:
                    swarm.lags[contact] = 0.5
                return Swarm.ask(swarm, contact, method, *rest)

            done = swarm.lookup(swarm.contacts[:100], width=SLOT_WIDTH, ask=ask, alpha=4).start()
            while not swarm.slow:
                swarm.clock.advance(0.01)
            self.assertFalse(done.called)
            done.cancel()
            self.failureResultOf(done, CancelledError)
            self.assertEqual([call for call in swarm.clock.getDelayedCalls() if call.active()], [])

    def test_stop(self) -> None:
        """
        It can be ended early, with what there is.
        """
        swarm = Swarm(30)

        def interpret(contact: Contact, response: Response) -> Contact:
            lookup.stop()
            return contact

        lookup: Lookup[Contact] = swarm.lookup(swarm.contacts[:1], interpret=interpret)
        _, seconds = swarm.run(lookup.start())
        self.assertFalse(lookup.running)
        self.assertEqual(len(swarm.asked), 1)
        self.assertLess(seconds, 0.02)

    def test_packet_budget(self) -> None:
        """
        A node that may not be sent to now is not waited for, and its waiting
        query is given up at the end.
        """
        swarm = Swarm(20)
        swarm.exhausted = {swarm.near(TARGET, 1)[0]}
        swarm.dead = set(swarm.exhausted)
        results, seconds = swarm.run(swarm.lookup(swarm.contacts).start())
        self.assertEqual(results[0], swarm.near(TARGET, 9)[1:])
        self.assertLess(seconds, 0.05)
        self.assertEqual(swarm.cancelled, 1)

    def test_further_starts(self) -> None:
        """
        Whoever has become known elsewhere meanwhile is asked before it ends.
        """
        swarm = Swarm(20)
        swarm.nodes = lambda contact, target: []
        starts = [swarm.contacts[:1], swarm.contacts]
        lookup = swarm.lookup([], starts=lambda: starts[min(len(swarm.asked), 1)])
        self.assertFinds(swarm, lookup, swarm.near(TARGET, 8), 0.03)

    def test_learn(self) -> None:
        """
        Contacts can be added while it runs, not afterwards.
        """
        swarm = Swarm(20)
        swarm.nodes = lambda contact, target: []
        lookup = swarm.lookup(swarm.contacts[:1])
        done = lookup.start()
        lookup.learn(swarm.contacts)
        self.assertEqual(swarm.run(done)[0], [swarm.near(TARGET, 8)])
        asked = len(swarm.asked)
        lookup.learn([Contact(TARGET, "10.99.0.1", 1)])
        self.assertEqual(len(swarm.asked), asked)

    def test_nodes_of_one_answer(self) -> None:
        """
        No more than the first nodes of an answer are taken.
        """
        swarm = Swarm(200)
        swarm.nodes = lambda contact, target: swarm.contacts if contact == swarm.contacts[0] else []
        swarm.run(swarm.lookup(swarm.contacts[:1], width=150).start())
        self.assertEqual(set(swarm.asked), set(swarm.contacts[:MAX_NODES]))

    def test_few_near(self) -> None:
        """
        Where the subtrees that hold the 32 nearest by the rule of thumb have
        fewer, the next one is searched, too: also when others from there are
        known already, so that there are 32 in all.
        """
        for known in (1, 10):
            swarm = Swarm(0)
            halves = [
                [
                    Contact(
                        bytes((first | number << 2,)) + swarm.rng.randbytes(19), f"10.{first}.{number}.1", 1
                    )
                    for number in range(count)
                ]
                for first, count in ((0, 24), (128, 25))
            ]
            swarm.contacts = [contact for half in halves for contact in half]
            starts = [*halves[0][:8], *halves[1][-known:]]
            results, _ = swarm.run(swarm.lookup(starts, width=SLOT_WIDTH).start())
            self.assertEqual(results[0], swarm.near(TARGET, SLOT_WIDTH), known)

    def test_mainlines_order(self) -> None:
        """
        With some BEP42-invalid nodes, the 20 nearest valid ones are asked too
        and stand behind the 32 nearest.
        """
        swarm = Swarm(120)
        valid = set(swarm.contacts[::3])
        lookup = swarm.lookup(swarm.contacts, width=SLOT_WIDTH, is_secure=lambda contact: contact in valid)
        results, _ = swarm.run(lookup.start())
        everybody = swarm.near(TARGET, 120)
        theirs = [contact for contact in everybody if contact in valid][:20]
        self.assertEqual(results[0][:SLOT_WIDTH], everybody[:SLOT_WIDTH])
        self.assertEqual(set(results[0]), set(everybody[:SLOT_WIDTH]) | set(theirs))
        self.assertGreater(len(results[0]), SLOT_WIDTH)


class CandidatesTests(SynchronousTestCase):
    """
    What is kept.
    """

    def make(self, closed: bool = False) -> Candidates[Contact]:
        return Candidates(TARGET, 8, None, closed, b"\x07" * 20)

    def test_nearest_are_kept(self) -> None:
        """
        Over the limit the farthest go.
        """
        candidates = self.make()
        contacts = [
            Contact(number.to_bytes(20), f"10.{number >> 8}.{number & 255}.1", 1)
            for number in range(1, 2 * MAX_CANDIDATES)
        ]
        Random(2).shuffle(contacts)
        candidates.learn(contacts)
        self.assertEqual(
            [candidate.distance for candidate in candidates.all()], list(range(1, MAX_CANDIDATES + 1))
        )

    def test_places_of_a_network(self) -> None:
        """
        A network (/24, or /64 of IPv6) has few candidates and one place among
        the nearest, that of its nearest node that answers; on our own machine
        and in a closed network each node has one, in a local network each
        address.
        """
        for pattern, candidates_of, places_of in (
            ("80.0.0.{}", MAX_PER_NETWORK, 1),
            ("2001:db8::{}", MAX_PER_NETWORK, 1),
            ("10.0.0.{}", 10, 10),
            ("127.0.0.{}", 10, 10),
        ):
            contacts = [Contact(bytes((number,)) * 20, pattern.format(number), 1) for number in range(20, 30)]
            for closed, kept, places in ((False, candidates_of, places_of), (True, 10, 10)):
                candidates = self.make(closed)
                candidates.learn(contacts)
                candidates.learn(contacts)
                self.assertEqual(len(candidates.all()), kept)
                self.assertEqual(len(list(candidates.alone(candidates.orders[0]))), places)
                for candidate in candidates.all()[1:]:
                    candidate.state, candidate.result = State.ANSWERED, candidate.contact
                self.assertEqual(len(candidates.answered()), 0 if places == 1 else min(8, places - 1))
                candidates.all()[0].state = State.SLOW
                self.assertEqual(len(candidates.answered()), 1 if places == 1 else 8)
                self.assertEqual(candidates.results()[0], candidates.all()[1].contact)

    def test_not_ourselves(self) -> None:
        """
        Our own id is no candidate.
        """
        candidates = self.make()
        candidates.learn([Contact(b"\x07" * 20, "10.0.0.1", 1)])
        self.assertEqual(candidates.all(), [])


class NeighbouringTargetsTests(SynchronousTestCase):
    """
    Where gaps are filled from.
    """

    def test_prefixes(self) -> None:
        """
        One target in the sibling at that depth, two and four in the next ones.
        """
        targets = neighbouring_targets(TARGET, 9)
        self.assertEqual([160 - distance(t, TARGET).bit_length() for t in targets], [9, 8, 8, 7, 7, 7, 7])
        self.assertEqual(len(set(targets)), 7)

    def test_finer(self) -> None:
        """
        Each halving doubles the targets.
        """
        self.assertEqual(len(set(neighbouring_targets(TARGET, 9, 1))), 14)

    def test_wider(self) -> None:
        """
        The siblings of further prefixes come in, as finely as if they had been
        the last at first.
        """
        for finer, wider, expected in ((1, 1, {7: 8, 6: 4}), (2, 1, {7: 16, 6: 8}), (2, 2, {6: 8, 5: 4})):
            targets = neighbouring_targets(TARGET, 9, finer, wider)
            depths = Counter(160 - distance(target, TARGET).bit_length() for target in targets)
            self.assertEqual({depth: depths[depth] for depth in expected}, expected)

    def test_ends(self) -> None:
        """
        At both ends of the range the targets are ids.
        """
        for depth in (0, 1, 2, 157, 158, 159, 160):
            for target in neighbouring_targets(b"\xff" * 20, depth):
                self.assertEqual(len(target), 20)
        self.assertEqual(len(neighbouring_targets(TARGET, 0)), 4)
