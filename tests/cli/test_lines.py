"""
Tests for L{dtt.cli.lines}.
"""

from __future__ import annotations

import json

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from dtt.cli.lines import ChatLine, describe, doubt, line_of, printable
from dtt.cli.people import MAX_NICK
from dtt.cli.proofs import REPLAY, ChatMessage
from dtt.events import (
    DHTReady,
    Message,
    NeighborDown,
    NeighborUp,
    PeerFailed,
    RecordPublished,
    RecordsUnreadable,
    TopicAlone,
    TopicJoined,
)
from dtt.identity import PeerKey

KEY, OTHER = PeerKey(b"k" * 32), PeerKey(b"o" * 32)


TOPIC, ME, PEER = b"t" * 32, b"\x11" * 32, b"\x22" * 32


class LineTests(SynchronousTestCase):
    """
    Tests for lines of chat, on the wire and on the screen.
    """

    def test_encode(self) -> None:
        """A line is UTF-8 JSON with from, n and text."""
        content = ChatLine("ab", 7, "grüße").encode()
        self.assertEqual(json.loads(content.decode("utf-8")), {"v": 1, "from": "ab", "n": 7, "text": "grüße"})
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
        """A line is shown with its claimed sender, anything else unchanged with the last hop."""

        def shown(content: bytes) -> str | None:
            return describe(Message(TOPIC, PEER, "swarm", content))

        self.assertEqual(
            shown(ChatLine(ME.hex(), 1, "hello").encode()), "<1111111111?> hello (not proved: not signed)"
        )
        self.assertEqual(shown(b"raw"), "[via 2222222222] raw")
        self.assertEqual(shown(b"\xff\x1b[2J"), "[via 2222222222] \ufffd\ufffd[2J")
        self.assertEqual(
            shown(ChatLine("\x1b[2J", 1, "\x1b]0;x\x07").encode()),
            "<\ufffd[2J?> \ufffd]0;x\ufffd (not proved: not signed)",
        )

    def test_describe_others(self) -> None:
        """Joining and leaving members are shown; events without interest to a person are not."""
        self.assertEqual(describe(NeighborUp(TOPIC, PEER)), "* 2222222222 is now a direct neighbour")
        self.assertEqual(describe(NeighborDown(TOPIC, PEER)), "* 2222222222 is no longer a direct neighbour")
        self.assertIn("many more members than neighbours", str(describe(TopicJoined(TOPIC))))
        self.assertTrue(str(describe(TopicAlone(TOPIC, 60, "why"))).startswith("* No neighbour for 1 minute"))
        self.assertIn("3 records in this slot that our secret", str(describe(RecordsUnreadable(TOPIC, 1, 3))))
        self.assertEqual(describe(DHTReady(8)), "* The DHT answers; 8 nodes known.")
        self.assertIsNone(describe(PeerFailed(TOPIC, PEER, "timed out")))
        self.assertIsNone(describe(RecordPublished(TOPIC, 1, 2)))

    def test_nickname(self) -> None:
        """The name is shown before the id; one that is no text is ignored, and a long one is cut."""
        for nick, decoded in (("eve", "eve"), (5, ""), (None, ""), ("x" * 1000, "x" * MAX_NICK)):
            content = json.dumps({"from": "ab", "n": 7, "text": "x", "nick": nick}).encode()
            self.assertEqual(ChatLine.decode(content), ChatLine("ab", 7, "x", decoded))
        self.assertNotIn(b"nick", ChatLine("ab", 7, "x").encode())
        shown = describe(Message(TOPIC, PEER, "swarm", ChatLine(ME.hex(), 1, "hello", "e\nve").encode()))
        self.assertEqual(shown, "<e\ufffdve 1111111111?> hello (not proved: not signed)")


class ProofTests(SynchronousTestCase):
    """
    Tests for lines whose author is proved, or not.
    """

    AUTHOR = b"\x33" * 32

    def message(
        self, doubt: str | None, ahead: float | None = None, content: bytes | None = None
    ) -> ChatMessage:
        """Return a line that claims to be from C{ME}."""
        content = ChatLine(ME.hex(), 1, "hello", "eve").encode() if content is None else content
        return ChatMessage(TOPIC, PEER, "swarm", content, self.AUTHOR, doubt, ahead)

    def test_author(self) -> None:
        """The author counts, not the claim; without an author the claim does."""
        line = ChatLine(self.AUTHOR.hex(), 1, "hello", "eve")
        self.assertEqual(line_of(self.message(None)), line)
        self.assertEqual(line_of(self.message("time")), line)
        claimed = evolve(line, sender=ME.hex())
        self.assertEqual(line_of(evolve(self.message("bad signature"), author=None)), claimed)
        self.assertEqual(line_of(Message(TOPIC, PEER, "swarm", claimed.encode())), claimed)
        self.assertIsNone(line_of(self.message(None, content=b"raw")))

    def test_doubt(self) -> None:
        """The doubt names the reason, with the direction in which a clock is wrong."""
        for message, text in (
            (self.message(None), ""),
            (self.message("bad signature"), " (not proved: bad signature)"),
            (self.message("time", 7200), " (not proved: its author's clock is 2 hours ahead)"),
            (self.message("time", -60), " (not proved: its author's clock is 1 minute behind)"),
            (Message(TOPIC, PEER, "swarm", b"raw"), " (not proved: not signed)"),
        ):
            self.assertEqual(doubt(message), text)

    def test_described(self) -> None:
        """A proved line has no mark; a replayed one is not shown at all."""
        self.assertEqual(describe(self.message(None)), "<eve 3333333333> hello")
        self.assertEqual(
            describe(self.message("bad signature")), "<eve 3333333333?> hello (not proved: bad signature)"
        )
        self.assertIsNone(describe(self.message(REPLAY)))
        self.assertEqual(describe(self.message(None, content=b"raw")), "[via 2222222222] raw")
