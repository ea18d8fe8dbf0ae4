"""
Tests for L{dtt.dht.client.credit}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dtt.dht.client.credit import ENOUGH, MAX_NETWORKS, Credit
from dtt.dht.client.shortlist import MAX_SILENT, SILENT_SHARE
from dtt.interfaces import Contact


def node(host: str, port: int = 1) -> Contact:
    """
    A node at an address.
    """
    return Contact(bytes(20), host, port)


class CreditTests(SynchronousTestCase):
    """
    L{Credit}.
    """

    def test_trusts(self) -> None:
        """
        A node is trusted until enough of those that it named have been silent, and again
        when some have answered.
        """
        credit = Credit(closed=False)
        self.assertTrue(credit.trusts(node("80.1.1.1")))
        credit.judge(node("80.1.1.1"), 0, MAX_SILENT - 1)
        self.assertTrue(credit.trusts(node("80.1.1.1")))
        credit.judge(node("80.1.1.1"), 0, 1)
        self.assertFalse(credit.trusts(node("80.1.1.1")))
        credit.judge(node("80.1.1.1"), MAX_SILENT // SILENT_SHARE, 0)
        self.assertTrue(credit.trusts(node("80.1.1.1")))

    def test_lines(self) -> None:
        """
        A /24 or a /48 counts as one; on loopback, in closed networks and in local ones each
        node does.
        """
        for closed, one, other, same in (
            (False, node("80.1.1.1"), node("80.1.1.9", 5), True),
            (False, node("80.1.1.1"), node("80.1.2.1"), False),
            (False, node("2001:db8:1:2::1"), node("2001:db8:1:9::1"), True),
            (False, node("2001:db8:1:2::1"), node("2001:db8:2:2::1"), False),
            (False, node("127.0.0.1", 1), node("127.0.0.1", 2), False),
            (False, node("10.0.0.1"), node("10.0.0.2"), False),
            (True, node("80.1.1.1", 1), node("80.1.1.1", 2), False),
        ):
            credit = Credit(closed)
            credit.judge(one, 0, 2 * MAX_SILENT)
            self.assertFalse(credit.trusts(one))
            self.assertEqual(credit.trusts(other), not same, (one, other))

    def test_forgets(self) -> None:
        """
        Counts are halved, so that a line that has become honest is soon trusted; the
        number of lines is bounded.
        """
        credit = Credit(closed=False)
        for _ in range(1000):
            credit.judge(node("80.1.1.1"), 0, 10)
        credit.judge(node("80.1.1.1"), ENOUGH // 4, 0)
        self.assertTrue(credit.trusts(node("80.1.1.1")))
        for number in range(MAX_NETWORKS + 100):
            credit.judge(node(f"81.{number >> 8}.{number & 255}.1"), 0, 100)
        self.assertEqual(len(credit), MAX_NETWORKS)
