"""
Helpers for Deferreds and delayed calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred, DeferredList, FirstError, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

T = TypeVar("T")


def cancel_if_active(call: IDelayedCall | None) -> None:
    """
    Cancel C{call} unless it is C{None}, has run or was cancelled.
    """
    if call is not None and call.active():
        call.cancel()


def gather_until(
    running: Iterable[Deferred[T]],
    enough: Callable[[T], bool] | None = None,
    promising: Callable[[int], bool] = lambda _: True,
    tolerated: type[Exception] | tuple[()] = (),
) -> Deferred[list[T]]:
    """
    Wait for all Deferreds, or until one result is C{enough}; then cancel the rest.

    @param enough: returns whether a result is sufficient; C{None}: wait for all.
    @param promising: returns whether the Deferred with this index will probably have a
        result.  The others are not waited for once a promising one has fired and none of
        these is left.
    @param tolerated: an exception that does not fail the whole, unless all Deferreds
        fail with it.
    @return: fires with the results in order, without those of cancelled Deferreds and of
        those with a C{tolerated} failure; fails with the first other failure, which
        cancels the rest.  Cancelling it cancels all Deferreds.
    """
    deferreds = list(running)
    if not deferreds:
        return succeed([])
    results: dict[int, T] = {}
    left = set(range(len(deferreds)))

    def cancel(_: object) -> None:
        for deferred in deferreds:
            deferred.cancel()

    done: Deferred[list[T]] = Deferred(cancel)

    def succeeded(result: T, index: int) -> None:
        left.discard(index)
        results[index] = result
        if not done.called and (is_over() or (enough is not None and enough(result))):
            finish()

    def failed(failure: Failure, index: int) -> None:
        left.discard(index)
        if done.called:
            return
        if isinstance(failure.value, tolerated) and (left or results):
            if is_over():
                finish()
            return
        done.errback(failure)
        cancel(done)

    def is_over() -> bool:
        return not left or (any(map(promising, results)) and not any(map(promising, left)))

    def finish() -> None:
        done.callback([results[number] for number in sorted(results)])
        cancel(done)

    for index, deferred in enumerate(deferreds):
        deferred.addCallbacks(succeeded, failed, callbackArgs=(index,), errbackArgs=(index,))
    return done


async def first_of(*deferreds: Deferred[Any]) -> int:
    """
    Wait until one of C{deferreds} has fired.  Raises its exception if it failed.

    @return: the index of that one.
    """
    try:
        _, first = await DeferredList(deferreds, fireOnOneCallback=True, fireOnOneErrback=True)
    except FirstError as error:
        error.subFailure.raiseException()
    return first


def abandon(*deferreds: Deferred[Any]) -> None:
    """
    Cancel C{deferreds}, and ignore their failures.
    """
    for deferred in deferreds:
        deferred.addErrback(lambda _: None)
        deferred.cancel()


class Waiters(Generic[T]):
    """
    Callers that wait for the same result. Each has a separate Deferred, which it may cancel without affecting
    the others.
    """

    def __init__(self, abandoned: Callable[[], None] = lambda: None) -> None:
        """
        @param abandoned: called when the last waiter has cancelled.
        """
        # Ordered: first come, first called.
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
        Fire the Deferreds of all current waiters, in order.  A callback may cancel another Deferred, or wait
        again; then it waits for the next call.
        """
        waiting, self._waiting = self._waiting, {}
        for waiter in waiting:
            if not waiter.called:
                waiter.callback(result)

    def cancel(self) -> None:
        """
        Cancel the Deferreds of all current waiters.
        """
        waiting, self._waiting = self._waiting, {}
        for waiter in waiting:
            waiter.cancel()

    def _cancelled(self, waiter: Deferred[T]) -> None:
        if waiter in self._waiting:  # otherwise it is about to fire
            del self._waiting[waiter]
            if not self._waiting:
                self._abandoned()
