"""
Tests for L{dtt.cli.new_topic}.
"""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dtt.cli.commands import run
from dtt.cli.new_topic import file_name, renewed_name
from dtt.records.ticket import RANDOM_BYTES, Ticket, parse_tickets


class NewTopicTests(SynchronousTestCase):
    """
    Tests for C{dtt new-topic}.
    """

    def setUp(self) -> None:
        """Work in a new directory, and capture the output."""
        folder = self.mktemp()
        os.mkdir(folder)
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(folder)
        self.out, self.err = io.StringIO(), io.StringIO()
        self.patch(sys, "stdout", self.out)
        self.patch(sys, "stderr", self.err)

    def ticket(self, name: str) -> Ticket:
        """Read a ticket."""
        return parse_tickets(Path(name).read_text(), 1)[0]

    def test_file(self) -> None:
        """The ticket is in a file that only we can read; the commands for both sides are shown."""
        self.assertEqual(run(["new-topic", "garden party"]), 0)
        path = Path("garden-party.ticket")
        self.assertEqual(path.stat().st_mode & 0o777, 0o600)
        ticket = self.ticket("garden-party.ticket")
        self.assertEqual(ticket.label, "garden party")
        text = self.out.getvalue()
        self.assertIn("    dtt chat --ticket-file garden-party.ticket\n", text)
        self.assertIn("scp -p garden-party.ticket", text)
        self.assertNotIn(ticket.encode(), text)
        self.assertNotIn(ticket.secret.hex(), text)

    def test_random(self) -> None:
        """No two tickets are the same."""
        tickets = []
        for number in range(5):
            self.assertEqual(run(["new-topic", "-o", str(number)]), 0)
            tickets.append(self.ticket(str(number)))
        self.assertEqual(len({ticket.topic_id for ticket in tickets}), 5)
        self.assertEqual(len({ticket.secret for ticket in tickets}), 5)

    def test_exists(self) -> None:
        """An existing file stays unchanged."""
        Path("x.ticket").write_text("mine")
        self.assertEqual(run(["new-topic", "x"]), 1)
        self.assertEqual(Path("x.ticket").read_text(), "mine")
        self.assertRegex(self.err.getvalue(), r"\Adtt: x.ticket exists[^\n]*\n\Z")
        self.assertEqual(os.listdir(), ["x.ticket"])

    def test_show(self) -> None:
        """--show prints the ticket, to be pasted; --output - prints nothing else."""
        self.assertEqual(run(["new-topic", "x", "--show"]), 0)
        self.assertEqual(self.out.getvalue().splitlines()[-1], self.ticket("x.ticket").encode())
        self.out.truncate(0)
        self.out.seek(0)
        self.assertEqual(run(["new-topic", "x", "-o", "-"]), 0)
        self.assertEqual(Ticket.parse(self.out.getvalue()).label, "x")
        self.assertEqual(os.listdir(), ["x.ticket"])

    def test_json(self) -> None:
        """--json prints the file, the topic and the label, and no secret."""
        self.assertEqual(run(["new-topic", "x", "--json"]), 0)
        ticket = self.ticket("x.ticket")
        self.assertEqual(
            json.loads(self.out.getvalue()),
            {"file": "x.ticket", "topic_id": ticket.topic_id.hex(), "label": "x"},
        )

    def test_renew(self) -> None:
        """--renew makes another ticket with the same label; both are named in the command."""
        self.assertEqual(run(["new-topic", "x"]), 0)
        self.assertEqual(run(["new-topic", "--renew", "x.ticket"]), 0)
        self.assertIn("--ticket-file x-2.ticket --ticket-file x.ticket", self.out.getvalue())
        old, new = self.ticket("x.ticket"), self.ticket("x-2.ticket")
        self.assertEqual((old.label, new.label), ("x", "x"))
        self.assertNotEqual(old.topic_id, new.topic_id)
        self.assertNotEqual(old.secret, new.secret)

    def test_wrong_usage(self) -> None:
        """Wrong arguments are one line and exit code 2, and leave nothing behind."""
        for arguments in (
            ["a", "b"],
            [" blank"],
            ["\x1b[2J"],
            ["x" * 65],
            ["x", "--renew", "y"],
            ["-o", "-", "--json"],
            ["-o", ""],
        ):
            self.err.truncate(0)
            self.err.seek(0)
            self.assertEqual(run(["new-topic", *arguments]), 2, arguments)
            self.assertRegex(self.err.getvalue(), r"\Adtt: [^\n]+\n\Z")
        self.assertEqual(run(["new-topic", "--renew", "nowhere"]), 1)
        self.assertEqual(run(["new-topic", "-o", "nowhere/x"]), 1)
        self.assertEqual(os.listdir(), [])

    def test_lost_output(self) -> None:
        """If the output is lost, the unreported file is removed; the reader of a closed pipe has read it."""

        class Lost(io.StringIO):
            """A file that can't be written."""

            error: OSError

            def write(self, text: str) -> int:
                raise self.error

        for error, left in ((OSError(28, "No space left"), []), (BrokenPipeError(32, "x"), ["x.ticket"])):
            lost = Lost()
            lost.error = error
            self.patch(sys, "stdout", lost)
            self.assertEqual(run(["new-topic", "x"]), 1)
            self.assertEqual(os.listdir(), left)

    def test_names(self) -> None:
        """A file is named for the label, without what a shell would give a meaning to."""
        for label, name in (
            ("garden party", "garden-party.ticket"),
            ("../../etc/passwd", "etc-passwd.ticket"),
            ("-rf *", "rf.ticket"),
            ("Fête", "Fête.ticket"),
            ("", "topic-00000000.ticket"),
            ("!!!", "topic-00000000.ticket"),
        ):
            self.assertEqual(file_name(Ticket.make(label, bytes(RANDOM_BYTES))), name)
        for before, after in (("x.ticket", "x-2.ticket"), ("x-2.ticket", "x-3.ticket"), ("a/b", "a/b-2")):
            self.assertEqual(str(renewed_name(Path(before))), after)
