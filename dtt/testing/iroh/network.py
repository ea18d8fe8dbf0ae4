"""
iroh in memory: what takes the place of the bindings.

L{MemoryIroh} is a network of hosts under a clock; L{MemoryIroh.bindings} is the
module C{iroh} as one host would import it, as far as
L{dtt.transport.iroh.bindings} describes it.  Its C{async} functions wait as the
library's do, for futures of the running loop.

    network = MemoryIroh(ThreadClock())
    transport = IrohTransport(network.clock, key, bindings=network.bindings("10.0.0.1"))
    transport.listen("10.0.0.1", 0)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import define, field
from nacl.bindings import crypto_sign_seed_keypair

from dtt.testing.iroh.endpoints import MemoryEndpoint, MemoryEndpointAddr
from dtt.testing.iroh.streams import Changes, IrohError, MemoryConnection, MemoryEndpointId
from dtt.testing.net.clock import ThreadClock


class MemoryEndpointBuilder:
    """
    How an endpoint is made.
    """

    def __init__(self, network: MemoryIroh, host: str) -> None:
        self._network = network
        self._host = host
        self.peer_id = b""
        self.relays: list[str] = []
        self.protocols: list[bytes] = []
        self.port = 0

    def apply_minimal(self) -> None:
        """As of the bindings: nothing."""

    def apply_n0(self) -> None:
        """As of the bindings: a relay that every such host has."""
        self.relays = ["https://n0.example/"]

    def relay_mode(self, mode: Sequence[str]) -> None:
        """As of the bindings."""
        self.relays = list(mode)

    def secret_key(self, seed: bytes) -> None:
        """As of the bindings."""
        self.peer_id = crypto_sign_seed_keypair(seed)[0]

    def alpns(self, alpns: Sequence[bytes]) -> None:
        """As of the bindings."""
        self.protocols = list(alpns)

    def bind_addr(self, addr: str) -> None:
        """As of the bindings; only the first one counts."""
        self.port = self.port or int(addr.rpartition(":")[2])

    async def bind(self) -> MemoryEndpoint:
        """As of the bindings."""
        network = self._network
        port = network.take_port(self.port)
        relay = self.relays[0] if self.relays else None
        return MemoryEndpoint(network, self._host, port, self.peer_id, relay, self.protocols)


class MemoryRelayMode:
    """
    Which relays are used.
    """

    @staticmethod
    def disabled() -> list[str]:
        """As of the bindings."""
        return []

    @staticmethod
    def custom_from_urls(urls: Sequence[str]) -> list[str]:
        """As of the bindings."""
        for url in urls:
            if not url.startswith(("https://", "http://")):
                raise IrohError("INTERNAL", "Failed to parse relay URL")
        return list(urls)


@define(slots=True)
class MemoryBindings:
    """
    The module, as one host imports it.
    """

    EndpointBuilder: Any
    IrohError: type[Exception] = IrohError
    EndpointAddr: Any = MemoryEndpointAddr
    EndpointId: Any = MemoryEndpointId
    RelayMode: Any = MemoryRelayMode


@define(slots=True, eq=False)
class MemoryIroh:
    """
    A network of hosts.

    @ivar clock: the time of everything on it.
    @ivar latency: seconds that bytes take one way.  A dial takes two of them;
        the other end sees it after three.
    @ivar window: bytes of a stream that may be unread.
    @ivar silent: hosts that do not answer dials.
    @ivar stalled: hosts that do not read.
    @ivar relays: the relays that work.
    @ivar endpoints: those that are open.
    @ivar connections: the ends that are open.
    """

    clock: ThreadClock
    latency: float = 0.01
    window: int = 1_250_000
    silent: set[str] = field(factory=set)
    stalled: set[str] = field(factory=set)
    relays: set[str] = field(factory=set)
    relays_changed: Changes = field(factory=Changes)
    endpoints: list[MemoryEndpoint] = field(factory=list)
    connections: list[MemoryConnection] = field(factory=list)
    _last_port: int = 49151

    def bindings(self, host: str) -> MemoryBindings:
        """
        The module for a host.
        """
        return MemoryBindings(lambda: MemoryEndpointBuilder(self, host))

    def start_relay(self, url: str) -> None:
        """
        A relay works from now on.
        """
        self.relays.add(url)
        self.relays_changed.tell()

    def cut(self, one: str, other: str) -> None:
        """
        All connections between two hosts break, for both at once.
        """
        for end in tuple(self.connections):
            if {end.endpoint.host, end.other.endpoint.host} == {one, other}:
                end.lose("timed out")

    def resume(self, host: str) -> None:
        """
        C{host} reads again.
        """
        self.stalled.discard(host)
        for end in self.connections:
            for stream in end.streams:
                stream.tell()

    def find(self, addr: MemoryEndpointAddr) -> MemoryEndpoint | None:
        """
        Who answers first: whoever is at the first address where anybody is,
        else whom the relay knows.
        """
        there = {f"{each.host}:{each.port}": each for each in self.endpoints if each.host not in self.silent}
        for place in addr.direct:
            if place in there:
                return there[place]
        relayed = (e for e in self.endpoints if e.peer_id == addr.peer.peer_id and e.relay == addr.relay)
        return next(relayed, None) if addr.relay in self.relays else None

    def take_port(self, wanted: int) -> int:
        """
        A port, of one's own if none is wanted.
        """
        self._last_port += 1
        return wanted or self._last_port

    async def sleep(self, seconds: float) -> None:
        """
        Let time pass.
        """
        over = Changes()
        self.clock.callLater(seconds, over.tell)
        await over.wait()
