"""
The coroutines that serve one iroh connection, and that stop together.

Rules: stopping cancels what the coroutines wait for, not the coroutines themselves: the
one that is running (possibly the one that calls L{Loops.stop}) ends at its next wait.
Together with those of all other connections they do a bounded amount of work per reactor
turn, however many they are and however much has arrived; then they queue for the next
turn (L{dtt.transport.share}).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from dtt.errors import RemoteError
from dtt.transport.iroh.calls import Calls
from dtt.transport.share import PORTION, Share

T = TypeVar("T")


class Loops:
    """
    Coroutines of one connection, and what they wait for.

    @ivar clock: the reactor's clock.
    @ivar stopped: whether L{stop} was called.
    """

    def __init__(self, clock: IReactorTime, calls: Calls, share: Share) -> None:
        """
        @param clock: the reactor's clock.
        @param calls: runs the bindings' coroutines.
        @param share: divides the turns of the reactor among all connections.
        """
        self.clock = clock
        self.stopped = False
        self._calls = calls
        self._waiting: dict[Deferred[Any], None] = {}
        self._share = share
        self._queue: deque[Deferred[None]] = deque()
        self._queued = False

    def run(self, loop: Coroutine[Any, Any, None], on_failed: Callable[[Failure], None]) -> Deferred[None]:
        """
        Start a coroutine.

        @param loop: the coroutine.
        @param on_failed: called with the failure if it raises; not called when it was
            stopped.
        @return: fires when the coroutine ends, for any reason; must not be cancelled.
        """

        def failed(failure: Failure) -> None:
            if not self.stopped and not failure.check(CancelledError):
                on_failed(failure)
            if failure.check(CancelledError, RemoteError):
                failure.cleanFailure()

        return Deferred.fromCoroutine(loop).addErrback(failed)

    async def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """
        Wait for a call of the bindings and return its result.
        """
        return await self.wait(self._calls.call(coroutine))

    async def wait(self, what: Deferred[T]) -> T:
        """
        Wait for a Deferred and return its result.

        @raise CancelledError: after L{stop}.
        """
        if self.stopped:
            what.addErrback(lambda _: None).cancel()
            raise CancelledError
        if what.called:
            return await what
        self._waiting[what] = None
        try:
            result = await what
        finally:
            del self._waiting[what]
        if self.stopped:
            raise CancelledError
        return result

    async def take_work(self, wanted: int = PORTION) -> int:
        """
        Reserve units of work in this reactor turn; if none are left, queue for a later
        turn.

        @param wanted: how many to reserve at most.
        @return: how many may be done now, 1..C{wanted}.
        """
        while not (taken := self._share.take(wanted)):
            turn: Deferred[None] = Deferred(self._queue.remove)
            self._queue.append(turn)
            self._wait()
            await self.wait(turn)
        return taken

    def work_done(self, unused: int = 0) -> None:
        """
        Note that the work of the last L{take_work} is done.

        @param unused: units that were not needed; may be negative.
        """
        self._share.done(unused)

    def _wait(self) -> None:
        if not self._queued:
            self._queued = True
            self._share.wait(self._next_turn)

    def _next_turn(self) -> None:
        self._queued = False
        while self._queue and self._share.free():
            self._queue.popleft().callback(None)
        if self._queue:
            self._wait()

    def stop(self) -> None:
        """
        Stop all coroutines.
        """
        self.stopped = True
        for what in tuple(self._waiting):
            what.cancel()
