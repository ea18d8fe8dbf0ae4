"""
Tests for L{dtt.krpc.pacing}.
"""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from dtt.krpc.pacing import (
    ENOUGH_ROUND_TRIPS,
    INITIAL_SOFT_TIMEOUT,
    MAX_BUDGETS,
    MAX_SOFT_TIMEOUT,
    MIN_MARGIN,
    PacketBudgets,
    RoundTrips,
)
from dtt.net.bounded import SWEEP

_NODE = ("10.0.0.1", 1000)


class RoundTripsTests(SynchronousTestCase):
    """
    L{RoundTrips}.
    """

    def test_initial(self) -> None:
        """
        Before any round trip there is a fixed soft time-out.
        """
        self.assertEqual(RoundTrips().soft_timeout, INITIAL_SOFT_TIMEOUT)

    def test_rfc6298(self) -> None:
        """
        The first round trip counts three times; later ones are smoothed.
        """
        trips = RoundTrips()
        trips.measured(0.1)
        self.assertAlmostEqual(trips.soft_timeout, 0.3)
        trips.measured(0.2)
        # RTTVAR = 3/4 * 0.05 + 1/4 * 0.1; SRTT = 7/8 * 0.1 + 1/8 * 0.2
        self.assertAlmostEqual(trips.soft_timeout, 0.1125 + 4 * 0.0625)

    def test_bounds(self) -> None:
        """
        The soft time-out stays within bounds, even if the clock goes back.
        """
        for seconds, expected in (
            (0.001, 0.001 + MIN_MARGIN),
            (0.2, 0.2 + MIN_MARGIN),
            (1.9, MAX_SOFT_TIMEOUT),
            (-5.0, MIN_MARGIN),
        ):
            trips = RoundTrips()
            for _ in range(100):
                trips.measured(seconds)
            self.assertAlmostEqual(trips.soft_timeout, expected)

    def test_margin(self) -> None:
        """
        The soft time-out exceeds the smoothed round trip by four times the variation,
        or by a margin if that is larger.
        """
        for seed in range(50):
            rng = Random(seed)
            trips = RoundTrips()
            smoothed = variation = 0.0
            spread = rng.choice((0.0, 0.001, 0.01, 0.1))
            for number in range(50):
                seconds = rng.uniform(0.1, 0.1 + spread)
                variation = (3 * variation + abs(smoothed - seconds)) / 4 if number else seconds / 2
                smoothed = (7 * smoothed + seconds) / 8 if number else seconds
                trips.measured(seconds)
                self.assertAlmostEqual(
                    trips.soft_timeout, smoothed + max(4 * variation, MIN_MARGIN), msg=f"seed {seed}"
                )

    def test_trusted(self) -> None:
        """
        After as many round trips as a bucket has nodes, the soft time-out is trusted.
        """
        trips = RoundTrips()
        for number in range(ENOUGH_ROUND_TRIPS):
            self.assertFalse(trips.trusted, f"after {number}")
            trips.measured(0.1)
        self.assertTrue(trips.trusted)


class PacketBudgetsTests(SynchronousTestCase):
    """
    L{PacketBudgets}.
    """

    def test_burst(self) -> None:
        """
        Ten packets may be sent in a burst, then one per second.
        """
        budgets = PacketBudgets()
        waits = []
        for _ in range(13):
            waits.append(budgets.wait(_NODE, 100.0))
            budgets.spend(_NODE, 100.0)
        self.assertEqual(waits, [0.0] * 10 + [1.0, 2.0, 3.0])
        self.assertEqual(budgets.wait(("10.0.0.1", 1001), 100.0), 0.0)

    def test_any_window(self) -> None:
        """
        However packets are requested and refunded, no node gets more than 20 in less
        than 10 s.
        """
        for seed in range(20):
            rng = Random(seed)
            budgets = PacketBudgets()
            now = 0.0
            times: list[float] = []
            for _ in range(400):
                now += rng.choice((0.0, 0.0, 0.05, 0.3, 1.0, 5.0))
                if rng.random() < 0.2 and times and times[-1] > now + 0.01:
                    times.remove(rng.choice([time for time in times if time > now + 0.01]))
                    budgets.refund(_NODE)
                else:
                    wait = budgets.wait(_NODE, now)
                    if wait < 10:
                        budgets.spend(_NODE, now)
                        times.append(now + wait)
                        times.sort()
            for first, later in zip(times, times[20:], strict=False):
                self.assertGreater(later - first, 10 - 0.01, f"seed {seed}")

    def test_bounded(self) -> None:
        """
        Full budgets are removed, and the number of budgets is bounded.
        """
        budgets = PacketBudgets()
        for port in range(MAX_BUDGETS + 100):
            budgets.spend(("10.0.0.1", port), 0.0)
        self.assertEqual(len(budgets), MAX_BUDGETS)
        for _ in range(MAX_BUDGETS // SWEEP + 1):
            budgets.spend(_NODE, 100.0)
        self.assertEqual(len(budgets), 1)
