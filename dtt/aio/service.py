"""
Trackers and topics with coroutines instead of Deferreds.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self
from weakref import ref

from twisted.internet.defer import maybeDeferred

from dtt.aio.discovery import AsyncDiscovery
from dtt.aio.loops import acquire, release
from dtt.aio.stream import Stream
from dtt.aio.waiting import finish, result_of
from dtt.config import Config
from dtt.events import EventSink, NeighborDown, NeighborUp
from dtt.identity import PeerKey
from dtt.interfaces import GossipMessage
from dtt.records.topic import Rotation, TopicId, default_rotation
from dtt.tracker.topic import TopicService
from dtt.tracker.tracker import Tracker, log_event


@asynccontextmanager
async def tracker(
    config: Config | None = None, on_event: EventSink = log_event, *, key: PeerKey | None = None
) -> AsyncIterator[AsyncTracker]:
    """
    Run a tracker on the running event loop, for the body of an C{async with} statement.

    @param config: the settings; C{None}: the defaults.
    @param on_event: called with each event.  By default, events are logged with Twisted's
        logger.
    @param key: our key pair; C{None}: the key in the state directory, or a temporary one.
    @raise WrongType: an argument has a wrong type.
    @raise StateError: the state directory or the key can't be used, or another process
        uses the directory.
    @raise ListenError: a port can't be bound.
    @raise UsageError: a transport is not installed.
    """
    loop = asyncio.get_running_loop()
    reactor = acquire(loop)
    try:
        service = Tracker(reactor, config, on_event, key=key)
        running = AsyncTracker(service, reactor)
        try:
            service.privilegedStartService()
            service.startService()
            yield running
        finally:
            await running._stop()
    finally:
        release(loop)


class AsyncTracker:
    """
    A running tracker.  Made by L{tracker}.

    @ivar service: the L{Tracker<dtt.tracker.tracker.Tracker>} itself.
    @ivar reactor: the Twisted reactor on which it runs, for other services of Twisted.
    @ivar peer_id: our peer id, 32 bytes.
    """

    def __init__(self, service: Tracker, reactor: Any) -> None:
        """
        @param service: the tracker; its owner starts and stops it.
        @param reactor: the reactor on which it runs.
        """
        self.service = service
        self.reactor = reactor
        self.peer_id = service.peer_id
        self._topics: set[AsyncTopic] = set()

    def __repr__(self) -> str:
        return f"<AsyncTracker of {self.service!r}>"

    def join(
        self,
        name: str | bytes | TopicId,
        secret: bytes = b"",
        rotation: Rotation = default_rotation,
        *,
        accept: Callable[[bytes], bool] | None = None,
    ) -> AsyncTopic:
        """
        Join a topic.  Does not wait for a neighbour; L{AsyncTopic.joined} does.

        The topic is left with the tracker, or with L{AsyncTopic.leave}, or at the end of an
        C{async with} statement with the result of this call.

        @param name: as for L{Tracker.join<dtt.tracker.tracker.Tracker.join>}.
        @param secret: the secret that the members share.
        @param rotation: derives the encryption seed of each minute.
        @param accept: returns whether a member may be a neighbour.
        @raise AlreadyJoined: the topic is already joined.
        @raise TopicLeft: the tracker has stopped.
        @raise UsageError: the name is not Unicode text, or the rotation does not return 32
            bytes.
        """
        topic = AsyncTopic(self.service.join(name, secret, rotation, accept=accept), self._topics.discard)
        self._topics.add(topic)
        return topic

    def discover(
        self,
        topic: str | bytes | TopicId,
        *,
        secret: bytes = b"",
        content: bytes | None = None,
        rotation: Rotation = default_rotation,
    ) -> AsyncDiscovery:
        """
        Publish a content under a topic and find those of others, without joining a swarm.

        This ends with the tracker, or with
        L{AsyncDiscovery.leave<dtt.aio.discovery.AsyncDiscovery.leave>}, or at the end of an C{async with}
        statement with the result of this call.

        @param topic: as for L{Tracker.discover<dtt.tracker.tracker.Tracker.discover>}.
        @param secret: the secret that the publishers share.
        @param content: the content to publish; C{None}: publish nothing.
        @param rotation: derives the encryption seed of each minute.
        @raise WrongType: an argument has a wrong type.
        @raise AlreadyJoined: the topic is already in use.
        @raise ContentTooLarge: C{content} is more than 712 bytes.
        @raise TopicLeft: the tracker has stopped.
        """
        return AsyncDiscovery(self.service.discover(topic, secret=secret, content=content, rotation=rotation))

    async def _stop(self) -> None:
        for topic in tuple(self._topics):
            topic._end()
        await finish(maybeDeferred(self.service.stopService))


class AsyncTopic:
    """
    A topic that we have joined.  Made by L{AsyncTracker.join}.

    @ivar service: the L{TopicService<dtt.tracker.topic.TopicService>} itself.
    @ivar topic_id: 32 bytes.
    """

    def __init__(self, service: TopicService, forget: Callable[[AsyncTopic], None]) -> None:
        """
        @param service: the topic.
        @param forget: called with this object when the topic is left.
        """
        self.service = service
        self.topic_id = service.topic_id
        self._forget = forget
        self._streams: set[ref[Stream[Any]]] = set()

    def __repr__(self) -> str:
        return f"<AsyncTopic of {self.service!r}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: object, error: object, traceback: object) -> None:
        await self.leave()

    async def joined(self) -> None:
        """
        Wait until there is a neighbour.

        @raise TopicLeft: the topic was left.
        """
        await result_of(self.service.when_joined())

    async def broadcast(self, content: bytes) -> int:
        """
        Send C{content} to the whole swarm; return the number of neighbours it was sent to.  See
        L{TopicService.broadcast<dtt.tracker.topic.TopicService.broadcast>}.  If the task is cancelled while
        it waits, the content was sent nevertheless.
        """
        return await result_of(self.service.broadcast(content))

    async def broadcast_neighbors(self, content: bytes) -> int:
        """
        Send C{content} to direct neighbours only; otherwise as L{broadcast}.
        """
        return await result_of(self.service.broadcast_neighbors(content))

    async def send(self, peer_id: bytes, content: bytes) -> None:
        """
        Send C{content} to one direct neighbour; see
        L{TopicService.send<dtt.tracker.topic.TopicService.send>}.
        """
        await result_of(self.service.send(peer_id, content))

    def neighbors(self) -> tuple[bytes, ...]:
        """
        Return the peer ids of the current neighbours.
        """
        return self.service.neighbors()

    def counters(self) -> dict[str, int]:
        """
        Return how many messages were dropped, may be lost or reached nobody, by reason.
        """
        return self.service.counters()

    def join_peers(self, peer_ids: Sequence[bytes]) -> None:
        """
        Join members that the application knows from another source.

        @param peer_ids: their peer ids, 32 bytes each.
        """
        self.service.join_peers(peer_ids)

    def messages(self) -> Stream[GossipMessage]:
        """
        Return an asynchronous iterator over the messages that arrive from now on.  Each call returns a
        separate iterator over all messages.
        """
        stream: Stream[GossipMessage] = Stream()
        self._subscribe(stream, lambda item: isinstance(item, GossipMessage))
        return stream

    def neighbor_changes(self) -> Stream[NeighborUp | NeighborDown]:
        """
        Return an asynchronous iterator over new and lost neighbours, starting with the current neighbours.
        """
        stream: Stream[NeighborUp | NeighborDown] = Stream()
        self._subscribe(stream, lambda item: not isinstance(item, GossipMessage))
        return stream

    async def leave(self) -> None:
        """
        Leave the topic.  Iterators end once they have returned all messages that have arrived.
        """
        leaving = self.service.leave()
        self._end()
        await finish(leaving)

    def _subscribe(self, stream: Stream[Any], wants: Callable[[object], bool]) -> None:
        """
        Forward notifications to a stream, until it is closed or nobody refers to it.
        """
        observer = _Observer(self.topic_id, wants)
        end = self.service.subscribe(observer)

        def gone(reference: ref[Stream[Any]]) -> None:
            self._streams.discard(reference)
            end()

        observer.stream = reference = ref(stream, gone)
        self._streams.add(reference)
        stream._on_close = lambda: gone(reference)
        observer.flush()

    def _end(self) -> None:
        self._forget(self)
        for reference in tuple(self._streams):
            stream = reference()
            if stream is not None:
                stream._end()


class _Observer:
    """
    Passes notifications to a stream.

    @ivar stream: where they go; C{None}: nowhere yet.
    """

    def __init__(self, topic_id: bytes, wants: Callable[[object], bool]) -> None:
        self.stream: ref[Stream[Any]] | None = None
        self._topic_id = topic_id
        self._wants = wants
        self._early: list[object] = []

    def flush(self) -> None:
        """
        Forward notifications that arrived during the subscription.
        """
        early, self._early = self._early, []
        for item in early:
            self._pass(item)

    def neighbor_up(self, peer_id: bytes) -> None:
        self._pass(NeighborUp(self._topic_id, peer_id))

    def neighbor_down(self, peer_id: bytes) -> None:
        self._pass(NeighborDown(self._topic_id, peer_id))

    def message_received(self, message: GossipMessage) -> None:
        self._pass(message)

    def topic_left(self) -> None:
        """
        End the stream.
        """
        stream = None if self.stream is None else self.stream()
        if stream is not None:
            stream._end()

    def _pass(self, item: object) -> None:
        if not self._wants(item):
            return
        if self.stream is None:
            self._early.append(item)
            return
        stream = self.stream()
        if stream is not None:
            stream._push(item)
