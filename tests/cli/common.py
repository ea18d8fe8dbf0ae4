"""
Helpers for the tests of commands.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Coroutine
from random import Random
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.protocol import DatagramProtocol
from twisted.trial.unittest import SynchronousTestCase

from dtt.dht.node import DHTNode
from dtt.krpc.messages import Query, decode, encode_error, encode_response
from dtt.testing.net.clock import HeapClock
from dtt.testing.net.machines import MachineNetwork
from tests.tracker.common import fixed_chance

T = TypeVar("T")

#: The first node of the DHT in memory.
FIRST = "10.0.0.1"


def made(options: Any, *arguments: str) -> Any:
    """Parse arguments."""
    options.parseOptions(list(arguments))
    return options


class CommandTestCase(SynchronousTestCase):
    """
    Captures the output of commands.
    """

    def setUp(self) -> None:
        """Capture the output."""
        self.out, self.err = io.StringIO(), io.StringIO()
        self.patch(sys, "stdout", self.out)
        self.patch(sys, "stderr", self.err)

    def printed(self) -> list[str]:
        """Return the lines that were printed since the last call."""
        lines = self.out.getvalue().splitlines()
        self.out.truncate(0)
        self.out.seek(0)
        return lines


class Answering(DatagramProtocol):
    """
    A DHT node that answers every query with the same values, or with an error.
    """

    def __init__(self, values: dict[bytes, Any] | tuple[int, str], node_id: bytes = b"\xcd" * 20) -> None:
        """
        @param values: the values; or the code and the text of the error.
        @param node_id: its id.
        """
        self.values = values
        self.node_id = node_id

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """Answer a query."""
        query = decode(datagram)
        assert isinstance(query, Query)
        if isinstance(self.values, tuple):
            reply = encode_error(query.transaction, *self.values, None)
        else:
            reply = encode_response(query.transaction, self.node_id, self.values, None)
        assert self.transport is not None
        self.transport.write(reply, addr)


class DHTTestCase(CommandTestCase):
    """
    Runs the coroutines of commands on a DHT of 8 nodes in memory.
    """

    def setUp(self) -> None:
        """Create the DHT, and a machine with a separate node."""
        super().setUp()
        fixed_chance(self)
        clock = HeapClock()
        clock.advance(1_800_000_000)
        self.network = MachineNetwork(clock, rng=Random(1))
        self.machines = 0
        self.ports: list[Any] = []
        self.nodes = [
            DHTNode(
                self.network.reactor(f"10.0.{number}.1"),
                port=6881,
                bootstrap=[(FIRST, 6881)] if number else [],
                rng=Random(number),
            )
            for number in range(8)
        ]
        self.reactor = self.network.reactor("10.1.1.1")
        self.node = DHTNode(self.reactor, bootstrap=[(FIRST, 6881)], rng=Random(99))
        for node in (*self.nodes, self.node):
            node.privilegedStartService()
            node.startService()
        self.network.advance(5)

    def tearDown(self) -> None:
        """Stop the nodes, and check that nothing is left."""
        for node in (*self.nodes, self.node):
            node.stopService()
        for port in self.ports:
            port.stopListening()
        self.network.advance(5)
        self.assertEqual(self.network.listening(), set())

    def node_that_asks(self, values: dict[bytes, Any]) -> DHTNode:
        """Return a node that knows only one other node, which answers with the given values."""
        self.machines += 1
        host = f"10.9.{self.machines}.1"
        port = self.network.reactor(host).listenUDP(6881, Answering(values))
        reactor = self.network.reactor(f"10.8.{self.machines}.1")
        node = DHTNode(reactor, bootstrap=[(host, 6881)], rng=Random(99))
        node.privilegedStartService()
        node.startService()
        self.nodes.append(node)
        self.ports.append(port)
        self.network.advance(5)
        return node

    def result(self, coroutine: Coroutine[Any, Any, T], seconds: float = 10) -> T:
        """Return the result of a coroutine."""
        running = Deferred.fromCoroutine(coroutine)
        self.network.advance(seconds)
        return self.successResultOf(running)

    def failure(self, coroutine: Coroutine[Any, Any, Any], error: type[Exception]) -> str:
        """Return the message of the error of a coroutine."""
        running = Deferred.fromCoroutine(coroutine)
        self.network.advance(60)
        return str(self.failureResultOf(running, error).value)
