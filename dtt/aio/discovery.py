"""
Discovery without a swarm, with coroutines.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Self

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from dtt.aio.waiting import finish
from dtt.tracker.discover import DiscoveryService, Found


class AsyncDiscovery:
    """
    Publishes a content under a topic, and finds the contents of others.  Made by
    L{AsyncTracker.discover<dtt.aio.service.AsyncTracker.discover>}.  It is also an asynchronous iterable of
    L{Found}, as is L{results}.

    @ivar service: the L{DiscoveryService<dtt.tracker.discover.DiscoveryService>} itself.
    @ivar topic_id: 32 bytes.
    """

    def __init__(self, service: DiscoveryService) -> None:
        """
        @param service: the service.
        """
        self.service = service
        self.topic_id = service.topic_id

    def __repr__(self) -> str:
        return f"<AsyncDiscovery of {self.service!r}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: object, error: object, traceback: object) -> None:
        await self.leave()

    def __aiter__(self) -> AsyncIterator[Found]:
        return self.results()

    async def results(self) -> AsyncGenerator[Found, None]:
        """
        Iterate over the publishers: those already found, and then each that is found or has changed its
        content.  Ends after L{leave}.  If the consumer is too slow, it drops the oldest of 1024 results.
        """
        feed = self.service.results()
        loop = asyncio.get_running_loop()
        try:
            while True:
                # asyncio's futures can't fail with StopAsyncIteration.
                waiting: Deferred[Found | None] = feed.next().addErrback(_end)
                found = await waiting.asFuture(loop)
                if found is None:
                    return
                yield found
        finally:
            feed.close()

    def found(self) -> tuple[Found, ...]:
        """
        Return the latest result for each publisher, the most recently seen one last; at most 4096.
        """
        return self.service.found()

    def publish(self, content: bytes | None) -> None:
        """
        Publish another content from now on; see
        L{DiscoveryService.publish<dtt.tracker.discover.DiscoveryService.publish>}.
        """
        self.service.publish(content)

    def counters(self) -> dict[str, int]:
        """
        Return how many records were read, refused and published, by reason.
        """
        return self.service.counters()

    async def leave(self) -> None:
        """
        Stop publishing and searching.  Iterators end once they have returned what was found.
        """
        await finish(self.service.leave())


def _end(failure: Failure) -> None:
    failure.trap(StopAsyncIteration)
