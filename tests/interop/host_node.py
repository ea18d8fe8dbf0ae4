"""
A dtt node on all addresses of its host, for L{tests.interop.hosts}: C{python -m
tests.interop.host_node ID HOST:PORT...} (C{-}: a new id; its bootstrap nodes) prints
C{ready} and its port, and executes the commands on its standard input until that is
closed, as benchmarks/servers do: C{NUMBER put SEED SALT SEQ VALUE}, C{NUMBER get KEY
SALT}, and C{NUMBER status}: its id, its external address, and the number of nodes it
knows.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.stdio import StandardIO
from twisted.internet.task import react
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

from dtt.dht.node import DHTNode

#: The port on every host.
PORT = 6881


class HostProgram(LineOnlyReceiver):
    """
    Executes commands, each in a method C{do_NAME}.

    @ivar closed: fires when standard input is closed.
    @ivar port: the port of its node.
    """

    delimiter = b"\n"
    port: int

    def __init__(self) -> None:
        self.closed: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        """
        Start.
        """
        self.sendLine(b"ready %d" % self.port)

    def lineReceived(self, line: bytes) -> None:
        """
        Execute a command.
        """
        number, name, *words = line.decode().split()
        arguments = ["" if word == "-" else word for word in words]
        done = Deferred.fromCoroutine(getattr(self, f"do_{name}")(*arguments))
        done.addErrback(lambda failure: f"error {failure.getErrorMessage()}")
        done.addCallback(lambda answer: self.sendLine(f"{number} {answer}".encode()))

    def connectionLost(self, reason: Failure | None = None) -> None:
        """
        Fire C{closed}.
        """
        self.closed.callback(None)


class HostNode(HostProgram):
    """
    A dtt node.
    """

    def __init__(self, reactor: Any, node_id: bytes | None, bootstrap: Sequence[tuple[str, int]]) -> None:
        super().__init__()
        self._external = "-"
        self._node = DHTNode(
            reactor,
            port=PORT,
            bootstrap=bootstrap,
            node_id=node_id,
            plain=True,
        )
        self._node.observe(self._seen_at)
        self._node.privilegedStartService()
        self._node.startService()
        self.port = self._node.port

    def _seen_at(self, host: str) -> None:
        self._external = host

    async def do_put(self, seed: str, salt: str, seq: str, value: str) -> str:
        """
        Put a mutable item; the answer is the number of nodes that stored it.
        """
        result = await self._node.put_latest(
            bytes.fromhex(seed), bytes.fromhex(value), int(seq), bytes.fromhex(salt)
        )
        return str(len(result.stored))

    async def do_get(self, key: str, salt: str) -> str:
        """
        The value of a mutable item.
        """
        read = await self._node.get_mutable(bytes.fromhex(key), bytes.fromhex(salt))
        return next(iter(read.values()), b"").hex() or "-"

    async def do_status(self) -> str:
        """
        The node's id, external address and number of known nodes.
        """
        return f"{self._node.node_id.hex()} {self._external} {len(self._node.table)}"


def main(reactor: Any, node_id: str, *bootstrap: str) -> Deferred[None]:
    """
    Run the command.
    """
    split = [address.rpartition(":") for address in bootstrap]
    own_id = None if node_id == "-" else bytes.fromhex(node_id)
    node = HostNode(reactor, own_id, [(host, int(port)) for host, _, port in split])
    StandardIO(node, reactor=reactor)
    return node.closed


if __name__ == "__main__":
    react(main, sys.argv[1:])
