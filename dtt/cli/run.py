"""
C{dtt run}: the service of C{twistd dtt}, in the foreground and without C{twistd}.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import FileLogObserver, ILogObserver, LogEvent, eventAsText, globalLogBeginner

from dtt.app.eventlog import FromLevel, JSONLogObserver
from dtt.app.messages import one_line
from dtt.app.options import TrackerOptions, default_state_dir
from dtt.cli.complaints import describe_error
from dtt.cli.init import CONFIG_FILE
from dtt.cli.running import run_reactor
from dtt.errors import LocalError
from dtt.tap import CannotStart, Options, TrackerRunner, makeService


def _log_line(event: LogEvent) -> str:
    """
    Format a log event as one line, with one line about its failure, if it has one.
    """
    line = eventAsText(event, includeTraceback=False)
    failure = event.get("log_failure")
    return one_line(line if failure is None else f"{line}: {describe_error(failure.value)}") + "\n"


class RunOptions(Options):
    """
    The options of C{dtt run}: those of C{twistd dtt}.
    """

    synopsis = "[options]"
    longdesc = (
        "Joins topics and keeps connections to their members until SIGINT or SIGTERM, as twistd dtt does. "
        "Without --config, it reads dtt.toml in the state directory, if that exists (dtt init creates one). "
        "Events are logged on standard output, as sentences or with --log-format json as JSON lines."
    )

    def parseOptions(self, options: list[str] | None = None) -> None:
        """
        Parse the options.

        @raise usage.UsageError: an option is invalid.
        """
        TrackerOptions.parseOptions(self, options)

    def postOptions(self) -> None:
        """
        Read the configuration file and the files with secrets.

        @raise usage.UsageError: an option is missing or invalid.
        @raise DTTError: a file can't be used.
        """
        if self["config"] is None:
            given = self["state-dir"]
            directory = default_state_dir(os.environ) if given is None else Path(given)
            if directory is not None and os.path.lexists(directory / CONFIG_FILE):
                self["config"] = str(directory / CONFIG_FILE)
        super().postOptions()

    def run(self) -> int:
        """
        Run the service until a signal arrives.

        @return: the exit code.
        """
        observer: ILogObserver = FileLogObserver(sys.stdout, _log_line)
        if self["log-format"] == "json":
            observer = JSONLogObserver(sys.stdout)
        observer = FromLevel(observer, self["log-level"])
        globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)
        over: Deferred[None] = Deferred()

        async def serve(reactor: Any) -> int:
            try:
                service: Any = makeService(self)
                assert isinstance(service, TrackerRunner)
                service.privilegedStartService()
                service.startService()
            except CannotStart as error:
                raise LocalError(str(error.code).removeprefix("twistd dtt: ")) from None
            await over
            await maybeDeferred(service.stopService)
            return 0

        return run_reactor(
            lambda reactor: Deferred.fromCoroutine(serve(reactor)), lambda: over.callback(None)
        )
