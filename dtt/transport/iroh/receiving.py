"""
The receiving half of an iroh connection.

Rules (docs/protocol/gossip.md sections 4, 5 and 11): unidirectional streams are
accepted until the connection ends, and each is read to its end, however slow the
application is.  A stream is never stopped on a connection that stays open
(docs/protocol/gossip.md section 11, Q3): any protocol violation ends the whole
connection.  A header must be complete 10 s after its stream was opened; a bidirectional
stream is an error.  What arrived before the connection ended is still read.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.logger import Logger
from twisted.python.failure import Failure

from dtt.deferreds import cancel_if_active
from dtt.errors import DecodeError, RemoteError
from dtt.transport.backpressure import short_reason
from dtt.transport.iroh.bindings import IrohConnection, IrohRecvStream
from dtt.transport.iroh.calls import IrohFailure
from dtt.transport.iroh.loops import Loops
from dtt.transport.iroh.stream_parser import StreamParser

#: Bytes of one read, and of the next read after a full one (measured: the overhead of one read
#: equals that of several messages).  While a read waits, the library holds a buffer of that size
#: for each stream.
READ_SIZE, NEXT_READ_SIZE = 64 * 1024, 256 * 1024

#: Seconds from a stream's opening to the end of its header (guess; a stream becomes visible to us
#: with its first bytes).
HEADER_TIMEOUT = 10.0

#: Concurrently open streams per peer (iroh allows 100; docs/protocol/gossip.md section 5).
MAX_STREAMS = 100


class ReceiveStreams:
    """
    The receiving half of a connection.
    """

    _log = Logger()

    def __init__(
        self,
        loops: Loops,
        connection: IrohConnection,
        on_header: Callable[[bytes], None],
        on_messages: Callable[[bytes, list[bytes]], None],
        on_failed: Callable[[str], None],
        on_end: Callable[[], None],
    ) -> None:
        """
        @param loops: runs the readers.
        @param connection: the bindings' connection.
        @param on_header: called with the topic id of a new stream.
        @param on_messages: called with topic id and encoded messages; may raise.
        @param on_failed: called with a reason when the peer violated the protocol.
        @param on_end: called when the connection has ended, after everything that
            arrived before was read.
        """
        self._loops = loops
        self._connection = connection
        self._on_header = on_header
        self._on_messages = on_messages
        self._on_failed = on_failed
        self._on_end = on_end
        self._running = 0
        self._reading = 0

    def start(self) -> None:
        """
        Start accepting streams.
        """
        self._running = 1
        self._run(self._accept())
        self._run(self._accept_bidirectional())
        self._over(None)

    def _run(self, loop: Coroutine[Any, Any, None]) -> None:
        self._running += 1
        self._loops.run(loop, self._failed).addBoth(self._over)

    def _over(self, _: None) -> None:
        self._running -= 1
        if not self._running and not self._loops.stopped:
            self._on_end()

    def _failed(self, failure: Failure) -> None:
        error = failure.value
        if isinstance(error, IrohFailure):
            if not error.connection_lost():
                self._on_failed("stream reset")
        elif isinstance(error, RemoteError):
            self._on_failed(short_reason(error))
        else:
            self._log.failure("unexpected error while handling a message", failure)
            self._on_failed("internal error")

    async def _accept(self) -> None:
        while True:
            await self._loops.take_work()
            stream = await self._loops.call(self._connection.accept_uni())
            if self._reading >= MAX_STREAMS:
                raise DecodeError("too many streams")
            self._run(self._read(stream))

    async def _accept_bidirectional(self) -> None:
        await self._loops.call(self._connection.accept_bi())
        raise DecodeError("bidirectional stream")

    async def _read(self, stream: IrohRecvStream) -> None:
        """
        Read one stream to its end.
        """
        loops = self._loops
        parser = StreamParser()
        timeout = loops.clock.callLater(HEADER_TIMEOUT, self._on_failed, "no stream header")
        self._reading += 1
        try:
            size = READ_SIZE
            while data := await loops.call(stream.read(size)):
                size = NEXT_READ_SIZE if len(data) == size else READ_SIZE
                await loops.take_work()
                messages = parser.feed(data)
                while messages:
                    count = await loops.take_work(len(messages))
                    assert parser.topic_id is not None
                    self._on_messages(parser.topic_id, messages[:count])
                    if loops.stopped:
                        return
                    del messages[:count]
                if parser.fault is not None:
                    raise DecodeError(parser.fault)
                if timeout.active() and parser.topic_id is not None:
                    timeout.cancel()
                    self._on_header(parser.topic_id)
            parser.end()
        finally:
            self._reading -= 1
            cancel_if_active(timeout)
