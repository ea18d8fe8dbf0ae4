"""
Tests for L{dtt.cli.editor}.
"""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from dtt.cli.editor import CLEAR, MAX_CHARACTERS, Ended, Entered, LineEditor, columns


class LineEditorTests(SynchronousTestCase):
    """
    Tests for L{LineEditor}.
    """

    def typed(self, keys: bytes, *more: bytes) -> LineEditor:
        """Return an editor after keys that enter nothing."""
        editor = LineEditor()
        for each in (keys, *more):
            self.assertEqual(editor.feed(each), [])
        return editor

    def test_keys(self) -> None:
        """Each key does what it does in a shell."""
        for keys, text, cursor in (
            (b"abc", "abc", 3),
            (b"abc\x7f", "ab", 2),
            (b"\x7f", "", 0),
            (b"abc\x1b[D\x1b[Dx", "axbc", 2),
            (b"abc\x1bOD\x08", "ac", 1),
            (b"abc\x01x\x05y", "xabcy", 5),
            (b"abc\x1b[H\x1b[3~", "bc", 0),
            (b"abc\x1b[1~\x1b[C\x0b", "a", 1),
            (b"abc\x02\x02\x06\x15", "c", 0),
            (b"one two \x17", "one ", 4),
            (b"one\x17\x17", "", 0),
            (b"a\tb", "a b", 3),
            (b"a\x00\x1b[200~b\x1bxc\x0c", "abc", 3),
            (b"\x1b" + b"[" + b"1" * 40 + b"b", "1" * 26 + "b", 27),
            (b"abc\x1b[D\x04", "ab", 2),
        ):
            editor = self.typed(keys)
            self.assertEqual((editor.text, editor.cursor), (text, cursor), keys)

    def test_enter(self) -> None:
        """Enter ends a line; Ctrl-D on an empty one ends the input."""
        editor = LineEditor()
        self.assertEqual(editor.feed(b"a\nb\r\n\x04c"), [Entered("a"), Entered("b"), Entered(""), Ended()])
        self.assertEqual(editor.text, "c")

    def test_characters_in_parts(self) -> None:
        """A character may arrive in parts; bytes that are not text are replaced."""
        self.assertEqual(self.typed("ä".encode()[:1], "ä".encode()[1:]).text, "ä")
        self.assertEqual(self.typed(b"\xffa").text, "\ufffda")

    def test_history(self) -> None:
        """The up key brings back earlier lines, the down key what was being typed."""
        editor = LineEditor()
        editor.feed(b"one\none\ntwo\nthr")
        for key, text in (
            (b"\x1b[A", "two"),
            (b"\x10", "one"),
            (b"\x1b[A", "one"),
            (b"\x1b[B", "two"),
            (b"\x0e", "thr"),
            (b"\x1b[B", "thr"),
        ):
            editor.feed(key)
            self.assertEqual(editor.text, text)

    def test_render(self) -> None:
        """The line is shown with the cursor in its place; of a longer one, the part around it."""
        self.assertEqual(self.typed(b"abc").render("> ", 20), f"{CLEAR}> abc")
        self.assertEqual(self.typed(b"abc\x02").render("> ", 20), f"{CLEAR}> abc\x1b[1D")
        self.assertEqual(self.typed(b"abcdefgh").render("> ", 8), f"{CLEAR}> defgh")
        self.assertEqual(self.typed(b"abcdefgh\x01").render("> ", 8), f"{CLEAR}> abcde\x1b[5D")

    def test_one_row(self) -> None:
        """Whatever is typed, what is shown has one row, and no character that moves the cursor."""
        for seed in range(300):
            rng = Random(seed)
            editor = LineEditor()
            editor.feed(bytes(rng.choices(b"ab \x1b[DCA3~\x01\x7f\x17\xe4\xb8\x96", k=rng.randrange(200))))
            width = rng.randrange(20, 80)
            shown = editor.render("> ", width).removeprefix(CLEAR).split("\x1b[")[0]
            self.assertLess(sum(map(columns, shown)), width, seed)
            self.assertTrue(shown.isprintable(), seed)
            self.assertLessEqual(editor.cursor, len(editor.text), seed)

    def test_bounded(self) -> None:
        """A line has a maximum length."""
        self.assertEqual(len(self.typed(b"x" * (MAX_CHARACTERS + 10)).text), MAX_CHARACTERS)

    def test_columns(self) -> None:
        """Some characters take two columns or none."""
        self.assertEqual([columns(each) for each in "a世\u0301\u200b"], [1, 2, 0, 0])
