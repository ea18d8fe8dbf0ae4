"""
Tests for L{dtt.transport.admission}.
"""

from __future__ import annotations

import hashlib
import hmac

from twisted.trial.unittest import SynchronousTestCase

from dtt.errors import DecodeError
from dtt.transport.admission import MAX_CHANNELS, Channels, admission_tag, topic_key
from dtt.transport.frames import Close, Open

A, B = b"a" * 32, b"b" * 32
TOPIC, SECRET, EXPORTER = b"t" * 32, b"s" * 32, b"e" * 32
KEY = topic_key(TOPIC, SECRET)
KEYS = {TOPIC: KEY}


def keys(count: int) -> dict[bytes, bytes]:
    """
    So many topics.
    """
    return {bytes((n,)) * 32: topic_key(bytes((n,)) * 32, SECRET) for n in range(count)}


class TagTests(SynchronousTestCase):
    """
    Tests for L{topic_key} and L{admission_tag}.
    """

    def test_definition(self) -> None:
        """
        Key and tag are what specs/streams.md section 3 says.
        """
        key = hashlib.sha512(b"dtt/1 admission" + TOPIC + SECRET).digest()[:32]
        self.assertEqual(topic_key(TOPIC, SECRET), key)
        tag = hmac.new(key, EXPORTER + A + B, "sha256").digest()
        self.assertEqual(admission_tag(key, EXPORTER, A, B), tag)


class ChannelsTests(SynchronousTestCase):
    """
    Tests for L{Channels}: both ends of a connection.
    """

    def setUp(self) -> None:
        self.a = Channels(EXPORTER, A, B)
        self.b = Channels(EXPORTER, B, A)

    def opened(self, channels: Channels, topic_id: bytes = TOPIC, key: bytes = KEY) -> Open:
        """
        The OPEN that C{channels} sends.
        """
        (frame,) = channels.open(topic_id, key)
        assert isinstance(frame, Open)
        return frame

    def test_both_must_open(self) -> None:
        """
        DATA may leave once both OPENs stand.
        """
        frame = self.opened(self.a)
        self.assertIsNone(self.a.sending(TOPIC))
        self.assertEqual(self.b.peer_opened(frame, KEYS), TOPIC)
        self.assertIsNone(self.b.sending(TOPIC))
        answer = self.opened(self.b)
        self.assertEqual(self.b.sending(TOPIC), answer.channel)
        self.assertEqual(self.a.peer_opened(answer, KEYS), TOPIC)
        self.assertEqual(self.a.sending(TOPIC), frame.channel)
        self.assertEqual(self.a.topic_of(answer.channel), TOPIC)

    def test_tag_of_another_connection_direction_or_secret(self) -> None:
        """
        A replayed, a reflected and a guessed tag match nothing.
        """
        replayed = self.opened(Channels(b"x" * 32, A, B))
        self.assertIsNone(Channels(EXPORTER, B, A).peer_opened(replayed, KEYS))
        reflected = self.opened(self.b)
        self.assertIsNone(Channels(EXPORTER, B, A).peer_opened(reflected, KEYS))
        guessed = self.opened(self.a, key=topic_key(TOPIC, b"x" * 32))
        self.assertIsNone(Channels(EXPORTER, B, A).peer_opened(guessed, KEYS))

    def test_unknown_tag_is_remembered(self) -> None:
        """
        A tag of a topic that we open later matches then; DATA until then are dropped.
        """
        frame = self.opened(self.a)
        self.assertIsNone(self.b.peer_opened(frame, {}))
        self.assertIsNone(self.b.topic_of(frame.channel))
        self.assertFalse(self.b.idle())
        self.assertFalse(self.b.topic_opened(b"u" * 32, topic_key(b"u" * 32, SECRET)))
        self.assertTrue(self.b.topic_opened(TOPIC, KEY))
        self.assertEqual(self.b.topic_of(frame.channel), TOPIC)

    def test_forgotten_topic(self) -> None:
        """
        A topic that we never opened on the connection, left and held again, is
        matched again.
        """
        self.b.peer_opened(self.opened(self.a), KEYS)
        self.assertIsNone(self.b.close(TOPIC))
        self.b.forget(TOPIC)
        self.assertIsNone(self.b.topic_of(0))
        self.assertIsNone(self.b.sending(TOPIC))
        self.assertTrue(self.b.topic_opened(TOPIC, KEY))

    def test_close(self) -> None:
        """
        CLOSE ends the peer's use of a topic, once.
        """
        self.b.peer_opened(self.opened(self.a), KEYS)
        self.assertEqual(self.a.close(TOPIC), Close(0))
        self.assertIsNone(self.a.close(TOPIC))
        self.assertEqual(self.b.peer_closed(Close(0)), TOPIC)
        self.assertTrue(self.b.idle())
        self.assertEqual(
            str(self.assertRaises(DecodeError, self.b.peer_closed, Close(0))), "channel not open"
        )
        self.assertEqual(str(self.assertRaises(DecodeError, self.b.topic_of, 0)), "channel not open")

    def test_open_stands(self) -> None:
        """
        The peer's OPEN stands after our own CLOSE: its DATA are taken, and we
        may speak again as soon as our OPEN stands again.
        """
        self.a.peer_opened(self.opened(self.b), KEYS)
        self.opened(self.a)
        self.a.close(TOPIC)
        self.assertEqual(self.a.shared(), set())
        self.assertTrue(self.a.idle())
        self.assertEqual(self.a.topic_of(0), TOPIC)
        self.assertIsNone(self.a.sending(TOPIC))
        self.opened(self.a)
        self.assertEqual(self.a.sending(TOPIC), 0)

    def test_renewed(self) -> None:
        """
        After the peer's CLOSE our OPEN stands, but to be answered it is sent
        again, once; the peer's new OPEN makes that unnecessary.
        """
        self.opened(self.a)
        self.assertEqual(self.a.open(TOPIC, KEY), ())
        self.a.peer_opened(self.opened(self.b), KEYS)
        self.a.peer_closed(Close(0))
        close, again = self.a.open(TOPIC, KEY)
        self.assertEqual((close, again), (Close(0), self.opened(Channels(EXPORTER, A, B))))
        self.assertEqual(self.a.open(TOPIC, KEY), ())
        self.b.close(TOPIC)
        self.a.peer_opened(self.opened(self.b), KEYS)
        self.a.peer_closed(Close(0))
        self.b.close(TOPIC)
        self.a.peer_opened(self.opened(self.b), KEYS)
        self.assertEqual(self.a.open(TOPIC, KEY), ())
        self.assertEqual(self.a.sending(TOPIC), 0)

    def test_numbers_are_used_again(self) -> None:
        """
        Sixteen channels are open at most; a closed number is free again.
        """
        topics = keys(MAX_CHANNELS + 1)
        frames = [frame for topic_id, key in topics.items() for frame in self.a.open(topic_id, key)]
        self.assertEqual([frame.channel for frame in frames], [*range(MAX_CHANNELS)])
        self.a.close(bytes((3,)) * 32)
        last = bytes((MAX_CHANNELS,)) * 32
        self.assertEqual(self.opened(self.a, last, topics[last]).channel, 3)

    def test_number_of_a_left_topic(self) -> None:
        """
        When all numbers are taken, a topic that the peer has left gives up its own.
        """
        topics = keys(MAX_CHANNELS)
        for topic_id, key in topics.items():
            self.a.open(topic_id, key)
        left = bytes((5,)) * 32
        self.a.peer_opened(self.opened(self.b, left, topics[left]), topics)
        self.a.peer_closed(Close(0))
        close, opened = self.a.open(TOPIC, KEY)
        self.assertEqual((close, opened.channel), (Close(5), 5))
        self.assertEqual(set(self.a.ours), {*topics, TOPIC} - {left})

    def test_peer_opens_too_much(self) -> None:
        """
        A seventeenth channel, a number twice and a topic twice are malformed.
        """
        for reason, before, frame in (
            ("channel opened twice", [Open(0, b"x" * 32)], Open(0, b"y" * 32)),
            ("topic opened twice", [Open(0, b"x" * 32)], Open(1, b"x" * 32)),
            ("topic opened twice", [self.opened(self.a)], Open(1, self.opened(Channels(EXPORTER, A, B)).tag)),
            ("too many channels", [Open(n, bytes((n,)) * 32) for n in range(16)], Open(16, b"z" * 32)),
        ):
            channels = Channels(EXPORTER, B, A)
            for earlier in before:
                channels.peer_opened(earlier, KEYS)
            error = self.assertRaises(DecodeError, channels.peer_opened, frame, KEYS)
            self.assertEqual(str(error), reason)

    def test_repr_has_no_secrets(self) -> None:
        """
        Neither the exporter nor a tag is in the repr.
        """
        self.a.peer_opened(self.opened(self.b), KEYS)
        self.assertNotIn("eeee", repr(self.a))
        self.assertNotIn("tag", repr(self.a))
