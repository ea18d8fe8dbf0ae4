"""
An in-memory TCP network, driven by a C{twisted.internet.task.Clock}.

Rules:
  - Each host has its own reactor; all share one clock.
  - Bytes arrive in order, C{latency} seconds after they were written.
  - The client is connected after two latencies, the server after three.
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

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import (
    CannotListenError,
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
    NotConnectingError,
    TimeoutError,
    UserError,
)
from twisted.internet.interfaces import (
    IConnector,
    IConsumer,
    IDelayedCall,
    IListeningPort,
    IProtocol,
    IPushProducer,
    IReactorTCP,
    IReactorTime,
    ITCPTransport,
)
from twisted.internet.protocol import ClientFactory, Factory, Protocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from dtt.testing.net.clock import advance
from dtt.testing.net.distance import OfHosts, between

#: The first ephemeral port (IANA's dynamic range).
_FIRST_FREE = 49152

#: Bytes that a receiver accepts without reading them (a usual receive buffer).
WINDOW = 65536

#: Bytes above which a transport pauses its producer (twisted.internet.abstract.FileDescriptor).
BUFFER_SIZE = 65536


def _address(host: str, port: int) -> IPv4Address | IPv6Address:
    return IPv6Address("TCP", host, port) if ":" in host else IPv4Address("TCP", host, port)


@implementer(ITCPTransport, IConsumer, IPushProducer)
class MemoryTCPTransport:
    """
    One end of a connection. See L{MemoryTCPNetwork}.

    @ivar other: the other end; C{None} before the connection is made.
    @ivar protocol: the protocol connected to this end.
    @ivar on_lost: called with the reason once the connection is lost.
    @ivar disconnecting: whether L{loseConnection} or L{abortConnection} was called.
    @ivar no_delay: the value that L{setTcpNoDelay} set.
    """

    def __init__(self, network: MemoryTCPNetwork, host: tuple[str, int], peer: tuple[str, int]) -> None:
        self._network = network
        self._host, self._peer = host, peer
        self.other: MemoryTCPTransport | None = None
        self.protocol: Any = None
        self.on_lost: Callable[[Failure], None] = lambda reason: None
        self.disconnecting = False
        self.no_delay = False
        self._buffer = bytearray()
        self._unread = bytearray()
        self._in_flight = 0
        # Events that are on the way to the other end, in order.
        self._on_the_way: deque[Callable[[], None]] = deque()
        self._reading = True
        self._ended: Failure | None = None
        self._lost = False
        self._producer: Any = None
        self._streaming = False
        self._producer_paused = False

    @property
    def buffered(self) -> int:
        """
        The number of bytes written that the network has not accepted.
        """
        return len(self._buffer)

    # ITransport and related interfaces

    def write(self, data: bytes) -> None:
        """
        Send C{data} as soon as the peer has room for it.
        """
        if self._lost or (self.disconnecting and self._producer is None):
            return
        self._buffer += data
        self._push()
        if len(self._buffer) > BUFFER_SIZE and self._streaming and not self._producer_paused:
            self._producer_paused = True
            self._producer.pauseProducing()

    def writeSequence(self, data: Sequence[bytes]) -> None:  # type: ignore[override]
        """
        Send the concatenated pieces.
        """
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """
        Close once everything is written and no producer is registered.
        """
        self.disconnecting = True
        self._close_if_done()

    def abortConnection(self) -> None:
        """
        Close immediately, without sending what is buffered.
        """
        if not self._lost:
            self.disconnecting = True
            self._buffer.clear()
            self._notify_other(ConnectionLost())
            self._reading = False
            self._later_lost(ConnectionAborted())

    def getPeer(self) -> IPv4Address | IPv6Address:
        """
        The other end's address.
        """
        return _address(*self._peer)

    def getHost(self) -> IPv4Address | IPv6Address:
        """
        This end's address.
        """
        return _address(*self._host)

    def setTcpNoDelay(self, enabled: bool) -> None:
        """
        Set L{no_delay}, without further effect.
        """
        self.no_delay = bool(enabled)

    def getTcpNoDelay(self) -> bool:
        """
        Return L{no_delay}.
        """
        return self.no_delay

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """
        Do nothing.
        """

    def getTcpKeepAlive(self) -> bool:
        """
        Return false: keep-alive is not simulated.
        """
        return False

    def loseWriteConnection(self) -> None:
        """
        Raise C{NotImplementedError}: half-close is not supported.
        """
        raise NotImplementedError("half-close is not supported")

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        Register a streaming producer.

        @raise RuntimeError: a producer is already registered.
        @raise NotImplementedError: it is a pull producer.
        """
        if self._producer is not None:
            raise RuntimeError("a producer is registered already")
        if not streaming:
            raise NotImplementedError("pull producers are not supported")
        if self._lost:
            producer.stopProducing()
            return
        self._producer, self._streaming, self._producer_paused = producer, streaming, False

    def unregisterProducer(self) -> None:
        """
        Remove the producer, and close if L{loseConnection} has been waiting for this.
        """
        self._producer, self._streaming = None, False
        if self.disconnecting:
            self._close_if_done()

    def pauseProducing(self) -> None:
        """
        Stop reading.
        """
        self._reading = False

    def resumeProducing(self) -> None:
        """
        Read again, from the next turn of the reactor.
        """
        if not self._lost and not self._reading:
            self._reading = True
            self._network.clock.callLater(0, self._read)

    def stopProducing(self) -> None:
        """
        Close, as L{loseConnection} does.
        """
        self.loseConnection()

    # Internals

    def _made(self, protocol: IProtocol) -> None:
        self.protocol = protocol
        self._network._transports[self] = None
        protocol.makeConnection(self)

    def _push(self) -> None:
        """
        Send as many buffered bytes as the other end has room for.
        """
        other = self.other
        if other is None or self._lost:
            return
        room = WINDOW - len(other._unread) - self._in_flight
        if room <= 0 or not self._buffer:
            return
        data = bytes(self._buffer[:room])
        del self._buffer[:room]
        self._in_flight += len(data)
        self._send(partial(self._arrive, other, data))

    def _send(self, event: Callable[[], None]) -> None:
        """
        Run an event at the other end, after all that was sent before.
        """
        self._on_the_way.append(event)
        self._network.clock.callLater(self._network.delay(self._host[0], self._peer[0]), self._happen)

    def _happen(self) -> None:
        self._on_the_way.popleft()()

    def _arrive(self, other: MemoryTCPTransport, data: bytes) -> None:
        self._in_flight -= len(data)
        if self._network.is_silent(self._host[0], self._peer[0]) or other._lost:
            return
        other._unread += data
        other._read()

    def _read(self) -> None:
        while self._reading and self._unread and not self._lost:
            data = bytes(self._unread)
            self._unread.clear()
            self.protocol.dataReceived(data)
            if self.other is not None:
                self.other._taken()
        if self._reading and self._ended is not None:
            self._connection_lost(self._ended)

    def _taken(self) -> None:
        """
        Continue sending: the other end has room again.
        """
        self._push()
        if self._buffer or self._lost:
            return
        if self._streaming and self._producer_paused:
            self._producer_paused = False
            self._producer.resumeProducing()
        self._close_if_done()

    def _close_if_done(self) -> None:
        if self.disconnecting and self._producer is None and not self._buffer and not self._lost:
            self._notify_other(ConnectionDone())
            self._later_lost(ConnectionDone())

    def _notify_other(self, reason: Exception) -> None:
        other = self.other
        if other is not None and not self._network.is_silent(self._host[0], self._peer[0]):
            self._send(partial(other._end, Failure(reason)))

    def _end(self, reason: Failure) -> None:
        if self._ended is None:
            self._ended = reason
        self._read()

    def _later_lost(self, reason: Exception) -> None:
        self._network.clock.callLater(0, self._connection_lost, Failure(reason))

    def _connection_lost(self, reason: Failure) -> None:
        if self._lost:
            return
        self._lost = True
        self._network._transports.pop(self, None)
        self._buffer.clear()
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()
        self.protocol.connectionLost(reason)
        self.on_lost(reason)


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
        return _address(*self._address)


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
        self._factory.doStart()
        self._factory.startedConnecting(self)
        if network.is_silent(self._source[0], self._target[0]):
            self._call = network.clock.callLater(self._timeout, self._failed, TimeoutError())
        else:
            there, back = (self._source[0], self._target[0]), (self._target[0], self._source[0])
            delay = network.delay(*there) + network.delay(*back)
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
        return _address(*self._target)

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
        protocol = self._factory.buildProtocol(_address(*self._target))
        near._made(Protocol() if protocol is None else protocol)
        if protocol is None:
            near.loseConnection()

    def _accept(self, far: MemoryTCPTransport) -> None:
        network = self._network
        if network.is_silent(self._source[0], self._target[0]):
            return
        port = network._ports.get(self._target)
        protocol = None if port is None else port.factory.buildProtocol(_address(*self._source))
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
    """

    def __init__(self, network: MemoryTCPNetwork, host: str) -> None:
        self._network = network
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
        if port == 0:
            port = next(number for number in range(_FIRST_FREE, 65536) if (self.host, number) not in ports)
        if (self.host, port) in ports or interface not in ("", "0.0.0.0", "::", self.host):
            raise CannotListenError(interface, port, OSError(98, "Address already in use"))
        bound = ports[self.host, port] = MemoryTCPPort(self._network, self.host, port, factory)
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
        source = (self.host, self._network._next_port())
        connector = MemoryTCPConnector(self._network, source, (host, port), factory, timeout)
        connector.connect()
        return connector


class MemoryTCPNetwork:
    """
    Hosts that can connect to each other.

    @ivar clock: the clock of all hosts.
    @ivar latency: the one-way latency in seconds: one for all pairs of hosts, or a
        function of them.
    @ivar silent: hosts without a network: whatever they send and is sent to them is lost,
        and connections to them time out.
    """

    def __init__(self, clock: Clock, *, latency: OfHosts = 0.01) -> None:
        self.clock = clock
        self.latency = latency
        self.silent: set[str] = set()
        self._ports: dict[tuple[str, int], MemoryTCPPort] = {}
        self._transports: dict[MemoryTCPTransport, None] = {}
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
        return [each for each in self._transports if host in (None, each._host[0])]

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

    def is_silent(self, one: str, other: str) -> bool:
        """
        Is everything from C{one} to C{other} lost?
        """
        return one in self.silent or other in self.silent

    def delay(self, one: str, other: str) -> float:
        """
        The seconds that bytes take from C{one} to C{other}.
        """
        return between(self.latency, one, other)

    def advance(self, seconds: float) -> None:
        """
        Advance the clock event by event: an event caused by another one within C{seconds}
        runs at its own time.
        """
        advance(self.clock, seconds)

    def _next_port(self) -> int:
        self._last_port += 1
        return self._last_port
