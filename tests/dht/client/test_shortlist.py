"""
Tests for L{dtt.dht.client.shortlist}, alone and in lookups.
"""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.trial.unittest import SynchronousTestCase

from dtt.dht.client import shortlist as module
from dtt.dht.client.lookup import MAX_NODES, MAX_QUERIES, SLOT_WIDTH
from dtt.dht.client.shortlist import (
    MAX_CANDIDATES,
    MAX_PER_NETWORK,
    MAX_SILENT,
    SILENT_SHARE,
    Candidate,
    Candidates,
    State,
)
from dtt.dht.routing.buckets import K
from dtt.interfaces import Contact
from tests.dht.swarm import TARGET, LargeSwarm, Swarm
from tests.sweeps import sized


def at(distance: int) -> Contact:
    """
    A node at the given distance from the target.
    """
    return Contact(distance.to_bytes(20), f"10.{distance >> 8 & 255}.{distance & 255}.1", 1)


class CandidatesTests(SynchronousTestCase):
    """
    Which candidates are kept.
    """

    def make(self, closed: bool = False) -> Candidates[Contact]:
        return Candidates(TARGET, 8, None, closed, b"\x07" * 20)

    def test_nearest_are_kept(self) -> None:
        """
        Over the limit the farthest candidates are dropped.
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
        A network (/24, or /64 of IPv6) has few candidates and one place among the
        nearest, that of its nearest node that answers. On loopback and in a closed
        network each node has a place, in a local network each address.
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
                self.assertEqual(len(list(candidates.one_per_network(candidates.orders[0]))), places)
                for candidate in candidates.all()[1:]:
                    candidate.state, candidate.result = State.ANSWERED, candidate.contact
                self.assertEqual(len(candidates.answered()), 0 if places == 1 else min(8, places - 1))
                candidates.all()[0].state = State.SLOW
                self.assertEqual(len(candidates.answered()), 1 if places == 1 else 8)
                self.assertEqual(candidates.results()[0], candidates.all()[1].contact)

    def test_not_ourselves(self) -> None:
        """
        Our own id is not a candidate.
        """
        candidates = self.make()
        candidates.learn([Contact(b"\x07" * 20, "10.0.0.1", 1)])
        self.assertEqual(candidates.all(), [])

    def test_any_state(self) -> None:
        """
        A nearer candidate replaces the farthest, whatever the state of that one; a
        farther one does not.
        """
        for state in (State.NEW, State.ASKED, State.SLOW, State.ANSWERED):
            candidates = self.make()
            candidates.learn(at(number) for number in range(100, 100 + MAX_CANDIDATES))
            *others, farthest = candidates.all()
            farthest.state = state
            candidates.learn([at(1000)])
            self.assertIs(candidates.all()[-1], farthest)
            candidates.learn([at(50)])
            self.assertEqual([each.distance for each in candidates.all()][:2], [50, 100])
            self.assertEqual(candidates.all()[1:], others)
            self.assertEqual(farthest.places, ())

    def test_comes_back(self) -> None:
        """
        A candidate dropped before it was queried returns when it is named again and
        there is room; others do not.
        """
        for state in State:
            candidates = self.make()
            candidates.learn(at(number) for number in range(100, 100 + MAX_CANDIDATES))
            farthest = candidates.all()[-1]
            candidates.learn([at(50)])
            self.assertEqual(farthest.places, ())
            candidates.learn([farthest.contact])
            self.assertEqual(farthest.places, ())
            candidates.drop(candidates.all()[0])
            farthest.state = state
            candidates.learn([farthest.contact])
            self.assertEqual(candidates.all()[-1] is farthest, state is State.NEW)
            self.assertEqual(len(candidates.all()), MAX_CANDIDATES - (state is not State.NEW))

    def test_renamed_after_drop(self) -> None:
        """
        A dropped candidate does not return when its id changes.
        """
        candidates = self.make()
        candidates.learn([at(5), at(7)])
        gone = candidates.all()[0]
        candidates.drop(gone)
        candidates.renamed(gone, at(6).node_id)
        self.assertEqual([each.distance for each in candidates.all()], [7])


class InformantTests(SynchronousTestCase):
    """
    Which informants are credible, and the consequences for the nodes that they named.
    """

    def setUp(self) -> None:
        self.candidates: Candidates[Contact] = Candidates(TARGET, K, None, False, b"")
        self.candidates.learn([at(200), at(201)])
        self.one, self.two = self.candidates.all()

    def asked(self) -> list[int]:
        """
        Return the distances of the candidates that would be queried.
        """
        order = self.candidates.orders[0]
        return [each.distance for each in self.candidates.one_per_network(order) if each.distance < 200]

    def test_credible(self) -> None:
        """
        An informant is credible until 8 of the nodes that it named are silent, and as
        long as the silent ones are at most 4 times as many as those that answered.
        """
        for silences, answers, expected in (
            (MAX_SILENT - 1, 0, True),
            (MAX_SILENT, 0, False),
            (MAX_SILENT, 1, False),
            (SILENT_SHARE * 2, 2, True),
            (SILENT_SHARE * 2 + 1, 2, False),
            (SILENT_SHARE * 5, 5, True),
        ):
            candidate: Candidate[Contact] = Candidate(at(1), 1, None)
            candidate.silences, candidate.answers = silences, answers
            self.assertEqual(candidate.credible, expected, (silences, answers))

    def test_not_asked(self) -> None:
        """
        A node named by no credible informant is not queried, until the informant is
        credible again; a node already queried stays.
        """
        self.candidates.learn([at(1), at(2)], self.one)
        self.candidates.all()[0].state = State.SLOW
        self.one.silences = MAX_SILENT
        self.assertEqual(self.asked(), [1])
        self.one.silences, self.one.answers = MAX_SILENT - 1, 1
        self.assertEqual(self.asked(), [1, 2])

    def test_named_by_others(self) -> None:
        """
        A node named by another informant too is queried, whatever the order of the two
        and whether or not the first has lost its credibility by then.
        """
        for first, second, falls_before in (
            (self.one, self.two, True),
            (self.one, self.two, False),
            (self.two, self.one, False),
            (self.one, None, True),
            (self.one, None, False),
            (None, self.one, False),
        ):
            self.setUp()
            informants = {id(None): None, 200: self.one, 201: self.two}
            one, two = (informants[id(None) if each is None else each.distance] for each in (first, second))
            self.candidates.learn([at(1), at(2)], one)
            if falls_before:
                self.one.silences = MAX_SILENT
            self.candidates.learn([at(2)], two)
            self.one.silences = MAX_SILENT
            self.assertEqual(self.asked(), [1, 2] if one is not self.one else [2])

    def test_later_names_are_ignored(self) -> None:
        """
        Nodes named after the loss of credibility are ignored.
        """
        self.one.silences = MAX_SILENT
        self.candidates.learn([at(1)], self.one)
        self.assertEqual(len(self.candidates.all()), 2)

    def test_dropped_first(self) -> None:
        """
        When there is no room, unanswered candidates without a credible informant are
        dropped first, even if they are nearer.
        """
        self.candidates.learn([at(1), at(2), at(3)], self.one)
        self.candidates.learn(at(number) for number in range(300, 298 + MAX_CANDIDATES - 3))
        self.assertEqual(len(self.candidates.all()), MAX_CANDIDATES)
        self.candidates.all()[0].state = State.ANSWERED
        self.candidates.all()[1].state = State.SLOW
        self.one.silences = MAX_SILENT
        self.assertEqual(self.asked(), [1, 2])
        left = []
        for new in (1000, 1001, 1002, 250):
            self.candidates.learn([at(new)])
            nearest = [each.distance for each in self.candidates.all()]
            left.append((nearest[:3], nearest[-1]))
            self.assertEqual(len(nearest), MAX_CANDIDATES)
        self.assertEqual(
            left, [([1, 2, 200], 1000), ([1, 200, 201], 1001), ([1, 200, 201], 1001), ([1, 200, 201], 1000)]
        )


class LargeNetworkTests(SynchronousTestCase):
    """
    Lookups that learn of more nodes than are kept.
    """

    def test_nearest(self) -> None:
        """
        The nearest of 5000 nodes are found.
        """
        for seed in range(sized(3, 10)):
            for width in (K, SLOT_WIDTH):
                swarm = LargeSwarm(5000, seed, returned=MAX_NODES)
                lookup = swarm.lookup(swarm.some(20), width=width)
                heard: set[Contact] = set()

                def nodes(contact: Contact, target: bytes, swarm: Any = swarm, heard: Any = heard) -> Any:
                    heard.update(answer := swarm.from_table(contact, target))
                    return answer

                swarm.nodes = nodes
                (results,), _ = swarm.run(lookup.start())
                self.assertEqual(results, swarm.near(TARGET, width), f"seed {seed}")
                self.assertLess(lookup.queries, 120, f"seed {seed}")
                if width == SLOT_WIDTH:
                    self.assertGreater(len(heard), MAX_CANDIDATES, f"seed {seed}")

    def crowd(self, lag: float) -> tuple[Swarm, Contact]:
        """
        A far node that is queried but answers only after so many nearer ones are known
        that it was dropped.
        """
        swarm = Swarm(0)
        informants = [at(5000 + number) for number in range(15)]
        far = at(6000)
        named = {
            each: [at(number * MAX_NODES + 1 + n) for n in range(MAX_NODES)]
            for number, each in enumerate(informants)
        }
        swarm.contacts = [far, *informants]
        swarm.nodes = lambda contact, target: named.get(contact, [at(500)] if contact == far else [])
        swarm.lags[far] = lag
        return swarm, far

    def test_late_answer_of_a_dropped_candidate(self) -> None:
        """
        The response or time-out of a dropped candidate does no harm; the nodes that it
        names are added.
        """
        for lag, dead in ((0.035, False), (0.07, False), (2.0, True)):
            swarm, far = self.crowd(lag)
            if dead:
                swarm.dead = {far}
            lookup = swarm.lookup(swarm.contacts, width=240, alpha=20)
            done = lookup.start()
            swarm.clock.pump([0.01] * 3)
            self.assertIn(far, swarm.asked)
            self.assertNotIn(far, [each.contact for each in lookup._candidates.all()])
            (results,), _ = swarm.run(done)
            self.assertEqual(results, [at(number) for number in range(1, 241)])
            swarm.clock.advance(3.0)
            self.assertEqual(swarm.clock.getDelayedCalls(), [])

    def test_cancel(self) -> None:
        """
        Cancelling also cancels the queries to dropped candidates.
        """
        for lag in (0.045, 1.0):
            swarm, far = self.crowd(lag)
            lookup = swarm.lookup(swarm.contacts, width=240, alpha=20)
            done = lookup.start()
            swarm.clock.pump([0.01] * 3)
            self.assertNotIn(far, [each.contact for each in lookup._candidates.all()])
            self.assertNotIn(far, swarm.answered)
            done.cancel()
            self.failureResultOf(done, CancelledError)
            self.assertEqual(swarm.clock.getDelayedCalls(), [])


class InventedNodesTests(SynchronousTestCase):
    """
    Nodes that name ever nearer nodes that do not exist.
    """

    def test_cost(self) -> None:
        """
        Each liar costs few queries: those needed to find out, and those in flight by
        then.
        """
        for seed in range(sized(3, 20)):
            for width in (K, SLOT_WIDTH):
                swarm = LargeSwarm(2000, seed)
                swarm.hostile = set(swarm.some(100))
                alpha = swarm.rng.choice((1, 4, 8))
                lookup = swarm.lookup(swarm.some(20), width=width, alpha=alpha)
                swarm.run(lookup.start(), 60.0)
                cost = Counter(swarm.invented[each] for each in swarm.asked if each in swarm.invented)
                for informant, queries in cost.items():
                    self.assertLess(queries, MAX_SILENT + alpha, f"seed {seed}, {informant}")

    def test_nearest_are_found(self) -> None:
        """
        The nearest nodes are still found, in bounded time and with a bounded number of
        queries.
        """
        seeds = sized(5, 20)
        for silent in (0, 700):
            found: Counter[int] = Counter()
            for seed in range(seeds):
                for width in (K, SLOT_WIDTH):
                    swarm = LargeSwarm(2000, seed)
                    swarm.dead = set(swarm.some(silent))
                    swarm.hostile = set(swarm.some(200)) - swarm.dead
                    lookup = swarm.lookup(swarm.some(20), width=width)
                    results, seconds = swarm.run(lookup.start())
                    self.assertEqual(len(results), 1, f"seed {seed}")
                    self.assertLess(seconds, 1.5, f"seed {seed}")
                    self.assertLessEqual(len(swarm.asked), MAX_QUERIES, f"seed {seed}")
                    found[width] += len(set(results[0]) & set(swarm.alive(width)))
            for width in (K, SLOT_WIDTH):
                self.assertGreater(found[width], (0.85 if silent else 0.95) * seeds * width)

    def test_many_liars(self) -> None:
        """
        Many nodes without a credible informant do not displace those that have
        answered.
        """
        for seed in range(sized(3, 20)):
            swarm = LargeSwarm(2000, seed)
            swarm.hostile = set(swarm.some(400))
            lookup = swarm.lookup(swarm.some(20), width=SLOT_WIDTH)
            (results,), _ = swarm.run(lookup.start())
            self.assertGreater(len(swarm.invented), MAX_CANDIDATES // 2, f"seed {seed}")
            found = len(set(results) & set(swarm.near(TARGET, SLOT_WIDTH)))
            self.assertGreater(found, 20, f"seed {seed}")

    def test_silent_network(self) -> None:
        """
        If 60 % of all nodes are silent, honest informants stay credible: as many of the
        nearest are found as if all were trusted.
        """
        seeds = sized(4, 40)
        found: Counter[bool] = Counter()
        for believing in (False, True):
            if believing:
                self.patch(module, "MAX_SILENT", 1 << 30)
            for seed in range(seeds):
                for width in (K, SLOT_WIDTH):
                    swarm = LargeSwarm(2000, seed)
                    swarm.dead = set(swarm.some(1200))
                    results, _ = swarm.run(swarm.lookup(swarm.some(20), width=width).start())
                    found[believing] += len(set(results[0]) & set(swarm.alive(width)))
        self.assertGreater(found[False], 0.995 * found[True])
        self.assertGreater(found[False], 0.8 * seeds * (K + SLOT_WIDTH))

    def test_named_by_a_liar(self) -> None:
        """
        A liar that names the nearest nodes after invented ones does not keep them out:
        other nodes name them too.
        """
        for seed in range(sized(3, 20)):
            swarm = LargeSwarm(500, seed)
            liar = Contact(b"\xff" * 20, "10.255.255.1", 1)
            nearest = swarm.near(TARGET, 10)

            def nodes(
                contact: Contact, target: bytes, swarm: Any = swarm, liar: Any = liar, nearest: Any = nearest
            ) -> Any:
                if contact == liar:
                    return [*swarm.invent(liar, 10), *nearest]
                return swarm.from_table(contact, target)

            swarm.nodes = nodes
            swarm.lags = dict.fromkeys(swarm.contacts, 0.02)
            lookup = swarm.lookup([liar, *swarm.some(3)], alpha=4)
            (results,), _ = swarm.run(lookup.start())
            self.assertEqual(results, nearest[:K], f"seed {seed}")

    def test_late_answers(self) -> None:
        """
        A slow node is not silent: with the late answers of the nodes that it named, an
        informant becomes credible again, and the others are queried.
        """
        for late in (1, MAX_SILENT):
            swarm = Swarm(0)
            informant = at(1000)
            named = [at(number) for number in range(1, MAX_SILENT + 5)]

            def nodes(
                contact: Contact, target: bytes, named: list[Contact] = named, informant: Contact = informant
            ) -> list[Contact]:
                return named if contact == informant else []

            swarm.nodes = nodes
            swarm.lags = dict.fromkeys(named, 0.1)
            swarm.dead = set(named[late:MAX_SILENT])
            lookup = swarm.lookup([informant], width=SLOT_WIDTH, alpha=MAX_SILENT, trusts_timeout=False)
            done = lookup.start()
            swarm.clock.pump([0.01] * 9)
            self.assertEqual(swarm.asked, [informant, *named[:MAX_SILENT]])
            swarm.run(done)
            self.assertEqual(swarm.asked[: 1 + len(named)], [informant, *named])

    def test_held_back(self) -> None:
        """
        A node not yet queried because of the packet budget is not silent.
        """
        swarm = Swarm(0)
        informant = at(1000)
        named = [at(number) for number in range(1, MAX_SILENT + 5)]
        swarm.nodes = lambda contact, target: named if contact == informant else []
        swarm.exhausted = set(named[:MAX_SILENT])
        swarm.dead = set(swarm.exhausted)
        (results,), _ = swarm.run(swarm.lookup([informant]).start())
        self.assertEqual(results, [*named[MAX_SILENT:], informant])
