"""
Tests for L{dtt.discovery.swarm_memory} and L{dtt.discovery.memory_channel}.
"""

from __future__ import annotations

import json
from typing import Any
from unittest.mock import Mock

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from dtt.discovery.candidates import FoundRecord
from dtt.discovery.interfaces import IDiscoveryChannel, SearchState
from dtt.discovery.memory_channel import IN_A_ROUND, ROUNDS, SwarmMemoryChannel
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
from dtt.interfaces import GossipObserver
from dtt.records.record import GossipContent
from dtt.records.topic import TopicKeys
from dtt.state import MAX_JSON_BYTES
from dtt.testing.fake_dht import FakeDHT
from dtt.wire.addresses import STREAMS, PeerAddress
from tests.tracker.common import IDS, MINUTE, SECRET_HASH, START, TOPIC, Member, address, start_clock

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


class SwarmMemoryChannelTests(SynchronousTestCase):
    """
    Tests for L{SwarmMemoryChannel}.
    """

    def setUp(self) -> None:
        self.clock = start_clock()
        self.member = Member(self.clock, FakeDHT(self.clock))
        self.memory = SwarmMemory()
        self.channel = SwarmMemoryChannel(self.member.shared, TopicKeys(TOPIC, SECRET_HASH), self.memory)
        self.reported: list[FoundRecord] = []
        self.channel.on_record = self.reported.append

    def find(self, rounds: int = 0) -> list[bytes]:
        """Search, and return whom it found."""
        found = self.successResultOf(self.channel.find("test", SearchState(0.0, rounds, lambda: False)))
        return [record.publisher for record in found]

    def test_interfaces(self) -> None:
        """It is a channel, and observes the gossip."""
        verifyObject(IDiscoveryChannel, self.channel)
        observer: GossipObserver = self.channel
        self.assertIs(observer, self.channel)
        self.channel.message_received(Mock())

    def test_ready(self) -> None:
        """It is of use if somebody is remembered."""
        waiting: Deferred[None] = self.channel.when_ready()
        self.assertNoResult(waiting)
        self.memory.remember(KEY, member(1))
        self.assertIsNone(self.successResultOf(self.channel.when_ready()))

    def test_find(self) -> None:
        """A lone member finds the remembered ones, whose addresses are known from then on."""
        self.memory.remember(KEY, member(0))  # ourselves
        self.memory.remember(KEY, member(1))
        self.memory.remember(KEY, member(2))
        self.assertEqual(self.find(), [IDS[2], IDS[1]])
        self.assertEqual(self.reported[0], FoundRecord(IDS[2], MINUTE, addresses=(address(2),)))
        self.assertEqual(self.member.book.known[IDS[1]], (address(1),))

    def test_rounds(self) -> None:
        """A few are found in each round, and all of them again later."""
        for number in range(1, 1 + IN_A_ROUND + 3):
            self.memory.remember(KEY, member(number))
        self.assertEqual((len(self.find(0)), len(self.find(1)), len(self.find(2))), (IN_A_ROUND, 3, 0))
        self.assertEqual(self.find(ROUNDS), self.find(0))

    def test_with_neighbors(self) -> None:
        """Members with neighbours find nobody here, and nothing is published."""
        self.memory.remember(KEY, member(1))
        self.assertEqual(self.successResultOf(self.channel.find("test")), [])
        self.assertEqual(self.successResultOf(self.channel.watch("test")), [])
        self.assertEqual(self.successResultOf(self.channel.publish(GossipContent, "test")), 0)
        self.assertEqual(self.reported, [])

    def test_remembers(self) -> None:
        """Neighbours are remembered with their addresses, and until when they were there."""
        changes: list[None] = []
        self.memory.on_changed = lambda: changes.append(None)
        for number in (1, 2):
            self.member.book.learn(IDS[number], (address(number),), "record")
            self.channel.neighbor_up(IDS[number])
        self.clock.advance(10)
        self.channel.neighbor_down(IDS[1])
        self.clock.advance(10)
        self.channel.update()
        self.assertEqual(
            self.memory.members(KEY, START),
            [member(2, START + 20), member(1, START + 10)],
        )
        self.assertEqual(len(changes), 4)

    def test_slow_look_up(self) -> None:
        """No look-up of addresses is waited for."""
        self.member.book.slow[IDS[1]] = Deferred()
        self.channel.neighbor_up(IDS[1])
        self.assertEqual(self.memory.members(KEY, START), [evolve(member(1), addresses=())])
