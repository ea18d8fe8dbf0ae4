"""
Tests for L{dtt.tracker.tracker}: what a tracker does from its start to its stop.  Others are in
L{tests.tracker.test_meeting}, L{tests.tracker.test_reachable} and L{tests.tracker.test_restarts}.
"""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

from twisted.application.service import MultiService
from twisted.logger import LogLevel, formatEvent, globalLogPublisher

from dtt.config import BootstrapConfig
from dtt.dht.node import DHTNode
from dtt.errors import AlreadyJoined, LocalError, TopicLeft, UsageError
from dtt.events import (
    AddressesPublished,
    BroadcastUnheard,
    DHTNodes,
    DHTReady,
    Event,
    LimitReached,
    LinkBroken,
    NodeStarted,
    RecordFound,
    RecordPublished,
    TopicAlone,
    TopicJoined,
)
from dtt.records.topic import TopicId
from dtt.tracker.tracker import log_event
from tests.sweeps import sized
from tests.tracker.case import TrackerTestCase


class LifeTests(TrackerTestCase):
    """
    Start and stop.
    """

    def test_events(self) -> None:
        """Events report the member's id and addresses, and that the DHT has answered."""
        tracker = self.tracker()
        ports = self.ports()
        self.assertEqual(
            self.events[tracker],
            [NodeStarted(tracker.peer_id, ports["udp"], (f"streams:10.0.0.1:{ports['tcp']}",))],
        )
        self.net.advance(0.1)
        self.assertEqual(len(self.of(tracker, DHTReady)), 1)
        self.stop(tracker)

    def test_sink_that_raises(self) -> None:
        """An exception in an event callback is logged and has no other effect."""
        tracker, other = self.tracker(start=False), self.tracker(2)

        def fail(event: Event) -> None:
            raise ZeroDivisionError

        tracker._on_event = fail
        topic = tracker.join("x")
        other.join("x")
        tracker.privilegedStartService()
        tracker.startService()
        self.net.advance(1)
        self.assertEqual(topic.neighbors(), (other.peer_id,))
        self.assertGreater(len(self.flushLoggedErrors(ZeroDivisionError)), 3)
        self.stop(tracker, other)
        self.flushLoggedErrors(ZeroDivisionError)
        self.assert_nothing_left()

    def test_refused_peers_and_lost_messages(self) -> None:
        """
        The limit of connections is a setting; who is refused, a broken connection and
        what is broadcast to nobody are events, and are counted.
        """
        tracker = self.tracker(max_connections=8)
        topics = [tracker.join(str(number)) for number in range(9)]
        self.successResultOf(topics[0].broadcast(b"nobody is there"))
        others = [self.tracker(2 + number) for number in range(9)]
        for number, other in enumerate(others):
            other.join(str(number))
        self.net.advance(10)
        self.assertEqual(sum(bool(topic.neighbors()) for topic in topics), 8)
        self.assertEqual(self.of(tracker, LimitReached), [LimitReached("connections", 8)])
        (unheard,) = self.of(tracker, BroadcastUnheard)
        self.assertEqual(unheard, BroadcastUnheard(topics[0].topic_id))
        met = next(number for number, topic in enumerate(topics) if topic.neighbors())
        topics[met].broadcast(b"lost")
        transport: Any = others[met]._listeners.transport
        for connection in tuple(transport.connections):
            connection.abort("test")
        self.net.advance(1)
        (broken,) = self.of(tracker, LinkBroken)
        self.assertEqual((broken.topic, broken.peer), (topics[met].topic_id, others[met].peer_id))
        self.assertEqual(broken.unconfirmed, 1)
        self.assertEqual(topics[met].counters()["unconfirmed"], 1)
        self.assertEqual(topics[0].counters()["broadcast_unheard"], 1)
        self.stop(tracker, *others)
        self.flushWarnings()

    def test_log_event(self) -> None:
        """By default an event is a line in the log, with the event object attached."""
        seen: list[Any] = []
        observe: Any = seen.append
        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        log_event(DHTReady(5))
        self.assertEqual((seen[0]["dtt_event"], seen[0]["dtt_event_text"]), (DHTReady(5), DHTReady(5).text()))
        for topic, label in (
            (TopicId.from_name("garden party"), "garden party"),
            (b"t" * 32, "hex:7474747474..."),
        ):
            log_event(TopicJoined(topic))
            self.assertEqual(formatEvent(seen[-1]), f"[{label}] Joined the swarm.")
            self.assertIs(seen[-1]["log_level"], LogLevel.info)
        log_event(TopicAlone(b"t" * 32, 60, "why"))
        self.assertIs(seen[-1]["log_level"], LogLevel.warn)

    def test_known_nodes(self) -> None:
        """The number of known nodes is reported again when it has changed much."""
        tracker = self.tracker()
        self.net.advance(0.2)
        self.assertEqual(self.of(tracker, DHTNodes), [])
        known = 100

        class Node:
            """A node that knows as many others as the test says."""

            on_loopback = False

            def bound_addresses(self) -> list[Any]:
                return []

            mapping_votes = bound_addresses

            def statistics(self) -> dict[str, float]:
                return {}

            @property
            def known(self) -> int:
                return known

        dht = tracker.dht
        tracker.dht = Node()  # type: ignore[assignment]
        for known in (100, 150, 199, 250, 126, 124, 60, 30, 0, 0, 1):  # noqa: B007
            self.net.advance(15)
        tracker.dht = dht
        self.assertEqual([event.nodes for event in self.of(tracker, DHTNodes)], [100, 250, 124, 60, 0, 1])
        self.stop(tracker)
        self.assert_nothing_left()

    def test_repr(self) -> None:
        """A tracker is shown with its id, its number of topics and its state, and without secrets."""
        tracker = self.tracker(start=False)
        prefix = f"<Tracker {tracker.peer_id.hex()[:10]}: "
        self.assertEqual(repr(tracker), f"{prefix}0 topics, not running>")
        tracker.join("x", secret=b"hidden")
        tracker.privilegedStartService()
        tracker.startService()
        self.assertEqual(repr(tracker), f"{prefix}1 topic, running>")
        self.stop(tracker)
        self.assertEqual(repr(tracker), f"{prefix}0 topics, stopped>")

    def test_without_privileged_start(self) -> None:
        """startService also binds ports, if the parent is already running."""
        parent = MultiService()
        parent.startService()
        tracker = self.tracker(start=False)
        tracker.setServiceParent(parent)
        self.assertEqual(set(self.ports()), {"udp", "tcp"})
        tracker.disownServiceParent()
        self.net.advance(2)
        self.assert_nothing_left()

    def test_stop_without_start(self) -> None:
        """A tracker that never started can be stopped; its topics are left."""
        tracker = self.tracker(start=False)
        joined = tracker.join("x").when_joined()
        self.stop(tracker)
        self.failureResultOf(joined, TopicLeft)
        self.assert_nothing_left()

    def test_stop_after_bind(self) -> None:
        """A tracker that is bound but not started frees its ports."""
        tracker = self.tracker(start=False)
        tracker.privilegedStartService()
        self.assertEqual(len(self.ports()), 2)
        self.stop(tracker)
        self.assert_nothing_left()

    def test_stop_while_alone(self) -> None:
        """A tracker can be stopped during reads, puts and waits."""
        for seconds in (0.0, 0.005, 0.03, 0.08, 0.2, 3.0):
            tracker = self.tracker()
            joined = tracker.join("x").when_joined()
            self.net.advance(seconds)
            self.stop(tracker)
            self.failureResultOf(joined, TopicLeft)
        self.assert_nothing_left()

    def test_stop_within_two_seconds(self) -> None:
        """Stopping takes at most two seconds, even if a neighbour is silent and does not read."""
        one, two = self.tracker(1), self.tracker(2)
        topic = one.join("x")
        two.join("x")
        self.net.advance(1)
        self.assertEqual(len(topic.neighbors()), 1)
        self.net.tcp.silent.add("10.0.0.2")
        self.stop(one, within=2.0)
        self.assertEqual(self.ports(1), {})

    def test_no_start_after_stop(self) -> None:
        """A stopped tracker can neither start nor join a topic."""
        tracker = self.tracker()
        self.stop(tracker)
        with self.assertRaises(LocalError):
            tracker.startService()
        with self.assertRaises(TopicLeft):
            tracker.join("x")

    def test_cycles(self) -> None:
        """Many cycles of start, join, leave and stop leave nothing behind."""
        for number in range(sized(10, 30)):
            tracker = self.tracker(1 + number % 2)
            topic = tracker.join("x")
            self.net.advance(0.1 * (number % 5))
            topic.leave()
            self.stop(tracker)
        self.assert_nothing_left()

    def test_no_publish(self) -> None:
        """With a cap of 0 it joins others, but publishes nothing."""
        shy = self.tracker(1, bootstrap=BootstrapConfig(max_bootstrap_records=0))
        other = self.tracker(2)
        topic = shy.join("x")
        other.join("x")
        self.net.advance(2)
        self.assertEqual(topic.neighbors(), (other.peer_id,))
        self.assertEqual((self.of(shy, RecordPublished), self.of(other, RecordFound)), ([], []))
        self.stop(shy, other)

    def test_upload_rate(self) -> None:
        """
        Its DHT node's replies respect the configured upload limit.
        """
        with patch("dtt.tracker.own_dht.DHTNode", side_effect=DHTNode) as made:
            self.tracker(start=False, dht={"upload_rate": 50_000.0})
        self.assertEqual(made.call_args.kwargs["upload_rate"], 50_000.0)

    def test_external_host(self) -> None:
        """When other nodes report a new external address, neighbours and the DHT are informed."""
        one, two = self.tracker(1, listen=("0.0.0.0", 0)), self.tracker(2)
        one.join("x")
        two.join("x")
        self.net.advance(10)
        self.assertEqual(len(self.of(one, AddressesPublished)), 1)
        before = one._listeners.transport.addresses()
        one._listeners.set_external_host("198.18.7.7")
        self.assertEqual(str(one._listeners.transport.addresses()[0]).partition(":")[0], "198.18.7.7")
        self.assertNotEqual(one._listeners.transport.addresses(), before)
        topic = next(iter(one._topics.values()))
        self.assertIn(b"\xc6\x12\x07\x07", topic._gossip._data or b"")
        self.net.advance(5)
        self.assertEqual(len(self.of(one, AddressesPublished)), 2)
        self.stop(one, two)


class JoinTests(TrackerTestCase):
    """
    Tests for L{Tracker.join}.
    """

    dht_nodes = 1

    def test_names(self) -> None:
        """Text, its bytes and its hash mean the same topic; 32 bytes are a name."""
        tracker = self.tracker(start=False)
        topic = tracker.join("größe")
        for same in ("größe".encode(), TopicId.from_name("größe")):
            with self.assertRaises(AlreadyJoined):
                tracker.join(same)
        self.assertNotEqual(tracker.join(bytes(topic.topic_id)).topic_id, topic.topic_id)

    def test_join_again_after_leave(self) -> None:
        """A topic that was left can be joined again."""
        tracker = self.tracker(start=False)
        tracker.join("x").leave()
        again = tracker.join("x")
        with self.assertRaises(AlreadyJoined):
            tracker.join("x")
        self.assertIsNotNone(again.parent)

    def test_bad(self) -> None:
        """
        A name that is not text and a rotation that does not return 32 bytes are refused;
        nothing is joined.
        """
        tracker = self.tracker(start=False)
        with self.assertRaises(UsageError):
            tracker.join("\ud800")
        with self.assertRaises(UsageError):
            tracker.join("x", rotation=lambda *args: b"short")
        tracker.join("x")

    def test_rotation(self) -> None:
        """Members with different rotations do not find each other; with the same one they do."""

        def rotation(topic_id: bytes, minute: int, secret_hash: bytes) -> bytes:
            return bytes(a ^ b for a, b in zip(topic_id, secret_hash, strict=True))

        trackers = [self.tracker(number) for number in (1, 2, 3)]
        topics = [
            trackers[0].join("x", b"s", rotation),
            trackers[1].join("x", b"s"),
            trackers[2].join("x", b"s", rotation),
        ]
        self.net.advance(3)
        self.assertEqual(topics[1].neighbors(), ())
        self.assertEqual(topics[0].neighbors(), (trackers[2].peer_id,))
        self.stop(*trackers)
