"""
A clock that never goes back.

A reactor's time is the wall clock, which may be set at any moment.  When it is set back
by an hour, every pending call is an hour late, and whatever was measured with it is
wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer


@implementer(IDelayedCall)
class _Call:
    """
    A pending call of a L{SteadyClock}.

    @ivar due: the steady time of the call.
    @ivar inner: the call of the reactor.
    """

    __slots__ = ("_clock", "cancelled", "due", "inner", "run")

    def __init__(self, clock: SteadyClock, due: float, run: Callable[[], object]) -> None:
        self._clock = clock
        self.due = due
        self.run = run
        self.cancelled = False
        self.inner: IDelayedCall | None = None

    def getTime(self) -> float:
        return self.due

    def active(self) -> bool:
        return self.inner is not None

    def cancel(self) -> None:
        self._running().cancel()
        self.cancelled = True
        self._clock._forget(self)

    def reset(self, secondsFromNow: float) -> None:  # noqa: N803 - Twisted's name
        inner = self._running()
        self.due = self._clock.seconds() + secondsFromNow
        inner.reset(secondsFromNow)

    def delay(self, secondsLater: float) -> None:  # noqa: N803 - Twisted's name
        self._running()
        self.reset(max(0.0, self.due + secondsLater - self._clock.seconds()))

    def _running(self) -> IDelayedCall:
        if self.inner is None:
            raise AlreadyCancelled if self.cancelled else AlreadyCalled
        return self.inner


@implementer(IReactorTime)
class SteadyClock:
    """
    The time of a reactor, except that steps back are left out.  A step forward counts as
    time that has passed: it can't be distinguished from sleep of the machine.

    A step back is noticed when the time is next requested; then all pending calls are rescheduled.
    """

    def __init__(self, reactor: IReactorTime) -> None:
        """
        @param reactor: the time, and what schedules calls.
        """
        self._reactor = reactor
        self._last: float = reactor.seconds()
        self._latest = self._last
        # The sum of all steps back, in seconds.
        self._behind = 0.0
        self._calls: dict[_Call, None] = {}

    def seconds(self) -> float:
        """
        Return the time in seconds: that of the reactor, until this is set back.
        """
        now: float = self._reactor.seconds()
        if now < self._last:
            self._stepped_back(now)
        self._last = now
        # Rounding must not set it back either.
        self._latest = max(self._latest, now + self._behind)
        return self._latest

    def callLater(
        self,
        delay: float,
        callable: Callable[..., Any],  # noqa: A002 - Twisted's name
        *args: object,
        **kwargs: object,
    ) -> IDelayedCall:
        """
        Call C{callable} in C{delay} seconds.
        """
        call = _Call(self, self.seconds() + delay, lambda: callable(*args, **kwargs))
        call.inner = self._reactor.callLater(delay, self._run, call)
        self._calls[call] = None
        return call

    def unix(self, seconds: float) -> float:
        """
        Convert a time of this clock to the reactor's time, according to the current offset.
        """
        return seconds - self._behind

    def getDelayedCalls(self) -> Sequence[IDelayedCall]:
        """
        Return the pending calls.
        """
        return tuple(self._calls)

    def _run(self, call: _Call) -> None:
        run = call.run
        self._forget(call)
        self.seconds()
        run()

    def _forget(self, call: _Call) -> None:
        call.inner = None
        # The object that keeps the call is often the one that it runs on: avoid the cycle.
        del call.run
        self._calls.pop(call, None)

    def _stepped_back(self, now: float) -> None:
        self._behind += self._last - now
        steady = now + self._behind
        for call in self._calls:
            if call.inner is not None:
                call.inner.reset(max(0.0, call.due - steady))
