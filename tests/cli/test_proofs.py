"""
Tests for L{dtt.cli.proofs}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dtt.cli.proofs import ChatMessage, Proofs
from dtt.events import Message, to_json
from dtt.identity import PeerKey
from dtt.records.envelope import seal
from dtt.tracker.signing import Signing

TOPIC, NEIGHBOUR = b"t" * 32, b"\x22" * 32
KEY, ME = PeerKey(b"k" * 32), PeerKey(b"m" * 32)
NOW = 1_800_000_000.0


class ProofsTests(SynchronousTestCase):
    """
    What is known of the author of a message.
    """

    def setUp(self) -> None:
        self.now = NOW
        self.proofs = Proofs()
        self.proofs.add(Signing(TOPIC, ME, lambda: self.now, lambda event: None))

    def open(self, content: bytes, topic: bytes = TOPIC) -> ChatMessage:
        """Open a message that has arrived."""
        return self.proofs.open(Message(topic, NEIGHBOUR, "swarm", content))

    def signed(self, counter: int = 1, ahead: float = 0.0, key: PeerKey = KEY) -> bytes:
        """A signed line."""
        return seal(key, TOPIC, int((NOW + ahead) * 1000), counter, b"line")

    def test_proved(self) -> None:
        """A signed line has its author, and its content is what was signed."""
        opened = self.open(self.signed())
        self.assertEqual((opened.content, opened.author, opened.doubt), (b"line", KEY.peer_id, None))
        self.assertEqual((opened.topic, opened.delivered_from, opened.scope), (TOPIC, NEIGHBOUR, "swarm"))

    def test_doubts(self) -> None:
        """Everything else is shown with its content and the reason why it is not proved."""
        forged = self.signed(2)[:-1] + b"\x00"
        self.open(self.signed(3))
        for content, shown, author, doubt in (
            (b'{"plain": 1}', b'{"plain": 1}', None, "not signed"),
            (forged, b"line", None, "bad signature"),
            (self.signed(4, -3600), b"line", KEY.peer_id, "time"),
            (self.signed(3), b"line", KEY.peer_id, "replay"),
            (self.signed(1, key=ME), b"line", ME.peer_id, "replay"),
        ):
            opened = self.open(content)
            self.assertEqual((opened.content, opened.author, opened.doubt), (shown, author, doubt))
        self.assertEqual(self.open(self.signed(5, -3600)).ahead, -3600)

    def test_other_topic(self) -> None:
        """Without a verifier for its topic nothing is proved."""
        self.assertEqual(self.open(self.signed(), b"u" * 32).doubt, "not signed")

    def test_json(self) -> None:
        """In JSON it is a message with three more fields."""
        self.assertEqual(
            to_json(self.open(self.signed()), 1.5),
            {
                "event": "message",
                "time": 1.5,
                "topic": TOPIC.hex(),
                "delivered_from": NEIGHBOUR.hex(),
                "scope": "swarm",
                "content": "line",
                "author": KEY.peer_id.hex(),
                "doubt": None,
                "ahead": None,
            },
        )
