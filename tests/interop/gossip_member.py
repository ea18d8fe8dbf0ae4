"""
A member without a tracker, as a process: C{python -m tests.interop.gossip_member
TRANSPORT [HOST]}; see L{tests.interop.gossip_trio}.

The first line of its output contains its id and addresses. It reads commands from
standard input and answers each on standard output, all as lines of JSON:

    {"join": [["PEER ID", [[TRANSPORT, "HOST", PORT], ...]], ...]}  ->  {"joined": true}
    {"send": COUNT, "size": BYTES, "label": "TEXT"}                 ->  {"started": S, "sent": S}
    {"watch": true}                                     ->  {"turn": S}
    {"receive": COUNT, "label": "TEXT", "quiet": S}                 ->  {"received": N, "last": S}

C{watch} asks for the longest turn of the reactor since the last time, in seconds of CPU
time of its thread; the first one starts the measurement. C{receive} waits for this
number of distinct contents, or until none has arrived for C{quiet} seconds. Times are of
the system's monotonic clock, which all processes share. It stops at the end of its
input.
"""

from __future__ import annotations

import gc
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from importlib import import_module
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.stdio import StandardIO
from twisted.internet.task import deferLater, react
from twisted.logger import Logger
from twisted.protocols.basic import LineReceiver

from dtt.addresses.book import AddressBook
from dtt.cli.running import warnings_to_stderr
from dtt.gossip.member import GossipMember
from dtt.gossip.services import GossipServices
from dtt.identity import PeerKey
from dtt.interfaces import GossipMessage, IListener
from dtt.transport.streams.transport import StreamsTransport
from dtt.wire.addresses import PeerAddress

TOPIC, SECRET_HASH = b"benchmark".ljust(32, b"."), bytes(32)

#: The size in bytes of the number that makes a content unique.
_NUMBER = 4

#: Seconds between two looks at the duration of turns.
_TICK = 0.002


def _streams(reactor: Any, key: PeerKey) -> IListener:
    return StreamsTransport(reactor, key)


def _iroh(reactor: Any, key: PeerKey) -> IListener:
    # It requires the extra.
    listener: IListener = import_module("dtt.transport.iroh.transport").IrohTransport(reactor, key)
    return listener


TRANSPORTS = {"streams": _streams, "iroh": _iroh}


class Counting:
    """
    Counts the contents of each label.

    @ivar counts: the numbers of contents.
    @ivar last: when the last one arrived.
    """

    def __init__(self) -> None:
        self.counts: Counter[bytes] = Counter()
        self.last: dict[bytes, float] = {}

    def neighbor_up(self, peer_id: bytes) -> None:
        """
        Do nothing.
        """

    def neighbor_down(self, peer_id: bytes) -> None:
        """
        Do nothing.
        """

    def message_received(self, message: GossipMessage) -> None:
        """
        Count the content: the swarm delivers each content once.
        """
        label = message.content.partition(b" ")[0]
        self.counts[label] += 1
        self.last[label] = time.monotonic()


class Commands(LineReceiver):
    """
    Executes the benchmark's commands.

    @ivar ended: fires at the end of the input.
    """

    delimiter = b"\n"
    _log = Logger()

    def __init__(self, reactor: Any, kind: str, host: str) -> None:
        rng = random.SystemRandom()
        key = PeerKey.from_seed(rng.randbytes(32))
        self.ended: Deferred[None] = Deferred()
        self._reactor = reactor
        self._peer_id = key.peer_id
        self._transport = TRANSPORTS[kind](reactor, key)
        self._host = host
        self._transport.listen(host, 0)
        self._book = AddressBook(reactor, rng, self._transport.addresses, key.peer_id)
        services = GossipServices(reactor, rng, key.peer_id, self._transport, self._book)
        self._member = GossipMember(services, TOPIC, SECRET_HASH)
        self._counting = Counting()
        self._member.subscribe(self._counting)
        self._member.start()
        self._longest_turn = self._last_turn = 0.0
        self._watching = False

    def connectionMade(self) -> None:
        """
        Print the member's id and addresses.
        """
        here = (self._transport.kinds[0], self._host, self._transport.port)
        self._say(peer=self._peer_id.hex(), addresses=[here])

    def lineReceived(self, line: bytes) -> None:
        """
        Execute a command.
        """
        command = json.loads(line)
        works: dict[str, Callable[..., Coroutine[Deferred[Any], Any, None]]]
        works = {"join": self._join, "send": self._send, "receive": self._receive, "watch": self._watch}
        work = next(works[name] for name in works if name in command)
        Deferred.fromCoroutine(work(**command)).addErrback(
            lambda failure: self._log.failure("failed", failure)
        )

    async def _join(self, join: list[tuple[str, list[tuple[int, str, int]]]]) -> None:
        peers = {bytes.fromhex(peer): addresses for peer, addresses in join}
        for peer, addresses in peers.items():
            self._book.learn(peer, [PeerAddress(*address) for address in addresses], "record")
        while missing := peers.keys() - set(self._member.neighbors()):
            self._member.join(tuple(missing))
            await deferLater(self._reactor, 0.2)
        self._say(joined=True)

    async def _send(self, send: int, size: int, label: str) -> None:
        prefix = label.encode() + b" "
        filling = bytes(size - len(prefix) - _NUMBER)
        started = time.monotonic()
        for number in range(send):
            await self._member.broadcast(prefix + number.to_bytes(_NUMBER, "big") + filling)
        self._say(started=started, sent=time.monotonic())

    async def _receive(self, receive: int, label: str, quiet: float) -> None:
        key = label.encode()
        began = time.monotonic()
        while (count := self._counting.counts[key]) < receive:
            if time.monotonic() - self._counting.last.get(key, began) > quiet:
                break
            await deferLater(self._reactor, 0.05)
        self._say(received=count, last=self._counting.last.get(key, began))

    async def _watch(self, watch: bool) -> None:
        self._say(turn=self._longest_turn)
        self._longest_turn = 0.0
        if not self._watching:
            # Only now: the clock of a thread takes some of the time that benchmarks measure.
            self._watching = True
            self._tick()

    def _tick(self) -> None:
        """
        Measure the time of the turns since the last tick: one, if it was long.
        """
        now = time.thread_time()
        self._longest_turn = max(self._longest_turn, now - (self._last_turn or now))
        self._last_turn = now
        self._reactor.callLater(_TICK, self._tick)

    def _say(self, **words: Any) -> None:
        self.sendLine(json.dumps(words).encode())

    def connectionLost(self, reason: object = None) -> None:
        """
        Fire C{ended}.
        """
        self._transport.stop().chainDeferred(self.ended)


def main(reactor: Any, kind: str, host: str = "127.0.0.1") -> Deferred[None]:
    """
    Run the member until the end of its input.
    """
    warnings_to_stderr()
    # Looking for garbage in what the interpreter has loaded would take longer than any turn.
    gc.collect()
    gc.freeze()
    commands = Commands(reactor, kind, host)
    StandardIO(commands)
    return commands.ended


if __name__ == "__main__":
    react(main, sys.argv[1:])
