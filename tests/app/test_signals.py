"""
Tests for L{dtt.app.signals}.
"""

from __future__ import annotations

import signal
from types import SimpleNamespace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dtt.app.signals import stop_on_hangup


class HangupTests(SynchronousTestCase):
    """
    Tests for L{stop_on_hangup}.
    """

    def setUp(self) -> None:
        """Restore the default action of SIGHUP."""
        self.addCleanup(signal.signal, signal.SIGHUP, signal.signal(signal.SIGHUP, signal.SIG_DFL))
        self.in_reactor: list[Any] = []
        self.reactor = SimpleNamespace(callFromThread=self.in_reactor.append, stop=object())

    def test_stops(self) -> None:
        """The reactor is stopped in its thread, and only once, because stopping it twice is an error."""
        stop_on_hangup(self.reactor)
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGHUP)
        self.assertEqual(self.in_reactor, [self.reactor.stop])

    def test_ignored(self) -> None:
        """Under nohup, SIGHUP stays ignored."""
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        stop_on_hangup(self.reactor)
        signal.raise_signal(signal.SIGHUP)
        self.assertEqual(self.in_reactor, [])
