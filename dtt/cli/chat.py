"""
C{dtt chat}: joins a topic, broadcasts the lines of its input, and prints those of
other members.
"""

from __future__ import annotations

import os
from collections import OrderedDict, deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.stdio import StandardIO
from twisted.python import usage
from twisted.python.failure import Failure

from dtt.app.eventlog import json_line
from dtt.app.helptext import is_dumb
from dtt.app.options import (
    TopicSettings,
    TrackerOptions,
    refuse_repeated,
    topic_to_join,
    warn_without_secret,
)
from dtt.app.usage import at_most_one, seconds, value_of
from dtt.cli.complaints import output_closed, remark
from dtt.cli.console import Console
from dtt.cli.lines import ChatLine, describe, doubt, line_of, printable
from dtt.cli.people import MAX_NICK, People
from dtt.cli.proofs import Proofs
from dtt.cli.running import run_reactor, warnings_to_stderr
from dtt.cli.terminal import RawTerminal
from dtt.config import TopicTable
from dtt.deferreds import abandon, cancel_if_active, first_of
from dtt.errors import DTTError, LocalError
from dtt.events import Event, Message, NeighborDown, NeighborUp, RecordFound, count_of
from dtt.gossip.proto.config import MAX_CONTENT
from dtt.records.envelope import OVERHEAD
from dtt.records.topic import TopicId
from dtt.tracker.topic import TopicService
from dtt.tracker.tracker import Tracker

#: The prompt shows how many bytes are left for a line when there are fewer (guess).
FEW_LEFT = 200

#: The number of lines that are remembered, to show each once (guess).
MAX_SHOWN = 1000

#: The commands at a terminal.
HELP = (
    "/who: members that this chat has heard of, direct neighbours first",
    "/nick NAME: your name, which others see beside the digits of your id",
    "/quit, or Ctrl-D: leave",
    "//TEXT: send a line that begins with /",
)

#: The number of lines waiting to be sent at which reading the input pauses (guess).
MAX_WAITING = 1000

#: The maximum number of seconds to wait until the end of the output has been read (guess).
FLUSH_LIMIT = 0.5


@frozen(slots=True)
class ChatSettings:
    """
    The settings of a chat.

    @ivar as_json: print events as JSON lines.
    @ivar stay: keep receiving after the end of the input.
    @ivar timeout: after the end of the input, wait at most this number of seconds for a
        neighbour.
    @ivar nick: our nickname; empty: none.
    """

    as_json: bool = False
    stay: bool = False
    timeout: float = 120.0
    nick: str = ""


class Chat:
    """
    A conversation: connects topics to a console.  There are several topics if there are an old and a new
    ticket: a line is sent to all of them, and shown once.

    @ivar done: fires when the conversation is over.
    @ivar lost: whether a line was not sent, or some of the output not written.
    @ivar extra: the number of bytes that the signature adds to each line.
    """

    def __init__(self, reactor: Any, console: Console, settings: ChatSettings) -> None:
        """
        @param reactor: provides IReactorTime.
        @param console: the input and output.
        @param settings: the settings of the chat.
        """
        self.done: Deferred[None] = Deferred()
        self.lost = False
        self.extra = OVERHEAD
        self._proofs = Proofs()
        self._reactor = reactor
        self._console = console
        self._as_json = settings.as_json
        self._stay = settings.stay
        self._timeout = settings.timeout
        self._nick = settings.nick
        self._people = People()
        self._shown: OrderedDict[tuple[str, int], None] = OrderedDict()
        self._giving_up: IDelayedCall | None = None
        self._finished = False
        self._waiting: deque[str] = deque()
        self._ended = False
        self._sending = False
        self._topics: tuple[TopicService, ...] = ()
        self._me = ""
        # Exceeds all counters that an earlier run with the same key used.
        self._n = int(reactor.seconds() * 1000)
        console.chat = self

    def start(self, tracker: Tracker, *topics: TopicService) -> None:
        """
        Broadcast waiting lines while one of C{topics} has neighbours.
        """
        self._topics = topics
        self._me = tracker.peer_id.hex()
        for topic in topics:
            self._proofs.add(topic.signing)
            topic.when_joined().addErrback(self._not_joined)
            self._hint(f"Looking for other members of {topic.topic_id.label}.")

    def on_event(self, event: Event) -> None:
        """
        Print an event.
        """
        if isinstance(event, Message):
            event = self._proofs.open(event)
        self._note(event)
        if self._as_json:
            self._console.write(json_line(event, self._reactor.seconds()))
        elif not self._is_repeated(event) and (text := describe(event)) is not None:
            self._console.write(text + "\n")
        if isinstance(event, NeighborDown) and not self._finished and self._topics and not self._neighbors():
            self._hint("No neighbour is left. Looking for other members.")

    def _neighbors(self) -> frozenset[bytes]:
        return frozenset(peer for topic in self._topics for peer in topic.neighbors())

    def _note(self, event: Event) -> None:
        """
        Remember the member that an event is about.
        """
        now = self._reactor.seconds()
        match event:
            case Message():
                line = line_of(event)
                if line is not None and not doubt(event):
                    self._people.heard(printable(line.sender[:64]), now, "wrote", printable(line.nick))
            case RecordFound(publisher=peer):
                self._people.heard(peer.hex(), now, "has a record, found")
            case NeighborUp(peer=peer):
                self._people.heard(peer.hex(), now, "connected")
            case NeighborDown(peer=peer):
                self._people.heard(peer.hex(), now, "disconnected")

    def _is_repeated(self, event: Event) -> bool:
        """
        Return whether a line was shown before, because it also arrived through another topic.
        """
        if len(self._topics) < 2 or not isinstance(event, Message):
            return False
        line = line_of(event)
        if line is None or doubt(event):
            return False
        key = (line.sender[:64], line.n)
        if key in self._shown:
            return True
        self._shown[key] = None
        if len(self._shown) > MAX_SHOWN:
            self._shown.popitem(last=False)
        return False

    def room(self, text: str) -> int:
        """
        Return how many more bytes a line may have; negative if it has too many.

        @param text: the line.
        """
        size = len(ChatLine(self._me, self._n + 1, text, self._nick).encode()) + self.extra
        return MAX_CONTENT - size

    def prompt(self, text: str) -> str:
        """
        Return what precedes the line that is being typed: with little room left, the
        number of bytes that it may still have.
        """
        left = self.room(text)
        return f"{left} > " if left < FEW_LEFT else "> "

    def typed(self, text: str) -> None:
        """
        Carry out a command, or send a line.
        """
        if not text.startswith("/") or text.startswith("//"):
            line = text.removeprefix("/") if text.startswith("//") else text
            if (left := self.room(line)) < 0:
                self._hint(f"Not sent: {count_of(-left, 'byte')} too long. The up key brings the line back.")
            else:
                self.say(line)
            return
        command, _, argument = text[1:].partition(" ")
        argument = argument.strip()
        match command:
            case "who":
                self._who()
            case "nick":
                self._rename(argument)
            case "quit" | "exit":
                self.input_ended()
                self.finish()
            case "help":
                for line in HELP:
                    self._hint(line)
            case _:
                self._hint(
                    f"/{command[:20]} is unknown; /help lists the commands. // sends a line that begins "
                    "with /"
                )

    def _who(self) -> None:
        neighbors = frozenset(peer.hex() for peer in self._neighbors())
        lines = self._people.lines(self._reactor.seconds(), neighbors)
        for line in lines:
            self._hint(line)
        if not lines:
            self._hint("No member has been heard of yet.")
        name = f"{self._nick} {self._me[:10]}" if self._nick else self._me[:10]
        self._hint(f"{name} is you. Members choose their own names.")

    def _rename(self, name: str) -> None:
        try:
            self._nick = nickname(name)
        except ValueError as error:
            self._hint(str(error))
        else:
            self._hint(f"Your name is now {self._nick}." if self._nick else "You have no name now.")

    def show(self, text: str) -> None:
        """
        Print a notice that is not an event; with --json on standard error.
        """
        if self._as_json:
            remark(text)
        else:
            self._console.write(text + "\n")

    def say(self, text: str) -> None:
        """
        Queue a line.  It is broadcast when the topic has a neighbour and the neighbours have accepted the
        earlier lines.
        """
        if text and self._topics:
            if (left := self.room(text)) < 0:
                self.lost = True
                self.show(f"! not sent: the line is {count_of(-left, 'byte')} too long")
                return
            if not self._waiting and not self._neighbors():
                self._hint("Your lines wait until another member is found.")
            self._waiting.append(text)
            self._console.read_on(len(self._waiting) < MAX_WAITING)
            self._send_waiting()

    def input_ended(self) -> None:
        """
        End the conversation once everything is sent, unless --stay was given.
        """
        if self._ended:
            return
        self._ended = True
        self._finish_if_done()
        if not (self._finished or self._stay):
            self._giving_up = self._reactor.callLater(self._timeout, self._give_up)

    def output_lost(self) -> None:
        """
        End the conversation: nobody would see it.
        """
        if not self._finished:
            self.lost = True
            output_closed()
        self.finish()

    def finish(self) -> None:
        """
        End the conversation.
        """
        if not self._finished:
            self._finished = True
            cancel_if_active(self._giving_up)
            if self._waiting:
                self.lost = True
                remark(f"! {count_of(len(self._waiting), 'line')} not sent")
            self.done.callback(None)

    def _hint(self, text: str) -> None:
        if not self._as_json:
            self._console.write(f"* {text}\n")

    def _not_joined(self, failure: Failure) -> None:
        failure.trap(DTTError, CancelledError)
        self.finish()

    def _give_up(self) -> None:
        """
        End the conversation if there is nobody to talk to.
        """
        self._giving_up = None
        if self._neighbors():
            self._giving_up = self._reactor.callLater(self._timeout, self._give_up)
            return
        self.show(f"! no other member was found within {self._timeout:g} s after the end of the input")
        self.finish()

    def _send_waiting(self) -> None:
        if not self._sending:
            self._sending = True
            Deferred.fromCoroutine(self._send_all())

    async def _send_all(self) -> None:
        """
        Broadcast all waiting lines, as fast as the neighbours accept them.
        """
        while self._waiting and not self._finished:
            try:
                await when_any_joined(self._topics)
            except (DTTError, CancelledError):  # the topic was left
                return
            await self._send_next()
        self._sending = False
        self._finish_if_done()

    async def _send_next(self) -> None:
        if self._finished:
            return
        text = self._waiting.popleft()
        self._console.read_on(len(self._waiting) < MAX_WAITING)
        self._n += 1
        content = ChatLine(self._me, self._n, text, self._nick).encode()
        for topic in self._topics:
            if len(self._topics) > 1 and not topic.neighbors():
                continue
            try:
                await topic.broadcast(topic.signing.seal(content))
            except LocalError as error:
                self.lost = True
                self.show(f"! not sent: {error}")

    def _finish_if_done(self) -> None:
        if self._ended and not (self._stay or self._waiting or self._sending):
            self.finish()


async def when_any_joined(topics: Sequence[TopicService]) -> None:
    """
    Wait until one of C{topics} has a neighbour.

    @raise TopicLeft: one of them was left.
    """
    waiting = [topic.when_joined() for topic in topics]
    try:
        await first_of(*waiting)
    except Exception:
        abandon(*waiting)
        raise
    abandon(*waiting)


def nickname(text: str) -> str:
    """
    Check a nickname.

    @raise ValueError: it is too long or not printable.
    """
    if len(text) > MAX_NICK or not text.isprintable() or text != text.strip():
        raise ValueError(f"a name has at most {MAX_NICK} printable characters")
    return text


def is_conversation() -> bool:
    """
    Return whether input and output are a terminal that supports line editing.
    """
    try:
        return os.isatty(0) and os.isatty(1) and not is_dumb(os.environ.get("TERM"))
    except OSError:
        return False


class ChatOptions(TrackerOptions):
    """
    The options of C{dtt chat}.
    """

    synopsis = "[options] --ticket-file FILE | TOPIC"
    longdesc = (
        "Joins the topic of a ticket, or TOPIC (a name, or hex: and 64 hexadecimal digits), prints "
        "the messages "
        "of its members, and sends each line of the input. On a terminal, /help lists commands. Without "
        "--state-dir it uses a temporary identity. Each line is signed; unproved ones are marked with ?."
    )
    optFlags = [
        ["json", None, "Print events as JSON lines."],
        ["stay", None, "Keep receiving after the end of the input."],
    ]
    optParameters = [
        [
            "timeout",
            "t",
            120.0,
            "After the end of the input, give up if no other member is found within this number of seconds.",
            value_of("timeout", seconds),
        ],
        [
            "nick",
            None,
            "",
            "Your name, which others see beside the digits of your id.",
            value_of("nick", nickname),
        ],
    ]
    placeholders = {"nick": "NAME"}

    def parseArgs(self, *topics: str) -> None:
        """
        Take the topic.

        @raise usage.UsageError: there is more than one.
        """
        self["topic"] = at_most_one("chat", "TOPIC", topics)

    def postOptions(self) -> None:
        """
        Check that there is a topic, and that the secret does not come from standard
        input.

        @raise usage.UsageError: there is none, or it does.
        """
        if self["topic"] is None and not self["ticket-file"]:
            raise usage.UsageError(
                "chat takes --ticket-file FILE, or one TOPIC; dtt new-topic creates a ticket"
            )
        self.refuse_lone_secret(self["topic"] is not None)
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
                if topic_to_join(table.name) == topic_id and table.secret_file is not None:
                    return self.read_secret_of(table)
        return self.read_secret()

    def run(self) -> int:
        """
        Chat until the input ends or a signal arrives.

        @return: the exit code.
        """
        config, tables = self.load(None)
        settings = self.read_tickets()
        if self["topic"] is not None:
            topic_id = topic_to_join(self["topic"])
            settings.append(TopicSettings(self["topic"], topic_id, self.secret_of(topic_id, tables)))
        refuse_repeated(settings)
        warnings_to_stderr()
        for each in settings:
            if not each.secret:
                warn_without_secret(each.name)
        console = Console()
        chats: list[Chat] = []

        async def talk(reactor: Any) -> int:
            chat = Chat(
                reactor,
                console,
                ChatSettings(bool(self["json"]), bool(self["stay"]), self["timeout"], self["nick"]),
            )
            chats.append(chat)
            tracker = Tracker(reactor, config, chat.on_event)
            topics = [tracker.join(each.topic_id, secret=each.secret or b"") for each in settings]
            tracker.privilegedStartService()
            StandardIO(console, reactor=reactor)
            if not self["json"] and is_conversation():
                console.edit(RawTerminal(0), reactor.callFromThread)
            tracker.startService()
            chat.start(tracker, *topics)
            await chat.done
            await tracker.stopService()
            console.restore()
            try:
                await console.close().addTimeout(FLUSH_LIMIT, reactor)
            except TimeoutError:
                chat.lost = True
                remark("! the end of the output was not read in time")
            return 1 if chat.lost else 0

        # The reactor makes them non-blocking, for all processes that share them.
        modes = [(descriptor, os.get_blocking(descriptor)) for descriptor in (0, 1)]
        try:
            return run_reactor(
                lambda reactor: Deferred.fromCoroutine(talk(reactor)), lambda: chats[0].finish()
            )
        finally:
            console.restore()
            for descriptor, blocking in modes:
                with suppress(OSError):  # it may be closed by now
                    os.set_blocking(descriptor, blocking)
