"""
Tests for events, as JSON and as text.
"""

from __future__ import annotations

import io
import json
from typing import Any

from attrs import fields
from twisted.logger import ILogObserver, Logger, LogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from dtt import events
from dtt.app.eventlog import JSONLogObserver, json_line
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
    (
        events.AddressesPublished("dht", 2),
        {"event": "addresses.published", "store": "dht", "addresses": 2},
    ),
    (
        events.RecordPublished(TOPIC, 7, 2),
        {"event": "record.published", "topic": TOPIC.hex(), "minute": 7, "stored": 2},
    ),
    (
        events.RecordFound(TOPIC, 7, PEER, "fetcher"),
        {
            "event": "record.found",
            "topic": TOPIC.hex(),
            "minute": 7,
            "publisher": PEER.hex(),
            "source": "fetcher",
        },
    ),
    (events.PeerDialled(TOPIC, PEER), {"event": "peer.dialled", "topic": TOPIC.hex(), "peer": PEER.hex()}),
    (
        events.PeerFailed(TOPIC, PEER, "timed out"),
        {"event": "peer.failed", "topic": TOPIC.hex(), "peer": PEER.hex(), "reason": "timed out"},
    ),
    (events.NeighborUp(TOPIC, PEER), {"event": "neighbor.up", "topic": TOPIC.hex(), "peer": PEER.hex()}),
    (events.NeighborDown(TOPIC, PEER), {"event": "neighbor.down", "topic": TOPIC.hex(), "peer": PEER.hex()}),
    (events.TopicJoined(TOPIC), {"event": "topic.joined", "topic": TOPIC.hex()}),
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

    def test_events_are_frozen(self) -> None:
        """
        Observers can't change an event.
        """
        for event, _ in SAMPLES:
            for field in fields(type(event)):
                self.assertRaises(AttributeError, setattr, event, field.name, None)


class JSONLogTests(SynchronousTestCase):
    """
    Tests for L{JSONLogObserver}.
    """

    def setUp(self) -> None:
        """
        Make a logger with readable output.
        """
        self.file = io.StringIO()
        observer = JSONLogObserver(self.file)
        verifyObject(ILogObserver, observer)
        self.log = Logger("some.where", observer=LogPublisher(observer))

    def line(self) -> dict[str, Any]:
        """
        Return the one line that was written.
        """
        (line,) = self.file.getvalue().splitlines()
        value: dict[str, Any] = json.loads(line)
        return value

    def test_our_events(self) -> None:
        """
        An event is logged as the line that C{dtt chat --json} prints.
        """
        self.log.info("words", dtt_event=events.DHTReady(3))
        line = self.line()
        self.assertEqual(json.loads(json_line(events.DHTReady(3), line["time"])), line)

    def test_other_lines(self) -> None:
        """
        Other log lines are JSON too.
        """
        self.log.warn("{what} happened", what="something")
        line = self.line()
        self.assertEqual(
            (line["event"], line["level"], line["source"], line["text"]),
            ("log", "warn", "some.where", "something happened"),
        )

    def test_failures(self) -> None:
        """
        A traceback is part of its line.
        """
        try:
            raise ValueError("oops")
        except ValueError:
            self.log.failure("bad")
        self.assertIn("oops", self.line()["text"])
