"""
Tests for L{dtt.discovery.memory_channel}.
"""

from __future__ import annotations

from unittest.mock import Mock

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from dtt.discovery.candidates import FoundRecord
from dtt.discovery.interfaces import IDiscoveryChannel, SearchState
from dtt.discovery.memory_channel import IN_A_ROUND, ROUNDS, SwarmMemoryChannel
from dtt.discovery.swarm_memory import (
    RememberedMember,
    SwarmMemory,
    memory_key,
)
from dtt.interfaces import GossipObserver
from dtt.records.record import GossipContent
from dtt.records.topic import TopicKeys
from dtt.testing.fake_dht import FakeDHT
from tests.tracker.common import IDS, MINUTE, SECRET_HASH, START, TOPIC, Member, address, start_clock

KEY = memory_key(TOPIC, SECRET_HASH)


def member(number: int, at: float = START) -> RememberedMember:
    """Return a member that was connected."""
    return RememberedMember(IDS[number], (address(number),), at)


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

    def test_order(self) -> None:
        """Neighbours are remembered in the order in which they came: it is the same in each process."""
        came = IDS[1:]
        for peer_id in came:
            self.channel.neighbor_up(peer_id)
        self.channel.update()
        remembered = [each.peer_id for each in self.memory.members(KEY, START)]
        self.assertEqual(remembered, came[::-1][: len(remembered)])

    def test_slow_look_up(self) -> None:
        """No look-up of addresses is waited for."""
        self.member.book.slow[IDS[1]] = Deferred()
        self.channel.neighbor_up(IDS[1])
        self.assertEqual(self.memory.members(KEY, START), [evolve(member(1), addresses=())])
