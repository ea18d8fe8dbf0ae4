"""
The buckets of a routing table (BEP5).  Pure.

Rules: a bucket holds k nodes; of what is known of one, its compact form is all
that is kept; a full bucket's compact node info is ready to be sent.
"""

from __future__ import annotations

from typing import Final

from attrs import define

from dtt.dht.routing.ids import ID_SIZE
from dtt.interfaces import Contact
from dtt.krpc.compact import decode_address

#: Nodes in a bucket (BEP5, k).
K: Final = 8

#: Unanswered queries in a row that make a node bad (BEP5 says "multiple").
MAX_FAILURES: Final = 2


@define(slots=True, eq=False, weakref_slot=False)
class Entry:
    """
    A node.  Its L{Contact} is made when it is asked for: a table has hundreds,
    and this takes half the memory.

    @ivar compact: id and address (BEP5, BEP32).
    @ivar seen: when it last gave a sign of life.
    @ivar secure: whether its id is valid for its address (BEP42).
    @ivar failures: queries in a row that it did not answer.
    """

    compact: bytes
    seen: float
    secure: bool
    failures: int = 0

    @property
    def number(self) -> int:
        """
        Its id, as a number.
        """
        return int.from_bytes(self.compact[:ID_SIZE])

    @property
    def address(self) -> bytes:
        """
        6 or 18 bytes.
        """
        return self.compact[ID_SIZE:]

    @property
    def contact(self) -> Contact:
        """
        For others.
        """
        return contact_of(self.compact)

    @property
    def bad(self) -> bool:
        """
        It failed too often.
        """
        return self.failures >= MAX_FAILURES


def contact_of(compact: bytes) -> Contact:
    """
    A node in compact form.
    """
    return Contact(compact[:ID_SIZE], *decode_address(compact[ID_SIZE:]))


class Bucket:
    """
    @ivar entries: at most L{K}.
    @ivar waiting: nodes that answered while the bucket was full, in compact form, and when; the latest last.
    @ivar changed: when a node in it last gave a sign of life.
    @ivar compact: the compact form of all entries while there are L{K} and none is bad.
    @ivar secure: whether the ids of all entries are valid (BEP42).
    """

    __slots__ = ("changed", "compact", "entries", "secure", "waiting")

    def __init__(self, changed: float) -> None:
        self.entries: list[Entry] = []
        self.waiting: list[tuple[bytes, float]] = []
        self.changed = changed
        self.compact: bytes | None = None
        self.secure = True

    def update(self) -> None:
        """
        Make C{compact} and C{secure} true again.
        """
        self.secure = all(entry.secure for entry in self.entries)
        alive = [entry.compact for entry in self.alive()]
        self.compact = b"".join(alive) if len(alive) >= K else None

    def find(self, node_id: bytes) -> Entry | None:
        """
        The entry with an id.
        """
        if self.compact is not None:
            # The usual case: as fast as a dictionary, and without one.
            at = self.compact.find(node_id)
            if at < 0:
                return None
            place, rest = divmod(at, len(self.compact) // K)
            if not rest:
                return self.entries[place]
        return next((entry for entry in self.entries if entry.compact.startswith(node_id)), None)

    def alive(self) -> list[Entry]:
        """
        The entries that are not bad.
        """
        return [entry for entry in self.entries if entry.failures < MAX_FAILURES]
