"""
The receiving half of an iroh connection.

Rules (docs/protocol/gossip.md sections 4, 5 and 11): unidirectional streams are
accepted until the connection ends, and each is read to its end, however slow the
application is.  A stream is never stopped on a connection that stays open
(docs/protocol/gossip.md section 11, Q3): any protocol violation ends the whole
connection.  A header must be complete 10 s after its stream was opened.  What arrived
before the connection ended is still read.

A stranger may open streams, so an idle stream costs little: while a read waits, the
library holds a buffer of its size.  Reads are small until much has arrived, and few
streams of a connection have large ones at a time.  Streams whose header is incomplete,
streams of topics that are not open, and streams of the same topic are limited.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from twisted.logger import Logger
from twisted.python.failure import Failure

from dtt.deferreds import cancel_if_active
from dtt.errors import DecodeError, RemoteError
from dtt.transport.backpressure import short_reason
from dtt.transport.iroh.bindings import IrohConnection, IrohRecvStream
from dtt.transport.iroh.calls import IrohFailure
from dtt.transport.iroh.loops import Loops
from dtt.transport.iroh.stream_parser import MAX_RECEIVED, StreamParser

#: Bytes of a read while the header is incomplete.
HEADER_READ = 512

#: Bytes of a read; a full one is followed by one of the next size, and one that would have fitted
#: into the size before by that.  Measured: the overhead of one read equals that of several messages.
READ_SIZES = (4 * 1024, 64 * 1024, 256 * 1024)

#: Streams of a connection whose reads are larger than the first of L{READ_SIZES} (guess: more topics
#: than are busy at the same time).
MAX_LARGE_READS = 4

#: Seconds from a stream's opening to the end of its header (guess; a stream becomes visible to us
#: with its first bytes).
HEADER_TIMEOUT = 10.0

#: Concurrently open streams per peer (iroh allows 100; docs/protocol/gossip.md section 5).
MAX_STREAMS = 100

#: Units of work of a new stream, and of a read (measured: as many messages take as long).
ACCEPT_UNITS, READ_UNITS = 8, 4

#: Open streams whose header is incomplete (guess: a header is in the same packet as the first bytes
#: that make its stream visible, unless packets were lost).
MAX_WITHOUT_HEADER = 32

#: Open streams of topics that we have not opened, and of one topic that we have (guess: 16 as over
#: streams, docs/protocol/streams.md section 1; an honest peer has one stream of a topic, and some
#: that it has finished).
MAX_UNKNOWN, MAX_PER_TOPIC = 16, 8


class ReceiveStreams:
    """
    The receiving half of a connection.

    @ivar max_message_size: the size in bytes of the largest message.
    """

    _log = Logger()

    def __init__(
        self,
        loops: Loops,
        connection: IrohConnection,
        on_header: Callable[[bytes], bool],
        on_messages: Callable[[bytes, list[bytes]], None],
        on_failed: Callable[[str], None],
        on_end: Callable[[], None],
    ) -> None:
        """
        @param loops: runs the readers.
        @param connection: the bindings' connection.
        @param on_header: called with the topic id of a new stream; returns whether the
            topic is open.
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
        self.max_message_size = MAX_RECEIVED
        self._running = 0
        # Open streams by topic id; C{None}: without a header, C{b""}: of topics that are not open.
        self._open: Counter[bytes | None] = Counter()
        self._large = 0

    def start(self) -> None:
        """
        Start accepting streams.
        """
        self._running = 1
        self._run(self._accept())
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
            await self._loops.take_work(ACCEPT_UNITS)
            stream = await self._loops.call(self._connection.accept_uni())
            if self._open.total() >= MAX_STREAMS or self._open[None] >= MAX_WITHOUT_HEADER:
                raise DecodeError("too many streams")
            self._run(self._read(stream))

    async def _read(self, stream: IrohRecvStream) -> None:
        """
        Read one stream to its end.
        """
        parser = StreamParser(self.max_message_size)
        self._open[None] += 1
        kind = None
        try:
            await self._read_header(stream, parser)
            topic_id = parser.topic_id
            if topic_id is None:
                return
            known = self._on_header(topic_id)
            self._open[None] -= 1
            kind = topic_id if known else b""
            self._open[kind] += 1
            if self._open[kind] > (MAX_PER_TOPIC if known else MAX_UNKNOWN):
                raise DecodeError("too many streams")
            await self._read_messages(stream, parser, topic_id, READ_SIZES if known else READ_SIZES[:1])
        finally:
            self._open[kind] -= 1
            if not self._open[kind]:
                del self._open[kind]

    async def _read_header(self, stream: IrohRecvStream, parser: StreamParser) -> None:
        """
        Read until the topic is known, or to the end of the stream.  Messages that have
        arrived with the header are left in C{parser}.
        """
        loops = self._loops
        timeout = loops.clock.callLater(HEADER_TIMEOUT, self._on_failed, "no stream header")
        try:
            while parser.topic_id is None:
                data = await loops.call(stream.read(HEADER_READ))
                await loops.take_work(READ_UNITS)
                if not data:
                    parser.end()
                    return
                parser.feed(data, 0)
                if parser.fault is not None:
                    raise DecodeError(parser.fault)
        finally:
            cancel_if_active(timeout)

    async def _read_messages(
        self, stream: IrohRecvStream, parser: StreamParser, topic_id: bytes, sizes: Sequence[int]
    ) -> None:
        """
        Read messages to the end of the stream.

        @param sizes: the bytes of a read, as in L{READ_SIZES}.
        """
        await self._deliver(parser, topic_id, b"")
        level = 0
        while data := await self._read_some(stream, sizes[level]):
            if len(data) == sizes[level]:
                level = min(level + 1, len(sizes) - 1)
            elif level and len(data) <= sizes[level - 1]:
                level -= 1
            if level and self._large >= MAX_LARGE_READS:
                level = 0
            await self._deliver(parser, topic_id, data)
        parser.end()

    async def _read_some(self, stream: IrohRecvStream, size: int) -> bytes:
        large = size > READ_SIZES[0]
        self._large += large
        try:
            return await self._loops.call(stream.read(size))
        finally:
            self._large -= large

    async def _deliver(self, parser: StreamParser, topic_id: bytes, data: bytes) -> None:
        """
        Pass on the messages that C{data} completes, as many at a time as a turn of the
        reactor has room for.
        """
        loops = self._loops
        needed = READ_UNITS
        while data or parser.pending:
            units = await loops.take_work()
            messages = parser.feed(data, units)
            data = b""
            if messages:
                self._on_messages(topic_id, messages)
                if loops.stopped:
                    return
            loops.work_done(parser.unused - needed)
            needed = 0
            if parser.fault is not None:
                raise DecodeError(parser.fault)
