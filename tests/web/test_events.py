"""
Tests for L{dtt.web.events}: event streams.
"""

from __future__ import annotations

import json
from typing import Any

from dtt.events import DHTNodes
from dtt.records.topic import TopicId
from dtt.web.bounds import MAX_CONNECTIONS, REQUEST_TIME
from dtt.web.events import HEARTBEAT, MAX_STREAMS, MAX_WAITING
from tests.web.common import Connection, WebTestCase, parse

TOPIC = TopicId.from_name("garden party")


class StreamTests(WebTestCase):
    """
    Streams of a tracker in memory.
    """

    def open(self, path: str = "/v1/events") -> Connection:
        """Open a stream."""
        connection = self.connect()
        connection.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        return connection

    def arrived(self, connection: Connection) -> list[dict[str, Any]]:
        """The events that have arrived."""
        body = parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + connection.received()).body
        lines = body.decode().splitlines()
        return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]

    def begin(self, path: str = "/v1/events") -> Connection:
        """Open a stream, and check its head."""
        connection = self.open(path)
        answer = parse(connection.received())
        self.assertEqual((answer.status, answer.headers["content-type"]), (200, "text/event-stream"))
        self.assertEqual(answer.headers["cache-control"], "no-store")
        return connection

    def test_events(self) -> None:
        """A stream has all events from now on, as in the log."""
        self.net.advance(5)
        connection = self.begin()
        self.served.join("garden party", b"secret")
        self.net.advance(10)
        got = self.arrived(connection)
        self.assertIn("record.published", [event["event"] for event in got])
        self.assertTrue(all(event["time"] <= self.clock.seconds() for event in got))

    def test_topic(self) -> None:
        """The stream of a topic has its events only, and its messages; it ends when the topic is left."""
        self.served.join("garden party", b"secret")
        self.served.join("another", b"secret")
        other = self.tracker(2)
        theirs = other.join("garden party", b"secret")
        connection = self.begin(f"/v1/topics/{TOPIC.hex()}/events")
        self.net.advance(20)
        theirs.broadcast("hellö".encode())
        theirs.broadcast(b"\xff")
        self.net.advance(2)
        got = self.arrived(connection)
        self.assertEqual({event["topic"] for event in got}, {TOPIC.hex()})
        messages = [event for event in got if event["event"] == "message"]
        self.assertEqual(messages[0]["content"], "hellö")
        self.assertEqual(messages[1]["content_hex"], "ff")
        self.connect().send(f"DELETE /v1/topics/{TOPIC.hex()} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        self.assertTrue(connection.received().endswith(b"0\r\n\r\n"))
        self.net.advance(2)

    def test_unknown_topic(self) -> None:
        """There is no stream of a topic that is not joined."""
        self.assertEqual(parse(self.open(f"/v1/topics/{TOPIC.hex()}/events").received()).status, 404)

    def test_head(self) -> None:
        """A HEAD request gets the headers of a stream, and takes no place of one."""
        for _ in range(MAX_STREAMS + 1):
            connection = self.connect()
            connection.send(b"HEAD /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = parse(connection.received())
            self.assertEqual((answer.status, answer.headers["content-type"]), (200, "text/event-stream"))
            self.assertEqual(answer.body, b"")
            connection.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            self.assertTrue(connection.received().startswith(b"HTTP/1.1 "))
        self.begin()

    def test_heartbeat(self) -> None:
        """A stream without events has comments, and no deadline."""
        self.served.stopService()
        self.net.advance(2)
        connection = self.begin()
        for _ in range(10):
            self.clock.advance(max(HEARTBEAT, REQUEST_TIME))
            self.assertIn(b": still here", connection.received())
        self.assertFalse(connection.lost)

    def test_limit(self) -> None:
        """Streams beyond the limit are refused until another one ends."""
        self.assertLess(MAX_STREAMS, MAX_CONNECTIONS)
        kept = [self.begin() for _ in range(MAX_STREAMS)]
        answer = parse(self.open().received())
        self.assertEqual((answer.status, answer.headers["retry-after"]), (503, "30"))
        kept[0].transport.loseConnection()
        self.begin()

    def test_slow_reader(self) -> None:
        """What waits for a client that does not read is bounded: it is cut off."""
        connection = self.begin()
        connection.transport.producer.pauseProducing()
        for number in range(MAX_WAITING):
            self.served._emit(DHTNodes(number))
        self.assertEqual(connection.received(), b"")
        self.assertFalse(connection.lost)
        self.served._emit(DHTNodes(0))
        self.assertTrue(connection.lost)
        self.assertEqual(self.served._history._observers, {})

    def test_reads_again(self) -> None:
        """A client that reads again gets everything in order."""
        connection = self.begin()
        connection.transport.producer.pauseProducing()
        for number in range(10):
            self.served._emit(DHTNodes(number))
        connection.transport.producer.resumeProducing()
        self.assertEqual([event["nodes"] for event in self.arrived(connection)], list(range(10)))

    def test_nobody_looks(self) -> None:
        """Without a stream nothing observes the tracker, and no timer runs for it."""
        connection = self.begin()
        self.assertEqual(len(self.served._history._observers), 1)
        connection.transport.loseConnection()
        self.assertEqual(self.served._history._observers, {})

    def test_end(self) -> None:
        """All streams end when the service stops."""
        streams = [self.begin() for _ in range(3)]
        self.streams.end_all()
        for connection in streams:
            self.assertTrue(connection.received().endswith(b"0\r\n\r\n"))
