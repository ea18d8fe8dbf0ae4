"""
Tests for L{dtt.web.client}: what is asked, and what becomes of any answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError, ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from dtt.errors import DTTError, RemoteError
from dtt.web.client import MAX_ANSWER, MAX_LINE, TIMEOUT, DaemonClient, NoDaemon, Refused
from dtt.web.unix import SOCKET_FILE

TOPIC = bytes(range(32))


class Daemon(Clock):
    """
    The reactor of a client, and the daemon at the other end of its connections.

    @ivar paths: the paths of the sockets to which the client has connected.
    @ivar error: why connecting fails.
    """

    def __init__(self) -> None:
        super().__init__()
        self.paths: list[str] = []
        self.error: Exception | None = None
        self.transport: Any = None
        self.protocol: Any = None

    def connectUNIX(self, address: str, factory: Any, timeout: float = 30, checkPID: bool = False) -> Any:  # noqa: N803
        """Connect."""
        self.paths.append(address)
        if self.error is not None:
            factory.clientConnectionFailed(None, Failure(self.error))
            return None
        self.transport = StringTransport()
        self.protocol = factory.buildProtocol(None)
        self.protocol.makeConnection(self.transport)
        return None

    def request(self) -> tuple[str, Any]:
        """The first line of the request, and its body."""
        head, _, body = self.transport.value().partition(b"\r\n\r\n")
        return head.split(b"\r\n")[0].decode(), json.loads(body) if body else None

    def answer(self, status: str, body: bytes, length: int | None = None) -> None:
        """Answer the request."""
        size = len(body) if length is None else length
        head = f"HTTP/1.1 {status}\r\nContent-Length: {size}\r\n\r\n"
        self.say((head if size or "204" not in status else f"HTTP/1.1 {status}\r\n\r\n").encode() + body)

    def say(self, data: bytes) -> None:
        """Send bytes."""
        self.protocol.dataReceived(data)

    def end(self) -> None:
        """Close the connection."""
        self.protocol.connectionLost(Failure(ConnectionDone()))


class ClientTestCase(SynchronousTestCase):
    """
    A client and its daemon.
    """

    def setUp(self) -> None:
        self.daemon = Daemon()
        self.client = DaemonClient(self.daemon, Path("/state"))

    def assert_fails(self, result: Deferred[Any], expected: type[DTTError], text: str) -> None:
        """
        Check that a call fails with one line, and that nothing is left of it.
        """
        error = self.failureResultOf(result, expected).value
        self.assertEqual(str(error), text)
        self.assertEqual(self.daemon.getDelayedCalls(), [])


class CallTests(ClientTestCase):
    """
    Requests with one answer.
    """

    def test_requests(self) -> None:
        """
        Each method sends its request to the socket of the state directory, and returns what is answered.
        """
        path = f"/v1/topics/{TOPIC.hex()}"
        join = {"topic": "a", "secret_base64": "/w=="}
        send = {"content_base64": "/w==", "scope": "swarm"}
        cases: tuple[tuple[Callable[[], Deferred[Any]], str, Any, bytes, Any], ...] = (
            (self.client.status, "GET /v1/status", None, b'{"a": 1}', {"a": 1}),
            (lambda: self.client.peers(TOPIC), f"GET {path}/peers", None, b'{"a": 1}', {"a": 1}),
            (lambda: self.client.join("a", b"\xff"), "POST /v1/topics", join, b'{"a": 1}', {"a": 1}),
            (lambda: self.client.leave(TOPIC), f"DELETE {path}", None, b"", None),
            (lambda: self.client.send(TOPIC, b"\xff"), f"POST {path}/messages", send, b'{"neighbors": 3}', 3),
            (
                lambda: self.client.send(TOPIC, b"\xff", neighbors_only=True),
                f"POST {path}/messages",
                {**send, "scope": "neighbors"},
                b'{"neighbors": 0}',
                0,
            ),
        )
        for call, first, body, said, expected in cases:
            result = call()
            self.assertEqual(self.daemon.request(), (f"{first} HTTP/1.1", body))
            self.assertNoResult(result)
            self.daemon.answer("200 OK" if said else "204 No Content", said)
            self.assertEqual(self.successResultOf(result), expected)
            self.assertTrue(self.daemon.transport.disconnecting)
        self.assertEqual(set(self.daemon.paths), {f"/state/{SOCKET_FILE}"})

    def test_refused(self) -> None:
        """
        A refusal has the status and the daemon's words, if it has any.
        """
        for body, text in (
            (b'{"error": "no such topic"}', "no such topic"),
            (b"{}", "the daemon has answered with 404"),
        ):
            result = self.client.status()
            self.daemon.answer("404 Not Found", body)
            error: Any = self.failureResultOf(result, Refused).value
            self.assertEqual((error.status, str(error)), (404, text))

    def test_no_json(self) -> None:
        """
        An answer that is no JSON object is an error, whatever its status.
        """
        for status in ("200 OK", "500 Oops"):
            for body in (b"", b"<html>", b"[1]", b"null", b"\xff", b"[" * 100_000):
                result = self.client.status()
                self.daemon.answer(status, body)
                text = (
                    f"the daemon's answer {status[:3]} is no JSON object; is the daemon of another version?"
                )
                self.assert_fails(result, RemoteError, text)

    def test_cut_short(self) -> None:
        """
        A daemon that closes the connection early, or says what is not HTTP, has failed.
        """
        for said in (
            b"",
            b"HTTP/1.1 200 OK\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
            b'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"a": 1}',
            b"SSH-2.0\r\n\r\n",
        ):
            result = self.client.send(TOPIC, b"x")
            self.daemon.say(said)
            self.daemon.end()
            self.assert_fails(result, RemoteError, "the daemon has closed the connection; see its log")

    def test_too_long(self) -> None:
        """
        An answer that is too long is not read to its end.
        """
        result = self.client.status()
        self.daemon.answer("200 OK", bytes(MAX_ANSWER), 2 * MAX_ANSWER)
        self.assertNoResult(result)
        self.daemon.say(b"x")
        self.assert_fails(result, RemoteError, "the answer of the daemon is too long")
        self.daemon.say(b"more")

    def test_silent(self) -> None:
        """
        A daemon that does not answer, or not to the end, is given up.
        """
        for said in (b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"):
            result = self.client.status()
            self.daemon.say(said)
            self.daemon.advance(TIMEOUT - 0.1)
            self.assertNoResult(result)
            self.daemon.advance(0.2)
            text = "the daemon has not answered within 10 s; see its log"
            self.assert_fails(result, RemoteError, text)

    def test_cancelled(self) -> None:
        """
        A call can be cancelled, before and within its answer.
        """
        for said in (b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"):
            result = self.client.status()
            self.daemon.say(said)
            result.cancel()
            self.failureResultOf(result, CancelledError)
            self.assertTrue(self.daemon.transport.disconnecting or self.daemon.transport.disconnected)
            self.assertEqual(self.daemon.getDelayedCalls(), [])

    def test_no_daemon(self) -> None:
        """
        Without a daemon, the error says how to start one; without the right to connect, who may.
        """
        for error, text in (
            (ConnectError(2, "No such file or directory"), "no daemon is running with the state directory"),
            (ConnectError(111, "Connection refused"), "no daemon is running with the state directory"),
            (ConnectError(13, "Permission denied"), "no access to the daemon of"),
        ):
            self.daemon.error = error
            for result in (self.client.status(), self.client.events(lambda _: None)):
                self.assertIn(text, str(self.failureResultOf(result, NoDaemon).value))


class EventsTests(ClientTestCase):
    """
    Streams of events.
    """

    def setUp(self) -> None:
        super().setUp()
        self.events: list[dict[str, Any]] = []

    def listen(self, topic_id: bytes | None = None, on_event: Any = None) -> Deferred[None]:
        """
        Begin to listen.
        """
        result = self.client.events(on_event or self.events.append, topic_id)
        self.daemon.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        return result

    def say(self, data: bytes) -> None:
        """
        Send a piece of the stream.
        """
        self.daemon.say(b"%x\r\n%s\r\n" % (len(data), data))

    def test_events(self) -> None:
        """
        Each event is reported as soon as its line is complete; other lines are skipped, and there is no time
        limit.
        """
        result = self.listen()
        self.assertEqual(self.daemon.request(), ("GET /v1/events HTTP/1.1", None))
        self.say(b': hello\n\nevent: a\ndata: {"event": 1}\n\ndata: {"eve')
        self.assertEqual(self.events, [{"event": 1}])
        self.say(b'nt": 2}')
        self.daemon.advance(1000)
        self.say(b'\ndata: {"event": 3}\n')
        self.assertEqual(self.events, [{"event": 1}, {"event": 2}, {"event": 3}])
        self.assertNoResult(result)
        self.daemon.say(b"0\r\n\r\n")
        self.successResultOf(result)

    def test_topic(self) -> None:
        """
        The events of one topic have a path of their own.
        """
        self.listen(TOPIC)
        self.assertEqual(self.daemon.request()[0], f"GET /v1/topics/{TOPIC.hex()}/events HTTP/1.1")

    def test_end(self) -> None:
        """
        A daemon that is killed ends the stream, too.
        """
        result = self.listen()
        self.daemon.end()
        self.successResultOf(result)

    def test_refused(self) -> None:
        """
        A stream that is refused fails with the daemon's words.
        """
        result = self.client.events(self.events.append)
        self.daemon.answer("503 Busy", b'{"error": "too many streams"}')
        self.assert_fails(result, Refused, "too many streams")

    def test_malformed(self) -> None:
        """
        An event that is no JSON object ends the stream with an error; nothing after it is reported.
        """
        for line in (b"data: {", b"data: 5", b"data: \xff"):
            result = self.listen()
            self.say(line + b'\ndata: {"event": 1}\n')
            self.say(b'data: {"event": 2}\n')
            text = "an event of the daemon is no JSON object; is the daemon of another version?"
            self.assert_fails(result, RemoteError, text)
            self.assertTrue(self.daemon.transport.disconnecting)
        self.assertEqual(self.events, [])

    def test_too_long(self) -> None:
        """
        An event may be as long as the limit, not longer.
        """
        result = self.listen()
        self.say(b"data: ".ljust(MAX_LINE, b" "))
        self.assertNoResult(result)
        self.say(b" ")
        self.assert_fails(result, RemoteError, "an event of the daemon is too long")

    def test_failure_of_the_caller(self) -> None:
        """
        An exception of the function for the events ends the stream, and reaches the caller.
        """
        result = self.listen(on_event=lambda event: 1 // 0)
        self.say(b'data: {"event": 1}\n')
        self.failureResultOf(result, ZeroDivisionError)
        self.assertTrue(self.daemon.transport.disconnecting)

    def test_cancelled(self) -> None:
        """
        Cancelling ends the stream.
        """
        result = self.listen()
        result.cancel()
        self.failureResultOf(result, CancelledError)
        self.assertTrue(self.daemon.transport.disconnecting)
        self.say(b'data: {"event": 1}\n')
        self.assertEqual(self.events, [])
