"""
The discovery channel of the sealed slots: decides which periods are read and when a
record is written.

Rules (docs/protocol/sealed.md section 3).  Without a neighbour: the current period is
read with every search, the previous one too while its records are the only ones of most
members, and else every second time, the next one every fourth time: clocks may be ten
minutes apart.  Our record is written at once.  With a neighbour: the current period is
read, and once after joining the previous one, from few nodes: it is the current one of
members whose clocks are behind, which may have formed a separate swarm.  Our record is
written once in a period, at a random time in its first half.  If the first lane is full,
one further lane is read, the next one each time: only an insider fills so many places that
members need them.  A member that has been alone for some time alternates between this slot
and the record slot.  If every publisher should be found (C{all_publish}), all lanes are read,
a publisher without a record in the previous period writes at once, and the previous period
is read, too, until all have written.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from attrs import evolve, frozen
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import deferLater
from zope.interface import implementer

from dtt.deferreds import abandon, first_of, gather_until
from dtt.dht.client.lookup import SLOT_WIDTH
from dtt.dht.client.placement import INNER
from dtt.discovery.candidates import FoundRecord
from dtt.discovery.interfaces import ContentSource, IDiscoveryChannel, RecordSink, SearchState
from dtt.discovery.sealed_slot import SEALED_LIFETIME, SealedSlots
from dtt.discovery.shared import SharedServices
from dtt.discovery.slot_channel import (
    ALONE_EVERY,
    PREVIOUS_AFTER,
    URGENT_FOR,
    WATCH,
    effort_after,
)
from dtt.discovery.slot_reader import LOOKUP_LIFETIME, PATIENT, URGENT, Effort
from dtt.records.record import RecordContent
from dtt.records.sealed import LANES, PERIOD_MINUTES, period_of
from dtt.records.topic import TopicKeys, unix_minute

_PERIOD: Final = 60.0 * PERIOD_MINUTES

#: Seconds from the beginning of a period in which members with neighbours write
#: (docs/protocol/sealed.md section 3).
SPREAD: Final = 300.0

#: Seconds after that until all have: the interval between two of their attempts (guess).
LATEST: Final = SPREAD + 60.0

#: Seconds by which the first read and an urgent write begin after those of the record slot:
#: usually, or in a network of few nodes, which are all asked for both, that is enough to
#: meet.  Guess: in a large network, most members have joined by then.
STAGGER: Final = 1.0

#: Without a neighbour, seconds between two writes in a period, which replenish the copies: half of the
#: nodes of the DHT may be others after half an hour (guess).
TOP_UP_AFTER: Final = 120.0

#: The effort of members with neighbours.
SOME: Final = evolve(PATIENT, lifetime=SEALED_LIFETIME)

#: The effort with which members with neighbours look for newcomers.
WATCHING: Final = evolve(WATCH, lifetime=SEALED_LIFETIME)

#: The effort of reads that should find every publisher: a record may have its only copy
#: on any of the 32 nodes.  Nobody writes to the previous period, so it is read rarely.
ALL: Final = evolve(PATIENT, width=SLOT_WIDTH, max_age=10.0)
ALL_PREVIOUS: Final = evolve(ALL, max_age=LOOKUP_LIFETIME)

#: The effort of members with neighbours for the previous period: each record has a copy on the inner nodes.
PREVIOUS: Final = evolve(WATCH, width=INNER)

#: Early in a period, this many reads without a neighbour all include the previous period: after them, the
#: records that most members have there have been read (guess).
PREVIOUS_PERIOD_ROUNDS: Final = 8


def periods_to_read(now: float, rounds: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """
    Return the periods that a member without a neighbour reads.

    @param now: unix seconds.
    @param rounds: the number of reads so far in this search.
    @return: those to read at once, and those to read if nobody has been found soon.
    """
    current = period_of(unix_minute(now))
    previous = (current - 1,) if current else ()
    early = now % _PERIOD < LATEST and rounds < PREVIOUS_PERIOD_ROUNDS
    if rounds == 0:
        if early:
            return (*previous, current), (current + 1,)
        return (current,), (*previous, current + 1)
    before = previous if early or rounds % 2 == 0 else ()
    after = (current + 1,) if rounds % 4 == 0 else ()
    return (*before, current, *after), ()


@frozen(slots=True)
class _Written:
    """
    A successful write.

    @ivar period: the period of the slot.
    @ivar at: when it ended, unix seconds.
    @ivar copies: the number of nodes that store our record.
    @ivar content: the content of our record; C{None}: there is none.
    """

    period: int
    at: float
    copies: int
    content: RecordContent | None


@implementer(IDiscoveryChannel)
class SealedChannel:
    """
    Finds members by the records in the sealed slots.

    @ivar name: C{"sealed_slot"}.
    @ivar on_record: see L{IDiscoveryChannel<dtt.discovery.interfaces.IDiscoveryChannel>}.
    @ivar slots: reads and writes the slots.
    @ivar share: when we write in a period if we have neighbours, 0..1 of L{SPREAD}.
    @ivar when_others_idle: an attribute to set: returns a Deferred that fires once the reads of record slots
        have ended.
    """

    name = "sealed_slot"

    def __init__(
        self, shared: SharedServices, keys: TopicKeys, clock: Callable[[], float] | None = None
    ) -> None:
        """
        @param shared: the services of the tracker.
        @param keys: the keys of the topic.
        @param clock: returns the unix time in seconds, as estimated; C{None}: that
            of the reactor.
        """
        self.on_record: RecordSink = lambda _: None
        self.when_others_idle: Callable[[], Deferred[None]] = Deferred
        self._reactor = shared.reactor
        self._clock = clock or shared.reactor.seconds
        self._dht = shared.dht
        self.slots = SealedSlots(shared, keys, self._clock)
        self.slots.records.on_record = lambda record: self.on_record(record)
        self.share = shared.rng.random()
        self._all_publish = shared.all_publish
        # The further lane that was read last.
        self._further = 0
        # Whether the search has not read a slot yet.
        self._is_first = False
        # Whether we have been alone, and have not read the previous period since.
        self._has_searched = False
        # The last successful write.
        self._written = _Written(-1, 0.0, 0, None)

    def publishers(self) -> set[bytes]:
        """
        Return the peer ids of the other members whose records were seen in this period
        and the previous one.
        """
        period = self._period()
        return self.slots.publishers(period) | self.slots.publishers(period - 1)

    def when_ready(self) -> Deferred[None]:
        """
        Wait until the DHT can be queried.

        @return: fires then; can be cancelled.
        """
        return self._dht.when_usable()

    def find(self, source: str, search: SearchState | None = None) -> Deferred[list[FoundRecord]]:
        """
        Read the slots of periods around now.

        @param source: the service that searches.
        @param search: the state of the search; C{None}: we have neighbours.
        @return: fires with the records of other members.  Can be cancelled.
        """
        if search is None:
            if self._all_publish:
                return Deferred.fromCoroutine(self._read_all(source))
            return self._read(source, SOME)
        self._has_searched = True
        return Deferred.fromCoroutine(self._search(source, search))

    def watch(self, source: str) -> Deferred[list[FoundRecord]]:
        """
        Read the slot of the current period from the nearest nodes.

        @param source: the service that watches.
        @return: fires with the records of other members.  Can be cancelled.
        """
        return self._read(source, WATCHING)

    def _read(self, source: str, effort: Effort) -> Deferred[list[FoundRecord]]:
        """
        Read the slots of the current period, and once after a search those of the previous
        one.
        """
        self._further = self._further % (LANES - 1) + 1
        period = self._period()
        reading = Deferred.fromCoroutine(self.slots.fetch((period,), source, effort, (0, self._further)))
        if not self._has_searched or not period:
            return reading
        self._has_searched = False
        others = self.slots.fetch((period - 1,), source, PREVIOUS, (0,))
        both = gather_until([reading, Deferred.fromCoroutine(others)])
        return both.addCallback(lambda found: [record for records in found for record in records])

    async def _read_all(self, source: str) -> list[FoundRecord]:
        """
        Read all slots with records of publishers, from all nodes.
        """
        period = self._period()
        found = await self.slots.fetch((period,), source, ALL)
        if period and self._clock() % _PERIOD < LATEST:
            found += await self.slots.fetch((period - 1,), source, ALL_PREVIOUS)
        return found

    def publish(self, content: ContentSource, source: str, urgent: bool = False) -> Deferred[int]:
        """
        Put our record into a slot of the current period, if it is time to.

        @param content: returns the content of the record.
        @param source: the service that publishes.
        @param urgent: whether we have no neighbour, and so write at once.
        @return: fires with the number of nodes that are known to store one of our records.  Can be cancelled.
        """
        now, written = self._clock(), self._written
        period = self._period()
        is_news = written.content is None or content().must_replace(written.content)
        if written.period == period and not is_news:
            if not urgent or now - written.at < TOP_UP_AFTER:
                return succeed(written.copies)
        elif not urgent and written.period != period and now % _PERIOD < self.share * SPREAD:
            still_read = written.period == period - 1 and not is_news
            if still_read or not self._all_publish:
                return succeed(0)
        return Deferred.fromCoroutine(self._publish(period, content, source, urgent))

    async def _publish(self, period: int, content: ContentSource, source: str, urgent: bool) -> int:
        if urgent:
            await deferLater(self._reactor, STAGGER)
        made: list[RecordContent] = []

        def used() -> RecordContent:
            made.append(content())
            return made[-1]

        copies = await self.slots.publish(period, used, source, urgent)
        if copies:
            self._written = _Written(period, self._clock(), copies, made[-1] if made else None)
        return copies

    async def _search(self, source: str, search: SearchState) -> list[FoundRecord]:
        if not search.rounds:
            self._is_first = True
        if search.alone_for < STAGGER and self._is_first and not await self._is_time(search):
            return []
        is_first, self._is_first = self._is_first, False
        rounds = 0 if is_first else search.rounds
        if rounds and search.alone_for >= URGENT_FOR:
            if rounds % ALONE_EVERY == 0:
                return []
            rounds //= ALONE_EVERY
        at_once, later = periods_to_read(self._clock(), rounds)
        # A further lane with every second read: it is needed only if nobody in the first is reached.
        lanes = range(min(1 + search.rounds // 2, LANES))
        if not is_first:
            effort = evolve(effort_after(search.alone_for), lifetime=SEALED_LIFETIME)
            return await self.slots.fetch(at_once, source, effort, lanes)
        reading = Deferred.fromCoroutine(self.slots.fetch(at_once, source, URGENT, lanes))
        pause: Deferred[None] = deferLater(self._reactor, PREVIOUS_AFTER)
        try:
            await first_of(reading, pause)
            if not search.is_joining():
                return [*await self.slots.fetch(later, source, URGENT, lanes), *await reading]
            return await reading
        finally:
            abandon(reading, pause)

    async def _is_time(self, search: SearchState) -> bool:
        """
        Wait until the first read is due, or until those of the record slots have ended: they are repeated
        first.
        """
        pause: Deferred[None] = deferLater(self._reactor, STAGGER - search.alone_for)
        idle = self.when_others_idle()
        try:
            return await first_of(pause, idle) == 0 and not search.is_joining()
        finally:
            abandon(pause, idle)

    def _period(self) -> int:
        return period_of(unix_minute(self._clock()))
