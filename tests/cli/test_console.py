"""
Tests for L{dtt.cli.console}.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import Any, cast

from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from dtt.cli import console as console_module
from dtt.cli.console import MAX_LINE, Console
from dtt.cli.editor import CLEAR
from dtt.cli.terminal import RawTerminal


class Chat:
    """
    A conversation that notes everything.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.lost = False
        self.heard: list[str] = []
        self.ends: list[str] = []

    def say(self, text: str) -> None:
        """Note a line."""
        self.heard.append(text)

    def typed(self, text: str) -> None:
        """Note a typed line."""
        self.heard.append(f"typed {text}")

    def show(self, text: str) -> None:
        """Write a notice."""
        self.console.write(f"{text}\n")

    def prompt(self, text: str) -> str:
        """Return the prompt."""
        return f"{len(text)}> "

    def input_ended(self) -> None:
        """Note the end of the input."""
        self.ends.append("input")

    def output_lost(self) -> None:
        """Note the loss of the output."""
        self.ends.append("output")


class ConsoleTestCase(SynchronousTestCase):
    """
    A connected console.
    """

    def setUp(self) -> None:
        """Connect it."""
        self.console = Console()
        self.chat = self.console.chat = Chat(self.console)
        self.transport = StringTransport()
        self.console.makeConnection(self.transport)

    def written(self) -> str:
        """Return what was written since the last call."""
        text: str = self.transport.value().decode()
        self.transport.clear()
        return text


class PipeTests(ConsoleTestCase):
    """
    Tests for input and output that are no terminal.
    """

    def test_interfaces(self) -> None:
        """The console provides what the transport expects of it."""
        verifyObject(IHalfCloseableProtocol, self.console)
        verifyObject(IPushProducer, self.console)
        self.assertIs(self.transport.producer, self.console)
        self.assertTrue(self.transport.streaming)

    def test_lines(self) -> None:
        """Lines may arrive in pieces; their ends, and bytes that are no text, are replaced."""
        for data in (b"on", b"e\r\ntwo\n\nth", b"\xc3", b"\xbc\n\xff\n", b"/quit\n"):
            self.console.dataReceived(data)
        self.assertEqual(self.chat.heard, ["one", "two", "", "th\u00fc", "\ufffd", "/quit"])

    def test_last_line(self) -> None:
        """A last line needs no newline."""
        self.console.dataReceived(b"one\ntwo")
        self.console.readConnectionLost()
        self.assertEqual((self.chat.heard, self.chat.ends), (["one", "two"], ["input"]))
        self.assertEqual(self.written(), "")

    def test_endless_line(self) -> None:
        """
        An endless line does not exhaust the memory, is reported once and counts as lost, and no
        part of it is taken; the next line is.
        """
        for _ in range(10):
            self.console.dataReceived(b"x" * (MAX_LINE // 3))
            self.assertLessEqual(len(self.console._rest), MAX_LINE)
        self.console.dataReceived(b"its end\nafter\nmore")
        self.console.dataReceived(b"\n")
        self.assertEqual(self.chat.heard, ["after", "more"])
        self.assertEqual(self.written(), "! a line was too long and was not sent\n")
        self.assertTrue(self.chat.lost)

    def test_longest_line(self) -> None:
        """The longest line that need not be complete is taken whole."""
        self.console.dataReceived(b"x" * MAX_LINE)
        self.console.dataReceived(b"\n")
        self.assertEqual(self.chat.heard, ["x" * MAX_LINE])

    def test_endless_last_line(self) -> None:
        """No part of an endless line is taken at the end of the input either."""
        self.console.dataReceived(b"x" * (MAX_LINE + 1))
        self.console.dataReceived(b"more")
        self.console.readConnectionLost()
        self.assertEqual([line for line in self.chat.heard if line], [])
        self.assertEqual(self.chat.ends, ["input"])

    def test_read_on(self) -> None:
        """Reading is paused and resumed only when that changes something."""
        calls: list[str] = []
        self.patch(self.transport, "pauseProducing", lambda: calls.append("pause"))
        self.patch(self.transport, "resumeProducing", lambda: calls.append("resume"))
        for more in (True, False, False, True, True):
            self.console.read_on(more)
        self.assertEqual(calls, ["pause", "resume"])

    def test_unread(self) -> None:
        """
        While the output is full, a bounded number of bytes is buffered; what was dropped is
        reported once it is read again.
        """
        self.patch(console_module, "MAX_UNREAD", 6)
        self.console.write("before\n" * 10)
        self.written()
        self.console.pauseProducing()
        for text in ("\u00fc\n", "b\n", "\u00fc\n", "c\n"):
            self.console.write(text)
        self.assertEqual((self.written(), self.chat.lost), ("\u00fc\nb\n", True))
        self.console.resumeProducing()
        self.assertEqual(self.written(), "! 2 events dropped: the output was not read fast enough\n")
        self.console.pauseProducing()
        self.console.resumeProducing()
        self.assertEqual(self.written(), "")

    def test_room_again(self) -> None:
        """If nothing was dropped, nothing is reported; each pause counts anew."""
        self.patch(console_module, "MAX_UNREAD", 4)
        for _ in range(3):
            self.console.pauseProducing()
            self.console.write("abc\n")
            self.console.resumeProducing()
        self.assertEqual((self.written(), self.chat.lost), ("abc\n" * 3, False))

    def test_one_dropped(self) -> None:
        """One is not several."""
        self.patch(console_module, "MAX_UNREAD", 0)
        self.console.pauseProducing()
        self.console.write("a\n")
        self.console.resumeProducing()
        self.assertIn("! 1 event dropped", self.written())

    def test_close(self) -> None:
        """Closing waits until everything is written; our own closing is not a loss."""
        self.console.write("a\n")
        closed = self.console.close()
        self.assertTrue(self.transport.disconnecting)
        self.console.write("dropped")
        self.assertNoResult(closed)
        self.console.connectionLost()
        self.successResultOf(closed)
        self.assertIs(self.console.close(), closed)
        self.console.stopProducing()
        self.assertEqual((self.written(), self.chat.ends), ("a\n", []))

    def test_lost(self) -> None:
        """The loss of the output, alone or with the input, is reported once; nothing is written after it."""
        for lose in (self.console.writeConnectionLost, self.console.connectionLost):
            self.setUp()
            getattr(self.console, lose.__name__)()
            self.assertEqual(self.chat.ends, ["output"])
            self.console.write("dropped")
            self.assertEqual(self.written(), "")
            self.successResultOf(self.console.close())
            self.console.connectionLost()
            self.assertEqual(self.chat.ends, ["output"])

    def test_no_terminal(self) -> None:
        """If the terminal can't be used, the input is a pipe, and there is nothing to restore."""
        terminal = Terminal(False)
        self.console.edit(cast(RawTerminal, terminal), lambda call: call())
        self.console.dataReceived(b"ab\x7fc\n")
        self.console.restore()
        self.assertEqual((self.chat.heard, terminal.left), (["ab\x7fc"], 0))
        self.assertEqual(self.written(), "")


class Terminal:
    """
    A terminal whose mode can be set, or not.
    """

    def __init__(self, usable: bool = True) -> None:
        self.usable = usable
        self.left = 0
        self.resume: Callable[[], None] | None = None

    def enter(self, on_resume: Callable[[], None]) -> bool:
        """Set the mode."""
        self.resume = on_resume
        return self.usable

    def leave(self) -> None:
        """Restore the mode."""
        self.left += 1


class TerminalTests(ConsoleTestCase):
    """
    Tests for a terminal with a line editor.
    """

    def setUp(self) -> None:
        """Edit a line."""
        super().setUp()
        self.patch(console_module, "terminal_width", lambda: 40)
        self.terminal = Terminal()
        self.later: list[Any] = []
        self.console.edit(cast(RawTerminal, self.terminal), self.later.append)

    def test_prompt(self) -> None:
        """The prompt is there at once, and follows each key."""
        self.assertEqual(self.written(), f"{CLEAR}0> ")
        self.console.dataReceived(b"ab")
        self.assertEqual(self.written(), f"{CLEAR}2> ab")

    def test_entered(self) -> None:
        """An entered line stays above the next prompt, and is handled as typed."""
        self.written()
        self.console.dataReceived(b"ab\x7fc\nd")
        self.assertEqual(self.written(), f"{CLEAR}0> ac\n{CLEAR}1> d")
        self.assertEqual(self.chat.heard, ["typed ac"])

    def test_output(self) -> None:
        """Output appears above the line that is being typed."""
        self.console.dataReceived(b"ab")
        self.written()
        self.console.write("news\n")
        self.assertEqual(self.written(), f"{CLEAR}news\n{CLEAR}2> ab")

    def test_end(self) -> None:
        """Ctrl-D ends the input."""
        self.console.dataReceived(b"\x04")
        self.assertEqual(self.chat.ends, ["input"])

    def test_resumed(self) -> None:
        """After Ctrl-Z, the line is drawn again, in the reactor and not in the signal handler."""
        self.console.dataReceived(b"ab")
        self.written()
        assert self.terminal.resume is not None
        self.terminal.resume()
        self.assertEqual(self.written(), "")
        (redraw,) = self.later
        redraw()
        self.assertEqual(self.written(), f"{CLEAR}2> ab")

    def test_close(self) -> None:
        """The prompt is removed at the end, and the terminal is given back once."""
        self.written()
        self.console.close()
        self.assertEqual(self.written(), CLEAR)
        self.console.redraw()
        self.assertEqual(self.written(), "")
        for _ in range(2):
            self.console.restore()
        self.assertEqual(self.terminal.left, 1)

    def test_encoding(self) -> None:
        """A terminal gets its own encoding; characters that it lacks are replaced."""
        self.written()
        self.patch(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "latin-1"))
        self.console.write("\u00fc\u4e16\n")
        self.assertIn(b"\xfc?\n", self.transport.value())
