"""
Proofs over iroh that a peer knows the secret of a topic.  Pure.

Rules (docs/protocol/gossip.md section 16): iroh-gossip checks no secret, so dtt members exchange proofs on a
separate bidirectional stream, which Rust members never accept.  Each side sends a nonce, and then one tag for
each topic that it uses on the connection: C{HMAC(topic key, b"iroh" || nonce of the dialling side || nonce of
the other side || sender id || receiver id)}.  A tag is valid on this connection and in this direction
only.

State is bounded (L{dtt.transport.admission}): at most 16 tags that match nothing are
kept while none has matched, and 1024 tags afterwards.  Further ones are ignored.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping

from dtt.errors import DecodeError
from dtt.transport.admission import MAX_TOPICS, MAX_UNMATCHED, ExpectedTags
from dtt.wire.length_prefix import LengthPrefixed, prefix

#: Bytes of a nonce and of a tag: the body of each frame.
SIZE = 32


def proof_tag(key: bytes, nonces: bytes, sender: bytes, receiver: bytes) -> bytes:
    """
    Return the tag with which C{sender} proves a topic (32 bytes).

    @param key: the L{topic key<dtt.transport.admission.topic_key>}.
    @param nonces: the nonce of the side that dialled, and that of the other side (64
        bytes).
    @param sender: peer id (32 bytes).
    @param receiver: peer id (32 bytes).
    """
    return hmac.digest(key, b"iroh" + nonces + sender + receiver, "sha256")


class ProofParser:
    """
    Splits what arrives on the stream into nonces and tags.
    """

    def __init__(self) -> None:
        self._pieces = LengthPrefixed(SIZE)

    def feed(self, data: bytes) -> list[bytes]:
        """
        Return the nonces and tags that C{data} completes (32 bytes each).

        @raise DecodeError: the stream does not consist of these.
        """
        data, pieces = self._pieces.feed(data)
        if self._pieces.fault is not None or any(end - start != SIZE for start, end in pieces):
            raise DecodeError("bad proof")
        return [data[start:end] for start, end in pieces]


class Proofs:
    """
    The proofs of both sides on one connection.

    @ivar proved: our topics that the peer has proved.
    @ivar ignored: number of the peer's tags that were ignored.
    """

    def __init__(self, nonce: bytes, own_id: bytes, peer_id: bytes, dialled: bool) -> None:
        """
        @param nonce: our nonce (32 unpredictable bytes, never used before).
        @param own_id: our peer id (32 bytes).
        @param peer_id: the peer's (32 bytes).
        @param dialled: whether we dialled.
        """
        self.proved: set[bytes] = set()
        self.ignored = 0
        self._nonce = nonce
        self._own_id = own_id
        self._peer_id = peer_id
        self._dialled = dialled
        self._nonces: bytes | None = None
        self._expected = ExpectedTags(self._tag_of_peer)
        self._tags: set[bytes] = set()
        self._sent: set[bytes] = set()
        self._waiting: dict[bytes, None] = {}

    def start(self) -> bytes:
        """
        Return the first bytes to send: our nonce.
        """
        return prefix(self._nonce)

    def prove(self, topic_id: bytes) -> None:
        """
        Send our tag for a topic with the next L{outgoing}, unless it was sent.
        """
        if topic_id not in self._sent and len(self._sent) + len(self._waiting) < MAX_TOPICS:
            self._waiting[topic_id] = None

    def outgoing(self, topics: Mapping[bytes, bytes]) -> bytes:
        """
        Return the bytes to send now.

        @param topics: the key of each of our topics.
        """
        out: list[bytes] = []
        if self._nonces is not None:
            for topic_id in tuple(self._waiting):
                if not self.proved and len(self._sent) >= MAX_UNMATCHED:
                    break
                del self._waiting[topic_id]
                if (key := topics.get(topic_id)) is not None:
                    self._sent.add(topic_id)
                    out.append(prefix(proof_tag(key, self._nonces, self._own_id, self._peer_id)))
        return b"".join(out)

    def received(self, frame: bytes, topics: Mapping[bytes, bytes]) -> bytes | None:
        """
        Handle a nonce or a tag of the peer.

        @param frame: 32 bytes.
        @param topics: the key of each of our topics.
        @return: the topic that is proved by it, the first time.
        """
        if self._nonces is None:
            self._nonces = self._nonce + frame if self._dialled else frame + self._nonce
            return None
        if frame in self._tags:
            return None
        topic_id = self._expected.find(frame, topics)
        limit = MAX_TOPICS if self.proved or topic_id is not None else MAX_UNMATCHED
        if len(self._tags) >= limit:
            self.ignored += 1
            return None
        self._tags.add(frame)
        if topic_id is not None:
            self.proved.add(topic_id)
        return topic_id

    def topic_opened(self, topic_id: bytes, key: bytes) -> bool:
        """
        Return whether the peer has already proved a topic that we have just opened.
        """
        if self._expected.add(topic_id, key) not in self._tags:
            return False
        self.proved.add(topic_id)
        return True

    def topic_closed(self, topic_id: bytes) -> None:
        """
        Note that we have closed a topic.
        """
        self.proved.discard(topic_id)
        self._waiting.pop(topic_id, None)
        # With another secret, the tag for the same topic would be another one.
        self._sent.discard(topic_id)
        self._expected.remove(topic_id)

    def _tag_of_peer(self, key: bytes) -> bytes:
        assert self._nonces is not None
        return proof_tag(key, self._nonces, self._peer_id, self._own_id)
