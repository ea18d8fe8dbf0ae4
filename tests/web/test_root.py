"""
Tests for L{dtt.web.root}: which handler answers a request.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred

from dtt.web.answers import Answer, Problem
from dtt.web.root import Routes
from tests.web.common import WebTestCase


class RoutesTests(WebTestCase):
    """
    Tests for L{Routes}.
    """

    def setUp(self) -> None:
        super().setUp()
        self.routes = Routes(self.served, self.streams)

    def test_named(self) -> None:
        """The part of a path that names a topic is passed to the handler, decoded."""
        for path, named in (
            ("/", ()),
            ("/v1/status", ()),
            ("/v1/topics/abc", ("abc",)),
            ("/v1/topics/a%20b%2Fc/peers", ("a b/c",)),
            ("/v1/topics/%FF", ("\ufffd",)),
            ("/v1/topics/", ("",)),
        ):
            self.assertEqual(self.routes.find("GET", path)[1], named, path)

    def test_encoded(self) -> None:
        """A path is divided before it is decoded, and decoded once."""
        self.assertEqual(self.routes.find("GET", "/v1/%73tatus")[1], ())
        for path in ("/v1%2Fstatus", "/v1/%2573tatus", "/v1/status%00", "/%2e%2e/v1/status", "/v1/*", "*"):
            self.assertEqual(self.assertRaises(Problem, self.routes.find, "GET", path).status, 404, path)

    def test_methods(self) -> None:
        """Each path says which methods it has."""
        for path, allowed in (
            ("/v1/topics", "GET, POST, HEAD"),
            ("/v1/topics/a", "GET, DELETE, HEAD"),
            ("/v1/topics/a/messages", "POST"),
        ):
            problem = self.assertRaises(Problem, self.routes.find, "PATCH", path)
            self.assertEqual((problem.status, problem.headers), (405, {"Allow": allowed}))
        self.assertEqual(
            self.assertRaises(Problem, self.routes.find, "HEAD", "/v1/topics/a/messages").status, 405
        )


class RootTests(WebTestCase):
    """
    Tests for L{Root<dtt.web.root.Root>}.
    """

    def test_head(self) -> None:
        """HEAD has the headers of GET, and no body."""
        answer = self.ask("/healthz", "HEAD")
        self.assertEqual((answer.status, answer.body, answer.headers["content-length"]), (200, b"", "3"))

    def test_unknown(self) -> None:
        """What there is not, and methods that are not possible, are said with one line."""
        for path in ("/nothing", "/v1", "/v1/", "/v1/status/", "//", "/" + "a/" * 99, "/v1/topics/x/peers"):
            answer = self.ask(path)
            self.assertEqual(answer.status, 404, path)
            self.assertNotIn("\n", answer.error)
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE", "X" * 100):
            answer = self.ask("/v1/status", method)
            self.assertEqual((answer.status, answer.headers["allow"]), (405, "GET, HEAD"), method)

    def test_failure(self) -> None:
        """An internal error is answered without a traceback, and logged."""
        self.patch(self.served, "status", lambda: 1 / 0)
        answer = self.ask("/v1/status")
        self.assertEqual(answer.status, 500)
        self.assertNotIn(b"Traceback", answer.body)
        self.assertNotIn(b"division", answer.body)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.warnings.clear()

    def test_gone(self) -> None:
        """A client that is gone before its answer gets none, and costs no error."""
        later: Deferred[Answer] = Deferred()
        self.patch(Routes, "find", lambda *_: (lambda request: later, ()))
        connection = self.connect()
        connection.send(b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n")
        connection.transport.loseConnection()
        later.callback(Answer(200, b"x"))
        self.assertEqual(connection.received(), b"")
        self.assertEqual(self.flushLoggedErrors(), [])
