"""
Limits how many lines the events of a tracker write to a log.

Rules: other members cause most events, and can cause any number of them. For each kind of event and topic, at
most one line is logged per second. If more events arrive in a second, the last one is logged at its end, with
the number of the others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from attrs import define
from twisted.internet.interfaces import IReactorTime

from dtt.events import Event, TopicEvent
from dtt.tracker.tracker import log_event

#: Seconds between two lines of the same kind.
INTERVAL: Final = 1.0

#: The maximum number of kinds and topics that are logged in a second; events beyond that are not logged
#: (guess: all kinds for some forty topics).
MAX_KINDS: Final = 1024


@define(slots=True)
class _Kind:
    """
    The events of one kind in this second.

    @ivar last: the last event that was not logged.
    @ivar count: the number of events that were not logged.
    """

    last: Event | None = None
    count: int = 0


class LimitedLog:
    """
    An event sink that logs.
    """

    def __init__(self, clock: IReactorTime, log: Callable[[Event, int], None] = log_event) -> None:
        """
        @param clock: the time.
        @param log: logs an event, and the number of events of its kind that were not logged.
        """
        self._clock = clock
        self._write = log
        self._kinds: dict[tuple[str, bytes], _Kind] = {}

    def __call__(self, event: Event) -> None:
        """
        Log an event now, or perhaps at the end of this second.
        """
        key = event.name, event.topic if isinstance(event, TopicEvent) else b""
        kind = self._kinds.get(key)
        if kind is not None:
            kind.last, kind.count = event, kind.count + 1
        elif len(self._kinds) < MAX_KINDS:
            self._kinds[key] = _Kind()
            self._clock.callLater(INTERVAL, self._over, key)
            self._write(event, 0)

    def _over(self, key: tuple[str, bytes]) -> None:
        kind = self._kinds[key]
        if kind.last is None:
            del self._kinds[key]
            return
        event, others = kind.last, kind.count - 1
        kind.last, kind.count = None, 0
        self._clock.callLater(INTERVAL, self._over, key)
        self._write(event, others)
