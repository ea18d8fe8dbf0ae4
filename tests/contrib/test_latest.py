"""
Tests for L{dtt.contrib.latest}.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dtt.contrib.latest import COMPARE_INTERVAL, COMPARE_JITTER, MAX_VALUE, REPEAT_DELAY, LatestValues, Limits
from dtt.contrib.latest_wire import (
    FIRST,
    LAST,
    TO_NEIGHBOR,
    TO_SWARM,
    Entry,
    Summary,
    decode,
    encode_entry,
    encode_summary,
    key_of,
)
from dtt.errors import TopicLeft, UsageError, WrongType
from dtt.testing.fake_tracker import FakeTopicService, FakeTracker
from dtt.testing.swarm import VirtualSwarm
from tests.sweeps import sized

PEER = b"p" * 32
ANN, BOB = Entry(b"ann", 1, b"ann's"), Entry(b"bob", 2, b"bob's")
EMPTY = encode_summary(Summary(FIRST, LAST, {}))


def summary(*entries: Entry) -> bytes:
    """
    Return the message of a member that has some entries.
    """
    return encode_summary(Summary(FIRST, LAST, {key_of(each.author): each.version for each in entries}))


class LatestValuesTests(SynchronousTestCase):
    """
    One member, whose neighbours are the test.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        tracker = FakeTracker()
        tracker.startService()
        self.topic: FakeTopicService = tracker.join("topic")
        self.changes: list[Entry] = []

    def values(
        self, check: Callable[[Entry], bool] = lambda entry: True, limits: Limits | None = None
    ) -> LatestValues:
        """
        Return the state under test.
        """
        values = LatestValues(
            self.clock,
            self.topic,
            check=check,
            on_change=self.changes.append,
            limits=limits,
            rng=Random(1),
        )
        self.addCleanup(values.close)
        return values

    def receive(self, content: bytes, scope: str = "neighbors") -> None:
        """
        Let a message arrive.
        """
        if scope == "swarm":
            self.topic.receive(content, PEER)
        else:
            self.topic.receive_directly(content, PEER)

    def sent(self) -> list[Entry | Summary | None]:
        """
        Return what was sent to the neighbour since the last call.
        """
        self.assertEqual({peer for peer, _ in self.topic.sent_to} - {PEER}, set())
        found = [decode(content) for _, content in self.topic.sent_to]
        self.topic.sent_to.clear()
        return found

    def test_put(self) -> None:
        """
        An entry is broadcast if there is a neighbour, and stored in any case; an older one
        is neither.
        """
        values = self.values()
        self.assertTrue(values.put(b"ann", 1, b"ann's"))
        self.assertEqual(self.topic.sent, [])
        self.topic.up(PEER)
        self.sent()
        self.assertTrue(values.put(b"bob", 2, b"bob's"))
        self.assertEqual(self.topic.sent, [encode_entry(BOB, TO_SWARM)])
        self.assertFalse(values.put(b"bob", 1, b"older"))
        self.assertFalse(values.put(b"bob", 2, b"bob's"))
        self.assertEqual((values.get(b"ann"), values.get(b"bob"), values.get(b"eve")), (ANN, BOB, None))
        self.assertEqual((values.entries(), len(values)), ([ANN, BOB], 2))
        self.assertEqual(self.changes, [])

    def test_put_again(self) -> None:
        """
        An entry whose content is still known to the swarm is stored without an error.
        """
        self.topic.up(PEER)
        self.topic.broadcast(encode_entry(ANN, TO_SWARM))
        self.assertTrue(self.values().put(b"ann", 1, b"ann's"))

    def test_arguments(self) -> None:
        """
        What does not fit is refused at the call.
        """
        values = self.values(limits=Limits(authors=1, value=10))
        for author, version, value in (
            (b"", 1, b""),
            (bytes(65), 1, b""),
            (b"a", -1, b""),
            (b"a", 2**64, b""),
            (b"a", 1, bytes(11)),
        ):
            self.assertRaises(UsageError, values.put, author, version, value)
        values.put(b"a", 1, bytes(10))
        self.assertRaises(UsageError, values.put, b"b", 1, b"")
        error = self.assertRaises(UsageError, Limits, value=4000)
        self.assertEqual(str(error), f"value must be 0..{MAX_VALUE}, not 4000")
        self.assertEqual(Limits(value=MAX_VALUE).value, MAX_VALUE)
        error = self.assertRaises(UsageError, Limits, authors=0)
        self.assertEqual(str(error), "authors must be at least 1, not 0")

    def test_wrong_types(self) -> None:
        """
        A wrong type is refused as such, and leaves nothing behind.
        """

        async def asynchronous(entry: Entry) -> bool:
            return True

        wrong: Any
        for wrong in (None, "text", 1.5, True):
            self.assertRaises(WrongType, Limits, authors=wrong)
            self.assertRaises(WrongType, Limits, value=wrong)
            self.assertRaises(WrongType, LatestValues, wrong, self.topic)
            self.assertRaises(WrongType, LatestValues, self.clock, wrong)
        for name in ("check", "on_change"):
            for wrong in (None, "text", asynchronous):
                self.assertRaises(WrongType, LatestValues, self.clock, self.topic, **{name: wrong})
        for name in ("limits", "rng"):
            wrong = {name: 5}
            self.assertRaises(WrongType, LatestValues, self.clock, self.topic, **wrong)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        values = self.values()
        for wrong in (None, "text", bytearray(b"a"), [], 5):
            self.assertRaises(WrongType, values.put, wrong, 1, b"")
            self.assertRaises(WrongType, values.put, b"a", 1, wrong)
            self.assertRaises(WrongType, values.get, wrong)
        for wrong in (None, "1", 1.0, True):
            self.assertRaises(WrongType, values.put, b"a", wrong, b"")

    def test_learn(self) -> None:
        """
        A newer entry of another member is stored and reported, whether it comes from the
        swarm or from a neighbour; an older one is not.
        """
        values = self.values()
        self.topic.up(PEER)
        self.receive(encode_entry(ANN, TO_SWARM), "swarm")
        self.receive(encode_entry(BOB, TO_NEIGHBOR))
        self.receive(encode_entry(BOB, TO_NEIGHBOR))
        self.receive(encode_entry(Entry(b"bob", 1, b"older"), TO_SWARM), "swarm")
        self.assertEqual(self.changes, [ANN, BOB])
        self.assertEqual(values.entries(), [ANN, BOB])

    def test_newcomer(self) -> None:
        """
        A new neighbour gets our versions, and once the entries that it lacks.
        """
        values = self.values()
        values.put(b"ann", 1, b"ann's")
        values.put(b"bob", 2, b"bob's")
        self.topic.up(PEER)
        self.assertEqual(self.sent(), [decode(summary(ANN, BOB))])
        self.receive(summary(ANN, Entry(b"bob", 1, b"older")))
        self.assertEqual(self.topic.sent_to, [(PEER, encode_entry(BOB, TO_NEIGHBOR))])
        self.sent()
        self.receive(EMPTY)
        self.assertEqual(self.sent(), [ANN])
        for _ in range(100):
            self.receive(EMPTY)
        self.assertEqual(self.sent(), [])
        self.clock.advance(REPEAT_DELAY)
        self.receive(EMPTY)
        self.assertEqual(self.sent(), [ANN, BOB])

    def test_ask(self) -> None:
        """
        Who lacks something that a neighbour has tells it so.
        """
        self.values()
        self.topic.up(PEER)
        self.sent()
        self.receive(summary(ANN))
        self.assertEqual(self.topic.sent_to, [(PEER, EMPTY)])
        self.receive(EMPTY)
        self.receive(encode_entry(ANN, TO_NEIGHBOR))
        self.sent()
        self.receive(summary(ANN))
        self.assertEqual(self.sent(), [])

    def test_pass_on(self) -> None:
        """
        Entries from a neighbour may be new to others: they get our versions, once for all entries. Entries
        from the swarm cause nothing.
        """
        self.values()
        self.topic.up(PEER)
        self.sent()
        self.receive(encode_entry(Entry(b"eve", 1, b""), TO_SWARM), "swarm")
        self.clock.advance(5)
        self.assertEqual(self.sent(), [])
        self.receive(encode_entry(ANN, TO_NEIGHBOR))
        self.receive(encode_entry(BOB, TO_NEIGHBOR))
        self.clock.advance(5)
        (told,) = self.sent()
        assert isinstance(told, Summary)
        self.assertEqual(len(told.versions), 3)

    def test_strangers(self) -> None:
        """
        Only neighbours are answered, and only if they speak for themselves.
        """
        values = self.values()
        values.put(b"ann", 1, b"ann's")
        self.receive(EMPTY)
        self.topic.up(PEER)
        self.sent()
        self.receive(EMPTY, "swarm")
        self.assertEqual(self.sent(), [])

    def test_check(self) -> None:
        """
        What the application does not accept is refused and counted; so is everything if
        its check fails, which is logged.
        """
        values = self.values(check=lambda entry: entry.author == b"ann")
        self.receive(encode_entry(BOB, TO_SWARM), "swarm")
        self.receive(encode_entry(ANN, TO_SWARM), "swarm")
        self.assertEqual(values.entries(), [ANN])
        self.assertEqual(values.counters, {"not_accepted": 1})

        def broken(entry: Entry) -> bool:
            raise ZeroDivisionError

        wrong: Any = lambda entry: "no"  # noqa: E731
        values = self.values(check=wrong)
        self.receive(encode_entry(BOB, TO_NEIGHBOR))
        self.assertEqual(values.entries(), [])
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)
        values.close()
        values = self.values(check=broken)
        self.receive(encode_entry(BOB, TO_NEIGHBOR))
        self.assertEqual(values.entries(), [])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_on_change_fails(self) -> None:
        """
        An exception of the application's C{on_change} is logged; the entry counts.
        """
        values = LatestValues(self.clock, self.topic, on_change=lambda entry: 1 / 0, rng=Random(1))
        self.addCleanup(values.close)
        self.receive(encode_entry(BOB, TO_SWARM), "swarm")
        self.assertEqual(values.entries(), [BOB])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_limits(self) -> None:
        """
        Too many authors, too large values and malformed messages are refused and counted;
        a known author can still change its value.
        """
        values = self.values(limits=Limits(authors=2, value=10))
        self.receive(encode_entry(Entry(b"ann", 1, bytes(11)), TO_SWARM), "swarm")
        for number in range(5):
            self.receive(encode_entry(Entry(b"%d" % number, 1, b""), TO_SWARM), "swarm")
        self.receive(encode_entry(Entry(b"0", 2, b"new"), TO_SWARM), "swarm")
        self.receive(TO_SWARM)
        self.receive(b"another application's")
        self.assertEqual(values.counters, {"too_large": 1, "too_many_authors": 3, "malformed": 1})
        self.assertEqual(values.get(b"0"), Entry(b"0", 2, b"new"))

    def test_compare(self) -> None:
        """
        From time to time a neighbour gets our versions.
        """
        self.values()
        self.clock.advance(COMPARE_INTERVAL + COMPARE_JITTER)
        self.assertEqual(self.sent(), [])
        self.topic.up(PEER)
        self.sent()
        self.clock.advance(COMPARE_INTERVAL + COMPARE_JITTER)
        self.assertEqual(len(self.sent()), 1)

    def test_close(self) -> None:
        """
        After C{close} nothing is sent, and no delayed call is left.
        """
        values = self.values()
        self.topic.up(PEER)
        self.receive(encode_entry(ANN, TO_NEIGHBOR))
        self.sent()
        values.close()
        values.close()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.receive(encode_entry(BOB, TO_NEIGHBOR))
        self.assertEqual((values.entries(), self.sent()), ([ANN], []))
        self.assertIn("create a new one", str(self.assertRaises(UsageError, values.put, b"a", 1, b"")))

    def test_left(self) -> None:
        """
        With the topic, the state ends.
        """
        values = self.values()
        self.topic.leave()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertRaises(TopicLeft, values.put, b"a", 1, b"")
        self.assertRaises(TopicLeft, self.values)


class SwarmTests(SynchronousTestCase):
    """
    Whole swarms.
    """

    def states(self, swarm: VirtualSwarm) -> list[LatestValues]:
        """
        Return the state of each member, which has put its own entry.
        """
        return [self.state(swarm, number) for number in range(len(swarm))]

    def state(self, swarm: VirtualSwarm, number: int) -> LatestValues:
        """
        Return the state of one member.
        """
        values = LatestValues(swarm.reactors[number], swarm.topics[number], rng=Random(number))
        self.addCleanup(values.close)
        values.put(b"member %d" % number, 1, b"first")
        return values

    def test_all_agree(self) -> None:
        """
        Members that put values before they have met, and a newcomer, all get everything.
        """
        for seed in range(sized(1, 3)):
            swarm = VirtualSwarm(members=sized(4, 8), seed=seed)
            self.addCleanup(swarm.close)
            states = self.states(swarm)
            agreed = lambda: all(len(state) == len(swarm) for state in states)  # noqa: E731, B023
            self.assertTrue(swarm.until(agreed, 60), f"seed {seed}")
            states.append(self.state(swarm, swarm.add()))
            self.assertTrue(swarm.until(agreed, 20), f"seed {seed}: {[*map(len, states)]}")

    def test_separated(self) -> None:
        """
        Two halves that were separated agree after they have met again: on the newest value
        of each author.
        """
        swarm = VirtualSwarm(members=4, seed=5)
        self.addCleanup(swarm.close)
        states = self.states(swarm)
        self.assertTrue(swarm.until(lambda: all(len(state) == 4 for state in states), 60))
        pairs = [(a, b) for a in (0, 1) for b in (2, 3)]
        for pair in pairs:
            swarm.cut(*pair)
        swarm.advance(60)
        states[0].put(b"member 0", 2, b"second")
        states[2].put(b"member 2", 2, b"second")
        swarm.advance(10)
        self.assertEqual([state.get(b"member 0").version for state in states], [2, 2, 1, 1])  # type: ignore[union-attr]
        for pair in pairs:
            swarm.mend(*pair)

        def agreed() -> bool:
            return all(sorted(entry.version for entry in state.entries()) == [1, 1, 2, 2] for state in states)

        self.assertTrue(swarm.until(agreed, 600, 1.0))
