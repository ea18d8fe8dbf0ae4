"""
Tests for L{dtt.web.server}.
"""

from __future__ import annotations

from dtt.web.server import Server
from tests.web.common import TOKEN, Connection, WebTestCase, parse


class ServerTests(WebTestCase):
    """
    Tests for L{Server}.
    """

    def setUp(self) -> None:
        super().setUp()
        self.server = Server(self.clock, self.served)

    def test_ports(self) -> None:
        """
        Each port has its own guard, and all answer about the same tracker.
        """
        open_port, port = self.server.factory(None, None), self.server.factory(TOKEN, {"a.example"})
        authorization = f"Authorization: Bearer {TOKEN.decode()}\r\n"
        for factory, host, line, status in (
            (open_port, "anything", "", 200),
            (port, "a.example", "", 401),
            (port, "a.example", authorization, 200),
            (port, "b.example", authorization, 421),
        ):
            connection = Connection(factory)
            connection.send(f"GET /v1/status HTTP/1.1\r\nHost: {host}\r\n{line}\r\n".encode())
            self.assertEqual(parse(connection.received()).status, status)

    def test_end_of_streams(self) -> None:
        """
        The streams of all ports end together.
        """
        streams = [Connection(self.server.factory(None, None)) for _ in range(2)]
        for stream in streams:
            stream.send(b"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
            self.assertIn(b"text/event-stream", stream.received())
        self.server.end_streams()
        self.assertTrue(all(stream.received().endswith(b"0\r\n\r\n") for stream in streams))
