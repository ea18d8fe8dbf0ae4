"""
A Python member of one topic that accepts the same commands as the Rust ones, see
C{rust/src/member.rs}: C{python -m tests.interop.python_member [options] TOPIC}.

The options are those of C{dtt chat}, and C{--rotation}, C{--publisher},
C{--bubble-merge}, C{--overlap-merge}, C{--shuffle-interval} as in C{tracker-peer}. There
is one more command: C{status} reports the neighbours and the number of messages of each
kind that were read.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.stdio import StandardIO
from twisted.internet.task import deferLater
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python import usage
from twisted.python.failure import Failure
from zope.interface import implementer

from dtt.app.eventlog import json_line
from dtt.app.options import TrackerOptions
from dtt.cli.running import run_reactor, warnings_to_stderr
from dtt.errors import LocalError
from dtt.events import Event, Message
from dtt.gossip import member as members
from dtt.gossip.proto.messages import Message as GossipMessage
from dtt.interfaces import IAddressBook
from dtt.net.host_port import parse_host_port
from dtt.records.topic import Rotation, TopicId, default_rotation, truncated_sha512
from dtt.tracker import topic as topics
from dtt.tracker.topic import TopicService
from dtt.tracker.tracker import Tracker
from dtt.wire.addresses import IROH, PeerAddress, RelayAddress


def reversed_rotation(topic_id: bytes, minute: int, secret_hash: bytes) -> bytes:
    """
    The hash of the default rotation, with its parts in reverse order; as C{tracker-peer
    --rotation reversed}.
    """
    return truncated_sha512(secret_hash + minute.to_bytes(8, "big") + topic_id)


ROTATIONS: dict[str, Rotation] = {"default": default_rotation, "reversed": reversed_rotation}


def _bytes(word: str) -> bytes:
    return b"" if word == "-" else bytes.fromhex(word)


def numbered(prefix: bytes, number: int, size: int) -> bytes:
    """
    A numbered content of C{bulk}.
    """
    return (prefix + number.to_bytes(4, "big")).ljust(size, b"\0")


@implementer(IHalfCloseableProtocol)
class Lines(LineOnlyReceiver):
    """
    Standard input and output.
    """

    delimiter = b"\n"

    def __init__(self, member: Member) -> None:
        self._member = member

    def lineReceived(self, line: bytes) -> None:
        """
        Execute a command.
        """
        self._member.obey(line.decode())

    def readConnectionLost(self) -> None:
        """
        Handle the end of the input.
        """
        self._member.finish()

    def writeConnectionLost(self) -> None:
        """
        Handle the end of the output.
        """
        self._member.finish()

    def connectionLost(self, reason: Failure | None = None) -> None:
        """
        Handle the end of both.
        """
        self._member.finish()


class Member:
    """
    The tracker and its topic.

    @ivar done: fires at the end of the input.
    """

    topic: TopicService
    book: IAddressBook

    def __init__(self, reactor: Any, read: Counter[str]) -> None:
        """
        @param read: the number of gossip messages read, by kind.
        """
        self.done: Deferred[None] = Deferred()
        self.lines = Lines(self)
        self._reactor = reactor
        self._read = read
        self._counted: dict[bytes, Counter[bytes]] = {}
        self._finished = False

    def finish(self) -> None:
        """
        Fire C{done}.
        """
        if not self._finished:
            self._finished = True
            self.done.callback(None)

    def emit(self, name: str, **fields: object) -> None:
        """
        Print an event that dtt does not have.
        """
        event = {"event": name, "time": self._reactor.seconds(), **fields}
        self._write(json.dumps(event) + "\n")

    def on_event(self, event: Event) -> None:
        """
        Print an event of dtt.
        """
        if isinstance(event, Message):
            for prefix, contents in self._counted.items():
                if event.content.startswith(prefix):
                    contents[event.content[: len(prefix) + 4]] += 1
                    return
        self._write(json_line(event, self._reactor.seconds()))

    def _write(self, line: str) -> None:
        if self.lines.transport is not None:
            self.lines.transport.write(line.encode())

    def obey(self, line: str) -> None:
        """
        Execute a command.
        """
        name, *words = line.split()
        try:
            getattr(self, f"do_{name}")(*words)
        except LocalError as error:
            self.emit("error", words=str(error))

    def do_say(self, content: str) -> None:
        """Broadcast to all members."""
        self.topic.broadcast(_bytes(content))

    def do_neighbors(self, content: str) -> None:
        """Broadcast to direct neighbours."""
        self.topic.broadcast_neighbors(_bytes(content))

    @inlineCallbacks
    def do_bulk(self, prefix: str, count: str, size: str, rate: str) -> Any:
        """Broadcast many numbered contents."""
        begun = self._reactor.seconds()
        for number in range(int(count)):
            yield self.topic.broadcast(numbered(_bytes(prefix), number, int(size)))
            # Don't catch up after delays: no bursts.
            yield deferLater(self._reactor, 1 / float(rate) if float(rate) else 0.0)
        self.emit("sent", prefix=prefix, seconds=self._reactor.seconds() - begun)

    def do_quiet(self, prefix: str) -> None:
        """Count contents with a prefix."""
        self._counted[_bytes(prefix)] = Counter()

    def do_count(self, prefix: str) -> None:
        """Report the number of contents with a prefix."""
        contents = self._counted[_bytes(prefix)]
        self.emit("count", prefix=prefix, count=contents.total(), distinct=len(contents))

    def do_join(self, *peers: str) -> None:
        """Join peers by their ids."""
        self.topic.join_peers([bytes.fromhex(peer) for peer in peers])

    def do_learn(self, peer: str) -> None:
        """Add the address of a peer."""
        peer_id, _, place = peer.partition("@")
        address = RelayAddress(place) if "://" in place else PeerAddress(IROH, *parse_host_port(place))
        self.book.learn(bytes.fromhex(peer_id), [address], "test")

    def do_status(self) -> None:
        """Report the status."""
        neighbors = [peer.hex() for peer in self.topic.neighbors()]
        self.emit("status", neighbors=neighbors, read=dict(self._read))


class MemberOptions(TrackerOptions):
    """
    The options of the module's command line.
    """

    optParameters = [
        ["rotation", None, "default", "How the records' key comes about: default or reversed."],
        ["publisher", None, None, "INITIAL,BASE,JITTER in seconds."],
        ["bubble-merge", None, None, "The same of bubble merge; 0: without."],
        ["overlap-merge", None, None, "The same of message overlap merge; 0: without."],
        ["shuffle-interval", None, None, "Seconds between two Shuffles.", float],
    ]

    def parseArgs(self, *topics: str) -> None:
        """
        Parse the topic.
        """
        (self["topic"],) = topics


def paced(config: Any, pace: str | None, initial: str = "initial_interval") -> Any:
    """
    A service's configuration with other intervals.
    """
    if pace is None:
        return config
    if pace == "0":
        return evolve(config, enabled=False)
    first, base, jitter = map(float, pace.split(","))
    return evolve(config, **{initial: first}, base_interval=base, max_jitter=jitter)


def count_messages(shuffle_interval: float | None) -> Counter[str]:
    """
    Let members count the messages they read, and shuffle more often than dtt's settings
    allow.
    """
    read: Counter[str] = Counter()
    decode = vars(members)["decode"]

    def counting(body: bytes) -> GossipMessage:
        message: GossipMessage = decode(body)
        read[type(message).__name__] += 1
        return message

    vars(members).update(decode=counting)
    if shuffle_interval is not None:
        make = vars(topics)["GossipConfig"]
        vars(topics).update(
            GossipConfig=lambda **settings: make(**{**settings, "shuffle_interval": shuffle_interval})
        )
    return read


def main(arguments: list[str]) -> int:
    """
    Run the program.
    """
    options = MemberOptions()
    try:
        options.parseOptions(arguments)
    except usage.UsageError as error:
        print(error, file=sys.stderr)
        return 2
    config, _ = options.load(None)
    config = evolve(
        config,
        dht=evolve(config.dht, bind="127.0.0.1"),
        publisher=paced(config.publisher, options["publisher"], "initial_delay"),
        bubble_merge=paced(config.bubble_merge, options["bubble-merge"]),
        message_overlap_merge=paced(config.message_overlap_merge, options["overlap-merge"]),
    )
    warnings_to_stderr()
    running: list[Member] = []

    async def serve(reactor: Any) -> int:
        member = Member(reactor, count_messages(options["shuffle-interval"]))
        running.append(member)
        tracker = Tracker(reactor, config, member.on_event)
        member.book = tracker._shared.book
        member.topic = tracker.join(
            TopicId.parse(options["topic"]), options.read_secret() or b"", ROTATIONS[options["rotation"]]
        )
        tracker.privilegedStartService()
        StandardIO(member.lines, reactor=reactor)
        tracker.startService()
        await member.done
        await tracker.stopService()
        return 0

    return run_reactor(lambda reactor: Deferred.fromCoroutine(serve(reactor)), lambda: running[0].finish())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
