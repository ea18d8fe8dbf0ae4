"""
Tests for L{dtt.cli.dht_lookup}.
"""

from __future__ import annotations

import json

from twisted.internet.defer import Deferred

from dtt.cli.dht_lookup import LookupOptions
from dtt.errors import LookupFailed
from tests.cli.common import DHTTestCase, made


class LookupTests(DHTTestCase):
    """
    Tests for C{dtt dht lookup}.
    """

    def test_nodes(self) -> None:
        """Every node that answered is listed, nearest first, with its round trip."""
        target = self.nodes[5].node_id
        options = made(LookupOptions(), target.hex(), "--json")
        self.assertEqual(self.result(options.ask(self.reactor, self.node)), 0)
        (line,) = self.printed()
        found = json.loads(line)
        self.assertEqual(found["target"], target.hex())
        self.assertGreaterEqual(len(found["nodes"]), 8)
        self.assertEqual(found["nodes"][0]["host"], "10.0.5.1")
        self.assertEqual(found["nodes"][0]["shared_bits"], 160)
        bits = [node["shared_bits"] for node in found["nodes"]]
        self.assertEqual(bits, sorted(bits, reverse=True))
        self.assertEqual(
            {node["id"] for node in found["nodes"]} - {n.node_id.hex() for n in self.nodes}, set()
        )
        self.assertTrue(all(0 <= node["ms"] < 5000 for node in found["nodes"]))

    def test_text(self) -> None:
        """As text there is a line for each node, and how many answered."""
        options = made(LookupOptions(), self.nodes[5].node_id.hex())
        self.result(options.ask(self.reactor, self.node))
        lines = self.printed()
        self.assertRegex(lines[0], r"^ +\d+ ms  160 bits  10\.0\.5\.1:6881  +[0-9a-f]{40}  DT \d")
        self.assertRegex(lines[-1], r"^\d+ of \d+ nodes answered within [\d.]+ s; nearest first$")

    def test_nobody(self) -> None:
        """If no node answers any longer, this is an error."""
        for number in range(10):
            self.network.unplug(f"10.0.{number}.1")
        options = made(LookupOptions(), "ab" * 20)
        self.assertIn("DHT nodes answered", self.failure(options.ask(self.reactor, self.node), LookupFailed))
        for number in range(10):
            self.network.plug(f"10.0.{number}.1")

    def test_random(self) -> None:
        """Without an id, a random one is looked up, each time another."""
        first, second = (made(LookupOptions())["id"] for _ in range(2))
        self.assertEqual((len(first), len(second)), (20, 20))
        self.assertNotEqual(first, second)

    def test_too_short(self) -> None:
        """If the time is up before any node has answered, this is an error."""
        options = made(LookupOptions(), self.nodes[5].node_id.hex(), "--json", "--timeout", "0")
        asking = Deferred.fromCoroutine(options.ask(self.reactor, self.node))
        self.network.advance(10)
        self.assertEqual(str(self.failureResultOf(asking, LookupFailed).value)[:8], "none of ")
