"""
C{dtt node}: a plain DHT node without topics, in the foreground.

It prints one line, C{ready HOST:PORT ID}, when its port is bound, and serves
until SIGINT or SIGTERM.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred

from dtt.cli.running import run_reactor, warnings_to_stderr
from dtt.config import PUBLIC_BOOTSTRAP
from dtt.dht.node import DHTNode
from dtt.options import BootstrapOptions, port_number


class NodeOptions(BootstrapOptions):
    """
    The options of C{dtt node}.
    """

    synopsis = "[options]"
    longdesc = "A Mainline DHT node without topics. Prints 'ready HOST:PORT ID' once its port is bound."
    optParameters = [
        ["port", None, 0, "UDP port; 0: any.", port_number],
        ["bind", None, "0.0.0.0", "Local IPv4 address."],
    ]
    optFlags = [
        [
            "closed",
            None,
            "For networks on loopback: many nodes may share an address, and nothing is limited; without "
            "--bootstrap it starts alone.",
        ]
    ]

    def run(self) -> int:
        """
        Serve until a signal.

        @return: the exit code.
        """
        warnings_to_stderr()
        bootstrap = self["bootstrap"] or (() if self["closed"] else PUBLIC_BOOTSTRAP)
        over: Deferred[None] = Deferred()

        async def serve(reactor: Any) -> int:
            node = DHTNode(
                reactor,
                port=self["port"],
                interface=self["bind"],
                bootstrap=bootstrap,
                closed=bool(self["closed"]),
                plain=True,
            )
            node.privilegedStartService()
            node.startService()
            print(f"ready {self['bind']}:{node.port} {node.node_id.hex()}", flush=True)
            await over
            await maybeDeferred(node.stopService)
            return 0

        return run_reactor(
            lambda reactor: Deferred.fromCoroutine(serve(reactor)), lambda: over.callback(None)
        )
