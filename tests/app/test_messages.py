"""
Tests for L{dtt.app.messages}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dtt.app.messages import MAX_MESSAGE, one_line


class OneLineTests(SynchronousTestCase):
    """
    Tests for L{one_line}.
    """

    def test_unchanged(self) -> None:
        """
        Text of any language stays as it is.
        """
        for text in ("", "a file", "gr\u00fc\u00df", "\u4e16\u754c \U0001f44b", "a\\b"):
            self.assertEqual(one_line(text), text)

    def test_escaped(self) -> None:
        """
        Line ends, characters that control a terminal or turn the direction of the text, and
        halves of characters are escaped, as in Python.
        """
        for character, escape in (
            ("\n", "\\n"),
            ("\r", "\\r"),
            ("\x1b", "\\x1b"),
            ("\x9b", "\\x9b"),
            ("\x7f", "\\x7f"),
            ("\0", "\\x00"),
            ("\u2028", "\\u2028"),
            ("\u202e", "\\u202e"),
            ("\udc80", "\\udc80"),
            ("\U000e0001", "\\U000e0001"),
        ):
            self.assertEqual(one_line(f"a{character}b"), f"a{escape}b")

    def test_length(self) -> None:
        """
        Only a message that is longer than the limit, with its escapes, is cut.
        """
        longest = "x" * MAX_MESSAGE
        self.assertEqual(one_line(longest), longest)
        cut = "x" * (MAX_MESSAGE - 3) + "..."
        for text in (longest + "x", longest * 1000, longest[:-1] + "\n"):
            self.assertEqual(one_line(text), cut)
        self.assertEqual(len(one_line("\U000e0001" * 10**5)), MAX_MESSAGE)
