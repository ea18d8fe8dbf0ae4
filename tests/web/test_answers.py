"""
Tests for L{dtt.web.answers}.
"""

from __future__ import annotations

import io
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers
from twisted.web.test.requesthelper import DummyRequest

from dtt.web.answers import COMMON, JSON, Answer, Problem, header_of, json_answer, json_object


def request(body: bytes = b"", *headers: tuple[str, str]) -> Any:
    """
    A request.
    """
    made: Any = DummyRequest([b""])
    made.content = io.BytesIO(body)
    made.requestHeaders = Headers()
    for name, value in headers:
        made.requestHeaders.addRawHeader(name, value)
    return made


class AnswerTests(SynchronousTestCase):
    """
    What is sent.
    """

    def sent(self, answer: Answer) -> tuple[int, dict[str, str], bytes]:
        """
        Send an answer, and return its status, headers and body.
        """
        to = request()
        answer.write(to)
        self.assertEqual(to.finished, 1)
        headers = {
            name.decode().title(): values[0].decode()
            for name, values in to.responseHeaders.getAllRawHeaders()
        }
        return to.responseCode, headers, b"".join(to.written)

    def test_answer(self) -> None:
        """
        An answer has its type, its length, its own headers and those of all answers.
        """
        status, headers, body = self.sent(Answer(201, b"hi\n", "text/plain", {"Location": "/x"}))
        self.assertEqual((status, body), (201, b"hi\n"))
        self.assertEqual((headers["Content-Type"], headers["Content-Length"]), ("text/plain", "3"))
        self.assertEqual(headers["Location"], "/x")
        self.assertLessEqual(COMMON.items(), headers.items())

    def test_own_headers(self) -> None:
        """
        An answer may replace a header of all answers.
        """
        _, headers, _ = self.sent(Answer(200, headers={"Cache-Control": "max-age=5"}))
        self.assertEqual(headers["Cache-Control"], "max-age=5")

    def test_no_content(self) -> None:
        """
        204 has neither a body nor headers about one.
        """
        status, headers, body = self.sent(Answer(204))
        self.assertEqual((status, body), (204, b""))
        self.assertFalse({"Content-Type", "Content-Length"} & set(headers))

    def test_json(self) -> None:
        """
        JSON is ASCII on one line, which ends.
        """
        status, headers, body = self.sent(json_answer({"a": "h\xe9\n"}, 202))
        self.assertEqual((status, headers["Content-Type"]), (202, JSON))
        self.assertEqual(body, b'{"a": "h\\u00e9\\n"}\n')

    def test_problem(self) -> None:
        """
        A problem is sent with its message and headers.
        """
        status, headers, body = self.sent(Problem(405, 'no "x"', {"Allow": "GET"}).answer())
        self.assertEqual((status, headers["Allow"], body), (405, "GET", b'{"error": "no \\"x\\""}\n'))


class RequestTests(SynchronousTestCase):
    """
    What is read.
    """

    def test_header(self) -> None:
        """
        A header that occurs once is read, whatever bytes it has; one that is missing is none, and one that
        occurs twice is a problem.
        """
        self.assertEqual(header_of(request(b"", ("host", "a")), "Host"), "a")
        raw = request()
        raw.requestHeaders.setRawHeaders(b"X", [b"\xff"])
        self.assertEqual(header_of(raw, "X"), "\xff")
        self.assertIsNone(header_of(request(), "Host"))
        twice = request(b"", ("Host", "a"), ("host", "a"))
        problem = self.assertRaises(Problem, header_of, twice, "Host")
        self.assertEqual((problem.status, str(problem)), (400, "the header Host occurs more than once"))

    def object(self, body: bytes, content_type: str = JSON) -> dict[str, Any]:
        """
        Read the body of a request that may have two strings.
        """
        return json_object(request(body, ("Content-Type", content_type)), {"a": str, "b": str})

    def test_object(self) -> None:
        """
        An object with some of the allowed keys is read, in any encoding of JSON.
        """
        for body in (b'{"a": "x"}', b' {"a": "x"}\n', '{"a": "x"}'.encode("utf-16")):
            self.assertEqual(self.object(body), {"a": "x"})
        self.assertEqual(self.object(b"{}", "Application/JSON; charset=utf-8"), {})

    def test_wrong_type(self) -> None:
        """
        A body that is not declared as JSON is refused without a look at it.
        """
        for content_type in ("", "text/plain", "text/plain; application/json", "application/jsonx"):
            problem = self.assertRaises(Problem, self.object, b"{}", content_type)
            self.assertEqual((problem.status, str(problem)), (415, "send the body as application/json"))
        self.assertEqual(self.assertRaises(Problem, json_object, request(b"{}"), {}).status, 415)

    def test_wrong(self) -> None:
        """
        Anything else is refused, and the message says why in one line.
        """
        for body, text in (
            (b"", "the body is not JSON"),
            (b"{", "the body is not JSON"),
            (b"\xff\xff\xff", "the body is not JSON"),
            (b'{"a": ' + b"9" * 5000 + b"}", "the body is not JSON"),
            (b"[" * 100_000, "the body is not JSON"),
            (b"[]", "the body is not a JSON object"),
            (b"null", "the body is not a JSON object"),
            (b'{"c": "x"}', "unknown key 'c'; expected a, b"),
            (b'{"\\n' + b"c" * 50 + b'": 1}', "unknown key '\\n" + "c" * 39 + "'; expected a, b"),
            (b'{"a": 1}', "a must be a string"),
            (b'{"a": null}', "a must be a string"),
        ):
            problem = self.assertRaises(Problem, self.object, body)
            self.assertEqual((problem.status, str(problem)), (400, text))
