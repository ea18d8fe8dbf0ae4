"""
Shrinks messages that are too large to be sent.  Pure.

PeerData come from other members: a message that is forwarded, or that names many peers,
can exceed the size that a Rust peer accepts; that would terminate its send loop
(docs/protocol/gossip.md sections 4 and 11, Q3 and Q10).
"""

from __future__ import annotations

from dtt.gossip.proto.messages import (
    ID_SIZE,
    ForwardJoin,
    Join,
    Message,
    Neighbor,
    PeerInfo,
    Shuffle,
    ShuffleReply,
    encode,
    encode_peer_info,
)

#: Upper bound for a membership message without its nodes: two discriminants, an origin, a count and
#: a ttl.
_OTHERS = 2 + ID_SIZE + 5 + 3


def fit(message: Message, limit: int) -> Message | None:
    """
    Return C{message} shrunk to at most C{limit} bytes: first PeerData are dropped, the
    longest first, then nodes from the front, because an origin names itself last
    (docs/protocol/gossip.md Q10).  Returns C{None} if it can't be shrunk enough.
    """
    if _at_most(message) <= limit:
        return message
    excess = len(encode(message)) - limit
    if excess <= 0:
        return message
    match message:
        case Join():
            smaller: Message = Join()
        case Neighbor(priority=priority):
            smaller = Neighbor(priority)
        case ForwardJoin(peer=peer, ttl=ttl):
            smaller = ForwardJoin(PeerInfo(peer.peer_id), ttl)
        case Shuffle(origin=origin, nodes=nodes, ttl=ttl):
            smaller = Shuffle(origin, _shrink(nodes, excess), ttl)
        case ShuffleReply(nodes=nodes):
            smaller = ShuffleReply(_shrink(nodes, excess))
        case _:
            return None
    return smaller if len(encode(smaller)) <= limit else None


def _at_most(message: Message) -> int:
    """
    Return an upper bound for the encoded size of C{message}, mostly without encoding
    it; usually it is small enough.
    """
    match message:
        case Join(data=data) | Neighbor(data=data):
            return _OTHERS + _node_size(data)
        case ForwardJoin(peer=peer):
            return _OTHERS + _node_size(peer.data)
        case Shuffle(nodes=nodes) | ShuffleReply(nodes=nodes):
            return _OTHERS + sum([_node_size(node.data) for node in nodes])
        case _:
            return len(encode(message))


def _node_size(data: bytes | None) -> int:
    # An id, an option's tag, and a length of at most five bytes.
    return ID_SIZE + 6 + len(data or b"")


def _shrink(nodes: tuple[PeerInfo, ...], excess: int) -> tuple[PeerInfo, ...]:
    kept = list(nodes)
    by_length = sorted(range(len(kept)), key=lambda index: -len(kept[index].data or b""))
    for index in by_length:
        if excess <= 0:
            break
        bare = PeerInfo(kept[index].peer_id)
        excess -= len(encode_peer_info(kept[index])) - len(encode_peer_info(bare))
        kept[index] = bare
    while excess > 0 and kept:
        excess -= len(encode_peer_info(kept.pop(0)))
    return tuple(kept)
