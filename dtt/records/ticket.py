"""
Tickets: a topic and its secret in one line.  Pure.

Rules (docs/protocol/tickets.md): a ticket is C{dtt1} and the z-base-32 encoding of the
topic id, the secret, the label and a checksum.  The topic id and the secret are random,
32 bytes each, so that an outsider can guess neither the slot nor the key.  The label is
for people only; nothing is derived from it.  A ticket is a secret: no error message
quotes one.
"""

from __future__ import annotations

from typing import Final

from attrs import field, frozen

from dtt.errors import UsageError
from dtt.identity import z32_decode, z32_encode
from dtt.records.topic import TopicId, truncated_sha512

#: What every ticket begins with; 1 is the version of the format.
PREFIX: Final = "dtt1"

#: The size of a secret in bytes, and of the random input of L{Ticket.make}.
SECRET_BYTES: Final = 32
RANDOM_BYTES: Final = 64

#: The maximum size of a label in bytes of UTF-8 (guess: it begins log lines).
MAX_LABEL_BYTES: Final = 64

#: The size of the checksum in bytes: one typing error in 4 thousand million is missed.
CHECK_BYTES: Final = 4

_CHECKED: Final = b"dtt/1 ticket"

#: The maximum length of a ticket in characters.
MAX_TICKET: Final = len(PREFIX) + ((32 + SECRET_BYTES + MAX_LABEL_BYTES + CHECK_BYTES) * 8 + 4) // 5


def _checksum(body: bytes) -> bytes:
    return truncated_sha512(_CHECKED + body)[:CHECK_BYTES]


def check_label(label: str) -> str:
    """
    Return a label if it is valid: printable, without blanks at its ends, and at most
    L{MAX_LABEL_BYTES} bytes of UTF-8.  It may be empty.

    @raise UsageError: it is not valid.
    """
    try:
        size = len(label.encode("utf-8"))
    except UnicodeEncodeError:
        size = -1
    if size < 0 or not label.isprintable() or label != label.strip():
        raise UsageError(
            f"the label {label[:64]!a} must be printable text that neither begins nor ends with a blank"
        )
    if size > MAX_LABEL_BYTES:
        raise UsageError(f"the label has {size} bytes; the maximum is {MAX_LABEL_BYTES}")
    return label


@frozen(slots=True)
class Ticket:
    """
    A topic and its secret.

    @ivar topic_id: the topic, 32 bytes; its label is that of the ticket.
    @ivar secret: the secret, 32 bytes.
    @ivar label: what people call the topic; may be empty.
    """

    topic_id: TopicId
    secret: bytes = field(repr=False)
    label: str

    @classmethod
    def make(cls, label: str, entropy: bytes) -> Ticket:
        """
        Create a new ticket.

        @param label: see L{check_label}.
        @param entropy: L{RANDOM_BYTES} bytes from the system's random number generator.
        @raise UsageError: an argument is not valid.
        """
        if len(entropy) != RANDOM_BYTES:
            raise UsageError(f"a ticket is made of {RANDOM_BYTES} random bytes, not {len(entropy)}")
        return cls(TopicId(entropy[:32], check_label(label)), entropy[32:], label)

    def encode(self) -> str:
        """
        Return the ticket as text of one line, without its end.
        """
        body = self.topic_id + self.secret + self.label.encode("utf-8")
        return PREFIX + z32_encode(body + _checksum(body))

    @classmethod
    def parse(cls, text: str) -> Ticket:
        """
        Parse a ticket.  Blanks around it do not count, nor does the case of its letters.

        @raise UsageError: C{text} is not a ticket, or a damaged one.
        """
        text = text.strip().lower()
        if not text.startswith(PREFIX):
            other = "; create one with dtt new-topic"
            if text[:3] == PREFIX[:3] and text[3:4].isdigit():
                other = ": its version is newer than this dtt"
            raise UsageError(f"not a ticket, which begins with {PREFIX}{other}")
        if len(text) > MAX_TICKET:
            raise UsageError("the ticket is too long: more was copied than the ticket")
        damaged = UsageError("the ticket is damaged or incomplete: its checksum is wrong. Copy it again")
        try:
            data = z32_decode(text.removeprefix(PREFIX))
        except UsageError:
            raise damaged from None
        body, check = data[:-CHECK_BYTES], data[-CHECK_BYTES:]
        if len(body) < 32 + SECRET_BYTES or check != _checksum(body):
            raise damaged
        try:
            label = check_label(body[32 + SECRET_BYTES :].decode("utf-8"))
        except ValueError:  # also of our own
            raise damaged from None
        return cls(TopicId(body[:32], label), body[32 : 32 + SECRET_BYTES], label)


def parse_tickets(text: str, limit: int) -> tuple[Ticket, ...]:
    """
    Parse tickets, one per line.  Empty lines, lines that begin with C{#}, and a byte order mark, which some
    editors write, are ignored.

    @param limit: the maximum number.
    @return: at least one.
    @raise UsageError: a line is not a ticket, there is none, or there are too many.
    """
    given = text.removeprefix("\ufeff").splitlines()
    lines = [line for line in given if line.strip() and not line.lstrip().startswith("#")]
    if not lines:
        raise UsageError("there is no ticket; create one with dtt new-topic")
    if len(lines) > limit:
        raise UsageError(f"there are {len(lines)} lines; at most {limit} tickets are allowed")
    return tuple(Ticket.parse(line) for line in lines)
