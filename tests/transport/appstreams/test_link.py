"""
Tests for L{dtt.transport.appstreams.link} and for the connections that streams keep open:
members and others, duplicates, topics that are left, hostile peers.
"""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.trial.unittest import SynchronousTestCase

from dtt.errors import DecodeError, DialFailed, StreamRefused
from dtt.testing.memory_transport import RecordingLinks
from dtt.transport.appstreams.endpoints import StreamServerEndpoint
from dtt.transport.appstreams.flow import WINDOW
from dtt.transport.appstreams.frames import (
    StreamCredit,
    StreamData,
    StreamEnd,
    StreamFrame,
    StreamOpen,
    StreamReset,
    encode_stream_frame,
)
from dtt.transport.appstreams.link import MAX_STREAMS, MAX_WAIT
from dtt.transport.streams.frames import FrameParser
from dtt.transport.streams.transport import MOVE_AFTER, StreamsTransport
from dtt.transport.table import LINGER
from dtt.wire.addresses import QUIC, STREAMS
from tests.sweeps import sized
from tests.transport.appstreams.common import (
    OTHER,
    SECRET,
    TOPIC,
    HalfRecorder,
    Pair,
    PairTestCase,
    Recorder,
    Recorders,
)
from tests.transport.quic.network import QuicNetwork


class MembersTests(SynchronousTestCase):
    """
    Who may open streams.
    """

    def setUp(self) -> None:
        self.pair = Pair(share=False)
        self.addCleanup(self.pair.stop)
        self.server = Recorders()
        self.pair.serve(self.server)

    def test_not_yet_shared(self) -> None:
        """
        If gossip has not used the connection, a stream opens the topics first; after its end they
        are given back, and the connection is closed.
        """
        for transport in self.pair.sides:
            transport.open_topic(OTHER, SECRET, self.pair.links[0])
        connecting = self.pair.connect(Recorders())
        self.pair.advance()
        client = self.successResultOf(connecting)
        self.pair.advance(30)
        client.transport.write(b"still there")
        self.pair.advance()
        self.assertEqual(self.server.made[0].received, b"still there")
        client.transport.loseConnection()
        self.pair.advance(LINGER + 2)
        for side, other in ((0, 1), (1, 0)):
            self.assertFalse(self.pair.sides[side].is_connected(self.pair.sides[other].peer_id))

    def test_gossip_takes_over(self) -> None:
        """A topic that gossip uses meanwhile stays open after the stream's end."""
        connecting = self.pair.connect(Recorders())
        self.pair.advance()
        client = self.successResultOf(connecting)
        one, other = self.pair.sides
        one.send(other.peer_id, TOPIC, b"gossip")
        client.transport.loseConnection()
        self.pair.advance(LINGER + 2)
        self.assertTrue(one.is_connected(other.peer_id))
        one.send(other.peer_id, TOPIC, b"more")
        self.pair.advance()
        self.assertEqual([m for _, m in self.pair.links[1].messages], [b"gossip", b"more"])

    def test_no_common_topic(self) -> None:
        """A peer that shares no topic with us refuses; that is known after 5 s at most."""
        one, other = self.pair.sides
        other.close_topic(TOPIC)
        connecting = self.pair.connect(Recorders())
        self.pair.advance(MAX_WAIT + 0.5)
        failure = self.failureResultOf(connecting, StreamRefused)
        self.assertEqual(failure.getErrorMessage(), "the peer shares no topic with us")
        self.pair.advance(LINGER + 2)
        self.assertFalse(one.is_connected(other.peer_id))

    def test_stranger(self) -> None:
        """A stream of a peer that has proved no topic is refused with that reason, and no protocol made."""
        sent = record(self.pair, 1)
        give(self.pair, 1, StreamOpen(0, b"app/1"))
        self.assertEqual(sent, [StreamReset(0, 2)])
        self.assertEqual(self.server.made, [])


class ConnectionsTests(PairTestCase):
    """
    Which connections streams keep open.
    """

    def duplicate(self) -> None:
        """
        Open a second connection, which becomes the current one.
        """
        one, other = self.pair.sides
        self.pair.advance(20)  # the newest counts
        one._dials.dial(other.peer_id, list(other.addresses())).addErrback(lambda _: None)
        self.pair.advance()

    def connections(self) -> list[int]:
        """How many connections each side has."""
        return [len(self.pair.mux(side).table.links) for side in (0, 1)]

    def test_duplicate(self) -> None:
        """
        A connection that was replaced stays until its streams have ended; new streams use the new
        one.
        """
        client, server = self.open()
        old = self.pair.link(0)
        self.duplicate()
        self.assertIsNot(self.pair.link(0), old)
        self.pair.advance(60)
        self.assertEqual(self.connections(), [2, 2])
        client.stream.write(bytes(500_000))
        another, _ = self.open()
        self.pair.advance(5)
        self.assertEqual(len(server.received), 500_000)
        self.assertEqual((len(old.streams._streams), len(self.pair.link(0).streams._streams)), (1, 1))
        server.stream.loseConnection()
        self.pair.advance(LINGER + 2)
        self.assertEqual(self.connections(), [1, 1])
        self.assertEqual(another.lost, [])

    def test_without_streams(self) -> None:
        """A connection that was replaced is closed after a second, as before."""
        self.duplicate()
        self.pair.advance(LINGER + 2)
        self.assertEqual(self.connections(), [1, 1])

    def test_topic_left(self) -> None:
        """Streams continue when gossip has closed the topic; the connection ends with them."""
        client, server = self.open()
        one, other = self.pair.sides
        one.disconnect(other.peer_id, TOPIC)
        self.pair.advance(20)
        client.stream.write(b"still there")
        self.pair.advance()
        self.assertEqual(server.received, b"still there")
        client.stream.loseConnection()
        self.pair.advance(LINGER + 2)
        self.assertEqual(self.connections(), [0, 0])

    def test_room(self) -> None:
        """A connection with streams is not closed to make room for another one."""
        _, server = self.open()
        one, other = self.pair.sides
        one.disconnect(other.peer_id, TOPIC)
        self.pair.advance(5)
        table = self.pair.mux(1).table
        table._max_connections = 1
        self.assertFalse(table.has_room())
        self.assertFalse(table.make_room())
        self.assertEqual(server.lost, [])

    def test_stopped(self) -> None:
        """When a transport stops, its streams end on both sides."""
        client, server = self.open()
        self.pair.sides[0].stop()
        self.pair.advance(5)
        self.assertEqual([len(end.lost) for end in (client, server)], [1, 1])


class MoveTests(SynchronousTestCase):
    """
    A connection over QUIC that moves to TCP.
    """

    def test_move(self) -> None:
        """
        The connection over QUIC stays until its stream has ended, though gossip has moved to TCP.
        """
        net = QuicNetwork()
        sides = [net.transport(number, tcp=True) for number in (1, 2)]
        for transport in sides:
            transport.open_topic(TOPIC, SECRET, RecordingLinks())
        server, client = sides
        net.tcp.silent.add("10.0.0.1")
        client.dial(server.peer_id, server.addresses())
        net.advance(2)
        client.send(server.peer_id, TOPIC, b"gossip")
        net.advance(1)
        self.assertEqual(client.multiplexer.kind_of(server.peer_id), QUIC)
        factory = Recorders()
        StreamServerEndpoint(server.multiplexer.services, b"app/1").listen(factory)
        stream = self.successResultOf(wait(net, client.multiplexer.open_stream(server.peer_id, b"app/1")))
        stream.connect(end := Recorder())
        net.tcp.silent.clear()
        net.advance(MOVE_AFTER + 20)
        self.assertEqual(client.multiplexer.kind_of(server.peer_id), STREAMS)
        self.assertEqual(sorted(each.kind for each in client.connections), sorted((QUIC, STREAMS)))
        stream.write(bytes(300_000))
        net.advance(5)
        self.assertEqual(len(factory.made[0].received), 300_000)
        stream.loseConnection()
        net.advance(LINGER + 5)
        self.assertEqual([each.kind for each in client.connections], [STREAMS])
        self.assertEqual(end.lost[0].type, ConnectionDone)
        for transport in sides:
            transport.stop()
        net.advance(5)


def wait(net: QuicNetwork, result: Any) -> Any:
    """
    Advance the clock a little, and return C{result}.
    """
    net.advance(1)
    return result


def record(pair: Pair, side: int) -> list[Any]:
    """
    Return a list to which the stream frames that C{side} sends from now on are added.
    """
    sent: list[Any] = []
    connection = pair.link(side).connection
    send = connection.send

    def note(data: bytes) -> None:
        frames = FrameParser().feed(data)
        sent.extend(frame for frame in frames if type(frame).__name__.startswith("Stream"))
        send(data)

    connection.send = note
    return sent


def give(pair: Pair, side: int, *frames: StreamFrame) -> None:
    """
    Let C{side} handle frames as if the peer had sent them.
    """
    pair.mux(side).frames_received(pair.link(side), frames)


class HostileTests(PairTestCase):
    """
    Peers that violate the rules.  The peer has dialled, so its numbers are even.
    """

    def setUp(self) -> None:
        super().setUp()
        self.server = Recorders()
        self.pair.serve(self.server)

    def test_violations(self) -> None:
        """What no honest peer sends ends the connection, with a reason from a fixed list."""
        opened = StreamOpen(0, b"app/1")
        cases: list[tuple[list[StreamFrame], str]] = [
            ([StreamData(0, b"x")], "stream not open"),
            ([StreamCredit(2, 1)], "stream not open"),
            ([StreamEnd(1)], "stream not open"),
            ([StreamReset(8, 0)], "stream not open"),
            ([StreamOpen(1, b"app/1")], "bad stream number"),
            ([opened, opened], "bad stream number"),
            ([StreamOpen(6, b"app/1"), StreamOpen(4, b"app/1")], "bad stream number"),
            ([opened, StreamCredit(0, 1)], "bad stream credit"),
            ([opened, StreamEnd(0), StreamData(0, b"x")], "stream data after the end"),
            ([opened, StreamEnd(0), StreamEnd(0)], "stream ended twice"),
        ]
        for frames, reason in cases:
            pair = Pair()
            pair.serve(Recorders(HalfRecorder))
            self.addCleanup(pair.stop)
            give(pair, 1, *frames[:-1])
            with self.assertRaises(DecodeError) as caught:
                give(pair, 1, frames[-1])
            self.assertEqual(str(caught.exception), reason, frames)

    def test_more_than_allowed(self) -> None:
        """
        A peer that sends more than a window to a protocol that has paused loses the connection;
        no more than a window was kept.
        """
        give(self.pair, 1, StreamOpen(0, b"app/1"))
        self.server.made[0].stream.pauseProducing()
        for _ in range(WINDOW // 4096):
            give(self.pair, 1, StreamData(0, bytes(4096)))
        with self.assertRaises(DecodeError):
            give(self.pair, 1, StreamData(0, b"x"))

    def test_many_opens(self) -> None:
        """Streams beyond the limit are refused, and no protocol is made for them."""
        sent = record(self.pair, 1)
        for number in range(0, 2 * 200, 2):
            give(self.pair, 1, StreamOpen(number, b"app/1"))
        self.assertEqual(len(self.server.made), MAX_STREAMS)
        refused = [frame for frame in sent if isinstance(frame, StreamReset)]
        self.assertEqual({frame.reason for frame in refused}, {3})
        self.assertEqual(len(refused), 200 - MAX_STREAMS)

    def test_late_frames(self) -> None:
        """Frames of a stream that has ended are dropped and counted."""
        give(self.pair, 1, StreamOpen(0, b"app/1"))
        self.server.made[0].stream.abortConnection()
        give(self.pair, 1, StreamData(0, b"x"), StreamEnd(0), StreamReset(0, 0))
        self.assertEqual(self.pair.mux(1).counters["received_stream_late"], 3)

    def test_random(self) -> None:
        """
        Whatever a member sends: a violation or not, nothing is raised but DecodeError, no stream is
        left beyond the limit, and no more than a window is kept for any.
        """
        for seed in range(sized(8, 200)):
            rng = Random(seed)
            pair = Pair()
            servers = Recorders(rng.choice((Recorder, HalfRandom)))
            pair.serve(servers)
            highest = 0
            for _ in range(300):
                number = rng.choice((0, 2, 4, highest, highest + 2))
                highest = max(highest, number)
                frame = rng.choice(
                    (
                        StreamOpen(number, rng.choice((b"app/1", b"other"))),
                        StreamData(number, bytes(rng.randrange(1, 4096))),
                        StreamCredit(number, rng.randrange(1, WINDOW)),
                        StreamEnd(number),
                        StreamReset(number, rng.randrange(256)),
                    )
                )
                try:
                    give(pair, 1, *parse_again(frame))
                except DecodeError:
                    pass
                except Exception as error:
                    raise AssertionError(f"seed {seed}: {error!r}") from error
                if servers.made and rng.random() < 0.2:
                    end = rng.choice(servers.made)
                    if end.transport is not None and not end.lost:
                        rng.choice(
                            (
                                end.stream.pauseProducing,
                                end.stream.resumeProducing,
                                end.stream.loseConnection,
                                end.stream.loseWriteConnection,
                                lambda end=end: end.stream.write(bytes(3000)),
                            )
                        )()
                if rng.random() < 0.1:
                    pair.clock.advance(0)
                streams = pair.link(1).streams._streams.values()
                self.assertLessEqual(len(streams), MAX_STREAMS)
                for stream in streams:
                    self.assertLessEqual(sum(map(len, stream._received)), WINDOW, f"seed {seed}")
            pair.link(1).connection.abort("cancelled")
            pair.advance(1)
            self.assertEqual({len(end.lost) for end in servers.made} | {1}, {1}, f"seed {seed}")
            self.assertEqual(pair.mux(1).services.count, 0, f"seed {seed}")
            self.assertEqual(pair.mux(1).services.backlog.size, 0, f"seed {seed}")
            pair.stop()


class HalfRandom(Recorder):
    """
    Writes back a little of what it gets.
    """

    def dataReceived(self, data: bytes) -> None:
        """Answer."""
        super().dataReceived(data)
        self.stream.write(data[:100])


def parse_again(frame: StreamFrame) -> list[Any]:
    """
    Return what a parser makes of a frame.
    """
    return FrameParser().feed(encode_stream_frame(frame))


class StopTests(SynchronousTestCase):
    """
    A transport without connections.
    """

    def test_not_connected(self) -> None:
        """A stream to a peer that is not connected fails at once."""
        pair = Pair()
        self.addCleanup(pair.stop)
        transport: StreamsTransport = pair.sides[0]
        self.failureResultOf(transport.multiplexer.open_stream(b"z" * 32, b"app/1"), DialFailed)
