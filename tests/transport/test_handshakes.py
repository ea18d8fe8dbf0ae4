"""
Tests for L{dtt.transport.handshakes}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dtt.net.networks import network_of
from dtt.transport.handshakes import (
    MAX_PER_NETWORK,
    MAX_UNAUTHENTICATED,
    MAX_WAITING_PER_NETWORK,
    Handshakes,
    HandshakeSlot,
)


class NetworkTests(SynchronousTestCase):
    """
    Tests for L{network_of}.
    """

    def test_networks(self) -> None:
        """
        The network is the /24 for IPv4, the /64 for IPv6; IPv4-mapped addresses count as
        IPv4; loopback is exempt.
        """
        for host, network in (
            ("192.0.2.7", "192.0.2.0/24"),
            ("::ffff:192.0.2.7", "192.0.2.0/24"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
            ("fe80::1%eth0", "fe80::/64"),
            ("127.0.0.9", None),
            ("::1", None),
            ("::ffff:127.0.0.1", None),
        ):
            self.assertEqual(network_of(host), network)


class HandshakesTests(SynchronousTestCase):
    """
    Tests for L{Handshakes}.
    """

    def setUp(self) -> None:
        self.handshakes = Handshakes()
        self.proceeded: list[str] = []

    def enter(self, host: str) -> HandshakeSlot:
        """
        Register a connection from C{host}.
        """
        slot = self.handshakes.enter(host, lambda: self.proceeded.append(host))
        assert slot is not None
        return slot

    def test_four_of_a_network(self) -> None:
        """
        The fifth connection of a network waits until one of the four leaves; other
        networks do not wait.
        """
        first = [self.enter(f"192.0.2.{n}") for n in range(MAX_PER_NETWORK)]
        fifth, sixth = self.enter("192.0.2.5"), self.enter("192.0.2.6")
        other = self.enter("192.0.3.5")
        self.assertEqual(
            [p.running for p in (*first, fifth, sixth, other)], [True] * 4 + [False] * 2 + [True]
        )
        self.handshakes.leave(other)
        self.assertEqual(self.proceeded, [])
        self.handshakes.leave(first[2])
        self.handshakes.leave(first[2])
        self.assertEqual(self.proceeded, ["192.0.2.5"])
        self.handshakes.leave(fifth)
        self.assertEqual(self.proceeded, ["192.0.2.5", "192.0.2.6"])

    def test_waiting_one_leaves(self) -> None:
        """
        A connection that leaves while it waits starts no other, and is not started.
        """
        first = [self.enter("192.0.2.1") for _ in range(MAX_PER_NETWORK)]
        fifth, _ = self.enter("192.0.2.5"), self.enter("192.0.2.6")
        self.handshakes.leave(fifth)
        self.assertEqual(self.proceeded, [])
        self.handshakes.leave(first[0])
        self.assertEqual(self.proceeded, ["192.0.2.6"])

    def test_waiting_of_a_network(self) -> None:
        """
        One network can't occupy all slots by waiting.
        """
        for n in range(MAX_PER_NETWORK + MAX_WAITING_PER_NETWORK):
            self.enter(f"192.0.2.{n}")
        self.assertIsNone(self.handshakes.enter("192.0.2.99", self.fail))
        self.assertTrue(self.enter("192.0.3.1").running)

    def test_all(self) -> None:
        """
        The total is limited, including loopback.
        """
        places = [self.enter("127.0.0.1") for _ in range(MAX_UNAUTHENTICATED)]
        self.assertTrue(all(slot.running for slot in places))
        self.assertIsNone(self.handshakes.enter("192.0.2.1", self.fail))
        self.handshakes.leave(places[0])
        self.assertIsNotNone(self.handshakes.enter("192.0.2.1", self.fail))
