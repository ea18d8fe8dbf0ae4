"""
Tests for L{dtt.web.bounds}: clients that are slow, many or too generous.
"""

from __future__ import annotations

from dtt.web.bounds import MAX_BODY, MAX_CONNECTIONS, REQUEST_TIME
from tests.web.common import WebTestCase, parse

GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


class SlowTests(WebTestCase):
    """
    Slow-loris: clients that send a request byte by byte, or never.
    """

    def test_silent(self) -> None:
        """A connection without a request is ended."""
        connection = self.connect()
        self.clock.advance(REQUEST_TIME - 1)
        self.assertFalse(connection.lost)
        self.clock.advance(2)
        self.assertTrue(connection.lost)

    def test_byte_by_byte(self) -> None:
        """A byte a second does not prolong the time, neither in the headers nor in the body."""
        for data in (
            b"GET /healthz HTTP/1.1\r\n" + b"X: y\r\n" * 100,
            b"POST /v1/topics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n" + b"x" * 99,
        ):
            connection = self.connect()
            connection.send(data[:-50])
            seconds = 0
            while not connection.lost:
                connection.send(b"x")
                self.clock.advance(1)
                seconds += 1
                self.assertLessEqual(seconds, REQUEST_TIME + 1)

    def test_kept(self) -> None:
        """After an answer, the next request has as much time again."""
        connection = self.connect()
        for _ in range(3):
            self.clock.advance(REQUEST_TIME - 1)
            connection.send(GET)
            self.assertEqual(parse(connection.received()).status, 200)
        self.clock.advance(REQUEST_TIME + 1)
        self.assertTrue(connection.lost)

    def test_many(self) -> None:
        """Connections beyond the limit are closed at once; when others end, there is room again."""
        kept = [self.connect() for _ in range(MAX_CONNECTIONS)]
        self.assertTrue(self.connect().lost)
        self.clock.advance(REQUEST_TIME + 1)
        self.assertTrue(all(connection.lost for connection in kept))
        self.assertEqual(self.ask("/healthz").status, 200)

    def test_no_timers_left(self) -> None:
        """A connection that has ended has no timer."""
        self.served.stopService()
        self.net.advance(5)
        before = len(self.clock.getDelayedCalls())
        connection = self.connect()
        connection.send(GET)
        connection.transport.loseConnection()
        self.assertEqual(len(self.clock.getDelayedCalls()), before)


class LargeTests(WebTestCase):
    """
    Huge requests.
    """

    def post(self, head: bytes) -> bytes:
        """The head of a request with a body."""
        return (
            b"POST /v1/topics HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            + head
            + b"\r\n\r\n"
        )

    def test_announced(self) -> None:
        """A body that is announced as too large is refused before it comes."""
        connection = self.connect()
        connection.send(self.post(b"Content-Length: %d" % (MAX_BODY + 1)))
        answer = parse(connection.received())
        self.assertEqual((answer.status, answer.headers["connection"]), (413, "close"))
        self.assertTrue(answer.error)
        self.assertTrue(connection.lost)

    def test_chunked(self) -> None:
        """A body of unknown length is read up to the limit, and not a byte more is kept."""
        connection = self.connect()
        connection.send(self.post(b"Transfer-Encoding: chunked"))
        sent = 0
        while not connection.lost:
            connection.send(b"1000\r\n" + b"x" * 4096 + b"\r\n")
            sent += 4096
            self.assertLess(sent, 2 * MAX_BODY)
        self.assertEqual(parse(connection.received()).status, 413)

    def test_largest(self) -> None:
        """A body of exactly the limit is read."""
        self.assertEqual(self.ask("/v1/topics", "POST", b" " * MAX_BODY).error, "the body is not JSON")

    def test_headers(self) -> None:
        """Endless lines and headers are refused by Twisted."""
        for data in (b"GET /" + b"x" * 10**6, b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 10**5):
            connection = self.connect()
            for start in range(0, len(data), 8192):
                connection.send(data[start : start + 8192])
            self.assertTrue(connection.lost)

    def test_nonsense(self) -> None:
        """What is not HTTP ends the connection or waits for the rest; nothing is logged as an error."""
        for data in (
            b"\r\n\r\n",
            b"\0" * 100,
            b"GET\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
            b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            b"GET / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"\x16\x03\x01\x02\x00\x01",
        ):
            connection = self.connect()
            connection.send(data)
            self.clock.advance(REQUEST_TIME + 1)
            self.assertTrue(connection.lost, data)
        self.assertEqual(self.flushLoggedErrors(), [])
