"""
The last events of a tracker, for L{dtt.tracker.status} and for observers.

Rules: the number of events is bounded.  An event costs an entry in a queue; its sentence is created only on
request.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from twisted.internet.interfaces import IReactorTime

from dtt.events import Event, Message, TopicEvent
from dtt.tracker.status import EventStatus

#: Events that are remembered (guess: a page full).
MAX_EVENTS: Final = 64


class EventHistory:
    """
    The last events of a tracker, except messages.
    """

    def __init__(self, clock: IReactorTime) -> None:
        """
        @param clock: the time.
        """
        self._clock = clock
        self._events: deque[tuple[float, Event]] = deque(maxlen=MAX_EVENTS)
        self._observers: dict[object, Callable[[Event, float], None]] = {}

    def add(self, event: Event) -> None:
        """
        Remember an event, and notify the observers.
        """
        now = self._clock.seconds()
        if not isinstance(event, Message):
            self._events.append((now, event))
        for observer in tuple(self._observers.values()):
            observer(event, now)

    def observe(self, observer: Callable[[Event, float], None]) -> Callable[[], None]:
        """
        Call C{observer} with each event from now on, and with its time in unix seconds.

        @param observer: must not raise.
        @return: a function that ends this; may be called again.
        """
        key = object()
        self._observers[key] = observer

        def end() -> None:
            self._observers.pop(key, None)

        return end

    def status(self) -> tuple[EventStatus, ...]:
        """
        Return the events, the latest last.
        """
        return tuple(event_status(event, time) for time, event in self._events)


def event_status(event: Event, time: float) -> EventStatus:
    """
    Return an event in readable form.

    @param event: the event.
    @param time: when it happened, unix seconds.
    """
    topic = event.topic if isinstance(event, TopicEvent) else None
    return EventStatus(
        time=time, name=event.name, text=event.text(), topic=topic, is_warning=event.is_warning
    )
