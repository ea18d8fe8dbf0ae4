"""
Tests for connections whose peers have fallen silent.
"""

from __future__ import annotations

from dtt.transport.streams.connection import ANSWER_WITHIN, DOUBT_AFTER
from dtt.wire.addresses import QUIC
from tests.transport.streams.common import TOPIC, StreamsTestCase


class SilenceTests(StreamsTestCase):
    """
    A peer that can't answer is noticed within seconds.
    """

    def setUp(self) -> None:
        super().setUp()
        self.links = self.share()
        for transport in (self.a, self.b):
            for connection in transport.connections:
                connection.kind = QUIC
        # A doubt about a dead connection is over QUIC only.
        self.a.send(self.b.peer_id, TOPIC, b"hello")
        self.net.advance(20)
        self.links[1].messages.clear()

    def silence(self) -> None:
        """Let everything that B sends and receives be lost."""
        self.net.silent.add("10.0.0.2")

    def test_network_changed(self) -> None:
        """
        When the network has changed, dead connections are closed after 3 s, and living
        ones stay.
        """
        self.a.network_changed()
        self.net.advance(60)
        self.assertTrue(self.a.is_connected(self.b.peer_id))
        self.silence()
        self.a.network_changed()
        self.a.network_changed()
        self.net.advance(ANSWER_WITHIN - 0.1)
        self.assertTrue(self.a.is_connected(self.b.peer_id))
        self.net.advance(0.2)
        self.assertFalse(self.a.is_connected(self.b.peer_id))
        self.assertEqual(self.a.counters["closed_silent"], 1)
        self.assertEqual([reason for _, _, reason in self.links[0].broken], ["silent"])

    def test_peer_moved(self) -> None:
        """
        The same if the peer is said to have other addresses; others are left alone.
        """
        self.silence()
        self.a.peer_moved(self.a.peer_id, ())
        self.net.advance(10)
        self.assertTrue(self.a.is_connected(self.b.peer_id))
        self.a.peer_moved(self.b.peer_id, ())
        self.net.advance(ANSWER_WITHIN + 0.1)
        self.assertFalse(self.a.is_connected(self.b.peer_id))

    def test_spoken_to(self) -> None:
        """
        A peer to whom messages are sent, and from whom nothing comes, is asked.
        """
        self.silence()
        for _ in range(10):
            self.a.send(self.b.peer_id, TOPIC, b"x")
            self.net.advance(1)
        self.assertFalse(self.a.is_connected(self.b.peer_id))
        self.assertLessEqual(DOUBT_AFTER + ANSWER_WITHIN, 10)

    def test_one_way(self) -> None:
        """
        A peer that only receives stays connected, and gets PINGs.
        """
        sent: list[bytes] = []
        (connection,) = self.a.connections
        original = connection.send

        def send(frame: bytes) -> None:
            sent.append(frame)
            original(frame)

        self.patch(connection, "send", send)
        for _ in range(100):
            self.a.send(self.b.peer_id, TOPIC, b"x")
            self.net.advance(1)
        self.assertTrue(self.a.is_connected(self.b.peer_id))
        self.assertEqual(len(self.links[1].messages), 100)
        self.assertLessEqual(len(sent) - 100, 100 / DOUBT_AFTER)

    def test_idle(self) -> None:
        """
        Little is sent on an idle connection: a PING after 30 s, and one 5 s after the last
        message.
        """
        before = [len(self.net.transports())]
        pings: list[float] = []
        for transport in (self.a, self.b):
            for connection in transport.connections:
                self.patch(connection, "send", lambda frame: pings.append(self.clock.seconds()))
        self.net.advance(30)
        self.assertEqual(before, [2])
        self.assertLessEqual(len(pings), 4)
