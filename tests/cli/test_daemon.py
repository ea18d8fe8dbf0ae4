"""
Tests for L{dtt.cli.daemon}.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from dtt.app.options import TopicSettings
from dtt.cli import daemon
from dtt.cli.commands import NO_SERVICE
from dtt.cli.daemon import JoinedTopic, choose, joined_topics, run_with_daemon, state_directory, until_stopped
from dtt.errors import LocalError, StateError, UsageError
from dtt.records.topic import TopicId
from dtt.web.client import DaemonClient, NoDaemon, Refused
from tests.cli.common import CommandTestCase
from tests.cli.status import GARDEN, snapshot


class ChooseTests(SynchronousTestCase):
    """
    Tests for the topic that a command is about.
    """

    def test_named(self) -> None:
        """A topic is named by its name, label, id, the beginning of that, or a ticket."""
        joined = joined_topics(snapshot())
        garden = JoinedTopic(GARDEN, "garden party")
        for name in ("garden party", f"hex:{GARDEN.hex()}", GARDEN.hex()[:8], f"hex:{GARDEN.hex()[:6]}"):
            self.assertEqual(choose(joined, name, []), garden, name)
        ticket = TopicSettings("other", TopicId(GARDEN), b"")
        self.assertEqual(choose(joined, None, [ticket]), garden)
        self.assertEqual(choose([garden], None, []), garden)

    def test_not_joined(self) -> None:
        """The error says what is joined."""
        joined = joined_topics(snapshot())
        for name in ("nope", "ffffff", "hex:" + "00" * 32):
            message = str(self.assertRaises(LocalError, choose, joined, name, []))
            self.assertIn("garden party", message)
        self.assertRaises(UsageError, choose, joined, None, [])
        self.assertRaises(UsageError, choose, [], None, [])
        self.assertRaises(UsageError, choose, joined, " ", [])

    def test_ambiguous(self) -> None:
        """A beginning that several topics share, and one that is too short to be one, match none."""
        one, two = JoinedTopic(b"\xab" * 32, "one"), JoinedTopic(b"\xab" * 31 + b"\x00", "two")
        message = str(self.assertRaises(LocalError, choose, [one, two], "ababab", []))
        self.assertEqual(
            message, "the service has joined several topics called 'ababab'; it has joined one, two"
        )
        for name in ("AB" * 31 + "00", "hex:" + "ab" * 31 + "00", "ab" * 31 + "0"):
            self.assertEqual(choose([one, two], name, []), two)
        message = str(self.assertRaises(LocalError, choose, [one, two], "ababa", []))
        self.assertIn("no topic called 'ababa'", message)

    def test_label_like_an_id(self) -> None:
        """A label of hexadecimal digits is found, unless an id begins so."""
        labelled, other = JoinedTopic(b"\x01" * 32, "facade"), JoinedTopic(b"\x02" * 32, "other")
        self.assertEqual(choose([labelled, other], "facade", []), labelled)
        hidden = JoinedTopic(bytes.fromhex("facade") + bytes(29), "third")
        self.assertEqual(choose([labelled, other, hidden], "facade", []), hidden)

    def test_none_joined(self) -> None:
        """Without any topic, the error says so."""
        message = str(self.assertRaises(LocalError, choose, [], "garden party", []))
        self.assertEqual(message, "the service has joined no topic called 'garden party'; it has joined none")
        ticket = TopicSettings("party", TopicId(GARDEN), b"")
        message = str(self.assertRaises(LocalError, choose, [], None, [ticket]))
        self.assertIn("no topic called 'party'", message)


class DirectoryTests(SynchronousTestCase):
    """
    Tests for L{state_directory}.
    """

    def test_given(self) -> None:
        """The given directory counts, then the default; it does not depend on the working directory."""
        self.patch(os, "environ", {"DTT_STATE_DIR": "/default"})
        self.assertEqual(state_directory("/given"), Path("/given"))
        self.assertEqual(state_directory("given"), Path.cwd() / "given")
        self.assertEqual(state_directory(None), Path("/default"))

    def test_no_home(self) -> None:
        """Without a home directory it has to be given."""
        self.patch(os, "environ", {"HOME": ""})
        self.assertIn("--state-dir DIR", str(self.assertRaises(StateError, state_directory, None)))


class RunTests(CommandTestCase):
    """
    Tests for L{run_with_daemon}.
    """

    def setUp(self) -> None:
        """Run jobs without the reactor."""
        super().setUp()
        self.reactor = object()
        self.patch(daemon, "run_coroutine", self.run_coroutine)
        self.folder = self.mktemp()
        os.mkdir(self.folder)

    def run_coroutine(self, work: Any) -> int:
        """Return the result of a coroutine."""
        code: int = self.successResultOf(Deferred.fromCoroutine(work(self.reactor)))
        return code

    def test_result(self) -> None:
        """The exit code is that of the job, which gets the client."""
        given: list[Any] = []

        async def job(reactor: Any, client: DaemonClient) -> int:
            given.extend((reactor, type(client)))
            return 5

        self.assertEqual(run_with_daemon(self.folder, job), 5)
        self.assertEqual(given, [self.reactor, DaemonClient])

    def test_no_directory(self) -> None:
        """Without the directory no service can run: the job is not started."""

        async def job(reactor: Any, client: DaemonClient) -> int:
            raise AssertionError("started")

        file = Path(self.mktemp())
        file.touch()
        loop = Path(self.mktemp())
        loop.symlink_to(loop.name)
        for path, reason in (
            (self.mktemp(), "it does not exist"),
            (str(file), "it is not a directory"),
            (str(loop), "it can't be used: Too many levels of symbolic links"),
        ):
            self.assertEqual(run_with_daemon(path, job), NO_SERVICE)
            self.assertIn(f"{reason}; give --state-dir", self.err.getvalue())

    def test_errors(self) -> None:
        """No service has an exit code of its own; what the service refuses is not wrong usage."""

        async def absent(reactor: Any, client: DaemonClient) -> int:
            raise NoDaemon("no daemon runs")

        async def refused(reactor: Any, client: DaemonClient) -> int:
            raise Refused(404, "not joined")

        self.assertEqual(run_with_daemon(self.folder, absent), NO_SERVICE)
        self.assertEqual(self.err.getvalue(), "dtt: no daemon runs\n")
        error = self.assertRaises(LocalError, self.run_job, refused)
        self.assertEqual((type(error), str(error)), (LocalError, "not joined"))

    def run_job(self, job: Any) -> None:
        """Run a job that fails."""
        failures: list[Any] = []
        self.patch(
            daemon,
            "run_coroutine",
            lambda work: Deferred.fromCoroutine(work(self.reactor)).addErrback(failures.append) and 0,
        )
        run_with_daemon(self.folder, job)
        failures[0].raiseException()

    def test_until_stopped(self) -> None:
        """A signal is told from the end; other errors are errors."""
        waiting: list[Deferred[None]] = [Deferred() for _ in range(3)]
        one, two, three = (Deferred.fromCoroutine(until_stopped(each)) for each in waiting)
        self.assertNoResult(one)
        waiting[0].callback(None)
        two.cancel()
        waiting[2].errback(LocalError("oops"))
        self.assertIs(self.successResultOf(one), True)
        self.assertIs(self.successResultOf(two), False)
        self.failureResultOf(three, LocalError)
