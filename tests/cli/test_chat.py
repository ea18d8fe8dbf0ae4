"""
Tests for L{dtt.cli.chat}.
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from dtt.cli import chat as chat_module
from dtt.cli.chat import MAX_LINE, MAX_WAITING, Chat, ChatLine, ChatOptions, Console, describe, printable
from dtt.config import TopicTable
from dtt.errors import StateError, UsageError
from dtt.events import DHTReady, Message, NeighborDown, NeighborUp, PeerFailed, RecordPublished
from dtt.records.topic import TopicId
from dtt.testing.fake_gossip import FakeGossip

TOPIC, ME, PEER = b"t" * 32, b"\x11" * 32, b"\x22" * 32


class LineTests(SynchronousTestCase):
    """
    Tests for lines of chat, on the wire and on the screen.
    """

    def test_encode(self) -> None:
        """A line is UTF-8 JSON with from, n and text."""
        content = ChatLine("ab", 7, "grüße").encode()
        self.assertEqual(json.loads(content.decode("utf-8")), {"from": "ab", "n": 7, "text": "grüße"})
        self.assertIn("grüße".encode(), content)
        self.assertEqual(ChatLine.decode(content), ChatLine("ab", 7, "grüße"))

    def test_no_line(self) -> None:
        """Anything else is not a line."""
        for content in (
            b"",
            b"hello",
            b"\xff\xfe",
            b"[1]",
            b"null",
            b'{"from": "ab", "n": 7}',
            b'{"from": "ab", "n": "7", "text": "x"}',
            b'{"from": 5, "n": 7, "text": "x"}',
            b'{"from": "ab", "n": 7, "text": ["x"]}',
            b"[" * 4000,
            b'{"from": "ab", "n": ' + b"9" * 4900 + b', "text": "x"}',
            '{"from": "ab", "n": 7, "text": "x"}'.encode("utf-16"),
        ):
            self.assertIsNone(ChatLine.decode(content), content[:50])

    def test_more_keys(self) -> None:
        """Additional keys are ignored."""
        self.assertEqual(
            ChatLine.decode(b'{"from": "ab", "n": 7, "text": "x", "color": "red"}'), ChatLine("ab", 7, "x")
        )

    def test_printable(self) -> None:
        """Characters that control a terminal are replaced: escapes, newlines, changes of direction."""
        self.assertEqual(printable("Grüße, 世界 👋"), "Grüße, 世界 👋")
        for character in "\x1b\r\n\t\b\x00\x7f\x9b\u202e\u2028\ud800":
            self.assertEqual(printable(f"a{character}b"), "a\ufffdb", repr(character))

    def test_describe(self) -> None:
        """A line is shown with its claimed sender, anything else as it is with the last hop."""

        def shown(content: bytes) -> str | None:
            return describe(Message(TOPIC, PEER, "swarm", content))

        self.assertEqual(shown(ChatLine(ME.hex(), 1, "hello").encode()), "<1111111111> hello")
        self.assertEqual(shown(b"raw"), "[via 2222222222] raw")
        self.assertEqual(shown(b"\xff\x1b[2J"), "[via 2222222222] \ufffd\ufffd[2J")
        self.assertEqual(
            shown(ChatLine("\x1b[2J", 1, "\x1b]0;x\x07").encode()), "<\ufffd[2J> \ufffd]0;x\ufffd"
        )

    def test_describe_others(self) -> None:
        """Joining and leaving members are shown; events without interest to a person are not."""
        self.assertEqual(describe(NeighborUp(TOPIC, PEER)), "* 2222222222 is here")
        self.assertEqual(describe(NeighborDown(TOPIC, PEER)), "* 2222222222 is gone")
        self.assertEqual(describe(DHTReady(8)), "* The DHT answers; 8 nodes known.")
        self.assertIsNone(describe(PeerFailed(TOPIC, PEER, "timed out")))
        self.assertIsNone(describe(RecordPublished(TOPIC, 1, 2)))


class ChatTests(SynchronousTestCase):
    """
    Tests for L{Chat} and L{Console}.
    """

    def chat(self, as_json: bool = False, stay: bool = False) -> Chat:
        """Return a started chat."""
        self.gossip = FakeGossip()
        self.console = Console()
        self.clock = Clock()
        chat = Chat(self.clock, self.console, as_json, stay)
        self.transport = StringTransport()
        self.console.makeConnection(self.transport)
        tracker: Any = SimpleNamespace(peer_id=ME)
        topic: Any = self.gossip
        chat.start(tracker, topic)
        return chat

    def type(self, text: str | bytes) -> None:
        """Feed the input."""
        self.console.dataReceived(text if isinstance(text, bytes) else text.encode())

    def said(self) -> list[str]:
        """Return what was broadcast, as text."""
        lines = [ChatLine.decode(content) for content in self.gossip.broadcasts]
        return [line.text for line in lines if line is not None]

    def shown(self) -> str:
        """Return what was printed."""
        return str(self.transport.value().decode())

    def test_waits_until_joined(self) -> None:
        """Lines wait until there is a neighbour, and are then sent in order."""
        chat = self.chat()
        self.type("one\ntw")
        self.type("o\n")
        self.assertEqual(self.said(), [])
        self.gossip.up(PEER)
        self.type("three\n")
        self.assertEqual(self.said(), ["one", "two", "three"])
        self.assertNoResult(chat.done)

    def test_lines(self) -> None:
        """Empty lines are not sent; carriage returns and bytes that are not text are handled."""
        self.chat()
        self.gossip.up(PEER)
        self.type(b"\n\r\na\r\n\xff\n\n")
        self.assertEqual(self.said(), ["a", "\ufffd"])

    def test_same_line_twice(self) -> None:
        """The counter makes equal lines differ, also across restarts; we are the sender."""
        self.chat()
        self.gossip.up(PEER)
        self.type("a\na\n")
        lines = [json.loads(content) for content in self.gossip.broadcasts]
        self.assertEqual([line["from"] for line in lines], [ME.hex()] * 2)
        self.assertEqual(lines[1]["n"], lines[0]["n"] + 1)
        self.clock.advance(1)
        again = Chat(self.clock, Console(), False, False)
        self.assertGreater(again._n, lines[1]["n"])

    def test_end_of_input(self) -> None:
        """
        At the end of the input, waiting lines are sent, including a last one without a
        newline; then the chat ends.
        """
        chat = self.chat()
        self.type("one\ntwo")
        self.console.readConnectionLost()
        self.assertNoResult(chat.done)
        said_when_done: list[list[str]] = []
        chat.done.addCallback(lambda _: said_when_done.append(self.said()))
        self.gossip.up(PEER)
        self.assertEqual(said_when_done, [["one", "two"]])

    def test_end_of_input_waits_for_sending(self) -> None:
        """The chat does not end before the neighbours have accepted all lines."""
        chat = self.chat()
        sending: Deferred[None] = Deferred()
        self.gossip.broadcast = lambda content: sending  # type: ignore[method-assign]
        self.gossip.up(PEER)
        self.type("one\n")
        self.console.readConnectionLost()
        self.assertNoResult(chat.done)
        sending.callback(None)
        self.successResultOf(chat.done)

    def test_end_of_empty_input(self) -> None:
        """With an empty input the chat ends immediately."""
        chat = self.chat()
        self.console.readConnectionLost()
        self.successResultOf(chat.done)

    def test_stay(self) -> None:
        """With --stay it keeps listening after the end of the input."""
        chat = self.chat(stay=True)
        self.type("one\n")
        self.console.readConnectionLost()
        self.gossip.up(PEER)
        self.assertEqual(self.said(), ["one"])
        self.assertNoResult(chat.done)
        chat.finish()
        chat.finish()
        self.successResultOf(chat.done)

    def test_nobody_reads(self) -> None:
        """When the output or both ends are closed, the chat ends, even with --stay."""
        for end in ("writeConnectionLost", "connectionLost"):
            chat = self.chat(stay=True)
            getattr(self.console, end)()
            self.successResultOf(chat.done)

    def test_topic_left(self) -> None:
        """If the topic is left before it is joined, the chat ends silently."""
        chat = self.chat()
        self.gossip.leave()
        self.successResultOf(chat.done)

    def test_too_long(self) -> None:
        """A line that is too long to broadcast is reported, and the next one is sent."""
        self.chat()
        self.gossip.up(PEER)
        self.type("x" * 4055 + "\nafter\n")
        self.assertEqual(self.said(), ["after"])
        self.assertIn("! not sent:", self.shown())

    def test_far_too_long(self) -> None:
        """
        An endless line does not exhaust the memory, is reported once, and no part of it is
        sent; the next line is.
        """
        self.chat()
        self.gossip.up(PEER)
        for _ in range(10):
            self.type("x" * (MAX_LINE // 3))
            self.assertLessEqual(len(self.console._rest), MAX_LINE)
        self.type("its end\nafter\nmore")
        self.type("\n")
        self.assertEqual(self.said(), ["after", "more"])
        self.assertEqual(self.shown().count("too long"), 1)

    def test_many_wait(self) -> None:
        """
        If many lines wait, reading the input pauses and none is dropped; it resumes when
        they are sent.
        """
        self.chat()
        self.type("".join(f"{number}\n" for number in range(MAX_WAITING - 1)))
        self.assertEqual(self.transport.producerState, "producing")
        self.type("last\nbut one\n")
        self.assertEqual(self.transport.producerState, "paused")
        self.gossip.up(PEER)
        self.assertEqual(self.transport.producerState, "producing")
        self.assertEqual(self.said(), [str(n) for n in range(MAX_WAITING - 1)] + ["last", "but one"])

    def test_pace(self) -> None:
        """
        A line is sent when the neighbours have accepted the previous one, so that piped
        input does not overrun them.
        """
        chat = self.chat()
        sending: list[Deferred[None]] = []
        broadcast = self.gossip.broadcast

        def slow(content: bytes) -> Deferred[None]:
            broadcast(content)
            sending.append(Deferred())
            return sending[-1]

        self.gossip.broadcast = slow  # type: ignore[method-assign]
        self.gossip.up(PEER)
        self.type("one\ntwo\n")
        self.console.readConnectionLost()
        self.assertEqual(self.said(), ["one"])
        sending[0].callback(None)
        self.assertEqual(self.said(), ["one", "two"])
        self.assertNoResult(chat.done)
        sending[1].callback(None)
        self.successResultOf(chat.done)

    def test_finished(self) -> None:
        """Lines that still wait at the end are not sent, and not reported."""
        chat = self.chat()
        sending: Deferred[None] = Deferred()
        self.gossip.broadcast = lambda content: sending  # type: ignore[method-assign]
        self.gossip.up(PEER)
        self.type("one\ntwo\n")
        chat.finish()
        del self.gossip.broadcast
        self.gossip.leave()
        sending.callback(None)
        self.assertEqual((self.said(), self.shown()), ([], ""))

    def test_output_not_read(self) -> None:
        """
        Unread output does not exhaust the memory; the number of dropped events is reported
        when it is read again.
        """
        chat = self.chat()
        self.patch(chat_module, "MAX_UNREAD", 50)
        self.assertIs(self.transport.producer, self.console)
        self.console.pauseProducing()
        for _ in range(4):
            chat.show("x" * 19)
        self.assertEqual(self.shown(), ("x" * 19 + "\n") * 2)
        self.transport.clear()
        self.console.resumeProducing()
        chat.show("after")
        self.assertEqual(
            self.shown(), "! 2 events were dropped: the output was not read fast enough\nafter\n"
        )

    def test_events(self) -> None:
        """Events are shown as text, or as JSON lines with --json; notices then go to standard error."""
        chat = self.chat()
        chat.on_event(DHTReady(8))
        chat.on_event(RecordPublished(TOPIC, 1, 2))
        self.assertEqual(self.shown(), "* The DHT answers; 8 nodes known.\n")
        chat = self.chat(as_json=True)
        self.clock.advance(5)
        chat.on_event(RecordPublished(TOPIC, 1, 2))
        self.assertEqual(
            json.loads(self.shown()),
            {"event": "record.published", "time": 5, "topic": TOPIC.hex(), "minute": 1, "stored": 2},
        )
        errors = io.StringIO()
        self.patch(sys, "stderr", errors)
        chat.show("a note")
        self.assertEqual(errors.getvalue(), "a note\n")
        self.assertEqual(self.shown().count("\n"), 1)


class OptionsTests(SynchronousTestCase):
    """
    Tests for L{ChatOptions}.
    """

    def parse(self, *arguments: str) -> ChatOptions:
        """Parse C{arguments}."""
        options = ChatOptions()
        options.parseOptions(list(arguments))
        return options

    def test_topic(self) -> None:
        """There is one topic, before or after options."""
        for arguments in (("x", "--json", "--stay"), ("--json", "x", "--stay"), ("--json", "--stay", "x")):
            options = self.parse(*arguments)
            self.assertEqual((options["topic"], options["json"], options["stay"]), ("x", 1, 1))

    def test_no_topic(self) -> None:
        """No topic, two topics and an empty one are refused."""
        for arguments in ((), ("x", "y")):
            self.assertRaises(usage.UsageError, self.parse, *arguments)
        self.assertIn("empty", str(self.assertRaises(UsageError, self.parse("").run)))

    def test_no_state_by_default(self) -> None:
        """Without --state-dir nothing is stored on disk."""
        self.assertIsNone(self.parse("x").load(None)[0].state_dir)

    def test_secret_of_the_file(self) -> None:
        """The configuration file provides the secret of its topic; --secret-file takes precedence."""
        secrets = []
        for text in ("theirs", "ours"):
            secret = Path(self.mktemp())
            secret.touch(0o600)
            secret.write_text(text)
            secrets.append(str(secret))
        topic_id = TopicId.from_name("x")
        tables = (TopicTable("y"), TopicTable("x"), TopicTable(f"hex:{topic_id.hex()}", Path(secrets[0])))
        self.assertEqual(self.parse("x").secret_of(topic_id, tables), b"theirs")
        self.assertEqual(self.parse("x", "--secret-file", secrets[1]).secret_of(topic_id, tables), b"ours")
        self.assertIsNone(self.parse("x").secret_of(TopicId.from_name("y"), tables))
        Path(secrets[0]).chmod(0o644)
        self.assertRaises(StateError, self.parse("x").secret_of, topic_id, tables)

    def test_wrong(self) -> None:
        """No topic, two topics, an unknown option and a secret on standard input are refused."""
        for arguments, expected in (
            ((), "one TOPIC"),
            (("x", "y"), "one TOPIC"),
            (("x", "--nonsense"), "nonsense"),
            (("x", "--secret-file", "-"), "standard input"),
        ):
            with self.assertRaises(usage.UsageError) as raised:
                self.parse(*arguments)
            self.assertIn(expected, str(raised.exception))
