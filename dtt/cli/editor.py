"""
Editing one line on a terminal.  Pure.

Rules: the terminal delivers each key without echo.  The line is shown in one row: if it is longer, only the
part around the cursor.  Text of other members never reaches this module, so it can't move the cursor.
"""

from __future__ import annotations

import codecs
import unicodedata
from collections.abc import Callable

from attrs import frozen

#: The maximum number of characters of a line, and of remembered lines (guesses).
MAX_CHARACTERS = 8192
MAX_HISTORY = 200

#: Removes the row of the cursor (ECMA-48: carriage return, erase in line).
CLEAR = "\r\x1b[K"

#: The maximum length of an escape sequence.
_MAX_SEQUENCE = 16


def columns(character: str) -> int:
    """
    Return how many columns of a terminal a character takes.
    """
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


@frozen(slots=True)
class Entered:
    """
    A line was entered.

    @ivar text: the line.
    """

    text: str


@frozen(slots=True)
class Ended:
    """
    The input was ended (Ctrl-D on an empty line).
    """


class LineEditor:
    """
    The line that is being typed.

    @ivar text: the line.
    @ivar cursor: where the next character goes, 0 to the length of the line.
    """

    def __init__(self) -> None:
        self.text = ""
        self.cursor = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._sequence = ""
        self._history: list[str] = []
        self._place = 0
        self._draft = ""
        self._keys: dict[str, Callable[[], None]] = {
            "\x01": self._home,
            "\x02": self._left,
            "\x04": self._delete,
            "\x05": self._end,
            "\x06": self._right,
            "\x08": self._backspace,
            "\x0b": self._kill,
            "\x0e": self._next,
            "\x10": self._previous,
            "\x15": self._clear,
            "\x17": self._word,
            "\x7f": self._backspace,
            "\x1b[A": self._previous,
            "\x1b[B": self._next,
            "\x1b[C": self._right,
            "\x1b[D": self._left,
            "\x1b[F": self._end,
            "\x1b[H": self._home,
            "\x1b[1~": self._home,
            "\x1b[3~": self._delete,
            "\x1b[4~": self._end,
        }

    def feed(self, data: bytes) -> list[Entered | Ended]:
        """
        Handle keys.

        @param data: what the terminal has sent.
        @return: the lines that were entered, and whether the input was ended.
        """
        found: list[Entered | Ended] = []
        for character in self._decoder.decode(data):
            if self._sequence or character == "\x1b":
                self._escape(character)
            elif character in "\r\n":
                found.append(Entered(self._entered()))
            elif character == "\x04" and not self.text:
                found.append(Ended())
            elif action := self._keys.get(character):
                action()
            elif character == "\t" or character.isprintable():
                self._insert(" " if character == "\t" else character)
        return found

    def render(self, prompt: str, width: int) -> str:
        """
        Return the characters that draw the line in the current row, with the cursor in its place.

        @param prompt: the text before the line.
        @param width: the width of the terminal in columns.
        """
        prompt = prompt[: max(width // 2, 1)]
        room = max(width - len(prompt) - 1, 1)
        before = ""
        used = 0
        for character in reversed(self.text[: self.cursor]):
            if used + columns(character) > room:
                break
            used += columns(character)
            before = character + before
        after = ""
        extra = 0
        for character in self.text[self.cursor :]:
            if used + extra + columns(character) > room:
                break
            extra += columns(character)
            after += character
        back = f"\x1b[{extra}D" if extra else ""
        return f"{CLEAR}{prompt}{before}{after}{back}"

    def _escape(self, character: str) -> None:
        self._sequence += character
        if len(self._sequence) == 2 and character in "[O":
            return
        if len(self._sequence) > 2 and not character.isalpha() and character != "~":
            if len(self._sequence) >= _MAX_SEQUENCE:
                self._sequence = ""
            return
        action = self._keys.get(self._sequence.replace("\x1bO", "\x1b["))
        if action is not None and len(self._sequence) > 1:
            action()
        if len(self._sequence) > 1:
            self._sequence = ""

    def _entered(self) -> str:
        text = self.text
        if text and self._history[-1:] != [text]:
            self._history = [*self._history[1 - MAX_HISTORY :], text]
        self._place, self._draft = len(self._history), ""
        self.text, self.cursor = "", 0
        return text

    def _insert(self, character: str) -> None:
        if len(self.text) < MAX_CHARACTERS:
            self.text = self.text[: self.cursor] + character + self.text[self.cursor :]
            self.cursor += 1

    def _backspace(self) -> None:
        if self.cursor:
            self.text = self.text[: self.cursor - 1] + self.text[self.cursor :]
            self.cursor -= 1

    def _delete(self) -> None:
        self.text = self.text[: self.cursor] + self.text[self.cursor + 1 :]

    def _home(self) -> None:
        self.cursor = 0

    def _end(self) -> None:
        self.cursor = len(self.text)

    def _left(self) -> None:
        self.cursor = max(self.cursor - 1, 0)

    def _right(self) -> None:
        self.cursor = min(self.cursor + 1, len(self.text))

    def _kill(self) -> None:
        self.text = self.text[: self.cursor]

    def _clear(self) -> None:
        self.text, self.cursor = self.text[self.cursor :], 0

    def _word(self) -> None:
        kept = self.text[: self.cursor].rstrip()
        kept = kept[: kept.rfind(" ") + 1]
        self.text, self.cursor = kept + self.text[self.cursor :], len(kept)

    def _recall(self, place: int) -> None:
        if self._place == len(self._history):
            self._draft = self.text
        self._place = place
        self.text = self._draft if place == len(self._history) else self._history[place]
        self.cursor = len(self.text)

    def _previous(self) -> None:
        if self._place > 0:
            self._recall(self._place - 1)

    def _next(self) -> None:
        if self._place < len(self._history):
            self._recall(self._place + 1)
