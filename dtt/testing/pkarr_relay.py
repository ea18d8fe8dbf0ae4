"""
A pkarr relay in memory, as a resource of Twisted's web server.

    reactor.listenTCP(0, Site(PkarrRelay(reactor)), interface="127.0.0.1")

Contract: docs/protocol/addresses.md section 2.  It verifies what it is given, and tells
when a packet came as C{Last-Modified}.
"""

from __future__ import annotations

from attrs import frozen
from twisted.internet.interfaces import IReactorTime
from twisted.web.http import CACHED, Request
from twisted.web.resource import Resource

from dtt.addresses.pkarr import MAX_PAYLOAD, Packet, read_payload
from dtt.errors import DecodeError, UsageError
from dtt.identity import z32_decode


@frozen(slots=True)
class _Held:
    packet: Packet
    payload: bytes
    at: float


class PkarrRelay(Resource):
    """
    @ivar busy: C{Retry-After} seconds with which everything is answered by 429;
        L{None}: nothing is.
    @ivar log: method, path and status of each request.
    """

    isLeaf = True

    def __init__(self, reactor: IReactorTime) -> None:
        super().__init__()
        self.busy: int | None = None
        self.log: list[tuple[str, str, int]] = []
        self._reactor = reactor
        self._held: dict[bytes, _Held] = {}

    def render(self, request: Request) -> bytes:
        """
        Answer one request.
        """
        path = request.path.decode("ascii")
        body = self._render(request, path.rpartition("/")[2])
        self.log.append((request.method.decode("ascii"), path, request.code))
        return body

    def packet(self, public_key: bytes) -> Packet | None:
        """
        What is held of this key.
        """
        held = self._held.get(public_key)
        return None if held is None else held.packet

    def put(self, public_key: bytes, payload: bytes) -> int:
        """
        Take a packet.

        @return: the status.
        """
        if len(payload) > MAX_PAYLOAD:
            return 413
        try:
            packet = read_payload(public_key, payload)
        except DecodeError:
            return 400
        held = self._held.get(public_key)
        if held is not None and held.packet.version() > packet.version():
            return 409
        # HTTP tells times in seconds; what changes must change its time.
        at = self._reactor.seconds()
        if held is not None and held.packet != packet:
            at = max(at, held.at + 1)
        self._held[public_key] = _Held(packet, payload, at)
        return 204

    def _render(self, request: Request, name: str) -> bytes:
        if self.busy is not None:
            request.setResponseCode(429)
            request.setHeader(b"Retry-After", b"%d" % self.busy)
            return b""
        try:
            public_key = z32_decode(name)
        except UsageError:
            request.setResponseCode(400)
            return b""
        if request.method == b"PUT":
            assert request.content is not None
            request.setResponseCode(self.put(public_key, request.content.read()))
            return b""
        held = self._held.get(public_key)
        if request.method != b"GET" or held is None:
            request.setResponseCode(404)
            return b""
        if request.setLastModified(held.at) is CACHED:
            return b""
        return held.payload
