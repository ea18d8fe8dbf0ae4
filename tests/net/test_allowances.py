"""
Tests for L{dtt.net.allowances}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dtt.net.allowances import Allowances


class AllowancesTests(SynchronousTestCase):
    """
    L{Allowances} allows each key a burst, and then one more an interval.
    """

    def test_burst(self) -> None:
        """
        A key is allowed exactly its burst at one moment.
        """
        allowances = Allowances(3, 5.0)
        self.assertEqual([allowances.take(b"a", 10.0) for _ in range(5)], [True, True, True, False, False])

    def test_interval(self) -> None:
        """
        After its burst, a key is allowed once more each interval, however often it asked.
        """
        allowances = Allowances(2, 5.0)
        allowed = [now for now in range(100, 131) if allowances.take(b"a", float(now))]
        self.assertEqual(allowed, [100, 101, 105, 110, 115, 120, 125, 130])

    def test_burst_again(self) -> None:
        """
        A key that has not asked for a burst's intervals has its whole burst again, and no
        more than that.
        """
        allowances = Allowances(3, 5.0)
        for _ in range(3):
            allowances.take(b"a", 0.0)
        self.assertEqual([allowances.take(b"a", 1000.0) for _ in range(4)], [True, True, True, False])

    def test_apart(self) -> None:
        """
        What one key has used does not count for another.
        """
        allowances = Allowances(1, 5.0)
        self.assertTrue(allowances.take(b"a", 0.0))
        self.assertTrue(allowances.take(b"b", 0.0))
        self.assertFalse(allowances.take(b"a", 0.0))

    def test_bounded(self) -> None:
        """
        The key used longest ago is forgotten when there are too many.
        """
        allowances = Allowances(1, 100.0, most=2)
        for key in (b"a", b"b", b"c"):
            self.assertTrue(allowances.take(key, 0.0))
        self.assertFalse(allowances.take(b"c", 1.0))
        self.assertFalse(allowances.take(b"b", 1.0))
        self.assertTrue(allowances.take(b"a", 1.0))
