"""
The twistd plugin C{twistd dtt}: its options and its service.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any, cast

from twisted.application.service import IService, MultiService
from twisted.logger import ILogObserver
from twisted.python import usage
from twisted.python.components import Componentized
from twisted.python.logfile import LogFile

from dtt.app.eventlog import JSONLogObserver
from dtt.app.options import (
    TopicSettings,
    TrackerOptions,
    default_state_dir,
    topic_to_join,
    warn_without_secret,
)
from dtt.app.signals import stop_on_hangup
from dtt.errors import DTTError
from dtt.state import read_secret_file
from dtt.tracker.tracker import Tracker


class CannotStart(SystemExit, Exception):
    """
    Ends C{twistd} with a message of one line and exit code 1.

    It is a C{SystemExit}, so that no traceback is shown, and an C{Exception},
    so that twistd removes its PID file and reports the failure to the process
    that waits for the daemon.
    """


@contextmanager
def _one_line() -> Iterator[None]:
    """
    Turn each L{DTTError} into L{CannotStart}.
    """
    try:
        yield
    except DTTError as error:
        raise CannotStart(f"twistd dtt: {error}") from None


class Options(TrackerOptions):
    """
    The options of C{twistd dtt}.
    """

    synopsis = "[options] --topic NAME"
    longdesc = (
        "Finds the other members of topics through the BitTorrent DHT and keeps connections to them. "
        "Events are logged as sentences, or as JSON lines with --log-format json."
    )
    optParameters = [["log-format", None, "text", "Format of logged events: text or json."]]

    def __init__(self) -> None:
        super().__init__()
        self["topics"] = []

    def opt_topic(self, name: str) -> None:
        """Topic to join: a name, or hex: and the 64 hexadecimal digits of a topic id; may be repeated."""
        self["topics"].append(name)

    def parseOptions(self, options: list[str] | None = None) -> None:
        """
        Parse the options.  An error ends C{twistd} with one line; C{twistd}
        itself would print the whole help and exit with 0.

        @raise CannotStart: an option is invalid.
        """
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            raise CannotStart(f"twistd dtt: {error}") from None

    def postOptions(self) -> None:
        """
        Read the configuration file and the secret files.

        @raise usage.UsageError: an option is missing or invalid.
        @raise DTTError: a file can't be used.
        """
        if self["log-format"] not in ("text", "json"):
            raise usage.UsageError(f"--log-format: expected text or json, not {self['log-format']!r}")
        if self["log-format"] == "json" and self.parent is not None and self.parent.get("syslog"):
            raise usage.UsageError("--log-format json can't be combined with --syslog; use --logfile instead")
        self.config, tables = self.load(default_state_dir(os.environ))
        if self.config.state_dir is None:
            raise usage.UsageError("there is no home directory for the state; give --state-dir DIR")
        secret = self.read_secret()
        self.topics = [TopicSettings(name, topic_to_join(name), secret) for name in self["topics"]]
        for table in tables:
            secret = None if table.secret_file is None else read_secret_file(table.secret_file)
            self.topics.append(TopicSettings(table.name, topic_to_join(table.name), secret))
        seen: set[bytes] = set()
        for topic in self.topics:
            if topic.topic_id in seen:
                raise usage.UsageError(f"the topic {topic.name!r} is given twice")
            seen.add(topic.topic_id)
        if not self.topics:
            raise usage.UsageError("no topic; give --topic NAME, or [[topic]] in the file of --config")


class TrackerRunner(MultiService):
    """
    Runs a tracker under C{twistd}: reports in one line why it can't start, and
    optionally logs as JSON.
    """

    def __init__(self, tracker: Tracker, log_observer: JSONLogObserver | None) -> None:
        """
        @param tracker: the tracker; becomes a child of this service.
        @param log_observer: the observer for twistd's logger; C{None}: twistd's
            own.
        """
        super().__init__()
        self._log_observer = log_observer
        tracker.setServiceParent(self)

    def setServiceParent(self, parent: Any) -> None:
        """
        Register our log observer with the application, from which twistd's
        logger gets it.
        """
        super().setServiceParent(parent)
        if self._log_observer is not None and isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self._log_observer)

    def privilegedStartService(self) -> None:
        """
        Lock the state directory and bind the ports.

        @raise CannotStart: one of them can't be locked or bound.
        """
        with _one_line():
            super().privilegedStartService()

    def startService(self) -> None:
        """
        Start the tracker.  C{twist}, unlike C{twistd}, does not call
        L{privilegedStartService} before.

        @raise CannotStart: as L{privilegedStartService}.
        """
        with _one_line():
            super().startService()


def _log_file(twistd_options: Mapping[str, Any], reactor: Any) -> IO[Any]:
    """
    Open the file that twistd would log to.  A file is rotated on SIGUSR1, like
    twistd's own.
    """
    name = twistd_options.get("logfile")
    if name == "-" or (not name and twistd_options.get("nodaemon")):
        return sys.stdout
    file = LogFile.fromFullPath(name or "twistd.log")
    if not signal.getsignal(signal.SIGUSR1):
        signal.signal(signal.SIGUSR1, lambda number, frame: reactor.callFromThread(file.rotate))
    return cast("IO[Any]", file)


def makeService(options: Options) -> IService:
    """
    Make the service of C{twistd dtt}.

    @param options: the parsed options.
    @raise CannotStart: the state directory, the key or a transport can't be used.
    """
    from twisted.internet import reactor

    observer = None
    if options["log-format"] == "json":
        observer = JSONLogObserver(_log_file(options.parent or {}, reactor))
    with _one_line():
        tracker = Tracker(reactor, options.config)
        for topic in options.topics:
            if not topic.secret:
                warn_without_secret(topic.name)
            tracker.join(topic.topic_id, secret=topic.secret or b"")
    stop_on_hangup(reactor)
    return TrackerRunner(tracker, observer)
