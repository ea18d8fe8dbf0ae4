"""
Tests for L{dtt.cli.commands}.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from twisted.python import usage

import dtt
from dtt.app.usage import CommandOptions
from dtt.cli import commands, table
from dtt.cli.commands import overview, run, split
from dtt.errors import StateError, UsageError
from dtt.tap import CannotStart
from dtt.tap import Options as TwistdOptions
from tests.cli.common import CommandTestCase


class CommandsTests(CommandTestCase):
    """
    Tests for finding and running commands.
    """

    def command(self, error: Exception | None = None, code: int = 0) -> None:
        """Replace all commands with one, C{do}, that has an option."""

        class Options(CommandOptions):
            optParameters = [["number", None, 0, "A number.", int]]

            def run(self) -> int:
                if error is not None:
                    raise error
                return code

        self.patch(commands, "COMMANDS", {"do": ("", "")})
        self.patch(commands, "options_of", lambda name: Options())

    def test_exit_codes(self) -> None:
        """
        The exit code is the command's own, 2 for wrong usage, and 1 for other errors of
        dtt; each error is one line.
        """
        self.command(code=0)
        self.assertEqual(run(["do"]), 0)
        self.command(code=1)
        self.assertEqual(run(["do"]), 1)
        self.assertEqual(self.err.getvalue(), "")
        self.command(error=UsageError("wrong"))
        self.assertEqual(run(["do"]), 2)
        self.command(error=StateError("bad file"))
        self.assertEqual(run(["do"]), 1)
        self.assertEqual(self.err.getvalue(), "dtt: wrong\ndtt: bad file\n")

    def test_wrong_usage(self) -> None:
        """
        A missing or unknown command, an unknown option and an invalid value yield one line
        and exit code 2.
        """
        self.command()
        for arguments in ([], ["nonsense"], ["--nonsense"], ["do", "--nonsense"], ["do", "--number", "x"]):
            self.err.truncate(0)
            self.err.seek(0)
            self.assertEqual(run(arguments), 2, arguments)
            self.assertRegex(self.err.getvalue(), r"\Adtt: [^\n]+\n\Z", str(arguments))

    def test_help(self) -> None:
        """--help lists all commands and exits with 0; so do --version, and --help of each command."""
        for arguments in (["--help"], ["--version"], *([*name.split(), "--help"] for name in self.names())):
            self.assertEqual(run(arguments), 0, arguments)
        text = self.out.getvalue()
        for name in self.names():
            self.assertIn(name, text)
            self.assertIn(f"Usage: dtt {name}", text)

    def names(self) -> list[str]:
        """Return the names of all commands."""
        names = list(table.COMMANDS)
        self.assertLessEqual({"demo", "chat", "slot", "open", "seal", "dht get"}, set(names))
        return names

    def test_short_help(self) -> None:
        """-h is --help, -V is --version, and dtt help shows the help of a command."""
        for same in (
            (["--help"], ["-h"], ["help"], ["help", "help"]),
            (["--version"], ["-V"]),
            (["slot", "--help"], ["slot", "-h"], ["help", "slot"], ["help", "slot", "more"]),
            (["dht", "get", "--help"], ["help", "dht", "get"]),
            (["dht", "--help"], ["help", "dht"], ["dht", "-h"]),
            (["chat", "--version"], ["chat", "-V"]),
        ):
            texts = set()
            for arguments in same:
                self.out.truncate(0)
                self.out.seek(0)
                self.assertEqual(run(arguments), 0, arguments)
                texts.add(self.out.getvalue())
            self.assertEqual(len(texts), 1, same)
        self.assertEqual(run(["help", "nonsense"]), 2)

    def test_width(self) -> None:
        """
        The help has any width that the terminal may have, from 20 columns on, and ignores an
        unusable one.
        """
        for columns in ("0", "1", "26", "39", "", "abc", "-5", "1e9", "9" * 5000, "80"):
            self.patch(os, "environ", {**os.environ, "COLUMNS": columns})
            for arguments in (["--help"], *([*name.split(), "--help"] for name in self.names())):
                self.out.truncate(0)
                self.out.seek(0)
                self.assertEqual(run(arguments), 0, (columns, arguments))
                if columns in ("1", "26", "39", "80"):
                    longest = max(len(line) for line in self.out.getvalue().splitlines())
                    self.assertLessEqual(longest, max(int(columns), 20), arguments)
        self.assertEqual(self.err.getvalue(), "")

    def test_errors_are_one_line(self) -> None:
        """
        Whatever goes wrong is one line of bounded length without control characters, and
        the exit code is 1: no traceback.
        """
        for error, expected in (
            (StateError("two\nlines \x1b[2J"), "dtt: two\\nlines \\x1b[2J\n"),
            (StateError("x" * 10**6), "dtt: " + "x" * 1992 + "...\n"),
            (PermissionError(13, "Permission denied", "/d"), "dtt: /d: Permission denied\n"),
            (
                ZeroDivisionError("oops"),
                r"dtt: unexpected error (a bug): ZeroDivisionError: oops at test_commands.py",
            ),
        ):
            self.err.truncate(0)
            self.err.seek(0)
            self.command(error=error)
            self.assertEqual(run(["do"]), 1)
            self.assertTrue(self.err.getvalue().startswith(expected), self.err.getvalue())
            self.assertEqual(self.err.getvalue().count("\n"), 1)

    def test_lost_output(self) -> None:
        """
        Output that can't be written is an error, but nothing is reported to a reader that has gone; if
        standard error can't be written either, the exit code shows it.
        """

        class Full(io.StringIO):
            """A file that can't be written."""

            def __init__(self, error: OSError) -> None:
                super().__init__()
                self.error = error

            def write(self, text: str) -> int:
                raise self.error

        for error, expected in (
            (OSError(28, "No space left on device"), "the output could not be written: No space left"),
            (BrokenPipeError(32, "Broken pipe"), ""),
        ):
            for arguments in (["--help"], ["--version"], ["slot", "--topic", "x"], ["help", "chat"]):
                self.err.truncate(0)
                self.err.seek(0)
                self.patch(sys, "stdout", Full(error))
                self.assertEqual(run(arguments), 1)
                self.assertIn(expected, self.err.getvalue())
                self.assertEqual(bool(self.err.getvalue()), bool(expected))
        self.patch(sys, "stderr", Full(OSError(28, "No space left on device")))
        self.assertEqual(run(["nonsense"]), 2)

    def test_list_loads_nothing(self) -> None:
        """
        The list of commands, a wrong command and the version load neither Twisted nor attrs,
        which take most of the time of a short command.
        """
        script = (
            "import sys; from dtt.cli.commands import run, split, overview; run(sys.argv[1:]); "
            "print(*(name for name in ('twisted', 'attr', 'typing') if name in sys.modules), file=sys.stderr)"
        )
        for arguments in (["--help"], ["help"], ["dht", "--help"]):
            done = subprocess.run(
                [sys.executable, "-S", "-c", script, *arguments],
                env={**os.environ, "PYTHONPATH": str(Path(dtt.__file__).parents[1])},
                capture_output=True,
                timeout=60,
                check=True,
            )
            self.assertEqual(done.stderr.decode(), "\n", arguments)

    def test_no_command(self) -> None:
        """Without a command, the error says how to list them; so do several that need a second word."""
        for words, error in (
            ([], "no command; dtt --help lists the commands"),
            (["-x"], "unknown option '-x'; dtt --help lists the commands"),
            (["dht"], "dtt dht takes one of get, lookup, peers, ping, put, and none was given"),
            (["dht", "x" * 1000], f"dtt dht takes one of get, lookup, peers, ping, put, not '{'x' * 80}'"),
        ):
            self.assertEqual(str(self.assertRaises(UsageError, split, words)), error)
        self.assertLess(len(str(self.assertRaises(UsageError, split, ["x" * 10**5]))), 400)

    def test_overview_of_some(self) -> None:
        """The list of the commands that begin with a word has no others, and no introduction."""
        text = overview(80, "dht")
        self.assertTrue(text.startswith("Usage: dtt dht COMMAND [options]\n"), text)
        self.assertEqual(
            [line.split()[1] for line in text.splitlines() if line.startswith("  dht ")],
            ["ping", "lookup", "get", "put", "peers"],
        )
        for absent in ("chat", "Exit codes", "twistd"):
            self.assertNotIn(absent, text)

    def test_unknown(self) -> None:
        """An unknown command gets the list of commands, and those that begin like it."""
        message = str(self.assertRaises(UsageError, split, ["chatt"]))
        self.assertIn("did you mean chat?", message)
        for name in ("new-topic", "doctor", "dht", "completion"):
            self.assertIn(name, message)
        for words in (["dht"], ["dht", "nonsense"], ["dht", "--json"]):
            self.assertIn("get, lookup, peers, ping, put", str(self.assertRaises(UsageError, split, words)))
        self.assertIn("--nonsense", str(self.assertRaises(UsageError, split, ["--nonsense"])))

    def test_abbreviations(self) -> None:
        """
        The beginning of an option's name is not taken for the option, in any command and in
        C{twistd dtt}: the error is one line, which names the option.
        """
        tried = 0
        makers: list[Callable[[], Any]] = [partial(commands.options_of, name) for name in table.COMMANDS]
        for make in (*makers, TwistdOptions):
            options = make()
            names = {name.removesuffix("=") for name in options.longOpt}
            for name in names:
                beginnings = {name[:length] for length in range(1, len(name))} - names
                for beginning in beginnings:
                    for word in (f"--{beginning}", f"--{beginning}=x"):
                        with self.assertRaises((usage.UsageError, CannotStart)) as raised:
                            options.parseOptions([word])
                        message = str(getattr(raised.exception, "code", raised.exception))
                        self.assertIn(f"unknown option '--{beginning}'; did you mean --", message)
                        self.assertRegex(message, rf"--{name}( or |\?$)")
                        self.assertNotIn("\n", message)
                        tried += 1
        self.assertGreater(tried, 1000)

    def test_split(self) -> None:
        """A command has one word or two; the rest are its arguments."""
        self.assertEqual(split(["chat", "x", "--json"]), ("chat", ["x", "--json"]))
        self.assertEqual(split(["dht", "get", "x"]), ("dht get", ["x"]))
        self.assertEqual(split(["help"]), ("help", []))

    def test_exit_codes_are_listed(self) -> None:
        """The list of commands ends with the exit codes."""
        text = overview(80)
        for code, meaning in table.EXIT_CODES:
            self.assertIn(f"  {code}  {meaning}", text)

    def test_exit_code_of_an_error(self) -> None:
        """An error may have its own exit code."""

        class Absent(StateError):
            exit_code = 4

        self.command(error=Absent("nobody is there"))
        self.assertEqual(run(["do"]), 4)
        self.assertEqual(self.err.getvalue(), "dtt: nobody is there\n")
