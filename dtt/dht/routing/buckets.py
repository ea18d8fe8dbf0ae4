"""
The k-buckets of a routing table (BEP5). Pure.

Rules: a bucket holds k nodes. A node is stored in compact form only, and the compact
node info of a full bucket is kept ready to be sent.
"""

from __future__ import annotations

from typing import Final

from attrs import define

from dtt.dht.routing.ids import ID_SIZE
from dtt.interfaces import Contact
from dtt.krpc.compact import decode_address

#: The most nodes in a bucket (BEP5, k).
K: Final = 8

#: Consecutive unanswered queries that make a node bad (BEP5 says "multiple").
MAX_FAILURES: Final = 2


@define(slots=True, eq=False, weakref_slot=False)
class Entry:
    """
    A node in a bucket. Its L{Contact<dtt.interfaces.Contact>} is created on demand: a
    table has hundreds of nodes, and this halves their memory.

    @ivar compact: id and address (BEP5, BEP32), 26 or 38 bytes.
    @ivar seen: when we last heard from it, seconds.
    @ivar secure: whether its id is valid for its address (BEP42).
    @ivar failures: the number of consecutive queries that it did not answer.
    """

    compact: bytes
    seen: float
    secure: bool
    failures: int = 0

    @property
    def number(self) -> int:
        """
        Its id as a number.
        """
        return int.from_bytes(self.compact[:ID_SIZE])

    @property
    def address(self) -> bytes:
        """
        Its compact address, 6 or 18 bytes.
        """
        return self.compact[ID_SIZE:]

    @property
    def contact(self) -> Contact:
        """
        Its contact.
        """
        return contact_of(self.compact)

    @property
    def bad(self) -> bool:
        """
        Whether it has failed too often.
        """
        return self.failures >= MAX_FAILURES


def contact_of(compact: bytes) -> Contact:
    """
    Decode a node in compact form.
    """
    return Contact(compact[:ID_SIZE], *decode_address(compact[ID_SIZE:]))


class Bucket:
    """
    One k-bucket.

    @ivar entries: at most L{K} entries.
    @ivar waiting: the replacement cache: nodes that responded while the bucket was
        full, as (compact form, time), latest last.
    @ivar changed: when we last heard from a node in it.
    @ivar compact: the compact form of all entries if there are L{K} and none is bad;
        otherwise C{None}.
    @ivar secure: whether the ids of all entries are valid (BEP42).
    """

    __slots__ = ("changed", "compact", "entries", "secure", "waiting")

    def __init__(self, changed: float) -> None:
        """
        @param changed: the current time, seconds.
        """
        self.entries: list[Entry] = []
        self.waiting: list[tuple[bytes, float]] = []
        self.changed = changed
        self.compact: bytes | None = None
        self.secure = True

    def update(self) -> None:
        """
        Recompute C{compact} and C{secure}.
        """
        self.secure = all(entry.secure for entry in self.entries)
        alive = [entry.compact for entry in self.alive()]
        self.compact = b"".join(alive) if len(alive) >= K else None

    def find(self, node_id: bytes) -> Entry | None:
        """
        Return the entry with an id, or C{None}.
        """
        if self.compact is not None:
            # The common case: as fast as a dictionary, without its memory.
            at = self.compact.find(node_id)
            if at < 0:
                return None
            place, rest = divmod(at, len(self.compact) // K)
            if not rest:
                return self.entries[place]
        return next((entry for entry in self.entries if entry.compact.startswith(node_id)), None)

    def alive(self) -> list[Entry]:
        """
        Return the entries that are not bad.
        """
        return [entry for entry in self.entries if entry.failures < MAX_FAILURES]
