"""
Tests for L{dtt.tracker.proven}.
"""

from __future__ import annotations

from random import Random

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dtt.discovery.candidates import FoundRecord
from dtt.testing.fake_gossip import FakeGossip
from dtt.tracker.proven import MAX_UNREACHABLE, SELDOM, UNREACHABLE_FOR, ProvenPublishers
from tests.tracker.common import IDS, MINUTE

RECORDS = [FoundRecord(IDS[number], MINUTE) for number in range(1, 6)]


class ProvenPublishersTests(SynchronousTestCase):
    """
    Tests for L{ProvenPublishers}.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.gossip = FakeGossip()
        self.proven = ProvenPublishers(self.clock, Random(1), self.gossip)

    def test_known(self) -> None:
        """Who knows most of its part counts only members of it."""
        self.gossip.knows = True
        self.assertEqual(self.proven.count(RECORDS), 0)
        self.gossip.part = {IDS[2], IDS[4]}
        self.assertEqual(self.proven.count(RECORDS), 2)

    def test_large(self) -> None:
        """In a large part, unknown publishers count, except once in a while."""
        counts = [self.proven.count(RECORDS) for _ in range(40 * SELDOM)]
        self.assertEqual(set(counts), {0, 5})
        self.assertTrue(20 < counts.count(0) < 60, counts.count(0))

    def test_unreachable(self) -> None:
        """Who could not be reached does not count for a while, unless the swarm knows it."""
        proven = ProvenPublishers(self.clock, Random(5), self.gossip)
        proven.failed(IDS[1])
        proven.failed(IDS[2])
        self.gossip.part = {IDS[2]}
        self.assertEqual(proven.count(RECORDS), 4)
        self.assertEqual([proven.unreachable(IDS[number]) for number in (1, 2, 3)], [True, False, False])
        self.clock.advance(UNREACHABLE_FOR)
        self.assertEqual(proven.count(RECORDS), 5)

    def test_bounded(self) -> None:
        """The number of remembered failures is limited."""
        for number in range(MAX_UNREACHABLE + 5):
            self.proven.failed(number.to_bytes(32))
        self.assertFalse(self.proven.unreachable((4).to_bytes(32)))
        self.assertTrue(self.proven.unreachable((5).to_bytes(32)))
