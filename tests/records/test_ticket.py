"""
Tests for L{dtt.records.ticket}.
"""

from __future__ import annotations

import re
from pathlib import Path
from random import Random

from twisted.trial.unittest import SkipTest, SynchronousTestCase

import dtt
from dtt.errors import UsageError
from dtt.identity import z32_encode
from dtt.records.ticket import (
    MAX_LABEL_BYTES,
    MAX_TICKET,
    PREFIX,
    RANDOM_BYTES,
    Ticket,
    check_label,
    parse_tickets,
)
from dtt.records.topic import TopicId, truncated_sha512

ENTROPY = bytes(range(RANDOM_BYTES))


class TicketTests(SynchronousTestCase):
    """
    Tests for L{Ticket}.
    """

    def test_round_trip(self) -> None:
        """What was encoded is parsed, with blanks around it and in upper case, too."""
        for label in ("", "garden party", "Fête 世界", "x" * MAX_LABEL_BYTES):
            ticket = Ticket.make(label, ENTROPY)
            text = ticket.encode()
            self.assertEqual((ticket.topic_id, ticket.secret), (ENTROPY[:32], ENTROPY[32:]))
            self.assertLessEqual(len(text), MAX_TICKET)
            self.assertRegex(text, r"\Adtt1[a-z0-9]+\Z")
            for form in (text, f"  {text}\r\n", text.upper()):
                parsed = Ticket.parse(form)
                self.assertEqual(parsed, ticket)
                self.assertEqual(
                    (parsed.label, parsed.topic_id.label), (label, TopicId(ENTROPY[:32], label).label)
                )

    def test_format(self) -> None:
        """A ticket is the prefix, and topic id, secret, label and checksum in z-base-32."""
        body = ENTROPY + b"label"
        check = truncated_sha512(b"dtt/1 ticket" + body)[:4]
        self.assertEqual(Ticket.make("label", ENTROPY).encode(), PREFIX + z32_encode(body + check))

    def test_example(self) -> None:
        """The example of docs/protocol/tickets.md section 3 is what it says."""
        page = Path(dtt.__file__).parents[1] / "docs" / "protocol" / "tickets.md"
        if not page.exists():
            raise SkipTest("the documentation is not beside an installed package")
        (example,) = re.findall(r"(?m)^dtt1[a-z0-9]+$", page.read_text("utf-8"))
        self.assertEqual(Ticket.parse(example), Ticket.make("garden", ENTROPY))
        self.assertEqual(Ticket.make("garden", ENTROPY).encode(), example)

    def test_every_error_is_found(self) -> None:
        """A wrong, missing or additional character, and two that have changed places, are found."""
        text = Ticket.make("garden", ENTROPY).encode()
        for place in range(len(PREFIX), len(text)):
            other = "y" if text[place] != "y" else "b"
            for wrong in (
                text[:place] + other + text[place + 1 :],
                text[:place] + text[place + 1 :],
                text[:place] + other + text[place:],
                text[:place],
            ):
                self.assertRaises(UsageError, Ticket.parse, wrong)
            swapped = text[: place - 1] + text[place] + text[place - 1] + text[place + 1 :]
            if place > len(PREFIX) and swapped != text:
                self.assertRaises(UsageError, Ticket.parse, swapped)

    def test_random_text(self) -> None:
        """Anything else is refused, and no message quotes it: it may be nearly a ticket."""
        for seed in range(300):
            rng = Random(seed)
            text = PREFIX + "".join(rng.choices("abcdxyz0189", k=rng.randrange(200)))
            error = self.assertRaises(UsageError, Ticket.parse, text)
            self.assertNotIn(text[:12], str(error), seed)

    def test_what_is_wrong(self) -> None:
        """The error says what to do."""
        text = Ticket.make("x", ENTROPY).encode()
        for wrong, reason in (
            ("", "not a ticket"),
            ("garden party", "create one with dtt new-topic"),
            ("dtt2abc", "newer than this dtt"),
            (text[:-5], "Copy it again"),
            (text + "y" * 200, "too long"),
            (text[:40] + "\n" + text[40:], "Copy it again"),
        ):
            self.assertIn(reason, str(self.assertRaises(UsageError, Ticket.parse, wrong)))

    def test_hostile_label(self) -> None:
        """A label that is not printable is refused, although its checksum is right."""
        for label in (b"\x1b[2J", b"\xff", b" x", b"x" * (MAX_LABEL_BYTES + 1)):
            body = ENTROPY + label
            text = PREFIX + z32_encode(body + truncated_sha512(b"dtt/1 ticket" + body)[:4])
            self.assertRaises(UsageError, Ticket.parse, text)

    def test_labels(self) -> None:
        """A label is printable, without blanks at its ends, and short."""
        for label in ("", "x", "a b", "世" * 21):
            self.assertEqual(check_label(label), label)
        for label in ("\n", " x", "x ", "a\tb", "\x1b", "世" * 22, "\udc80"):
            self.assertRaises(UsageError, check_label, label)

    def test_secret_is_not_shown(self) -> None:
        """The secret is not in the repr."""
        ticket = Ticket.make("x", ENTROPY)
        self.assertNotIn(repr(ticket.secret), repr(ticket))
        self.assertNotIn(ticket.secret.hex(), repr(ticket))

    def test_entropy(self) -> None:
        """Other sizes of the random input are refused."""
        self.assertRaises(UsageError, Ticket.make, "x", ENTROPY[1:])

    def test_several(self) -> None:
        """A file has one ticket a line; empty lines, comments and a byte order mark are ignored."""
        one, two = Ticket.make("one", ENTROPY), Ticket.make("two", ENTROPY[::-1])
        text = f"# old and new\n\n{one.encode()}\r\n  {two.encode()}\n"
        self.assertEqual(parse_tickets(text, 2), (one, two))
        self.assertEqual(parse_tickets(f"\ufeff{one.encode()}\n", 2), (one,))
        for wrong, limit in ((text, 1), ("", 2), ("# nothing", 2), (f"{text}nonsense", 9)):
            self.assertRaises(UsageError, parse_tickets, wrong, limit)
