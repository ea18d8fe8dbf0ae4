"""
Many operations at once, in networks too small to take them all.
"""

from __future__ import annotations

from typing import Any

from nacl.bindings import crypto_sign_seed_keypair
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from dtt.dht.node import DHTNode
from dtt.interfaces import MutableRead
from tests.dht.network import Network, outcome
from tests.sweeps import sized


def seed(number: int) -> bytes:
    """
    The seed of a key.
    """
    return number.to_bytes(32)


class ManyOperationsTests(SynchronousTestCase):
    """
    Operations that have to wait.
    """

    def build(self, nodes: int) -> None:
        """
        Create a network.
        """
        self.network = Network(nodes)
        self.addCleanup(self.network.stop)
        self.network.udp.advance(20.0)
        self.node = self.network.nodes[-1]

    def run_all(self, results: list[list[Any]], seconds: float) -> None:
        """
        Wait until all have ended.
        """
        end = self.network.clock.seconds() + seconds
        while not all(results):
            self.assertLess(self.network.clock.seconds(), end)
            self.network.udp.advance(0.1)

    def put_and_read(self, nodes: int, count: int, seconds: float) -> None:
        """
        Put many items at once, and read them at once from another node.
        """
        self.build(nodes)
        puts = [outcome(self.node.put_latest(seed(n), b"value %d" % n, 1)) for n in range(count)]
        self.run_all(puts, seconds)
        for (put,) in puts:
            self.assertNotIsInstance(put, Failure)
            self.assertGreater(len(put.stored), min(nodes, 8) // 2)
        self.read_all(self.network.nodes[nodes // 2], count, seconds)

    def read_all(self, node: DHTNode, count: int, seconds: float) -> None:
        """
        Read all items at once.
        """
        reads = [outcome(node.get_mutable(crypto_sign_seed_keypair(seed(n))[0])) for n in range(count)]
        self.run_all(reads, seconds)
        for n, (read,) in enumerate(reads):
            assert isinstance(read, MutableRead)
            latest = read.latest()
            self.assertIsNotNone(latest, n)
            assert latest is not None
            self.assertEqual(latest.value, b"value %d" % n)

    def test_put_latest(self) -> None:
        """
        All are stored and all are found: in a small network, and in a very small one.
        """
        self.put_and_read(20, sized(25, 80), 120.0)
        self.put_and_read(3, 30, 200.0)

    def test_same_target(self) -> None:
        """
        Many reads of one item all find it.
        """
        self.build(30)
        self.network.result(self.node.put_latest(seed(0), b"value 0", 1))
        key = crypto_sign_seed_keypair(seed(0))[0]
        reads = [outcome(self.node.get_mutable(key)) for _ in range(sized(15, 100))]
        self.run_all(reads, 200.0)
        for (read,) in reads:
            self.assertEqual(read.latest().value, b"value 0")

    def test_fair(self) -> None:
        """
        A read does not wait until a hundred puts have ended.
        """
        self.build(30)
        self.network.result(self.node.put_latest(seed(0), b"value 0", 1))
        puts = [outcome(self.node.put_latest(seed(n), b"value", 1)) for n in range(1, 101)]
        self.network.udp.advance(10.0)
        read = outcome(self.node.get_mutable(crypto_sign_seed_keypair(seed(0))[0]))
        self.run_all([read], 15.0)
        self.assertEqual(read[0].latest().value, b"value 0")
        self.assertLess(sum(map(len, puts)), 80)

    def test_stop(self) -> None:
        """
        Stopping the node ends all that wait.
        """
        self.build(10)
        puts = [outcome(self.node.put_latest(seed(n), b"value", 1)) for n in range(100)]
        self.network.udp.advance(1.0)
        self.node.stopService()
        self.assertTrue(all(puts))
        self.assertEqual((self.node._turns.running, self.node._turns.waiting), (0, 0))
