"""
Tests for L{dtt.testing.simulate.setting}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dtt.testing.simulate.setting import RULES, Setting
from dtt.testing.storage.nodes import MIX


class SettingTests(SynchronousTestCase):
    """
    Tests for L{Setting}.
    """

    def test_rules(self) -> None:
        """
        A rule is one of those that there are.
        """
        for rule in RULES:
            self.assertEqual(Setting(rule=rule).rule, rule)
        error = self.assertRaises(ValueError, Setting, rule="other")
        self.assertEqual(str(error), "rule must be one of dtt, upstream")

    def test_defaults(self) -> None:
        """
        Each world has its own mix of nodes, which may be changed.
        """
        one, other = Setting(), Setting()
        self.assertEqual(one.manners, MIX)
        self.assertIsNot(one.manners, other.manners)
        self.assertIsNot(one.manners, MIX)

    def test_secret(self) -> None:
        """
        The secret is not shown.
        """
        self.assertNotIn("between us", repr(Setting(secret=b"between us")))
