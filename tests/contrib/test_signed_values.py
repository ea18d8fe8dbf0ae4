"""
Tests for L{dtt.contrib.signed_values}.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dtt.contrib.latest import Entry, Limits
from dtt.contrib.latest_wire import TO_SWARM, decode, encode_entry
from dtt.contrib.signed_values import SignedValues
from dtt.errors import TopicLeft, UsageError, WrongType
from dtt.identity import PeerKey
from dtt.testing.fake_tracker import FakeTracker
from dtt.testing.swarm import VirtualSwarm

PEER = b"p" * 32


class Member:
    """
    A member whose network is the test.
    """

    def __init__(self, seed: bytes, name: str = "topic", limits: Limits | None = None) -> None:
        self.clock = Clock()
        self.clock.advance(1_800_000_000)
        self.tracker = FakeTracker(key=PeerKey.from_seed(seed))
        self.tracker.startService()
        self.topic = self.tracker.join(name)
        self.topic.up(PEER)
        self.changes: list[tuple[bytes, bytes]] = []
        self.values = SignedValues(
            self.clock,
            self.tracker,
            self.topic,
            on_change=lambda *change: self.changes.append(change),
            limits=limits,
        )

    def entry(self, value: bytes) -> Entry:
        """
        Set a value, and return the entry that is broadcast.
        """
        self.values.set(value)
        entry = decode(self.topic.sent[-1])
        assert isinstance(entry, Entry)
        return entry

    def receive(self, entry: Entry) -> None:
        """
        Let an entry arrive.
        """
        self.topic.receive(encode_entry(entry, TO_SWARM), PEER)


class SignedValuesTests(SynchronousTestCase):
    """
    Tests for L{SignedValues}.
    """

    def test_set(self) -> None:
        """
        A member's value is known to itself and to others; the last one counts, also within
        the same millisecond.
        """
        one, other = Member(b"1" * 32), Member(b"2" * 32)
        peer = one.tracker.peer_id
        entries = [one.entry(value) for value in (b"first", b"", b"last")]
        self.assertEqual([entry.version for entry in entries], [1_800_000_000_000 + n for n in range(3)])
        for _ in range(2):
            for entry in entries:
                other.receive(entry)
            other.tracker.clock.advance(90)  # the swarm delivers equal contents again
        self.assertEqual((one.values.get(peer), other.values.get(peer)), (b"last", b"last"))
        self.assertEqual(other.changes, [(peer, b"first"), (peer, b""), (peer, b"last")])
        self.assertEqual(other.values.values(), {peer: b"last"})
        self.assertIsNone(other.values.get(other.tracker.peer_id))

    def test_forged(self) -> None:
        """
        A changed value, version, author or signature is refused, and so is an entry of
        another topic.
        """
        one, other = Member(b"1" * 32), Member(b"2" * 32)
        good = one.entry(b"value")
        elsewhere = Member(b"1" * 32, "another topic").entry(b"value")
        forged = [
            Entry(good.author, good.version, good.value[:-1]),
            Entry(good.author, good.version + 1, good.value),
            Entry(other.tracker.peer_id, good.version, good.value),
            Entry(good.author[:-1], good.version, good.value),
            Entry(good.author, good.version, bytes(64) + good.value[64:]),
            Entry(good.author, good.version, b"short"),
            elsewhere,
        ]
        for entry in forged:
            other.receive(entry)
        self.assertEqual(other.changes, [])
        self.assertEqual(other.values.latest.counters, {"not_accepted": len(forged)})
        other.receive(good)
        self.assertEqual(len(other.changes), 1)

    def test_size(self) -> None:
        """
        The limit of values is without the signature.
        """
        one, other = (Member(seed * 32, limits=Limits(value=10)) for seed in (b"1", b"2"))
        self.assertRaises(UsageError, one.values.set, bytes(11))
        other.receive(one.entry(bytes(10)))
        self.assertEqual(other.values.get(one.tracker.peer_id), bytes(10))

    def test_arguments(self) -> None:
        """
        Wrong types, and a topic of another tracker, are refused at the call.
        """
        one, other = Member(b"1" * 32), Member(b"2" * 32)
        wrong: Any
        for wrong in ("text", None, bytearray(b"x")):
            self.assertRaises(WrongType, one.values.set, wrong)
            self.assertRaises(WrongType, SignedValues, one.clock, wrong, one.topic)
            self.assertRaises(WrongType, SignedValues, one.clock, one.tracker, wrong)
        for name in ("on_change", "limits"):
            wrong = {name: 5}
            self.assertRaises(WrongType, SignedValues, one.clock, one.tracker, one.topic, **wrong)
        self.assertRaises(UsageError, SignedValues, one.clock, one.tracker, other.topic)
        one.topic.leave()
        self.assertRaises(TopicLeft, one.values.set, b"late")

    def test_swarm(self) -> None:
        """
        In a swarm, a newcomer gets the values of all.
        """
        swarm = VirtualSwarm(members=3, seed=6)
        self.addCleanup(swarm.close)
        states = []

        def add(number: int) -> None:
            state = SignedValues(swarm.reactors[number], swarm.trackers[number], swarm.topics[number])
            state.set(b"member %d" % number)
            states.append(state)

        for number in range(3):
            add(number)
        swarm.advance(20)
        add(swarm.add())
        self.assertTrue(swarm.until(lambda: all(len(state.values()) == 4 for state in states)))
        expected = {tracker.peer_id: b"member %d" % n for n, tracker in enumerate(swarm.trackers)}
        for state in states:
            self.assertEqual(state.values(), expected)
