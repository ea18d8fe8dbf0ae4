"""
Tests for L{dtt.testing.net.machines} and L{dtt.testing.net.clock}.
"""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import (
    IReactorPluggableNameResolver,
    IReactorTCP,
    IReactorTime,
    IReactorUDP,
)
from twisted.internet.protocol import ClientFactory, DatagramProtocol, Protocol, ServerFactory
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from dtt.dht.node import DHTNode
from dtt.testing.net.clock import advance
from dtt.testing.net.machines import MachineNetwork
from dtt.testing.vast import Links, VastDHT, member_host


class AdvanceTests(SynchronousTestCase):
    """
    Tests for L{advance}.
    """

    def test_at_its_own_time(self) -> None:
        """An event caused by another one runs at its own time, not at the end."""
        clock = Clock()
        times: list[float] = []
        clock.callLater(1, lambda: clock.callLater(1, lambda: times.append(clock.seconds())))
        advance(clock, 5)
        self.assertEqual((times, clock.seconds()), ([2.0], 5.0))

    def test_rounding(self) -> None:
        """With unix time, and delays that are not binary fractions, the time still advances."""
        clock = Clock()
        clock.rightNow = 1_800_000_000.1
        calls: list[float] = []

        def again() -> None:
            calls.append(clock.seconds())
            clock.callLater(0.3, again)

        again()
        advance(clock, 100)
        self.assertIn(len(calls), (333, 334, 335))


class Echo(Protocol):
    """Sends back what it receives."""

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)


class MachineNetworkTests(SynchronousTestCase):
    """
    Tests for L{MachineNetwork}.
    """

    def setUp(self) -> None:
        """Create two machines."""
        self.clock = Clock()
        self.net = MachineNetwork(self.clock, latency=0.5)
        self.one, self.two = self.net.reactor("10.0.0.1"), self.net.reactor("10.0.0.2")

    def test_interfaces(self) -> None:
        """A reactor provides the interfaces that a tracker needs."""
        for interface in (IReactorTCP, IReactorUDP, IReactorTime, IReactorPluggableNameResolver):
            verifyObject(interface, self.one)

    def test_udp(self) -> None:
        """Datagrams arrive after the latency."""
        received: list[Any] = []
        protocol = DatagramProtocol()
        protocol.datagramReceived = lambda datagram, addr: received.append((datagram, addr))  # type: ignore[method-assign]
        port = self.two.listenUDP(7, protocol)
        sender = self.one.listenUDP(0, DatagramProtocol())
        sender.write(b"hello", ("10.0.0.2", 7))
        self.net.advance(0.4)
        self.assertEqual(received, [])
        self.net.advance(0.2)
        self.assertEqual(received, [(b"hello", ("10.0.0.1", sender.getHost().port))])
        self.assertIn(("udp", "10.0.0.2", 7), self.net.listening())
        port.stopListening()
        self.assertNotIn(("udp", "10.0.0.2", 7), self.net.listening())

    def test_tcp(self) -> None:
        """Connections carry bytes in both directions."""
        received: list[bytes] = []
        port = self.two.listenTCP(7, ServerFactory.forProtocol(Echo))
        client = Protocol()
        client.dataReceived = lambda data: received.append(data)  # type: ignore[method-assign]
        client.connectionMade = lambda: client.transport.write(b"hi")  # type: ignore
        self.one.connectTCP("10.0.0.2", 7, ClientFactory.forProtocol(lambda: client))
        self.net.advance(3)
        self.assertEqual(received, [b"hi"])
        self.assertEqual(self.net.listening(), {("tcp", "10.0.0.2", 7)})
        port.stopListening()
        self.assertEqual(self.net.listening(), set())

    def test_links(self) -> None:
        """With links, each pair of machines has its own latency, for datagrams and for connections."""
        links = Links(1)
        net = MachineNetwork(self.clock, links=links)
        one, two = net.reactor("10.0.0.1"), net.reactor("10.0.0.2")
        times: list[float] = []
        receiver, client = DatagramProtocol(), Protocol()
        receiver.datagramReceived = lambda datagram, addr: times.append(self.clock.seconds())  # type: ignore[method-assign]
        client.connectionMade = lambda: times.append(self.clock.seconds())  # type: ignore[method-assign]
        two.listenUDP(7, receiver)
        two.listenTCP(7, ServerFactory.forProtocol(Protocol))
        one.listenUDP(0, DatagramProtocol()).write(b"hello", ("10.0.0.2", 7))
        one.connectTCP("10.0.0.2", 7, ClientFactory.forProtocol(lambda: client))
        net.advance(1)
        delay = links.delay("10.0.0.1", "10.0.0.2")
        self.assertEqual(times, [delay, 2 * delay])

    def test_vast(self) -> None:
        """A DHT node on a machine becomes ready with a C{VastDHT}."""
        dht = VastDHT(20)
        net = MachineNetwork(self.clock, links=Links(), beyond=dht, log_limit=0)
        node = DHTNode(
            net.reactor(member_host(0)), interface=member_host(0), bootstrap=dht.bootstrap, rng=Random(1)
        )
        node.privilegedStartService()
        node.startService()
        net.advance(8)
        self.assertGreater(self.successResultOf(node.when_ready()), 0)
        self.assertGreater(len(node.table), 20)
        self.assertEqual(net.udp.log, [])
        node.stopService()
        net.advance(5)

    def test_names(self) -> None:
        """Names are resolved; the resolver can be replaced."""
        self.net.udp.names["host"] = ["10.0.0.9"]
        resolved: list[Any] = []

        class Receiver:
            def resolutionBegan(self, resolution: object) -> None:
                pass

            def addressResolved(self, address: object) -> None:
                resolved.append(address)

            def resolutionComplete(self) -> None:
                resolved.append("complete")

        self.one.nameResolver.resolveHostName(Receiver(), "host", 5)
        self.net.advance(1)
        self.assertEqual(resolved, [IPv4Address("TCP", "10.0.0.9", 5), "complete"])
        previous = self.one.nameResolver
        replacement: Any = object()
        self.assertIs(self.one.installNameResolver(replacement), previous)
        self.assertIs(self.one.nameResolver, replacement)
