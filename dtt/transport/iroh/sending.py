"""
What one iroh connection sends: a stream for each topic.

Rules (docs/protocol/gossip.md sections 4 and 5): a topic's stream is opened for its
first message; its header goes out in the same write.  What is sent in one turn
of the reactor is written at once, and what waits for a write is written
together.  After a C{Disconnect} the stream is finished, and the next message of
the topic opens a new one.  A peer with more than 1 MiB unsent for 10 s, or that
takes nothing for 30 s while others wait for it, is cut off (docs/protocol/streams.md section 1).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from dtt.deferreds import cancel_if_active
from dtt.transport.backpressure import UNSENT_LIMIT, WRITABLE, Patience
from dtt.transport.iroh.bindings import IrohConnection
from dtt.transport.iroh.calls import IrohFailure
from dtt.transport.iroh.loops import Loops
from dtt.transport.iroh.stream_parser import MAX_SENT
from dtt.wire.length_prefix import HEADER_SIZE, encode_length, prefix

#: Bytes of one write, and what the last frame in it may have beyond them (guess:
#: large enough that its cost per byte does not matter).
MAX_WRITE, _BEYOND = 256 * 1024, HEADER_SIZE + MAX_SENT

#: Seconds that finished streams have to be acknowledged (docs/protocol/gossip.md
#: section 1, stream finishing timeout).
FINISH_TIMEOUT = 5.0

#: Streams that a peer may leave unacknowledged, of topics that have ended (guess;
#: it may have 100 of ours open).
MAX_FINISHING = 64


@define(slots=True, eq=False)
class _Stream:
    """
    @ivar queue: what waits: of each frame its length, then its body (joined here,
        the body would be copied once more).
    @ivar finishing: nothing is added any more.
    @ivar idle: what its writer waits for while it has nothing to do.
    """

    queue: list[bytes] = field(factory=list, repr=False)
    finishing: bool = False
    idle: Deferred[None] | None = None


class SendStreams:
    """
    The sending half of a connection.

    @ivar unsent: bytes that the library has not taken yet.
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
        @param on_failed: told why the connection is of no use any more; never
            within a call of ours.
        @param on_writable: told when fewer than L{WRITABLE} bytes are unsent again.
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
        self._patience = Patience(self._clock, lambda: on_failed("slow reader"))
        self._finished: list[Deferred[None]] = []
        self._stopped = False

    def send(self, topic_id: bytes, message: bytes) -> None:
        """
        Send one encoded gossip C{Message}; dropped after L{stop}.
        """
        if self._stopped:
            return
        stream = self._streams.get(topic_id) or self._open(topic_id)
        stream.queue += (encode_length(len(message)), message)
        self.unsent += HEADER_SIZE + len(message)
        if stream.idle is not None:
            self._later(stream)
        if self.unsent >= WRITABLE:
            self._patience.waiting(self.unsent)
            if self.unsent > UNSENT_LIMIT:
                self._give_up("slow reader")

    def finish(self, topic_id: bytes) -> None:
        """
        End the topic's stream after what was sent; nothing if there is none.
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
        End all streams.
        """
        for topic_id in tuple(self._streams):
            self.finish(topic_id)

    def when_finished(self) -> Deferred[None]:
        """
        Fires when all streams that were finished are acknowledged, given up, or
        stopped.
        """
        result: Deferred[None] = Deferred()
        self._finished.append(result)
        self._check_finished()
        return result

    def stop(self) -> None:
        """
        Send nothing any more; the loops are stopped elsewhere.
        """
        self._stopped = True
        self.unsent = 0
        self._patience.end()
        for call in (self._wake, self._failing):
            cancel_if_active(call)
        self._streams.clear()
        self._finishing.clear()
        self._check_finished()

    # Inside

    def _give_up(self, reason: str) -> None:
        """
        Say so in the next turn: the caller is in the middle of something.
        """
        self.stop()
        self._failing = self._clock.callLater(0, self._on_failed, reason)

    def _open(self, topic_id: bytes) -> _Stream:
        stream = self._streams[topic_id] = _Stream()
        stream.queue.append(prefix(topic_id))
        self.unsent += HEADER_SIZE + len(topic_id)
        self._loops.run(self._write(stream), self._failed)
        return stream

    def _later(self, stream: _Stream) -> None:
        """
        Go on in the next turn, with all that is sent in this one.
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
            # One of them may have stopped all.
            if not idle.called:
                idle.callback(None)

    async def _write(self, stream: _Stream) -> None:
        """
        The life of a stream.
        """
        await self._idle(stream)
        out = await self._loops.call(self._connection.open_uni())
        while True:
            while stream.queue:
                data = self._take(stream)
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

    def _take(self, stream: _Stream) -> bytes:
        queue = stream.queue
        end = len(queue)
        if self.unsent > MAX_WRITE + _BEYOND:
            sizes = enumerate(accumulate(map(len, queue)), 1)
            end = next((number for number, size in sizes if size >= MAX_WRITE), end)
        data = b"".join(queue[:end])
        del queue[:end]
        return data

    def _written(self, size: int) -> None:
        before = self.unsent
        self.unsent -= size
        self._patience.taken(self.unsent)
        if self.unsent < WRITABLE <= before:
            self._on_writable()

    def _failed(self, failure: Failure) -> None:
        if not isinstance(failure.value, IrohFailure):
            self._log.failure("a stream could not be written", failure)
            self._on_failed("internal error")
        elif not failure.value.connection_lost():
            self._on_failed("stream stopped")

    def _check_finished(self) -> None:
        if not self._finishing:
            waiting, self._finished = self._finished, []
            for result in waiting:
                result.callback(None)
