"""
The responses of HTTP request handlers, and the parsing of requests.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from attrs import field, frozen
from twisted.web.server import Request

#: Headers of every answer: nothing is cached, guessed, framed, or read by pages of other origins
#: (https://owasp.org/www-project-secure-headers/).
COMMON: Final = {
    "Server": "dtt",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Content-Security-Policy": (
        "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    ),
}

JSON: Final = "application/json"


@frozen(slots=True)
class Answer:
    """
    An answer.

    @ivar status: the HTTP status.
    @ivar body: the body.
    @ivar content_type: its media type.
    @ivar headers: further headers.
    """

    status: int
    body: bytes = b""
    content_type: str = JSON
    headers: Mapping[str, str] = field(factory=dict)

    def write(self, request: Request) -> None:
        """
        Send it.
        """
        request.setResponseCode(self.status, HTTPStatus(self.status).phrase.encode("ascii"))
        headers = {**COMMON, **self.headers}
        if self.status != 204:
            headers["Content-Type"] = self.content_type
            headers["Content-Length"] = str(len(self.body))
        for name, value in headers.items():
            request.setHeader(name.encode("ascii"), value.encode("utf-8"))
        request.write(self.body)
        request.finish()


def json_answer(value: Any, status: int = 200) -> Answer:
    """
    Return C{value} as JSON.
    """
    return Answer(status, json.dumps(value).encode("ascii") + b"\n")


class Problem(Exception):
    """
    An error response to a request.

    @ivar status: the HTTP status.
    @ivar headers: further headers.
    """

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        """
        @param status: the HTTP status.
        @param message: one line that says what to do.
        @param headers: further headers.
        """
        super().__init__(message)
        self.status = status
        self.headers = headers or {}

    def answer(self) -> Answer:
        """
        Return the answer.
        """
        return Answer(
            self.status, json.dumps({"error": str(self)}).encode("ascii") + b"\n", JSON, self.headers
        )


def header_of(request: Request, name: str) -> str | None:
    """
    Return a header that may occur once.

    @return: its value; C{None}: it is missing.
    @raise Problem: it occurs more often.
    """
    values = request.requestHeaders.getRawHeaders(name.encode("ascii"), [])
    if len(values) > 1:
        raise Problem(400, f"the header {name} occurs more than once")
    return values[0].decode("latin-1") if values else None


def json_object(request: Request, allowed: Mapping[str, type]) -> dict[str, Any]:
    """
    Return the JSON object in the body of a request.

    @param allowed: the keys that it may have, and the types of their values.
    @raise Problem: it is something else.
    """
    content_type = (header_of(request, "Content-Type") or "").partition(";")[0].strip().lower()
    if content_type != JSON:
        raise Problem(415, f"send the body as {JSON}")
    assert request.content is not None
    request.content.seek(0)
    try:
        value = json.loads(request.content.read())
    except (ValueError, RecursionError):
        raise Problem(400, "the body is not JSON") from None
    if not isinstance(value, dict):
        raise Problem(400, "the body is not a JSON object")
    for name, given in value.items():
        if name not in allowed:
            raise Problem(400, f"unknown key {name[:40]!r}; expected {', '.join(allowed)}")
        if not isinstance(given, allowed[name]):
            raise Problem(400, f"{name} must be {_NAMES[allowed[name]]}")
    return value


_NAMES: Final[Mapping[type, str]] = {str: "a string"}
