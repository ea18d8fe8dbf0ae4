"""
Tests for L{dtt.tracker.merger}.
"""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from dtt.config import BubbleMergeConfig, MessageOverlapMergeConfig
from dtt.discovery.candidates import FoundRecord
from dtt.discovery.interfaces import RecordSink
from dtt.records.topic import truncated_sha512
from dtt.testing.fake_gossip import FakeGossip
from dtt.testing.net.clock import advance
from dtt.tracker.merger import LOOK_FOR, BubbleMerge, MessageOverlapMerge
from tests.tracker.common import IDS, MINUTE, start_clock


class MergerTestCase(SynchronousTestCase):
    """
    A merger, and prepared records.
    """

    def setUp(self) -> None:
        """One neighbour, no records."""
        self.clock = start_clock()
        self.gossip = FakeGossip()
        self.gossip.up(IDS[1])
        self.records: list[FoundRecord] = []
        self.searches: list[tuple[float, str]] = []
        self.looks: list[tuple[float, str]] = []
        self.seen_early: list[FoundRecord] = []
        self.arrives_early: list[FoundRecord] = []
        self.look_ends: Deferred[list[FoundRecord]] | None = None
        self.channels: Any = self
        self.reading: Deferred[Any] | None = None

    async def find(self, source: str) -> list[FoundRecord]:
        """Return the prepared records, in place of L{Channels<dtt.discovery.channels.Channels>}."""
        self.searches.append((self.clock.seconds() - MINUTE * 60, source))
        if self.reading is not None:
            await self.reading
        return self.records

    def watch(self, source: str, on_record: RecordSink) -> Deferred[list[FoundRecord]]:
        """The same for the early look."""
        self.looks.append((self.clock.seconds() - MINUTE * 60, source))
        for record in self.arrives_early:
            on_record(record)
        return self.look_ends or succeed(self.seen_early)

    def joined(self) -> list[bytes]:
        """The members that were asked to join."""
        return [peer for peers in self.gossip.joins for peer in peers]


class BubbleMergeTests(MergerTestCase):
    """
    Tests for L{BubbleMerge}.
    """

    def start(self, **config: Any) -> BubbleMerge:
        """A running merger without jitter."""
        merger = BubbleMerge(
            self.clock,
            Random(1),
            BubbleMergeConfig(max_jitter=0.0, **config),
            self.gossip,
            self.channels,
        )
        merger.startService()
        return merger

    def test_intervals(self) -> None:
        """
        It searches first after the initial interval, then after each base interval.
        """
        self.start()
        advance(self.clock, 95)
        self.assertEqual(
            self.searches,
            [(40.0, "bubble merge"), (100.0, "bubble merge")],
        )

    def test_early_look(self) -> None:
        """
        Two to three seconds after joining it joins some of those who have started at the
        same time, and are not known through the swarm; unless there are enough neighbours.
        """
        self.gossip.part = {IDS[2]}
        self.seen_early = [FoundRecord(IDS[number], MINUTE) for number in (1, 2, 3)]
        looked: list[float] = []
        self.start().on_looked = lambda: looked.append(self.clock.seconds())
        advance(self.clock, 3.0)
        ((at, source),) = self.looks
        self.assertTrue(12.0 <= at <= 13.0, at)
        self.assertEqual((source, self.joined(), len(looked)), ("bubble merge", [IDS[3]], 1))
        self.assertEqual(self.searches, [])

    def test_slow_look(self) -> None:
        """
        Silent nodes do not delay the use of the records that have arrived; if these name nobody, its end is
        awaited.
        """
        self.gossip.part = {IDS[2]}
        self.arrives_early = [FoundRecord(IDS[number], MINUTE) for number in (1, 2)]
        self.look_ends = Deferred()
        looked: list[float] = []
        self.start().on_looked = lambda: looked.append(self.clock.seconds())
        advance(self.clock, 3.0 + LOOK_FOR)
        self.assertEqual((self.joined(), looked), ([], []))
        self.look_ends.callback([FoundRecord(IDS[3], MINUTE)])
        self.assertEqual((self.joined(), len(looked)), ([IDS[3]], 1))

        self.gossip.joins.clear()
        self.arrives_early = [FoundRecord(IDS[4], MINUTE)]
        cancelled: list[object] = []
        self.look_ends = Deferred(cancelled.append)
        self.start()
        advance(self.clock, 3.0 + LOOK_FOR)
        self.assertEqual((self.joined(), len(cancelled)), ([IDS[4]], 1))

    def test_early_look_with_neighbors(self) -> None:
        """With enough neighbours nobody is joined by the early look."""
        for number in (2, 3, 4):
            self.gossip.up(IDS[number])
        self.seen_early = [FoundRecord(IDS[5], MINUTE)]
        looked: list[float] = []
        self.start(min_neighbors=4).on_looked = lambda: looked.append(self.clock.seconds())
        advance(self.clock, 3.0)
        self.assertEqual((self.joined(), len(looked)), ([], 1))

    def test_joins_a_few(self) -> None:
        """It joins a random few of publishers and hearsay, but no neighbour."""
        self.records = [FoundRecord(IDS[1], MINUTE, (IDS[2], IDS[3])), FoundRecord(IDS[4], MINUTE)]
        self.start()
        advance(self.clock, 60 * 40)
        self.assertEqual(set(map(len, self.gossip.joins)), {2})
        self.assertEqual(set(self.joined()), {IDS[2], IDS[3], IDS[4]}, "seed 1")

    def test_fewer_than_a_few(self) -> None:
        """A single candidate is joined; none is not an error."""
        self.records = [FoundRecord(IDS[4], MINUTE)]
        self.start()
        advance(self.clock, 30)
        self.assertEqual(self.gossip.joins, [(IDS[4],)])
        self.records = []
        advance(self.clock, 60)
        self.assertEqual(self.joined(), [IDS[4]])
        self.assertEqual(len(self.searches), 2)

    def test_enough_neighbours(self) -> None:
        """With min_neighbors neighbours, it does not even read; with one fewer it does."""
        self.records = [FoundRecord(IDS[9], MINUTE)]
        for number in (2, 3, 4):
            self.gossip.up(IDS[number])
        self.start(min_neighbors=4)
        advance(self.clock, 30)
        self.assertEqual((self.searches, self.joined()), ([], []))
        self.gossip.down(IDS[4])
        advance(self.clock, 60)
        self.assertEqual(self.joined(), [IDS[9]])

    def test_enough_meanwhile(self) -> None:
        """Neighbours that came up during the read count."""
        self.records = [FoundRecord(IDS[9], MINUTE)]
        self.reading = Deferred()
        self.start(min_neighbors=2)
        advance(self.clock, 30)
        self.gossip.up(IDS[2])
        self.reading.callback(None)
        self.assertEqual(self.joined(), [])

    def test_stop_while_reading(self) -> None:
        """The read ends with the service."""
        cancelled: list[object] = []
        self.reading = Deferred(cancelled.append)
        merger = self.start()
        advance(self.clock, 30)
        self.successResultOf(merger.stopService())
        self.assertEqual((len(cancelled), self.clock.getDelayedCalls()), (1, []))


class MessageOverlapMergeTests(MergerTestCase):
    """
    Tests for L{MessageOverlapMerge}.
    """

    def start(self) -> None:
        """A running merger without jitter."""
        MessageOverlapMerge(
            self.clock,
            Random(1),
            MessageOverlapMergeConfig(max_jitter=0.0),
            self.gossip,
            self.channels,
        ).startService()

    def test_without_messages(self) -> None:
        """Without any received messages it does not read."""
        self.records = [FoundRecord(IDS[2], MINUTE, (), (b"h" * 32,))]
        self.start()
        advance(self.clock, 200)
        self.assertEqual(self.searches, [])

    def test_overlap(self) -> None:
        """
        Only records whose hashes have no overlap with the member's give candidates, and
        neighbours are excluded.
        """
        self.gossip.receive(b"one", IDS[1])
        self.gossip.receive(b"two", IDS[1])
        ours, foreign = truncated_sha512(b"one"), truncated_sha512(b"three")
        self.records = [
            FoundRecord(IDS[2], MINUTE, (IDS[3],), (foreign, ours)),
            FoundRecord(IDS[4], MINUTE, (IDS[5],), ()),
            FoundRecord(IDS[6], MINUTE, (IDS[1], IDS[7]), (foreign,)),
        ]
        self.start()
        advance(self.clock, 31)
        self.assertEqual(self.searches, [(40.0, "message overlap merge")])
        self.assertEqual(set(self.joined()), {IDS[6], IDS[7]})

    def test_neighbor(self) -> None:
        """A neighbour is in our part, whatever its record lists; those it names are, too."""
        self.gossip.receive(b"one", IDS[1])
        self.records = [FoundRecord(IDS[1], MINUTE, (IDS[2],), (truncated_sha512(b"two"),))]
        self.start()
        advance(self.clock, 31)
        self.assertEqual(self.joined(), [])

    def test_message_meanwhile(self) -> None:
        """A message that arrived during the read counts."""
        self.gossip.receive(b"one", IDS[1])
        self.records = [FoundRecord(IDS[6], MINUTE, (), (truncated_sha512(b"two"),))]
        self.reading = Deferred()
        self.start()
        advance(self.clock, 31)
        self.gossip.receive(b"two", IDS[1])
        self.reading.callback(None)
        self.assertEqual(self.joined(), [])
