"""
An in-memory TCP network, driven by a C{twisted.internet.task.Clock}.

Rules:
  - Each host has its own reactor; all share one clock.
  - Bytes arrive in order, C{latency} seconds after they were written. A lost segment is
    sent again, and a late one waited for: both delay what follows. A second copy is
    dropped by the receiver, as TCP does.
  - The client is connected after two latencies, the server after three.
  - Without a network, data is sent again until there is one, or the connection is lost
    after a quarter of an hour.
  - A receiver that does not read closes its window. The sender's transport then behaves
    as Twisted's does: it buffers, pauses its producer above 64 KiB, and resumes it when
    the buffer is empty.
  - C{loseConnection} writes what is buffered first, C{abortConnection} drops it.
  - A connection's protocol is never called from within a call that it makes.

Example::

    network = MemoryTCPNetwork(Clock())
    network.reactor("10.0.0.1").listenTCP(80, factory)
    TCP4ClientEndpoint(network.reactor("10.0.0.2"), "10.0.0.1", 80).connect(client)
    network.advance(1.0)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Any, Final

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import (
    CannotListenError,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
    NotConnectingError,
    TimeoutError,
    UserError,
)
from twisted.internet.interfaces import (
    IConnector,
    IDelayedCall,
    IListeningPort,
    IReactorTCP,
    IReactorTime,
)
from twisted.internet.protocol import ClientFactory, Factory, Protocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from dtt.testing.net.clock import advance
from dtt.testing.net.distance import Division, OfHosts, between
from dtt.testing.net.nat import NATs
from dtt.testing.net.tcp_transport import MemoryTCPTransport, tcp_address

#: The first ephemeral port (IANA's dynamic range).
_FIRST_FREE = 49152

#: Seconds after which a lost segment is sent again, beyond a round trip, and a lost request to connect
#: (RFC 6298 with Linux' minimum of 0.2 s); each further loss doubles them.
RETRANSMIT: Final = 0.2
CONNECT_AGAIN: Final = 1.0

#: A segment is lost at most this often in a row (Linux: C{tcp_syn_retries} 6).
_MAX_LOSSES: Final = 6


@implementer(IListeningPort)
class MemoryTCPPort:
    """
    A listening port. See L{MemoryTCPNetwork}.

    @ivar factory: builds a protocol for each incoming connection.
    """

    def __init__(self, network: MemoryTCPNetwork, host: str, port: int, factory: Factory) -> None:
        self._network = network
        self._address = (host, port)
        self.factory = factory

    def startListening(self) -> None:
        """
        Do nothing: the port is bound from the start.
        """

    def stopListening(self) -> Deferred[None]:
        """
        Free the address. Existing connections stay open.
        """
        if self._network._ports.pop(self._address, None) is not None:
            self.factory.doStop()
        return succeed(None)

    def getHost(self) -> IPv4Address | IPv6Address:
        """
        The address of the port.
        """
        return tcp_address(*self._address)


@implementer(IConnector)
class MemoryTCPConnector:
    """
    A connection attempt, then the connection. See L{MemoryTCPNetwork}.
    """

    def __init__(
        self,
        network: MemoryTCPNetwork,
        source: tuple[str, int],
        target: tuple[str, int],
        factory: ClientFactory,
        timeout: float,
    ) -> None:
        self._network = network
        self._source, self._target = source, target
        self._factory: Any = factory
        self._timeout = timeout
        self._call: IDelayedCall | None = None
        self._transport: MemoryTCPTransport | None = None

    def connect(self) -> None:
        """
        Start the attempt.
        """
        network = self._network
        for observer in network.observers:
            observer(self._source, self._target)
        self._factory.doStart()
        self._factory.startedConnecting(self)
        one, other = self._source[0], self._target[0]
        if network.is_silent(one, other) or not network.can_connect(one, other):
            self._call = network.clock.callLater(self._timeout, self._failed, TimeoutError())
        else:
            delay = network.connecting(one, other)
            if delay >= self._timeout:
                self._call = network.clock.callLater(self._timeout, self._failed, TimeoutError())
            else:
                self._call = network.clock.callLater(delay, self._answered)

    def stopConnecting(self) -> None:
        """
        Abort the attempt.

        @raise NotConnectingError: there is no attempt in progress.
        """
        if self._call is None or not self._call.active():
            raise NotConnectingError("we're not trying to connect")
        self._call.cancel()
        self._failed(UserError())

    def disconnect(self) -> None:
        """
        Abort the attempt, or close the connection.
        """
        if self._transport is not None:
            self._transport.loseConnection()
        else:
            self.stopConnecting()

    def getDestination(self) -> IPv4Address | IPv6Address:
        """
        The address that this connector connects to.
        """
        return tcp_address(*self._target)

    def _answered(self) -> None:
        port = self._network._ports.get(self._target)
        if port is None:
            self._failed(ConnectionRefusedError())
            return
        near = MemoryTCPTransport(self._network, self._source, self._target)
        far = MemoryTCPTransport(self._network, self._target, self._source)
        near.other, far.other = far, near
        self._transport = near
        near.on_lost = self._lost
        # The last segment of the handshake: it precedes all data.
        near._send(partial(self._accept, far))
        protocol = self._factory.buildProtocol(tcp_address(*self._target))
        near._made(Protocol() if protocol is None else protocol)
        if protocol is None:
            near.loseConnection()

    def _accept(self, far: MemoryTCPTransport) -> None:
        network = self._network
        if network.is_silent(self._source[0], self._target[0]):
            return
        port = network._ports.get(self._target)
        protocol = None if port is None else port.factory.buildProtocol(tcp_address(*self._source))
        if protocol is None:
            far._lost = True
            far._notify_other(ConnectionLost() if port is None else ConnectionDone())
        else:
            far._made(protocol)

    def _failed(self, reason: Exception) -> None:
        self._factory.clientConnectionFailed(self, Failure(reason))
        self._factory.doStop()

    def _lost(self, reason: Failure) -> None:
        self._factory.clientConnectionLost(self, reason)
        self._factory.doStop()


@implementer(IReactorTCP, IReactorTime)
class MemoryTCPReactor:
    """
    The reactor of one host, with what a TCP service needs.

    @ivar host: the host's IP address.
    @ivar host6: its IPv6 address, if it has two addresses.
    """

    def __init__(self, network: MemoryTCPNetwork, host: str, host6: str | None = None) -> None:
        self._network = network
        self.host = host
        self.host6 = host6

    def move(self, host: str) -> None:
        """
        Replace the address of this host, L{host}.  Its ports stay bound; its connections are dead.
        """
        ports = self._network._ports
        for old in [address for address in ports if address[0] == self.host]:
            bound = ports[host, old[1]] = ports.pop(old)
            bound._address = (host, old[1])
        self._network.silent.add(self.host)
        self.host = host

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

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> MemoryTCPPort:
        """
        Bind C{port} of this host; 0: the next free port.

        @raise CannotListenError: the port is in use, or C{interface} is not this host.
        """
        ports = self._network._ports
        host = self.host if self.host6 is None or ":" not in interface else self.host6
        if port == 0:
            port = next(number for number in range(_FIRST_FREE, 65536) if (host, number) not in ports)
        if (host, port) in ports or interface not in ("", "0.0.0.0", "::", host):
            raise CannotListenError(interface, port, OSError(98, "Address already in use"))
        bound = ports[host, port] = MemoryTCPPort(self._network, host, port, factory)
        factory.doStart()
        return bound

    def connectTCP(
        self,
        host: str,
        port: int,
        factory: Any,
        timeout: float = 30.0,
        bindAddress: tuple[str, int] | None = None,  # noqa: N803 - Twisted's name
    ) -> MemoryTCPConnector:
        """
        Connect to an IP address. This takes two latencies.
        """
        own = self.host if self.host6 is None or ":" not in host else self.host6
        source = (own, self._network._next_port())
        connector = MemoryTCPConnector(self._network, source, (host, port), factory, timeout)
        connector.connect()
        return connector


class MemoryTCPNetwork:
    """
    Hosts that can connect to each other.

    @ivar clock: the clock of all hosts.
    @ivar latency: the one-way latency in seconds: one for all pairs of hosts, or a
        function of them.
    @ivar nats: the NATs and firewalls: connections from outside to a host behind one are
        not answered; see L{dtt.testing.net.nat}.
    @ivar loss: the share of segments lost, 0..1: one value or a function, as above.
    @ivar reordering: the share of segments that are late, likewise.
    @ivar late: the most seconds by which these are late.
    @ivar silent: hosts without a network: whatever they send and is sent to them is lost,
        and connections to them time out.
    @ivar division: which hosts don't reach each other, as if one of them were in C{silent}.
    @ivar open: the open ends of all connections, in the order of their start.
    @ivar observers: called with the source and the target of each attempt to connect.
    """

    def __init__(self, clock: Clock, *, latency: OfHosts = 0.01, rng: Random | None = None) -> None:
        """
        @param clock: the clock of all hosts.
        @param latency: see the attribute.
        @param rng: decides which segments are lost or late.
        """
        self.clock = clock
        self.latency = latency
        self.loss: OfHosts = 0.0
        self.reordering: OfHosts = 0.0
        self.late = 0.2
        self.observers: list[Callable[[tuple[str, int], tuple[str, int]], object]] = []
        self._rng = Random(0) if rng is None else rng
        self.silent: set[str] = set()
        self.division = Division()
        self.nats: NATs | None = None
        self._ports: dict[tuple[str, int], MemoryTCPPort] = {}
        self.open: dict[MemoryTCPTransport, None] = {}
        self._last_port = _FIRST_FREE

    def reactor(self, host: str) -> MemoryTCPReactor:
        """
        A reactor for the host with this IP address.
        """
        return MemoryTCPReactor(self, host)

    def transports(self, host: str | None = None) -> list[MemoryTCPTransport]:
        """
        The open ends of connections: all, or those at C{host}.
        """
        return [each for each in self.open if host in (None, each._host[0])]

    def addresses(self) -> list[tuple[str, int]]:
        """
        The addresses of all listening ports.
        """
        return list(self._ports)

    def cut(self, one: str, other: str) -> None:
        """
        Reset all connections between two hosts.
        """
        for end in self.transports():
            if {end._host[0], end._peer[0]} == {one, other}:
                end._connection_lost(Failure(ConnectionLost()))

    def can_connect(self, one: str, other: str) -> bool:
        """
        Return whether a connection from one host to another is let through by NATs.
        """
        return self.nats is None or self.nats.can_connect(one, other)

    def is_silent(self, one: str, other: str) -> bool:
        """
        Is everything from C{one} to C{other} lost?
        """
        return one in self.silent or other in self.silent or self.division.separates(one, other)

    def delay(self, one: str, other: str) -> float:
        """
        The seconds that bytes take from C{one} to C{other}.
        """
        return between(self.latency, one, other)

    def transit(self, one: str, other: str) -> float:
        """
        The seconds that a segment takes from C{one} to C{other}, including retransmissions.
        """
        delay = self.delay(one, other)
        reordering = between(self.reordering, one, other)
        if reordering and self._rng.random() < reordering:
            delay += self._rng.uniform(0.0, self.late)
        losses = self._losses(one, other)
        if losses:
            delay += (pow(2.0, losses) - 1) * (self.delay(other, one) + self.delay(one, other) + RETRANSMIT)
        return delay

    def connecting(self, one: str, other: str) -> float:
        """
        The seconds until a request to connect is answered.
        """
        losses = self._losses(one, other) + self._losses(other, one)
        return self.delay(one, other) + self.delay(other, one) + CONNECT_AGAIN * (pow(2.0, losses) - 1)

    def vanish(self, host: str, is_reset: bool) -> None:
        """
        Free all ports of a host, and end its connections, without telling its protocols:
        its process is dead.

        @param is_reset: whether the machine still runs, and resets the connections.
        """
        for address in [each for each in self._ports if each[0] == host]:
            del self._ports[address]
        for end in self.transports(host):
            end._vanish(is_reset)

    def _losses(self, one: str, other: str) -> int:
        loss = between(self.loss, one, other)
        losses = 0
        while loss and losses < _MAX_LOSSES and self._rng.random() < loss:
            losses += 1
        return losses

    def advance(self, seconds: float) -> None:
        """
        Advance the clock event by event: an event caused by another one within C{seconds}
        runs at its own time.
        """
        advance(self.clock, seconds)

    def _next_port(self) -> int:
        self._last_port += 1
        return self._last_port
