"""
Tests for L{dtt.cli.running}.
"""

from __future__ import annotations

import io
import sys
from unittest.mock import Mock

from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

from dtt.cli import running
from dtt.errors import RemoteError


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
