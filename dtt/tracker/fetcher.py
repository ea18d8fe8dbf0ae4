"""
The fetcher: from knowing nobody to the first neighbour.

Rules (docs/protocol/records.md section 6, "Fetcher" and "dtt's pace"; docs/protocol/latency.md
section 3): whenever we have no neighbour, read the slots of the last and the
current minute, join the members named there, each as soon as the datagram with
its record arrives, publish our own record, wait, again; the waits are short at
first and grow.  After the last neighbour has gone it starts anew at once.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

from attrs import define, evolve
from twisted.internet.defer import CancelledError, Deferred, DeferredList, FirstError, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from dtt.config import BootstrapConfig
from dtt.dht.client.lookup import ALPHA
from dtt.dht.client.placement import INNER
from dtt.discovery.candidates import FoundRecord, candidates, recent_minutes
from dtt.discovery.record_slot import RecordClient
from dtt.discovery.slot_reader import LOOKUP_LIFETIME, PATIENT_WIDTH, URGENT, Effort
from dtt.interfaces import IDHT, GossipMessage, IAddressBook, IGossip, IGossipObserver
from dtt.records.record import GossipContent
from dtt.records.topic import unix_minute
from dtt.tracker.dials import Dials
from dtt.tracker.loop import LoopService

#: The first waits between two reads (docs/protocol/records.md section 6, "dtt's pace").
FIRST_WAITS = (0.05, 0.1, 0.25, 0.5, 1.0)

#: (alone for at least this long, wait at least this long) (the same source; the
#: last pair is a guess: at most 8 packets a second in the first ten minutes, 4
#: later, docs/protocol/latency.md section 4).
SLOWER_WHEN_ALONE = ((600.0, 15.0), (60.0, 5.0), (10.0, 3.0))

#: So long after a turn of the minute, the last minute is read with every poll.
TURN_OF_MINUTE = 5.0

#: Later in a minute, the first read of the last minute begins when that of the
#: current one has ended, or so many seconds after its start, unless somebody has
#: been found: a read costs a hundred datagrams, and most members have a record in
#: both.  Guess: four round trips.
PREVIOUS_AFTER = 0.7

#: Seconds alone after which the slot is looked up anew with the next poll, in
#: place of asking the same nodes again: nearer ones may have become known
#: (docs/protocol/latency.md section 3, item 7; the further ones: guesses).
LOOK_ANEW_AFTER = (2.0, 8.0, 25.0)

#: A second put within a minute, which tops the copies up, comes this much
#: after the one before (docs/protocol/dht.md section 4 says "later in the minute"; guess).
TOP_UP_AFTER = 10.0

#: The first put, and the one that tops up (the same source).
PUTS_IN_A_MINUTE = 2

#: A neighbour that was one for a shorter time does not end the search: else a
#: member that takes us in and drops us at once would have us ask without any
#: pause (guess).
FLAPPING = 1.0

#: Seconds alone after which a lookup takes its time (guess).
URGENT_FOR = 10.0

#: Alone for so long though others were found and dialled: the operator is told
#: (guess; two rounds of everything have failed by then).
UNREACHABLE_AFTER = 60.0


def wait_after(polls: int, alone_for: float, setting: float) -> float:
    """
    How long to wait after a read that did not lead to a neighbour.

    @param polls: how many reads there have been, including this one.
    @param alone_for: seconds since we began to look.
    @param setting: the configured interval.
    """
    for threshold, wait in SLOWER_WHEN_ALONE:
        if alone_for >= threshold:
            return max(wait, setting)
    return min(FIRST_WAITS[polls - 1], setting) if polls <= len(FIRST_WAITS) else setting


def minutes_to_read(now: float, polls: int, older_first: bool) -> tuple[int, ...]:
    """
    Which slots the next read covers.

    @param now: unix seconds.
    @param polls: how many reads there have been.
    @param older_first: whether the first read begins a minute earlier.
    """
    minute = int(now // 60)
    if polls == 0 and older_first:
        return recent_minutes(max(0, minute - 1))
    if polls % 2 == 0 or now % 60 < TURN_OF_MINUTE:
        return recent_minutes(minute)
    return (minute,)


def effort_after(alone_for: float) -> Effort:
    """
    How hard a read tries that is not the first one: after some time nobody is
    missed by a lookup that takes longer.

    @param alone_for: seconds since we began to look.
    """
    lifetime = next((after for after in LOOK_ANEW_AFTER if alone_for < 2 * after), LOOKUP_LIFETIME)
    if alone_for < URGENT_FOR:
        return evolve(URGENT, lifetime=lifetime, nearest=INNER)
    return Effort(ALPHA, PATIENT_WIDTH, lifetime, nearest=INNER)


@define
class _Search:
    """
    One time of being without neighbours.

    @ivar since: when it began.
    @ivar polls: reads so far.
    @ivar minute: the minute of our last put.
    @ivar puts: how often we put in that minute.
    @ivar put_at: when the last time.
    @ivar tried: whether anybody was there to be joined.
    @ivar told: whether the operator was told that nobody can be reached.
    """

    since: float
    polls: int = 0
    minute: int | None = None
    puts: int = 0
    put_at: float = 0.0
    tried: bool = False
    told: bool = False


@implementer(IGossipObserver)
class Fetcher(LoopService):
    """
    Looks for members whenever the topic has no neighbour.

    @param content: makes the content of our record.
    @param reachable: whether anybody has ever connected to us.
    @param finds_peers: whether members can be dialled without an address.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        rng: Random,
        config: BootstrapConfig,
        dht: IDHT,
        gossip: IGossip,
        book: IAddressBook,
        records: RecordClient,
        content: Callable[[], GossipContent],
        reachable: Callable[[], bool],
        finds_peers: bool = False,
    ) -> None:
        self._reactor = reactor
        self._rng = rng
        self._config = config
        self._dht = dht
        self._gossip = gossip
        self._records = records
        self._content = content
        self._reachable = reachable
        self._dials = Dials(reactor, rng, gossip, book, config.per_peer_join_settle_time, finds_peers)
        self._alone: Deferred[None] | None = None
        self._publishing: Deferred[None] | None = None

    async def run(self) -> None:
        """
        Look; be joined until the last neighbour goes; again.
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
                await self._look(search)
        finally:
            unsubscribe()
            self._records.on_record = lambda _: None
            self._dials.stop()
            if self._publishing is not None:
                self._publishing.cancel()

    async def _look(self, search: _Search) -> None:
        """
        Read, join, publish, wait, until there is a neighbour.
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
            self._tell_if_unreachable(search)
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
            _give_up(reading, pause)

    def _record_found(self, record: FoundRecord) -> None:
        """
        A record has arrived, in whosever read: join its publisher at once.
        """
        if not self._gossip.neighbors():
            self._dials.add((record.publisher,))

    def _wait(self, search: _Search, anybody_found: bool) -> float:
        setting = (
            self._config.discovery_poll_interval if anybody_found else self._config.no_peers_retry_interval
        )
        now = self._reactor.seconds()
        wait = wait_after(search.polls, now - search.since, setting)
        # A new slot begins with the minute: who waits long would be missed there.
        return min(wait, max(60 - now % 60, FIRST_WAITS[-1]))

    async def _until_joined(
        self, reading: Coroutine[Any, Any, list[FoundRecord]]
    ) -> list[FoundRecord] | None:
        """
        What was read; C{None} as soon as there is a neighbour, which ends the read.
        """
        read = Deferred.fromCoroutine(reading)
        joined = self._gossip.when_joined()
        try:
            return await read if await _first_of(read, joined) == 0 else None
        finally:
            _give_up(read, joined)

    async def _joined_within(self, seconds: float) -> bool:
        try:
            await self._gossip.when_joined().addTimeout(seconds, self._reactor)
        except TimeoutError:
            return False
        return True

    def _publish(self, search: _Search) -> None:
        """
        Put our record, in the background: once a minute, and once more to top
        its copies up.
        """
        now = self._reactor.seconds()
        minute = unix_minute(now)
        if minute != search.minute:
            search.minute, search.puts = minute, 0
            if self._publishing is not None:  # it tries again, for a minute that is over
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
                self._log.failure("the record could not be published, by a mistake of ours")
            self._publishing = None

        publishing = Deferred.fromCoroutine(publish())
        if not publishing.called:
            self._publishing = publishing

    def _tell_if_unreachable(self, search: _Search) -> None:
        alone_for = self._reactor.seconds() - search.since
        if search.told or not search.tried or alone_for < UNREACHABLE_AFTER or self._reachable():
            return
        search.told = True
        self._log.warn(
            "Other members are there, but none of them can be reached, and nobody has reached us: "
            "both sides are probably behind NATs or firewalls. One side must be reachable: open or "
            "forward the ports of --listen on one of the machines, or use iroh with a relay."
        )

    def neighbor_up(self, peer_id: bytes) -> None:
        """
        Nothing: whoever looks waits for it with C{when_joined}.
        """

    def neighbor_down(self, peer_id: bytes) -> None:
        """
        Look again, if that was the last one.
        """
        if self._alone is not None and not self._gossip.neighbors():
            alone, self._alone = self._alone, None
            alone.callback(None)

    def message_received(self, message: GossipMessage) -> None:
        """
        Nothing.
        """


async def _first_of(*deferreds: Deferred[Any]) -> int:
    """
    Wait until one of them has fired; raises what the first one fails with.

    @return: which.
    """
    try:
        _, first = await DeferredList(deferreds, fireOnOneCallback=True, fireOnOneErrback=True)
    except FirstError as error:
        error.subFailure.raiseException()
    return first


def _give_up(*deferreds: Deferred[Any]) -> None:
    """
    Cancel what has not fired; how it ends is of no interest any more.
    """
    for deferred in deferreds:
        deferred.addErrback(lambda _: None)
        deferred.cancel()
