"""
Tests for L{dtt.cli.run}; C{tests.interop} runs the command.
"""

from __future__ import annotations

import os
from pathlib import Path

from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from dtt.cli.run import RunOptions
from dtt.errors import StateError
from dtt.records.ticket import RANDOM_BYTES, Ticket

ONE = Ticket.make("one", bytes(RANDOM_BYTES))
TWO = Ticket.make("two", b"\x01" * RANDOM_BYTES)


class RunOptionsTests(SynchronousTestCase):
    """
    Tests for L{RunOptions}.
    """

    def setUp(self) -> None:
        """Make a state directory."""
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir(0o700)

    def ticket(self, name: str, *tickets: Ticket) -> str:
        """Write a file with tickets."""
        path = self.folder / name
        path.touch(0o600)
        path.write_text("\n".join(each.encode() for each in tickets))
        return str(path)

    def parse(self, *arguments: str) -> RunOptions:
        """Parse arguments."""
        options = RunOptions()
        options.parseOptions(["--state-dir", str(self.folder), "--transport", "streams", *arguments])
        return options

    def test_tickets(self) -> None:
        """An old and a new ticket are two topics, from two files or from one."""
        one, two = self.ticket("1", ONE), self.ticket("2", TWO)
        for arguments in (
            ("--ticket-file", one, "--ticket-file", two),
            ("--ticket-file", self.ticket("both", ONE, TWO)),
        ):
            topics = self.parse(*arguments).topics
            self.assertEqual(
                [(t.name, t.topic_id, t.secret) for t in topics],
                [
                    ("one", ONE.topic_id, ONE.secret),
                    ("two", TWO.topic_id, TWO.secret),
                ],
            )

    def test_ticket_twice(self) -> None:
        """The same ticket twice is refused."""
        one = self.ticket("1", ONE)
        with self.assertRaises(usage.UsageError) as raised:
            self.parse("--ticket-file", one, "--ticket-file", one)
        self.assertIn("given twice", str(raised.exception))

    def test_default_configuration(self) -> None:
        """dtt.toml in the state directory is read, unless another file is given."""
        (self.folder / "dtt.toml").write_text(
            f'max_connections = 9\n[[topic]]\nticket_file = "{self.ticket("1", ONE)}"\n'
        )
        options = self.parse()
        self.assertEqual((options.config.max_connections, options.topics[0].topic_id), (9, ONE.topic_id))
        other = self.folder / "other.toml"
        other.write_text('[[topic]]\nname = "x"\n')
        options = self.parse("--config", str(other))
        self.assertEqual([topic.name for topic in options.topics], ["x"])
        self.patch(os, "environ", {**os.environ, "DTT_STATE_DIR": str(self.folder)})
        os.environ.pop("STATE_DIRECTORY", None)
        options = RunOptions()
        options.parseOptions(["--transport", "streams"])
        self.assertEqual(options.topics[0].topic_id, ONE.topic_id)

    def test_ticket_in_configuration(self) -> None:
        """A ticket has the topic and the secret: neither is given beside it."""
        for table in (
            'ticket_file = "x"\nname = "y"',
            'ticket_file = "x"\nsecret_file = "y"',
            "",
        ):
            (self.folder / "dtt.toml").write_text(f"[[topic]]\n{table}\n")
            self.assertRaises(usage.UsageError, self.parse)

    def test_errors_name_no_other_program(self) -> None:
        """Errors are usage errors, as those of other commands."""
        for arguments, reason in (
            ((), "no topic"),
            (("--nonsense",), "nonsense"),
            (("--topic", "x", "--log-format", "xml"), "--log-format"),
        ):
            with self.assertRaises(usage.UsageError) as raised:
                self.parse(*arguments)
            self.assertIn(reason, str(raised.exception))
            self.assertNotIn("twistd dtt:", str(raised.exception))

    def test_ticket_of_others(self) -> None:
        """A ticket that other users can read is refused."""
        path = Path(self.ticket("1", ONE))
        path.chmod(0o644)
        with self.assertRaises((usage.UsageError, StateError)) as raised:
            self.parse("--ticket-file", str(path))
        self.assertIn("accessible to other users", str(raised.exception))
