"""
iroh in memory: what takes the place of the bindings.

L{MemoryIroh} is a network of hosts under a clock; L{MemoryIroh.bindings} is the
module C{iroh} as one host would import it, as far as
L{dtt.transport.iroh_bindings} describes it.  Its C{async} functions wait as the
library's do, for futures of the running loop.

    network = MemoryIroh(ThreadClock())
    transport = IrohTransport(network.clock, key, bindings=network.bindings("10.0.0.1"))
    transport.listen("10.0.0.1", 0)
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from attrs import define, field, frozen
from nacl.bindings import crypto_sign_seed_keypair

from dtt.identity import is_valid_peer_id
from dtt.testing.clock import ThreadClock

#: Unidirectional streams that an end may have open (specs/iroh-gossip.md section 5).
MAX_STREAMS = 100

#: Seconds until a dial that nobody answers fails (specs/iroh-gossip.md section 5).
DIAL_TIMEOUT = 30.0


@frozen(slots=True)
class _Kind:
    name: str


class IrohError(Exception):
    """
    What the functions raise.
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__()
        self._kind = _Kind(kind)
        self._text = text

    def kind(self) -> _Kind:
        """As of the bindings."""
        return self._kind

    def message(self) -> str:
        """As of the bindings."""
        return self._text


class _Changes:
    """
    Something that coroutines wait for.
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[Any, Any]] = []

    async def wait(self) -> None:
        """Until L{tell} is called."""
        loop: Any = asyncio.get_running_loop()
        future = loop.create_future()
        self._waiting.append((loop, future))
        await future

    def tell(self) -> None:
        """Wake all that wait."""
        waiting, self._waiting = self._waiting, []
        for loop, future in waiting:
            loop.call_soon_threadsafe(_set_result, future)


def _set_result(future: Any) -> None:
    if not future.cancelled():
        future.set_result(0)


class MemoryStream:
    """
    A unidirectional stream.  Its two ends see the same object: the one writes,
    the other one reads.
    """

    def __init__(self, writer: MemoryConnection, reader: MemoryConnection) -> None:
        self._writer = writer
        self._reader = reader
        self._changes = _Changes()
        self._arrived = bytearray()
        self._unread = 0
        self._finished = False
        self._fin_arrived = False
        self._acknowledged = False
        self._reset = False
        for end in (writer, reader):
            end.streams.append(self)

    async def write_all(self, buf: bytes) -> None:
        """As of the bindings; a window of bytes may be unread."""
        network = self._writer.network
        while buf:
            self._writer.check()
            room = network.window - self._unread
            if room <= 0:
                await self._changes.wait()
                continue
            part, buf = buf[:room], buf[room:]
            self._unread += len(part)
            network.clock.callLater(network.latency, self._arrive, part)

    async def finish(self) -> None:
        """As of the bindings."""
        self._writer.check()
        self._finished = True
        network = self._writer.network
        network.clock.callLater(network.latency, self._end)

    async def stopped(self) -> None:
        """As of the bindings."""
        while not self._acknowledged:
            self._writer.check()
            await self._changes.wait()

    def reset(self) -> None:
        """The writer resets it."""
        self._reset = True
        self._changes.tell()

    async def read(self, size_limit: int) -> bytes:
        """As of the bindings; what arrived before the connection ended can be read."""
        while True:
            if self._reset:
                raise IrohError("STREAM", "Reset(0)")
            stalled = self._reader.endpoint.host in self._reader.network.stalled
            if self._arrived and not stalled:
                data = bytes(self._arrived[:size_limit])
                del self._arrived[:size_limit]
                self._unread -= len(data)
                self._changes.tell()
                return data
            if self._fin_arrived and not stalled:
                return b""
            if self._reader.lost is not None:
                raise IrohError("STREAM", f"ConnectionLost({self._reader.lost})")
            await self._changes.wait()

    def tell(self) -> None:
        """Something has changed."""
        self._changes.tell()

    def _arrive(self, data: bytes) -> None:
        if self._reader.lost is None:
            self._reader.opened(self)
            self._arrived += data
            self._changes.tell()

    def _end(self) -> None:
        if self._reader.lost is None:
            self._reader.opened(self)
            self._fin_arrived = True
            self._changes.tell()
            network = self._writer.network
            network.clock.callLater(network.latency, self._acknowledge)

    def _acknowledge(self) -> None:
        self._acknowledged = True
        self._changes.tell()


class MemoryConnection:
    """
    One end of a connection.

    @ivar other: the other end.
    @ivar lost: why it is closed; L{None} while it is open.
    @ivar streams: those that were opened on it, by either side.
    """

    def __init__(self, endpoint: MemoryEndpoint, peer_id: bytes) -> None:
        self.endpoint = endpoint
        self.network = endpoint.network
        self.other: MemoryConnection = self
        self.lost: str | None = None
        self.streams: list[MemoryStream] = []
        self._peer_id = peer_id
        self._changes = _Changes()
        self._to_accept: deque[MemoryStream] = deque()
        self._accepted: set[MemoryStream] = set()
        self._bidirectional = 0
        self.network.connections.append(self)

    def remote_id(self) -> MemoryEndpointId:
        """As of the bindings."""
        return MemoryEndpointId(self._peer_id)

    def close_reason(self) -> str | None:
        """As of the bindings."""
        return self.lost

    async def open_uni(self) -> MemoryStream:
        """As of the bindings."""
        self.check()
        return MemoryStream(self, self.other)

    async def open_bi(self) -> None:
        """As of the bindings, but that there is no stream."""
        self.check()
        self.network.clock.callLater(self.network.latency, self.other._bidirectionally)

    async def accept_uni(self) -> MemoryStream:
        """As of the bindings."""
        while not self._to_accept:
            self.check()
            await self._changes.wait()
        return self._to_accept.popleft()

    async def accept_bi(self) -> None:
        """As of the bindings, but that there is no stream."""
        while not self._bidirectional:
            self.check()
            await self._changes.wait()
        self._bidirectional -= 1

    def close(self, error_code: int, reason: bytes) -> None:
        """As of the bindings."""
        if self.lost is None:
            self.lose("closed")
            words = f"closed by peer: {reason.decode()} (code {error_code})"
            self.network.clock.callLater(self.network.latency, self.other.lose, words)

    def lose(self, reason: str) -> None:
        """This end ends."""
        if self.lost is None:
            self.lost = reason
            self.network.connections.remove(self)
            self._changes.tell()
            for stream in self.streams:
                stream.tell()

    def opened(self, stream: MemoryStream) -> None:
        """The first bytes of a stream have arrived."""
        if stream not in self._accepted:
            self._accepted.add(stream)
            self._to_accept.append(stream)
            self._changes.tell()

    def check(self) -> None:
        """
        @raise IrohError: it is closed.
        """
        if self.lost is not None:
            raise IrohError("CONNECTION", self.lost)

    def _bidirectionally(self) -> None:
        self._bidirectional += 1
        self._changes.tell()


@frozen(slots=True)
class MemoryEndpointId:
    """
    A peer id.
    """

    peer_id: bytes

    @classmethod
    def from_bytes(cls, peer_id: bytes) -> MemoryEndpointId:
        """As of the bindings."""
        if not is_valid_peer_id(peer_id):
            raise IrohError("KEY_PARSING", "not a key")
        return cls(peer_id)

    def to_bytes(self) -> bytes:
        """As of the bindings."""
        return self.peer_id


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


class MemoryIncoming:
    """
    Somebody's wish for a connection, and its handshake: what one side of it is
    waiting for, the other one does.
    """

    def __init__(self, client: MemoryEndpoint, peer_id: bytes, source: str) -> None:
        """
        @param peer_id: whom the client wants to meet.
        """
        self.client = client
        self.given_up = False
        self._network = client.network
        self._peer_id = peer_id
        self._source = source
        self._changes = _Changes()
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
    @ivar known: the C{host:port} pairs that it believes to be reachable at;
        L{None}: its socket.
    """

    def __init__(self, network: MemoryIroh, host: str, builder: MemoryEndpointBuilder) -> None:
        self.network = network
        self.host = host
        self.peer_id = builder.peer_id
        self.relay = builder.relays[0] if builder.relays else None
        self.port = network.take_port(builder.port)
        self._alpns = builder.protocols
        self._queue: deque[MemoryIncoming] = deque()
        self._changes = _Changes()
        self._open = True
        self.known: list[str] | None = None
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
        incoming = MemoryIncoming(self, addr.peer.peer_id, self._source(addr))
        target = self.network.find(addr)
        clock = self.network.clock
        if target is not None and alpn in target._alpns:
            clock.callLater(self.network.latency, incoming.arrive, target)
        elif target is not None:
            error = IrohError("CONNECT", "peer doesn't support any known protocol")
            clock.callLater(2 * self.network.latency, incoming.fail, error)
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
        return MemoryEndpoint(self._network, self._host, self)


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
    relays_changed: _Changes = field(factory=_Changes)
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
        Who answers at one of the addresses; whom they are meant for, if possible.
        """
        reachable = [
            endpoint
            for endpoint in self.endpoints
            if endpoint.host not in self.silent and f"{endpoint.host}:{endpoint.port}" in addr.direct
        ]
        if addr.relay in self.relays:
            reachable += [
                e for e in self.endpoints if e.peer_id == addr.peer.peer_id and e.relay == addr.relay
            ]
        meant = [endpoint for endpoint in reachable if endpoint.peer_id == addr.peer.peer_id]
        return next(iter(meant or reachable), None)

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
        over = _Changes()
        self.clock.callLater(seconds, over.tell)
        await over.wait()
