"""
Tests for L{dtt.discovery.sealed_slot}.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from dtt.dht.client.placement import Placement
from dtt.discovery.candidates import FoundRecord
from dtt.discovery.sealed_slot import FULL, MAX_OTHERS, TOLERANCE, SealedScheme, SealedSlots
from dtt.discovery.slot_reader import PATIENT, URGENT
from dtt.events import RecordFound, RecordPublished
from dtt.identity import PeerKey
from dtt.interfaces import MutableRead
from dtt.krpc.items import MAX_SEQ, sign_item
from dtt.records.record import ENTROPY_BYTES, GossipContent, Record
from dtt.records.sealed import LANES, period_of, sealed_slot
from dtt.records.topic import TopicKeys, initial_secret_hash
from dtt.testing.fake_dht import FakeDHT
from tests.tracker.common import (
    IDS,
    KEYS,
    MINUTE,
    SECRET_HASH,
    TOPIC,
    CountingDHT,
    Member,
    address,
    start_clock,
)

TOPIC_KEYS = TopicKeys(TOPIC, SECRET_HASH)
PERIOD = period_of(MINUTE)


class SealedTestCase(SynchronousTestCase):
    """
    Members that share an in-memory DHT without latency.
    """

    def setUp(self) -> None:
        """Start with empty slots."""
        self.clock = start_clock()
        self.dht = FakeDHT(self.clock)

    def slots(self, number: int = 0, dht: Any = None, skew: float = 0.0, **kw: Any) -> SealedSlots:
        """The slots as one member sees them; C{skew}: seconds by which its clock is ahead."""
        self.member = Member(self.clock, dht or self.dht, number, **kw)
        return SealedSlots(self.member.shared, TOPIC_KEYS, lambda: self.clock.seconds() + skew)

    def publish(
        self,
        slots: SealedSlots,
        content: GossipContent | None = None,
        *,
        period: int = PERIOD,
        urgent: bool = True,
    ) -> int:
        """Publish a record."""
        publishing = Deferred.fromCoroutine(
            slots.publish(period, lambda: content or GossipContent(), "test", urgent)
        )
        for _ in range(40):
            self.clock.advance(0.5)
        return self.successResultOf(publishing)

    def fetch(
        self, slots: SealedSlots, *periods: int, lanes: Sequence[int] = range(LANES)
    ) -> list[FoundRecord]:
        """Read the lanes of periods."""
        reading = Deferred.fromCoroutine(slots.fetch(periods or (PERIOD,), "test", URGENT, lanes))
        return self.successResultOf(reading)

    def record(self, number: int, minute: int = MINUTE, content: GossipContent | None = None) -> Record:
        """A record of a member."""
        return Record.sign_at(KEYS[number], TOPIC, minute, (content or GossipContent()).encode())

    def store(self, record: Record, lane: int = 0, copies: int = 2) -> None:
        """Store a record in a lane, as an insider can."""
        slot = sealed_slot(TOPIC_KEYS, PERIOD, lane)
        value = slot.seal(record, Random(record.signature).randbytes(ENTROPY_BYTES))
        read: list[MutableRead] = []
        self.dht.get_mutable(slot.public_key, slot.salt).addCallback(read.append)
        placement = Placement(record.publisher + value[:32], lambda held: held, lambda _: copies)
        self.dht.put_mutable(slot.signing_seed, slot.salt, value, placement, read[0])

    def fill(self, lane: int, nodes: int = 32) -> None:
        """Fill the nodes of a lane with valid records of one each of strangers."""
        slot = sealed_slot(TOPIC_KEYS, PERIOD, lane)
        for number, contact in enumerate(self.dht.nearest(slot.target)[:nodes]):
            record = Record.sign_at(
                PeerKey.from_seed(bytes((100 + lane, number)) * 16), TOPIC, MINUTE, GossipContent().encode()
            )
            value = slot.seal(record, Random(number).randbytes(ENTROPY_BYTES))
            item = sign_item(slot.signing_seed, slot.salt, MAX_SEQ, value)
            self.dht.responders[contact].items.put(slot.target, item, b"abc", self.clock.seconds())


class MeetingTests(SealedTestCase):
    """
    Tests for reading and writing.
    """

    def test_found(self) -> None:
        """A record that one member publishes is found by another; both emit events with the channel."""
        one = self.slots(1)
        content = GossipContent((IDS[3],), (b"h" * 32,), (address(1),))
        self.assertGreaterEqual(self.publish(one, content), 2)
        (event,) = self.member.events
        assert isinstance(event, RecordPublished)
        self.assertEqual((event.minute, event.channel), (MINUTE, "sealed_slot"))
        other = self.slots(0)
        (found,) = self.fetch(other)
        self.assertEqual(found, FoundRecord(IDS[1], MINUTE, (IDS[3],), (b"h" * 32,), (address(1),)))
        self.assertEqual(self.member.book.known, {IDS[1]: (address(1),)})
        self.assertEqual(self.member.events, [RecordFound(TOPIC, MINUTE, IDS[1], "test", "sealed_slot")])

    def test_outsiders(self) -> None:
        """Who does not know the secret finds nothing, and the public slot is untouched."""
        self.publish(self.slots(1))
        outsider = SealedSlots(
            self.member.shared, TopicKeys(TOPIC, initial_secret_hash(b"a guess")), self.clock.seconds
        )
        self.assertEqual(self.fetch(outsider), [])
        slot = TOPIC_KEYS.slot(MINUTE)
        self.assertEqual(self.dht.stored(slot.public_key, slot.salt), {})

    def test_written_once(self) -> None:
        """
        Publishing again stores no second value; one with a new address does, and only it
        counts.
        """
        one = self.slots(1)
        slot = sealed_slot(TOPIC_KEYS, PERIOD)
        for content in (GossipContent(addresses=(address(1),)), GossipContent((IDS[5],), (), (address(1),))):
            self.publish(one, content)
            self.assertEqual(len(self.dht.stored(slot.public_key, slot.salt)), 1)
        self.clock.advance(60)
        self.publish(one, GossipContent((IDS[5],), (), (address(2),)))
        self.assertEqual(len(self.dht.stored(slot.public_key, slot.salt)), 2)
        (found,) = self.fetch(self.slots(0))
        self.assertEqual((found.minute, found.addresses), (MINUTE + 1, (address(2),)))

    def test_after_a_restart(self) -> None:
        """A new process adds a record only if its addresses are others."""
        slot = sealed_slot(TOPIC_KEYS, PERIOD)
        for content, values in (
            (GossipContent(addresses=(address(1),)), 1),
            (GossipContent(addresses=(address(2),)), 2),
            (GossipContent(addresses=(address(3),)), 3),
        ):
            self.clock.advance(60)
            self.publish(self.slots(1), content)
            self.assertEqual(len(self.dht.stored(slot.public_key, slot.salt)), values)
            (found,) = self.fetch(self.slots(0))
            self.assertEqual(found.addresses, content.addresses)

    def test_no_publish(self) -> None:
        """Nothing is written if the setting forbids it."""
        slots = self.slots(1, max_bootstrap_records=0)
        self.assertEqual(self.publish(slots), 0)
        slot = sealed_slot(TOPIC_KEYS, PERIOD)
        self.assertEqual(self.dht.stored(slot.public_key, slot.salt), {})

    def test_no_cap_of_five(self) -> None:
        """A member with neighbours publishes although 20 others have."""
        for number in range(1, 21):
            self.assertGreaterEqual(self.publish(self.slots(number), urgent=False), 1, number)
        self.assertGreaterEqual(self.publish(self.slots(0), urgent=False), 1)
        self.assertEqual(len(self.fetch(self.slots(21))), 21)


class MinuteTests(SealedTestCase):
    """
    Tests for the minutes of records.
    """

    def test_tolerance(self) -> None:
        """A record up to 20 minutes off is used, either way; others are refused."""
        for number, off in enumerate((-TOLERANCE - 1, -TOLERANCE, 0, TOLERANCE, TOLERANCE + 1), 1):
            self.store(self.record(number, MINUTE + off))
        slots = self.slots(0)
        self.assertEqual({record.publisher for record in self.fetch(slots)}, set(IDS[2:5]))
        self.assertEqual(slots.records.counters["refused_minute"], 2)
        self.assertEqual({event.publisher for event in self.member.events}, set(IDS[2:5]))  # type: ignore[attr-defined]

    def test_replayed(self) -> None:
        """A record of yesterday in the slot of today is refused."""
        self.store(self.record(1, MINUTE - 24 * 60))
        self.assertEqual(self.fetch(self.slots(0)), [])

    def test_estimated_time(self) -> None:
        """The minutes count from the time that is given, and our records have it."""
        self.store(self.record(1))
        self.assertEqual(len(self.fetch(self.slots(0, skew=60.0 * TOLERANCE))), 1)
        self.assertEqual(self.fetch(self.slots(0, skew=60.0 * (TOLERANCE + 1))), [])
        self.publish(self.slots(2, skew=-180.0))
        found = {record.publisher: record.minute for record in self.fetch(self.slots(0))}
        self.assertEqual(found, {IDS[1]: MINUTE, IDS[2]: MINUTE - 3})

    def test_newest_counts(self) -> None:
        """Of one publisher the newest record counts, whichever is seen first, in all periods and lanes."""
        shared = self.slots(0).records._shared
        scheme = SealedScheme(shared, TOPIC_KEYS, self.clock.seconds)
        old = FoundRecord(IDS[1], MINUTE - 3, (IDS[5],), (), (address(1),))
        new = FoundRecord(IDS[1], MINUTE, (), (b"h" * 32,), (address(2),))
        same = FoundRecord(IDS[1], MINUTE, (), (), (address(3),))
        other = FoundRecord(IDS[2], MINUTE - 5)
        for order in ((old, new, other), (new, old, other)):
            self.assertCountEqual(scheme.combine(order), [new, other])
        (both,) = scheme.combine((old, new, same))
        self.assertEqual(both.addresses, (address(2), address(3)))
        self.assertEqual((both.active_peers, both.last_message_hashes), ((), (b"h" * 32,)))


class LaneTests(SealedTestCase):
    """
    Tests for lanes.
    """

    def test_next_lane(self) -> None:
        """When 24 nodes of a lane are taken, the next one is read and written."""
        for nodes, lane in ((FULL - 1, 0), (FULL, 1)):
            self.setUp()
            self.fill(0, nodes)
            slots = self.slots(1)
            self.fetch(slots)
            self.assertGreaterEqual(self.publish(slots), 1)
            for each in (0, 1):
                slot = sealed_slot(TOPIC_KEYS, PERIOD, each)
                values = self.dht.stored(slot.public_key, slot.salt)
                publishers = {slot.open(value).publisher for value in values}
                self.assertEqual(IDS[1] in publishers, each == lane, (nodes, each))
            found = self.fetch(self.slots(2))
            self.assertIn(IDS[1], [record.publisher for record in found])

    def test_only_full_lanes_are_left(self) -> None:
        """A read does not continue after a lane that is not full, nor in others than requested."""
        counting = CountingDHT(self.dht)
        self.fetch(self.slots(0, counting))
        self.assertEqual(counting.calls.count("get_mutable"), 1)
        for lane in range(3):
            self.fill(lane)
        for lanes, reads in ((range(1), 1), (range(2), 2), (range(LANES), 4), ((0, 5), 2)):
            counting.calls.clear()
            self.fetch(self.slots(0, counting), lanes=lanes)
            self.assertEqual(counting.calls.count("get_mutable"), reads)

    def test_all_full(self) -> None:
        """With all lanes full, a member gives up, and no lane beyond the last is used."""
        for lane in range(LANES):
            self.fill(lane)
        slots = self.slots(1)
        for lanes in range(2, LANES + 1, 2):
            self.assertEqual(self.publish(slots), 0)
            self.assertEqual(len(slots.records._slots), lanes)
        self.assertEqual(self.publish(slots), 0)
        self.assertNotIn(IDS[1], [record.publisher for record in self.fetch(self.slots(2))])
        self.assertEqual(max(slots.records._slots), PERIOD * LANES + LANES - 1)

    def test_all_publish(self) -> None:
        """Where every publisher is to be found, all lanes are tried, and 24 others are not enough."""
        for lane in range(LANES - 1):
            self.fill(lane)
        self.slots(1)
        shared = evolve(self.member.shared, all_publish=True)
        slots = SealedSlots(shared, TOPIC_KEYS, self.clock.seconds)
        self.assertEqual(self.publish(slots, urgent=False), 1)

    def test_one_copy(self) -> None:
        """A record has several copies in the first lane, and one in the others, which many share."""
        self.assertGreaterEqual(self.publish(self.slots(1)), 2)
        self.fill(0)
        self.assertEqual(self.publish(self.slots(2)), 1)

    def test_enough_others(self) -> None:
        """With 24 others a member with neighbours does not publish; without one it does."""
        self.fill(0, MAX_OTHERS)
        self.assertEqual(self.publish(self.slots(1), urgent=False), 0)
        self.assertGreaterEqual(self.publish(self.slots(2), urgent=True), 1)

    def test_bounded(self) -> None:
        """The state of all lanes of three periods is kept, and no more."""
        for lane in range(LANES):
            self.fill(lane)
        slots = self.slots(0)
        for period in range(PERIOD, PERIOD + 40):
            self.fetch(slots, period)
        self.assertEqual(len(slots.records._slots), 3 * LANES)

    def test_patient(self) -> None:
        """A patient read of a busy lane sees that it is full."""
        self.fill(0)
        slots = self.slots(0)
        found = self.successResultOf(Deferred.fromCoroutine(slots.fetch((PERIOD,), "test", PATIENT)))
        self.assertGreaterEqual(len(found), FULL)
        self.assertTrue(slots.records.is_full(PERIOD * LANES))
