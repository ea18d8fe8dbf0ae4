"""
Tests for L{dtt.transport.settings}.
"""

from __future__ import annotations

from collections import Counter

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dtt.events import Event, LimitReached, PeerRefused
from dtt.transport.settings import MAX_REPORTS, REPORT_INTERVAL, Reports

PEER = b"p" * 32


class ReportsTests(SynchronousTestCase):
    """
    Tests for L{Reports}.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.events: list[Event] = []
        self.counters: Counter[str] = Counter()
        self.reports = Reports(self.clock, self.counters, self.events.append)

    def test_limit(self) -> None:
        """
        Each limit is reported once, and counted each time.
        """
        for _ in range(3):
            self.reports.limit("full", "connections", 8)
            self.reports.limit("blocked", "topics of one connection", 16)
        self.assertEqual(
            self.events, [LimitReached("connections", 8), LimitReached("topics of one connection", 16)]
        )
        self.assertEqual(self.counters, {"full": 3, "blocked": 3})

    def test_refused(self) -> None:
        """
        Ten refusals are reported at once, then one every 6 s, with the number of those
        that were not.
        """
        for _ in range(100):
            self.reports.refused(PEER, "too many connections")
        self.assertEqual(self.events, [PeerRefused(PEER, "too many connections", 0)] * MAX_REPORTS)
        self.clock.advance(REPORT_INTERVAL)
        self.reports.refused(PEER, "too many connections")
        self.reports.refused(PEER, "too many connections")
        self.assertEqual(self.events[MAX_REPORTS:], [PeerRefused(PEER, "too many connections", 90)])
        self.assertIn("90 other refusals", self.events[-1].text())
        self.clock.advance(1000)
        for _ in range(100):
            self.reports.refused(PEER, "too many connections")
        self.assertEqual(len(self.events), 2 * MAX_REPORTS + 1)
