"""
Time for the networks in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heappush
from typing import Final

from twisted.internet.base import DelayedCall
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock

#: Entries of the heap that may be of no use any more, besides as many as
#: there are calls.  Guess.
_SPARE: Final = 64


class HeapClock(Clock):
    """
    A clock for thousands of calls: they are in a heap, where
    L{Clock<twisted.internet.task.Clock>} sorts all of them each time.

    Calls at equal times happen in the order in which they were scheduled by
    C{callLater}; so they do in C{Clock}, but for those that were moved to an
    equal time by C{reset} or C{delay}.
    """

    def __init__(self) -> None:
        super().__init__()
        # Those that are to be called, and their places in the order of scheduling.
        self._active: dict[DelayedCall, int] = {}
        # Their times; and former times of calls that were moved, or have been
        # cancelled or called since.
        self._heap: list[tuple[float, int, DelayedCall]] = []
        self._serial = 0

    def callLater(
        self,
        delay: float,
        callable: Callable[..., object],  # noqa: A002 - Twisted's name
        *args: object,
        **kw: object,
    ) -> IDelayedCall:
        """
        See L{twisted.internet.interfaces.IReactorTime.callLater}.
        """
        call = DelayedCall(self.seconds() + delay, callable, args, kw, self._forget, self._push, self.seconds)
        self._serial += 1
        self._active[call] = self._serial
        self._push(call)
        return call

    def getDelayedCalls(self) -> Sequence[IDelayedCall]:
        """
        See L{twisted.internet.interfaces.IReactorTime.getDelayedCalls}.
        """
        return list(self._active)

    def next_due(self) -> float | None:
        """
        When the next call is due; L{None} if there is none.
        """
        heap = self._heap
        while heap:
            time, serial, call = heap[0]
            if self._active.get(call) != serial:
                heappop(heap)
            elif call.getTime() > time:
                heappop(heap)
                call.activate_delay()
                heappush(heap, (call.time, serial, call))
            else:
                return time
        return None

    def advance(self, amount: float) -> None:
        """
        Move the time, and make all calls that are due then.
        """
        self.rightNow += amount
        while (due := self.next_due()) is not None and due <= self.rightNow:
            _, _, call = heappop(self._heap)
            del self._active[call]
            call.called = 1
            call.func(*call.args, **call.kw)

    def _push(self, call: DelayedCall) -> None:
        heap = self._heap
        if len(heap) >= 2 * len(self._active) + _SPARE:
            heap[:] = [(each.getTime(), serial, each) for each, serial in self._active.items()]
            heapify(heap)
            if call.active():
                return
        heappush(heap, (call.getTime(), self._active[call], call))

    def _forget(self, call: DelayedCall) -> None:
        del self._active[call]


def advance(clock: Clock, seconds: float) -> None:
    """
    Let time pass, event by event: what is caused by an event within C{seconds}
    happens at its own time.
    """
    end = clock.seconds() + seconds
    while (due := _next_due(clock)) is not None and due <= end:
        # Not by C{advance(due - now)}: such a sum may fall short of C{due} by
        # a rounding error, and then nothing would ever happen again.
        clock.rightNow = max(due, clock.seconds())
        clock.advance(0)
    clock.rightNow = end


def _next_due(clock: Clock) -> float | None:
    if isinstance(clock, HeapClock):
        return clock.next_due()
    return min((call.getTime() for call in clock.getDelayedCalls()), default=None)


class ThreadClock(Clock):
    """
    A clock that can be woken from "threads": what L{callFromThread} is given
    happens in the next turn.
    """

    def callFromThread(self, function: Callable[..., object], *args: object) -> None:
        """
        As L{twisted.internet.interfaces.IReactorFromThreads.callFromThread}.
        """
        self.callLater(0, function, *args)
