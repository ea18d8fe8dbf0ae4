"""
Tests for L{dtt.transport.admission}.
"""

from __future__ import annotations

import hashlib

from twisted.trial.unittest import SynchronousTestCase

from dtt.transport.admission import ExpectedTags, topic_key

ONE, TWO, THREE = (bytes((number,)) * 32 for number in (1, 2, 3))
KEYS = {topic_id: topic_key(topic_id, b"s" * 32) for topic_id in (ONE, TWO)}


class TopicKeyTests(SynchronousTestCase):
    """
    Tests for L{topic_key}.
    """

    def test_definition(self) -> None:
        """
        The key is as docs/protocol/streams.md section 3 says, and belongs to a topic and a secret.
        """
        key = topic_key(ONE, b"s" * 32)
        self.assertEqual(key, hashlib.sha512(b"dtt/1 admission" + ONE + b"s" * 32).digest()[:32])
        self.assertEqual(len({key, topic_key(TWO, b"s" * 32), topic_key(ONE, b"x" * 32)}), 3)


class ExpectedTagsTests(SynchronousTestCase):
    """
    Tests for L{ExpectedTags}.
    """

    def setUp(self) -> None:
        self.computed: list[bytes] = []
        self.expected = ExpectedTags(self.tag_of)

    def tag_of(self, key: bytes) -> bytes:
        """
        Note the computation of a tag.
        """
        self.computed.append(key)
        return hashlib.sha256(key).digest()

    def tag(self, topic_id: bytes) -> bytes:
        """
        The tag of a topic.
        """
        return hashlib.sha256(topic_key(topic_id, b"s" * 32)).digest()

    def test_find(self) -> None:
        """
        A tag proves its topic; any other bytes prove nothing.
        """
        self.assertEqual(self.expected.find(self.tag(TWO), KEYS), TWO)
        self.assertEqual(self.expected.find(self.tag(ONE), KEYS), ONE)
        for wrong in (self.tag(THREE), bytes(32), b"", self.tag(ONE)[:31] + b"x", self.tag(ONE)[:31]):
            self.assertIsNone(self.expected.find(wrong, KEYS))

    def test_computed_once(self) -> None:
        """
        Nothing is computed before a tag arrives, and then each topic's tag once, however many tags arrive.
        """
        self.assertIsNone(self.expected.add(THREE, topic_key(THREE, b"s" * 32)))
        self.expected.remove(THREE)
        self.assertEqual(self.computed, [])
        for number in range(100):
            self.expected.find(number.to_bytes(32, "big"), KEYS)
        self.assertEqual(self.computed, [*KEYS.values()])

    def test_opened_later(self) -> None:
        """
        The tag of a topic that is opened after the first tag is expected, too.
        """
        self.assertIsNone(self.expected.find(self.tag(THREE), KEYS))
        self.assertEqual(self.expected.add(THREE, topic_key(THREE, b"s" * 32)), self.tag(THREE))
        self.assertEqual(self.expected.find(self.tag(THREE), KEYS), THREE)

    def test_without_topics(self) -> None:
        """
        A tag that arrives while no topic is open counts as the first one.
        """
        self.assertIsNone(self.expected.find(self.tag(ONE), {}))
        self.expected.add(ONE, KEYS[ONE])
        self.assertEqual(self.expected.find(self.tag(ONE), {}), ONE)

    def test_closed(self) -> None:
        """
        The tag of a topic that is closed proves nothing until it is opened again; a topic that was not open
        may be closed.
        """
        self.expected.find(bytes(32), KEYS)
        self.expected.remove(ONE)
        self.expected.remove(ONE)
        self.expected.remove(THREE)
        self.assertIsNone(self.expected.find(self.tag(ONE), KEYS))
        self.assertEqual(self.expected.find(self.tag(TWO), KEYS), TWO)
        self.expected.add(ONE, KEYS[ONE])
        self.assertEqual(self.expected.find(self.tag(ONE), KEYS), ONE)
