"""
Tests for L{dtt.testing.storage.dht} and L{dtt.testing.storage.nodes}.
"""

from __future__ import annotations

from collections import Counter
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from dtt.dht.node import DHTNode
from dtt.dht.routing.ids import is_valid
from dtt.interfaces import MutableRead
from dtt.krpc.bencode import encode
from dtt.krpc.items import MAX_SEQ, mutable_target, sign_item
from dtt.krpc.messages import Query, Response, decode, encode_query
from dtt.net.networks import subnet
from dtt.testing.net.clock import HeapClock
from dtt.testing.net.machines import MachineNetwork
from dtt.testing.storage import StorageDHT
from dtt.testing.storage.dht import NOTICED
from dtt.testing.storage.nodes import StorageNode

OUR_ADDRESS = ("45.0.0.1", 1000)


def ask(
    dht: StorageDHT, node: StorageNode, method: bytes, now: float = 1000.0, **arguments: object
) -> Response | None:
    """Ask a node."""
    query = encode_query(
        b"abcd", method, bytes(20), {name.encode(): each for name, each in arguments.items()}, False
    )
    reply = dht.answer(query, OUR_ADDRESS, (node.host, node.port), now)
    if reply is None:
        return None
    response = decode(reply)
    assert not isinstance(response, Query)
    return response if isinstance(response, Response) else None


class NodesTests(SynchronousTestCase):
    """
    The population.
    """

    def test_shares(self) -> None:
        """Implementations, silence and valid ids have the given shares; each node has a /24."""
        dht = StorageDHT(2000, Random(1), silent=0.2, secure=0.5)
        nodes = dht.nodes()
        names = Counter(node.name for node in nodes)
        for name, share in (("libtorrent", 0.6), ("mainline", 0.15), ("dtt", 0.05), ("jech", 0.2)):
            self.assertApproximates(names[name] / 2000, share, 0.03)
        self.assertApproximates(sum(node.silent for node in nodes) / 2000, 0.2, 0.03)
        valid = sum(is_valid(node.contact.node_id, node.host) for node in nodes)
        self.assertApproximates(valid / 2000, 0.5, 0.04)
        self.assertEqual(len({subnet(node.host) for node in nodes}), 2000)

    def test_bad(self) -> None:
        """Wrong shares are refused."""
        self.assertRaises(ValueError, StorageDHT, 10, Random(1), manners={"libtorrent": 0.5})
        self.assertRaises(ValueError, StorageDHT, 10, Random(1), manners={"nobody": 1.0})
        self.assertRaises(ValueError, StorageDHT, 10, Random(1), silent=2.0)

    def test_nearest(self) -> None:
        """The nearest nodes are those of the smallest XOR."""
        rng = Random(2)
        dht = StorageDHT(300, rng)
        for _ in range(20):
            target = rng.randbytes(20)
            number = int.from_bytes(target)
            wanted = sorted(
                (node for node in dht.nodes() if not node.silent), key=lambda n: n.number ^ number
            )
            self.assertEqual(dht.nearest(target, 20), wanted[:20])
        self.assertEqual(len(dht.nearest(bytes(20), 1000)), sum(not node.silent for node in dht.nodes()))


class AnswersTests(SynchronousTestCase):
    """
    Single nodes.
    """

    def setUp(self) -> None:
        self.dht = StorageDHT(500, Random(3), silent=0.1)

    def named(self, name: str, silent: bool = False) -> StorageNode:
        """A node of an implementation."""
        return next(node for node in self.dht.nodes() if node.name == name and node.silent == silent)

    def test_silent(self) -> None:
        """A silent node never answers, and an unknown address neither."""
        self.assertIsNone(ask(self.dht, self.named("libtorrent", silent=True), b"ping"))
        self.assertIsNone(self.dht.answer(b"", OUR_ADDRESS, ("45.0.0.9", 1), 0.0))

    def test_keeps_the_first(self) -> None:
        """Of two values with the same seq libtorrent keeps the first, mainline the second, jech none."""
        kept = {}
        for name in ("libtorrent", "mainline", "dtt", "jech"):
            node = self.named(name)
            for value in (b"one", b"two"):
                item = sign_item(bytes(32), b"salt", MAX_SEQ, value)
                got = ask(self.dht, node, b"get", target=item.target)
                if got is None:
                    continue
                arguments = {each.decode(): held for each, held in item.arguments().items()}
                ask(self.dht, node, b"put", token=got.values[b"token"], target=item.target, **arguments)
            kept[name] = [bytes(value) for holder, value in self.dht.holders(item.target) if holder is node]
        one, two = [encode(b"one")], [encode(b"two")]
        self.assertEqual(kept, {"libtorrent": one, "mainline": two, "dtt": one, "jech": []})

    def test_limits(self) -> None:
        """Libtorrent bans who asks too much, others don't."""
        counts = {}
        for name in ("libtorrent", "dtt"):
            node = self.named(name)
            counts[name] = sum(ask(self.dht, node, b"ping", 1000 + i / 20) is not None for i in range(100))
        self.assertEqual(counts, {"libtorrent": 49, "dtt": 100})
        self.assertEqual(self.dht.limited(), (1, 0))

    def test_tables(self) -> None:
        """A table knows the nodes next to its owner, and some of every distance."""
        for owner in self.dht.nodes()[::50]:
            found = self.dht.known_to(owner, owner.number, 8, 8)
            others = sorted(
                (n for n in self.dht.nodes() if n is not owner), key=lambda n: n.number ^ owner.number
            )
            self.assertEqual(found[:3], others[:3])
            far = owner.number ^ (1 << 159)
            self.assertTrue(
                all((node.number ^ far) >> 159 == 0 for node in self.dht.known_to(owner, far, 8, 8))
            )


class ChurnTests(SynchronousTestCase):
    """
    Nodes that come and go.
    """

    def test_replaced(self) -> None:
        """The number stays; tables notice it within a quarter of an hour."""
        dht = StorageDHT(200, Random(4), silent=0.0)
        before = set(dht.nodes())
        for number in range(100):
            dht.replace(1000.0 + number)
        after = set(dht.nodes())
        self.assertEqual(len(after), 200)
        self.assertGreater(len(after - before), 60)
        owner = dht.nodes()[0]
        ask(dht, owner, b"ping", 1100.0)
        soon = set(dht.known_to(owner, owner.number, 500, 500))
        self.assertTrue(soon - after, "nobody that has left is listed any more")
        ask(dht, owner, b"ping", 1100.0 + NOTICED)
        left = set(dht.known_to(owner, owner.number, 500, 500)) ^ (after - {owner})
        self.assertEqual(len(left), 0)

    def test_gone(self) -> None:
        """Who has left answers nothing and stores nothing."""
        dht = StorageDHT(200, Random(5), silent=0.0)
        item = sign_item(bytes(32), b"", 1, b"x")
        node = dht.nodes()[0]
        dht.store(node, item)
        self.assertEqual([holder for holder, _ in dht.holders(item.target)], [node])
        dht.remove(node, 1000.0)
        self.assertIsNone(ask(dht, node, b"ping"))
        self.assertEqual(dht.holders(item.target), [])
        self.assertNotIn(node, dht.nearest(node.contact.node_id, 8))


class LookupTests(SynchronousTestCase):
    """
    A real node on it.
    """

    def test_recall(self) -> None:
        """A lookup finds most of the nodes that are truly nearest."""
        for seed in range(3):
            clock = HeapClock()
            clock.rightNow = 1_800_000_000.0
            dht = StorageDHT(1000, Random(seed))
            net = MachineNetwork(clock, beyond=dht)
            node = DHTNode(
                net.reactor("45.0.0.1"), interface="45.0.0.1", bootstrap=dht.bootstrap, rng=Random(seed)
            )
            node.startService()
            net.advance(5)
            reads: list[MutableRead] = []
            node.get_mutable(bytes(31) + b"\x01", b"").addCallback(reads.append)
            net.advance(10)
            found = {answer.contact.node_id for answer in reads[0].answers}
            target = mutable_target(bytes(31) + b"\x01")
            nearest = [
                each.contact.node_id
                for each in dht.nearest(target, 20, lambda n: not n.silent and n.manner.stores)
            ]
            self.assertGreaterEqual(len(found.intersection(nearest)), 18, f"seed {seed}")
            node.stopService()
            net.advance(1)
