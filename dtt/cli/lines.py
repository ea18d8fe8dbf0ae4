"""
The lines of C{dtt chat}, as messages and as text for a terminal.

On the wire, a line is UTF-8 JSON C{{"v": 1, "from": id, "n": counter, "text": ...}},
with C{"nick"} if the sender has set a name, in a signed envelope (docs/protocol/signed.md). The author of the
envelope counts.  Older versions send the JSON without an envelope, and show C{from}, which is only a claim: a
member can write any id.
"""

from __future__ import annotations

import json

from attrs import evolve, frozen

from dtt.cli.people import MAX_NICK
from dtt.cli.proofs import REPLAY, ChatMessage
from dtt.events import (
    DHTNodes,
    Event,
    Message,
    NeighborDown,
    NeighborUp,
    PeerFailed,
    RecordPublished,
    TopicJoined,
    duration,
    short,
)

#: The version of the format of lines.
VERSION = 1


@frozen(slots=True)
class ChatLine:
    """
    One line of chat.

    @ivar sender: the claimed sender, normally its peer id in 64 hex digits.
    @ivar n: a counter, different for each line of a sender.
    @ivar text: the line.
    @ivar nick: the nickname of the sender; empty: none.
    """

    sender: str
    n: int
    text: str
    nick: str = ""

    def encode(self) -> bytes:
        """
        Encode the line for broadcasting.
        """
        message: dict[str, object] = {"v": VERSION, "from": self.sender, "n": self.n, "text": self.text}
        if self.nick:
            message["nick"] = self.nick
        return json.dumps(message, ensure_ascii=False).encode("utf-8")

    @classmethod
    def decode(cls, content: bytes) -> ChatLine | None:
        """
        Decode the content of a message; C{None} if it is not a line of chat.
        """
        try:
            match json.loads(content.decode("utf-8")):
                case {"from": str(sender), "n": int(n), "text": str(text), **others}:
                    nick = others.get("nick", "")
                    return cls(sender, n, text, nick[:MAX_NICK] if isinstance(nick, str) else "")
        except (ValueError, RecursionError):
            pass
        return None


def line_of(message: Message) -> ChatLine | None:
    """
    Return the line in a message, with the proved sender if there is one; C{None} if it is not a line of chat.
    """
    line = ChatLine.decode(message.content)
    if line is not None and isinstance(message, ChatMessage) and message.author is not None:
        return evolve(line, sender=message.author.hex())
    return line


def doubt(message: Message) -> str:
    """
    Return the text to append to a message: why its author is not proved; empty if the author is proved.
    """
    reason = message.doubt if isinstance(message, ChatMessage) else "not signed"
    if reason is None:
        return ""
    ahead = message.ahead if isinstance(message, ChatMessage) else None
    if ahead is not None:
        reason = f"its author's clock is {duration(abs(ahead))} {'ahead' if ahead > 0 else 'behind'}"
    return f" (not proved: {reason})"


def printable(text: str) -> str:
    """
    Replace unprintable characters, such as terminal control characters, in text
    from other members.
    """
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )


def describe(event: Event) -> str | None:
    """
    Return the line to display for C{event}; C{None} if it is not displayed.
    """
    match event:
        case ChatMessage(doubt=reason) if reason == REPLAY:
            return None
        case Message():
            line, unproved = line_of(event), doubt(event)
            if line is not None:
                name = f"{line.nick} {line.sender[:10]}" if line.nick else line.sender[:10]
                mark = "?" if unproved else ""
                return f"<{printable(name)}{mark}> {printable(line.text)}{unproved}"
            text = printable(event.content.decode("utf-8", "replace"))
            return f"[via {short(event.delivered_from)}] {text}"
        case NeighborUp():
            return f"* {short(event.peer)} is now a direct neighbour"
        case NeighborDown():
            return f"* {short(event.peer)} is no longer a direct neighbour"
        case TopicJoined():
            return (
                "* Joined. Neighbours forward messages to all members: there may be many more members than "
                "neighbours."
            )
        case PeerFailed() | RecordPublished() | DHTNodes():
            return None
    return f"* {event.text()}"
