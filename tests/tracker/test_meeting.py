"""
Tests of whole trackers that meet.
"""

from __future__ import annotations

from dtt.config import AddressesConfig
from dtt.events import AddressesPublished, Message, RecordFound, TopicJoined
from dtt.krpc.items import mutable_target
from dtt.records import record
from tests.sweeps import sized
from tests.tracker.case import TrackerTestCase


class MeetingTests(TrackerTestCase):
    """
    Members that do not know each other meet.
    """

    dht_nodes = 5

    def test_two(self) -> None:
        """
        Two members with the same topic and secret, started together, are joined within a
        quarter of a second with latencies of 10 ms, and exchange messages.
        """
        one, two = self.tracker(1), self.tracker(2)
        topics = [tracker.join("x", secret=b"s") for tracker in (one, two)]
        joined = [topic.when_joined() for topic in topics]
        self.net.advance(0.25)
        for deferred in joined:
            self.successResultOf(deferred)
        self.assertEqual(topics[0].neighbors(), (two.peer_id,))
        topics[0].broadcast(b"hello")
        self.net.advance(0.1)
        self.assertEqual(self.of(two, Message), [Message(topics[0].topic_id, one.peer_id, "swarm", b"hello")])
        self.stop(one, two)
        self.assert_nothing_left()

    def test_by_id_alone(self) -> None:
        """
        If records contain no address, as those of Rust members, members find each other's
        addresses in the DHT.
        """
        self.patch(record, "encode_extension", lambda addresses: b"")
        one, two = self.tracker(1), self.tracker(2)
        topics = [tracker.join("x") for tracker in (one, two)]
        self.net.advance(10)
        self.assertEqual([topic.neighbors() for topic in topics], [(two.peer_id,), (one.peer_id,)])
        self.assertEqual(self.of(one, AddressesPublished), [AddressesPublished("dht", 1)])
        self.stop(one, two)
        self.assert_nothing_left()

    def test_by_id_alone_without_pkarr(self) -> None:
        """
        This can be disabled: then no member is found by its id, and none publishes
        addresses in the DHT.
        """
        self.patch(record, "encode_extension", lambda addresses: b"")
        one, two = (self.tracker(number, addresses=AddressesConfig(pkarr=False)) for number in (1, 2))
        topics = [tracker.join("x") for tracker in (one, two)]
        self.net.advance(10)
        self.assertEqual([topic.neighbors() for topic in topics], [(), ()])
        self.assertTrue(self.of(one, RecordFound))
        target = mutable_target(one.peer_id)
        self.assertEqual(
            [node.responder.items.get(target, self.clock.seconds()) for node in self.nodes],
            [None] * len(self.nodes),
        )
        self.stop(one, two)

    def test_newcomer(self) -> None:
        """A third member that starts later finds both by their records."""
        one, two = self.tracker(1), self.tracker(2)
        for tracker in (one, two):
            tracker.join("x", secret=b"s")
        self.net.advance(5)
        three = self.tracker(3)
        topic = three.join("x", secret=b"s")
        self.net.advance(0.25)
        self.assertTrue(topic.neighbors())
        self.net.advance(1)
        self.assertEqual(set(topic.neighbors()), {one.peer_id, two.peer_id})
        self.assertLessEqual(
            {event.publisher for event in self.of(three, RecordFound)}, {one.peer_id, two.peer_id}
        )
        self.stop(one, two, three)
        self.assert_nothing_left()

    def test_other_secret(self) -> None:
        """A member with another secret finds no peers in the same topic."""
        one, two = self.tracker(1), self.tracker(2)
        one.join("x", secret=b"s")
        other = two.join("x", secret=b"t")
        self.net.advance(20)
        self.assertEqual((other.neighbors(), self.of(two, RecordFound)), ((), []))
        self.stop(one, two)
        self.assert_nothing_left()

    def test_several_topics(self) -> None:
        """
        Topics share node and listener; each has its own members. In so small a DHT two
        topics exhaust the packet budgets, so that it takes longer.
        """
        one, two, three = (self.tracker(number) for number in (1, 2, 3))
        x1, y1 = one.join("x"), one.join("y")
        x2, y3 = two.join("x"), three.join("y")
        self.net.advance(15)
        self.assertEqual((x1.neighbors(), y1.neighbors()), ((two.peer_id,), (three.peer_id,)))
        self.assertEqual((x2.neighbors(), y3.neighbors()), ((one.peer_id,), (one.peer_id,)))
        self.assertEqual(len([1 for _, host, _ in self.net.listening() if host == "10.0.0.1"]), 2)
        self.assertEqual({event.topic for event in self.of(one, TopicJoined)}, {x1.topic_id, y1.topic_id})
        self.stop(one, two, three)
        self.assert_nothing_left()

    def test_swarm(self) -> None:
        """Six members that start together form one swarm: each gets the messages of all."""
        trackers = [self.tracker(number) for number in range(1, 7)]
        topics = [tracker.join("x", secret=b"s") for tracker in trackers]
        self.net.advance(sized(40, 150))
        for number, topic in enumerate(topics):
            topic.broadcast(b"from %d" % number)
        self.net.advance(5)
        for number, tracker in enumerate(trackers):
            heard = {event.content for event in self.of(tracker, Message)}
            self.assertEqual(heard, {b"from %d" % other for other in range(6) if other != number})
        self.stop(*trackers)
        self.assert_nothing_left()

    def test_partner_crashes(self) -> None:
        """A member whose only neighbour loses its network finds the next one."""
        one, two = self.tracker(1), self.tracker(2)
        topic = one.join("x")
        two.join("x")
        self.net.advance(1)
        self.net.tcp.silent.add("10.0.0.2")
        self.net.udp.dead.add("10.0.0.2")
        self.net.advance(120)
        self.assertEqual(topic.neighbors(), ())
        three = self.tracker(3)
        three.join("x")
        self.net.advance(20)
        self.assertEqual(topic.neighbors(), (three.peer_id,))
        self.stop(one, two, three)
        self.assert_nothing_left()
