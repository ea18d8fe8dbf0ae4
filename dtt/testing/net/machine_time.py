"""
The time of one in-memory machine: its clock may be wrong, and it may sleep or stop.

Rules: timers are scheduled on the clock of the network, so their durations are exact.  Calls that fall due
while the machine sleeps run when it wakes, in order.  On a stopped machine, nothing runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock
from zope.interface import implementer


@implementer(IDelayedCall)
class _Call:
    # A timer of a machine.

    def __init__(self, time: MachineTime, delay: float, act: Callable[[], object]) -> None:
        self._time = time
        self._act = act
        self._due = False
        self._call = time.clock.callLater(delay, self._fire)

    def _fire(self) -> None:
        if self._time.stopped:
            # It never runs, but may be cancelled.
            self._due = True
            return
        if self._time.asleep:
            self._due = True
            self._time.overdue[self] = None
            return
        self._act()

    def run_overdue(self) -> None:
        if self._due:
            self._due = False
            self._act()

    def _again(self, delay: float) -> None:
        # It fell due while the machine slept, but has not run.
        self._due = False
        self._time.overdue.pop(self, None)
        self._call = self._time.clock.callLater(delay, self._fire)

    def getTime(self) -> float:
        return self._call.getTime() + self._time.skew

    def active(self) -> bool:
        return bool(self._due or self._call.active())

    def cancel(self) -> None:
        if self._due:
            self._due = False
            self._time.overdue.pop(self, None)
        else:
            self._call.cancel()

    def delay(self, secondsLater: float) -> None:  # noqa: N803 - Twisted's name
        if self._due:
            self._again(secondsLater)
        else:
            self._call.delay(secondsLater)

    def reset(self, secondsFromNow: float) -> None:  # noqa: N803 - Twisted's name
        if self._due:
            self._again(secondsFromNow)
        else:
            self._call.reset(secondsFromNow)


class MachineTime:
    """
    The time of one machine.

    @ivar clock: the clock of the network.
    @ivar skew: seconds by which the machine's clock is ahead.
    @ivar asleep: whether the machine sleeps.
    @ivar stopped: whether it has stopped for good.
    @ivar overdue: the timers that fell due while it slept, in order.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.skew = 0.0
        self.asleep = self.stopped = False
        self.overdue: dict[_Call, None] = {}

    def seconds(self) -> float:
        """
        The time according to the machine's clock.
        """
        return self.clock.seconds() + self.skew

    def callLater(self, delay: float, act: Callable[..., object], *args: Any, **kw: Any) -> IDelayedCall:
        """
        Schedule a call.
        """
        return _Call(self, delay, (lambda: act(*args, **kw)) if args or kw else act)

    def wake(self) -> None:
        """
        Run what has fallen due while the machine slept, until it sleeps again.
        """
        self.asleep = False
        while self.overdue and not (self.asleep or self.stopped):
            call = next(iter(self.overdue))
            del self.overdue[call]
            call.run_overdue()
