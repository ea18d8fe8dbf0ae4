"""
Many dtt nodes in one process: C{dtt_swarm.py COUNT} prints C{ready PORT...} when they
know each other. They serve until its standard input is closed. A line of input is the
number of nodes to kill; the reply is C{dead}.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.stdio import StandardIO
from twisted.internet.task import react
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

from dtt.dht.node import DHTNode

LOOPBACK = "127.0.0.1"


class Swarm(LineOnlyReceiver):
    """
    Reads commands from standard input.

    @ivar closed: fires when standard input is closed.
    """

    delimiter = b"\n"

    def __init__(self, nodes: list[DHTNode]) -> None:
        self.closed: Deferred[None] = Deferred()
        self._nodes = nodes

    def connectionMade(self) -> None:
        """
        Start.
        """
        self.sendLine(b"ready " + " ".join(str(node.port) for node in self._nodes).encode())

    def lineReceived(self, line: bytes) -> None:
        """
        Kill the last nodes.
        """
        count = int(line)
        dying = [maybeDeferred(node.stopService) for node in self._nodes[-count:]]
        gatherResults(dying).addCallback(lambda _: self.sendLine(b"dead"))

    def connectionLost(self, reason: Failure | None = None) -> None:
        """
        Fire C{closed}.
        """
        self.closed.callback(None)


async def _main(reactor: Any, count: str) -> None:
    nodes: list[DHTNode] = []
    for _ in range(int(count)):
        known = [(LOOPBACK, node.port) for node in nodes[:3]]
        node = DHTNode(reactor, interface=LOOPBACK, closed=True, bootstrap=known)
        node.privilegedStartService()
        node.startService()
        nodes.append(node)
        if known:
            await node.when_ready()
    swarm = Swarm(nodes)
    StandardIO(swarm, reactor=reactor)
    await swarm.closed


if __name__ == "__main__":
    react(lambda reactor, count: Deferred.fromCoroutine(_main(reactor, count)), sys.argv[1:])
