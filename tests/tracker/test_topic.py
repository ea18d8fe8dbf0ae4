"""
Tests for L{dtt.tracker.topic}.
"""

from __future__ import annotations

from random import Random
from typing import Any

from attrs import evolve
from twisted.application.service import MultiService
from twisted.internet.defer import CancelledError
from twisted.trial.unittest import SynchronousTestCase

from dtt.addresses.book import AddressBook
from dtt.config import Config
from dtt.discovery.shared import SharedServices
from dtt.errors import TopicLeft, UsageError
from dtt.events import (
    Event,
    Message,
    NeighborDown,
    NeighborUp,
    PeerDialled,
    RecordFound,
    TopicAlone,
    TopicJoined,
)
from dtt.records.topic import TopicId, TopicKeys
from dtt.testing.fake_dht import FakeDHT
from dtt.testing.memory_transport import MemoryHub
from dtt.testing.net.clock import advance
from dtt.tracker.alone import AloneReporter
from dtt.tracker.fetcher import Fetcher
from dtt.tracker.greeter import Greeter
from dtt.tracker.merger import BubbleMerge, MessageOverlapMerge
from dtt.tracker.parts import PartMerge
from dtt.tracker.publisher import Publisher
from dtt.tracker.topic import TopicService
from dtt.tracker.watcher import Watcher
from tests.tracker.common import IDS, KEYS, SECRET_HASH, TOPIC, start_clock


class Member:
    """A member without a tracker: its parts, and a parent service."""

    def __init__(self, case: TopicTestCase, number: int, config: Config) -> None:
        self.peer_id = IDS[number]
        self.events: list[Event] = []
        self.sink = self.events.append
        self.forgotten: list[TopicService] = []
        self.transport = case.hub.transport(self.peer_id)
        rng = Random(number)
        self.parts = SharedServices(
            case.clock,
            rng,
            config,
            KEYS[number],
            case.dht,
            AddressBook(case.clock, rng, self.transport.addresses, self.peer_id),
            self.transport,
            lambda event: self.sink(event),
            lambda: False,
        )
        self.parent = MultiService()
        self.topic = self.join(TOPIC)

    def join(self, topic_id: TopicId) -> TopicService:
        """Join the topic as a tracker does."""
        topic = TopicService(self.parts, TopicKeys(topic_id, SECRET_HASH), self.forgotten.append)
        topic.setServiceParent(self.parent)
        return topic

    def end(self) -> None:
        """Leave everything, so that nothing ends during another test."""
        for topic in tuple(self.parent):
            topic.leave()
        advance(self.parts.reactor, 0.1)  # type: ignore[arg-type]

    def of(self, kind: type[Event]) -> list[Any]:
        """The events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]


class TopicTestCase(SynchronousTestCase):
    """
    Members on a hub with an in-memory DHT.
    """

    def setUp(self) -> None:
        """Start without members."""
        self.clock = start_clock()
        self.hub = MemoryHub(self.clock)
        self.dht = FakeDHT(self.clock, latency=0.02)

    def member(self, number: int = 0, start: bool = True, **config: Any) -> Member:
        """Add a member."""
        member = Member(self, number, Config(**config))
        self.addCleanup(member.end)
        if start:
            member.parent.startService()
        return member

    def advance(self, seconds: float) -> None:
        """Advance the clock."""
        advance(self.clock, seconds)


class TopicServiceTests(TopicTestCase):
    """
    Tests for L{TopicService}.
    """

    def test_services(self) -> None:
        """By default there are eight services; three can be disabled individually."""
        kinds = [
            Fetcher,
            Publisher,
            BubbleMerge,
            PartMerge,
            MessageOverlapMerge,
            Watcher,
            Greeter,
            AloneReporter,
        ]
        self.assertEqual([type(service) for service in self.member().topic], kinds)
        for number, name in enumerate(("publisher", "bubble_merge", "message_overlap_merge"), 1):
            off = evolve(getattr(Config(), name), enabled=False)
            member = self.member(number, **{name: off})
            without: Any = [[Publisher], [BubbleMerge, PartMerge], [MessageOverlapMerge]][number - 1]
            self.assertEqual(
                [type(service) for service in member.topic], [kind for kind in kinds if kind not in without]
            )

    def test_repr(self) -> None:
        """A topic is shown by its name, with the number of its neighbours."""
        one, _ = self.member(0), self.member(1)
        self.assertEqual(repr(one.topic), "<TopicService 'a topic': 0 neighbours>")
        self.advance(1)
        self.assertEqual(repr(one.topic), "<TopicService 'a topic': 1 neighbour>")
        one.topic.leave()
        self.advance(1)
        self.assertEqual(repr(one.topic), "<TopicService 'a topic': not running>")

    def test_alone(self) -> None:
        """A topic without neighbours says so, with the reason."""
        one = self.member(0)
        self.advance(61)
        (alone,) = one.of(TopicAlone)
        self.assertEqual((alone.topic.label, alone.seconds), ("a topic", 60))
        self.assertIn("no record of another member", alone.reason)

    def test_two_meet(self) -> None:
        """Two members find each other; each reports once that it has joined."""
        one, two = self.member(0), self.member(1)
        joined = [member.topic.when_joined() for member in (one, one, two)]
        joined[1].cancel()
        self.advance(1)
        for deferred in (joined[0], joined[2]):
            self.successResultOf(deferred)
        self.failureResultOf(joined[1], CancelledError)
        self.assertEqual((one.topic.neighbors(), two.topic.neighbors()), ((IDS[1],), (IDS[0],)))
        for member, other in ((one, IDS[1]), (two, IDS[0])):
            self.assertEqual(member.of(NeighborUp), [NeighborUp(TOPIC, other)])
            self.assertEqual(member.of(TopicJoined), [TopicJoined(TOPIC)])
            names = [event.name for event in member.events]
            self.assertLess(names.index("neighbor.up"), names.index("topic.joined"))
        self.assertTrue(one.of(PeerDialled) or two.of(PeerDialled))
        self.assertTrue(one.of(RecordFound) or two.of(RecordFound))

    def test_messages(self) -> None:
        """A broadcast is delivered as an event and to observers."""
        one, two = self.member(0), self.member(1)
        self.advance(1)
        one.topic.broadcast(b"to all")
        one.topic.broadcast_neighbors(b"to neighbours")
        self.advance(1)
        self.assertEqual(
            two.of(Message),
            [
                Message(TOPIC, IDS[0], "swarm", b"to all"),
                Message(TOPIC, IDS[0], "neighbors", b"to neighbours"),
            ],
        )

    def test_published_content(self) -> None:
        """
        Once joined, the record contains neighbours, hashes of received messages, and the
        member's addresses.
        """
        one, two = self.member(0), self.member(1)
        self.advance(1)
        two.topic.broadcast(b"hello")
        self.advance(60)
        third = self.member(2, start=False)
        found: list[Any] = []
        (fetcher,) = (service for service in third.topic if isinstance(service, Fetcher))
        fetcher._channels.find("fetcher").addCallback(found.extend)
        self.advance(1)
        records = [record for record in found if record.publisher == IDS[0] and record.active_peers]
        self.assertTrue(records)
        self.assertEqual(records[0].active_peers, (IDS[1],))
        self.assertEqual(records[0].last_message_hashes, one.topic._gossip.message_hashes())
        self.assertEqual(records[0].addresses, one.transport.addresses())

    def test_leave(self) -> None:
        """
        A member that leaves says goodbye: the others see it go, and it gets no more
        notifications. All later calls raise, pending Deferreds fail, and nothing is left.
        """
        one, two = self.member(0), self.member(1)
        self.advance(1)
        left = one.topic.leave()
        again = one.topic.leave()
        with self.assertRaises(TopicLeft):
            one.topic.broadcast(b"late")
        with self.assertRaises(TopicLeft):
            one.topic.join_peers([IDS[1]])
        self.failureResultOf(one.topic.when_joined(), TopicLeft)
        self.advance(1)
        self.successResultOf(left)
        self.successResultOf(again)
        self.successResultOf(one.topic.leave())
        self.assertEqual(one.forgotten, [one.topic])
        self.assertEqual(list(one.parent), [])
        self.assertEqual(two.of(NeighborDown), [NeighborDown(TOPIC, IDS[0])])
        self.assertEqual((one.topic.neighbors(), one.of(NeighborDown)), ((), []))
        two.topic.leave()
        self.advance(3)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_leave_while_looking(self) -> None:
        """Pending calls for a neighbour fail with TopicLeft, and nothing is logged."""
        member = self.member()
        joined = member.topic.when_joined()
        self.advance(0.5)
        left = member.topic.leave()
        self.failureResultOf(joined, TopicLeft)
        self.advance(0)
        self.successResultOf(left)
        self.advance(5)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_before_start(self) -> None:
        """
        Before the service has started, waiting and subscribing work; calls that need
        neighbours are refused.
        """
        member = self.member(start=False)
        joined = member.topic.when_joined()
        with self.assertRaises(UsageError):
            member.topic.broadcast(b"early")
        with self.assertRaises(UsageError):
            member.topic.join_peers([IDS[1]])
        member.parent.startService()
        self.member(1)
        self.advance(1)
        self.successResultOf(joined)

    def test_leave_before_start(self) -> None:
        """A topic that never started can be left, even twice: pending calls fail."""
        member = self.member(start=False)
        joined = member.topic.when_joined()
        left = member.topic.leave()
        again = member.topic.leave()
        self.failureResultOf(joined, TopicLeft)
        self.advance(0)
        self.successResultOf(left)
        self.successResultOf(again)
        self.assertEqual(member.forgotten, [member.topic])
        member.parent.startService()
        self.advance(10)
        self.assertEqual((member.events, self.clock.getDelayedCalls()), ([], []))

    def test_leave_within_an_event(self) -> None:
        """An event callback may leave the topic, whatever has caused the event."""
        for kind in (RecordFound, NeighborUp, TopicJoined, PeerDialled):
            self.setUp()
            one, two = self.member(0), self.member(1)
            lefts: list[Any] = []

            def sink(
                event: Event, kind: type[Event] = kind, one: Member = one, lefts: list[Any] = lefts
            ) -> None:
                if isinstance(event, kind) and not lefts:
                    lefts.append(one.topic.leave())

            one.sink = sink
            self.advance(2)
            if kind is PeerDialled and not lefts:  # it was dialled instead
                continue
            self.successResultOf(lefts[0])
            self.assertEqual(self.flushLoggedErrors(), [], kind.__name__)
            two.topic.leave()
            self.advance(3)
            self.assertEqual(self.clock.getDelayedCalls(), [], kind.__name__)

    def test_leave_and_join_again(self) -> None:
        """A topic that was left can be joined again immediately."""
        one = self.member(0)
        self.member(1)
        self.advance(1)
        one.topic.leave()
        topic = one.join(TOPIC)
        self.advance(3)
        self.assertEqual(topic.neighbors(), (IDS[1],))

    def test_two_topics(self) -> None:
        """Topics of one member are independent, but share a connection."""
        one, two = self.member(0), self.member(1)
        other = TopicId.from_name("other")
        second, its_second = one.join(other), two.join(other)
        self.advance(2)
        for topic in (one.topic, second):
            self.assertEqual(topic.neighbors(), (IDS[1],))
        one.topic.leave()
        self.advance(2)
        self.assertEqual(its_second.neighbors(), (IDS[0],))
        self.assertEqual(two.topic.neighbors(), ())
        self.assertEqual(self.hub.connections(IDS[0]), 1)

    def test_join_peers(self) -> None:
        """Members known from elsewhere are joined without the DHT."""
        self.dht = FakeDHT(self.clock, ready=False)
        one, two = self.member(0), self.member(1)
        one.parts.book.learn(IDS[1], two.transport.addresses(), "elsewhere")
        one.topic.join_peers([IDS[1]])
        self.advance(1)
        self.assertEqual(one.topic.neighbors(), (IDS[1],))

    def test_subscribe(self) -> None:
        """A subscription can be cancelled."""
        one = self.member(0)
        reported: list[bytes] = []

        class Observer:
            def neighbor_up(self, peer_id: bytes) -> None:
                reported.append(peer_id)

            def neighbor_down(self, peer_id: bytes) -> None:
                reported.append(peer_id)

            def message_received(self, message: object) -> None:
                pass

        one.topic.subscribe(Observer())()
        one.topic.subscribe(Observer())
        self.member(1)
        self.advance(1)
        self.assertEqual(reported, [IDS[1]])

    def test_lonely_again(self) -> None:
        """If the only neighbour leaves, the next one is found, and joining is reported again."""
        one, two = self.member(0), self.member(1)
        self.advance(1)
        two.topic.leave()
        self.advance(1)
        self.assertEqual(one.topic.neighbors(), ())
        self.member(2)
        self.advance(10)
        self.assertEqual(one.topic.neighbors(), (IDS[2],))
        self.assertEqual(len(one.of(TopicJoined)), 2)
