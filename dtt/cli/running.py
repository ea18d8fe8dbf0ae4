"""
Runs the reactor for a command.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    formatEvent,
    globalLogBeginner,
)
from twisted.python.failure import Failure

from dtt.app.messages import one_line
from dtt.app.signals import stop_on_signals
from dtt.cli.commands import FAILED, WRONG_USAGE
from dtt.cli.complaints import describe_error, report
from dtt.errors import UsageError


def warnings_to_stderr() -> None:
    """
    Log warnings and errors to standard error from now on, and drop everything else.
    """
    warnings = LogLevelFilterPredicate(LogLevel.warn)
    observer = FilteringLogObserver(FileLogObserver(sys.stderr, _log_line), [warnings])
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)


def _log_line(event: LogEvent) -> str:
    """
    Format a log event as one line in the style of command errors, with its failure if it has one.
    """
    word = "warning" if event.get("log_level") is LogLevel.warn else "error"
    line = f"dtt: {word}: {formatEvent(event)}"
    failure = event.get("log_failure")
    return one_line(line if failure is None else f"{line}: {describe_error(failure.value)}") + "\n"


def run_reactor(start: Callable[[Any], Deferred[int]], stop: Callable[[], None]) -> int:
    """
    Run the reactor until a job is done.

    @param start: called with the reactor; starts the job, and returns a Deferred
        that fires with the exit code.
    @param stop: called on SIGINT, SIGTERM and SIGHUP; must make that Deferred fire
        soon.
    @return: the exit code; if the job failed, 2 for wrong usage and 1 for all else, after printing the error.
    """
    from twisted.internet import reactor

    stop_on_signals(reactor)
    codes: list[int] = []
    stopping = False

    def failed(failure: Failure) -> None:
        # A stop by the user may cancel operations that are still starting.
        if not (stopping and failure.check(CancelledError)):
            assert failure.value is not None
            report(failure.value)
            codes.append(WRONG_USAGE if failure.check(UsageError) else FAILED)

    def end(_: object) -> None:
        if not stopping:
            reactor.stop()

    def begin() -> None:
        job = maybeDeferred(start, reactor)

        def shut_down() -> Deferred[Any]:
            nonlocal stopping
            stopping = True
            if not job.called:
                stop()
            return job

        reactor.addSystemEventTrigger("before", "shutdown", shut_down)
        job.addCallbacks(codes.append, failed)
        job.addBoth(end)

    # Loaded modules are permanent: exempt them from garbage collection, which would
    # otherwise block the reactor for up to 8 ms each time.
    gc.collect()
    gc.freeze()
    reactor.callWhenRunning(begin)
    reactor.run()
    return codes[0] if codes else FAILED


def run_coroutine(job: Callable[[Any], Coroutine[Any, Any, int]]) -> int:
    """
    Run a coroutine until it has ended.  A signal cancels it.

    @param job: called with the reactor.
    @return: the exit code: that of the coroutine; if it failed, as L{run_reactor}.
    """
    running: list[Deferred[int]] = []

    def start(reactor: Any) -> Deferred[int]:
        running.append(Deferred.fromCoroutine(job(reactor)))
        return running[0]

    return run_reactor(start, lambda: running[0].cancel())
