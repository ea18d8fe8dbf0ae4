"""
Tests for L{dtt.testing.net.udp}.
"""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IHostResolution,
    IListeningPort,
    IReactorPluggableNameResolver,
    IReactorTime,
    IReactorUDP,
    IResolutionReceiver,
    IUDPTransport,
)
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from dtt.testing.net.udp import Datagram, MemoryUDPNetwork


class Recorder(DatagramProtocol):
    """
    Records datagrams and their times.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.received: list[tuple[bytes, tuple[str, int], float]] = []
        self.stopped = 0

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        self.received.append((datagram, addr, self.clock.seconds()))

    def stopProtocol(self) -> None:
        self.stopped += 1


@implementer(IResolutionReceiver)
class Receiver:
    """
    Records the results of a resolution.
    """

    def __init__(self) -> None:
        self.addresses: list[IAddress] = []
        self.resolution: IHostResolution | None = None
        self.complete = False

    def resolutionBegan(self, resolution: IHostResolution) -> None:
        self.resolution = resolution

    def addressResolved(self, address: IAddress) -> None:
        self.addresses.append(address)

    def resolutionComplete(self) -> None:
        self.complete = True


class MemoryUDPNetworkTests(SynchronousTestCase):
    """
    Datagrams between in-memory hosts.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.network = MemoryUDPNetwork(self.clock, latency=0.25, rng=Random(1))
        self.one = Recorder(self.clock)
        self.two = Recorder(self.clock)
        self.port_one = self.network.reactor("10.0.0.1").listenUDP(1000, self.one)
        self.port_two = self.network.reactor("10.0.0.2").listenUDP(2000, self.two)

    def test_interfaces(self) -> None:
        """
        Reactor and port provide the same interfaces as Twisted's.
        """
        reactor = self.network.reactor("10.0.0.1")
        for interface in (IReactorUDP, IReactorTime, IReactorPluggableNameResolver, IHostnameResolver):
            verifyObject(interface, reactor)
        verifyObject(IListeningPort, self.port_one)
        verifyObject(IUDPTransport, self.port_one)

    def test_arrives_after_the_latency(self) -> None:
        """
        A datagram arrives C{latency} seconds later, with the sender's address.
        """
        self.port_one.write(b"hello", ("10.0.0.2", 2000))
        self.network.advance(0.2)
        self.assertEqual(self.two.received, [])
        self.network.advance(0.1)
        self.assertEqual(self.two.received, [(b"hello", ("10.0.0.1", 1000), 0.25)])
        self.assertEqual(self.clock.seconds(), 0.2 + 0.1)

    def test_caused_events_happen_at_their_own_time(self) -> None:
        """
        One L{MemoryUDPNetwork.advance} runs a whole exchange.
        """
        self.two.datagramReceived = lambda datagram, addr: self.port_two.write(b"re", addr)  # type: ignore[method-assign]
        self.port_one.write(b"hello", ("10.0.0.2", 2000))
        self.network.advance(10.0)
        self.assertEqual(self.one.received, [(b"re", ("10.0.0.2", 2000), 0.5)])

    def test_nobody_there(self) -> None:
        """
        A datagram to an address that is not bound is lost.
        """
        self.port_one.write(b"hello", ("10.0.0.2", 2001))
        self.network.advance(1.0)
        self.assertEqual(self.two.received, [])
        self.assertEqual(len(self.network.log), 1)

    def test_dead(self) -> None:
        """
        A dead host, or address, neither receives nor sends; it can be revived.
        """
        for dead in ("10.0.0.2", ("10.0.0.2", 2000)):
            self.network.dead = {dead}
            self.port_one.write(b"a", ("10.0.0.2", 2000))
            self.port_two.write(b"b", ("10.0.0.1", 1000))
            self.network.advance(1.0)
        self.assertEqual(self.one.received + self.two.received, [])
        self.network.dead.clear()
        self.port_one.write(b"c", ("10.0.0.2", 2000))
        self.network.advance(1.0)
        self.assertEqual([data for data, _, _ in self.two.received], [b"c"])

    def test_of_hosts(self) -> None:
        """
        Latency and loss may depend on the pair of hosts.
        """
        self.network.latency = lambda sender, receiver: 0.5 if sender == "10.0.0.1" else 0.125
        self.network.loss = lambda sender, receiver: float(receiver == "10.0.0.3")
        three = Recorder(self.clock)
        self.network.reactor("10.0.0.3").listenUDP(3000, three)
        for port in (2000, 3000):
            self.port_one.write(b"there", (f"10.0.0.{port // 1000}", port))
        self.port_two.write(b"back", ("10.0.0.1", 1000))
        self.network.advance(1.0)
        self.assertEqual([time for _, _, time in self.two.received + self.one.received], [0.5, 0.125])
        self.assertEqual(three.received, [])

    def test_beyond(self) -> None:
        """
        Hosts in C{beyond} answer when a datagram arrives, and their reply takes the
        latency back; both are logged.
        """
        asked: list[Any] = []

        class Echo:
            def has(self, host: str) -> bool:
                return host.startswith("11.")

            def answer(
                self, datagram: bytes, source: tuple[str, int], destination: tuple[str, int], now: float
            ) -> bytes | None:
                asked.append((source, destination, now))
                return datagram if destination[1] == 7 else None

        self.network.beyond = Echo()
        for port in (7, 8):
            self.port_one.write(b"hello", ("11.0.0.1", port))
        self.network.advance(1.0)
        self.assertEqual(asked, [(("10.0.0.1", 1000), ("11.0.0.1", port), 0.25) for port in (7, 8)])
        self.assertEqual(self.one.received, [(b"hello", ("11.0.0.1", 7), 0.5)])
        self.assertEqual(len(self.network.log), 3)
        self.network.dead = {"11.0.0.1"}
        self.port_one.write(b"hello", ("11.0.0.1", 7))
        self.network.advance(1.0)
        self.assertEqual(len(self.one.received), 1)

    def test_log_limit(self) -> None:
        """
        The log can be limited or disabled; observers get everything.
        """
        for limit, kept in ((None, 25), (10, 15), (0, 0)):
            network = MemoryUDPNetwork(self.clock, log_limit=limit)
            reported: list[Datagram] = []
            network.observers.append(reported.append)
            port = network.reactor("10.0.0.1").listenUDP(1, Recorder(self.clock))
            for number in range(25):
                port.write(b"%d" % number, ("10.0.0.2", 2))
            self.assertEqual((len(network.log), len(reported)), (kept, 25))
            self.assertEqual(network.log, reported[25 - kept :])

    def test_loss(self) -> None:
        """
        About the given share is lost, and the same datagrams with the same seed.
        """

        def arrived() -> list[bytes]:
            network = MemoryUDPNetwork(self.clock, loss=0.3, rng=Random(3))
            recorder = Recorder(self.clock)
            port = network.reactor("10.0.0.1").listenUDP(1, recorder)
            for number in range(200):
                port.write(b"%d" % number, ("10.0.0.1", 1))
            network.advance(1.0)
            return [data for data, _, _ in recorder.received]

        first = arrived()
        self.assertTrue(110 < len(first) < 170, len(first))
        self.assertEqual(arrived(), first)

    def test_ports(self) -> None:
        """
        A port can be bound once; 0 selects a free one; a stopped one is free.
        """
        reactor = self.network.reactor("10.0.0.1")
        with self.assertRaises(CannotListenError):
            reactor.listenUDP(1000, Recorder(self.clock))
        with self.assertRaises(CannotListenError):
            reactor.listenUDP(0, Recorder(self.clock), interface="10.0.0.2")
        ports = {reactor.listenUDP(0, Recorder(self.clock)).getHost().port for _ in range(3)}
        self.assertEqual(len(ports), 3)
        self.successResultOf(self.port_one.stopListening())
        self.successResultOf(self.port_one.stopListening())
        self.assertEqual(self.one.stopped, 1)
        reactor.listenUDP(1000, Recorder(self.clock), interface="10.0.0.1")

    def test_ipv6(self) -> None:
        """
        A host may have an address of each family; the interface selects one.
        """
        reactor = self.network.reactor("10.0.0.3", "2001:db8::3")
        one, two = Recorder(self.clock), Recorder(self.clock)
        four = reactor.listenUDP(1, one)
        six = reactor.listenUDP(1, two, interface="::")
        self.assertEqual(four.getHost(), IPv4Address("UDP", "10.0.0.3", 1))
        self.assertEqual(six.getHost(), IPv6Address("UDP", "2001:db8::3", 1))
        six.write(b"x", ("2001:db8::3", 1))
        self.network.advance(1.0)
        self.assertEqual([len(one.received), len(two.received)], [0, 1])
        alone = self.network.reactor("2001:db8::4")
        three = Recorder(self.clock)
        self.assertEqual(alone.listenUDP(1, three, interface="::").getHost().host, "2001:db8::4")

    def test_names(self) -> None:
        """
        Names resolve after the latency; an unknown one to nothing; one with the value
        C{None} never; a cancelled resolution gives nothing.
        """
        self.network.names = {"a": ("10.0.0.7", "10.0.0.8"), "never": None}
        reactor = self.network.reactor("10.0.0.1")
        receivers = {name: Receiver() for name in ("a", "unknown", "never", "cancelled")}
        self.network.names["cancelled"] = ("10.0.0.9",)
        for name, receiver in receivers.items():
            reactor.nameResolver.resolveHostName(receiver, name, 5, [IPv4Address], "UDP")
        resolution = receivers["cancelled"].resolution
        assert resolution is not None
        resolution.cancel()
        self.network.advance(1.0)
        self.assertEqual(
            receivers["a"].addresses,
            [IPv4Address("UDP", "10.0.0.7", 5), IPv4Address("UDP", "10.0.0.8", 5)],
        )
        self.assertEqual(
            [(r.complete, len(r.addresses)) for r in receivers.values()],
            [(True, 2), (True, 0), (False, 0), (False, 0)],
        )
