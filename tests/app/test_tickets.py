"""
Tests for L{dtt.app.tickets}.
"""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import dtt
from dtt.app import tickets
from dtt.app.tickets import read_tickets
from dtt.errors import StateError, UsageError
from dtt.records.ticket import RANDOM_BYTES, Ticket

ONE = Ticket.make("one", bytes(RANDOM_BYTES))
TWO = Ticket.make("two", b"\x01" * RANDOM_BYTES)


class FileTests(SynchronousTestCase):
    """
    Tests for tickets in files and on standard input.
    """

    def file(self, text: str, mode: int = 0o600) -> str:
        """Write a file."""
        path = Path(self.mktemp())
        path.write_text(text)
        path.chmod(mode)
        return str(path)

    def test_file(self) -> None:
        """A file has tickets, one a line."""
        self.assertEqual(read_tickets(self.file(ONE.encode())), (ONE,))
        self.assertEqual(read_tickets(self.file(f"{ONE.encode()}\n{TWO.encode()}\n")), (ONE, TWO))

    def test_errors(self) -> None:
        """Files that others can read, that are missing, no files, or have no ticket are refused."""
        self.assertRaises(StateError, read_tickets, self.file(ONE.encode(), 0o644))
        self.assertRaises(StateError, read_tickets, "nowhere")
        self.assertRaises(StateError, read_tickets, ".")
        self.assertRaises(StateError, read_tickets, self.file("x" * (tickets.MAX_FILE_BYTES + 1)))
        for text in ("", "garden party", ONE.encode()[:-1], "\xff\n"):
            path = self.file(text)
            error = self.assertRaises(UsageError, read_tickets, path)
            self.assertIn(path, str(error))

    def stdin(self, data: bytes) -> None:
        """Replace standard input by a pipe."""
        reading, writing = os.pipe()
        os.write(writing, data)
        os.close(writing)
        kept = os.dup(0)
        os.dup2(reading, 0)
        os.close(reading)
        self.addCleanup(os.close, kept)
        self.addCleanup(os.dup2, kept, 0)

    def test_standard_input(self) -> None:
        """The first line of standard input is the ticket; the rest is left for the command."""
        self.stdin(f"{ONE.encode()}\nhello\n".encode())
        self.assertEqual(read_tickets("-"), (ONE,))
        self.assertEqual(os.read(0, 100), b"hello\n")

    def test_no_line(self) -> None:
        """An empty standard input, and a line that never ends, are refused."""
        self.stdin(b"")
        self.assertRaises(UsageError, read_tickets, "-")
        self.stdin(b"x" * (tickets.MAX_LINE + 10))
        self.assertRaises(UsageError, read_tickets, "-")


SCRIPT = "from dtt.app.tickets import read_tickets; print('read', read_tickets('-')[0].label)"


class TerminalTests(SynchronousTestCase):
    """
    Tests for a ticket that is typed at a terminal.
    """

    def setUp(self) -> None:
        """Run a process at a terminal, and wait until it asks."""
        self.pid, self.terminal = pty.fork()
        if not self.pid:
            # A shell ignores it in what it runs in the background.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            root = str(Path(dtt.__file__).parents[1])
            os.execve(sys.executable, [sys.executable, "-c", SCRIPT], {**os.environ, "PYTHONPATH": root})
        self.addCleanup(os.close, self.terminal)
        self.seen = b""
        while b"Ticket" not in self.seen:
            self.seen += os.read(self.terminal, 1000)
        while self.echoes():  # it was asked before that
            time.sleep(0.01)

    def echoes(self) -> bool:
        """Return whether the terminal shows what is typed."""
        return bool(termios.tcgetattr(self.terminal)[3] & termios.ECHO)

    def end(self) -> int:
        """Read the rest, and wait for the end."""
        try:
            while data := os.read(self.terminal, 1000):
                self.seen += data
        except OSError:  # the terminal is closed
            pass
        return os.waitpid(self.pid, 0)[1]

    def test_not_shown(self) -> None:
        """A ticket that is typed is not shown."""
        os.write(self.terminal, ONE.encode().encode() + b"\n")
        self.assertEqual(self.end(), 0)
        self.assertIn(b"read one", self.seen)
        self.assertNotIn(ONE.encode().encode()[4:20], self.seen)

    def test_interrupted(self) -> None:
        """A signal ends the process, and the terminal shows again what is typed."""
        os.kill(self.pid, signal.SIGTERM)
        self.assertEqual(os.WTERMSIG(self.end()), signal.SIGTERM)
        self.assertTrue(self.echoes())

    def test_interrupt(self) -> None:
        """So does Ctrl-C, without a traceback."""
        os.write(self.terminal, b"\x03")
        self.assertEqual(os.WTERMSIG(self.end()), signal.SIGINT)
        self.assertNotIn(b"Traceback", self.seen)


class ProcessTests(SynchronousTestCase):
    """
    Tests for a whole process.
    """

    def test_pipe(self) -> None:
        """A pipe is not a terminal: there is no prompt."""
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT],
            input=ONE.encode().encode(),
            env={**os.environ, "PYTHONPATH": str(Path(dtt.__file__).parents[1])},
            capture_output=True,
            timeout=60,
            check=True,
        )
        self.assertEqual((done.stdout, done.stderr), (b"read one\n", b""))
