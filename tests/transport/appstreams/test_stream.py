"""
Tests for L{dtt.transport.appstreams}: streams between two members, over TCP and QUIC.
"""

from __future__ import annotations

import io
from random import Random
from typing import Any

from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IConsumer, IPushProducer, ITransport
from twisted.protocols.basic import FileSender, LineReceiver
from zope.interface.verify import verifyObject

from dtt.errors import DialFailed, ListenError, StreamRefused
from dtt.transport.appstreams import stream as stream_module
from dtt.transport.appstreams.endpoints import StreamServerEndpoint
from dtt.transport.appstreams.flow import WINDOW
from dtt.transport.appstreams.link import MAX_STREAMS
from dtt.transport.appstreams.stream import StreamAddress
from dtt.wire.addresses import QUIC
from tests.transport.appstreams.common import TOPIC, HalfRecorder, PairTestCase, Recorder, Recorders


class Failing(Recorder):
    """
    Fails on the first bytes.
    """

    def dataReceived(self, data: bytes) -> None:
        """Fail."""
        raise ZeroDivisionError


class OpenTests(PairTestCase):
    """
    Opening streams.
    """

    def test_interfaces(self) -> None:
        """A stream is a transport, a consumer and a producer; its ends know the ids and the name."""
        client, server = self.open()
        one, other = (side.peer_id for side in self.pair.sides)
        for end in (client.stream, server.stream):
            for interface in (ITransport, IConsumer, IPushProducer):
                self.assertTrue(verifyObject(interface, end))
        self.assertEqual(client.stream.getPeer(), StreamAddress(other, b"app/1"))
        self.assertEqual(server.stream.getPeer(), StreamAddress(one, b"app/1"))
        self.assertEqual(server.stream.getHost(), StreamAddress(other, b"app/1"))

    def test_both_directions(self) -> None:
        """Bytes arrive in order in both directions; either side may open a stream."""
        client, server = self.open()
        client.stream.write(b"ping")
        client.stream.writeSequence([b" ", b"pong"])
        server.stream.write(b"hello")
        self.pair.advance()
        self.assertEqual((server.received, client.received), (b"ping pong", b"hello"))
        factory = Recorders()
        self.pair.serve(factory, b"back", side=0)
        back = self.pair.connect(Recorders(), b"back", side=1)
        self.pair.advance()
        self.successResultOf(back).stream.write(b"other way")
        self.pair.advance()
        self.assertEqual(factory.made[0].received, b"other way")

    def test_refused(self) -> None:
        """
        A name that nobody serves, a factory without a protocol and one that fails refuse; the
        reason says which.
        """
        for factory, reason in (
            (None, "the peer does not serve this name"),
            (Recorders(lambda: None), "the application of the peer refused it"),
            (Recorders(lambda: 1 // 0), "the application of the peer refused it"),
        ):
            port = None if factory is None else self.pair.serve(factory)
            clients = Recorders()
            connecting = self.pair.connect(clients)
            self.pair.advance()
            self.assertEqual(self.failureResultOf(connecting, StreamRefused).getErrorMessage(), reason)
            self.assertEqual(clients.started, 0)
            if port is not None:
                port.stopListening()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.open_streams(), [0, 0])

    def test_served_once(self) -> None:
        """A name is served once at a time; the factory is started and stopped with its port."""
        factory = Recorders()
        port = self.pair.serve(factory)
        self.assertEqual(factory.started, 1)
        endpoint = StreamServerEndpoint(self.pair.mux(1).services, b"app/1")
        self.failureResultOf(endpoint.listen(Recorders()), ListenError)
        self.successResultOf(port.stopListening())
        self.assertEqual(factory.started, 0)
        self.successResultOf(endpoint.listen(Recorders()))
        with self.assertRaises(ListenError):
            port.startListening()

    def test_too_many(self) -> None:
        """
        At most 64 streams of both sides are open on a connection; when one has ended there is room for
        another one.
        """
        self.pair.serve(Recorders())
        self.pair.serve(Recorders(), side=0)
        half = MAX_STREAMS // 2
        opening = [self.pair.connect(Recorders(), side=side) for side in (0, 1) for _ in range(half)]
        self.pair.advance()
        clients = [self.successResultOf(each) for each in opening]
        for side in (0, 1):
            refused = self.pair.connect(Recorders(), side=side)
            self.failureResultOf(refused, StreamRefused)
        clients[0].stream.loseConnection()
        self.pair.advance()
        again = self.pair.connect(Recorders(), side=1)
        self.pair.advance()
        self.successResultOf(again)

    def test_cancelled(self) -> None:
        """A cancelled connect leaves nothing behind, and a timeout is a DialFailed."""
        server = Recorders()
        self.pair.serve(server)
        connecting = self.pair.connect(Recorders())
        connecting.cancel()
        self.failureResultOf(connecting)
        self.pair.advance()
        self.assertEqual(self.open_streams(), [0, 0])
        self.assertEqual(server.made[0].lost[0].type, ConnectionLost)
        # The peer's program hangs.
        self.pair.tcp.silent.add("10.0.0.1")
        slow = self.pair.connect(Recorders(), timeout=2.0)
        self.pair.advance(2.1)
        self.assertIn("within 2 s", self.failureResultOf(slow, DialFailed).getErrorMessage())


class BytesTests(PairTestCase):
    """
    What flows.
    """

    def test_much(self) -> None:
        """More than a window arrives whole, in both directions at once."""
        client, server = self.open()
        one, other = Random(1).randbytes(1_500_000), Random(2).randbytes(700_001)
        client.stream.write(one)
        server.stream.write(other)
        self.pair.advance(30)
        self.assertTrue(server.received == one and client.received == other)
        self.assertEqual(self.pair.mux(0).services.backlog.size, 0)

    def test_paused(self) -> None:
        """
        A protocol that pauses gets nothing, and the peer sends no more than a window; other streams and
        gossip continue. The kept data is delivered when it resumes.
        """
        client, server = self.open()
        another, third = self.open()
        server.stream.pauseProducing()
        data = Random(3).randbytes(1_000_000)
        client.stream.write(data)
        self.pair.advance(5)
        self.assertEqual(server.received, b"")
        self.assertEqual(client.stream.unsent, len(data) - WINDOW)
        self.assertEqual(sum(map(len, server.stream._received)), WINDOW)
        another.stream.write(b"x" * 500_000)
        self.pair.sides[0].send(self.pair.sides[1].peer_id, TOPIC, b"gossip")
        self.pair.advance(5)
        self.assertEqual(len(third.received), 500_000)
        self.assertEqual(self.pair.links[1].messages[-1][1], b"gossip")
        server.stream.resumeProducing()
        self.assertEqual(server.received, b"")
        self.pair.advance(20)
        self.assertTrue(server.received == data)

    def test_gossip_first(self) -> None:
        """
        While a stream sends all it can, a gossip message waits for what the transport has in its
        buffer already, and for nothing else.
        """
        client, server = self.open()
        self.pair.advance()
        client.stream.write(bytes(250_000))
        # Nothing has arrived yet; all of it would fit into the stream's window.
        self.pair.sides[0].send(self.pair.sides[1].peer_id, TOPIC, b"urgent")
        before: list[int] = []
        self.pair.links[1].on_message = lambda *_: before.append(len(server.received))
        self.pair.advance(5)
        self.assertEqual(len(server.received), 250_000)
        self.assertEqual(len(before), 1)
        self.assertLessEqual(before[0], 131_072)  # two buffers of 64 KiB, of TLS and of TCP

    def test_slow_reader_limit(self) -> None:
        """
        What streams have to send does not count as unsent: the peer is not disconnected as a
        slow reader, and stays writable for gossip.
        """
        client, server = self.open()
        server.stream.pauseProducing()
        client.stream.write(bytes(8_000_000))
        self.pair.advance(60)
        self.assertTrue(self.pair.sides[0].is_connected(self.pair.sides[1].peer_id))
        self.assertEqual(self.pair.link(0).connection.unsent, 0)
        self.assertEqual((client.lost, server.lost), ([], []))

    def test_unbounded_writer(self) -> None:
        """
        If an application keeps writing although the peer does not read, the stream is aborted, and memory
        stays bounded.
        """
        client, server = self.open()
        server.stream.pauseProducing()
        self.patch(stream_module, "MAX_UNSENT", 1_000_000)
        for _ in range(30):
            client.stream.write(bytes(100_000))
        self.pair.advance()
        self.assertEqual(client.lost[0].type, ConnectionLost)
        self.assertEqual(client.lost[0].getErrorMessage().split(": ")[-1], "the peer reads too slowly.")
        self.assertEqual(self.pair.mux(0).services.backlog.size, 0)
        client, server = self.open()
        client.stream.write(bytes(3_000_000))  # a single write is never too much
        self.pair.advance(20)
        self.assertEqual(len(server.received), 3_000_000)

    def test_unbounded_writers(self) -> None:
        """With much unsent on all streams together, one with more than a window unsent is lost."""
        streams = [self.open() for _ in range(3)]
        for _, server in streams:
            server.stream.pauseProducing()
        self.patch(stream_module, "MAX_UNSENT_IN_ALL", 1_500_000)
        for client, _ in streams[:2]:
            client.stream.write(bytes(1_200_000))
        streams[2][0].stream.write(bytes(WINDOW))
        streams[2][0].stream.write(b"x")
        self.pair.advance()
        self.assertEqual([bool(client.lost) for client, _ in streams], [False, False, False])
        streams[0][0].stream.write(b"more")
        self.pair.advance()
        self.assertEqual([bool(client.lost) for client, _ in streams], [True, False, False])

    def test_wrong_type(self) -> None:
        """Text is refused at the call."""
        client, _ = self.open()
        with self.assertRaises(TypeError):
            client.stream.write("text")


class ProducerTests(PairTestCase):
    """
    Producers that write to a stream.
    """

    def test_pull(self) -> None:
        """A file goes over a stream in pieces: little of it is ever kept."""
        client, server = self.open()
        data = Random(4).randbytes(2_000_000)
        sending = FileSender().beginFileTransfer(io.BytesIO(data), client.stream)
        client.stream.loseConnection()  # after the producer
        most = 0
        for _ in range(200):
            self.pair.advance(0.1)
            most = max(most, client.stream.unsent)
        self.successResultOf(sending)
        self.assertTrue(server.received == data)
        self.assertLess(most, 100_000)
        self.assertEqual([end.lost[0].type for end in (client, server)], [ConnectionDone] * 2)

    def test_push(self) -> None:
        """A push producer is paused while the peer does not read, resumed later, stopped at the end."""
        client, server = self.open()
        calls: list[str] = []

        class Producer:
            """Notes its calls."""

            def pauseProducing(self) -> None:
                calls.append("pause")

            def resumeProducing(self) -> None:
                calls.append("resume")

            def stopProducing(self) -> None:
                calls.append("stop")

        server.stream.pauseProducing()
        client.stream.registerProducer(Producer(), True)
        with self.assertRaises(RuntimeError):
            client.stream.registerProducer(Producer(), True)
        client.stream.write(bytes(WINDOW))
        self.pair.advance(3)
        before = len(calls)
        client.stream.write(bytes(60_000))
        self.assertEqual(calls[before:], [])
        client.stream.write(bytes(6_000))
        self.assertEqual(calls[before:], ["pause"])
        server.stream.resumeProducing()
        self.pair.advance(3)
        self.assertEqual(calls[-1], "resume")
        client.stream.abortConnection()
        self.pair.advance()
        self.assertEqual(calls[-1], "stop")
        client.stream.registerProducer(Producer(), True)  # too late
        self.assertEqual(calls[-2:], ["stop", "stop"])


class EndTests(PairTestCase):
    """
    How streams end.
    """

    def test_lose(self) -> None:
        """What was written arrives, then both sides are closed cleanly, and nothing is left."""
        client, server = self.open()
        client.stream.write(bytes(600_000))
        client.stream.loseConnection()
        client.stream.write(b"too late")
        self.pair.advance(5)
        self.assertEqual(len(server.received), 600_000)
        self.assertEqual([end.lost[0].type for end in (client, server)], [ConnectionDone] * 2)
        self.assertEqual([len(end.lost) for end in (client, server)], [1, 1])
        self.assertEqual(self.open_streams(), [0, 0])

    def test_lose_while_paused(self) -> None:
        """A protocol that has paused gets what was sent before the end, when it resumes."""
        for make in (Recorder, HalfRecorder):
            client, server = self.open(serve=make)
            server.stream.pauseProducing()
            client.stream.write(bytes(200_000))
            client.stream.loseConnection()
            self.pair.advance(2)
            self.assertEqual((server.received, server.lost), (b"", []))
            self.assertEqual(client.lost[0].type, ConnectionDone)
            server.stream.write(b"nobody reads this")
            server.stream.resumeProducing()
            self.pair.advance()
            self.assertEqual(len(server.received), 200_000)
            self.assertEqual(server.lost[0].type, ConnectionDone)
        self.assertEqual(self.open_streams(), [0, 0])

    def test_half_close(self) -> None:
        """
        After our end the other side can continue writing; each side is notified of both ends, and the
        stream is closed after the second.
        """
        client, server = self.open(HalfRecorder, HalfRecorder)
        client.stream.write(b"request")
        client.stream.loseWriteConnection()
        client.stream.write(b"too late")
        self.pair.advance()
        self.assertEqual((server.received, server.ended, client.write_ended), (b"request", 1, 1))
        server.stream.write(bytes(400_000))
        self.pair.advance(3)
        self.assertEqual(len(client.received), 400_000)
        self.assertEqual((client.lost, server.lost), ([], []))
        server.stream.loseWriteConnection()
        self.pair.advance()
        self.assertEqual(client.ended, 1)
        self.assertEqual([end.lost[0].type for end in (client, server)], [ConnectionDone] * 2)

    def test_half_close_of_others(self) -> None:
        """A protocol that knows no half-close is closed after what it had written was sent."""
        client, server = self.open(HalfRecorder)
        server.stream.write(bytes(500_000))
        client.stream.loseWriteConnection()
        self.pair.advance(5)
        self.assertEqual(len(client.received), 500_000)
        self.assertEqual([end.lost[0].type for end in (client, server)], [ConnectionDone] * 2)

    def test_both_lose_with_much_unsent(self) -> None:
        """Two sides that close with more than a window unsent do not wait for each other."""
        client, server = self.open()
        for end in (client, server):
            end.stream.write(bytes(900_000))
            end.stream.loseConnection()
        self.pair.advance(10)
        self.assertEqual(self.open_streams(), [0, 0])

    def test_abort(self) -> None:
        """An abort is a lost connection for the other side."""
        client, server = self.open()
        client.stream.write(bytes(600_000))
        client.stream.abortConnection()
        self.pair.advance()
        self.assertEqual(client.lost[0].type, ConnectionAborted)
        self.assertEqual(server.lost[0].type, ConnectionLost)
        self.assertEqual(self.pair.mux(0).services.backlog.size, 0)

    def test_never_read(self) -> None:
        """A stream that we have closed waits for a peer that does not read, but not for ever."""
        client, server = self.open()
        server.stream.pauseProducing()
        client.stream.write(bytes(600_000))
        client.stream.loseConnection()
        self.pair.advance(stream_module.CLOSE_TIMEOUT - 10)
        self.assertEqual(client.lost, [])
        self.pair.advance(20)
        self.assertEqual(client.lost[0].type, ConnectionLost)

    def test_connection_lost(self) -> None:
        """The end of the connection ends its streams, and the connects in progress."""
        client, server = self.open()
        connecting = self.pair.connect(Recorders())
        self.pair.tcp.cut("10.0.0.1", "10.0.0.2")
        self.pair.advance()
        self.assertEqual([end.lost[0].type for end in (client, server)], [ConnectionLost] * 2)
        self.failureResultOf(connecting, StreamRefused)
        self.assertEqual(self.pair.mux(0).services.count, 0)

    def test_application_fails(self) -> None:
        """An exception of a protocol ends its stream only, and is logged."""
        client, server = self.open(serve=Failing)
        another, third = self.open()
        client.stream.write(b"x")
        another.stream.write(b"y")
        self.pair.advance()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(server.lost[0].type, ZeroDivisionError)
        self.assertEqual(client.lost[0].type, ConnectionLost)
        self.assertEqual(third.received, b"y")

    def test_lose_from_within(self) -> None:
        """A protocol may close while it is being given bytes; it gets no more."""

        class Once(Recorder):
            """Closes at once."""

            def dataReceived(self, data: bytes) -> None:
                super().dataReceived(data)
                self.stream.loseConnection()

        client, server = self.open(serve=Once)
        client.stream.write(bytes(50_000))
        self.pair.advance()
        self.assertEqual(len(server.received), 4096)
        self.assertEqual(len(server.lost), 1)


class Echo(LineReceiver):
    """
    Answers each line, and closes after C{bye}.
    """

    def lineReceived(self, line: bytes) -> None:
        """Answer."""
        self.sendLine(line[::-1])
        if line == b"bye":
            transport: Any = self.transport
            transport.loseConnection()


class LineTests(PairTestCase):
    """
    A line protocol.
    """

    def test_lines(self) -> None:
        """Lines of any size up to its limit are answered, up to a clean end."""
        client, _ = self.open(serve=Echo)
        rng = Random(5)
        lines = [bytes(rng.choices(b"abcdef", k=rng.choice((1, 80, 4095, 16000)))) for _ in range(100)]
        for line in [*lines, b"bye"]:
            client.stream.write(line + b"\r\n")
        self.pair.advance(10)
        answers = [line[::-1] for line in [*lines, b"bye"]]
        self.assertTrue(client.received.split(b"\r\n") == [*answers, b""])
        self.assertEqual(client.lost[0].type, ConnectionDone)


class QuicTests(PairTestCase):
    """
    The same frames over QUIC.
    """

    kind = QUIC

    def test_much(self) -> None:
        """Much arrives whole in both directions, and the stream ends cleanly."""
        client, server = self.open()
        one, other = Random(1).randbytes(900_000), Random(2).randbytes(700_001)
        client.stream.write(one)
        server.stream.write(other)
        self.pair.advance(30)
        client.stream.loseConnection()
        self.pair.advance(2)
        self.assertTrue(server.received == one and client.received == other)
        self.assertEqual([end.lost[0].type for end in (client, server)], [ConnectionDone] * 2)

    def test_paused(self) -> None:
        """A window arrives while the peer's protocol has paused; gossip continues."""
        client, server = self.open()
        server.stream.pauseProducing()
        client.stream.write(bytes(800_000))
        self.pair.advance(60)
        self.pair.sides[0].send(self.pair.sides[1].peer_id, TOPIC, b"gossip")
        self.pair.advance(2)
        self.assertEqual(self.pair.links[1].messages[-1][1], b"gossip")
        self.assertEqual(client.stream.unsent, 800_000 - WINDOW)
        server.stream.resumeProducing()
        self.pair.advance(20)
        self.assertEqual(len(server.received), 800_000)
