"""
Tests for L{dtt.tracker.own_dht}.
"""

from __future__ import annotations

from random import Random
from typing import Any

from attrs import evolve
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dtt.config import DHTConfig
from dtt.dht.node import DHTNode
from dtt.dht.saved import SavedNode
from dtt.errors import WrongType
from dtt.identity import PeerKey
from dtt.testing.net.machines import MachineNetwork
from dtt.testing.net.udp import MemoryUDPNetwork
from dtt.tracker import own_dht
from dtt.tracker.own_dht import check_parts, make_dht

KEY = PeerKey.from_seed(b"k" * 32)


class MakeTests(SynchronousTestCase):
    """
    Tests for L{make_dht}.
    """

    def setUp(self) -> None:
        self.reactor = MachineNetwork(Clock()).reactor("192.168.1.5", "2001:db8::5")

    def made(self, config: DHTConfig, known: SavedNode) -> dict[str, Any]:
        """
        Return the arguments of the node.
        """
        made: list[dict[str, Any]] = []
        self.patch(own_dht, "DHTNode", lambda reactor, **arguments: made.append(arguments))
        make_dht(self.reactor, Random(1), config, known)
        return made[0]

    def test_settings(self) -> None:
        """
        The node has the settings, and the state of the last run.
        """
        config = DHTConfig(port=6881, bootstrap=(("192.0.2.1", 5),), upload_rate=5000.0)
        known = SavedNode(b"n" * 20, (), "198.51.100.7")
        made = self.made(config, known)
        self.assertEqual(
            [made[name] for name in ("port", "bootstrap", "upload_rate", "node_id", "external_host")],
            [6881, (("192.0.2.1", 5),), 5000.0, b"n" * 20, "198.51.100.7"],
        )
        self.assertIs(made["known_nodes"], known.nodes)

    def test_ipv6(self) -> None:
        """
        IPv6 is used if there is any; only who asks for an address requires it.
        """
        for bind, bind6, interface6, needs in (
            ("0.0.0.0", "auto", "::", False),
            ("0.0.0.0", "2001:db8::5", "2001:db8::5", True),
            ("0.0.0.0", "off", None, True),
        ):
            config = evolve(DHTConfig(), bind=bind, bind6=bind6)
            made = self.made(config, SavedNode())
            self.assertEqual((made["interface"], made["interface6"]), (bind, interface6))
            self.assertEqual(made["needs_ipv6"], needs)

    def test_node(self) -> None:
        """
        It is a node, which binds nothing before its start.
        """
        node = make_dht(self.reactor, Random(1), DHTConfig(), SavedNode(b"n" * 20))
        self.assertIsInstance(node, DHTNode)
        self.assertEqual((node.node_id, list(node.bound_addresses())), (b"n" * 20, []))


class PartsTests(SynchronousTestCase):
    """
    Tests for L{check_parts}.
    """

    def test_right(self) -> None:
        """
        The right parts, and none, are accepted.
        """
        reactor = MemoryUDPNetwork(Clock()).reactor("192.0.2.1")
        check_parts(Clock(), None, None)
        check_parts(reactor, KEY, DHTNode(reactor, rng=Random(1)))

    def test_wrong(self) -> None:
        """
        A wrong part is named, and a key does not appear in the message.
        """
        for parts, text in (
            ((None, None, None), "the first argument must be a reactor, not None"),
            ((5, None, None), "the first argument must be a reactor, not int"),
            (
                (Clock(), KEY.seed, None),
                "key must be a PeerKey, such as PeerKey.from_seed(seed), not bytes of length 32",
            ),
            ((Clock(), None, Clock()), "dht must be a DHTNode, not Clock"),
        ):
            error = self.assertRaises(WrongType, check_parts, *parts)
            self.assertEqual(str(error), text)
