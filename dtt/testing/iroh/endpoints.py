"""
In-memory iroh: endpoints and connection establishment.

Methods have the names and effects of the bindings' methods
(L{dtt.transport.iroh.bindings}).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from attrs import frozen

from dtt.testing.iroh.streams import Changes, IrohError, MemoryConnection, MemoryEndpointId, Network

#: Seconds until an unanswered dial fails (docs/protocol/gossip.md section 5).
DIAL_TIMEOUT = 30.0

#: Seconds for which an endpoint still tries the addresses of earlier dials of a peer, counted from the
#: last dial (observed with iroh 1.4.1).
MEMORY = 60.0


@frozen(slots=True)
class MemoryEndpointAddr:
    """
    The addresses at which an endpoint can be reached.

    @ivar peer: the endpoint's id.
    @ivar relay: the URL of its relay.
    @ivar direct: its C{host:port} pairs.
    """

    peer: MemoryEndpointId
    relay: str | None = None
    direct: Sequence[str] = ()

    def direct_addresses(self) -> list[str]:
        """The C{host:port} pairs."""
        return list(self.direct)

    def relay_url(self) -> str | None:
        """The URL of the relay, if any."""
        return self.relay


@frozen(slots=True)
class _Source:
    """
    The bindings' C{IncomingAddr}.
    """

    addr: str

    def is_ip(self) -> bool:
        """Is it an IP address rather than a relay?"""
        return not self.addr.startswith("http")


class Directory(Network, Protocol):
    """
    The endpoints and relays of a network.
    """

    relays: set[str]
    relays_changed: Changes
    endpoints: list[MemoryEndpoint]

    def find(self, addr: MemoryEndpointAddr) -> MemoryEndpoint | None:
        """The endpoint that answers at one of the addresses; C{None} if none does."""

    async def sleep(self, seconds: float) -> None:
        """Wait on the network's clock."""


class MemoryIncoming:
    """
    An incoming connection and its handshake. Both sides share this object: each waits for
    what the other side does.
    """

    def __init__(self, client: MemoryEndpoint, peer_id: bytes, alpn: bytes, source: str) -> None:
        """
        @param client: the endpoint that dials.
        @param peer_id: the peer that the client wants to reach, 32 bytes.
        @param alpn: the protocol that the client speaks.
        @param source: the client's C{host:port}, or the URL of the relay.
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

    # Server side

    async def remote_addr(self) -> _Source:
        """The address that the connection comes from."""
        return _Source(self._source)

    async def remote_addr_validated(self) -> bool:
        """Has the client proved that it owns its address?"""
        return self._validated

    async def refuse(self) -> None:
        """Refuse the connection."""
        self._later(1, self.fail, IrohError("CONNECT", "refused"))

    async def retry(self) -> None:
        """Make the client prove its address: the connection arrives again a round trip later."""
        self._validated = True
        if self._endpoint is not None:
            self._later(2, self.arrive, self._endpoint)

    async def accept(self) -> MemoryIncoming:
        """
        Accept the connection and start the handshake.

        @raise IrohError: the endpoint does not speak the client's protocol.
        """
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
        """
        Wait for the end of the handshake.

        @raise IrohError: the handshake failed.
        """
        await self._network.sleep(2 * self._network.latency)
        if self._ends is None or self._ends[1].lost is not None:
            raise IrohError("INTERNAL", "ConnectingError::ConnectionError")
        return self._ends[1]

    # Client side

    async def authenticated(self) -> MemoryConnection:
        """
        Wait for the handshake and return the client's end.

        @raise IrohError: the handshake failed.
        """
        while self._ends is None:
            if self._error is not None:
                raise self._error
            await self._changes.wait()
        return self._ends[0]

    def arrive(self, endpoint: MemoryEndpoint) -> None:
        """Arrive at C{endpoint}."""
        self._endpoint = endpoint
        if not self.given_up:
            endpoint.wanted(self)

    def fail(self, error: IrohError) -> None:
        """Make the dial fail."""
        self._error = error
        self._changes.notify()

    def _complete(self) -> None:
        if self.given_up or self._endpoint is None:
            return
        client = MemoryConnection(self.client, self._endpoint.peer_id)
        server = MemoryConnection(self._endpoint, self.client.peer_id)
        client.other, server.other = server, client
        self._ends = client, server
        self._changes.notify()

    def _later(self, trips: int, function: Callable[..., object], *args: object) -> None:
        self._network.clock.callLater(trips * self._network.latency, function, *args)


class MemoryEndpoint:
    """
    The sockets of one host.

    @ivar host: the host's IP address.
    @ivar port: the UDP port.
    @ivar peer_id: the endpoint's id, 32 bytes.
    @ivar relay: the URL of the relay it uses.
    @ivar alpns: the protocols that it supports.  Connections for other protocols also arrive.
    @ivar known: the C{host:port} pairs at which it believes it can be reached; C{None}:
        its socket.
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
        """The C{host:port} pairs that the endpoint is bound to."""
        return [f"{self.host}:{self.port}"]

    def addr(self) -> MemoryEndpointAddr:
        """The endpoint's own address; it has a relay only if that is running."""
        online = self.relay if self.relay in self.network.relays else None
        known = self.bound_sockets() if self.known is None else self.known
        return MemoryEndpointAddr(MemoryEndpointId(self.peer_id), online, known)

    async def online(self) -> None:
        """Wait until the relay is running."""
        while self.relay not in self.network.relays:
            await self.network.relays_changed.wait()

    async def accept_next(self) -> MemoryIncoming | None:
        """Wait for the next incoming connection; C{None} once the endpoint is closed."""
        while self._open and not self._queue:
            await self._changes.wait()
        return self._queue.popleft() if self._open else None

    async def connect(self, addr: MemoryEndpointAddr, alpn: bytes) -> MemoryConnection:
        """
        Dial a peer, including the addresses of recent dials.

        @raise IrohError: there is no address, or the dial failed.
        """
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
        """Close the endpoint and all its connections."""
        self._open = False
        if self in self.network.endpoints:
            self.network.endpoints.remove(self)
        self._changes.notify()
        for connection in tuple(self.network.connections):
            if connection.endpoint is self:
                connection.close(0, b"")

    def wanted(self, incoming: MemoryIncoming) -> None:
        """Queue an incoming connection for L{accept_next}."""
        if self._open:
            self._queue.append(incoming)
            self._changes.notify()

    def _source(self, addr: MemoryEndpointAddr) -> str:
        return f"{self.host}:{self.port}" if addr.direct else str(addr.relay)
