"""
The state for signing messages of a topic: our key, the time, and a counter.

Rules (docs/protocol/signed.md section 2): the time is our estimate of most members' time
(docs/protocol/clock.md section 3).  Each of our messages has a higher counter than the one before, even after
a restart; therefore the counter starts with the time in microseconds.
"""

from __future__ import annotations

from collections.abc import Callable

from dtt.events import EventSink
from dtt.identity import PeerKey
from dtt.records.envelope import seal


class Signing:
    """
    Signs messages of one topic with our key.

    @ivar topic_id: 32 bytes.
    @ivar own_id: our peer id, 32 bytes.
    @ivar emit: called with events of the topic.
    """

    def __init__(self, topic_id: bytes, key: PeerKey, now: Callable[[], float], emit: EventSink) -> None:
        """
        @param topic_id: 32 bytes.
        @param key: our key pair.
        @param now: returns the time since 1970, in seconds.
        @param emit: called with events of the topic.
        """
        self.topic_id = topic_id
        self.own_id = key.peer_id
        self.emit = emit
        self._key = key
        self._now = now
        self._counter = 0

    def now(self) -> float:
        """
        Return the time, in seconds since 1970.
        """
        return self._now()

    def seal(self, content: bytes) -> bytes:
        """
        Return a signed envelope with C{content}; no two are equal.
        """
        now = max(self._now(), 0.0)
        self._counter = max(self._counter + 1, int(now * 1e6))
        return seal(self._key, self.topic_id, int(now * 1000), self._counter, content)
