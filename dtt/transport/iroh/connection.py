"""
One iroh connection: its two halves, and its end.

Rules (docs/protocol/gossip.md sections 5 and 14): to close a connection discards
what is unsent, so its streams are finished first and given 5 s to be
acknowledged; then it is closed with code 0 and the reason C{close from
disconnect}.  When a peer misbehaves it is closed at once, for a counted reason.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from dtt.deferreds import cancel_if_active
from dtt.interfaces import PeerId
from dtt.transport.iroh.bindings import IrohConnection
from dtt.transport.iroh.calls import Calls
from dtt.transport.iroh.loops import Loops
from dtt.transport.iroh.receiving import ReceiveStreams
from dtt.transport.iroh.sending import FINISH_TIMEOUT, SendStreams

#: What a peer is told (docs/protocol/gossip.md section 5; informational).
GOODBYE = b"close from disconnect"


class Owner(Protocol):
    """
    What a connection tells.
    """

    def header_received(self, connection: QuicConnection, topic_id: bytes) -> None:
        """A stream for C{topic_id} was opened by the peer."""

    def messages_received(self, connection: QuicConnection, topic_id: bytes, messages: list[bytes]) -> None:
        """Encoded gossip C{Message}s, at least one; what this raises ends the connection."""

    def writable(self) -> None:
        """The connection has fewer than 256 KiB unsent again."""

    def connection_lost(self, connection: QuicConnection, reason: str) -> None:
        """It has ended; C{""} if we asked for that."""


class QuicConnection:
    """
    An authenticated connection.

    @ivar peer_id: who is at the other end (32 bytes).
    @ivar opened_by_us: whether we dialled.
    """

    def __init__(
        self,
        clock: IReactorTime,
        calls: Calls,
        connection: IrohConnection,
        opened_by_us: bool,
        owner: Owner,
        on_closed: Callable[[], None] = lambda: None,
    ) -> None:
        """
        @param on_closed: told once it is closed, before C{owner}.
        """
        self.peer_id: PeerId = connection.remote_id().to_bytes()
        self.opened_by_us = opened_by_us
        self._clock = clock
        self._connection = connection
        self._owner = owner
        self._on_closed = on_closed
        self._loops = Loops(clock, calls)
        self._sending = SendStreams(self._loops, connection, self.abort, owner.writable)
        self._receiving = ReceiveStreams(
            self._loops,
            connection,
            partial(owner.header_received, self),
            partial(owner.messages_received, self),
            self.abort,
            self._ended,
        )
        self._closing = False
        self._lost = False
        self._timeout: IDelayedCall | None = None

    def __repr__(self) -> str:
        return f"<QuicConnection {'to' if self.opened_by_us else 'from'} {self.peer_id.hex()[:10]}>"

    @property
    def unsent(self) -> int:
        """
        Bytes that wait because the peer reads too slowly.
        """
        return 0 if self._lost else self._sending.unsent

    def start(self) -> None:
        """
        Read.  The owner may be told anything from now on.
        """
        self._receiving.start()

    def send(self, topic_id: bytes, message: bytes) -> None:
        """
        Send one encoded gossip C{Message}; dropped once the connection is closed.
        """
        if not self._lost:
            self._sending.send(topic_id, message)

    def finish(self, topic_id: bytes) -> None:
        """
        End the topic's stream after what was sent.
        """
        if not self._lost:
            self._sending.finish(topic_id)

    def close(self) -> None:
        """
        End the connection once everything sent is acknowledged.
        """
        if self._closing or self._lost:
            return
        self._closing = True
        self._timeout = self._clock.callLater(FINISH_TIMEOUT, self._end, "")
        self._sending.finish_all()
        self._sending.when_finished().addCallback(lambda _: self._end(""))

    def abort(self, reason: str) -> None:
        """
        End the connection now.

        @param reason: a short one, for the counters.
        """
        self._end(reason)

    def _ended(self) -> None:
        """
        The connection has ended, not by us.
        """
        words = self._connection.close_reason() or ""
        self._end("" if self._closing else "timed out" if "timed out" in words.lower() else "by the peer")

    def _end(self, reason: str) -> None:
        if self._lost:
            return
        self._lost = True
        cancel_if_active(self._timeout)
        self._timeout = None
        self._loops.stop()
        self._sending.stop()
        self._connection.close(1 if reason else 0, reason.encode("ascii") or GOODBYE)
        # They know us, and the library keeps the socket for as long as a connection is known.
        del self._sending, self._receiving
        self._on_closed()
        self._owner.connection_lost(self, reason)
