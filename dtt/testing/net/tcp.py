"""
A TCP network in memory, under L{twisted.internet.task.Clock}.

Rules: each host has a reactor of its own, all share one clock; bytes arrive in
order, C{latency} seconds after they were written; who connects is connected
after two latencies, who is connected to after three; a receiver that does not
read closes its window, and the sender's transport then behaves as Twisted's
does: it buffers, pauses its producer above 64 KiB, and resumes it when the
buffer is empty.  C{loseConnection} writes what is buffered first,
C{abortConnection} drops it.  A connection's protocol is never called from
within a call that it makes.

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

#: The first port of those that are given out for port 0 (IANA's dynamic ones).
_FIRST_FREE = 49152

#: Bytes that a receiver takes without reading them (a usual receive buffer).
WINDOW = 65536

#: Bytes above which a transport pauses its producer (twisted.internet.abstract.FileDescriptor).
BUFFER_SIZE = 65536


def _address(host: str, port: int) -> IPv4Address | IPv6Address:
    return IPv6Address("TCP", host, port) if ":" in host else IPv4Address("TCP", host, port)


@implementer(ITCPTransport, IConsumer, IPushProducer)
class MemoryTCPTransport:
    """
    One end of a connection.  See L{MemoryTCPNetwork}.

    @ivar disconnecting: L{loseConnection} was called.
    @ivar no_delay: what C{setTcpNoDelay} set.
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
        # What arrives at the other end, in order.
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
        Bytes written that the network has not taken.
        """
        return len(self._buffer)

    # ITransport and its kin

    def write(self, data: bytes) -> None:
        """
        Send C{data} when the peer has room for it.
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
        Write the pieces.
        """
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """
        Close once everything is written and no producer is left.
        """
        self.disconnecting = True
        self._close_if_done()

    def abortConnection(self) -> None:
        """
        Close now.
        """
        if not self._lost:
            self.disconnecting = True
            self._buffer.clear()
            self._tell_other(ConnectionLost())
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
        Remembered as L{no_delay}.
        """
        self.no_delay = bool(enabled)

    def getTcpNoDelay(self) -> bool:
        """
        See L{setTcpNoDelay}.
        """
        return self.no_delay

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """
        Nothing to do here.
        """

    def getTcpKeepAlive(self) -> bool:
        """
        Never on.
        """
        return False

    def loseWriteConnection(self) -> None:
        """
        Not supported.
        """
        raise NotImplementedError("half-close is not supported")

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        See L{IConsumer.registerProducer}; streaming ones only.
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
        See L{IConsumer.unregisterProducer}.
        """
        self._producer, self._streaming = None, False
        if self.disconnecting:
            self._close_if_done()

    def pauseProducing(self) -> None:
        """
        Read no more.
        """
        self._reading = False

    def resumeProducing(self) -> None:
        """
        Read on, from the next turn of the reactor.
        """
        if not self._lost and not self._reading:
            self._reading = True
            self._network.clock.callLater(0, self._read)

    def stopProducing(self) -> None:
        """
        As L{loseConnection}.
        """
        self.loseConnection()

    # Inside

    def _made(self, protocol: IProtocol) -> None:
        self.protocol = protocol
        self._network._transports[self] = None
        protocol.makeConnection(self)

    def _push(self) -> None:
        """
        Put as many bytes on the way as the other end has room for.
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
        Let something happen at the other end, after all that was sent before.
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
        The other end has room again.
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
            self._tell_other(ConnectionDone())
            self._later_lost(ConnectionDone())

    def _tell_other(self, reason: Exception) -> None:
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
    One bound address.  See L{MemoryTCPNetwork}.
    """

    def __init__(self, network: MemoryTCPNetwork, host: str, port: int, factory: Factory) -> None:
        self._network = network
        self._address = (host, port)
        self.factory = factory

    def startListening(self) -> None:
        """
        Bound from the start.
        """

    def stopListening(self) -> Deferred[None]:
        """
        Free the address; connections stay.
        """
        if self._network._ports.pop(self._address, None) is not None:
            self.factory.doStop()
        return succeed(None)

    def getHost(self) -> IPv4Address | IPv6Address:
        """
        Host and port.
        """
        return _address(*self._address)


@implementer(IConnector)
class MemoryTCPConnector:
    """
    An attempt to connect, then the connection.  See L{MemoryTCPNetwork}.
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
        Try.
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
        Give up.
        """
        if self._call is None or not self._call.active():
            raise NotConnectingError("we're not trying to connect")
        self._call.cancel()
        self._failed(UserError())

    def disconnect(self) -> None:
        """
        Give up, or close.
        """
        if self._transport is not None:
            self._transport.loseConnection()
        else:
            self.stopConnecting()

    def getDestination(self) -> IPv4Address | IPv6Address:
        """
        Where to.
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
        # The last part of the handshake, before all data.
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
            far._tell_other(ConnectionLost() if port is None else ConnectionDone())
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
    The reactor of one host: what a TCP service needs of one.

    @ivar host: its IP address.
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
        See L{Clock.callLater}.
        """
        return self._network.clock.callLater(delay, callable, *args, **kw)

    def getDelayedCalls(self) -> Sequence[IDelayedCall]:
        """
        Those of all hosts and of the network.
        """
        return self._network.clock.getDelayedCalls()

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> MemoryTCPPort:
        """
        Bind C{port} of this host; 0 is the next free one.

        @raise CannotListenError: it is taken, or C{interface} is not this host.
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
        Connect to an IP address; it takes two latencies.
        """
        source = (self.host, self._network._next_port())
        connector = MemoryTCPConnector(self._network, source, (host, port), factory, timeout)
        connector.connect()
        return connector


class MemoryTCPNetwork:
    """
    Hosts that can connect to each other.

    @ivar clock: everybody's time.
    @ivar latency: seconds that bytes take one way, of all pairs of hosts or of each.
    @ivar silent: hosts that have fallen off the network: what they send and
        what is sent to them vanishes, connects to them time out.
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
        A reactor of the host with this IP address.
        """
        return MemoryTCPReactor(self, host)

    def transports(self, host: str | None = None) -> list[MemoryTCPTransport]:
        """
        The ends of connections, all or those at C{host}.
        """
        return [each for each in self._transports if host in (None, each._host[0])]

    def addresses(self) -> list[tuple[str, int]]:
        """
        What listens now.
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
        Whether nothing gets from C{one} to C{other}.
        """
        return one in self.silent or other in self.silent

    def delay(self, one: str, other: str) -> float:
        """
        Seconds that bytes take from C{one} to C{other}.
        """
        return between(self.latency, one, other)

    def advance(self, seconds: float) -> None:
        """
        Let time pass, event by event: what is caused by an event within
        C{seconds} happens at its own time.
        """
        advance(self.clock, seconds)

    def _next_port(self) -> int:
        self._last_port += 1
        return self._last_port
