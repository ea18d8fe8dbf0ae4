"""
Tests for L{dtt.app.eventlog}.
"""

from __future__ import annotations

import io
import json
from typing import Any, cast

from twisted.logger import ILogObserver, LogEvent, Logger, LogPublisher, formatEvent
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from dtt import events
from dtt.app.eventlog import LEVELS, FromLevel, JSONLogObserver, json_line


class JSONLogTests(SynchronousTestCase):
    """
    Tests for L{JSONLogObserver}.
    """

    def setUp(self) -> None:
        """
        Make a logger with readable output.
        """
        self.file = io.StringIO()
        observer = JSONLogObserver(self.file)
        verifyObject(ILogObserver, observer)
        self.log = Logger("some.where", observer=LogPublisher(observer))

    def line(self) -> dict[str, Any]:
        """
        Return the one line that was written.
        """
        (line,) = self.file.getvalue().splitlines()
        value: dict[str, Any] = json.loads(line)
        return value

    def test_our_events(self) -> None:
        """
        An event is logged as the line that C{dtt chat --json} prints.
        """
        self.log.info("words", dtt_event=events.DHTReady(3))
        line = self.line()
        self.assertEqual(json.loads(json_line(events.DHTReady(3), line["time"])), line)

    def test_other_lines(self) -> None:
        """
        Other log lines are JSON too.
        """
        self.log.warn("{what} happened", what="something")
        line = self.line()
        self.assertEqual(
            (line["event"], line["level"], line["source"], line["text"]),
            ("log", "warn", "some.where", "something happened"),
        )

    def test_failures(self) -> None:
        """
        A traceback is part of its line.
        """
        try:
            raise ValueError("oops")
        except ValueError:
            self.log.failure("bad")
        self.assertIn("oops", self.line()["text"])

    def test_without_level(self) -> None:
        """
        A log event that another library made by hand need not have a level or a source.
        """
        JSONLogObserver(self.file)({"log_time": 5.0000001, "log_format": "words"})
        self.assertEqual(
            self.line(), {"event": "log", "time": 5.0, "level": "info", "source": "", "text": "words"}
        )

    def test_any_text(self) -> None:
        """
        Newlines, and characters that are no text, stay within the line.
        """
        self.log.info("{text}", text="a\nb\u2028\ud800")
        self.assertEqual(self.file.getvalue().count("\n"), 1)
        self.assertEqual(self.line()["text"], "a\nb\u2028\ud800")

    def test_at_once(self) -> None:
        """
        Each line is written to the file immediately, not when its buffer is full.
        """
        raw = io.BytesIO()
        file = io.TextIOWrapper(raw, "utf-8")
        JSONLogObserver(file)({"log_time": 0.0, "log_format": "words"})
        self.assertTrue(raw.getvalue().endswith(b"\n"))


class FromLevelTests(SynchronousTestCase):
    """
    Tests for L{FromLevel}.
    """

    def passed(self, level: str) -> list[str]:
        """
        Return the texts of the log events that are passed on.
        """
        passed: list[LogEvent] = []
        observer = FromLevel(cast(ILogObserver, passed.append), level)
        verifyObject(ILogObserver, observer)
        log = Logger("some.where", observer=LogPublisher(observer))
        for each in (log.debug, log.info, log.warn, log.error, log.critical):
            each(each.__name__)
        observer({"log_time": 0.0, "log_format": "no level"})
        return [formatEvent(event) for event in passed]

    def test_levels(self) -> None:
        """
        Events of the level and of those above it are passed on, in their order; one without
        a level counts as information.
        """
        every = ["debug", "info", "warn", "error", "critical", "no level"]
        self.assertEqual(
            {level: self.passed(level) for level in LEVELS},
            {"debug": every, "info": every[1:], "warn": every[2:5], "error": every[3:5]},
        )
