"""
Topics on one connection: which are open in each direction.  Pure.

Rules (docs/protocol/streams.md section 3): an OPEN names its topic by a tag.  Only
holders of the topic's secret can compute the tag, and it is valid only on this
connection and in this direction.  Gossip for a topic flows to a peer once we have sent
OPEN for it and the peer's OPEN has matched.  A tag that matches none of our topics is
kept, and is tried again when we open a topic.

Additions to the specification, so that both sides agree in the end when their frames
cross: an OPEN is valid until its sender closes it, whatever the other side does; only a matched OPEN is
answered (unless ours is valid), a CLOSE never is; and a side that wants to send on a topic that the peer has
closed renews its own OPEN, by CLOSE and OPEN, for the peer to answer.  A tag is open on at most one channel
at a time.

Limits (L{dtt.transport.admission}): while no topic is shared, at most 16 OPENs of a
side may be unmatched, for the peer may be a stranger.  As soon as one has matched, each
side may have 1024.  A topic whose OPEN is not allowed yet waits (L{Channels.blocked}).

A Join that waits for the peer's OPEN is sent together with our OPEN, as EARLY
(docs/protocol/latency.md section 3, L{dtt.transport.streams.early}).  Between an OPEN
and its CLOSE a peer may send one EARLY, before any DATA.  On a channel whose tag
matches none of our topics, the EARLY is kept like the tag, until the tag matches or the
channel is closed: this way a Join is not lost when it arrives before we open its
topic.  On one connection we send at most one EARLY per topic, however often we open the
topic there: a second one would reuse key and nonce.  At most 64 KiB of EARLYs are kept;
further ones are dropped, and their senders send the Join again later.
"""

from __future__ import annotations

import hmac
from collections import Counter
from collections.abc import Mapping
from heapq import heappop, heappush

from attrs import define, field

from dtt.errors import DecodeError
from dtt.transport.admission import MAX_TOPICS, MAX_UNMATCHED, ExpectedTags
from dtt.transport.streams.early import early_key, is_join, seal, unseal
from dtt.transport.streams.frames import MAX_MESSAGE, SEAL_SIZE, Close, Early, Open

#: Topics for which we send an EARLY on one connection; Joins for further ones wait for the peer's
#: OPEN (guess: more than an application opens during one connection).
MAX_EARLY = 1024

#: Bytes of EARLYs kept on one connection for topics that we have not opened (guess: one of the
#: largest size for each tag of a stranger, or a thousand of the usual size).
MAX_KEPT = 16 * (MAX_MESSAGE + SEAL_SIZE)


def admission_tag(key: bytes, exporter: bytes, sender: bytes, receiver: bytes) -> bytes:
    """
    Return the tag that C{sender} puts into its OPEN (32 bytes).

    @param key: the L{topic key<dtt.transport.admission.topic_key>}.
    @param exporter: keying material of this TLS connection (32 bytes).
    @param sender: peer id (32 bytes).
    @param receiver: peer id (32 bytes).
    """
    return hmac.digest(key, exporter + sender + receiver, "sha256")


@define(slots=True)
class _Incoming:
    """
    A channel opened by the peer.

    @ivar channel: its number, 0..65535.
    @ivar tag: the admission tag of its OPEN (32 bytes).
    @ivar topic_id: the matching topic (32 bytes); C{None} if the tag matches none of
        our topics.
    @ivar used: whether an EARLY or DATA has arrived.
    @ivar early: the content of an EARLY that arrived while the tag matched no topic, at
        most 4112 bytes.
    """

    channel: int
    tag: bytes = field(repr=False)
    topic_id: bytes | None = None
    used: bool = False
    early: bytes | None = field(default=None, repr=False)


@define(slots=True)
class Channels:
    """
    The channels of one connection, ours and the peer's.

    Constructor arguments: the connection's exporter (32 bytes), our peer id and the
    remote peer id (32 bytes each), and the counters to increment.

    @ivar ours: topics for which our OPEN is valid, and the channel number of each.
    @ivar admitted: topics for which the peer's OPEN is valid and has matched.
    @ivar trusted: whether an OPEN of the peer has ever matched.
    @ivar blocked: whether one of our OPENs was not allowed; the owner sets it back when
        it tries again.
    """

    _exporter: bytes = field(repr=False)
    _own_id: bytes
    _peer_id: bytes
    _counters: Counter[str] = field(factory=Counter, repr=False)
    ours: dict[bytes, int] = field(factory=dict, init=False)
    admitted: set[bytes] = field(factory=set, init=False)
    trusted: bool = field(default=False, init=False)
    blocked: bool = field(default=False, init=False)
    _stale: set[bytes] = field(factory=set, init=False)
    # Our channel numbers that are free again (a heap), and the lowest that was never used.
    _free: list[int] = field(factory=list, init=False, repr=False)
    _unused: int = field(default=0, init=False, repr=False)
    # The peer's channels by number, by tag, and by the topic that matches.
    _theirs: dict[int, _Incoming] = field(factory=dict, init=False, repr=False)
    _tags: dict[bytes, _Incoming] = field(factory=dict, init=False, repr=False)
    _matched: dict[bytes, _Incoming] = field(factory=dict, init=False, repr=False)
    _expected: ExpectedTags = field(init=False, repr=False)
    _sent_early: set[bytes] = field(factory=set, init=False, repr=False)
    _kept: int = field(default=0, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        exporter, own_id, peer_id = self._exporter, self._own_id, self._peer_id
        self._expected = ExpectedTags(lambda key: admission_tag(key, exporter, peer_id, own_id))

    def shared(self) -> set[bytes]:
        """
        Return the topics for which both OPENs are valid.
        """
        return self.admitted & self.ours.keys()

    def idle(self) -> bool:
        """
        Return whether no topic is shared and no unmatched tag waits for a topic that we
        may open.
        """
        return len(self._theirs) == len(self._matched) and self.admitted.isdisjoint(self.ours)

    def sending(self, topic_id: bytes) -> int | None:
        """
        Return the channel on which DATA for the topic may be sent now, or C{None}.
        """
        return self.ours.get(topic_id) if topic_id in self.admitted else None

    def open(self, topic_id: bytes, key: bytes) -> tuple[Open | Close, ...]:
        """
        Return the frames to send so that the peer answers with its OPEN.  Empty if ours is already valid, or
        if the number of our OPENs has reached its limit (L{blocked}).

        @param topic_id: 32 bytes.
        @param key: the L{topic key<dtt.transport.admission.topic_key>}.
        """
        frames: list[Open | Close] = []
        if topic_id in self.ours and topic_id not in self._stale:
            return ()
        give_up = topic_id
        limit = MAX_TOPICS if self.trusted else MAX_UNMATCHED
        if topic_id not in self.ours and len(self.ours) >= limit:
            if not self._stale:
                self.blocked = True
                self._counters["open_must_wait"] += 1
                return ()
            give_up = min(self._stale)
        if (closed := self.close(give_up)) is not None:
            frames.append(closed)
        if self._free:
            number = heappop(self._free)
        else:
            number = self._unused
            self._unused += 1
        self.ours[topic_id] = number
        tag = admission_tag(key, self._exporter, self._own_id, self._peer_id)
        return (*frames, Open(number, tag))

    def early(self, topic_id: bytes, key: bytes, message: bytes) -> Early | None:
        """
        Return the EARLY that carries C{message} together with the OPEN just made, or
        C{None} if the message must wait for the peer's OPEN or may be sent as DATA.

        @param topic_id: 32 bytes.
        @param key: the L{topic key<dtt.transport.admission.topic_key>}.
        @param message: an encoded gossip message, at most 4096 bytes.
        """
        if topic_id in self.admitted or topic_id in self._sent_early or not is_join(message):
            return None
        if len(self._sent_early) >= MAX_EARLY:
            self._counters["send_early_too_many_topics"] += 1
            return None
        self._sent_early.add(topic_id)
        sealed = seal(early_key(key, self._exporter, self._own_id, self._peer_id), message)
        return Early(self.ours[topic_id], sealed)

    def close(self, topic_id: bytes) -> Close | None:
        """
        Return the CLOSE to send, or C{None} if our OPEN is not valid.
        """
        self._stale.discard(topic_id)
        number = self.ours.pop(topic_id, None)
        if number is None:
            return None
        heappush(self._free, number)
        return Close(number)

    def forget(self, topic_id: bytes) -> None:
        """
        Treat the peer's tag for a topic that we have closed as an unmatched one.
        """
        self.admitted.discard(topic_id)
        self._expected.remove(topic_id)
        incoming = self._matched.pop(topic_id, None)
        if incoming is not None:
            incoming.topic_id = None

    def peer_opened(self, frame: Open, topics: Mapping[bytes, bytes]) -> bytes | None:
        """
        Handle the peer's OPEN.

        @param frame: the OPEN.
        @param topics: the key of each of our topics.
        @return: the topic that the OPEN names, or C{None} if it is not one of ours.
        @raise DecodeError: the channel number or the tag is in use, or too many
            channels are open.
        """
        if frame.channel in self._theirs:
            raise DecodeError("channel opened twice")
        if frame.tag in self._tags:
            raise DecodeError("topic opened twice")
        topic_id = self._expected.find(frame.tag, topics)
        limit = MAX_TOPICS if self.trusted or topic_id is not None else MAX_UNMATCHED
        if len(self._theirs) >= limit:
            raise DecodeError("too many channels")
        incoming = self._theirs[frame.channel] = self._tags[frame.tag] = _Incoming(frame.channel, frame.tag)
        if topic_id is not None:
            self._match(incoming, topic_id)
        return topic_id

    def topic_opened(self, topic_id: bytes, key: bytes) -> bool:
        """
        Return whether a kept tag matches the topic that we have just opened.
        """
        tag = self._expected.add(topic_id, key)
        incoming = None if tag is None else self._tags.get(tag)
        if incoming is None:
            return False
        self._match(incoming, topic_id)
        return True

    def peer_early(self, frame: Early, topics: Mapping[bytes, bytes]) -> bytes | None:
        """
        Handle the peer's EARLY.

        @param frame: the EARLY.
        @param topics: the key of each of our topics.
        @return: the encoded Join inside, or C{None} if the channel's tag matches none
            of our topics; it is then kept for L{take_early}, or dropped if too many
            bytes are kept already.
        @raise DecodeError: the channel is not open, an EARLY or DATA has arrived on it
            before, or the content is not a sealed Join.
        """
        incoming = self._theirs.get(frame.channel)
        if incoming is None:
            raise DecodeError("channel not open")
        if incoming.used:
            raise DecodeError("unexpected early")
        incoming.used = True
        if incoming.topic_id is not None:
            return self._unseal(topics[incoming.topic_id], frame.sealed)
        if self._kept + len(frame.sealed) > MAX_KEPT:
            self._counters["received_early_dropped"] += 1
        else:
            self._kept += len(frame.sealed)
            incoming.early = frame.sealed
        return None

    def take_early(self, topic_id: bytes, key: bytes) -> tuple[int, bytes] | None:
        """
        Remove the kept EARLY of a topic that we have opened since.

        @param topic_id: 32 bytes.
        @param key: the L{topic key<dtt.transport.admission.topic_key>}.
        @return: channel number and encoded Join, or C{None} if no EARLY was kept.
        @raise DecodeError: the content is not a sealed Join.
        """
        incoming = self._matched.get(topic_id)
        sealed = None if incoming is None else self._release(incoming)
        if incoming is None or sealed is None:
            return None
        return incoming.channel, self._unseal(key, sealed)

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
        del self._tags[incoming.tag]
        self._release(incoming)
        topic_id = incoming.topic_id
        if topic_id is not None:
            del self._matched[topic_id]
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

    def _release(self, incoming: _Incoming) -> bytes | None:
        """
        Remove and return the kept EARLY of a channel.
        """
        sealed, incoming.early = incoming.early, None
        self._kept -= len(sealed or b"")
        return sealed

    def _match(self, incoming: _Incoming, topic_id: bytes) -> None:
        incoming.topic_id = topic_id
        self._matched[topic_id] = incoming
        self.admitted.add(topic_id)
        self.trusted = True
        self._stale.discard(topic_id)
