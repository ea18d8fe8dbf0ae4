"""
Tests for L{dtt.tap} and the plugin.
"""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from twisted.application.service import Application, IServiceMaker
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogLevel
from twisted.plugin import getPlugins
from twisted.trial.unittest import SynchronousTestCase

from dtt import tap
from dtt.app.eventlog import JSONLogObserver
from dtt.config import Config
from dtt.records.topic import TopicId
from dtt.testing.net.machines import MachineNetwork
from dtt.tracker.tracker import Tracker
from tests.app.test_options import no_home
from tests.tracker.common import collect_warnings, without_iroh


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
            (("--topic", "hex:12"), "64 hexadecimal digits"),
            (("--topic", "x", "--dht-port", "many"), "0..65535"),
            (("--topic", "x", "--listen", "nowhere"), "HOST:PORT"),
            (("--topic", "x", "--listen", "localhost:0"), "IP"),
            (("--topic", "x", "--secret-file", str(lax)), "chmod 600"),
            (("--topic", "x", "--secret-file", "/nonexistent"), "/nonexistent"),
            (("--topic", "x", "--config", str(unknown)), "nonsense"),
            (("--topic", "x", "--config", "/nonexistent"), "/nonexistent"),
            (("--topic", "x", "--log-format", "xml"), "text or json"),
        ):
            self.assertIn(expected, self.refused(*arguments), str(arguments))

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

    def warnings(self) -> list[str]:
        """Collect warnings."""
        found: list[str] = []

        collect_warnings(self, found)
        return found

    def tracker(self, service: Any) -> Tracker:
        """Return the tracker within the service."""
        (tracker,) = service
        assert isinstance(tracker, Tracker)
        return tracker

    def test_service(self) -> None:
        """
        The service contains a tracker with the topics, not yet started; a missing or empty
        secret causes a warning.
        """
        warnings = self.warnings()
        config = self.file(
            f'[[topic]]\nname = "y"\n[[topic]]\nname = "z"\nsecret_file = "{self.file("").absolute()}"\n'
        )
        secret = self.file("s")
        options = self.parse("--topic", "x", "--secret-file", str(secret), "--config", str(config))
        tracker = self.tracker(tap.makeService(options))
        self.assertEqual(
            {topic.topic_id for topic in tracker._topics.values()},
            {TopicId.from_name(name) for name in "xyz"},
        )
        self.assertEqual(len(warnings), 2)
        self.assertIn("Topic y has no secret", warnings[0])

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
            tap.makeService(self.parse("--topic", "x"))
        self.assertIn("chmod 700", self.one_line(raised.exception))

    def test_cannot_bind(self) -> None:
        """
        A port or state directory in use is reported in one line when the service starts,
        also under C{twist}, which has no privileged start.
        """
        reactor = MachineNetwork(Clock()).reactor("10.0.0.1")
        first = Tracker(reactor, Config(state_dir=self.state_dir, listen=("10.0.0.1", 7000)))
        first.privilegedStartService()
        for config in (Config(listen=("10.0.0.1", 7000)), Config(state_dir=self.state_dir)):
            runner = tap.TrackerRunner(Tracker(reactor, config), None)
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
        self.assertIsInstance(observer, JSONLogObserver)
        observer({"log_format": "hello", "log_time": 5.0, "log_level": LogLevel.info, "log_namespace": "x"})
        self.assertEqual(json.loads(out.getvalue())["text"], "hello")

    def test_rotation(self) -> None:
        """SIGUSR1 rotates the file of JSON lines, like twistd's own log, instead of killing the process."""
        path = Path(self.mktemp()).absolute()
        self.addCleanup(signal.signal, signal.SIGUSR1, signal.signal(signal.SIGUSR1, signal.SIG_DFL))
        in_reactor: list[Any] = []
        file: Any = tap._log_file({"logfile": str(path)}, SimpleNamespace(callFromThread=in_reactor.append))
        self.addCleanup(file.close)
        file.write("before\n")
        signal.raise_signal(signal.SIGUSR1)
        (rotate,) = in_reactor
        rotate()
        file.write("after\n")
        self.assertEqual((path.read_text(), Path(f"{path}.1").read_text()), ("after\n", "before\n"))

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
        observer._file.close()
        self.assertEqual(json.loads(path.read_text())["text"], "hello")

    def test_text_log(self) -> None:
        """By default twistd's own log is used."""
        application = Application("dtt")
        tap.makeService(self.parse("--topic", "x")).setServiceParent(application)
        self.assertIsNone(application.getComponent(ILogObserver, None))
