"""
Tests for L{dtt.transport.streams.multiplexer}: which of several connections is current,
and when they are closed.  What two multiplexers say to each other is tested by
L{tests.transport.test_contract}.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from attrs import define, field
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dtt.errors import DecodeError
from dtt.identity import PeerKey
from dtt.interfaces import LinkPath
from dtt.testing.memory_transport import RecordingLinks
from dtt.transport.admission import topic_key
from dtt.transport.streams.channels import admission_tag
from dtt.transport.streams.frames import (
    ClockTime,
    Close,
    Data,
    FrameParser,
    Open,
    Ping,
    Pong,
    ReceivedFrame,
    Rendezvous,
    Unknown,
)
from dtt.transport.streams.multiplexer import CLOCK_INTERVAL, DUPLICATE_WINDOW, MAX_WAIT, Link, Multiplexer
from dtt.transport.table import LINGER
from dtt.wire.addresses import STREAMS

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
    kind: int = STREAMS
    remote: tuple[str, int] | None = None
    path: LinkPath = field(factory=lambda: LinkPath("streams"))
    unsent: int = 0
    has_room: bool = True
    networks: tuple[str, ...] = ()
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

    def introduce(self) -> tuple[Link, Connection]:
        """
        Connect a peer that will ask and one that is asked for, in the same topic; return the
        link of the first, the connection of the other, and what that has received.
        """
        one, asking = self.connect(SMALL)
        other, asked = self.connect(LARGE)
        one.remote = ("203.0.113.7", 7000)
        self.admit(asking)
        self.admit(asked)
        return asking, other

    def rendezvous(self, connection: Connection) -> list[Rendezvous]:
        """What was sent on a connection."""
        return [frame for frame in connection.sent if isinstance(frame, Rendezvous)]

    def test_introduction(self) -> None:
        """
        A request goes to its target with the sender's true id and the address at which we see it;
        there are at most 4 addresses.
        """
        asking, other = self.introduce()
        addresses = tuple((f"198.51.100.{number}", 1) for number in range(4))
        forged = bytes(32)
        self.multiplexer.frames_received(asking, [Rendezvous(7, False, forged, LARGE, addresses)])
        (sent,) = self.rendezvous(other)
        self.assertEqual(sent, Rendezvous(0, True, SMALL, LARGE, (("203.0.113.7", 7000), *addresses[:3])))

    def test_introduction_elsewhere(self) -> None:
        """
        A request for a peer that is not connected, in another topic, or for the asker itself
        goes nowhere, nor does what was forwarded.
        """
        asking, other = self.introduce()
        third = bytes(31) + b"\x02"
        elsewhere, _ = self.connect(third)
        for frame in (
            Rendezvous(7, False, SMALL, bytes(32), ()),
            Rendezvous(7, False, SMALL, SMALL, ()),
            Rendezvous(7, False, SMALL, third, ()),
            Rendezvous(7, True, SMALL, LARGE, ()),
        ):
            self.multiplexer.frames_received(asking, [frame])
        self.assertEqual(self.rendezvous(other) + self.rendezvous(elsewhere), [])
        self.assertEqual(self.counters["rendezvous_not_connected"], 3)
        self.assertEqual(self.counters["rendezvous_refused"], 1)

    def test_introduction_of_a_stranger(self) -> None:
        """Without the secret nobody is introduced; a channel that is not open ends the connection."""
        _, link = self.connect(SMALL)
        self.multiplexer.frames_received(link, [Open(7, bytes(32)), Rendezvous(7, False, SMALL, LARGE, ())])
        self.assertEqual(self.counters["received_not_admitted"], 1)
        with self.assertRaises(DecodeError):
            self.multiplexer.frames_received(link, [Rendezvous(8, False, SMALL, LARGE, ())])

    def test_flood_of_requests(self) -> None:
        """An asker has 30 introductions at once and one a second."""
        asking, other = self.introduce()
        flood = [Rendezvous(7, False, SMALL, LARGE, ())] * 1000
        self.multiplexer.frames_received(asking, flood)
        self.assertEqual(len(self.rendezvous(other)), 30)
        self.clock.advance(10)
        self.multiplexer.frames_received(asking, flood)
        self.assertEqual(len(self.rendezvous(other)), 40)

    def test_introduced(self) -> None:
        """
        What a member forwards to us is reported with its topic, 30 times at once and then once
        a second, unless it is for or about another peer.
        """
        _, link = self.connect(LARGE)
        self.admit(link)
        reported: list[Any] = []
        self.multiplexer.on_introduced = lambda *args: reported.append(args)
        addresses = (("203.0.113.7", 7000),)
        asker = PeerKey(bytes(32)).peer_id
        for frame in (
            Rendezvous(7, True, asker, SMALL, addresses),
            Rendezvous(7, True, OWN, OWN, addresses),
            Rendezvous(7, True, b"\xff" * 32, OWN, addresses),
        ):
            self.multiplexer.frames_received(link, [frame])
        self.assertEqual(reported, [])
        self.multiplexer.frames_received(link, [Rendezvous(7, True, asker, OWN, addresses)] * 1000)
        self.assertEqual(reported, [(asker, addresses, TOPIC)] * 30)

    def test_ask(self) -> None:
        """Peers that share a topic with us are asked, in our name; a slow reader is not."""
        connections = []
        for number in range(1, 15):
            connection, link = self.connect(bytes(31) + bytes((number,)))
            connections.append(connection)
            if number > 1:
                self.admit(link)
        connections[1].unsent = 1
        self.multiplexer.ask_for(LARGE, TOPIC, [("203.0.113.7", number) for number in range(1, 9)])
        self.assertEqual([len(self.rendezvous(each)) for each in connections], [0, 0, *[1] * 10, 0, 0])
        (frame,) = self.rendezvous(connections[2])
        self.assertEqual((frame.is_forwarded, frame.asker, frame.target), (False, OWN, LARGE))
        self.assertEqual(frame.addresses, tuple(("203.0.113.7", number) for number in range(1, 5)))

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

    def test_duplicate_closed_by_peer(self) -> None:
        """
        The peer closes a duplicate before we do: no link is broken. Without a successor,
        the same end is a broken link.
        """
        _, one = self.connect(SMALL)
        _, other = self.connect(SMALL)
        self.admit(one)
        self.admit(other)
        self.multiplexer.connection_lost(one, "by peer")
        self.assertEqual(self.links.broken, [])
        self.multiplexer.connection_lost(other, "by peer")
        self.assertEqual([reason for _, _, reason in self.links.broken], ["closed by the peer"])

    def test_current_one_is_lost(self) -> None:
        """
        Another connection that was about to be closed takes over, with its topics; the
        loss of the last one is reported.
        """
        first, one = self.connect(SMALL)
        _, other = self.connect(SMALL)
        for link in (one, other):
            self.admit(link)
        self.multiplexer.connection_lost(other, "by peer")
        self.assertEqual(self.carriers(first), [True])
        self.clock.advance(60)
        self.assertFalse(first.closed)
        self.assertEqual(self.links.disconnected, [])
        self.multiplexer.connection_lost(one, "by peer")
        self.multiplexer.connection_lost(one, "by peer")
        self.assertEqual(self.links.disconnected, [SMALL])
        self.assertFalse(self.multiplexer.table.is_connected(SMALL))

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
        self.assertEqual([type(frame) for frame in second.sent], [Open, Data, ClockTime])
        self.clock.advance(MAX_WAIT)
        self.assertEqual(self.links.disconnected, [])

    def test_clock(self) -> None:
        """
        Our time is sent to a peer once it has proved a topic, once on each connection; its time is accepted
        only then.
        """
        self.heard: list[tuple[bytes, float]] = []
        self.multiplexer._on_clock = lambda peer, time: self.heard.append((peer, time))
        connection, link = self.connect(SMALL)
        self.multiplexer.frames_received(link, [ClockTime(5000)])
        self.assertEqual((connection.sent, self.heard), ([], []))
        self.admit(link)
        told = [frame for frame in connection.sent if isinstance(frame, ClockTime)]
        self.assertEqual(told, [ClockTime(round(self.clock.seconds() * 1000))])
        self.multiplexer.frames_received(link, [ClockTime(5500)])
        self.assertEqual(self.heard, [(SMALL, 5.5)])
        self.assertEqual(len(connection.sent), 2)
        self.clock.advance(CLOCK_INTERVAL)
        self.multiplexer.frames_received(link, [Pong(b"12345678")])
        self.assertEqual(connection.sent[2:], [ClockTime(round(self.clock.seconds() * 1000))])

    def test_lost_while_messages_wait(self) -> None:
        """
        A topic that waits for the peer's OPEN learns of a disconnection once.
        """
        _, link = self.connect(SMALL)
        self.multiplexer.send(SMALL, TOPIC, b"hello")
        self.multiplexer.connection_lost(link, "by peer")
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
        self.assertFalse(self.multiplexer.table.is_connected(SMALL))
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
        self.multiplexer.connection_lost(link, "by peer")
        self.multiplexer.frames_received(link, [Unknown(77), Data(7, b"late")])
        self.assertEqual(self.counters["received_unknown_frame"], 1)
        self.assertEqual(self.links.messages, [])
