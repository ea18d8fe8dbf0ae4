"""
Tests for L{dtt.transport.streams.transport} and L{dtt.transport.streams.connection}:
what L{tests.transport.test_contract} does not cover.
"""

from __future__ import annotations

import gc
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import cycle, pairwise
from random import Random
from typing import Any, cast

from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from dtt.counters import snake_case
from dtt.errors import DialFailed, ListenError
from dtt.identity import PeerKey
from dtt.testing.memory_transport import RecordingLinks
from dtt.testing.net.tcp import MemoryTCPNetwork
from dtt.transport.admission import topic_key
from dtt.transport.share import UNITS, Share
from dtt.transport.streams import connection as connection_module
from dtt.transport.streams import tls as tls_module
from dtt.transport.streams import transport as streams
from dtt.transport.streams.channels import admission_tag
from dtt.transport.streams.connection import StreamsConnection
from dtt.transport.streams.early import early_key, seal, unseal
from dtt.transport.streams.frames import (
    ClockTime,
    Close,
    Data,
    Early,
    FrameParser,
    Open,
    Ping,
    Pong,
    ReceivedFrame,
    encode_frame,
)
from dtt.transport.streams.tls import ConnectionCreator, SecuredConnection, export_key
from dtt.transport.streams.transport import StreamsTransport
from dtt.wire.addresses import STREAMS, PeerAddress
from tests.sweeps import sized

TOPIC, SECRET = b"t" * 32, b"s" * 32
KEY = topic_key(TOPIC, SECRET)
TOPIC2 = b"u" * 32
KEY2 = topic_key(TOPIC2, SECRET)
JOIN = b"\x00\x00\x00"
ALICE, BOB, CAROL = (PeerKey.from_seed(bytes((n,)) * 32) for n in range(1, 4))


def without_clocks(data: bytes) -> list[ReceivedFrame]:
    """
    Return the frames in C{data}, without those that say what the peer's clock shows.
    """
    return [frame for frame in FrameParser().feed(data) if not isinstance(frame, ClockTime)]


# The packages that have objects for each connection.
_OURS = ("dtt.transport.", "dtt.net.", "dtt.wire.")


class Stranger(Protocol):
    """
    A raw client that connects to us, and does what the test says.
    """

    secured: SecuredConnection

    def __init__(self) -> None:
        self.received = b""
        self.pieces: list[bytes] = []
        self.lost = False

    def dataReceived(self, data: bytes) -> None:
        """
        Record the data.
        """
        self.received += data
        self.pieces.append(data)

    def exporter(self) -> bytes:
        """
        Return the keying material of the TLS connection.
        """
        return export_key(self.secured.connection)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Record the end.
        """
        self.lost = True


class StreamsTestCase(SynchronousTestCase):
    """
    Two transports on two hosts.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.net = MemoryTCPNetwork(self.clock)
        self.a, self.b = self.transport(ALICE, "10.0.0.1"), self.transport(BOB, "10.0.0.2")

    def transport(self, key: PeerKey, host: str, **options: Any) -> StreamsTransport:
        """
        Return a listening transport.
        """
        transport = StreamsTransport(self.net.reactor(host), key, **options)
        transport.listen(host, 4433)
        return transport

    def share(self) -> tuple[RecordingLinks, RecordingLinks]:
        """
        Connect both on one topic.
        """
        links = RecordingLinks(), RecordingLinks()
        self.a.open_topic(TOPIC, SECRET, links[0])
        self.b.open_topic(TOPIC, SECRET, links[1])
        result = self.a.dial(self.b.peer_id, self.b.addresses())
        self.net.advance(0.1)
        self.successResultOf(result)
        self.a.send(self.b.peer_id, TOPIC, b"hello")
        self.net.advance(0.1)
        self.assertEqual(len(links[1].messages), 1)
        links[1].messages.clear()
        return links

    def stranger(self, key: PeerKey | None = CAROL, host: str = "10.0.0.3") -> Stranger:
        """
        Connect a raw client to C{b}, with C{key} or without TLS.
        """
        stranger = Stranger()
        reactor = self.net.reactor(host)
        factory: Any = Factory.forProtocol(lambda: stranger)
        if key is not None:
            factory = TLSMemoryBIOFactory(ConnectionCreator(key), True, factory, reactor)
        TCP4ClientEndpoint(reactor, "10.0.0.2", 4433).connect(factory)
        self.net.advance(0.1)
        return stranger

    def write(self, stranger: Stranger, data: bytes) -> None:
        """
        Let C{stranger} send C{data}.
        """
        transport: Any = stranger.transport
        transport.write(data)
        self.net.advance(0.1)


class ConnectionTests(StreamsTestCase):
    """
    Tests for L{StreamsConnection}.
    """

    def test_no_delay(self) -> None:
        """
        TCP_NODELAY is set on both ends.
        """
        self.share()
        self.assertEqual([end.no_delay for end in self.net.transports()], [True, True])

    def test_bytes_that_are_not_tls(self) -> None:
        """
        Bytes other than TLS end the connection, and nothing is logged.
        """
        for seed in range(20):
            rng = Random(seed)
            stranger = self.stranger(None)
            self.write(stranger, rng.randbytes(rng.randint(1, 600)))
            self.write(stranger, b"\x16\x03\x01\x02\x00\x01" + rng.randbytes(600))
            self.net.advance(11)
            self.assertTrue(stranger.lost, f"seed {seed}")
        self.assertEqual(self.b.connections, {})
        self.assertEqual(self.b.counters["accepted"], 0)

    def test_handshake_timeout(self) -> None:
        """
        A handshake takes at most 10 s.
        """
        stranger = self.stranger(None)
        self.net.advance(9.7)
        self.assertFalse(stranger.lost)
        self.net.advance(0.5)
        self.assertTrue(stranger.lost)
        self.assertEqual(self.b.counters["closed_handshake_timed_out"], 1)

    def test_silent_server(self) -> None:
        """
        A dial to a server that accepts and sends nothing times out.
        """
        self.net.reactor("10.0.0.9").listenTCP(1, Factory.forProtocol(Protocol))
        result = self.a.dial(self.b.peer_id, [PeerAddress(STREAMS, "10.0.0.9", 1)])
        self.net.advance(10.1)
        self.assertEqual(str(self.failureResultOf(result, DialFailed).value), "timed out")
        self.net.advance(0.1)
        self.assertEqual(self.net.transports(), [])

    def test_server_that_hangs_up(self) -> None:
        """
        A dial to a server that hangs up, or that does not use TLS, fails immediately.
        """

        class HangUp(Protocol):
            def dataReceived(self, data: bytes) -> None:
                transport: Any = self.transport
                transport.write(self.answer)
                transport.loseConnection()

            answer = b""

        class NotTLS(HangUp):
            answer = b"HTTP/1.1 400 Bad Request\r\n\r\n"

        for port, protocol in ((1, HangUp), (2, NotTLS)):
            self.net.reactor("10.0.0.9").listenTCP(port, Factory.forProtocol(protocol))
            result = self.a.dial(self.b.peer_id, [PeerAddress(STREAMS, "10.0.0.9", port)])
            self.net.advance(0.2)
            self.assertEqual(str(self.failureResultOf(result, DialFailed).value), "handshake failed")

    def test_own_key(self) -> None:
        """
        A connection with our own key is refused.
        """
        stranger = self.stranger(BOB)
        self.assertTrue(stranger.lost)
        self.assertEqual(self.b.counters["closed_own_key"], 1)
        self.assertFalse(self.b.is_connected(BOB.peer_id))

    def test_own_address(self) -> None:
        """
        A dial of a peer at our own address connects to ourselves, and fails.
        """
        result = self.a.dial(self.b.peer_id, self.a.addresses())
        self.net.advance(0.2)
        self.assertEqual(str(self.failureResultOf(result, DialFailed).value), "own key")

    def test_no_alpn(self) -> None:
        """
        A client without our ALPN protocol is refused.
        """
        ours = tls_module.make_context

        def other(key: PeerKey) -> Any:
            context = ours(key)
            context.set_alpn_protos([b"other"])
            return context

        self.patch(tls_module, "make_context", other)
        self.assertTrue(self.stranger().lost)
        self.assertEqual(self.b.counters["closed_no_alpn"], 1)

    def test_malformed_frames(self) -> None:
        """
        Each malformed frame ends its connection and is counted; other connections are
        not affected.
        """
        _, on_b = self.share()
        tag = b"x" * 32
        for data, reason in (
            (bytes(4), "bad frame length"),
            (b"\xff\xff\xff\xff", "frame too large"),
            (encode_frame(Data(0, b"early")), "channel not open"),
            (encode_frame(Close(3)), "channel not open"),
            (encode_frame(Open(0, tag)) * 2, "channel opened twice"),
            (encode_frame(Open(0, tag)) + encode_frame(Open(1, tag)), "topic opened twice"),
            (b"".join(encode_frame(Open(n, bytes((n,)) * 32)) for n in range(17)), "too many channels"),
            (encode_frame(Data(0, bytes(5000))), "message too large"),
        ):
            before = self.b.counters["closed_" + snake_case(reason)]
            stranger = self.stranger()
            self.write(stranger, data)
            self.assertTrue(stranger.lost, reason)
            self.assertEqual(self.b.counters["closed_" + snake_case(reason)], before + 1, reason)
        self.a.send(self.b.peer_id, TOPIC, b"still here")
        self.net.advance(0.1)
        self.assertEqual(on_b.messages, [(self.a.peer_id, b"still here")])

    def test_unknown_frames(self) -> None:
        """
        A frame of unknown kind is skipped and counted, and the connection stays; one
        that is too large still ends it.
        """
        stranger = self.stranger()
        self.write(stranger, b"\x00\x00\x00\x01\x0d" + b"\x00\x00\x20\x00\xff" + bytes(8191))
        self.write(stranger, encode_frame(Ping(b"12345678")))
        self.assertEqual(stranger.received, encode_frame(Pong(b"12345678")))
        self.assertEqual(self.b.counters["received_unknown_frame"], 2)
        self.write(stranger, b"\x00\x00\x20\x01\xff")
        self.assertTrue(stranger.lost)
        self.assertEqual(self.b.counters["closed_frame_too_large"], 1)

    def test_not_admitted(self) -> None:
        """
        DATA on a channel with an unknown tag is dropped and counted; the connection
        stays, and messages are accepted after a valid OPEN.
        """
        links = RecordingLinks()
        self.b.open_topic(TOPIC, SECRET, links)
        stranger = self.stranger()
        self.write(stranger, encode_frame(Open(0, b"x" * 32)) + encode_frame(Data(0, b"sneaky")))
        self.assertEqual(links.messages, [])
        self.assertEqual(self.b.counters["received_not_admitted"], 1)
        self.assertEqual(self.b.counters["received_unknown_tag"], 1)
        self.assertEqual(stranger.received, b"")
        tag = admission_tag(topic_key(TOPIC, SECRET), stranger.exporter(), CAROL.peer_id, BOB.peer_id)
        self.write(stranger, encode_frame(Open(1, tag)) + encode_frame(Data(1, b"welcome")))
        self.assertEqual(links.messages, [(CAROL.peer_id, b"welcome")])
        answer = admission_tag(topic_key(TOPIC, SECRET), stranger.exporter(), BOB.peer_id, CAROL.peer_id)
        self.assertEqual(without_clocks(stranger.received), [Open(0, answer)])
        self.assertFalse(stranger.lost)

    def test_replayed_tag(self) -> None:
        """
        A tag from one connection is invalid on another.
        """
        self.b.open_topic(TOPIC, SECRET, RecordingLinks())
        first = self.stranger()
        tag = admission_tag(topic_key(TOPIC, SECRET), first.exporter(), CAROL.peer_id, BOB.peer_id)
        self.write(first, encode_frame(Open(0, tag)))
        self.assertNotEqual(first.received, b"")
        self.net.cut("10.0.0.3", "10.0.0.2")
        second = self.stranger()
        self.write(second, encode_frame(Open(0, tag)))
        self.assertEqual(second.received, b"")

    def test_ping(self) -> None:
        """
        A PING is answered with the same 8 bytes.
        """
        stranger = self.stranger()
        self.write(stranger, encode_frame(Ping(b"12345678")))
        self.assertEqual(stranger.received, bytes.fromhex("00000009") + b"\x0412345678")

    def test_idle(self) -> None:
        """
        An idle connection carries a PING every 30 s and stays open.
        """
        self.share()
        self.net.advance(600)
        self.assertTrue(self.a.is_connected(self.b.peer_id))
        self.assertTrue(self.b.is_connected(self.a.peer_id))
        self.assertEqual(self.a.counters["dialled"], 1)

    def test_silence(self) -> None:
        """
        A peer that sends nothing for 75 s is disconnected, whether or not it received
        PINGs.
        """
        on_a, on_b = self.share()
        self.net.silent.add("10.0.0.2")
        self.net.advance(74.8)
        self.assertTrue(self.a.is_connected(self.b.peer_id))
        self.net.advance(0.2)
        self.assertFalse(self.a.is_connected(self.b.peer_id))
        self.assertEqual(on_a.disconnected, [self.b.peer_id])
        self.assertEqual(on_b.disconnected, [self.a.peer_id])
        self.assertEqual(self.a.counters["closed_silent"], 1)

    def test_stranger_that_never_answers_pings(self) -> None:
        """
        An authenticated peer that is silent gets two PINGs, then is disconnected.
        """
        stranger = self.stranger()
        self.net.advance(74.7)
        self.assertEqual(len(stranger.received), 2 * 13)
        self.assertFalse(stranger.lost)
        self.net.advance(1)
        self.assertTrue(stranger.lost)

    def stall_and_send(self, size: int) -> None:
        """
        C{a} sends C{size} bytes that C{b} does not read.
        """
        for end in self.net.transports("10.0.0.2"):
            end.pauseProducing()
        for _ in range(size // 4000):
            self.a.send(self.b.peer_id, TOPIC, bytes(4000))
        self.net.advance(0.1)

    def test_slow_reader(self) -> None:
        """
        A peer with more than 1 MiB unsent for 10 s is disconnected.
        """
        on_a, _ = self.share()
        self.stall_and_send(1_600_000)
        self.net.advance(9.8)
        self.assertTrue(self.a.is_connected(self.b.peer_id))
        self.net.advance(0.2)
        self.assertFalse(self.a.is_connected(self.b.peer_id))
        self.assertEqual(self.a.counters["closed_slow_reader"], 1)
        self.assertEqual(on_a.disconnected, [self.b.peer_id])

    def test_slow_reader_catches_up(self) -> None:
        """
        A peer that reads in time stays connected, and receives everything in order.
        """
        on_a, on_b = self.share()
        self.stall_and_send(1_600_000)
        self.net.advance(8)
        for end in self.net.transports("10.0.0.2"):
            end.resumeProducing()
        self.net.advance(15)
        self.assertEqual(len(on_b.messages), 400)
        self.assertEqual(on_a.disconnected, [])

    def test_stuck_reader(self) -> None:
        """
        A peer that reads nothing for 30 s while callers wait for it is disconnected,
        too: they stop sending, so 1 MiB would never be unsent.
        """
        on_a, _ = self.share()
        self.stall_and_send(600_000)
        self.net.advance(29.8)
        self.assertTrue(self.a.is_connected(self.b.peer_id))
        self.net.advance(0.2)
        self.assertEqual(self.a.counters["closed_slow_reader"], 1)
        self.assertEqual(on_a.disconnected, [self.b.peer_id])

    def test_memory_is_bounded(self) -> None:
        """
        The bytes queued for a peer are limited; the limit is not enforced within
        L{StreamsTransport.send}.
        """
        on_a, _ = self.share()
        self.patch(connection_module, "UNSENT_LIMIT", 1_200_000)
        for end in self.net.transports("10.0.0.2"):
            end.pauseProducing()
        for _ in range(1000):
            self.a.send(self.b.peer_id, TOPIC, bytes(4000))
        self.assertEqual(on_a.disconnected, [])
        (connection,) = self.a.connections
        self.assertEqual(connection.unsent, 0)
        self.net.advance(0.1)
        self.assertEqual(on_a.disconnected, [self.b.peer_id])
        self.assertEqual(self.a.counters["closed_slow_reader"], 1)

    def test_close_writes_what_is_queued(self) -> None:
        """
        A connection that is closed while its peer reads slowly still delivers what was
        sent.
        """
        _, on_b = self.share()
        self.stall_and_send(800_000)
        self.a.disconnect(self.b.peer_id, TOPIC)
        self.net.advance(2)
        for end in self.net.transports("10.0.0.2"):
            end.resumeProducing()
        self.net.advance(2)
        self.assertEqual(len(on_b.messages), 200)
        self.assertEqual(self.net.transports(), [])

    def test_close_does_not_wait_for_ever(self) -> None:
        """
        A peer that does not answer the close is disconnected after 5 s.
        """
        self.share()
        self.stall_and_send(800_000)
        self.a.disconnect(self.b.peer_id, TOPIC)
        self.net.advance(5.8)
        self.assertEqual(len(self.a.connections), 1)
        self.net.advance(0.3)
        self.assertEqual(len(self.a.connections), 0)
        self.assertEqual(self.a.counters["closed_did_not_close_in_time"], 1)

    def test_many_that_do_not_close(self) -> None:
        """
        The number of closing connections is limited: beyond it the oldest are aborted.
        """
        self.patch(streams, "MAX_CLOSING", 8)
        self.patch(self.b.multiplexer._table, "_max_connections", 8)
        for _ in range(40):
            transport: Any = self.stranger().transport
            transport.pauseProducing()
            self.assertLessEqual(len(self.b.connections), 16)
        self.assertEqual(self.b.counters["closed_did_not_close_in_time"], 24)

    def test_newest_of_two_connections(self) -> None:
        """
        A connection that died unnoticed is replaced by the peer's next one.
        """
        on_a, on_b = self.share()
        self.net.advance(11)
        self.net.silent.add("10.0.0.2")
        for connection in tuple(self.b.connections):
            connection.abort("cancelled")
        self.net.advance(1)
        self.net.silent.clear()
        self.assertTrue(self.a.is_connected(self.b.peer_id))
        result = self.b.dial(self.a.peer_id, self.a.addresses())
        self.net.advance(0.1)
        self.successResultOf(result)
        self.a.send(self.b.peer_id, TOPIC, b"hello")
        self.net.advance(7)
        self.assertEqual(on_b.messages, [(self.a.peer_id, b"hello")])
        self.assertEqual(len(self.a.connections), 1)
        self.assertEqual(on_a.disconnected, [])

    def test_repr(self) -> None:
        """
        No repr contains secrets.
        """
        self.share()
        (connection,) = self.a.connections
        for thing in (self.a, connection, *self.a.multiplexer._table.links.values()):
            text = repr(thing)
            self.assertNotIn(ALICE.seed.hex(), text)
            self.assertNotIn(repr(ALICE.seed), text)
            self.assertNotIn(repr(connection.exporter), text)
            self.assertNotIn(repr(topic_key(TOPIC, SECRET)), text)

    def test_nothing_is_kept(self) -> None:
        """
        A connection that has ended is freed without the garbage collector, which may run
        once in ten minutes: OpenSSL's buffers take some 80 kB.
        """

        def plain(data: bytes) -> None:
            transport: Any = self.stranger(None).transport
            keep()
            transport.write(data)
            self.net.advance(0.1)
            transport.loseConnection()

        def authenticated() -> None:
            transport: Any = self.stranger().transport
            keep()
            transport.loseConnection()

        def member(end: Callable[[], object]) -> None:
            self.share()
            keep()
            end()
            self.net.advance(900)
            self.a.close_topic(TOPIC)
            self.b.close_topic(TOPIC)

        def keep() -> None:
            for each in (*self.a.connections, *self.b.connections):
                kept.extend(
                    (weakref.ref(each), weakref.ref(cast(SecuredConnection, each.secured).connection))
                )

        kept: list[weakref.ref[object]] = []
        ends: dict[str, Callable[[], object]] = {
            "silent stranger": lambda: plain(b""),
            "no TLS": lambda: plain(b"GET / HTTP/1.0\r\n\r\n"),
            "stranger": authenticated,
            "by peer": lambda: member(lambda: self.a.disconnect(self.b.peer_id, TOPIC)),
            "aborted": lambda: member(lambda: next(iter(self.b.connections)).abort("x")),
            "silent": lambda: member(lambda: self.net.silent.add("10.0.0.1")),
        }
        gc.disable()
        self.addCleanup(gc.enable)
        for name, end in ends.items():
            end()
            self.net.advance(1000)
            self.assertEqual([each() for each in kept], [None] * len(kept), name)
            self.assertGreaterEqual(len(kept), 2, name)
            kept.clear()

    def test_hours_of_churn(self) -> None:
        """
        After hours of strangers and members that come and go, by all ways, there are as
        many objects as after the first ones, without the garbage collector.
        """

        def come_and_go(number: int) -> None:
            host = f"10.1.{number >> 7}.{1 + (number & 127)}"
            silent = self.stranger(None, host)
            garbage: Any = self.stranger(None, host).transport
            garbage.write(number.to_bytes(4) * 20)
            unproven = self.stranger(PeerKey(number.to_bytes(32)), host)
            self.share()
            end = (self.a.disconnect, self.b.disconnect)[number % 2]
            other = (self.b, self.a)[number % 2]
            if number % 3:
                end(other.peer_id, TOPIC)
            else:
                next(iter(self.b.connections)).abort("x")
            self.net.advance(5)
            self.a.close_topic(TOPIC)
            self.b.close_topic(TOPIC)
            for each in (silent, unproven):
                transport: Any = each.transport
                transport.loseConnection()
            self.net.advance(300)

        # Twisted's endpoints keep the factories of a dial until the collector runs, and these strangers
        # have a TLS context each.
        others = {"SharedTLSFactory", "_Factory", "ConnectionCreator", "SecuredConnection"}

        def objects() -> Counter[str]:
            kinds = (type(each) for each in gc.get_objects())
            ours = (kind.__name__ for kind in kinds if str(kind.__module__).startswith(_OURS))
            return Counter(name for name in ours if name not in others)

        come_and_go(0)
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        for number in range(1, 4):
            come_and_go(number)
        before = objects()
        for number in range(4, sized(10, 40)):
            come_and_go(number)
        grown = {name: count - before[name] for name, count in objects().items() if count > before[name] + 1}
        self.assertEqual(grown, {})


class EarlyTests(StreamsTestCase):
    """
    A Join sent with an OPEN, between us and a raw client whose every byte is checked.
    """

    def setUp(self) -> None:
        super().setUp()
        self.links = RecordingLinks()

    def frames(self, stranger: Stranger, message: bytes = JOIN, channel: int = 0) -> tuple[Open, Early]:
        """
        Return the first frames of C{stranger}, with C{message} inside.
        """
        exporter = stranger.exporter()
        key = early_key(KEY, exporter, CAROL.peer_id, BOB.peer_id)
        tag = admission_tag(KEY, exporter, CAROL.peer_id, BOB.peer_id)
        return Open(channel, tag), Early(channel, seal(key, message))

    def send(self, stranger: Stranger, *frames: Open | Early | Data | Close) -> None:
        """
        Let C{stranger} send C{frames}, in one write.
        """
        self.write(stranger, b"".join(map(encode_frame, frames)))

    def answer(self, stranger: Stranger) -> bytes:
        """
        Return the OPEN with which C{b} answers.
        """
        exporter = stranger.exporter()
        return encode_frame(Open(0, admission_tag(KEY, exporter, BOB.peer_id, CAROL.peer_id)))

    def dialled(self) -> Stranger:
        """
        Let C{a} dial a raw server, and send a Join and further messages.
        """
        stranger = Stranger()
        reactor = self.net.reactor("10.0.0.3")
        factory: Any = Factory.forProtocol(lambda: stranger)
        reactor.listenTCP(1, TLSMemoryBIOFactory(ConnectionCreator(CAROL), False, factory, reactor))
        self.a.open_topic(TOPIC, SECRET, self.links)

        def send(_: None) -> None:
            for message in (JOIN, b"one", JOIN, b"two"):
                self.a.send(CAROL.peer_id, TOPIC, message)

        self.a.dial(CAROL.peer_id, [PeerAddress(STREAMS, "10.0.0.3", 1)]).addCallback(send)
        self.net.advance(0.1)
        return stranger

    def test_sent(self) -> None:
        """
        The dialling side sends OPEN and its first message, a Join, in one write, and
        nothing else before the peer's OPEN; then the rest, without that Join.
        """
        stranger = self.dialled()
        (piece,) = stranger.pieces
        opened, early = FrameParser().feed(piece)
        assert isinstance(opened, Open)
        assert isinstance(early, Early)
        exporter = stranger.exporter()
        self.assertEqual(opened.tag, admission_tag(KEY, exporter, ALICE.peer_id, CAROL.peer_id))
        self.assertEqual(early.channel, opened.channel)
        self.assertEqual(unseal(early_key(KEY, exporter, ALICE.peer_id, CAROL.peer_id), early.sealed), JOIN)
        tag = admission_tag(KEY, exporter, CAROL.peer_id, ALICE.peer_id)
        self.send(stranger, Open(0, tag))
        frames = without_clocks(b"".join(stranger.pieces[1:]))
        self.assertEqual(frames, [Data(0, message) for message in (b"one", JOIN, b"two")])

    def test_never_admitted(self) -> None:
        """
        A peer that does not know the topic is given up after 5 s; when it is tried
        again on the same connection, the key is not used for a second EARLY.
        """
        stranger = self.dialled()
        # This keeps the connection open.
        self.send(stranger, Open(0, b"x" * 32))
        self.net.advance(5)
        self.assertEqual(self.links.disconnected, [CAROL.peer_id])
        self.a.send(CAROL.peer_id, TOPIC, b"\x00\x00\x01\x01x")
        self.net.advance(0.1)
        kinds = [type(frame) for frame in FrameParser().feed(stranger.received)]
        self.assertEqual(kinds, [Open, Early, Close, Open])

    def test_received(self) -> None:
        """
        The Join of a member is handled immediately: OPEN and the topic's answers are
        sent in one write.
        """
        self.b.open_topic(TOPIC, SECRET, self.links)
        self.links.on_message = lambda peer_id, message: self.b.send(peer_id, TOPIC, b"neighbor")
        stranger = self.stranger()
        self.send(stranger, *self.frames(stranger))
        self.assertEqual(self.links.messages, [(CAROL.peer_id, JOIN)])
        (piece,) = stranger.pieces
        self.assertTrue(piece.startswith(self.answer(stranger)))
        self.assertEqual(without_clocks(piece)[1:], [Data(0, b"neighbor")])

    def test_topic_opened_later(self) -> None:
        """
        A Join for a topic that is not open is kept encrypted, and handled in the turn
        after the topic is opened, not before its links expect it.
        """
        stranger = self.stranger()
        self.send(stranger, *self.frames(stranger))
        self.assertEqual(stranger.received, b"")
        self.b.open_topic(TOPIC, SECRET, self.links)
        self.assertEqual(self.links.messages, [])
        self.net.advance(0)
        self.assertEqual(self.links.messages, [(CAROL.peer_id, JOIN)])
        self.net.advance(0.1)
        self.assertEqual(stranger.received, self.answer(stranger))

    def test_topic_opened_for_a_moment(self) -> None:
        """
        A topic that is closed in the same turn receives nothing; the next one does.
        """
        stranger = self.stranger()
        self.send(stranger, *self.frames(stranger))
        self.b.open_topic(TOPIC, SECRET, self.links)
        self.b.close_topic(TOPIC)
        self.net.advance(0.1)
        self.assertEqual(self.links.messages, [])
        self.b.open_topic(TOPIC, SECRET, self.links)
        self.net.advance(0.1)
        self.assertEqual(self.links.messages, [(CAROL.peer_id, JOIN)])

    def test_connection_lost_before_it_is_handled(self) -> None:
        """
        A kept Join is dropped with its connection.
        """
        stranger = self.stranger()
        self.send(stranger, *self.frames(stranger))
        self.b.open_topic(TOPIC, SECRET, self.links)
        self.net.cut("10.0.0.2", "10.0.0.3")
        self.net.advance(0.1)
        self.assertEqual(self.links.messages, [])

    def test_other_topic(self) -> None:
        """
        A peer without the secret can't deliver a Join: its OPEN does not match.
        """
        self.b.open_topic(TOPIC, b"x" * 32, self.links)
        stranger = self.stranger()
        self.send(stranger, *self.frames(stranger))
        self.assertEqual(self.links.messages, [])
        self.assertEqual(stranger.received, b"")
        self.assertFalse(stranger.lost)

    def test_replayed_and_reflected(self) -> None:
        """
        An EARLY encrypted for another connection or direction ends the connection.
        """
        self.b.open_topic(TOPIC, SECRET, self.links)
        _, replayed = self.frames(self.stranger())
        stranger = self.stranger()
        opened, _ = self.frames(stranger)
        self.send(stranger, opened, replayed)
        self.assertTrue(stranger.lost)
        stranger = self.stranger()
        opened, _ = self.frames(stranger)
        key = early_key(KEY, stranger.exporter(), BOB.peer_id, CAROL.peer_id)
        self.send(stranger, opened, Early(0, seal(key, JOIN)))
        self.assertTrue(stranger.lost)
        self.assertEqual(self.b.counters["closed_early_not_authentic"], 2)
        self.assertEqual(self.links.messages, [])

    def test_malformed(self) -> None:
        """
        Each malformed EARLY ends the connection and is counted.
        """
        self.b.open_topic(TOPIC, SECRET, self.links)
        other = Open(1, b"x" * 32)
        for reason, made in (
            ("channel not open", lambda opened, early: (early,)),
            ("channel not open", lambda opened, early: (opened, Close(0), early)),
            ("unexpected early", lambda opened, early: (opened, early, early)),
            ("unexpected early", lambda opened, early: (opened, Data(0, JOIN), early)),
            ("unexpected early", lambda opened, early: (other, Early(1, bytes(16)), Early(1, bytes(16)))),
            ("unexpected early", lambda opened, early: (other, Data(1, JOIN), Early(1, bytes(16)))),
            ("early not authentic", lambda opened, early: (opened, Early(0, bytes(16)))),
            ("message too large", lambda opened, early: (opened, Early(0, bytes(4113)))),
            ("truncated", lambda opened, early: (opened, Early(0, bytes(15)))),
        ):
            before = self.b.counters["closed_" + snake_case(reason)]
            stranger = self.stranger()
            self.send(stranger, *made(*self.frames(stranger)))
            self.assertTrue(stranger.lost, reason)
            self.assertEqual(self.b.counters["closed_" + snake_case(reason)], before + 1, reason)

    def test_no_join(self) -> None:
        """
        An encrypted message that is malformed or not a Join is not handled.
        """
        self.b.open_topic(TOPIC, SECRET, self.links)
        for message in (b"", b"hello", b"\x00\x00\x01\x05", b"\x00\x04\x00\x00"):
            stranger = self.stranger()
            self.send(stranger, *self.frames(stranger, message))
            self.assertTrue(stranger.lost)
        self.assertEqual(self.b.counters["closed_early_not_a_join"], 4)
        self.assertEqual(self.links.messages, [])

    def test_found_out_later(self) -> None:
        """
        The same applies when the topic is opened after such a frame has arrived.
        """
        for reason, sealed in (("early not authentic", bytes(20)), ("early not a join", None)):
            stranger = self.stranger()
            opened, early = self.frames(stranger, b"hello")
            self.send(stranger, opened, early if sealed is None else Early(0, sealed))
            self.assertFalse(stranger.lost)
            self.b.open_topic(TOPIC, SECRET, self.links)
            self.net.advance(0.1)
            self.assertTrue(stranger.lost)
            self.assertEqual(self.b.counters["closed_" + snake_case(reason)], 1)
            self.b.close_topic(TOPIC)
        self.assertEqual(self.links.messages, [])

    def test_closed_in_the_same_turn(self) -> None:
        """
        A CLOSE that arrives before a kept Join is handled discards it.
        """
        stranger = self.stranger()
        opened, early = self.frames(stranger)
        other = Open(1, admission_tag(KEY2, stranger.exporter(), CAROL.peer_id, BOB.peer_id))
        on_other = RecordingLinks()
        on_other.on_message = lambda *_: self.b.open_topic(TOPIC, SECRET, self.links)
        self.b.open_topic(TOPIC2, SECRET, on_other)
        self.send(stranger, opened, early, other, Data(1, b"open the topic"), Close(0))
        self.assertEqual(self.links.messages, [])
        self.assertFalse(stranger.lost)


class ShareTests(StreamsTestCase):
    """
    What peers send is handled in portions; those who have not been admitted get small
    ones.
    """

    def setUp(self) -> None:
        super().setUp()
        self.links = RecordingLinks()
        self.b.open_topic(TOPIC, SECRET, self.links)

    def turns(self, count: Callable[[], int], total: int) -> list[int]:
        """
        Return how much is handled in each turn, until C{total}.
        """
        counts = [count()]
        original = Share._next_turn

        def next_turn(share: Share) -> None:
            counts.append(count())
            original(share)
            counts.append(count())

        self.patch(Share, "_next_turn", next_turn)
        self.net.advance(1)
        self.assertEqual(count(), total)
        return [after - before for before, after in pairwise(counts)]

    def admitted(self, number: int) -> Stranger:
        """
        Return a member that has opened the topic.
        """
        key = PeerKey.from_seed(bytes((number, 7)) * 16)
        stranger = self.stranger(key, f"10.1.{number}.1")
        tag = admission_tag(KEY, export_key(stranger.secured.connection), key.peer_id, BOB.peer_id)
        self.write(stranger, encode_frame(Open(0, tag)))
        return stranger

    def flood(self, stranger: Stranger, data: bytes) -> None:
        """
        Let C{stranger} send C{data}, without waiting.
        """
        cast(Any, stranger.transport).write(data)

    def test_messages(self) -> None:
        """
        Members that send thousands of messages share the turns evenly.
        """
        for stranger in [self.admitted(number) for number in range(5)]:
            self.flood(stranger, encode_frame(Data(0, b"x")) * 2000)
        turns = self.turns(lambda: len(self.links.messages), 10_000)
        self.assertLessEqual(max(turns), UNITS)
        early = Counter(peer_id for peer_id, _ in self.links.messages[:4000])
        self.assertEqual(len(early), 5)
        self.assertLessEqual(max(early.values()) - min(early.values()), 2 * UNITS)

    def test_small_records(self) -> None:
        """
        The same applies if each message is in a separate TLS record.
        """
        stranger = self.admitted(1)
        for _ in range(2000):
            cast(Any, stranger.transport)._aggregator._write(encode_frame(Data(0, b"x")))
        self.assertLessEqual(max(self.turns(lambda: len(self.links.messages), 2000)), UNITS)

    def test_strangers_wait(self) -> None:
        """
        Messages of a member are handled within a few turns, however many strangers
        flood.
        """
        keys = [PeerKey.from_seed(bytes((number, 9)) * 16) for number in range(100)]
        strangers = [self.stranger(key, f"10.2.{number}.1") for number, key in enumerate(keys)]
        member = self.admitted(1)
        for stranger in strangers:
            self.flood(stranger, b"\x00\x00\x00\x01\x0d" * 1000)
        self.flood(member, encode_frame(Data(0, b"x")) * 20)
        when: list[int] = []
        self.links.on_message = lambda *_: when.append(self.b.counters["received_unknown_frame"])
        turns = self.turns(lambda: self.b.counters["received_unknown_frame"], 100_000)
        self.assertLessEqual(max(turns), UNITS)
        self.assertEqual(len(when), 20)
        self.assertLess(when[-1], 5 * UNITS)

    def test_reading_stops(self) -> None:
        """
        While a connection waits for its turn nothing more is read from it.
        """
        stranger = self.admitted(1)
        self.flood(stranger, encode_frame(Data(0, bytes(4000))) * 1000)
        (connection,) = self.b.connections

        def held() -> int:
            parts = [*connection._received, connection._parser._pieces._data]
            return sum(map(len, parts + list(cast(Any, connection.transport)._encrypted)))

        most: list[int] = []
        self.links.on_message = lambda *_: most.append(held())
        self.net.advance(1)
        self.assertEqual(len(self.links.messages), 1000)
        self.assertLess(max(most), 100_000)

    def test_end_while_waiting(self) -> None:
        """
        What a peer has sent before it closed its connection is handled; what one has
        sent that misbehaved is not.
        """
        stranger = self.admitted(1)
        self.flood(stranger, encode_frame(Data(0, b"x")) * 5000)
        cast(Any, stranger.transport).loseConnection()
        self.turns(lambda: len(self.links.messages), 5000)
        self.assertEqual(self.b.connections, {})
        self.links.messages.clear()
        stranger = self.admitted(2)
        self.flood(stranger, encode_frame(Data(0, b"x")) * 1000 + bytes(4) + encode_frame(Data(0, b"x")))
        self.turns(lambda: len(self.links.messages), 1000)
        self.assertEqual(self.b.counters["closed_bad_frame_length"], 1)
        self.assertEqual(self.b.connections, {})
        self.assertEqual([call for call in self.clock.getDelayedCalls() if call.getTime() < 1e9][1:], [])

    def test_pings(self) -> None:
        """
        A stranger that sends PINGs and reads nothing gets few answers, and stays cheap;
        one that reads gets the last of several.
        """
        stranger = self.stranger()
        self.flood(stranger, b"".join(encode_frame(Ping(bytes((n,)) * 8)) for n in range(4)))
        self.net.advance(0.1)
        self.assertEqual(stranger.received, encode_frame(Pong(b"\3" * 8)))
        cast(Any, stranger.transport).pauseProducing()
        for _ in range(40):
            self.flood(stranger, encode_frame(Ping(bytes(8))) * 2000)
            self.net.advance(0.1)
            (connection,) = self.b.connections
            self.assertLessEqual(connection.unsent, len(encode_frame(Pong(bytes(8)))))
        self.assertFalse(stranger.lost)

    def test_unsent_to_strangers(self) -> None:
        """
        Far less may be unsent for a peer that has proved nothing than for a member.
        """
        for admitted in (False, True):
            stranger = self.admitted(1) if admitted else self.stranger()
            cast(Any, stranger.transport).pauseProducing()
            (connection,) = self.b.connections
            for _ in range(100):
                connection.send(encode_frame(Data(0, bytes(4000))))
                self.net.advance(0.01)
            self.assertEqual(self.b.counters["closed_slow_reader"], 1)
            self.assertEqual(len(self.b.connections), int(admitted))


class HandshakesTests(StreamsTestCase):
    """
    Limits on unauthenticated connections.
    """

    def attack(self, hosts: Iterator[str], speak: bytes = b"") -> tuple[int, list[Stranger]]:
        """
        Connect eight times a second without a handshake, and let honest peers connect
        meanwhile.

        @param speak: what the attackers send.
        @return: how many of 20 honest peers succeed, and the attackers.
        """
        attackers: list[Stranger] = []
        served = 0
        for number in range(30):
            for _ in range(8):
                attackers.append(self.stranger(None, next(hosts)))
                if speak:
                    self.write(attackers[-1], speak)
                self.net.advance(0.02)
            if number >= 10:
                key = PeerKey.from_seed(bytes((number, 1)) * 16)
                honest = self.stranger(key, f"203.0.{number}.1")
                served += self.b.is_connected(key.peer_id)
                cast(Any, honest.transport).loseConnection()
        return served, attackers

    def test_silent_connections(self) -> None:
        """
        Connections that send nothing, or only the first half of a handshake, from a few
        networks, keep no honest peer out.
        """
        hello = bytes.fromhex("1603010200010001fc0303")
        for networks, speak in ((4, hello), (1, b""), (4, b""))[: sized(1, 3)]:
            self.setUp()
            served, attackers = self.attack(cycle(f"198.51.{n}.1" for n in range(networks)), speak)
            self.assertEqual(served, 20, f"{networks} {speak!r}")
            self.assertLessEqual(len(self.b.handshakes), 64)
            self.assertTrue(all(stranger.lost for stranger in attackers[:-64]))

    def test_one_of_their_network(self) -> None:
        """
        Not even one that shares the attackers' address.
        """
        self.attack(cycle(["203.0.1.1"]))
        for n in range(4, 12):
            self.stranger(PeerKey.from_seed(bytes((n,)) * 32), "203.0.1.1")
        self.assertEqual(self.b.counters["accepted"], 28)

    def test_time_under_pressure(self) -> None:
        """
        A handshake that is under way is closed after 3 s if there are many.
        """
        slow = self.stranger(None, "192.0.2.1")
        self.net.advance(3)
        for n in range(31):
            self.stranger(None, f"198.51.{n}.1")
        self.assertFalse(slow.lost)
        self.stranger(None, "192.0.2.2")
        self.assertTrue(slow.lost)
        self.assertEqual(self.b.counters["closed_handshake_timed_out"], 2)

    def test_authenticated_ones_do_not_count(self) -> None:
        """
        An authenticated connection frees its slot.
        """
        for n in range(4, 12):
            self.stranger(PeerKey.from_seed(bytes((n,)) * 32))
        self.assertEqual(self.b.counters["accepted"], 8)


class ListenTests(StreamsTestCase):
    """
    Tests for L{StreamsTransport.listen}, L{StreamsTransport.addresses} and
    L{StreamsTransport.stop}.
    """

    def listening(self, *hosts: str, interfaces: tuple[str, ...] = ()) -> StreamsTransport:
        """
        Return a transport that listens on some addresses of one host.
        """
        transport = StreamsTransport(
            self.net.reactor("10.0.0.5"), CAROL, interface_addresses=lambda: interfaces
        )
        for number, host in enumerate(hosts):
            transport.listen(host, 5000 + number)
        return transport

    def addresses(self, transport: StreamsTransport) -> list[str]:
        """
        The addresses as text.
        """
        return [str(address) for address in transport.addresses()]

    def test_port(self) -> None:
        """
        The bound port is available afterwards.
        """
        transport = StreamsTransport(self.net.reactor("10.0.0.5"), CAROL)
        self.assertIsNone(transport.port)
        self.assertEqual(transport.addresses(), ())
        transport.listen("10.0.0.5", 0)
        assert transport.port is not None
        self.assertGreater(transport.port, 0)
        self.assertEqual(self.addresses(transport), [f"10.0.0.5:{transport.port}"])

    def test_port_taken(self) -> None:
        """
        A port in use is a L{ListenError} of one line, which says what to do.
        """
        transport = StreamsTransport(self.net.reactor("10.0.0.1"), CAROL)
        error = self.assertRaises(ListenError, transport.listen, "10.0.0.1", 4433)
        self.assertEqual(
            str(error),
            "can't listen on TCP 10.0.0.1 port 4433: Address already in use; "
            "choose another port, or 0 for any",
        )

    def test_bound_to_all(self) -> None:
        """
        Bound to all addresses: the external address is first, then those of the
        interfaces, of the bound family.
        """
        transport = self.listening("", interfaces=("192.0.2.5", "2001:db8::5"))
        self.assertEqual(self.addresses(transport), ["192.0.2.5:5000"])
        transport.set_external_host("198.51.100.7")
        self.assertEqual(self.addresses(transport), ["198.51.100.7:5000", "192.0.2.5:5000"])
        transport.set_external_host("192.0.2.5")
        self.assertEqual(self.addresses(transport), ["192.0.2.5:5000"])
        transport.set_external_host(None)
        transport.listen("::", 5001)
        self.assertEqual(self.addresses(transport), ["192.0.2.5:5000", "[2001:db8::5]:5001"])

    def test_loopback(self) -> None:
        """
        Loopback is listed only if there are no other addresses.
        """
        self.assertEqual(self.addresses(self.listening("0.0.0.0")), ["127.0.0.1:5000"])
        self.net = MemoryTCPNetwork(self.clock)
        self.assertEqual(
            self.addresses(self.listening("", "::", interfaces=("192.0.2.5",))), ["192.0.2.5:5000"]
        )

    def test_at_most_twelve(self) -> None:
        """
        At most 12 addresses are listed.
        """
        interfaces = tuple(f"192.0.2.{n}" for n in range(1, 20))
        self.assertEqual(len(self.listening("", interfaces=interfaces).addresses()), 12)

    def test_stop_does_not_wait_for_ever(self) -> None:
        """
        A peer that does not answer delays the stop by at most 1.5 s; unauthenticated
        connections do not delay it.
        """
        self.share()
        self.stranger(None)
        self.net.silent.add("10.0.0.1")
        result = self.b.stop()
        self.net.advance(1.4)
        self.assertNoResult(result)
        self.net.advance(0.2)
        self.successResultOf(result)
        self.assertEqual(self.b.connections, {})

    def test_stop_and_strangers(self) -> None:
        """
        A connection in its handshake does not delay the stop.
        """
        stranger = self.stranger(None)
        result = self.b.stop()
        self.net.advance(0)
        self.successResultOf(result)
        self.net.advance(0.1)
        self.assertTrue(stranger.lost)

    def test_stop_cancelled(self) -> None:
        """
        Cancelling L{StreamsTransport.stop} aborts what is left.
        """
        self.share()
        self.net.silent.add("10.0.0.1")
        result = self.b.stop()
        result.cancel()
        self.failureResultOf(result)
        self.net.advance(0)
        self.assertEqual(self.b.connections, {})

    def test_nothing_accepted_after_stop(self) -> None:
        """
        A stopped transport does not listen.
        """
        self.successResultOf(self.b.stop())
        result = self.a.dial(self.b.peer_id, [PeerAddress(STREAMS, "10.0.0.2", 4433)])
        self.net.advance(0.1)
        self.assertEqual(str(self.failureResultOf(result, DialFailed).value), "connection refused")

    def test_connection_repr_before_the_handshake(self) -> None:
        """
        A connection has a repr at any time.
        """
        self.assertEqual(repr(StreamsConnection(self.clock, self.a, None)), "<StreamsConnection from >")
