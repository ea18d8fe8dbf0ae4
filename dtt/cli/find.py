"""
C{dtt find} and C{dtt announce}: list the publishers of a topic, and publish a content, without joining.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, TimeoutError, maybeDeferred
from twisted.python import usage

from dtt.app.options import (
    TopicSettings,
    naming,
    standard_input,
    topic_to_join,
    warn_without_secret,
)
from dtt.app.tickets import read_tickets
from dtt.app.usage import at_most_one, path_name, seconds, terminal_width, value_of
from dtt.cli.commands import NOT_FOUND
from dtt.cli.complaints import print_line, remark
from dtt.cli.dht import ClientOptions
from dtt.cli.lines import printable
from dtt.cli.progress import Progress
from dtt.cli.running import run_coroutine, warnings_to_stderr
from dtt.config import PUBLIC_BOOTSTRAP, Config, DHTConfig
from dtt.deferreds import Waiters
from dtt.errors import DecodeError, LookupFailed, StateError, UsageError
from dtt.events import Event, RecordPublished, RecordsUnreadable, count_of
from dtt.files import reason_of, shown
from dtt.identity import PeerKey
from dtt.records.record import MAX_CONTENT_BYTES, GossipContent
from dtt.state import load_key, read_secret
from dtt.tracker.discover import Found
from dtt.tracker.tracker import Tracker, log_event

#: Seconds to look for others; seconds after the last find until the search ends; and, with
#: C{--once}, seconds for the other slot after one has our record (guesses: a read takes a second or two).
TIMEOUT = 20.0
SETTLE = 3.0
OTHER_SLOT = 5.0


class SlotCommand(ClientOptions):
    """
    Base class of the options of both commands.

    @ivar key: signs our records; C{None}: we publish none.
    """

    key: PeerKey | None = None

    optParameters = [
        [
            "ticket-file",
            None,
            None,
            "File with a ticket, or - to be asked for it; instead of TOPIC.",
            value_of("ticket-file", path_name),
        ],
        [
            "secret-file",
            None,
            None,
            "File with the secret of TOPIC, mode 0600, or -. Default: the empty secret.",
            value_of("secret-file", path_name),
        ],
    ]

    def parseArgs(self, *topics: str) -> None:
        """
        Take the topic.

        @raise usage.UsageError: there is more than one.
        """
        self["topic"] = at_most_one(self.name, "TOPIC", topics)

    def postOptions(self) -> None:
        """
        Check that there is one topic.

        @raise usage.UsageError: there is none, or there are two.
        """
        if (self["topic"] is None) is not bool(self["ticket-file"]):
            raise usage.UsageError(f"{self.name} takes --ticket-file FILE, or one TOPIC")
        if self["ticket-file"] is not None and self["secret-file"] is not None:
            raise usage.UsageError("--secret-file: a ticket has its own secret")

    def read_topic(self) -> None:
        """
        Read the ticket, or the secret.

        @raise DTTError: a file can't be read, or a ticket is damaged.
        """
        if self["ticket-file"] is not None:
            with naming("--ticket-file"):
                ticket = read_tickets(self["ticket-file"])[0]
            self.topic = TopicSettings(ticket.label, ticket.topic_id, ticket.secret)
        else:
            topic_id, secret = topic_to_join(self["topic"]), b""
            if self["secret-file"] is not None:
                with naming("--secret-file"):
                    secret = read_secret(self["secret-file"], standard_input())
            if not secret:
                warn_without_secret(self["topic"])
            self.topic = TopicSettings(self["topic"], topic_id, secret)

    def config(self) -> Config:
        """
        Return the settings of the tracker of this command.
        """
        bootstrap = self["bootstrap"] or PUBLIC_BOOTSTRAP
        dht = DHTConfig(bind=self["bind"], bootstrap=tuple(bootstrap))
        return Config(transport=(), port_mapping=False, dht=dht)

    def tracker(self, reactor: Any) -> Tracker:
        """
        Create the tracker.
        """
        return Tracker(reactor, self.config(), self.on_event, key=self.key)

    def on_event(self, event: Event) -> None:
        """
        Handle an event of the tracker: show warnings.
        """
        if event.is_warning and not isinstance(event, RecordsUnreadable):
            log_event(event)

    async def ask(self, reactor: Any, tracker: Tracker) -> int:
        """
        Run the operation of the command.

        @param tracker: a running tracker.
        @return: the exit code.
        """
        raise NotImplementedError

    def run(self) -> int:
        """
        Run the command, with a tracker.

        @return: the exit code.
        """
        warnings_to_stderr()
        self.read_topic()

        async def work(reactor: Any) -> int:
            tracker = self.tracker(reactor)
            try:
                tracker.privilegedStartService()
                tracker.startService()
                return await self.ask(reactor, tracker)
            finally:
                await maybeDeferred(tracker.stopService)

        return run_coroutine(work)


def as_json(found: Found) -> dict[str, object]:
    """
    Return what was found as JSON values: C{publisher}, C{unix_minute}, C{channel}, and for a
    member of a swarm C{neighbors} and C{addresses}, else C{content} as text or C{content_hex}.
    """
    value: dict[str, object] = {
        "publisher": found.publisher.hex(),
        "unix_minute": found.minute,
        "channel": found.channel,
    }
    try:
        member = GossipContent.decode(found.content)
    except DecodeError:
        try:
            return {**value, "content": found.content.decode("utf-8")}
        except UnicodeDecodeError:
            return {**value, "content_hex": found.content.hex()}
    return {
        **value,
        "neighbors": [peer.hex() for peer in member.active_peers],
        "addresses": [str(address) for address in member.addresses],
    }


def row(found: Found, width: int) -> str:
    """
    Return a publisher as one line.

    @param width: the width in columns.
    """
    value = as_json(found)
    neighbors, addresses = value.get("neighbors"), value.get("addresses")
    if isinstance(neighbors, list) and isinstance(addresses, list):
        what = f"member with {count_of(len(neighbors), 'neighbour')}"
        if addresses:
            what += f", at {', '.join(addresses)}"
    else:
        what = printable(str(value.get("content", value.get("content_hex"))).rstrip("\n"))
    line = f"{found.publisher.hex()[:10]}  {what}"
    return line if len(line) <= width else f"{line[: max(width - 3, 1)]}..."


class FindOptions(SlotCommand):
    """
    The options of C{dtt find}.
    """

    synopsis = "[options] --ticket-file FILE | TOPIC"
    longdesc = (
        "Looks for the members of a topic, and for publishers of announced contents, without "
        "joining, and lists them. Exits with 3 if nobody was found."
    )
    optParameters = [["timeout", "t", TIMEOUT, "Seconds to look.", value_of("timeout", seconds)]]

    async def ask(self, reactor: Any, tracker: Tracker) -> int:
        """
        Look for others.

        @return: the exit code.
        @raise LookupFailed: no DHT node answered in time, and nobody was found.
        """
        seen: set[bytes] = set()
        progress = Progress()

        def on_found(found: Found) -> None:
            if found.publisher in seen:
                return
            seen.add(found.publisher)
            progress.clear()
            if self["json"]:
                print_line(json.dumps(as_json(found)))
            else:
                print_line(row(found, terminal_width() if sys.stdout.isatty() else 10**6))
            over.reset(SETTLE)

        topic = self.topic
        progress.show(f"Looking for {topic.topic_id.label}")
        waiting: Deferred[None] = Deferred()
        over = reactor.callLater(self["timeout"], waiting.callback, None)
        service = tracker.discover(topic.topic_id, secret=topic.secret or b"", on_found=on_found)
        try:
            await waiting
        finally:
            progress.clear()
            if over.active():
                over.cancel()
        if seen:
            return 0
        if not any(side.ready for side in tracker.dht.sides):
            raise self.no_node()
        text = f"nobody was found within {self['timeout']:g} s"
        unreadable = service.unreadable()
        if unreadable:
            text += f"; found {count_of(unreadable, 'record')} that our secret does not decrypt"
        remark(f"dtt: {text}")
        return NOT_FOUND


class AnnounceOptions(SlotCommand):
    """
    The options of C{dtt announce}.
    """

    key: PeerKey

    synopsis = "[options] --content FILE (--ticket-file FILE | TOPIC)"
    longdesc = (
        "Publishes your own content under a topic, for dtt find and for programs with the Rust crate, "
        "without joining a swarm, until Ctrl-C. Others can find the content for some minutes after "
        "that. Everyone who knows topic and secret can read it."
    )
    optFlags = [["once", None, "Exit when a record is stored in each slot."]]
    optParameters = [
        [
            "content",
            None,
            None,
            f"File with the content, at most {MAX_CONTENT_BYTES} bytes; - is standard input.",
            value_of("content", path_name),
        ],
        [
            "key-file",
            None,
            None,
            "Key with which to sign: 64 hexadecimal digits, mode 0600. Default: a temporary one.",
            value_of("key-file", path_name),
        ],
        [
            "timeout",
            "t",
            60.0,
            "Seconds for the first DHT node to answer, and then for the first record to be stored.",
            value_of("timeout", seconds),
        ],
    ]

    def postOptions(self) -> None:
        """
        Check that there is one topic, and a content.

        @raise usage.UsageError: there is not.
        """
        super().postOptions()
        if self["content"] is None:
            raise usage.UsageError("--content FILE is required")
        if self["content"] == "-" and "-" in (self["secret-file"], self["ticket-file"]):
            raise UsageError("the content and the secret can't both come from standard input")

    def __init__(self) -> None:
        super().__init__()
        # The channels that have our record, and who waits for more of them.
        self._stored: set[str] = set()
        self._waiters: Waiters[None] = Waiters()

    def run(self) -> int:
        """
        Publish.

        @return: the exit code.
        """
        self.content = self._read()
        self.key = PeerKey.generate()
        if self["key-file"] is not None:
            with naming("--key-file"):
                self.key = load_key(self["key-file"])
        return super().run()

    def on_event(self, event: Event) -> None:
        """
        Report each record that is stored, and warnings.
        """
        super().on_event(event)
        if not isinstance(event, RecordPublished):
            return
        peer_id, minute, copies = self.key.peer_id.hex(), event.minute, event.stored
        if self["json"]:
            value = {"publisher": peer_id, "unix_minute": minute, "stored": copies, "channel": event.channel}
            print_line(json.dumps(value))
        else:
            where = f"{count_of(copies, 'DHT node')} ({event.channel.replace('_', ' ')})"
            print_line(f"{peer_id[:10]}  minute {minute}: stored on {where}")
        self._stored.add(event.channel)
        self._waiters.fire(None)

    async def ask(self, reactor: Any, tracker: Tracker) -> int:
        """
        Publish until a signal arrives.

        @return: the exit code.
        @raise LookupFailed: the first record was not stored in time.
        """
        topic, timeout = self.topic, self["timeout"]
        try:
            await tracker.dht.when_ready().addTimeout(timeout, reactor)
        except TimeoutError:
            raise self.no_node() from None
        tracker.discover(topic.topic_id, secret=topic.secret or b"", content=self.content)
        try:
            await Deferred.fromCoroutine(self._in_slots(1)).addTimeout(timeout, reactor)
        except TimeoutError:
            raise LookupFailed(f"no record was stored within {timeout:g} s") from None
        try:
            if self["once"]:
                both = Deferred.fromCoroutine(self._in_slots(1 + bool(topic.secret)))
                await both.addTimeout(OTHER_SLOT, reactor)
            else:
                await Deferred()
        except TimeoutError:  # the other slot is full
            pass
        except CancelledError:  # Ctrl-C
            if self["once"]:
                raise
        return 0

    async def _in_slots(self, needed: int) -> None:
        """
        Wait until our record is stored in a number of slots.
        """
        while len(self._stored) < needed:
            await self._waiters.wait()

    def _read(self) -> bytes:
        try:
            if self["content"] == "-":
                stdin = standard_input()
                data = b"" if stdin is None else stdin.read(MAX_CONTENT_BYTES + 1)
            else:
                with open(self["content"], "rb") as file:
                    data = file.read(MAX_CONTENT_BYTES + 1)
        except OSError as error:
            name = "standard input" if self["content"] == "-" else shown(self["content"])
            raise StateError(f"--content: can't read {name}: {reason_of(error)}") from None
        if len(data) > MAX_CONTENT_BYTES:
            raise UsageError(f"--content: a record has room for {MAX_CONTENT_BYTES} bytes")
        return data
