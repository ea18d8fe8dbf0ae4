"""
C{dtt chat}: joins a topic, broadcasts the lines of its input, and prints those of
other members.

On the wire, a line is UTF-8 JSON C{{"from": id, "n": counter, "text": ...}}.  It
has a counter because the gossip drops equal bytes within 90 s, and C{from} because
the gossip reports only the last hop.  C{from} is a claim: a member can write any id
there.
"""

from __future__ import annotations

import json
import sys
from collections import deque
from collections.abc import Sequence
from typing import Any, cast

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import Protocol
from twisted.internet.stdio import StandardIO
from twisted.python import usage
from twisted.python.failure import Failure
from zope.interface import implementer

from dtt.app.eventlog import json_line
from dtt.app.options import TrackerOptions, topic_to_join, warn_without_secret
from dtt.cli.running import run_reactor, warnings_to_stderr
from dtt.config import TopicTable
from dtt.errors import DTTError, LocalError
from dtt.events import Event, Message, NeighborDown, NeighborUp, PeerFailed, RecordPublished, short
from dtt.records.topic import TopicId
from dtt.state import read_secret_file
from dtt.tracker.topic import TopicService
from dtt.tracker.tracker import Tracker

#: The maximum size of a line that is not yet complete, in bytes (guess: far more than
#: can be broadcast).
MAX_LINE = 65536

#: The number of lines waiting to be sent at which reading the input pauses (guess).
MAX_WAITING = 1000

#: The maximum size of buffered output in bytes, if its reader is slow; further output
#: is dropped, because other members determine how much there is (guess).
MAX_UNREAD = 16 * 1024 * 1024


@frozen(slots=True)
class ChatLine:
    """
    One line of chat.

    @ivar sender: the sender as it claims, normally its peer id in 64 hex digits.
    @ivar n: a counter: no two lines of a sender have the same.
    @ivar text: the line.
    """

    sender: str
    n: int
    text: str

    def encode(self) -> bytes:
        """
        Encode the line for broadcasting.
        """
        message = {"from": self.sender, "n": self.n, "text": self.text}
        return json.dumps(message, ensure_ascii=False).encode("utf-8")

    @classmethod
    def decode(cls, content: bytes) -> ChatLine | None:
        """
        Decode the content of a message; C{None} if it is not a line of chat.
        """
        try:
            match json.loads(content.decode("utf-8")):
                case {"from": str(sender), "n": int(n), "text": str(text)}:
                    return cls(sender, n, text)
        except (ValueError, RecursionError):
            pass
        return None


def printable(text: str) -> str:
    """
    Replace unprintable characters, such as terminal control characters, in text
    from other members.
    """
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )


def describe(event: Event) -> str | None:
    """
    Return the line to display for C{event}; C{None} if it is not displayed.
    """
    match event:
        case Message():
            line = ChatLine.decode(event.content)
            if line is not None:
                return f"<{printable(line.sender[:10])}> {printable(line.text)}"
            text = printable(event.content.decode("utf-8", "replace"))
            return f"[via {short(event.delivered_from)}] {text}"
        case NeighborUp():
            return f"* {short(event.peer)} is here"
        case NeighborDown():
            return f"* {short(event.peer)} is gone"
        case PeerFailed() | RecordPublished():
            return None
    return f"* {event.text()}"


@implementer(IHalfCloseableProtocol, IPushProducer)
class Console(Protocol):
    """
    Standard input and output.  It is also the producer of the output, for flow
    control.

    @ivar chat: the conversation; set before the console is connected.
    """

    chat: Chat

    def __init__(self) -> None:
        self._rest = b""
        self._skipping = False
        self._reading = True
        self._unread: int | None = None  # bytes written since the output was full
        self._dropped = 0

    def connectionMade(self) -> None:
        """
        Register as the producer of the output, to be paused when it is full.
        """
        cast(Any, self.transport).registerProducer(self, True)

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
        if self.transport is None:
            return
        data = text.encode("utf-8", "replace")
        if self._unread is not None:
            if self._unread + len(data) > MAX_UNREAD:
                self._dropped += 1
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
            self.chat.show(f"! {dropped} events were dropped: the output was not read fast enough")

    def stopProducing(self) -> None:
        """
        The output is closed: nothing to do.
        """

    def dataReceived(self, data: bytes) -> None:
        """
        Broadcast each complete line of the input.  Lines that are far too long are
        discarded.
        """
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
            self.chat.show("! a line was too long and was not sent")

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
        The output is closed: end the conversation.
        """
        self.chat.finish()

    def connectionLost(self, reason: Failure | None = None) -> None:
        """
        Input and output are closed: end the conversation.
        """
        self.chat.input_ended()
        self.chat.finish()


class Chat:
    """
    One conversation: connects a topic to a console.

    @ivar done: fires when the conversation is over.
    """

    def __init__(self, reactor: Any, console: Console, as_json: bool, stay: bool) -> None:
        """
        @param reactor: provides IReactorTime.
        @param console: the input and output.
        @param as_json: print events as JSON lines.
        @param stay: keep listening after the end of the input.
        """
        self.done: Deferred[None] = Deferred()
        self._reactor = reactor
        self._console = console
        self._as_json = as_json
        self._stay = stay
        self._finished = False
        self._waiting: deque[str] = deque()
        self._joined = False
        self._ended = False
        self._sending = False
        self._topic: TopicService | None = None
        self._me = ""
        # Exceeds all counters that an earlier run with the same key used.
        self._n = int(reactor.seconds() * 1000)
        console.chat = self

    def start(self, tracker: Tracker, topic: TopicService) -> None:
        """
        Broadcast waiting lines once C{topic} is joined.
        """
        self._topic = topic
        self._me = tracker.peer_id.hex()
        topic.when_joined().addCallbacks(self._on_joined, self._not_joined)

    def on_event(self, event: Event) -> None:
        """
        Print an event.
        """
        if self._as_json:
            self._write(json_line(event, self._reactor.seconds()))
        elif (text := describe(event)) is not None:
            self._write(text + "\n")

    def show(self, text: str) -> None:
        """
        Print a notice that is not an event; with --json on standard error.
        """
        if self._as_json:
            print(text, file=sys.stderr)
        else:
            self._write(text + "\n")

    def say(self, text: str) -> None:
        """
        Queue a line, to be broadcast once the topic is joined and the neighbours have
        accepted the lines before.
        """
        if text and self._topic is not None:
            self._waiting.append(text)
            self._console.read_on(len(self._waiting) < MAX_WAITING)
            self._send_waiting()

    def input_ended(self) -> None:
        """
        End the conversation once everything is sent, unless --stay was given.
        """
        self._ended = True
        self._finish_if_done()

    def finish(self) -> None:
        """
        End the conversation.
        """
        if not self._finished:
            self._finished = True
            self.done.callback(None)

    def _on_joined(self, _: None) -> None:
        self._joined = True
        self._send_waiting()

    def _not_joined(self, failure: Failure) -> None:
        failure.trap(DTTError, CancelledError)
        self.finish()

    def _send_waiting(self) -> None:
        if self._joined and not self._sending:
            self._sending = True
            Deferred.fromCoroutine(self._send_all())

    async def _send_all(self) -> None:
        """
        Broadcast all waiting lines, as fast as the neighbours accept them.
        """
        while self._waiting and not self._finished:
            text = self._waiting.popleft()
            self._console.read_on(len(self._waiting) < MAX_WAITING)
            self._n += 1
            try:
                await cast(TopicService, self._topic).broadcast(ChatLine(self._me, self._n, text).encode())
            except LocalError as error:
                self.show(f"! not sent: {error}")
        self._sending = False
        self._finish_if_done()

    def _finish_if_done(self) -> None:
        if self._ended and not (self._stay or self._waiting or self._sending):
            self.finish()

    def _write(self, text: str) -> None:
        self._console.write(text)


class ChatOptions(TrackerOptions):
    """
    The options of C{dtt chat}.
    """

    synopsis = "[options] TOPIC"
    longdesc = (
        "Joins TOPIC (a name, or hex: and 64 hexadecimal digits), prints the messages of its members, and "
        "sends each line of the input. Without --state-dir it uses a temporary identity. The senders shown "
        "are what the members claim."
    )
    optFlags = [
        ["json", None, "Print events as JSON lines."],
        ["stay", None, "Keep listening after the end of the input."],
    ]

    def parseArgs(self, *topics: str) -> None:
        """
        Take the topic.

        @raise usage.UsageError: there is not exactly one.
        """
        if len(topics) != 1:
            raise usage.UsageError(f"chat takes one TOPIC, not {len(topics)}")
        (self["topic"],) = topics

    def postOptions(self) -> None:
        """
        Check that the secret does not come from standard input.

        @raise usage.UsageError: it does.
        """
        if self["secret-file"] == "-":
            raise usage.UsageError("--secret-file -: standard input is used for chat lines; give a file")

    def secret_of(self, topic_id: TopicId, tables: Sequence[TopicTable]) -> bytes | None:
        """
        Read the secret from --secret-file, else from the file that the configuration
        file names for the topic.

        @param topic_id: the topic.
        @param tables: the topics of the configuration file.
        @return: the secret; C{None} if there is none.
        @raise StateError: the file can't be read, or is accessible to other users.
        """
        if self["secret-file"] is None:
            for table in tables:
                if table.secret_file is not None and TopicId.parse(table.name) == topic_id:
                    return read_secret_file(table.secret_file)
        return self.read_secret()

    def run(self) -> int:
        """
        Chat until the input ends or a signal arrives.

        @return: the exit code.
        """
        config, tables = self.load(None)
        topic_id = topic_to_join(self["topic"])
        secret = self.secret_of(topic_id, tables)
        warnings_to_stderr()
        if not secret:
            warn_without_secret(self["topic"])
        console = Console()

        async def talk(reactor: Any) -> int:
            chat = Chat(reactor, console, bool(self["json"]), bool(self["stay"]))
            tracker = Tracker(reactor, config, chat.on_event)
            topic = tracker.join(topic_id, secret=secret or b"")
            tracker.privilegedStartService()
            StandardIO(console, reactor=reactor)
            tracker.startService()
            chat.start(tracker, topic)
            await chat.done
            await tracker.stopService()
            return 0

        return run_reactor(
            lambda reactor: Deferred.fromCoroutine(talk(reactor)), lambda: console.chat.finish()
        )
