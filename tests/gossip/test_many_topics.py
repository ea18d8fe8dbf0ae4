"""
Tests of members with many topics: those that are shared share a connection, and those
that are not share the connections fairly.
"""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from dtt.addresses.book import AddressBook
from dtt.events import Event, LimitReached, PeerRefused
from dtt.gossip.budget import FULL, MINIMUM, LinkBudget
from dtt.gossip.member import GossipMember
from dtt.gossip.services import GossipServices
from dtt.identity import PeerKey
from dtt.testing.memory_transport import MemoryHub
from dtt.testing.net.clock import HeapClock, advance
from dtt.transport.settings import TransportSettings
from tests.sweeps import sized, thorough

SECRET = b"s" * 32


class Process:
    """
    A process with one transport and any number of topics.

    @ivar events: the events of its transport.
    """

    def __init__(self, hub: MemoryHub, number: int, max_connections: int = 512) -> None:
        self.clock = hub.clock
        self.rng = Random(number)
        self.events: list[Event] = []
        self.peer_id = PeerKey.from_seed(number.to_bytes(32, "big")).peer_id
        settings = TransportSettings(max_connections, emit=self.events.append)
        self.transport = hub.transport(self.peer_id, settings=settings)
        self.book = AddressBook(self.clock, self.rng, self.transport.addresses, self.peer_id)
        self.budget = LinkBudget(self.clock, self.transport)
        self.topics: dict[bytes, GossipMember] = {}

    def open(self, topic_id: bytes) -> GossipMember:
        """
        Open a topic.
        """
        services = GossipServices(
            self.clock, self.rng, self.peer_id, self.transport, self.book, budget=self.budget
        )
        member = self.topics[topic_id] = GossipMember(services, topic_id, SECRET)
        member.start()
        return member

    def know(self, *others: Process) -> None:
        """
        Learn the addresses of other processes.
        """
        for other in others:
            self.book.learn(other.peer_id, other.transport.addresses(), "record")

    def links(self) -> list[int]:
        """
        Return the number of neighbours of each topic.
        """
        return [len(member.neighbors()) for member in self.topics.values()]


def topic(number: int) -> bytes:
    """
    Return a topic id.
    """
    return number.to_bytes(32, "big")


class ManyTopicsTests(SynchronousTestCase):
    """
    Tests on a network in memory.
    """

    def setUp(self) -> None:
        self.clock = HeapClock()
        self.hub = MemoryHub(self.clock)
        self.rng = Random(0)

    def test_shared_topics(self) -> None:
        """
        Two members meet in all topics that they share, over one connection.
        """
        for count in (17, 40, sized(100, 1000)):
            a, b = Process(self.hub, 2 * count), Process(self.hub, 2 * count + 1)
            a.know(b)
            for number in range(count):
                a.open(topic(number))
                b.open(topic(number))
            for member in a.topics.values():
                member.join([b.peer_id])
            advance(self.clock, 3)
            self.assertEqual(set(a.links() + b.links()), {1}, count)
            self.assertEqual(self.hub.connections(a.peer_id), 1)
            self.assertEqual((a.budget.capacity, a.events, b.events), (FULL, [], []))

    def test_shared_by_chance(self) -> None:
        """
        Members that share 40 of their 200 topics meet in all of these, although each
        believes the other one to be in all.
        """
        for seed in range(sized(1, 3)):
            rng = Random(seed)
            a, b = Process(self.hub, 2 * seed), Process(self.hub, 2 * seed + 1)
            a.know(b)
            for number in range(200):
                a.open(topic(number))
                b.open(topic(number + 160))
            for _ in range(14):
                members = [member for member in a.topics.values() if not member.neighbors()]
                rng.shuffle(members)
                for member in members:
                    member.join([b.peer_id])
                advance(self.clock, 5)
            self.assertEqual(a.links(), [0] * 160 + [1] * 40, seed)
            self.assertEqual(b.links(), [1] * 40 + [0] * 160, seed)

    def crowd(self, max_connections: int, topics: int = 100, members: int = 7, rounds: int = 40) -> Process:
        """
        Return a process with C{topics} topics, each with C{members} other members, after
        C{rounds} times 3 s.
        """
        process = Process(self.hub, 1, max_connections)
        number = 2
        groups: list[list[Process]] = []
        for each in range(topics):
            group = [Process(self.hub, number + k) for k in range(members)]
            number += members
            groups.append(group)
            for other in group:
                other.open(topic(each))
                other.know(group[0])
                process.know(other)
            for other in group[1:]:
                other.topics[topic(each)].join([group[0].peer_id])
        advance(self.clock, 2)
        for each in range(topics):
            process.open(topic(each))
        for _ in range(rounds):
            for each, member in enumerate(process.topics.values()):
                if not member.neighbors():
                    member.join([other.peer_id for other in self.rng.sample(groups[each], 4)])
            advance(self.clock, 3)
        return process

    def assert_fair(self, process: Process, limit: int, shown: object) -> None:
        """
        Every topic of C{process} has at least two links, and there are not too many
        connections.
        """
        self.assertGreaterEqual(min(process.links()), MINIMUM, (shown, process.links()))
        self.assertLessEqual(self.hub.connections(process.peer_id), limit, shown)

    @thorough
    def test_many_members(self) -> None:
        """
        With a hundred topics of seven different members each, every topic keeps at
        least two links.
        """
        self.assert_fair(self.crowd(512, rounds=25), 512, "default")

    def test_few_connections(self) -> None:
        """
        So it does with little more connections than two for each topic.  That members
        are refused is reported: the limit once, and members by their ids.
        """
        for seed in range(sized(1, 3)):
            for limit in (64, 45)[-sized(1, 2) :]:
                self.setUp()
                self.rng = Random(seed)
                process = self.crowd(limit, 20, rounds=20)
                self.assert_fair(process, limit, (limit, seed))
                self.assertEqual(process.budget.capacity, MINIMUM)
            limits = [event for event in process.events if isinstance(event, LimitReached)]
            self.assertEqual(limits, [LimitReached("connections", 45)])
            refused = [event for event in process.events if isinstance(event, PeerRefused)]
            self.assertTrue(refused)
            self.assertTrue(all(len(event.peer) == 32 for event in refused))
            total = process.transport.counters["refused_too_many_connections"]
            self.assertLessEqual(sum(1 + event.omitted for event in refused), total)

    def test_room_again(self) -> None:
        """
        When other topics are left, those that remain may have all neighbours again.
        """
        process = self.crowd(32, 10, rounds=10)
        for member in [*process.topics.values()][3:]:
            member.leave()
        advance(self.clock, sized(150, 300))
        self.assertEqual(process.budget.capacity, FULL)
        self.assertGreaterEqual(min(process.links()[:3]), 3)
