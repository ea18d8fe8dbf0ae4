"""
Tests for L{dtt.testing.vast.links}.
"""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from dtt.testing.vast import Links, member_host


class LinksTests(SynchronousTestCase):
    """
    Latency and loss.
    """

    def test_delay(self) -> None:
        """A pair of hosts has one latency in both directions; latencies are spread between the bounds."""
        links = Links(1)
        delays = [links.delay(member_host(0), member_host(index)) for index in range(1, 1000)]
        self.assertEqual(delays[4], links.delay(member_host(5), member_host(0)))
        self.assertEqual(delays[4], Links(1).delay(member_host(0), member_host(5)))
        self.assertNotEqual(delays[4], Links(2).delay(member_host(0), member_host(5)))
        self.assertTrue(0.02 <= min(delays) < 0.03 and 0.14 < max(delays) < 0.15)
        self.assertApproximates(sum(delays) / len(delays), 0.085, 0.01)

    def test_fixed(self) -> None:
        """With equal bounds, all pairs have the same latency."""
        self.assertEqual(Links(low=0.05, high=0.05).delay("a", "b"), 0.05)

    def test_jitter(self) -> None:
        """Jitter is drawn each time, and is the same with the same seed."""
        one, other = (Links(1, low=0.05, high=0.05, jitter=0.01) for _ in range(2))
        delays = [one.delay("a", "b") for _ in range(100)]
        self.assertEqual(delays, [other.delay("a", "b") for _ in range(100)])
        self.assertTrue(0.05 <= min(delays) < 0.052 and 0.058 < max(delays) < 0.06)
        self.assertEqual(one.base("a", "b"), 0.05)

    def test_loss(self) -> None:
        """The given share is lost."""
        links, rng = Links(loss=0.1), Random(1)
        self.assertApproximates(sum(links.loses(rng) for _ in range(5000)) / 5000, 0.1, 0.02)
        self.assertFalse(Links().loses(rng))

    def test_bad(self) -> None:
        """Impossible parameters are refused."""
        for bad in ({"low": 0.2}, {"low": -0.1}, {"jitter": -1.0}, {"loss": 1.1}):
            self.assertRaises(ValueError, Links, **bad)
