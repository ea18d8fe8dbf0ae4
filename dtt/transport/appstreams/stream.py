"""
One application stream, as the transport of a Twisted protocol.

Rules (docs/protocol/streams.md section 7):

  - A protocol that pauses its transport makes the other side stop after a window.
  - C{loseConnection} ends the stream once everything written was sent and the producer,
    if there is one, has unregistered.  As over TCP, nothing more is read.
  - The end of the peer's bytes is C{readConnectionLost} for a protocol that provides
    C{IHalfCloseableProtocol}; for another one the stream is closed, after everything
    that it has written was sent.
  - An application that writes without regard to its producer's pauses is stopped by
    L{MAX_UNSENT}: the peer decides how fast it reads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from attrs import field, frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IAddress,
    IConsumer,
    IDelayedCall,
    IHalfCloseableProtocol,
    IProtocol,
    IPushProducer,
    IReactorTime,
    ITransport,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from dtt.deferreds import cancel_if_active
from dtt.errors import DecodeError, StreamRefused
from dtt.interfaces import PeerId
from dtt.transport.appstreams.flow import WINDOW, Backlog, Incoming, Outgoing
from dtt.transport.appstreams.frames import (
    ABORTED,
    NO_COMMON_TOPIC,
    REFUSED,
    TOO_MANY,
    UNKNOWN_NAME,
    StreamCredit,
    StreamData,
    StreamEnd,
    StreamFrame,
    StreamReset,
    encode_stream_frame,
)

#: Unsent bytes above which a registered producer is paused, and below which it is resumed
#: (twisted.internet.abstract.FileDescriptor has the first).
PAUSE_ABOVE, RESUME_BELOW = 64 * 1024, 32 * 1024

#: Bytes of one stream, and of all streams, that may wait when something is written to a stream; with
#: more, the stream is aborted: of several, one that has more than a window waiting (guesses; the
#: first as for gossip, L{dtt.transport.backpressure.UNSENT_LIMIT}).
MAX_UNSENT, MAX_UNSENT_IN_ALL = 16 * 1024 * 1024, 256 * 1024 * 1024

#: Seconds that a stream that we have closed waits for the peer to read on (guess: nobody here waits
#: for it, and it keeps what was written).
CLOSE_TIMEOUT = 300.0

#: The reasons with which a peer refuses a stream.
_REFUSALS = {
    UNKNOWN_NAME: "the peer does not serve this name",
    NO_COMMON_TOPIC: "the peer shares no topic with us",
    TOO_MANY: "the peer has too many streams",
    REFUSED: "the application of the peer refused it",
}


@implementer(IAddress)
@frozen(slots=True)
class StreamAddress:
    """
    One end of an application stream, as a Twisted address.

    @ivar peer_id: the member, 32 bytes.
    @ivar name: the name under which the stream was opened, 1..255 bytes.
    """

    peer_id: PeerId = field(repr=bytes.hex)
    name: bytes


class StreamCarrier(Protocol):
    """
    The connection of an L{AppStream}.
    """

    @property
    def backlog(self) -> Backlog:
        """The unsent data of all streams."""

    def send(self, frame: bytes) -> None:
        """Send an encoded frame."""

    def ready(self, stream: AppStream) -> None:
        """Take bytes from C{stream} when there is room for them."""

    def ended(self, stream: AppStream) -> None:
        """Forget C{stream}."""


@implementer(ITransport, IConsumer, IPushProducer)
class AppStream:
    """
    One end of a stream.

    @ivar number: its number on the connection.
    @ivar accepted: on the side that opens: fires with this object when the peer has
        accepted the stream; fails with L{StreamRefused<dtt.errors.StreamRefused>}.
    @ivar disconnecting: whether L{loseConnection} was called.
    @ivar on_lost: called without arguments at the end of a stream that had a protocol.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        carrier: StreamCarrier,
        number: int,
        host: StreamAddress,
        peer: StreamAddress,
    ) -> None:
        """
        @param clock: schedules timeouts.
        @param carrier: the connection.
        @param number: the number of the stream.
        @param host: this end.
        @param peer: the other end.
        """
        self.number = number
        self.accepted: Deferred[AppStream] = Deferred(lambda _: self._abort(Failure(CancelledError())))
        self.disconnecting = False
        self.on_lost: Callable[[], object] = lambda: None
        self._clock = clock
        self._carrier = carrier
        self._host, self._peer = host, peer
        self._protocol: IProtocol | None = None
        self._outgoing, self._incoming = Outgoing(carrier.backlog), Incoming()
        # What has arrived and the protocol has not taken.
        self._received: deque[bytes] = deque()
        self._paused = False
        self._delivery: IDelayedCall | None = None
        self._peer_ended = self._peer_reset = self._read_lost = False
        self._finishing = self._write_ended = self._closed = False
        self._producer: Any = None
        self._is_push = self._producer_paused = False
        self._timeout: IDelayedCall | None = None

    def __repr__(self) -> str:
        return f"<AppStream {self.number} {self._peer.name!r} with {self._peer.peer_id.hex()[:10]}>"

    # From the connection

    def connect(self, protocol: IProtocol) -> None:
        """
        Attach the protocol; what has arrived before is delivered soon.
        """
        self._protocol = protocol
        self._guard(lambda: protocol.makeConnection(self))
        self._deliver_soon()

    def accept(self) -> None:
        """
        Accept the peer's stream, and let it send.  By opening the stream, it has let us send.
        """
        self._outgoing.credited(WINDOW)
        self._send(StreamCredit(self.number, WINDOW))

    def data_received(self, data: bytes) -> None:
        """
        Handle bytes from the peer.

        @raise DecodeError: they are more than were allowed, or come after the end.
        """
        if self._peer_ended:
            raise DecodeError("stream data after the end")
        self._incoming.received(len(data))
        if self.disconnecting:
            self._taken(len(data))
        elif self._paused or self._received or self._delivery is not None or self._protocol is None:
            self._received.append(data)
        else:
            self._deliver(data)

    def credit_received(self, size: int) -> None:
        """
        Handle that the peer allows more bytes; the first time, that it accepts the stream.

        @raise DecodeError: it allows too many.
        """
        self._outgoing.credited(size)
        if self._timeout is not None:
            self._timeout.reset(CLOSE_TIMEOUT)
        if not self.accepted.called and self._protocol is None:
            self.accepted.callback(self)
        self._ready()

    def end_received(self) -> None:
        """
        Handle that the peer sends no more.

        @raise DecodeError: it has said so before.
        """
        if self._peer_ended:
            raise DecodeError("stream ended twice")
        self._peer_ended = True
        self._end_of_input()

    def reset_received(self, reason: int) -> None:
        """
        Handle that the peer no longer sends or reads.  What it sent before it has
        ended its side still counts.

        @param reason: the reason in its frame.
        """
        if not self.accepted.called and self._protocol is None:
            text = _REFUSALS.get(reason, "the peer has ended it")
            self._finish(Failure(StreamRefused(text)))
        elif self._peer_ended:
            self._peer_reset = True
            self._outgoing.clear()
            self._end_of_input()
        else:
            self._finish(Failure(ConnectionLost("the peer has aborted the stream")))

    def connection_lost(self, reason: str) -> None:
        """
        Handle the end of the connection.
        """
        refused = not self.accepted.called and self._protocol is None
        self._finish(Failure((StreamRefused if refused else ConnectionLost)(reason)), at_once=True)

    @property
    def unsent(self) -> int:
        """
        Bytes that were written and not sent yet.
        """
        return len(self._outgoing)

    @property
    def is_ready(self) -> bool:
        """
        Whether L{take} would return something.
        """
        return not self._closed and self._outgoing.ready

    def take(self, frames: int) -> list[bytes]:
        """
        Return the next encoded frames.

        @param frames: how many at most.
        """
        taken: list[bytes] = []
        while len(taken) < frames and self._outgoing.ready:
            taken.append(encode_stream_frame(StreamData(self.number, self._outgoing.take())))
        return taken

    def taken(self) -> None:
        """
        Note that what L{take} returned was sent: ask the producer for more, or end.
        """
        unsent = self.unsent
        if self._producer is not None:
            if self._producer_paused and unsent < RESUME_BELOW:
                self._producer_paused = False
                self._guard(self._producer.resumeProducing)
            elif not self._is_push and not unsent:
                self._guard(self._producer.resumeProducing)
        self._end_if_done()

    # ITransport

    def write(self, data: bytes) -> None:
        """
        Send C{data} when the peer and the connection have room for it.
        """
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"data must be bytes, not {type(data).__name__}")
        if self._closed or self._write_ended or self._peer_reset or not data:
            return
        if self._finishing and self._producer is None:
            return
        in_all = self._carrier.backlog.size
        if self.unsent > MAX_UNSENT or (in_all > MAX_UNSENT_IN_ALL and self.unsent > WINDOW):
            self._abort(Failure(ConnectionLost("the peer reads too slowly")))
            return
        self._outgoing.write(data)
        self._ready()
        if self.unsent > PAUSE_ABOVE and self._is_push and not self._producer_paused:
            self._producer_paused = True
            self._guard(self._producer.pauseProducing)

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        """
        Send the concatenated pieces.
        """
        self.write(b"".join(iovec))

    def loseConnection(self) -> None:
        """
        End the stream once everything written was sent; read nothing more.
        """
        if not self._closed and not self.disconnecting:
            self.disconnecting = True
            # The peer may have to write before it reads.
            self._taken(sum(map(len, self._received)))
            self._received.clear()
            self._timeout = self._clock.callLater(CLOSE_TIMEOUT, self._close_timed_out)
            self._finish_writing()

    def loseWriteConnection(self) -> None:
        """
        End our side once everything written was sent; continue reading.
        """
        if not self._closed:
            self._finish_writing()

    def abortConnection(self) -> None:
        """
        End the stream at once; what was not sent is lost.
        """
        self._abort(Failure(ConnectionAborted()))

    def getPeer(self) -> StreamAddress:
        """
        Return the other end: the id of the member that its connection has proved.
        """
        return self._peer

    def getHost(self) -> StreamAddress:
        """
        Return this end.
        """
        return self._host

    # IPushProducer

    def pauseProducing(self) -> None:
        """
        Deliver nothing until L{resumeProducing}; the peer stops after a window.
        """
        self._paused = True

    def resumeProducing(self) -> None:
        """
        Deliver again, from the next turn of the reactor on.
        """
        self._paused = False
        self._deliver_soon()

    def stopProducing(self) -> None:
        """
        End the stream.
        """
        self.loseConnection()

    # IConsumer

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        Let C{producer} write as fast as the peer reads.

        @raise RuntimeError: there is a producer already.
        """
        if self._producer is not None:
            raise RuntimeError(f"{self!r} has a producer already: {self._producer!r}")
        if self._closed:
            producer.stopProducing()
            return
        self._producer, self._is_push, self._producer_paused = producer, bool(streaming), False
        if not streaming:
            self._guard(producer.resumeProducing)

    def unregisterProducer(self) -> None:
        """
        Forget the producer.
        """
        self._producer, self._is_push, self._producer_paused = None, False, False
        self._end_if_done()

    # Internals

    def _send(self, frame: StreamFrame) -> None:
        self._carrier.send(encode_stream_frame(frame))

    def _ready(self) -> None:
        if self._outgoing.ready:
            self._carrier.ready(self)

    def _guard(self, call: Callable[[], object]) -> bool:
        """
        Call the application; return whether it raised nothing.
        """
        try:
            call()
        except Exception:
            failure = Failure()
            self._log.failure("{stream}: unexpected error in the application", failure, stream=self)
            self._abort(failure)
            return False
        return True

    def _deliver(self, data: bytes) -> None:
        protocol = self._protocol
        assert protocol is not None
        if self._guard(lambda: protocol.dataReceived(data)):
            self._taken(len(data))

    def _taken(self, size: int) -> None:
        """
        Let the peer send more after C{size} bytes were taken.
        """
        if not (self._closed or self._peer_ended) and (more := self._incoming.taken(size)):
            self._send(StreamCredit(self.number, more))

    def _deliver_soon(self) -> None:
        waiting = self._received or self._peer_ended
        if waiting and self._delivery is None and not self._closed:
            self._delivery = self._clock.callLater(0, self._deliver_received)

    def _deliver_received(self) -> None:
        self._delivery = None
        while self._received and not (self._paused or self._closed):
            self._deliver(self._received.popleft())
        self._end_of_input()

    def _end_of_input(self) -> None:
        """
        Notify the protocol of the end, once it has taken everything.
        """
        if not self._peer_ended or self._closed or self._protocol is None:
            return
        waits = (self._received or self._paused or self._delivery is not None) and not self.disconnecting
        if waits:
            return
        if not self._read_lost:
            self._read_lost = True
            half: Any = IHalfCloseableProtocol(self._protocol, None)
            if self.disconnecting or self._peer_reset:
                pass
            elif half is not None:
                self._guard(half.readConnectionLost)
            else:
                self.loseConnection()
        if self._peer_reset or self._write_ended:
            self._finish(Failure(ConnectionDone()))

    def _finish_writing(self) -> None:
        self._finishing = True
        self._end_if_done()

    def _close_timed_out(self) -> None:
        self._timeout = None
        self._abort(Failure(ConnectionLost("the peer reads too slowly")))

    def _end_if_done(self) -> None:
        """
        End our side if that was asked for and everything was sent.
        """
        if not self._finishing or self.unsent or self._producer is not None or self._closed:
            return
        if not self._write_ended:
            self._write_ended = True
            self._send(StreamEnd(self.number))
            half: Any = IHalfCloseableProtocol(self._protocol, None)
            if half is not None and not self.disconnecting:
                self._guard(half.writeConnectionLost)
        if self.disconnecting:
            if not self._peer_ended:
                self._reset()
            self._finish(Failure(ConnectionDone()))
        elif self._read_lost:
            self._finish(Failure(ConnectionDone()))

    def _abort(self, reason: Failure) -> None:
        self._reset()
        self._finish(reason)

    def _reset(self) -> None:
        if not self._closed:
            self._send(StreamReset(self.number, ABORTED))

    def _finish(self, reason: Failure, *, at_once: bool = False) -> None:
        """
        Release everything, and notify the application.

        @param at_once: notify now; otherwise in the next turn of the reactor, because the application may be
            our caller.
        """
        if self._closed:
            return
        self._closed = True
        for timer in (self._timeout, self._delivery):
            cancel_if_active(timer)
        self._received.clear()
        self._outgoing.clear()
        self._carrier.ended(self)
        if self._protocol is not None:
            if at_once:
                self._tell_lost(reason)
            else:
                self._clock.callLater(0, self._tell_lost, reason)
        elif not self.accepted.called:
            self.accepted.errback(reason)

    def _tell_lost(self, reason: Failure) -> None:
        producer, self._producer = self._producer, None
        protocol, self._protocol = self._protocol, None
        if producer is not None:
            self._guard(producer.stopProducing)
        if protocol is not None:
            self._guard(lambda: protocol.connectionLost(reason))
        self.on_lost()
