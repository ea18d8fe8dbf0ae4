"""
The fetcher: searches for members while there is no neighbour.

Rules (docs/protocol/records.md section 6, "Fetcher" and "dtt's pace";
docs/protocol/latency.md section 3): while there is no neighbour, ask all
discovery channels, join each member as soon as the datagram with its record
arrives, publish our own record, wait, and repeat.  The waits are short at first and grow; when another
channel becomes usable, they start again.  When the last neighbour is lost, the search starts again
immediately.
"""

from __future__ import annotations

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from dtt.deferreds import abandon, first_of
from dtt.discovery.candidates import FoundRecord
from dtt.discovery.channels import Channels
from dtt.discovery.hearsay import Hearsay
from dtt.discovery.interfaces import ContentSource, SearchState
from dtt.discovery.shared import SharedServices
from dtt.events import count_of, duration
from dtt.interfaces import GossipMessage, IGossip
from dtt.records.record import RecordContent
from dtt.records.topic import unix_minute
from dtt.tracker.dials import Dials
from dtt.tracker.loop import LoopService
from dtt.wire.addresses import PeerAddress

#: The first waits between two reads, in seconds (docs/protocol/records.md section 6,
#: "dtt's pace").
FIRST_WAITS = (0.05, 0.1, 0.25, 0.5, 1.0)

#: (seconds without a neighbour, minimum wait in seconds) (the same source; the
#: first pairs are guesses: at most 8 packets per second in the first ten minutes, 4
#: later, docs/protocol/latency.md section 4).
SLOWER_WHEN_ALONE = ((600.0, 20.0), (300.0, 12.0), (60.0, 6.0), (10.0, 4.0))

#: Seconds between the first put in a minute and a second one, which replenishes the
#: copies (docs/protocol/dht.md section 4 says "later in the minute"; guess).
TOP_UP_AFTER = 10.0

#: The first put and the one that replenishes the copies (the same source).
PUTS_IN_A_MINUTE = 2

#: The maximum number of further puts in a minute because our addresses have changed: our external addresses
#: are unknown at first (guess).
PUTS_FOR_ADDRESSES = 3

#: A neighbour that lasts fewer seconds does not end the search: otherwise a member
#: that accepts us and drops us immediately would make us query without any pause
#: (guess).
FLAPPING = 1.0

#: Members that are only named in records are dialled after this many seconds without a neighbour:
#: most cost a lookup of their address, and most publishers can be joined before (guess).
NAMED_AFTER = 2.0


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


@define
class _Search:
    """
    The state of one search: a period without neighbours.

    @ivar since: when it began, or when another channel could be used.
    @ivar channels: the number of channels that could be used then.
    @ivar polls: the number of reads so far.
    @ivar minute: the minute of our last put.
    @ivar puts: the number of puts in that minute.
    @ivar put_at: the time of the last put.
    @ivar named: the addresses that the records of that minute name.
    @ivar changes: the number of puts in that minute because these have changed.
    """

    since: float
    channels: int = 0
    polls: int = 0
    minute: int | None = None
    puts: int = 0
    put_at: float = 0.0
    named: set[PeerAddress] = field(factory=set)
    changes: int = 0

    def begin(self, now: float, channels: int) -> None:
        """
        Start again.
        """
        self.since, self.channels, self.polls, self.minute = now, channels, 0, None


class Fetcher(LoopService):
    """
    Searches for members whenever the topic has no neighbour.
    """

    _log = Logger()

    def __init__(
        self,
        shared: SharedServices,
        gossip: IGossip,
        channels: Channels,
        content: ContentSource,
    ) -> None:
        """
        @param shared: the services of the tracker.
        @param gossip: the gossip of the topic.
        @param channels: find members, and publish our record.
        @param content: returns the current content of our record.
        """
        self._reactor = shared.reactor
        self._config = shared.config.bootstrap
        self._gossip = gossip
        self._channels = channels
        self._content = content
        self._dials = Dials(
            shared.reactor,
            shared.rng,
            gossip,
            shared.book,
            self._config.per_peer_join_settle_time,
            shared.transport.finds_peers,
        )
        self._hearsay = Hearsay()
        self._alone: Deferred[None] | None = None
        self._publishing: Deferred[None] | None = None
        self._searching: _Search | None = None

    async def run(self) -> None:
        """
        Search until there is a neighbour, wait until the last one is lost, and
        repeat.
        """
        unsubscribe = self._gossip.subscribe(self)
        self._channels.on_record = self._record_found
        try:
            await self._channels.when_ready()
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
                search = search or _Search(self._reactor.seconds())
                self._searching = search
                await self._search(search)
                self._searching = None
        finally:
            unsubscribe()
            self._channels.stop_waiting()
            self._channels.on_record = lambda _: None
            self._searching = None
            self._dials.stop()
            if self._publishing is not None:
                self._publishing.cancel()

    @property
    def searching(self) -> bool:
        """
        Whether it searches now.
        """
        return self._searching is not None

    def doing(self) -> str:
        """
        Return a description of what the fetcher does now.
        """
        if self._alone is not None:
            return "has a neighbour, so it does not search"
        search = self._searching
        if search is None:
            return "waits until a DHT node answers" if self.running else "has not started"
        alone_for = self._reactor.seconds() - search.since
        since = count_of(int(alone_for), "second") if alone_for < 120 else duration(alone_for)
        reads = count_of(search.polls, "read")
        own = "storing our record" if self._publishing is not None else "our record was put"
        if search.minute is None:
            own = "our record was not put yet"
        joining = "; joining a member" if self._dials.began else ""
        return f"searches: {reads} in {since}; {own}{joining}"

    def addresses_changed(self) -> None:
        """
        If there is no neighbour, put our record again soon: our addresses have changed.
        """
        search = self._searching
        if search is not None and search.minute is not None and self._publishing is None:
            self._publish(search)

    async def _search(self, search: _Search) -> None:
        """
        Read, join, publish and wait, until there is a neighbour.
        """
        while not self._gossip.neighbors():
            if search.channels != self._channels.ready:
                if self._channels.unready:
                    # Those that wait for the same thing become ready one after another, in one turn.
                    await deferLater(self._reactor, 0)
                # Those that were asked before may have been of no use: ask as at the beginning.
                search.begin(self._reactor.seconds(), self._channels.ready)
                if self._config.publish_record_on_startup:
                    self._publish(search)
            self._dials.next_round()
            alone_for = self._reactor.seconds() - search.since
            state = SearchState(alone_for, search.polls, lambda: self._dials.began)
            found = await self._until_joined(self._channels.find("fetcher", state))
            search.polls += 1
            if found is None:
                return
            publishers, named = self._hearsay.candidates(found, self._reactor.seconds())
            self._dials.add(publishers, named if alone_for >= NAMED_AFTER else ())
            self._publish(search)
            wait = self._wait(search, bool(found))
            if self._dials.began:
                wait = max(wait, self._config.join_confirmation_wait_time)
            if await self._joined_within(wait, self._channels.when_more_ready()):
                return

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

    async def _until_joined(self, read: Deferred[list[FoundRecord]]) -> list[FoundRecord] | None:
        """
        Return the records that were read; C{None} as soon as there is a neighbour,
        which cancels the read.
        """
        joined = self._gossip.when_joined()
        try:
            return await read if await first_of(read, joined) == 0 else None
        finally:
            abandon(read, joined)

    async def _joined_within(self, seconds: float, *sooner: Deferred[None]) -> bool:
        """
        Wait for a neighbour, and return whether there is one.

        @param seconds: the maximum wait.
        @param sooner: stop waiting when one of these has fired.
        """
        pause: Deferred[None] = deferLater(self._reactor, seconds)
        waiting = (self._gossip.when_joined(), pause, *sooner)
        try:
            return await first_of(*waiting) == 0
        finally:
            abandon(*waiting)

    def _publish(self, search: _Search) -> None:
        """
        Put our record in the background: once per minute, once more to replenish its
        copies, and when our addresses have changed.
        """
        now = self._reactor.seconds()
        minute = unix_minute(now)
        if minute != search.minute:
            search.minute, search.puts, search.changes = minute, 0, 0
            search.named.clear()
            if self._publishing is not None:  # it is retrying for a minute that is over
                self._publishing.cancel()
        if self._publishing is not None:
            return
        if search.puts < PUTS_IN_A_MINUTE and (not search.puts or now - search.put_at >= TOP_UP_AFTER):
            search.puts += 1
        elif search.changes < PUTS_FOR_ADDRESSES and not search.named.issuperset(self._content().addresses):
            search.changes += 1
        else:
            return
        search.put_at = now

        def content() -> RecordContent:
            made = self._content()
            search.named.update(made.addresses)
            return made

        async def publish() -> None:
            try:
                await self._channels.publish(content, "fetcher", urgent=True)
            except CancelledError:
                self._publishing = None
                return
            except Exception:
                self._log.failure("Publishing the record failed with an unexpected error (a bug)")
            self._publishing = None
            self.addresses_changed()

        publishing = Deferred.fromCoroutine(publish())
        if not publishing.called:
            self._publishing = publishing

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
