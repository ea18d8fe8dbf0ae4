"""
The messages of a topic as an asynchronous iterator.
"""

from __future__ import annotations

from dtt.feed import Feed
from dtt.interfaces import GossipMessage, IGossip, PeerId


class MessageFeed:
    """
    Observes a topic for a L{Feed}.
    """

    def __init__(self, feed: Feed[GossipMessage]) -> None:
        """
        @param feed: gets the messages.
        """
        self._feed = feed

    @classmethod
    def of(cls, gossip: IGossip) -> Feed[GossipMessage]:
        """
        Return the messages that arrive from now on.

        @raise TopicLeft: the topic was left.
        """
        feed: Feed[GossipMessage] = Feed(lambda: end())
        end = gossip.subscribe(cls(feed))
        return feed

    def neighbor_up(self, peer_id: PeerId) -> None:
        """
        Do nothing.
        """

    def neighbor_down(self, peer_id: PeerId) -> None:
        """
        Do nothing.
        """

    def message_received(self, message: GossipMessage) -> None:
        """
        Pass the message on.
        """
        self._feed.put(message)

    def topic_left(self) -> None:
        """
        End the iteration.
        """
        self._feed.end()
