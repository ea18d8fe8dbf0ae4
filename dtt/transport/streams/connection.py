"""
One connection: TCP, TLS, frames.

Rules (docs/protocol/streams.md section 1): a handshake takes at most 10 s; after 15 s
without a byte from the peer a PING is sent, after 27 s the connection is closed.  When
there is reason to think that it is dead, a PING is sent at once, and the connection is
closed after 3 s without a byte: when the network of this machine or the peer's address
has changed, and, over QUIC, when nothing has come for 5 s after something was sent: a
NAT between us may have forgotten the connection.  Bytes
that the peer does not read are queued here rather than in the transport's buffer, so
that they can be counted.  The connection is closed when more than 1 MiB stay queued for
10 s, or when the peer reads nothing for 30 s while callers wait for it, or when more
than 128 KiB are queued for a peer that no topic has admitted.  What the peer has sent
is handled in portions, when the reactor's turn has room for one
(L{dtt.transport.streams.shared_tls}).
"""

from __future__ import annotations

import socket
import typing
from collections import Counter
from contextlib import suppress
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IDelayedCall,
    IHandshakeListener,
    IPushProducer,
    IReactorTime,
    ITCPTransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from dtt.counters import snake_case
from dtt.deferreds import cancel_if_active
from dtt.errors import DecodeError, DialFailed, NoRoom, RemoteError
from dtt.interfaces import LinkPath, PeerId
from dtt.net.networks import networks_of
from dtt.transport.backpressure import (
    STRANGER_UNSENT_LIMIT,
    UNSENT_LIMIT,
    WRITABLE,
    SlowReaderTimeout,
    short_reason,
    take_bytes,
)
from dtt.transport.handshakes import HANDSHAKE_TIMEOUT, Handshakes, HandshakeSlot
from dtt.transport.paths import tcp_round_trip
from dtt.transport.share import PORTION
from dtt.transport.streams.frames import IDLE_KINDS, LENGTH_SIZE, PING_SIZE, FrameParser, Ping, encode_frame
from dtt.transport.streams.multiplexer import Link, Multiplexer
from dtt.wire.addresses import QUIC, STREAMS, TRANSPORT_NAMES, PeerAddress

#: Seconds without a byte from the peer until a PING is sent, and until the connection is closed if
#: nothing waits to be sent, or something does: a PING comes after it, and slow readers have their own
#: limits (docs/protocol/streams.md section 1).
PING_AFTER, SILENCE_LIMIT, BUSY_SILENCE_LIMIT = 15.0, 27.0, 75.0

#: Seconds without a byte from a peer to whom something is sent until it is asked for an answer
#: (guess: a quarter of the time in which messages are to flow again when an address has changed).
DOUBT_AFTER = 5.0

#: Seconds for the peer to answer then, and the same for a peer for which bytes are queued: the PING
#: comes after them (guesses: several round trips).
ANSWER_WITHIN, ANSWER_WITHIN_BUSY = 3.0, 10.0

#: Seconds for a closing connection to write what is queued and to receive the peer's goodbye
#: (docs/protocol/gossip.md section 1, stream finishing timeout).
CLOSE_TIMEOUT = 5.0

#: Socket options: bytes that the kernel may buffer beyond what is in flight, and bytes that may be
#: in flight or wait for us to read them.  By default the kernel buffers megabytes of each, half a
#: second at full speed: announcements from other peers would be so far ahead of the contents that
#: all contents would be requested again (docs/protocol/gossip.md section 1: graft_timeout_1 is 80
#: ms).  WINDOW limits the throughput of a path with high latency: 10 MB/s at a round-trip time of
#: 100 ms, like iroh's own limit (1.25 MB per stream).  Measured: docs/benchmarks.md.
NOT_SENT, WINDOW = 128 * 1024, 1024 * 1024

#: Bytes handed to TLS in one write when the peer reads again (the size of the transport's own
#: buffer).
_CHUNK = 65536

#: Units of one portion of a peer that no topic has admitted (guess: 128 of them together have a
#: turn).
_STRANGER_PORTION = 4

_BY_PEER = "by peer"
_NO_ROOM = "too many connections"


class Secured(typing.Protocol):
    """
    The authenticated channel below a connection: TLS, or a QUIC session.
    """

    def authenticate(self) -> tuple[PeerId, bytes]:
        """
        Return the peer id of the remote end (32 bytes), and keying material known only
        to the two ends (32 bytes), once the handshake is complete.

        @raise RemoteError: the peer has not proved an acceptable key, or the protocol
            is not ours.
        """


class ConnectionOwner(typing.Protocol):
    """
    The transport of a L{StreamsConnection}.

    @ivar peer_id: our peer id (32 bytes).
    @ivar counters: C{closed_REASON} for each connection that ended; see L{dtt.counters}.
    @ivar connections: all connections, authenticated or not.
    @ivar handshakes: the inbound connections that are not authenticated.
    @ivar multiplexer: receives authenticated connections, and their frames.
    """

    peer_id: PeerId
    counters: Counter[str]
    connections: dict[StreamsConnection, None]
    handshakes: Handshakes
    multiplexer: Multiplexer

    def authenticated(self, connection: StreamsConnection) -> None:
        """
        Handle a connection that has been added to the multiplexer.
        """

    def connection_lost(self, connection: StreamsConnection) -> None:
        """
        Handle the end of C{connection}.
        """


@implementer(IHandshakeListener, IPushProducer)
class StreamsConnection(Protocol):
    """
    A connection of the streams transport, from TCP's or QUIC's connect to its end.  Once
    authenticated, it is a L{dtt.transport.streams.multiplexer.Connection}.

    @ivar peer_id: peer id of the remote end (32 bytes).  Until the handshake is
        complete: the id that we dialled, or C{b""}.
    @ivar opened_by_us: whether this side dialled.
    @ivar networks: the networks of the remote host, each within the one before.
    @ivar exporter: keying material known only to the two ends (32 bytes); C{b""} until
        the handshake is complete.
    @ivar closing: whether nothing more is sent.
    @ivar secured: authenticates the peer.
    @ivar kind: C{STREAMS} over TCP, C{QUIC} over QUIC.
    @ivar ping_after: seconds without a byte from the peer until a PING is sent.
    @ivar silence_limit: seconds without a byte from the peer until the connection is closed,
        if nothing waits to be sent.
    """

    _log = Logger()

    secured: Secured
    exporter = b""
    kind = STREAMS
    ping_after = PING_AFTER
    silence_limit = SILENCE_LIMIT

    def __init__(self, reactor: IReactorTime, owner: ConnectionOwner, dialled: PeerId | None) -> None:
        """
        @param reactor: schedules the timeouts.
        @param owner: the transport.
        @param dialled: the expected peer id (32 bytes); C{None} for an inbound
            connection.
        """
        self._reactor = reactor
        self._owner = owner
        self.opened_by_us = dialled is not None
        self.peer_id = dialled or b""
        self.networks: tuple[str, ...] = ()
        self._received: list[bytes] = []
        self._queue = bytearray()
        self._paused = False
        self.closing = False
        self._lost = False
        self._parser = FrameParser(owner.multiplexer.max_message_size)
        self._link: Link | None = None
        # Whether a topic has ever admitted the peer.
        self._admitted = False
        self._slot: HandshakeSlot | None = None
        self._last_received = 0.0
        # When an answer was last demanded, until it has come.
        self._asked_at: float | None = None
        self._answering: IDelayedCall | None = None
        # Looks whether anything has come after what was sent.
        self._doubting: IDelayedCall | None = None
        self._timer: IDelayedCall | None = None
        self._slow_reader = SlowReaderTimeout(reactor, lambda: self.abort("slow reader"))
        self._authenticated: Deferred[None] | None = None

    def __repr__(self) -> str:
        return f"<StreamsConnection {'to' if self.opened_by_us else 'from'} {self.peer_id.hex()[:10]}>"

    @property
    def peer_host(self) -> str:
        """
        The IP address of the peer.
        """
        host: str = cast(ITCPTransport, self.transport).getPeer().host
        return host

    @property
    def remote(self) -> tuple[str, int] | None:
        """
        The UDP address at which we see the peer; C{None} over TCP.
        """
        if self.kind == STREAMS:
            return None
        peer = cast(ITCPTransport, self.transport).getPeer()
        return peer.host, peer.port

    @property
    def path(self) -> LinkPath:
        """
        The path to the peer, for status pages.
        """
        peer = cast(ITCPTransport, self.transport).getPeer()
        if self.kind == STREAMS:
            round_trip = tcp_round_trip(self.transport)
        else:
            round_trip = getattr(self.transport, "round_trip", None)
        address = PeerAddress(self.kind, peer.host, peer.port)
        return LinkPath(TRANSPORT_NAMES[self.kind], str(address), round_trip)

    def when_authenticated(self) -> Deferred[None]:
        """
        Return a Deferred that fires once the dialled peer has proved its id and the
        connection is in the multiplexer; it fails with L{DialFailed}.  Cancelling it
        closes the connection.  Call this at most once, before the connection is made.
        """
        self._authenticated = Deferred(lambda _: self.abort("cancelled"))
        return self._authenticated

    # Called by the TLS transport

    def connectionMade(self) -> None:
        """
        TCP is connected: start the handshake.
        """
        self._owner.connections[self] = None
        transport = cast(ITCPTransport, self.transport)
        transport.setTcpNoDelay(True)
        host = transport.getPeer().host
        self.networks = networks_of(host)
        limit_buffers(transport)
        self._timer = self._reactor.callLater(HANDSHAKE_TIMEOUT, self.abort, "handshake timed out")
        if self.opened_by_us:
            return
        now = self._reactor.seconds()
        self._slot = self._owner.handshakes.enter(host, now, self.abort)

    def handshakeCompleted(self) -> None:
        """
        TLS is established: verify the peer id, and hand the connection to the
        multiplexer.
        """
        if self._lost:
            return
        try:
            peer_id, exporter = self.secured.authenticate()
        except RemoteError as error:
            self.abort(str(error))
            return
        if peer_id == self._owner.peer_id:
            self.abort("own key")
            return
        if self.opened_by_us and peer_id != self.peer_id:
            self.abort("wrong peer key")
            return
        self.peer_id = peer_id
        self.exporter = exporter
        self._last_received = self._reactor.seconds()
        self._leave_handshake()
        self._timer = self._reactor.callLater(self.ping_after, self._check_silence)
        cast(Any, self.transport).registerProducer(self, True)
        self._link = self._owner.multiplexer.connection_made(self)
        if self._link is None:
            self.abort(_NO_ROOM)
            return
        self._owner.authenticated(self)
        if self._authenticated is not None:
            authenticated, self._authenticated = self._authenticated, None
            authenticated.callback(None)

    def dataReceived(self, data: bytes) -> None:
        """
        Keep C{data} for L{work}.
        """
        self._last_received = self._reactor.seconds()
        if self._link is not None:
            self._received.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        TCP is disconnected: clean up and notify the owner.
        """
        self._owner.connection_lost(self)
        if not self._lost:
            self._end(_BY_PEER if self.exporter else "handshake failed")
        # These refer to this: a cycle would keep all, with OpenSSL's buffers of some 80 kB, until the
        # garbage collector runs.
        self.transport = None
        del self.secured

    @property
    def pending(self) -> bool:
        """
        Whether there is work for L{work}.
        """
        return self._link is not None and (bool(self._received) or self._parser.pending)

    @property
    def portion(self) -> int:
        """
        The number of units for L{work} at a time.
        """
        return PORTION if self._is_admitted() else _STRANGER_PORTION

    def work(self, units: int) -> int:
        """
        Parse some of what was received, and pass the frames to the multiplexer.

        @param units: how much to do.
        @return: how many of the units were not needed; may be negative.
        """
        link, parser = self._link, self._parser
        if link is None:
            return units
        received = self._received
        data = received[0] if len(received) == 1 else b"".join(received)
        received.clear()
        frames = parser.feed(data, units)
        try:
            self._owner.multiplexer.frames_received(link, frames)
            if parser.fault is not None:
                raise DecodeError(parser.fault)
        except RemoteError as error:
            self.abort(short_reason(error))
        except Exception:
            self._log.failure("{connection}: unexpected error while handling a frame", connection=self)
            self.abort("internal error")
        return parser.unused

    # Called by the multiplexer

    @property
    def unsent(self) -> int:
        """
        Bytes queued because the peer reads too slowly.
        """
        return len(self._queue)

    @property
    def has_room(self) -> bool:
        """
        Whether nothing that was sent waits, and the connection is not closed.
        """
        return not (self._paused or self._queue or self.closing or self._lost)

    def send(self, frame: bytes) -> None:
        """
        Send encoded frames; dropped once the connection is closed.
        """
        if self.closing or self._lost:
            return
        if self.kind == QUIC and self._doubting is None and frame[LENGTH_SIZE] not in IDLE_KINDS:
            self._doubting = self._reactor.callLater(DOUBT_AFTER, self._doubt)
        if not self._paused:
            cast(Any, self.transport).write(frame)
            return
        self._queue += frame
        unsent = len(self._queue)
        self._slow_reader.queued(unsent)
        if unsent > (UNSENT_LIMIT if self._is_admitted() else STRANGER_UNSENT_LIMIT):
            self.closing = True
            self._queue.clear()
            self._slow_reader.expire_soon()

    def close(self) -> None:
        """
        Close the connection once everything sent has been written.
        """
        if self.closing or self._lost:
            return
        self.closing = True
        transport = cast(Any, self.transport)
        cancel_if_active(self._timer)
        self._slow_reader.cancel()
        self._timer = self._reactor.callLater(CLOSE_TIMEOUT, self.abort, "did not close in time")
        if self._queue:
            transport.write(bytes(self._queue))
            self._queue.clear()
        transport.unregisterProducer()
        transport.loseConnection()

    def abort(self, reason: str) -> None:
        """
        Close the connection immediately.

        @param reason: a short reason, used for the counter and for the caller that
            dialled.
        """
        if not self._lost:
            self._end(reason)
            cast(Any, self.transport).abortConnection()

    def check(self, *, spares_slow: bool = False) -> None:
        """
        Send a PING, and close the connection if there is no answer within seconds.  Does nothing before the
        connection is authenticated.

        @param spares_slow: whether to skip this if the peer reads too slowly, for which there are separate
            limits.
        """
        if self._link is None or self.closing or self._asked_at is not None:
            return
        self._asked_at = self._reactor.seconds()
        within = ANSWER_WITHIN_BUSY if self._queue else ANSWER_WITHIN
        self._answering = self._reactor.callLater(within, self._check_answer, spares_slow)
        self.send(encode_frame(Ping(bytes(PING_SIZE))))

    # IPushProducer: backpressure keeps the transport's buffer small

    def pauseProducing(self) -> None:
        """
        The transport's buffer is full: queue frames from now on.
        """
        self._paused = True

    def resumeProducing(self) -> None:
        """
        The transport's buffer has drained: write queued frames.
        """
        self._paused = False
        before = self.unsent
        while self._queue and not self._paused:
            cast(Any, self.transport).write(take_bytes(self._queue, _CHUNK))
        if not self.closing:
            self._slow_reader.drained(self.unsent)
        if self.unsent < WRITABLE <= before:
            self._owner.multiplexer.writers.check()
        if self._link is not None and self.has_room:
            self._owner.multiplexer.has_room(self._link)

    def stopProducing(self) -> None:
        """
        The transport is gone; L{connectionLost} follows.
        """
        self._paused = True

    # Internals

    def _check_silence(self) -> None:
        # Rounded: otherwise a remainder of 1e-15 s would be scheduled again and again.
        silence = round(self._reactor.seconds() - self._last_received, 3)
        limit = BUSY_SILENCE_LIMIT if self._paused or self._queue else self.silence_limit
        if silence >= limit:
            self.abort("silent")
            return
        if silence >= self.ping_after:
            self.send(encode_frame(Ping(bytes(PING_SIZE))))
            delay = min(self.ping_after, limit - silence)
        else:
            delay = self.ping_after - silence
        self._timer = self._reactor.callLater(delay, self._check_silence)

    def _check_answer(self, spares_slow: bool) -> None:
        asked_at, self._asked_at = self._asked_at, None
        # A peer that only acknowledges may have no room for its PONG.
        heard_at = getattr(self.transport, "heard_at", 0.0)
        if spares_slow and (self._paused or (asked_at is not None and heard_at > asked_at)):
            return
        if asked_at is not None and self._last_received <= asked_at and not self.closing:
            self.abort("silent")

    def _doubt(self) -> None:
        self._doubting = None
        # Rounded: see _check_silence.
        silence = round(self._reactor.seconds() - self._last_received, 3)
        if self._paused:
            self._doubting = self._reactor.callLater(DOUBT_AFTER, self._doubt)
        elif silence >= DOUBT_AFTER:
            self.check(spares_slow=True)
        else:
            # What was sent last may be newer than what came last.
            self._doubting = self._reactor.callLater(DOUBT_AFTER - silence, self._doubt)

    def _leave_handshake(self) -> None:
        cancel_if_active(self._timer)
        slot, self._slot = self._slot, None
        if slot is not None:
            self._owner.handshakes.leave(slot)

    def _is_admitted(self) -> bool:
        if not self._admitted:
            self._admitted = self._link is not None and bool(self._link.channels.admitted)
        return self._admitted

    def _end(self, reason: str) -> None:
        """
        Mark the connection as lost, release its resources and notify everyone who waits
        for it.
        """
        self._lost = True
        self._leave_handshake()
        self._slow_reader.stop()
        cancel_if_active(self._answering)
        cancel_if_active(self._doubting)
        self._queue.clear()
        self._received.clear()
        requested = reason == "cancelled" or (self.closing and reason == _BY_PEER)
        if not requested:
            self._owner.counters["closed_" + snake_case(reason)] += 1
        link, self._link = self._link, None
        if link is not None:
            self._owner.multiplexer.connection_lost(link, "" if requested else reason)
        authenticated, self._authenticated = self._authenticated, None
        if authenticated is not None and not authenticated.called:
            if reason == _NO_ROOM:
                authenticated.errback(NoRoom(reason))
            else:
                authenticated.errback(DialFailed("timed out" if reason == "handshake timed out" else reason))


def limit_buffers(transport: Any) -> None:
    """
    Limit what the kernel buffers in either direction (L{NOT_SENT}, L{WINDOW}).
    """
    # In-memory transports have no socket.
    tcp: socket.socket | None = getattr(transport, "socket", None)
    if tcp is None:
        return
    for name, size in (("TCP_NOTSENT_LOWAT", NOT_SENT), ("TCP_WINDOW_CLAMP", WINDOW)):
        # Not every platform has these options.
        if (option := getattr(socket, name, None)) is not None:
            with suppress(OSError):
                tcp.setsockopt(socket.IPPROTO_TCP, option, size)
