"""
Members that start where nobody knows them, on a DHT of the real size, in
virtual time.

    meeting = newcomer(Setting(silent=0.35, loss=0.015), run=1)
    meeting.seconds

L{pair} and L{newcomer} measure what a user waits for; L{recall} measures how
many of the nodes that are really the nearest a slot read finds.

The same setting and run give the same times and the same datagrams.  Not so
what is in them: the keys of TLS and of records are the system's, which
neither changes a size nor a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from attrs import frozen
from twisted.internet.defer import Deferred, gatherResults

from dtt.dht.node import DHTNode
from dtt.errors import TopicLeft
from dtt.interfaces import MutableRead
from dtt.krpc.items import mutable_target
from dtt.testing.vast.world import Setting, World
from dtt.tracker.tracker import Tracker

__all__ = ["Meeting", "Recall", "Setting", "newcomer", "pair", "recall"]

#: Two that start together do so within this time, seconds.
APART: Final = 1.0

#: The newcomer starts so many seconds after the other one: it may fall into
#: each part of a minute, and the other one has published before.
ALONE: Final = (20.0, 50.0)

#: Seconds after which members that have not joined are given up.
LIMIT: Final = 120.0

#: Seconds until a node that is to be measured has filled its table.  Guess.
_SETTLED: Final = 10.0

# As far as ranks are told apart.
_RANKS = 256


@frozen(slots=True)
class Meeting:
    """
    How two members met.

    @ivar seconds: from the start of the later one until both had joined;
        L{None}: they had not, L{LIMIT} seconds after that start.
    @ivar datagrams: how many each of them had sent to the DHT until it joined
        or was given up; the later one is the last.
    @ivar digest: of when, from where, to where and with how many bytes each
        datagram was sent: equal if two runs were.
    """

    seconds: float | None
    datagrams: tuple[int, int]
    digest: str


@frozen(slots=True)
class Recall:
    """
    What one slot read found.

    @ivar inner: the share of the 12 living nodes that are really the nearest
        to the slot.
    @ivar all: the share of the 32 nearest.
    @ivar best: how many living nodes are nearer than the nearest that was found.
    @ivar queries: datagrams sent to the DHT meanwhile.
    @ivar seconds: how long it took.
    """

    inner: float
    all: float
    best: int
    queries: int
    seconds: float


def pair(setting: Setting, run: int = 0) -> Meeting:
    """
    Two strangers start within a second.
    """
    return _meet(setting, run, (0.0, APART))


def newcomer(setting: Setting, run: int = 0) -> Meeting:
    """
    One member has been alone for a while when another one starts.
    """
    return _meet(setting, run, ALONE)


def _meet(setting: Setting, run: int, wait: tuple[float, float]) -> Meeting:
    world = World(setting, run)
    with _members(world, 2) as members:
        joined: list[Deferred[None]] = []
        # Of each that has joined: when, and how many datagrams it had sent.
        at: dict[Tracker, tuple[float, int]] = {}
        began = 0.0
        for member in members:
            if joined:
                world.net.advance(world.rng.uniform(*wait))
            began = world.clock.seconds()
            joined.append(_start(world, member, at))
        world.until(gatherResults(joined), LIMIT)
        first, last = (at.get(member, (inf, world.sent[_host(member)])) for member in members)
        seconds = max(first[0], last[0]) - began
        return Meeting(None if seconds == inf else seconds, (first[1], last[1]), world.digest())


def _host(member: Tracker) -> str:
    return member.config.listen[0]


def _start(world: World, member: Tracker, at: dict[Tracker, tuple[float, int]]) -> Deferred[None]:
    def joined(_: object) -> None:
        at[member] = world.clock.seconds(), world.sent[_host(member)]

    member.privilegedStartService()
    member.startService()
    topic = member.join("a topic", secret=b"a secret")
    return topic.when_joined().addCallback(joined).addErrback(lambda failure: failure.trap(TopicLeft))


@contextmanager
def _members(world: World, count: int) -> Iterator[list[Tracker]]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        trackers = [world.tracker(world.host(), folder / str(index)) for index in range(count)]
        try:
            yield trackers
        finally:
            for tracker in trackers:
                tracker.stopService()
            world.net.advance(5)


def recall(setting: Setting, targets: int = 200, run: int = 0) -> list[Recall]:
    """
    What the slot reads of a node that is at home in the DHT find.

    @param targets: how many slots, one after the other.
    """
    world = World(setting, run)
    host = world.host()
    node = world.node(host)
    node.privilegedStartService()
    node.startService()
    world.net.advance(_SETTLED)
    try:
        return [_recall(world, host, node) for _ in range(targets)]
    finally:
        node.stopService()
        world.net.advance(5)


def _recall(world: World, host: str, node: DHTNode) -> Recall:
    public_key, salt = world.rng.randbytes(32), world.rng.randbytes(32)
    sent, began = world.sent[host], world.clock.seconds()
    reads: list[MutableRead] = []
    ended: list[float] = []

    def keep(read: MutableRead) -> None:
        reads.append(read)
        ended.append(world.clock.seconds())

    done = node.get_mutable(public_key, salt).addCallback(keep)
    world.until(done, LIMIT)
    queries = world.sent[host] - sent
    nearest = [contact.node_id for contact in world.dht.nearest(mutable_target(public_key, salt), _RANKS)]
    found = {answer.contact.node_id for read in reads for answer in read.answers}
    best = next((rank for rank, node_id in enumerate(nearest) if node_id in found), len(nearest))
    seconds = (ended[0] if ended else world.clock.seconds()) - began
    return Recall(
        len(found.intersection(nearest[:12])) / 12,
        len(found.intersection(nearest[:32])) / 32,
        best,
        queries,
        seconds,
    )
