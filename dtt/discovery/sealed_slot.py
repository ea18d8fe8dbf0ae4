"""
The sealed slots of a topic: slots that only members can find, in periods and lanes.

Rules (docs/protocol/sealed.md sections 2 and 3): a period has up to 8 lanes, each a slot
of 32 nodes.  A lane is used once 24 nodes of the one before are taken.  A record has the
minute in which it was made; one that is more than 20 minutes off is refused.  Of the
records of one publisher the newest counts.  Everything else is as in the record slots:
one item for all members, written once (L{dtt.discovery.record_slot}).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from attrs import evolve
from twisted.internet.defer import Deferred

from dtt.deferreds import gather_until
from dtt.dht.client.placement import CANDIDATES
from dtt.discovery.candidates import FoundRecord, unite
from dtt.discovery.interfaces import ContentSource
from dtt.discovery.record_slot import RecordClient
from dtt.discovery.shared import SharedServices
from dtt.discovery.slot_reader import LOOKUP_LIFETIME, PATIENT, Effort
from dtt.discovery.slot_scheme import SlotScheme, WritableSlot
from dtt.records.record import RecordContent
from dtt.records.sealed import LANES, sealed_slot
from dtt.records.topic import TopicKeys, unix_minute

#: The most minutes by which the minute of a record may differ from ours (docs/protocol/sealed.md section 2).
TOLERANCE: Final = 20

#: A lane is full when this many of its 32 nodes hold a value (docs/protocol/sealed.md section 3).
FULL: Final = 24

#: A member with a neighbour does not publish if this many others have (the same source).
MAX_OTHERS: Final = 24

#: Seconds after which the lookup of a slot is repeated, except by reads that should find every publisher:
#: half of the nodes of the DHT may have been replaced after half an hour (guess).
SEALED_LIFETIME: Final = 600.0

#: The most lanes that are tried to publish one time.  If an insider has filled them, each costs a lookup;
#: the next time begins where this one ended (guess).  If every publisher should be found, all are tried.
LANES_AT_ONCE: Final = 2


def number_of(period: int, lane: int) -> int:
    """
    Return the number of a sealed slot.
    """
    return period * LANES + lane


class SealedScheme(SlotScheme):
    """
    The sealed slots, numbered by period and lane; see L{number_of}.
    """

    channel = "sealed_slot"
    full = FULL
    lifetime = SEALED_LIFETIME
    #: All lanes of the previous, the current and the next period.
    max_slots = 3 * LANES

    def __init__(self, shared: SharedServices, keys: TopicKeys, clock: Callable[[], float]) -> None:
        """
        @param shared: the services of the tracker.
        @param keys: the keys of the topic.
        @param clock: returns the unix time in seconds, as far as we know it.
        """
        super().__init__(shared, keys)
        if self.max_others:
            self.max_others = LANES * CANDIDATES if shared.all_publish else MAX_OTHERS
        self._clock = clock

    def slot(self, number: int) -> WritableSlot:
        """
        Return a slot.

        @raise UsageError: the rotation does not return 32 bytes.
        """
        return sealed_slot(self.keys, *divmod(number, LANES))

    def minute(self, number: int, now: float) -> int:
        """
        Return the current minute: a record has that in which it was made.
        """
        return unix_minute(self._clock())

    def accepts(self, record: FoundRecord) -> bool:
        """
        Return whether the minute of a record is about ours.
        """
        return abs(record.minute - unix_minute(self._clock())) <= TOLERANCE

    def combine(self, records: Sequence[FoundRecord]) -> list[FoundRecord]:
        """
        Return the newest record of each publisher; those of the same minute are united.
        """
        newest: dict[bytes, int] = {}
        for record in records:
            newest[record.publisher] = max(record.minute, newest.get(record.publisher, 0))
        return unite([record for record in records if record.minute == newest[record.publisher]])

    def copies(self, number: int, publishers: int) -> int:
        """
        Return on how many nodes a record of each publisher is stored: only one in lanes
        behind the first, which are used because there are many publishers.
        """
        return 1 if number % LANES else super().copies(number, publishers)

    def is_news(self, old: RecordContent, new: RecordContent) -> bool:
        """
        Return whether our addresses have changed: a record is valid for 10 minutes or
        more, in which neighbours and messages change again and again.
        """
        return new.must_replace(old)

    def outdated(self, old: FoundRecord, new: RecordContent) -> bool:
        """
        Return whether our earlier record, possibly from before a restart, lacks addresses, or has another
        application content.
        """
        if old.content is not None:
            return old.content != new.encode()
        return not set(new.addresses) <= set(old.addresses)


class SealedSlots:
    """
    Reads and writes the lanes of periods.
    """

    def __init__(
        self,
        shared: SharedServices,
        keys: TopicKeys,
        clock: Callable[[], float],
    ) -> None:
        """
        @param shared: the services of the tracker.
        @param keys: the keys of the topic.
        @param clock: returns the unix time in seconds, as far as we know it.
        """
        self._lanes_at_once = LANES if shared.all_publish else LANES_AT_ONCE
        self.records = RecordClient(shared, keys, scheme=SealedScheme(shared, keys, clock))

    async def fetch(
        self,
        periods: Sequence[int],
        source: str,
        effort: Effort = PATIENT,
        lanes: Sequence[int] = range(LANES),
    ) -> list[FoundRecord]:
        """
        Read lanes of C{periods} concurrently, and return the records of other members.

        @param source: the service that requests the read.
        @param effort: how thorough the reads are.
        @param lanes: the lanes to read in each period, in this order, until one is not full.
        """
        fetches = [Deferred.fromCoroutine(self._fetch(each, source, effort, lanes)) for each in periods]
        return self.records.scheme.combine(
            [record for records in await gather_until(fetches) for record in records]
        )

    async def publish(self, period: int, content: ContentSource, source: str, urgent: bool) -> int:
        """
        Put our record into the first lane of C{period} that is not full, or that holds it,
        or into the next one if the lane turns out to be full.

        @param content: returns the content of the record.
        @param source: the service that publishes.
        @param urgent: whether we have no neighbour.
        @return: the number of nodes known to store one of our records; 0 if there is none.
        """
        tried = 0
        for lane in range(LANES):
            number = number_of(period, lane)
            if not urgent and len(self.publishers(period)) >= self.records.scheme.max_others:
                return 0
            if self.records.is_full(number) and not self.records.has_own(number):
                continue
            copies = await self.records.publish(number, content, source, urgent)
            tried += 1
            if copies or not self.records.is_full(number) or tried == self._lanes_at_once:
                return copies
        return 0

    def publishers(self, period: int) -> set[bytes]:
        """
        Return the peer ids of the other members whose records were seen in a period.
        """
        return self.records.publishers(number_of(period, lane) for lane in range(LANES))

    async def _fetch(
        self, period: int, source: str, effort: Effort, lanes: Sequence[int]
    ) -> list[FoundRecord]:
        found: list[FoundRecord] = []
        for lane in lanes:
            number = number_of(period, lane)
            if lane:
                effort = evolve(effort, lifetime=LOOKUP_LIFETIME)
            found += await self.records.fetch((number,), source, effort)
            if not self.records.is_full(number):
                break
        return found
