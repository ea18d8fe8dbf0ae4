"""
Tests for L{dtt.transport.iroh.receiving}, over an in-memory QUIC network.
"""

from __future__ import annotations

from itertools import pairwise

from dtt.errors import DecodeError
from dtt.testing.iroh.streams import MemoryStream
from dtt.transport.iroh.loops import WORK_PER_TURN
from dtt.transport.iroh.receiving import NEXT_READ_SIZE, READ_SIZE
from dtt.wire.length_prefix import prefix
from tests.transport.iroh.common import TOPIC, IrohTestCase, RawPeer


class ReceivingTests(IrohTestCase):
    """
    Invalid input; L{tests.interop.test_iroh} tests the same over the real bindings.
    """

    def setUp(self) -> None:
        super().setUp()
        self.raw = RawPeer(self, 2)
        self.there = self.raw.connect(self.a)

    def test_malformed(self) -> None:
        """
        A malformed stream ends the connection, after the messages before it; the reason
        is counted and the topic notified.
        """
        good, more = prefix(b"good"), prefix(b"more")
        self.raw.write(self.there, prefix(TOPIC) + good + b"\xff\xff\xff\xff" + more)
        self.assertEqual(self.on_a.messages, [(self.raw.key.peer_id, b"good")])
        self.assertEqual(self.closed(), {"bad frame length": 1})
        self.assertEqual(self.on_a.disconnected, [self.raw.key.peer_id])
        self.assertEqual(self.net.connections, [])

    def test_other_streams_fall_silent(self) -> None:
        """
        After a fault nothing from the connection's other streams is delivered.
        """

        def refuse(peer_id: bytes, message: bytes) -> None:
            raise DecodeError("nonsense")

        self.on_a.on_message = refuse
        for _ in range(2):
            stream = self.raw.call(self.there.open_uni())
            self.raw.start(stream.write_all(prefix(TOPIC) + 3 * prefix(b"hello")))
        self.advance(0.1)
        self.assertEqual(len(self.on_a.messages), 1)
        self.assertEqual(self.closed(), {"nonsense": 1})

    def test_late_header(self) -> None:
        """
        A header must arrive within 10 s.
        """
        self.raw.write(self.there, prefix(TOPIC) + prefix(b"hello"))
        self.raw.write(self.there, prefix(TOPIC)[:35])
        self.advance(9.5)
        self.assertEqual(self.closed(), {})
        self.advance(0.6)
        self.assertEqual(self.closed(), {"no stream header": 1})

    def test_reset(self) -> None:
        """
        A stream that is reset ends the connection.
        """
        self.raw.write(self.there, prefix(TOPIC)).reset()
        self.advance(0.1)
        self.assertEqual(self.closed(), {"stream reset": 1})

    def test_bidirectional(self) -> None:
        """
        A bidirectional stream ends the connection.
        """
        self.raw.call(self.there.open_bi())
        self.assertEqual(self.closed(), {"bidirectional stream": 1})

    def test_too_many_streams(self) -> None:
        """
        A peer may have 100 open streams; finished ones do not count.
        """
        for _ in range(150):
            stream = self.raw.write(self.there, prefix(TOPIC))
            self.raw.call(stream.finish())
        for _ in range(100):
            self.raw.write(self.there, prefix(TOPIC))
        self.assertEqual(self.closed(), {})
        self.raw.write(self.there, prefix(TOPIC))
        self.assertEqual(self.closed(), {"too many streams": 1})

    def progress(self, count: int) -> list[int]:
        """
        Return how many messages have arrived in each turn, until there are C{count}.
        """
        progress = [0]

        def tick() -> None:
            progress.append(len(self.on_a.messages))
            if progress[-1] < count and len(progress) < 1000:
                self.clock.callLater(0, tick)

        def begin(peer_id: bytes, message: bytes) -> None:
            if len(self.on_a.messages) == 1:
                tick()

        self.on_a.on_message = begin
        self.advance(0.1)
        self.assertEqual(progress[-1], count)
        return progress

    def test_others_have_their_turn(self) -> None:
        """
        A peer that sends continuously does not starve the reactor.
        """
        self.net.window = 10_000_000
        data = prefix(TOPIC) + prefix(bytes(4000)) * 500
        self.raw.start(self.raw.call(self.there.open_uni()).write_all(data))
        self.assertLessEqual(max(b - a for a, b in pairwise(self.progress(500))), WORK_PER_TURN)

    def test_size_of_reads(self) -> None:
        """
        Only a full read is followed by a larger one: the library keeps a buffer of that
        size for each stream.
        """
        self.net.window = 10_000_000
        sizes: list[tuple[int, int]] = []
        original = MemoryStream.read

        async def read(stream: MemoryStream, size_limit: int) -> bytes:
            data = await original(stream, size_limit)
            sizes.append((size_limit, len(data)))
            return data

        self.patch(MemoryStream, "read", read)
        out = self.raw.call(self.there.open_uni())
        self.raw.start(out.write_all(prefix(TOPIC) + prefix(bytes(4000)) * 30))
        self.advance(0.1)
        for _ in range(2):
            self.raw.start(out.write_all(prefix(b"hello")))
            self.advance(0.1)
        self.assertEqual(
            sizes,
            [
                (READ_SIZE, READ_SIZE),
                (NEXT_READ_SIZE, 36 + 30 * 4004 - READ_SIZE),
                (READ_SIZE, 9),
                (READ_SIZE, 9),
            ],
        )

    def test_small_messages(self) -> None:
        """
        Neither does one that sends small messages on many streams; the streams take
        turns.
        """
        streams = [self.raw.call(self.there.open_uni()) for _ in range(90)]
        for stream in streams:
            self.raw.start(stream.write_all(prefix(TOPIC) + prefix(b"x") * 200))
        self.assertLessEqual(max(b - a for a, b in pairwise(self.progress(18000))), WORK_PER_TURN)

    def test_short_streams(self) -> None:
        """
        Neither does one that opens a stream for each message.
        """
        data = prefix(TOPIC) + prefix(b"x")

        async def speak() -> None:
            stream = await self.there.open_uni()
            await stream.write_all(data)
            await stream.finish()

        for _ in range(1000):
            self.raw.start(speak())
        self.assertLessEqual(max(b - a for a, b in pairwise(self.progress(1000))), WORK_PER_TURN)
