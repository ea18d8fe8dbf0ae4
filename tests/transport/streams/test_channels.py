"""
Tests for L{dtt.transport.streams.channels}.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter

from twisted.trial.unittest import SynchronousTestCase

from dtt.errors import DecodeError
from dtt.gossip.proto.messages import Join, encode
from dtt.transport.admission import MAX_TOPICS, MAX_UNMATCHED, topic_key
from dtt.transport.streams import channels as module
from dtt.transport.streams.channels import MAX_EARLY, MAX_KEPT, Channels, admission_tag
from dtt.transport.streams.early import early_key, seal
from dtt.transport.streams.frames import Close, Early, Open

A, B = b"a" * 32, b"b" * 32
TOPIC, SECRET, EXPORTER = b"t" * 32, b"s" * 32, b"e" * 32
KEY = topic_key(TOPIC, SECRET)
KEYS = {TOPIC: KEY}
JOIN = encode(Join(b"data"))


def keys(count: int) -> dict[bytes, bytes]:
    """
    Return the keys of C{count} topics.
    """
    topics = [(bytes((n,)) * 32) if n < 256 else n.to_bytes(32, "big") for n in range(count)]
    return {topic_id: topic_key(topic_id, SECRET) for topic_id in topics}


class TagTests(SynchronousTestCase):
    """
    Tests for L{topic_key} and L{admission_tag}.
    """

    def test_definition(self) -> None:
        """
        Key and tag are as specified in docs/protocol/streams.md section 3.
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
        DATA may be sent once both OPENs stand.
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
        A replayed, a reflected and a guessed tag do not match.
        """
        replayed = self.opened(Channels(b"x" * 32, A, B))
        self.assertIsNone(Channels(EXPORTER, B, A).peer_opened(replayed, KEYS))
        reflected = self.opened(self.b)
        self.assertIsNone(Channels(EXPORTER, B, A).peer_opened(reflected, KEYS))
        guessed = self.opened(self.a, key=topic_key(TOPIC, b"x" * 32))
        self.assertIsNone(Channels(EXPORTER, B, A).peer_opened(guessed, KEYS))

    def test_unknown_tag_is_remembered(self) -> None:
        """
        A tag of a topic that we open later matches then; earlier DATA is dropped.
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
        A topic that was closed and is opened again matches the peer's tag again, even
        if we never sent OPEN for it.
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
        The peer's OPEN stands after our CLOSE: its DATA is accepted, and we may send
        again as soon as our OPEN stands again.
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
        After the peer's CLOSE our OPEN stands, but is sent again once to be answered; a
        new OPEN from the peer makes that unnecessary.
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
        At most sixteen of our OPENs are valid before one of the peer's has matched; the number of a closed
        one is free again.
        """
        topics = keys(MAX_UNMATCHED + 1)
        frames = [frame for topic_id, key in topics.items() for frame in self.a.open(topic_id, key)]
        self.assertEqual([frame.channel for frame in frames], [*range(MAX_UNMATCHED)])
        self.assertTrue(self.a.blocked)
        self.a.close(bytes((3,)) * 32)
        last = bytes((MAX_UNMATCHED,)) * 32
        self.assertEqual(self.opened(self.a, last, topics[last]).channel, 3)

    def test_shared_topics(self) -> None:
        """
        Once a topic is shared, each side may open 1024, and no more; the number of a
        topic that the peer has closed is reused then.
        """
        topics = keys(MAX_TOPICS + 1)
        for topic_id, key in topics.items():
            for opened in self.a.open(topic_id, key):
                assert isinstance(opened, Open)
                self.assertEqual(self.b.peer_opened(opened, topics), topic_id)
            for answer in self.b.open(topic_id, key):
                assert isinstance(answer, Open)
                self.assertEqual(self.a.peer_opened(answer, topics), topic_id)
        *shared, last = topics
        self.assertEqual(self.a.shared(), set(shared))
        self.assertEqual(self.b.shared(), set(shared))
        self.assertTrue(self.a.blocked)
        frame = Open(MAX_TOPICS, admission_tag(topics[last], EXPORTER, A, B))
        error = self.assertRaises(DecodeError, self.b.peer_opened, frame, topics)
        self.assertEqual(str(error), "too many channels")
        self.a.peer_closed(Close(5))
        close, opened = self.a.open(last, topics[last])
        self.assertEqual((close, opened.channel), (Close(5), 5))
        self.assertEqual(set(self.a.ours), {*topics} - {shared[5]})

    def test_cost_of_tags(self) -> None:
        """
        However many OPENs arrive, one tag is computed for each of our topics.
        """
        topics = keys(40)
        computed = []

        def tag(key: bytes, exporter: bytes, sender: bytes, receiver: bytes) -> bytes:
            computed.append(key)
            return admission_tag(key, exporter, sender, receiver)

        self.patch(module, "admission_tag", tag)
        for number in range(1000):
            self.b.peer_opened(Open(0, number.to_bytes(32, "big")), topics)
            self.b.peer_closed(Close(0))
        self.assertEqual(computed, [*topics.values()])

    def test_peer_opens_too_much(self) -> None:
        """
        A seventeenth unmatched channel, a duplicate number and a duplicate topic are errors.
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

    def early(self, channels: Channels, topic_id: bytes = TOPIC, key: bytes = KEY) -> Early:
        """
        The EARLY that C{channels} sends.
        """
        frame = channels.early(topic_id, key, JOIN)
        assert frame is not None
        return frame

    def assert_late(self, frame: Early) -> None:
        """
        C{b} refuses C{frame}, because there was an EARLY or DATA before.
        """
        error = self.assertRaises(DecodeError, self.b.peer_early, frame, KEYS)
        self.assertEqual(str(error), "unexpected early")

    def test_early(self) -> None:
        """
        A Join sent with the OPEN is delivered once the OPEN has matched, and is not
        kept.
        """
        self.b.peer_opened(self.opened(self.a), KEYS)
        frame = self.early(self.a)
        self.assertEqual(frame.channel, 0)
        self.assertEqual(self.b.peer_early(frame, KEYS), JOIN)
        self.assertIsNone(self.b.take_early(TOPIC, KEY))

    def test_early_is_one_per_topic(self) -> None:
        """
        Key and nonce are never reused, however often the topic is opened.
        """
        self.opened(self.a)
        self.early(self.a)
        self.assertIsNone(self.a.early(TOPIC, KEY, JOIN))
        self.a.close(TOPIC)
        self.opened(self.a)
        self.assertIsNone(self.a.early(TOPIC, KEY, encode(Join(b"other data"))))
        other = topic_key(b"u" * 32, SECRET)
        self.opened(self.a, b"u" * 32, other)
        self.assertEqual(self.early(self.a, b"u" * 32, other).channel, 1)

    def test_kept_earlies_are_bounded(self) -> None:
        """
        Of EARLYs for topics that we have not opened, at most 64 KiB are kept; the rest
        is dropped and counted, and room that becomes free is used again.
        """
        counters: Counter[str] = Counter()
        b = Channels(EXPORTER, B, A, counters)
        b.peer_opened(self.opened(self.a), KEYS)
        size = 4112
        for number in range(1, 20):
            b.peer_opened(Open(number, bytes((number,)) * 32), KEYS)
            self.assertIsNone(b.peer_early(Early(number, bytes(size)), KEYS))
        self.assertEqual(counters, {"received_early_dropped": 19 - MAX_KEPT // size})
        b.peer_closed(Close(1))
        b.peer_opened(Open(1, b"x" * 32), KEYS)
        self.assertIsNone(b.peer_early(Early(1, bytes(size)), KEYS))
        self.assertEqual(counters, {"received_early_dropped": 19 - MAX_KEPT // size})

    def test_early_is_bounded(self) -> None:
        """
        The record of topics for which an EARLY was sent is bounded.
        """
        for number in range(MAX_EARLY + 1):
            topic_id = number.to_bytes(32, "big")
            self.opened(self.a, topic_id)
            frame = self.a.early(topic_id, KEY, JOIN)
            self.assertEqual(frame is None, number == MAX_EARLY)
            self.a.close(topic_id)

    def test_only_a_join_that_waits_is_early(self) -> None:
        """
        Other messages wait; once we are admitted a Join is sent as DATA.
        """
        self.opened(self.a)
        self.assertIsNone(self.a.early(TOPIC, KEY, b"hello"))
        self.a.peer_opened(self.opened(self.b), KEYS)
        self.assertIsNone(self.a.early(TOPIC, KEY, JOIN))

    def test_early_before_the_topic(self) -> None:
        """
        An EARLY of a topic that we open later is kept until then, and returned once.
        """
        self.b.peer_opened(self.opened(self.a), {})
        self.assertIsNone(self.b.peer_early(self.early(self.a), {}))
        self.assertIsNone(self.b.take_early(TOPIC, KEY))
        self.b.topic_opened(TOPIC, KEY)
        self.assertEqual(self.b.take_early(TOPIC, KEY), (0, JOIN))
        self.assertIsNone(self.b.take_early(TOPIC, KEY))

    def test_kept_early_ends_with_its_channel(self) -> None:
        """
        Closing or reopening the channel discards the kept EARLY.
        """
        frame = self.opened(self.a)
        self.b.peer_opened(frame, {})
        self.b.peer_early(self.early(self.a), {})
        self.b.peer_closed(Close(0))
        self.b.peer_opened(frame, {})
        self.b.topic_opened(TOPIC, KEY)
        self.assertIsNone(self.b.take_early(TOPIC, KEY))

    def test_one_early(self) -> None:
        """
        A second EARLY is refused until the channel is opened again, whether or not its
        topic is known.
        """
        opened, early = self.opened(self.a), self.early(self.a)
        for topics in (KEYS, {}):
            if not topics:
                self.b.forget(TOPIC)
            self.b.peer_opened(opened, topics)
            self.b.peer_early(early, topics)
            self.assert_late(early)
            self.b.peer_closed(Close(0))

    def test_early_after_data(self) -> None:
        """
        An EARLY after DATA is refused.
        """
        self.b.peer_opened(self.opened(self.a), KEYS)
        self.b.topic_of(0)
        self.assert_late(self.early(self.a))

    def test_bad_early(self) -> None:
        """
        An EARLY on a closed channel, one that does not match its tag and one that is
        not a Join are errors, also when detected later.
        """
        error = self.assertRaises(DecodeError, self.b.peer_early, Early(0, bytes(32)), KEYS)
        self.assertEqual(str(error), "channel not open")
        opened = self.opened(self.a)
        key = early_key(KEY, EXPORTER, A, B)
        for sealed, reason in (
            (bytes(32), "early not authentic"),
            (seal(early_key(KEY, EXPORTER, B, A), JOIN), "early not authentic"),
            (seal(key, b"hello"), "early not a join"),
        ):
            self.b.peer_opened(opened, KEYS)
            error = self.assertRaises(DecodeError, self.b.peer_early, Early(0, sealed), KEYS)
            self.assertEqual(str(error), reason)
            self.b.peer_closed(Close(0))
            self.b.forget(TOPIC)
            self.b.peer_opened(opened, {})
            self.assertIsNone(self.b.peer_early(Early(0, sealed), {}))
            self.b.topic_opened(TOPIC, KEY)
            error = self.assertRaises(DecodeError, self.b.take_early, TOPIC, KEY)
            self.assertEqual(str(error), reason)
            self.b.peer_closed(Close(0))

    def test_repr_has_no_secrets(self) -> None:
        """
        Neither the exporter nor a tag is in the repr.
        """
        self.a.peer_opened(self.opened(self.b), {})
        self.a.peer_early(self.early(self.b), {})
        self.assertNotIn("eeee", repr(self.a))
        self.assertNotIn("early=", repr(self.a))
        self.assertNotIn("tag", repr(self.a))
