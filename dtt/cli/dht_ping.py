"""
C{dtt dht ping}: pings a DHT node.
"""

from __future__ import annotations

import json
from ipaddress import IPv6Address, ip_address
from typing import Any

from twisted.internet.address import IPv4Address as TwistedIPv4
from twisted.internet.address import IPv6Address as TwistedIPv6
from twisted.internet.defer import Deferred, TimeoutError, maybeDeferred
from twisted.internet.interfaces import IResolutionReceiver
from twisted.internet.task import deferLater
from zope.interface import implementer

from dtt.app.usage import CommandOptions, exactly_one, seconds, value_of, whole_number
from dtt.cli.commands import FAILED
from dtt.cli.complaints import print_line
from dtt.cli.dht import shown_address, shown_version
from dtt.cli.lines import printable
from dtt.cli.running import run_coroutine, warnings_to_stderr
from dtt.dht.node import DHTNode
from dtt.errors import LocalError, QueryRefused, QueryTimeout, UsageError
from dtt.krpc.compact import decode_peers
from dtt.net.host_port import parse_host_port
from dtt.net.names import resolve_abandonably
from dtt.net.networks import Scope

#: Seconds between two pings: nodes ignore frequent queries.
INTERVAL = 1.0


@implementer(IResolutionReceiver)
class _Addresses:
    """
    Collects the addresses of a name.
    """

    def __init__(self) -> None:
        self.found: list[str] = []
        self.done: Deferred[list[str]] = Deferred()

    def resolutionBegan(self, resolution: Any) -> None:
        """
        Do nothing.
        """

    def addressResolved(self, address: Any) -> None:
        """
        Keep an address.
        """
        if isinstance(address, TwistedIPv4 | TwistedIPv6):
            self.found.append(address.host)

    def resolutionComplete(self) -> None:
        """
        Fire C{done}.
        """
        if not self.done.called:
            self.done.callback(self.found)


async def resolve(reactor: Any, name: str, timeout: float) -> list[str]:
    """
    Return the addresses of a host, IPv4 first.

    @param name: a name, or an IP literal.
    @param timeout: seconds.
    @raise LocalError: there is none, or the name servers don't answer.
    """
    try:
        return [str(ip_address(name))]
    except ValueError:
        pass
    resolve_abandonably(reactor)
    addresses = _Addresses()
    reactor.nameResolver.resolveHostName(addresses, name)
    try:
        found = await addresses.done.addTimeout(timeout, reactor)
    except TimeoutError:
        raise LocalError(f"the name servers did not answer for {name} within {timeout:g} s") from None
    if not found:
        raise LocalError(f"{name} has no address")
    return sorted(dict.fromkeys(found), key=lambda host: ":" in host)


class PingOptions(CommandOptions):
    """
    The options of C{dtt dht ping}.
    """

    synopsis = "[options] HOST:PORT"
    longdesc = (
        "Pings a DHT node, and prints the round trip, its id, its software, and our address as it "
        "sees it. Exits "
        "with 1 if it does not answer."
    )
    optFlags = [["json", None, "Print one line of JSON for each ping."]]
    optParameters = [
        ["count", "c", 1, "Number of pings, one a second.", value_of("count", whole_number(1, 1000))],
        ["timeout", "t", 5.0, "Seconds to wait for each answer.", value_of("timeout", seconds)],
    ]
    placeholders = {"count": "N"}

    def parseArgs(self, *hosts: str) -> None:
        """
        Take the host and the port.

        @raise usage.UsageError: there is not exactly one.
        """
        host = exactly_one("dht ping", "HOST:PORT", hosts)
        try:
            self["host"], self["port"] = parse_host_port(host)
        except ValueError as error:
            raise UsageError(f"HOST:PORT: {error}") from None
        if not self["port"]:
            raise UsageError("HOST:PORT: nothing can listen on port 0")

    def run(self) -> int:
        """
        Ping the node.

        @return: the exit code; 1 if an answer is missing.
        """
        warnings_to_stderr()
        return run_coroutine(self._ping)

    async def _ping(self, reactor: Any) -> int:
        host = (await resolve(reactor, self["host"], self["timeout"]))[0]
        is_6 = isinstance(ip_address(host), IPv6Address)
        node = DHTNode(reactor, interface=None if is_6 else "", interface6="::" if is_6 else None)
        node.privilegedStartService()  # bound, but not started: it queries no other node
        missing = 0
        try:
            for number in range(self["count"]):
                if number:
                    await deferLater(reactor, INTERVAL)
                missing += not await self._once(reactor, node, host)
        finally:
            await maybeDeferred(node.stopService)
        return FAILED if missing else 0

    async def _once(self, reactor: Any, node: DHTNode, host: str) -> bool:
        where, sent = shown_address(host, self["port"]), reactor.seconds()
        try:
            query = node.krpc.query(host, self["port"], b"ping", {})
            response = await query.addTimeout(self["timeout"], reactor)
        except (QueryTimeout, TimeoutError):
            self._show({"address": where, "answered": False}, f"{where} does not answer")
            return False
        except QueryRefused as error:
            text = f"{where} refuses: {printable(str(error))}"
            self._show({"address": where, "answered": True, "error": error.code}, text)
            return False
        milliseconds = (reactor.seconds() - sent) * 1000
        ours = ""
        if response.ip is not None:
            ours = ", ".join(shown_address(*peer) for peer in decode_peers([response.ip], frozenset(Scope)))
        version = shown_version(response.version)
        self._show(
            {
                "address": where,
                "answered": True,
                "ms": round(milliseconds, 1),
                "id": response.node_id.hex(),
                "version": response.version[:8].hex(),
                "seen_as": ours,
            },
            f"{where}: {milliseconds:.0f} ms, id {response.node_id.hex()}"
            + (f", software {printable(version)}" if version else "")
            + (f", sees us at {ours}" if ours else ""),
        )
        return True

    def _show(self, value: dict[str, object], text: str) -> None:
        print_line(json.dumps(value) if self["json"] else text)
