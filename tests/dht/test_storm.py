"""
Hostile nodes that name nodes which do not exist: what they cost an idle node, and a
member that looks for others.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import DatagramProtocol
from twisted.trial.unittest import SynchronousTestCase

from dtt.dht.node import DHTNode
from dtt.errors import LookupFailed
from dtt.interfaces import Contact
from dtt.krpc.compact import encode_nodes
from dtt.krpc.messages import Query, decode, encode_response
from dtt.testing.net.clock import HeapClock
from dtt.testing.net.udp import MemoryUDPNetwork
from tests.dht.network import outcome
from tests.garbage import ignore_older_objects

#: The most queries per second after the first minute.
MOST = 5.0


class HostileNode(DatagramProtocol):
    """
    A node that names new nodes near every target, none of which exists.

    @ivar contact: its id and address.
    @ivar others: existing nodes that it names too.
    """

    def __init__(self, rng: Random, count: int, silent_for: float, seconds: Callable[[], float]) -> None:
        """
        @param count: the number of nodes that it names.
        @param silent_for: it answers nothing for this many seconds after each answer.
        """
        self.contact = Contact(rng.randbytes(20), "0.0.0.0", 0)
        self.others: list[Contact] = []
        self._rng = rng
        self._count = count
        self._silent_for = silent_for
        self._seconds = seconds
        self._silent_until = 0.0

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """
        Answer a query.
        """
        query = decode(datagram)
        now = self._seconds()
        if not isinstance(query, Query) or now < self._silent_until:
            return
        self._silent_until = now + self._silent_for
        rng = self._rng
        target = int.from_bytes(query.arguments.get(b"target", bytes(20)))
        named = [
            Contact(
                (target ^ rng.getrandbits(100)).to_bytes(20),
                f"80.{rng.randrange(256)}.{rng.randrange(256)}.{rng.randrange(1, 255)}",
                6881,
            )
            for _ in range(self._count)
        ]
        values = {b"nodes": encode_nodes([*self.others, *named]), b"token": b"token"}
        assert self.transport is not None
        self.transport.write(encode_response(query.transaction, self.contact.node_id, values, None), addr)


class StormTests(SynchronousTestCase):
    """
    A node whose only bootstrap hosts are hostile.
    """

    def build(self, hosts: int, count: int, silent_for: float, seed: int) -> None:
        """
        Create the hostile nodes and start a node.
        """
        self.clock = HeapClock()
        self.net = MemoryUDPNetwork(self.clock, rng=Random(seed))
        hostile = []
        for number in range(hosts):
            node = HostileNode(Random(f"{seed} {number}"), count, silent_for, self.clock.seconds)
            host = f"81.{number}.1.1"
            self.net.reactor(host).listenUDP(6881, node)
            node.contact = Contact(node.contact.node_id, host, 6881)
            hostile.append(node)
        for node in hostile:
            node.others = [each.contact for each in hostile if hosts > 1]
        bootstrap = [(node.contact.host, 6881) for node in hostile]
        self.node = DHTNode(self.net.reactor("90.0.0.1"), bootstrap=bootstrap, rng=Random(seed))
        self.node.startService()
        self.addCleanup(self.node.stopService)

    def rate(self, seconds: float) -> float:
        """
        Return the number of queries per second sent in the next C{seconds}.
        """
        before = sum(n for name, n in self.node.krpc.counters.items() if name.startswith("sent_"))
        self.net.advance(seconds)
        after = sum(n for name, n in self.node.krpc.counters.items() if name.startswith("sent_"))
        return (after - before) / seconds

    def test_idle(self) -> None:
        """
        Whether they answer always or sometimes, name few nodes or many, and are one or
        four: an idle node sends few queries after a minute.
        """
        for seed, (hosts, count, silent_for) in enumerate(
            (
                (1, 7, 0.0),
                (1, 8, 0.0),
                (1, 100, 0.0),
                (1, 100, 2.2),
                (1, 100, 5.0),
                (4, 16, 0.0),
                (4, 90, 1.0),
            )
        ):
            self.build(hosts, count, silent_for, seed)
            self.rate(60.0)
            for minute in range(1, 6):
                self.assertLessEqual(self.rate(60.0), MOST, f"seed {seed}, minute {minute}")

    def test_lookups(self) -> None:
        """
        Each lookup of a member costs few queries once it is known whom not to believe.
        """
        for seed, (hosts, count) in enumerate(((1, 8), (4, 90))):
            self.build(hosts, count, 0.0, seed)
            self.net.advance(60.0)
            for number in range(10):
                outcome(self.node.get_mutable(bytes([number]) * 32))
                self.assertLessEqual(self.rate(6.0), MOST, f"seed {seed}")

    def test_garbage(self) -> None:
        """
        Lookups leave nothing to the garbage collector, however they end.
        """
        self.build(4, 90, 0.0, 1)
        self.net.advance(10.0)
        ignore_older_objects(self)
        gc.disable()
        self.addCleanup(gc.enable)
        for number in range(5):
            reads = [self.node.get_mutable(bytes([number, other]) * 16) for other in range(5)]
            for read in reads:
                read.addErrback(lambda failure: None)
            self.net.advance(0.3)
            reads[0].cancel()
            self.net.advance(10.0)
        del reads, read
        # A cycle in each lookup is some hundred objects.
        self.assertLess(gc.collect(), 200)

    def test_nobody(self) -> None:
        """
        An operation that no node answers fails, and says so.
        """
        operations: list[Callable[[DHTNode], Deferred[Any]]] = [
            lambda node: node.get_mutable(b"k" * 32),
            lambda node: node.get_immutable(b"t" * 20),
            lambda node: node.get_peers(b"t" * 20),
            lambda node: node.put_latest(b"s" * 32, b"value", 1),
            lambda node: node.put_immutable(b"5:value"),
            lambda node: node.announce_peer(b"t" * 20, 1),
            lambda node: node.sample_infohashes(b"t" * 20),
        ]
        for operation in operations:
            self.build(1, 7, 0.0, 1)
            self.net.advance(2.0)
            self.net.dead = {"81.0.1.1"}
            results = outcome(operation(self.node))
            self.net.advance(3.0)
            results[0].trap(LookupFailed)
            self.assertRegex(str(results[0].value), "none of .* nodes answered|no DHT node is known")
