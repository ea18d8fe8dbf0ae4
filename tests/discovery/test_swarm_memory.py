"""
Tests for L{dtt.discovery.swarm_memory}.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dtt.discovery.swarm_memory import (
    EXPIRY,
    MAX_MEMBERS,
    MAX_REMEMBERED,
    MAX_TOPICS,
    RememberedMember,
    SwarmMemory,
    memory_key,
)
from dtt.identity import PeerKey
from dtt.state import MAX_JSON_BYTES
from dtt.wire.addresses import STREAMS, PeerAddress
from tests.tracker.common import IDS, SECRET_HASH, START, TOPIC, address

KEY = memory_key(TOPIC, SECRET_HASH)


def member(number: int, at: float = START) -> RememberedMember:
    """Return a member that was connected."""
    return RememberedMember(IDS[number], (address(number),), at)


class SwarmMemoryTests(SynchronousTestCase):
    """
    Tests for L{SwarmMemory}.
    """

    def test_latest_first(self) -> None:
        """Members are returned by topic, the one that was connected last first, each once."""
        memory = SwarmMemory()
        for number in (1, 2, 1, 3):
            memory.remember(KEY, member(number, START + number))
        memory.remember(memory_key(TOPIC, bytes(32)), member(4))
        self.assertEqual(memory.members(KEY, START), [member(n, START + n) for n in (3, 1, 2)])

    def test_old_addresses(self) -> None:
        """A member of which no address is known now keeps those that were."""
        memory = SwarmMemory()
        memory.remember(KEY, member(1))
        memory.remember(KEY, RememberedMember(IDS[1], (), START + 5))
        self.assertEqual(memory.members(KEY, START + 5), [member(1, START + 5)])

    def test_expiry(self) -> None:
        """After a month a member is forgotten."""
        memory = SwarmMemory()
        memory.remember(KEY, member(1))
        self.assertEqual(len(memory.members(KEY, START + EXPIRY - 1)), 1)
        self.assertEqual(memory.members(KEY, START + EXPIRY), [])

    def test_bounds(self) -> None:
        """The latest members of the latest topics are kept; the file stays below its limit."""
        memory = SwarmMemory()
        addresses = tuple(
            PeerAddress(STREAMS, f"2001:db8:aaaa:bbbb:cccc:dddd:eeee:{n:x}", 65535)
            for n in range(MAX_REMEMBERED)
        )
        ids = [PeerKey.from_seed(bytes((number,)) * 32).peer_id for number in range(MAX_MEMBERS + 2)]
        keys = [number.to_bytes(16) for number in range(MAX_TOPICS + 2)]
        for key in keys:
            for peer in ids:
                memory.remember(key, RememberedMember(peer, addresses, START + 0.123456))
        self.assertEqual(memory.members(keys[1], START), [])
        self.assertEqual([each.peer_id for each in memory.members(keys[2], START)], ids[:1:-1])
        self.assertLess(len(json.dumps(memory.to_json(), indent=1)), MAX_JSON_BYTES)

    def test_roundtrip(self) -> None:
        """A round trip through JSON changes nothing, not even the order."""
        memory = SwarmMemory()
        for number in (3, 1, 2):
            memory.remember(KEY, member(number))
        again = SwarmMemory.from_json(json.loads(json.dumps(memory.to_json())))
        self.assertEqual(again.to_json(), memory.to_json())
        self.assertEqual(again.members(KEY, START), memory.members(KEY, START))

    def test_hides_topics(self) -> None:
        """The file contains neither the topic nor the secret."""
        memory = SwarmMemory()
        memory.remember(KEY, member(1))
        text = json.dumps(memory.to_json())
        self.assertNotIn(TOPIC.hex(), text)
        self.assertNotIn(SECRET_HASH.hex(), text)

    def test_unusable(self) -> None:
        """Anything else is refused with C{ValueError}."""
        memory = SwarmMemory()
        memory.remember(KEY, member(1))

        def changed(change: Any) -> Any:
            value = memory.to_json()
            change(value["topics"][0], value["topics"][0]["members"][0])
            return value

        for value in (
            {},
            {"version": 2},
            {"version": 1},
            {"version": 1, "topics": 5},
            {"version": 1, "topics": [5]},
            changed(lambda topic, each: topic.update(topic="00")),
            changed(lambda topic, each: topic.update(topic="no")),
            changed(lambda topic, each: topic.update(members=[None])),
            changed(lambda topic, each: each.update(id="00" * 32)),
            changed(lambda topic, each: each.update(id="00")),
            changed(lambda topic, each: each.update(connected_at="now")),
            changed(lambda topic, each: each.update(connected_at=float("nan"))),
            changed(lambda topic, each: each.update(addresses=[["streams", "host", 1]])),
            changed(lambda topic, each: each.update(addresses=7)),
        ):
            with self.assertRaises(ValueError):
                SwarmMemory.from_json(value)
