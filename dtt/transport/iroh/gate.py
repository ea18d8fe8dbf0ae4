"""
Messages that wait until their peer has proved that it knows the secret of their topic.

Rules (docs/protocol/gossip.md section 16): a peer has 5 s, counted from the first
message in either direction that waits.  Everything is bounded: what we want to send per
peer and topic, what has arrived per peer, and what has arrived in total, because any
number of strangers may send us messages.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from dtt.deferreds import cancel_if_active
from dtt.interfaces import PeerId
from dtt.transport.iroh.connection import QuicConnection

#: Seconds for a proof, and messages to one peer and topic that wait for it (as on streams,
#: docs/protocol/streams.md section 3).
MAX_WAIT, MAX_OUTGOING = 5.0, 16

#: Messages of one peer that wait, and their bytes (guess: a Join and what may follow it).
MAX_INCOMING, MAX_INCOMING_BYTES = 4, 4096

#: Bytes of all peers that wait (guess).
MAX_BYTES = 1024 * 1024


@define(slots=True, eq=False)
class Waiting:
    """
    The messages that wait for one peer's proof of one topic.

    @ivar outgoing: encoded messages to send, in order.
    @ivar incoming: received messages, in order, each with its connection.
    """

    timeout: IDelayedCall
    outgoing: list[bytes] = field(factory=list, repr=False)
    incoming: list[tuple[QuicConnection, bytes]] = field(factory=list, repr=False)


class Gate:
    """
    The messages that wait for proofs.
    """

    def __init__(self, clock: IReactorTime, on_timeout: Callable[[PeerId, bytes, Waiting], None]) -> None:
        """
        @param clock: schedules timeouts.
        @param on_timeout: called with the peer, the topic and what has waited, when the
            peer has not proved the topic in time.
        """
        self._clock = clock
        self._on_timeout = on_timeout
        self._waiting: dict[PeerId, dict[bytes, Waiting]] = {}
        self._bytes = 0

    def hold_outgoing(self, peer_id: PeerId, topic_id: bytes, message: bytes) -> bool:
        """
        Store a message to send; return whether there was room.
        """
        waiting = self._of(peer_id, topic_id)
        if len(waiting.outgoing) >= MAX_OUTGOING:
            return False
        waiting.outgoing.append(message)
        return True

    def hold_incoming(self, connection: QuicConnection, topic_id: bytes, messages: list[bytes]) -> int:
        """
        Store messages that have arrived.

        @return: the number of stored messages; the caller must drop the others.
        """
        of_peer = self._waiting.get(connection.peer_id, {})
        kept = [message for waiting in of_peer.values() for _, message in waiting.incoming]
        count, size = len(kept), sum(map(len, kept))
        held = 0
        for message in messages:
            size += len(message)
            if count + held >= MAX_INCOMING or size > MAX_INCOMING_BYTES:
                break
            if self._bytes + len(message) > MAX_BYTES:
                break
            self._bytes += len(message)
            self._of(connection.peer_id, topic_id).incoming.append((connection, message))
            held += 1
        return held

    def release(self, peer_id: PeerId, topic_id: bytes) -> Waiting | None:
        """
        Return what waits for a peer's proof of a topic, and forget it.
        """
        of_peer = self._waiting.get(peer_id, {})
        waiting = of_peer.pop(topic_id, None)
        if waiting is None:
            return None
        if not of_peer:
            del self._waiting[peer_id]
        cancel_if_active(waiting.timeout)
        self._bytes -= sum(len(message) for _, message in waiting.incoming)
        return waiting

    def forget(self, peer_id: PeerId | None = None, topic_id: bytes | None = None) -> None:
        """
        Drop what waits for a peer, or for any peer, or for a topic, or for any topic.
        """
        for peer in [*self._waiting] if peer_id is None else [peer_id]:
            for topic in [*self._waiting.get(peer, {})] if topic_id is None else [topic_id]:
                self.release(peer, topic)

    def _of(self, peer_id: PeerId, topic_id: bytes) -> Waiting:
        of_peer = self._waiting.setdefault(peer_id, {})
        waiting = of_peer.get(topic_id)
        if waiting is None:
            timeout = self._clock.callLater(MAX_WAIT, self._expire, peer_id, topic_id)
            waiting = of_peer[topic_id] = Waiting(timeout)
        return waiting

    def _expire(self, peer_id: PeerId, topic_id: bytes) -> None:
        waiting = self.release(peer_id, topic_id)
        if waiting is not None:
            self._on_timeout(peer_id, topic_id, waiting)
