"""
Tests for L{dtt.transport.iroh.sending}, over an in-memory QUIC network.
"""

from __future__ import annotations

from dtt.testing.iroh.streams import MemoryStream
from dtt.testing.memory_transport import RecordingLinks
from dtt.transport.iroh import sending as quic_sending
from dtt.wire.length_prefix import prefix
from tests.transport.iroh.common import BYE, OTHER, SECRET, TOPIC, IrohTestCase, RawPeer


class SendingTests(IrohTestCase):
    """
    What is sent on a connection.
    """

    def setUp(self) -> None:
        super().setUp()
        self.raw = RawPeer(self, 2)
        dial = self.a.dial(self.raw.key.peer_id, [self.raw.address])
        self.there = self.raw.accept()
        self.successResultOf(dial)

    def send(self, message: bytes, topic_id: bytes = TOPIC) -> None:
        """
        Send to the raw peer.
        """
        self.a.send(self.raw.key.peer_id, topic_id, message)

    def writes(self) -> list[bytes]:
        """
        Record the writes from now on.
        """
        written = []
        original = MemoryStream.write_all

        async def write_all(stream: MemoryStream, buf: bytes) -> None:
            written.append(buf)
            await original(stream, buf)

        self.patch(MemoryStream, "write_all", write_all)
        return written

    def test_one_write(self) -> None:
        """
        The header and all messages of one turn are one write, and so are those of a later
        turn.
        """
        written = self.writes()
        for number in range(3):
            self.send(b"%d" % number)
        self.assertEqual(written, [])
        self.advance(0)
        expected = prefix(TOPIC) + b"".join(prefix(b"%d" % number) for number in range(3))
        self.assertEqual(written, [expected])
        self.send(b"3")
        self.send(b"4")
        self.advance(0)
        self.assertEqual(written[1:], [prefix(b"3") + prefix(b"4")])
        self.assertEqual(self.raw.read(self.there), b"".join(written))

    def test_a_stream_for_each_topic(self) -> None:
        """
        Each topic has its own stream on a connection.
        """
        self.a.open_topic(OTHER, SECRET, RecordingLinks())
        self.send(b"one")
        self.send(b"other", OTHER)
        self.advance(0.1)
        read = {self.raw.read(self.there) for _ in range(2)}
        self.assertEqual(
            read,
            {prefix(TOPIC) + prefix(b"one"), prefix(OTHER) + prefix(b"other")},
        )

    def test_new_stream_after_a_disconnect(self) -> None:
        """
        A stream is finished after a C{Disconnect}; the next message opens another one.
        """
        self.send(BYE)
        self.a.disconnect(self.raw.key.peer_id, TOPIC)
        self.send(b"again")
        self.advance(0.1)
        first = self.raw.call(self.there.accept_uni())
        second = self.raw.call(self.there.accept_uni())
        self.assertEqual(self.raw.call(first.read(100)), prefix(TOPIC) + prefix(BYE))
        self.assertEqual(self.raw.call(first.read(100)), b"")
        self.assertEqual(self.raw.call(second.read(100)), prefix(TOPIC) + prefix(b"again"))

    def test_slow_reader(self) -> None:
        """
        More than 1 MiB unsent for 10 s ends the connection, and so does a peer that
        reads nothing for as long; a peer that reads is kept.
        """
        self.net.window = 65536
        for _ in range(300):
            self.send(bytes(4000))
        self.advance(9)
        stream = self.raw.call(self.there.accept_uni())
        for _ in range(4):
            self.raw.call(stream.read(65536))
        self.advance(9)
        self.assertTrue(self.a.is_connected(self.raw.key.peer_id))
        for _ in range(14):
            self.raw.call(stream.read(65536))
        self.advance(20)
        self.assertTrue(self.a.is_connected(self.raw.key.peer_id))
        for _ in range(300):
            self.send(bytes(4000))
        self.advance(10.1)
        self.assertEqual(self.closed(), {"slow reader": 1})
        self.assertEqual(self.on_a.disconnected, [self.raw.key.peer_id])

    def test_far_too_slow(self) -> None:
        """
        Above a limit the connection ends immediately, but not within C{send}.
        """
        self.patch(quic_sending, "UNSENT_LIMIT", 1_200_000)
        self.net.window = 65536
        for _ in range(400):
            self.send(bytes(4000))
            self.assertEqual(self.on_a.disconnected, [])
        self.advance(0)
        self.assertEqual(self.closed(), {"slow reader": 1})
        self.assertEqual(self.on_a.disconnected, [self.raw.key.peer_id])
        self.advance(400)
        self.assertEqual(self.closed(), {"slow reader": 1})

    def test_streams_not_acknowledged(self) -> None:
        """
        The number of streams that a peer leaves unacknowledged is limited.
        """
        self.patch(quic_sending, "MAX_FINISHING", 3)
        self.net.window = 40
        for _ in range(4):
            self.send(BYE)
            self.a.disconnect(self.raw.key.peer_id, TOPIC)
        self.advance(0)
        self.assertEqual(self.closed(), {"streams not acknowledged": 1})

    def test_stopped_by_the_peer(self) -> None:
        """
        If the peer stops a stream, the connection ends (Q3).
        """
        self.send(b"hello")
        self.advance(0.1)

        async def stopped(stream: MemoryStream, buf: bytes) -> None:
            raise self.net.bindings("x").IrohError("STREAM", "Stopped(0)")

        self.patch(MemoryStream, "write_all", stopped)
        self.send(b"more")
        self.advance(0.1)
        self.assertEqual(self.closed(), {"stream stopped": 1})
