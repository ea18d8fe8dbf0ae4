"""
Tests for L{dtt.testing.iroh.endpoints}: the behaviour of the bindings
(docs/protocol/gossip.md section 14), as far as the transport relies on it.
"""

from __future__ import annotations

from dtt.testing.net.clock import advance
from tests.testing.iroh.common import ALPN, KEYS, NetworkTestCase


class EndpointsTests(NetworkTestCase):
    """
    Tests for L{MemoryEndpoint}.
    """

    def test_dial(self) -> None:
        """
        Both ends know the other's id.
        """
        here, there = self.pair()
        self.assertEqual(here.remote_id().to_bytes(), KEYS[2].peer_id)
        self.assertEqual(there.remote_id().to_bytes(), KEYS[1].peer_id)
        self.assertIsNone(here.close_reason())

    def test_dials_that_fail(self) -> None:
        """
        Failed dials have the library's messages, which the transport recognizes.
        """
        self.assertIn("No addressing", self.error(self.dial(2)))
        other = self.dial(2, "10.0.0.2:2", alpn=b"other")
        self.error(self.begin(self.call(self.other.accept_next()).accept()))
        self.assertIn("known protocol", self.error(other))
        wrong = self.dial(3, "10.0.0.2:2")
        self.call(self.call(self.other.accept_next()).accept())
        self.assertIn("UnknownIssuer", self.error(wrong))
        silent = self.dial(2, "10.0.0.9:9")
        advance(self.clock, 29)
        self.assertNoResult(silent)
        advance(self.clock, 2)
        self.assertIn("timed out", self.error(silent))

    def test_endpoint_closed(self) -> None:
        """
        Closing an endpoint closes its connections, and it accepts no more.
        """
        _, there = self.pair()
        accepting = self.begin(self.other.accept_next())
        self.call(self.other.close())
        self.assertIsNone(self.successResultOf(accepting))
        self.assertIsNotNone(there.close_reason())
        advance(self.clock, 0.1)
        self.assertEqual(self.net.connections, [])

    def test_refused(self) -> None:
        """
        A dial that is refused fails, and leaves no connection.
        """
        dial = self.dial(2, "10.0.0.2:2")
        self.call(self.call(self.other.accept_next()).refuse())
        self.assertIn("refused", self.error(dial))
        self.assertEqual(self.net.connections, [])

    def test_retry(self) -> None:
        """
        A client that must prove its address arrives again, and has proved it then.
        """
        dial = self.dial(2, "10.0.0.2:2")
        incoming = self.call(self.other.accept_next())
        self.assertFalse(self.call(incoming.remote_addr_validated()))
        source = self.call(incoming.remote_addr())
        self.assertEqual((source.addr, source.is_ip()), ("10.0.0.1:1", True))
        self.call(incoming.retry())
        again = self.call(self.other.accept_next())
        self.assertTrue(self.call(again.remote_addr_validated()))
        self.call(again.accept())
        self.successResultOf(dial)

    def test_given_up(self) -> None:
        """
        A dial that was cancelled does not arrive.
        """
        peer = self.bindings.EndpointId.from_bytes(KEYS[2].peer_id)
        dial = self.calls.call(self.one.connect(self.bindings.EndpointAddr(peer, None, ["10.0.0.2:2"]), ALPN))
        dial.cancel()
        self.failureResultOf(dial)
        accepting = self.begin(self.other.accept_next(), 1.0)
        self.assertNoResult(accepting)
