"""
Tests for L{dtt.cli.complaints}.
"""

from __future__ import annotations

import io
import os
import sys

from dtt.app.messages import MAX_MESSAGE
from dtt.cli.complaints import (
    OutputLost,
    complain,
    describe_error,
    output_closed,
    output_lost,
    print_line,
    remark,
    report,
)
from dtt.errors import StateError
from tests.cli.common import CommandTestCase

FULL = OSError(28, "No space left on device")
GONE = BrokenPipeError(32, "Broken pipe")


class Unwritable(io.TextIOWrapper):
    """
    A stream on a file of its own whose writes fail.
    """

    def __init__(self, case: CommandTestCase, error: OSError) -> None:
        self.path = case.mktemp()
        self.error = error
        super().__init__(open(self.path, "wb"))  # noqa: SIM115
        case.addCleanup(self.close)

    def write(self, text: str) -> int:
        raise self.error


class ComplaintTests(CommandTestCase):
    """
    Tests for messages on standard error.
    """

    def test_complain(self) -> None:
        """A message is one line of bounded length, which begins with the name of the program."""
        complain("two\nlines \x1b[2J")
        remark("as it is")
        self.assertEqual(self.err.getvalue(), "dtt: two\\nlines \\x1b[2J\nas it is\n")
        complain("x" * 10**6)
        self.assertEqual(len(self.err.getvalue().splitlines()[-1]), MAX_MESSAGE)
        self.assertEqual(self.out.getvalue(), "")

    def test_lost_complaint(self) -> None:
        """
        If standard error can't be written, nothing is raised, and what is written later is dropped
        instead of failing at exit.
        """
        stream = Unwritable(self, FULL)
        self.patch(sys, "stderr", stream)
        complain("words")
        os.write(stream.fileno(), b"later")
        self.assertEqual(os.stat(stream.path).st_size, 0)

    def test_describe_error(self) -> None:
        """
        An error of dtt is its message; one of the system is the file and the reason; any other is
        called a bug, and shows the line of code.
        """
        for error, text in (
            (StateError("bad file"), "bad file"),
            (PermissionError(13, "Permission denied", "/d"), "/d: Permission denied"),
            (FULL, "No space left on device"),
            (OSError("odd"), "odd"),
            (ZeroDivisionError("oops"), "unexpected error (a bug): ZeroDivisionError: oops"),
        ):
            self.assertEqual(describe_error(error), text)
        try:
            raise ZeroDivisionError("oops")
        except ZeroDivisionError as error:
            self.assertRegex(describe_error(error), r"oops at test_complaints\.py:\d+$")


class OutputTests(CommandTestCase):
    """
    Tests for output that can't be written.
    """

    def lose(self, error: OSError) -> Unwritable:
        """Make writing to standard output fail."""
        stream = Unwritable(self, error)
        self.patch(sys, "stdout", stream)
        return stream

    def test_print_line(self) -> None:
        """A line is printed at once; an error has its cause."""
        raw = io.BytesIO()
        self.patch(sys, "stdout", io.TextIOWrapper(raw, "utf-8"))
        print_line("gr\u00fc\u00df")
        self.assertEqual(raw.getvalue(), "gr\u00fc\u00df\n".encode())
        self.lose(FULL)
        error = self.assertRaises(OutputLost, print_line, "x")
        self.assertIs(error.cause, FULL)
        self.assertIn("No space left", str(error))

    def test_report(self) -> None:
        """Lost output is reported with its cause, any other error as it is described."""
        stream = self.lose(FULL)
        report(OutputLost(FULL))
        report(StateError("bad file"))
        self.assertEqual(
            self.err.getvalue(),
            "dtt: the output could not be written: No space left on device\ndtt: bad file\n",
        )
        os.write(stream.fileno(), b"later")
        self.assertEqual(os.stat(stream.path).st_size, 0)

    def test_reader_gone(self) -> None:
        """That the reader of a pipe has gone is not reported, but further output is dropped."""
        stream = self.lose(GONE)
        output_lost(GONE)
        self.assertEqual(self.err.getvalue(), "")
        os.write(stream.fileno(), b"later")
        self.assertEqual(os.stat(stream.path).st_size, 0)

    def test_no_descriptor(self) -> None:
        """A stream without a descriptor, or that is closed, is left alone."""
        for stream in (io.StringIO(), Unwritable(self, FULL)):
            stream.close()
            self.patch(sys, "stdout", stream)
            output_lost(FULL)
        self.assertEqual(self.err.getvalue().count("No space left"), 2)

    def test_output_closed(self) -> None:
        """Output that is closed is reported, unless it is a pipe or a socket."""
        reader, writer = os.pipe()
        self.addCleanup(os.close, reader)
        self.addCleanup(os.close, writer)
        file = os.open(self.mktemp(), os.O_WRONLY | os.O_CREAT)
        self.addCleanup(os.close, file)
        for descriptor, reported in ((writer, ""), (file, "dtt: the output could not be written\n")):
            self.err.truncate(0)
            self.err.seek(0)
            real = os.fstat
            status = real(descriptor)
            self.patch(os, "fstat", lambda number, status=status: status)
            output_closed()
            self.patch(os, "fstat", real)
            self.assertEqual(self.err.getvalue(), reported)
