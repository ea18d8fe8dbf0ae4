"""
A dtt node on loopback: C{dtt_server.py HOST:PORT...} (its bootstrap nodes) prints C{ready
PORT} and serves until its standard input is closed.
"""

from __future__ import annotations

import sys

from twisted.internet import reactor as _reactor
from twisted.internet.protocol import Protocol
from twisted.internet.stdio import StandardIO
from twisted.python.failure import Failure

from dtt.dht.node import DHTNode


class _UntilClosed(Protocol):
    def connectionLost(self, reason: Failure | None = None) -> None:
        _reactor.stop()


def main(bootstrap: list[str]) -> None:
    """
    Run the node.

    @param bootstrap: HOST:PORT each.
    """
    split = [address.rpartition(":") for address in bootstrap]
    node = DHTNode(
        _reactor,
        interface="127.0.0.1",
        closed=True,
        bootstrap=[(host, int(port)) for host, _, port in split],
    )
    node.privilegedStartService()
    node.startService()
    print("ready", node.port, flush=True)
    StandardIO(_UntilClosed(), reactor=_reactor)
    _reactor.run()


if __name__ == "__main__":
    main(sys.argv[1:])
