"""
Tests for L{dtt.cli.main}.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

import dtt
from dtt.cli import main
from dtt.cli.main import MainOptions, run
from dtt.errors import StateError, UsageError


class MainTests(SynchronousTestCase):
    """
    Tests for L{run}.
    """

    def setUp(self) -> None:
        """Capture the output."""
        self.out, self.err = io.StringIO(), io.StringIO()
        self.patch(sys, "stdout", self.out)
        self.patch(sys, "stderr", self.err)

    def command(self, error: Exception | None = None, code: int = 0) -> None:
        """Replace all commands with one, C{do}, that has an option."""

        class Options(usage.Options):
            optParameters = [["number", None, 0, "A number.", int]]

            def run(self) -> int:
                if error is not None:
                    raise error
                return code

        self.patch(MainOptions, "subCommands", [["do", None, Options, "Do it."]])

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
        for arguments in (["--help"], ["--version"], *([name, "--help"] for name in self.names())):
            with self.assertRaises(SystemExit) as raised:
                run(arguments)
            self.assertIn(raised.exception.code, (0, None), arguments)
        text = self.out.getvalue()
        for name in self.names():
            self.assertIn(name, text)
            self.assertIn(f"Usage: dtt {name}", text)

    def names(self) -> list[str]:
        """Return the names of all commands."""
        names = [str(command[0]) for command in MainOptions.subCommands]
        self.assertLessEqual({"demo", "chat", "slot", "open", "seal"}, set(names))
        return names

    def test_main(self) -> None:
        """The console script exits with the command's exit code."""
        self.command(code=1)
        self.patch(sys, "argv", ["dtt", "do"])
        with self.assertRaises(SystemExit) as raised:
            main.main()
        self.assertEqual(raised.exception.code, 1)

    def test_closed_descriptors(self) -> None:
        """If it is started with standard input or output closed, no socket takes their place."""
        script = (
            "import os; from dtt.cli.main import fill_standard_descriptors as fill; fill(); "
            "null = os.stat(os.devnull).st_rdev; "
            "os.write(2, str([os.fstat(number).st_rdev == null for number in range(2)]).encode())"
        )
        root = str(Path(dtt.__file__).parents[1])
        for redirections, nulls in (("<&- >&-", "[True, True]"), ("</dev/zero >&-", "[False, True]")):
            done = subprocess.run(
                ["sh", "-c", f'exec "$0" -c "$1" {redirections}', sys.executable, script],
                env={**os.environ, "PYTHONPATH": root},
                stderr=subprocess.PIPE,
                timeout=60,
                check=True,
            )
            self.assertEqual(done.stderr.decode(), nulls)

    def test_commands_are_lazy(self) -> None:
        """Listing the commands imports none of them."""
        lazily: Any = MainOptions.subCommands[0][2]
        self.assertEqual((lazily._module, lazily._name), ("dtt.cli.demo", "DemoOptions"))
