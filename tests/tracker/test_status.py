"""
Tests for L{dtt.tracker.status} and what makes it: snapshots of whole trackers on in-memory
machines.
"""

from __future__ import annotations

import json

from dtt.events import Event
from dtt.records.topic import TopicId
from dtt.tracker.status import as_json
from dtt.tracker.traffic import INTERVAL
from tests.tracker.case import TrackerTestCase

TOPIC = TopicId.from_name("garden party")


class SnapshotTests(TrackerTestCase):
    """
    Tests for L{Tracker.status<dtt.tracker.tracker.Tracker.status>}.
    """

    def test_before_start(self) -> None:
        """A snapshot is possible before the tracker has started: nothing is known, and nothing fails."""
        tracker = self.tracker(start=False)
        tracker.join("garden party", b"secret")
        status = tracker.status()
        self.assertEqual((status.state, status.started, status.uptime), ("not running", None, 0.0))
        self.assertEqual(status.peer_id, tracker.peer_id)
        self.assertFalse(status.dht.ready)
        [topic] = status.topics
        self.assertEqual((topic.state, topic.doing, topic.reason), ("stopped", "has not started", None))
        self.assertEqual((topic.label, topic.topic_id), ("garden party", bytes(TOPIC)))

    def test_alone(self) -> None:
        """A member without others says that it searches, since when, and why it is alone."""
        tracker = self.tracker()
        tracker.join("garden party", b"secret")
        began = self.clock.seconds()
        self.net.advance(130)
        status = tracker.status()
        self.assertEqual(status.state, "running")
        self.assertTrue(status.dht.ready)
        self.assertGreater(status.dht.nodes, 0)
        [topic] = status.topics
        self.assertEqual(topic.state, "searching")
        self.assertEqual(topic.since, began)
        self.assertRegex(topic.doing, r"^searches: \d+ reads in 2 minutes; our record was put")
        assert topic.reason is not None
        self.assertIn("no record of another member", topic.reason)
        self.assertTrue(topic.has_secret)
        self.assertGreater(topic.records.stored_copies, 0)
        self.assertGreater(status.dht.sent_rate, 0)
        self.assertGreater(status.dht.received_rate, 0)
        self.assertEqual(len(status.traffic), 130 // INTERVAL)

    def test_joined(self) -> None:
        """
        Two members that have found each other show the neighbour, how it is reached, the channel that
        found it, and the messages.
        """
        first, second = self.tracker(1), self.tracker(2)
        topics = [each.join("garden party", b"secret") for each in (first, second)]
        self.net.advance(20)
        topics[0].broadcast(b"hello")
        self.net.advance(20)
        ours, theirs = first.status(), second.status()
        [topic], [other] = ours.topics, theirs.topics
        self.assertEqual((topic.state, topic.reason), ("joined", None))
        [neighbor] = topic.neighbors
        self.assertEqual(neighbor.peer_id, second.peer_id)
        self.assertEqual(neighbor.transport, "streams")
        assert neighbor.address is not None
        self.assertTrue(neighbor.address.startswith("10.0.0.2:"), neighbor.address)
        self.assertEqual((topic.messages_sent, topic.messages_received), (1, 0))
        self.assertEqual((other.messages_sent, other.messages_received), (0, 1))
        self.assertIn("record_slot", {n.found_by for t in (topic, other) for n in t.neighbors})
        finds = {find.channel: find for t in (topic, other) for find in t.finds}
        self.assertEqual((finds["record_slot"].found, finds["record_slot"].joined), (1, 1))
        # By each channel that has found its record.
        self.assertEqual({r.publisher for r in topic.records.recent}, {second.peer_id})
        self.assertEqual(ours.connections, 1)
        self.assertTrue(ours.was_reached or theirs.was_reached)
        self.assertEqual(sum(sample.messages_sent for sample in ours.traffic), 1)
        self.assertIn("streams", ours.counters)

    def test_other_secret(self) -> None:
        """Records that our secret does not decrypt are shown as such, and the reason names them."""
        first, second = self.tracker(1), self.tracker(2)
        first.join("garden party", b"secret")
        second.join("garden party", b"another")
        self.net.advance(90)
        [topic] = first.status().topics
        self.assertGreater(topic.records.unreadable, 0)
        self.assertIn("our secret does not decrypt", topic.reason or "")
        self.assertEqual(topic.records.found, 0)

    def test_no_secret(self) -> None:
        """A topic without a secret is shown as such."""
        tracker = self.tracker()
        tracker.join("garden party")
        self.assertFalse(tracker.status().topics[0].has_secret)

    def test_events(self) -> None:
        """The last events are shown, with the topic; observers get each with its time, until they end."""
        tracker = self.tracker(start=False)
        seen: list[tuple[Event, float]] = []
        end = tracker.observe_events(lambda event, time: seen.append((event, time)))
        tracker.join("garden party", b"secret")
        tracker.privilegedStartService()
        tracker.startService()
        self.net.advance(5)
        names = [event.name for event in tracker.status().events]
        self.assertEqual(names[0], "node.started")
        self.assertIn("dht.ready", names)
        self.assertEqual([event.name for event, _ in seen], names)
        self.assertTrue(all(time <= self.clock.seconds() for _, time in seen))
        end()
        end()
        count = len(seen)
        self.net.advance(60)
        self.assertEqual(len(seen), count)

    def test_json(self) -> None:
        """The JSON form can be written as JSON, has hex for bytes, and contains no secret."""
        tracker = self.tracker()
        tracker.join("garden party", b"very secret")
        self.net.advance(60)
        value = as_json(tracker.status())
        text = json.dumps(value)
        self.assertEqual(value["peer_id"], tracker.peer_id.hex())
        self.assertEqual(value["topics"][0]["topic_id"], TOPIC.hex())
        self.assertNotIn("very secret", text)
        self.assertNotIn(b"very secret".hex(), text)

    def test_after_stop(self) -> None:
        """A tracker that has stopped says so."""
        tracker = self.tracker()
        tracker.join("garden party", b"secret")
        self.net.advance(5)
        tracker.stopService()
        self.net.advance(5)
        status = tracker.status()
        self.assertEqual((status.state, status.topics), ("stopped", ()))
