"""
Discovery without gossip: publishes a content of the application under a topic, and reports the contents of
others.

Rules: the records are those of docs/protocol/records.md, with an opaque content, so they are compatible with
upstream's C{RecordPublisher}.  The channels are those of members, except the memory of neighbours.  There are
no connections.  While nobody is found, the slots are read at the pace of a member without a neighbour, and
the first record is put urgently; later both continue at the pace of a member with neighbours
(docs/protocol/records.md section 6).  Each publisher is reported when it is first found, and
again when its content has changed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Final

from attrs import evolve, field, frozen
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from dtt.arguments import check_bytes, check_function
from dtt.deferreds import abandon, first_of
from dtt.discovery.candidates import FoundRecord, read_opaque
from dtt.discovery.channels import Channels
from dtt.discovery.configured import channels_of
from dtt.discovery.direct import OptionalContentSource
from dtt.discovery.interfaces import SearchState
from dtt.discovery.shared import SharedServices
from dtt.errors import TopicLeft, UsageError
from dtt.events import count_of
from dtt.feed import Feed
from dtt.records.record import OpaqueContent, check_content_size
from dtt.records.topic import TopicKeys
from dtt.tracker.fetcher import wait_after
from dtt.tracker.leaving import LeavableService
from dtt.tracker.loop import LoopService

#: Seconds between two reads once others have been found, and the share by which they vary
#: (guess: every record is read at least twice while its slot is in use).
READ_INTERVAL: Final = 20.0
READ_JITTER: Final = 0.25

#: The maximum number of remembered publishers.  Beyond it, the least recently seen one is forgotten, and
#: reported again when it is found again (guess: about 4 MB).
MAX_PUBLISHERS: Final = 4096

#: Seconds after which a publisher that is no longer found stops counting as found: its last record is read
#: for that long.
FOUND_FOR: Final = 120.0


@frozen(slots=True)
class Found:
    """
    A publisher that was found, with the content of its record.  Its signature was
    verified, and it knows the topic and the secret.

    @ivar publisher: its peer id, 32 bytes.
    @ivar content: what it has published, 0 to 712 bytes.
    @ivar minute: the unix minute of the record.
    @ivar channel: the name of the discovery channel that has found it, such as
        C{"record_slot"} or C{"sealed_slot"}.
    """

    publisher: bytes = field(repr=bytes.hex)
    content: bytes = field(repr=lambda content: f"<{len(content)} bytes>")
    minute: int
    channel: str


def check_content(content: object) -> None:
    """
    Check the content of a record; C{None}: nothing is published.

    @raise WrongType: it is not C{bytes}.
    @raise ContentTooLarge: it is more than 712 bytes.
    """
    if content is not None:
        check_bytes("content", content)
        assert isinstance(content, bytes)
        check_content_size(len(content))


class DiscoveryService(LeavableService):
    """
    Publishes a content under a topic, and finds the contents of others.  Made by
    L{Tracker.discover<dtt.tracker.tracker.Tracker.discover>}.

    It is also an asynchronous iterable of L{Found}, as is L{results}.

    @ivar topic_id: 32 bytes.
    """

    _log = Logger()

    def __init__(
        self,
        shared: SharedServices,
        keys: TopicKeys,
        content: bytes | None,
        forget: Callable[[DiscoveryService], None],
    ) -> None:
        """
        @param shared: the services of the tracker.
        @param keys: the keys of the topic.
        @param content: as for L{publish}.
        @param forget: called with this service when it has ended.
        @raise UsageError: the content is wrong, or the rotation does not return 32 bytes.
        """
        check_content(content)
        super().__init__()
        self.topic_id = keys.topic_id
        self._reactor = shared.reactor
        self._forget = forget
        self._content = content
        self._found: dict[bytes, Found] = {}
        # The minute and the content that each of them had before, as far as it has changed.
        self._replaced: dict[bytes, tuple[int, bytes]] = {}
        self._found_at = float("-inf")
        self._observers: dict[object, Callable[[Found], object]] = {}
        self._feeds: dict[Feed[Found], None] = {}
        self._over = False
        shared = evolve(shared, read_content=read_opaque, all_publish=True, memory=None)
        self._channels = channels_of(shared, keys, self._opaque_content)
        channels = self._channels.all
        channels.on_record = self._record_found
        self._search = _Search(shared, channels, self._is_alone)
        self._publisher = _Publisher(shared, channels, self._opaque_content, self._is_alone)
        self._search.setServiceParent(self)
        self._publisher.setServiceParent(self)

    def __repr__(self) -> str:
        state = "left" if self._over else "running" if self.running else "not running"
        return (
            f"<DiscoveryService {self.topic_id.label!r}: "
            f"{count_of(len(self._found), 'publisher')} found, {state}>"
        )

    @property
    def content(self) -> bytes | None:
        """
        The published content; C{None}: nothing.
        """
        return self._content

    def publish(self, content: bytes | None) -> None:
        """
        Publish another content from now on.  Records with the previous content stay readable for up to two
        minutes; within a minute others may find either.

        @param content: at most 712 bytes; C{None}: publish nothing.
        @raise WrongType: it is not C{bytes}.
        @raise ContentTooLarge: it is larger.
        @raise TopicLeft: after L{leave<dtt.tracker.leaving.LeavableService.leave>}.
        """
        check_content(content)
        self._check_not_left()
        if content != self._content:
            self._content = content
            self._publisher.restart()

    def found(self) -> tuple[Found, ...]:
        """
        Return the latest result for each publisher, the most recently seen one last; at most 4096.
        """
        return tuple(self._found.values())

    def subscribe(self, on_found: Callable[[Found], object]) -> Callable[[], None]:
        """
        Call C{on_found} with each publisher when it is first found and when its content
        has changed, starting with those that are already found.  An exception that it
        raises is logged.

        @return: a function that ends the subscription.
        @raise WrongType: C{on_found} can't be called, or is a coroutine function.
        @raise TopicLeft: after L{leave<dtt.tracker.leaving.LeavableService.leave>}.
        """
        check_function("on_found", on_found)
        self._check_not_left()
        key = object()
        self._observers[key] = on_found
        for each in self.found():
            self._tell(on_found, each)
        return lambda: self._unsubscribe(key)

    def results(self) -> Feed[Found]:
        """
        Return an asynchronous iterator over the results that L{subscribe} reports.  It ends after
        L{leave<dtt.tracker.leaving.LeavableService.leave>}.  It holds 1024 results; if the consumer is too
        slow, it drops the oldest.
        """
        feed: Feed[Found] = Feed(lambda: self._feeds.pop(feed, None))
        for each in self.found():
            feed.put(each)
        if self._over:
            feed.end()
        else:
            self._feeds[feed] = None
        return feed

    def __aiter__(self) -> AsyncIterator[Found]:
        return self.results()

    def counters(self) -> dict[str, int]:
        """
        Return how many records were read, refused and published, by reason.
        """
        return dict(self._channels.records.counters)

    def startService(self) -> None:
        """
        Publish and search.  The tracker calls this.

        @raise UsageError: the service has started already, or was left.
        """
        if self.running or self._over:
            raise UsageError("this service was already started: create a new one")
        self._channels.start()
        super().startService()

    def unreadable(self) -> int:
        """
        Return how many records of the last two minutes the secret does not decrypt.
        """
        return self._channels.records.summary().unreadable

    async def _stop(self) -> None:
        self._over = True
        self._observers.clear()
        for feed in tuple(self._feeds):
            feed.end()
        self._feeds.clear()
        self._forget(self)
        # An observer may have called us from within one of the coroutines, which can be
        # cancelled only while it waits.
        await deferLater(self._reactor, 0)
        self._channels.stop()
        await maybeDeferred(super().stopService)

    def stopService(self) -> Deferred[None]:
        """
        Stop publishing and searching, as L{leave<dtt.tracker.leaving.LeavableService.leave>}.

        @return: fires once all coroutines have ended.
        """
        return Deferred.fromCoroutine(self._stop())

    def network_changed(self) -> None:
        """
        Search and publish without waits: the network of this machine has changed.
        """
        self._channels.records.network_changed()
        self._search.restart()
        self._publisher.restart()

    def _opaque_content(self) -> OpaqueContent | None:
        return None if self._content is None else OpaqueContent(self._content)

    def _is_alone(self) -> bool:
        return self._reactor.seconds() - self._found_at > FOUND_FOR

    def _record_found(self, record: FoundRecord) -> None:
        known = self._found.get(record.publisher)
        if record.content is None or (known is not None and record.minute < known.minute):
            return
        if self._replaced.get(record.publisher) == (record.minute, record.content):
            return  # another channel still has it
        self._found_at = self._reactor.seconds()
        found = Found(record.publisher, record.content, record.minute, record.channel)
        self._found.pop(found.publisher, None)
        self._found[found.publisher] = found
        if len(self._found) > MAX_PUBLISHERS:
            forgotten = next(iter(self._found))
            del self._found[forgotten]
            self._replaced.pop(forgotten, None)
        if known is not None:
            if known.content == found.content:
                return
            self._replaced[known.publisher] = known.minute, known.content
        for key, observer in tuple(self._observers.items()):
            if key in self._observers:  # an earlier one may have ended its subscription
                self._tell(observer, found)
        for feed in tuple(self._feeds):
            feed.put(found)

    def _tell(self, observer: Callable[[Found], object], found: Found) -> None:
        try:
            observer(found)
        except Exception:
            self._log.failure("unexpected error in an observer of {topic}", topic=self.topic_id.label)

    def _unsubscribe(self, key: object) -> None:
        self._observers.pop(key, None)

    def _check_not_left(self) -> None:
        if self._over:
            raise TopicLeft("the topic was left")


async def pause(reactor: IReactorTime, seconds: float, channels: Channels, asked: int) -> None:
    """
    Wait for C{seconds}, or until more channels can be used than were asked.

    @param asked: the number of channels that were asked.
    """
    end = reactor.seconds() + seconds
    while channels.ready <= asked:
        time: Deferred[None] = deferLater(reactor, max(end - reactor.seconds(), 0.0))
        more = channels.when_more_ready()
        try:
            if await first_of(time, more) == 0:
                return
        finally:
            abandon(time, more)


class _Search(LoopService):
    """
    Reads the slots.
    """

    def __init__(self, shared: SharedServices, channels: Channels, is_alone: Callable[[], bool]) -> None:
        """
        @param is_alone: returns whether nobody has been found recently.
        """
        self._reactor = shared.reactor
        self._rng = shared.rng
        self._retry_interval = shared.config.bootstrap.no_peers_retry_interval
        self._channels = channels
        self._is_alone = is_alone

    async def run(self) -> None:
        """
        Read until cancelled.
        """
        await self._channels.when_ready()
        since, rounds = self._reactor.seconds(), 0
        while True:
            now, asked = self._reactor.seconds(), self._channels.ready
            if self._is_alone():
                await self._channels.find("discovery", SearchState(now - since, rounds, lambda: False))
                rounds += 1
                now = self._reactor.seconds()
                wait = wait_after(rounds, now - since, self._retry_interval)
                # A new minute has a new slot.
                wait = min(wait, max(60 - now % 60, 1.0)) if self._is_alone() else self._pause()
            else:
                await self._channels.find("discovery")
                wait = self._pause()
                if self._is_alone():
                    since, rounds = now, 0
            await pause(self._reactor, wait, self._channels, asked)

    def _pause(self) -> float:
        return READ_INTERVAL * self._rng.uniform(1 - READ_JITTER, 1 + READ_JITTER)


class _Publisher(LoopService):
    """
    Publishes the content.
    """

    def __init__(
        self,
        shared: SharedServices,
        channels: Channels,
        content: OptionalContentSource,
        is_alone: Callable[[], bool],
    ) -> None:
        """
        @param content: returns the content; C{None}: publish nothing.
        @param is_alone: returns whether nobody has been found recently.
        """
        self._reactor = shared.reactor
        self._rng = shared.rng
        self._config = shared.config.publisher
        self._channels = channels
        self._content = content
        self._is_alone = is_alone

    async def run(self) -> None:
        """
        Publish until cancelled.
        """
        content = self._content()
        if content is None:
            return
        await self._channels.when_ready()
        while True:
            asked = self._channels.ready
            await self._channels.publish(lambda: content, "discovery", urgent=self._is_alone())
            seconds = self._config.base_interval + self._rng.uniform(0, self._config.max_jitter)
            await pause(self._reactor, seconds, self._channels, asked)
