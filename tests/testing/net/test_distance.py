"""
Tests for L{dtt.testing.net.distance}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dtt.testing.net.distance import Division, between


class DistanceTests(SynchronousTestCase):
    """
    Tests for L{between} and L{Division}.
    """

    def test_between(self) -> None:
        """
        A value is that of all pairs; a function gets the sender first.
        """
        self.assertEqual(between(0.5, "a", "b"), 0.5)
        self.assertEqual(between(lambda sender, receiver: ord(sender) - ord(receiver), "c", "a"), 2)

    def test_whole(self) -> None:
        """
        By default everybody reaches everybody.
        """
        self.assertFalse(Division().separates("a", "b"))

    def test_parts(self) -> None:
        """
        Hosts of different parts do not reach each other; those of no part reach all.
        """
        division = Division()
        division.parts.update(a=0, b=1, c=1)
        for one, other, expected in (
            ("a", "b", True),
            ("b", "a", True),
            ("b", "c", False),
            ("a", "d", False),
            ("d", "b", False),
            ("d", "e", False),
        ):
            self.assertEqual(division.separates(one, other), expected, (one, other))

    def test_severed(self) -> None:
        """
        A pair can be severed, in both directions, within a part or without any.
        """
        division = Division()
        division.severed.add(frozenset(("a", "b")))
        self.assertTrue(division.separates("a", "b"))
        self.assertTrue(division.separates("b", "a"))
        self.assertFalse(division.separates("a", "c"))
        division.parts.update(a=0, b=0)
        self.assertTrue(division.separates("a", "b"))
