"""
An in-memory pkarr relay, as a resource of Twisted's web server.

Example::

    reactor.listenTCP(0, Site(PkarrRelay(reactor)), interface="127.0.0.1")

Contract: docs/protocol/addresses.md section 2. The relay verifies each packet it gets,
and reports when a packet arrived as C{Last-Modified}.
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
    A relay that stores one packet per key.

    @ivar busy: if set, every request is answered with status 429 and this C{Retry-After},
        in seconds.
    @ivar log: the method, path and status of each request.
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
        Answer one request and log it.
        """
        path = request.path.decode("ascii")
        body = self._render(request, path.rpartition("/")[2])
        self.log.append((request.method.decode("ascii"), path, request.code))
        return body

    def packet(self, public_key: bytes) -> Packet | None:
        """
        The stored packet of a public key (32 bytes); C{None} if there is none.
        """
        held = self._held.get(public_key)
        return None if held is None else held.packet

    def put(self, public_key: bytes, payload: bytes) -> int:
        """
        Store a packet.

        @param public_key: 32 bytes.
        @param payload: the body of the PUT request.
        @return: the HTTP status: 204, or 400, 409 or 413 if the packet is refused.
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
        # HTTP dates have a resolution of one second: a changed packet needs a later date.
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
