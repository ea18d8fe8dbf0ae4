"""
The discovery channel of the records in slots: decides which slots are read, and
how thoroughly.

Rules (docs/protocol/records.md section 6, "Fetcher" and "dtt's pace";
docs/protocol/latency.md section 3): with neighbours, the slots of the previous
and the current minute are read patiently.  Without one, lookups are urgent at
first, and the previous minute is read less often.  If our clock differs from those of
most members, slots are read for their time, too, and our record is written for it
(docs/protocol/clock.md).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Final, TypeVar

from attrs import evolve
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import deferLater
from zope.interface import implementer

from dtt.deferreds import Waiters, abandon, first_of
from dtt.dht.client.lookup import ALPHA
from dtt.dht.client.placement import INNER
from dtt.discovery.candidates import FoundRecord, recent_minutes
from dtt.discovery.interfaces import ContentSource, IDiscoveryChannel, RecordSink, SearchState
from dtt.discovery.record_slot import RecordClient
from dtt.discovery.shared import SharedServices
from dtt.discovery.slot_reader import LOOKUP_LIFETIME, PATIENT, PATIENT_WIDTH, URGENT, Effort
from dtt.records.topic import truncated_sha512, unix_minute

T = TypeVar("T")

#: For this many seconds after a minute begins, every search also reads the previous
#: minute.
TURN_OF_MINUTE = 5.0

#: Later in a minute, the first read of the previous minute begins when that of the
#: current one has ended, or this many seconds after its start, unless a member has
#: been found: a read costs a hundred datagrams, and most members have a record in
#: both minutes.  Guess: four round trips.
PREVIOUS_AFTER = 0.7

#: After this many seconds without a neighbour, the next read does a new lookup
#: instead of querying the same nodes again, because nearer nodes may have become
#: known (docs/protocol/latency.md section 3, item 7; the later ones: guesses).
LOOKUP_AGAIN_AFTER = (2.0, 8.0)

#: Every second one of this many first reads of a search includes the previous minute; later reads include it
#: only at the turn of the minute, when its last records have arrived (guess: about a minute alone).
PREVIOUS_MINUTE_ROUNDS = 16

#: The effort of a member that watches for newcomers every few seconds: that of all
#: members with neighbours, but what another service has read is soon too old (guess).
WATCH = evolve(PATIENT, max_age=2.0)

#: While other members are found elsewhere, the slots are read with every C{WATCH_EVERY}th
#: look for newcomers, and by a lone member with every C{ALONE_EVERY}th search: for Rust
#: members, which use nothing else (docs/protocol/sealed.md section 3).  Mergers always
#: read them: only there records are new.
WATCH_EVERY: Final = 2
ALONE_EVERY: Final = 2

#: Then about this many members with neighbours publish in a minute: one more than a Rust
#: member needs to see before it stops writing itself (docs/protocol/records.md section 5).
WRITERS: Final = 6

#: Seconds without a neighbour after which lookups are patient (guess).
URGENT_FOR = 10.0


def is_writer(own_id: bytes, others: Collection[bytes], minute: int) -> bool:
    """
    Return whether a member with neighbours publishes in a minute: if there are many members, only some
    publish, and all members choose the same ones.

    @param own_id: its peer id, 32 bytes.
    @param others: the peer ids of the other known members.
    @param minute: the unix minute.
    """
    if len(others) < WRITERS:
        return True

    def rank(peer: bytes) -> bytes:
        return truncated_sha512(peer + minute.to_bytes(8, "little"))

    own = rank(own_id)
    return sum(rank(peer) < own for peer in others) < WRITERS


def minutes_to_read(now: float, rounds: int, older_first: bool) -> tuple[int, ...]:
    """
    Return the unix minutes of the slots that the next read of a search covers.

    @param now: unix seconds.
    @param rounds: the number of reads so far.
    @param older_first: whether the first read begins one minute earlier.
    """
    minute = int(now // 60)
    if rounds == 0 and older_first:
        return recent_minutes(max(0, minute - 1))
    if now % 60 < TURN_OF_MINUTE or (rounds % 2 == 0 and rounds < PREVIOUS_MINUTE_ROUNDS):
        return recent_minutes(minute)
    return (minute,)


def effort_after(alone_for: float) -> Effort:
    """
    Return the effort of every read of a search except the first.  After some time
    without a neighbour, a slower and cheaper lookup is sufficient to find all members.

    @param alone_for: seconds since the search began.
    """
    lifetime = next((after for after in LOOKUP_AGAIN_AFTER if alone_for < 2 * after), LOOKUP_LIFETIME)
    if alone_for < URGENT_FOR:
        return evolve(URGENT, lifetime=lifetime, nearest=INNER)
    return Effort(ALPHA, PATIENT_WIDTH, lifetime, nearest=INNER)


@implementer(IDiscoveryChannel)
class SlotChannel:
    """
    Finds members by the records in the slots of the recent minutes.

    @ivar name: C{"record_slot"}.
    @ivar on_record: see L{IDiscoveryChannel<dtt.discovery.interfaces.IDiscoveryChannel>}.
    @ivar elsewhere: an attribute to set: returns the peer ids of the other members that a better channel has
        found recently.  While there are any, this channel is used less.
    @ivar alternates: an attribute to set: whether there is such a channel.  Once a member has been
        alone for L{URGENT_FOR} seconds, it then alternates between the two channels, and also uses
        this one in the first search of a minute, before it publishes.
    """

    name = "record_slot"

    def __init__(self, shared: SharedServices, records: RecordClient) -> None:
        """
        @param shared: the services of the tracker.
        @param records: fetches and publishes records; its C{on_record} is set.
        """
        self.on_record: RecordSink = lambda _: None
        self.elsewhere: Callable[[], Collection[bytes]] = lambda: ()
        self.alternates = False
        # The minute of the last read.
        self._minute = -1
        # The number of reads of a search that have not ended.
        self._reading = 0
        self._idle: Waiters[None] = Waiters()
        self._own_id = shared.key.peer_id
        self._calls = 0
        self._shared = shared
        self._reactor = shared.reactor
        self._dht = shared.dht
        self._older_first = shared.config.bootstrap.check_older_records_first_on_startup
        self._records = records
        records.on_record = lambda record: self.on_record(record)

    def when_ready(self) -> Deferred[None]:
        """
        Wait until the DHT can be queried.

        @return: fires then; can be cancelled.
        """
        return self._dht.when_usable()

    def find(self, source: str, search: SearchState | None = None) -> Deferred[list[FoundRecord]]:
        """
        Read the slots of recent minutes.

        @param source: the service that searches.
        @param search: the state of the search; C{None}: we have neighbours.
        @return: fires with the records of other members.  Can be cancelled.
        """
        minute = unix_minute(self._reactor.seconds())
        is_turn = search is None or search.rounds % ALONE_EVERY != 1
        if not is_turn and (self.elsewhere() or (self._is_shared(search) and minute == self._minute)):
            return succeed([])
        self._minute = minute
        if search is None:
            minutes = self._in_both_times(lambda now: recent_minutes(unix_minute(now)))
            return Deferred.fromCoroutine(self._records.fetch(minutes, source))
        self._reading += 1
        return Deferred.fromCoroutine(self._search(source, search)).addBoth(self._read)

    def when_idle(self) -> Deferred[None]:
        """
        Wait until no search reads a slot.

        @return: fires then; can be cancelled.
        """
        return self._idle.wait() if self._reading else succeed(None)

    def _read(self, result: T) -> T:
        self._reading -= 1
        if not self._reading:
            self._idle.fire(None)
        return result

    def watch(self, source: str) -> Deferred[list[FoundRecord]]:
        """
        Read the slot of the current minute from the nearest nodes; soon after the turn of
        a minute, also that of the previous one.

        @param source: the service that watches.
        @return: fires with the records of other members.  Can be cancelled.
        """
        self._calls += 1
        if self._calls % WATCH_EVERY and self.elsewhere():
            return succeed([])
        minutes = self._in_both_times(
            lambda now: recent_minutes(unix_minute(now))[-1 if now % 60 >= TURN_OF_MINUTE else 0 :]
        )
        return Deferred.fromCoroutine(self._records.fetch(minutes, source, WATCH))

    def publish(self, content: ContentSource, source: str, urgent: bool = False) -> Deferred[int]:
        """
        Put our record into the slot of the current minute, or replenish its copies.

        @param content: returns the content of the record.
        @param source: the service that publishes.
        @param urgent: put the first copy before the read of the slot has ended.
        @return: fires with the number of nodes that are known to store one of our records.  Can be cancelled.
        """
        minute = unix_minute(self._shared.estimated_time())
        if not urgent and not is_writer(self._own_id, self.elsewhere(), minute):
            return succeed(0)
        return Deferred.fromCoroutine(self._records.publish(minute, content, source, urgent))

    def _is_shared(self, search: SearchState | None) -> bool:
        return self.alternates and search is not None and search.alone_for >= URGENT_FOR

    def _in_both_times(self, minutes: Callable[[float], Sequence[int]]) -> tuple[int, ...]:
        """
        Return the minutes to read by our clock, and by those of most members.
        """
        now, estimated = self._reactor.seconds(), self._shared.estimated_time()
        return tuple(dict.fromkeys((*minutes(now), *minutes(estimated))))

    async def _search(self, source: str, search: SearchState) -> list[FoundRecord]:
        now = self._reactor.seconds()
        rounds = search.rounds // ALONE_EVERY if self._is_shared(search) else search.rounds
        minutes = minutes_to_read(now, rounds, self._older_first)
        current = unix_minute(now)
        both = self._in_both_times(lambda now: minutes_to_read(now, rounds, self._older_first))
        others = tuple(minute for minute in both if minute not in minutes)
        if search.rounds:
            return await self._records.fetch(both, source, effort_after(search.alone_for))
        if minutes[-1] != current or len(minutes) == 1 or now % 60 < TURN_OF_MINUTE:
            return await self._records.fetch(both, source, URGENT)
        reading = Deferred.fromCoroutine(self._records.fetch((current, *others), source, URGENT))
        pause: Deferred[None] = deferLater(self._reactor, PREVIOUS_AFTER)
        try:
            await first_of(reading, pause)
            earlier = () if search.is_joining() else minutes[:-1]
            return [*await self._records.fetch(earlier, source, URGENT), *await reading]
        finally:
            abandon(reading, pause)
