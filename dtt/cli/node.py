"""
C{dtt node}: runs a DHT node without topics, in the foreground.

It prints one line, C{ready HOST:PORT ID}, when its ports are bound, and serves
until SIGINT, SIGTERM or SIGHUP.  With C{--bind6}, C{[HOST]:PORT} follows the id, or
replaces C{HOST:PORT} if there is no IPv4.
"""

from __future__ import annotations

import sys
from ipaddress import IPv4Address
from typing import Any, cast

from twisted.internet.defer import Deferred, maybeDeferred

from dtt.app.options import BootstrapOptions, ip_literal
from dtt.app.usage import path_name, value_of
from dtt.cli.complaints import print_line
from dtt.cli.running import run_reactor, warnings_to_stderr
from dtt.config import PUBLIC_BOOTSTRAP, check_bind6
from dtt.dht.node import DHTNode
from dtt.dht.saved import SavedNode, Saver, load
from dtt.errors import UsageError
from dtt.net.host_port import parse_port
from dtt.net.local import ipv6_interface, local_addresses
from dtt.state import StateDirectory


def _without_tls() -> None:
    """
    Prevent Twisted's reactor from loading TLS, which a DHT node does not need and
    which would account for a third of the memory of an idle node.
    """
    # Mark the module as missing, unless it is already loaded.
    cast("dict[str, Any]", sys.modules).setdefault("OpenSSL", None)


def _address_or_none(text: str) -> str:
    return text if text == "none" else ip_literal(IPv4Address)(text)


class NodeOptions(BootstrapOptions):
    """
    The options of C{dtt node}.
    """

    synopsis = "[options]"
    longdesc = "Runs a Mainline DHT node without topics. Prints 'ready HOST:PORT ID' when its port is bound."
    optParameters = [
        ["port", None, 0, "UDP port; 0: any port.", value_of("port", parse_port)],
        [
            "bind",
            None,
            "0.0.0.0",
            "Local IPv4 address; 'none': IPv6 only.",
            value_of("bind", _address_or_none),
        ],
        [
            "state-dir",
            None,
            None,
            "Directory for the node's id, known nodes and external address. Default: none.",
            value_of("state-dir", path_name),
        ],
        [
            "bind6",
            None,
            "auto",
            "IPv6: auto, off, or the local address, '::' for all. auto uses IPv6 on a machine with a global "
            "IPv6 address, unless --bind is an address.",
            value_of("bind6", check_bind6),
        ],
    ]
    optFlags = [
        [
            "closed",
            None,
            "For private networks on loopback: many nodes may share an address, and there are no limits. "
            "Without --bootstrap the node starts alone.",
        ]
    ]

    def postOptions(self) -> None:
        """
        Check that there is an address to bind.

        @raise UsageError: there is none.
        """
        if self["bind"] == "none" and self["bind6"] in ("auto", "off"):
            raise UsageError("--bind none needs --bind6")

    def run(self) -> int:
        """
        Run the node until a signal arrives.

        @return: the exit code.
        """
        _without_tls()
        warnings_to_stderr()
        bootstrap = self["bootstrap"] or (() if self["closed"] else PUBLIC_BOOTSTRAP)
        interface = None if self["bind"] == "none" else self["bind"]
        interface6 = ipv6_interface(self["bind6"], self["bind"], local_addresses())
        directory = None if self["state-dir"] is None else StateDirectory(self["state-dir"])
        saved = SavedNode()
        if directory is not None:
            directory.lock()
            saved = load(directory)
        over: Deferred[None] = Deferred()

        async def serve(reactor: Any) -> int:
            node = DHTNode(
                reactor,
                port=self["port"],
                interface=interface,
                interface6=interface6,
                needs_ipv6=self["bind6"] != "auto",
                bootstrap=bootstrap,
                closed=bool(self["closed"]),
                plain=True,
                node_id=saved.node_id,
                known_nodes=saved.nodes,
                external_host=saved.external_host,
            )
            node.privilegedStartService()
            node.startService()
            addresses = [] if interface is None else [f"{interface}:{node.port}"]
            if interface6 is not None:
                addresses.append(f"[{interface6}]:{node.port6}")
            print_line(" ".join(["ready", addresses[0], node.node_id.hex(), *addresses[1:]]))
            saver = None if directory is None else Saver(reactor, node, directory)
            if saver is not None:
                saver.startService()
            await over
            if saver is not None:
                saver.stopService()
            await maybeDeferred(node.stopService)
            return 0

        return run_reactor(
            lambda reactor: Deferred.fromCoroutine(serve(reactor)), lambda: over.callback(None)
        )
