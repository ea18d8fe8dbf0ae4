"""
Tests for L{dtt.gossip.feed}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dtt.errors import TopicLeft
from dtt.gossip.feed import MessageFeed
from dtt.interfaces import GossipMessage
from dtt.testing.fake_gossip import FakeGossip

PEER = b"\x22" * 32


class MessageFeedTests(SynchronousTestCase):
    """
    Tests for L{MessageFeed}.
    """

    def setUp(self) -> None:
        """Observe a topic."""
        self.gossip = FakeGossip()
        self.feed = MessageFeed.of(self.gossip)

    def next(self) -> bytes:
        """Return the next content."""
        message: GossipMessage = self.successResultOf(self.feed.next())
        return message.content

    def test_messages(self) -> None:
        """The messages come in order, with their senders; neighbours are no messages."""
        self.gossip.up(PEER)
        self.gossip.receive(b"one", PEER)
        self.gossip.receive(b"two", PEER)
        self.gossip.down(PEER)
        message: GossipMessage = self.successResultOf(self.feed.next())
        self.assertEqual((message.content, message.delivered_from), (b"one", PEER))
        self.assertEqual(self.next(), b"two")
        self.assertNoResult(self.feed.next())

    def test_from_now_on(self) -> None:
        """What arrived before is not part of it."""
        self.gossip.up(PEER)
        self.gossip.receive(b"before", PEER)
        later = MessageFeed.of(self.gossip)
        self.gossip.receive(b"after", PEER)
        message: GossipMessage = self.successResultOf(later.next())
        self.assertEqual(message.content, b"after")

    def test_left(self) -> None:
        """The end of the topic ends it, after what has arrived; then there is none."""
        self.gossip.up(PEER)
        self.gossip.receive(b"one", PEER)
        self.gossip.leave()
        self.assertEqual(self.next(), b"one")
        self.failureResultOf(self.feed.next(), StopAsyncIteration)
        self.assertRaises(TopicLeft, MessageFeed.of, self.gossip)

    def test_closed(self) -> None:
        """A feed that is closed observes nothing any longer."""
        self.gossip.up(PEER)
        self.successResultOf(self.feed.aclose())
        self.gossip.receive(b"one", PEER)
        self.failureResultOf(self.feed.next(), StopAsyncIteration)
