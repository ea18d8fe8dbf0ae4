"""
A line on a terminal that shows what a command waits for; nothing in a pipe.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from dtt.app.helptext import is_dumb
from dtt.app.usage import terminal_width

#: Removes the line from the terminal (ECMA-48: carriage return, erase in line).
_CLEAR = "\r\x1b[K"


class Progress:
    """
    One line on standard error that shows the progress, if standard error is a terminal that supports it.
    """

    def __init__(self) -> None:
        self._shown = False
        try:
            self._usable = sys.stderr.isatty() and not is_dumb(os.environ.get("TERM"))
        except (ValueError, AttributeError):  # it is closed
            self._usable = False

    def show(self, text: str) -> None:
        """
        Replace the text.
        """
        if self._usable:
            self._shown = True
            self._write(_CLEAR + text[: terminal_width() - 1])

    def clear(self) -> None:
        """
        Remove the text.
        """
        if self._shown:
            self._shown = False
            self._write(_CLEAR)

    def _write(self, text: str) -> None:
        with suppress(OSError, ValueError):
            sys.stderr.write(text)
            sys.stderr.flush()
