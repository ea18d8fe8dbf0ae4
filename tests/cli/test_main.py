"""
Tests for L{dtt.cli.main}.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import dtt
from dtt.cli import main
from tests.cli.common import CommandTestCase


class MainTests(CommandTestCase):
    """
    Tests for the console script.
    """

    def test_main(self) -> None:
        """The console script exits with the command's exit code."""
        self.addCleanup(signal.signal, signal.SIGINT, signal.getsignal(signal.SIGINT))
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self.patch(sys, "argv", ["dtt", "nonsense"])
        with self.assertRaises(SystemExit) as raised:
            main.main()
        self.assertEqual(raised.exception.code, 2)
        self.assertIn("unknown command 'nonsense'", self.err.getvalue())
        self.assertEqual(signal.getsignal(signal.SIGINT), signal.SIG_DFL)

    def handle(self, number: int, frame: object) -> None:
        """Handle a signal."""

    def test_interrupt(self) -> None:
        """A SIGINT ends the process at once, unless it is ignored or handled."""
        self.addCleanup(signal.signal, signal.SIGINT, signal.getsignal(signal.SIGINT))
        for before, after in (
            (signal.default_int_handler, signal.SIG_DFL),
            (signal.SIG_IGN, signal.SIG_IGN),
            (self.handle, self.handle),
        ):
            signal.signal(signal.SIGINT, before)
            main.interrupt_silently()
            self.assertEqual(signal.getsignal(signal.SIGINT), after)

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

    def test_prepared_early(self) -> None:
        """Until the process is prepared, next to nothing is imported, which an interrupt could meet."""
        script = (
            "import sys; before = set(sys.modules); import dtt.cli.main; "
            "print(*sorted(set(sys.modules) - before))"
        )
        done = subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONPATH": str(Path(dtt.__file__).parents[1])},
            stdout=subprocess.PIPE,
            timeout=60,
            check=True,
        )
        self.assertEqual(done.stdout.decode().split(), ["dtt", "dtt.cli", "dtt.cli.main"])
