"""
The discovery channel of announcements: members announce themselves in the DHT as peers do
for a torrent, under an info hash that only members can compute, and are then queried for their records.

Rules (docs/protocol/sealed.md section 5).  An announcement makes our address public, so by default a member
announces itself, and looks for others, only after some seconds without a neighbour. Nodes can name any peers:
only some of those found are queried, few in one network, each with one C{get} (L{dtt.discovery.direct}).  A
record is reported as soon as it arrives.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from twisted.internet.defer import Deferred, TimeoutError, succeed
from twisted.logger import Logger
from zope.interface import implementer

from dtt.deferreds import Waiters, gather_until
from dtt.discovery.candidates import FoundRecord
from dtt.discovery.direct import DirectQuestion
from dtt.discovery.interfaces import ContentSource, IDiscoveryChannel, RecordSink, SearchState
from dtt.discovery.shared import SharedServices
from dtt.errors import LocalError, RemoteError
from dtt.net.host_port import HostPort
from dtt.net.networks import line
from dtt.records.sealed import EPOCH_MINUTES, announced_info_hash, epoch_of
from dtt.records.topic import TopicKeys, unix_minute

#: Seconds without a neighbour after which a member announces itself and looks for others,
#: unless it always does (guess: by then the slots have been read several times).
ALONE_AFTER: Final = 8.0

#: Seconds after the first lookup of a lone member, after the second, and after each later one (guesses: the
#: first lookup costs about a hundred datagrams, each later one about thirty).  The second one finds those
#: that started at the same time: they announced themselves after the first.
PAUSES: Final = (12.0, 40.0, 240.0)

#: The least seconds between the lookups before and after a member had neighbours.
LOOK_EVERY: Final = 30.0

#: Seconds between two announcements: libtorrent's interval, half of the time for which it
#: keeps them.
ANNOUNCE_EVERY: Final = 900.0

#: The most nodes that are asked after one look, those of them in one network, and at the same
#: time (guesses: anyone who stores announcements can name addresses of a victim).
MAX_ASKED: Final = 16
MAX_ASKED_OF_NETWORK: Final = 2

#: Seconds after which a look ends (guess: the other channels wait for it).
LOOK_TIMEOUT: Final = 5.0


def epochs_to_ask(now: float) -> tuple[int, ...]:
    """
    Return the current epoch, and the neighbouring one that is nearer; see
    L{epoch_of<dtt.records.sealed.epoch_of>}.

    @param now: unix seconds.
    """
    minute = unix_minute(now)
    epoch = epoch_of(minute)
    if minute % EPOCH_MINUTES >= EPOCH_MINUTES // 2:
        return epoch, epoch + 1
    return (epoch, epoch - 1) if epoch else (epoch,)


@implementer(IDiscoveryChannel)
class AnnounceChannel:
    """
    Finds members by their announcements.

    @ivar name: C{"announce"}.
    @ivar on_record: see L{IDiscoveryChannel<dtt.discovery.interfaces.IDiscoveryChannel>}.
    @ivar counters: C{looked}, C{peers} (those named by nodes), C{look_failed},
        C{announced} and C{announce_failed}.
    """

    name = "announce"
    _log = Logger()

    def __init__(
        self,
        shared: SharedServices,
        keys: TopicKeys,
        direct: DirectQuestion,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """
        @param shared: the services of the tracker.
        @param keys: the keys of the topic.
        @param direct: queries the nodes found.
        @param clock: returns the unix time in seconds, as estimated; C{None}: that of the reactor.
        """
        self.on_record: RecordSink = lambda _: None
        self.counters: Counter[str] = Counter()
        self._reactor = shared.reactor
        self._clock = clock or shared.reactor.seconds
        self._rng = shared.rng
        self._dht = shared.dht
        self._keys = keys
        self._direct = direct
        self._always = shared.config.discovery.announce_peer == "always"
        self._publishes = bool(shared.config.bootstrap.max_bootstrap_records)
        self._timeout = shared.config.dht.put_timeout
        self._alone_for = 0.0
        self._looked = float("-inf")
        # The lookups since we had no neighbour.
        self._looks = 0
        # The epoch of our last announcement, and when it was made.
        self._announced: tuple[int, float] | None = None

    def when_ready(self) -> Deferred[None]:
        """
        Wait until the DHT can be queried.

        @return: fires then; can be cancelled.
        """
        return self._dht.when_usable()

    def find(self, source: str, search: SearchState | None = None) -> Deferred[list[FoundRecord]]:
        """
        Look for announcements, if it is time to, and query the nodes found.  If there are none, announce
        our address, because we may publish much later.

        @param source: ignored.
        @param search: the state of the search; C{None}: we have neighbours, and there is
            nothing to do.
        @return: fires with the records of other members within L{LOOK_TIMEOUT} seconds, or twice that
            without any.  Can be cancelled.
        """
        self._alone_for = 0.0 if search is None else search.alone_for
        now = self._reactor.seconds()
        if self._alone_for < ALONE_AFTER:
            self._looks = 0
        interval = PAUSES[min(self._looks, len(PAUSES)) - 1] if self._looks else LOOK_EVERY
        is_time = now - self._looked >= interval and (self._always or self._alone_for >= ALONE_AFTER)
        if search is None or search.is_joining() or not is_time:
            return succeed([])
        self._looked = now
        self._looks += 1
        return Deferred.fromCoroutine(self._look_or_announce())

    def look(self) -> Deferred[list[FoundRecord]]:
        """
        Look for announcements now, and query the nodes found: for a member with neighbours,
        to find members that have none.

        @return: as for L{find}.
        """
        return Deferred.fromCoroutine(self._look(epochs_to_ask(self._clock())))

    def watch(self, source: str) -> Deferred[list[FoundRecord]]:
        """
        Do nothing: who announces itself also publishes records.
        """
        return succeed([])

    def publish(self, content: ContentSource, source: str, urgent: bool = False) -> Deferred[int]:
        """
        Announce our address, if it is time to.

        @param content: ignored: members that find us query us for our record.
        @param source: ignored.
        @param urgent: whether we have no neighbour.
        @return: fires with the number of nodes that store the announcement.  Can be
            cancelled.
        """
        is_alone = urgent and self._alone_for >= ALONE_AFTER
        return self._announce_if_due() if self._always or is_alone else succeed(0)

    def _announce_if_due(self) -> Deferred[int]:
        if not self._publishes:
            return succeed(0)
        now, epoch = self._reactor.seconds(), epoch_of(unix_minute(self._clock()))
        if self._announced is not None:
            announced, at = self._announced
            if announced == epoch and now - at < ANNOUNCE_EVERY:
                return succeed(0)
        self._announced = epoch, now
        return Deferred.fromCoroutine(self._announce(epoch))

    async def _announce(self, epoch: int) -> int:
        info_hash = announced_info_hash(self._keys, epoch)
        copies = 0
        try:
            result = await self._dht.announce_peer(info_hash, 0).addTimeout(self._timeout, self._reactor)
            copies = len(result.stored)
        except (RemoteError, LocalError, TimeoutError) as error:
            self._log.debug("Announcing failed: {error}", error=error)
        finally:
            if not copies:
                self._announced = None
        self.counters["announced" if copies else "announce_failed"] += 1
        return copies

    async def _look_or_announce(self) -> list[FoundRecord]:
        found = await self._look(epochs_to_ask(self._clock()))
        if not found:
            with suppress(TimeoutError):
                await self._announce_if_due().addTimeout(LOOK_TIMEOUT, self._reactor)
        return found

    async def _look(self, epochs: tuple[int, ...]) -> list[FoundRecord]:
        look = _Look(self)
        running = [Deferred.fromCoroutine(self._search(epoch, look)) for epoch in epochs]
        try:
            await gather_until(running).addTimeout(LOOK_TIMEOUT, self._reactor)
        except TimeoutError:
            pass
        finally:
            look.stop()
        return look.found

    async def _search(self, epoch: int, look: _Look) -> None:
        self.counters["looked"] += 1
        info_hash = announced_info_hash(self._keys, epoch)
        try:
            await self._dht.get_peers(info_hash, lambda host, port: look.ask((host, port)))
        except (RemoteError, LocalError) as error:  # local: the application has stopped its node
            self.counters["look_failed"] += 1
            self._log.debug("Looking for announcements failed: {error}", error=error)
        await look.answered()

    def ask(self, address: HostPort) -> Deferred[list[FoundRecord]]:
        """
        Query a node that has announced itself for its record, and report it.

        @param address: an IP literal and a UDP port.
        @return: fires with the record, or with nothing.
        """
        return self._direct.ask_directly(address).addCallback(self._report)

    def _report(self, found: list[FoundRecord]) -> list[FoundRecord]:
        for record in found:
            self.on_record(record)
        return found


class _Look:
    """
    One look: the queried nodes, and the records in their answers.
    """

    def __init__(self, channel: AnnounceChannel) -> None:
        self.found: list[FoundRecord] = []
        self._channel = channel
        self._seen: set[HostPort] = set()
        self._networks: Counter[Any] = Counter()
        self._asking: dict[HostPort, Deferred[None]] = {}
        self._idle: Waiters[None] = Waiters()

    def ask(self, address: HostPort) -> None:
        """
        Query a node, unless it was already queried or too many were.
        """
        if address in self._seen:
            return
        self._channel.counters["peers"] += 1
        network = line(address[0])
        if len(self._seen) >= MAX_ASKED or self._networks[network] >= MAX_ASKED_OF_NETWORK:
            return
        self._seen.add(address)
        self._networks[network] += 1
        asking = self._channel.ask(address).addCallback(self.found.extend)
        asking.addErrback(lambda _: None)
        if not asking.called:
            self._asking[address] = asking
            asking.addCallback(self._ended, address)

    def _ended(self, _: None, address: HostPort) -> None:
        del self._asking[address]
        if not self._asking:
            self._idle.fire(None)

    async def answered(self) -> None:
        """
        Wait until no question is open.
        """
        if self._asking:
            await self._idle.wait()

    def stop(self) -> None:
        """
        Cancel the open questions.
        """
        for asking in tuple(self._asking.values()):
            asking.cancel()
