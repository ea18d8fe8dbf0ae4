"""
Tests for L{dtt.testing.pkarr_relay}.
"""

from __future__ import annotations

import io
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http import datetimeToString
from twisted.web.http_headers import Headers
from twisted.web.server import Request
from twisted.web.test.requesthelper import DummyChannel

from dtt.addresses.pkarr import MAX_PAYLOAD, Packet, relay_payload, write_dns
from dtt.identity import PeerKey, z32_encode
from dtt.testing.pkarr_relay import PkarrRelay
from dtt.wire.addresses import IROH, PeerAddress

KEY, OTHER = PeerKey.from_seed(b"a" * 32), PeerKey.from_seed(b"b" * 32)
PATH = f"/relay/{z32_encode(KEY.peer_id)}"


def packet(seq: int, port: int = 1) -> Packet:
    """
    A packet with one address.
    """
    return Packet(KEY.peer_id, seq, write_dns(KEY.peer_id, [PeerAddress(IROH, "192.0.2.1", port)]))


class PkarrRelayTests(SynchronousTestCase):
    """
    Tests for L{PkarrRelay}.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_800_000_000)
        self.relay = PkarrRelay(self.clock)

    def ask(self, method: str, path: str = PATH, body: bytes = b"", **headers: str) -> tuple[int, bytes, Any]:
        """
        Send a request, and return status, body and headers of the answer.
        """
        request: Any = Request(DummyChannel(), False)
        request.method, request.path, request.content = method.encode(), path.encode(), io.BytesIO(body)
        request.requestHeaders = Headers({name.replace("_", "-"): [value] for name, value in headers.items()})
        answer = self.relay.render(request)
        return request.code, answer, request.responseHeaders

    def put(self, key: PeerKey, content: Packet) -> int:
        """
        Store a packet.
        """
        return self.ask("PUT", body=relay_payload(key, content))[0]

    def test_stored(self) -> None:
        """
        A packet is returned as it was sent; of an unknown key there is none.
        """
        self.assertEqual(self.ask("GET")[0], 404)
        self.assertIsNone(self.relay.packet(KEY.peer_id))
        self.assertEqual(self.put(KEY, packet(5)), 204)
        self.assertEqual(self.ask("GET")[:2], (200, relay_payload(KEY, packet(5))))
        self.assertEqual(self.relay.packet(KEY.peer_id), packet(5))
        self.assertEqual(self.ask("GET", f"/{z32_encode(OTHER.peer_id)}")[0], 404)
        self.assertEqual(self.relay.log[0], ("GET", PATH, 404))
        self.assertEqual([status for _, _, status in self.relay.log], [404, 204, 200, 404])

    def test_refused(self) -> None:
        """
        A packet of somebody else, garbage, too much, an older packet, and a path that is no key, are refused.
        """
        self.put(KEY, packet(5))
        self.assertEqual(self.put(OTHER, packet(6)), 400)
        self.assertEqual(self.ask("PUT", body=b"garbage")[0], 400)
        self.assertEqual(self.ask("PUT", body=bytes(MAX_PAYLOAD + 1))[0], 413)
        self.assertEqual(self.put(KEY, packet(4)), 409)
        self.assertEqual(self.ask("GET", "/relay/no-key")[0], 400)
        self.assertEqual(self.ask("DELETE")[0], 404)
        self.assertEqual(self.relay.packet(KEY.peer_id), packet(5))

    def test_unchanged(self) -> None:
        """
        Who has the latest packet gets none; one that was replaced within the same second counts as changed.
        """
        self.put(KEY, packet(5))
        date = datetimeToString(self.clock.seconds()).decode()
        self.assertEqual(self.ask("GET", If_Modified_Since=date)[:2], (304, b""))
        self.assertEqual(self.put(KEY, packet(5)), 204)
        self.assertEqual(self.ask("GET", If_Modified_Since=date)[0], 304)
        self.put(KEY, packet(6))
        self.assertEqual(self.ask("GET", If_Modified_Since=date)[:2], (200, relay_payload(KEY, packet(6))))

    def test_busy(self) -> None:
        """
        A busy relay answers nothing else.
        """
        self.relay.busy = 30
        for method in ("GET", "PUT"):
            status, body, headers = self.ask(method)
            self.assertEqual((status, body, headers.getRawHeaders("Retry-After")), (429, b"", ["30"]))
