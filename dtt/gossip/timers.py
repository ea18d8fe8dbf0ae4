"""
Named timers inside a machine.  Pure: time comes in as an argument.

A timer that is started again replaces the one of the same name.  Timers due
at the same time fire in the order of their starting.
"""

from __future__ import annotations

from collections.abc import Hashable
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

Name = TypeVar("Name", bound=Hashable)

#: Replaced entries stay in the heap until it holds this many more than there
#: are timers (guess), so that stopping a timer is cheap and memory is bounded.
_SLACK = 64


class Timers(Generic[Name]):
    """
    A heap of deadlines.
    """

    __slots__ = ("_heap", "_live", "_serial")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Name]] = []
        self._live: dict[Name, int] = {}
        self._serial = 0

    def __len__(self) -> int:
        return len(self._live)

    def __contains__(self, name: Name) -> bool:
        return name in self._live

    def start(self, name: Name, when: float) -> None:
        """
        Let C{name} fire at C{when}, and not at the time it was to fire before.
        """
        self._serial += 1
        self._live[name] = self._serial
        heappush(self._heap, (when, self._serial, name))
        if len(self._heap) > 2 * len(self._live) + _SLACK:
            self._heap = [entry for entry in self._heap if self._live.get(entry[2]) == entry[1]]
            heapify(self._heap)

    def stop(self, name: Name) -> None:
        """
        Do not let C{name} fire.
        """
        self._live.pop(name, None)

    def clear(self) -> None:
        """
        Stop all.
        """
        self._live.clear()
        self._heap.clear()

    def next(self) -> float | None:
        """
        When the next one fires.
        """
        heap = self._heap
        while heap:
            when, serial, name = heap[0]
            if self._live.get(name) == serial:
                return when
            heappop(heap)
        return None

    def pop(self, now: float) -> Name | None:
        """
        The first timer that is due at C{now}; it is stopped.
        """
        when = self.next()
        if when is None or when > now:
            return None
        name = heappop(self._heap)[2]
        del self._live[name]
        return name
