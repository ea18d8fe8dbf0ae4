"""
Tests for docs/explanation/comparison.md: the program of dtt works, and the lines are counted
rightly.
"""

from __future__ import annotations

import re

from twisted.trial.unittest import SynchronousTestCase

from tests.aio.test_docs import run_program
from tests.test_docs import page


class ComparisonTests(SynchronousTestCase):
    """
    The page.
    """

    def test_program(self) -> None:
        """
        The program of dtt greets, and prints what it hears and from whom.
        """
        (code,) = re.findall(r"```python\n(.*?)```", page("explanation/comparison.md"), re.DOTALL)
        peer = b"p" * 32
        sent, output, own = run_program(self, code, [(b"hello", peer)])
        self.assertEqual(sent, [b"hello from " + own.hex().encode()])
        self.assertEqual(output, f"{peer.hex()} b'hello'\n")

    def test_lines(self) -> None:
        """
        The table has the number of lines of each program.
        """
        text = page("explanation/comparison.md")
        blocks = re.findall(r"```\w+\n(.*?)```", text, re.DOTALL)
        counts = [sum(1 for line in block.splitlines() if line.strip()) for block in blocks]
        (row,) = re.findall(r"^\| lines \|(.*)\|$", text, re.MULTILINE)
        self.assertEqual([int(cell) for cell in row.split("|")], counts)
