"""
Tests for L{dtt.cli.snapshots}, L{dtt.cli.daemon} and L{dtt.cli.messages}.
"""

from __future__ import annotations

import json
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from dtt.app.options import TopicSettings
from dtt.cli.commands import NOT_FOUND
from dtt.cli.daemon import JoinedTopic, choose, joined_topics
from dtt.cli.messages import ListenOptions, Printer, SendOptions
from dtt.cli.snapshots import peer_lines, span, status_lines
from dtt.cli.status import PeersOptions, StatusOptions
from dtt.errors import LocalError, UsageError
from dtt.events import DHTReady, Message
from dtt.records.topic import TopicId
from dtt.testing.net.clock import HeapClock
from dtt.tracker.status import (
    DHTStatus,
    EventStatus,
    FindStatus,
    MappingStatus,
    NATStatus,
    NeighborStatus,
    RecordsStatus,
    RecordStatus,
    TopicStatus,
    TrackerStatus,
    as_json,
)
from tests.cli.common import CommandTestCase

GARDEN = TopicId.from_name("garden party")
NOW = 1_800_000_000.0

JOINED = TopicStatus(
    topic_id=GARDEN,
    label="garden party",
    state="joined",
    doing="has a neighbour, so it does not search",
    since=NOW - 3700,
    neighbors=(
        NeighborStatus(
            peer_id=b"\x11" * 32,
            since=NOW - 90,
            transport="quic",
            address="1.2.3.4:5",
            round_trip=0.04,
            found_by="record_slot",
        ),
        NeighborStatus(peer_id=b"\x22" * 32, since=NOW - 5),
    ),
    known_peers=7,
    records=RecordsStatus(
        found=2,
        unreadable=3,
        recent=(RecordStatus(publisher=b"\x33" * 32, minute=1, channel="record_slot", seen=NOW - 60),),
    ),
    finds=(FindStatus(channel="record_slot", found=4, joined=1), FindStatus(channel="lan")),
    messages_received=5,
    messages_sent=6,
)

ALONE = TopicStatus(
    topic_id=b"\xab" * 32,
    label="\x1b[2Jevil",
    state="searching",
    doing="reads slots",
    since=NOW - 60,
    reason="there is no record of another member",
)

STATUS = TrackerStatus(
    version="0.1.0",
    peer_id=b"\x01" * 32,
    state="running",
    time=NOW,
    started=NOW - 90000,
    uptime=90000,
    dht=DHTStatus(
        ready=True,
        node_id=bytes(20),
        port=6881,
        nodes=200,
        round_trip=0.12,
        nat=(NATStatus(family="ipv4", kind="symmetric", voters=5),),
    ),
    listen=("streams:0.0.0.0:4040",),
    addresses=("streams:1.2.3.4:4040",),
    mappings=(MappingStatus(protocol="UDP", port=6881, outside="1.2.3.4:6881", method="PCP", listed=True),),
    topics=(JOINED, ALONE),
    events=(EventStatus(time=NOW - 30, name="topic.alone", text="No neighbour.", is_warning=True),),
)


def snapshot(status: TrackerStatus = STATUS) -> dict[str, Any]:
    """Return a snapshot as the service sends it."""
    value: dict[str, Any] = json.loads(json.dumps(as_json(status)))
    return value


class SnapshotTests(SynchronousTestCase):
    """
    Tests for snapshots as text.
    """

    def test_status(self) -> None:
        """It shows what the service is, how it is reached, and each topic with its state."""
        text = "\n".join(status_lines(snapshot(), 100))
        for part in (
            "dtt 0.1.0, running for 1 d 1 h",
            "UDP port 6881, 200 nodes known, round trip 120 ms",
            "ipv4: symmetric",
            "1.2.3.4:6881 to UDP 6881",
            "joined for 1 h 1 min: has a neighbour",
            "2, 7 other members known",
            "2 of other members now, 3 that our secret does not decrypt",
            "record_slot 4 (1 neighbour)",
            "there is no record of another member",
            "30 s ago: No neighbour.",
        ):
            self.assertIn(part, text)
        self.assertNotIn("lan 0", text)

    def test_not_ready(self) -> None:
        """A DHT without an answer is said, and why no member can reach us."""
        status = evolve(
            STATUS,
            dht=DHTStatus(ready=False, node_id=bytes(20), port=1),
            addresses=(),
            unreachable="no network",
        )
        text = "\n".join(status_lines(snapshot(status), 100))
        self.assertIn("no node has answered yet", text)
        self.assertIn("no network", text)

    def test_any_width(self) -> None:
        """From 20 columns on, no line is too long, and none has characters that control a terminal."""
        for width in (*range(20, 70), 200):
            for lines in (
                status_lines(snapshot(), width),
                peer_lines(snapshot()["topics"][0], NOW, width),
                peer_lines(snapshot()["topics"][1], NOW, width),
            ):
                self.assertLessEqual(max(map(len, lines)), width)
                self.assertTrue(all(line.isprintable() for line in lines))

    def test_peers(self) -> None:
        """Neighbours are shown with how we are connected, others with where they were found."""
        self.assertEqual(
            peer_lines(snapshot()["topics"][0], NOW, 120),
            [
                "garden party",
                "  1111111111  quic, 1.2.3.4:5, 40 ms, found by record_slot, neighbour for 1 min 30 s",
                "  2222222222  unknown transport, found by peers, neighbour for 5 s",
                "  3333333333  record found by record_slot 1 min ago",
            ],
        )
        self.assertIn("no other member", peer_lines(snapshot()["topics"][1], NOW, 120)[1])

    def test_span(self) -> None:
        """A duration has two units at most."""
        self.assertEqual(
            [span(each) for each in (-1, 0, 59, 60, 61, 3600, 90061)],
            ["0 s", "0 s", "59 s", "1 min", "1 min 1 s", "1 h", "1 d 1 h"],
        )


class ChooseTests(SynchronousTestCase):
    """
    Tests for the topic that a command is about.
    """

    def test_named(self) -> None:
        """A topic is named by its name, label, id, the beginning of that, or a ticket."""
        joined = joined_topics(snapshot())
        garden = JoinedTopic(GARDEN, "garden party")
        for name in ("garden party", f"hex:{GARDEN.hex()}", GARDEN.hex()[:8], f"hex:{GARDEN.hex()[:6]}"):
            self.assertEqual(choose(joined, name, []), garden, name)
        ticket = TopicSettings("other", TopicId(GARDEN), b"")
        self.assertEqual(choose(joined, None, [ticket]), garden)
        self.assertEqual(choose([garden], None, []), garden)

    def test_not_joined(self) -> None:
        """The error says what is joined."""
        joined = joined_topics(snapshot())
        for name in ("nope", "ffffff", "hex:" + "00" * 32):
            message = str(self.assertRaises(LocalError, choose, joined, name, []))
            self.assertIn("garden party", message)
        self.assertRaises(UsageError, choose, joined, None, [])
        self.assertRaises(UsageError, choose, [], None, [])
        self.assertRaises(UsageError, choose, joined, " ", [])


class Client:
    """A service that answers from memory."""

    def __init__(self, status: TrackerStatus = STATUS, neighbors: int = 2) -> None:
        self.snapshot = snapshot(status)
        self.neighbors = neighbors
        self.sent: list[tuple[bytes, bytes]] = []

    async def status(self) -> dict[str, Any]:
        return self.snapshot

    async def send(self, topic_id: bytes, content: bytes) -> int:
        self.sent.append((topic_id, content))
        return self.neighbors


class StatusTests(CommandTestCase):
    """
    Tests for C{dtt status} and C{dtt peers}.
    """

    def show(self, options: Any, *arguments: str, client: Client | None = None) -> Deferred[int]:
        """Run a command."""
        options.parseOptions(list(arguments))
        options.prepare()
        self.clock = HeapClock()
        client_: Any = client or Client()
        return Deferred.fromCoroutine(options._show(self.clock, client_))

    def test_json(self) -> None:
        """--json prints the snapshot."""
        self.assertEqual(self.successResultOf(self.show(StatusOptions(), "--json")), 0)
        (line,) = self.printed()
        self.assertEqual(json.loads(line), snapshot())
        self.assertEqual(self.successResultOf(self.show(PeersOptions(), "--json", "garden party")), 0)
        (topic,) = json.loads(self.printed()[0])
        self.assertEqual((topic["label"], len(topic["neighbors"])), ("garden party", 2))

    def test_watch(self) -> None:
        """--watch refreshes it until Ctrl-C, which is not an error."""
        running = self.show(StatusOptions(), "--watch", "--json", "--interval", "5")
        self.assertEqual(len(self.printed()), 1)
        self.clock.advance(5)
        self.clock.advance(5)
        self.assertEqual(len(self.printed()), 2)
        running.cancel()
        self.assertEqual(self.successResultOf(running), 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_nobody(self) -> None:
        """Without any other member the exit code is 3."""
        client = Client(evolve(STATUS, topics=(ALONE,)))
        self.assertEqual(self.successResultOf(self.show(PeersOptions(), client=client)), NOT_FOUND)
        client = Client(evolve(STATUS, topics=()))
        self.assertEqual(self.successResultOf(self.show(PeersOptions(), client=client)), NOT_FOUND)
        self.assertEqual(self.printed()[-1], "no topic is joined")


class PrinterTests(CommandTestCase):
    """
    Tests for C{dtt listen}.
    """

    MESSAGE = {"event": "message", "topic": "ab" * 32, "delivered_from": "11" * 32, "scope": "swarm"}

    def test_text(self) -> None:
        """Messages are one line each, whatever they contain; other events only if wanted."""
        printer = Printer(False, False, 0)
        printer.line({**self.MESSAGE, "content": "a\nb\x1b[2J"})
        printer.line({**self.MESSAGE, "content_hex": "ff00"})
        printer.line({"event": "neighbor.up"})
        self.assertEqual(
            self.printed(), ["[via 1111111111] a\ufffdb\ufffd[2J", "[via 1111111111] \ufffd\ufffd"]
        )
        Printer(False, True, 0).line({"event": "neighbor.up"})
        self.assertEqual(self.printed(), ["* neighbor.up"])

    def test_json(self) -> None:
        """JSON lines are as the service sends them, and the same alone."""
        value = {**self.MESSAGE, "content": "x", "time": 5}
        Printer(True, False, 0).line(value)
        printer = Printer(True, False, 0)
        printer.event(Message(b"\xab" * 32, b"\x11" * 32, "swarm", b"x"), 5)
        printer.event(DHTReady(1), 5)
        first, second = map(json.loads, self.printed())
        self.assertEqual(first, second)

    def test_count(self) -> None:
        """It ends after a number of messages."""
        printer = Printer(False, False, 2)
        for _ in range(3):
            printer.line({**self.MESSAGE, "content": "x"})
        self.successResultOf(printer.done)
        self.assertEqual(len(self.printed()), 2)

    def until_done(self, *arguments: str) -> tuple[ListenOptions, Deferred[None], Deferred[int]]:
        """Start to listen."""
        options = ListenOptions()
        options.parseOptions(list(arguments))
        options._printer = Printer(False, False, options["count"])
        ends: Deferred[None] = Deferred()
        self.clock = HeapClock()
        return options, ends, Deferred.fromCoroutine(options._until_done(self.clock, ends))

    def test_ends(self) -> None:
        """Ctrl-C and the last message end it with 0, a time-out without a message with 3."""
        _, _, running = self.until_done()
        running.cancel()
        self.assertEqual(self.successResultOf(running), 0)
        options, _, running = self.until_done("-n", "1")
        options._printer.line({**self.MESSAGE, "content": "x"})
        self.assertEqual(self.successResultOf(running), 0)
        _, _, running = self.until_done("--timeout", "5")
        self.assertNoResult(running)
        self.clock.advance(5)
        self.assertEqual(self.successResultOf(running), NOT_FOUND)
        _, ends, running = self.until_done()
        ends.callback(None)
        self.assertEqual(self.successResultOf(running), NOT_FOUND)
        self.assertIn("the service has stopped", self.err.getvalue())

    def test_send_arguments(self) -> None:
        """The message is one argument, and not empty or too long."""
        options = SendOptions()
        options.parseOptions(["hello"])
        self.assertEqual(options._content(), b"hello")
        for text in ("", "x" * 4056):
            options = SendOptions()
            options.parseOptions([text])
            self.assertRaises(UsageError, options._content)
        options = SendOptions()
        options.parseOptions(["--standalone", "x"])
        self.assertRaises(UsageError, options.topics)
