"""
An in-memory UDP network, driven by a C{twisted.internet.task.Clock}.

Rules:
  - Each host has its own reactor and an IPv4 address, an IPv6 address or one of each; all
    share one clock.
  - A datagram arrives C{latency} seconds after it was written, or is lost; it may arrive
    twice, or late, behind others. The same seed gives the same faults.
  - Dead addresses neither send nor receive.
  - Hosts may be behind NATs and firewalls.
  - There may be further hosts that have no reactor and only answer (C{beyond}).

Code under test runs unmodified: it calls C{listenUDP}, C{callLater} and C{seconds}.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Literal

from attrs import frozen
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
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
from zope.interface import implementer

from dtt.testing.net.clock import advance
from dtt.testing.net.distance import Beyond, Division, OfHosts, between
from dtt.testing.net.nat import NATs

#: The host that resolves names, for latencies that depend on the host.
_RESOLVER = "resolver"

#: The first ephemeral port (IANA's dynamic range).
_FIRST_FREE = 49152

#: The number of datagrams that the log keeps. Guess: the minutes before a failure.
LOG_LIMIT = 20000


def _address(kind: Literal["TCP", "UDP"], host: str, port: int) -> IPv4Address | IPv6Address:
    return IPv6Address(kind, host, port) if ":" in host else IPv4Address(kind, host, port)


@frozen(slots=True)
class Datagram:
    """
    A datagram written to the network.

    @ivar source: host and port.
    @ivar destination: host and port.
    @ivar data: the UDP payload.
    """

    source: tuple[str, int]
    destination: tuple[str, int]
    data: bytes


@implementer(IListeningPort, IUDPTransport)
class MemoryUDPPort:
    """
    A bound UDP port. See L{MemoryUDPNetwork}.

    @ivar protocol: receives the datagrams.
    """

    maxThroughput = 256 * 1024

    def __init__(self, network: MemoryUDPNetwork, protocol: DatagramProtocol, host: str, port: int) -> None:
        self._network = network
        self._address = (host, port)
        self.protocol = protocol

    def startListening(self) -> None:
        """
        Do nothing: the port is bound from the start.
        """

    def getHost(self) -> IPv4Address | IPv6Address:
        """
        The address of the port.
        """
        return _address("UDP", *self._address)

    def write(self, packet: bytes, addr: tuple[str, int] | None = None) -> None:
        """
        Send C{packet} to C{addr}.
        """
        assert addr is not None, "connected ports are not supported"
        self._network._write(Datagram(self._address, addr, packet))

    def stopListening(self) -> Deferred[None]:
        """
        Free the address and stop the protocol.
        """
        if self._network._ports.get(self._address) is self:
            del self._network._ports[self._address]
            self.protocol.doStop()
        return succeed(None)

    def loseConnection(self) -> None:
        """
        Free the address, as L{stopListening} does.
        """
        self.stopListening()

    def connect(self, host: str, port: int) -> None:
        """
        Raise C{NotImplementedError}: connected ports are not supported.
        """
        raise NotImplementedError("connected ports are not supported")

    def setBroadcastAllowed(self, enabled: bool) -> None:
        """
        Do nothing: there is no broadcast.
        """

    def getBroadcastAllowed(self) -> bool:
        """
        Return false: there is no broadcast.
        """
        return False


@implementer(IHostResolution)
class _Resolution:
    def __init__(self, name: str) -> None:
        self.name = name
        self.call: IDelayedCall | None = None

    def cancel(self) -> None:
        if self.call is not None and self.call.active():
            self.call.cancel()


@implementer(IReactorUDP, IReactorTime, IReactorPluggableNameResolver, IHostnameResolver)
class MemoryUDPReactor:
    """
    The reactor of one host, with what a UDP service needs.

    @ivar host: the host's IP address.
    @ivar host6: the host's IPv6 address, if it has two addresses.
    @ivar nameResolver: the installed resolver; by default it resolves
        C{MemoryUDPNetwork.names}.
    """

    def __init__(self, network: MemoryUDPNetwork, host: str, host6: str | None = None) -> None:
        self._network = network
        self.host = host
        self.host6 = host6
        self.nameResolver: IHostnameResolver = self

    def seconds(self) -> float:
        """
        The network's time.
        """
        return self._network.clock.seconds()

    def callLater(
        self,
        delay: float,
        callable: Callable[..., object],  # noqa: A002 - Twisted's name
        *args: Any,
        **kw: Any,
    ) -> IDelayedCall:
        """
        Schedule a call on the network's clock.
        """
        return self._network.clock.callLater(delay, callable, *args, **kw)

    def getDelayedCalls(self) -> Sequence[IDelayedCall]:
        """
        The pending calls of all hosts and of the network.
        """
        return self._network.clock.getDelayedCalls()

    def listenUDP(
        self,
        port: int,
        protocol: DatagramProtocol,
        interface: str = "",
        maxPacketSize: int = 8192,  # noqa: N803 - Twisted's name
    ) -> MemoryUDPPort:
        """
        Bind C{port} of this host; 0: the next free port.

        @param port: 0..65535.
        @param protocol: receives the datagrams.
        @param interface: this host's address; empty or C{::}: any of its addresses.
        @param maxPacketSize: has no effect.
        @raise CannotListenError: the port is in use, or C{interface} is not this host.
        """
        host = self.host if self.host6 is None or ":" not in interface else self.host6
        if interface == "::" and ":" in host:
            interface = ""
        return self._network._listen(host, port, protocol, interface)

    def move(self, host: str) -> None:
        """
        Replace the address of this host, L{host}.  Its ports stay bound.
        """
        self._network._move(self.host, host)
        self.host = host

    def installNameResolver(self, resolver: IHostnameResolver) -> IHostnameResolver:
        """
        Replace the resolver and return the previous one.
        """
        previous, self.nameResolver = self.nameResolver, resolver
        return previous

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,  # noqa: N803 - Twisted's names
        hostName: str,  # noqa: N803
        portNumber: int = 0,  # noqa: N803
        addressTypes: Sequence[type[IAddress]] | None = None,  # noqa: N803
        transportSemantics: str = "TCP",  # noqa: N803
    ) -> IHostResolution:
        """
        Resolve a name from C{MemoryUDPNetwork.names}. A name with the value C{None} never
        completes; an unknown name completes without an address.
        """
        resolution = _Resolution(hostName)
        addresses: Sequence[str] | None = self._network.names.get(hostName, ())
        resolutionReceiver.resolutionBegan(resolution)
        if addresses is not None:

            def answer() -> None:
                for host in addresses:
                    address = _address("UDP" if transportSemantics == "UDP" else "TCP", host, portNumber)
                    if addressTypes is None or type(address) in addressTypes:
                        resolutionReceiver.addressResolved(address)
                resolutionReceiver.resolutionComplete()

            latency = between(self._network.latency, self.host, _RESOLVER)
            resolution.call = self._network.clock.callLater(latency, answer)
        return resolution


class MemoryUDPNetwork:
    """
    Hosts that can send datagrams to each other.

    @ivar clock: the clock of all hosts.
    @ivar latency: seconds from write to arrival: one value for all pairs of hosts, or a
        function of them.
    @ivar loss: the share of datagrams that are lost, 0..1: one value or a function, as
        above.
    @ivar duplication: the share of datagrams that arrive twice, likewise.
    @ivar reordering: the share of datagrams that are late, likewise.
    @ivar late: the most seconds by which these, and second copies, are late.
    @ivar beyond: hosts without a reactor that answer datagrams.
    @ivar nats: the NATs and firewalls; see L{dtt.testing.net.nat}.
    @ivar dead: addresses, or whole hosts, that neither send nor receive.
    @ivar division: which hosts don't reach each other.
    @ivar names: host names and their addresses; C{None}: the resolution never completes.
    @ivar log: the datagrams written, including those lost.
    @ivar observers: called with every datagram that is written.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        latency: OfHosts = 0.01,
        loss: OfHosts = 0.0,
        rng: Random | None = None,
        beyond: Beyond | None = None,
        log_limit: int | None = LOG_LIMIT,
    ) -> None:
        """
        @param clock: the clock of all hosts.
        @param latency: see the attribute.
        @param loss: see the attribute.
        @param rng: decides which datagrams are lost.
        @param beyond: see the attribute.
        @param log_limit: keep at least this many of the last datagrams in L{log}, and
            drop older ones at times; C{None}: keep all; 0: keep none.
        """
        self.clock = clock
        self.latency = latency
        self.loss = loss
        self.duplication: OfHosts = 0.0
        self.reordering: OfHosts = 0.0
        self.late = 0.2
        self.beyond = beyond
        self.nats = NATs()
        self.dead: set[tuple[str, int] | str] = set()
        self.division = Division()
        self.names: dict[str, Sequence[str] | None] = {}
        self.log: list[Datagram] = []
        self.observers: list[Callable[[Datagram], object]] = []
        self._log_limit = log_limit
        self._rng = Random(0) if rng is None else rng
        self._ports: dict[tuple[str, int], MemoryUDPPort] = {}

    def reactor(self, host: str, host6: str | None = None) -> MemoryUDPReactor:
        """
        A reactor for the host with this IP address.

        @param host6: an additional IPv6 address.
        """
        return MemoryUDPReactor(self, host, host6)

    def addresses(self) -> list[tuple[str, int]]:
        """
        All addresses that are bound now.
        """
        return list(self._ports)

    def advance(self, seconds: float) -> None:
        """
        Advance the clock event by event: an event caused by another one within C{seconds}
        runs at its own time.
        """
        advance(self.clock, seconds)

    def _listen(self, host: str, port: int, protocol: DatagramProtocol, interface: str) -> MemoryUDPPort:
        if port == 0:
            port = next(number for number in range(_FIRST_FREE, 65536) if (host, number) not in self._ports)
        if (host, port) in self._ports or interface not in ("", host):
            raise CannotListenError(interface, port, OSError(errno.EADDRINUSE, "Address already in use"))
        bound = self._ports[host, port] = MemoryUDPPort(self, protocol, host, port)
        protocol.makeConnection(bound)
        return bound

    def vanish(self, host: str) -> None:
        """
        Free all ports of a host without telling its protocols: its process is dead.
        """
        for address in [each for each in self._ports if each[0] == host]:
            del self._ports[address]

    def _move(self, old: str, new: str) -> None:
        for host, port in [address for address in self._ports if address[0] == old]:
            bound = self._ports[new, port] = self._ports.pop((host, port))
            bound._address = (new, port)

    def _is_dead(self, address: tuple[str, int]) -> bool:
        return address in self.dead or address[0] in self.dead

    def _write(self, datagram: Datagram) -> None:
        self._record(datagram)
        source, destination = datagram.source[0], datagram.destination[0]
        if self._is_dead(datagram.source) or self.division.separates(source, destination):
            return
        loss = between(self.loss, source, destination)
        if loss and self._rng.random() < loss:
            return
        delays = self._delays(source, destination)
        if self.nats:
            way = self.nats.way_out(datagram.source, datagram.destination)
            if way is None:
                return
            datagram = Datagram(*way, datagram.data)
            destination = datagram.destination[0]
        beyond = self.beyond
        for delay in delays:
            if beyond is not None and beyond.has(destination):
                self.clock.callLater(delay, self._answer, beyond, datagram)
            else:
                self.clock.callLater(delay, self._arrive, datagram)

    def _delays(self, source: str, destination: str) -> tuple[float, ...]:
        # After how many seconds a datagram arrives, once or twice.
        latency = between(self.latency, source, destination)
        rng = self._rng
        reordering = between(self.reordering, source, destination)
        if reordering and rng.random() < reordering:
            latency += rng.uniform(0.0, self.late)
        duplication = between(self.duplication, source, destination)
        if duplication and rng.random() < duplication:
            return latency, latency + rng.uniform(0.0, self.late)
        return (latency,)

    def _record(self, datagram: Datagram) -> None:
        limit = self._log_limit
        if limit != 0:
            self.log.append(datagram)
            if limit is not None and len(self.log) >= 2 * limit:
                del self.log[:-limit]
        for observer in self.observers:
            observer(datagram)

    def _answer(self, beyond: Beyond, datagram: Datagram) -> None:
        source, destination = datagram.source, datagram.destination
        if self._is_dead(destination):
            return
        reply = beyond.answer(datagram.data, source, destination, self.clock.seconds())
        if reply is not None:
            self._write(Datagram(destination, source, reply))

    def _arrive(self, datagram: Datagram) -> None:
        destination = datagram.destination
        if self.nats:
            inside = self.nats.way_in(datagram.source, destination)
            if inside is None:
                return
            destination = inside
        bound = self._ports.get(destination)
        if bound is not None and not self._is_dead(destination):
            bound.protocol.datagramReceived(datagram.data, datagram.source)
