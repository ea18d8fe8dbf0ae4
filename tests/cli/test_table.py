"""
Tests for L{dtt.cli.table}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dtt.app.usage import VersionedOptions
from dtt.cli import commands
from dtt.cli.table import COMMANDS, EXIT_CODES, GROUPS, SUMMARIES


class TableTests(SynchronousTestCase):
    """
    Tests for the table of the commands.
    """

    def test_classes(self) -> None:
        """Each command of the table has a class, whose help names it and explains it in sentences."""
        for name in COMMANDS:
            options = commands.options_of(name)
            self.assertIsInstance(options, VersionedOptions)
            self.assertIn(f"dtt {name}", options.getSynopsis())
            self.assertTrue(options.longdesc.strip().endswith("."), name)

    def test_summaries(self) -> None:
        """A summary is one sentence, for every command and for C{help}, which has no class."""
        self.assertEqual(set(SUMMARIES) - set(COMMANDS), {"help"})
        for name, summary in SUMMARIES.items():
            self.assertRegex(summary, r"^[A-Z][^.]*\.$", name)

    def test_names(self) -> None:
        """Names differ, and have one word or two; the first of two words is not itself a command."""
        names = [name for _, rows in GROUPS for name, *_ in rows]
        self.assertEqual(len(set(names)), len(names))
        for name in names:
            self.assertRegex(name, r"^[a-z]+(-[a-z]+)?( [a-z]+)?$")
            if " " in name:
                self.assertNotIn(name.split()[0], names)

    def test_exit_codes(self) -> None:
        """The exit codes of the help are those that the commands use."""
        used = {0, commands.FAILED, commands.WRONG_USAGE, commands.NOT_FOUND, commands.NO_SERVICE}
        self.assertEqual([int(code) for code, _ in EXIT_CODES], sorted(used))
