"""
The members with whom we were connected last, by topic.  Pure.

Rules: of each topic, the 16 members that were neighbours last are remembered, with their
addresses and when that was; of 64 topics, those used last; for 30 days.  A topic is named
by a hash of its id and its secret, so that the file does not show which topics there are.
It contains no secrets, but shows with whom we were connected, and where they are.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final

from attrs import frozen

from dtt.identity import KEY_BYTES, is_valid_peer_id
from dtt.interfaces import PeerId
from dtt.records.topic import truncated_sha512
from dtt.wire.address_json import address_from_json, address_to_json
from dtt.wire.addresses import MAX_ADDRESSES, PeerAddress

#: The version of the file format; files of other versions are not read.
VERSION: Final = 1

#: The topics, and the members of each, that are remembered (guesses: more topics than most
#: members have; three times the neighbours).  With four addresses each, the file
#: stays below the limit of L{dtt.state.MAX_JSON_BYTES}.
MAX_TOPICS: Final = 64
MAX_MEMBERS: Final = 16

#: The addresses that are remembered of one member (guess: one of each transport and family).
MAX_REMEMBERED: Final = 4

#: Seconds for which a member is remembered (guess: 30 days; who was away for longer has another
#: address).
EXPIRY: Final = 30 * 86400.0

_KEY_BYTES: Final = 16


def memory_key(topic_id: bytes, secret_hash: bytes) -> bytes:
    """
    Return the name of a topic in the memory, 16 bytes.

    @param topic_id: 32 bytes.
    @param secret_hash: the initial secret hash, 32 bytes.
    """
    return truncated_sha512(b"dtt/1 swarm memory" + topic_id + secret_hash)[:_KEY_BYTES]


@frozen(slots=True)
class RememberedMember:
    """
    A member with whom we were connected.

    @ivar peer_id: 32 bytes.
    @ivar addresses: at most L{MAX_REMEMBERED}, the most likely first.
    @ivar at: when it was last a neighbour, in unix seconds.
    """

    peer_id: PeerId
    addresses: tuple[PeerAddress, ...]
    at: float


class SwarmMemory:
    """
    The members of all topics.

    @ivar on_changed: an attribute to set: called when something was learned.
    """

    def __init__(self) -> None:
        self.on_changed: Callable[[], object] = lambda: None
        # The topic used last, and the member connected last, are the last.
        self._topics: OrderedDict[bytes, OrderedDict[PeerId, RememberedMember]] = OrderedDict()

    def members(self, key: bytes, now: float) -> list[RememberedMember]:
        """
        Return the members of a topic, the one that was a neighbour last first.

        @param key: see L{memory_key}.
        @param now: unix seconds.
        """
        members = self._topics.get(key)
        if members is None:
            return []
        return [each for each in reversed(members.values()) if now - each.at < EXPIRY]

    def remember(self, key: bytes, member: RememberedMember) -> None:
        """
        Remember that C{member} is a neighbour, or was one until now.

        @param key: see L{memory_key}.
        """
        members = self._topics.setdefault(key, OrderedDict())
        known = members.pop(member.peer_id, None)
        if known is not None and not member.addresses:
            member = RememberedMember(member.peer_id, known.addresses, member.at)
        members[member.peer_id] = member
        self._topics.move_to_end(key)
        if len(members) > MAX_MEMBERS:
            members.popitem(last=False)
        if len(self._topics) > MAX_TOPICS:
            self._topics.popitem(last=False)
        self.on_changed()

    def to_json(self) -> dict[str, Any]:
        """
        Return the JSON object to write.
        """
        return {
            "version": VERSION,
            "topics": [
                {
                    "topic": key.hex(),
                    "members": [
                        {
                            "id": each.peer_id.hex(),
                            "connected_at": each.at,
                            "addresses": [address_to_json(address) for address in each.addresses],
                        }
                        for each in members.values()
                    ],
                }
                for key, members in self._topics.items()
            ],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> SwarmMemory:
        """
        Read the JSON object that L{to_json} returned.

        @raise ValueError: C{value} is not such an object.
        """
        if value.get("version") != VERSION:
            raise ValueError("unknown version")
        memory = cls()
        try:
            for topic in value["topics"][-MAX_TOPICS:]:
                key = bytes.fromhex(topic["topic"])
                if len(key) != _KEY_BYTES:
                    raise ValueError(f"not a topic: {topic['topic']!r}")
                memory._topics[key] = OrderedDict(
                    (member.peer_id, member) for member in map(_member, topic["members"][-MAX_MEMBERS:])
                )
        except (AttributeError, KeyError, OverflowError, TypeError) as error:
            raise ValueError(f"unusable: {error!r}") from None
        return memory


def _member(value: Mapping[str, Any]) -> RememberedMember:
    peer_id, at = bytes.fromhex(value["id"]), value["connected_at"]
    if len(peer_id) != KEY_BYTES or not is_valid_peer_id(peer_id):
        raise ValueError(f"not a peer id: {value['id']!r}")
    if type(at) not in (int, float) or not math.isfinite(at):
        raise ValueError(f"not a time: {at!r}")
    addresses = [address_from_json(each) for each in value["addresses"][:MAX_ADDRESSES]]
    direct = tuple(each for each in addresses if isinstance(each, PeerAddress))
    return RememberedMember(peer_id, direct[:MAX_REMEMBERED], at)
