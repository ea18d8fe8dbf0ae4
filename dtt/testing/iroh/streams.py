"""
iroh in memory: connections, their streams, and how functions wait and fail.

What they go over is told by L{Network}.  All is as of the bindings
(L{dtt.transport.iroh.bindings}), whose C{async} functions wait for futures of the
running loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Protocol

from attrs import frozen

from dtt.identity import is_valid_peer_id
from dtt.testing.net.clock import ThreadClock


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


class Changes:
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


class Network(Protocol):
    """
    What connections go over.
    """

    clock: ThreadClock
    latency: float
    window: int
    stalled: set[str]
    connections: list[MemoryConnection]


class Host(Protocol):
    """
    Whose end a connection is.
    """

    host: str
    peer_id: bytes

    @property
    def network(self) -> Network:
        """What it is on."""


class MemoryStream:
    """
    A unidirectional stream.  Its two ends see the same object: the one writes,
    the other one reads.
    """

    def __init__(self, writer: MemoryConnection, reader: MemoryConnection) -> None:
        self._writer = writer
        self._reader = reader
        self._changes = Changes()
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

    def __init__(self, endpoint: Host, peer_id: bytes) -> None:
        self.endpoint = endpoint
        self.network = endpoint.network
        self.other: MemoryConnection = self
        self.lost: str | None = None
        self.streams: list[MemoryStream] = []
        self._peer_id = peer_id
        self._changes = Changes()
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
