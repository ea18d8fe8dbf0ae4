"""
The contract of trackers and topics as applications see them, for real ones on a network in
memory and for the fakes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from twisted.application.service import MultiService
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from dtt import Config, GossipMessage, TopicId, TopicService, Tracker
from dtt.config import GossipSettings
from dtt.errors import (
    AlreadyJoined,
    ContentTooLarge,
    DuplicateContent,
    LocalError,
    NotNeighbor,
    TopicLeft,
    UsageError,
    WrongType,
)
from dtt.identity import PeerKey
from dtt.interfaces import IDHT
from dtt.signed import SignedMessage, SignedTopic
from dtt.testing.fake_discovery import FakeDiscoveryService
from dtt.testing.fake_tracker import FakeTopicService, FakeTracker
from dtt.testing.swarm import VirtualSwarm
from dtt.tracker.discover import DiscoveryService, Found

if TYPE_CHECKING:
    _Base = SynchronousTestCase
else:
    _Base = object

NAME, SECRET = "virtual swarm", b"virtual swarm"
PEER = b"p" * 32

T = TypeVar("T")


class Recorder:
    """Records notifications."""

    def __init__(self) -> None:
        self.reported: list[object] = []

    def neighbor_up(self, peer_id: bytes) -> None:
        self.reported.append("up")

    def neighbor_down(self, peer_id: bytes) -> None:
        self.reported.append("down")

    def message_received(self, message: GossipMessage) -> None:
        self.reported.append(message.content)


class TrackerContract(_Base):
    """
    One member, whose tracker has started and joined a topic, and another one that comes,
    speaks and goes.
    """

    tracker: Tracker
    topic: TopicService

    def up(self) -> None:
        """Let the other member come."""
        raise NotImplementedError

    def down(self) -> None:
        """Let it go."""
        raise NotImplementedError

    def receive(self, content: bytes) -> None:
        """Let it broadcast."""
        raise NotImplementedError

    def wait(self) -> None:
        """Let some time pass."""

    def fired(self, deferred: Deferred[T]) -> T:
        """Return the result of a Deferred that fires soon."""
        self.wait()
        return self.successResultOf(deferred)

    def test_observer(self) -> None:
        """An observer is notified of neighbours and messages, until it ends its subscription."""
        seen, late = Recorder(), Recorder()
        end = self.topic.subscribe(seen)
        self.assertEqual(self.topic.neighbors(), ())
        self.up()
        self.assertEqual(len(self.topic.neighbors()), 1)
        self.topic.subscribe(late)
        self.receive(b"hello")
        end()
        self.down()
        self.assertEqual(seen.reported, ["up", b"hello"])
        self.assertEqual(late.reported, ["up", b"hello", "down"])
        self.assertEqual(self.topic.neighbors(), ())

    def test_when_joined(self) -> None:
        """C{when_joined} fires with the first neighbour; one that is cancelled does not."""
        waiting, cancelled = self.topic.when_joined(), self.topic.when_joined()
        self.assertNoResult(waiting)
        cancelled.cancel()
        self.failureResultOf(cancelled, CancelledError)
        self.up()
        self.successResultOf(waiting)
        self.successResultOf(self.topic.when_joined())

    def test_broadcast(self) -> None:
        """Contents that are too large, or equal to recent ones, are refused."""
        self.up()
        (neighbor,) = self.topic.neighbors()
        self.assertEqual(self.fired(self.topic.broadcast(b"one")), 1)
        self.assertEqual(self.fired(self.topic.broadcast_neighbors(b"two")), 1)
        self.fired(self.topic.send(neighbor, b"two"))
        self.assertRaises(NotNeighbor, self.topic.send, b"q" * 32, b"two")
        self.assertRaises(UsageError, self.topic.send, b"short", b"two")
        self.assertRaises(DuplicateContent, self.topic.send, neighbor, b"one")
        self.assertRaises(DuplicateContent, self.topic.broadcast, b"one")
        self.assertRaises(ContentTooLarge, self.topic.broadcast, bytes(4056))
        self.assertRaises(ContentTooLarge, self.topic.broadcast_neighbors, bytes(4056))
        self.receive(b"three")
        self.assertRaises(DuplicateContent, self.topic.broadcast, b"three")

    def test_leave(self) -> None:
        """After C{leave} nothing else works; the topic can be joined again."""
        waiting, seen = self.topic.when_joined(), Recorder()
        self.topic.subscribe(seen)
        self.fired(self.topic.leave())
        self.fired(self.topic.leave())
        self.failureResultOf(waiting, TopicLeft)
        self.failureResultOf(self.topic.when_joined(), TopicLeft)
        self.assertRaises(TopicLeft, self.topic.broadcast, b"")
        self.assertRaises(TopicLeft, self.topic.broadcast_neighbors, b"")
        self.assertRaises(TopicLeft, self.topic.join_peers, [PEER])
        self.assertRaises(TopicLeft, self.topic.subscribe, seen)
        self.assertEqual(seen.reported, [])
        again = self.tracker.join(NAME, SECRET)
        self.assertIsNot(again, self.topic)
        self.assertRaises(AlreadyJoined, self.tracker.join, NAME, SECRET)

    def test_before_the_start(self) -> None:
        """Before the tracker starts, topics can be joined and left, but not used."""
        tracker = self.new_tracker()
        topic = tracker.join("other")
        self.assertRaises(UsageError, topic.broadcast, b"early")
        self.assertRaises(UsageError, topic.join_peers, [PEER])
        waiting = topic.when_joined()
        self.assertNoResult(waiting)
        self.fired(topic.leave())
        self.failureResultOf(waiting, TopicLeft)

    def new_tracker(self) -> Tracker:
        """Return a tracker that has not started."""
        raise NotImplementedError

    def test_join(self) -> None:
        """A topic has one name or one id; bad names and rotations are refused."""
        self.assertEqual(self.topic.topic_id, TopicId.from_name(NAME))
        self.assertRaises(AlreadyJoined, self.tracker.join, TopicId.from_name(NAME))
        self.assertRaises(UsageError, self.tracker.join, "\ud800")
        self.assertRaises(UsageError, self.tracker.join, "other", b"", lambda *_: b"short")
        other = self.tracker.join("other")
        self.assertNotEqual(other.topic_id, self.topic.topic_id)

    def test_stop(self) -> None:
        """A tracker that has stopped has left its topics, and can't be used again."""
        self.fired(self.tracker.stopService())
        self.failureResultOf(self.topic.when_joined(), TopicLeft)
        self.assertRaises(TopicLeft, self.tracker.join, "other")
        self.assertRaises(LocalError, self.tracker.startService)

    def test_services(self) -> None:
        """A topic is a child of its tracker while it is joined; the tracker takes a parent."""
        self.assertIs(self.topic.parent, self.tracker)
        self.fired(self.topic.leave())
        self.assertIsNone(self.topic.parent)
        parent = MultiService()
        self.new_tracker().setServiceParent(parent)
        self.assertEqual(len(list(parent)), 1)

    def test_attributes(self) -> None:
        """A tracker has a peer id, settings and topics, a topic has counters."""
        self.assertEqual(len(self.tracker.peer_id), 32)
        self.assertIsInstance(self.tracker.config, Config)
        self.assertIsInstance(self.tracker.counters(), dict)
        self.assertIsInstance(self.tracker.ports, dict)
        self.assertIsInstance(self.topic.record_counters(), dict)
        self.assertIsInstance(self.topic.finds(), dict)
        status = self.tracker.status()
        self.assertEqual((status.peer_id, status.state), (self.tracker.peer_id, "running"))
        self.assertEqual([each.topic_id for each in status.topics], [self.topic.topic_id])
        self.assertEqual(self.topic.status_counts(), (0, 0))
        self.assertEqual((self.tracker.topics(), self.tracker.discoveries()), ((self.topic,), ()))
        self.assertEqual(self.topic.counters().get("broadcast_unheard", 0), 0)
        self.assertEqual(self.fired(self.topic.broadcast(b"to nobody")), 0)
        self.assertEqual(self.topic.counters()["broadcast_unheard"], 1)

    def test_sign(self) -> None:
        """What a member signs, all can verify."""
        signature = self.tracker.sign(b"context", b"data")
        self.assertTrue(Tracker.verify(self.tracker.peer_id, b"context", b"data", signature))
        self.assertFalse(Tracker.verify(self.tracker.peer_id, b"other", b"data", signature))

    def test_messages(self) -> None:
        """The asynchronous iterator has what arrives, and ends with the topic."""
        self.up()
        messages = self.topic.messages()
        self.receive(b"one")
        self.assertEqual(self.successResultOf(messages.next()).content, b"one")
        end = messages.next()
        self.fired(self.topic.leave())
        self.failureResultOf(end, StopAsyncIteration)

    def test_signed(self) -> None:
        """What a member signs in a topic has an envelope."""
        signed = SignedTopic(self.topic)
        signed.subscribe(SignedRecorder())
        self.up()
        self.fired(signed.broadcast(b"signed"))

    def test_topic_left(self) -> None:
        """An observer with C{topic_left} is notified of the end."""
        seen = LeavingRecorder()
        self.topic.subscribe(seen)
        self.fired(self.topic.leave())
        self.assertEqual(seen.reported, ["left"])

    def test_arguments(self) -> None:
        """Arguments of a wrong type are refused at the call."""
        for call in (
            lambda: self.tracker.join(5),  # type: ignore[arg-type]
            lambda: self.tracker.join("other", "secret"),  # type: ignore[arg-type]
            lambda: self.topic.broadcast("text"),  # type: ignore[arg-type]
            lambda: self.topic.subscribe(object()),  # type: ignore[arg-type]
            lambda: self.topic.join_peers([b"short"]),
            lambda: self.tracker.observe_events(None),  # type: ignore[arg-type]
        ):
            self.assertRaises(ValueError, call)

    def test_type_before_state(self) -> None:
        """A wrong type is reported as such, even if the call came too early."""
        topic = self.new_tracker().join("other")
        self.assertRaises(WrongType, topic.broadcast, "text")
        self.assertRaises(WrongType, topic.broadcast_neighbors, "text")
        self.assertRaises(WrongType, topic.send, PEER, "text")
        self.assertRaises(WrongType, topic.join_peers, 5)

    def test_start_twice(self) -> None:
        """What runs can't be started again; the error says why, and nothing has changed."""
        error = self.assertRaises(UsageError, self.tracker.startService)
        self.assertIn("has started already", str(error))
        self.assertRaises(UsageError, self.topic.startService)
        service = self.tracker.discover("other")
        self.assertRaises(UsageError, service.startService)
        self.up()
        self.assertEqual(len(self.topic.neighbors()), 1)
        self.fired(service.leave())
        self.assertRaises(UsageError, service.startService)

    def test_unheard(self) -> None:
        """An observer is notified once that nobody receives its messages, until there was a neighbour."""
        seen = LeavingRecorder()
        self.topic.subscribe(seen)
        self.fired(self.topic.broadcast(b"one"))
        self.fired(self.topic.broadcast_neighbors(b"two"))
        self.assertEqual(seen.reported, ["unheard"])
        self.assertEqual(self.topic.counters()["broadcast_unheard"], 2)
        self.up()
        self.down()
        self.fired(self.topic.broadcast(b"three"))
        self.assertEqual(seen.reported, ["unheard", "up", "down", "unheard"])

    def test_join_while_leaving(self) -> None:
        """
        In an observer, a topic that is being left can't be joined again: the error says what to wait for.
        """
        again: list[Deferred[TopicService]] = []

        def join(_: object) -> TopicService:
            return self.tracker.join(NAME, SECRET)

        def leave(_: object) -> None:
            left = self.topic.leave()
            error = self.assertRaises(AlreadyJoined, join, None)
            self.assertIn("wait for the Deferred of leave()", str(error))
            again.append(left.addCallback(join))

        seen: Any = Recorder()
        seen.message_received = leave
        self.topic.subscribe(seen)
        self.up()
        self.receive(b"hello")
        self.assertIsInstance(self.fired(again[0]), TopicService)

    def test_discover(self) -> None:
        """What is published can be changed until the end; its size is checked."""
        found: list[object] = []
        service = self.tracker.discover("other", content=b"one", on_found=found.append)
        self.assertRaises(AlreadyJoined, self.tracker.join, "other")
        self.assertEqual((service.content, service.found(), found), (b"one", (), []))
        service.publish(b"two")
        self.assertEqual(service.content, b"two")
        self.assertRaises(ContentTooLarge, service.publish, bytes(713))
        results = service.results()
        end = results.next()
        self.fired(service.leave())
        self.fired(service.leave())
        self.failureResultOf(end, StopAsyncIteration)
        self.assertRaises(TopicLeft, service.publish, b"three")
        self.assertEqual(self.tracker.discoveries(), ())


class SignedRecorder:
    """Hears signed messages."""

    def message_received(self, message: SignedMessage) -> None:
        """Do nothing."""


class LeavingRecorder(Recorder):
    """Records the end, too."""

    def topic_left(self) -> None:
        self.reported.append("left")

    def broadcast_unheard(self) -> None:
        self.reported.append("unheard")

    def link_broken(self, peer_id: bytes, reason: str, unconfirmed: int) -> None:
        self.reported.append(("broken", reason, unconfirmed))


class RealTests(TrackerContract, SynchronousTestCase):
    """
    Real trackers.
    """

    def setUp(self) -> None:
        self.swarm = VirtualSwarm(members=1, seed=3, dht_nodes=4)
        self.addCleanup(self.swarm.close)
        self.tracker, self.topic = self.swarm.trackers[0], self.swarm.topics[0]
        self.swarm.advance(1)
        self.count = 0

    def up(self) -> None:
        number = self.swarm.add()
        assert number == 1
        self.assertTrue(self.swarm.until(self.swarm.joined))

    def down(self) -> None:
        self.swarm.stop(1)

    def receive(self, content: bytes) -> None:
        self.swarm.topics[1].broadcast(content)
        self.swarm.advance(1)

    def wait(self) -> None:
        self.swarm.advance(6)

    def new_tracker(self) -> Tracker:
        return Tracker(self.swarm.network.reactor("10.9.0.1"), Config(transport="streams"))


class FakeTests(TrackerContract, SynchronousTestCase):
    """
    Fakes.
    """

    tracker: FakeTracker
    topic: FakeTopicService

    def setUp(self) -> None:
        self.tracker = FakeTracker()
        self.tracker.startService()
        self.topic = self.tracker.join(NAME, SECRET)

    def up(self) -> None:
        self.topic.up(PEER)

    def down(self) -> None:
        self.topic.down(PEER)

    def receive(self, content: bytes) -> None:
        self.topic.receive(content, PEER)

    def new_tracker(self) -> Tracker:
        return FakeTracker(key=PeerKey.from_seed(b"o" * 32))

    def test_controls(self) -> None:
        """A test sees what the application has sent, and whom it has asked for."""
        self.assertIs(self.tracker.topic(NAME), self.topic)
        self.assertEqual(self.topic.secret, SECRET)
        self.up()
        self.topic.broadcast(b"one")
        self.topic.broadcast_neighbors(b"two")
        self.topic.join_peers([PEER])
        self.assertEqual((self.topic.sent, self.topic.asked_for), ([b"one", b"two"], [PEER]))
        self.assertRaises(KeyError, self.tracker.topic, "other")

    def test_impossible(self) -> None:
        """What can't happen in a swarm is refused, instead of a test that means nothing."""
        self.assertRaises(WrongType, self.topic.receive, "text", PEER)
        self.assertRaises(ContentTooLarge, self.topic.receive, bytes(4056), PEER)
        self.assertRaises(ContentTooLarge, self.topic.receive_directly, bytes(4056), PEER)
        self.up()
        self.assertRaises(UsageError, self.topic.up, PEER)
        self.receive(b"once")
        self.assertRaises(DuplicateContent, self.topic.receive, b"once", PEER)
        self.tracker.clock.advance(90)
        self.receive(b"once")
        self.down()
        early = FakeTracker().join("early")
        self.assertRaises(UsageError, early.up, PEER)
        self.assertRaises(UsageError, early.receive, b"", PEER)
        self.topic.leave()
        self.assertRaises(TopicLeft, self.topic.up, PEER)
        self.assertRaises(TopicLeft, self.topic.receive, b"", PEER)
        self.assertRaises(TopicLeft, self.topic.receive_directly, b"", PEER)

    def test_ids(self) -> None:
        """Peers that can't exist, and neighbours that have not come, are refused."""
        self.assertRaises(UsageError, self.topic.up, b"short")
        self.assertRaises(UsageError, self.topic.receive, b"", b"short")
        self.assertRaises(UsageError, self.topic.down, PEER)

    def test_directly(self) -> None:
        """A message from a neighbour alone has that scope; what goes to it alone is seen."""
        self.up()
        messages = self.topic.messages()
        self.topic.receive_directly(b"hello", PEER)
        self.assertEqual(self.successResultOf(messages.next()), (b"hello", "neighbors", PEER, 0))
        self.topic.send(PEER, b"answer")
        self.assertEqual(self.topic.sent_to, [(PEER, b"answer")])

    def test_accept(self) -> None:
        """Who is not accepted does not become a neighbour."""
        topic = self.tracker.join("other", accept=lambda peer: peer != PEER)
        topic.up(PEER)
        topic.up(b"q" * 32)
        self.assertEqual(topic.neighbors(), (b"q" * 32,))
        self.assertEqual(topic.counters(), {"peers_refused": 1})

    def test_accept_later(self) -> None:
        """C{accept} is not called for a refused member for 10 minutes; then it may be accepted."""
        asked: list[bytes] = []

        def accept(peer: bytes) -> bool:
            asked.append(peer)
            return len(asked) > 1

        topic = self.tracker.join("other", accept=accept)
        for _ in range(2):
            topic.up(PEER)
            topic.join_peers([PEER])
        self.assertEqual((topic.neighbors(), asked), ((), [PEER]))
        self.tracker.clock.advance(601)
        topic.up(PEER)
        self.assertEqual((topic.neighbors(), asked), ((PEER,), [PEER, PEER]))

    def test_accept_fails(self) -> None:
        """An C{accept} that raises, or does not return a bool, refuses; this is logged."""
        answers: Any = {b"a" * 32: "yes", b"b" * 32: None}
        topic = self.tracker.join("other", accept=lambda peer: answers[peer])
        for peer in (*answers, PEER):
            topic.up(peer)
        self.assertEqual(topic.neighbors(), ())
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 2)
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_accept_leaves(self) -> None:
        """C{accept} may leave the topic."""
        topic = self.tracker.join("other", accept=lambda peer: not topic.leave())
        topic.up(PEER)
        self.flushLoggedErrors()
        self.assertEqual((topic.neighbors(), self.tracker.topics()), ((), (self.topic,)))

    def test_break_link(self) -> None:
        """A broken connection is reported with what may be lost, then the neighbour is gone."""
        seen = LeavingRecorder()
        self.topic.subscribe(seen)
        self.up()
        self.topic.break_link(PEER, "timeout", unconfirmed=2)
        self.assertEqual(seen.reported, ["up", ("broken", "timeout", 2), "down"])
        self.assertEqual(self.topic.counters(), {"links_broken": 1, "unconfirmed": 2})
        self.assertRaises(UsageError, self.topic.break_link, PEER)

    def test_max_message_size(self) -> None:
        """The setting C{max_message_size} counts."""
        tracker = FakeTracker(Config(gossip=GossipSettings(max_message_size=65536)))
        tracker.startService()
        topic = tracker.join("other")
        topic.up(PEER)
        self.successResultOf(topic.broadcast(bytes(60_000)))

    def test_wrong_parts(self) -> None:
        """Settings and a key of a wrong type are refused."""
        wrong: Any = "wrong"
        self.assertRaises(WrongType, FakeTracker, wrong)
        self.assertRaises(WrongType, FakeTracker, None, wrong)

    def test_dht(self) -> None:
        """The tracker has a DHT, in memory."""
        self.assertTrue(verifyObject(IDHT, self.tracker.dht))
        self.successResultOf(self.tracker.dht.get_peers(bytes(20)))

    def test_find(self) -> None:
        """The test decides whom the application finds."""
        found: list[Found] = []
        service = self.tracker.discover("other", on_found=found.append)
        results = service.results()
        self.assertIs(self.tracker.discovery("other"), service)
        for content in (b"one", b"one", b"two"):
            service.find(PEER, content)
        self.assertEqual([each.content for each in found], [b"one", b"two"])
        self.assertEqual(self.successResultOf(results.next()).publisher, PEER)
        self.assertEqual([each.content for each in service.found()], [b"two"])

    def test_complete(self) -> None:
        """
        The fakes replace every public method of the real classes, except for those that work
        with what a fake has: none reaches for a part that it does not have.
        """
        work = {"topics", "discoveries", "sign", "verify", "content", "found", "subscribe", "results"}
        work.add("is_leaving")
        for real, fake in (
            (Tracker, FakeTracker),
            (TopicService, FakeTopicService),
            (DiscoveryService, FakeDiscoveryService),
        ):
            ours = [each for each in real.__mro__ if each.__module__.startswith("dtt.")]
            public = {name for each in ours for name in vars(each) if name[0] != "_"}
            self.assertEqual(public - set(vars(fake)) - work, set(), fake)
