"""
Tests for L{dtt.tracker.discover}: whole trackers that publish and find contents, without
gossip, on a closed DHT in memory.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from dtt.config import PublisherConfig
from dtt.discovery.candidates import FoundRecord
from dtt.errors import AlreadyJoined, ContentTooLarge, TopicLeft, UsageError, WrongType
from dtt.records.record import MAX_CONTENT_BYTES
from dtt.records.topic import TopicId
from dtt.tracker import discover
from dtt.tracker.discover import DiscoveryService, Found
from dtt.tracker.tracker import Tracker
from tests.sweeps import sized, thorough
from tests.tracker.case import TrackerTestCase


class DiscoverTests(TrackerTestCase):
    """
    Publishers find each other.
    """

    def discoverer(self, number: int, content: bytes | None = None, **kw: Any) -> DiscoveryService:
        """Start a tracker without transports that discovers."""
        return self.tracker(number, transport=(), **kw).discover("x", secret=b"s", content=content)

    def contents(self, service: DiscoveryService) -> set[bytes]:
        """What was found."""
        return {found.content for found in service.found()}

    def test_two(self) -> None:
        """
        Two that start together find each other's content within a quarter of a second, with
        its publisher, minute and channel; nothing but the DHT's port is bound.
        """
        one, two = self.discoverer(1, b"one"), self.discoverer(2, b"two")
        trackers = list(self.events)
        told: list[Found] = []
        one.subscribe(told.append)
        self.net.advance(0.25)
        (found,) = told
        self.assertEqual(found.publisher, trackers[1].peer_id)
        minute = int(self.clock.seconds()) // 60
        self.assertEqual((found.content, found.minute, found.channel), (b"two", minute, "record_slot"))
        self.assertEqual(one.found(), (found,))
        self.assertEqual(self.contents(two), {b"one"})
        self.assertEqual(list(self.ports(1)), ["udp"])
        self.assertEqual(trackers[0].ports, {"dht": self.ports(1)["udp"]})
        self.net.advance(180)
        self.assertEqual(len(told), 1)  # later records with the same content are not reported
        self.assertGreater(one.found()[0].minute, found.minute)
        self.assertGreater(one.counters()["opened"], 2)
        self.stop(*trackers)
        self.assert_nothing_left()

    def test_newcomer_without_content(self) -> None:
        """
        One that publishes nothing finds a publisher that has run for long, within a second
        and in every phase of the minute, and is not found itself.
        """
        publisher = self.discoverer(1, b"content")
        self.net.advance(sized(70, 200))
        for number in range(2, 6):
            self.net.advance(17)
            newcomer = self.discoverer(number)
            self.net.advance(1)
            self.assertEqual(self.contents(newcomer), {b"content"}, number)
        self.assertEqual(publisher.found(), ())

    @thorough
    def test_many(self) -> None:
        """
        With the slot's five records a minute, eight publishers find each other within some
        minutes.
        """
        services = [self.discoverer(number, b"%d" % number) for number in range(1, 9)]
        self.net.advance(600)
        for number, service in enumerate(services, 1):
            self.assertEqual(self.contents(service), {b"%d" % n for n in range(1, 9)} - {b"%d" % number})

    def test_publish_another(self) -> None:
        """
        A new content is found within two minutes, and reported to observers and iterators
        once; after None, nothing more is published, and the old content is kept.
        """
        one, two = self.discoverer(1, b"first"), self.discoverer(2)
        told: list[bytes] = []
        two.subscribe(lambda found: told.append(found.content))
        self.net.advance(5)
        one.publish(b"second")
        one.publish(b"second")
        self.net.advance(120)
        self.assertEqual(told, [b"first", b"second"])
        self.assertEqual(self.contents(two), {b"second"})
        one.publish(None)
        self.assertIsNone(one.content)
        self.net.advance(120)
        (last,) = two.found()
        self.net.advance(sized(90, 300))
        self.assertEqual(two.found(), (last,))

    def test_secret(self) -> None:
        """One with another secret, or another rotation, finds nothing."""
        self.discoverer(1, b"content")
        other = self.tracker(2, transport=()).discover("x", secret=b"other")
        rotated = self.tracker(3, transport=()).discover(
            "x", secret=b"s", rotation=lambda topic, minute, secret_hash: b"r" * 32
        )
        right = self.tracker(4, transport=()).discover(TopicId.from_name("x"), secret=b"s")
        self.net.advance(30)
        self.assertEqual([len(each.found()) for each in (other, rotated, right)], [0, 0, 1])

    def test_rotation(self) -> None:
        """Two members with the same custom rotation find each other."""

        def rotation(topic: bytes, minute: int, secret_hash: bytes) -> bytes:
            return bytes(31) + bytes([minute % 256])

        found: list[Found] = []
        for number in (1, 2):
            self.tracker(number, transport=()).discover(
                "x", content=b"%d" % number, rotation=rotation, on_found=found.append
            )
        self.net.advance(1)
        self.assertEqual({each.content for each in found}, {b"1", b"2"})

    def test_beside_gossip(self) -> None:
        """
        A tracker can join one topic and discover in another; the members of a swarm and the
        users of its topic's discovery ignore each other.
        """
        member = self.tracker(1)
        topic = member.join("swarm", secret=b"s")
        service = member.discover("parts", secret=b"s", content=b"of a member")
        other = self.tracker(2)
        other_topic = other.join("swarm", secret=b"s")
        found = other.discover("parts", secret=b"s")
        wrong = self.tracker(3, transport=()).discover("swarm", secret=b"s", content=b"no member")
        self.net.advance(30)
        self.assertEqual((topic.neighbors(), other_topic.neighbors()), ((other.peer_id,), (member.peer_id,)))
        self.assertEqual(self.contents(found), {b"of a member"})
        self.assertGreater(topic.record_counters()["refused_content"], 0)
        # What members publish is a content like any other.
        self.assertTrue(all(len(content) >= 320 for content in self.contents(wrong)))
        self.assertEqual((member.topics(), member.discoveries()), ((topic,), (service,)))

    def test_before_the_start(self) -> None:
        """It may be called before the tracker starts, and left."""
        tracker = self.tracker(1, start=False, transport=())
        left = tracker.discover("gone", content=b"never")
        leaving = left.leave()
        service = tracker.discover("x", secret=b"s", content=b"one")
        self.discoverer(2, b"two")
        tracker.startService()
        self.net.advance(1)
        self.successResultOf(leaving)
        self.assertEqual(self.contents(service), {b"two"})
        self.assertEqual(tracker.discoveries(), (service,))

    def test_leave(self) -> None:
        """
        After leaving, nobody is notified, iterations have ended, calls raise TopicLeft,
        and the topic can be used again.
        """
        service = self.discoverer(1, b"one")
        (tracker,) = self.events
        told: list[Found] = []
        service.subscribe(told.append)
        ended = service.results().next()
        self.net.advance(0.2)
        self.assertEqual(repr(service), "<DiscoveryService 'x': 0 publishers found, running>")
        left = [service.leave(), service.leave()]
        self.failureResultOf(ended, StopAsyncIteration)
        self.net.advance(0.01)
        for each in left:
            self.successResultOf(each)
        self.assertEqual(repr(service), "<DiscoveryService 'x': 0 publishers found, left>")
        self.assertRaises(TopicLeft, service.publish, b"x")
        self.assertRaises(TopicLeft, service.subscribe, told.append)
        self.failureResultOf(service.results().next(), StopAsyncIteration)
        self.successResultOf(service.leave())
        again = tracker.discover("x", secret=b"s")
        self.discoverer(2, b"two")
        self.net.advance(5)
        self.assertEqual((told, self.contents(again)), ([], {b"two"}))

    def test_leave_when_found(self) -> None:
        """An observer may leave, whatever has called it."""
        service = self.discoverer(1)
        left: list[Deferred[None]] = []
        service.subscribe(lambda found: left.append(service.leave()))
        self.discoverer(2, b"two")
        self.net.advance(1)
        (done,) = left
        self.successResultOf(done)
        self.assertFalse(service.running)

    def test_network_changed(self) -> None:
        """When the network has changed, it searches and publishes at once."""
        service = self.discoverer(1, b"one")
        self.net.advance(5)
        calls: list[str] = []
        for name in ("find", "publish"):

            def call(*args: object, name: str = name, **kw: object) -> Deferred[Any]:
                calls.append(name)
                return Deferred()

            self.patch(service._search._channels, name, call)
        service.network_changed()
        self.assertEqual(calls, ["find", "publish"])

    def test_iterate(self) -> None:
        """
        An iteration yields those already found, then the next ones, and ends when the
        tracker stops.
        """
        service = self.discoverer(1)
        (tracker,) = self.events
        self.discoverer(2, b"two")
        self.net.advance(1)
        got: list[bytes] = []

        async def iterate() -> str:
            async for found in service:
                got.append(found.content)  # noqa: PERF401 - an iteration without an end
            return "ended"

        iterating = Deferred.fromCoroutine(iterate())
        self.assertEqual(got, [b"two"])
        self.discoverer(3, b"three")
        self.net.advance(60)
        self.assertEqual(got, [b"two", b"three"])
        self.stop(tracker)
        self.assertEqual(self.successResultOf(iterating), "ended")

    def test_cancelled_iteration(self) -> None:
        """An iteration can be cancelled, and closed."""
        service = self.discoverer(1)
        results = service.results()
        waiting = results.next()
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        results.close()
        self.failureResultOf(results.next(), StopAsyncIteration)
        self.assertEqual(service._feeds, {})

    def test_failing_observer(self) -> None:
        """An exception of one observer is logged, and does not disturb others."""
        service = self.discoverer(1)
        told: list[Found] = []
        service.subscribe(lambda found: 1 / 0)
        end = service.subscribe(told.append)
        self.discoverer(2, b"two")
        self.net.advance(5)
        self.assertEqual(len(told), 1)
        end()
        end()
        self.discoverer(3, b"three")
        self.net.advance(60)
        self.assertEqual((len(told), self.contents(service)), (1, {b"two", b"three"}))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)

    def test_wrong_arguments(self) -> None:
        """Wrong arguments raise at the call, and leave nothing behind."""
        tracker = self.tracker(1, transport=())
        any_tracker: Any = tracker

        async def coroutine(found: Found) -> None: ...

        for arguments in (
            {"topic": 5},
            {"topic": "x", "secret": "text"},
            {"topic": "x", "secret": None},
            {"topic": "x", "content": "text"},
            {"topic": "x", "on_found": 5},
            {"topic": "x", "on_found": coroutine},
            {"topic": "x", "rotation": b"r" * 32},
        ):
            self.assertRaises(WrongType, any_tracker.discover, **arguments)
        self.assertRaises(ContentTooLarge, tracker.discover, "x", content=bytes(MAX_CONTENT_BYTES + 1))
        self.assertRaises(UsageError, tracker.discover, "x", rotation=lambda *_: b"short")
        self.assertEqual(tracker.discoveries(), ())
        service = tracker.discover("x", content=bytes(MAX_CONTENT_BYTES))
        self.assertRaises(AlreadyJoined, tracker.discover, "x")
        any_service: Any = service
        self.assertRaises(WrongType, any_service.publish, "text")
        self.assertRaises(ContentTooLarge, service.publish, bytes(713))
        self.assertRaises(WrongType, any_service.subscribe, None)
        self.stop(tracker)
        self.assertRaises(TopicLeft, tracker.discover, "x")

    def test_joined_topics_are_others(self) -> None:
        """A topic that is joined can't be discovered in by the same tracker, and vice versa."""
        tracker = self.tracker(1)
        tracker.join("x")
        self.assertRaises(AlreadyJoined, tracker.discover, "x")
        tracker.discover("y")
        self.assertRaises(AlreadyJoined, tracker.join, "y")

    def test_no_transports(self) -> None:
        """A tracker without transports joins nothing, and warns of nothing."""
        tracker = self.tracker(1, transport=())
        error = self.assertRaises(UsageError, tracker.join, "x")
        self.assertEqual(str(error), "this tracker has no transports (transport=()): it can only discover")
        self.net.advance(120)
        self.assertEqual(self.warnings, [])
        self.assertEqual(tracker.topics(), ())

    def test_largest(self) -> None:
        """A content of 712 bytes and an empty one arrive."""
        self.discoverer(1, bytes(range(256)) * 2 + bytes(200))
        self.discoverer(2, b"")
        finder = self.discoverer(3)
        self.net.advance(60)
        self.assertEqual(self.contents(finder), {b"", bytes(range(256)) * 2 + bytes(200)})


class BookkeepingTests(TrackerTestCase):
    """
    What is remembered of publishers.
    """

    dht_nodes = 1

    def service(self) -> DiscoveryService:
        """A service that is not started."""
        tracker: Tracker = self.tracker(1, start=False, transport=(), publisher=PublisherConfig())
        return tracker.discover("x")

    def record(self, publisher: bytes, minute: int, content: bytes | None) -> FoundRecord:
        """A record that was found."""
        return FoundRecord(publisher, minute, content=content, channel="test")

    def test_newest_minute_counts(self) -> None:
        """A record older than the last one of its publisher is ignored."""
        service, told = self.service(), list[bytes]()
        service.subscribe(lambda found: told.append(found.content))
        for minute, content in ((5, b"a"), (6, b"b"), (5, b"a"), (6, b"b"), (7, b"a")):
            service._record_found(self.record(b"p" * 32, minute, content))
        self.assertEqual(told, [b"a", b"b", b"a"])

    def test_bounded(self) -> None:
        """The publisher not seen for longest is forgotten."""
        self.patch(discover, "MAX_PUBLISHERS", 3)
        service = self.service()
        for number in (1, 2, 3, 1, 4):
            service._record_found(self.record(bytes([number]) * 32, 1, b""))
        self.assertEqual([found.publisher[0] for found in service.found()], [3, 1, 4])
