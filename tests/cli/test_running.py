"""
Tests for L{dtt.cli.running}.
"""

from __future__ import annotations

import io
import sys
from importlib import import_module
from typing import Any
from unittest.mock import Mock

import twisted.internet
from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

from dtt.cli import running
from dtt.cli.commands import FAILED, WRONG_USAGE
from dtt.errors import RemoteError, UsageError


class WarningTests(SynchronousTestCase):
    """
    Tests for L{running.warnings_to_stderr}.
    """

    def test_lines(self) -> None:
        """
        A warning and an error are lines like those with which a command fails, without a time, a
        module or a traceback; information is dropped.
        """
        stderr, beginner = io.StringIO(), Mock()
        self.patch(sys, "stderr", stderr)
        self.patch(running, "globalLogBeginner", beginner)
        running.warnings_to_stderr()
        (observer,) = beginner.beginLoggingTo.call_args[0][0]
        log = Logger("dtt.somewhere", observer=observer)
        log.info("Started as {who}.", who="x")
        log.warn("Topic {topic} has no secret.", topic="x")
        try:
            raise RemoteError("no answer")
        except RemoteError:
            log.failure("It was lost")
        self.assertEqual(
            stderr.getvalue().splitlines(),
            ["dtt: warning: Topic x has no secret.", "dtt: error: It was lost: no answer"],
        )


class Reactor:
    """
    A reactor that runs what is to be called first, and then stops.
    """

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def addSystemEventTrigger(self, *arguments: Any) -> None:
        """It stops only by itself."""

    def callWhenRunning(self, call: Any) -> None:
        """Keep a call."""
        self.calls.append(call)

    def run(self) -> None:
        """Make the calls."""
        for call in self.calls:
            call()

    def stop(self) -> None:
        """Nothing else runs."""


class CodeTests(SynchronousTestCase):
    """
    Tests for the exit codes of L{running.run_reactor}.
    """

    def test_failed(self) -> None:
        """Wrong usage that only the running command finds exits with 2, as that of the command line does."""
        stderr = io.StringIO()
        self.patch(sys, "stderr", stderr)
        import_module("twisted.internet.reactor")  # not every worker of trial has it
        self.patch(running, "stop_on_signals", lambda reactor: None)
        jobs: list[Deferred[int]] = []
        for error, code in ((UsageError("which topic?"), WRONG_USAGE), (RemoteError("no answer"), FAILED)):
            self.patch(twisted.internet, "reactor", Reactor())
            jobs.append(fail(error))
            self.assertEqual(running.run_reactor(lambda reactor: jobs.pop(), lambda: None), code)
        self.assertEqual(stderr.getvalue(), "dtt: which topic?\ndtt: no answer\n")
