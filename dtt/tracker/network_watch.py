"""
Detects changes of this machine's network: another Wi-Fi, a new address from the provider, sleep.

Rules:
  - The addresses of the machine are checked every few seconds, which costs some 20 microseconds.  While there
    is none, nothing can be reached, and nothing is reported.
  - A check that is much too late shows that the machine has slept, or that its clock was set forward: in both
    cases connections may be dead.
  - Others tell us when they see us at another address, and the DHT node when nodes answer again after an
    outage.  Other nodes can cause both, so the rate of these reports is limited.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from functools import partial
from typing import Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from dtt.deferreds import cancel_if_active

#: Seconds between two checks (guess: a fifth of the time within which members should be joined again).
INTERVAL: Final = 2.0

#: Seconds by which a check must be late to count as sleep (guess: more than any delay by load, less than the
#: lifetime of a NAT's mapping).
LATE: Final = 15.0

#: The minimum number of seconds between two reports of another mapped address, and between two reports of a
#: network that has returned (guess: each report costs each neighbour one small message).
PAUSE: Final = 15.0


class Change(Enum):
    """
    What has changed.
    """

    #: The machine has other addresses.
    ADDRESSES = "this machine has other addresses"
    #: The machine has slept.
    SLEPT = "this machine has slept, or its clock was set"
    #: Others see us at another address.
    MAPPING = "others see this machine at another address"
    #: The DHT answers again.
    RETURNED = "DHT nodes answer again after an outage"


class _Reports:
    """
    Reports that may come too often.
    """

    def __init__(self, clock: IReactorTime, report: Callable[[], object]) -> None:
        self._clock = clock
        self._report = report
        self._at = float("-inf")
        self._next: IDelayedCall | None = None

    def soon(self) -> None:
        """
        Report in the next turn of the reactor, or when the pause since the last report is over.
        """
        if self._next is None:
            wait = self._at + PAUSE - self._clock.seconds()
            # Never now: the caller is handling a datagram.
            self._next = self._clock.callLater(min(max(0.0, wait), PAUSE), self._now)

    def stop(self) -> None:
        cancel_if_active(self._next)
        self._next = None

    def _now(self) -> None:
        self._next = None
        self._at = self._clock.seconds()
        self._report()


class NetworkWatch:
    """
    Watches the network of this machine.
    """

    def __init__(
        self,
        clock: IReactorTime,
        interfaces: Callable[[], Sequence[str]],
        changed: Callable[[Change], object],
    ) -> None:
        """
        @param clock: schedules the checks.  Its time continues while the machine sleeps.
        @param interfaces: returns the IP literals of this machine.
        @param changed: called when something has changed.
        """
        self._clock = clock
        self._interfaces = interfaces
        self._changed = changed
        self._known: frozenset[str] = frozenset()
        # Whether a change while there was no address must still be reported.
        self._was_away = False
        self._due = 0.0
        self._next: IDelayedCall | None = None
        self._mapping = _Reports(clock, partial(self._report, Change.MAPPING))
        self._return = _Reports(clock, partial(self._report, Change.RETURNED))

    def start(self) -> None:
        """
        Start to watch.
        """
        self._known = frozenset(self._interfaces())
        self._was_away = not self._known
        self._schedule()

    def stop(self) -> None:
        """
        Stop to watch.
        """
        cancel_if_active(self._next)
        self._next = None
        self._mapping.stop()
        self._return.stop()

    def mapping_changed(self) -> None:
        """
        Report that others see us at another address: in the next turn of the reactor, or
        when the pause since the last report is over.
        """
        if self._next is not None:
            self._mapping.soon()

    def returned(self) -> None:
        """
        Report, likewise, that DHT nodes answer again.
        """
        if self._next is not None:
            self._return.soon()

    def _report(self, change: Change) -> None:
        # Others may notice before the next check that the machine has other addresses.
        self._changed(Change.ADDRESSES if self._has_moved() else change)

    def _schedule(self) -> None:
        self._due = self._clock.seconds() + INTERVAL
        self._next = self._clock.callLater(INTERVAL, self._look)

    def _look(self) -> None:
        late = self._clock.seconds() - self._due
        self._schedule()
        if self._has_moved():
            self._changed(Change.ADDRESSES)
        elif late >= LATE and not self._was_away:
            self._changed(Change.SLEPT)

    def _has_moved(self) -> bool:
        """
        Check the addresses; return whether they have changed, or there were none at the last check.
        """
        found = frozenset(self._interfaces())
        if not found:
            self._was_away = True
            return False
        changed = self._was_away or found != self._known
        self._known = found
        self._was_away = False
        return changed
