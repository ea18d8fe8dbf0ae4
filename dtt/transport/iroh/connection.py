"""
One iroh connection: its two halves, and its close.

Rules (docs/protocol/gossip.md sections 5 and 14): closing a connection discards unsent
bytes, so its streams are finished first and given 5 s to be acknowledged; then it is
closed with code 0 and the reason C{close from disconnect}.  When a peer violates the
protocol, the connection is closed immediately, for a reason that is counted.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from secrets import token_bytes
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from dtt.deferreds import cancel_if_active
from dtt.interfaces import LinkPath, PeerId
from dtt.transport.iroh.bindings import IrohConnection
from dtt.transport.iroh.calls import Calls
from dtt.transport.iroh.loops import Loops
from dtt.transport.iroh.proofs import SIZE, Proofs
from dtt.transport.iroh.proving import ProofStream
from dtt.transport.iroh.receiving import ReceiveStreams
from dtt.transport.iroh.sending import FINISH_TIMEOUT, SendStreams
from dtt.transport.share import Share

#: The reason sent with a close (docs/protocol/gossip.md section 5; informational).
GOODBYE = b"close from disconnect"


#: The reason with which a peer that has no room for another connection closes it.
NO_ROOM = "too many connections"


class Owner(Protocol):
    """
    Receives the events of a connection.

    @ivar own_id: our peer id (32 bytes).
    @ivar share: divides the turns of the reactor among its connections.
    @ivar max_message_size: the size in bytes of the largest message.
    """

    own_id: PeerId
    share: Share
    max_message_size: int

    def header_received(self, connection: QuicConnection, topic_id: bytes) -> bool:
        """The peer has opened a stream for C{topic_id}; return whether the topic is open."""

    def proof_received(self, connection: QuicConnection, frame: bytes) -> None:
        """
        Handle a nonce or a tag (32 bytes); an exception closes the connection.
        """

    def outgoing_proofs(self, connection: QuicConnection) -> bytes:
        """Return the proofs to send now."""

    def messages_received(self, connection: QuicConnection, topic_id: bytes, messages: list[bytes]) -> None:
        """
        Handle encoded gossip messages, at least one; an exception closes the
        connection.
        """

    def writable(self) -> None:
        """The connection has fewer than 256 KiB unsent again."""

    def connection_lost(self, connection: QuicConnection, reason: str) -> None:
        """The connection has ended; C{reason} is C{""} if we requested that."""


class QuicConnection:
    """
    An authenticated connection.

    @ivar peer_id: peer id of the remote end (32 bytes).
    @ivar opened_by_us: whether this side dialled.
    @ivar proofs: which topics the peer has proved.
    @ivar networks: the networks of the remote host, each within the one before; one
        name for all connections through relays, and one for those that we dialled.
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
        @param clock: the reactor.
        @param calls: runs the bindings' coroutines.
        @param connection: the bindings' connection.
        @param opened_by_us: whether this side dialled.
        @param owner: receives the events.
        @param on_closed: called once the connection is closed, before C{owner} is
            notified.
        """
        self.peer_id: PeerId = connection.remote_id().to_bytes()
        self.opened_by_us = opened_by_us
        self.networks: tuple[str, ...] = ("dialled",)
        self._clock = clock
        self._connection = connection
        self._owner = owner
        self._on_closed = on_closed
        self._loops = Loops(clock, calls, owner.share)
        self._sending = SendStreams(self._loops, connection, self.abort, owner.writable)
        self._receiving = ReceiveStreams(
            self._loops,
            connection,
            partial(owner.header_received, self),
            partial(owner.messages_received, self),
            self.abort,
            self._ended,
        )
        self._receiving.max_message_size = owner.max_message_size
        self.proofs = Proofs(token_bytes(SIZE), owner.own_id, self.peer_id, opened_by_us)
        self._proving = ProofStream(
            self._loops,
            connection,
            self.proofs,
            partial(owner.outgoing_proofs, self),
            partial(owner.proof_received, self),
            self.abort,
        )
        self._closing = False
        self._lost = False
        self._timeout: IDelayedCall | None = None

    def __repr__(self) -> str:
        return f"<QuicConnection {'to' if self.opened_by_us else 'from'} {self.peer_id.hex()[:10]}>"

    @property
    def path(self) -> LinkPath:
        """
        The path to the peer, for status pages.
        """
        for path in () if self._lost else self._connection.paths():
            if path.is_selected:
                address = None if path.is_relay else path.remote_addr
                return LinkPath("iroh", address, path.rtt_ms / 1000)
        return LinkPath("iroh")

    @property
    def unsent(self) -> int:
        """
        Bytes queued because the peer reads too slowly.
        """
        return 0 if self._lost else self._sending.unsent

    def start(self) -> None:
        """
        Start reading.  The owner may receive any event from now on.
        """
        self._receiving.start()
        # What has arrived already may have ended the connection.
        if not self._lost:
            self._proving.start(self.opened_by_us)

    def prove(self, topic_id: bytes) -> None:
        """
        Send the proof that we know the topic's secret, unless it was sent.
        """
        if not self._lost:
            self.proofs.prove(topic_id)
            self._proving.wake()

    def send_proofs(self) -> None:
        """
        Send the proofs that have waited for the peer.
        """
        if not self._lost:
            self._proving.wake()

    def send(self, topic_id: bytes, message: bytes) -> None:
        """
        Send one encoded gossip message; dropped once the connection is closed.
        """
        if not self._lost:
            self._sending.send(topic_id, message)

    def finish(self, topic_id: bytes) -> None:
        """
        Finish the topic's stream after what was sent.
        """
        if not self._lost:
            self._sending.finish(topic_id)

    def close(self) -> None:
        """
        Close the connection once everything sent is acknowledged, after 5 s in any
        case.
        """
        if self._closing or self._lost:
            return
        self._closing = True
        self._timeout = self._clock.callLater(FINISH_TIMEOUT, self._end, "")
        self._sending.finish_all()
        self._sending.when_finished().addCallback(lambda _: self._end(""))

    def abort(self, reason: str) -> None:
        """
        Close the connection immediately.

        @param reason: a short reason, used for the counter and sent to the peer.
        """
        self._end(reason)

    def _ended(self) -> None:
        """
        Handle an end of the connection that we did not cause.
        """
        words = (self._connection.close_reason() or "").lower()
        reason = "by peer"
        if "timed out" in words:
            reason = "timed out"
        elif NO_ROOM in words:
            reason = "the peer has too many connections"
        self._end("" if self._closing else reason)

    def _end(self, reason: str) -> None:
        if self._lost:
            return
        self._lost = True
        cancel_if_active(self._timeout)
        self._timeout = None
        self._loops.stop()
        self._sending.stop()
        self._connection.close(1 if reason else 0, reason.encode("ascii") or GOODBYE)
        # They refer to this object, and the library keeps the socket while a connection is referenced.
        del self._sending, self._receiving, self._proving
        self._on_closed()
        self._owner.connection_lost(self, reason)
