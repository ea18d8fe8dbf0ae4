"""
Which peers have proved which topics over iroh.

Rules (docs/protocol/gossip.md section 16): proofs are exchanged on every connection, on
which a topic is used (L{dtt.transport.iroh.proofs}).  What a peer has proved on one of
its connections holds for all of them, until that connection ends.  Only a member that
requires proofs refuses anything.
"""

from __future__ import annotations

from collections.abc import Iterable

from dtt.interfaces import PeerId
from dtt.transport.admission import topic_key
from dtt.transport.iroh.connection import QuicConnection


class Admission:
    """
    The topics that we have opened, and the peers that have proved them.

    @ivar keys: the L{topic key<dtt.transport.admission.topic_key>} of each open topic.
    """

    def __init__(self, required: bool) -> None:
        """
        @param required: whether peers must prove a topic.
        """
        self.keys: dict[bytes, bytes] = {}
        self._required = required
        self._proved: dict[PeerId, set[bytes]] = {}

    def admits(self, peer_id: PeerId, topic_id: bytes) -> bool:
        """
        Return whether messages of the topic may be exchanged with the peer.
        """
        return not self._required or topic_id in self._proved.get(peer_id, ())

    def frame_received(self, connection: QuicConnection, frame: bytes) -> bytes | None:
        """
        Handle a nonce or a tag (32 bytes).

        @return: the topic that the peer has proved by it, the first time.
        """
        topic_id = connection.proofs.received(frame, self.keys)
        if topic_id is None:
            return None
        proved = self._proved.setdefault(connection.peer_id, set())
        if topic_id in proved:
            return None
        proved.add(topic_id)
        return topic_id

    def open_topic(self, topic_id: bytes, secret_hash: bytes, connections: Iterable[QuicConnection]) -> None:
        """
        Note that we have opened a topic.

        @param topic_id: 32 bytes.
        @param secret_hash: the initial secret hash (32 bytes).
        @param connections: all connections.
        """
        key = self.keys[topic_id] = topic_key(topic_id, secret_hash)
        for connection in connections:
            if connection.proofs.topic_opened(topic_id, key):
                self._proved.setdefault(connection.peer_id, set()).add(topic_id)
                connection.prove(topic_id)

    def close_topic(self, topic_id: bytes, connections: Iterable[QuicConnection]) -> None:
        """
        Note that we have closed a topic.

        @param topic_id: 32 bytes.
        @param connections: all connections.
        """
        self.keys.pop(topic_id, None)
        for proved in self._proved.values():
            proved.discard(topic_id)
        for connection in connections:
            connection.proofs.topic_closed(topic_id)

    def connection_ended(self, peer_id: PeerId, others: Iterable[QuicConnection]) -> None:
        """
        Note the end of one of a peer's connections.

        @param peer_id: 32 bytes.
        @param others: those that remain.
        """
        proved = {topic_id for other in others for topic_id in other.proofs.proved}
        if proved:
            self._proved[peer_id] = proved
        else:
            self._proved.pop(peer_id, None)
