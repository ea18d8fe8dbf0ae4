"""
Connections as the table of connections sees them, and who waits for them.

Rule (docs/protocol/streams.md section 1): a peer is writable while less than 256 KiB
are unsent on the connection that serves it, or when it has none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from attrs import define
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from dtt.deferreds import cancel_if_active
from dtt.errors import DecodeError, RemoteError
from dtt.interfaces import PeerId
from dtt.transport.streams.channels import Channels

#: Unsent bytes below which a peer is writable (docs/protocol/streams.md section 1).
WRITABLE = 256 * 1024

#: More unsent bytes than this for so many seconds end a connection (docs/protocol/streams.md section 1).
SLOW_BYTES, SLOW_SECONDS = 1024 * 1024, 10.0

#: So does a peer that takes nothing at all for so long while it is not writable:
#: whoever waits for it sends no more, and it would never come to so many bytes.
#: Guess: iroh's own idle time-out.  A slow link that lives takes something more
#: often: what is taken shows 64 KiB (streams) or 256 KiB (iroh) at a time, every
#: 16 s on 16 kB/s.
STALLED_SECONDS = 30.0

#: So many unsent bytes end it at once: what others send through us in those
#: 10 s must not take all memory (guess).
UNSENT_LIMIT = 16 * 1024 * 1024


def short_reason(error: RemoteError) -> str:
    """
    Why C{error} ends a connection, for the counters.
    """
    # Only the texts of DecodeErrors are known to be few.
    return str(error) if isinstance(error, DecodeError) else type(error).__name__


class Patience:
    """
    Ends a connection whose peer reads too slowly.
    """

    def __init__(self, clock: IReactorTime, give_up: Callable[[], object]) -> None:
        """
        @param give_up: called once, never within a call of ours.
        """
        self._clock = clock
        self._give_up = give_up
        self._stalled: IDelayedCall | None = None
        self._slow: IDelayedCall | None = None

    def waiting(self, unsent: int) -> None:
        """
        More has to wait, C{unsent} bytes now.
        """
        if unsent >= WRITABLE and self._stalled is None:
            self._stalled = self._clock.callLater(STALLED_SECONDS, self._over)
        if unsent > SLOW_BYTES and self._slow is None:
            self._slow = self._clock.callLater(SLOW_SECONDS, self._over)

    def taken(self, unsent: int) -> None:
        """
        The peer has taken something, C{unsent} bytes are left.
        """
        if unsent <= SLOW_BYTES:
            cancel_if_active(self._slow)
            self._slow = None
        if unsent < WRITABLE:
            cancel_if_active(self._stalled)
            self._stalled = None
        elif self._stalled is not None and self._stalled.active():
            self._stalled.reset(STALLED_SECONDS)

    def lose(self) -> None:
        """
        It is over: give up in the next turn.
        """
        self.end()
        self._stalled = self._clock.callLater(0, self._give_up)

    def end(self) -> None:
        """
        Wait for nothing any more.
        """
        cancel_if_active(self._stalled)
        cancel_if_active(self._slow)
        self._stalled = self._slow = None

    def _over(self) -> None:
        self.end()
        self._give_up()


class Queue(Protocol):
    """
    What L{Writers} want to know of a connection.
    """

    @property
    def unsent(self) -> int:
        """How many bytes wait because the peer reads too slowly."""


class Connection(Queue, Protocol):
    """
    What a L{Multiplexer} needs of an authenticated connection.  Neither
    L{send} nor L{close} calls the multiplexer back before it returns.
    """

    @property
    def peer_id(self) -> PeerId:
        """Who is at the other end (32 bytes)."""

    @property
    def opened_by_us(self) -> bool:
        """Whether we dialled."""

    @property
    def exporter(self) -> bytes:
        """32 bytes that only both ends of this connection know."""

    def send(self, frame: bytes) -> None:
        """Send one encoded frame; dropped once the connection is closed."""

    def close(self) -> None:
        """End the connection once everything sent is out."""

    def abort(self, reason: str) -> None:
        """End the connection now, tell the multiplexer, and count C{reason}."""


@define(slots=True, eq=False)
class Link:
    """
    A connection, as the multiplexer sees it.

    @ivar opened_at: when it was authenticated, seconds.
    @ivar closing: we do not send on it any more.
    @ivar linger: the end that it is heading for.
    """

    connection: Connection
    peer_id: PeerId
    opened_at: float
    channels: Channels
    closing: bool = False
    linger: IDelayedCall | None = None


class Writers:
    """
    Those who wait for peers to be writable.

    @param connection: the connection that serves a peer, if any.
    """

    def __init__(self, connection: Callable[[PeerId], Queue | None]) -> None:
        self._connection = connection
        self._waiting: list[tuple[tuple[PeerId, ...], Deferred[None]]] = []

    def when_writable(self, peer_ids: Sequence[PeerId]) -> Deferred[None]:
        """
        As L{dtt.interfaces.IPeerTransport.when_writable}.
        """
        if self._writable(peer_ids):
            return succeed(None)

        def cancel(result: Deferred[None]) -> None:
            self._waiting = [writer for writer in self._waiting if writer[1] is not result]

        result: Deferred[None] = Deferred(cancel)
        self._waiting.append((tuple(peer_ids), result))
        return result

    def check(self) -> None:
        """
        Some connection has been read, replaced or lost.
        """
        waiting, self._waiting = self._waiting, []
        ready = []
        for peer_ids, result in waiting:
            if self._writable(peer_ids):
                ready.append(result)
            else:
                self._waiting.append((peer_ids, result))
        for result in ready:
            # The callback of one may have cancelled another.
            if not result.called:
                result.callback(None)

    def _writable(self, peer_ids: Sequence[PeerId]) -> bool:
        for peer_id in peer_ids:
            connection = self._connection(peer_id)
            if connection is not None and connection.unsent >= WRITABLE:
                return False
        return True
