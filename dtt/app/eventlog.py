"""
Events as lines: for C{dtt chat --json} and the plugin's C{--log-format json}.
"""

from __future__ import annotations

import json
from typing import IO, Any

from twisted.logger import ILogObserver, LogEvent, formatEvent
from zope.interface import implementer

from dtt.events import Event, to_json


def json_line(event: Event, time: float) -> str:
    """
    One line, with its newline.

    @param time: when it happened, unix seconds.
    """
    return json.dumps(to_json(event, time)) + "\n"


@implementer(ILogObserver)
class JSONLogObserver:
    """
    Writes every log event as one JSON line: ours as in L{dtt.events}, all
    others as C{event} C{"log"} with C{time}, C{level}, C{source} and C{text}.
    """

    def __init__(self, file: IO[Any]) -> None:
        """
        @param file: takes text, as Twisted's log files do.
        """
        self._file = file

    def __call__(self, event: LogEvent) -> None:
        """
        Write one line; what can't be written is lost, as in Twisted's own.
        """
        ours = event.get("dtt_event")
        time = event["log_time"]
        if isinstance(ours, Event):
            line = json_line(ours, time)
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
