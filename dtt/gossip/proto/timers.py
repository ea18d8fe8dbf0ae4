"""
Named timers inside a state machine.  Pure: the time is passed in as an argument.

Starting a timer replaces the one with the same name.  Timers due at the same time fire
in the order in which they were started.
"""

from __future__ import annotations

from collections.abc import Hashable
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

Name = TypeVar("Name", bound=Hashable)

#: Replaced entries stay in the heap until it exceeds twice the number of timers by this much
#: (guess), so that stopping a timer is cheap and memory is bounded.
_SLACK = 64


class Timers(Generic[Name]):
    """
    A heap of deadlines.

    @ivar next: the next deadline, in seconds; C{None} if there is none.
    """

    __slots__ = ("_heap", "_live", "_serial", "next")

    def __init__(self) -> None:
        self.next: float | None = None
        self._heap: list[tuple[float, int, Name]] = []
        self._live: dict[Name, int] = {}
        self._serial = 0

    def __len__(self) -> int:
        return len(self._live)

    def __contains__(self, name: Name) -> bool:
        return name in self._live

    def start(self, name: Name, when: float) -> None:
        """
        Start or restart the timer C{name}, to fire at C{when}.
        """
        self._serial += 1
        self._live[name] = self._serial
        heappush(self._heap, (when, self._serial, name))
        if len(self._heap) > 2 * len(self._live) + _SLACK:
            self._heap = [entry for entry in self._heap if self._live.get(entry[2]) == entry[1]]
            heapify(self._heap)
        self._update_next()

    def stop(self, name: Name) -> None:
        """
        Stop the timer C{name}, if it is running.
        """
        if self._live.pop(name, None) is not None:
            self._update_next()

    def clear(self) -> None:
        """
        Stop all timers.
        """
        self._live.clear()
        self._heap.clear()
        self.next = None

    def pop(self, now: float) -> Name | None:
        """
        Stop and return the first timer that is due at C{now}, or return C{None}.
        """
        if self.next is None or self.next > now:
            return None
        name = heappop(self._heap)[2]
        del self._live[name]
        self._update_next()
        return name

    def _update_next(self) -> None:
        """
        Drop stale entries from the top of the heap, and update L{next}.
        """
        heap = self._heap
        while heap and self._live.get(heap[0][2]) != heap[0][1]:
            heappop(heap)
        self.next = heap[0][0] if heap else None
