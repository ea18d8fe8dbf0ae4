"""
Topics on one connection: which are open in each direction.  Pure.

Rules (docs/protocol/streams.md section 3): an OPEN names its topic by a tag.  Only
holders of the topic's secret can compute the tag, and it is valid only on this
connection and in this direction.  Gossip for a topic flows to a peer once we have sent
OPEN for it and the peer's OPEN has matched.  A tag that matches none of our topics is
kept, and is tried again when we open a topic.

Additions to the specification, so that both sides agree in the end when their frames
cross: an OPEN stands until its sender closes it, whatever the other side does; only a
matched OPEN is answered (if ours does not stand), a CLOSE never is; and a side that
wants to send on a topic that the peer has closed renews its own OPEN, by CLOSE and
OPEN, for the peer to answer.  A tag is open on at most one channel at a time.

A Join that waits for the peer's OPEN is sent together with our OPEN, as EARLY
(docs/protocol/latency.md section 3, L{dtt.transport.streams.early}).  Between an OPEN
and its CLOSE a peer may send one EARLY, before any DATA.  On a channel whose tag
matches none of our topics, the EARLY is kept like the tag, until the tag matches or the
channel is closed: this way a Join is not lost when it arrives before we open its
topic.  On one connection we send at most one EARLY per topic, however often we open the
topic there: a second one would reuse key and nonce.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping

from attrs import define, field

from dtt.errors import DecodeError
from dtt.transport.streams.early import early_key, is_join, seal, unseal
from dtt.transport.streams.frames import Close, Early, Open

#: Channels in each direction of one connection, matched or not (docs/protocol/streams.md section 1).
MAX_CHANNELS = 16

#: Topics for which we send an EARLY on one connection; Joins for further ones wait for the peer's
#: OPEN (guess: more than an application opens during one connection).
MAX_EARLY = 1024


def topic_key(topic_id: bytes, secret_hash: bytes) -> bytes:
    """
    Return the key of a topic's admission tags (32 bytes).

    @param topic_id: 32 bytes.
    @param secret_hash: the initial secret hash (32 bytes).
    """
    return hashlib.sha512(b"dtt/1 admission" + topic_id + secret_hash).digest()[:32]


def admission_tag(key: bytes, exporter: bytes, sender: bytes, receiver: bytes) -> bytes:
    """
    Return the tag that C{sender} puts into its OPEN (32 bytes).

    @param key: the L{topic_key}.
    @param exporter: keying material of this TLS connection (32 bytes).
    @param sender: peer id (32 bytes).
    @param receiver: peer id (32 bytes).
    """
    return hmac.digest(key, exporter + sender + receiver, "sha256")


@define(slots=True)
class _Incoming:
    """
    A channel opened by the peer.

    @ivar tag: the admission tag of its OPEN (32 bytes).
    @ivar topic_id: the matching topic (32 bytes); C{None} if the tag matches none of
        our topics.
    @ivar used: whether an EARLY or DATA has arrived.
    @ivar early: the content of an EARLY that arrived while the tag matched no topic, at
        most 4112 bytes.
    """

    tag: bytes = field(repr=False)
    topic_id: bytes | None = None
    used: bool = False
    early: bytes | None = field(default=None, repr=False)


@define(slots=True)
class Channels:
    """
    The channels of one connection, ours and the peer's.

    Constructor arguments: the connection's exporter (32 bytes), our peer id and the
    remote peer id (32 bytes each).

    @ivar ours: topics for which our OPEN stands, and the channel number of each.
    @ivar admitted: topics for which the peer's OPEN stands and has matched.
    """

    _exporter: bytes = field(repr=False)
    _own_id: bytes
    _peer_id: bytes
    ours: dict[bytes, int] = field(factory=dict, init=False)
    admitted: set[bytes] = field(factory=set, init=False)
    _stale: set[bytes] = field(factory=set, init=False)
    _theirs: dict[int, _Incoming] = field(factory=dict, init=False, repr=False)
    _sent_early: set[bytes] = field(factory=set, init=False, repr=False)

    def shared(self) -> set[bytes]:
        """
        Return the topics for which both OPENs stand.
        """
        return self.admitted & self.ours.keys()

    def idle(self) -> bool:
        """
        Return whether no topic is shared and no unmatched tag waits for a topic that we
        may open.
        """
        return not self.shared() and all(i.topic_id is not None for i in self._theirs.values())

    def sending(self, topic_id: bytes) -> int | None:
        """
        Return the channel on which DATA for the topic may be sent now, or C{None}.
        """
        return self.ours.get(topic_id) if topic_id in self.admitted else None

    def open(self, topic_id: bytes, key: bytes) -> tuple[Open | Close, ...]:
        """
        Return the frames to send so that the peer answers with its OPEN.  Empty if ours
        stands already, or if all channel numbers are in use.

        @param topic_id: 32 bytes.
        @param key: the L{topic_key}.
        """
        frames: list[Open | Close] = []
        if topic_id in self.ours and topic_id not in self._stale:
            return ()
        if topic_id not in self._stale and len(self.ours) >= MAX_CHANNELS:
            if not self._stale:
                return ()
            give_up = min(self._stale)
        else:
            give_up = topic_id
        if (closed := self.close(give_up)) is not None:
            frames.append(closed)
        taken = set(self.ours.values())
        number = next(n for n in range(MAX_CHANNELS) if n not in taken)
        self.ours[topic_id] = number
        tag = admission_tag(key, self._exporter, self._own_id, self._peer_id)
        return (*frames, Open(number, tag))

    def early(self, topic_id: bytes, key: bytes, message: bytes) -> Early | None:
        """
        Return the EARLY that carries C{message} together with the OPEN just made, or
        C{None} if the message must wait for the peer's OPEN or may be sent as DATA.

        @param topic_id: 32 bytes.
        @param key: the L{topic_key}.
        @param message: an encoded gossip message, at most 4096 bytes.
        """
        if topic_id in self.admitted or topic_id in self._sent_early or not is_join(message):
            return None
        if len(self._sent_early) >= MAX_EARLY:
            return None
        self._sent_early.add(topic_id)
        sealed = seal(early_key(key, self._exporter, self._own_id, self._peer_id), message)
        return Early(self.ours[topic_id], sealed)

    def close(self, topic_id: bytes) -> Close | None:
        """
        Return the CLOSE to send, or C{None} if our OPEN does not stand.
        """
        self._stale.discard(topic_id)
        number = self.ours.pop(topic_id, None)
        return None if number is None else Close(number)

    def forget(self, topic_id: bytes) -> None:
        """
        Treat the peer's tag for a topic that we have closed as an unmatched one.
        """
        self.admitted.discard(topic_id)
        for incoming in self._theirs.values():
            if incoming.topic_id == topic_id:
                incoming.topic_id = None

    def peer_opened(self, frame: Open, topics: Mapping[bytes, bytes]) -> bytes | None:
        """
        Handle the peer's OPEN.

        @param frame: the OPEN.
        @param topics: the L{topic_key} of each of our topics.
        @return: the topic that the OPEN names, or C{None} if it is not one of ours.
        @raise DecodeError: the channel number or the tag is in use, or too many
            channels are open.
        """
        if frame.channel in self._theirs:
            raise DecodeError("channel opened twice")
        if len(self._theirs) >= MAX_CHANNELS:
            raise DecodeError("too many channels")
        if any(frame.tag == incoming.tag for incoming in self._theirs.values()):
            raise DecodeError("topic opened twice")
        incoming = self._theirs[frame.channel] = _Incoming(frame.tag)
        for topic_id, key in topics.items():
            if self._match(incoming, topic_id, key):
                break
        return incoming.topic_id

    def topic_opened(self, topic_id: bytes, key: bytes) -> bool:
        """
        Return whether a kept tag matches the topic that we have just opened.
        """
        unknown = (incoming for incoming in self._theirs.values() if incoming.topic_id is None)
        return any(self._match(incoming, topic_id, key) for incoming in unknown)

    def peer_early(self, frame: Early, topics: Mapping[bytes, bytes]) -> bytes | None:
        """
        Handle the peer's EARLY.

        @param frame: the EARLY.
        @param topics: the L{topic_key} of each of our topics.
        @return: the encoded Join inside, or C{None} if the channel's tag matches none
            of our topics; it is then kept for L{take_early}.
        @raise DecodeError: the channel is not open, an EARLY or DATA has arrived on it
            before, or the content is not a sealed Join.
        """
        incoming = self._theirs.get(frame.channel)
        if incoming is None:
            raise DecodeError("channel not open")
        if incoming.used:
            raise DecodeError("unexpected early")
        incoming.used = True
        if incoming.topic_id is None:
            incoming.early = frame.sealed
            return None
        return self._unseal(topics[incoming.topic_id], frame.sealed)

    def take_early(self, topic_id: bytes, key: bytes) -> tuple[int, bytes] | None:
        """
        Remove the kept EARLY of a topic that we have opened since.

        @param topic_id: 32 bytes.
        @param key: the L{topic_key}.
        @return: channel number and encoded Join, or C{None} if no EARLY was kept.
        @raise DecodeError: the content is not a sealed Join.
        """
        for channel, incoming in self._theirs.items():
            if incoming.topic_id == topic_id and incoming.early is not None:
                sealed, incoming.early = incoming.early, None
                return channel, self._unseal(key, sealed)
        return None

    def peer_closed(self, frame: Close) -> bytes | None:
        """
        Handle the peer's CLOSE.

        @return: the topic that the peer has closed, or C{None} if it is not one of
            ours.
        @raise DecodeError: the channel is not open.
        """
        incoming = self._theirs.pop(frame.channel, None)
        if incoming is None:
            raise DecodeError("channel not open")
        topic_id = incoming.topic_id
        if topic_id is not None:
            self.admitted.discard(topic_id)
            if topic_id in self.ours:
                self._stale.add(topic_id)
        return topic_id

    def topic_of(self, channel: int) -> bytes | None:
        """
        Return the topic of DATA that arrived on the peer's C{channel}, or C{None} if
        the DATA must be dropped.

        @raise DecodeError: the channel is not open.
        """
        incoming = self._theirs.get(channel)
        if incoming is None:
            raise DecodeError("channel not open")
        incoming.used = True
        return incoming.topic_id

    def _unseal(self, key: bytes, sealed: bytes) -> bytes:
        return unseal(early_key(key, self._exporter, self._peer_id, self._own_id), sealed)

    def _match(self, incoming: _Incoming, topic_id: bytes, key: bytes) -> bool:
        expected = admission_tag(key, self._exporter, self._peer_id, self._own_id)
        if not hmac.compare_digest(expected, incoming.tag):
            return False
        incoming.topic_id = topic_id
        self.admitted.add(topic_id)
        self._stale.discard(topic_id)
        return True
