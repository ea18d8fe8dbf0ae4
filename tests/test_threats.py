"""
Tests that what the page on threats names as proof exists.
"""

from __future__ import annotations

import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "explanation" / "threats.md").read_text("utf-8")


class ThreatsTests(SynchronousTestCase):
    """
    The last column of the tables of docs/explanation/threats.md.
    """

    def test_tests(self) -> None:
        """Each test module that is named exists, and has tests."""
        named = set(re.findall(r"`(tests\.[a-z0-9_.]+)`", PAGE))
        self.assertGreater(len(named), 20)
        for name in sorted(named):
            path = (ROOT / name.replace(".", "/")).with_suffix(".py")
            self.assertTrue(path.is_file(), name)
            self.assertIn("def test_", path.read_text("utf-8"), name)

    def test_scenarios(self) -> None:
        """Each scenario that is named exists."""
        if find_spec("dtt.testing.simulate") is None:
            raise SkipTest("there is no dtt.testing.simulate")
        rows = [line.rsplit("|", 2)[-2] for line in PAGE.splitlines() if line.startswith("|")]
        named = {
            name
            for row in rows
            for part in re.findall(r"scenarios? ((?:`[a-z0-9-]+`(?:, | and )?)+)", row)
            for name in re.findall(r"`([a-z0-9-]+)`", part)
        }
        self.assertGreater(len(named), 10)
        scenarios = import_module("dtt.testing.simulate.scenarios").SCENARIOS
        self.assertEqual(named - set(scenarios), set())
