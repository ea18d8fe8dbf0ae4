"""
Asynchronous iterators over arriving items, with a bounded queue.

Rules: items wait for the consumer, up to a limit; beyond it, the oldest is dropped and counted, so a consumer
that has stopped reading uses bounded memory. The iteration ends when the source ends, after the waiting items
have been delivered.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred

T = TypeVar("T")

#: The maximum number of items that wait for one consumer (guess: some seconds of a busy topic; with contents
#: of the default size some 4 MB).
MAX_WAITING = 1024


class Feed(AsyncIterator[T], Generic[T]):
    """
    An asynchronous iterator for coroutines that wait for Deferreds.

    @ivar dropped: how many items were dropped because the consumer was too slow.
    """

    def __init__(self, ended: Callable[[], object] = lambda: None, limit: int = MAX_WAITING) -> None:
        """
        @param ended: called once, when the consumer closes the feed.
        @param limit: the number of items that may wait.
        """
        self.dropped = 0
        self._ended = ended
        self._limit = limit
        self._items: deque[T] = deque()
        self._waiting: deque[Deferred[T]] = deque()
        self._over = False

    def __repr__(self) -> str:
        state = "ended" if self._over else "open"
        return f"<Feed {state}: {len(self._items)} waiting, {self.dropped} dropped>"

    def put(self, item: T) -> None:
        """
        Add an item, unless the feed has ended.
        """
        if self._over:
            return
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.called:
                waiter.callback(item)
                return
        if len(self._items) >= self._limit:
            self._items.popleft()
            self.dropped += 1
        self._items.append(item)

    def end(self) -> None:
        """
        End the iteration after the waiting items.
        """
        self._over = True
        waiting, self._waiting = self._waiting, deque()
        for waiter in waiting:
            if not waiter.called:
                waiter.errback(StopAsyncIteration())

    def close(self) -> None:
        """
        Stop reading: end the iteration at once, and the subscription to the source.
        """
        if not self._over:
            self._ended()
        self._items.clear()
        self.end()

    def next(self) -> Deferred[T]:
        """
        Return a Deferred that fires with the next item, and fails with
        C{StopAsyncIteration} after the last one.  It can be cancelled, and then takes
        none.
        """
        waiter: Deferred[T] = Deferred(self._cancelled)
        if self._items:
            waiter.callback(self._items.popleft())
        elif self._over:
            waiter.errback(StopAsyncIteration())
        else:
            self._waiting.append(waiter)
        return waiter

    def __aiter__(self) -> Feed[T]:
        return self

    async def __anext__(self) -> T:
        return await self.next()

    async def aclose(self) -> None:
        """
        Do the same as L{close}, for C{contextlib.aclosing}.
        """
        self.close()

    def _cancelled(self, waiter: Deferred[T]) -> None:
        if waiter in self._waiting:
            self._waiting.remove(waiter)
