"""
Measurements of whole members on a DHT of realistic size, in virtual time.

Example::

    meeting = newcomer(Setting(silent=0.35, loss=0.015), run=1)
    meeting.seconds

L{pair} and L{newcomer} measure how long a user waits. L{recall} measures how many of the
truly nearest nodes a slot read finds; L{crowd}, how many concurrent publishers a reader
finds; L{joined} and L{alone}, the traffic from members to the DHT.

The same setting and run give the same times and the same sequence of datagrams. Their
contents differ: the keys of TLS and of records come from the operating system. They
affect neither sizes nor times.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from math import inf
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, Final, cast

from attrs import frozen
from twisted.internet.defer import Deferred, gatherResults

from dtt.addresses.book import AddressBook
from dtt.config import BootstrapConfig, Config
from dtt.dht.client.shortlist import MAINLINE_WIDTH
from dtt.dht.node import DHTNode
from dtt.dht.routing.ids import is_valid
from dtt.discovery.candidates import FoundRecord
from dtt.discovery.record_slot import RecordClient
from dtt.discovery.shared import SharedServices
from dtt.discovery.slot_reader import URGENT
from dtt.errors import TopicLeft
from dtt.identity import PeerKey
from dtt.interfaces import MutableRead
from dtt.krpc.bencode import decode
from dtt.krpc.items import mutable_target
from dtt.records.record import GossipContent, open_record
from dtt.records.topic import (
    TopicId,
    TopicKeys,
    initial_secret_hash,
    unix_minute,
)
from dtt.testing.vast.world import Setting, World
from dtt.tracker.tracker import Tracker

__all__ = [
    "Crowd",
    "Meeting",
    "Recall",
    "Setting",
    "Traffic",
    "alone",
    "crowd",
    "joined",
    "newcomer",
    "pair",
    "recall",
]

#: Two members that start together start within this time, in seconds.
APART: Final = 1.0

#: The newcomer starts this many seconds after the other member, at least and at most: any part of a
#: minute is possible, and the other member has published before.
ALONE: Final = (20.0, 50.0)

#: Seconds after which a scenario gives up on members that have not joined.
LIMIT: Final = 120.0

#: Seconds that a node under test gets to fill its routing table. Guess.
_SETTLED: Final = 10.0

# The duration of the earlier run of members that start warm, in seconds.
_EARLIER_RUN = 60.0

# Ranks are computed up to this number.
_RANKS = 256


@frozen(slots=True)
class Meeting:
    """
    The outcome of two members looking for each other.

    @ivar seconds: from the start of the later member until both had joined; C{None}: they
        had not joined L{LIMIT} seconds after that start.
    @ivar datagrams: the number of datagrams that each member had sent to the DHT until it
        joined or the limit was reached; the later member is the last.
    @ivar digest: a digest of the time, source, destination and size of each datagram.
        Equal digests mean that two runs were the same.
    """

    seconds: float | None
    datagrams: tuple[int, int]
    digest: str


@frozen(slots=True)
class Recall:
    """
    The result of one slot read.

    @ivar inner: the share found of the 12 living nodes truly nearest to the slot.
    @ivar all: the share found of the 32 nearest.
    @ivar best: the number of living nodes that are nearer than the nearest one found.
    @ivar queries: datagrams sent to the DHT during the read.
    @ivar seconds: the duration of the read.
    """

    inner: float
    all: float
    best: int
    queries: int
    seconds: float


@frozen(slots=True)
class Crowd:
    """
    The share of concurrent publishers that a reader finds.

    @ivar ours: the share that dtt's read of the slot finds.
    @ivar upstream: the share stored on the 20 living nodes that the crate mainline reads:
        BEP42-valid ids first, then the nearest.
    """

    ours: float
    upstream: float


@frozen(slots=True)
class Traffic:
    """
    The traffic from one member to the DHT.

    @ivar packets: datagrams per second.
    @ivar bytes: UDP payload bytes per second.
    """

    packets: float
    bytes: float


def pair(setting: Setting, run: int = 0) -> Meeting:
    """
    Two members that do not know each other start within a second.
    """
    return _meet(setting, run, (0.0, APART))


def newcomer(setting: Setting, run: int = 0) -> Meeting:
    """
    A member starts when another one has been running alone for a while.
    """
    return _meet(setting, run, ALONE)


def _meet(setting: Setting, run: int, wait: tuple[float, float]) -> Meeting:
    world = World(setting, run)
    with _members(world, 2) as members:
        joined: list[Deferred[None]] = []
        # For each member that has joined: when, and the number of datagrams it had sent.
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
        hosts = {world.host(): folder / str(index) for index in range(count)}
        if world.setting.warm:
            with _running(world, hosts) as before:
                for tracker in before:
                    tracker.privilegedStartService()
                    tracker.startService()
                world.net.advance(_EARLIER_RUN)
            world.sent.clear()
        with _running(world, hosts) as trackers:
            yield trackers


@contextmanager
def _running(world: World, hosts: dict[str, Path]) -> Iterator[list[Tracker]]:
    trackers = [world.tracker(host, state_dir) for host, state_dir in hosts.items()]
    try:
        yield trackers
    finally:
        for tracker in trackers:
            tracker.stopService()
        world.net.advance(5)


def joined(setting: Setting, run: int = 0, seconds: float = 600.0, count: int = 2) -> list[Traffic]:
    """
    The traffic of each of C{count} members, for C{seconds} seconds, beginning a minute after
    all have joined.
    """
    world = World(setting, run)
    with _members(world, count) as members:
        at: dict[Tracker, tuple[float, int]] = {}
        world.until(gatherResults([_start(world, member, at) for member in members]), LIMIT)
        world.net.advance(60)
        return _traffic(world, members, seconds)


def many_topics(setting: Setting, topics: int, run: int = 0, seconds: float = 300.0) -> tuple[Traffic, float]:
    """
    The traffic of a member with many topics, which it shares with one other member, for
    C{seconds} seconds, beginning three minutes after both have started.

    @return: the traffic, and the share of topics in which the two have met.
    """
    world = World(setting, run)
    with _members(world, 2) as members:
        for member in members:
            member.privilegedStartService()
            member.startService()
            world.net.advance(1)
        joined = [
            [member.join(str(number), secret=b"a secret") for number in range(topics)] for member in members
        ]
        world.net.advance(180)
        traffic = _traffic(world, members, seconds)[0]
        return traffic, sum(bool(topic.neighbors()) for topic in joined[0]) / topics


def alone(setting: Setting, run: int = 0, seconds: float = 600.0) -> tuple[Traffic, Traffic]:
    """
    The traffic of a member that finds no peers: for C{seconds} seconds from its start,
    and for the next C{seconds} seconds.
    """
    world = World(setting, run)
    with _members(world, 1) as members:
        _start(world, members[0], {})
        return _traffic(world, members, seconds)[0], _traffic(world, members, seconds)[0]


def _traffic(world: World, members: list[Tracker], seconds: float) -> list[Traffic]:
    hosts = [_host(member) for member in members]
    before = [(world.sent[host], world.sent_bytes[host]) for host in hosts]
    world.net.advance(seconds)
    return [
        Traffic((world.sent[host] - packets) / seconds, (world.sent_bytes[host] - size) / seconds)
        for host, (packets, size) in zip(hosts, before, strict=True)
    ]


def crowd(setting: Setting, count: int, run: int = 0) -> Crowd:
    """
    C{count} members publish in the same slot within a second. A reader starts once all
    have finished.
    """
    world = World(setting, run)
    keys = TopicKeys(TopicId.from_name(world.rng.randbytes(8)), initial_secret_hash(b"a secret"))
    minute = unix_minute(world.clock.seconds())
    nodes = [world.node(world.host()) for _ in range(count + 1)]
    for node in nodes:
        node.privilegedStartService()
        node.startService()
    try:
        reader, *writers = [_record_client(world, node, keys, count + 1) for node in nodes]
        world.net.advance(_SETTLED)
        publishing = []
        for writer in writers:
            world.net.advance(world.rng.uniform(0, APART / count))
            publishing.append(Deferred.fromCoroutine(writer.publish(minute, GossipContent, "", urgent=True)))
        world.until(gatherResults(publishing), LIMIT)
        found: list[FoundRecord] = []
        reading = Deferred.fromCoroutine(reader.fetch((minute,), "", URGENT)).addCallback(found.extend)
        world.until(reading, LIMIT)
        return Crowd(len(found) / count, _seen_by_mainline(world, keys, minute) / count)
    finally:
        for node in nodes:
            node.stopService()
        world.net.advance(5)


def _record_client(world: World, node: DHTNode, keys: TopicKeys, cap: int) -> RecordClient:
    key = PeerKey(world.rng.randbytes(32))
    shared = SharedServices(
        world.clock,
        Random(world.rng.random()),
        Config(bootstrap=BootstrapConfig(max_bootstrap_records=cap)),
        key,
        node,
        AddressBook(world.clock, Random(world.rng.random()), tuple, key.peer_id),
        cast(Any, None),  # records need no transport
        lambda event: None,
        lambda: False,
    )
    return RecordClient(shared, keys)


def _seen_by_mainline(world: World, keys: TopicKeys, minute: int) -> int:
    """
    The number of publishers with a record on the nodes that the crate mainline reads.
    """
    slot = keys.slot(minute)
    nearest = world.dht.nearest(slot.target, _RANKS)
    nearest.sort(key=lambda contact: not is_valid(contact.node_id, contact.host))
    key = keys.encryption_key(slot)
    holders = world.dht.holders(slot.target)
    numbers = (world.dht.number_at(each.host, each.port) for each in nearest[:MAINLINE_WIDTH])
    values = {holders[number] for number in numbers if number in holders}
    return len({open_record(decode(value), slot, key).publisher for value in values})


def recall(setting: Setting, targets: int = 200, run: int = 0) -> list[Recall]:
    """
    The slot reads of a node whose routing table is full.

    @param setting: the DHT and its links.
    @param targets: the number of slots, read one after another.
    @param run: a different run gives different random choices.
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
