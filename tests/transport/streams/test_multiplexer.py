"""
Tests for L{dtt.transport.streams.multiplexer}: which of several connections is current,
and when they are closed.  What two multiplexers say to each other is tested by
L{tests.transport.test_contract}.
"""

from __future__ import annotations

from collections import Counter

from attrs import define, field
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dtt.testing.memory_transport import RecordingLinks
from dtt.transport.streams.channels import admission_tag, topic_key
from dtt.transport.streams.frames import (
    Close,
    Data,
    FrameParser,
    Open,
    Ping,
    Pong,
    ReceivedFrame,
    Unknown,
)
from dtt.transport.streams.multiplexer import DUPLICATE_WINDOW, MAX_WAIT, Link, Multiplexer
from dtt.transport.table import LINGER

TOPIC, SECRET = b"t" * 32, b"s" * 32
SMALL, OWN, LARGE = b"a" * 32, b"m" * 32, b"z" * 32


@define(eq=False)
class Connection:
    """
    A connection that keeps what is sent on it.
    """

    peer_id: bytes
    opened_by_us: bool
    exporter: bytes = b"e" * 32
    unsent: int = 0
    closed: bool = False
    aborted: list[str] = field(factory=list)
    sent: list[ReceivedFrame] = field(factory=list)

    def send(self, frame: bytes) -> None:
        """Keep the frames."""
        self.sent += FrameParser().feed(frame)

    def close(self) -> None:
        """Note it."""
        self.closed = True

    def abort(self, reason: str) -> None:
        """Keep the reason."""
        self.aborted.append(reason)


class MultiplexerTests(SynchronousTestCase):
    """
    Tests for L{Multiplexer} with one topic.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.counters: Counter[str] = Counter()
        self.multiplexer = Multiplexer(self.clock, OWN, self.counters)
        self.links = RecordingLinks()
        self.multiplexer.open_topic(TOPIC, SECRET, self.links)

    def connect(self, peer_id: bytes, opened_by_us: bool = True) -> tuple[Connection, Link]:
        """
        Add a connection.
        """
        connection = Connection(peer_id, opened_by_us)
        link = self.multiplexer.connection_made(connection)
        assert link is not None
        return connection, link

    def admit(self, link: Link) -> None:
        """
        Let the peer open the topic on channel 7.
        """
        tag = admission_tag(topic_key(TOPIC, SECRET), b"e" * 32, link.peer_id, OWN)
        self.multiplexer.frames_received(link, [Open(7, tag)])

    def carriers(self, *connections: Connection) -> list[bool]:
        """
        Send a message, and return which of the connections it was sent on.
        """
        message = b"%d" % self.clock.seconds()
        self.multiplexer.send(connections[0].peer_id, TOPIC, message)
        return [any(isinstance(f, Data) and f.message == message for f in c.sent) for c in connections]

    def test_simultaneous(self) -> None:
        """
        Of two connections opened within 10 s by different sides, the one opened by the
        larger peer id becomes or stays current; the other one is closed after a second.
        """
        for peer_id in (SMALL, LARGE):
            for we_came_first in (False, True):
                self.setUp()
                first, one = self.connect(peer_id, we_came_first)
                self.clock.advance(DUPLICATE_WINDOW)
                second, other = self.connect(peer_id, not we_came_first)
                self.admit(one)
                self.admit(other)
                stays = first.opened_by_us == (peer_id is SMALL)
                self.assertEqual(self.carriers(first, second), [stays, not stays])
                self.clock.advance(LINGER - 0.1)
                self.assertFalse(first.closed or second.closed)
                self.clock.advance(0.2)
                self.assertEqual([first.closed, second.closed], [not stays, stays])
                self.assertEqual((self.links.connected, self.links.disconnected), ([peer_id], []))

    def test_newer(self) -> None:
        """
        Of two connections opened by the same side, or more than 10 s apart, the newer
        one becomes current.
        """
        for opened_by_us, seconds in ((True, 1.0), (False, DUPLICATE_WINDOW + 1)):
            self.setUp()
            first, one = self.connect(SMALL)
            self.clock.advance(seconds)
            second, other = self.connect(SMALL, opened_by_us)
            self.admit(one)
            self.admit(other)
            self.assertEqual(self.carriers(first, second), [False, True])
            self.clock.advance(LINGER)
            self.assertEqual([first.closed, second.closed], [True, False])
        self.assertEqual(self.counters, {"duplicate_connections": 1})

    def test_current_one_is_lost(self) -> None:
        """
        Another connection that was about to be closed takes over, with its topics; the
        loss of the last one is reported.
        """
        first, one = self.connect(SMALL)
        _, other = self.connect(SMALL)
        for link in (one, other):
            self.admit(link)
        self.multiplexer.connection_lost(other)
        self.assertEqual(self.carriers(first), [True])
        self.clock.advance(60)
        self.assertFalse(first.closed)
        self.assertEqual(self.links.disconnected, [])
        self.multiplexer.connection_lost(one)
        self.multiplexer.connection_lost(one)
        self.assertEqual(self.links.disconnected, [SMALL])
        self.assertFalse(self.multiplexer.is_connected(SMALL))

    def test_messages_wait_across_connections(self) -> None:
        """
        What waits for the peer's OPEN is sent on the connection that has replaced the
        one on which it was to be sent.
        """
        first, _ = self.connect(SMALL)
        self.multiplexer.send(SMALL, TOPIC, b"hello")
        second, other = self.connect(SMALL)
        self.admit(other)
        self.assertEqual([isinstance(frame, Open) for frame in first.sent], [True])
        self.assertEqual([type(frame) for frame in second.sent], [Open, Data])
        self.clock.advance(MAX_WAIT)
        self.assertEqual(self.links.disconnected, [])

    def test_lost_while_messages_wait(self) -> None:
        """
        A topic that waits for the peer's OPEN learns of a disconnection once.
        """
        _, link = self.connect(SMALL)
        self.multiplexer.send(SMALL, TOPIC, b"hello")
        self.multiplexer.connection_lost(link)
        self.assertEqual(self.links.disconnected, [SMALL])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.clock.advance(MAX_WAIT)
        self.assertEqual(self.links.disconnected, [SMALL])

    def test_unused(self) -> None:
        """
        One second after the last topic has left, the connection is closed, unless it is
        used again.
        """
        connection, link = self.connect(SMALL)
        self.admit(link)
        self.multiplexer.disconnect(SMALL, TOPIC)
        self.assertIsInstance(connection.sent[-1], Close)
        self.clock.advance(LINGER / 2)
        self.multiplexer.send(SMALL, TOPIC, b"again")
        self.clock.advance(LINGER)
        self.assertFalse(connection.closed)
        self.multiplexer.disconnect(SMALL, TOPIC)
        self.clock.advance(LINGER)
        self.assertTrue(connection.closed)
        self.assertFalse(self.multiplexer.is_connected(SMALL))
        self.assertEqual(self.links.disconnected, [])

    def test_read_to_the_end(self) -> None:
        """
        Frames are handled on a connection that is being closed, and not once it has
        ended.
        """
        connection, link = self.connect(SMALL)
        self.admit(link)
        self.multiplexer.close_all()
        self.assertTrue(connection.closed)
        self.multiplexer.frames_received(link, [Ping(b"12345678"), Unknown(77)])
        self.assertEqual(connection.sent[-1], Pong(b"12345678"))
        self.assertEqual(self.counters["received_unknown_frame"], 1)
        self.multiplexer.connection_lost(link)
        self.multiplexer.frames_received(link, [Unknown(77), Data(7, b"late")])
        self.assertEqual(self.counters["received_unknown_frame"], 1)
        self.assertEqual(self.links.messages, [])
