"""
Tests for C{max_message_size} with whole trackers.
"""

from __future__ import annotations

from dtt.config import GossipSettings
from dtt.errors import ContentTooLarge
from dtt.events import Message
from dtt.tracker.topic import TopicService
from dtt.tracker.tracker import Tracker
from tests.tracker.case import TrackerTestCase


class MessageSizeTests(TrackerTestCase):
    """
    Members with other sizes than the default.
    """

    def pair(self, *sizes: int, transport: str = "streams") -> tuple[list[Tracker], list[TopicService]]:
        """Two members with these sizes, joined."""
        trackers = [
            self.tracker(number, transport=transport, gossip=GossipSettings(max_message_size=size))
            for number, size in enumerate(sizes, 1)
        ]
        topics = [tracker.join("x") for tracker in trackers]
        self.net.advance(5)
        self.assertEqual([len(topic.neighbors()) for topic in topics], [1, 1])
        return trackers, topics

    def exchange(self, size: int, largest: int, transport: str) -> None:
        """Both send a content of the largest size, and can't send a larger one."""
        trackers, topics = self.pair(size, size, transport=transport)
        for number, topic in enumerate(topics):
            content = bytes([number]) * largest
            self.assertRaises(ContentTooLarge, topic.broadcast, content + b"x")
            topic.broadcast(content)
            topic.send(topic.neighbors()[0], content[1:])
            self.net.advance(1)
            heard = [len(message.content) for message in self.of(trackers[1 - number], Message)]
            self.assertEqual(heard[-2:], [largest, largest - 1])

    def test_largest(self) -> None:
        """With 65536, contents have up to 65494 bytes, over streams and over QUIC."""
        self.exchange(65_536, 65_494, "streams")

    def test_largest_over_quic(self) -> None:
        """The same over QUIC."""
        self.exchange(65_536, 65_494, "quic")

    def test_smallest(self) -> None:
        """With 512, members meet, and contents have up to 471 bytes."""
        self.exchange(512, 471, "streams")

    def too_large(self, size: int, name: str) -> None:
        """
        A member with the default size gets a content of this size from one with 65536: it
        closes the connection, and counts it by name.
        """
        (small, _), (_, large) = self.pair(4096, 65_536)
        large.broadcast(b"fits")
        self.net.advance(0.5)
        self.assertEqual([message.content for message in self.of(small, Message)], [b"fits"])
        large.broadcast(bytes(size))
        self.net.advance(0.5)
        self.assertEqual(small.counters()[f"streams_closed_{name}"], 1)
        self.assertEqual(len(self.of(small, Message)), 1)

    def test_message_too_large(self) -> None:
        """A message that is larger than ours by less than 4096 bytes."""
        self.too_large(5000, "message_too_large")

    def test_frame_too_large(self) -> None:
        """A larger one, which is refused before it has arrived."""
        self.too_large(20_000, "frame_too_large")
