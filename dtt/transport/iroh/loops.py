"""
The loops that serve one iroh connection, and end together.

Rules: to stop them cancels what they wait for, not they themselves: the one that
is running right now (it may be the one that stops) ends at its next wait.  All
together they do so much in one turn of the reactor, however many they are and
whatever has come: then they wait in line for the next one.
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

T = TypeVar("T")

#: Pieces of work in a turn of the reactor: a message, a read, a new stream (guess: a
#: turn takes some milliseconds, and what is written in one is written together).
SHARE = 512


class Loops:
    """
    Coroutines, and what they wait for.

    @ivar clock: time.
    @ivar stopped: after L{stop}.
    """

    def __init__(self, clock: IReactorTime, calls: Calls) -> None:
        self.clock = clock
        self.stopped = False
        self._calls = calls
        self._waiting: dict[Deferred[Any], None] = {}
        self._left = SHARE
        self._line: deque[Deferred[None]] = deque()
        self._called = False

    def run(self, loop: Coroutine[Any, Any, None], on_failed: Callable[[Failure], None]) -> Deferred[None]:
        """
        Start a coroutine.

        @param on_failed: told what it raised, but not that it was stopped.
        @return: fires at its end, however it comes; not to be cancelled.
        """

        def failed(failure: Failure) -> None:
            if not self.stopped and not failure.check(CancelledError):
                on_failed(failure)
            if failure.check(CancelledError, RemoteError):
                failure.cleanFailure()

        return Deferred.fromCoroutine(loop).addErrback(failed)

    async def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """
        Wait for a call of the bindings.
        """
        return await self.wait(self._calls.call(coroutine))

    async def wait(self, what: Deferred[T]) -> T:
        """
        Wait for whatever it is.
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

    async def take(self, wanted: int = 1) -> int:
        """
        Take pieces of work of this turn, or of a later one: wait in line until
        something is left.

        @return: how many may be done now, 1..C{wanted}.
        """
        while not self._left:
            turn: Deferred[None] = Deferred(self._line.remove)
            self._line.append(turn)
            self._call()
            await self.wait(turn)
        taken = min(wanted, self._left)
        self._left -= taken
        return taken

    def _call(self) -> None:
        if not self._called:
            self._called = True
            self.clock.callLater(0, self._next_turn)

    def _next_turn(self) -> None:
        self._called = False
        self._left = SHARE
        while self._line and self._left:
            self._line.popleft().callback(None)
        if self._line:
            self._call()

    def stop(self) -> None:
        """
        End all loops.
        """
        self.stopped = True
        for what in tuple(self._waiting):
            what.cancel()
