"""
Tests for L{dtt.web.service}: what is bound, and with which rights.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet.defer import fail
from twisted.internet.error import CannotListenError
from twisted.internet.testing import MemoryReactorClock

from dtt.config import WebConfig
from dtt.errors import ListenError, StateError
from dtt.web.service import TOKEN_FILE, WebService, load_token
from dtt.web.unix import SOCKET_FILE
from tests.web.common import Connection, WebTestCase, parse


class ServiceTests(WebTestCase):
    """
    Tests for L{WebService} on a reactor that binds nothing.
    """

    def setUp(self) -> None:
        """Make a state directory."""
        super().setUp()
        # The path of a socket in it is short, wherever the tests run.
        self.directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.directory)
        self.reactor = MemoryReactorClock()

    def service(self, config: WebConfig | None = None) -> WebService:
        """Make a service."""
        service = WebService(self.reactor, self.served, config or WebConfig(), self.directory)
        self.addCleanup(service.stopService)
        return service

    def get(self, factory: Any, path: str, *lines: str) -> int:
        """Ask a factory, and return the status."""
        connection = Connection(factory)
        connection.send("\r\n".join([f"GET {path} HTTP/1.1", "Host: localhost", *lines, "", ""]).encode())
        return parse(connection.received()).status

    def test_unix_only(self) -> None:
        """By default only the socket in the state directory is bound, for its owner, and needs no token."""
        service = self.service()
        umasks: list[int] = []
        listen = self.reactor.listenUNIX

        def listen_unix(*args: Any, **kwargs: Any) -> Any:
            umasks.append(os.umask(0))
            os.umask(umasks[-1])
            return listen(*args, **kwargs)

        self.reactor.listenUNIX = listen_unix  # type: ignore[method-assign]
        service.privilegedStartService()
        service.startService()
        [(path, factory, _, mode, _)] = self.reactor.unixServers
        self.assertEqual((path, mode, umasks), (str(self.directory / SOCKET_FILE), 0o600, [0o177]))
        self.assertEqual(self.reactor.tcpServers, [])
        self.assertIsNone(service.tcp_port)
        self.assertEqual(self.get(factory, "/v1/status"), 200)
        self.assertFalse((self.directory / TOKEN_FILE).exists())

    def test_tcp(self) -> None:
        """On TCP everything needs the token in a file that is made for it."""
        self.service(WebConfig(("127.0.0.1", 8470), ("a.example",))).startService()
        [(port, factory, _, host)] = self.reactor.tcpServers
        self.assertEqual((host, port), ("127.0.0.1", 8470))
        path = self.directory / TOKEN_FILE
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        token = path.read_text().strip()
        self.assertGreaterEqual(len(token), 40)
        self.assertEqual(self.get(factory, "/v1/status"), 401)
        self.assertEqual(self.get(factory, "/v1/status", f"Authorization: Bearer {token}"), 200)
        self.assertEqual(self.get(factory, "/healthz"), 200)

    def test_stop(self) -> None:
        """When it stops, open connections and streams end."""
        service = self.service()
        service.startService()
        factory = self.reactor.unixServers[0][1]
        stream, idle = Connection(factory), Connection(factory)
        stream.send(b"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
        self.successResultOf(service.stopService())
        self.assertTrue(stream.lost)
        self.assertTrue(idle.lost)
        self.assertEqual(self.served._history._observers, {})

    def test_file_gone(self) -> None:
        """It also stops if the file of the socket was removed, as Twisted then fails to do."""
        service = self.service()
        service.startService()
        (bound,) = service._bound
        missing = FileNotFoundError(2, "No such file or directory")
        self.patch(bound.port, "stopListening", lambda: fail(missing))
        self.successResultOf(service.stopService())

    def test_taken(self) -> None:
        """A port that is taken is an error of one line that names it."""

        def taken(*args: Any, **kwargs: Any) -> None:
            raise CannotListenError("x", 1, OSError(98, "Address already in use"))

        self.reactor.listenTCP = taken  # type: ignore[method-assign]
        error = self.assertRaises(ListenError, self.service(WebConfig(("127.0.0.1", 8470))).startService)
        self.assertIn("TCP 127.0.0.1 port 8470 (--web): Address already in use", str(error))


class TokenTests(WebTestCase):
    """
    Tests for L{load_token}.
    """

    def test_kept(self) -> None:
        """The token is made once."""
        path = Path(self.mktemp())
        token = load_token(path)
        self.assertEqual(load_token(path), token)
        self.assertNotEqual(load_token(Path(self.mktemp())), token)

    def test_refused(self) -> None:
        """A file that others can read, or that has no token, is refused."""
        path = Path(self.mktemp())
        for content, mode, expected in (
            (b"a-token-that-is-long-enough", 0o644, "accessible to other users"),
            (b"short", 0o600, "does not contain a token"),
            (b"", 0o600, "does not contain a token"),
            (b"a token with spaces in it", 0o600, "does not contain a token"),
            (b"a-token-with-\xff-in-the-middle", 0o600, "does not contain a token"),
            (b"x" * 2000, 0o600, "larger than"),
        ):
            path.write_bytes(content)
            path.chmod(mode)
            self.assertIn(expected, str(self.assertRaises(StateError, load_token, path)))
