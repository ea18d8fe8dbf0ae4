"""
Tests for L{dtt.cli.chat}.
"""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from dtt.cli import console as console_module
from dtt.cli.chat import MAX_WAITING, Chat, ChatOptions, ChatSettings
from dtt.cli.console import Console
from dtt.cli.lines import ChatLine
from dtt.config import TopicTable
from dtt.errors import StateError, UsageError
from dtt.events import (
    DHTReady,
    Message,
    NeighborDown,
    NeighborUp,
    RecordFound,
    RecordPublished,
)
from dtt.gossip.proto.config import MAX_CONTENT
from dtt.identity import PeerKey
from dtt.records.envelope import OVERHEAD, seal, unseal, unverified_content
from dtt.records.topic import TopicId
from dtt.testing.fake_gossip import FakeGossip
from dtt.tracker.signing import Signing

KEY, OTHER = PeerKey(b"k" * 32), PeerKey(b"o" * 32)

TOPIC, ME, PEER = b"t" * 32, b"\x11" * 32, b"\x22" * 32


#: What a chat says about itself.
HINTS = (
    "* Looking for other members of garden party.\n",
    "* Your lines wait until another member is found.\n",
    "* No neighbour is left. Looking for other members.\n",
)


class ChatTests(SynchronousTestCase):
    """
    Tests for L{Chat} and L{Console}.
    """

    def chat(self, as_json: bool = False, stay: bool = False) -> Chat:
        """Return a started chat."""
        self.gossip = FakeGossip()
        self.console = Console()
        self.clock = Clock()
        chat = Chat(self.clock, self.console, ChatSettings(as_json, stay))
        self.errors = io.StringIO()
        self.patch(sys, "stderr", self.errors)
        self.transport = StringTransport()
        self.console.makeConnection(self.transport)
        tracker: Any = SimpleNamespace(peer_id=ME)
        topic: Any = self.gossip
        topic.topic_id = TopicId.from_name("garden party")
        topic.signing = Signing(topic.topic_id, KEY, self.clock.seconds, lambda event: None)
        chat.start(tracker, topic)
        return chat

    def type(self, text: str | bytes) -> None:
        """Feed the input."""
        self.console.dataReceived(text if isinstance(text, bytes) else text.encode())

    def said(self) -> list[str]:
        """Return what was broadcast, as text."""
        lines = [ChatLine.decode(unverified_content(content)) for content in self.gossip.broadcasts]
        return [line.text for line in lines if line is not None]

    def shown(self) -> str:
        """Return what was printed."""
        return "".join(line for line in self.all_shown() if line not in HINTS)

    def all_shown(self) -> list[str]:
        """Return the same with the hints."""
        return str(self.transport.value().decode()).splitlines(keepends=True)

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
        lines = [json.loads(unverified_content(content)) for content in self.gossip.broadcasts]
        self.assertEqual([line["from"] for line in lines], [ME.hex()] * 2)
        self.assertEqual(lines[1]["n"], lines[0]["n"] + 1)
        self.clock.advance(1)
        again = Chat(self.clock, Console(), ChatSettings())
        self.assertGreater(again._n, lines[1]["n"])

    def test_signed(self) -> None:
        """Each line is signed by our key, for its topic."""
        self.chat()
        self.gossip.up(PEER)
        self.type("hello\n")
        opened = unseal(self.gossip_topic(), self.gossip.broadcasts[0])
        self.assertEqual(opened.author, KEY.peer_id)
        self.assertEqual(json.loads(opened.content)["text"], "hello")

    def gossip_topic(self) -> TopicId:
        """The topic of the chat."""
        return TopicId.from_name("garden party")

    def hear(self, chat: Chat, content: bytes) -> str:
        """Let a message arrive, and return what is shown for it."""
        before = len(self.transport.value())
        chat.on_event(Message(self.gossip_topic(), PEER, "swarm", content))
        return str(self.transport.value()[before:].decode())

    def test_authors(self) -> None:
        """
        A signed line is shown with its author, whatever C{from} says; one that is not proved has a
        mark and a reason; one that is repeated is not shown.
        """
        chat = self.chat()
        topic, line = self.gossip_topic(), ChatLine(PEER.hex(), 1, "hello", "Eve").encode()
        name = f"Eve {OTHER.peer_id.hex()[:10]}"
        signed = seal(OTHER, topic, 0, 1, line)
        self.assertEqual(self.hear(chat, signed), f"<{name}> hello\n")
        self.assertEqual(self.hear(chat, signed), "")
        late = seal(OTHER, topic, 10_800_000, 2, line)
        reason = "its author's clock is 3 hours ahead"
        self.assertEqual(self.hear(chat, late), f"<{name}?> hello (not proved: {reason})\n")
        for content, reason in (
            (line, "not signed"),
            (signed[:-1] + b"\x00", "bad signature"),
            (seal(OTHER, TOPIC, 0, 3, line), "bad signature"),
        ):
            shown = self.hear(chat, content)
            self.assertEqual(shown, f"<Eve {PEER.hex()[:10]}?> hello (not proved: {reason})\n")
        chat.typed("/who")
        self.assertIn(f"* {name}, wrote now", self.transport.value().decode())
        self.assertNotIn(f"{PEER.hex()[:10]}, wrote", self.transport.value().decode())

    def test_authors_as_json(self) -> None:
        """As JSON, a message has its content, its author, and what is doubtful."""
        chat = self.chat(as_json=True)
        line = ChatLine(PEER.hex(), 1, "hello").encode()
        shown = json.loads(self.hear(chat, seal(OTHER, self.gossip_topic(), 0, 1, line)))
        self.assertEqual(json.loads(shown["content"])["text"], "hello")
        self.assertEqual((shown["author"], shown["doubt"]), (OTHER.peer_id.hex(), None))
        shown = json.loads(self.hear(chat, line))
        self.assertEqual((shown["author"], shown["doubt"]), (None, "not signed"))

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
        sending: Deferred[int] = Deferred()
        self.gossip.broadcast = lambda content: sending  # type: ignore[method-assign]
        self.gossip.up(PEER)
        self.type("one\n")
        self.console.readConnectionLost()
        self.assertNoResult(chat.done)
        sending.callback(1)
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
        """When the output or both ends are closed, the chat ends, even with --stay; this is a loss."""
        for end in ("writeConnectionLost", "connectionLost"):
            chat = self.chat(stay=True)
            getattr(self.console, end)()
            self.successResultOf(chat.done)
            self.assertTrue(chat.lost)
            self.successResultOf(self.console.close())

    def test_hints(self) -> None:
        """
        It says that it is looking for members, that lines wait, and that it is looking again;
        with --json the events say so.
        """
        chat = self.chat()
        self.assertEqual(self.all_shown(), [HINTS[0]])
        self.type("one\ntwo\n")
        self.assertEqual(self.all_shown(), [HINTS[0], HINTS[1]])
        self.gossip.up(PEER)
        self.gossip.up(ME)
        self.gossip.down(PEER)
        chat.on_event(NeighborDown(TOPIC, PEER))
        self.gossip.down(ME)
        chat.on_event(NeighborDown(TOPIC, ME))
        self.assertEqual(self.all_shown()[-1], HINTS[2])
        chat = self.chat(as_json=True)
        self.type("one\n")
        self.assertEqual(self.all_shown(), [])

    def test_no_neighbour_left(self) -> None:
        """Lines that are written when the last neighbour is gone wait for the next one."""
        self.chat()
        self.gossip.up(PEER)
        self.type("one\n")
        self.gossip.down(PEER)
        self.type("two\n")
        self.assertEqual(self.said(), ["one"])
        self.gossip.up(ME)
        self.assertEqual(self.said(), ["one", "two"])

    def test_nobody_comes(self) -> None:
        """
        In a pipe it gives up when nobody has come some time after the end of the input: what
        was not sent is an error. With --stay it waits.
        """
        for as_json in (False, True):
            chat = self.chat(as_json)
            self.type("one\ntwo\n")
            self.clock.advance(1000)
            self.console.readConnectionLost()
            self.clock.advance(119)
            self.assertNoResult(chat.done)
            self.clock.advance(1)
            self.successResultOf(chat.done)
            self.assertTrue(chat.lost)
            self.assertIn(
                "no other member was found within 120 s", (self.shown(), self.errors.getvalue())[as_json]
            )
            self.assertIn("! 2 lines not sent", self.errors.getvalue())
            self.gossip.leave()
            self.assertEqual(self.clock.getDelayedCalls(), [])
        chat = self.chat(stay=True)
        self.type("one\n")
        self.console.readConnectionLost()
        self.clock.advance(1000)
        self.assertNoResult(chat.done)

    def test_slow_neighbours(self) -> None:
        """With neighbours it does not give up, however long they take."""
        chat = self.chat()
        sending: Deferred[int] = Deferred()
        self.gossip.broadcast = lambda content: sending  # type: ignore[method-assign]
        self.gossip.up(PEER)
        self.type("one\ntwo\n")
        self.console.readConnectionLost()
        self.clock.pump([60] * 20)
        self.assertNoResult(chat.done)
        del self.gossip.broadcast
        sending.callback(1)
        self.successResultOf(chat.done)
        self.assertFalse(chat.lost)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_topic_left(self) -> None:
        """If the topic is left before it is joined, the chat ends silently."""
        chat = self.chat()
        self.gossip.leave()
        self.successResultOf(chat.done)

    def test_too_long(self) -> None:
        """A line that is too long to broadcast is reported, and the next one is sent."""
        chat = self.chat()
        self.gossip.up(PEER)
        self.type("x" * 4055 + "\nafter\n")
        self.assertEqual((self.said(), chat.lost), (["after"], True))
        self.assertIn("! not sent:", self.shown())

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
        sending: list[Deferred[int]] = []
        broadcast = self.gossip.broadcast

        def slow(content: bytes) -> Deferred[int]:
            broadcast(content)
            sending.append(Deferred())
            return sending[-1]

        self.gossip.broadcast = slow  # type: ignore[method-assign]
        self.gossip.up(PEER)
        self.type("one\ntwo\n")
        self.console.readConnectionLost()
        self.assertEqual(self.said(), ["one"])
        sending[0].callback(1)
        self.assertEqual(self.said(), ["one", "two"])
        self.assertNoResult(chat.done)
        sending[1].callback(1)
        self.successResultOf(chat.done)

    def test_finished(self) -> None:
        """Lines that still wait at the end are not sent; they are reported, and are a loss."""
        chat = self.chat()
        sending: Deferred[int] = Deferred()
        self.gossip.broadcast = lambda content: sending  # type: ignore[method-assign]
        self.gossip.up(PEER)
        self.type("one\ntwo\n")
        chat.finish()
        del self.gossip.broadcast
        self.gossip.leave()
        sending.callback(1)
        self.assertEqual((self.said(), self.shown()), ([], ""))
        self.assertEqual((chat.lost, self.errors.getvalue()), (True, "! 1 line not sent\n"))

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
            {
                "event": "record.published",
                "time": 5,
                "topic": TOPIC.hex(),
                "minute": 1,
                "stored": 2,
                "channel": "record_slot",
            },
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
        for topic in ("", " ", "\u200b"):
            self.assertIn("empty or blank", str(self.assertRaises(UsageError, self.parse(topic).run)))

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

    def test_timeout(self) -> None:
        """--timeout is a number of seconds."""
        self.assertEqual((self.parse("x")["timeout"], self.parse("x", "-t", "0.5")["timeout"]), (120, 0.5))
        for text in ("-1", "nan", "inf", "1e300", "x", "", "1_0", "\u0661", "9" * 5000):
            with self.assertRaises(usage.UsageError) as raised:
                self.parse("x", f"--timeout={text}")
            self.assertIn("--timeout: ", str(raised.exception))
            self.assertLess(len(str(raised.exception)), 200)

    def test_wrong(self) -> None:
        """No topic, two topics, an unknown option and a secret on standard input are refused."""
        for arguments, expected in (
            ((), "one TOPIC"),
            (("x", "y"), "one TOPIC"),
            (("x", "--nonsense"), "nonsense"),
            (("x", "--secret-file", "-"), "standard input"),
            (("--ticket-file", "t", "--secret-file", "s"), "--secret-file is for a topic"),
        ):
            with self.assertRaises(usage.UsageError) as raised:
                self.parse(*arguments)
            self.assertIn(expected, str(raised.exception))


class TypedTests(SynchronousTestCase):
    """
    Tests for what is typed at a terminal.
    """

    def setUp(self) -> None:
        """Make a chat at a terminal, in two topics."""
        self.clock = Clock()
        self.console = Console()
        self.transport = StringTransport()
        self.chat = Chat(self.clock, self.console, ChatSettings(nick="alice"))
        self.console.makeConnection(self.transport)
        self.patch(sys, "stderr", io.StringIO())
        self.patch(console_module, "terminal_width", lambda: 40)

        class Terminal:
            """A terminal whose mode can be set."""

            left = 0

            def enter(self, on_resume: Any) -> bool:
                return True

            def leave(self) -> None:
                self.left += 1

        self.terminal = Terminal()
        terminal: Any = self.terminal
        self.console.edit(terminal, lambda call: call())
        self.topics: list[Any] = [FakeGossip(), FakeGossip()]
        for topic, name in zip(self.topics, ("old", "new"), strict=True):
            topic.topic_id = TopicId.from_name(name)
            topic.signing = Signing(topic.topic_id, KEY, self.clock.seconds, lambda event: None)
        tracker: Any = SimpleNamespace(peer_id=ME)
        self.chat.start(tracker, *self.topics)
        self.transport.clear()

    def type(self, text: str) -> str:
        """Type something, and return what is shown then, without control sequences."""
        self.transport.clear()
        self.console.dataReceived(text.encode())
        shown: str = self.transport.value().decode()
        return re.sub(r"\x1b\[[0-9]*[A-Z]|\r", "", shown)

    def said(self, topic: int) -> list[ChatLine | None]:
        """Return what was broadcast to a topic."""
        return [ChatLine.decode(unverified_content(content)) for content in self.topics[topic].broadcasts]

    def test_both_topics(self) -> None:
        """A line goes to each topic with a neighbour, and has our name."""
        self.topics[0].up(PEER)
        self.type("one\n")
        self.topics[1].up(PEER)
        self.type("two\n")
        texts = [[(line.text, line.nick) for line in self.said(n) if line is not None] for n in (0, 1)]
        self.assertEqual(texts, [[("one", "alice"), ("two", "alice")], [("two", "alice")]])

    def test_shown_once(self) -> None:
        """A line that comes through both topics is shown once."""
        content = ChatLine(OTHER.peer_id.hex(), 1, "hello", "bob").encode()
        self.transport.clear()
        for topic in self.topics:
            sealed = seal(OTHER, topic.topic_id, 0, 1, content)
            self.chat.on_event(Message(topic.topic_id, PEER, "swarm", sealed))
        shown = f"<bob {OTHER.peer_id.hex()[:10]}> hello".encode()
        self.assertEqual(self.transport.value().count(shown), 1)

    def test_edited(self) -> None:
        """Keys edit the line; what arrives meanwhile is above it."""
        self.assertIn("> ab", self.type("ab"))
        self.transport.clear()
        self.chat.on_event(NeighborUp(TOPIC, PEER))
        shown = self.transport.value().decode()
        self.assertRegex(shown, r"\A\r\x1b\[K\* 2222222222 is now a direct neighbour\n\r\x1b\[K> ab\Z")
        self.topics[0].up(PEER)
        self.type("\x7fc\n")
        self.assertEqual([line.text for line in self.said(0) if line], ["ac"])

    def test_who(self) -> None:
        """/who lists all members that were heard of, including those that are not neighbours."""
        self.topics[0].up(PEER)
        self.chat.on_event(NeighborUp(TOPIC, PEER))
        content = ChatLine(OTHER.peer_id.hex(), 1, "x", "carol").encode()
        topic_id = self.topics[0].topic_id
        sealed = seal(OTHER, topic_id, 0, 1, content)
        self.chat.on_event(Message(topic_id, PEER, "swarm", sealed))
        self.chat.on_event(RecordFound(TOPIC, 1, b"\x44" * 32, "fetcher"))
        shown = self.type("/who\n")
        for line in (
            "* 2222222222, direct neighbour, connected now",
            f"* carol {OTHER.peer_id.hex()[:10]}, wrote now",
            "* 4444444444, has a record, found now",
            "* alice 1111111111 is you.",
        ):
            self.assertIn(line, shown)

    def test_commands(self) -> None:
        """Commands are not sent; // sends a line that begins with /."""
        self.topics[0].up(PEER)
        self.assertIn("Your name is now bob", self.type("/nick bob\n"))
        self.assertIn("at most 24", self.type(f"/nick {'x' * 25}\n"))
        self.assertIn("/nope is unknown", self.type("/nope\n"))
        self.assertIn("/who:", self.type("/help\n"))
        self.type("//usr\n")
        self.assertEqual([(line.text, line.nick) for line in self.said(0) if line], [("/usr", "bob")])
        self.type("/quit\n")
        self.successResultOf(self.chat.done)
        self.assertFalse(self.chat.lost)

    def test_room(self) -> None:
        """The prompt counts what a line may still have; a longer one is not sent, and not lost."""
        self.topics[0].up(PEER)
        room = self.chat.room("")
        line = ChatLine(ME.hex(), self.chat._n + 1, "", "alice").encode()
        self.assertEqual(len(line) + OVERHEAD + room, MAX_CONTENT)
        self.assertEqual(self.chat.prompt(""), "> ")
        self.assertEqual(self.chat.prompt("x" * (room - 5)), "5 > ")
        self.assertEqual(self.chat.prompt("ä" * room), f"-{room} > ")
        self.assertIn("Not sent: 3 bytes too long", self.type("x" * (room + 3) + "\n"))
        self.assertEqual((self.said(0), self.chat.lost), ([], False))
        self.type("x" * room + "\n")
        self.assertEqual(len(self.said(0)), 1)

    def test_too_long_in_a_pipe(self) -> None:
        """In a pipe, a line that is too long is lost, and this is said."""
        self.topics[0].up(PEER)
        self.chat.say("x" * 5000)
        self.assertTrue(self.chat.lost)
        self.assertIn(b"bytes too long", self.transport.value())

    def test_end(self) -> None:
        """Ctrl-D ends the input; the terminal is given back once."""
        self.type("\x04")
        self.successResultOf(self.chat.done)
        self.console.close()
        for _ in range(2):
            self.console.restore()
        self.assertEqual(self.terminal.left, 1)

    def test_not_a_terminal(self) -> None:
        """A slash has no meaning in a pipe."""
        self.topics[0].up(PEER)
        self.chat.say("/who")
        self.assertEqual([line.text for line in self.said(0) if line], ["/who"])
