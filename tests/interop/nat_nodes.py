"""
The DHT of L{tests.interop.nat}: C{python -m tests.interop.nat_nodes} runs a dtt node at
each of L{node_addresses<tests.interop.nat_network.node_addresses>}, prints C{ready} and
the port when all know others, and runs until its standard input is closed.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.stdio import StandardIO
from twisted.internet.task import react

from dtt.dht.node import DHTNode
from tests.interop.host_node import HostProgram
from tests.interop.nat_network import NODE_PORT, node_addresses


class Nodes(HostProgram):
    """
    Reports the port, and executes no commands.
    """

    port = NODE_PORT


async def run(reactor: Any) -> None:
    """
    Run the nodes.
    """
    nodes: list[DHTNode] = []
    addresses = node_addresses()
    for four, six in addresses:
        bootstrap = [(host, NODE_PORT) for pair in addresses[:3] for host in pair if host not in (four, six)]
        node = DHTNode(
            reactor, port=NODE_PORT, interface=four, interface6=six, bootstrap=bootstrap, plain=True
        )
        node.privilegedStartService()
        node.startService()
        nodes.append(node)
    await gatherResults([node.when_ready() for node in nodes])
    program = Nodes()
    StandardIO(program, reactor=reactor)
    await program.closed


def main(reactor: Any) -> Deferred[None]:
    """
    Run the command.
    """
    return Deferred.fromCoroutine(run(reactor))


if __name__ == "__main__":
    react(main)
