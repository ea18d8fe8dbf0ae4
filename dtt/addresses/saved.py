"""
The part of the address book that is kept across restarts.  Pure.

Rules: it contains the addresses at which peers were last reached, and when; at
most 256 peers.  It contains no secrets, but reveals with whom we were connected,
and where they are.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from attrs import frozen

from dtt.identity import KEY_BYTES
from dtt.interfaces import PeerId
from dtt.wire.address_json import address_from_json, address_to_json
from dtt.wire.addresses import MAX_ADDRESSES, Address

#: The version of the file format; files of other versions are not read.
VERSION = 1

#: The maximum number of peers (guess: more than the active and passive views of
#: seven topics).
MAX_REACHED = 256


@frozen(slots=True)
class ReachedPeer:
    """
    The addresses at which a peer was last reached.

    @ivar peer_id: 32 bytes.
    @ivar addresses: at most 8 and a relay, the most likely first.
    @ivar at: when it was reached, in the reactor's seconds.
    """

    peer_id: PeerId
    addresses: tuple[Address, ...]
    at: float


def to_json(peers: Iterable[ReachedPeer]) -> dict[str, Any]:
    """
    Return the JSON object to write.
    """
    return {
        "version": VERSION,
        "peers": [
            {
                "id": peer.peer_id.hex(),
                "reached_at": peer.at,
                "addresses": [address_to_json(address) for address in peer.addresses],
            }
            for peer in peers
        ],
    }


def from_json(value: Mapping[str, Any]) -> list[ReachedPeer]:
    """
    Read the JSON object that L{to_json} returned.

    @raise ValueError: C{value} is not such an object.
    """
    if value.get("version") != VERSION:
        raise ValueError("unknown version")
    try:
        return [_peer(each) for each in value["peers"][:MAX_REACHED]]
    except (AttributeError, KeyError, OverflowError, TypeError) as error:
        raise ValueError(f"unusable: {error!r}") from None


def _peer(value: Mapping[str, Any]) -> ReachedPeer:
    peer_id, at = bytes.fromhex(value["id"]), value["reached_at"]
    if len(peer_id) != KEY_BYTES:
        raise ValueError(f"not a peer id: {value['id']!r}")
    if type(at) not in (int, float) or not math.isfinite(at):
        raise ValueError(f"not a time: {at!r}")
    return ReachedPeer(
        peer_id, tuple(address_from_json(each) for each in value["addresses"][: MAX_ADDRESSES + 1]), at
    )
