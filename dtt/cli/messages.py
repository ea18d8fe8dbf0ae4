"""
C{dtt send} and C{dtt listen}: send a message or print messages, through the running service or, with
C{--standalone}, without it.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, TimeoutError

from dtt.app.eventlog import json_line
from dtt.app.options import (
    TopicSettings,
    TrackerOptions,
    refuse_repeated,
    standard_input,
    topic_to_join,
    warn_without_secret,
)
from dtt.app.usage import at_most_one, seconds, value_of, whole_number
from dtt.cli.commands import NOT_FOUND
from dtt.cli.complaints import OutputLost, print_line, remark
from dtt.cli.daemon import choose, joined_topics, run_with_daemon
from dtt.cli.lines import describe
from dtt.cli.progress import Progress
from dtt.cli.running import run_coroutine, warnings_to_stderr
from dtt.errors import StateError, UsageError
from dtt.events import Event, Message
from dtt.files import reason_of
from dtt.gossip.proto.config import MAX_CONTENT
from dtt.tracker.topic import TopicService
from dtt.tracker.tracker import Tracker
from dtt.web.client import DaemonClient

#: Seconds to wait for another member, for C{dtt send --standalone} (guess).
TIMEOUT = 60.0


class MessageOptions(TrackerOptions):
    """
    Base class of the options of both commands.
    """

    optFlags = [
        [
            "standalone",
            None,
            "Join the topic in this process, instead of using the running service. The options for "
            "transports, DHT and secrets apply only then.",
        ],
    ]
    optParameters = [
        ["topic", None, None, "The topic: a name, or the label or the beginning of the id of a joined one."],
    ]

    def topics(self, *, several: bool = False) -> list[TopicSettings]:
        """
        Read the tickets, and with --standalone the topic of --topic.

        @param several: whether the command can use more than one topic.
        @raise UsageError: there is none although --standalone needs one, or there are several.
        """
        if len(self["ticket-file"]) + (self["topic"] is not None) > 1 and not several:
            raise UsageError("give one --topic NAME, or one --ticket-file FILE")
        if self["standalone"]:
            self.refuse_lone_secret(self["topic"] is not None)
        topics = self.read_tickets()
        if self["standalone"]:
            if self["topic"] is not None:
                secret = self.read_secret()
                topics.append(TopicSettings(self["topic"], topic_to_join(self["topic"]), secret))
                if not secret:
                    warn_without_secret(self["topic"])
            if not topics:
                raise UsageError("--standalone needs --ticket-file FILE, or --topic NAME")
            refuse_repeated(topics)
        return topics


class SendOptions(MessageOptions):
    """
    The options of C{dtt send}.
    """

    synopsis = "[options] [TEXT|-]"
    longdesc = (
        "Sends one message to the members of a topic, through the running service (dtt run, twistd "
        "dtt): TEXT, or "
        "else standard input, at most 4055 bytes. Exits with 3 if there is no other "
        "member to receive it, and with 4 if no service is running."
    )
    optParameters = [
        [
            "timeout",
            "t",
            TIMEOUT,
            "With --standalone, seconds to wait for another member.",
            value_of("timeout", seconds),
        ]
    ]

    def parseArgs(self, *texts: str) -> None:
        """
        Take the message.

        @raise usage.UsageError: there is more than one.
        """
        text = at_most_one("send", "TEXT", texts, "; put it in quotation marks")
        self["text"] = "-" if text is None else text

    def postOptions(self) -> None:
        """
        Check that not both the message and the secret come from standard input.

        @raise UsageError: both do.
        """
        if self["text"] == "-" and self["secret-file"] == "-":
            raise UsageError("--secret-file -: the message comes from standard input; give a file")

    def run(self) -> int:
        """
        Send the message.

        @return: the exit code.
        """
        warnings_to_stderr()
        topics = self.topics()
        content = self._content()
        if self["standalone"]:
            config, _ = self.load(None)

            async def alone(reactor: Any) -> int:
                return await self._alone(
                    reactor, Tracker(reactor, config, lambda event: None), topics, content
                )

            return run_coroutine(alone)

        async def through(reactor: Any, client: DaemonClient) -> int:
            status = await client.status()
            topic = choose(joined_topics(status), self["topic"], topics)
            neighbors = await client.send(topic.topic_id, content)
            if not neighbors:
                remark(f"dtt: there is no other member of {topic.label} now: nobody received the message")
                return NOT_FOUND
            return 0

        return run_with_daemon(self["state-dir"], through)

    def _content(self) -> bytes:
        if self["text"] != "-":
            content = self["text"].encode("utf-8", "surrogateescape")
        else:
            stdin = standard_input()
            try:
                # Not through the buffer: the line of a ticket was read before.
                content = b"" if stdin is None else _read_all(MAX_CONTENT + 1)
            except OSError as error:
                raise StateError(f"can't read standard input: {reason_of(error)}") from None
        if not content:
            raise UsageError("the message is empty")
        if len(content) > MAX_CONTENT:
            raise UsageError(f"a message has at most {MAX_CONTENT} bytes")
        return bytes(content)

    async def _alone(
        self, reactor: Any, tracker: Tracker, settings: list[TopicSettings], content: bytes
    ) -> int:
        topics = [tracker.join(each.topic_id, secret=each.secret or b"") for each in settings]
        progress = Progress()
        try:
            tracker.privilegedStartService()
            tracker.startService()
            progress.show(f"Looking for other members of {topics[0].topic_id.label}")
            try:
                await topics[0].when_joined().addTimeout(self["timeout"], reactor)
            except TimeoutError:
                progress.clear()
                remark(
                    f"dtt: no other member was found within {self['timeout']:g} s; the message was not sent"
                )
                return NOT_FOUND
            await topics[0].broadcast(content)
        finally:
            progress.clear()
            await tracker.stopService()
        return 0


def _read_all(limit: int) -> bytes:
    data = b""
    while len(data) < limit and (more := os.read(0, limit - len(data))):
        data += more
    return data


class ListenOptions(MessageOptions):
    """
    The options of C{dtt listen}.
    """

    synopsis = "[options]"
    longdesc = (
        "Prints the messages of a topic as they arrive, one line each, through the running service (dtt run, "
        "twistd dtt), until Ctrl-C. Exits with 4 if no service is running, and with 3 if --timeout expires "
        "before the "
        "first message."
    )
    optFlags = [
        ["json", None, "Print JSON lines, as in docs/reference/events.md."],
        ["events", None, "Also print the other events of the topic."],
    ]
    optParameters = [
        [
            "count",
            "n",
            0,
            "Exit after this number of messages; 0: never.",
            value_of("count", whole_number(0, 10**9)),
        ],
        ["timeout", "t", 0.0, "Exit after this number of seconds; 0: never.", value_of("timeout", seconds)],
    ]
    placeholders = {"count": "N"}

    def run(self) -> int:
        """
        Print messages.

        @return: the exit code.
        """
        warnings_to_stderr()
        topics = self.topics(several=bool(self["standalone"]))
        self._printer = Printer(bool(self["json"]), bool(self["events"]), self["count"])
        if self["standalone"]:
            config, _ = self.load(None)

            async def alone(reactor: Any) -> int:
                def on_event(event: Event) -> None:
                    self._printer.event(event, reactor.seconds())

                tracker = Tracker(reactor, config, on_event)
                joined: list[TopicService] = [
                    tracker.join(each.topic_id, secret=each.secret or b"") for each in topics
                ]
                try:
                    tracker.privilegedStartService()
                    tracker.startService()
                    if sys.stderr.isatty():
                        remark(f"Looking for other members of {joined[0].topic_id.label}.")
                    return await self._until_done(reactor, Deferred())
                finally:
                    await tracker.stopService()

            return run_coroutine(alone)

        async def through(reactor: Any, client: DaemonClient) -> int:
            status = await client.status()
            topic = choose(joined_topics(status), self["topic"], topics)
            return await self._until_done(reactor, client.events(self._printer.line, topic.topic_id))

        return run_with_daemon(self["state-dir"], through)

    async def _until_done(self, reactor: Any, ends: Deferred[None]) -> int:
        """
        Wait for a signal, the last message, the timeout, or the end of the stream.

        @param ends: fires when the stream ends.
        """
        printer = self._printer

        def stop(_: object) -> None:
            ends.cancel()

        printer.done.addCallback(stop)
        if self["timeout"]:
            ends.addTimeout(self["timeout"], reactor)
        try:
            await ends
            remark("dtt: the service has stopped")
        except TimeoutError:
            return 0 if printer.messages else NOT_FOUND
        except CancelledError:  # a signal, or the last message
            if printer.lost is not None:
                raise printer.lost from None
            return 0
        return 0 if printer.messages else NOT_FOUND


class Printer:
    """
    Prints messages.

    @ivar messages: the number of printed messages.
    @ivar done: fires when enough were printed, or the output is lost.
    @ivar lost: why the output is lost.
    """

    def __init__(self, as_json: bool, all_events: bool, count: int) -> None:
        """
        @param as_json: print JSON lines.
        @param all_events: also print the other events.
        @param count: the number of messages to print; 0: unlimited.
        """
        self.messages = 0
        self.done: Deferred[None] = Deferred()
        self.lost: OutputLost | None = None
        self._as_json = as_json
        self._all_events = all_events
        self._count = count

    def event(self, event: Event, time: float) -> None:
        """
        Print an event of a tracker in this process.

        @param time: when it happened, unix seconds.
        """
        if not isinstance(event, Message):
            if self._all_events:
                text = json_line(event, time).rstrip("\n") if self._as_json else describe(event)
                if text is not None:
                    self._print(text)
            return
        self._message(json_line(event, time).rstrip("\n") if self._as_json else str(describe(event)))

    def line(self, value: dict[str, Any]) -> None:
        """
        Print an event of the service.

        @param value: as in docs/reference/events.md.
        """
        if value.get("event") != "message":
            if self._all_events:
                self._print(json.dumps(value) if self._as_json else f"* {value.get('event')}")
            return
        if self._as_json:
            self._message(json.dumps(value))
            return
        if "content_hex" in value:
            content = bytes.fromhex(str(value["content_hex"]))
        else:
            content = str(value.get("content", "")).encode("utf-8", "surrogatepass")
        via = bytes.fromhex(str(value.get("delivered_from", "")))
        topic = bytes.fromhex(str(value.get("topic", "")))
        self._message(str(describe(Message(topic, via, str(value.get("scope", "swarm")), content))))

    def _message(self, text: str) -> None:
        if self._count and self.messages >= self._count:
            return
        self.messages += 1
        self._print(text)
        if self._count and self.messages >= self._count:
            self._end()

    def _print(self, text: str) -> None:
        if self.lost is not None:
            return
        try:
            print_line(text)
        except OutputLost as error:
            self.lost = error
            self._end()

    def _end(self) -> None:
        if not self.done.called:
            self.done.callback(None)
