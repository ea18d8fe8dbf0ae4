"""
A DHT on addresses of this host: C{python -m tests.interop.public_nodes PORT HOST...} runs
a node on each address, of which the first one is the others' bootstrap node, and prints
C{ready} as a JSON line.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react

from dtt.dht.node import DHTNode
from tests.interop.actors import emit


async def _serve(reactor: Any, port: int, hosts: tuple[str, ...]) -> None:
    nodes = [DHTNode(reactor, port=port, interface=host, bootstrap=[(hosts[0], port)]) for host in hosts]
    for node in nodes:
        node.privilegedStartService()
        node.startService()
    await gatherResults([node.when_ready() for node in nodes[1:]])
    emit("ready")
    await Deferred()


def main(reactor: Any, port: str, *hosts: str) -> Deferred[None]:
    """
    Run the command.
    """
    return Deferred.fromCoroutine(_serve(reactor, int(port), hosts))


if __name__ == "__main__":
    react(main, sys.argv[1:])
