"""
Tests for L{dtt.cli.testnet}.
"""

from __future__ import annotations

import json
from random import Random

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from dtt.cli import testnet
from dtt.cli.testnet import Testnet
from dtt.errors import ListenError, LocalError
from dtt.testing.net.machines import MachineNetwork
from tests.cli.common import CommandTestCase


class TestnetTests(CommandTestCase):
    """
    Tests for L{Testnet}.
    """

    def setUp(self) -> None:
        """Make a machine."""
        super().setUp()
        self.network = MachineNetwork(Clock(), rng=Random(1))
        self.reactor = self.network.reactor("127.0.0.1")

    def test_nodes(self) -> None:
        """The nodes find each other; all are described, and all stop."""
        net = Testnet(self.reactor, 5, 7000)
        starting = Deferred.fromCoroutine(net.start())
        self.network.advance(10)
        self.successResultOf(starting)
        self.assertEqual(net.bootstrap, "127.0.0.1:7000")
        described = json.loads(net.described())
        self.assertEqual(described["bootstrap"], "127.0.0.1:7000")
        self.assertEqual(len({node["id"] for node in described["nodes"]}), 5)
        self.assertTrue(all(len(node.table) == 4 for node in net._nodes))
        Deferred.fromCoroutine(net.stop())
        self.network.advance(1)
        self.assertEqual(self.network.listening(), set())

    def test_port_taken(self) -> None:
        """A port that is taken is an error."""
        first = Testnet(self.reactor, 2, 7000)
        Deferred.fromCoroutine(first.start())
        self.network.advance(5)
        second = Testnet(self.reactor, 2, 7000)
        self.failureResultOf(Deferred.fromCoroutine(second.start()), ListenError)
        for net in (first, second):
            Deferred.fromCoroutine(net.stop())
        self.network.advance(1)
        self.assertEqual(self.network.listening(), set())

    def test_too_slow(self) -> None:
        """If the nodes don't find each other, it gives up."""
        self.patch(testnet, "MESH_LIMIT", -1.0)
        net = Testnet(self.reactor, 5, 0)
        starting = Deferred.fromCoroutine(net.start())
        self.failureResultOf(starting, LocalError)
        Deferred.fromCoroutine(net.stop())
        self.network.advance(1)
