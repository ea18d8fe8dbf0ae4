"""
Tests for L{dtt.dht.server.upload}.
"""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from dtt.dht.server.upload import MAX_CHARGED, MAX_PROVEN, PROVEN_SECONDS, AnswerLimits
from dtt.net.bounded import SWEEP
from dtt.net.networks import packed_network


def _ip(net: int, host: int = 1) -> bytes:
    return bytes((10, net >> 8 & 0xFF, net & 0xFF, host))


class NetworkTests(SynchronousTestCase):
    """
    L{packed_network}.
    """

    def test_prefixes(self) -> None:
        """
        The network is a /24 of IPv4 or a /64 of IPv6.
        """
        self.assertEqual(packed_network(b"\x0a\x00\x01\x02"), b"\x0a\x00\x01")
        self.assertEqual(packed_network(bytes(range(16))), bytes(range(8)))


class AnswerLimitsTests(SynchronousTestCase):
    """
    L{AnswerLimits}.
    """

    def send(self, limits: AnswerLimits, ip: bytes, size: int, now: float) -> int:
        """
        Answer while allowed; return the number of bytes sent.
        """
        total = 0
        while limits.allows(ip, now):
            limits.charge(ip, size, now)
            total += size
        return total

    def test_first_answers_fit(self) -> None:
        """
        Two answers with the largest items can be sent to a network in a burst.
        """
        self.assertGreaterEqual(self.send(AnswerLimits(), _ip(1), 1400, 1000.0), 2800)

    def test_network_rate(self) -> None:
        """
        A network gets 2 kB/s in the long run, for all its addresses together; another
        network is not affected.
        """
        limits = AnswerLimits(upload_rate=1e9)
        rng = Random(1)
        total = sum(
            self.send(limits, _ip(1, rng.randrange(256)), rng.randrange(60, 1500), 1000 + second / 10)
            for second in range(1000)
        )
        self.assertLess(abs(total - 2000 * 100), 5000)
        self.assertTrue(limits.allows(_ip(2), 1100.0))

    def test_total_rate(self) -> None:
        """
        All networks together get 8 kB/s in the long run, with a burst of three seconds'
        worth.
        """
        limits = AnswerLimits()
        total = sum(
            self.send(limits, _ip(net), 300, 1000 + second)
            for second in range(100)
            for net in range(second * 50, second * 50 + 50)
        )
        self.assertLess(abs(total - 8000 * (100 - 1 + 3)), 1500)

    def test_upload_rate(self) -> None:
        """
        All proven addresses together do not exceed the upload rate, which is
        configurable.
        """
        limits = AnswerLimits(upload_rate=20_000.0)
        total = 0
        for second in range(100):
            for host in range(50):
                limits.prove(_ip(host), 1000.0 + second)
                total += self.send(limits, _ip(host), 300, 1000.0 + second)
        self.assertLess(abs(total - 20_000 * (100 - 1 + 3 + 1)), 1500)

    def test_proven_first(self) -> None:
        """
        While unproven addresses of many networks use up the upload, proven ones are
        still answered, and then get nearly all of it.
        """
        limits = AnswerLimits()
        limits.prove(_ip(0), 1000.0)
        limits.prove(_ip(1), 1000.0)
        sent = [0, 0, 0]
        for step in range(1000):
            now = 1000.0 + step / 10
            for net in range(2, 40):
                sent[2] += self.send(limits, _ip(net), 300, now)
            sent[0] += self.send(limits, _ip(0), 300, now)
            sent[1] += self.send(limits, _ip(1), 300, now)
        self.assertGreater(min(sent[:2]), 0.45 * 8000 * 100)
        self.assertLess(sum(sent), 8000 * (100 + 3 + 1))

    def test_share_of_proven(self) -> None:
        """
        One proven address gets at most half of the upload.
        """
        limits = AnswerLimits()
        limits.prove(_ip(0), 1000.0)
        total = sum(self.send(limits, _ip(0), 300, 1000.0 + step / 10) for step in range(1000))
        self.assertLess(abs(total - 4000 * 100), 5000)

    def test_proven(self) -> None:
        """
        An address stays proven for the lifetime of a token; a neighbouring address is
        not proven.
        """
        limits = AnswerLimits()
        limits.prove(_ip(1, 1), 1000.0)
        self.assertTrue(limits.is_proven(_ip(1, 1), 1000.0))
        self.assertFalse(limits.is_proven(_ip(1, 2), 1000.0))
        self.assertTrue(limits.is_proven(_ip(1, 1), 999.0 + PROVEN_SECONDS))
        self.assertFalse(limits.is_proven(_ip(1, 1), 1000.0 + PROVEN_SECONDS))

    def test_closed(self) -> None:
        """
        In a closed network nothing is limited.
        """
        limits = AnswerLimits(closed=True)
        for _ in range(1000):
            limits.charge(_ip(1), 1000, 1000.0)
            self.assertTrue(limits.allows(_ip(1), 1000.0))

    def test_bounded(self) -> None:
        """
        The tables are bounded, and useless entries are removed.
        """
        limits = AnswerLimits(network_rate=1.0)
        for number in range(max(MAX_PROVEN, MAX_CHARGED) + 100):
            limits.prove(_ip(number), 1000.0)
            limits.charge(_ip(number, 2), 100, 1000.0)
        self.assertEqual(len(limits._proven), MAX_PROVEN)
        self.assertEqual(len(limits._charged), MAX_CHARGED)
        self.assertFalse(limits.is_proven(_ip(0), 1000.0))
        for number in range(MAX_PROVEN):
            limits.prove(_ip(number), 1000.0 + PROVEN_SECONDS)
            limits.charge(_ip(1, number % 8), 1, 1000.0 + PROVEN_SECONDS)
        self.assertEqual(len(limits._proven), MAX_PROVEN)
        self.assertLessEqual(len(limits._charged), 9)

    def test_incremental_cleanup(self) -> None:
        """
        However many entries are useless, one call removes a few.
        """
        limits = AnswerLimits()
        for number in range(1000):
            limits.prove(_ip(number), 1000.0)
        limits.prove(_ip(2000), 9000.0)
        self.assertEqual(len(limits._proven), 1001 - SWEEP)
