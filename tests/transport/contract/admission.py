"""
The contract of transports that admit peers to topics.
"""

from __future__ import annotations

from functools import partial

from dtt.errors import DecodeError
from dtt.testing.memory_transport import RecordingLinks
from dtt.transport.iroh.transport import IrohTransport
from dtt.transport.streams.multiplexer import Multiplexer
from tests.transport.contract.case import JOIN, OTHER, SECRET, TOPIC, ContractMixin
from tests.transport.contract.networks import Transport


class AdmissionMixin(ContractMixin):
    """
    Tests for transports that admit peers to topics, and keep one connection per peer
    (docs/protocol/streams.md sections 1 and 3).
    """

    def test_simultaneous_dials(self) -> None:
        """
        Of two simultaneous connections, the one opened by the larger peer id stays;
        messages arrive meanwhile and no disconnection is reported.
        """
        on_a, on_b = self.open(self.a, self.b)
        for one, other in ((self.a, self.b), (self.b, self.a)):
            one.dial(other.peer_id, other.addresses()).addCallback(
                partial(lambda one, other, _: one.send(other.peer_id, TOPIC, b"first"), one, other)
            )
        self.net.advance(0.3)
        self.assertEqual(self.a.counters["duplicate_connections"], 1)
        for number in range(20):
            self.a.send(self.b.peer_id, TOPIC, b"%d" % number)
            self.b.send(self.a.peer_id, TOPIC, b"%d" % number)
            self.net.advance(0.1)
        self.assertEqual(self.net.connections(self.a), 1)
        self.assertEqual(self.opened_by(self.a), [False])
        self.assertEqual(self.opened_by(self.b), [True])
        expected = [b"first", *(b"%d" % number for number in range(20))]
        self.assertEqual([message for _, message in on_a.messages], expected)
        self.assertEqual([message for _, message in on_b.messages], expected)
        self.assertEqual(on_a.disconnected + on_b.disconnected, [])
        self.assertEqual((len(on_a.connected), len(on_b.connected)), (1, 1))

    def opened_by(self, transport: Transport) -> list[bool]:
        """
        For each connection of C{transport}: whether it dialled.
        """
        return [link.connection.opened_by_us for link in self.multiplexer(transport).table.links.values()]

    def multiplexer(self, transport: Transport) -> Multiplexer:
        """
        Return the transport's multiplexer.
        """
        assert not isinstance(transport, IrohTransport)
        return transport.multiplexer

    def test_peer_opens_later(self) -> None:
        """
        Messages wait up to 5 s for the peer to open the topic.
        """
        (on_a,) = self.open(self.a)
        self.connect(self.a, self.b)
        self.a.send(self.b.peer_id, TOPIC, b"early")
        self.net.advance(4.5)
        (on_b,) = self.open(self.b)
        self.net.advance(1)
        self.assertEqual(on_b.messages, [(self.a.peer_id, b"early")])
        self.b.send(self.a.peer_id, TOPIC, b"answer")
        self.net.advance(10)
        self.assertEqual(on_a.messages, [(self.b.peer_id, b"answer")])
        self.assertEqual(on_a.disconnected, [])

    def test_peer_opens_later_joined(self) -> None:
        """
        A waiting Join is sent immediately, but delivered first and once, and only after
        the topic is open.
        """
        (on_a,) = self.open(self.a)
        self.connect(self.a, self.b)
        for message in (JOIN, b"one", JOIN):
            self.a.send(self.b.peer_id, TOPIC, message)
        self.net.advance(4.5)
        (on_b,) = self.open(self.b)
        self.assertEqual(on_b.messages, [])
        self.net.advance(1)
        self.assertEqual([message for _, message in on_b.messages], [JOIN, b"one", JOIN])
        self.net.advance(10)
        self.assertEqual(on_a.disconnected, [])

    def test_join_of_who_is_gone(self) -> None:
        """
        The Join of a peer that has given up is not delivered to a topic opened later.
        """
        (on_a,) = self.open(self.a)
        self.open(self.a, self.b, topic=OTHER)
        self.connect(self.a, self.b)
        self.a.send(self.b.peer_id, OTHER, b"hello")
        self.a.send(self.b.peer_id, TOPIC, JOIN)
        self.net.advance(5.5)
        self.assertEqual(on_a.disconnected, [self.b.peer_id])
        (on_b,) = self.open(self.b)
        self.net.advance(1)
        self.assertEqual(on_b.messages, [])

    def test_join_again_on_the_same_connection(self) -> None:
        """
        A peer that leaves and joins again is heard each time, whether or not the
        other's OPEN stands.
        """
        (on_a,), (on_b,) = self.open(self.a), self.open(self.b)
        self.open(self.a, self.b, topic=OTHER)
        self.connect(self.a, self.b)
        self.a.send(self.b.peer_id, OTHER, b"hello")
        for count in range(1, 4):
            self.a.send(self.b.peer_id, TOPIC, JOIN)
            self.net.advance(0.1)
            self.assertEqual(on_b.messages, [(self.a.peer_id, JOIN)] * count)
            self.a.disconnect(self.b.peer_id, TOPIC)
            self.b.disconnect(self.a.peer_id, TOPIC)
            self.net.advance(0.1)
        self.assertEqual(on_a.disconnected, [])
        self.assertEqual(self.net.connections(self.a), 1)

    def test_early_join_refused(self) -> None:
        """
        A topic that rejects a Join ends the connection, whether the Join came before or
        after the topic was opened.
        """

        def refuse(peer_id: bytes, message: bytes) -> None:
            raise DecodeError("nonsense")

        for late in (False, True):
            self.setUp()
            (on_a,) = self.open(self.a)
            on_b = RecordingLinks()
            on_b.on_message = refuse
            if not late:
                self.b.open_topic(TOPIC, SECRET, on_b)
            self.connect(self.a, self.b)
            self.a.send(self.b.peer_id, TOPIC, JOIN)
            self.net.advance(0.1)
            if late:
                self.b.open_topic(TOPIC, SECRET, on_b)
            self.net.advance(1)
            self.assertEqual(self.b.counters["closed_nonsense"], 1)
            self.assertEqual(on_a.disconnected, [self.b.peer_id])
            self.assertEqual(self.net.connections(self.b), 0)

    def test_our_own_fault_with_an_early_join(self) -> None:
        """
        Any other exception is logged and ends the connection.
        """

        def fail(peer_id: bytes, message: bytes) -> None:
            raise ZeroDivisionError

        self.open(self.a)
        self.connect(self.a, self.b)
        self.a.send(self.b.peer_id, TOPIC, JOIN)
        self.net.advance(0.1)
        (on_b,) = self.open(self.b)
        on_b.on_message = fail
        self.net.advance(1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.b.counters["closed_internal_error"], 1)
        self.assertEqual(self.net.connections(self.b), 0)

    def test_not_admitted(self) -> None:
        """
        A peer that has not opened the topic within 5 s is reported as disconnected
        once, and an otherwise unused connection is closed.
        """
        (on_a,) = self.open(self.a)
        self.open(self.b, topic=OTHER)
        self.connect(self.a, self.b)
        for _ in range(3):
            self.a.send(self.b.peer_id, TOPIC, b"lost")
        self.net.advance(4.8)
        self.assertEqual(on_a.disconnected, [])
        self.net.advance(0.3)
        self.assertEqual(on_a.disconnected, [self.b.peer_id])
        self.net.advance(2)
        self.assertEqual(on_a.disconnected, [self.b.peer_id])
        self.assertEqual(self.net.connections(self.a), 0)

    def test_other_secret(self) -> None:
        """
        A peer with the topic but another secret neither receives nor delivers messages.
        """
        (on_a,) = self.open(self.a)
        (on_b,) = self.open(self.b, secret=b"x" * 32)
        self.connect(self.a, self.b)
        self.a.send(self.b.peer_id, TOPIC, b"from a")
        self.b.send(self.a.peer_id, TOPIC, b"from b")
        self.net.advance(5.5)
        self.assertEqual(on_a.messages + on_b.messages, [])
        self.assertEqual(on_a.disconnected, [self.b.peer_id])
        self.assertEqual(on_b.disconnected, [self.a.peer_id])

    def test_sixteen_wait(self) -> None:
        """
        Sixteen messages wait, further ones are dropped.
        """
        self.open(self.a)
        self.connect(self.a, self.b)
        for number in range(20):
            self.a.send(self.b.peer_id, TOPIC, b"%d" % number)
        (on_b,) = self.open(self.b)
        self.net.advance(1)
        self.assertEqual([message for _, message in on_b.messages], [b"%d" % number for number in range(16)])
        self.assertEqual(self.a.counters["send_too_many_waiting"], 4)

    def test_many_shared_topics(self) -> None:
        """
        Members that share many topics exchange messages in all of them, over one
        connection, whichever side speaks first.
        """
        for count in (17, 40, 200):
            topics = [count.to_bytes(16, "big") + number.to_bytes(16, "big") for number in range(count)]
            links = [self.open(self.a, self.b, topic=topic) for topic in topics]
            self.connect(self.a, self.b)
            for number, topic in enumerate(topics):
                sender, receiver = (self.a, self.b) if number % 2 else (self.b, self.a)
                sender.send(receiver.peer_id, topic, b"hello")
            self.net.advance(1)
            for number, on_both in enumerate(links):
                self.assertEqual(len(on_both[number % 2].messages), 1)
                self.assertEqual([on_each.disconnected for on_each in on_both], [[], []])
            for topic in topics:
                self.a.close_topic(topic)
                self.b.close_topic(topic)
            self.net.advance(3)

    def test_topics_that_are_not_shared(self) -> None:
        """
        Of topics that the peer does not have, sixteen at a time are tried; the others
        wait, and one that is shared is reached.
        """
        topics = [bytes((number,)) * 32 for number in range(40)]
        links = [self.open(self.a, topic=topic) for topic in topics]
        (on_b,) = self.open(self.b, topic=topics[39])
        self.connect(self.a, self.b)
        for topic in topics:
            self.a.send(self.b.peer_id, topic, b"hello")
        self.net.advance(4)
        self.assertEqual(on_b.messages, [])
        self.assertEqual(self.a.counters["open_must_wait"], 24)
        self.net.advance(12)
        self.assertEqual(len(on_b.messages), 1)
        self.assertEqual([len(on_a.disconnected) for (on_a,) in links], [1] * 39 + [0])
        self.assertEqual(self.a.counters["closed_too_many_channels"], 0)
        self.assertEqual(self.b.counters["closed_too_many_channels"], 0)
