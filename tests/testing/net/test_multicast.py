"""
Tests for L{dtt.testing.net.multicast} and L{dtt.net.multicast}.
"""

from __future__ import annotations

from functools import partial

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dtt.net.multicast import MulticastSocket, open_multicast
from dtt.testing.net.clock import HeapClock
from dtt.testing.net.machines import MachineNetwork
from dtt.testing.net.multicast import LATENCY

GROUP, PORT = "239.192.152.143", 6771


class LocalNetworksTests(SynchronousTestCase):
    """
    Machines that share a local network or not.
    """

    def setUp(self) -> None:
        self.net = MachineNetwork(HeapClock())
        self.got: list[tuple[str, str, bytes, str]] = []
        self.ports: dict[str, int] = {}

    def machine(self, host: str, group: str = GROUP) -> MulticastSocket:
        """Open the sockets of a machine."""

        def received(what: str, data: bytes, sender: str, port: int) -> None:
            self.got.append((host, what, data, sender))
            self.ports[sender] = port

        opened = open_multicast(
            self.net.reactor(host), group, PORT, partial(received, "search"), partial(received, "answer")
        )
        assert opened is not None
        return opened

    def test_search_and_answer(self) -> None:
        """A search reaches all in the local network, ourselves included; an answer the searcher."""
        one, other, _ = (self.machine(f"192.168.1.{number}") for number in (1, 2, 3))
        self.net.lan.connect("192.168.1.1", "192.168.1.2")
        one.search(b"hello")
        self.assertEqual(self.got, [])
        self.net.advance(LATENCY)
        self.assertEqual(
            self.got,
            [
                ("192.168.1.1", "search", b"hello", "192.168.1.1"),
                ("192.168.1.2", "search", b"hello", "192.168.1.1"),
            ],
        )
        self.got.clear()
        other.answer(b"hi", "192.168.1.1", self.ports["192.168.1.1"])
        other.answer(b"hi", "192.168.1.3", 1)
        self.net.advance(LATENCY)
        self.assertEqual(self.got, [("192.168.1.1", "answer", b"hi", "192.168.1.2")])

    def test_families(self) -> None:
        """Groups of the two families are apart; a machine without IPv6 has no such sockets."""
        self.machine("fd00::1", "ff15::1").search(b"six")
        self.machine("192.168.1.1").search(b"four")
        self.net.advance(1)
        self.assertEqual([data for _, _, data, _ in self.got], [b"six", b"four"])
        reactor = self.net.reactor("192.168.1.1")
        self.assertIsNone(open_multicast(reactor, "ff15::1", PORT, lambda *_: None, lambda *_: None))
        both = self.net.reactor("192.168.1.1", "fd00::1")
        self.assertIsNotNone(open_multicast(both, "ff15::1", PORT, lambda *_: None, lambda *_: None))

    def test_closed(self) -> None:
        """Nothing arrives once the sockets are closed."""
        one = self.machine("192.168.1.1")
        one.search(b"hello")
        one.close()
        one.close()
        self.net.advance(1)
        self.assertEqual(self.got, [])

    def test_move(self) -> None:
        """A machine with another address is in the local network of that address."""
        reactor = self.net.reactor("192.168.1.1")
        opened = open_multicast(reactor, GROUP, PORT, lambda *_: None, lambda *_: None)
        assert opened is not None
        self.machine("10.0.0.2")
        self.net.lan.connect("10.0.0.1", "10.0.0.2")
        reactor.move("10.0.0.1")
        opened.search(b"hello")
        self.net.advance(1)
        self.assertEqual(self.got, [("10.0.0.2", "search", b"hello", "10.0.0.1")])


class OpenTests(SynchronousTestCase):
    """
    Reactors without multicast.
    """

    def test_none(self) -> None:
        """A reactor that adopts no sockets has none."""
        self.assertIsNone(open_multicast(Clock(), GROUP, PORT, lambda *_: None, lambda *_: None))
