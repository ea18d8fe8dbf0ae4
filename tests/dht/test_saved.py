"""
Tests for L{dtt.dht.saved} and its use by L{DHTNode}.
"""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

from twisted.logger import ILogObserver, LogLevel, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from dtt.dht.node import MAX_KNOWN_NODES
from dtt.dht.routing.ids import is_valid
from dtt.dht.saved import FILE, SAVE_INTERVAL, SavedNode, Saver, load, save
from dtt.interfaces import Contact
from dtt.state import StateDirectory
from tests.dht.network import Network

ID = "61" * 20
SAVED = SavedNode(
    b"i" * 20, (Contact(b"a" * 20, "10.0.0.1", 6881), Contact(b"b" * 20, "2001:db8::1", 1)), "203.0.113.9"
)


class SavedNodeTests(SynchronousTestCase):
    """
    The object in the file.
    """

    def test_round_trip(self) -> None:
        """
        A written state can be read.
        """
        for saved in (SAVED, SavedNode()):
            self.assertEqual(SavedNode.from_json(json.loads(json.dumps(saved.to_json()))), saved)

    def test_refused(self) -> None:
        """
        A state of another version, or a malformed one, is refused.
        """
        wrong: dict[str, tuple[Any, ...]] = {
            "version": (0, 2, None, "1"),
            "node_id": ("00", 5, "x" * 40),
            "external_host": (5, "somewhere", []),
            "nodes": (
                5,
                [5],
                [["00", "10.0.0.1", 1]],
                [[ID, "name", 1]],
                [[ID, "10.0.0.1", 0]],
                [[ID, "fe80::1%x", 1]],
                {},
            ),
        }
        for key, values in wrong.items():
            for value in values:
                self.assertRaises(ValueError, SavedNode.from_json, {**SAVED.to_json(), key: value})
        for key in SAVED.to_json():
            incomplete = SAVED.to_json()
            del incomplete[key]
            self.assertRaises(ValueError, SavedNode.from_json, incomplete)

    def test_too_many(self) -> None:
        """
        Of a list that is too long only the beginning is read.
        """
        rows = [[ID, "10.0.0.1", 1]] * MAX_KNOWN_NODES
        for rest in (rows, ["x"] * 5):
            saved = SavedNode.from_json({**SAVED.to_json(), "nodes": rows + rest})
            self.assertEqual(len(saved.nodes), MAX_KNOWN_NODES)


class FileTests(SynchronousTestCase):
    """
    The file itself.
    """

    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.directory = StateDirectory(self.path)
        self.network = Network(6)

    def tearDown(self) -> None:
        """
        Stop all nodes.
        """
        self.network.stop()

    def test_nothing(self) -> None:
        """
        Without a file the state is empty.
        """
        self.assertEqual(load(self.directory), SavedNode())

    def test_unusable(self) -> None:
        """
        A file of another version is set aside with a warning.
        """
        warnings: list[str] = []

        @implementer(ILogObserver)
        def observer(event: object) -> None:
            assert isinstance(event, dict)
            if event["log_level"] is LogLevel.warn:
                warnings.append(event["reason"])

        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.directory.write_json(FILE, {"version": 99})
        self.assertEqual(load(self.directory), SavedNode())
        self.assertEqual(warnings, ["unknown version"])
        self.assertEqual(json.loads((self.path / f"{FILE}.damaged").read_text()), {"version": 99})
        self.assertFalse((self.path / FILE).exists())

    def test_saver(self) -> None:
        """
        The state is written at the start, periodically, and at the end; a node created
        from it has the same id and queries the same nodes.
        """
        node = self.network.nodes[3]
        saver = Saver(self.network.clock, node, self.directory)
        saver.startService()
        first = load(self.directory)
        self.assertEqual((first.node_id, len(first.nodes), first.external_host), (node.node_id, 5, None))
        self.network.node()
        self.network.udp.advance(SAVE_INTERVAL + 1)
        self.assertEqual(len(load(self.directory).nodes), 6)
        (self.path / FILE).unlink()
        saver.stopService()
        saved = load(self.directory)
        again = self.network.node(bootstrap=[], node_id=saved.node_id, known_nodes=saved.nodes)
        self.network.result(again.when_ready())
        self.assertEqual(again.node_id, node.node_id)

    def test_disk_full(self) -> None:
        """
        A failed write is logged, and the node continues.
        """
        self.path.rmdir()
        logged: list[object] = []

        @implementer(ILogObserver)
        def observer(event: object) -> None:
            assert isinstance(event, dict)
            if event["log_level"] is LogLevel.error:
                logged.append(event)

        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        save(self.directory, self.network.nodes[0])
        self.assertEqual(len(logged), 1)


class ExternalHostTests(SynchronousTestCase):
    """
    The external address of an earlier run.
    """

    def setUp(self) -> None:
        self.network = Network(2)

    def tearDown(self) -> None:
        """
        Stop all nodes.
        """
        self.network.stop()

    def test_new_id(self) -> None:
        """
        A node without an id gets one that is valid for the address; a node with an id
        keeps it.
        """
        node = self.network.node(external_host="203.0.113.9", start=False)
        self.assertTrue(is_valid(node.node_id, "203.0.113.9"))
        self.assertEqual(node.external_host, "203.0.113.9")
        node = self.network.node(external_host="203.0.113.9", start=False, node_id=b"i" * 20)
        self.assertEqual(node.node_id, b"i" * 20)

    def test_other_family(self) -> None:
        """
        An address of the other family is ignored.
        """
        node = self.network.node(external_host="2001:db8::1", start=False, node_id=b"i" * 20)
        self.assertIsNone(node.external_host)
        self.assertIsNone(self.network.nodes[0].external_host)


class RandomTests(SynchronousTestCase):
    """
    Random states.
    """

    def test_any(self) -> None:
        """
        200 nodes, the most that are kept, survive a round trip.
        """
        rng = Random(1)
        nodes = tuple(Contact(rng.randbytes(20), f"10.0.{n}.1", rng.randrange(1, 65536)) for n in range(200))
        saved = SavedNode(rng.randbytes(20), nodes, None)
        self.assertEqual(SavedNode.from_json(json.loads(json.dumps(saved.to_json()))), saved)
