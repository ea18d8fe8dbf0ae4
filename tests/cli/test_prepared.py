"""
Tests for the prepared help of the commands (L{dtt.cli.prepared}).
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dtt.cli.prepared import PATH
from dtt.cli.table import COMMANDS
from tools.command_help import current

ROOT = Path(__file__).parents[2]

#: Prints the help of all commands, and what that has imported.
PRINT_ALL = """
import sys
from dtt.cli.commands import run
from dtt.cli.table import COMMANDS
from tools.command_help import current
for name in COMMANDS:
    for option in ("--help", "-h"):
        assert run([*name.split(), option]) == 0
print("imported:", *sys.modules)
"""


class PreparedHelpTests(SynchronousTestCase):
    """
    L{dtt.cli.prepared}.
    """

    def test_is_current(self) -> None:
        """The file has the help that the options have."""
        prepared = json.loads(Path(PATH).read_text(encoding="utf-8"))
        self.assertEqual(prepared, current(), "run python -m tools.command_help")

    def test_imports(self) -> None:
        """The help of a command imports neither Twisted nor what the command runs."""
        command = [sys.executable, "-c", PRINT_ALL]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=True)
        shown, _, imported = done.stdout.rpartition("imported: ")
        for name in COMMANDS:
            self.assertIn(f"Usage: dtt {name} ", shown)
        tops = {module.split(".")[0] for module in imported.split()}
        self.assertEqual(tops & {"twisted", "zope", "attr", "asyncio", "treq", "nacl", "cryptography"}, set())
        of_dtt = {module for module in imported.split() if module.split(".")[0] == "dtt"}
        self.assertEqual(
            of_dtt,
            {"dtt", "dtt.app", "dtt.app.helptext", "dtt.cli", "dtt.errors"}
            | {f"dtt.cli.{each}" for each in ("commands", "prepared", "table")},
        )
