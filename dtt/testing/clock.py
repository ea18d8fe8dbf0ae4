"""
Time for the networks in memory.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.task import Clock


def advance(clock: Clock, seconds: float) -> None:
    """
    Let time pass, event by event: what is caused by an event within C{seconds}
    happens at its own time.
    """
    end = clock.seconds() + seconds
    while calls := clock.getDelayedCalls():
        due = min(call.getTime() for call in calls)
        if due > end:
            break
        # Not by C{advance(due - now)}: such a sum may fall short of C{due} by
        # a rounding error, and then nothing would ever happen again.
        clock.rightNow = max(due, clock.seconds())
        clock.advance(0)
    clock.rightNow = end


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
