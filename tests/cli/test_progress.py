"""
Tests for L{dtt.cli.progress}.
"""

from __future__ import annotations

import io
import os
import sys

from dtt.cli import progress as progress_module
from dtt.cli.progress import Progress
from tests.cli.common import CommandTestCase

CLEAR = "\r\x1b[K"


class Terminal(io.StringIO):
    """
    A terminal.
    """

    def isatty(self) -> bool:
        return True


class Unwritable(Terminal):
    """
    A terminal that has been disconnected.
    """

    def write(self, text: str) -> int:
        raise OSError(5, "Input/output error")


class ProgressTests(CommandTestCase):
    """
    Tests for L{Progress}.
    """

    def setUp(self) -> None:
        """Standard error is a terminal of 10 columns."""
        super().setUp()
        self.patch(progress_module, "terminal_width", lambda: 10)
        self.use(Terminal())

    def use(self, stream: io.StringIO, term: str | None = "xterm") -> None:
        """Set standard error and C{$TERM}."""
        environ = {key: value for key, value in os.environ.items() if key != "TERM"}
        self.patch(os, "environ", environ if term is None else {**environ, "TERM": term})
        self.patch(sys, "stderr", stream)
        self.stream = stream

    def test_terminal(self) -> None:
        """Each text replaces the previous one, and is removed at the end, once."""
        progress = Progress()
        progress.clear()
        self.assertEqual(self.stream.getvalue(), "")
        progress.show("one")
        progress.show("two")
        progress.clear()
        progress.clear()
        self.assertEqual(self.stream.getvalue(), f"{CLEAR}one{CLEAR}two{CLEAR}")
        progress.show("three")
        self.assertTrue(self.stream.getvalue().endswith("three"))

    def test_at_once(self) -> None:
        """What is shown is not buffered."""

        class Buffered(io.TextIOWrapper):
            def isatty(self) -> bool:
                return True

        raw = io.BytesIO()
        stream = Buffered(raw, "utf-8")
        self.patch(sys, "stderr", stream)
        Progress().show("one")
        self.assertEqual(raw.getvalue().decode(), f"{CLEAR}one")

    def test_width(self) -> None:
        """A text that would fill the line, and so move the cursor to the next one, is cut."""
        Progress().show("0123456789")
        self.assertEqual(self.stream.getvalue(), f"{CLEAR}012345678")

    def test_nothing(self) -> None:
        """Nothing is shown in a pipe, nor at a terminal that can't erase a line."""
        for stream, term in (
            (io.StringIO(), "xterm"),
            (Terminal(), "dumb"),
            (Terminal(), None),
        ):
            self.use(stream, term)
            progress = Progress()
            progress.show("one")
            progress.clear()
            self.assertEqual(stream.getvalue(), "")

    def test_lost(self) -> None:
        """A terminal that can't be written, or is closed, before or meanwhile, is no error."""
        self.use(Unwritable())
        progress = Progress()
        progress.show("one")
        progress.clear()
        self.use(Terminal())
        progress = Progress()
        self.stream.close()
        progress.show("one")
        Progress().show("two")
        self.patch(sys, "stderr", None)
        Progress().show("three")
