"""
Tests for L{dtt.dht.limits}.
"""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from dtt.dht.limits import MAX_NETWORKS, MAX_PROVEN, PROVEN_SECONDS, AnswerLimits, network


def _ip(net: int, host: int = 1) -> bytes:
    return bytes((10, net >> 8 & 0xFF, net & 0xFF, host))


class NetworkTests(SynchronousTestCase):
    """
    L{network}.
    """

    def test_prefixes(self) -> None:
        """
        A /24 of IPv4, a /64 of IPv6.
        """
        self.assertEqual(network(b"\x0a\x00\x01\x02"), b"\x0a\x00\x01")
        self.assertEqual(network(bytes(range(16))), bytes(range(8)))


class AnswerLimitsTests(SynchronousTestCase):
    """
    L{AnswerLimits}.
    """

    def send(self, limits: AnswerLimits, ip: bytes, size: int, now: float) -> int:
        """
        Answer as long as that is allowed; how many bytes went out?
        """
        total = 0
        while limits.allows(ip, now):
            limits.charge(ip, size, now)
            total += size
        return total

    def test_first_answers_fit(self) -> None:
        """
        Two answers with the largest items go to a network at once.
        """
        self.assertGreaterEqual(self.send(AnswerLimits(), _ip(1), 1400, 1000.0), 2800)

    def test_network_rate(self) -> None:
        """
        A network gets 2 kB/s in the long run, all its addresses together;
        another one is not affected.
        """
        limits = AnswerLimits(total_rate=1e9)
        rng = Random(1)
        total = sum(
            self.send(limits, _ip(1, rng.randrange(256)), rng.randrange(60, 1500), 1000 + second / 10)
            for second in range(1000)
        )
        self.assertLess(abs(total - 2000 * 100), 5000)
        self.assertTrue(limits.allows(_ip(2), 1100.0))

    def test_total_rate(self) -> None:
        """
        All networks together get 8 kB/s in the long run.
        """
        limits = AnswerLimits()
        total = sum(
            self.send(limits, _ip(net), 300, 1000 + second)
            for second in range(100)
            for net in range(second * 50, second * 50 + 50)
        )
        self.assertLess(abs(total - 8000 * 100), 9000)

    def test_proven(self) -> None:
        """
        A proven address is free for as long as a token lives; its
        neighbour's is not proven.
        """
        limits = AnswerLimits()
        limits.prove(_ip(1, 1), 1000.0)
        self.assertTrue(limits.is_proven(_ip(1, 1), 1000.0))
        self.assertFalse(limits.is_proven(_ip(1, 2), 1000.0))
        self.assertTrue(limits.is_proven(_ip(1, 1), 999.0 + PROVEN_SECONDS))
        self.assertFalse(limits.is_proven(_ip(1, 1), 1000.0 + PROVEN_SECONDS))

    def test_closed(self) -> None:
        """
        In a closed network everybody is proven.
        """
        self.assertTrue(AnswerLimits(closed=True).is_proven(_ip(1), 1000.0))

    def test_bounded(self) -> None:
        """
        What is remembered is bounded, and forgotten when it has no use.
        """
        limits = AnswerLimits(network_rate=1.0)
        for number in range(max(MAX_PROVEN, MAX_NETWORKS) + 100):
            limits.prove(_ip(number), 1000.0)
            limits.charge(_ip(number), 100, 1000.0)
        self.assertEqual(len(limits._proven), MAX_PROVEN)
        self.assertEqual(len(limits._charged), MAX_NETWORKS)
        self.assertFalse(limits.is_proven(_ip(0), 1000.0))
        limits.prove(_ip(1), 1000.0 + PROVEN_SECONDS)
        limits.charge(_ip(1), 1, 1200.0)
        self.assertEqual((len(limits._proven), len(limits._charged)), (1, 1))
