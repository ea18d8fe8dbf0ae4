"""
The mode of the terminal while a line is edited.

Rules: an orderly end of the process restores the mode; so does Ctrl-Z, and C{fg} sets it again.  The terminal
still sends signals: Ctrl-C works as usual.
"""

from __future__ import annotations

import os
import signal
import termios
from collections.abc import Callable
from contextlib import suppress
from typing import Any

_LFLAG, _CC = 3, 6


class RawTerminal:
    """
    A terminal that delivers each key without echo.
    """

    def __init__(self, descriptor: int) -> None:
        """
        @param descriptor: a terminal.
        """
        self._descriptor = descriptor
        self._before: list[Any] | None = None
        self._suspended: Any = None

    def enter(self, on_resume: Callable[[], None]) -> bool:
        """
        Set the mode.

        @param on_resume: called in a signal handler when the process resumes after Ctrl-Z.
        @return: whether that is possible.
        """
        try:
            self._before = termios.tcgetattr(self._descriptor)
            self._set()
        except (termios.error, OSError):
            self._before = None
            return False

        def suspend(number: int, frame: Any) -> None:
            self._restore()
            os.kill(os.getpid(), signal.SIGSTOP)
            # The process resumes here after SIGCONT.
            with suppress(termios.error, OSError):
                self._set()
            on_resume()

        if signal.getsignal(signal.SIGTSTP) == signal.SIG_DFL:
            self._suspended = signal.signal(signal.SIGTSTP, suspend)
        return True

    def leave(self) -> None:
        """
        Restore the mode.
        """
        self._restore()
        self._before = None
        if self._suspended is not None:
            signal.signal(signal.SIGTSTP, self._suspended)
            self._suspended = None

    def _set(self) -> None:
        assert self._before is not None
        mode = [*self._before]
        mode[_LFLAG] &= ~(termios.ICANON | termios.ECHO)
        mode[_CC] = [*mode[_CC]]
        mode[_CC][termios.VMIN], mode[_CC][termios.VTIME] = 1, 0
        termios.tcsetattr(self._descriptor, termios.TCSADRAIN, mode)

    def _restore(self) -> None:
        if self._before is not None:
            with suppress(termios.error, OSError):
                termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._before)
