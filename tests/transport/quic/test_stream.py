"""
Tests for L{dtt.transport.quic.stream}.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dtt.testing.memory_transport import RecordingLinks
from dtt.testing.net.nat import NAT
from dtt.transport.backpressure import SLOW_SECONDS, STALLED_SECONDS
from dtt.transport.quic.session import MAX_KEPT, PAUSE_ABOVE, Session
from dtt.transport.quic.stream import MAX_ARRIVED, MAX_RECEIVED, ByteStream
from dtt.transport.streams.transport import StreamsTransport
from tests.sweeps import sized
from tests.transport.quic.network import PROBED, SECRET, QuicNetwork, quic_addresses

#: Everything that L{ByteStream} calls.
STEPS = ("receive", "events", "datagrams", "timer", "handle_timer", "write", "finish", "close", "has_backlog")


def stream_to(transport: StreamsTransport, peer: StreamsTransport) -> ByteStream:
    """
    Return the transport of the connection to a peer.
    """
    (found,) = [each for each in transport.connections if each.peer_id == peer.peer_id]
    stream: Any = found.transport
    assert isinstance(stream, ByteStream)
    return stream


class StreamTests(SynchronousTestCase):
    """
    A connection to each of two peers.
    """

    def setUp(self) -> None:
        self.network = QuicNetwork()
        self.alice, self.bob, self.carol = (self.network.transport(n, probed=False) for n in (1, 2, 3))
        self.links = []
        for transport in (self.alice, self.bob, self.carol):
            links = RecordingLinks()
            transport.open_topic(PROBED, SECRET, links)
            self.links.append(links)
        for peer in (self.bob, self.carol):
            self.alice.dial(peer.peer_id, peer.addresses())
            self.network.advance(1.0)
            self.alice.send(peer.peer_id, PROBED, b"hello")
            self.network.advance(1.0)
            self.assertEqual(self.alice.multiplexer.kind_of(peer.peer_id), 2)

    def received(self, n: int) -> list[bytes]:
        """
        Return the messages that a member has received.
        """
        return [message for _, message in self.links[n].messages]

    def break_sessions(self, step: str, *streams: ByteStream) -> list[int]:
        """
        Make one step of some sessions fail.

        @return: an item for each failure.
        """
        original: Any = getattr(Session, step)
        sessions = [stream._session for stream in streams]
        calls: list[int] = []

        def fail(session: Session, *args: object, **kwargs: object) -> Any:
            if session not in sessions:
                return original(session, *args, **kwargs)
            calls.append(1)
            raise AssertionError("a bug")

        self.patch(Session, step, fail)
        return calls

    def test_faults(self) -> None:
        """
        An error of the library, wherever it comes from, ends that connection, and no
        other one; the log shows the first one only.
        """
        for step in (*STEPS, "has_drained"):
            self.setUp()
            stream = stream_to(self.alice, self.bob)
            calls = self.break_sessions(step, stream)
            if step == "has_drained":
                stream._producer_paused = True
            self.alice.send(self.bob.peer_id, PROBED, b"to bob")
            self.bob.send(self.alice.peer_id, PROBED, b"to alice")
            if step in ("finish", "close"):
                for connection in list(self.alice.connections):
                    if connection.peer_id == self.bob.peer_id:
                        connection.close() if step == "finish" else connection.abort("silent")
            self.network.advance(31.0)
            self.assertEqual(len(calls), 1, step)
            self.assertFalse(self.alice.is_connected(self.bob.peer_id), step)
            self.assertEqual(self.alice.counters["quic_faults"], 1, step)
            self.assertEqual(len(self.flushLoggedErrors(AssertionError)), 1, step)
            self.assertTrue(self.alice.is_connected(self.carol.peer_id), step)
            self.alice.send(self.carol.peer_id, PROBED, b"to carol")
            self.network.advance(1.0)
            self.assertIn(b"to carol", self.received(2), step)
            assert self.alice.quic is not None
            ids = set(stream_to(self.alice, self.carol).connection_ids)
            self.assertLessEqual(set(self.alice.quic.endpoint._streams), ids, step)

    def test_faults_are_logged_once(self) -> None:
        """
        A peer that triggers a bug again and again does not fill the log.
        """
        self.break_sessions("timer", *(stream_to(self.alice, peer) for peer in (self.bob, self.carol)))
        self.network.advance(31.0)
        self.assertEqual(self.alice.counters["quic_faults"], 2)
        self.assertEqual(len(self.flushLoggedErrors(AssertionError)), 1)
        self.assertEqual(self.alice.connections, {})

    def test_fault_at_the_start(self) -> None:
        """
        An error when a connection is opened fails the dial.
        """
        dave = self.network.transport(4)

        def fail(*args: object) -> None:
            raise AssertionError("a bug")

        self.patch(Session, "connect", fail)
        self.patch(Session, "datagrams", lambda *args: [])
        dialled = dave.dial(self.alice.peer_id, self.alice.addresses())
        self.network.advance(30.0)
        self.failureResultOf(dialled)
        self.assertEqual(dave.connections, {})
        self.assertGreaterEqual(len(self.flushLoggedErrors(AssertionError)), 1)

    def test_large_datagrams(self) -> None:
        """
        Datagrams that no peer sends are dropped unread, whatever they carry.
        """
        stream = stream_to(self.alice, self.bob)
        (connection_id, *_) = stream.connection_ids
        assert self.alice.quic is not None
        for first in (b"\x40", b"d", b"\x7f"):
            for size in (MAX_RECEIVED + 1, 8192, 65507):
                datagram = (first + connection_id).ljust(size, b"x")
                self.alice.quic.datagram_received(datagram, "10.0.0.2", 1)
        self.assertEqual(self.alice.counters["dropped_quic_large"], 9)
        self.assertEqual(len(stream._arrived), 0)

    def test_many_at_once(self) -> None:
        """
        Datagrams for which there is no room are dropped.
        """
        stream = stream_to(self.alice, self.bob)
        (connection_id, *_) = stream.connection_ids
        assert self.alice.quic is not None
        for _ in range(MAX_ARRIVED + 10):
            self.alice.quic.datagram_received(b"\x40" + connection_id + bytes(100), "10.0.0.2", 1)
        self.assertEqual(self.alice.counters["dropped_quic_busy"], 10)
        self.network.advance(1.0)
        self.bob.send(self.alice.peer_id, PROBED, b"still here")
        self.network.advance(1.0)
        self.assertIn(b"still here", self.received(0))

    def test_peer_that_is_gone(self) -> None:
        """
        A peer that answers nothing: writers wait, what is kept for it is bounded, and
        the connection ends after 30 s.
        """
        host, port = quic_addresses(self.bob)[0]
        self.network.udp.dead.add((host, port))
        for _ in range(1000):
            self.alice.send(self.bob.peer_id, PROBED, bytes(4000))
        self.network.advance(0.1)
        self.assertNoResult(self.alice.when_writable([self.bob.peer_id]))
        session: Any = stream_to(self.alice, self.bob)._session
        self.assertLessEqual(session._quic._streams[2].sender._buffer_stop, 2 * PAUSE_ABOVE)
        self.network.advance(max(STALLED_SECONDS, SLOW_SECONDS) + 5)
        self.assertFalse(self.alice.is_connected(self.bob.peer_id))
        self.assertTrue(self.alice.is_connected(self.carol.peer_id))

    def test_peer_that_grants_nothing(self) -> None:
        """
        A peer that answers, but never lets us send more, is a slow reader.
        """
        session: Any = stream_to(self.alice, self.bob)._session
        session._quic._remote_max_data = 500_000
        frames = session._quic._QuicConnection__frame_handlers
        frames[0x10] = (lambda context, kind, buffer: buffer.pull_uint_var(), frames[0x10][1])
        for _ in range(1000):
            self.alice.send(self.bob.peer_id, PROBED, bytes(4000))
        for _ in range(int(STALLED_SECONDS) + 5):
            self.bob.send(self.alice.peer_id, PROBED, b"I am here")
            self.network.advance(1.0)
        self.assertEqual(self.alice.counters["closed_slow_reader"], 1)
        self.assertFalse(self.alice.is_connected(self.bob.peer_id))

    def test_timer_that_stays_due(self) -> None:
        """
        A timer that is due whatever is done does not keep the reactor busy.
        """
        calls = []

        def timer(session: Session) -> float:
            calls.append(1)
            return 0.0

        self.patch(Session, "timer", timer)
        self.alice.send(self.bob.peer_id, PROBED, b"x")
        self.network.advance(0.1)
        self.assertGreater(len(calls), 50)
        self.assertLess(len(calls), 1000)

    def test_lost_mapping(self) -> None:
        """
        A NAT that loses its mappings, and gives another port afterwards, does not end the
        connection of a client behind it: messages flow again in both directions.
        """
        dave = self.network.transport(4, probed=False)
        dave.open_topic(PROBED, SECRET, RecordingLinks())
        nat = NAT(self.network.clock, "203.0.113.4", keeps_ports=False)
        self.network.udp.nats.place("10.0.0.4", nat)
        dave.dial(self.alice.peer_id, self.alice.addresses())
        self.network.advance(1.0)
        dave.send(self.alice.peer_id, PROBED, b"before")
        self.network.advance(1.0)
        self.assertTrue(stream_to(dave, self.alice)._session._is_client)  # type: ignore[union-attr]
        before = stream_to(self.alice, dave).getPeer().port
        nat.forget()
        dave.send(self.alice.peer_id, PROBED, b"after")
        self.network.advance(2.0)
        self.alice.send(dave.peer_id, PROBED, b"back")
        self.network.advance(2.0)
        self.assertEqual([m for p, m in self.links[0].messages if p == dave.peer_id], [b"before", b"after"])
        self.assertNotEqual(stream_to(self.alice, dave).getPeer().port, before)
        links = dave.multiplexer.table.topics[PROBED]
        self.assertEqual([m for _, m in links.messages], [b"back"])  # type: ignore[attr-defined]

    def test_much(self) -> None:
        """
        Nothing is lost or doubled at full rate, in either direction at the same time.
        """
        count = sized(5, 8) * MAX_KEPT // 4 // 4000
        messages = [number.to_bytes(4, "big") + bytes(3996) for number in range(count)]
        for number, message in enumerate(messages):
            for sender, receiver in ((self.alice, self.bob), (self.bob, self.alice)):
                sender.send(receiver.peer_id, PROBED, message)
            while number % 16 == 15 and not self.alice.when_writable([self.bob.peer_id]).called:
                self.network.advance(0.01)
        self.network.advance(20.0)
        for n in (0, 1):
            self.assertEqual([each for each in self.received(n) if len(each) == 4000], messages)
