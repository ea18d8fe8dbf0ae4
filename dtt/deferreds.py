"""
Helpers for Deferreds and delayed calls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

T = TypeVar("T")


def cancel_if_active(call: IDelayedCall | None) -> None:
    """
    Cancel C{call} unless it is C{None}, has run or was cancelled.
    """
    if call is not None and call.active():
        call.cancel()


class Waiters(Generic[T]):
    """
    Callers that wait for the same thing.  Each has a Deferred of its own, which it
    may cancel without disturbing the others.
    """

    def __init__(self, abandoned: Callable[[], None] = lambda: None) -> None:
        """
        @param abandoned: called when the last waiter has cancelled.
        """
        # Ordered: who came first is called first.
        self._waiting: dict[Deferred[T], None] = {}
        self._abandoned = abandoned

    def __len__(self) -> int:
        return len(self._waiting)

    def wait(self) -> Deferred[T]:
        """
        Return a Deferred that L{fire} fires.
        """
        waiter: Deferred[T] = Deferred(self._cancelled)
        self._waiting[waiter] = None
        return waiter

    def fire(self, result: T | Failure) -> None:
        """
        Fire the Deferreds of all who wait now, in their order.  What one of them
        does may cancel another, or wait anew: that waits for the next call.
        """
        waiting, self._waiting = self._waiting, {}
        for waiter in waiting:
            if not waiter.called:
                waiter.callback(result)

    def cancel(self) -> None:
        """
        Cancel the Deferreds of all who wait now.
        """
        waiting, self._waiting = self._waiting, {}
        for waiter in waiting:
            waiter.cancel()

    def _cancelled(self, waiter: Deferred[T]) -> None:
        if waiter in self._waiting:  # otherwise it is about to fire
            del self._waiting[waiter]
            if not self._waiting:
                self._abandoned()
