"""
The application streams of one connection.

Rules (docs/protocol/streams.md section 7): only members of a common topic open streams,
at most L{MAX_STREAMS} on a connection.  Streams take turns, and send only while nothing
else waits: gossip goes first.  The numbers of streams are never used again, so frames
that were on the way when a stream ended are recognized, and dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Protocol

from attrs import define
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IProtocol
from twisted.logger import Logger

from dtt.deferreds import cancel_if_active
from dtt.errors import DecodeError, StreamRefused
from dtt.interfaces import PeerId
from dtt.transport.appstreams.flow import Backlog
from dtt.transport.appstreams.frames import (
    MAX_NUMBER,
    NO_COMMON_TOPIC,
    REFUSED,
    TOO_MANY,
    UNKNOWN_NAME,
    StreamCredit,
    StreamData,
    StreamEnd,
    StreamFrame,
    StreamOpen,
    StreamReset,
    encode_stream_frame,
)
from dtt.transport.appstreams.services import MAX_STREAMS_IN_ALL, Services
from dtt.transport.appstreams.stream import AppStream, StreamAddress

#: Open streams of a connection, of both sides together (docs/protocol/streams.md section 7).
MAX_STREAMS = 64

#: Seconds that a stream waits until the peer has opened a topic that we have opened
#: (docs/protocol/streams.md section 3 gives gossip as long).
MAX_WAIT = 5.0

#: Frames that a stream sends in its turn (guess: 16 KiB delay others by 13 ms at 10 Mbit/s).
_TURN = 4


class StreamConnection(Protocol):
    """
    The connection of L{LinkStreams}.
    """

    @property
    def peer_id(self) -> PeerId:
        """Peer id of the remote end (32 bytes)."""

    @property
    def opened_by_us(self) -> bool:
        """Whether this side dialled."""

    @property
    def has_room(self) -> bool:
        """Whether data that is sent now leaves at once: nothing waits, and the connection is open."""

    def send(self, frame: bytes) -> None:
        """Send encoded frames."""


@define(slots=True, eq=False)
class _Waiting:
    """
    One of our streams that waits for a common topic.
    """

    ready: Deferred[None]
    timeout: IDelayedCall


class LinkStreams:
    """
    The streams of one connection.

    @ivar is_waiting: whether streams wait for a common topic.
    """

    _log = Logger()

    def __init__(
        self,
        services: Services,
        connection: StreamConnection,
        is_member: Callable[[], bool],
        on_changed: Callable[[bool], object],
    ) -> None:
        """
        @param services: the services of all connections.
        @param connection: the connection.
        @param is_member: returns whether the peer and we share a topic now.
        @param on_changed: called with true when there is an open or waiting stream; with false when there is
            no longer one.
        """
        self._services = services
        self._connection = connection
        self._is_member = is_member
        self._on_changed = on_changed
        self._streams: dict[int, AppStream] = {}
        self._waiting: dict[_Waiting, None] = {}
        # Those that may have something to send, in turn.
        self._ready: dict[AppStream, None] = {}
        self._pumping = self._lost = False
        self._parity = 0 if connection.opened_by_us else 1
        self._next = self._parity
        self._theirs = -1

    @property
    def numbers(self) -> Collection[object]:
        """
        The open and waiting streams of the connection.
        """
        return self._streams or self._waiting

    @property
    def is_waiting(self) -> bool:
        return bool(self._waiting)

    def open(self, name: bytes) -> Deferred[AppStream]:
        """
        Open a stream, as soon as the peer and we share a topic.

        @param name: 1..255 bytes.
        @return: fires when the peer has accepted the stream; then call
            L{AppStream.connect} at once.  Fails with
            L{StreamRefused<dtt.errors.StreamRefused>}.  Cancelling it ends the stream.
        """
        return Deferred.fromCoroutine(self._open_when_admitted(name))

    def admitted(self) -> None:
        """
        Open the streams that waited for a common topic.
        """
        for waiting in tuple(self._waiting):
            cancel_if_active(waiting.timeout)
            # This opens the stream, which then no longer waits.
            waiting.ready.callback(None)
            self._stop_waiting(waiting)

    def received(self, frame: StreamFrame) -> None:
        """
        Handle a frame.

        @raise DecodeError: the peer violated the protocol.
        """
        number = frame.stream
        if isinstance(frame, StreamOpen):
            self._opened(frame)
            return
        stream = self._streams.get(number)
        if stream is None:
            used = number < self._next if number & 1 == self._parity else number <= self._theirs
            if not used:
                raise DecodeError("stream not open")
            self._services.counters["received_stream_late"] += 1
        elif isinstance(frame, StreamData):
            stream.data_received(frame.data)
        elif isinstance(frame, StreamCredit):
            stream.credit_received(frame.size)
        elif isinstance(frame, StreamEnd):
            stream.end_received()
        else:
            stream.reset_received(frame.reason)

    def pump(self) -> None:
        """
        Send what streams have to send while there is room.
        """
        if self._pumping or self._lost:
            return
        self._pumping = True
        try:
            while self._ready and self._connection.has_room:
                stream = next(iter(self._ready))
                del self._ready[stream]
                frames = stream.take(_TURN)
                if frames:
                    self._connection.send(b"".join(frames))
                    stream.taken()
                if stream.is_ready:
                    self._ready[stream] = None
        finally:
            self._pumping = False

    def lost(self, reason: str) -> None:
        """
        End all streams: the connection has ended.

        @param reason: why, in a few words.
        """
        self._lost = True
        for waiting in tuple(self._waiting):
            self._stop_waiting(waiting)
            waiting.ready.errback(StreamRefused(reason))
        for stream in tuple(self._streams.values()):
            stream.connection_lost(reason)
        # No longer called; it refers to the owner.
        self._on_changed = lambda _: None

    # StreamCarrier

    @property
    def backlog(self) -> Backlog:
        """
        The unsent data of all streams.
        """
        return self._services.backlog

    def send(self, frame: bytes) -> None:
        """
        Send a frame without data; it does not wait for other streams.
        """
        if not self._lost:
            self._connection.send(frame)

    def ready(self, stream: AppStream) -> None:
        """
        Take bytes from C{stream} when there is room.
        """
        self._ready[stream] = None
        self.pump()

    def ended(self, stream: AppStream) -> None:
        """
        Forget C{stream}.
        """
        self._ready.pop(stream, None)
        if self._streams.get(stream.number) is stream:
            self._services.count -= 1
            self._changing(lambda: self._streams.pop(stream.number))

    # Internals

    def _is_full(self) -> bool:
        return self._services.count >= MAX_STREAMS_IN_ALL

    def _changing(self, change: Callable[[], object]) -> None:
        before = bool(self.numbers)
        change()
        if before is not bool(self.numbers) and not self._lost:
            self._on_changed(not before)

    def _add(self, number: int, name: bytes) -> AppStream:
        host = StreamAddress(self._services.own_id, name)
        peer = StreamAddress(self._connection.peer_id, name)
        stream = AppStream(self._services.clock, self, number, host, peer)
        self._services.count += 1
        self._changing(lambda: self._streams.setdefault(number, stream))
        return stream

    async def _open_when_admitted(self, name: bytes) -> AppStream:
        if len(self._streams) + len(self._waiting) >= MAX_STREAMS or self._is_full():
            self._services.counters["stream_too_many"] += 1
            raise StreamRefused("there are too many streams")
        if not self._is_member():
            await self._wait()
        if self._next > MAX_NUMBER:
            raise StreamRefused("the connection has no more numbers for streams")
        return await self._open(name)

    def _wait(self) -> Deferred[None]:
        ready: Deferred[None] = Deferred(lambda _: self._stop_waiting(waiting))
        waiting = _Waiting(ready, self._services.clock.callLater(MAX_WAIT, lambda: self._give_up(waiting)))
        self._changing(lambda: self._waiting.setdefault(waiting))
        return ready

    def _open(self, name: bytes) -> Deferred[AppStream]:
        number, self._next = self._next, self._next + 2
        stream = self._add(number, name)
        self._services.counters["stream_opened"] += 1
        self.send(encode_stream_frame(StreamOpen(number, name)))
        return stream.accepted

    def _opened(self, frame: StreamOpen) -> None:
        number = frame.stream
        if number & 1 == self._parity or number <= self._theirs:
            raise DecodeError("bad stream number")
        self._theirs = number
        counters = self._services.counters
        refusal: int | None = None
        protocol: IProtocol | None = None
        if not self._is_member():
            refusal = NO_COMMON_TOPIC
        elif len(self._streams) >= MAX_STREAMS or self._is_full():
            refusal = TOO_MANY
        elif not self._services.is_served(frame.name):
            refusal = UNKNOWN_NAME
        else:
            try:
                protocol = self._services.build(StreamAddress(self._connection.peer_id, frame.name))
            except Exception:
                self._log.failure("unexpected error of an application that was to serve a stream")
            if protocol is None:
                refusal = REFUSED
        if refusal is not None or protocol is None:
            counters["stream_refused"] += 1
            self.send(encode_stream_frame(StreamReset(number, refusal or REFUSED)))
            return
        counters["stream_accepted"] += 1
        stream = self._add(number, frame.name)
        stream.accept()
        stream.connect(protocol)

    def _give_up(self, waiting: _Waiting) -> None:
        self._stop_waiting(waiting)
        waiting.ready.errback(StreamRefused("the peer shares no topic with us"))

    def _stop_waiting(self, waiting: _Waiting) -> None:
        cancel_if_active(waiting.timeout)
        self._changing(lambda: self._waiting.pop(waiting, None))
