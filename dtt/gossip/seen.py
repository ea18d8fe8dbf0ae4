"""
The messages of a topic that a member has seen: which it lists in its record, and
whether another member's record shows that its publisher is in another part of the
swarm.  Pure.

Rules (docs/protocol/records.md section 6, "Message overlap merge"): a record up to two
minutes old is compared with everything that was seen in the last four minutes, not with
the last five messages only; and only if we can know all that it may list.  What we sent
counts as seen: a member does not receive its own messages, but others list them.

Hashes are computed when somebody asks for them, not for each message: a burst leaves
most of them out.
"""

from __future__ import annotations

from collections import OrderedDict, deque
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

#: Contents that are kept without their hashes, and their total bytes.  Hashing them all takes less
#: than 10 ms.
MAX_UNHASHED: Final = MAX_SEEN // 4
MAX_UNHASHED_BYTES: Final = 4 * 2**20

#: Seconds by which the clocks of members may differ (docs/protocol/records.md section 7).
CLOCK_SKEW: Final = 60.0


class SeenMessages:
    """
    The hashes of the messages that a member has received or sent.
    """

    __slots__ = ("_complete_since", "_listed", "_seen", "_unhashed", "_unhashed_bytes")

    def __init__(self) -> None:
        self._seen: OrderedDict[bytes, float] = OrderedDict()
        # Contents, not hashes: the last ones received, and all that are not in C{_seen} yet.
        self._listed: OrderedDict[bytes, float] = OrderedDict()
        self._unhashed: deque[tuple[bytes, float]] = deque()
        self._unhashed_bytes = 0
        self._complete_since: float | None = None

    def joined(self) -> None:
        """
        Record that there was no neighbour before now: messages may have been missed.
        """
        self._hash()
        self._complete_since = None

    def add_sent(self, content: bytes, now: float) -> None:
        """
        Record a content that we have sent to the swarm.

        @param now: unix seconds.
        """
        if self._complete_since is None:
            self._complete_since = now
        self._unhashed.append((content, now))
        self._unhashed_bytes += len(content)
        if len(self._unhashed) > MAX_UNHASHED or self._unhashed_bytes > MAX_UNHASHED_BYTES:
            self._shrink(now)

    def add_received(self, content: bytes, now: float) -> None:
        """
        Record a content of the swarm that we have received.

        @param now: unix seconds.
        """
        self.add_sent(content, now)
        listed = self._listed
        listed.pop(content, None)
        listed[content] = now
        if len(listed) > MAX_LISTED:
            listed.popitem(last=False)

    def listed(self, now: float) -> tuple[bytes, ...]:
        """
        Return the hashes for our record: SHA-512, truncated to 32 bytes, of the last
        L{MAX_LISTED} distinct contents I{received} in the last L{LISTED_FOR} seconds,
        the oldest first.  A content for neighbours only is not among them: most others
        can't know it.
        """
        return tuple(
            truncated_sha512(content) for content, at in self._listed.items() if now - at < LISTED_FOR
        )

    def complete_since(self) -> float | None:
        """
        Return the unix seconds since which all messages of our part of the swarm are
        known: the first one after we joined, or the last one that was dropped.  C{None}
        if there has been none.
        """
        self._hash()
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
        since = self.complete_since()
        if since is None or since + CLOCK_SKEW > minute * 60:
            return False
        seen = [self._seen.get(digest) for digest in hashes]
        return None in seen and all(at is None or now - at >= OVERLAP_FOR for at in seen)

    def _shrink(self, now: float) -> None:
        """
        Hash the contents that wait, or drop the older half of them if L{MAX_SEEN} at this
        rate last for less than L{CLOCK_SKEW}: then no record can be judged anyway.
        """
        unhashed = self._unhashed
        fast = (now - unhashed[0][1]) * MAX_SEEN < CLOCK_SKEW * MAX_UNHASHED
        if len(unhashed) <= MAX_UNHASHED or not fast:
            self._hash()
            return
        self._seen.clear()
        while len(unhashed) > MAX_UNHASHED // 2:
            content, dropped = unhashed.popleft()
            self._unhashed_bytes -= len(content)
            self._dropped(dropped)

    def _hash(self) -> None:
        seen = self._seen
        for content, at in self._unhashed:
            digest = truncated_sha512(content)
            seen.pop(digest, None)
            seen[digest] = at
            if len(seen) > MAX_SEEN:
                self._dropped(seen.popitem(last=False)[1])
        self._unhashed.clear()
        self._unhashed_bytes = 0

    def _dropped(self, at: float) -> None:
        assert self._complete_since is not None
        self._complete_since = max(self._complete_since, at)
