"""
Tests for L{dtt.dht.client.lookup}; see also C{test_candidates}.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from dtt.dht.client.lookup import (
    ALPHA,
    HOMING,
    INNER,
    INNER_ANSWERS,
    MAX_NODES,
    MAX_PER_TURN,
    MAX_QUERIES,
    SLOT_WIDTH,
    SPARE,
    URGENT_ALPHA,
    Lookup,
    neighbouring_targets,
)
from dtt.dht.routing.buckets import K
from dtt.dht.routing.ids import distance
from dtt.interfaces import Contact
from dtt.krpc.messages import Response
from tests.dht.swarm import TARGET, LargeSwarm, Swarm
from tests.sweeps import sized


class LookupTests(SynchronousTestCase):
    """
    Which nodes are queried, and when a lookup ends.
    """

    def test_one_of_a_network(self) -> None:
        """
        Of the nearest nodes in one /24 only one is queried and counts; if it does not
        answer, the next one.
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
        From one starting node, the 8 nearest nodes of a network are found, in order.
        """
        for seed in range(5):
            swarm = Swarm(300, seed)
            self.assertFinds(swarm, swarm.lookup(swarm.contacts[:1]), swarm.near(TARGET, 8), 0.05)
            self.assertEqual(len(swarm.asked), len(set(swarm.asked)), f"seed {seed}")

    def test_no_node(self) -> None:
        """
        Without a starting node the lookup ends immediately without results.
        """
        self.assertEqual(self.successResultOf(Swarm(0).lookup([]).start()), [])

    def test_alpha(self) -> None:
        """
        At most alpha queries are in flight, including those for neighbouring subtrees
        but not slow ones.
        """
        swarm = Swarm(300)
        swarm.run(swarm.lookup(swarm.contacts[:100], width=SLOT_WIDTH).start())
        self.assertEqual(swarm.most_open, ALPHA)
        for seed in range(0, 200, sized(24, 1)):
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
        Alpha can be raised and lowered during a lookup.
        """
        for seed in range(sized(3, 20)):
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
        The start and each response trigger a few queries; all others, including those
        for neighbouring subtrees, follow in later reactor turns.
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
            self.assertLessEqual(len(swarm.asked) - before, MAX_PER_TURN)

        lookup = swarm.lookup(swarm.contacts[:100], width=SLOT_WIDTH, later=later)
        done = lookup.start()
        self.assertEqual(len(swarm.asked), MAX_PER_TURN)
        (results,), _ = swarm.run(done)
        self.assertEqual(results[:K], swarm.near(TARGET, K))
        self.assertGreater(turns, 0)

    def test_end_before_next_turn(self) -> None:
        """
        A lookup that ends before its next turn leaves no delayed call.
        """
        swarm = Swarm(30)
        lookup = swarm.lookup(swarm.contacts)
        done = lookup.start()
        lookup.stop()
        self.successResultOf(done)
        swarm.clock.advance(0.0)
        self.assertEqual(len(swarm.asked), MAX_PER_TURN)

    def test_wide_lookup_fills_its_width(self) -> None:
        """
        All nodes return the same 8 nearest nodes; a wide lookup still finds the ranks
        behind them.
        """
        for count, share in ((10, 1.0), (16, 1.0), (30, 1.0), (51, 0.99), (150, 0.99), (300, 0.98)):
            found = expected = 0
            for seed in range(sized(4, 40)):
                swarm = Swarm(count, seed)
                results, seconds = swarm.run(swarm.lookup(swarm.contacts[:1], width=SLOT_WIDTH).start())
                nearest = swarm.near(TARGET, SLOT_WIDTH)
                here = set(nearest) & set(results[0])
                self.assertGreaterEqual(len(here), 0.7 * len(nearest), f"{count} nodes, seed {seed}")
                found += len(here)
                expected += len(nearest)
                self.assertLess(seconds, 0.15, f"{count} nodes, seed {seed}")
                self.assertLess(len(swarm.asked), 120, f"{count} nodes, seed {seed}")
            self.assertGreaterEqual(found, share * expected, f"{count} nodes")

    def test_no_more_than_the_width(self) -> None:
        """
        If all nodes are known and answer, only those that have to answer are queried,
        and by a wide lookup a few spare ones.
        """
        for width, asked in ((K, K), (SLOT_WIDTH, SLOT_WIDTH + SPARE)):
            for seed in range(20):
                swarm = Swarm(100, seed)
                swarm.nodes = lambda contact, target: []
                (results,), _ = swarm.run(swarm.lookup(swarm.contacts, width=width).start())
                self.assertEqual(results[:width], swarm.near(TARGET, width), f"seed {seed}")
                self.assertEqual(set(swarm.asked), set(swarm.near(TARGET, asked)), f"seed {seed}")

    def test_homing(self) -> None:
        """
        While homing, a wide lookup queries only the nearest 16 known nodes, though
        alpha allows more; once the nearest have answered, it queries all.
        """
        for seed in range(sized(2, 20)):
            swarm = LargeSwarm(3000, seed)
            starts = swarm.some(100)
            lookup = swarm.lookup(starts, width=SLOT_WIDTH, alpha=URGENT_ALPHA)
            done = lookup.start()
            swarm.clock.pump([0.001] * 9)
            nearest = sorted(starts, key=lambda contact: distance(contact.node_id, TARGET))
            self.assertEqual(set(swarm.asked), set(nearest[:HOMING]), f"seed {seed}")
            (results,), _ = swarm.run(done)
            self.assertEqual(results[:INNER], swarm.near(TARGET, INNER), f"seed {seed}")
            self.assertGreater(swarm.most_open, HOMING, f"seed {seed}")

    def test_widened(self) -> None:
        """
        A wide lookup can be widened while it runs, never narrowed; one for the 8
        nearest keeps its width.
        """
        for width, wanted, found in ((24, SLOT_WIDTH, SLOT_WIDTH), (SLOT_WIDTH, 24, SLOT_WIDTH), (K, 24, K)):
            swarm = Swarm(100)
            lookup = swarm.lookup(swarm.contacts, width=width)
            done = lookup.start()
            swarm.clock.advance(0.005)
            lookup.widen(wanted)
            (results,), _ = swarm.run(done)
            self.assertEqual(results, swarm.near(TARGET, found))

    def test_dead_nodes_cost_a_soft_timeout(self) -> None:
        """
        With 20 % dead nodes a lookup ends without waiting for their hard time-outs.
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
        The response of a slow node counts if the lookup is still running.
        """
        swarm = Swarm(20)
        nearest, *others = swarm.near(TARGET, 8)
        swarm.lags = {nearest: 0.2, others[0]: 0.03}
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
        If most of a few near nodes are silent, our own network may be the cause: the
        lookup waits until most have answered, or, once the time-out is trusted, until
        one has.
        """
        for trusted, answers in ((False, 3), (True, 1)):
            swarm = Swarm(5)
            swarm.lags = {contact: 0.3 + number / 100 for number, contact in enumerate(swarm.contacts)}
            results, _ = swarm.run(swarm.lookup(swarm.contacts, trusts_timeout=trusted).start())
            self.assertEqual(len(results[0]), answers)

    def test_trusted_timeout(self) -> None:
        """
        If the time-out is trusted, the silence of most of a few nodes costs one soft
        time-out only.
        """
        for trusted, within in ((True, 0.06), (False, 2.01)):
            swarm = Swarm(6)
            swarm.dead = set(swarm.near(TARGET, 4))
            lookup = swarm.lookup(swarm.contacts, trusts_timeout=trusted)
            self.assertFinds(swarm, lookup, swarm.alive(2), within)
            self.assertEqual(swarm.clock.seconds() > 1.0, not trusted)

    def test_all_dead(self) -> None:
        """
        If no node answers, the lookup ends with the hard time-outs.
        """
        swarm = Swarm(5)
        swarm.dead = set(swarm.contacts)
        self.assertFinds(swarm, swarm.lookup(swarm.contacts), [], 2.01)

    def test_endless_nodes(self) -> None:
        """
        Against nodes that invent ever nearer ones, all of which answer, queries are
        bounded, including those for neighbouring subtrees.
        """
        for seed in range(sized(2, 10)):
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
        The bound also holds if it is reached while neighbouring subtrees are queried.
        """
        reached = 0
        for seed in range(sized(2, 20)):
            swarm = Swarm(400, seed)
            swarm.dead = set(swarm.rng.sample(swarm.contacts, 330))
            lookup = swarm.lookup(swarm.contacts[:200], width=100)
            swarm.run(lookup.start(), 20.0)
            self.assertLessEqual(len(swarm.asked), MAX_QUERIES, f"seed {seed}")
            reached += lookup.queries == MAX_QUERIES
        self.assertGreater(reached, 0)

    def test_answer_with_another_id(self) -> None:
        """
        A node that responds with another id than it was named with is ranked by its
        own.
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
        Cancelling a lookup cancels all queries.
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
        Cancelling a lookup also cancels slow queries, to candidates and for
        neighbouring subtrees.
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
        A lookup can be ended early with the results so far.
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
        The lookup does not wait for a node whose packet budget is spent, and cancels
        its held-back query at the end.
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
        Nodes that became known elsewhere in the meantime are queried before the lookup
        ends.
        """
        swarm = Swarm(20)
        swarm.nodes = lambda contact, target: []
        starts = [swarm.contacts[:1], swarm.contacts]
        lookup = swarm.lookup([], starts=lambda target: starts[min(len(swarm.asked), 1)])
        self.assertFinds(swarm, lookup, swarm.near(TARGET, 8), 0.03)

    def test_learn(self) -> None:
        """
        Contacts can be added during a lookup, not afterwards.
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
        Only the first nodes of a response are used.
        """
        swarm = Swarm(200)
        swarm.nodes = lambda contact, target: swarm.contacts if contact == swarm.contacts[0] else []
        swarm.run(swarm.lookup(swarm.contacts[:1], width=150).start())
        self.assertEqual(set(swarm.asked), set(swarm.contacts[:MAX_NODES]))

    def test_few_near(self) -> None:
        """
        If the subtrees expected to contain the 32 nearest nodes have fewer, the next
        subtree is searched too, even if nodes in it are already known and make 32 in
        total.
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
        With some BEP42-invalid nodes, the 20 nearest valid ones are queried too, and
        follow the 32 nearest in the results.
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


class InnerTests(SynchronousTestCase):
    """
    The early results of the inner nodes.
    """

    def test_when(self) -> None:
        """
        The observer is called once, as soon as the 12 nearest responsive known nodes
        have been queried and 5 have answered, with their results, nearest first, long
        before the end.
        """
        at = ends = 0.0
        for seed in range(sized(2, 20)):
            swarm = LargeSwarm(3000, seed)
            swarm.dead = set(swarm.some(1000))
            swarm.lags = {contact: swarm.rng.uniform(0.005, 0.06) for contact in swarm.contacts}
            starts = swarm.some(20)
            known = set(starts)
            reported: list[list[Contact]] = []

            def nodes(
                contact: Contact, target: bytes, swarm: LargeSwarm = swarm, known: set[Contact] = known
            ) -> list[Contact]:
                answer = swarm.from_table(contact, target)
                known.update(answer)
                return answer

            def nearest(swarm: LargeSwarm = swarm, known: set[Contact] = known) -> list[Contact]:
                heard = (contact for contact in known if contact not in swarm.slow)
                return sorted(heard, key=lambda contact: distance(contact.node_id, TARGET))[:INNER]

            def is_due(swarm: LargeSwarm = swarm, nearest: Callable[[], list[Contact]] = nearest) -> bool:
                return (
                    set(nearest()) <= set(swarm.asked)
                    and len(set(nearest()) & swarm.answered) >= INNER_ANSWERS
                )

            def on_inner(
                results: list[Contact],
                swarm: LargeSwarm = swarm,
                reported: list[list[Contact]] = reported,
                nearest: Callable[[], list[Contact]] = nearest,
            ) -> None:
                reported.append(results)
                self.assertEqual(results, [each for each in nearest() if each in swarm.answered])

            swarm.nodes = nodes
            lookup = swarm.lookup(starts, width=SLOT_WIDTH, on_inner=on_inner)
            done = lookup.start()
            while not reported:
                self.assertFalse(done.called, f"seed {seed}")
                self.assertFalse(is_due(), f"seed {seed}")
                # Responses and time-outs do not coincide.
                calls = swarm.clock.getDelayedCalls()
                swarm.clock.advance(min(call.getTime() for call in calls) - swarm.clock.seconds())
            self.assertTrue(is_due(), f"seed {seed}")
            self.assertFalse(done.called, f"seed {seed}")
            at += swarm.clock.seconds()
            swarm.run(done)
            ends += swarm.clock.seconds()
            self.assertEqual(len(reported), 1, f"seed {seed}")
        self.assertLess(at, 0.6 * ends)

    def test_too_few(self) -> None:
        """
        The observer is not called if fewer than 5 nodes answer.
        """
        for count, times in ((INNER_ANSWERS - 1, 0), (INNER_ANSWERS, 1)):
            swarm = Swarm(count + 10)
            swarm.dead = set(swarm.contacts[count:])
            reported: list[list[Contact]] = []
            lookup = swarm.lookup(swarm.contacts, width=SLOT_WIDTH, on_inner=reported.append)
            self.assertFinds(swarm, lookup, count)
            self.assertEqual(reported, [swarm.alive(count)] * times)

    def assertFinds(self, swarm: Swarm, lookup: Lookup[Contact], count: int) -> None:
        self.assertEqual(swarm.run(lookup.start())[0], [swarm.alive(count)])

    def test_ended_before(self) -> None:
        """
        The observer is not called after the lookup has ended or was cancelled.
        """
        for cancels in (False, True):
            swarm = Swarm(100)
            reported: list[list[Contact]] = []
            lookup = swarm.lookup(swarm.contacts[:1], width=SLOT_WIDTH, on_inner=reported.append)
            done = lookup.start()
            swarm.clock.advance(0.01)
            if cancels:
                done.cancel()
                self.failureResultOf(done, CancelledError)
            else:
                lookup.stop()
                self.assertEqual(len(self.successResultOf(done)), 1)
            swarm.clock.pump([0.01] * 300)
            self.assertEqual(reported, [])

    def test_ends_it(self) -> None:
        """
        The observer may stop or cancel the lookup: nothing more is sent.
        """
        for count in (9, 100):
            for cancels in (False, True):
                swarm = Swarm(count)
                asked: list[int] = []
                self.end_it(swarm, asked, cancels)
                swarm.clock.pump([0.01] * 300)
                self.assertEqual(asked, [len(swarm.asked)])

    def end_it(self, swarm: Swarm, asked: list[int], cancels: bool) -> None:
        """
        Run a lookup that the observer ends.
        """

        def on_inner(results: list[Contact]) -> None:
            asked.append(len(swarm.asked))
            if cancels:
                done.cancel()
            else:
                lookup.stop()

        lookup = swarm.lookup(swarm.contacts[:20], width=SLOT_WIDTH, on_inner=on_inner)
        done = lookup.start()
        (result,), _ = swarm.run(done)
        if cancels:
            result.trap(CancelledError)
        else:
            self.assertGreaterEqual(len(result), INNER_ANSWERS)

    def test_after_slow_starts(self) -> None:
        """
        The observer is also called if the first nodes were slow but led to others.
        """
        for seed in range(sized(2, 10)):
            swarm = LargeSwarm(1000, seed)
            starts = swarm.some(5)
            swarm.lags = dict.fromkeys(starts, 0.2)
            reported: list[list[Contact]] = []
            lookup = swarm.lookup(starts, width=SLOT_WIDTH, on_inner=reported.append)
            (results,), _ = swarm.run(lookup.start())
            self.assertEqual(results[:K], swarm.near(TARGET, K), f"seed {seed}")
            self.assertEqual(len(reported), 1, f"seed {seed}")


class NeighbouringTargetsTests(SynchronousTestCase):
    """
    Which targets are used to fill gaps.
    """

    def test_prefixes(self) -> None:
        """
        There is one target in the sibling at the given depth, two and four in the next
        ones.
        """
        targets = neighbouring_targets(TARGET, 9)
        self.assertEqual([160 - distance(t, TARGET).bit_length() for t in targets], [9, 8, 8, 7, 7, 7, 7])
        self.assertEqual(len(set(targets)), 7)

    def test_finer(self) -> None:
        """
        Each halving doubles the number of targets.
        """
        self.assertEqual(len(set(neighbouring_targets(TARGET, 9, 1))), 14)

    def test_wider(self) -> None:
        """
        The siblings of shorter prefixes are added, as finely divided as if they had
        been the last ones from the start.
        """
        for finer, wider, expected in ((1, 1, {7: 8, 6: 4}), (2, 1, {7: 16, 6: 8}), (2, 2, {6: 8, 5: 4})):
            targets = neighbouring_targets(TARGET, 9, finer, wider)
            depths = Counter(160 - distance(target, TARGET).bit_length() for target in targets)
            self.assertEqual({depth: depths[depth] for depth in expected}, expected)

    def test_ends(self) -> None:
        """
        At both ends of the range the targets are valid ids.
        """
        for depth in (0, 1, 2, 157, 158, 159, 160):
            for target in neighbouring_targets(b"\xff" * 20, depth):
                self.assertEqual(len(target), 20)
        self.assertEqual(len(neighbouring_targets(TARGET, 0)), 4)
