"""
The contract of transports: how topics and connections end, on purpose or not.
"""

from __future__ import annotations

from dtt.gossip.proto.messages import Disconnect, encode
from tests.transport.contract.case import BYE, OTHER, TOPIC, ContractMixin


class EndingsMixin(ContractMixin):
    """
    Ends of topics and connections.
    """

    def test_disconnect(self) -> None:
        """
        After L{IPeerTransport.disconnect} earlier messages still arrive, the connection
        is closed, and no disconnection is reported.
        """
        on_a, on_b = self.open(self.a, self.b)
        self.connect(self.a, self.b)
        self.a.send(self.b.peer_id, TOPIC, b"hello")
        self.net.advance(0.1)
        self.a.send(self.b.peer_id, TOPIC, BYE)
        self.a.disconnect(self.b.peer_id, TOPIC)
        self.net.advance(2)
        self.assertEqual(on_b.messages, [(self.a.peer_id, b"hello"), (self.a.peer_id, BYE)])
        self.assertFalse(self.a.is_connected(self.b.peer_id))
        self.assertFalse(self.b.is_connected(self.a.peer_id))
        self.assertEqual(self.net.connections(self.a), 0)
        self.assertEqual(on_a.disconnected + on_b.disconnected, [])

    def test_disconnect_by_both(self) -> None:
        """
        Both sides may disconnect simultaneously.
        """
        on_a, on_b = self.open(self.a, self.b)
        self.connect(self.a, self.b)
        self.a.send(self.b.peer_id, TOPIC, b"hello")
        self.net.advance(0.1)
        for one, other in ((self.a, self.b), (self.b, self.a)):
            one.send(other.peer_id, TOPIC, BYE)
            one.disconnect(other.peer_id, TOPIC)
        self.net.advance(2)
        self.assertEqual(self.net.connections(self.a), 0)
        self.assertEqual(on_a.disconnected + on_b.disconnected, [])

    def test_used_again(self) -> None:
        """
        A connection that is used again soon after its last topic ended stays open.
        """
        on_a, on_b = self.open(self.a, self.b)
        self.connect(self.a, self.b)
        for wait in (0, 0.005, 0.015, 0.2, 0.9):
            self.a.send(self.b.peer_id, TOPIC, b"one")
            self.net.advance(0.1)
            self.a.disconnect(self.b.peer_id, TOPIC)
            self.net.advance(wait)
            self.a.send(self.b.peer_id, TOPIC, b"two")
            self.net.advance(3)
            self.assertEqual([message for _, message in on_b.messages], [b"one", b"two"], f"after {wait} s")
            on_b.messages.clear()
        self.assertEqual(self.a.counters["dialled"], 1)
        self.assertEqual(self.net.connections(self.a), 1)
        self.assertEqual(on_a.disconnected + on_b.disconnected, [])

    def test_two_topics_share_a_connection(self) -> None:
        """
        The end of one topic does not affect the other.
        """
        self.open(self.a, self.b)
        on_a, on_b = self.open(self.a, self.b, topic=OTHER)
        self.connect(self.a, self.b)
        self.a.send(self.b.peer_id, TOPIC, b"hello")
        self.a.send(self.b.peer_id, OTHER, b"hello")
        self.net.advance(0.1)
        self.assertEqual(self.net.connections(self.a), 1)
        self.a.disconnect(self.b.peer_id, TOPIC)
        self.net.advance(10)
        self.b.send(self.a.peer_id, OTHER, b"still here")
        self.net.advance(0.1)
        self.assertEqual(on_a.messages, [(self.b.peer_id, b"still here")])
        self.assertEqual(on_a.disconnected + on_b.disconnected, [])

    def test_cut(self) -> None:
        """
        A broken connection is reported to the topics that used it, and only to them.
        """
        on_a, on_b = self.open(self.a, self.b)
        unused = self.open(self.a, self.b, topic=OTHER)
        self.connect(self.a, self.b)
        self.a.send(self.b.peer_id, TOPIC, b"hello")
        self.net.advance(0.1)
        self.net.cut(self.a, self.b)
        self.net.advance(1)
        self.assertFalse(self.a.is_connected(self.b.peer_id))
        self.assertEqual(on_a.disconnected, [self.b.peer_id])
        self.assertEqual(on_b.disconnected, [self.a.peer_id])
        self.assertEqual([links.disconnected for links in unused], [[], []])
        self.assertEqual([peer_id for peer_id, _, _ in on_a.broken], [self.b.peer_id])
        self.assertEqual([peer_id for peer_id, _, _ in on_b.broken], [self.a.peer_id])
        for _, heard, reason in on_a.broken + on_b.broken:
            self.assertLessEqual(heard, self.net.clock.seconds())
            self.assertTrue(reason)
        self.assertEqual([links.broken for links in unused], [[], []])
        self.connect(self.b, self.a)
        self.assertEqual(on_a.connected, [self.b.peer_id] * 2)

    def test_goodbye_is_no_broken_link(self) -> None:
        """
        A connection that either side ended on purpose is not reported as broken.
        """
        on_a, on_b = self.open(self.a, self.b)
        self.connect(self.a, self.b)
        self.a.send(self.b.peer_id, TOPIC, b"hello")
        self.b.send(self.a.peer_id, TOPIC, b"hello")
        self.net.advance(0.1)
        self.b.send(self.a.peer_id, TOPIC, encode(Disconnect(alive=False)))
        self.b.close_topic(TOPIC)
        self.net.advance(10)
        self.a.close_topic(TOPIC)
        self.net.advance(400)
        self.assertEqual(on_a.broken + on_b.broken, [])

    def test_cut_while_waiting(self) -> None:
        """
        A connection that breaks before the peer has admitted us is reported
        immediately, and not again 5 s later.
        """
        (on_a,) = self.open(self.a)
        self.connect(self.a, self.b)
        self.a.send(self.b.peer_id, TOPIC, b"hello")
        self.net.cut(self.a, self.b)
        self.net.advance(1)
        self.assertEqual(on_a.disconnected, [self.b.peer_id])
        self.net.advance(10)
        self.assertEqual(on_a.disconnected, [self.b.peer_id])

    def test_close_topic(self) -> None:
        """
        A closed topic receives no more events; the peer reports no disconnection, and
        the connection is closed.
        """
        on_a, on_b = self.open(self.a, self.b)
        self.connect(self.a, self.b)
        self.a.send(self.b.peer_id, TOPIC, b"hello")
        self.net.advance(0.1)
        self.b.send(self.a.peer_id, TOPIC, b"under way")
        self.a.send(self.b.peer_id, TOPIC, BYE)
        self.a.close_topic(TOPIC)
        self.a.close_topic(TOPIC)
        self.net.advance(2)
        self.assertEqual(on_a.messages, [])
        self.assertEqual(on_b.messages[-1], (self.a.peer_id, BYE))
        self.assertEqual(on_a.disconnected + on_b.disconnected, [])
        self.assertEqual(self.net.connections(self.a), 0)

    def test_topic_opened_again(self) -> None:
        """
        A topic that is closed and opened again works on the same connection, without an
        endless exchange of OPEN and CLOSE.
        """
        _, on_b = self.open(self.a, self.b)
        self.connect(self.a, self.b)
        self.a.send(self.b.peer_id, TOPIC, b"hello")
        self.net.advance(0.1)
        self.a.close_topic(TOPIC)
        (on_a,) = self.open(self.a)
        self.a.send(self.b.peer_id, TOPIC, b"again")
        self.net.advance(0.5)
        self.b.send(self.a.peer_id, TOPIC, b"answer")
        self.net.advance(0.5)
        self.assertEqual(on_b.messages[-1], (self.a.peer_id, b"again"))
        self.assertEqual(on_a.messages, [(self.b.peer_id, b"answer")])
        self.assertEqual(self.a.counters["dialled"], 1)
