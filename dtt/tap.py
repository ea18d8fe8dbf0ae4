"""
The twistd plugin C{twistd dtt}: its options and its service.

C{twistd} reads the options, creates the service, goes to the background in the directory of C{--rundir}, runs
the privileged start, switches to the user of C{--uid} and C{--gid}, and starts the service.  The privileged
start opens the state as the final user, in the final directory, and binds the ports with privileges.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.application.service import IService, MultiService, Service
from twisted.logger import ILogObserver, Logger, textFileLogObserver
from twisted.python import usage
from twisted.python.components import Componentized

from dtt.app.background import FinalUser, KeptStandardError, RotatedLogFile, check_paths
from dtt.app.daemon import Daemon, Settings
from dtt.app.eventlog import LEVELS, FromLevel, JSONLogObserver
from dtt.app.limited import LimitedLog
from dtt.app.messages import one_line
from dtt.app.options import (
    TopicSettings,
    TrackerOptions,
    default_state_dir,
    one_of,
    refuse_repeated,
    topic_to_join,
    warn_without_secret,
)
from dtt.app.signals import reload_on_hangup, stop_on_signals
from dtt.app.systemd import Notifier, inherited_udp, started_with
from dtt.app.usage import value_of
from dtt.app.web_address import parse_web
from dtt.errors import DTTError, LocalError, UsageError
from dtt.files import reason_of, shown
from dtt.net.inherited import offer
from dtt.tracker.tracker import Tracker, log_event

_log = Logger()


class CannotStart(SystemExit, Exception):
    """
    Ends C{twistd} with a message of one line and exit code 1.

    It is a C{SystemExit}, so that no traceback is shown, and an C{Exception},
    so that twistd removes its PID file and reports the failure to the process
    that waits for the daemon.
    """


#: The exit code after Ctrl-C, as in shells.
INTERRUPTED = 130


@contextmanager
def _one_line() -> Iterator[None]:
    """
    Turn errors into L{CannotStart}, and an interrupt into a silent one.
    """
    try:
        yield
    except (DTTError, usage.UsageError) as error:
        raise CannotStart(f"twistd dtt: {one_line(str(error))}") from None
    except OSError as error:
        where = "" if error.filename is None else f"{error.filename}: "
        raise CannotStart(f"twistd dtt: {one_line(f'{where}{error.strerror}')}") from None
    except KeyboardInterrupt:
        raise CannotStart(INTERRUPTED) from None


class Options(TrackerOptions):
    """
    The options of C{twistd dtt}.
    """

    synopsis = "[options] --topic NAME"
    longdesc = (
        "Finds the other members of topics through the BitTorrent DHT and keeps connections to them. "
        "Events are logged as sentences, or as JSON lines with --log-format json."
    )
    optParameters = [
        ["log-format", None, "text", "Format of logged events: text or json."],
        [
            "log-level",
            None,
            "info",
            "The least important messages to log: debug, info, warn or error. Warnings are messages on "
            "which the operator may have to act.",
            value_of("log-level", one_of(LEVELS)),
        ],
        [
            "web",
            None,
            None,
            "Also serve the status page and the HTTP interface on TCP: tcp:PORT for this machine only, or "
            "tcp:PORT:interface=ADDRESS. It asks for a password, which is in the file web.token of the state "
            "directory. Default: only the Unix socket in the state directory.",
            value_of("web", parse_web),
        ],
    ]

    def __init__(self) -> None:
        super().__init__()
        self["topics"] = []
        self._directory = os.curdir

    def opt_topic(self, name: str) -> None:
        """Topic to join: a name, or hex: and the 64 hexadecimal digits of a topic id; may be repeated."""
        self["topics"].append(name)

    def parseOptions(self, options: list[str] | None = None) -> None:
        """
        Parse the options.  An error ends C{twistd} with one line; C{twistd}
        itself would print the whole help and exit with 0.

        @raise CannotStart: an option is invalid.
        """
        with _one_line():
            super().parseOptions(options)

    def reread(self) -> Settings:
        """
        Read the configuration file and the secrets again, from the directory in which the
        process was started.

        @raise DTTError: they can't be used.
        """
        fresh = type(self)()
        fresh.update(self)
        fresh.parent = self.parent
        fresh.typed = self.typed
        if self["secret-file"] == "-":
            kept = self.secret
            fresh.read_secret = lambda: kept  # type: ignore[method-assign]
        try:
            before = os.open(os.curdir, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise LocalError(f"can't open the working directory: {reason_of(error)}") from None
        try:
            os.chdir(self._directory)
            fresh.postOptions()
        except usage.UsageError as error:
            raise UsageError(str(error)) from None
        except OSError as error:
            raise LocalError(f"{shown(self._directory)}: {reason_of(error)}") from None
        finally:
            os.fchdir(before)
            os.close(before)
        return Settings(fresh.config, fresh.topics)

    def postOptions(self) -> None:
        """
        Read the configuration file and the secret files.

        @raise usage.UsageError: an option is missing or invalid.
        @raise DTTError: a file can't be used.
        """
        self._directory = os.path.abspath(os.curdir)
        if self["log-format"] not in ("text", "json"):
            raise usage.UsageError(f"--log-format: expected text or json, not {self['log-format']!r}")
        if self["log-format"] == "json" and self.parent is not None and self.parent.get("syslog"):
            raise usage.UsageError("--log-format json can't be combined with --syslog; use --logfile instead")
        twistd: Mapping[str, Any] = self.parent or {}
        if twistd.get("logfile") == "-" and not twistd.get("nodaemon"):
            raise usage.UsageError("--logfile -: a daemon can't log to standard output; give --nodaemon")
        check_paths(twistd)
        self.user = FinalUser(twistd.get("uid"), twistd.get("gid"))
        home = self.user.home()
        self.config, tables = self.load(default_state_dir(os.environ, Path(home) if home else None))
        if self["web"] is not None:
            self.config = evolve(self.config, web=evolve(self.config.web, listen=self["web"]))
        if self.config.state_dir is None:
            raise usage.UsageError("there is no home directory for the state; give --state-dir DIR")
        self.secret = secret = self.read_secret()
        self.topics = [TopicSettings(name, topic_to_join(name), secret) for name in self["topics"]]
        self.topics.extend(self.read_tickets())
        for table in tables:
            self.topics.extend(self.topics_in(table))
        refuse_repeated(self.topics)
        if not self.topics:
            raise usage.UsageError(
                "no topic; give --topic NAME or --ticket-file FILE, or [[topic]] in the file of --config"
            )
        self.refuse_lone_secret(bool(self["topics"]))


class TrackerRunner(MultiService):
    """
    Runs a tracker under C{twistd}: creates it when the process has its final directory, and reports in one
    line why it can't start.
    """

    def __init__(
        self,
        make: Callable[[], Service],
        user: FinalUser | None = None,
        log_observer: ILogObserver | None = None,
        stderr: KeptStandardError | None = None,
    ) -> None:
        """
        @param make: creates the tracker, which becomes a child of this service.
        @param user: the final user of the process; C{None}: the current one.
        @param log_observer: the observer for twistd's logger; C{None}: twistd's
            own.
        @param stderr: where to report why the tracker can't start; C{None}: the
            exception reports it.
        """
        super().__init__()
        self._make = make
        self._made = False
        self._user = user or FinalUser()
        self._log_observer = log_observer
        self._stderr = stderr

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
        Lock and read the state directory, as the final user, and bind the ports.

        @raise CannotStart: one of them can't be locked, used or bound.
        """
        with self._reported():
            self._make_tracker()
            super().privilegedStartService()

    def startService(self) -> None:
        """
        Start the tracker.  C{twist}, unlike C{twistd}, does not call
        L{privilegedStartService} before.

        @raise CannotStart: as L{privilegedStartService}.
        """
        with self._reported():
            self._make_tracker()
            super().startService()
        if self._stderr is not None:
            self._stderr.close()

    def _make_tracker(self) -> None:
        if not self._made:
            with self._user.effective():
                tracker = self._make()
            tracker.setServiceParent(self)
            self._made = True

    @contextmanager
    def _reported(self) -> Iterator[None]:
        """
        Report each L{DTTError} and end the process.  When the service starts, standard error is already part
        of the log, and twistd shows only the first 100 characters of the error of a daemon.
        """
        try:
            with _one_line():
                yield
        except CannotStart as error:
            if self._stderr is None or not isinstance(error.code, str):
                raise
            self._stderr.write(str(error))
            if not self._stderr.is_log:
                _log.critical("{reason}", reason=str(error))
            short = CannotStart("the reason is above and in the log")
            short.code = 1  # prints nothing more
            raise short from None


def log_observer(options: Options, reactor: Any) -> ILogObserver | None:
    """
    Return the observer for twistd's logger: one for JSON lines, or one for text that
    logs to a file or to standard output; C{None}: twistd's own.  A file is rotated on
    SIGUSR1, like twistd's own.

    @raise LocalError: the file can't be used.
    """
    twistd: Mapping[str, Any] = options.parent or {}
    as_json, level = options["log-format"] == "json", options["log-level"]
    name = twistd.get("logfile")
    if name == "-" or (not name and twistd.get("nodaemon")):
        return FromLevel(JSONLogObserver(sys.stdout) if as_json else textFileLogObserver(sys.stdout), level)
    if twistd.get("syslog") or twistd.get("logger") or not (name or "nodaemon" in twistd):
        return None  # the log is not a file, or not twistd's
    try:
        file: Any = RotatedLogFile.at(name or "twistd.log")
    except OSError as error:
        raise LocalError(
            f"--logfile: can't write {shown(name or 'twistd.log')}: {reason_of(error)}"
        ) from None
    if not signal.getsignal(signal.SIGUSR1):
        signal.signal(signal.SIGUSR1, lambda number, frame: reactor.callFromThread(file.rotate))
    return FromLevel(JSONLogObserver(file) if as_json else textFileLogObserver(file), level)


def make_tracker(reactor: Any, options: Options) -> Tracker:
    """
    Return a tracker that has joined the topics, but has not started.

    @raise DTTError: the state directory, the key or a transport can't be used.
    """
    tracker = Tracker(reactor, options.config)
    for topic in options.topics:
        tracker.join(topic.topic_id, secret=topic.secret or b"")
    return tracker


def make_daemon(reactor: Any, options: Options) -> Daemon:
    """
    Return the service with a tracker that has joined the topics, but has not started.

    @raise DTTError: the state directory, the key or a transport can't be used.
    """
    as_json = options["log-format"] == "json"
    offer(inherited_udp(started_with()))
    daemon = Daemon(
        reactor,
        Settings(options.config, options.topics),
        options.reread if options["config"] is not None else None,
        Notifier(os.environ),
        log_event if as_json else LimitedLog(reactor),
    )
    if options["config"] is not None:
        reload_on_hangup(reactor, daemon.reload)
    return daemon


def makeService(options: Options) -> IService:
    """
    Make the service of C{twistd dtt}.

    @param options: the parsed options.
    @raise CannotStart: the log file can't be used.
    """
    from twisted.internet import reactor

    with _one_line():
        observer = log_observer(options, reactor)
    for topic in options.topics:
        if not topic.secret:
            warn_without_secret(topic.name)
    stop_on_signals(reactor)
    twistd: Mapping[str, Any] = options.parent or {}
    to_file = twistd.get("logfile") not in (None, "-") or twistd.get("syslog") or twistd.get("logger")
    on_terminal = bool(twistd.get("nodaemon")) and not to_file and options["log-format"] == "text"
    return TrackerRunner(
        lambda: make_daemon(reactor, options),
        options.user,
        observer,
        KeptStandardError(on_terminal) if "nodaemon" in twistd else None,
    )
