"""
Tests for L{dtt.cli.terminal}.
"""

from __future__ import annotations

import os
import signal
import termios
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dtt.cli.terminal import RawTerminal


class RawTerminalTests(SynchronousTestCase):
    """
    Tests for L{RawTerminal} on a pseudo-terminal.
    """

    def setUp(self) -> None:
        """Open a terminal; no signal stops the test."""
        self.other, self.descriptor = os.openpty()
        self.addCleanup(os.close, self.other)
        self.addCleanup(os.close, self.descriptor)
        self.addCleanup(signal.signal, signal.SIGTSTP, signal.getsignal(signal.SIGTSTP))
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        self.before = self.mode()
        self.resumed: list[bool] = []
        self.terminal = RawTerminal(self.descriptor)

    def mode(self) -> list[Any]:
        """Return the mode of the terminal."""
        return termios.tcgetattr(self.descriptor)

    def is_raw(self) -> bool:
        """Return whether each key is delivered without echo, while Ctrl-C still sends a signal."""
        flags = self.mode()[3]
        self.assertTrue(flags & termios.ISIG)
        return not flags & (termios.ICANON | termios.ECHO)

    def resume(self) -> None:
        """Note the mode in which the process resumes."""
        self.resumed.append(self.is_raw())

    def test_restored(self) -> None:
        """The mode is set, and restored exactly, also if that is done twice."""
        self.assertFalse(self.is_raw())
        self.assertTrue(self.terminal.enter(self.resume))
        self.assertTrue(self.is_raw())
        self.assertEqual(self.mode()[6][termios.VMIN], 1)
        for _ in range(2):
            self.terminal.leave()
            self.assertEqual(self.mode(), self.before)
            self.assertEqual(signal.getsignal(signal.SIGTSTP), signal.SIG_DFL)

    def test_again(self) -> None:
        """The mode may be set again later."""
        for _ in range(2):
            self.assertTrue(self.terminal.enter(self.resume))
            self.assertTrue(self.is_raw())
            self.terminal.leave()
        self.assertEqual(self.mode(), self.before)

    def test_suspended(self) -> None:
        """Ctrl-Z stops the process with the former mode; when it resumes, the mode is set again."""
        stopped: list[Any] = []
        self.patch(os, "kill", lambda process, number: stopped.append((process, number, self.mode())))
        self.terminal.enter(self.resume)
        signal.raise_signal(signal.SIGTSTP)
        self.assertEqual(stopped, [(os.getpid(), signal.SIGSTOP, self.before)])
        self.assertEqual(self.resumed, [True])
        self.terminal.leave()
        self.assertEqual(self.mode(), self.before)

    def test_signal_of_another(self) -> None:
        """A handler that is installed, or an ignored signal, stays."""
        signal.signal(signal.SIGTSTP, signal.SIG_IGN)
        self.assertTrue(self.terminal.enter(self.resume))
        self.assertEqual(signal.getsignal(signal.SIGTSTP), signal.SIG_IGN)
        self.terminal.leave()
        self.assertEqual(signal.getsignal(signal.SIGTSTP), signal.SIG_IGN)

    def test_no_terminal(self) -> None:
        """What is no terminal, or is closed, is left alone."""
        reader, writer = os.pipe()
        self.addCleanup(os.close, reader)
        terminal = RawTerminal(writer)
        self.assertFalse(terminal.enter(self.resume))
        self.assertEqual(signal.getsignal(signal.SIGTSTP), signal.SIG_DFL)
        terminal.leave()
        os.close(writer)
        self.assertFalse(RawTerminal(writer).enter(self.resume))

    def test_disconnected(self) -> None:
        """A terminal that has been disconnected meanwhile is no error."""
        self.terminal.enter(self.resume)

        def fail(*arguments: Any) -> None:
            raise termios.error(5, "Input/output error")

        self.patch(termios, "tcsetattr", fail)
        self.patch(os, "kill", lambda process, number: None)
        signal.raise_signal(signal.SIGTSTP)
        self.terminal.leave()
        self.assertEqual(signal.getsignal(signal.SIGTSTP), signal.SIG_DFL)
        self.assertFalse(self.terminal.enter(self.resume))
