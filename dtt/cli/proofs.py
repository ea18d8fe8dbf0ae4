"""
The authors of the lines of a chat.

Rules (docs/protocol/signed.md): C{dtt chat} signs each line that it sends.  A line whose
author is not proved, such as one of an older version, is shown with a mark; a replayed line is not shown.
"""

from __future__ import annotations

from typing import Any

from attrs import frozen

from dtt.errors import EnvelopeRefused
from dtt.events import Message
from dtt.records.envelope import is_envelope, unverified_content
from dtt.records.replays import Verifier
from dtt.tracker.signing import Signing

#: The reason for refusing a replayed message.
REPLAY = "replay"


@frozen(slots=True)
class ChatMessage(Message):
    """
    A message of a chat.  C{content} is the signed content, if it was signed.

    @ivar author: the peer id of the author, 32 bytes; C{None} if the signature is bad or
        missing.
    @ivar doubt: why the author is not proved: the reason of L{EnvelopeRefused<dtt.errors.EnvelopeRefused>};
        C{None} if it is proved.
    @ivar ahead: if the reason is the time, the number of seconds by which it is ahead of ours.
    """

    author: bytes | None
    doubt: str | None
    ahead: float | None = None

    def json_fields(self) -> dict[str, Any]:
        author = None if self.author is None else self.author.hex()
        return {**Message.json_fields(self), "author": author, "doubt": self.doubt, "ahead": self.ahead}


class Proofs:
    """
    Verifies the messages of the topics of a chat.
    """

    def __init__(self) -> None:
        self._topics: dict[bytes, tuple[Verifier, Signing]] = {}

    def add(self, signing: Signing) -> None:
        """
        Verify the messages of a topic.

        @param signing: the signing of the topic.
        """
        verifier = Verifier(signing.topic_id, signing.own_id)
        self._topics[signing.topic_id] = verifier, signing

    def open(self, message: Message) -> ChatMessage:
        """
        Return C{message} with what is known of its author.
        """
        content = message.content
        author: bytes | None = None
        doubt: str | None = None
        ahead: float | None = None
        try:
            if message.topic not in self._topics:
                raise EnvelopeRefused("not signed")
            verifier, signing = self._topics[message.topic]
            opened = verifier.open(content, signing.now())
            content, author = opened.content, opened.author
        except EnvelopeRefused as refusal:
            doubt, ahead = refusal.reason, refusal.ahead
            if doubt != "bad signature":
                author = refusal.author
            if is_envelope(content):
                content = unverified_content(content)
        return ChatMessage(
            message.topic, message.delivered_from, message.scope, content, author, doubt, ahead
        )
