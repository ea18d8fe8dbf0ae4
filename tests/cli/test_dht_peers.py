"""
Tests for L{dtt.cli.dht_peers}.
"""

from __future__ import annotations

import json

from dtt.cli import dht_peers
from dtt.cli.commands import NOT_FOUND
from dtt.cli.dht_peers import PeersOptions
from dtt.errors import LookupFailed
from tests.cli.common import DHTTestCase, made


class PeersTests(DHTTestCase):
    """
    Tests for C{dtt dht peers}.
    """

    def test_announce(self) -> None:
        """What was announced is found."""
        info_hash = "cd" * 20
        options = made(PeersOptions(), info_hash)
        self.assertEqual(self.result(options.ask(self.reactor, self.node)), NOT_FOUND)
        options = made(PeersOptions(), info_hash, "--announce", "8080")
        self.assertEqual(self.result(options.ask(self.reactor, self.node)), 0)
        self.printed()
        options = made(PeersOptions(), info_hash)
        self.assertEqual(self.result(options.ask(self.reactor, self.node)), 0)
        lines = self.printed()
        self.assertEqual(lines[-1], "10.1.1.1:8080")
        self.assertTrue(lines[0].endswith("1 peer"))

    def test_announcement_refused(self) -> None:
        """If no node accepts the announcement in time, this is one line."""
        for number in range(10):
            self.network.unplug(f"10.0.{number}.1")
        options = made(PeersOptions(), "cd" * 20, "--announce", "0", "--timeout", "1")
        message = self.failure(options.ask(self.reactor, self.node), LookupFailed)
        self.assertEqual(message, "the announcement was not stored within 1 s")
        for number in range(10):
            self.network.plug(f"10.0.{number}.1")

    def test_json(self) -> None:
        """As JSON, there is how often it was stored, and then the peers."""
        options = made(PeersOptions(), "ef" * 20, "--announce", "8080", "--json")
        self.assertEqual(self.result(options.ask(self.reactor, self.node)), 0)
        self.assertEqual(json.loads(self.printed()[0]), {"info_hash": "ef" * 20, "stored": 8})
        options = made(PeersOptions(), "ef" * 20, "--json")
        self.assertEqual(self.result(options.ask(self.reactor, self.node)), 0)
        found = json.loads(self.printed()[0])
        self.assertEqual((found["target"], found["peers"]), ("ef" * 20, ["10.1.1.1:8080"]))

    def test_hostile(self) -> None:
        """Peers that are no addresses do not count, whatever a node sends instead."""
        peer, other = b"\x0a\x01\x02\x03\x00\x50", b"\x0a\x01\x02\x03\x00\x51"
        for values, peers in (
            (b"nothing", []),
            ({b"a": peer}, []),
            ([5, [], b"", peer[:-1], peer[:-2] + bytes(2)], []),
            ([other, peer, peer, b"short"], ["10.1.2.3:80", "10.1.2.3:81"]),
        ):
            node = self.node_that_asks({b"token": b"t", b"values": values})
            options = made(PeersOptions(), "cd" * 20, "--json")
            code = self.result(options.ask(self.reactor, node))
            self.assertEqual(code, 0 if peers else NOT_FOUND)
            self.assertEqual(json.loads(self.printed()[0])["peers"], peers)

    def test_bounded(self) -> None:
        """No more than a maximum of peers is kept."""
        self.patch(dht_peers, "MAX_PEERS", 3)
        many = [bytes((10, 1, 2, number, 0, 80)) for number in range(9)]
        node = self.node_that_asks({b"token": b"t", b"values": many})
        self.result(made(PeersOptions(), "cd" * 20).ask(self.reactor, node))
        lines = self.printed()
        self.assertTrue(lines[0].endswith("9 peers"), lines[0])
        self.assertEqual(lines[-3:], ["10.1.2.0:80", "10.1.2.1:80", "10.1.2.2:80"])
        self.assertEqual(len(lines), 5)
