"""
Tests for L{dtt.testing.net.nat}.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import DatagramProtocol
from twisted.trial.unittest import SynchronousTestCase

from dtt.testing.net.clock import HeapClock
from dtt.testing.net.nat import NAT, Behaviour
from dtt.testing.net.udp import MemoryUDPNetwork

DEPENDENT = Behaviour.ADDRESS_AND_PORT_DEPENDENT
INDEPENDENT = Behaviour.ENDPOINT_INDEPENDENT


class Host(DatagramProtocol):
    """
    Keeps what arrives, and from where.
    """

    def __init__(self, network: MemoryUDPNetwork, host: str, port: int = 6881) -> None:
        self.received: list[tuple[bytes, tuple[str, int]]] = []
        self.address = (host, port)
        network.reactor(host).listenUDP(port, self)

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """
        Keep it.
        """
        self.received.append((datagram, addr))

    def send(self, data: bytes, *addresses: tuple[str, int]) -> None:
        """
        Send C{data} to each of C{addresses}.
        """
        transport: Any = self.transport
        for address in addresses:
            transport.write(data, address)


class NATTests(SynchronousTestCase):
    """
    Datagrams through NATs.
    """

    def setUp(self) -> None:
        self.network = MemoryUDPNetwork(HeapClock())
        self.inside = Host(self.network, "192.168.1.2")
        self.other = Host(self.network, "192.168.1.3")
        self.one, self.two = Host(self.network, "198.51.100.1"), Host(self.network, "198.51.100.2")

    def nat(self, host: str = "203.0.113.1", **more: Any) -> NAT:
        """
        Put the inside hosts behind a NAT.
        """
        nat = NAT(self.network.clock, host, **more)
        for each in (self.inside, self.other):
            self.network.nats.place(each.address[0], nat)
        return nat

    def seen(self, host: Host) -> list[tuple[str, int]]:
        """
        Let time pass; return the addresses from which C{host} was reached since.
        """
        self.network.advance(1.0)
        found = [address for _, address in host.received]
        host.received.clear()
        return found

    def test_mapping(self) -> None:
        """
        A host has one address outside for all destinations, or another for each.
        """
        self.nat()
        self.inside.send(b"x", self.one.address, self.two.address)
        self.assertEqual(self.seen(self.one), [("203.0.113.1", 6881)])
        self.assertEqual(self.seen(self.two), [("203.0.113.1", 6881)])
        self.other.send(b"x", self.one.address)
        (address,) = self.seen(self.one)
        self.assertEqual(address[0], "203.0.113.1")
        self.assertNotEqual(address[1], 6881)
        self.nat("203.0.113.2", mapping=DEPENDENT)
        self.inside.send(b"x", self.one.address, self.two.address)
        self.assertNotEqual(self.seen(self.one), self.seen(self.two))

    def test_filtering(self) -> None:
        """
        Outside hosts reach a mapping if something was sent to them, or always.
        """
        for filtering, reached in ((DEPENDENT, False), (INDEPENDENT, True)):
            self.nat(filtering=filtering)
            self.one.send(b"x", ("203.0.113.1", 6881))
            self.assertEqual(self.seen(self.inside), [])
            self.inside.send(b"x", self.one.address)
            self.seen(self.one)
            self.one.send(b"x", ("203.0.113.1", 6881))
            self.assertEqual(self.seen(self.inside), [self.one.address])
            self.two.send(b"x", ("203.0.113.1", 6881))
            self.assertEqual(self.seen(self.inside), [self.two.address] if reached else [])

    def test_lifetime(self) -> None:
        """
        A mapping that is not used is forgotten; use in either direction keeps it.
        """
        self.nat(lifetime=30.0, keeps_ports=False)
        self.inside.send(b"x", self.one.address)
        (first,) = self.seen(self.one)
        for _ in range(3):
            self.network.advance(25.0)
            self.one.send(b"x", first)
            self.assertEqual(self.seen(self.inside), [self.one.address])
        self.network.advance(31.0)
        self.one.send(b"x", first)
        self.assertEqual(self.seen(self.inside), [])
        self.inside.send(b"x", self.one.address)
        self.assertNotEqual(self.seen(self.one), [first])

    def test_private_addresses(self) -> None:
        """
        Hosts inside reach each other directly; from outside their own addresses lead
        nowhere.
        """
        self.nat()
        self.inside.send(b"x", self.other.address)
        self.assertEqual(self.seen(self.other), [self.inside.address])
        self.one.send(b"x", self.inside.address)
        self.assertEqual(self.seen(self.inside), [])

    def test_hairpin(self) -> None:
        """
        Hosts inside reach each other at the address outside only if the NAT does that.
        """
        for hairpin in (False, True):
            self.nat(hairpin=hairpin, filtering=INDEPENDENT)
            self.other.send(b"x", self.one.address)
            (outside,) = self.seen(self.one)
            self.inside.send(b"x", outside)
            self.assertEqual(len(self.seen(self.other)), int(hairpin))

    def test_provider(self) -> None:
        """
        A NAT behind a NAT: the outer address is seen, and answers find their way.
        """
        outer = NAT(self.network.clock, "203.0.113.1")
        self.nat("100.64.0.2", outer=outer)
        self.inside.send(b"x", self.one.address)
        (address,) = self.seen(self.one)
        self.assertEqual(address[0], "203.0.113.1")
        self.one.send(b"x", address)
        self.assertEqual(self.seen(self.inside), [self.one.address])
        self.two.send(b"x", address)
        self.assertEqual(self.seen(self.inside), [])

    def test_firewall(self) -> None:
        """
        A firewall lets answers in, and does not translate.
        """
        firewall = NAT(self.network.clock, self.one.address[0])
        self.network.nats.place(self.one.address[0], firewall)
        self.two.send(b"x", self.one.address)
        self.assertEqual(self.seen(self.one), [])
        self.one.send(b"x", self.two.address)
        self.assertEqual(self.seen(self.two), [self.one.address])
        self.two.send(b"x", self.one.address)
        self.assertEqual(self.seen(self.one), [self.two.address])

    def test_forwarded(self) -> None:
        """
        A forwarded port lets everyone in.
        """
        self.nat().forwarded[7000] = self.inside.address
        self.two.send(b"x", ("203.0.113.1", 7000))
        self.assertEqual(self.seen(self.inside), [self.two.address])

    def test_port_of_an_old_mapping(self) -> None:
        """
        A mapping that takes the port of a forgotten one is not forgotten with it.
        """
        self.nat(lifetime=30.0)
        self.inside.send(b"x", self.one.address)
        self.seen(self.one)
        self.network.advance(40.0)
        self.other.send(b"x", self.one.address)
        self.assertEqual(self.seen(self.one), [("203.0.113.1", 6881)])
        self.inside.send(b"x", self.one.address)
        self.seen(self.one)
        self.one.send(b"x", ("203.0.113.1", 6881))
        self.assertEqual(self.seen(self.other), [self.one.address])

    def test_change_address(self) -> None:
        """
        A NAT with a new address has lost its mappings.
        """
        nat = self.nat()
        self.inside.send(b"x", self.one.address)
        self.seen(self.one)
        nat.change_address("203.0.113.9")
        self.network.nats.moved()
        self.one.send(b"x", ("203.0.113.1", 6881), ("203.0.113.9", 6881))
        self.assertEqual(self.seen(self.inside), [])
        self.inside.send(b"x", self.one.address)
        self.assertEqual(self.seen(self.one), [("203.0.113.9", 6881)])

    def test_two_homes_punch(self) -> None:
        """
        Two hosts behind separate NATs reach each other once both have sent.
        """
        self.nat()
        far = Host(self.network, "192.168.7.2")
        self.network.nats.place("192.168.7.2", NAT(self.network.clock, "203.0.113.7"))
        far.send(b"x", ("203.0.113.1", 6881))
        self.assertEqual(self.seen(self.inside), [])
        self.inside.send(b"x", ("203.0.113.7", 6881))
        self.assertEqual(self.seen(far), [("203.0.113.1", 6881)])
        far.send(b"x", ("203.0.113.1", 6881))
        self.assertEqual(self.seen(self.inside), [("203.0.113.7", 6881)])
