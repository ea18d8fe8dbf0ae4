"""
A QUIC connection as a Twisted transport: L{StreamsConnection
<dtt.transport.streams.connection.StreamsConnection>} runs over it as it runs over TLS
and TCP.

Rules:
  - Bytes that have not been sent yet are counted, and the producer is paused above 128 KiB, as the kernel
    does for TCP (C{TCP_NOTSENT_LOWAT}).
  - Packets are sent once per turn of the reactor, so that one acknowledgement answers many datagrams.
  - Decrypting datagrams and handling what they contain is work, which all connections
    share (L{dtt.transport.share}).  Datagrams wait for the next turn, in which several
    are handled together; those for which there is no room are lost, and the peer sends
    them again, more slowly.
  - Data that arrived before the end of a connection is handled first.
  - An unexpected error of the QUIC library ends only the connection in which it occurs.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, TypeVar

from attrs import frozen
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IDelayedCall, IReactorTime, ITransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from dtt.deferreds import cancel_if_active
from dtt.errors import DecodeError
from dtt.interfaces import PeerId
from dtt.transport.quic.session import (
    ABORTED,
    CLOSED,
    Authenticated,
    Event,
    Finished,
    Received,
    Session,
    SocketAddress,
)
from dtt.transport.share import Share

#: Datagrams of one connection that wait for a later turn: the reactor reads up to 256 KiB
#: from a socket in one turn, which are 213 of our datagrams.
MAX_ARRIVED = 256

#: The most bytes of a datagram.  Our peers send 1232, and larger ones than these would
#: have been fragmented.
MAX_RECEIVED = 1500

#: Seconds until a timer that is due even after everything was sent is tried again: no
#: state that a peer brings about must keep the reactor busy.
_OVERDUE = 0.001

#: Datagrams that are handled together.
_BATCH = 16

T = TypeVar("T")


class SecuredProtocol(Protocol):
    """
    The protocol of a L{ByteStream}: the methods of C{StreamsConnection} that a transport calls.
    """

    secured: Any

    def makeConnection(self, transport: Any) -> None: ...

    def handshakeCompleted(self) -> None: ...

    def dataReceived(self, data: bytes) -> None: ...

    def connectionLost(self, reason: Failure) -> None: ...

    def abort(self, reason: str) -> None: ...

    @property
    def pending(self) -> bool: ...

    @property
    def portion(self) -> int: ...

    def work(self, units: int) -> int: ...


@frozen(slots=True)
class Socket:
    """
    The UDP side of a L{ByteStream}.

    @ivar clock: schedules the timer.
    @ivar share: the share of the reactor's time.
    @ivar counters: dropped datagrams by reason.
    @ivar send: sends a datagram to an address.
    @ivar registered: called when the connection ids have changed.
    @ivar lost: called when the stream has ended.
    """

    clock: IReactorTime
    share: Share
    counters: Counter[str]
    send: Callable[[bytes, SocketAddress], object]
    registered: Callable[[ByteStream], object]
    lost: Callable[[ByteStream], object]


@implementer(ITransport)
class ByteStream:
    """
    The transport of one L{SecuredProtocol}.

    @ivar heard_at: when the last datagram came, in seconds; of several that wait, the first.
    @ivar connection_ids: those under which the owner knows us; it maintains them.
    @ivar chosen: the connection id that the client has chosen for its first packets;
        C{b""} on the client.
    """

    _log = Logger()

    def __init__(
        self,
        socket: Socket,
        protocol: SecuredProtocol,
        address: SocketAddress,
        make_session: Callable[[], Session],
        chosen: bytes = b"",
    ) -> None:
        """
        @param socket: the UDP side.
        @param protocol: the protocol to run.
        @param address: the peer's address.
        @param make_session: creates the session once it is needed: a connection that is
            refused costs no cryptography.
        @param chosen: see the attribute.
        """
        self.chosen = chosen
        self.connection_ids: frozenset[bytes] = frozenset()
        self.heard_at = 0.0
        self._socket = socket
        self._protocol = protocol
        protocol.secured = self
        self._address = address
        self._make_session = make_session
        self._session: Session | None = None
        self._identity: tuple[PeerId, bytes] | None = None
        self._arrived: deque[tuple[bytes, SocketAddress]] = deque()
        # Whether the session has failed unexpectedly, and is no longer used.
        self._failed = False
        # Whether a later turn will handle what has arrived.
        self._waiting = False
        # Why the connection has ended, while something is still to be handled.
        self._outcome: str | None = None
        self._producer: Any = None
        self._producer_paused = False
        self._disconnecting = False
        self._ended = False
        self._timer: IDelayedCall | None = None
        self._flushing: IDelayedCall | None = None

    # Starting

    def connect(self) -> None:
        """
        Start as the client.
        """
        self._protocol.makeConnection(self)
        if not self._ended:
            self._begin()
            now = self._socket.clock.seconds()
            self._try(lambda session: session.connect(self._address, now), None)
            self._flush()

    def accept(self, datagram: bytes) -> None:
        """
        Start as the server, with the client's first datagram.
        """
        self._protocol.makeConnection(self)
        if not self._ended:
            self._begin()
            self.datagram_received(datagram, self._address)

    def authenticate(self) -> tuple[PeerId, bytes]:
        """
        Return the peer id and the exporter; see
        L{dtt.transport.streams.connection.Secured}.
        """
        if self._identity is None:
            raise DecodeError("handshake failed")
        return self._identity

    # From the socket

    def datagram_received(self, datagram: bytes, address: SocketAddress) -> None:
        """
        Handle a datagram with one of our connection ids.
        """
        if not self._waiting:
            # Once for all that will be handled together: reading the clock takes time, too.
            self.heard_at = self._socket.clock.seconds()
        if self._ended:
            return
        if len(datagram) > MAX_RECEIVED:
            self._socket.counters["dropped_quic_large"] += 1
            return
        if len(self._arrived) >= MAX_ARRIVED:
            self._socket.counters["dropped_quic_busy"] += 1
            return
        self._arrived.append((datagram, address))
        self._work_soon()

    # ITransport

    def write(self, data: bytes) -> None:
        """
        Send C{data}.
        """
        if self._ended or self._disconnecting or self._identity is None:
            return
        self._try(lambda session: session.write(data), None)
        self._flush_soon()
        producer = self._producer
        if producer is not None and not self._producer_paused and self._try(Session.has_backlog, False):
            self._producer_paused = True
            producer.pauseProducing()

    def writeSequence(self, data: Any) -> None:
        """
        Send the concatenated pieces.
        """
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """
        End our side after all that was written; the peer then closes the connection.
        """
        if self._ended or self._disconnecting:
            return
        if self._identity is None:
            self.abortConnection()
            return
        self._disconnecting = True
        self._try(Session.finish, None)
        self._flush_soon()

    def abortConnection(self) -> None:
        """
        Close the connection immediately.
        """
        if self._ended:
            return
        self._try(lambda session: session.close(ABORTED), None)
        self._flush()
        self._end(Failure(ConnectionAborted()))

    def getPeer(self) -> IPv4Address | IPv6Address:
        """
        Return the peer's address.
        """
        host, port = self._try(lambda session: session.address, None) or self._address
        return IPv6Address("UDP", host, port) if ":" in host else IPv4Address("UDP", host, port)

    @property
    def round_trip(self) -> float | None:
        """
        The smoothed round trip in seconds; C{None} if it is not known.
        """
        return self._try(Session.round_trip, None)

    def getHost(self) -> IPv4Address:
        """
        Return an unspecified address: the socket has many.
        """
        return IPv4Address("UDP", "0.0.0.0", 0)

    def setTcpNoDelay(self, enabled: bool) -> None:
        """
        Do nothing: QUIC does not wait for more.
        """

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        Pause and resume C{producer}.
        """
        self._producer = producer

    def unregisterProducer(self) -> None:
        """
        Forget the producer.
        """
        self._producer = None

    # Internals

    def _begin(self) -> Session:
        if self._session is None:
            self._session = self._make_session()
            self._socket.registered(self)
        return self._session

    def _try(self, step: Callable[[Session], T], otherwise: T) -> T:
        """
        Call a function with the session.

        @param otherwise: the result if there is no session, or if it fails: it is then no longer used, and
            the connection is aborted in the next turn.
        """
        session = self._session
        if session is None or self._failed:
            return otherwise
        try:
            return step(session)
        except Exception:
            # A bug must not cost more than this connection, nor allow a peer that
            # triggers it to fill the log.
            counters = self._socket.counters
            counters["quic_faults"] += 1
            if counters["quic_faults"] == 1:
                self._log.failure("Unexpected error in a QUIC session (a bug); more will only be counted.")
            self._failed = True
            self._arrived.clear()
            self._outcome = None
            self._socket.clock.callLater(0, self._protocol.abort, "internal error")
            return otherwise

    @property
    def session_ids(self) -> set[bytes]:
        """
        The connection ids of the session; empty before it has begun.
        """
        return set() if self._session is None else self._session.connection_ids

    def _work_soon(self) -> None:
        """
        Handle what has arrived in the next turn.
        """
        if not self._waiting:
            self._waiting = True
            self._socket.share.wait(self._work)

    def _work(self) -> None:
        """
        Handle arrived datagrams, within the limits of this turn.
        """
        self._waiting = False
        share, protocol, arrived = self._socket.share, self._protocol, self._arrived
        while not self._ended and (protocol.pending or arrived):
            units = share.take(protocol.portion)
            if not units:
                self._work_soon()
                break
            if protocol.pending:
                share.done(protocol.work(units))
            else:
                number = min(units, len(arrived), _BATCH)
                batch = [arrived.popleft() for _ in range(number)]
                self._handle(self._try(partial(self._receive, batch), []))
                share.done(units - number)
        if self._outcome is not None and not self._waiting:
            self._conclude(self._outcome)
        self._flush()

    def _receive(self, datagrams: list[tuple[bytes, SocketAddress]], session: Session) -> list[Event]:
        now = self._socket.clock.seconds()
        for datagram, address in datagrams:
            session.receive(datagram, address, now)
        return session.events()

    def _handle(self, events: list[Event]) -> None:
        """
        Handle what has happened.
        """
        if self.session_ids != self.connection_ids:
            self._socket.registered(self)
        for event in events:
            if self._ended:
                break
            if isinstance(event, Received):
                self._protocol.dataReceived(event.data)
            elif isinstance(event, Authenticated):
                self._identity = event.peer_id, event.exporter
                self._protocol.handshakeCompleted()
            else:
                self._arrived.clear()
                self._outcome = "" if isinstance(event, Finished) else event.reason

    def _conclude(self, reason: str) -> None:
        """
        End, after everything that arrived was handled.

        @param reason: C{""}: the peer has ended the connection cleanly.
        """
        self._outcome = None
        if self._ended:
            return
        if reason and not self._disconnecting:
            self._flush()
            if self._identity is not None and reason == "timed out":
                reason = "silent"
            self._protocol.abort(reason)
        else:
            self._try(lambda session: session.close(CLOSED), None)
            self._flush()
            self._end(Failure(ConnectionDone()))

    def _flush_soon(self) -> None:
        if self._flushing is None and not self._ended:
            self._flushing = self._socket.clock.callLater(0, self._flush)

    def _flush(self) -> None:
        """
        Send what can be sent now, and set the timer.
        """
        cancel_if_active(self._flushing)
        self._flushing = None
        if self._ended:
            return
        now = self._socket.clock.seconds()
        send = self._socket.send
        nothing: list[tuple[bytes, SocketAddress]] = []
        for datagram, address in self._try(lambda session: session.datagrams(now), nothing):
            send(datagram, address)
        due = self._try(Session.timer, None)
        if due is not None:
            delay = due - now if due > now else _OVERDUE
            timer = self._timer
            if timer is None or not timer.active():
                self._timer = self._socket.clock.callLater(delay, self._tick)
            elif now + delay < timer.getTime():
                timer.reset(delay)
        if self._producer_paused and self._try(Session.has_drained, False):
            self._producer_paused = False
            if self._producer is not None:
                self._producer.resumeProducing()

    def _tick(self) -> None:
        if self._ended:
            return
        due = self._try(Session.timer, None)
        now = self._socket.clock.seconds()
        if due is not None and due <= now:
            # Otherwise the session was busy meanwhile: the timer has moved on.
            self._handle(self._try(lambda session: self._time_out(session, now), []))
            if self._outcome is not None:
                self._work_soon()
        self._flush()

    def _time_out(self, session: Session, now: float) -> list[Event]:
        session.handle_timer(now)
        return session.events()

    def _end(self, reason: Failure) -> None:
        """
        Release everything, and notify the protocol in the next turn.
        """
        self._ended = True
        cancel_if_active(self._timer)
        cancel_if_active(self._flushing)
        self._arrived.clear()
        self._producer = None
        self._socket.lost(self)
        self._socket.clock.callLater(0, self._protocol.connectionLost, reason)
