"""
Tests for events, as JSON and as text.
"""

from __future__ import annotations

from typing import Any

from attrs import fields
from twisted.trial.unittest import SynchronousTestCase

from dtt import events
from dtt.events import EVENTS, Event, to_json

TOPIC = b"\x01" * 32
PEER = b"\x02" * 32

SAMPLES: tuple[tuple[Event, dict[str, Any]], ...] = (
    (
        events.NodeStarted(PEER, 6881, ("streams:127.0.0.1:1",)),
        {
            "event": "node.started",
            "peer_id": PEER.hex(),
            "dht_port": 6881,
            "listen": ("streams:127.0.0.1:1",),
        },
    ),
    (events.DHTReady(8), {"event": "dht.ready", "nodes": 8}),
    (events.DHTNodes(80), {"event": "dht.nodes", "nodes": 80}),
    (
        events.AddressesPublished("dht", 2),
        {"event": "addresses.published", "store": "dht", "addresses": 2},
    ),
    (
        events.AddressesMissing("this machine has no default route"),
        {"event": "addresses.missing", "reason": "this machine has no default route"},
    ),
    (
        events.ClockSkewed(-600, 3, 0),
        {"event": "clock.skewed", "seconds": -600, "members": 3, "since": 0},
    ),
    (
        events.NatDetected("endpoint-independent", "203.0.113.7:4433", 3),
        {"event": "nat.detected", "kind": "endpoint-independent", "mapped": "203.0.113.7:4433", "voters": 3},
    ),
    (
        events.PortMapped("UDP", 6881, "203.0.113.7:6881", "PCP", True),
        {
            "event": "port.mapped",
            "protocol": "UDP",
            "port": 6881,
            "outside": "203.0.113.7:6881",
            "method": "PCP",
            "listed": True,
        },
    ),
    (
        events.LimitReached("connections", 512),
        {"event": "limit.reached", "what": "connections", "limit": 512},
    ),
    (
        events.PeerRefused(PEER, "too many connections", 3),
        {"event": "peer.refused", "peer": PEER.hex(), "reason": "too many connections", "omitted": 3},
    ),
    (
        events.PeerPunched(PEER, 0.312, "203.0.113.7:4433"),
        {"event": "peer.punched", "peer": PEER.hex(), "seconds": 0.312, "path": "203.0.113.7:4433"},
    ),
    (
        events.RecordPublished(TOPIC, 7, 2),
        {
            "event": "record.published",
            "topic": TOPIC.hex(),
            "minute": 7,
            "stored": 2,
            "channel": "record_slot",
        },
    ),
    (
        events.RecordFound(TOPIC, 7, PEER, "fetcher"),
        {
            "event": "record.found",
            "topic": TOPIC.hex(),
            "minute": 7,
            "publisher": PEER.hex(),
            "source": "fetcher",
            "channel": "record_slot",
        },
    ),
    (
        events.RecordsUnreadable(TOPIC, 7, 3),
        {"event": "records.unreadable", "topic": TOPIC.hex(), "minute": 7, "records": 3},
    ),
    (
        events.SlotContested(TOPIC, 7, 30, 32),
        {"event": "slot.contested", "topic": TOPIC.hex(), "minute": 7, "junk": 30, "values": 32},
    ),
    (events.PeerDialled(TOPIC, PEER), {"event": "peer.dialled", "topic": TOPIC.hex(), "peer": PEER.hex()}),
    (
        events.PeerFailed(TOPIC, PEER, "timed out", ("streams global", "quic private")),
        {
            "event": "peer.failed",
            "topic": TOPIC.hex(),
            "peer": PEER.hex(),
            "reason": "timed out",
            "tried": ("streams global", "quic private"),
        },
    ),
    (events.NeighborUp(TOPIC, PEER), {"event": "neighbor.up", "topic": TOPIC.hex(), "peer": PEER.hex()}),
    (events.NeighborDown(TOPIC, PEER), {"event": "neighbor.down", "topic": TOPIC.hex(), "peer": PEER.hex()}),
    (
        events.LinkBroken(TOPIC, PEER, "silent", 3),
        {
            "event": "link.broken",
            "topic": TOPIC.hex(),
            "peer": PEER.hex(),
            "reason": "silent",
            "unconfirmed": 3,
        },
    ),
    (
        events.MembersUnreachable(TOPIC, 5, "timed out"),
        {"event": "members.unreachable", "topic": TOPIC.hex(), "members": 5, "reason": "timed out"},
    ),
    (events.BroadcastUnheard(TOPIC), {"event": "broadcast.unheard", "topic": TOPIC.hex()}),
    (events.TopicJoined(TOPIC), {"event": "topic.joined", "topic": TOPIC.hex()}),
    (
        events.TopicAlone(TOPIC, 600, "nobody"),
        {"event": "topic.alone", "topic": TOPIC.hex(), "seconds": 600, "reason": "nobody"},
    ),
    (
        events.Message(TOPIC, PEER, "swarm", "gr\u00fc\u00df".encode()),
        {
            "event": "message",
            "topic": TOPIC.hex(),
            "delivered_from": PEER.hex(),
            "scope": "swarm",
            "content": "gr\u00fc\u00df",
        },
    ),
    (
        events.MessageRefused(TOPIC, PEER, "time", PEER, -90.5, 2),
        {
            "event": "message.refused",
            "topic": TOPIC.hex(),
            "delivered_from": PEER.hex(),
            "reason": "time",
            "author": PEER.hex(),
            "ahead": -90.5,
            "omitted": 2,
        },
    ),
)


class EventTests(SynchronousTestCase):
    """
    Tests for L{dtt.events}.
    """

    def test_json(self) -> None:
        """
        Each event has exactly the documented fields.
        """
        for event, expected in SAMPLES:
            self.assertEqual(to_json(event, 1.5), {**expected, "time": 1.5})

    def test_every_event_is_listed(self) -> None:
        """
        C{EVENTS} and the samples above contain all events, in the same order.
        """
        self.assertEqual(EVENTS, tuple(type(event) for event, _ in SAMPLES))
        self.assertEqual(len({event.name for event in EVENTS}), len(EVENTS))

    def test_content_that_is_no_text(self) -> None:
        """
        Bytes that are not UTF-8 are shown in hex, under another name.
        """
        value = to_json(events.Message(TOPIC, PEER, "neighbors", b"\xff\x00"), 0)
        self.assertEqual(value["content_hex"], "ff00")
        self.assertNotIn("content", value)

    def test_text_never_shows_contents(self) -> None:
        """
        Every event is a sentence; that of a message only shows its size.
        """
        for event, _ in SAMPLES:
            self.assertTrue(event.text().endswith("."), event.text())
        self.assertNotIn("secret words", events.Message(TOPIC, PEER, "swarm", b"secret words").text())

    def test_numbers(self) -> None:
        """
        One thing is not several things; times are in minutes or hours.
        """
        for event, expected in (
            (events.DHTReady(1), "The DHT answers; 1 node known."),
            (events.DHTNodes(1), "1 DHT node known."),
            (
                events.RecordsUnreadable(TOPIC, 7, 3),
                "3 records in this slot that our secret does not decrypt.",
            ),
            (
                events.RecordsUnreadable(TOPIC, 7, 1),
                "1 record in this slot that our secret does not decrypt.",
            ),
            (events.RecordPublished(TOPIC, 7, 1), "Our record for minute 7 is stored on 1 DHT node."),
            (
                events.RecordPublished(TOPIC, 7, 2, "sealed_slot"),
                "Our record for minute 7 is stored on 2 DHT nodes in the sealed slot.",
            ),
            (events.TopicAlone(TOPIC, 60, "why"), "No neighbour for 1 minute: why."),
            (events.TopicAlone(TOPIC, 3600, "why"), "No neighbour for 60 minutes: why."),
            (events.TopicAlone(TOPIC, 7200, "why"), "No neighbour for 2 hours: why."),
        ):
            self.assertTrue(event.text().startswith(expected), event.text())

    def test_events_are_frozen(self) -> None:
        """
        Observers can't change an event.
        """
        for event, _ in SAMPLES:
            for field in fields(type(event)):
                self.assertRaises(AttributeError, setattr, event, field.name, None)
