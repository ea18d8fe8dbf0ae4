"""
Runs the reactor for a command.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import (
    FilteringLogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    globalLogBeginner,
    textFileLogObserver,
)
from twisted.python.failure import Failure

from dtt.app.signals import stop_on_hangup
from dtt.errors import DTTError


def warnings_to_stderr() -> None:
    """
    Log warnings and errors to standard error from now on, and drop everything else.
    """
    warnings = LogLevelFilterPredicate(LogLevel.warn)
    observer = FilteringLogObserver(textFileLogObserver(sys.stderr), [warnings])
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)


def run_reactor(start: Callable[[Any], Deferred[int]], stop: Callable[[], None]) -> int:
    """
    Run the reactor until a job is done.

    @param start: called with the reactor; starts the job, and returns a Deferred
        that fires with the exit code.
    @param stop: called on SIGINT, SIGTERM and SIGHUP; must make that Deferred fire
        soon.
    @return: the exit code; 1 if the job failed, after printing the error.
    """
    from twisted.internet import reactor

    codes: list[int] = []
    stopping = False

    def failed(failure: Failure) -> None:
        if failure.check(DTTError):
            print(f"dtt: {failure.getErrorMessage()}", file=sys.stderr)
        else:
            failure.printTraceback(file=sys.stderr)

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
    stop_on_hangup(reactor)
    reactor.callWhenRunning(begin)
    reactor.run()
    return codes[0] if codes else 1
