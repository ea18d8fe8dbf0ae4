"""
Tests for L{dtt.tracker.merger}.
"""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from dtt.config import BubbleMergeConfig, MessageOverlapMergeConfig
from dtt.discovery.candidates import FoundRecord
from dtt.records.topic import truncated_sha512
from dtt.testing.fake_gossip import FakeGossip
from dtt.testing.net.clock import advance
from dtt.tracker.merger import BubbleMerge, MessageOverlapMerge
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
        self.fetched: list[tuple[float, tuple[int, ...], str]] = []
        self.reading: Deferred[Any] | None = None

    async def fetch(self, minutes: tuple[int, ...], source: str) -> list[FoundRecord]:
        """Return the prepared records."""
        self.fetched.append((self.clock.seconds() - MINUTE * 60, minutes, source))
        if self.reading is not None:
            await self.reading
        return self.records

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
            self,  # type: ignore[arg-type]
        )
        merger.startService()
        return merger

    def test_intervals(self) -> None:
        """
        It reads the previous and the current minute, first after the initial interval,
        then after each base interval.
        """
        self.start()
        advance(self.clock, 95)
        self.assertEqual(
            self.fetched,
            [
                (40.0, (MINUTE - 1, MINUTE), "bubble merge"),
                (100.0, (MINUTE, MINUTE + 1), "bubble merge"),
            ],
        )

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
        self.assertEqual(len(self.fetched), 2)

    def test_enough_neighbours(self) -> None:
        """With min_neighbors neighbours, it does not even read; with one fewer it does."""
        self.records = [FoundRecord(IDS[9], MINUTE)]
        for number in (2, 3, 4):
            self.gossip.up(IDS[number])
        self.start(min_neighbors=4)
        advance(self.clock, 30)
        self.assertEqual((self.fetched, self.joined()), ([], []))
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
            self,  # type: ignore[arg-type]
        ).startService()

    def test_without_messages(self) -> None:
        """Without any received messages it does not read."""
        self.records = [FoundRecord(IDS[2], MINUTE, (), (b"h" * 32,))]
        self.start()
        advance(self.clock, 200)
        self.assertEqual(self.fetched, [])

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
        self.assertEqual(self.fetched, [(40.0, (MINUTE - 1, MINUTE), "message overlap merge")])
        self.assertEqual(set(self.joined()), {IDS[6], IDS[7]})

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
