"""
Tests for L{dtt.app.signals}.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from twisted.internet.error import ReactorNotRunning
from twisted.trial.unittest import SynchronousTestCase

from dtt.app.signals import stop_on_signals


class Reactor:
    """
    A reactor that handles SIGINT and SIGTERM once it runs, as Twisted's do.

    @ivar log: the calls that it received.
    """

    def __init__(self) -> None:
        self.log: list[str] = []
        self._when_running: Callable[[], None] = lambda: None

    def callWhenRunning(self, call: Callable[[], None]) -> None:
        self._when_running = call

    def callFromThread(self, call: Callable[..., None], *args: Any) -> None:
        call(*args)

    def stop(self) -> None:
        self.log.append("stop")
        if self.log.count("stop") > 1:
            raise ReactorNotRunning

    def sigInt(self, number: int, frame: object) -> None:
        self.log.append("its own SIGINT")

    def sigTerm(self, number: int, frame: object) -> None:
        self.log.append("its own SIGTERM")

    def run(self) -> None:
        if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
            signal.signal(signal.SIGINT, self.sigInt)
        signal.signal(signal.SIGTERM, self.sigTerm)
        self._when_running()


class SignalTests(SynchronousTestCase):
    """
    Tests for L{stop_on_signals}.
    """

    def setUp(self) -> None:
        """Restore the actions of the signals."""
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            self.addCleanup(signal.signal, number, signal.signal(number, signal.SIG_DFL))
        self.reactor = Reactor()

    def test_stops(self) -> None:
        """
        The reactor is stopped once, whatever signals arrive in whatever order, because
        stopping it twice is an error.
        """
        for numbers in (
            (signal.SIGHUP, signal.SIGHUP, signal.SIGINT, signal.SIGTERM),
            (signal.SIGINT, signal.SIGINT, signal.SIGHUP, signal.SIGTERM),
            (signal.SIGTERM, signal.SIGTERM, signal.SIGINT, signal.SIGHUP),
        ):
            for number in numbers:
                signal.signal(number, signal.SIG_DFL)
            self.reactor = Reactor()
            stop_on_signals(self.reactor)
            self.reactor.run()
            for number in numbers:
                signal.raise_signal(number)
            self.assertEqual(len(self.reactor.log), 1, numbers)

    def test_before_it_runs(self) -> None:
        """A SIGINT before the reactor runs stops it, without a KeyboardInterrupt."""
        stop_on_signals(self.reactor)
        signal.raise_signal(signal.SIGINT)
        self.reactor.run()
        signal.raise_signal(signal.SIGINT)
        self.assertEqual(self.reactor.log, ["stop"])

    def test_twistd(self) -> None:
        """Under twistd, where SIGINT is as Python has it, the reactor's own handlers stay, and act once."""
        signal.signal(signal.SIGINT, signal.default_int_handler)
        stop_on_signals(self.reactor)
        self.assertIs(signal.getsignal(signal.SIGINT), signal.default_int_handler)
        self.reactor.run()
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        self.assertEqual(self.reactor.log, ["its own SIGTERM"])

    def test_stopped_meanwhile(self) -> None:
        """Stopping a reactor that has already stopped is not an error here."""
        stop_on_signals(self.reactor)
        self.reactor.stop()
        signal.raise_signal(signal.SIGHUP)
        self.assertEqual(self.reactor.log, ["stop", "stop"])

    def test_ignored(self) -> None:
        """Under nohup, SIGHUP stays ignored; so does an ignored SIGINT."""
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        stop_on_signals(self.reactor)
        self.reactor.run()
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGINT)
        self.assertEqual(self.reactor.log, [])
