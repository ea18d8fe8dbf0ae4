"""
HTTP over connections in memory: bytes in, answers out.
"""

from __future__ import annotations

import json
from typing import Any

from attrs import frozen
from twisted.internet.testing import StringTransportWithDisconnection

from dtt.web.bounds import BoundedFactory
from dtt.web.events import EventStreams
from dtt.web.guard import Guard
from dtt.web.root import Root, Routes
from tests.tracker.case import TrackerTestCase

TOKEN = b"an-example-token-0123456789"


@frozen
class Response:
    """
    An answer.

    @ivar status: its status.
    @ivar headers: its headers, by name in lower case.
    @ivar body: its body.
    """

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The message of an error."""
        return str(self.json["error"])


def parse(data: bytes) -> Response:
    """Parse an answer; a chunked body is joined."""
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if headers.get("transfer-encoding") == "chunked":
        rest, body = body, b""
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            length = int(size, 16)
            body += rest[:length]
            rest = rest[length + 2 :]
    return Response(int(first.split()[1]), headers, body)


class Connection:
    """
    A connection of a client.

    @ivar transport: the transport of the server.
    @ivar lost: whether the server has ended it, or has refused it.
    """

    def __init__(self, factory: Any) -> None:
        self.transport: Any = StringTransportWithDisconnection()
        protocol: Any = factory.buildProtocol(None)
        self.refused = protocol is None
        if not self.refused:
            self.transport.protocol = protocol
            self.protocol = protocol
            protocol.makeConnection(self.transport)

    @property
    def lost(self) -> bool:
        """Whether it has ended."""
        return self.refused or not self.transport.connected

    def send(self, data: bytes) -> None:
        """Send bytes; the connection may end meanwhile."""
        if not self.lost:
            self.protocol.dataReceived(data)

    def received(self) -> bytes:
        """What has arrived since the last call."""
        data: bytes = self.transport.value()
        self.transport.clear()
        return data


class WebTestCase(TrackerTestCase):
    """
    The HTTP interface of a tracker that runs.
    """

    guard = Guard()

    def setUp(self) -> None:
        """Start a tracker, and serve it."""
        super().setUp()
        self.served = self.tracker(1)
        self.streams = EventStreams(self.clock, self.served.observe_events)
        self.factory = BoundedFactory(self.clock, Root(Routes(self.served, self.streams), self.guard))

    def connect(self) -> Connection:
        """Open a connection."""
        return Connection(self.factory)

    def ask(
        self,
        path: str,
        method: str = "GET",
        body: Any = None,
        headers: dict[str, str] | None = None,
        host: str | None = "localhost",
    ) -> Response:
        """Send a request, and return the response. A body that is not bytes is sent as JSON."""
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        sent = {} if host is None else {"Host": host}
        if body is not None:
            sent |= {"Content-Type": "application/json"}
        if data:
            sent |= {"Content-Length": str(len(data))}
        lines = [f"{method} {path} HTTP/1.1", *(f"{k}: {v}" for k, v in {**sent, **(headers or {})}.items())]
        connection = self.connect()
        connection.send("\r\n".join([*lines, "", ""]).encode("latin-1") + data)
        answer = parse(connection.received())
        self.assertTrue(connection.lost or answer.status)
        return answer
