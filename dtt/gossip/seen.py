"""
The messages of a topic that a member has seen: which it lists in its record, and
whether another member's record shows that its publisher is in another part of the
swarm.  Pure.

Rules (docs/protocol/records.md section 6, "Message overlap merge"): a record up to two
minutes old is compared with everything that was seen in the last four minutes, not with
the last five messages only; and only if we can know all that it may list.  What we sent
counts as seen: a member does not receive its own messages, but others list them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from dtt.records.topic import truncated_sha512

#: Messages received that a record lists (docs/protocol/records.md section 2).
MAX_LISTED: Final = 5

#: Seconds for which a received message is listed.  Guess: a newcomer can't know older
#: ones, and in a busy topic five messages are younger anyway.
LISTED_FOR: Final = 120.0

#: Seconds for which a message that we have seen proves that who lists it is in our part
#: of the swarm: a record is at most two minutes old, and lists messages of the two
#: minutes before.
OVERLAP_FOR: Final = 240.0

#: The number of hashes that are remembered; the oldest are dropped first.  About 800 kB.
MAX_SEEN: Final = 4096

#: Seconds by which the clocks of members may differ (docs/protocol/records.md section 7).
CLOCK_SKEW: Final = 60.0


class SeenMessages:
    """
    The hashes of the messages that a member has received or sent.
    """

    __slots__ = ("_complete_since", "_listed", "_seen")

    def __init__(self) -> None:
        self._seen: OrderedDict[bytes, float] = OrderedDict()
        self._listed: OrderedDict[bytes, float] = OrderedDict()
        self._complete_since: float | None = None

    def joined(self) -> None:
        """
        Record that there was no neighbour before now: messages may have been missed.
        """
        self._complete_since = None

    def add_sent(self, content: bytes, now: float) -> None:
        """
        Record a content that we have sent to the swarm.

        @param now: unix seconds.
        """
        self._add(truncated_sha512(content), now)

    def add_received(self, content: bytes, now: float) -> None:
        """
        Record a content of the swarm that we have received.

        @param now: unix seconds.
        """
        digest = truncated_sha512(content)
        self._add(digest, now)
        listed = self._listed
        listed.pop(digest, None)
        listed[digest] = now
        if len(listed) > MAX_LISTED:
            listed.popitem(last=False)

    def listed(self, now: float) -> tuple[bytes, ...]:
        """
        Return the hashes for our record: SHA-512, truncated to 32 bytes, of the last
        L{MAX_LISTED} distinct contents I{received} in the last L{LISTED_FOR} seconds,
        the oldest first.  A content for neighbours only is not among them: most others
        can't know it.
        """
        return tuple(digest for digest, at in self._listed.items() if now - at < LISTED_FOR)

    def complete_since(self) -> float | None:
        """
        Return the unix seconds since which all messages of our part of the swarm are
        known: the first one after we joined, or the last one that was dropped.  C{None}
        if there has been none.
        """
        return self._complete_since

    def are_foreign(self, hashes: Sequence[bytes], minute: int, now: float) -> bool:
        """
        Return whether the record of a minute shows that its publisher receives other
        messages than we do: it lists one that we have never seen, none that we have seen recently, and was
        published when we knew all messages.

        @param hashes: the hashes in the record, 32 bytes each.
        @param minute: the unix minute of its slot.
        @param now: unix seconds.
        """
        since = self._complete_since
        if since is None or since + CLOCK_SKEW > minute * 60:
            return False
        seen = [self._seen.get(digest) for digest in hashes]
        return None in seen and all(at is None or now - at >= OVERLAP_FOR for at in seen)

    def _add(self, digest: bytes, now: float) -> None:
        if self._complete_since is None:
            self._complete_since = now
        seen = self._seen
        seen.pop(digest, None)
        seen[digest] = now
        if len(seen) > MAX_SEEN:
            _, dropped = seen.popitem(last=False)
            self._complete_since = max(self._complete_since, dropped)
