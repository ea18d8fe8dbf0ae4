"""
Which slots a topic has, and the rules in which kinds of slots differ.

Rules: a slot is a BEP44 mutable item that holds the records of several members
(docs/protocol/records.md sections 1, 4 and 5).  L{SlotScheme} is that of the record slots;
that of the sealed slots is in L{dtt.discovery.sealed_slot}.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from dtt.dht.client.placement import CANDIDATES, default_copies
from dtt.discovery.candidates import FoundRecord, unite
from dtt.discovery.shared import SharedServices
from dtt.discovery.slot_reader import LOOKUP_LIFETIME, ReadableSlot
from dtt.records.record import KeyedSlot, Record, RecordContent
from dtt.records.topic import TopicKeys

#: The number of slots whose state is kept: the two that are read, the two before
#: them, and the next one in case the clock is adjusted (guess).
MAX_SLOTS: Final = 5


class WritableSlot(ReadableSlot, Protocol):
    """
    A mutable item that holds records of many publishers, as a writer sees it.
    """

    @property
    def signing_seed(self) -> bytes:
        """
        The Ed25519 seed of the item's key, 32 bytes.
        """

    def seal(self, record: Record, entropy: bytes) -> bytes:
        """
        Encrypt a record for the readers of the slot.

        @param entropy: L{ENTROPY_BYTES<dtt.records.record.ENTROPY_BYTES>} fresh random bytes.
        """


class SlotScheme:
    """
    The slots of a topic, and the rules that differ between kinds of slots.  This class describes the record
    slots, one for each unix minute, which are numbered by it.

    @ivar channel: the name of the channel that uses the slots.
    @ivar max_slots: the number of slots whose state is kept.
    @ivar max_others: a member with a neighbour does not publish to a slot that holds this
        many records of others; 0: nobody publishes.
    @ivar full: members use another slot in place of one of which this many of the 32 nodes
        hold a value; there is none for a record slot.
    @ivar lifetime: seconds after which the nodes of a slot are looked up again.
    """

    channel = "record_slot"
    max_slots = MAX_SLOTS
    full = CANDIDATES + 1
    lifetime = LOOKUP_LIFETIME

    def __init__(self, shared: SharedServices, keys: TopicKeys) -> None:
        """
        @param shared: the services of the tracker.
        @param keys: the keys of the topic.
        """
        self.max_others = shared.config.bootstrap.max_bootstrap_records
        self.keys = keys

    def slot(self, number: int) -> WritableSlot:
        """
        Return a slot.

        @raise UsageError: the rotation does not return 32 bytes.
        """
        slot = self.keys.slot(number)
        return KeyedSlot(slot, self.keys.encryption_key(slot))

    def minute(self, number: int, now: float) -> int:
        """
        Return the unix minute of a record that we create for a slot now.

        @param now: unix seconds.
        """
        return number

    def accepts(self, record: FoundRecord) -> bool:
        """
        Return whether a valid record is used now.
        """
        return True

    def combine(self, records: Sequence[FoundRecord]) -> list[FoundRecord]:
        """
        Merge the records of each publisher, the last seen first, into one.
        """
        return unite(records)

    def copies(self, number: int, publishers: int) -> int:
        """
        Return on how many nodes a record of each publisher is stored.

        @param number: the slot's number.
        @param publishers: the publishers in the slot, including us.
        """
        return default_copies(publishers)

    def is_news(self, old: RecordContent, new: RecordContent) -> bool:
        """
        Return whether to publish a record with the content C{new} although our record with C{old} exists.
        """
        return new.adds_to(old)

    def outdated(self, old: FoundRecord, new: RecordContent) -> bool:
        """
        Return whether our record in a slot is outdated if we now publish C{new}: it then makes room for the
        new one.
        """
        return False
