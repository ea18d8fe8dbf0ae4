"""
A bounded queue between an observer and an C{async for} statement.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Final, Generic, Self, TypeVar

T = TypeVar("T")

#: The maximum number of items that wait for a reader.  Messages have at most 4055 bytes by default, so
#: this is about 4 MB (guess: minutes of a conversation).
MAX_WAITING: Final = 1024


class Stream(AsyncIterator[T], Generic[T]):
    """
    The items that arrive after the call that returned this object, in order.  Use it in an
    C{async for} statement, which ends when the topic is left.

    If the reader is more than L{MAX_WAITING} items behind, the oldest are dropped.

    @ivar dropped: how many items were dropped.
    """

    def __init__(self) -> None:
        self.dropped = 0
        self._waiting: deque[T] = deque()
        self._over = False
        self._wake: asyncio.Future[None] | None = None
        self._on_close: Callable[[], None] = lambda: None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        """
        Wait for the next item.

        @raise RuntimeError: another task already waits for it.
        """
        while not self._waiting:
            if self._over:
                raise StopAsyncIteration
            if self._wake is not None:
                raise RuntimeError("another task reads this stream: give each task its own stream")
            self._wake = asyncio.get_running_loop().create_future()
            try:
                await self._wake
            finally:
                self._wake = None
        return self._waiting.popleft()

    async def aclose(self) -> None:
        """
        Stop receiving, and drop waiting items.
        """
        self._waiting.clear()
        self._end()

    def _push(self, item: T) -> None:
        if self._over:
            return
        if len(self._waiting) >= MAX_WAITING:
            self._waiting.popleft()
            self.dropped += 1
        self._waiting.append(item)
        self._notify()

    def _end(self) -> None:
        if not self._over:
            self._over = True
            self._on_close()
            self._notify()

    def _notify(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)
