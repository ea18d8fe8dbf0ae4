"""
Tests for L{dtt.transport.quic} and its parts, over a QUIC network in memory.
What it has in common with other transports is in L{tests.transport.test_contract}.
"""

from __future__ import annotations

from collections.abc import Coroutine
from itertools import pairwise
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from dtt.addresses.book import AddressBook
from dtt.errors import DecodeError, ListenError, UsageError
from dtt.hints import IROH, PeerAddress, RelayAddress
from dtt.identity import PeerKey
from dtt.interfaces import IGossipObserver
from dtt.testing.clock import ThreadClock, advance
from dtt.testing.iroh import MemoryIroh
from dtt.testing.iroh_streams import MemoryConnection, MemoryStream
from dtt.testing.transport import RecordingLinks
from dtt.transport import quic_accepting, quic_sending
from dtt.transport.iroh_calls import Calls, IrohFailure
from dtt.transport.members import GossipMember
from dtt.transport.quic import IrohTransport
from dtt.transport.quic_endpoint import ALPN
from dtt.transport.quic_frames import encode_header, encode_message
from dtt.transport.quic_peers import FIRST_USE, REPLACED, UNUSED

TOPIC, OTHER, SECRET = b"t" * 32, b"u" * 32, b"s" * 32
BYE = b"\x00\x05\x00\x00"
KEYS = [PeerKey.from_seed(bytes((number,)) * 32) for number in range(40)]


class RawPeer:
    """
    An endpoint on the network that obeys no rules.

    @ivar key: who it is.
    @ivar connections: what it has, in order.
    """

    def __init__(self, test: IrohTestCase, number: int) -> None:
        self._test = test
        self.key = KEYS[number]
        self.connections: list[MemoryConnection] = []
        self._bindings = test.net.bindings(f"10.0.0.{number}")
        self._calls = Calls(test.clock, self._bindings.IrohError)
        builder = self._bindings.EndpointBuilder()
        builder.secret_key(self.key.seed)
        builder.alpns([ALPN])
        builder.bind_addr(f"10.0.0.{number}:4433")
        self.endpoint = self._calls.wait(builder.bind(), 1)
        self.address = PeerAddress(IROH, f"10.0.0.{number}", 4433)

    def call(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """
        What a call of the bindings gives, soon.
        """
        result = self._calls.call(coroutine)
        self._test.advance(0.1)
        return self._test.successResultOf(result)

    def start(self, coroutine: Coroutine[Any, Any, Any]) -> Deferred[Any]:
        """
        Begin a call of the bindings; if it fails, it gives C{None}.
        """
        return self._calls.call(coroutine).addErrback(lambda failure: failure.trap(IrohFailure) and None)

    def connect(self, to: IrohTransport) -> MemoryConnection:
        """
        A connection to C{to}.
        """
        connecting = self.begin(to)
        self._test.advance(0.1)
        connection: MemoryConnection = self._test.successResultOf(connecting)
        self.connections.append(connection)
        return connection

    def begin(self, to: IrohTransport) -> Deferred[Any]:
        """
        Begin one.
        """
        bindings = self._bindings
        (host,) = (a for a in to.addresses() if isinstance(a, PeerAddress))
        addr = bindings.EndpointAddr(bindings.EndpointId.from_bytes(to.peer_id), None, [str(host)])
        return self.start(self.endpoint.connect(addr, ALPN))

    def accept(self) -> MemoryConnection:
        """
        The next connection that was opened to us.
        """
        incoming = self.call(self.endpoint.accept_next())
        accepting = self.call(incoming.accept())
        connection: MemoryConnection = self.call(accepting.connect())
        self.connections.append(connection)
        return connection

    def write(self, connection: MemoryConnection, data: bytes) -> MemoryStream:
        """
        Write to a new stream.
        """
        stream: MemoryStream = self.call(connection.open_uni())
        self.call(stream.write_all(data))
        return stream

    def read(self, connection: MemoryConnection) -> bytes:
        """
        What is there on the next stream of C{connection}.
        """
        stream = self.call(connection.accept_uni())
        data: bytes = self.call(stream.read(1_000_000))
        return data


class IrohTestCase(SynchronousTestCase):
    """
    A network.
    """

    def setUp(self) -> None:
        self.clock = ThreadClock()
        self.net = MemoryIroh(self.clock)
        self.a, self.on_a = self.transport(1)

    def advance(self, seconds: float) -> None:
        """
        Let time pass.
        """
        advance(self.clock, seconds)

    def transport(self, number: int, **settings: Any) -> tuple[IrohTransport, RecordingLinks]:
        """
        A transport on which L{TOPIC} is open.
        """
        host = f"10.0.0.{number}"
        transport = IrohTransport(self.clock, KEYS[number], bindings=self.net.bindings(host), **settings)
        transport.listen(host, 0)
        links = RecordingLinks()
        transport.open_topic(TOPIC, SECRET, links)
        return transport, links

    def connected(self) -> tuple[IrohTransport, RecordingLinks]:
        """
        Another one that L{a} has dialled.
        """
        b, on_b = self.transport(2)
        result = self.a.dial(b.peer_id, b.addresses())
        self.advance(0.1)
        self.successResultOf(result)
        return b, on_b

    def closed(self) -> dict[str, int]:
        """
        Why connections of L{a} were closed.
        """
        return {
            reason.removeprefix("closed: "): count
            for reason, count in self.a.counters.items()
            if reason.startswith("closed: ")
        }


class SendingTests(IrohTestCase):
    """
    What goes out on a connection.
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
        Record what is written from now on.
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
        The header and all messages of one turn are one write, and so are those
        of a later turn.
        """
        written = self.writes()
        for number in range(3):
            self.send(b"%d" % number)
        self.assertEqual(written, [])
        self.advance(0)
        expected = encode_header(TOPIC) + b"".join(encode_message(b"%d" % number) for number in range(3))
        self.assertEqual(written, [expected])
        self.send(b"3")
        self.send(b"4")
        self.advance(0)
        self.assertEqual(written[1:], [encode_message(b"3") + encode_message(b"4")])
        self.assertEqual(self.raw.read(self.there), b"".join(written))

    def test_a_stream_for_each_topic(self) -> None:
        """
        Topics have streams of their own on one connection.
        """
        self.a.open_topic(OTHER, SECRET, RecordingLinks())
        self.send(b"one")
        self.send(b"other", OTHER)
        self.advance(0.1)
        read = {self.raw.read(self.there) for _ in range(2)}
        self.assertEqual(
            read,
            {encode_header(TOPIC) + encode_message(b"one"), encode_header(OTHER) + encode_message(b"other")},
        )

    def test_new_stream_after_a_disconnect(self) -> None:
        """
        A stream ends after a C{Disconnect}; the next message opens another one.
        """
        self.send(BYE)
        self.a.disconnect(self.raw.key.peer_id, TOPIC)
        self.send(b"again")
        self.advance(0.1)
        first = self.raw.call(self.there.accept_uni())
        second = self.raw.call(self.there.accept_uni())
        self.assertEqual(self.raw.call(first.read(100)), encode_header(TOPIC) + encode_message(BYE))
        self.assertEqual(self.raw.call(first.read(100)), b"")
        self.assertEqual(self.raw.call(second.read(100)), encode_header(TOPIC) + encode_message(b"again"))

    def test_slow_reader(self) -> None:
        """
        More than 1 MiB unsent for 10 s end the connection, and so does a peer
        that takes nothing for as long; one that reads does not.
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
        Past a limit it ends at once, but not within C{send}.
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
        A peer that acknowledges no stream may not have us keep them for ever.
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
        A stream that the peer stops ends the connection (Q3).
        """
        self.send(b"hello")
        self.advance(0.1)

        async def stopped(stream: MemoryStream, buf: bytes) -> None:
            raise self.net.bindings("x").IrohError("STREAM", "Stopped(0)")

        self.patch(MemoryStream, "write_all", stopped)
        self.send(b"more")
        self.advance(0.1)
        self.assertEqual(self.closed(), {"stream stopped": 1})


class EndTests(IrohTestCase):
    """
    When connections are closed.
    """

    def test_goodbye(self) -> None:
        """
        A second after a C{Disconnect} for the last topic the connection is
        closed, with code 0 and its reason, by whoever comes first.
        """
        b, on_b = self.connected()
        self.a.send(b.peer_id, TOPIC, b"hello")
        self.advance(0.1)
        raw_end = next(end for end in self.net.connections if end.endpoint.peer_id == b.peer_id)
        self.a.send(b.peer_id, TOPIC, BYE)
        self.a.disconnect(b.peer_id, TOPIC)
        self.advance(0.9)
        self.assertTrue(b.is_connected(self.a.peer_id))
        self.advance(0.3)
        self.assertFalse(self.a.is_connected(b.peer_id) or b.is_connected(self.a.peer_id))
        self.assertIn(raw_end.lost, ("closed", "closed by peer: close from disconnect (code 0)"))
        self.assertEqual(self.on_a.disconnected + on_b.disconnected, [])

    def test_not_before_acknowledged(self) -> None:
        """
        It waits until its streams are acknowledged, 5 s at most.
        """
        b, on_b = self.connected()
        self.net.stalled.add("10.0.0.2")
        self.net.window = 65536
        for _ in range(30):
            self.a.send(b.peer_id, TOPIC, bytes(4000))
        self.a.send(b.peer_id, TOPIC, BYE)
        self.a.disconnect(b.peer_id, TOPIC)
        self.advance(3)
        self.assertEqual(len(self.net.connections), 2)
        self.net.resume("10.0.0.2")
        self.advance(0.2)
        self.assertEqual(len(on_b.messages), 31)
        self.advance(0.1)
        self.assertEqual(self.net.connections, [])

    def test_not_for_ever(self) -> None:
        """
        A peer that acknowledges nothing is waited for 5 s.
        """
        b, _ = self.connected()
        self.net.stalled.add("10.0.0.2")
        self.net.window = 100
        self.a.send(b.peer_id, TOPIC, bytes(4000))
        self.a.send(b.peer_id, TOPIC, BYE)
        self.a.disconnect(b.peer_id, TOPIC)
        self.advance(5.9)
        self.assertEqual(len(self.net.connections), 2)
        self.advance(0.2)
        self.assertEqual(self.net.connections, [])

    def test_never_used(self) -> None:
        """
        A connection over which nothing ever goes is closed after 10 s.
        """
        _, on_b = self.connected()
        self.advance(FIRST_USE + 1)
        self.assertEqual(self.net.connections, [])
        self.assertEqual(self.on_a.disconnected + on_b.disconnected, [])

    def test_unused(self) -> None:
        """
        One whose use ended without a C{Disconnect} stays for 5 minutes (Q13).
        """
        b, _ = self.connected()
        for one, other in ((self.a, b), (b, self.a)):
            one.send(other.peer_id, TOPIC, b"hello")
            self.advance(0.1)
        for one, other in ((self.a, b), (b, self.a)):
            one.disconnect(other.peer_id, TOPIC)
        self.advance(UNUSED - 1)
        self.assertEqual(len(self.net.connections), 2)
        self.advance(2)
        self.assertEqual(self.net.connections, [])

    def test_unknown_topic(self) -> None:
        """
        Whoever speaks on a topic that we have not opened stays, too: it may
        be opened yet.
        """
        raw = RawPeer(self, 2)
        connection = raw.connect(self.a)
        stream = raw.write(connection, encode_header(OTHER) + encode_message(b"early"))
        self.advance(FIRST_USE + 1)
        self.assertEqual(self.a.counters["received: unknown topic"], 1)
        links = RecordingLinks()
        self.a.open_topic(OTHER, SECRET, links)
        raw.call(stream.write_all(encode_message(b"in time")))
        self.assertEqual(links.messages, [(raw.key.peer_id, b"in time")])

    def test_simultaneous_dials(self) -> None:
        """
        Of two connections that were opened at once both stay while both are
        used; messages get through meanwhile, whichever side saw which one last.
        """
        b, on_b = self.transport(2)
        dials = [self.a.dial(b.peer_id, b.addresses()), b.dial(self.a.peer_id, self.a.addresses())]
        for _ in range(50):
            self.a.send(b.peer_id, TOPIC, b"to b")
            b.send(self.a.peer_id, TOPIC, b"to a")
            self.advance(0.01)
        for dial in dials:
            self.successResultOf(dial)
        self.advance(1)
        self.assertEqual(len(self.net.connections), 4)
        lost = sum(transport.counters["send: not connected"] for transport in (self.a, b))
        self.assertEqual(len(self.on_a.messages) + len(on_b.messages), 100 - lost)
        self.assertEqual(self.on_a.disconnected + on_b.disconnected, [])
        self.assertEqual((len(self.on_a.connected), len(on_b.connected)), (1, 1))

    def test_dial_that_was_forestalled(self) -> None:
        """
        A dial of ours is not given up when the peer has got through meanwhile:
        the peer may see ours as its newest, and would take its end for ours.
        """
        b, _ = self.transport(2)
        self.net.silent.add("10.0.0.2")
        raw = RawPeer(self, 3)
        dial = self.a.dial(b.peer_id, [raw.address])
        other = b.dial(self.a.peer_id, self.a.addresses())
        self.advance(0.1)
        self.successResultOf(other)
        self.successResultOf(dial)
        incoming = raw.call(raw.endpoint.accept_next())
        self.assertFalse(incoming.given_up)
        self.advance(31)
        self.assertTrue(incoming.given_up)

    def test_replaced(self) -> None:
        """
        A connection that neither side sends on is closed once the peer has
        used a newer one for a while; one that the peer still uses is not.
        """
        raw = RawPeer(self, 2)
        hello = encode_header(TOPIC) + encode_message(b"hello")
        first = raw.write(raw.connect(self.a), hello)
        second = raw.write(raw.connect(self.a), hello)
        for _ in range(4):
            self.advance(REPLACED / 2)
            raw.call(first.write_all(encode_message(b"on the first")))
            raw.call(second.write_all(encode_message(b"on the second")))
        self.assertEqual(len(self.a.peers.connections()), 2)
        for _ in range(6):
            self.advance(REPLACED / 3)
            raw.call(second.write_all(encode_message(b"on the second")))
        self.assertEqual(len(self.a.peers.connections()), 1)
        self.assertEqual(self.closed(), {"replaced": 1})
        self.assertEqual([end.lost is None for end in raw.connections], [False, True])
        self.assertEqual(self.on_a.disconnected, [])

    def test_current_one_breaks(self) -> None:
        """
        When the current connection breaks and there is another one, that goes
        on; when the last one breaks, the topics are told.
        """
        raw = RawPeer(self, 2)
        hello = encode_header(TOPIC) + encode_message(b"hello")
        for _ in range(2):
            raw.write(raw.connect(self.a), hello)
        first, second = raw.connections
        second.other.lose("timed out")
        self.advance(0.1)
        self.assertEqual(self.on_a.disconnected, [])
        self.a.send(raw.key.peer_id, TOPIC, b"over the first")
        self.assertEqual(raw.read(first), encode_header(TOPIC) + encode_message(b"over the first"))
        first.other.lose("timed out")
        self.advance(0.1)
        self.assertEqual(self.on_a.disconnected, [raw.key.peer_id])
        self.assertEqual(self.closed(), {"timed out": 2})

    def test_read_to_the_end(self) -> None:
        """
        What arrived before the peer closed the connection is read.
        """
        raw = RawPeer(self, 2)
        connection = raw.connect(self.a)
        for number in range(20):
            stream = raw.call(connection.open_uni())
            raw.start(stream.write_all(encode_header(TOPIC) + encode_message(b"%d" % number)))
        self.advance(0.0101)
        connection.close(0, b"")
        self.advance(0.1)
        self.assertEqual(len(self.on_a.messages), 20)
        self.assertEqual(self.closed(), {"by the peer": 1})

    def test_stop_with_a_stuck_peer(self) -> None:
        """
        Stopping takes a second at most when a peer acknowledges nothing.
        """
        b, _ = self.connected()
        self.net.stalled.add("10.0.0.2")
        self.net.window = 100
        self.a.send(b.peer_id, TOPIC, bytes(4000))
        self.advance(0.1)
        result = self.a.stop()
        self.advance(0.9)
        self.assertNoResult(result)
        self.advance(0.2)
        self.successResultOf(result)
        self.assertEqual(self.net.connections, [])

    def test_stop_cancelled(self) -> None:
        """
        A stop that is cancelled aborts what is left.
        """
        b, _ = self.connected()
        self.net.stalled.add("10.0.0.2")
        self.net.window = 100
        self.a.send(b.peer_id, TOPIC, bytes(4000))
        self.advance(0.1)
        result = self.a.stop()
        result.addErrback(lambda _: None)
        result.cancel()
        self.advance(0.1)
        self.assertEqual(self.net.connections, [])
        self.assertEqual(self.a._calls.pending, {})


class ReceivingTests(IrohTestCase):
    """
    Bad input; over the real bindings it is in L{tests.interop.test_iroh}.
    """

    def setUp(self) -> None:
        super().setUp()
        self.raw = RawPeer(self, 2)
        self.there = self.raw.connect(self.a)

    def test_malformed(self) -> None:
        """
        A malformed stream ends the connection, after what came before; the
        reason is counted and the topic told.
        """
        good, more = encode_message(b"good"), encode_message(b"more")
        self.raw.write(self.there, encode_header(TOPIC) + good + b"\xff\xff\xff\xff" + more)
        self.assertEqual(self.on_a.messages, [(self.raw.key.peer_id, b"good")])
        self.assertEqual(self.closed(), {"bad frame length": 1})
        self.assertEqual(self.on_a.disconnected, [self.raw.key.peer_id])
        self.assertEqual(self.net.connections, [])

    def test_other_streams_fall_silent(self) -> None:
        """
        After a fault nothing of the connection's other streams is heard.
        """

        def refuse(peer_id: bytes, message: bytes) -> None:
            raise DecodeError("nonsense")

        self.on_a.on_message = refuse
        for _ in range(2):
            stream = self.raw.call(self.there.open_uni())
            self.raw.start(stream.write_all(encode_header(TOPIC) + 3 * encode_message(b"hello")))
        self.advance(0.1)
        self.assertEqual(len(self.on_a.messages), 1)
        self.assertEqual(self.closed(), {"nonsense": 1})

    def test_late_header(self) -> None:
        """
        A header is waited for 10 s.
        """
        self.raw.write(self.there, encode_header(TOPIC) + encode_message(b"hello"))
        self.raw.write(self.there, encode_header(TOPIC)[:35])
        self.advance(9.5)
        self.assertEqual(self.closed(), {})
        self.advance(0.6)
        self.assertEqual(self.closed(), {"no stream header": 1})

    def test_reset(self) -> None:
        """
        A stream that is reset ends the connection.
        """
        self.raw.write(self.there, encode_header(TOPIC)).reset()
        self.advance(0.1)
        self.assertEqual(self.closed(), {"stream reset": 1})

    def test_bidirectional(self) -> None:
        """
        A stream that goes both ways ends the connection.
        """
        self.raw.call(self.there.open_bi())
        self.assertEqual(self.closed(), {"bidirectional stream": 1})

    def test_too_many_streams(self) -> None:
        """
        A peer may have 100 streams open; those that have ended do not count.
        """
        for _ in range(150):
            stream = self.raw.write(self.there, encode_header(TOPIC))
            self.raw.call(stream.finish())
        for _ in range(100):
            self.raw.write(self.there, encode_header(TOPIC))
        self.assertEqual(self.closed(), {})
        self.raw.write(self.there, encode_header(TOPIC))
        self.assertEqual(self.closed(), {"too many streams": 1})

    def test_others_have_their_turn(self) -> None:
        """
        A peer that sends without pause does not keep the reactor.
        """
        self.net.window = 10_000_000
        data = encode_header(TOPIC) + encode_message(bytes(4000)) * 500
        self.raw.start(self.raw.call(self.there.open_uni()).write_all(data))
        progress = [0]

        def tick() -> None:
            progress.append(len(self.on_a.messages))
            if progress[-1] < 500 and len(progress) < 1000:
                self.clock.callLater(0, tick)

        def begin(peer_id: bytes, message: bytes) -> None:
            if len(self.on_a.messages) == 1:
                tick()

        self.on_a.on_message = begin
        self.advance(0.1)
        self.assertEqual(progress[-1], 500)
        self.assertLessEqual(max(b - a for a, b in pairwise(progress)), 17)


class AcceptingTests(IrohTestCase):
    """
    Strangers.
    """

    def test_one_network(self) -> None:
        """
        Of one network four are in a handshake at a time and twelve wait; the
        rest are refused.
        """
        raw = RawPeer(self, 2)
        self.patch(quic_accepting, "MANY_HANDSHAKES", 100)
        dials = [raw.begin(self.a) for _ in range(20)]
        self.advance(0.0101)
        self.assertEqual(len(self.a._acceptor.handshakes), 16)
        self.advance(0.0201)
        self.assertEqual(self.a.counters["closed: too many handshakes"], 4)
        self.advance(1)
        self.assertEqual(self.a.counters["accepted"], 16)
        self.assertEqual(len(self.a._acceptor.handshakes), 0)
        for dial in dials:
            dial.addErrback(lambda _: None)

    def test_addresses_are_proved(self) -> None:
        """
        When many handshakes go on, an address must be proved first; that
        costs a round trip.
        """
        self.patch(quic_accepting, "MANY_HANDSHAKES", 2)
        raws = [RawPeer(self, number) for number in range(2, 7)]
        dials = [raw.begin(self.a) for raw in raws]
        self.advance(1)
        self.assertEqual(self.a.counters["handshakes: address to be proved"], 3)
        for dial in dials:
            self.successResultOf(dial)
        self.assertEqual(self.a.counters["accepted"], 5)

    def test_time_limit(self) -> None:
        """
        A handshake that does not end is given up after 10 s.
        """
        raw = RawPeer(self, 2)
        self.net.latency = 30
        dial = raw.begin(self.a)
        self.advance(30.1)
        self.assertEqual(len(self.a._acceptor.handshakes), 1)
        self.advance(10)
        self.assertEqual(len(self.a._acceptor.handshakes), 0)
        self.assertEqual(self.closed(), {"handshake failed": 1})
        dial.addErrback(lambda _: None)

    def test_own_key(self) -> None:
        """
        Whoever has our key is not us.
        """
        raw = RawPeer(self, 1)
        dial = raw.begin(self.a)
        self.advance(1)
        self.assertEqual(self.closed(), {"own key": 1})
        self.successResultOf(dial)


class AddressTests(IrohTestCase):
    """
    Where we are.
    """

    def test_bound(self) -> None:
        """
        The address that is bound.
        """
        self.assertEqual(self.a.addresses(), (PeerAddress(IROH, "10.0.0.1", self.a.port or 0),))

    def test_listen_twice(self) -> None:
        """
        There is one endpoint.
        """
        self.assertRaises(ListenError, self.a.listen, "10.0.0.1", 0)

    def test_bound_to_all(self) -> None:
        """
        The external address, those of the interfaces, and what the library
        knows besides.
        """
        transport = IrohTransport(
            self.clock,
            KEYS[5],
            bindings=self.net.bindings("0.0.0.0"),
            interface_addresses=lambda: ["192.168.0.5", "2001:db8::5"],
        )
        transport.listen("", 4433)
        transport.set_external_host("203.0.113.5")
        endpoint = self.net.endpoints[-1]
        known = ["203.0.113.5:61000", "127.0.0.1:4433", "192.168.0.5:4433"]
        self.patch(endpoint, "known", known)
        self.assertEqual(
            [str(address) for address in transport.addresses()],
            ["203.0.113.5:4433", "192.168.0.5:4433", "203.0.113.5:61000"],
        )

    def test_relay(self) -> None:
        """
        A relay is listed once there is a connection to it, and that is told.
        """
        told = []
        url = "https://relay.example/"
        transport, _ = self.transport(5, relay_urls=[url], on_addresses_changed=lambda: told.append(1))
        self.assertNotIn(RelayAddress(url), transport.addresses())
        self.net.start_relay(url)
        self.advance(0)
        self.assertEqual(transport.addresses()[1:], (RelayAddress(url),))
        self.assertEqual(told, [1])
        self.advance(60)
        self.assertEqual(told, [1])
        self.net.relays.clear()
        self.advance(6)
        self.assertEqual(told, [1, 1])

    def test_by_relay_alone(self) -> None:
        """
        A peer can be reached by its relay, if we use relays at all.
        """
        url = "https://relay.example/"
        self.net.start_relay(url)
        b, _ = self.transport(2, relay_urls=[url])
        c, _ = self.transport(3, relay_urls=[url])
        dial = c.dial(b.peer_id, [RelayAddress(url)])
        self.advance(0.1)
        self.successResultOf(dial)
        dial = self.a.dial(b.peer_id, [RelayAddress(url)])
        self.assertEqual(str(self.failureResultOf(dial).value), "no address")

    def test_by_id_alone(self) -> None:
        """
        With n0's preset the library may find a peer by its id.
        """
        transport, _ = self.transport(5, preset="n0")
        self.assertTrue(transport.finds_peers)
        self.assertFalse(self.a.finds_peers)
        dial = transport.dial(KEYS[6].peer_id, [])
        self.assertIn("no address", str(self.failureResultOf(dial).value))

    def test_settings(self) -> None:
        """
        A preset or a relay that is none is the caller's mistake.
        """
        bindings = self.net.bindings("10.0.0.9")
        for settings in ({"preset": "n1"}, {"relay_urls": ["relay.example"]}):
            self.assertRaises(UsageError, IrohTransport, self.clock, KEYS[9], bindings=bindings, **settings)

    def test_false_address(self) -> None:
        """
        A peer whose dial met somebody else is dialled at one address at a time.
        """
        b, _ = self.transport(2)
        c, _ = self.transport(3)
        false = [PeerAddress(IROH, "10.0.0.200", 1), *c.addresses()]
        dial = self.a.dial(b.peer_id, false)
        self.advance(0.1)
        self.assertEqual(str(self.failureResultOf(dial).value), "other key answered")
        dial = self.a.dial(b.peer_id, [*b.addresses(), *false])
        self.advance(0.1)
        self.successResultOf(dial)

    def test_not_listening(self) -> None:
        """
        Nobody can be dialled before there is a socket.
        """
        transport = IrohTransport(self.clock, KEYS[9], bindings=self.net.bindings("10.0.0.9"))
        dial = transport.dial(self.a.peer_id, self.a.addresses())
        self.assertEqual(str(self.failureResultOf(dial).value), "not listening")
        self.successResultOf(transport.stop())

    def test_not_a_key(self) -> None:
        """
        An id that is no key can't be dialled.
        """
        dial = self.a.dial(bytes(32), [PeerAddress(IROH, "10.0.0.2", 1)])
        self.assertEqual(str(self.failureResultOf(dial).value), "not a key")


class MemberTests(IrohTestCase):
    """
    A swarm over it.
    """

    def test_swarm(self) -> None:
        """
        Eight members join one, all hear what each says, and when one leaves its
        connections are gone.
        """
        members: list[tuple[GossipMember, IrohTransport]] = []
        heard: list[_Contents] = []
        for number in range(10, 18):
            key = KEYS[number]
            host = f"10.0.0.{number}"
            transport = IrohTransport(self.clock, key, bindings=self.net.bindings(host))
            transport.listen(host, 0)
            rng = Random(number)
            book = AddressBook(self.clock, rng, transport.addresses, key.peer_id)
            member = GossipMember(self.clock, rng, key.peer_id, TOPIC, SECRET, transport, book)
            observer = _Contents()
            member.subscribe(observer)
            member.start()
            if members:
                book.learn(members[0][1].peer_id, members[0][1].addresses(), "record")
                member.join([members[0][1].peer_id])
            members.append((member, transport))
            heard.append(observer)
            self.advance(1)
        self.advance(5)
        for number, (member, _) in enumerate(members):
            self.assertGreater(len(member.neighbors()), 1)
            member.broadcast(b"from %d" % number)
        self.advance(2)
        for number, observer in enumerate(heard):
            expected = {b"from %d" % each for each in range(8) if each != number}
            self.assertEqual(set(observer.contents), expected)
        member, transport = members[3]
        member.leave()
        self.advance(2)
        self.assertEqual(transport.peers.connections(), ())
        for other, _ in members:
            self.assertNotIn(transport.peer_id, other.neighbors())
        for _, transport in members:
            for reason in transport.counters:
                self.assertFalse(reason.startswith("closed: ") and reason != "closed: by the peer", reason)


@implementer(IGossipObserver)
class _Contents:
    """
    What an observer heard.
    """

    def __init__(self) -> None:
        self.contents: list[bytes] = []

    def neighbor_up(self, peer_id: bytes) -> None:
        """Nothing."""

    def neighbor_down(self, peer_id: bytes) -> None:
        """Nothing."""

    def message_received(self, message: Any) -> None:
        """Keep it."""
        self.contents.append(message.content)
