"""
Tests for L{dtt.discovery.skew}.
"""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from dtt.discovery.skew import HARMLESS, MAX_SAMPLES, MAX_SKEW, SAMPLE_FOR, SkewEstimate


def peer(number: int) -> bytes:
    """Return an id."""
    return number.to_bytes(32)


class SkewEstimateTests(SynchronousTestCase):
    """
    Tests for L{SkewEstimate}.
    """

    def estimate(self, *samples: float) -> float:
        """Return the estimate of some samples, one of each member."""
        estimate = SkewEstimate()
        for number, ahead in enumerate(samples):
            estimate.add(peer(number), ahead, 0.0)
        return estimate.ahead(0.0)

    def test_never_one(self) -> None:
        """One member alone moves nobody, whatever it says; nor does nobody."""
        self.assertEqual(self.estimate(), 0.0)
        self.assertEqual(self.estimate(600.0), 0.0)
        self.assertEqual(self.estimate(-10800.0), 0.0)

    def test_two(self) -> None:
        """Two that agree are more than we are; two that do not are not."""
        self.assertEqual(self.estimate(600.0, 602.0), 600.0)
        self.assertEqual(self.estimate(-600.0, -602.0), -600.0)
        self.assertEqual(self.estimate(600.0, -600.0), 0.0)

    def test_outvoted(self) -> None:
        """Members that are right outvote wrong ones, ours among the samples."""
        self.assertEqual(self.estimate(0.5, -0.2, 9000.0, 9000.0), 0.0)
        self.assertEqual(self.estimate(90.0, 91.0, 90.5, -7000.0, 10800.0), 90.0)
        for seed in range(50):
            rng = Random(seed)
            honest = [rng.uniform(-1, 1) for _ in range(5)]
            liars = [rng.choice((-1, 1)) * rng.uniform(60, 10000) for _ in range(5)]
            samples = honest + liars
            rng.shuffle(samples)
            self.assertEqual(self.estimate(*samples), 0.0, f"seed {seed}")

    def test_dissent(self) -> None:
        """Two others are told of if they are half of all, though nobody knows who is right."""
        for samples, expected in (
            ((600.0, 600.0, 0.0), 600.0),
            ((0.0, 600.0, 0.0, 601.0), 600.0),
            ((0.0, 600.0, 0.0, 601.0, 0.0), 0.0),
            ((600.0,), 0.0),
            ((600.0, -600.0), 0.0),
            ((HARMLESS - 1, HARMLESS - 1), 0.0),
        ):
            estimate = SkewEstimate()
            for number, ahead in enumerate(samples):
                estimate.add(peer(number), ahead, 0.0)
            self.assertEqual(estimate.dissent(1.0), expected, samples)

    def test_harmless(self) -> None:
        """Small differences are none."""
        almost = HARMLESS - 0.1
        self.assertEqual(self.estimate(almost, almost, almost), 0.0)
        self.assertEqual(self.estimate(HARMLESS, HARMLESS, HARMLESS), HARMLESS)

    def test_last_counts(self) -> None:
        """Of each member the last sample counts, for an hour."""
        estimate = SkewEstimate()
        for number in (1, 2):
            estimate.add(peer(number), 600.0, 0.0)
        self.assertEqual(
            (estimate.ahead(10.0), estimate.sources(10.0), estimate.agreeing(605.0, 10.0)), (600.0, 2, 2)
        )
        estimate.add(peer(1), 1.0, 20.0)
        self.assertEqual((estimate.ahead(20.0), estimate.agreeing(600.0, 20.0)), (0.0, 1))
        self.assertEqual(estimate.sources(SAMPLE_FOR), 1)
        estimate.clear()
        self.assertEqual(estimate.sources(20.0), 0)

    def test_bounds(self) -> None:
        """The number of members is limited; absurd times are ignored."""
        estimate = SkewEstimate()
        for number in range(MAX_SAMPLES + 5):
            estimate.add(peer(number), 60.0, 0.0)
        estimate.add(peer(1000), MAX_SKEW * 2, 0.0)
        estimate.add(peer(1001), float("nan"), 0.0)
        estimate.add(peer(1002), float("-inf"), 0.0)
        self.assertEqual(estimate.sources(0.0), MAX_SAMPLES)
