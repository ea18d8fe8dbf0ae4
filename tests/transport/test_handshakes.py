"""
Tests for L{dtt.transport.handshakes}.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle

from twisted.trial.unittest import SynchronousTestCase

from dtt.net.networks import networks_of
from dtt.transport.handshakes import (
    HANDSHAKE_TIMEOUT,
    MAX_UNAUTHENTICATED,
    PRESSURE,
    PRESSURE_TIMEOUT,
    Handshakes,
    HandshakeSlot,
)


class NetworksTests(SynchronousTestCase):
    """
    Tests for L{networks_of}.
    """

    def test_networks(self) -> None:
        """
        The networks are the /24 for IPv4, and /48, /56 and /64 for IPv6; IPv4-mapped
        addresses count as IPv4; all of loopback is one network.
        """
        for host, *networks in (
            ("192.0.2.7", "192.0.2.0/24"),
            ("::ffff:192.0.2.7", "192.0.2.0/24"),
            ("2001:db8:1:234:3:4:5:6", "2001:db8:1::/48", "2001:db8:1:200::/56", "2001:db8:1:234::/64"),
            ("fe80::1%eth0", "fe80::/48", "fe80::/56", "fe80::/64"),
            ("127.0.0.9", "loopback"),
            ("::1", "loopback"),
            ("::ffff:127.0.0.1", "loopback"),
        ):
            self.assertEqual(networks_of(host), tuple(networks))


class HandshakesTests(SynchronousTestCase):
    """
    Tests for L{Handshakes}.
    """

    def setUp(self) -> None:
        self.now = 0.0
        self.handshakes = Handshakes()
        self.closed: list[tuple[str, str]] = []

    def enter(self, host: str | None) -> HandshakeSlot:
        """
        Add a connection from C{host}.
        """
        return self.handshakes.enter(host, self.now, lambda reason: self.closed.append((str(host), reason)))

    def test_below_the_limit(self) -> None:
        """
        Nobody is closed while there are free places, whatever the networks.
        """
        for _ in range(MAX_UNAUTHENTICATED):
            self.enter("192.0.2.1")
        self.assertEqual(self.closed, [])
        self.assertEqual(len(self.handshakes), MAX_UNAUTHENTICATED)

    def test_largest_network(self) -> None:
        """
        When all places are taken, the oldest of the network with most places goes; a
        connection that has left can't be closed.
        """
        slots = [self.enter(f"192.0.2.{n}") for n in range(20)]
        self.handshakes.leave(slots[0])
        self.handshakes.leave(slots[0])
        for n in range(MAX_UNAUTHENTICATED - 19):
            self.enter(f"198.51.{n}.1")
        self.enter("203.0.113.1")
        self.enter("203.0.113.2")
        self.assertEqual(self.closed, [(f"192.0.2.{n}", "too many handshakes") for n in (1, 2)])
        self.assertEqual(len(self.handshakes), MAX_UNAUTHENTICATED)

    def test_own_network(self) -> None:
        """
        A newcomer of the largest network replaces one of its own network.
        """
        honest = [self.enter(f"198.51.{n}.1") for n in range(MAX_UNAUTHENTICATED - 2)]
        for n in range(20):
            self.enter(f"192.0.2.{n}")
        self.assertEqual(self.closed, [(f"192.0.2.{n}", "too many handshakes") for n in range(18)])
        self.assertTrue(all(slot in self.handshakes._slots for slot in honest))

    def test_all_networks_equal(self) -> None:
        """
        If no network has more than one place, the oldest connection goes.
        """
        for n in range(MAX_UNAUTHENTICATED + 2):
            self.enter(f"198.51.{n}.1")
        self.assertEqual([host for host, _ in self.closed], ["198.51.0.1", "198.51.1.1"])

    def test_loopback_and_relays(self) -> None:
        """
        All loopback addresses are one network, and so are all relays.
        """
        for crowd in ("127.0.0.1", None):
            self.setUp()
            self.enter("192.0.2.1")
            for _ in range(MAX_UNAUTHENTICATED):
                self.enter(crowd)
            self.assertEqual([host for host, _ in self.closed], [str(crowd)])

    def test_ipv6_prefixes(self) -> None:
        """
        Neither a /48 nor a /56 of one customer closes connections of others, even if
        each of its connections comes from another /64.  Others of the same /48 are
        protected, too.
        """
        neighbor = "2001:db8:1:ff00::1"
        attacks: tuple[Iterator[str], ...] = (
            (f"2001:db8:1:{n:02x}00::1" for n in range(200)),
            (f"2001:db8:1:{n:04x}::1" for n in range(200)),
            (f"2001:db8:1:0:{n:x}::1" for n in range(200)),
            cycle(f"2001:db8:1:{n}::1" for n in range(4)),
        )
        for number, attack in enumerate(attacks):
            self.setUp()
            hosts = [f"2001:db8:2:{n:x}::1" for n in range(5)] + ["192.0.2.1"]
            # In the first attack every /56 has one place: it is no worse than the others.
            hosts += [neighbor] if number else []
            for host in hosts:
                self.enter(host)
            for _ in range(200):
                self.enter(next(attack))
            self.assertEqual(len(self.closed), 200 + len(hosts) - MAX_UNAUTHENTICATED)
            self.assertFalse({host for host, _ in self.closed} & set(hosts), f"attack {number}")

    def test_pressure(self) -> None:
        """
        While half of the places are taken, a newcomer ends the handshakes that take more
        than 3 s.
        """
        for n in range(PRESSURE - 1):
            self.enter(f"198.51.{n}.1")
        self.now += PRESSURE_TIMEOUT
        self.enter("192.0.2.1")
        self.assertEqual(self.closed, [])
        self.now += HANDSHAKE_TIMEOUT - PRESSURE_TIMEOUT - 0.1
        self.enter("192.0.2.2")
        late = [f"198.51.{n}.1" for n in range(PRESSURE - 1)] + ["192.0.2.1"]
        self.assertEqual(self.closed, [(host, "handshake timed out") for host in late])
        self.assertEqual(len(self.handshakes), 1)

    def test_leaves_while_it_is_closed(self) -> None:
        """
        A connection may leave while it is being closed, and so may others.
        """
        slots: list[HandshakeSlot] = []

        def leave_all(reason: str) -> None:
            self.closed.append(("", reason))
            for slot in slots:
                self.handshakes.leave(slot)

        slots += [self.handshakes.enter("192.0.2.1", 0.0, leave_all) for _ in range(MAX_UNAUTHENTICATED)]
        self.now += PRESSURE_TIMEOUT
        self.enter("192.0.2.2")
        self.assertEqual(self.closed, [("", "handshake timed out")])
        self.assertEqual(len(self.handshakes), 1)
