"""
The messages of one topic, and their encoding.  Pure.

Rules (docs/protocol/gossip.md sections 2 and 3): a message is a postcard enum, Swarm
(HyParView) or Gossip (PlumTree); it contains neither topic nor sender.  Bytes after a
complete message are ignored.  Peer ids are not validated as curve points here but where
they are used (docs/protocol/addresses.md section 4), so that one invalid id does not
invalidate the whole message.
"""

from __future__ import annotations

from enum import Enum
from typing import TypeAlias

from attrs import field
from blake3 import blake3

from dtt.errors import DecodeError
from dtt.wire.postcard import Reader, encode_bytes, encode_option, encode_varint
from dtt.wire.values import frozen

#: Bytes of a peer id and of a message id.
ID_SIZE = 32


class Priority(Enum):
    """
    The urgency of a L{Neighbor} request: C{HIGH} is never refused.
    """

    HIGH = 0
    LOW = 1


@frozen(slots=True)
class PeerInfo:
    """
    A peer and its PeerData.

    @ivar peer_id: 32 bytes.
    @ivar data: its PeerData (docs/protocol/addresses.md section 5), opaque here;
        C{None} if unknown.
    """

    peer_id: bytes
    data: bytes | None = None


@frozen(slots=True)
class Join:
    """
    The sender wants to join the swarm.

    @ivar data: the sender's PeerData, or C{None}.
    """

    data: bytes | None = None


@frozen(slots=True)
class ForwardJoin:
    """
    A joining peer, forwarded on a random walk.

    @ivar peer: the joining peer.
    @ivar ttl: remaining hops, 0..65535 on the wire.
    """

    peer: PeerInfo
    ttl: int


@frozen(slots=True)
class Shuffle:
    """
    A sample of the origin's views, forwarded on a random walk.

    @ivar origin: the peer id (32 bytes) to send a L{ShuffleReply} to.
    @ivar nodes: the sample.
    @ivar ttl: remaining hops, 0..65535 on the wire.
    """

    origin: bytes
    nodes: tuple[PeerInfo, ...]
    ttl: int


@frozen(slots=True)
class ShuffleReply:
    """
    A sample of the sender's views.

    @ivar nodes: the sample.
    """

    nodes: tuple[PeerInfo, ...] = ()


@frozen(slots=True)
class Neighbor:
    """
    The sender has us, or wants us, in its active view.

    @ivar priority: the urgency.
    @ivar data: the sender's PeerData, or C{None}.
    """

    priority: Priority
    data: bytes | None = None


@frozen(slots=True)
class Disconnect:
    """
    The sender has dropped us from its active view.  (The obsolete field C{respond} is
    encoded as 00 and ignored.)

    @ivar alive: whether it stays in the swarm and may be asked again.
    """

    alive: bool


@frozen(slots=True)
class Gossip:
    """
    A broadcast content.

    @ivar message_id: L{message_id} of the content (32 bytes), if the sender is honest.
    @ivar content: the bytes.
    @ivar round: hops so far, 0 from the author, 0..65535; C{None} for the scope
        "neighbors".
    """

    message_id: bytes
    content: bytes = field(repr=lambda content: f"<{len(content)} bytes>")
    round: int | None


@frozen(slots=True)
class Prune:
    """
    Requests announcements instead of contents from now on.
    """


@frozen(slots=True)
class Graft:
    """
    Requests contents again from now on, and one missing content immediately.

    @ivar message_id: the id of the missing content (32 bytes), or C{None}.
    @ivar round: the round of its announcement, 0..65535.
    """

    message_id: bytes | None
    round: int


@frozen(slots=True)
class IHave:
    """
    Announces contents that can be requested from the sender.

    @ivar entries: (message id, round) pairs.
    """

    entries: tuple[tuple[bytes, int], ...]


_SwarmMessage: TypeAlias = Join | ForwardJoin | Shuffle | ShuffleReply | Neighbor | Disconnect
_GossipMessage: TypeAlias = Gossip | Prune | Graft | IHave
Message: TypeAlias = _SwarmMessage | _GossipMessage


def message_id(content: bytes) -> bytes:
    """
    Return the message id of C{content}: its BLAKE3-256 hash (32 bytes).
    """
    return blake3(content).digest()


def _encode_nodes(nodes: tuple[PeerInfo, ...]) -> bytes:
    return encode_varint(len(nodes)) + b"".join(map(encode_peer_info, nodes))


def _encode_data(data: bytes | None) -> bytes:
    return encode_option(None if data is None else encode_bytes(data))


def encode_peer_info(peer: PeerInfo) -> bytes:
    """
    Return the encoding of a L{PeerInfo} inside messages.
    """
    return peer.peer_id + _encode_data(peer.data)


def encode(message: Message) -> bytes:
    """
    Return the body of the frame for C{message}.
    """
    match message:
        case Gossip(message_id=identity, content=content, round=hops):
            scope = b"\x01" if hops is None else b"\x00" + encode_varint(hops)
            return b"".join((b"\x01\x00", identity, encode_varint(len(content)), content, scope))
        case Prune():
            return b"\x01\x01"
        case Graft(message_id=wanted, round=hops):
            return b"\x01\x02" + encode_option(wanted) + encode_varint(hops)
        case IHave(entries=entries):
            pairs = [identity + encode_varint(hops) for identity, hops in entries]
            return b"\x01\x03" + encode_varint(len(pairs)) + b"".join(pairs)
        case Join(data=data):
            return b"\x00\x00" + _encode_data(data)
        case ForwardJoin(peer=peer, ttl=ttl):
            return b"\x00\x01" + encode_peer_info(peer) + encode_varint(ttl)
        case Shuffle(origin=origin, nodes=nodes, ttl=ttl):
            return b"\x00\x02" + origin + _encode_nodes(nodes) + encode_varint(ttl)
        case ShuffleReply(nodes=nodes):
            return b"\x00\x03" + _encode_nodes(nodes)
        case Neighbor(priority=priority, data=data):
            return b"\x00\x04" + encode_varint(priority.value) + _encode_data(data)
        case Disconnect(alive=alive):
            return b"\x00\x05" + (b"\x01\x00" if alive else b"\x00\x00")


def _read_data(reader: Reader) -> bytes | None:
    return reader.option(reader.byte_string)


def _read_peer_info(reader: Reader) -> PeerInfo:
    return PeerInfo(reader.raw(ID_SIZE), _read_data(reader))


def _read_nodes(reader: Reader) -> tuple[PeerInfo, ...]:
    return tuple(reader.sequence(lambda: _read_peer_info(reader)))


def _read_priority(reader: Reader) -> Priority:
    match reader.varint(32):
        case 0:
            return Priority.HIGH
        case 1:
            return Priority.LOW
        case _:
            raise DecodeError("bad priority")


def _read_disconnect(reader: Reader) -> Disconnect:
    alive = reader.boolean()
    reader.boolean()
    return Disconnect(alive)


def _read_scope(reader: Reader) -> int | None:
    match reader.varint(32):
        case 0:
            return reader.varint(16)
        case 1:
            return None
        case _:
            raise DecodeError("bad scope")


def _read_swarm(reader: Reader) -> _SwarmMessage:
    match reader.varint(32):
        case 0:
            return Join(_read_data(reader))
        case 1:
            return ForwardJoin(_read_peer_info(reader), reader.varint(16))
        case 2:
            return Shuffle(reader.raw(ID_SIZE), _read_nodes(reader), reader.varint(16))
        case 3:
            return ShuffleReply(_read_nodes(reader))
        case 4:
            return Neighbor(_read_priority(reader), _read_data(reader))
        case 5:
            return _read_disconnect(reader)
        case _:
            raise DecodeError("bad swarm message")


def _read_gossip(reader: Reader) -> _GossipMessage:
    match reader.varint(32):
        case 0:
            return Gossip(reader.raw(ID_SIZE), reader.byte_string(), _read_scope(reader))
        case 1:
            return Prune()
        case 2:
            return Graft(reader.option(lambda: reader.raw(ID_SIZE)), reader.varint(16))
        case 3:
            return IHave(tuple(reader.sequence(lambda: (reader.raw(ID_SIZE), reader.varint(16)))))
        case _:
            raise DecodeError("bad gossip message")


def _read_usual_gossip(data: bytes) -> Gossip | None:
    """
    Fast path for the usual L{Gossip}: scope "swarm", a minimal length of one or two
    bytes, a round of one byte.  Returns C{None} for anything else.
    """
    size = len(data)
    if size < 2 + ID_SIZE + 3 or not data.startswith(b"\x01\x00"):
        return None
    start = 2 + ID_SIZE + 1
    length = data[start - 1]
    if length >= 0x80:
        if (high := data[start]) >= 0x80:
            return None
        length += (high - 1) << 7
        start += 1
    end = start + length
    if end + 1 >= size or data[end] or (hops := data[end + 1]) >= 0x80:
        return None
    return Gossip(data[2 : 2 + ID_SIZE], data[start:end], hops)


def _read_usual_ihave(data: bytes) -> IHave | None:
    """
    Fast path for the usual L{IHave}: its count and rounds take one byte each.  Returns
    C{None} for anything else.
    """
    entry = ID_SIZE + 1
    if len(data) < 3 or not data.startswith(b"\x01\x03"):
        return None
    end = 3 + data[2] * entry
    if data[2] >= 0x80 or len(data) < end or max(data[3 + ID_SIZE : end : entry], default=0) >= 0x80:
        return None
    starts = range(3, end, entry)
    return IHave(tuple([(data[start : start + ID_SIZE], data[start + ID_SIZE]) for start in starts]))


def decode(data: bytes) -> Message:
    """
    Decode the message at the start of C{data}.

    @raise DecodeError: it is not a valid message.
    """
    usual = _read_usual_gossip(data) or _read_usual_ihave(data)
    return _read(data) if usual is None else usual


def _read(data: bytes) -> Message:
    reader = Reader(data)
    match reader.varint(32):
        case 0:
            return _read_swarm(reader)
        case 1:
            return _read_gossip(reader)
        case _:
            raise DecodeError("bad message")
