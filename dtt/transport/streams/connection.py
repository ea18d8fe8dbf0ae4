"""
One connection: TCP, TLS, frames.

Rules (docs/protocol/streams.md section 1): a handshake takes at most 10 s; after 30 s
without a byte from the peer a PING is sent, after 75 s the connection is closed.  Bytes
that the peer does not read are queued here rather than in the transport's buffer, so
that they can be counted.  The connection is closed when more than 1 MiB stay queued for
10 s, or when the peer reads nothing for 30 s while callers wait for it.
"""

from __future__ import annotations

import socket
import typing
from collections import Counter, deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

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

from dtt.deferreds import cancel_if_active
from dtt.errors import DecodeError, DialFailed, RemoteError
from dtt.interfaces import PeerId
from dtt.transport.backpressure import (
    UNSENT_LIMIT,
    WRITABLE,
    SlowReaderTimeout,
    closed_counter,
    short_reason,
)
from dtt.transport.handshakes import HANDSHAKE_TIMEOUT, Handshakes, HandshakeSlot
from dtt.transport.streams.frames import PING_SIZE, FrameParser, Ping, encode_frame
from dtt.transport.streams.multiplexer import Link, Multiplexer
from dtt.transport.streams.tls import ALPN, connection_peer_id, export_key

if TYPE_CHECKING:
    from OpenSSL import SSL

#: Seconds without a byte from the peer until a PING is sent, and until the connection is closed
#: (docs/protocol/streams.md section 1).
PING_AFTER, SILENCE_LIMIT = 30.0, 75.0

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

_BY_PEER = "by peer"


class ConnectionOwner(typing.Protocol):
    """
    What a L{StreamsConnection} needs from its transport.

    @ivar peer_id: our peer id (32 bytes).
    @ivar counters: closed connections, by L{dtt.transport.backpressure.closed_counter}.
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
    A connection of the streams transport, from the TCP connect to its end.  Once
    authenticated, it is a L{dtt.transport.streams.multiplexer.Connection}.

    @ivar peer_id: peer id of the remote end (32 bytes).  Until the handshake is
        complete: the id that we dialled, or C{b""}.
    @ivar opened_by_us: whether this side dialled.
    @ivar exporter: keying material known only to the two ends (32 bytes); C{b""} until
        the handshake is complete.
    @ivar unsent: bytes queued because the peer reads too slowly.
    @ivar closing: whether nothing more is sent.
    @ivar tls: the OpenSSL connection.
    """

    _log = Logger()

    tls: SSL.Connection
    exporter = b""

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
        self.unsent = 0
        self._queue: deque[bytes] = deque()
        self._paused = False
        self.closing = False
        self._lost = False
        self._parser = FrameParser()
        self._link: Link | None = None
        self._slot: HandshakeSlot | None = None
        self._last_received = 0.0
        self._timer: IDelayedCall | None = None
        self._slow_reader = SlowReaderTimeout(reactor, lambda: self.abort("slow reader"))
        self._authenticated: Deferred[None] | None = None

    def __repr__(self) -> str:
        return f"<StreamsConnection {'to' if self.opened_by_us else 'from'} {self.peer_id.hex()[:10]}>"

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
        TCP is connected: start the handshake, or wait for a free slot.
        """
        self._owner.connections[self] = None
        transport = cast(ITCPTransport, self.transport)
        transport.setTcpNoDelay(True)
        limit_buffers(transport)
        self._timer = self._reactor.callLater(HANDSHAKE_TIMEOUT, self.abort, "handshake timed out")
        if self.opened_by_us:
            return
        self._slot = self._owner.handshakes.enter(transport.getPeer().host, self._proceed)
        if self._slot is None:
            self.abort("too many handshakes")
        elif not self._slot.running:
            cast(Any, transport).pauseProducing()

    def _proceed(self) -> None:
        if not self._lost:
            cast(Any, self.transport).resumeProducing()

    def handshakeCompleted(self) -> None:
        """
        TLS is established: verify the peer id, and hand the connection to the
        multiplexer.
        """
        if self._lost:
            return
        try:
            if cast(Any, self.transport).negotiatedProtocol != ALPN:
                raise DecodeError("no ALPN")
            peer_id = connection_peer_id(self.tls)
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
        self.exporter = export_key(self.tls)
        self._last_received = self._reactor.seconds()
        self._leave_handshake()
        self._timer = self._reactor.callLater(PING_AFTER, self._check_silence)
        cast(Any, self.transport).registerProducer(self, True)
        self._link = self._owner.multiplexer.connection_made(self)
        if self._link is None:
            self.abort("too many connections")
            return
        self._owner.authenticated(self)
        if self._authenticated is not None:
            authenticated, self._authenticated = self._authenticated, None
            authenticated.callback(None)

    def dataReceived(self, data: bytes) -> None:
        """
        Parse frames and pass them to the multiplexer.
        """
        self._last_received = self._reactor.seconds()
        if self._link is None:
            return
        frames = self._parser.feed(data)
        try:
            self._owner.multiplexer.frames_received(self._link, frames)
            if self._parser.fault is not None:
                raise DecodeError(self._parser.fault)
        except RemoteError as error:
            self.abort(short_reason(error))
        except Exception:
            self._log.failure("{connection}: unexpected error while handling a frame", connection=self)
            self.abort("internal error")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        TCP is disconnected: clean up and notify the owner.
        """
        self._owner.connection_lost(self)
        if not self._lost:
            self._end(_BY_PEER if self.exporter else "handshake failed")

    # Called by the multiplexer

    def send(self, frame: bytes) -> None:
        """
        Send one encoded frame; dropped once the connection is closed.
        """
        if self.closing or self._lost:
            return
        if not self._paused:
            cast(Any, self.transport).write(frame)
            return
        self._queue.append(frame)
        self.unsent += len(frame)
        self._slow_reader.queued(self.unsent)
        if self.unsent > UNSENT_LIMIT:
            self.closing = True
            self._drop_queue()
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
        while self._queue:
            transport.write(self._queue.popleft())
        self.unsent = 0
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
            chunk, size = [], 0
            while self._queue and size < _CHUNK:
                size += len(self._queue[0])
                chunk.append(self._queue.popleft())
            self.unsent -= size
            cast(Any, self.transport).write(b"".join(chunk))
        if not self.closing:
            self._slow_reader.drained(self.unsent)
        if self.unsent < WRITABLE <= before:
            self._owner.multiplexer.writers.check()

    def stopProducing(self) -> None:
        """
        The transport is gone; L{connectionLost} follows.
        """
        self._paused = True

    # Internals

    def _check_silence(self) -> None:
        # Rounded: otherwise a remainder of 1e-15 s would be scheduled again and again.
        silence = round(self._reactor.seconds() - self._last_received, 3)
        if silence >= SILENCE_LIMIT:
            self.abort("silent")
            return
        if silence >= PING_AFTER:
            self.send(encode_frame(Ping(bytes(PING_SIZE))))
            delay = min(PING_AFTER, SILENCE_LIMIT - silence)
        else:
            delay = PING_AFTER - silence
        self._timer = self._reactor.callLater(delay, self._check_silence)

    def _leave_handshake(self) -> None:
        cancel_if_active(self._timer)
        slot, self._slot = self._slot, None
        if slot is not None:
            self._owner.handshakes.leave(slot)

    def _drop_queue(self) -> None:
        self._queue.clear()
        self.unsent = 0

    def _end(self, reason: str) -> None:
        """
        Mark the connection as lost, release its resources and notify everyone who waits
        for it.
        """
        self._lost = True
        self._leave_handshake()
        self._slow_reader.cancel()
        self._drop_queue()
        requested = reason == "cancelled" or (self.closing and reason == _BY_PEER)
        if not requested:
            self._owner.counters[closed_counter(reason)] += 1
        link, self._link = self._link, None
        if link is not None:
            self._owner.multiplexer.connection_lost(link)
        authenticated, self._authenticated = self._authenticated, None
        if authenticated is not None and not authenticated.called:
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
