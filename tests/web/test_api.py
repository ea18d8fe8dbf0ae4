"""
Tests for L{dtt.web.api}: requests to a tracker in memory.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from dtt.records.topic import TopicId
from dtt.tracker.status import as_json
from tests.web.common import WebTestCase

TOPIC = TopicId.from_name("garden party")
PATH = f"/v1/topics/{TOPIC.hex()}"


class StatusTests(WebTestCase):
    """
    What can be asked.
    """

    def test_status(self) -> None:
        """The snapshot is sent as JSON that nobody may cache, frame or guess."""
        self.served.join("garden party", b"secret")
        self.net.advance(30)
        answer = self.ask("/v1/status")
        self.assertEqual(answer.status, 200)
        self.assertEqual(answer.json, as_json(self.served.status()))
        self.assertEqual(answer.headers["content-type"], "application/json")
        self.assertEqual(answer.headers["cache-control"], "no-store")
        self.assertEqual(answer.headers["x-content-type-options"], "nosniff")
        self.assertIn("default-src 'none'", answer.headers["content-security-policy"])
        self.assertNotIn("access-control-allow-origin", answer.headers)
        self.assertNotIn("set-cookie", answer.headers)

    def test_topics(self) -> None:
        """Topics are listed, and can be asked for one by one."""
        self.assertEqual(self.ask("/v1/topics").json, {"topics": []})
        self.served.join("garden party", b"secret")
        [topic] = self.ask("/v1/topics").json["topics"]
        self.assertEqual(topic["label"], "garden party")
        self.assertEqual(self.ask(PATH).json, topic)

    def test_peers(self) -> None:
        """The neighbours of a topic are listed."""
        self.served.join("garden party", b"secret")
        other = self.tracker(2)
        other.join("garden party", b"secret")
        self.net.advance(20)
        answer = self.ask(f"{PATH}/peers").json
        self.assertEqual([each["peer_id"] for each in answer["neighbors"]], [other.peer_id.hex()])
        # By each channel that has found its record.
        self.assertEqual({each["publisher"] for each in answer["recent"]}, {other.peer_id.hex()})

    def test_health(self) -> None:
        """The tracker is healthy while it runs."""
        self.assertEqual((self.ask("/healthz").status, self.ask("/healthz").body), (200, b"ok\n"))
        self.served.stopService()
        self.net.advance(2)
        self.assertEqual(self.ask("/healthz").status, 503)


class JoinTests(WebTestCase):
    """
    Joining and leaving.
    """

    def test_join(self) -> None:
        """A topic is joined with its secret: another member with the same one is found."""
        answer = self.ask("/v1/topics", "POST", {"topic": "garden party", "secret": "between us"})
        self.assertEqual((answer.status, answer.headers["location"]), (201, PATH))
        self.assertEqual(answer.json["topic_id"], TOPIC.hex())
        self.assertNotIn(b"between us", answer.body)
        self.tracker(2).join("garden party", b"between us")
        self.net.advance(20)
        self.assertEqual(self.ask(PATH).json["state"], "joined")

    def test_binary(self) -> None:
        """A topic can be given by its id, and a secret in base64."""
        secret = b64encode(b"\xff\x00").decode()
        answer = self.ask("/v1/topics", "POST", {"topic": f"hex:{TOPIC.hex()}", "secret_base64": secret})
        self.assertEqual(answer.status, 201)
        self.tracker(2).join("garden party", b"\xff\x00")
        self.net.advance(20)
        self.assertEqual(self.ask(PATH).json["state"], "joined")

    def test_twice(self) -> None:
        """A topic that is joined already is a conflict."""
        for status in (201, 409):
            self.assertEqual(self.ask("/v1/topics", "POST", {"topic": "garden party"}).status, status)

    def test_refused(self) -> None:
        """What is no topic and no secret is refused, and nothing is joined."""
        bodies: tuple[Any, ...] = (
            {},
            {"topic": ""},
            {"topic": " \t"},
            {"topic": 7},
            {"topic": None},
            {"topic": "x" * 5000},
            {"topic": "hex:12"},
            {"topic": "\ud800x"},
            {"topic": "x", "secret": ["s"]},
            {"topic": "x", "secret": "s", "secret_base64": "cw=="},
            {"topic": "x", "secret_base64": "%"},
            {"topic": "x", "secret_base64": "é"},
            {"topic": "x", "secret": "\ud800"},
            {"topic": "x", "secret": "s" * 70000},
            {"topic": "x", "password": "s"},
            [],
            "x",
            b"{",
            b"\xff",
            b"[" * 100000,
        )
        for body in bodies:
            answer = self.ask("/v1/topics", "POST", body)
            self.assertEqual(answer.status, 400, body)
            self.assertTrue(answer.error)
        self.assertEqual(self.served.topics(), ())

    def test_leave(self) -> None:
        """A topic is left, and can be joined again."""
        self.served.join("garden party", b"secret")
        self.net.advance(2)
        connection = self.connect()
        connection.send(f"DELETE {PATH} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        self.net.advance(2)
        self.assertIn(b" 204 ", connection.received())
        self.assertEqual(self.served.topics(), ())
        self.assertEqual(self.ask(PATH, "DELETE").status, 404)
        self.assertEqual(self.ask("/v1/topics", "POST", {"topic": "garden party"}).status, 201)

    def test_not_by_get(self) -> None:
        """GET and HEAD change nothing, whatever the path."""
        self.served.join("garden party", b"secret")
        for method in ("GET", "HEAD"):
            for path in ("/v1/topics?topic=x", PATH, f"{PATH}?_method=DELETE", f"{PATH}/messages?content=x"):
                self.ask(path, method, {"topic": "x", "content": "x"})
        self.assertEqual([bytes(topic.topic_id) for topic in self.served.topics()], [bytes(TOPIC)])
        self.assertEqual(self.served.topics()[0].status().messages_sent, 0)

    def test_stopped(self) -> None:
        """A tracker that has stopped joins nothing."""
        self.served.stopService()
        self.net.advance(2)
        self.assertEqual(self.ask("/v1/topics", "POST", {"topic": "x"}).status, 503)


class SendTests(WebTestCase):
    """
    Messages.
    """

    def test_send(self) -> None:
        """A message reaches the other member; text is UTF-8, base64 any bytes."""
        self.served.join("garden party", b"secret")
        other = self.tracker(2)
        other.join("garden party", b"secret")
        self.net.advance(20)
        for body in (
            {"content": "hellö"},
            {"content_base64": b64encode(b"\xff\x00").decode(), "scope": "swarm"},
            {"content": "near", "scope": "neighbors"},
        ):
            answer = self.ask(f"{PATH}/messages", "POST", body)
            self.assertEqual((answer.status, answer.json), (202, {"neighbors": 1}))
        self.net.advance(2)
        got = [(m.content, m.scope) for m in self.events[other] if m.name == "message"]  # type: ignore[attr-defined]
        self.assertEqual(
            sorted(got), [("hellö".encode(), "swarm"), (b"near", "neighbors"), (b"\xff\x00", "swarm")]
        )

    def test_alone(self) -> None:
        """Without a neighbour the answer says that nobody gets it."""
        self.served.join("garden party", b"secret")
        self.net.advance(2)
        self.assertEqual(self.ask(f"{PATH}/messages", "POST", {"content": "x"}).json, {"neighbors": 0})

    def test_refused(self) -> None:
        """Duplicates, large messages and other mistakes are refused, each with its status."""
        self.served.join("garden party", b"secret")
        self.tracker(2).join("garden party", b"secret")
        self.net.advance(20)
        for body, status in (
            ({"content": "once"}, 202),
            ({"content": "once"}, 409),
            ({"content": "x" * 5000}, 413),
            ({}, 400),
            ({"content": "x", "scope": "world"}, 400),
            ({"content": "x", "content_base64": "eA=="}, 400),
        ):
            self.assertEqual(self.ask(f"{PATH}/messages", "POST", body).status, status, body)
        self.assertEqual(self.ask(f"/v1/topics/{'0' * 64}/messages", "POST", {"content": "x"}).status, 404)

    def test_content_type(self) -> None:
        """A body that is not declared as JSON is refused: a form of another site can't send JSON."""
        self.served.join("garden party", b"secret")
        self.net.advance(2)
        for content_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
            answer = self.ask(
                f"{PATH}/messages", "POST", {"content": "x"}, headers={"Content-Type": content_type}
            )
            # Twisted itself reads multipart bodies, and refuses one without parts.
            self.assertIn(answer.status, (400, 415) if "multipart" in content_type else (415,), content_type)
        answer = self.ask(
            f"{PATH}/messages",
            "POST",
            {"content": "x"},
            headers={"Content-Type": "Application/JSON; charset=utf-8"},
        )
        self.assertEqual(answer.status, 202)


class MetricsTests(WebTestCase):
    """
    Metrics.
    """

    def test_metrics(self) -> None:
        """Metrics are in the format that the scraper asks for."""
        self.served.join("garden party", b"secret")
        self.net.advance(20)
        answer = self.ask("/metrics")
        self.assertTrue(answer.headers["content-type"].startswith("text/plain; version=0.0.4"))
        self.assertIn(f'dtt_topic_neighbors{{topic="{TOPIC.hex()[:16]}"}} 0.0', answer.body.decode())
        answer = self.ask("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
        self.assertTrue(answer.headers["content-type"].startswith("application/openmetrics-text"))
        self.assertTrue(answer.body.endswith(b"# EOF\n"))
