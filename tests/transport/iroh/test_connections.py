"""
Tests for L{dtt.transport.iroh.connections} and L{dtt.transport.iroh.connection}: which
connections stay open, and when they are closed.
"""

from __future__ import annotations

import gc
import weakref

from twisted.internet.defer import Deferred

from dtt.testing.iroh.endpoints import MemoryEndpoint
from dtt.testing.memory_transport import RecordingLinks
from dtt.transport.iroh import connections as quic_peers
from dtt.transport.iroh.connections import FIRST_USE, REPLACED, UNUSED
from dtt.transport.table import LINGER
from dtt.wire.length_prefix import prefix
from tests.transport.iroh.common import BYE, OTHER, SECRET, TOPIC, IrohTestCase, RawPeer


class EndTests(IrohTestCase):
    """
    When connections are closed.
    """

    def test_goodbye(self) -> None:
        """
        One second after a C{Disconnect} for the last topic the connection is closed,
        with code 0 and its reason, by the side that is first.
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

    def test_answers_to_what_came_with_the_goodbye(self) -> None:
        """
        Answers to messages that arrived together with a C{Disconnect} do not keep the
        connection open.
        """
        raw = RawPeer(self, 2)
        self.on_a.on_message = lambda peer_id, message: (
            message == BYE or self.a.send(peer_id, TOPIC, b"answer")
        )
        raw.write(raw.connect(self.a), prefix(TOPIC) + prefix(b"hello") + prefix(BYE))
        self.advance(LINGER + 0.5)
        self.assertEqual([message for _, message in self.on_a.messages], [b"hello", BYE])
        self.assertFalse(self.a.is_connected(raw.key.peer_id))

    def test_not_before_acknowledged(self) -> None:
        """
        The close waits until the streams are acknowledged, at most 5 s.
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
        The close waits at most 5 s for a peer that acknowledges nothing.
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
        A connection that carries no messages is closed after 10 s.
        """
        _, on_b = self.connected()
        self.advance(FIRST_USE + 1)
        self.assertEqual(self.net.connections, [])
        self.assertEqual(self.on_a.disconnected + on_b.disconnected, [])

    def test_unused(self) -> None:
        """
        A connection whose use ended without a C{Disconnect} is kept for 5 minutes
        (Q13).
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
        A peer that sends on a topic that we have not opened is kept for 10 s, because
        the topic may still be opened; then its connection is closed, however much it
        sends.
        """
        for number, opened in ((2, True), (3, False)):
            raw = RawPeer(self, number)
            connection = raw.connect(self.a)
            stream = raw.write(connection, prefix(OTHER) + prefix(b"early"))
            for _ in range(int(FIRST_USE) - 2):
                self.advance(1)
                raw.call(stream.write_all(prefix(b"early")))
            links = RecordingLinks()
            if opened:
                self.a.open_topic(OTHER, SECRET, links)
                raw.call(stream.write_all(prefix(b"in time")))
                self.assertEqual(links.messages, [(raw.key.peer_id, b"in time")])
            self.advance(3)
            self.assertEqual(len(self.net.connections), 2 * opened)
            self.a.close_topic(OTHER)
            self.advance(2)
        self.assertEqual(self.a.counters["received_unknown_topic"], 18)

    def test_simultaneous_dials(self) -> None:
        """
        Two simultaneous connections both stay open while both are used; messages arrive
        meanwhile, whichever each side considers the newest.
        """
        b, on_b = self.transport(2)
        dials = [self.a.dial(b.peer_id, b.addresses()), b.dial(self.a.peer_id, self.a.addresses())]
        sent = 0
        for _ in range(50):
            sent += self.a.send(b.peer_id, TOPIC, b"to b")
            sent += b.send(self.a.peer_id, TOPIC, b"to a")
            self.advance(0.01)
        for dial in dials:
            self.successResultOf(dial)
        self.advance(1)
        self.assertEqual(len(self.net.connections), 4)
        self.assertEqual(len(self.on_a.messages) + len(on_b.messages), sent)
        self.assertEqual(self.on_a.disconnected + on_b.disconnected, [])
        self.assertEqual((len(self.on_a.connected), len(on_b.connected)), (1, 1))

    def test_dial_that_was_forestalled(self) -> None:
        """
        Our dial is not cancelled when the peer has connected meanwhile: the peer may
        consider our connection its newest, and take its end for a disconnection.
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
        A connection that neither side sends on is closed once the peer has used a newer
        one for a while; one that the peer still uses is not.
        """
        raw = RawPeer(self, 2)
        hello = prefix(TOPIC) + prefix(b"hello")
        first = raw.write(raw.connect(self.a), hello)
        second = raw.write(raw.connect(self.a), hello)
        for _ in range(4):
            self.advance(REPLACED / 2)
            raw.call(first.write_all(prefix(b"on the first")))
            raw.call(second.write_all(prefix(b"on the second")))
        self.assertEqual(len(self.a.peers.connections()), 2)
        for _ in range(6):
            self.advance(REPLACED / 3)
            raw.call(second.write_all(prefix(b"on the second")))
        self.assertEqual(len(self.a.peers.connections()), 1)
        self.assertEqual(self.closed(), {"replaced": 1})
        self.assertEqual([end.lost is None for end in raw.connections], [False, True])
        self.assertEqual(self.on_a.disconnected, [])

    def test_current_one_breaks(self) -> None:
        """
        When the current connection breaks another one takes over; when the last one
        breaks, the topics are notified.
        """
        raw = RawPeer(self, 2)
        hello = prefix(TOPIC) + prefix(b"hello")
        for _ in range(2):
            raw.write(raw.connect(self.a), hello)
        first, second = raw.connections
        second.other.lose("timed out")
        self.advance(0.1)
        self.assertEqual(self.on_a.disconnected, [])
        self.a.send(raw.key.peer_id, TOPIC, b"over the first")
        self.assertEqual(raw.read(first), prefix(TOPIC) + prefix(b"over the first"))
        first.other.lose("timed out")
        self.advance(0.1)
        self.assertEqual(self.on_a.disconnected, [raw.key.peer_id])
        self.assertEqual(self.closed(), {"timed out": 2})

    def test_read_to_the_end(self) -> None:
        """
        Data that arrived before the peer closed the connection is read.
        """
        raw = RawPeer(self, 2)
        connection = raw.connect(self.a)
        for number in range(8):
            stream = raw.call(connection.open_uni())
            raw.start(stream.write_all(prefix(TOPIC) + prefix(b"%d" % number)))
        self.advance(0.0101)
        connection.close(0, b"")
        self.advance(0.1)
        self.assertEqual(len(self.on_a.messages), 8)
        self.assertEqual(self.closed(), {"by peer": 1})

    def send_to_a_stuck_peer(self) -> None:
        """
        Send on a connection whose other end no longer acknowledges anything.
        """
        b, _ = self.connected()
        self.net.stalled.add("10.0.0.2")
        self.net.window = 100
        self.a.send(b.peer_id, TOPIC, bytes(4000))
        self.advance(0.1)

    def test_stop_with_a_stuck_peer(self) -> None:
        """
        Stopping takes at most one second when a peer acknowledges nothing.
        """
        self.send_to_a_stuck_peer()
        result = self.a.stop()
        self.advance(0.9)
        self.assertNoResult(result)
        self.advance(0.2)
        self.successResultOf(result)
        self.assertEqual(self.net.connections, [])

    def test_nothing_is_kept(self) -> None:
        """
        A connection that has ended, by a fault or by a stop, is freed without the
        garbage collector: the library keeps the socket until then.
        """
        gc.disable()
        self.addCleanup(gc.enable)
        b, _ = self.connected()
        self.a.send(b.peer_id, TOPIC, b"hello")
        self.advance(0.1)
        b.send(self.a.peer_id, TOPIC, b"hello")
        raw = RawPeer(self, 3)
        connection = raw.connect(self.a)
        kept: list[weakref.ref[object]] = [weakref.ref(each) for each in self.a.peers.connections()]
        raw.write(connection, b"\xff" * 8)
        self.assertEqual([each() is None for each in kept], [False, True])
        result = self.a.stop()
        self.advance(1.5)
        self.successResultOf(result)
        self.assertEqual([each() for each in kept], [None, None])

    def test_stop_cancelled(self) -> None:
        """
        Cancelling a stop aborts what is left.
        """
        self.send_to_a_stuck_peer()
        result = self.a.stop()
        result.addErrback(lambda _: None)
        result.cancel()
        self.advance(0.1)
        self.assertEqual(self.net.connections, [])
        self.assertEqual(self.a._calls.pending, {})

    def test_stop_twice(self) -> None:
        """
        A second stop waits for the first one, and does not cut it short.
        """
        b, _ = self.connected()
        self.net.stalled.add("10.0.0.2")
        self.net.window = 100
        self.a.send(b.peer_id, TOPIC, bytes(4000))
        self.advance(0.1)
        closing: list[Deferred[None]] = []

        async def close(endpoint: MemoryEndpoint) -> None:
            closing.append(Deferred())
            await self.net.sleep(0.3)
            closing.pop().callback(None)

        self.patch(MemoryEndpoint, "close", close)
        first, second = self.a.stop(), self.a.stop()
        self.advance(1.1)
        self.assertEqual(len(closing), 1)
        third = self.a.stop()
        for result in (first, second, third):
            self.assertNoResult(result)
        self.advance(0.3)
        for result in (first, second, third, self.a.stop()):
            self.successResultOf(result)
        self.assertEqual(closing, [])

    def test_many_that_do_not_end(self) -> None:
        """
        The number of closing connections is limited: beyond it the oldest are aborted.
        """
        self.patch(quic_peers, "MAX_CLOSING", 8)
        self.patch(self.a.peers, "_max_connections", 8)
        self.net.window = 40
        raw = RawPeer(self, 2)
        for _ in range(40):
            raw.connect(self.a)
            self.a.send(raw.key.peer_id, TOPIC, b"not acknowledged")
            self.assertLessEqual(len(self.a.peers.connections()), 16)
        self.assertEqual(self.closed()["did not close in time"], 24)
        self.assertTrue(self.a.is_connected(raw.key.peer_id))

    def test_room_made_by_the_same_peer(self) -> None:
        """
        At the limit a peer's unused connection may be closed for the next one of the
        same peer, which then is its first.
        """
        self.patch(self.a.peers.table, "_max_connections", 1)
        raw = RawPeer(self, 2)
        raw.connect(self.a)
        connection = raw.connect(self.a)
        self.assertEqual(self.closed(), {"made room": 1})
        self.assertTrue(self.a.is_connected(raw.key.peer_id))
        self.a.send(raw.key.peer_id, TOPIC, b"hello")
        self.assertEqual(raw.read(connection), prefix(TOPIC) + prefix(b"hello"))
        connection.other.lose("timed out")
        self.advance(0.1)
        self.assertFalse(self.a.is_connected(raw.key.peer_id))
