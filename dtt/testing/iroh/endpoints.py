"""
iroh in memory: endpoints, and how they come to connections.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from attrs import frozen

from dtt.testing.iroh.streams import Changes, IrohError, MemoryConnection, MemoryEndpointId, Network

#: Seconds until a dial that nobody answers fails (docs/protocol/gossip.md section 5).
DIAL_TIMEOUT = 30.0

#: Seconds for which an endpoint goes on to try the addresses of earlier dials of a
#: peer, counted from the last one (seen with iroh 1.4.1).
MEMORY = 60.0


@frozen(slots=True)
class MemoryEndpointAddr:
    """
    Where an endpoint can be reached.
    """

    peer: MemoryEndpointId
    relay: str | None = None
    direct: Sequence[str] = ()

    def direct_addresses(self) -> list[str]:
        """As of the bindings."""
        return list(self.direct)

    def relay_url(self) -> str | None:
        """As of the bindings."""
        return self.relay


@frozen(slots=True)
class _Source:
    """
    C{IncomingAddr}.
    """

    addr: str

    def is_ip(self) -> bool:
        """As of the bindings."""
        return not self.addr.startswith("http")


class Directory(Network, Protocol):
    """
    Who is on the network.
    """

    relays: set[str]
    relays_changed: Changes
    endpoints: list[MemoryEndpoint]

    def find(self, addr: MemoryEndpointAddr) -> MemoryEndpoint | None:
        """Who answers at one of the addresses."""

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""


class MemoryIncoming:
    """
    Somebody's wish for a connection, and its handshake: what one side of it is
    waiting for, the other one does.
    """

    def __init__(self, client: MemoryEndpoint, peer_id: bytes, alpn: bytes, source: str) -> None:
        """
        @param peer_id: whom the client wants to meet.
        @param alpn: what it speaks.
        """
        self.client = client
        self.given_up = False
        self._network = client.network
        self._peer_id = peer_id
        self._alpn = alpn
        self._source = source
        self._changes = Changes()
        self._endpoint: MemoryEndpoint | None = None
        self._error: IrohError | None = None
        self._ends: tuple[MemoryConnection, MemoryConnection] | None = None
        self._validated = False

    # The server's side

    async def remote_addr(self) -> _Source:
        """As of the bindings."""
        return _Source(self._source)

    async def remote_addr_validated(self) -> bool:
        """As of the bindings."""
        return self._validated

    async def refuse(self) -> None:
        """As of the bindings."""
        self._later(1, self.fail, IrohError("CONNECT", "refused"))

    async def retry(self) -> None:
        """As of the bindings: it comes again a round trip later."""
        self._validated = True
        if self._endpoint is not None:
            self._later(2, self.arrive, self._endpoint)

    async def accept(self) -> MemoryIncoming:
        """As of the bindings."""
        if self._endpoint is not None and self._alpn not in self._endpoint.alpns:
            error = IrohError("CONNECT", "peer doesn't support any known protocol")
            self._later(1, self.fail, error)
            raise IrohError("CONNECTION", "peer doesn't support any known protocol")
        if self._endpoint is not None and self._endpoint.peer_id != self._peer_id:
            self._later(1, self.fail, IrohError("CONNECT", "invalid peer certificate: UnknownIssuer"))
        else:
            self._later(1, self._complete)
        return self

    async def connect(self) -> MemoryConnection:
        """As of the bindings."""
        await self._network.sleep(2 * self._network.latency)
        if self._ends is None or self._ends[1].lost is not None:
            raise IrohError("INTERNAL", "ConnectingError::ConnectionError")
        return self._ends[1]

    # The client's side

    async def authenticated(self) -> MemoryConnection:
        """Wait for the connection."""
        while self._ends is None:
            if self._error is not None:
                raise self._error
            await self._changes.wait()
        return self._ends[0]

    def arrive(self, endpoint: MemoryEndpoint) -> None:
        """Be seen by C{endpoint}."""
        self._endpoint = endpoint
        if not self.given_up:
            endpoint.wanted(self)

    def fail(self, error: IrohError) -> None:
        """It comes to nothing."""
        self._error = error
        self._changes.tell()

    def _complete(self) -> None:
        if self.given_up or self._endpoint is None:
            return
        client = MemoryConnection(self.client, self._endpoint.peer_id)
        server = MemoryConnection(self._endpoint, self.client.peer_id)
        client.other, server.other = server, client
        self._ends = client, server
        self._changes.tell()

    def _later(self, trips: int, function: Callable[..., object], *args: object) -> None:
        self._network.clock.callLater(trips * self._network.latency, function, *args)


class MemoryEndpoint:
    """
    The sockets of one host.

    @ivar host: where it is.
    @ivar port: its port.
    @ivar peer_id: who it is.
    @ivar relay: the relay that it uses.
    @ivar alpns: what it speaks; who speaks something else comes, too.
    @ivar known: the C{host:port} pairs that it believes to be reachable at;
        L{None}: its socket.
    """

    def __init__(
        self,
        network: Directory,
        host: str,
        port: int,
        peer_id: bytes,
        relay: str | None,
        alpns: Sequence[bytes],
    ) -> None:
        self.network = network
        self.host = host
        self.port = port
        self.peer_id = peer_id
        self.relay = relay
        self.alpns = alpns
        self._queue: deque[MemoryIncoming] = deque()
        self._changes = Changes()
        self._open = True
        self.known: list[str] | None = None
        self._dialled: dict[bytes, tuple[float, list[str]]] = {}
        network.endpoints.append(self)

    def bound_sockets(self) -> list[str]:
        """As of the bindings."""
        return [f"{self.host}:{self.port}"]

    def addr(self) -> MemoryEndpointAddr:
        """As of the bindings."""
        online = self.relay if self.relay in self.network.relays else None
        known = self.bound_sockets() if self.known is None else self.known
        return MemoryEndpointAddr(MemoryEndpointId(self.peer_id), online, known)

    async def online(self) -> None:
        """As of the bindings."""
        while self.relay not in self.network.relays:
            await self.network.relays_changed.wait()

    async def accept_next(self) -> MemoryIncoming | None:
        """As of the bindings."""
        while self._open and not self._queue:
            await self._changes.wait()
        return self._queue.popleft() if self._open else None

    async def connect(self, addr: MemoryEndpointAddr, alpn: bytes) -> MemoryConnection:
        """As of the bindings."""
        if not addr.direct and addr.relay is None:
            raise IrohError("CONNECT", "No addressing information available")
        incoming = MemoryIncoming(self, addr.peer.peer_id, alpn, self._source(addr))
        clock = self.network.clock
        last, places = self._dialled.get(addr.peer.peer_id, (0.0, []))
        known = places if clock.seconds() < last + MEMORY else []
        known = list(dict.fromkeys([*known, *addr.direct]))
        self._dialled[addr.peer.peer_id] = clock.seconds(), known
        target = self.network.find(MemoryEndpointAddr(addr.peer, addr.relay, known))
        if target is not None:
            clock.callLater(self.network.latency, incoming.arrive, target)
        timeout = clock.callLater(DIAL_TIMEOUT, incoming.fail, IrohError("CONNECT", "timed out"))
        try:
            return await incoming.authenticated()
        finally:
            incoming.given_up = True
            if timeout.active():
                timeout.cancel()

    async def close(self) -> None:
        """As of the bindings."""
        self._open = False
        if self in self.network.endpoints:
            self.network.endpoints.remove(self)
        self._changes.tell()
        for connection in tuple(self.network.connections):
            if connection.endpoint is self:
                connection.close(0, b"")

    def wanted(self, incoming: MemoryIncoming) -> None:
        """Somebody wants a connection."""
        if self._open:
            self._queue.append(incoming)
            self._changes.tell()

    def _source(self, addr: MemoryEndpointAddr) -> str:
        return f"{self.host}:{self.port}" if addr.direct else str(addr.relay)
