"""
Tests for L{dtt.cli.people}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dtt.cli.people import MAX_NICK, MAX_PEOPLE, People, ago

ALICE, BOB = "a" * 64, "b" * 64


class PeopleTests(SynchronousTestCase):
    """
    Tests for L{People}.
    """

    def test_lines(self) -> None:
        """All that were heard of are listed, neighbours first, then the latest."""
        people = People()
        people.heard(ALICE, 0, "wrote", "alice")
        people.heard(BOB, 60, "has a record, found")
        self.assertEqual(
            people.lines(120, frozenset()),
            ["bbbbbbbbbb, has a record, found 1 min ago", "alice aaaaaaaaaa, wrote 2 min ago"],
        )
        self.assertEqual(
            people.lines(120, frozenset([ALICE, "c" * 64])),
            [
                "cccccccccc, direct neighbour",
                "alice aaaaaaaaaa, direct neighbour, wrote 2 min ago",
                "bbbbbbbbbb, has a record, found 1 min ago",
            ],
        )

    def test_names(self) -> None:
        """A name is always beside digits of the id, is bounded, and stays until another is said."""
        people = People()
        self.assertEqual(people.name(ALICE), "aaaaaaaaaa")
        people.heard(ALICE, 0, "wrote", "x" * 100)
        people.heard(ALICE, 1, "connected")
        self.assertEqual(people.name(ALICE), f"{'x' * MAX_NICK} aaaaaaaaaa")
        people.heard(ALICE, 2, "wrote", "")
        self.assertEqual(people.name(ALICE), "aaaaaaaaaa")

    def test_bounded(self) -> None:
        """Those heard of longest ago are forgotten."""
        people = People()
        for number in range(MAX_PEOPLE + 10):
            people.heard(f"{number:064x}", number, "wrote")
        self.assertEqual(len(people.lines(0, frozenset())), MAX_PEOPLE)
        self.assertEqual(people.name(f"{5:064x}"), f"{5:064x}"[:10])

    def test_ago(self) -> None:
        """Times are in words."""
        self.assertEqual(
            [ago(each) for each in (0, 30, 90, 3600, 7200)],
            ["now", "30 s ago", "2 min ago", "60 min ago", "2 h ago"],
        )
