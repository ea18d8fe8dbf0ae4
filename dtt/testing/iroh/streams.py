"""
In-memory iroh: connections and streams, and how their functions wait and fail.

L{Network} describes what carries the connections. Everything behaves as the bindings
(L{dtt.transport.iroh.bindings}) do, whose C{async} functions wait for futures of the
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
    The exception that all functions raise.
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__()
        self._kind = _Kind(kind)
        self._text = text

    def kind(self) -> _Kind:
        """The kind of error; only its C{name} is used."""
        return self._kind

    def message(self) -> str:
        """The text of the error."""
        return self._text


class Changes:
    """
    A condition that coroutines wait for.
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[Any, Any]] = []

    async def wait(self) -> None:
        """Wait until L{notify} is called."""
        loop: Any = asyncio.get_running_loop()
        future = loop.create_future()
        self._waiting.append((loop, future))
        await future

    def notify(self) -> None:
        """Wake all waiting coroutines."""
        waiting, self._waiting = self._waiting, []
        for loop, future in waiting:
            loop.call_soon_threadsafe(_set_result, future)


def _set_result(future: Any) -> None:
    if not future.cancelled():
        future.set_result(0)


class Network(Protocol):
    """
    The network that carries connections.
    """

    clock: ThreadClock
    latency: float
    window: int
    stalled: set[str]
    connections: list[MemoryConnection]


class Host(Protocol):
    """
    The endpoint that owns one end of a connection.
    """

    host: str
    peer_id: bytes

    @property
    def network(self) -> Network:
        """The network that the host is on."""


class MemoryStream:
    """
    A unidirectional stream. Both ends share this object: one end writes, the other reads.

    @ivar reply: the other direction, if it is half of a bidirectional stream.
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
        # The other direction, of a bidirectional stream.
        self.reply: MemoryStream | None = None
        for end in (writer, reader):
            end.streams.append(self)

    async def write_all(self, buf: bytes) -> None:
        """
        Write all of C{buf}, waiting while a window of bytes is unread.

        @raise IrohError: the connection is closed.
        """
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
        """End the stream after what has been written."""
        self._writer.check()
        self._finished = True
        network = self._writer.network
        network.clock.callLater(network.latency, self._end)

    async def stopped(self) -> None:
        """Wait until the other end has acknowledged the end of the stream."""
        while not self._acknowledged:
            self._writer.check()
            await self._changes.wait()

    def reset(self) -> None:
        """Reset the stream, as its writer."""
        self._reset = True
        self._changes.notify()

    async def read(self, size_limit: int) -> bytes:
        """
        Read up to C{size_limit} bytes; C{b""} at the end of the stream. Data that arrived
        before the connection ended can still be read.

        @raise IrohError: the stream was reset, or the connection is closed.
        """
        while True:
            if self._reset:
                raise IrohError("STREAM", "Reset(0)")
            stalled = self._reader.endpoint.host in self._reader.network.stalled
            if self._arrived and not stalled:
                data = bytes(self._arrived[:size_limit])
                del self._arrived[:size_limit]
                self._unread -= len(data)
                self._changes.notify()
                return data
            if self._fin_arrived and not stalled:
                return b""
            if self._reader.lost is not None:
                raise IrohError("STREAM", f"ConnectionLost({self._reader.lost})")
            await self._changes.wait()

    def notify(self) -> None:
        """Wake the coroutines that wait for this stream."""
        self._changes.notify()

    def _arrive(self, data: bytes) -> None:
        if self._reader.lost is None:
            self._reader.opened(self)
            self._arrived += data
            self._changes.notify()

    def _end(self) -> None:
        if self._reader.lost is None:
            self._reader.opened(self)
            self._fin_arrived = True
            self._changes.notify()
            network = self._writer.network
            network.clock.callLater(network.latency, self._acknowledge)

    def _acknowledge(self) -> None:
        self._acknowledged = True
        self._changes.notify()


@frozen(slots=True)
class MemoryBiStream:
    """
    A bidirectional stream, as one end sees it.
    """

    _out: MemoryStream
    _there: MemoryStream

    def send(self) -> MemoryStream:
        """The half to write to."""
        return self._out

    def recv(self) -> MemoryStream:
        """The half to read from."""
        return self._there


class MemoryConnection:
    """
    One end of a connection.

    @ivar endpoint: the endpoint that owns this end.
    @ivar network: the network that carries the connection.
    @ivar other: the other end.
    @ivar lost: the reason why it is closed; C{None} while it is open.
    @ivar streams: the streams opened on it, by either side.
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
        self._bidirectional: deque[MemoryBiStream] = deque()
        self.network.connections.append(self)

    def paths(self) -> tuple[()]:
        """
        Return no paths.
        """
        return ()

    def remote_id(self) -> MemoryEndpointId:
        """The id of the other end's endpoint."""
        return MemoryEndpointId(self._peer_id)

    def close_reason(self) -> str | None:
        """The reason why it is closed; C{None} while it is open."""
        return self.lost

    async def open_uni(self) -> MemoryStream:
        """Open a unidirectional stream. The other end sees it with the first bytes."""
        self.check()
        return MemoryStream(self, self.other)

    async def open_bi(self) -> MemoryBiStream:
        """Open a bidirectional stream. The other end sees it with the first bytes."""
        self.check()
        there, back = MemoryStream(self, self.other), MemoryStream(self.other, self)
        there.reply = back
        back.reply = there
        return MemoryBiStream(there, back)

    async def accept_uni(self) -> MemoryStream:
        """Wait for the next unidirectional stream that the other end opened."""
        while not self._to_accept:
            self.check()
            await self._changes.wait()
        return self._to_accept.popleft()

    async def accept_bi(self) -> MemoryBiStream:
        """Wait for the next bidirectional stream that the other end opened."""
        while not self._bidirectional:
            self.check()
            await self._changes.wait()
        return self._bidirectional.popleft()

    def close(self, error_code: int, reason: bytes) -> None:
        """Close this end now, and the other one after one latency."""
        if self.lost is None:
            self.lose("closed")
            words = f"closed by peer: {reason.decode()} (code {error_code})"
            self.network.clock.callLater(self.network.latency, self.other.lose, words)

    def lose(self, reason: str) -> None:
        """Close this end."""
        if self.lost is None:
            self.lost = reason
            self.network.connections.remove(self)
            self._changes.notify()
            for stream in self.streams:
                stream.notify()

    def opened(self, stream: MemoryStream) -> None:
        """Register a stream whose first bytes have arrived."""
        if stream in self._accepted:
            return
        self._accepted.add(stream)
        if stream.reply is None:
            self._to_accept.append(stream)
        else:
            self.other._accepted.add(stream.reply)
            self._bidirectional.append(MemoryBiStream(stream.reply, stream))
        self._changes.notify()

    def check(self) -> None:
        """
        Check that the connection is open.

        @raise IrohError: it is closed.
        """
        if self.lost is not None:
            raise IrohError("CONNECTION", self.lost)


@frozen(slots=True)
class MemoryEndpointId:
    """
    An endpoint's id.

    @ivar peer_id: the public key, 32 bytes.
    """

    peer_id: bytes

    @classmethod
    def from_bytes(cls, peer_id: bytes) -> MemoryEndpointId:
        """
        Create an id from a public key.

        @raise IrohError: it is not a valid key.
        """
        if not is_valid_peer_id(peer_id):
            raise IrohError("KEY_PARSING", "not a key")
        return cls(peer_id)

    def to_bytes(self) -> bytes:
        """The public key, 32 bytes."""
        return self.peer_id
