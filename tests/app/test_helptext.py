"""
Tests for L{dtt.app.helptext}.
"""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from dtt.app.helptext import columns_of, entries, is_dumb, paragraph, wrap


class HelpTextTests(SynchronousTestCase):
    """
    Tests for the layout.
    """

    def test_wrap(self) -> None:
        """A text is broken at blanks, and a longer word in itself."""
        self.assertEqual(wrap("", 10), [])
        self.assertEqual(wrap("  a \n b  ", 10), ["a b"])
        self.assertEqual(wrap("one two three", 7), ["one two", "three"])
        self.assertEqual(wrap("a abcdefgh b", 3), ["a", "abc", "def", "gh", "b"])

    def test_random(self) -> None:
        """No line is too long, and no character is lost, for any text and width."""
        for seed in range(300):
            rng = Random(seed)
            text = " ".join("x" * rng.randrange(1, 30) for _ in range(rng.randrange(20)))
            width = rng.randrange(1, 90)
            lines = wrap(text, width)
            self.assertLessEqual(max(map(len, lines), default=0), width, seed)
            self.assertEqual("".join(lines).replace(" ", ""), text.replace(" ", ""), seed)

    def test_entries(self) -> None:
        """Names and texts are side by side, or one above the other on a narrow terminal."""
        rows = [("-a", "Something to do."), ("--long-name", "Another one.")]
        self.assertEqual(entries(rows, 80), "  -a           Something to do.\n  --long-name  Another one.\n")
        self.assertEqual(
            entries(rows, 20), "  -a\n      Something to\n      do.\n  --long-name\n      Another one.\n"
        )
        self.assertEqual(entries([("x" * 40, "y")], 80), f"  {'x' * 40}\n{'':30}y\n")

    def test_paragraph(self) -> None:
        """A paragraph is indented."""
        self.assertEqual(paragraph("a b c", 5, 2), "  a b\n  c\n")

    def test_dumb(self) -> None:
        """A terminal of which nothing is known gets no control sequences."""
        self.assertEqual([is_dumb(term) for term in (None, "", "dumb", "xterm")], [True, True, True, False])

    def test_columns(self) -> None:
        """$COLUMNS comes first, then the terminal, then 80; never less than 20."""
        for environ, terminal, width in (
            ("", None, 80),
            ("", 100, 100),
            ("30", 100, 30),
            ("5", None, 20),
            ("", 3, 20),
            ("0", 50, 50),
            ("abc", 50, 50),
            ("-5", None, 80),
            ("9" * 5000, None, 80),
        ):
            self.assertEqual(columns_of(environ, terminal), width, (environ, terminal))
