"""
Tests for L{dtt.discovery.sealed_channel}.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from dtt.discovery.candidates import FoundRecord
from dtt.discovery.interfaces import ContentSource, SearchState
from dtt.discovery.sealed_channel import (
    ALL,
    ALL_PREVIOUS,
    LATEST,
    PREVIOUS,
    SOME,
    SPREAD,
    STAGGER,
    TOP_UP_AFTER,
    WATCHING,
    SealedChannel,
    periods_to_read,
)
from dtt.discovery.sealed_slot import SEALED_LIFETIME
from dtt.discovery.slot_channel import PREVIOUS_AFTER, effort_after
from dtt.discovery.slot_reader import PATIENT, URGENT, Effort
from dtt.records.record import GossipContent, OpaqueContent, RecordContent
from dtt.records.sealed import LANES, period_of
from dtt.records.topic import TopicKeys
from dtt.testing.fake_dht import FakeDHT
from dtt.testing.net.clock import advance
from tests.tracker.common import IDS, MINUTE, SECRET_HASH, TOPIC, Member, address, start_clock

PERIOD = period_of(MINUTE)


class PeriodsTests(SynchronousTestCase):
    """
    Tests for L{periods_to_read}.
    """

    def test_early(self) -> None:
        """While most members have not written yet, the previous period is read at once."""
        for now in (6000.0, 6000.0 + LATEST - 1):
            self.assertEqual(periods_to_read(now, 0), ((9, 10), (11,)))
            self.assertEqual(periods_to_read(now, 1), ((9, 10), ()))

    def test_late(self) -> None:
        """Later, the previous one is read every second time and the next one every fourth time."""
        now = 6000.0 + LATEST
        self.assertEqual(periods_to_read(now, 0), ((10,), (9, 11)))
        self.assertEqual(
            [periods_to_read(now, rounds)[0] for rounds in range(1, 6)],
            [(10,), (9, 10), (10,), (9, 10, 11), (10,)],
        )

    def test_first_period(self) -> None:
        """There is no period before the first."""
        self.assertEqual(periods_to_read(0.0, 0), ((0,), (1,)))
        self.assertEqual(periods_to_read(599.0, 4), ((0, 1), ()))

    def test_ten_minutes_apart(self) -> None:
        """Whatever the time, a member whose clock is ten minutes off reads where another writes."""
        for now in range(600_000, 601_200, 7):
            for skew in (-600.0, 600.0):
                at_once, later = periods_to_read(now + skew, 0)
                self.assertIn(period_of(now // 60), at_once + later)


class Slots:
    """
    Sealed slots with prepared results.

    @ivar calls: the arguments of all calls.
    @ivar reading: the pending read of the current period, or C{None}: it ends at once.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.reading: Deferred[None] | None = None
        self.copies = 2

    async def fetch(
        self,
        periods: tuple[int, ...],
        source: str,
        effort: Effort = PATIENT,
        lanes: Sequence[int] = range(LANES),
    ) -> list[FoundRecord]:
        self.calls.append((periods, source, effort, tuple(lanes)))
        if PERIOD in periods and self.reading is not None:
            await self.reading
        return [FoundRecord(IDS[1], 10 * period) for period in periods]

    async def publish(self, period: int, content: ContentSource, source: str, urgent: bool) -> int:
        self.calls.append((period, content().addresses, source, urgent))
        return self.copies


class SealedChannelTests(SynchronousTestCase):
    """
    Tests for L{SealedChannel}: which periods it reads, and when it writes.
    """

    def setUp(self) -> None:
        """A channel in the second half of a period."""
        self.clock = start_clock()
        self.clock.advance(LATEST)
        self.joining = False
        self.slots = Slots()
        self.channel = SealedChannel(
            Member(self.clock, FakeDHT(self.clock)).shared, TopicKeys(TOPIC, SECRET_HASH)
        )
        self.channel.slots = self.slots  # type: ignore[assignment]
        self.content: RecordContent = GossipContent(addresses=(address(0),))

    def search(self, rounds: int = 0, alone_for: float = 0.0) -> Deferred[list[FoundRecord]]:
        """Search without a neighbour."""
        return self.channel.find("test", SearchState(alone_for, rounds, lambda: self.joining))

    def publish(self, urgent: bool = False) -> int:
        """Publish."""
        publishing = self.channel.publish(lambda: self.content, "test", urgent)
        if urgent:
            self.clock.advance(STAGGER)
        return self.successResultOf(publishing)

    def test_with_neighbours(self) -> None:
        """With neighbours, the current period is read patiently, its further lanes in turn."""
        self.successResultOf(self.channel.find("test"))
        self.successResultOf(self.channel.watch("test"))
        self.assertEqual(
            self.slots.calls, [((PERIOD,), "test", SOME, (0, 1)), ((PERIOD,), "test", WATCHING, (0, 2))]
        )
        for _ in range(LANES - 2):
            self.successResultOf(self.channel.watch("test"))
        self.assertEqual([lanes for *_, lanes in self.slots.calls[-2:]], [(0, LANES - 1), (0, 1)])

    def test_after_a_search(self) -> None:
        """
        Once after a search, the previous period is read: that of members whose clocks are
        behind, who may have formed a swarm of their own.
        """
        self.joining = True
        self.successResultOf(self.search(1))
        self.slots.calls.clear()
        self.assertEqual(len(self.successResultOf(self.channel.watch("test"))), 2)
        self.assertEqual(
            self.slots.calls,
            [((PERIOD,), "test", WATCHING, (0, 1)), ((PERIOD - 1,), "test", PREVIOUS, (0,))],
        )
        self.assertEqual(len(self.successResultOf(self.channel.watch("test"))), 1)

    def test_first_round(self) -> None:
        """The first round reads the neighbouring periods after the current one."""
        found = self.search()
        self.assertEqual(self.slots.calls, [])
        self.clock.advance(STAGGER)
        self.assertEqual(len(self.successResultOf(found)), 3)
        self.assertEqual(
            self.slots.calls,
            [((PERIOD,), "test", URGENT, (0,)), ((PERIOD - 1, PERIOD + 1), "test", URGENT, (0,))],
        )

    def test_others_wait(self) -> None:
        """If the current period takes longer, the others are read meanwhile."""
        self.slots.reading = Deferred()
        found = self.search()
        advance(self.clock, STAGGER)
        advance(self.clock, PREVIOUS_AFTER - 0.01)
        self.assertEqual(len(self.slots.calls), 1)
        advance(self.clock, 0.02)
        self.assertEqual(len(self.slots.calls), 2)
        self.slots.reading.callback(None)
        self.assertEqual(len(self.successResultOf(found)), 3)

    def test_others_are_not_needed(self) -> None:
        """They are not read if a member is being joined by then."""
        self.slots.reading = Deferred()
        found = self.search()
        advance(self.clock, STAGGER)
        self.joining = True
        advance(self.clock, PREVIOUS_AFTER + 0.01)
        self.slots.reading.callback(None)
        self.assertEqual(len(self.successResultOf(found)), 1)
        self.assertEqual(len(self.slots.calls), 1)

    def test_joining_at_once(self) -> None:
        """Nothing is read if a member is being joined when the first read would begin."""
        found = self.search()
        self.joining = True
        self.clock.advance(STAGGER)
        self.assertEqual(self.successResultOf(found), [])
        self.assertEqual(self.slots.calls, [])

    def test_record_slots_first(self) -> None:
        """
        A read of record slots that ends soon is repeated first: the round does not wait for the first read
        of sealed slots, which a later round does once it is due.
        """
        idle: Deferred[None] = Deferred()
        self.channel.when_others_idle = lambda: idle
        found = self.search()
        self.clock.advance(STAGGER / 2)
        self.assertNoResult(found)
        idle.callback(None)
        self.assertEqual(self.successResultOf(found), [])
        self.assertEqual(self.successResultOf(self.search(1, STAGGER * 0.9)), [])
        self.assertEqual(self.slots.calls, [])
        found = self.search(2, STAGGER)
        self.clock.advance(0)
        self.assertEqual(self.slots.calls[0][0], (PERIOD,))
        self.assertEqual(self.slots.calls[0][2], URGENT)
        self.assertEqual(len(self.successResultOf(found)), 3)

    def test_deeper(self) -> None:
        """Later rounds read more lanes."""
        for rounds in (1, 3, 5, 15, 41):
            self.successResultOf(self.search(rounds, 20.0))
        self.assertEqual([len(lanes) for *_, lanes in self.slots.calls], [1, 2, 3, 8, 8])
        effort = evolve(effort_after(20.0), lifetime=SEALED_LIFETIME)
        self.assertEqual({effort for _, _, effort, _ in self.slots.calls}, {effort})

    def test_in_turn(self) -> None:
        """A member that has been alone for some time reads it with every second search."""
        for rounds in range(4):
            self.successResultOf(self.search(rounds + 2, 9.9))
        self.assertEqual(len(self.slots.calls), 4)
        for rounds in range(4):
            self.successResultOf(self.search(rounds + 6, 10.0))
        self.assertEqual(
            [call[0] for call in self.slots.calls[4:]], [(PERIOD,), (PERIOD - 1, PERIOD, PERIOD + 1)]
        )

    def test_estimated_time(self) -> None:
        """The period is that of the time given."""
        channel = SealedChannel(
            Member(self.clock, FakeDHT(self.clock)).shared,
            TopicKeys(TOPIC, SECRET_HASH),
            lambda: self.clock.seconds() + 6000,
        )
        channel.slots = self.slots  # type: ignore[assignment]
        self.successResultOf(channel.find("test"))
        self.assertEqual(self.slots.calls[0][0], (PERIOD + 10,))

    def test_written_once(self) -> None:
        """A member with neighbours writes once in a period, and again when its addresses change."""
        for _ in range(3):
            self.assertEqual(self.publish(), 2)
            self.clock.advance(30)
        self.assertEqual(self.slots.calls, [(PERIOD, (address(0),), "test", False)])
        self.content = GossipContent((IDS[4],), (b"h" * 32,), (address(0),))
        self.publish()
        self.assertEqual(len(self.slots.calls), 1)
        self.content = GossipContent(addresses=(address(1),))
        self.publish()
        self.assertEqual(self.slots.calls[1:], [(PERIOD, (address(1),), "test", False)])

    def test_spread(self) -> None:
        """In a new period it waits for its moment, which is spread over the first five minutes."""
        self.publish()
        shares = set()
        for number in range(20):
            shared = Member(self.clock, FakeDHT(self.clock), number).shared
            shares.add(SealedChannel(shared, TopicKeys(TOPIC, SECRET_HASH)).share)
        self.assertEqual(len(shares), 20)
        self.assertTrue(all(0 <= share <= 1 for share in shares))
        self.channel.share = 0.5
        self.clock.advance(600 - self.clock.seconds() % 600 + SPREAD / 2 - 1)
        self.assertEqual(self.publish(), 0)
        self.clock.advance(2)
        self.assertEqual(self.publish(), 2)
        self.assertEqual([call[0] for call in self.slots.calls], [PERIOD, PERIOD + 1])

    def test_tried_again(self) -> None:
        """What could not be stored is tried again."""
        self.slots.copies = 0
        self.assertEqual([self.publish(), self.publish()], [0, 0])
        self.assertEqual(len(self.slots.calls), 2)

    def test_alone(self) -> None:
        """A lone member writes at once, and replenishes the copies from time to time."""
        self.clock.advance(600 - self.clock.seconds() % 600)
        self.publish(urgent=True)
        self.publish(urgent=True)
        self.assertEqual(self.slots.calls, [(PERIOD + 1, (address(0),), "test", True)])
        self.clock.advance(TOP_UP_AFTER)
        self.publish(urgent=True)
        self.assertEqual(len(self.slots.calls), 2)


class AllPublishTests(SynchronousTestCase):
    """
    Tests for L{SealedChannel} where every publisher is to be found.
    """

    def setUp(self) -> None:
        """A channel at the beginning of a period, which writes at its middle."""
        self.clock = start_clock()
        self.slots = Slots()
        self.content = OpaqueContent(b"one")
        shared = evolve(Member(self.clock, FakeDHT(self.clock)).shared, all_publish=True)
        self.channel = SealedChannel(shared, TopicKeys(TOPIC, SECRET_HASH))
        self.channel.slots = self.slots  # type: ignore[assignment]
        self.channel.share = 1.0
        self.clock.advance(600 - self.clock.seconds() % 600)

    def writes(self) -> int:
        """Publish; return whether anything was written."""
        self.slots.calls.clear()
        self.successResultOf(self.channel.publish(lambda: self.content, "test"))
        return len(self.slots.calls)

    def test_newcomer(self) -> None:
        """
        A publisher without a record in the previous period writes at once; in the next period
        it waits, since its record in the previous one is still read.
        """
        self.assertEqual(self.writes(), 1)
        self.assertEqual(self.writes(), 0)
        self.clock.advance(600)
        self.assertEqual(self.writes(), 0)
        self.clock.advance(SPREAD)
        self.assertEqual(self.writes(), 1)
        self.clock.advance(1200 - SPREAD)
        self.assertEqual(self.writes(), 1)

    def test_news(self) -> None:
        """Another content does not wait."""
        self.writes()
        self.clock.advance(600)
        self.content = OpaqueContent(b"two")
        self.assertEqual(self.writes(), 1)
        self.assertEqual(self.writes(), 0)

    def test_reads(self) -> None:
        """All nodes of the current period are read, and those of the previous one until all have written."""
        period = PERIOD + 1
        self.successResultOf(self.channel.find("test"))
        self.clock.advance(LATEST)
        self.successResultOf(self.channel.find("test"))
        self.assertEqual(
            self.slots.calls,
            [
                ((period,), "test", ALL, tuple(range(LANES))),
                ((period - 1,), "test", ALL_PREVIOUS, tuple(range(LANES))),
                ((period,), "test", ALL, tuple(range(LANES))),
            ],
        )
