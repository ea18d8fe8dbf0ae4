"""
Tests for L{dtt.transport.streams.connection}.
"""

from __future__ import annotations

import gc
import socket
import weakref
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any, cast

from attrs import frozen
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase

from dtt.counters import snake_case
from dtt.errors import DialFailed
from dtt.identity import PeerKey
from dtt.testing.memory_transport import RecordingLinks
from dtt.transport.admission import topic_key
from dtt.transport.streams import connection as connection_module
from dtt.transport.streams import tls as tls_module
from dtt.transport.streams import transport as streams
from dtt.transport.streams.channels import admission_tag
from dtt.transport.streams.connection import NOT_SENT, WINDOW, limit_buffers
from dtt.transport.streams.frames import Close, Data, Open, Ping, Pong, encode_frame
from dtt.transport.streams.tls import SecuredConnection
from dtt.wire.addresses import STREAMS, PeerAddress
from tests.garbage import ignore_older_objects
from tests.sweeps import sized
from tests.transport.streams.common import ALICE, BOB, CAROL, SECRET, TOPIC, StreamsTestCase, without_clocks

# The packages that have objects for each connection.
_OURS = ("dtt.transport.", "dtt.net.", "dtt.wire.")


@frozen
class Transport:
    """
    A transport with a socket.
    """

    socket: Any


class BuffersTests(SynchronousTestCase):
    """
    Tests for L{limit_buffers}.
    """

    if not (hasattr(socket, "TCP_NOTSENT_LOWAT") and hasattr(socket, "TCP_WINDOW_CLAMP")):
        skip = "this system has no such options"

    def test_limits(self) -> None:
        """
        Unsent bytes and the peer's window are limited; the kernel's own buffers are
        not, because they must hold everything in flight.
        """
        with socket.socket() as fresh, socket.socket() as limited:
            limit_buffers(Transport(limited))
            for name, size in ("TCP_NOTSENT_LOWAT", NOT_SENT), ("TCP_WINDOW_CLAMP", WINDOW):
                self.assertEqual(limited.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)), size)
            for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                default = fresh.getsockopt(socket.SOL_SOCKET, option)
                self.assertEqual(limited.getsockopt(socket.SOL_SOCKET, option), default)

    def test_refused(self) -> None:
        """
        A platform that refuses the options, and an in-memory transport, are left
        unchanged.
        """
        closed = socket.socket()
        closed.close()
        limit_buffers(Transport(closed))
        limit_buffers(object())


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
        An idle connection carries a PING every 15 s and stays open.
        """
        self.share()
        self.net.advance(600)
        self.assertTrue(self.a.is_connected(self.b.peer_id))
        self.assertTrue(self.b.is_connected(self.a.peer_id))
        self.assertEqual(self.a.counters["dialled"], 1)

    def test_silence(self) -> None:
        """
        A peer that sends nothing for 27 s is disconnected, whether or not it received
        PINGs.
        """
        on_a, on_b = self.share()
        self.net.silent.add("10.0.0.2")
        self.net.advance(26.8)
        self.assertTrue(self.a.is_connected(self.b.peer_id))
        self.net.advance(0.2)
        self.assertFalse(self.a.is_connected(self.b.peer_id))
        self.assertEqual(on_a.disconnected, [self.b.peer_id])
        self.assertEqual(on_b.disconnected, [self.a.peer_id])
        self.assertEqual(self.a.counters["closed_silent"], 1)

    def test_silence_while_bytes_wait(self) -> None:
        """
        While bytes wait to be sent, a PING would come after them: only after 75 s of
        silence the connection is closed.
        """
        self.share()
        self.stall_and_send(200_000)
        self.net.silent.add("10.0.0.2")
        self.net.advance(74)
        self.assertTrue(self.a.is_connected(self.b.peer_id))
        self.net.advance(2)
        self.assertFalse(self.a.is_connected(self.b.peer_id))
        self.assertEqual(self.a.counters["closed_silent"], 1)

    def test_stranger_that_never_answers_pings(self) -> None:
        """
        An authenticated peer that is silent gets a PING, then is disconnected.
        """
        stranger = self.stranger()
        self.net.advance(26.7)
        self.assertEqual(len(stranger.received), 13)
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
        for connection in self.b.connections:
            # It does not notice that it reads nothing.
            connection.silence_limit = 600.0
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
        self.patch(self.b.multiplexer.table, "_max_connections", 8)
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
        for thing in (self.a, connection, *self.a.multiplexer.table.links.values()):
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

        ignore_older_objects(self)
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
