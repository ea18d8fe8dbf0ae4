"""
One end of a connection of the in-memory TCP network, L{dtt.testing.net.tcp}.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, Protocol

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost, TCPTimedOutError
from twisted.internet.interfaces import IConsumer, IDelayedCall, IProtocol, IPushProducer, ITCPTransport
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

#: Bytes that a receiver accepts without reading them (a usual receive buffer).
WINDOW = 65536

#: Bytes above which a transport pauses its producer (twisted.internet.abstract.FileDescriptor).
BUFFER_SIZE = 65536

#: While nothing arrives, data is sent again after so many seconds, each time twice as many up to a
#: limit, and in the end the connection is lost (RFC 6298; Linux: C{tcp_retries2}).
FIRST_RETRY: Final = 1.0
LONGEST_RETRY: Final = 120.0
GIVE_UP: Final = 924.0


class Network(Protocol):
    """
    The network of a transport.

    @ivar clock: the clock of all hosts.
    @ivar open: the open ends of all connections.
    """

    clock: Clock
    open: dict[MemoryTCPTransport, None]

    def is_silent(self, one: str, other: str) -> bool:
        """
        Return whether everything from C{one} to C{other} is lost.
        """

    def transit(self, one: str, other: str) -> float:
        """
        Return the seconds that a segment takes from C{one} to C{other}, including retransmissions.
        """


def tcp_address(host: str, port: int) -> IPv4Address | IPv6Address:
    """
    Return Twisted's address of a TCP port.

    @param host: an IP literal.
    """
    return IPv6Address("TCP", host, port) if ":" in host else IPv4Address("TCP", host, port)


@implementer(ITCPTransport, IConsumer, IPushProducer)
class MemoryTCPTransport:
    """
    One end of a connection. See L{MemoryTCPNetwork<dtt.testing.net.tcp.MemoryTCPNetwork>}.

    @ivar other: the other end; C{None} before the connection is made.
    @ivar protocol: the protocol connected to this end; C{None} once it is lost.
    @ivar on_lost: called with the reason once the connection is lost.
    @ivar disconnecting: whether L{loseConnection} or L{abortConnection} was called.
    @ivar no_delay: the value that L{setTcpNoDelay} set.
    """

    def __init__(self, network: Network, host: tuple[str, int], peer: tuple[str, int]) -> None:
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
        # When the last of them arrives, how many are due, and what waits for a network.
        self._last_arrival = 0.0
        self._due = 0
        self._retry: IDelayedCall | None = None
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
        return tcp_address(*self._peer)

    def getHost(self) -> IPv4Address | IPv6Address:
        """
        This end's address.
        """
        return tcp_address(*self._host)

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
        self._network.open[self] = None
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
        clock = self._network.clock
        arrival = clock.seconds() + self._network.transit(self._host[0], self._peer[0])
        self._last_arrival = max(arrival, self._last_arrival)
        clock.callLater(self._last_arrival - clock.seconds(), self._happen)

    def _happen(self) -> None:
        self._due += 1
        if self._retry is None:
            self._deliver(FIRST_RETRY, GIVE_UP)

    def _deliver(self, retry: float, left: float) -> None:
        """
        Deliver arrived data, or try again later if there is no network now.

        @param retry: seconds until the next attempt.
        @param left: seconds until the connection is aborted.
        """
        self._retry = None
        if self._network.is_silent(self._host[0], self._peer[0]):
            if left <= 0:
                self._connection_lost(Failure(TCPTimedOutError()))
            elif not self._lost:
                wait = min(retry, left)
                self._retry = self._network.clock.callLater(
                    wait, self._deliver, min(2 * retry, LONGEST_RETRY), left - wait
                )
            return
        while self._due:
            self._due -= 1
            self._on_the_way.popleft()()

    def _arrive(self, other: MemoryTCPTransport, data: bytes) -> None:
        self._in_flight -= len(data)
        if other._lost:
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

    def _vanish(self, is_reset: bool) -> None:
        """
        Simulate the death of the process at this end: its protocol is not notified.

        @param is_reset: whether the machine still runs, and resets the connection.
        """
        self.disconnecting = True
        self._buffer.clear()
        if is_reset:
            self._notify_other(ConnectionLost())
        self._lost, self._reading = True, False
        self._network.open.pop(self, None)

    def _later_lost(self, reason: Exception) -> None:
        self._network.clock.callLater(0, self._connection_lost, Failure(reason))

    def _connection_lost(self, reason: Failure) -> None:
        if self._lost:
            return
        self._lost = True
        self._network.open.pop(self, None)
        if self._retry is not None and self._retry.active():
            self._retry.cancel()
        self._buffer.clear()
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()
        # As Twisted's transports do: who keeps this does not keep the protocol.
        protocol, self.protocol = self.protocol, None
        protocol.connectionLost(reason)
        self.on_lost(reason)
