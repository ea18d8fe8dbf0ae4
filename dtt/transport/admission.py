"""
Proofs that a peer knows a topic and its secret: keys, tags, and which tags to expect.
Pure.

Rules (docs/protocol/streams.md section 3, docs/protocol/gossip.md section 16): a I{tag}
is an HMAC under the topic's key.  It covers values of one connection and the ids of
sender and receiver, so it is worthless elsewhere.  The receiver computes the tag that
it expects for each of its topics, at most once per connection.

Both transports use the same limits.  A peer that has not proved any topic may have few
tags that match nothing, because it may be a stranger; one that has proved a topic may
have many.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

#: Tags per connection and direction that match none of our topics, while none has matched (guess:
#: more than a member needs whose topics we have just left).
MAX_UNMATCHED = 16

#: Tags per connection and direction once one has matched (guess: more topics than two members
#: share).
MAX_TOPICS = 1024


def topic_key(topic_id: bytes, secret_hash: bytes) -> bytes:
    """
    Return the key of a topic's admission tags (32 bytes).

    @param topic_id: 32 bytes.
    @param secret_hash: the initial secret hash (32 bytes).
    """
    return hashlib.sha512(b"dtt/1 admission" + topic_id + secret_hash).digest()[:32]


class ExpectedTags:
    """
    The tags that one peer would send for our topics on one connection.

    They are computed when the first tag arrives, because a peer may never send one, and
    then once for each topic: a flood of tags must not cost a computation per tag and
    topic.  The search is a dictionary's: its time depends on a hash of the whole tag,
    not on how many of its first bytes are right.
    """

    __slots__ = ("_tag_of", "_tags", "_topics")

    def __init__(self, tag_of: Callable[[bytes], bytes]) -> None:
        """
        @param tag_of: returns the tag (32 bytes) for a L{topic_key}.
        """
        self._tag_of = tag_of
        self._topics: dict[bytes, bytes] | None = None
        self._tags: dict[bytes, bytes] = {}

    def find(self, tag: bytes, topics: Mapping[bytes, bytes]) -> bytes | None:
        """
        Return the topic that C{tag} proves, or C{None}.

        @param tag: 32 bytes.
        @param topics: the L{topic_key} of each of our topics.
        """
        if self._topics is None:
            self._topics = {}
            for topic_id, key in topics.items():
                self.add(topic_id, key)
        return self._topics.get(tag)

    def add(self, topic_id: bytes, key: bytes) -> bytes | None:
        """
        Note that we have opened a topic.

        @return: the tag to expect (32 bytes); C{None} if no tag has arrived so far.
        """
        if self._topics is None:
            return None
        tag = self._tags[topic_id] = self._tag_of(key)
        self._topics[tag] = topic_id
        return tag

    def remove(self, topic_id: bytes) -> None:
        """
        Note that we have closed a topic.
        """
        tag = self._tags.pop(topic_id, None)
        if tag is not None and self._topics is not None:
            del self._topics[tag]
