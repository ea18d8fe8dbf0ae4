"""
Tests for L{dtt.net.dial_budget}.
"""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from dtt.net.dial_budget import MAX_DIALS, MAX_NETWORKS, WINDOW, DialBudget
from dtt.net.networks import line
from dtt.wire.addresses import QUIC, STREAMS, PeerAddress, RelayAddress


def victims(count: int, transport: int = STREAMS) -> list[PeerAddress]:
    """Return addresses in one network."""
    return [PeerAddress(transport, f"203.0.113.{number}", 1000 + number) for number in range(count)]


class DialBudgetTests(SynchronousTestCase):
    """
    What one network gets.
    """

    def setUp(self) -> None:
        self.budget = DialBudget()

    def test_limit(self) -> None:
        """In any minute, at most five addresses of a network are dialled, whichever peers name them."""
        addresses = victims(8)
        self.assertEqual(self.budget.take(addresses, 0.0), tuple(addresses[:MAX_DIALS]))
        self.assertEqual(self.budget.refused, 3)
        self.assertFalse(self.budget.has_room(addresses[7], WINDOW - 0.1))
        self.assertTrue(self.budget.has_room(addresses[7], WINDOW))
        self.assertEqual(self.budget.take(addresses, WINDOW), tuple(addresses[:MAX_DIALS]))

    def test_any_minute(self) -> None:
        """No minute has more dials, whenever they are tried."""
        for seed in range(20):
            rng, budget, begun, now = Random(seed), DialBudget(), [], 0.0
            for _ in range(300):
                now += rng.uniform(0, 10)
                begun += [now] * len(budget.take(victims(rng.randrange(4)), now))
            most = max(sum(at - WINDOW < other <= at for other in begun) for at in begun)
            self.assertEqual(most, MAX_DIALS, f"seed {seed}")

    def test_others(self) -> None:
        """Other networks, another transport and relays are not concerned."""
        self.budget.take(victims(8), 0.0)
        others = (
            PeerAddress(STREAMS, "203.0.114.1", 1),
            PeerAddress(QUIC, "203.0.113.1", 1),
            PeerAddress(STREAMS, "2001:db8:1::1", 1),
            RelayAddress("https://relay.example"),
        )
        self.assertEqual(self.budget.take(others, 0.0), others)

    def test_ipv6(self) -> None:
        """An IPv6 network is a /48."""
        addresses = [PeerAddress(STREAMS, f"2001:db8:1:{number}::1", 1) for number in range(8)]
        self.assertEqual(len(self.budget.take(addresses, 0.0)), MAX_DIALS)

    def test_loopback(self) -> None:
        """This machine may be dialled at any rate."""
        addresses = [PeerAddress(STREAMS, "127.0.0.1", port) for port in range(1, 50)]
        self.assertEqual(len(self.budget.take(addresses, 0.0)), 49)

    def test_reached(self) -> None:
        """A dial that reaches its peer does not count."""
        for _ in range(20):
            taken = self.budget.take(victims(3), 0.0)
            self.assertEqual(len(taken), 3)
            self.budget.give_back(taken)

    def test_clear(self) -> None:
        """A change of our network resets the count."""
        self.budget.take(victims(8), 0.0)
        self.budget.clear()
        self.assertEqual(len(self.budget.take(victims(8), 0.0)), MAX_DIALS)

    def test_bounded(self) -> None:
        """The number of remembered networks is limited; those dialled last are kept."""
        hosts = [f"{1 + number // 256}.{number % 256}.1.1" for number in range(MAX_NETWORKS + 10)]
        for host in hosts:
            self.budget.take([PeerAddress(STREAMS, host, 1)], 0.0)
        self.assertEqual(list(self.budget._begun), [(STREAMS, line(host)) for host in hosts[10:]])
