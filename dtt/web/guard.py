"""
Access control for requests over TCP.

Rules (the threats are in docs/explanation/threats.md): every page in a browser of this
machine can send requests to it.
  - The C{Host} must be an address or one of our names: a page that uses DNS rebinding sends its own name.
  - A request that another origin has caused, according to C{Origin} or C{Sec-Fetch-Site}, is refused, except
    for a link that a user opens.
  - Everything but the health check needs the token, as C{Bearer}, or as the password of
    C{Basic}, which a browser asks for.

Over the Unix socket, whose mode admits only its owner, none of this is needed, but requests with a foreign
C{Origin} are also refused: some proxies forward to sockets.
"""

from __future__ import annotations

import hmac
import ipaddress
from base64 import b64decode
from collections.abc import Collection
from typing import Final
from urllib.parse import urlsplit

from attrs import field, frozen
from twisted.web.server import Request

from dtt.web.answers import Problem, header_of

#: The path that needs no token.
HEALTH: Final = "/healthz"


def host_name(text: str) -> str | None:
    """
    Return the host of a C{Host} header, without its port and brackets, in lower case.

    @return: C{None} if it is malformed.
    """
    try:
        parts = urlsplit(f"//{text}")
        parts.port  # noqa: B018  # raises if it is out of range
    except ValueError:
        return None
    return None if set(text) & set("/?#@\\ \t") or not parts.hostname else parts.hostname


@frozen(slots=True)
class Guard:
    """
    Decides whether a request is answered.

    @ivar token: the token; C{None}: none is needed.
    @ivar hosts: the names by which we may be called, in lower case, beside IP addresses and
        C{localhost}; C{None}: the C{Host} does not matter.
    """

    token: bytes | None = field(default=None, repr=False)
    hosts: Collection[str] | None = None

    def check(self, request: Request, path: str) -> None:
        """
        Check a request.

        @param path: its path.
        @raise Problem: it is refused.
        """
        host = self._check_host(request)
        self._check_origin(request, host)
        if self.token is not None and path != HEALTH:
            self._check_token(request, self.token)

    def _check_host(self, request: Request) -> str:
        text = header_of(request, "Host")
        if self.hosts is None:
            return text or ""
        host = None if text is None else host_name(text)
        if text is None or host is None:
            raise Problem(400, "the header Host is missing or malformed")
        if not (host == "localhost" or host in self.hosts or _is_address(host)):
            raise Problem(
                421,
                f"this is not {host[:80]}; use an IP address, localhost, or add the name to [web] hosts",
            )
        return text

    def _check_origin(self, request: Request, host: str) -> None:
        origin = header_of(request, "Origin")
        if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
            raise Problem(403, "requests of other origins are refused")
        site = header_of(request, "Sec-Fetch-Site")
        if site in (None, "same-origin", "none"):
            return
        opened = (
            request.method == b"GET"
            and header_of(request, "Sec-Fetch-Mode") == "navigate"
            and header_of(request, "Sec-Fetch-Dest") == "document"
        )
        if not opened:
            raise Problem(403, "requests of other sites are refused")

    def _check_token(self, request: Request, token: bytes) -> None:
        given = _credentials(header_of(request, "Authorization") or "")
        if not hmac.compare_digest(given, token):
            raise Problem(
                401,
                "the token is missing or wrong; it is in the file web.token of the state directory",
                # Browsers do not understand several challenges in one header.
                {"WWW-Authenticate": 'Basic realm="dtt", charset="UTF-8"'},
            )


def _credentials(header: str) -> bytes:
    """
    Return the token in an C{Authorization} header; C{b""} if there is none.
    """
    scheme, _, rest = header.strip().partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip().encode("latin-1", "replace")
    if scheme.lower() == "basic":
        try:
            return b64decode(rest.strip(), validate=True).partition(b":")[2]
        except ValueError:  # also binascii.Error
            return b""
    return b""


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
