"""
C{dtt testnet}: a closed DHT on this machine, to develop against.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, gatherResults, maybeDeferred
from twisted.internet.task import deferLater

from dtt.app.usage import CommandOptions, at_most_one, value_of, whole_number
from dtt.cli.complaints import print_line
from dtt.cli.progress import Progress
from dtt.cli.running import run_reactor, warnings_to_stderr
from dtt.dht.node import DHTNode
from dtt.dht.routing.buckets import K
from dtt.errors import LocalError, UsageError
from dtt.net.host_port import parse_port

#: The maximum number of nodes, each of which has a port (guess: what one machine can run).
MAX_NODES = 1000

#: Seconds for the nodes to find each other, and between two checks (guesses).
MESH_LIMIT = 30.0
_LOOK = 0.02


class TestnetOptions(CommandOptions):
    """
    The options of C{dtt testnet}.
    """

    synopsis = "[options] [N]"
    longdesc = (
        "Runs a closed DHT of N nodes (default 16) on the loopback interface until SIGINT or "
        "SIGTERM. When the "
        "nodes know each other, it prints 'ready HOST:PORT', the address of the first node: the "
        "bootstrap node "
        "for any program that uses the BitTorrent DHT protocol. With dtt: --bootstrap "
        "HOST:PORT. No traffic leaves this machine."
    )
    optFlags = [["json", None, "Print one line of JSON with the addresses and ids of all nodes."]]
    optParameters = [
        ["port", "p", 0, "UDP port of the first node; 0: any.", value_of("port", parse_port)],
    ]

    def parseArgs(self, *counts: str) -> None:
        """
        Take the number of nodes.

        @raise usage.UsageError: there is more than one number.
        """
        count = at_most_one("testnet", "number of nodes", counts)
        try:
            self["nodes"] = 16 if count is None else whole_number(2, MAX_NODES)(count)
        except ValueError as error:
            raise UsageError(f"N: {error}") from None

    def run(self) -> int:
        """
        Run the nodes until a signal arrives.

        @return: the exit code.
        """
        warnings_to_stderr()
        over: Deferred[None] = Deferred()
        starting: list[Deferred[None]] = []

        def stop() -> None:
            if not over.called:
                over.callback(None)
            for each in starting:
                each.cancel()

        async def serve(reactor: Any) -> int:
            testnet = Testnet(reactor, self["nodes"], self["port"])
            try:
                starting.append(Deferred.fromCoroutine(testnet.start()))
                await starting[0]
                print_line(testnet.described() if self["json"] else f"ready {testnet.bootstrap}")
                await over
            except CancelledError:
                if not over.called:
                    raise
            finally:
                await testnet.stop()
            return 0

        return run_reactor(lambda reactor: Deferred.fromCoroutine(serve(reactor)), stop)


class Testnet:
    """
    The nodes of a testnet.
    """

    def __init__(self, reactor: Any, count: int, port: int) -> None:
        """
        @param reactor: provides IReactorTime and IReactorUDP.
        @param count: the number of nodes.
        @param port: the UDP port of the first one; 0: any.
        """
        self._reactor = reactor
        self._count = count
        self._nodes = [DHTNode(reactor, port=port, interface="127.0.0.1", closed=True)]

    @property
    def bootstrap(self) -> str:
        """
        The address of the first node, as C{host:port}.
        """
        return f"127.0.0.1:{self._nodes[0].port}"

    def described(self) -> str:
        """
        Return the nodes as one line of JSON.
        """
        nodes = [{"address": f"127.0.0.1:{each.port}", "id": each.node_id.hex()} for each in self._nodes]
        return json.dumps({"bootstrap": self.bootstrap, "nodes": nodes})

    async def start(self) -> None:
        """
        Start the nodes, and wait until they know each other.

        @raise ListenError: a port can't be bound.
        @raise LocalError: the machine is too busy.
        """
        first = self._nodes[0]
        first.privilegedStartService()
        first.startService()
        hosts = [("127.0.0.1", first.port)]
        progress = Progress()
        for _ in range(self._count - 1):
            node = DHTNode(self._reactor, interface="127.0.0.1", closed=True, bootstrap=hosts)
            self._nodes.append(node)
            node.privilegedStartService()
            node.startService()
        enough = min(K, self._count - 1)
        began = self._reactor.seconds()
        try:
            while meshed := sum(len(node.table) < enough for node in self._nodes):
                progress.show(f"{self._count - meshed} of {self._count} nodes know others")
                if self._reactor.seconds() - began > MESH_LIMIT:
                    raise LocalError(
                        f"the nodes did not find each other within {MESH_LIMIT:.0f} s; try again with "
                        "fewer, or "
                        "when this machine is less busy"
                    )
                await deferLater(self._reactor, _LOOK)
        finally:
            progress.clear()

    async def stop(self) -> None:
        """
        Stop the nodes.
        """
        await gatherResults([maybeDeferred(node.stopService) for node in self._nodes])
