"""
Tests for L{dtt.tracker.traffic}.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dtt.tracker.traffic import INTERVAL, MAX_SAMPLES, RATE_SAMPLES, Totals, Traffic, datagrams


class TrafficTests(SynchronousTestCase):
    """
    Tests for L{Traffic}.
    """

    def test_datagrams(self) -> None:
        """Queries and answers of both families count, other numbers don't."""
        counters = {
            "ipv4_sent_get": 1,
            "ipv6_answered": 2,
            "ipv4_received_ping": 4,
            "ipv4_responses": 8,
            "ipv4_errors_203": 16,
            "ipv6_dropped_flood": 32,
            "ipv4_answer_stored": 64,
            "ipv4_nodes_alive": 128,
            "items": 256,
        }
        self.assertEqual(datagrams(counters), (3, 60))

    def test_samples(self) -> None:
        """A sample has what has changed, also if a topic was left; rates are those of the last minute."""
        clock = Clock()
        totals = Totals(100, 100, 5, 5)
        traffic = Traffic(clock, lambda: totals)
        self.assertEqual(traffic.rates(), (0.0, 0.0))
        traffic.startService()
        totals = Totals(130, 160, 6, 7)
        clock.advance(INTERVAL)
        totals = Totals(130, 160, 0, 0)
        clock.advance(INTERVAL)
        self.assertEqual(
            [(s.time, s.sent, s.received, s.messages_sent, s.messages_received) for s in traffic.samples()],
            [(INTERVAL, 30, 60, 1, 2), (2 * INTERVAL, 0, 0, 0, 0)],
        )
        self.assertEqual(traffic.rates(), (1.0, 2.0))
        traffic.stopService()
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_bounded(self) -> None:
        """An hour is kept."""
        clock = Clock()
        traffic = Traffic(clock, Totals)
        traffic.startService()
        clock.pump([INTERVAL] * (MAX_SAMPLES + 5))
        self.assertEqual(len(traffic.samples()), MAX_SAMPLES)
        traffic.stopService()

    def test_rates(self) -> None:
        """What is longer ago than a minute does not count; a shorter time counts as it is."""
        clock = Clock()
        totals = Totals()
        traffic = Traffic(clock, lambda: totals)
        traffic.startService()
        totals = Totals(150, 30)
        for _ in range(RATE_SAMPLES):
            clock.advance(INTERVAL)
            count = len(traffic.samples())
            self.assertEqual(traffic.rates(), (150 / (INTERVAL * count), 30 / (INTERVAL * count)))
        clock.advance(INTERVAL)
        self.assertEqual(traffic.rates(), (0.0, 0.0))
        traffic.stopService()

    def test_stop(self) -> None:
        """The samples stay after the end; stopping without a start is possible."""
        clock = Clock()
        traffic = Traffic(clock, Totals)
        traffic.stopService()
        traffic.startService()
        clock.advance(INTERVAL)
        traffic.stopService()
        clock.advance(INTERVAL)
        self.assertEqual(len(traffic.samples()), 1)
