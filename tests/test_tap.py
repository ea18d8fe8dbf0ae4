"""
Tests for L{dtt.tap} and the plugin.
"""

from __future__ import annotations

import errno
import io
import json
import os
import pwd
import signal
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from twisted.application.service import Application, IServiceMaker
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.plugin import getPlugins
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import provider

from dtt import tap
from dtt.app.background import FinalUser, KeptStandardError
from dtt.config import Config
from dtt.errors import LocalError
from dtt.records.ticket import Ticket
from dtt.records.topic import TopicId
from dtt.testing.net.machines import MachineNetwork
from dtt.tracker.tracker import Tracker
from tests.app.test_options import no_home
from tests.tracker.common import collect_warnings, without_iroh


def exists(uid: int) -> bool:
    """Return whether there is a user with this id."""
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


class PluginTests(SynchronousTestCase):
    """
    Tests for the plugin C{twistd dtt}.
    """

    def test_found(self) -> None:
        """twistd lists the plugin by its name, and the plugin names module, options and maker."""
        makers: list[Any] = [maker for maker in getPlugins(IServiceMaker) if maker.tapname == "dtt"]
        self.assertEqual(len(makers), 1)
        self.assertEqual(makers[0].module, "dtt.tap")
        self.assertIs(makers[0].options, tap.Options)
        self.assertIs(makers[0].makeService, tap.makeService)


class TapTestCase(SynchronousTestCase):
    """
    Parses options, with a temporary state directory.
    """

    def setUp(self) -> None:
        """Make the default state directory a new one."""
        without_iroh(self)
        self.addCleanup(signal.signal, signal.SIGHUP, signal.getsignal(signal.SIGHUP))
        self.state_dir = Path(self.mktemp()).absolute()
        self.patch(os, "environ", {**os.environ, "STATE_DIRECTORY": str(self.state_dir)})

    def parse(self, *arguments: str, parent: dict[str, Any] | None = None) -> tap.Options:
        """Parse C{arguments}."""
        options: Any = tap.Options()
        options.parent = parent
        options.parseOptions(list(arguments))
        assert isinstance(options, tap.Options)
        return options

    def file(self, content: str, mode: int = 0o600) -> Path:
        """Write a file with C{content}."""
        path = Path(self.mktemp())
        path.write_text(content)
        path.chmod(mode)
        return path

    def refused(self, *arguments: str, parent: dict[str, Any] | None = None) -> str:
        """Return the message of one line with which twistd exits."""
        with self.assertRaises(tap.CannotStart) as raised:
            self.parse(*arguments, parent=parent)
        return self.one_line(raised.exception)

    def one_line(self, error: tap.CannotStart) -> str:
        """Return what is printed: a C{SystemExit} with a text prints it, and exits with 1."""
        self.assertIsInstance(error, SystemExit)
        self.assertIsInstance(error, Exception)
        assert isinstance(error.code, str)
        self.assertRegex(error.code, r"\Atwistd dtt: [^\n]+\Z")
        return error.code


class OptionsTests(TapTestCase):
    """
    Tests for L{tap.Options}.
    """

    def test_topics(self) -> None:
        """--topic may be repeated, and is a name or an id; the secret file is for all of them."""
        secret = self.file("s\n")
        options = self.parse("--topic", "x", "--topic", "hex:" + "ab" * 32, "--secret-file", str(secret))
        self.assertEqual(
            [(topic.name, topic.topic_id, topic.secret) for topic in options.topics],
            [("x", TopicId.from_name("x"), b"s"), ("hex:" + "ab" * 32, b"\xab" * 32, b"s")],
        )
        self.assertEqual(options.config.state_dir, self.state_dir)
        self.assertNotIn("b's'", repr(options.topics))

    def test_topics_of_the_file(self) -> None:
        """Topics of the TOML file have their own secrets."""
        secret, other = self.file("s\n"), self.file("t\n")
        config = self.file(
            f'[[topic]]\nname = "y"\nsecret_file = "{other.absolute()}"\n[[topic]]\nname = "z"\n', 0o644
        )
        options = self.parse("--topic", "x", "--secret-file", str(secret), "--config", str(config))
        self.assertEqual(
            [(topic.name, topic.secret) for topic in options.topics], [("x", b"s"), ("y", b"t"), ("z", None)]
        )

    def test_refused(self) -> None:
        """Any error ends twistd with one line that names the cause."""
        lax = self.file("s", 0o644)
        unknown = self.file("nonsense = 1\n")
        for arguments, expected in (
            ((), "--topic"),
            (("--nonsense",), "nonsense"),
            (("--topic", "x", "extra"), "'extra'"),
            (("--topic", ""), "empty"),
            (("--topic", "\u200b "), "empty or blank"),
            (("--topic", "x", "--config", str(self.file('[[topic]]\nname = " "\n'))), "empty or blank"),
            (("--topic", "hex:12"), "64 hexadecimal digits"),
            (("--topic", "x", "--dht-port", "many"), "0..65535"),
            (("--topic", "x", "--listen", "nowhere"), "HOST:PORT"),
            (("--topic", "x", "--listen", "localhost:0"), "IP"),
            (("--topic", "x", "--secret-file", str(lax)), "chmod 600"),
            (("--topic", "x", "--secret-file", "/nonexistent"), "/nonexistent"),
            (("--topic", "x", "--config", str(unknown)), "nonsense"),
            (("--topic", "x", "--config", "/nonexistent"), "--config: /nonexistent"),
            (("--topic", "x", "--secret-file", "/nonexistent/s"), "--secret-file: can't read /nonexistent/s"),
            (("--topic", "x", "--state-dir", ""), "--state-dir: expected a path"),
            (("--topic", "x", "--secret-file", ""), "--secret-file: expected a path"),
            (("--topic", "x", "--config", ""), "--config: expected a path"),
            (("--topic", "x", "--log-format", "xml"), "text or json"),
        ):
            self.assertIn(expected, self.refused(*arguments), str(arguments))

    def test_interrupted(self) -> None:
        """Ctrl-C while a secret is read ends twistd silently, with the exit code of an interrupt."""

        class Stdin:
            """A terminal at which Ctrl-C is pressed."""

            def read(self, size: int) -> bytes:
                raise KeyboardInterrupt

        self.patch(sys, "stdin", SimpleNamespace(buffer=Stdin()))
        with self.assertRaises(tap.CannotStart) as raised:
            self.parse("--topic", "x", "--secret-file", "-")
        self.assertEqual(raised.exception.code, 130)

    def test_closed_input(self) -> None:
        """A secret can't come from a closed standard input."""
        self.patch(sys, "stdin", None)
        self.assertIn("standard input is closed", self.refused("--topic", "x", "--secret-file", "-"))

    def test_lone_secret(self) -> None:
        """
        A secret without a topic: what is missing is the topic.  With a ticket only, the secret is
        superfluous.
        """
        secret, ticket = Path(self.mktemp()), Path(self.mktemp())
        for path, content in ((secret, "a secret"), (ticket, Ticket.make("garden", bytes(64)).encode())):
            path.touch(0o600)
            path.write_text(content)
        self.assertIn("no topic; give --topic", self.refused("--secret-file", str(secret)))
        superfluous = self.refused("--secret-file", str(secret), "--ticket-file", str(ticket))
        self.assertIn("--secret-file is for a topic", superfluous)

    def test_no_log_file(self) -> None:
        """A log file that can't be opened is reported in one line."""
        folder = self.mktemp()
        parent = {"logfile": str(Path(folder) / "log")}
        options = self.parse("--topic", "x", "--log-format", "json", parent=parent)
        with self.assertRaises(tap.CannotStart) as raised:
            tap.makeService(options)
        self.assertIn(folder, self.one_line(raised.exception))

    def test_no_home(self) -> None:
        """Without a home directory, --state-dir is required, and then the home directory is not looked up."""
        self.patch(os, "environ", {})
        self.patch(Path, "home", classmethod(no_home))
        self.assertIn("--state-dir", self.refused("--topic", "x"))
        self.assertEqual(self.parse("--topic", "x", "--state-dir", "d").config.state_dir, Path("d"))

    def test_syslog(self) -> None:
        """JSON lines can't be combined with --syslog."""
        self.assertIn("syslog", self.refused("--topic", "x", "--log-format", "json", parent={"syslog": True}))

    def test_help(self) -> None:
        """--help explains each option and exits with 0."""
        out = io.StringIO()
        self.patch(sys, "stdout", out)
        with self.assertRaises(SystemExit) as raised:
            self.parse("--help")
        self.assertNotIsInstance(raised.exception, tap.CannotStart)
        text = out.getvalue()
        for option in ("--topic", "--log-format", "--state-dir", "--bootstrap"):
            self.assertIn(option, text)


class ServiceTests(TapTestCase):
    """
    Tests for L{tap.makeService} and L{tap.TrackerRunner}.
    """

    def setUp(self) -> None:
        """Make a network."""
        super().setUp()
        self.net = MachineNetwork(Clock())
        self.addCleanup(self.net.advance, 5)  # runs last: the trackers end

    def warnings(self) -> list[str]:
        """Collect warnings."""
        found: list[str] = []

        collect_warnings(self, found)
        return found

    def runner(self, options: tap.Options, host: str = "10.0.0.1") -> tap.TrackerRunner:
        """Return a service as makeService does, on a network in memory."""
        reactor = self.net.reactor(host)
        runner = tap.TrackerRunner(lambda: tap.make_tracker(reactor, options), options.user)
        self.addCleanup(lambda: [tracker.stopService() for tracker in runner])
        return runner

    def test_service(self) -> None:
        """
        The tracker has the topics; a missing or empty secret causes a warning.  Nothing is
        touched on disk before the privileged start.
        """
        warnings = self.warnings()
        config = self.file(
            f'[[topic]]\nname = "y"\n[[topic]]\nname = "z"\nsecret_file = "{self.file("").absolute()}"\n'
        )
        secret = self.file("s")
        options = self.parse("--topic", "x", "--secret-file", str(secret), "--config", str(config))
        self.assertEqual(list(cast(Any, tap.makeService(options))), [])
        self.assertFalse(self.state_dir.exists())
        self.assertEqual(len(warnings), 2)
        self.assertIn("Topic y has no secret", warnings[0])
        runner = self.runner(options)
        runner.privilegedStartService()
        (tracker,) = runner
        assert isinstance(tracker, Tracker)
        self.assertEqual(
            {topic.topic_id for topic in tracker._topics.values()},
            {TopicId.from_name(name) for name in "xyz"},
        )
        self.assertTrue(self.state_dir.exists())

    def test_directory_of_twistd(self) -> None:
        """A relative state directory is in the directory of --rundir."""
        secret, folder = self.file("s").absolute(), Path(self.mktemp()).absolute()
        folder.mkdir()
        options = self.parse("--topic", "x", "--secret-file", str(secret), "--state-dir", "state")
        tap.makeService(options)
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(folder)
        self.runner(options).privilegedStartService()
        self.assertEqual(os.listdir(folder), ["state"])

    def test_no_descriptor_to_read_again(self) -> None:
        """Settings that can't be read again for lack of a descriptor are an error of ours, of one line."""
        options = self.parse("--topic", "x")

        def full(*arguments: Any) -> int:
            raise OSError(errno.EMFILE, "Too many open files")

        self.patch(os, "open", full)
        error = self.assertRaises(LocalError, options.reread)
        self.assertEqual(str(error), "can't open the working directory: Too many open files")

    def test_final_user(self) -> None:
        """The state is opened as the final user, once, and ports are bound with privileges."""
        order: list[str] = []

        class User(FinalUser):
            @contextmanager
            def effective(self) -> Iterator[None]:
                order.append("become")
                yield
                order.append("return")

        options = self.parse("--topic", "x")
        reactor = self.net.reactor("10.0.0.1")

        def make() -> Tracker:
            order.append("make")
            tracker = tap.make_tracker(reactor, options)
            self.addCleanup(tracker.stopService)
            self.patch(tracker, "privilegedStartService", lambda: order.append("bind"))
            return tracker

        runner = tap.TrackerRunner(make, User())
        runner.privilegedStartService()
        self.assertEqual(order, ["become", "make", "return", "bind"])
        runner.startService()
        self.assertEqual(len(order), 4)

    def test_unknown_user(self) -> None:
        """A user without an entry in the user database is refused before anything happens."""
        missing = next(uid for uid in range(40000, 60000) if not exists(uid))
        self.assertIn(str(missing), self.refused("--topic", "x", parent={"uid": missing, "nodaemon": True}))

    def test_home_of_the_final_user(self) -> None:
        """By default the state is in the home directory of the final user."""
        self.patch(os, "environ", {"HOME": "/root", "XDG_STATE_HOME": "/root/state"})
        user = next(each for each in pwd.getpwall() if each.pw_uid != os.geteuid() and each.pw_dir != "/")
        options = self.parse("--topic", "x", parent={"uid": user.pw_uid, "nodaemon": True})
        self.assertEqual(options.config.state_dir, Path(user.pw_dir) / ".local/state/dtt")
        options = self.parse("--topic", "x", parent={"uid": os.geteuid(), "nodaemon": True})
        self.assertEqual(options.config.state_dir, Path("/root/state/dtt"))

    def test_long_error_of_a_daemon(self) -> None:
        """
        What a daemon reports reaches standard error and the log in full: twistd itself shows
        its first 100 characters.
        """
        for is_log in (False, True):
            said, logged, error = self.fail_to_start(is_log)
            self.assertRegex(said, rf"\Atwistd dtt: \S*/{'d' * 150} is accessible [^\n]+\n\Z")
            self.assertEqual([said.strip()] * (not is_log), [line for line in logged if "accessible" in line])
            self.assertEqual((error.code, len(str(error)) < 80), (1, True))

    def fail_to_start(self, is_log: bool) -> tuple[str, list[str], tap.CannotStart]:
        """
        Start a service with a long error; return what it writes to the kept standard error,
        what it logs, and what it raises.
        """
        state_dir = self.state_dir.parent / ("d" * 150)
        state_dir.mkdir(exist_ok=True)
        state_dir.chmod(0o755)
        options = self.parse("--topic", "x", "--state-dir", str(state_dir))
        logged: list[str] = []

        @provider(ILogObserver)
        def observe(event: LogEvent) -> None:
            logged.append(str(formatEvent(event)))

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        reader, writer = os.pipe()
        before = os.dup(2)
        os.dup2(writer, 2)
        try:
            stderr = KeptStandardError(is_log)
        finally:
            os.dup2(before, 2)
            os.close(before)
            os.close(writer)
        reactor = self.net.reactor("10.0.0.1")
        runner = tap.TrackerRunner(lambda: tap.make_tracker(reactor, options), stderr=stderr)
        error = self.assertRaises(tap.CannotStart, runner.privilegedStartService)
        stderr.close()
        with open(reader, "rb") as file:
            said = file.read().decode()
        self.flushLoggedErrors()
        return said, logged, error

    def test_same_topic_twice(self) -> None:
        """A duplicate topic is refused by name, in whatever form it is written."""
        for again in ("x", "hex:" + TopicId.from_name("x").hex()):
            with self.assertRaises(tap.CannotStart) as raised:
                self.parse("--topic", "x", "--topic", again)
            self.assertIn(f"the topic {again!r} is given twice", self.one_line(raised.exception))

    def test_bad_state(self) -> None:
        """A state directory with a permissive mode is refused in one line, with the chmod to run."""
        self.state_dir.mkdir()
        self.state_dir.chmod(0o755)
        with self.assertRaises(tap.CannotStart) as raised:
            self.runner(self.parse("--topic", "x")).privilegedStartService()
        self.assertIn("chmod 700", self.one_line(raised.exception))

    def test_cannot_bind(self) -> None:
        """
        A port or state directory in use is reported in one line when the service starts,
        also under C{twist}, which has no privileged start.
        """
        reactor = self.net.reactor("10.0.0.1")
        first = Tracker(reactor, Config(state_dir=self.state_dir, listen=("10.0.0.1", 7000)))
        first.privilegedStartService()
        self.addCleanup(first.stopService)
        for config in (Config(listen=("10.0.0.1", 7000)), Config(state_dir=self.state_dir)):
            runner = tap.TrackerRunner(lambda config=config: Tracker(reactor, config))  # type: ignore[misc]
            for start in (runner.privilegedStartService, runner.startService):
                with self.assertRaises(tap.CannotStart) as raised:
                    start()
                self.one_line(raised.exception)
                self.assertIsNone(raised.exception.__cause__)

    def test_json_log(self) -> None:
        """With --log-format json, the application's log observer writes JSON lines where twistd would log."""
        out = io.StringIO()
        self.patch(sys, "stdout", out)
        options = self.parse(
            "--topic", "x", "--log-format", "json", parent={"nodaemon": True, "logfile": None}
        )
        service = tap.makeService(options)
        application = Application("dtt")
        service.setServiceParent(application)
        observer: Any = application.getComponent(ILogObserver)
        observer({"log_format": "hello", "log_time": 5.0, "log_level": LogLevel.info, "log_namespace": "x"})
        self.assertEqual(json.loads(out.getvalue())["text"], "hello")

    def test_rotation(self) -> None:
        """SIGUSR1 starts a new log file, in either format; only its owner can read it, whatever the umask."""
        path = Path(self.mktemp()).absolute()
        self.addCleanup(signal.signal, signal.SIGUSR1, signal.signal(signal.SIGUSR1, signal.SIG_DFL))
        in_reactor: list[Any] = []
        for log_format in ("json", "text"):
            options = self.parse(
                *("--topic", "x", "--log-format", log_format), parent={"nodaemon": 0, "logfile": str(path)}
            )
            reactor = SimpleNamespace(callFromThread=in_reactor.append)
            observer: Any = tap.log_observer(options, reactor)
            observer({"log_format": "before", "log_time": 5.0, "log_namespace": "x"})
            signal.raise_signal(signal.SIGUSR1)
            before = os.umask(0)
            try:
                in_reactor.pop()()
            finally:
                os.umask(before)
            observer({"log_format": "after", "log_time": 5.0, "log_namespace": "x"})
            old = Path(f"{path}.1")
            self.assertIn("before", old.read_text())
            self.assertIn("after", path.read_text())
            self.assertEqual([stat.S_IMODE(each.stat().st_mode) for each in (path, old)], [0o600, 0o600])
            signal.signal(signal.SIGUSR1, signal.SIG_DFL)

    def test_unwritable_log(self) -> None:
        """A log file that can't be written is reported in one line, in either format."""
        self.addCleanup(signal.signal, signal.SIGUSR1, signal.getsignal(signal.SIGUSR1))
        folder = Path(self.mktemp())
        folder.mkdir()
        os.mkfifo(folder / "fifo")
        for name in (folder / "missing" / "log", folder, folder / "fifo"):
            for log_format in ("json", "text"):
                options = self.parse(
                    *("--topic", "x", "--log-format", log_format),
                    parent={"nodaemon": 0, "logfile": str(name)},
                )
                with self.assertRaises(tap.CannotStart) as raised:
                    tap.makeService(options)
                self.assertIn(f"--logfile: can't write {name}: ", self.one_line(raised.exception))
        self.assertIn("--nodaemon", self.refused("--topic", "x", parent={"logfile": "-", "nodaemon": 0}))

    def test_logfile(self) -> None:
        """--logfile is respected."""
        self.addCleanup(signal.signal, signal.SIGUSR1, signal.getsignal(signal.SIGUSR1))
        path = Path(self.mktemp()).absolute()
        options = self.parse(
            *("--topic", "x", "--log-format", "json"), parent={"nodaemon": True, "logfile": str(path)}
        )
        application = Application("dtt")
        tap.makeService(options).setServiceParent(application)
        observer: Any = application.getComponent(ILogObserver)
        observer({"log_format": "hello", "log_time": 5.0})
        self.assertEqual(json.loads(path.read_text())["text"], "hello")

    def test_text_log(self) -> None:
        """By default twistd's own log is used."""
        application = Application("dtt")
        tap.makeService(self.parse("--topic", "x")).setServiceParent(application)
        self.assertIsNone(application.getComponent(ILogObserver, None))
