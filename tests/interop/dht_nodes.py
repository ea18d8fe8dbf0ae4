"""
A DHT on 127.0.0.1 in one process: C{python -m tests.interop.dht_nodes KIND COUNT PORT...}
(C{libtorrent} or C{dtt}; ports of the first nodes) prints C{ready} and serves until its
standard input is closed.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.internet.stdio import StandardIO
from twisted.internet.task import react
from twisted.python.failure import Failure

from tests.interop.support import dtt_swarm


class _Input(Protocol):
    def __init__(self) -> None:
        self.closed: Deferred[None] = Deferred()

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.closed.callback(None)


async def _serve(reactor: Any, kind: str, count: int, ports: list[int]) -> None:
    if kind == "libtorrent":
        from tests.interop.libtorrent_swarm import LibtorrentSwarm

        swarm = LibtorrentSwarm(count, ports=ports)
        await swarm.settled(reactor)
    else:
        await dtt_swarm(reactor, count, ports)
    standard_input = _Input()
    StandardIO(standard_input, reactor=reactor)
    print("ready", flush=True)
    await standard_input.closed


def main(reactor: Any, kind: str, count: str, *ports: str) -> Deferred[None]:
    """
    Run the command.
    """
    return Deferred.fromCoroutine(_serve(reactor, kind, int(count), [int(port) for port in ports]))


if __name__ == "__main__":
    react(main, sys.argv[1:])
