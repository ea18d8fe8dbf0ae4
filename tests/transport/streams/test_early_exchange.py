"""
Tests for L{dtt.transport.streams.early} between a transport and a raw peer.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import Factory
from twisted.protocols.tls import TLSMemoryBIOFactory

from dtt.counters import snake_case
from dtt.testing.memory_transport import RecordingLinks
from dtt.transport.streams.channels import admission_tag
from dtt.transport.streams.early import early_key, seal, unseal
from dtt.transport.streams.frames import Close, Data, Early, FrameParser, Open, encode_frame
from dtt.transport.streams.tls import ConnectionCreator
from dtt.wire.addresses import STREAMS, PeerAddress
from tests.transport.streams.common import (
    ALICE,
    BOB,
    CAROL,
    JOIN,
    KEY,
    KEY2,
    SECRET,
    TOPIC,
    TOPIC2,
    Stranger,
    StreamsTestCase,
    without_clocks,
)


class EarlyTests(StreamsTestCase):
    """
    A Join sent with an OPEN, between us and a raw client whose every byte is checked.
    """

    def setUp(self) -> None:
        super().setUp()
        self.links = RecordingLinks()

    def frames(self, stranger: Stranger, message: bytes = JOIN, channel: int = 0) -> tuple[Open, Early]:
        """
        Return the first frames of C{stranger}, with C{message} inside.
        """
        exporter = stranger.exporter()
        key = early_key(KEY, exporter, CAROL.peer_id, BOB.peer_id)
        tag = admission_tag(KEY, exporter, CAROL.peer_id, BOB.peer_id)
        return Open(channel, tag), Early(channel, seal(key, message))

    def send(self, stranger: Stranger, *frames: Open | Early | Data | Close) -> None:
        """
        Let C{stranger} send C{frames}, in one write.
        """
        self.write(stranger, b"".join(map(encode_frame, frames)))

    def answer(self, stranger: Stranger) -> bytes:
        """
        Return the OPEN with which C{b} answers.
        """
        exporter = stranger.exporter()
        return encode_frame(Open(0, admission_tag(KEY, exporter, BOB.peer_id, CAROL.peer_id)))

    def dialled(self) -> Stranger:
        """
        Let C{a} dial a raw server, and send a Join and further messages.
        """
        stranger = Stranger()
        reactor = self.net.reactor("10.0.0.3")
        factory: Any = Factory.forProtocol(lambda: stranger)
        reactor.listenTCP(1, TLSMemoryBIOFactory(ConnectionCreator(CAROL), False, factory, reactor))
        self.a.open_topic(TOPIC, SECRET, self.links)

        def send(_: None) -> None:
            for message in (JOIN, b"one", JOIN, b"two"):
                self.a.send(CAROL.peer_id, TOPIC, message)

        self.a.dial(CAROL.peer_id, [PeerAddress(STREAMS, "10.0.0.3", 1)]).addCallback(send)
        self.net.advance(0.1)
        return stranger

    def test_sent(self) -> None:
        """
        The dialling side sends OPEN and its first message, a Join, in one write, and
        nothing else before the peer's OPEN; then the rest, without that Join.
        """
        stranger = self.dialled()
        (piece,) = stranger.pieces
        opened, early = FrameParser().feed(piece)
        assert isinstance(opened, Open)
        assert isinstance(early, Early)
        exporter = stranger.exporter()
        self.assertEqual(opened.tag, admission_tag(KEY, exporter, ALICE.peer_id, CAROL.peer_id))
        self.assertEqual(early.channel, opened.channel)
        self.assertEqual(unseal(early_key(KEY, exporter, ALICE.peer_id, CAROL.peer_id), early.sealed), JOIN)
        tag = admission_tag(KEY, exporter, CAROL.peer_id, ALICE.peer_id)
        self.send(stranger, Open(0, tag))
        frames = without_clocks(b"".join(stranger.pieces[1:]))
        self.assertEqual(frames, [Data(0, message) for message in (b"one", JOIN, b"two")])

    def test_never_admitted(self) -> None:
        """
        A peer that does not know the topic is given up after 5 s; when it is tried
        again on the same connection, the key is not used for a second EARLY.
        """
        stranger = self.dialled()
        # This keeps the connection open.
        self.send(stranger, Open(0, b"x" * 32))
        self.net.advance(5)
        self.assertEqual(self.links.disconnected, [CAROL.peer_id])
        self.a.send(CAROL.peer_id, TOPIC, b"\x00\x00\x01\x01x")
        self.net.advance(0.1)
        kinds = [type(frame) for frame in FrameParser().feed(stranger.received)]
        self.assertEqual(kinds, [Open, Early, Close, Open])

    def test_received(self) -> None:
        """
        The Join of a member is handled immediately: OPEN and the topic's answers are
        sent in one write.
        """
        self.b.open_topic(TOPIC, SECRET, self.links)
        self.links.on_message = lambda peer_id, message: self.b.send(peer_id, TOPIC, b"neighbor")
        stranger = self.stranger()
        self.send(stranger, *self.frames(stranger))
        self.assertEqual(self.links.messages, [(CAROL.peer_id, JOIN)])
        (piece,) = stranger.pieces
        self.assertTrue(piece.startswith(self.answer(stranger)))
        self.assertEqual(without_clocks(piece)[1:], [Data(0, b"neighbor")])

    def test_topic_opened_later(self) -> None:
        """
        A Join for a topic that is not open is kept encrypted, and handled in the turn
        after the topic is opened, not before its links expect it.
        """
        stranger = self.stranger()
        self.send(stranger, *self.frames(stranger))
        self.assertEqual(stranger.received, b"")
        self.b.open_topic(TOPIC, SECRET, self.links)
        self.assertEqual(self.links.messages, [])
        self.net.advance(0)
        self.assertEqual(self.links.messages, [(CAROL.peer_id, JOIN)])
        self.net.advance(0.1)
        self.assertEqual(stranger.received, self.answer(stranger))

    def test_topic_opened_for_a_moment(self) -> None:
        """
        A topic that is closed in the same turn receives nothing; the next one does.
        """
        stranger = self.stranger()
        self.send(stranger, *self.frames(stranger))
        self.b.open_topic(TOPIC, SECRET, self.links)
        self.b.close_topic(TOPIC)
        self.net.advance(0.1)
        self.assertEqual(self.links.messages, [])
        self.b.open_topic(TOPIC, SECRET, self.links)
        self.net.advance(0.1)
        self.assertEqual(self.links.messages, [(CAROL.peer_id, JOIN)])

    def test_connection_lost_before_it_is_handled(self) -> None:
        """
        A kept Join is dropped with its connection.
        """
        stranger = self.stranger()
        self.send(stranger, *self.frames(stranger))
        self.b.open_topic(TOPIC, SECRET, self.links)
        self.net.cut("10.0.0.2", "10.0.0.3")
        self.net.advance(0.1)
        self.assertEqual(self.links.messages, [])

    def test_other_topic(self) -> None:
        """
        A peer without the secret can't deliver a Join: its OPEN does not match.
        """
        self.b.open_topic(TOPIC, b"x" * 32, self.links)
        stranger = self.stranger()
        self.send(stranger, *self.frames(stranger))
        self.assertEqual(self.links.messages, [])
        self.assertEqual(stranger.received, b"")
        self.assertFalse(stranger.lost)

    def test_replayed_and_reflected(self) -> None:
        """
        An EARLY encrypted for another connection or direction ends the connection.
        """
        self.b.open_topic(TOPIC, SECRET, self.links)
        _, replayed = self.frames(self.stranger())
        stranger = self.stranger()
        opened, _ = self.frames(stranger)
        self.send(stranger, opened, replayed)
        self.assertTrue(stranger.lost)
        stranger = self.stranger()
        opened, _ = self.frames(stranger)
        key = early_key(KEY, stranger.exporter(), BOB.peer_id, CAROL.peer_id)
        self.send(stranger, opened, Early(0, seal(key, JOIN)))
        self.assertTrue(stranger.lost)
        self.assertEqual(self.b.counters["closed_early_not_authentic"], 2)
        self.assertEqual(self.links.messages, [])

    def test_malformed(self) -> None:
        """
        Each malformed EARLY ends the connection and is counted.
        """
        self.b.open_topic(TOPIC, SECRET, self.links)
        other = Open(1, b"x" * 32)
        for reason, made in (
            ("channel not open", lambda opened, early: (early,)),
            ("channel not open", lambda opened, early: (opened, Close(0), early)),
            ("unexpected early", lambda opened, early: (opened, early, early)),
            ("unexpected early", lambda opened, early: (opened, Data(0, JOIN), early)),
            ("unexpected early", lambda opened, early: (other, Early(1, bytes(16)), Early(1, bytes(16)))),
            ("unexpected early", lambda opened, early: (other, Data(1, JOIN), Early(1, bytes(16)))),
            ("early not authentic", lambda opened, early: (opened, Early(0, bytes(16)))),
            ("message too large", lambda opened, early: (opened, Early(0, bytes(4113)))),
            ("truncated", lambda opened, early: (opened, Early(0, bytes(15)))),
        ):
            before = self.b.counters["closed_" + snake_case(reason)]
            stranger = self.stranger()
            self.send(stranger, *made(*self.frames(stranger)))
            self.assertTrue(stranger.lost, reason)
            self.assertEqual(self.b.counters["closed_" + snake_case(reason)], before + 1, reason)

    def test_no_join(self) -> None:
        """
        An encrypted message that is malformed or not a Join is not handled.
        """
        self.b.open_topic(TOPIC, SECRET, self.links)
        for message in (b"", b"hello", b"\x00\x00\x01\x05", b"\x00\x04\x00\x00"):
            stranger = self.stranger()
            self.send(stranger, *self.frames(stranger, message))
            self.assertTrue(stranger.lost)
        self.assertEqual(self.b.counters["closed_early_not_a_join"], 4)
        self.assertEqual(self.links.messages, [])

    def test_found_out_later(self) -> None:
        """
        The same applies when the topic is opened after such a frame has arrived.
        """
        for reason, sealed in (("early not authentic", bytes(20)), ("early not a join", None)):
            stranger = self.stranger()
            opened, early = self.frames(stranger, b"hello")
            self.send(stranger, opened, early if sealed is None else Early(0, sealed))
            self.assertFalse(stranger.lost)
            self.b.open_topic(TOPIC, SECRET, self.links)
            self.net.advance(0.1)
            self.assertTrue(stranger.lost)
            self.assertEqual(self.b.counters["closed_" + snake_case(reason)], 1)
            self.b.close_topic(TOPIC)
        self.assertEqual(self.links.messages, [])

    def test_closed_in_the_same_turn(self) -> None:
        """
        A CLOSE that arrives before a kept Join is handled discards it.
        """
        stranger = self.stranger()
        opened, early = self.frames(stranger)
        other = Open(1, admission_tag(KEY2, stranger.exporter(), CAROL.peer_id, BOB.peer_id))
        on_other = RecordingLinks()
        on_other.on_message = lambda *_: self.b.open_topic(TOPIC, SECRET, self.links)
        self.b.open_topic(TOPIC2, SECRET, on_other)
        self.send(stranger, opened, early, other, Data(1, b"open the topic"), Close(0))
        self.assertEqual(self.links.messages, [])
        self.assertFalse(stranger.lost)
