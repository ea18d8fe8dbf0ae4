"""
Logs of a service and of C{dtt chat}: events as JSON lines, and a filter by level.
"""

from __future__ import annotations

import json
from typing import IO, Any

from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent
from zope.interface import implementer

from dtt.events import Event, to_json

#: The values of C{--log-level}, the least important one first.
LEVELS = ("debug", "info", "warn", "error")


def json_line(event: Event, time: float) -> str:
    """
    Format an event as one line of JSON, including the newline.

    @param event: the event.
    @param time: when it happened, in unix seconds.
    """
    return json.dumps(to_json(event, time)) + "\n"


@implementer(ILogObserver)
class JSONLogObserver:
    """
    Writes each log event as one line of JSON: events of dtt as described in
    L{dtt.events}, all others as C{event} C{"log"} with C{time}, C{level},
    C{source} and C{text}.
    """

    def __init__(self, file: IO[Any]) -> None:
        """
        @param file: a text file, or one of Twisted's log files.
        """
        self._file = file

    def __call__(self, event: LogEvent) -> None:
        """
        Write one line.  Twisted's logger handles exceptions of C{file}; the line is
        then lost, as with Twisted's own observers.
        """
        dtt_event = event.get("dtt_event")
        time = event["log_time"]
        if isinstance(dtt_event, Event):
            line = json_line(dtt_event, time)
        else:
            text = formatEvent(event)
            if (failure := event.get("log_failure")) is not None:
                text += "\n" + failure.getTraceback()
            line = (
                json.dumps(
                    {
                        "event": "log",
                        "time": round(time, 6),
                        "level": getattr(event.get("log_level"), "name", "info"),
                        "source": event.get("log_namespace", ""),
                        "text": text,
                    }
                )
                + "\n"
            )
        self._file.write(line)
        self._file.flush()


@implementer(ILogObserver)
class FromLevel:
    """
    Passes on log events that are at least as important as a level.
    """

    def __init__(self, observer: ILogObserver, level: str) -> None:
        """
        @param observer: receives these log events.
        @param level: one of L{LEVELS}.
        """
        self._observer = observer
        self._lowest = LogLevel.levelWithName(level)

    def __call__(self, event: LogEvent) -> None:
        """
        Pass on the event if it is important enough.
        """
        if event.get("log_level", LogLevel.info) >= self._lowest:
            self._observer(event)
