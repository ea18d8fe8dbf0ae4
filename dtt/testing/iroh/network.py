"""
In-memory iroh: a replacement for the bindings.

L{MemoryIroh} is a network of hosts driven by a clock. L{MemoryIroh.bindings} returns the
module C{iroh} as one host would import it, as far as L{dtt.transport.iroh.bindings}
describes it. Its C{async} functions wait for futures of the running loop, as the
library's do.

Example::

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
    Settings of an endpoint that is not bound yet.
    """

    def __init__(self, network: MemoryIroh, host: str) -> None:
        self._network = network
        self._host = host
        self.peer_id = b""
        self.relays: list[str] = []
        self.protocols: list[bytes] = []
        self.port = 0

    def apply_minimal(self) -> None:
        """Do nothing: no relay is the default here."""

    def apply_n0(self) -> None:
        """Use the relay that every host with the n0 preset shares."""
        self.relays = ["https://n0.example/"]

    def relay_mode(self, mode: Sequence[str]) -> None:
        """Use these relays."""
        self.relays = list(mode)

    def secret_key(self, seed: bytes) -> None:
        """Set the endpoint's key from its 32-byte seed."""
        self.peer_id = crypto_sign_seed_keypair(seed)[0]

    def alpns(self, alpns: Sequence[bytes]) -> None:
        """Set the protocols that the endpoint speaks."""
        self.protocols = list(alpns)

    def bind_addr(self, addr: str) -> None:
        """Choose the port; only the first call counts."""
        self.port = self.port or int(addr.rpartition(":")[2])

    async def bind(self) -> MemoryEndpoint:
        """Create the endpoint."""
        network = self._network
        port = network.take_port(self.port)
        relay = self.relays[0] if self.relays else None
        return MemoryEndpoint(network, self._host, port, self.peer_id, relay, self.protocols)


class MemoryRelayMode:
    """
    Constructors for the list of relays.
    """

    @staticmethod
    def disabled() -> list[str]:
        """No relays."""
        return []

    @staticmethod
    def custom_from_urls(urls: Sequence[str]) -> list[str]:
        """
        The relays with these URLs.

        @raise IrohError: one of them is not an http or https URL.
        """
        for url in urls:
            if not url.startswith(("https://", "http://")):
                raise IrohError("INTERNAL", "Failed to parse relay URL")
        return list(urls)


@define(slots=True)
class MemoryBindings:
    """
    The module C{iroh}, as one host imports it.
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

    @ivar clock: the clock of everything on the network.
    @ivar latency: the one-way latency in seconds. A dial takes two latencies; the
        accepting end sees the connection after three.
    @ivar window: bytes of a stream that may be unread.
    @ivar silent: hosts that do not answer dials.
    @ivar stalled: hosts that do not read.
    @ivar relays: the URLs of the relays that are running.
    @ivar relays_changed: notified when a relay starts.
    @ivar endpoints: the open endpoints.
    @ivar connections: the open ends of connections.
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
        The module C{iroh} for the host with this IP address.
        """
        return MemoryBindings(lambda: MemoryEndpointBuilder(self, host))

    def start_relay(self, url: str) -> None:
        """
        Start the relay with this URL.
        """
        self.relays.add(url)
        self.relays_changed.notify()

    def cut(self, one: str, other: str) -> None:
        """
        Break all connections between two hosts, at both ends at the same time.
        """
        for end in tuple(self.connections):
            if {end.endpoint.host, end.other.endpoint.host} == {one, other}:
                end.lose("timed out")

    def resume(self, host: str) -> None:
        """
        Let C{host} read again.
        """
        self.stalled.discard(host)
        for end in self.connections:
            for stream in end.streams:
                stream.notify()

    def find(self, addr: MemoryEndpointAddr) -> MemoryEndpoint | None:
        """
        The endpoint that answers first: the one at the first address in use, else the
        peer itself through its relay.
        """
        there = {f"{each.host}:{each.port}": each for each in self.endpoints if each.host not in self.silent}
        for place in addr.direct:
            if place in there:
                return there[place]
        relayed = (e for e in self.endpoints if e.peer_id == addr.peer.peer_id and e.relay == addr.relay)
        return next(relayed, None) if addr.relay in self.relays else None

    def take_port(self, wanted: int) -> int:
        """
        The given port, or a new one if it is 0.
        """
        self._last_port += 1
        return wanted or self._last_port

    async def sleep(self, seconds: float) -> None:
        """
        Wait on the network's clock.
        """
        over = Changes()
        self.clock.callLater(seconds, over.notify)
        await over.wait()
