"""
Tests for L{dtt.web.guard}: who may ask over TCP.
"""

from __future__ import annotations

from base64 import b64encode

from twisted.trial.unittest import SynchronousTestCase

from dtt.web.guard import Guard, host_name
from tests.web.common import TOKEN, WebTestCase

BEARER = {"Authorization": f"Bearer {TOKEN.decode()}"}
PATHS = (
    "/",
    "/page.js",
    "/page.css",
    "/icon.svg",
    "/metrics",
    "/v1/status",
    "/v1/openapi.json",
    "/v1/events",
)


def basic(password: bytes, user: bytes = b"") -> dict[str, str]:
    """The header of a browser."""
    return {"Authorization": f"Basic {b64encode(user + b':' + password).decode()}"}


class GuardedTestCase(WebTestCase):
    """
    The interface over TCP.
    """

    guard = Guard(TOKEN, ["status.example.org"])


class TokenTests(GuardedTestCase):
    """
    The token.
    """

    def test_needed(self) -> None:
        """Everything but the health check needs the token, also what does not exist."""
        for path in (*PATHS, "/nothing", "/healthz/", "/v1/topics/x"):
            answer = self.ask(path)
            self.assertEqual(answer.status, 401, path)
            self.assertTrue(answer.headers["www-authenticate"].startswith("Basic "))
            self.assertIn("web.token", answer.error)
        self.assertEqual(self.ask("/healthz").status, 200)
        self.assertEqual(self.ask("/v1/topics", "POST", {"topic": "x"}).status, 401)
        self.assertEqual(self.served.topics(), ())

    def test_given(self) -> None:
        """It is accepted as a bearer token, and as the password of any user."""
        for headers in (
            BEARER,
            basic(TOKEN),
            basic(TOKEN, b"me"),
            {"Authorization": f"bearer  {TOKEN.decode()} "},
        ):
            self.assertEqual(self.ask("/v1/status", headers=headers).status, 200, headers)

    def test_wrong(self) -> None:
        """Anything else is refused."""
        for value in (
            "",
            "Bearer",
            "Bearer ",
            "Bearer x",
            f"Bearer {TOKEN.decode()}x",
            f"Bearer {TOKEN.decode()[:-1]}",
            TOKEN.decode(),
            "Basic",
            "Basic %%%",
            "Basic é",
            f"Basic {b64encode(TOKEN).decode()}",
            f"Digest {TOKEN.decode()}",
            "Bearer \xff",
        ):
            self.assertEqual(self.ask("/v1/status", headers={"Authorization": value}).status, 401, value)

    def test_not_shown(self) -> None:
        """The token is not in the repr of what holds it."""
        self.assertNotIn(TOKEN.decode(), repr(self.guard))


class HostTests(GuardedTestCase):
    """
    DNS rebinding: the page of another name that points here.
    """

    def test_allowed(self) -> None:
        """IP addresses, localhost, and the names of the settings are ours, with any port."""
        for host in (
            "127.0.0.1",
            "127.0.0.1:8470",
            "[::1]:8470",
            "localhost",
            "LOCALHOST:8470",
            "192.0.2.7:80",
            "status.example.org",
            "Status.Example.ORG:443",
        ):
            self.assertEqual(self.ask("/v1/status", headers=BEARER, host=host).status, 200, host)

    def test_refused(self) -> None:
        """Other names are refused, even with the token, and before it is looked at; so are malformed ones."""
        for host in (
            "attacker.example",
            "attacker.example:8470",
            "localhost.attacker.example",
            "127.0.0.1.attacker.example",
            "localhost:x",
            "localhost:99999",
            "user@localhost",
            "localhost/",
            "localhost?",
            "[::1",
            "",
            "127.1",
            "2130706433",
        ):
            for headers in (BEARER, {}):
                status = self.ask("/v1/status", headers=headers, host=host).status
                self.assertIn(status, (400, 421), host)
        self.assertEqual(self.ask("/healthz", host="attacker.example").status, 421)

    def test_missing_or_twice(self) -> None:
        """A request must have one Host."""
        self.assertEqual(self.ask("/v1/status", headers=BEARER, host=None).status, 400)
        self.assertEqual(self.ask("/v1/status", headers={**BEARER, "host": "localhost"}).status, 400)

    def test_host_name(self) -> None:
        """The host is read without port and brackets."""
        for text, host in (
            ("localhost", "localhost"),
            ("A.example:80", "a.example"),
            ("[2001:db8::1]:80", "2001:db8::1"),
            ("a b", None),
            ("a?", None),
            ("x/y", None),
            (":80", None),
        ):
            self.assertEqual(host_name(text), host, text)


class OriginTests(GuardedTestCase):
    """
    Requests that pages of other sites cause, with a password that the browser remembers.
    """

    def test_own(self) -> None:
        """The page itself may ask."""
        for headers in (
            {"Origin": "http://localhost:8470"},
            {"Origin": "https://localhost:8470"},
            {"Sec-Fetch-Site": "same-origin"},
            {"Sec-Fetch-Site": "none"},
        ):
            answer = self.ask("/v1/status", headers={**BEARER, **headers}, host="localhost:8470")
            self.assertEqual(answer.status, 200, headers)

    def test_foreign(self) -> None:
        """Other origins may not, whatever they ask for, and get no permission to read."""
        for headers in (
            {"Origin": "http://attacker.example"},
            {"Origin": "null"},
            {"Origin": ""},
            {"Origin": "http://localhost:9999"},
            {"Origin": "http://127.0.0.1:8470"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
            {"Sec-Fetch-Site": "nonsense"},
            {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
            {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "document"},
        ):
            for method, path in (
                ("GET", "/v1/status"),
                ("GET", "/"),
                ("POST", "/v1/topics"),
                ("GET", "/v1/events"),
            ):
                body = {"topic": "x"} if method == "POST" else None
                answer = self.ask(path, method, body, {**BEARER, **headers}, host="localhost:8470")
                self.assertEqual(answer.status, 403, (headers, path))
                self.assertNotIn("access-control-allow-origin", answer.headers)
        self.assertEqual(self.served.topics(), ())

    def test_preflight(self) -> None:
        """The question of a browser whether another origin may send JSON is refused."""
        answer = self.ask(
            "/v1/topics",
            "OPTIONS",
            headers={**BEARER, "Origin": "http://attacker.example", "Access-Control-Request-Method": "POST"},
        )
        self.assertEqual(answer.status, 403)
        self.assertNotIn("access-control-allow-origin", answer.headers)

    def test_link(self) -> None:
        """A link on another site opens the page, but sends nothing."""
        headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
        self.assertEqual(self.ask("/v1/status", headers={**BEARER, **headers}).status, 200)
        self.assertEqual(self.ask("/v1/topics", "POST", {"topic": "x"}, {**BEARER, **headers}).status, 403)


class UnixTests(WebTestCase):
    """
    The interface over the Unix socket.
    """

    def test_open(self) -> None:
        """Neither a token nor our Host is needed, but another origin is refused."""
        self.assertEqual(self.ask("/v1/status", host="anything").status, 200)
        self.assertEqual(self.ask("/v1/status", headers={"Origin": "http://attacker.example"}).status, 403)


class ReprTests(SynchronousTestCase):
    """
    The repr of a guard.
    """

    def test_repr(self) -> None:
        """It has the hosts only."""
        self.assertEqual(repr(Guard(TOKEN, ["a"])), "Guard(hosts=['a'])")
