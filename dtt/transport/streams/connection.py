"""
One connection: TCP, TLS, frames.

Rules (docs/protocol/streams.md section 1): a handshake ends within 10 s; after 30 s
without a byte from the peer a PING goes out, after 75 s the connection is
closed.  What the peer does not read waits here, not in the transport's buffer,
so that it can be counted: more than 1 MiB for 10 s, and the peer is cut off; so
it is when it takes nothing for 30 s while others wait for it.
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
from dtt.transport.backpressure import UNSENT_LIMIT, WRITABLE, Link, Patience, short_reason
from dtt.transport.handshakes import Handshakes, Place
from dtt.transport.streams.frames import PING_SIZE, FrameParser, Ping, encode_frame
from dtt.transport.streams.multiplexer import Multiplexer
from dtt.transport.streams.tls import ALPN, connection_peer_id, export_key

if TYPE_CHECKING:
    from OpenSSL import SSL

#: Seconds from connect to the end of the handshake (docs/protocol/streams.md section 1).
HANDSHAKE_TIMEOUT = 10.0

#: Seconds without a byte until a PING, and until the end (docs/protocol/streams.md section 1).
PING_AFTER, SILENCE_LIMIT = 30.0, 75.0

#: Seconds that a closed connection may take to write what is queued and to
#: hear the peer's goodbye (docs/protocol/gossip.md section 1, stream finishing timeout).
CLOSE_TIMEOUT = 5.0

#: Bytes that the system may keep of what we send besides what is under way, and
#: that may be under way or wait for us to read them.  By itself it takes megabytes
#: of each, half a second at full speed, and announcements of other peers would be
#: so far ahead of the contents that all are asked for again
#: (docs/protocol/gossip.md section 1: graft_timeout_1 is 80 ms).  The second one
#: bounds what a long way carries: 10 MB/s when a round trip takes 100 ms, as
#: iroh's own (1.25 MB for a stream).  Measured: docs/benchmarks.md.
NOT_SENT, WINDOW = 128 * 1024, 1024 * 1024

#: Bytes handed to TLS at once when the peer reads again (the transport's own buffer size).
_CHUNK = 65536

_BY_PEER = "by the peer"


class ConnectionOwner(typing.Protocol):
    """
    Whose connections they are: what a L{StreamsConnection} needs of its transport.

    @ivar peer_id: who we are, 32 bytes.
    @ivar counters: C{closed: REASON} is counted here.
    @ivar connections: all that exist, authenticated or not.
    @ivar handshakes: the inbound ones that are not authenticated.
    @ivar multiplexer: takes authenticated ones, and their frames.
    """

    peer_id: PeerId
    counters: Counter[str]
    connections: dict[StreamsConnection, None]
    handshakes: Handshakes
    multiplexer: Multiplexer

    def authenticated(self, connection: StreamsConnection) -> None:
        """
        C{connection} is in the multiplexer.
        """

    def connection_lost(self, connection: StreamsConnection) -> None:
        """
        C{connection} has ended.
        """


@implementer(IHandshakeListener, IPushProducer)
class StreamsConnection(Protocol):
    """
    A connection of a transport, from TCP's connect to its end.  As a
    L{dtt.transport.backpressure.Connection} it is used once it is authenticated.

    @ivar peer_id: who is at the other end; the id that we dialled, or C{b""},
        until the handshake is complete.
    @ivar opened_by_us: whether we dialled.
    @ivar exporter: 32 bytes that only both ends know.
    @ivar unsent: bytes that wait because the peer reads too slowly.
    @ivar closing: nothing is sent any more.
    @ivar tls: the OpenSSL side.
    """

    _log = Logger()

    tls: SSL.Connection
    exporter = b""

    def __init__(self, reactor: IReactorTime, owner: ConnectionOwner, dialled: PeerId | None) -> None:
        """
        @param dialled: whom we expect at the other end; L{None}: it dialled us.
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
        self._place: Place | None = None
        self._last_received = 0.0
        self._timer: IDelayedCall | None = None
        self._patience = Patience(reactor, lambda: self.abort("slow reader"))
        self._authenticated: Deferred[None] | None = None

    def __repr__(self) -> str:
        return f"<StreamsConnection {'to' if self.opened_by_us else 'from'} {self.peer_id.hex()[:10]}>"

    def when_authenticated(self) -> Deferred[None]:
        """
        Fires once the peer that we dialled has proved its id and is in the
        multiplexer; fails with L{DialFailed}.  To cancel it ends the
        connection.  Asked for once, before the connection is made.
        """
        self._authenticated = Deferred(lambda _: self.abort("cancelled"))
        return self._authenticated

    # The transport's side

    def connectionMade(self) -> None:
        """
        TCP is there; TLS begins, or waits for its turn.
        """
        self._owner.connections[self] = None
        transport = cast(ITCPTransport, self.transport)
        transport.setTcpNoDelay(True)
        limit_buffers(transport)
        self._timer = self._reactor.callLater(HANDSHAKE_TIMEOUT, self.abort, "handshake timed out")
        if self.opened_by_us:
            return
        self._place = self._owner.handshakes.enter(transport.getPeer().host, self._proceed)
        if self._place is None:
            self.abort("too many handshakes")
        elif not self._place.running:
            cast(Any, transport).pauseProducing()

    def _proceed(self) -> None:
        if not self._lost:
            cast(Any, self.transport).resumeProducing()

    def handshakeCompleted(self) -> None:
        """
        TLS is there: see who it is, and hand the connection over.
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
            self.abort("other key answered")
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
        Bytes of frames.
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
            self._log.failure("{connection}: a frame could not be handled", connection=self)
            self.abort("internal error")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        TCP is gone.
        """
        self._owner.connection_lost(self)
        if not self._lost:
            self._end(_BY_PEER if self.exporter else "handshake failed")

    # The multiplexer's side

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
        self._patience.waiting(self.unsent)
        if self.unsent > UNSENT_LIMIT:
            self.closing = True
            self._drop_queue()
            self._patience.lose()

    def close(self) -> None:
        """
        End the connection once everything sent is out.
        """
        if self.closing or self._lost:
            return
        self.closing = True
        transport = cast(Any, self.transport)
        cancel_if_active(self._timer)
        self._patience.end()
        self._timer = self._reactor.callLater(CLOSE_TIMEOUT, self.abort, "did not close in time")
        while self._queue:
            transport.write(self._queue.popleft())
        self.unsent = 0
        transport.unregisterProducer()
        transport.loseConnection()

    def abort(self, reason: str) -> None:
        """
        End the connection now.

        @param reason: a short one, for the counters and for who dialled.
        """
        if not self._lost:
            self._end(reason)
            cast(Any, self.transport).abortConnection()

    # A push producer, so that the transport's buffer stays small

    def pauseProducing(self) -> None:
        """
        The transport has as much as it wants.
        """
        self._paused = True

    def resumeProducing(self) -> None:
        """
        The transport wants more.
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
            self._patience.taken(self.unsent)
        if self.unsent < WRITABLE <= before:
            self._owner.multiplexer.writers.check()

    def stopProducing(self) -> None:
        """
        The transport is gone: L{connectionLost} follows.
        """
        self._paused = True

    # Inside

    def _check_silence(self) -> None:
        # Rounded, or a remainder of 1e-15 s would be waited for again and again.
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
        place, self._place = self._place, None
        if place is not None:
            self._owner.handshakes.leave(place)

    def _drop_queue(self) -> None:
        self._queue.clear()
        self.unsent = 0

    def _end(self, reason: str) -> None:
        """
        Nothing more happens on this connection.
        """
        self._lost = True
        self._leave_handshake()
        self._patience.end()
        self._drop_queue()
        wanted = reason == "cancelled" or (self.closing and reason == _BY_PEER)
        if not wanted:
            self._owner.counters[f"closed: {reason}"] += 1
        link, self._link = self._link, None
        if link is not None:
            self._owner.multiplexer.connection_lost(link)
        authenticated, self._authenticated = self._authenticated, None
        if authenticated is not None and not authenticated.called:
            authenticated.errback(DialFailed("timed out" if reason == "handshake timed out" else reason))


def limit_buffers(transport: Any) -> None:
    """
    See to it that little waits in the system, in either direction.
    """
    # In memory there is no socket.
    tcp: socket.socket | None = getattr(transport, "socket", None)
    if tcp is None:
        return
    for name, size in (("TCP_NOTSENT_LOWAT", NOT_SENT), ("TCP_WINDOW_CLAMP", WINDOW)):
        # Not every system has them.
        if (option := getattr(socket, name, None)) is not None:
            with suppress(OSError):
                tcp.setsockopt(socket.IPPROTO_TCP, option, size)
