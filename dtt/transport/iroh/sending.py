"""
The sending half of an iroh connection: one stream per topic.

Rules (docs/protocol/gossip.md sections 4 and 5): a topic's stream is opened for its
first message; its header is part of the same write.  Messages sent in one reactor turn
are written together, and so are messages that wait for a write to finish.  After a
C{Disconnect} the stream is finished, and the next message of the topic opens a new
one.  The connection is closed if the peer has more than 1 MiB unsent for 10 s, or reads
nothing for 30 s while callers wait for it (docs/protocol/streams.md section 1).
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from dtt.deferreds import Waiters, cancel_if_active
from dtt.transport.backpressure import UNSENT_LIMIT, WRITABLE, SlowReaderTimeout, take_bytes
from dtt.transport.iroh.bindings import IrohConnection
from dtt.transport.iroh.calls import IrohFailure
from dtt.transport.iroh.loops import Loops
from dtt.wire.length_prefix import HEADER_SIZE, encode_length, prefix

#: Bytes of one write (guess: large enough that the cost per byte is negligible).
MAX_WRITE = 256 * 1024

#: Seconds for finished streams to be acknowledged (docs/protocol/gossip.md section 1, stream
#: finishing timeout).
FINISH_TIMEOUT = 5.0

#: Finished streams that a peer may leave unacknowledged (guess; it may have 100 of our streams
#: open).
MAX_FINISHING = 64


@define(slots=True, eq=False)
class _Stream:
    """
    @ivar queue: unwritten frames, in one buffer: so they cost what they count, however
        small they are.
    @ivar finishing: whether no more messages are added.
    @ivar idle: what the writer waits for while the queue is empty.
    """

    queue: bytearray = field(factory=bytearray, repr=False)
    finishing: bool = False
    idle: Deferred[None] | None = None


class SendStreams:
    """
    The sending half of a connection.

    @ivar unsent: bytes that the library has not accepted yet.
    """

    _log = Logger()

    def __init__(
        self,
        loops: Loops,
        connection: IrohConnection,
        on_failed: Callable[[str], None],
        on_writable: Callable[[], None],
    ) -> None:
        """
        @param loops: runs the writers.
        @param connection: the bindings' connection.
        @param on_failed: called with a reason when the connection is unusable; never
            called from within a method of this object.
        @param on_writable: called when fewer than L{WRITABLE} bytes are unsent again.
        """
        self.unsent = 0
        self._loops = loops
        self._clock = loops.clock
        self._connection = connection
        self._on_failed = on_failed
        self._on_writable = on_writable
        self._streams: dict[bytes, _Stream] = {}
        self._finishing: dict[_Stream, None] = {}
        self._to_wake: list[Deferred[None]] = []
        self._wake: IDelayedCall | None = None
        self._failing: IDelayedCall | None = None
        self._slow_reader = SlowReaderTimeout(self._clock, lambda: on_failed("slow reader"))
        self._finished: Waiters[None] = Waiters()
        self._stopped = False

    def send(self, topic_id: bytes, message: bytes) -> None:
        """
        Send one encoded gossip message; dropped after L{stop}.
        """
        if self._stopped:
            return
        stream = self._streams.get(topic_id) or self._open(topic_id)
        stream.queue += encode_length(len(message))
        stream.queue += message
        self.unsent += HEADER_SIZE + len(message)
        if stream.idle is not None:
            self._later(stream)
        if self.unsent >= WRITABLE:
            self._slow_reader.queued(self.unsent)
            if self.unsent > UNSENT_LIMIT:
                self._give_up("slow reader")

    def finish(self, topic_id: bytes) -> None:
        """
        Finish the topic's stream after what was sent; does nothing if there is none.
        """
        stream = self._streams.pop(topic_id, None)
        if stream is None:
            return
        stream.finishing = True
        self._finishing[stream] = None
        self._later(stream)
        if len(self._finishing) > MAX_FINISHING:
            self._give_up("streams not acknowledged")

    def finish_all(self) -> None:
        """
        Finish all streams.
        """
        for topic_id in tuple(self._streams):
            self.finish(topic_id)

    def when_finished(self) -> Deferred[None]:
        """
        Return a Deferred that fires when every finished stream is acknowledged, or when
        L{stop} was called.
        """
        result = self._finished.wait()
        self._check_finished()
        return result

    def stop(self) -> None:
        """
        Drop everything unsent and send nothing more; the owner stops the loops.
        """
        self._stopped = True
        self.unsent = 0
        self._slow_reader.cancel()
        for call in (self._wake, self._failing):
            cancel_if_active(call)
        self._streams.clear()
        self._finishing.clear()
        self._check_finished()

    # Internals

    def _give_up(self, reason: str) -> None:
        """
        Stop, and report the reason in the next turn: the caller is in the middle of an
        operation.
        """
        self.stop()
        self._failing = self._clock.callLater(0, self._on_failed, reason)

    def _open(self, topic_id: bytes) -> _Stream:
        stream = self._streams[topic_id] = _Stream()
        stream.queue += prefix(topic_id)
        self.unsent += HEADER_SIZE + len(topic_id)
        self._loops.run(self._write(stream), self._failed)
        return stream

    def _later(self, stream: _Stream) -> None:
        """
        Wake the writer in the next turn, so that messages sent in this turn are written
        together.
        """
        if stream.idle is None:
            return
        self._to_wake.append(stream.idle)
        stream.idle = None
        if self._wake is None:
            self._wake = self._clock.callLater(0, self._wake_all)

    def _wake_all(self) -> None:
        self._wake = None
        waiting, self._to_wake = self._to_wake, []
        for idle in waiting:
            # An earlier writer may have stopped all.
            if not idle.called:
                idle.callback(None)

    async def _write(self, stream: _Stream) -> None:
        """
        Open, write and finish one stream.
        """
        await self._idle(stream)
        out = await self._loops.call(self._connection.open_uni())
        while True:
            while stream.queue:
                data = take_bytes(stream.queue, MAX_WRITE)
                await self._loops.call(out.write_all(data))
                self._written(len(data))
            if stream.finishing:
                break
            await self._idle(stream)
        await self._loops.call(out.finish())
        await self._loops.call(out.stopped())
        self._finishing.pop(stream, None)
        self._check_finished()

    async def _idle(self, stream: _Stream) -> None:
        stream.idle = Deferred()
        await self._loops.wait(stream.idle)

    def _written(self, size: int) -> None:
        before = self.unsent
        self.unsent -= size
        self._slow_reader.drained(self.unsent)
        if self.unsent < WRITABLE <= before:
            self._on_writable()

    def _failed(self, failure: Failure) -> None:
        if not isinstance(failure.value, IrohFailure):
            self._log.failure("unexpected error while writing a stream", failure)
            self._on_failed("internal error")
        elif not failure.value.connection_lost():
            self._on_failed("stream stopped")

    def _check_finished(self) -> None:
        if not self._finishing:
            self._finished.fire(None)
