"""
Whether the operations of a node reach the nodes nearest to their targets, in a DHT of
realistic size (docs/protocol/latency.md section 1).
"""

from __future__ import annotations

from collections.abc import Coroutine
from random import Random
from statistics import fmean
from typing import Any, TypeVar

from attrs import evolve
from nacl.bindings import crypto_sign_seed_keypair
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from dtt.dht.client.lookup import MAX_QUERIES, PATIENT_ALPHA, URGENT_ALPHA
from dtt.dht.client.placement import FirstCopy, Placement
from dtt.dht.node import DHTNode
from dtt.dht.routing.ids import distance
from dtt.interfaces import MutableRead, NodeAnswer
from dtt.krpc.bencode import decode, encode
from dtt.krpc.items import immutable_target, mutable_target
from dtt.net.networks import subnet
from dtt.testing.net.clock import HeapClock
from dtt.testing.net.machines import MachineNetwork
from dtt.testing.net.udp import Datagram
from dtt.testing.vast import Links, VastDHT, member_host
from tests.dht.network import classify, outcome, record
from tests.sweeps import sized, thorough

T = TypeVar("T")


class VastTestCase(SynchronousTestCase):
    """
    Nodes on a DHT of 2^22 other nodes.
    """

    def build(self, links: Links | None = None, **dht: Any) -> None:
        """
        Create another DHT, without nodes under test.
        """
        self.clock = HeapClock()
        self.clock.rightNow = 1e9
        self.dht = VastDHT(22, seed=1, **dht)
        self.net = MachineNetwork(
            self.clock, links=links or Links(2), rng=Random(3), beyond=self.dht, log_limit=0
        )
        self.nodes: list[DHTNode] = []

    def node(self) -> DHTNode:
        """
        Add a node under test.
        """
        host = member_host(len(self.nodes))
        node = DHTNode(
            self.net.reactor(host), interface=host, bootstrap=self.dht.bootstrap, rng=Random(len(self.nodes))
        )
        node.startService()
        self.addCleanup(node.stopService)
        self.nodes.append(node)
        return node

    def wait(self, deferred: Deferred[T], seconds: float = 60.0) -> T:
        """
        Advance time until C{deferred} fires.
        """
        results = outcome(deferred)
        end = self.clock.seconds() + seconds
        while not results and self.clock.seconds() < end:
            self.net.advance(0.05)
        self.assertEqual(len(results), 1)
        result: T = results[0]
        return result

    def sent(self, node: DHTNode) -> int:
        """
        Return the number of queries a node has sent.
        """
        return sum(count for name, count in node.krpc.counters.items() if name.startswith("sent_"))


class PeersTests(VastTestCase):
    """
    Looks for the peers of an info hash.
    """

    def test_again(self) -> None:
        """The second look begins with the nodes of the first, so it takes half of the queries."""
        self.build(silent=0.35)
        node, other = self.node(), self.node()
        self.net.advance(30)
        self.assertEqual(len(self.wait(node.get_peers(b"i" * 20))), 0)
        self.wait(other.announce_peer(b"i" * 20, 0))
        fresh, again = self.node(), node
        self.net.advance(30)
        sent = []
        for each in (fresh, again):
            before = self.sent(each)
            self.assertEqual(len(self.wait(each.get_peers(b"i" * 20))), 1)
            sent.append(self.sent(each) - before)
        self.assertLess(sent[1], 0.5 * sent[0], sent)


class SlotReadTests(VastTestCase):
    """
    Reads of slots.
    """

    def recall(
        self, targets: int, alpha: int, links: Links | None = None, **dht: Any
    ) -> tuple[list[float], list[float]]:
        """
        Return the fractions of the 12 and the 32 nearest living nodes that reads found.
        """
        self.build(links, **dht)
        node = self.node()
        # Until its external address is elected and it has looked up its new id.
        self.net.advance(30)
        self.assertIsNotNone(node.external_host)
        rng = Random(7)
        inner, all_of_them = [], []
        for number in range(targets):
            seed, salt = rng.randbytes(32), rng.randbytes(32)
            public_key = crypto_sign_seed_keypair(seed)[0]
            before = self.sent(node)
            target = mutable_target(public_key, salt)
            read = self.wait(node.get_mutable(public_key, salt, alpha=alpha))
            self.assertLessEqual(self.sent(node) - before, MAX_QUERIES + 10, f"target {number}")
            found = {(answer.contact.host, answer.contact.port) for answer in read.answers}
            # One node of each /24 counts.
            first = {subnet(contact.host): contact for contact in reversed(self.dht.nearest(target, 40))}
            nearest = sorted(first.values(), key=lambda contact: distance(contact.node_id, target))[:32]
            hits = [(contact.host, contact.port) in found for contact in nearest]
            self.assertTrue(any(hits[:3]), f"target {number}")
            inner.append(sum(hits[:12]) / 12)
            all_of_them.append(sum(hits) / 32)
        return inner, all_of_them

    def test_none_is_silent(self) -> None:
        """
        Without silent nodes: all of the 12 nearest are found, and 99 % of the 32, 92 %
        at worst.
        """
        inner, all_of_them = self.recall(sized(2, 100), URGENT_ALPHA)
        self.assertEqual(min(inner), 1.0)
        self.assertGreaterEqual(fmean(all_of_them), 0.99)
        self.assertGreaterEqual(min(all_of_them), 0.92)

    def test_a_third_is_silent(self) -> None:
        """
        With 35 % silent nodes: all of the 12 nearest, 95 % of the 32, 85 % at worst.
        """
        inner, all_of_them = self.recall(sized(2, 100), URGENT_ALPHA, silent=0.35)
        self.assertEqual(min(inner), 1.0)
        self.assertGreaterEqual(fmean(all_of_them), 0.95)
        self.assertGreaterEqual(min(all_of_them), 0.85)

    @thorough
    def test_most_are_silent(self) -> None:
        """
        With 60 % silent nodes: 99 % of the 12 nearest, 85 % of the 32.
        """
        inner, all_of_them = self.recall(sized(4, 50), URGENT_ALPHA, silent=0.6)
        self.assertGreaterEqual(fmean(inner), 0.99)
        self.assertGreaterEqual(fmean(all_of_them), 0.85)

    def test_patient(self) -> None:
        """
        With few queries in flight the 12 nearest are still found.
        """
        inner, _ = self.recall(sized(2, 40), PATIENT_ALPHA, silent=0.35)
        self.assertEqual(min(inner), 1.0)

    @thorough
    def test_constant_round_trips(self) -> None:
        """
        If round trips do not vary, nothing is missed.
        """
        inner, _ = self.recall(sized(2, 40), URGENT_ALPHA, Links(2, low=0.05, high=0.05), silent=0.35)
        self.assertEqual(min(inner), 1.0)

    def test_lacking_tables(self) -> None:
        """
        Tables in which a fifth of the entries are missing and a fifth dead cost few of
        the 12 nearest.
        """
        inner, _ = self.recall(sized(2, 40), URGENT_ALPHA, missing=0.2, dead=0.2)
        self.assertGreaterEqual(fmean(inner), 0.97)


class FoundByAnotherTests(VastTestCase):
    """
    A value stored by one fresh node is found by another, with each operation.
    """

    def check(self, **dht: Any) -> None:
        for seed in range(sized(1, 5)):
            self.build(**dht)
            rng = Random(seed)
            self.check_slot(rng, f"seed {seed}")
            self.check_others(rng, f"seed {seed}")

    def check_slot(self, rng: Random, where: str) -> None:
        """
        Check a slot's record whose first copy is put early.
        """
        one, two = self.node(), self.node()
        seed, salt = rng.randbytes(32), rng.randbytes(32)
        public_key = crypto_sign_seed_keypair(seed)[0]
        placement = FirstCopy(Placement(record(1)[:32], classify))
        puts: list[Any] = []

        def put(near: MutableRead) -> None:
            puts.append(outcome(one.put_mutable(seed, salt, record(1), placement, near, read_back=False)))

        read = self.wait(one.get_mutable(public_key, salt, None, put))
        if not puts:  # few networks are near: the lookup had already ended
            put(read)
        self.net.advance(1)
        self.assertEqual(len(puts[0][0].stored), 1, where)
        read = self.wait(two.get_mutable(public_key, salt))
        self.assertEqual(list(read.values()), [record(1)], where)

    def check_others(self, rng: Random, where: str) -> None:
        """
        Check pkarr items, immutable items and peers.
        """
        one, two = self.node(), self.node()
        seed = rng.randbytes(32)
        self.assertTrue(self.wait(one.put_latest(seed, b"packet", 1)).stored, where)
        read = self.wait(two.get_mutable(crypto_sign_seed_keypair(seed)[0]))
        self.assertIn(b"packet", read.values(), where)
        value = encode(rng.randbytes(100))
        self.assertTrue(self.wait(one.put_immutable(value)).stored, where)
        self.assertEqual(self.wait(two.get_immutable(immutable_target(value))), value, where)
        info_hash = rng.randbytes(20)
        self.assertTrue(self.wait(one.announce_peer(info_hash, 4433)).stored, where)
        self.assertEqual(self.wait(two.get_peers(info_hash)), {(member_host(2), 4433)}, where)

    @thorough
    def test_healthy(self) -> None:
        """
        No node is silent.
        """
        self.check()

    @thorough
    def test_silent(self) -> None:
        """
        35 and 60 % of the nodes never answer.
        """
        for silent in (0.35, 0.6):
            self.check(silent=silent)

    @thorough
    def test_few_valid_ids(self) -> None:
        """10 and 50 % of the ids are valid by BEP42."""
        for secure in (0.1, 0.5):
            self.check(silent=0.35, secure=secure)

    @thorough
    def test_crowded_networks(self) -> None:
        """
        50 nodes in each /24, two on each address; one of ten ids is valid.
        """
        self.check(secure=0.1, per_network=50, ports_per_ip=2)

    def test_mixed(self) -> None:
        """Nodes behave as different implementations, and tables have gaps."""
        manners = {"libtorrent": 0.6, "mainline": 0.15, "dtt": 0.05, "jech": 0.2}
        self.check(silent=0.35, missing=0.1, dead=0.1, manners=manners)


class CrowdTests(VastTestCase):
    """
    Several publishers in one slot, on nodes like libtorrent's.
    """

    def start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """
        Run the publishers.
        """
        Deferred.fromCoroutine(coroutine)

    def recovered(self, publishers: int) -> float:
        """
        Return the fraction of records that a fresh reader finds.
        """
        self.build(silent=0.35)
        seed, salt = b"s" * 32, b"x" * 32
        public_key = crypto_sign_seed_keypair(seed)[0]

        async def publish(node: DHTNode, number: int) -> None:
            read = await node.get_mutable(public_key, salt)
            placement = Placement(record(number)[:32], classify)
            await node.put_mutable(seed, salt, record(number), placement, read)

        rng = Random(publishers)
        for number in range(1, publishers + 1):
            self.clock.callLater(rng.random(), self.start, publish(self.node(), number))
        self.net.advance(20)
        return len(self.wait(self.node().get_mutable(public_key, salt)).values()) / publishers

    def test_all_are_found(self) -> None:
        """
        5, 2, 10 and 20 publishers are all found.
        """
        for publishers in (5, 2, 10, 20)[: sized(1, 4)]:
            self.assertEqual(self.recovered(publishers), 1.0, publishers)

    def test_crowded_slot_is_read_whole(self) -> None:
        """
        A narrow read that finds more than five values becomes a wide one.
        """
        for count, wide in ((5, False), (6, True)):
            self.build()
            node = self.node()
            self.net.advance(8)
            seed, salt = b"s" * 32, b"x" * 32
            public_key = crypto_sign_seed_keypair(seed)[0]
            read = self.wait(node.get_mutable(public_key, salt, width=24))
            self.assertLess(len(read.answers), 32)
            for number in range(count):
                place = evolve(read, answers=read.answers[number : number + 1])
                self.wait(node.put_mutable(seed, salt, record(number), Placement(b"a" * 32, classify), place))
            read = self.wait(node.get_mutable(public_key, salt, width=24))
            self.assertEqual(len(read.values()), count)
            self.assertEqual(len(read.answers) >= 32, wide, f"{len(read.answers)} answers")


class Doubtful:
    """
    Hosts whose responses arrive twice. The neighbouring address sends a forged one
    first, which names another node and holds another value.
    """

    def __init__(self, dht: VastDHT, net: MachineNetwork) -> None:
        self.dht = dht
        self.net = net
        self.forged = 0

    def has(self, host: str) -> bool:
        """
        Delegate to the DHT.
        """
        return self.dht.has(host)

    def answer(
        self, datagram: bytes, source: tuple[str, int], destination: tuple[str, int], now: float
    ) -> bytes | None:
        """
        Return the DHT's response, and send the others.
        """
        reply = self.dht.answer(datagram, source, destination, now)
        if reply is not None:
            head, _, last = destination[0].rpartition(".")
            neighbour = f"{head}.{int(last) ^ 1}", destination[1]
            forged = encode({**decode(reply), b"r": {**decode(reply)[b"r"], b"id": b"\0" * 20}})
            self.forged += 1
            self.net.udp._write(Datagram(neighbour, source, forged))
            self.net.udp._write(Datagram(destination, source, reply))
        return reply


class DoubtfulAnswerTests(VastTestCase):
    """
    Responses that arrive twice, or from addresses that were not queried.
    """

    def test_read_and_put(self) -> None:
        """
        They change nothing: each node counts once, responses from other addresses are
        ignored, and a put finds its nodes.
        """
        self.build()
        doubtful = Doubtful(self.dht, self.net)
        self.net.udp.beyond = doubtful
        node = self.node()
        self.net.advance(8)
        seed, salt = b"s" * 32, b"x" * 32
        public_key = crypto_sign_seed_keypair(seed)[0]
        heard: list[NodeAnswer] = []
        read = self.wait(node.get_mutable(public_key, salt, heard.append))
        self.assertGreater(doubtful.forged, 50)
        contacts = [answer.contact for answer in read.answers]
        self.assertEqual(len(contacts), len(set(contacts)))
        self.assertEqual(contacts[:32], self.dht.nearest(mutable_target(public_key, salt), 32))
        self.assertEqual(len(heard), len({answer.contact for answer in heard}))
        self.assertNotIn(b"\0" * 20, {answer.contact.node_id for answer in heard})
        put = self.wait(node.put_mutable(seed, salt, record(1), Placement(record(1)[:32], classify), read))
        self.assertEqual(len(put.stored), 2)
        self.assertEqual(len(self.dht.holders(mutable_target(public_key, salt))), 2)
