"""
The fetcher: searches for members while there is no neighbour.

Rules (docs/protocol/records.md section 6, "Fetcher" and "dtt's pace";
docs/protocol/latency.md section 3): while there is no neighbour, read the slots
of the previous and the current minute, join each member found there as soon as
the datagram with its record arrives, publish our own record, wait, and repeat.
The waits are short at first and grow.  When the last neighbour is lost, the
search starts again immediately.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from attrs import define, evolve
from twisted.internet.defer import CancelledError, Deferred, DeferredList, FirstError, TimeoutError
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from dtt.dht.client.lookup import ALPHA
from dtt.dht.client.placement import INNER
from dtt.discovery.candidates import FoundRecord, candidates, recent_minutes
from dtt.discovery.record_slot import RecordClient
from dtt.discovery.shared import SharedServices
from dtt.discovery.slot_reader import LOOKUP_LIFETIME, PATIENT_WIDTH, URGENT, Effort
from dtt.interfaces import GossipMessage, IGossip, IGossipObserver
from dtt.records.record import GossipContent
from dtt.records.topic import unix_minute
from dtt.tracker.dials import Dials
from dtt.tracker.loop import LoopService

#: The first waits between two reads, in seconds (docs/protocol/records.md section 6,
#: "dtt's pace").
FIRST_WAITS = (0.05, 0.1, 0.25, 0.5, 1.0)

#: (seconds without a neighbour, minimum wait in seconds) (the same source; the
#: last pair is a guess: at most 8 packets per second in the first ten minutes, 4
#: later, docs/protocol/latency.md section 4).
SLOWER_WHEN_ALONE = ((600.0, 15.0), (60.0, 5.0), (10.0, 3.0))

#: For this many seconds after a minute begins, every poll also reads the previous
#: minute.
TURN_OF_MINUTE = 5.0

#: Later in a minute, the first read of the previous minute begins when that of the
#: current one has ended, or this many seconds after its start, unless a member has
#: been found: a read costs a hundred datagrams, and most members have a record in
#: both minutes.  Guess: four round trips.
PREVIOUS_AFTER = 0.7

#: After this many seconds without a neighbour, the next poll does a new lookup
#: instead of querying the same nodes again, because nearer nodes may have become
#: known (docs/protocol/latency.md section 3, item 7; the later ones: guesses).
LOOK_ANEW_AFTER = (2.0, 8.0, 25.0)

#: Seconds between the first put in a minute and a second one, which replenishes the
#: copies (docs/protocol/dht.md section 4 says "later in the minute"; guess).
TOP_UP_AFTER = 10.0

#: The first put and the one that replenishes the copies (the same source).
PUTS_IN_A_MINUTE = 2

#: A neighbour that lasts fewer seconds does not end the search: otherwise a member
#: that accepts us and drops us immediately would make us query without any pause
#: (guess).
FLAPPING = 1.0

#: Seconds without a neighbour after which lookups are patient (guess).
URGENT_FOR = 10.0

#: Seconds without a neighbour, although members were found and dialled, after which
#: the operator is warned (guess; by then everything has failed twice).
UNREACHABLE_AFTER = 60.0


def wait_after(polls: int, alone_for: float, setting: float) -> float:
    """
    Return how many seconds to wait after a read that did not lead to a neighbour.

    @param polls: the number of reads, including this one.
    @param alone_for: seconds since the search began.
    @param setting: the configured interval.
    """
    for threshold, wait in SLOWER_WHEN_ALONE:
        if alone_for >= threshold:
            return max(wait, setting)
    return min(FIRST_WAITS[polls - 1], setting) if polls <= len(FIRST_WAITS) else setting


def minutes_to_read(now: float, polls: int, older_first: bool) -> tuple[int, ...]:
    """
    Return the unix minutes of the slots that the next read covers.

    @param now: unix seconds.
    @param polls: the number of reads so far.
    @param older_first: whether the first read begins one minute earlier.
    """
    minute = int(now // 60)
    if polls == 0 and older_first:
        return recent_minutes(max(0, minute - 1))
    if polls % 2 == 0 or now % 60 < TURN_OF_MINUTE:
        return recent_minutes(minute)
    return (minute,)


def effort_after(alone_for: float) -> Effort:
    """
    Return the effort of every read but the first.  After some time without a
    neighbour, a slower and cheaper lookup misses no member either.

    @param alone_for: seconds since the search began.
    """
    lifetime = next((after for after in LOOK_ANEW_AFTER if alone_for < 2 * after), LOOKUP_LIFETIME)
    if alone_for < URGENT_FOR:
        return evolve(URGENT, lifetime=lifetime, nearest=INNER)
    return Effort(ALPHA, PATIENT_WIDTH, lifetime, nearest=INNER)


@define
class _Search:
    """
    The state of one search: a period without neighbours.

    @ivar since: when it began.
    @ivar polls: the number of reads so far.
    @ivar minute: the minute of our last put.
    @ivar puts: the number of puts in that minute.
    @ivar put_at: the time of the last put.
    @ivar tried: whether any member was joined.
    @ivar warned: whether the operator was warned that no member can be reached.
    """

    since: float
    polls: int = 0
    minute: int | None = None
    puts: int = 0
    put_at: float = 0.0
    tried: bool = False
    warned: bool = False


@implementer(IGossipObserver)
class Fetcher(LoopService):
    """
    Searches for members whenever the topic has no neighbour.
    """

    _log = Logger()

    def __init__(
        self,
        shared: SharedServices,
        gossip: IGossip,
        records: RecordClient,
        content: Callable[[], GossipContent],
    ) -> None:
        """
        @param shared: the services of the tracker.
        @param gossip: the gossip of the topic.
        @param records: fetches and publishes records.
        @param content: returns the current content of our record.
        """
        self._reactor = shared.reactor
        self._config = shared.config.bootstrap
        self._dht = shared.dht
        self._gossip = gossip
        self._records = records
        self._content = content
        self._reachable = shared.reachable
        self._dials = Dials(
            shared.reactor,
            shared.rng,
            gossip,
            shared.book,
            self._config.per_peer_join_settle_time,
            shared.transport.finds_peers,
        )
        self._alone: Deferred[None] | None = None
        self._publishing: Deferred[None] | None = None

    async def run(self) -> None:
        """
        Search until there is a neighbour, wait until the last one is lost, and
        repeat.
        """
        unsubscribe = self._gossip.subscribe(self)
        self._records.on_record = self._record_found
        try:
            await self._dht.when_ready()
            search: _Search | None = None
            while True:
                if self._gossip.neighbors():
                    self._dials.stop()
                    joined_at = self._reactor.seconds()
                    self._alone = Deferred()
                    await self._alone
                    if search is not None and self._reactor.seconds() - joined_at < FLAPPING:
                        await self._joined_within(self._wait(search, True))
                    else:
                        search = None
                search = search or _Search(since=self._reactor.seconds())
                await self._search(search)
        finally:
            unsubscribe()
            self._records.on_record = lambda _: None
            self._dials.stop()
            if self._publishing is not None:
                self._publishing.cancel()

    async def _search(self, search: _Search) -> None:
        """
        Read, join, publish and wait, until there is a neighbour.
        """
        if self._config.publish_record_on_startup:
            self._publish(search)
        while not self._gossip.neighbors():
            self._dials.next_round()
            found = await self._until_joined(self._read(search))
            search.polls += 1
            if found is None:
                return
            self._dials.add(*candidates(found))
            search.tried = search.tried or self._dials.began
            self._publish(search)
            self._warn_if_unreachable(search)
            wait = self._wait(search, bool(found))
            if self._dials.began:
                wait = max(wait, self._config.join_confirmation_wait_time)
            if await self._joined_within(wait):
                return

    async def _read(self, search: _Search) -> list[FoundRecord]:
        now = self._reactor.seconds()
        minutes = minutes_to_read(now, search.polls, self._config.check_older_records_first_on_startup)
        current = unix_minute(now)
        if search.polls:
            return await self._records.fetch(minutes, "fetcher", effort_after(now - search.since))
        if minutes[-1] != current or len(minutes) == 1 or now % 60 < TURN_OF_MINUTE:
            return await self._records.fetch(minutes, "fetcher", URGENT)
        reading = Deferred.fromCoroutine(self._records.fetch((current,), "fetcher", URGENT))
        pause: Deferred[None] = deferLater(self._reactor, PREVIOUS_AFTER)
        try:
            await _first_of(reading, pause)
            earlier = () if self._dials.began else minutes[:-1]
            return [*await self._records.fetch(earlier, "fetcher", URGENT), *await reading]
        finally:
            _abandon(reading, pause)

    def _record_found(self, record: FoundRecord) -> None:
        """
        A record has arrived, by a read of any service: join its publisher
        immediately.
        """
        if not self._gossip.neighbors():
            self._dials.add((record.publisher,))

    def _wait(self, search: _Search, member_found: bool) -> float:
        setting = (
            self._config.discovery_poll_interval if member_found else self._config.no_peers_retry_interval
        )
        now = self._reactor.seconds()
        wait = wait_after(search.polls, now - search.since, setting)
        # Don't wait past the beginning of a minute: it has a new slot, which needs our record.
        return min(wait, max(60 - now % 60, FIRST_WAITS[-1]))

    async def _until_joined(
        self, reading: Coroutine[Any, Any, list[FoundRecord]]
    ) -> list[FoundRecord] | None:
        """
        Return the records that were read; C{None} as soon as there is a neighbour,
        which cancels the read.
        """
        read = Deferred.fromCoroutine(reading)
        joined = self._gossip.when_joined()
        try:
            return await read if await _first_of(read, joined) == 0 else None
        finally:
            _abandon(read, joined)

    async def _joined_within(self, seconds: float) -> bool:
        try:
            await self._gossip.when_joined().addTimeout(seconds, self._reactor)
        except TimeoutError:
            return False
        return True

    def _publish(self, search: _Search) -> None:
        """
        Put our record in the background: once per minute, and once more to
        replenish its copies.
        """
        now = self._reactor.seconds()
        minute = unix_minute(now)
        if minute != search.minute:
            search.minute, search.puts = minute, 0
            if self._publishing is not None:  # it is retrying for a minute that is over
                self._publishing.cancel()
        if self._publishing is not None or search.puts == PUTS_IN_A_MINUTE:
            return
        if search.puts and now - search.put_at < TOP_UP_AFTER:
            return
        search.puts += 1
        search.put_at = now

        async def publish() -> None:
            try:
                await self._records.publish(minute, self._content(), "fetcher", urgent=True)
            except CancelledError:
                pass
            except Exception:
                self._log.failure("Publishing the record failed with an unexpected error (a bug)")
            self._publishing = None

        publishing = Deferred.fromCoroutine(publish())
        if not publishing.called:
            self._publishing = publishing

    def _warn_if_unreachable(self, search: _Search) -> None:
        alone_for = self._reactor.seconds() - search.since
        if search.warned or not search.tried or alone_for < UNREACHABLE_AFTER or self._reachable():
            return
        search.warned = True
        self._log.warn(
            "There are other members, but none of them can be reached, and none has reached us: "
            "both sides are probably behind NATs or firewalls. One side must be reachable: open or "
            "forward the ports of --listen on one of the machines, or use iroh with a relay."
        )

    def neighbor_up(self, peer_id: bytes) -> None:
        """
        Do nothing: a search waits for neighbours with C{when_joined}.
        """

    def neighbor_down(self, peer_id: bytes) -> None:
        """
        Search again if this was the last neighbour.
        """
        if self._alone is not None and not self._gossip.neighbors():
            alone, self._alone = self._alone, None
            alone.callback(None)

    def message_received(self, message: GossipMessage) -> None:
        """
        Do nothing.
        """


async def _first_of(*deferreds: Deferred[Any]) -> int:
    """
    Wait until one of C{deferreds} has fired.  Raises its exception if it failed.

    @return: the index of that one.
    """
    try:
        _, first = await DeferredList(deferreds, fireOnOneCallback=True, fireOnOneErrback=True)
    except FirstError as error:
        error.subFailure.raiseException()
    return first


def _abandon(*deferreds: Deferred[Any]) -> None:
    """
    Cancel C{deferreds}, and ignore their failures.
    """
    for deferred in deferreds:
        deferred.addErrback(lambda _: None)
        deferred.cancel()
