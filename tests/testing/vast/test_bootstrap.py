"""
Tests for L{dtt.testing.vast.bootstrap}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dtt.dht.routing.ids import is_valid
from dtt.krpc.compact import decode_nodes
from dtt.testing.vast import VastDHT
from tests.testing.vast.common import TARGET, Asker


class BootstrapHostsTests(SynchronousTestCase):
    """
    The bootstrap hosts.
    """

    def setUp(self) -> None:
        """A DHT in which half of the ids are valid."""
        self.dht = VastDHT(20, silent=0.35, secure=0.5)
        self.host = self.dht.bootstrap[1]
        self.asker = Asker(self.dht)

    def count(self, method: str = "find_node", read_only: bool = False) -> int | None:
        """The number of nodes in the reply; C{None}: no reply."""
        reply = self.asker.ask(self.host, method, read_only, target=TARGET, info_hash=TARGET)
        return None if reply is None else len(reply[b"r"][b"nodes"]) // 26

    def test_nodes(self) -> None:
        """
        A reply has 16 nodes from anywhere, some of them silent, with valid ids, and
        different ones each time.
        """
        reply = self.asker.ask(self.host, "find_node", target=TARGET)
        self.assertEqual(sorted(reply), [b"ip", b"r", b"t", b"y"])
        nodes = decode_nodes(reply[b"r"][b"nodes"])
        self.assertEqual(len(nodes), 16)
        self.assertTrue(all(is_valid(each.node_id, each.host) for each in nodes))
        numbers = [self.dht.number_at(each.host, each.port) for each in nodes]
        self.assertEqual([self.dht.contact(number or 0) for number in numbers], nodes)
        self.assertTrue(0 < sum(self.dht.is_silent(number or 0) for number in numbers) < 16)
        self.assertTrue(is_valid(reply[b"r"][b"id"], self.host[0]))
        other = Asker(self.dht, ("45.7.7.7", 1)).ask(self.host, "find_node", target=TARGET)
        self.assertNotEqual(other[b"r"][b"nodes"], reply[b"r"][b"nodes"])

    def test_lately(self) -> None:
        """
        A client that has asked recently gets three nodes; one that asks again immediately
        gets no reply, unless it is read-only.
        """
        self.assertEqual(self.count(), 16)
        self.asker.now += 0.5
        self.assertIsNone(self.count())
        self.assertEqual(self.count(read_only=True), 3)
        self.asker.now += 2
        self.assertEqual(self.count(), 3)
        self.asker.now += 601
        self.assertEqual(self.count(), 16)

    def test_methods(self) -> None:
        """There are no tokens, peers or items; other methods are not answered; ping has no nodes."""
        for index, method in enumerate(("get", "get_peers", "ping", "put", "announce_peer", "vote")):
            asker = Asker(self.dht, (f"45.0.{index}.1", 1))
            reply = asker.ask(self.host, method, target=TARGET, info_hash=TARGET)
            if index < 2:
                self.assertEqual(sorted(reply[b"r"]), [b"id", b"nodes"])
            elif method == "ping":
                self.assertEqual(sorted(reply[b"r"]), [b"id"])
            else:
                self.assertIsNone(reply)

    def test_hosts(self) -> None:
        """Each host counts separately; other ports do not answer."""
        self.assertEqual(len(self.dht.bootstrap), 3)
        for host in self.dht.bootstrap:
            self.assertTrue(self.dht.has(host[0]))
            self.host = host
            self.assertEqual(self.count(), 16)
        self.assertIsNone(self.asker.ask((self.host[0], 6882), "ping"))
