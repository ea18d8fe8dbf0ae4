"""
Members and items on a DHT of 30 libtorrent clients.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from hashlib import sha1
from random import SystemRandom
from typing import Any, cast

from attrs import evolve
from nacl.bindings import crypto_sign_seed_keypair
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from dtt.addresses.book import AddressBook
from dtt.config import BootstrapConfig, Config
from dtt.dht.client.placement import MAX_SEQ
from dtt.dht.node import DHTNode
from dtt.dht.routing.buckets import K
from dtt.discovery.record_slot import RecordClient
from dtt.discovery.shared import SharedServices
from dtt.discovery.slot_reader import URGENT
from dtt.events import RecordPublished
from dtt.identity import PeerKey
from dtt.interfaces import IPlacement, MutableRead, NodeAnswer
from dtt.records.record import GossipContent
from dtt.records.topic import TopicId, TopicKeys, initial_secret_hash, unix_minute
from tests.interop.support import LOOPBACK, NO_LIBTORRENT, Member, dtt_swarm, stop_all, until

if NO_LIBTORRENT is None:
    from tests.interop.libtorrent_swarm import LibtorrentClient, LibtorrentSwarm

#: The number of libtorrent nodes (docs/protocol/dht.md section 4 was measured with this number).
NODES = 30


class _LibtorrentCase(TestCase):
    """
    Runs each test on a separate swarm.
    """

    skip = NO_LIBTORRENT
    timeout = 180

    def setUp(self) -> Deferred[None]:  # type: ignore[override]
        """
        Start the swarm.
        """
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.nodes = 0
        self.swarm = LibtorrentSwarm(NODES)
        self.addCleanup(self.swarm.stop)
        return Deferred.fromCoroutine(self.swarm.settled(self.reactor))

    def node(self) -> DHTNode:
        """
        A running dtt node with its own address, because there are limits per address.
        """
        self.nodes += 1
        host = f"127.0.{self.nodes}.1"
        node = DHTNode(self.reactor, interface=host, bootstrap=self.swarm.addresses[:3])
        node.startService()
        self.addCleanup(node.stopService)
        return node


class MemberTests(_LibtorrentCase):
    """
    Members whose records are stored only on libtorrent nodes.
    """

    def member(self, name: str, secret: bytes) -> Member:
        """
        A running member.
        """
        member = Member(self.reactor, self.swarm.addresses[:3], name, secret)
        member.start(deaf=True)
        self.addCleanup(member.stop)
        return member

    async def _meet(self) -> None:
        def published(member: Member) -> bool:
            return any(isinstance(event, RecordPublished) for event in member.events)

        secret = os.urandom(16)
        members = [self.member("interop", secret), self.member("interop", secret)]
        await gatherResults([member.topic.when_joined() for member in members])
        members.append(self.member("interop", secret))
        await members[2].topic.when_joined()
        await until(self.reactor, lambda: all(len(member.topic.neighbors()) == 2 for member in members))
        for number, member in enumerate(members):
            await member.topic.broadcast(b"from %d" % number)
        expected = [{b"from %d" % other for other in range(3) if other != number} for number in range(3)]
        await until(self.reactor, lambda: [set(member.listener.contents) for member in members] == expected)
        await until(self.reactor, lambda: any(map(published, members)))
        for member in members:
            self.assertEqual(len(member.node.responder.items), 0, "a dtt node keeps a record")

    def test_pair_and_newcomer(self) -> Deferred[None]:
        """
        Two members started together, and a third one that starts later, form one swarm;
        each receives the messages of both others, and no dtt node holds a record.
        """
        return Deferred.fromCoroutine(self._meet())


class RecoveryTests(_LibtorrentCase):
    """
    Many publishers in one slot; the reader looks twice, as the fetcher does.
    """

    def client(self, cap: int) -> RecordClient:
        """
        A member's record client, with its own DHT node.
        """
        rng, key = SystemRandom(), PeerKey.generate()
        shared = SharedServices(
            self.reactor,
            rng,
            Config(bootstrap=BootstrapConfig(max_bootstrap_records=cap)),
            key,
            self.node(),
            AddressBook(self.reactor, rng, tuple, key.peer_id),
            cast(Any, None),  # records need no transport
            lambda _: None,
            lambda: False,
        )
        return RecordClient(shared, TopicKeys(self.topic, initial_secret_hash(b"secret")))

    async def _recover(self, count: int, at_once: bool) -> int:
        self.topic = TopicId.from_name(os.urandom(8))
        minute = unix_minute(self.reactor.seconds())
        publishers = [self.client(count + 1) for _ in range(count)]
        content = GossipContent((), (), ())

        async def publish(client: RecordClient) -> None:
            await client.publish(minute, lambda: content, "test")

        publishing = []
        for client in publishers:
            publishing.append(Deferred.fromCoroutine(publish(client)))
            if not at_once:
                await publishing.pop()
        await gatherResults(publishing)
        reader = self.client(0)
        found = await reader.fetch((minute,), "test", URGENT)
        # As the fetcher does after two seconds: a node that was busy during the first
        # lookup, or that nobody named, is found by the second.
        found += await reader.fetch((minute,), "test", evolve(URGENT, lifetime=0.0))
        return len({record.publisher for record in found})

    async def _all(self, count: int, at_once: bool) -> None:
        self.assertEqual(await self._recover(count, at_once), count)

    def test_2(self) -> Deferred[None]:
        """
        Of 2 concurrent publishers a fresh reader recovers all (upstream: 50 %).
        """
        return Deferred.fromCoroutine(self._all(2, True))

    def test_5(self) -> Deferred[None]:
        """
        Of 5 concurrent publishers it recovers all (upstream: 20 %).
        """
        return Deferred.fromCoroutine(self._all(5, True))

    def test_10(self) -> Deferred[None]:
        """
        Of 10 concurrent publishers it recovers all, with a higher cap (upstream: 10 %).
        """
        return Deferred.fromCoroutine(self._all(10, True))

    def test_20(self) -> Deferred[None]:
        """
        Of 20 concurrent publishers it recovers all (upstream: 5 %), although they enlarge
        the DHT by two thirds within the second in which all of them write.
        """
        return Deferred.fromCoroutine(self._all(20, True))

    def test_20_one_after_another(self) -> Deferred[None]:
        """
        Of 20 publishers that start one after another, each finding the earlier ones, it
        recovers all.
        """
        return Deferred.fromCoroutine(self._all(20, False))


class ItemTests(_LibtorrentCase):
    """
    Items are exchanged between libtorrent and dtt.
    """

    def client(self) -> LibtorrentClient:
        """
        A session used through libtorrent's API.
        """
        client = LibtorrentClient(self.reactor, self.swarm.addresses)
        self.addCleanup(client.stop)
        return client

    async def _exchange(self, client: LibtorrentClient, node: DHTNode) -> None:
        await client.known(8)
        await exchange(self, client, node)

    def test_exchange(self) -> Deferred[None]:
        """
        A session gets an item put by a dtt node, and a dtt node one put by a session.
        """
        return Deferred.fromCoroutine(self._exchange(self.client(), self.node()))


class DTTSwarmTests(TestCase):
    """
    A DHT of dtt nodes only.
    """

    skip = NO_LIBTORRENT
    timeout = 180

    async def _serve(self) -> None:
        from twisted.internet import reactor

        nodes = await dtt_swarm(reactor, 16)
        self.addCleanup(lambda: Deferred.fromCoroutine(stop_all(nodes)))
        client = LibtorrentClient(reactor, [(LOOPBACK, node.port) for node in nodes])
        self.addCleanup(client.stop)
        await client.known(8)
        await exchange(self, client, nodes[5])
        self.assertGreaterEqual(sum(len(node.responder.items) for node in nodes), 16)

    def test_serves_libtorrent(self) -> Deferred[None]:
        """
        A libtorrent session can use a DHT of 16 dtt nodes: its items are stored and
        found.
        """
        return Deferred.fromCoroutine(self._serve())


@implementer(IPlacement)
class NearestPlacement:
    """
    BEP44's placement: a plain reader queries only the 8 nearest nodes.
    """

    def plan(self, read: MutableRead, value: bytes) -> Sequence[Sequence[NodeAnswer]]:
        """
        Place a copy on each node.
        """
        return [[answer] for answer in read.answers[:K]]

    def overwrite(self, read: MutableRead, value: bytes) -> Sequence[NodeAnswer]:
        """
        Never overwrite.
        """
        return []


async def exchange(case: TestCase, client: LibtorrentClient, node: DHTNode) -> None:
    """
    Put and get mutable and immutable items in both directions.
    """
    seed, salt = os.urandom(32), os.urandom(32)
    public_key = crypto_sign_seed_keypair(seed)[0]
    read = await node.get_mutable(public_key, salt)
    result = await node.put_mutable(seed, salt, b"from dtt", NearestPlacement(), read)
    case.assertEqual(len(result.stored), K, result)
    got = await client.get_mutable(public_key, salt)
    case.assertEqual((got.value, got.seq), (b"from dtt", MAX_SEQ))

    seed = os.urandom(32)
    public_key = crypto_sign_seed_keypair(seed)[0]
    client.put_mutable(seed, public_key, salt, b"from libtorrent")
    case.assertGreaterEqual(await client.put_done(), 4)
    read = await node.get_mutable(public_key, salt)
    case.assertEqual(list(read.values()), [b"from libtorrent"])
    case.assertGreaterEqual(len(read.values()[b"from libtorrent"]), 4)

    value = b"immutable, from dtt " + os.urandom(4).hex().encode()
    encoded = b"%d:%s" % (len(value), value)
    stored = await node.put_immutable(encoded)
    case.assertGreaterEqual(len(stored.stored), 4)
    case.assertEqual((await client.get_immutable(sha1(encoded).digest())).value, value)

    value = b"immutable, from libtorrent"
    target = client.put_immutable(value)
    case.assertGreaterEqual(await client.put_done(), 4)
    case.assertEqual(await node.get_immutable(target), b"%d:%s" % (len(value), value))
