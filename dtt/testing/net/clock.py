"""
Clocks for the in-memory networks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heappush
from typing import Final

from twisted.internet.base import DelayedCall
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock

#: Stale heap entries allowed, in addition to one for each pending call. Guess.
_SPARE: Final = 64


class HeapClock(Clock):
    """
    A clock for thousands of pending calls. It keeps them in a heap, where
    C{twisted.internet.task.Clock} sorts all of them each time.

    Calls due at the same time run in the order in which C{callLater} scheduled them.
    C{Clock} does the same, except for calls that C{reset} or C{delay} moved to that time.
    """

    def __init__(self) -> None:
        super().__init__()
        # The pending calls, and their positions in the order of scheduling.
        self._active: dict[DelayedCall, int] = {}
        # Their times. May also contain former times of calls that have been moved, cancelled or run.
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
        Schedule a call C{delay} seconds from now.
        """
        call = DelayedCall(self.rightNow + delay, callable, args, kw, self._forget, self._push, self.seconds)
        self._serial += 1
        self._active[call] = self._serial
        self._push(call)
        return call

    def getDelayedCalls(self) -> Sequence[IDelayedCall]:
        """
        All pending calls, in the order of scheduling.
        """
        return list(self._active)

    def next_due(self) -> float | None:
        """
        The time of the next call; C{None} if there is none.
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
        Move the time forward by C{amount} seconds and run all calls that are due by then.
        """
        self.rightNow += amount
        while (due := self.next_due()) is not None and due <= self.rightNow:
            self._run_next()

    def run_until(self, end: float) -> None:
        """
        Move the time forward from call to call; see L{advance<dtt.testing.net.clock.advance>}.

        @param end: the time at which to stop; calls due then are run.
        """
        while (due := self.next_due()) is not None and due <= end:
            if due > self.rightNow:
                self.rightNow = due
            self._run_next()
        self.rightNow = end

    def _run_next(self) -> None:
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
    Advance the clock event by event: an event caused by another one within C{seconds}
    runs at its own time.
    """
    end = clock.seconds() + seconds
    if isinstance(clock, HeapClock):
        clock.run_until(end)
        return
    while calls := clock.getDelayedCalls():
        due = min(call.getTime() for call in calls)
        if due > end:
            break
        # Don't use C{advance(due - now)}: a rounding error may leave the sum just short of C{due}, and
        # the loop would never end.
        clock.rightNow = max(due, clock.seconds())
        clock.advance(0)
    clock.rightNow = end


class ThreadClock(Clock):
    """
    A clock that accepts calls from "threads": L{callFromThread} schedules them for the
    next turn.
    """

    def callFromThread(self, function: Callable[..., object], *args: object) -> None:
        """
        Call C{function} in the next turn.
        """
        self.callLater(0, function, *args)
