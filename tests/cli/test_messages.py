"""
Tests for L{dtt.cli.messages}.
"""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python import usage

from dtt.app.options import TopicSettings
from dtt.cli import messages
from dtt.cli.commands import NOT_FOUND
from dtt.cli.complaints import OutputLost
from dtt.cli.messages import ListenOptions, Printer, SendOptions
from dtt.errors import StateError, UsageError
from dtt.events import DHTReady, Message, NeighborUp, PeerFailed
from dtt.gossip.proto.config import MAX_CONTENT
from dtt.records.ticket import RANDOM_BYTES, Ticket
from dtt.testing.fake_tracker import FakeTracker
from dtt.testing.net.clock import HeapClock
from tests.cli.common import CommandTestCase
from tests.cli.status import GARDEN, Client
from tests.tracker.common import collect_warnings

MESSAGE = {"event": "message", "topic": "ab" * 32, "delivered_from": "11" * 32, "scope": "swarm"}


class PrinterTests(CommandTestCase):
    """
    Tests for L{Printer}.
    """

    def test_text(self) -> None:
        """Messages are one line each, whatever they contain; other events only if wanted."""
        printer = Printer(False, False, 0)
        printer.line({**MESSAGE, "content": "a\nb\x1b[2J"})
        printer.line({**MESSAGE, "content_hex": "ff00"})
        printer.line({"event": "neighbor.up"})
        self.assertEqual(
            self.printed(), ["[via 1111111111] a\ufffdb\ufffd[2J", "[via 1111111111] \ufffd\ufffd"]
        )
        Printer(False, True, 0).line({"event": "neighbor.up"})
        self.assertEqual(self.printed(), ["* neighbor.up"])

    def test_json(self) -> None:
        """JSON lines are as the service sends them, and the same alone."""
        value = {**MESSAGE, "content": "x", "time": 5}
        Printer(True, False, 0).line(value)
        printer = Printer(True, False, 0)
        printer.event(Message(b"\xab" * 32, b"\x11" * 32, "swarm", b"x"), 5)
        printer.event(DHTReady(1), 5)
        first, second = map(json.loads, self.printed())
        self.assertEqual(first, second)

    def test_count(self) -> None:
        """It ends after a number of messages."""
        printer = Printer(False, False, 2)
        for _ in range(3):
            printer.line({**MESSAGE, "content": "x"})
        self.successResultOf(printer.done)
        self.assertEqual(len(self.printed()), 2)

    def test_events(self) -> None:
        """Other events are printed only if wanted; without JSON, some of this process are not shown."""
        for as_json in (False, True):
            printer = Printer(as_json, True, 0)
            printer.event(DHTReady(8), 5)
            printer.event(PeerFailed(bytes(32), bytes(32), "timed out"), 5)
            printer.line({"event": "dht.ready", "nodes": 8})
        words, from_service, *as_json_lines = self.printed()
        self.assertEqual((words, from_service), ("* The DHT answers; 8 nodes known.", "* dht.ready"))
        self.assertEqual(
            [json.loads(line)["event"] for line in as_json_lines], ["dht.ready", "peer.failed", "dht.ready"]
        )
        self.assertEqual(printer.messages, 0)
        printer = Printer(False, False, 0)
        printer.event(DHTReady(8), 5)
        self.assertEqual(self.printed(), [])

    def test_lost(self) -> None:
        """If the output can't be written, it ends once, with the reason, and tries no more."""
        printer = Printer(False, False, 3)
        writes = Full()
        self.patch(sys, "stdout", writes)
        for _ in range(3):
            printer.line({**MESSAGE, "content": "x"})
        self.successResultOf(printer.done)
        self.assertIsInstance(printer.lost, OutputLost)
        self.assertEqual(writes.tries, 1)

    def test_incomplete(self) -> None:
        """A message of another version of the service may lack fields, or have half a character."""
        printer = Printer(False, False, 0)
        printer.line({"event": "message"})
        printer.line({**MESSAGE, "content": "\udc80"})
        self.assertEqual(self.printed(), ["[via ] ", "[via 1111111111] " + "\ufffd" * 3])


class Full(io.StringIO):
    """
    Output that can't be written.
    """

    tries = 0

    def write(self, text: str) -> int:
        self.tries += 1
        raise OSError(28, "No space left on device")


class ListenTests(CommandTestCase):
    """
    Tests for C{dtt listen}.
    """

    def until_done(self, *arguments: str) -> tuple[ListenOptions, Deferred[None], Deferred[int]]:
        """Start to listen."""
        options = ListenOptions()
        options.parseOptions(list(arguments))
        options._printer = Printer(False, False, options["count"])
        ends: Deferred[None] = Deferred()
        self.clock = HeapClock()
        return options, ends, Deferred.fromCoroutine(options._until_done(self.clock, ends))

    def test_ends(self) -> None:
        """Ctrl-C and the last message end it with 0, a time-out without a message with 3."""
        _, _, running = self.until_done()
        running.cancel()
        self.assertEqual(self.successResultOf(running), 0)
        options, _, running = self.until_done("-n", "1")
        options._printer.line({**MESSAGE, "content": "x"})
        self.assertEqual(self.successResultOf(running), 0)
        _, _, running = self.until_done("--timeout", "5")
        self.assertNoResult(running)
        self.clock.advance(5)
        self.assertEqual(self.successResultOf(running), NOT_FOUND)
        _, ends, running = self.until_done()
        ends.callback(None)
        self.assertEqual(self.successResultOf(running), NOT_FOUND)
        self.assertIn("the service has stopped", self.err.getvalue())

    def test_timeout_after_a_message(self) -> None:
        """A time-out after a message is a success."""
        options, _, running = self.until_done("--timeout", "5")
        options._printer.line({**MESSAGE, "content": "x"})
        self.clock.advance(5)
        self.assertEqual(self.successResultOf(running), 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_output_lost(self) -> None:
        """Lost output ends it with an error, as for any other command."""
        options, _, running = self.until_done()
        self.patch(sys, "stdout", Full())
        options._printer.line({**MESSAGE, "content": "x"})
        self.failureResultOf(running, OutputLost)

    def test_through_the_service(self) -> None:
        """It prints the messages of the topic that is named, and cancels the stream at the end."""
        client = Streaming()
        done = through_service(self, client, ListenOptions(), "--topic", "garden party", "-n", "2")
        (on_event, topic_id), ends = client.listening
        self.assertEqual(topic_id, GARDEN)
        on_event({**MESSAGE, "content": "one"})
        self.assertEqual(done, [])
        on_event({**MESSAGE, "content": "two"})
        self.assertEqual(done, [0])
        self.failureResultOf(ends, CancelledError)
        self.assertEqual(self.printed(), ["[via 1111111111] one", "[via 1111111111] two"])

    def test_alone(self) -> None:
        """Without a service it joins the topic with its secret, and stops the tracker at the end."""
        secret = Path(self.mktemp())
        secret.write_bytes(b"s")
        secret.chmod(0o600)
        tracker = FakeTracker()
        observers: list[Any] = []
        running: list[Deferred[int]] = []

        def make(reactor: Any, config: Any, on_event: Any) -> FakeTracker:
            observers.append(on_event)
            return tracker

        def run_coroutine(job: Any) -> int:
            running.append(Deferred.fromCoroutine(job(HeapClock())))
            return 0

        self.patch(messages, "Tracker", make)
        self.patch(messages, "run_coroutine", run_coroutine)
        self.patch(messages, "warnings_to_stderr", lambda: None)
        options = ListenOptions()
        options.parseOptions(
            ["--standalone", "--topic", "garden party", "--secret-file", str(secret), "--count", "1"]
        )
        options.run()
        self.assertEqual(tracker.topic("garden party").secret, b"s")
        self.assertEqual(tracker.running, 1)
        observers[0](NeighborUp(GARDEN, b"\x11" * 32))
        self.assertNoResult(running[0])
        observers[0](Message(GARDEN, b"\x11" * 32, "swarm", b"hello"))
        self.assertEqual(self.successResultOf(running[0]), 0)
        self.assertEqual((self.printed(), tracker.running), (["[via 1111111111] hello"], 0))


class TopicTests(CommandTestCase):
    """
    Tests for the topics of both commands.
    """

    def topics(self, *arguments: str) -> list[TopicSettings]:
        """Return the topics of a command line."""
        options = SendOptions()
        options.parseOptions([*arguments, "text"])
        return options.topics()

    def test_topics(self) -> None:
        """A ticket is always read; the topic of --topic is only joined without a service."""
        ticket = Ticket.make("party", bytes(RANDOM_BYTES))
        path = Path(self.mktemp())
        path.write_text(ticket.encode())
        path.chmod(0o600)
        self.assertEqual(self.topics("--topic", "garden party"), [])
        for arguments in ((), ("--standalone",)):
            (topic,) = self.topics("--ticket-file", str(path), *arguments)
            self.assertEqual((topic.topic_id, topic.secret), (ticket.topic_id, ticket.secret))

    def test_contradictions(self) -> None:
        """Options of which one would be ignored are refused: two topics, or a secret for no topic."""
        path, secret = Path(self.mktemp()), Path(self.mktemp())
        path.write_text(Ticket.make("party", bytes(RANDOM_BYTES)).encode())
        secret.write_bytes(b"s")
        for each in (path, secret):
            each.chmod(0o600)
        ticket = ("--ticket-file", str(path))
        for words in (
            ("--topic", "x", *ticket),
            (*ticket, *ticket),
            ("--standalone", "--topic", "x", *ticket),
            ("--standalone", *ticket, "--secret-file", str(secret)),
        ):
            self.assertRaises(UsageError, self.topics, *words)
        listen = ListenOptions()
        listen.parseOptions(["--standalone", *ticket, "--topic", "x", "--secret-file", str(secret)])
        self.assertEqual(len(listen.topics(several=True)), 2)
        listen = ListenOptions()
        listen.parseOptions(["--standalone", *ticket, *ticket])
        error = self.assertRaises(UsageError, listen.topics, several=True)
        self.assertEqual(str(error), "the topic 'party' is given twice")

    def test_no_secret(self) -> None:
        """A topic that is joined without a secret, or with an empty one, causes a warning."""
        secret = Path(self.mktemp())
        secret.touch(0o600)
        warnings: list[str] = []
        collect_warnings(self, warnings)
        for arguments in ((), ("--secret-file", str(secret))):
            warnings.clear()
            self.assertEqual(
                self.topics("--standalone", "--topic", "garden party", *arguments)[0].topic_id, GARDEN
            )
            self.assertEqual(len(warnings), 1)
            self.assertIn("garden party has no secret", warnings[0])
        secret.write_bytes(b"s")
        warnings.clear()
        self.assertEqual(
            self.topics("--standalone", "--topic", "a", "--secret-file", str(secret))[0].secret, b"s"
        )
        self.assertEqual(warnings, [])


class Streaming(Client):
    """
    A service that lets the test send events.
    """

    listening: tuple[tuple[Any, Any], Deferred[None]]

    def events(self, on_event: Any, topic_id: bytes) -> Deferred[None]:
        """Listen to events."""
        ends: Deferred[None] = Deferred()
        self.listening = (on_event, topic_id), ends
        # The caller gets a Deferred of its own, so that the test sees the cancellation.
        return Deferred(lambda _: ends.cancel())


def through_service(case: CommandTestCase, client: Client, options: Any, *arguments: str) -> list[int]:
    """
    Run a command with a service, and return where its exit code will be.
    """
    codes: list[int] = []

    def run_with_daemon(given: str | None, job: Any) -> int:
        Deferred.fromCoroutine(job(HeapClock(), client)).addCallback(codes.append)
        return 0

    case.patch(messages, "run_with_daemon", run_with_daemon)
    case.patch(messages, "warnings_to_stderr", lambda: None)
    options.parseOptions(list(arguments))
    options.run()
    return codes


class SendTests(CommandTestCase):
    """
    Tests for C{dtt send}.
    """

    def test_send_arguments(self) -> None:
        """The message is one argument, and not empty or too long."""
        options = SendOptions()
        options.parseOptions(["hello"])
        self.assertEqual(options._content(), b"hello")
        for text in ("", "x" * 4056):
            options = SendOptions()
            options.parseOptions([text])
            self.assertRaises(UsageError, options._content)
        options = SendOptions()
        options.parseOptions(["--standalone", "x"])
        self.assertRaises(UsageError, options.topics)

    def test_wrong(self) -> None:
        """One message, and not both it and the secret from standard input."""
        for words in (
            ["a", "b"],
            ["--secret-file", "-"],
            ["-", "--secret-file", "-"],
            ["x", "--timeout", "-1"],
        ):
            self.assertRaises((usage.UsageError, UsageError), SendOptions().parseOptions, words)

    def test_bytes(self) -> None:
        """Bytes of the command line that are not UTF-8 are sent as they are."""
        options = SendOptions()
        options.parseOptions(["a\udcff"])
        self.assertEqual(options._content(), b"a\xff")

    def test_standard_input(self) -> None:
        """Standard input is read to its end, or until it is too long."""
        chunks = [b"he", b"llo\n", b""]
        self.patch(messages, "standard_input", lambda: io.BytesIO())
        self.patch(os, "read", lambda descriptor, size: chunks.pop(0)[:size])
        options = SendOptions()
        options.parseOptions([])
        self.assertEqual(options._content(), b"hello\n")
        chunks += [b"x" * MAX_CONTENT, b""]
        self.assertEqual(len(options._content()), MAX_CONTENT)
        chunks += [b"x" * MAX_CONTENT, b"more"]
        self.assertRaises(UsageError, options._content)
        self.patch(os, "read", self.fail_to_read)
        self.assertIn(
            "can't read standard input: Input/output error",
            str(self.assertRaises(StateError, options._content)),
        )
        self.patch(messages, "standard_input", lambda: None)
        self.assertEqual(str(self.assertRaises(UsageError, options._content)), "the message is empty")

    def fail_to_read(self, descriptor: int, size: int) -> bytes:
        """Fail."""
        raise OSError(5, "Input/output error")

    def test_through_the_service(self) -> None:
        """The message goes to the topic that is named; without a neighbour the exit code says so."""
        for neighbors, code in ((2, 0), (0, NOT_FOUND)):
            client = Client(neighbors=neighbors)
            done = through_service(self, client, SendOptions(), "--topic", "garden party", "hello")
            self.assertEqual((done, client.sent), ([code], [(GARDEN, b"hello")]))
        self.assertEqual(
            self.err.getvalue(),
            "dtt: there is no other member of garden party now: nobody received the message\n",
        )

    def alone(self) -> Deferred[int]:
        """Send without a service."""
        self.clock, self.tracker = HeapClock(), FakeTracker()
        options = SendOptions()
        options.parseOptions(["--standalone", "--topic", "garden party", "--timeout", "60", "hello"])
        settings = [TopicSettings("garden party", GARDEN, None)]
        return Deferred.fromCoroutine(options._alone(self.clock, self.tracker, settings, b"hello"))

    def test_alone(self) -> None:
        """The message is sent when there is another member, and then the tracker stops."""
        running = self.alone()
        topic = self.tracker.topic("garden party")
        self.assertNoResult(running)
        topic.up(b"\x11" * 32)
        self.assertEqual(self.successResultOf(running), 0)
        self.assertEqual((topic.sent, self.tracker.running), ([b"hello"], 0))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_nobody(self) -> None:
        """If nobody comes in time, the message is not sent, and the exit code says so."""
        running = self.alone()
        topic = self.tracker.topic("garden party")
        self.clock.advance(59)
        self.assertNoResult(running)
        self.clock.advance(1)
        self.assertEqual(self.successResultOf(running), NOT_FOUND)
        self.assertEqual((topic.sent, self.tracker.running), ([], 0))
        self.assertIn("no other member was found within 60 s", self.err.getvalue())

    def test_cancelled(self) -> None:
        """A signal stops the tracker."""
        running = self.alone()
        running.cancel()
        self.failureResultOf(running, CancelledError)
        self.assertEqual(self.tracker.running, 0)
