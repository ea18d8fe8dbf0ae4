"""
C{dtt chat}: join a topic, say what is typed, show what others say.

On the wire a line is UTF-8 JSON C{{"from": id, "n": counter, "text": ...}}.  The
gossip drops equal bytes within 90 s, hence the counter; and it tells only the
last hop, hence C{from}, which is a claim: any member can write any id there.
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

#: Bytes of a line that are kept until its end comes (guess: far more than can
#: be broadcast).
MAX_LINE = 65536

#: So many lines may wait to be sent; then no more input is read (guess).
MAX_WAITING = 1000

#: Bytes of output that are kept for whoever reads it too slowly; what comes then
#: is dropped: the other members decide how much there is (guess).
MAX_UNREAD = 16 * 1024 * 1024


@frozen(slots=True)
class ChatLine:
    """
    A line that somebody says.

    @ivar sender: who, by its own word: 64 hex digits.
    @ivar n: differs between any two lines of a sender.
    @ivar text: one line.
    """

    sender: str
    n: int
    text: str

    def encode(self) -> bytes:
        """
        The line as it is broadcast.
        """
        message = {"from": self.sender, "n": self.n, "text": self.text}
        return json.dumps(message, ensure_ascii=False).encode("utf-8")

    @classmethod
    def decode(cls, content: bytes) -> ChatLine | None:
        """
        The line in C{content}; C{None} if it is none.
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
    C{text} without what a terminal would obey: others wrote it.
    """
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )


def describe(event: Event) -> str | None:
    """
    What a person is shown of C{event}; C{None}: nothing.
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
    Standard input and output; the producer of the output.

    @ivar chat: set before the console is connected.
    """

    chat: Chat

    def __init__(self) -> None:
        self._rest = b""
        self._skipping = False
        self._reading = True
        self._unread: int | None = None  # bytes since the output was full
        self._dropped = 0

    def connectionMade(self) -> None:
        """
        Have it told when nobody reads our output.
        """
        cast(Any, self.transport).registerProducer(self, True)

    def read_on(self, more: bool) -> None:
        """
        Whether more of the input is wanted now.
        """
        if more is not self._reading:
            self._reading = more
            transport = cast(Any, self.transport)
            (transport.resumeProducing if more else transport.pauseProducing)()

    def write(self, text: str) -> None:
        """
        Show C{text}, a line or more.
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
        The output is full.
        """
        self._unread = 0

    def resumeProducing(self) -> None:
        """
        All of it was read.
        """
        self._unread = None
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            self.chat.show(f"! {dropped} events were not shown: the output was not read")

    def stopProducing(self) -> None:
        """
        There is no output any more.
        """

    def dataReceived(self, data: bytes) -> None:
        """
        Somebody types.  Of a line that is far too long nothing is said.
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
            self.chat.show("! a line is too long; it was not sent")

    def _say(self, line: bytes) -> None:
        self.chat.say(line.removesuffix(b"\r").decode("utf-8", "replace"))

    def readConnectionLost(self) -> None:
        """
        The end of the input; a last line may lack its newline.
        """
        rest, self._rest = self._rest, b""
        self._say(rest)
        self.chat.input_ended()

    def writeConnectionLost(self) -> None:
        """
        Nobody reads our output any more.
        """
        self.chat.finish()

    def connectionLost(self, reason: Failure | None = None) -> None:
        """
        Both are gone.
        """
        self.chat.input_ended()
        self.chat.finish()


class Chat:
    """
    One conversation.

    @ivar done: fires when it is over.
    """

    def __init__(self, reactor: Any, console: Console, as_json: bool, stay: bool) -> None:
        """
        @param stay: go on listening after the end of the input.
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
        # Larger than any number that an earlier run under the same key used.
        self._n = int(reactor.seconds() * 1000)
        console.chat = self

    def start(self, tracker: Tracker, topic: TopicService) -> None:
        """
        Begin to say things once C{topic} is joined.
        """
        self._topic = topic
        self._me = tracker.peer_id.hex()
        topic.when_joined().addCallbacks(self._on_joined, self._not_joined)

    def on_event(self, event: Event) -> None:
        """
        Show C{event}.
        """
        if self._as_json:
            self._write(json_line(event, self._reactor.seconds()))
        elif (text := describe(event)) is not None:
            self._write(text + "\n")

    def show(self, text: str) -> None:
        """
        Tell the person something, not as an event.
        """
        if self._as_json:
            print(text, file=sys.stderr)
        else:
            self._write(text + "\n")

    def say(self, text: str) -> None:
        """
        Broadcast C{text} when it is its turn: once the topic is joined and the
        neighbours have taken what was said before.
        """
        if text and self._topic is not None:
            self._waiting.append(text)
            self._console.read_on(len(self._waiting) < MAX_WAITING)
            self._send_waiting()

    def input_ended(self) -> None:
        """
        Leave once everything is sent, unless we stay.
        """
        self._ended = True
        self._finish_if_done()

    def finish(self) -> None:
        """
        It is over.
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
        Say all that waits, at the pace of the neighbours.
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
        "Joins TOPIC (a name, or hex: and 64 digits), shows who comes and goes and what they say, and says "
        "what is typed or piped in. Without --state-dir it uses a key of the moment. The names shown are "
        "what the senders claim."
    )
    optFlags = [
        ["json", None, "Print events as JSON lines."],
        ["stay", None, "Go on listening after the end of the input."],
    ]

    def parseArgs(self, *topics: str) -> None:
        """
        The topic.
        """
        if len(topics) != 1:
            raise usage.UsageError(f"chat takes one TOPIC, not {len(topics)}")
        (self["topic"],) = topics

    def postOptions(self) -> None:
        """
        Standard input is for what is said.
        """
        if self["secret-file"] == "-":
            raise usage.UsageError("--secret-file -: standard input is what is said here; name a file")

    def secret_of(self, topic_id: TopicId, tables: Sequence[TopicTable]) -> bytes | None:
        """
        The secret that --secret-file names, else the one that the
        configuration file has for the topic.

        @raise StateError: it can't be read, or others can read it.
        """
        if self["secret-file"] is None:
            for table in tables:
                if table.secret_file is not None and TopicId.parse(table.name) == topic_id:
                    return read_secret_file(table.secret_file)
        return self.read_secret()

    def run(self) -> int:
        """
        Talk until the input ends, or until a signal.

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
