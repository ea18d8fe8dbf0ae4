"""
Tests for L{dtt.app.daemon}: a service on a machine in memory, whose settings change.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from attrs import evolve
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import provider

from dtt.app.daemon import Daemon, Settings
from dtt.app.options import TopicSettings
from dtt.app.systemd import Notifier
from dtt.config import Config, DHTConfig
from dtt.errors import StateError
from dtt.interfaces import GossipMessage
from dtt.records.topic import TopicId
from dtt.tracker.topic import TopicService
from tests.tracker.case import TrackerTestCase

ROOT = Path(__file__).parents[2]


def topic(name: str, secret: bytes | None = b"secret") -> TopicSettings:
    """The settings of a topic."""
    return TopicSettings(name, TopicId.from_name(name), secret)


class _Notifier(Notifier):
    """
    Notes what is said.
    """

    def __init__(self) -> None:
        super().__init__({})
        self.said: list[str] = []

    def say(self, *lines: str) -> None:
        """Note it."""
        self.said.append(lines[0])


class ReloadTests(TrackerTestCase):
    """
    Tests for L{Daemon.reload}.
    """

    def setUp(self) -> None:
        """Start a service with two topics."""
        super().setUp()
        self.config = Config(
            transport="streams",
            listen=("10.0.0.1", 0),
            dht=DHTConfig(bind="10.0.0.1", bootstrap=(("10.1.0.1", 6881),)),
        )
        self.settings = self.of_topics(topic("x"), topic("y"))
        self.broken: StateError | None = None
        self.notifier = _Notifier()
        self.logged: list[tuple[str, str]] = []
        self.daemon = Daemon(
            self.net.reactor("10.0.0.1"), self.settings, self.read, self.notifier, lambda event: None
        )
        self.addCleanup(self.daemon.stopService)
        self.daemon.privilegedStartService()
        self.daemon.startService()
        self.net.advance(2)

        @provider(ILogObserver)
        def observe(event: LogEvent) -> None:
            if event["log_namespace"] == "dtt.app.daemon":
                self.logged.append((event["log_level"].name, formatEvent(event)))

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)

    def of_topics(self, *topics: TopicSettings) -> Settings:
        """Settings with these topics."""
        return Settings(self.config, topics)

    def read(self) -> Settings:
        """Read the settings, or fail."""
        if self.broken is not None:
            raise self.broken
        return self.settings

    def reload(self, *topics: TopicSettings) -> None:
        """Change the topics."""
        self.settings = self.of_topics(*topics)
        self.daemon.reload()
        self.net.advance(2)

    def joined(self) -> dict[str, TopicService]:
        """The topics by their names."""
        return {each.topic_id.label: each for each in self.daemon.tracker.topics()}

    def test_ready(self) -> None:
        """The service manager hears that the service is ready when everything has started."""
        self.assertEqual(self.notifier.said, ["READY=1"])
        self.daemon.stopService()
        self.assertEqual(self.notifier.said, ["READY=1", "STOPPING=1"])

    def test_added_and_removed(self) -> None:
        """Topics are joined and left; the others are not touched."""
        before = self.joined()
        self.reload(topic("y"), topic("z"))
        after = self.joined()
        self.assertEqual(set(after), {"y", "z"})
        self.assertIs(after["y"], before["y"])
        self.assertFalse(before["x"].running)
        self.assertTrue(after["z"].running)
        self.assertEqual(
            self.logged,
            [
                (
                    "info",
                    "Read the settings again: 1 joined, 1 left, 0 rejoined with another secret, 1 unchanged.",
                )
            ],
        )
        self.assertEqual(self.notifier.said, ["READY=1", "RELOADING=1", "READY=1"])

    def test_neighbours_stay(self) -> None:
        """A topic that is not touched keeps its neighbour without a break."""
        other = self.tracker(2).join("x", b"secret")
        self.net.advance(20)
        ups: list[str] = []

        class Observer:
            def neighbor_up(self, peer_id: bytes) -> None:
                ups.append("up")

            def neighbor_down(self, peer_id: bytes) -> None:
                ups.append("down")

            def message_received(self, message: GossipMessage) -> None:
                """Do nothing."""

        other.subscribe(Observer())
        self.reload(topic("x"))
        self.net.advance(20)
        self.assertEqual(ups, ["up"])

    def test_secret(self) -> None:
        """A topic whose secret has changed is joined again with the new one."""
        other = self.tracker(2).join("x", b"new")
        self.net.advance(20)
        self.assertEqual(other.neighbors(), ())
        before = self.joined()["x"]
        self.reload(topic("x", b"new"), topic("y"))
        self.net.advance(90)
        self.assertIsNot(self.joined()["x"], before)
        self.assertEqual(other.neighbors(), (self.daemon.tracker.peer_id,))

    def test_no_secret(self) -> None:
        """A topic without a secret is not touched either, and an empty secret is the same as none."""
        without = topic("z", None)
        self.reload(without)
        before = self.joined()["z"]
        for again in (without, topic("z", b""), without):
            self.reload(again)
            self.assertIs(self.joined()["z"], before)

    def test_back_and_forth(self) -> None:
        """A topic that is removed and added again at once is joined in the end."""
        for topics in ((), (topic("x"),), (), (topic("x"), topic("y"))):
            self.settings = self.of_topics(*topics)
            self.daemon.reload()
        self.net.advance(5)
        self.assertEqual(set(self.joined()), {"x", "y"})
        for topics in ((topic("x"),), ()):
            self.settings = self.of_topics(*topics)
            self.daemon.reload()
        self.net.advance(5)
        self.assertEqual(set(self.joined()), set())

    def test_broken(self) -> None:
        """Settings that can't be read change nothing; the reason is one line in the log."""
        before = self.joined()
        self.broken = StateError("secret: no\nsuch file")
        self.daemon.reload()
        self.assertEqual(self.joined(), before)
        [(level, text)] = self.logged
        self.assertEqual(level, LogLevel.error.name)
        self.assertIn("nothing has changed: secret: no", text)
        self.assertNotIn("\n", text)
        self.assertEqual(self.notifier.said[-1], "READY=1")
        self.flushLoggedErrors()
        self.warnings.clear()

    def test_other_settings(self) -> None:
        """Settings that need a restart are named."""
        self.settings = Settings(
            evolve(self.config, max_connections=99, port_mapping=False), self.settings.topics
        )
        self.daemon.reload()
        self.assertIn("restart to apply the new value of port_mapping, max_connections.", self.logged[-1][1])
        self.warnings.clear()

    def test_joined_before(self) -> None:
        """A topic that was joined by other means stays unchanged when the settings also name it."""
        before = self.daemon.tracker.join("z", b"secret")
        self.reload(topic("x"), topic("y"), topic("z"))
        self.assertIs(self.joined()["z"], before)
        self.assertIn("was already joined", self.logged[0][1])
        self.warnings.clear()

    def test_stopped(self) -> None:
        """A service that has stopped does not read anything."""
        self.daemon.stopService()
        self.net.advance(2)
        self.daemon.reload()
        self.assertEqual(self.logged, [])


#: Makes the service that C{dtt run} runs by default, in the directory that is its argument, and
#: prints what that has imported.
MAKE = """
import sys
from twisted.internet import reactor
from dtt.cli.run import RunOptions
from dtt.tap import make_daemon
options = RunOptions()
options.parseOptions(["--topic", "x", "--transport", "streams,quic", "--state-dir", sys.argv[1]])
make_daemon(reactor, options)
print(*sys.modules)
"""


class ImportsTests(SynchronousTestCase):
    """
    What a service that nobody looks at imports.
    """

    def test_imports(self) -> None:
        """
        The service has loaded neither an HTTP server nor a client, nor metrics, nor what only
        tests, other transports or other programs use.
        """
        command = [sys.executable, "-c", MAKE, str(Path(self.mktemp()).absolute())]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=True)
        loaded = done.stdout.split()
        self.assertIn("dtt.web.service", loaded)
        unwanted = [
            "treq",
            "twisted.web",
            "twisted.spread",
            "prometheus_client",
            "hypothesis",
            "iroh",
            "miniupnpc",
            "pyhpke",
            "statistics",
            "twisted.trial",
            "dtt.testing",
            "dtt.aio",
            "dtt.contrib",
            "dtt.transport.iroh.transport",
            "dtt.web.server",
            "dtt.web.root",
            "dtt.web.page",
            "dtt.web.openapi",
            "dtt.web.metrics",
            "dtt.web.client",
        ]
        self.assertEqual([each for each in loaded if each.startswith(tuple(unwanted))], [])
