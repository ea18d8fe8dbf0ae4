"""
Backpressure: unsent bytes per connection, slow readers, and callers waiting to write.

Rule (docs/protocol/streams.md section 1): a peer is writable while its current
connection has less than 256 KiB unsent, or while it has no connection.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from dtt.deferreds import cancel_if_active
from dtt.errors import DecodeError, RemoteError
from dtt.interfaces import PeerId

#: A peer is writable below this many unsent bytes (docs/protocol/streams.md section 1).
WRITABLE = 256 * 1024

#: A connection with more than SLOW_BYTES unsent for SLOW_SECONDS is closed
#: (docs/protocol/streams.md section 1).
SLOW_BYTES, SLOW_SECONDS = 1024 * 1024, 10.0

#: Seconds without any progress after which a connection that is not writable is closed.  Callers
#: that wait for it stop sending, so it would never reach SLOW_BYTES.  Guess: iroh's own idle
#: timeout.  A working slow link makes progress more often: progress shows in steps of 64 KiB
#: (streams) or 256 KiB (iroh), which is every 16 s at 16 kB/s.
STALLED_SECONDS = 30.0

#: Unsent bytes above which a connection is closed immediately: what other members relay through us
#: within SLOW_SECONDS must not exhaust memory (guess).
UNSENT_LIMIT = 16 * 1024 * 1024

#: The same before the peer has proved that it knows the secret of a topic: what we send until then
#: is 16 requests for topics, each with a sealed Join, and fits into half of it.
STRANGER_UNSENT_LIMIT = 128 * 1024


def short_reason(error: RemoteError) -> str:
    """
    Return the reason for which C{error} closes a connection.

    The set of possible reasons is small: a counter is kept for each (L{dtt.counters}).
    """
    # DecodeError has a fixed set of texts; other errors may have arbitrary ones.
    return str(error) if isinstance(error, DecodeError) else type(error).__name__


def take_bytes(queue: bytearray, most: int) -> bytes:
    """
    Remove and return the first bytes of C{queue}, at most C{most}.
    """
    with memoryview(queue) as view, view[:most] as part:
        taken = bytes(part)
    del queue[:most]
    return taken


class SlowReaderTimeout:
    """
    Closes a connection whose peer reads too slowly.
    """

    def __init__(self, clock: IReactorTime, give_up: Callable[[], object]) -> None:
        """
        @param clock: schedules the timeouts.
        @param give_up: called once, without arguments, to close the connection; never
            called from within a method of this object, nor after L{stop}.
        """
        self._clock = clock
        self._give_up: Callable[[], object] | None = give_up
        self._stalled: IDelayedCall | None = None
        self._slow: IDelayedCall | None = None

    def queued(self, unsent: int) -> None:
        """
        Note that bytes were queued; C{unsent} is the new number of unsent bytes.
        """
        if unsent >= WRITABLE and self._stalled is None:
            self._stalled = self._clock.callLater(STALLED_SECONDS, self._expire)
        if unsent > SLOW_BYTES and self._slow is None:
            self._slow = self._clock.callLater(SLOW_SECONDS, self._expire)

    def drained(self, unsent: int) -> None:
        """
        Note that the peer read something; C{unsent} bytes remain.
        """
        if unsent <= SLOW_BYTES:
            cancel_if_active(self._slow)
            self._slow = None
        if unsent < WRITABLE:
            cancel_if_active(self._stalled)
            self._stalled = None
        elif self._stalled is not None and self._stalled.active():
            self._stalled.reset(STALLED_SECONDS)

    def expire_soon(self) -> None:
        """
        Give up in the next reactor turn.
        """
        self.cancel()
        self._stalled = self._clock.callLater(0, self._expire)

    def cancel(self) -> None:
        """
        Cancel the timeouts.
        """
        cancel_if_active(self._stalled)
        cancel_if_active(self._slow)
        self._stalled = self._slow = None

    def stop(self) -> None:
        """
        Cancel the timeouts, and forget C{give_up}, which usually refers to the connection:
        this object belongs to it, and a cycle would keep both.
        """
        self.cancel()
        self._give_up = None

    def _expire(self) -> None:
        self.cancel()
        if self._give_up is not None:
            self._give_up()


class SendQueue(Protocol):
    """
    The part of a connection that L{Writers} uses.
    """

    @property
    def unsent(self) -> int:
        """Bytes queued because the peer reads too slowly."""


class Writers:
    """
    The callers waiting for peers to become writable.
    """

    def __init__(self, connection: Callable[[PeerId], SendQueue | None]) -> None:
        """
        @param connection: returns the current connection of a peer, or C{None}.
        """
        self._connection = connection
        self._waiting: list[tuple[tuple[PeerId, ...], Deferred[None]]] = []

    def when_writable(self, peer_ids: Sequence[PeerId]) -> Deferred[None]:
        """
        Return a Deferred that fires when all of C{peer_ids} are writable; it may be
        cancelled.
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
        Fire what has become writable; called when a connection was read, replaced or
        lost.
        """
        waiting, self._waiting = self._waiting, []
        ready = []
        for peer_ids, result in waiting:
            if self._writable(peer_ids):
                ready.append(result)
            else:
                self._waiting.append((peer_ids, result))
        for result in ready:
            # An earlier callback may have cancelled this one.
            if not result.called:
                result.callback(None)

    def _writable(self, peer_ids: Sequence[PeerId]) -> bool:
        for peer_id in peer_ids:
            connection = self._connection(peer_id)
            if connection is not None and connection.unsent >= WRITABLE:
                return False
        return True
