"""
Two minutes of L{tests.interop.soak}; half an hour of it is run by hand.
"""

from __future__ import annotations

import sys
from random import SystemRandom
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.trial.unittest import TestCase

from tests.interop.soak import Growth, Sample, slope, soak
from tests.interop.support import NO_INTEROP

reactor: Any = global_reactor

#: What two minutes can show: a member whose tables are still filling has reached 80 MB then, and stays
#: below 90 (20 minutes, measured).  In MB, descriptors a minute, and the most descriptors.
MAX_MEMORY, MAX_GROWTH, MAX_DESCRIPTORS = 120.0, 5.0, 120


class GrowthTests(TestCase):
    """
    The measurement.
    """

    def test_slope(self) -> None:
        """
        The slope of a line is found; that of one point is 0.
        """
        self.assertAlmostEqual(slope([(x, 3 + 2 * x) for x in range(10)]), 2.0)
        self.assertEqual(slope([(1, 1)]), 0.0)

    def test_warm_up(self) -> None:
        """
        What happens before the warm-up has ended does not count.
        """
        samples = [Sample(float(second), 10**6 * min(second, 30), 10) for second in range(100)]
        growth = Growth.of(samples)
        self.assertAlmostEqual(growth.resident, 0.0)
        self.assertEqual((growth.descriptors, growth.highest, growth.samples), (0.0, 10, 60))
        samples = [Sample(float(second), 1000 * second, second) for second in range(100)]
        growth = Growth.of(samples)
        self.assertAlmostEqual(growth.resident, 3.6)
        self.assertAlmostEqual(growth.descriptors, 3600.0)


class SoakTests(TestCase):
    """
    A member under churn and hostile traffic.
    """

    skip = NO_INTEROP
    timeout = 180

    async def test_two_minutes(self) -> None:
        """
        Memory and descriptors stay within bounds, and it meets members all the time.
        """
        seed = SystemRandom().randrange(10**9)
        growth, run = await soak(reactor, 120.0, seed)
        print(f"soak, seed {seed}: {growth}", file=sys.__stdout__, flush=True)
        self.assertLessEqual(growth.last, MAX_MEMORY, f"seed {seed}")
        self.assertLessEqual(growth.descriptors, 60 * MAX_GROWTH, f"seed {seed}")
        self.assertLessEqual(growth.highest, MAX_DESCRIPTORS, f"seed {seed}")
        self.assertGreaterEqual(run.met, 6, f"seed {seed}")
