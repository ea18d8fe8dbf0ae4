"""
The console of C{dtt chat}: standard input and output, or a terminal with a line editor, above which messages
appear.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, cast
from typing import Protocol as Interface

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from dtt.app.usage import terminal_width
from dtt.cli.editor import CLEAR, Ended, Entered, LineEditor
from dtt.cli.terminal import RawTerminal
from dtt.events import count_of

#: The maximum size of a line that is not yet complete, in bytes (guess: far more than
#: can be broadcast).
MAX_LINE = 65536

#: The maximum size of buffered output in bytes, if its reader is slow; further output
#: is dropped, because other members determine how much there is (guess).
MAX_UNREAD = 16 * 1024 * 1024


class Conversation(Interface):
    """
    The chat, as a console uses it.
    """

    lost: bool

    def say(self, text: str) -> None:
        """
        Send a line of the input.
        """

    def typed(self, text: str) -> None:
        """
        Handle a line that was typed on a terminal: a command, or a line to send.
        """

    def show(self, text: str) -> None:
        """
        Show a notice.
        """

    def prompt(self, text: str) -> str:
        """
        Return the prompt for the line that is being typed.
        """

    def input_ended(self) -> None:
        """
        The input has ended.
        """

    def output_lost(self) -> None:
        """
        The output can't be written.
        """


@implementer(IHalfCloseableProtocol, IPushProducer)
class Console(Protocol):
    """
    Standard input and output.  It is also the producer of the output, for flow
    control.

    @ivar chat: the conversation; set before the console is connected.
    @ivar closed: fires when L{close} has written everything.
    """

    chat: Conversation

    def __init__(self) -> None:
        self.closed: Deferred[None] = Deferred()
        self._writable = False
        self._rest = b""
        self._skipping = False
        self._reading = True
        self._unread: int | None = None  # bytes written since the output was full
        self._dropped = 0
        self._editor: LineEditor | None = None
        self._terminal: RawTerminal | None = None

    def edit(self, terminal: RawTerminal, on_resume: Callable[[Callable[[], None]], None]) -> None:
        """
        Let the user edit a line, if the terminal supports it.

        @param terminal: the terminal at standard input.
        @param on_resume: calls its argument in the reactor, from a signal handler.
        """
        if terminal.enter(lambda: on_resume(self.redraw)):
            self._terminal, self._editor = terminal, LineEditor()
            self.redraw()

    def redraw(self) -> None:
        """
        Draw the line that is being typed again.
        """
        if self._editor is not None and self._writable:
            self._put(self._editor.render(self.chat.prompt(self._editor.text), terminal_width()))

    def restore(self) -> None:
        """
        Restore the mode of the terminal.  May be called more than once.
        """
        if self._terminal is not None:
            self._terminal.leave()
            self._terminal = None

    def connectionMade(self) -> None:
        """
        Register as the producer of the output, to be paused when it is full.
        """
        self._writable = True
        cast(Any, self.transport).registerProducer(self, True)

    def close(self) -> Deferred[None]:
        """
        Write buffered output, and stop reading and writing.

        @return: L{closed}.
        """
        if self._writable:
            if self._editor is not None:
                self._put(CLEAR)
            self._writable = False
            cast(Any, self.transport).loseConnection()
        elif not self.closed.called:
            self.closed.callback(None)
        return self.closed

    def read_on(self, more: bool) -> None:
        """
        Pause or resume reading the input.

        @param more: whether to read.
        """
        if more is not self._reading:
            self._reading = more
            transport = cast(Any, self.transport)
            (transport.resumeProducing if more else transport.pauseProducing)()

    def write(self, text: str) -> None:
        """
        Write C{text}, one or more lines, to the output.
        """
        if not self._writable:
            return
        if self._editor is not None:
            text = CLEAR + text
        self._put(text)
        self.redraw()

    def _put(self, text: str) -> None:
        encoding = "utf-8" if self._editor is None else getattr(sys.stdout, "encoding", None) or "utf-8"
        data = text.encode(encoding, "replace")
        if self._unread is not None:
            if self._unread + len(data) > MAX_UNREAD:
                self._dropped += 1
                self.chat.lost = True
                return
            self._unread += len(data)
        cast(Any, self.transport).write(data)

    def pauseProducing(self) -> None:
        """
        The output is full: count what is buffered from now on.
        """
        self._unread = 0

    def resumeProducing(self) -> None:
        """
        The output has drained: report dropped events.
        """
        self._unread = None
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            self.chat.show(f"! {count_of(dropped, 'event')} dropped: the output was not read fast enough")

    def stopProducing(self) -> None:
        """
        The output is closed: nothing to do.
        """

    def dataReceived(self, data: bytes) -> None:
        """
        Broadcast each complete line of the input.  Lines that are far too long are
        discarded.
        """
        if self._editor is not None:
            self._edited(self._editor, data)
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if self._skipping:
                self._skipping = False
            else:
                self._say(line)
        if self._skipping:
            self._rest = b""
        elif len(self._rest) > MAX_LINE:
            self._rest, self._skipping = b"", True
            self.chat.lost = True
            self.chat.show("! a line was too long and was not sent")

    def _edited(self, editor: LineEditor, data: bytes) -> None:
        for result in editor.feed(data):
            match result:
                case Entered(text):
                    # The entered line stays above the prompt, as in a shell.
                    self._put(f"{CLEAR}{self.chat.prompt('')}{text}\n")
                    self.chat.typed(text)
                case Ended():
                    self.chat.input_ended()
        self.redraw()

    def _say(self, line: bytes) -> None:
        self.chat.say(line.removesuffix(b"\r").decode("utf-8", "replace"))

    def readConnectionLost(self) -> None:
        """
        The input has ended: broadcast a last line without a newline, and report the
        end.
        """
        rest, self._rest = self._rest, b""
        self._say(rest)
        self.chat.input_ended()

    def writeConnectionLost(self) -> None:
        """
        The output can't be written: end the conversation.
        """
        self._writable = False
        self.chat.output_lost()

    def connectionLost(self, reason: Failure | None = None) -> None:
        """
        Input and output are closed: end the conversation.
        """
        if self._writable:
            self.writeConnectionLost()
        elif not self.closed.called:
            self.closed.callback(None)
