"""
Tests for QUIC connections when addresses or the wall clock change.
"""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from dtt.errors import DialFailed
from dtt.testing.memory_transport import RecordingLinks
from dtt.testing.net.nat import NAT
from dtt.transport.streams.transport import StreamsTransport

from .network import QuicNetwork

TOPIC, SECRET = b"t" * 32, b"s" * 32


class MovingTests(SynchronousTestCase):
    """
    Two members whose mapping, network or clock changes.
    """

    def setUp(self) -> None:
        self.net = QuicNetwork()
        # The larger id opens the connection: number 2 is the client.
        self.one, self.two = self.net.transport(1), self.net.transport(2)
        self.links = RecordingLinks(), RecordingLinks()
        self.one.open_topic(TOPIC, SECRET, self.links[0])
        self.two.open_topic(TOPIC, SECRET, self.links[1])

    def join(self) -> None:
        """Connect both, in both directions."""
        dialled = self.two.dial(self.one.peer_id, self.one.addresses())
        self.net.advance(2)
        self.successResultOf(dialled)
        self.assertTrue(self.hear(self.one, self.two) and self.hear(self.two, self.one))

    def hear(self, sender: StreamsTransport, receiver: StreamsTransport) -> bool:
        """Send a message; return whether it arrives within a second."""
        links = self.links[receiver is self.two]
        before = len(links.messages)
        sender.send(receiver.peer_id, TOPIC, b"x")
        self.net.advance(1)
        return len(links.messages) > before

    def test_client_moves(self) -> None:
        """
        A connection survives when the client's mapping changes, and the server follows.
        """
        nat = NAT(self.net.clock, "80.0.0.2", rng=Random(1))
        self.net.udp.nats.place("10.0.0.2", nat)
        self.join()
        nat.change_address("80.0.0.9")
        self.net.udp.nats.moved()
        self.two.network_changed()
        self.net.advance(5)
        self.assertTrue(self.hear(self.one, self.two) and self.hear(self.two, self.one))
        (connection,) = self.one.connections
        self.assertEqual(connection.transport.getPeer().host, "80.0.0.9")  # type: ignore[union-attr]
        assert self.one.quic is not None
        # Its connection ids are still known, and those of no other connection.
        self.assertTrue(len(self.one.quic.endpoint) > 0)
        self.net.advance(100)
        self.assertTrue(self.hear(self.one, self.two) and self.hear(self.two, self.one))
        self.assertEqual(self.one.counters["closed_silent"], 0)

    def test_idle(self) -> None:
        """
        An idle connection stays, with few datagrams: the client sends a PING every 20 s.
        """
        self.join()
        self.net.sent.clear()
        self.net.advance(600)
        self.assertTrue(self.one.is_connected(self.two.peer_id) and self.two.is_connected(self.one.peer_id))
        # A PING or a PONG every 20 s, and an acknowledgement of the other's.
        self.assertLessEqual(max(self.net.sent.values()), 600 / 20 * 2 + 4, self.net.sent)

    def test_silent(self) -> None:
        """
        An idle connection whose other end falls silent is closed: by the client within 35 s,
        by the server within 40 s.
        """
        for dead, limit in (("10.0.0.1", 35), ("10.0.0.2", 40)):
            self.setUp()
            left = self.two if dead == "10.0.0.1" else self.one
            self.join()
            self.net.advance(50)
            self.net.udp.dead.add(dead)
            self.net.advance(14)
            self.assertEqual(len(left.connections), 1)
            self.net.advance(limit - 14 + 0.1)
            self.assertEqual(len(left.connections), 0)
            self.assertEqual(left.counters["closed_silent"], 1)

    def test_clock_set_back(self) -> None:
        """
        When the wall clock is set back by an hour, connections last, lost datagrams are sent again, and
        probing continues.
        """
        for seed in range(5):
            self.net = QuicNetwork(seed=seed)
            self.one, self.two = self.net.transport(1), self.net.transport(2)
            self.links = RecordingLinks(), RecordingLinks()
            self.one.open_topic(TOPIC, SECRET, self.links[0])
            self.two.open_topic(TOPIC, SECRET, self.links[1])
            self.net.advance(4000)
            self.join()
            self.net.udp.loss = 0.3
            for _ in range(5):
                self.net.clock.rightNow -= 600
                # As from any member: without a datagram or a call, nobody looks at the clock.
                self.two.send(self.one.peer_id, TOPIC, b"x")
                self.one.send(self.two.peer_id, TOPIC, b"y")
                self.net.advance(10)
            self.net.udp.loss = 0.0
            self.net.advance(5)
            counts = [len(links.messages) for links in self.links]
            self.assertEqual(counts, [6, 6], f"seed {seed}")
            self.net.advance(60)
            self.assertTrue(self.one.is_connected(self.two.peer_id), f"seed {seed}")
            self.assertEqual(self.one.counters["duplicate_connections"], 0)

    def test_probed_again(self) -> None:
        """
        After a change of the network, probing begins again from the start: the paths that
        were proved are forgotten.
        """
        assert self.two.quic is not None
        nat = NAT(self.net.clock, "80.0.0.1", rng=Random(1))
        self.net.udp.nats.place("10.0.0.1", nat)
        self.one.set_mapped([("80.0.0.1", 49152)])
        dialled = self.two.dial(self.one.peer_id, self.one.addresses())
        self.net.advance(60)
        self.failureResultOf(dialled, DialFailed)
        before = self.two.counters["sent_ping"]
        self.two.network_changed()
        self.net.advance(1)
        self.assertGreaterEqual(self.two.counters["sent_ping"] - before, 5)
        self.assertIsNone(self.two.quic.traversal.path_to(self.one.peer_id, self.net.clock.seconds()))

    def test_moved_soon(self) -> None:
        """
        A peer that moves soon after the connection has begun is probed at all its addresses: the path that
        was proved is that of the dead connection.
        """
        self.net.udp.nats.place("10.0.0.1", NAT(self.net.clock, "80.0.0.1", rng=Random(1)))
        nat = NAT(self.net.clock, "80.0.0.2", rng=Random(2))
        self.net.udp.nats.place("10.0.0.2", nat)
        self.one.set_mapped([("80.0.0.1", 49152)])
        self.two.set_mapped([("80.0.0.2", 49152)])
        self.one.dial(self.two.peer_id, self.two.addresses()).addErrback(lambda _: None)
        self.join()
        nat.change_address("80.0.0.9")
        self.net.udp.nats.moved()
        self.two.set_mapped([("80.0.0.9", 49152)])
        self.two.network_changed()
        self.one.peer_moved(self.two.peer_id, ())
        self.net.advance(4)
        self.assertFalse(self.one.is_connected(self.two.peer_id))
        dialled = self.one.dial(self.two.peer_id, self.two.addresses())
        self.two.dial(self.one.peer_id, self.one.addresses()).addErrback(lambda _: None)
        self.net.advance(2)
        self.successResultOf(dialled)
        self.assertTrue(self.hear(self.one, self.two) and self.hear(self.two, self.one))
