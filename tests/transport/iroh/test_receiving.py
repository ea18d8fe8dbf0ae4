"""
Tests for L{dtt.transport.iroh.receiving}, over an in-memory QUIC network.
"""

from __future__ import annotations

from itertools import pairwise

from dtt.errors import DecodeError
from dtt.testing.iroh.streams import MemoryStream
from dtt.testing.memory_transport import RecordingLinks
from dtt.transport.iroh.receiving import (
    HEADER_READ,
    MAX_LARGE_READS,
    MAX_PER_TOPIC,
    MAX_UNKNOWN,
    MAX_WITHOUT_HEADER,
    READ_SIZES,
)
from dtt.transport.share import PORTION, UNITS
from dtt.wire.length_prefix import prefix
from tests.sweeps import sized
from tests.transport.iroh.common import OTHER, SECRET, TOPIC, IrohTestCase, RawPeer


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
        self.assertEqual(self.closed(), {"frame too large": 1})
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
        A peer that has dialled opens one bidirectional stream, for proofs; a second one
        ends the connection.
        """
        for expected in ({}, {"bidirectional stream": 1}):
            stream = self.raw.call(self.there.open_bi())
            self.raw.call(stream.send().write_all(b"x"))
            self.advance(0.1)
            self.assertEqual(self.closed(), expected)
        self.assertEqual(self.closed(), {"bidirectional stream": 1})

    def test_too_many_streams(self) -> None:
        """
        A peer may have 100 open streams; finished ones do not count.
        """
        topics = [bytes((number,)) * 32 for number in range(101)]
        for topic_id in topics:
            self.a.open_topic(topic_id, SECRET, RecordingLinks())
        for topic_id in (*topics, *topics[:50]):
            stream = self.raw.write(self.there, prefix(topic_id))
            self.raw.call(stream.finish())
        for topic_id in topics[:100]:
            self.raw.write(self.there, prefix(topic_id))
        self.assertEqual(self.closed(), {})
        self.raw.write(self.there, prefix(topics[100]))
        self.assertEqual(self.closed(), {"too many streams": 1})

    def test_too_many_of_a_kind(self) -> None:
        """
        Fewer streams may have no header, belong to topics that are not open, or to the
        same topic.
        """
        for number, (data, most) in enumerate(
            (
                (prefix(TOPIC)[:7], MAX_WITHOUT_HEADER),
                (prefix(OTHER), MAX_UNKNOWN),
                (prefix(TOPIC), MAX_PER_TOPIC),
            ),
            3,
        ):
            raw = RawPeer(self, number)
            there = raw.connect(self.a)
            for _ in range(most):
                raw.write(there, data)
            before = self.a.counters.copy()
            self.raw.write(self.there, prefix(TOPIC) + prefix(b"hello"))
            self.assertEqual(self.a.counters, before)
            raw.write(there, data)
            self.assertEqual(self.a.counters["closed_too_many_streams"], number - 2)

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
        self.assertLessEqual(max(b - a for a, b in pairwise(self.progress(500))), UNITS)

    def recorded_reads(self) -> list[tuple[int, int]]:
        """
        Return a list to which the sizes of all reads and their results are added.
        """
        sizes: list[tuple[int, int]] = []
        original = MemoryStream.read

        async def read(stream: MemoryStream, size_limit: int) -> bytes:
            self.waiting += size_limit
            try:
                data = await original(stream, size_limit)
            finally:
                self.waiting -= size_limit
            sizes.append((size_limit, len(data)))
            return data

        self.waiting = 0
        self.patch(MemoryStream, "read", read)
        return sizes

    def test_size_of_reads(self) -> None:
        """
        Only a full read is followed by a larger one: the library keeps a buffer of that
        size for each stream.
        """
        self.net.window = 10_000_000
        sizes = self.recorded_reads()
        out = self.raw.call(self.there.open_uni())
        self.raw.start(out.write_all(prefix(TOPIC) + prefix(bytes(4000)) * 30))
        self.advance(0.1)
        for _ in range(3):
            self.raw.start(out.write_all(prefix(b"hello")))
            self.advance(0.1)
        small, medium, large = READ_SIZES
        self.assertEqual(
            sizes,
            [
                (HEADER_READ, HEADER_READ),
                (small, small),
                (medium, medium),
                (large, 36 + 30 * 4004 - HEADER_READ - small - medium),
                (medium, 9),
                (small, 9),
                (small, 9),
            ],
        )

    def test_buffers_of_idle_streams(self) -> None:
        """
        Streams on which nothing happens cost little: those of strangers, and those of
        members that have sent much.
        """
        self.net.window = 10_000_000
        self.recorded_reads()
        for _ in range(MAX_WITHOUT_HEADER):
            self.raw.write(self.there, prefix(TOPIC)[:20])
        self.assertEqual(self.waiting, MAX_WITHOUT_HEADER * HEADER_READ)
        many = prefix(bytes(4000)) * 100
        strangers = [RawPeer(self, number).connect(self.a) for number in range(3, 6)]
        for there in strangers:
            for _ in range(MAX_UNKNOWN):
                self.raw.start(self.raw.call(there.open_uni()).write_all(prefix(OTHER) + many))
        self.advance(0.1)
        self.assertLessEqual(self.waiting, 3 * MAX_UNKNOWN * READ_SIZES[0] + MAX_WITHOUT_HEADER * HEADER_READ)
        before = self.waiting
        there = RawPeer(self, 6).connect(self.a)
        for _ in range(MAX_PER_TOPIC):
            self.raw.start(self.raw.call(there.open_uni()).write_all(prefix(TOPIC) + many))
        self.advance(0.1)
        self.assertLessEqual(
            self.waiting - before, MAX_LARGE_READS * READ_SIZES[-1] + MAX_PER_TOPIC * READ_SIZES[0]
        )

    def test_small_messages(self) -> None:
        """
        Neither does one that sends small messages on many streams; the streams take
        turns.
        """
        topics = [bytes((number,)) * 32 for number in range(90)]
        for topic_id in topics:
            self.a.open_topic(topic_id, SECRET, self.on_a)
        streams = [self.raw.call(self.there.open_uni()) for _ in topics]
        for stream, topic_id in zip(streams, topics, strict=True):
            self.raw.start(stream.write_all(prefix(topic_id) + prefix(b"x") * 200))
        self.assertLessEqual(max(b - a for a, b in pairwise(self.progress(18000))), UNITS)

    def test_many_connections(self) -> None:
        """
        Neither do many connections together, and each of them has its turn.
        """
        self.net.window = 10_000_000
        raws = [RawPeer(self, number) for number in range(3, 33)]
        streams = [raw.call(raw.connect(self.a).open_uni()) for raw in raws]
        for raw, out in zip(raws, streams, strict=True):
            raw.start(out.write_all(prefix(TOPIC) + prefix(b"x") * 1000))
        self.assertLessEqual(max(b - a for a, b in pairwise(self.progress(30000))), UNITS)
        first = [raw_id for raw_id, _ in self.on_a.messages[: 4 * len(raws) * PORTION]]
        self.assertEqual(len(set(first)), len(raws))

    def test_frames_to_nobody(self) -> None:
        """
        Neither do messages of a topic that is not open.
        """
        self.net.window = 10_000_000
        counted = [0]

        def tick() -> None:
            counted.append(self.a.counters["received_unknown_topic"])
            if counted[-1] < 50000 and len(counted) < 1000:
                self.clock.callLater(0, tick)

        out = self.raw.call(self.there.open_uni())
        self.raw.start(out.write_all(prefix(OTHER) + prefix(b"x") * 50000))
        self.clock.callLater(self.net.latency, tick)
        self.advance(0.1)
        self.assertEqual(counted[-1], 50000)
        self.assertLessEqual(max(b - a for a, b in pairwise(counted)), UNITS)

    def test_short_streams(self) -> None:
        """
        Neither does one that opens a stream for each message.
        """
        data = prefix(TOPIC) + prefix(b"x")

        async def speak() -> None:
            stream = await self.there.open_uni()
            await stream.write_all(data)
            await stream.finish()

        count = sized(300, 1000)
        for _ in range(count):
            self.raw.start(speak())
        self.assertLessEqual(max(b - a for a, b in pairwise(self.progress(count))), UNITS)
