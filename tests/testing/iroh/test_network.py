"""
Tests for L{dtt.testing.iroh.network}: the behaviour of the bindings
(docs/protocol/gossip.md section 14), as far as the transport relies on it.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from dtt.testing.net.clock import advance
from tests.testing.iroh.common import NetworkTestCase


class MemoryIrohTests(NetworkTestCase):
    """
    Tests for L{MemoryIroh}.
    """

    def test_first_answer(self) -> None:
        """
        The endpoint that answers first decides the outcome, even at an address of an
        earlier dial, for a minute.
        """
        right, wrong = "10.0.0.2:2", "10.0.0.3:3"
        third = self.endpoint(3)

        def dial(*direct: str) -> Deferred[Any]:
            dial = self.dial(2, *direct)
            for endpoint in (self.other, third):
                if endpoint._queue:
                    self.call(self.call(endpoint.accept_next()).accept())
            return dial

        self.successResultOf(dial(right, wrong))
        advance(self.clock, 61)
        self.assertIn("UnknownIssuer", self.error(dial(wrong, right)))
        advance(self.clock, 59)
        self.assertIn("UnknownIssuer", self.error(dial(right)))
        advance(self.clock, 61)
        self.successResultOf(dial(right))

    def test_stalled(self) -> None:
        """
        A host can be stalled, and its network can be cut.
        """
        here, there = self.pair()
        self.net.stalled.add("10.0.0.2")
        writing = self.call(here.open_uni())
        self.call(writing.write_all(b"hello"))
        reading = self.call(there.accept_uni())
        read = self.begin(reading.read(100))
        self.assertNoResult(read)
        self.net.resume("10.0.0.2")
        advance(self.clock, 0)
        self.assertEqual(self.successResultOf(read), b"hello")
        self.net.cut("10.0.0.1", "10.0.0.2")
        self.assertEqual((here.close_reason(), there.close_reason()), ("timed out", "timed out"))

    def test_relays(self) -> None:
        """
        Only URLs can be relays; an endpoint has the first one once it runs.
        """
        url = "https://relay.example/"
        with self.assertRaises(self.bindings.IrohError):
            self.bindings.RelayMode.custom_from_urls([url, "relay.example"])
        builder = self.bindings.EndpointBuilder()
        builder.relay_mode(self.bindings.RelayMode.custom_from_urls([url, "https://other.example/"]))
        endpoint = self.calls.wait(builder.bind(), 1)
        online = self.begin(endpoint.online())
        self.assertIsNone(endpoint.addr().relay_url())
        self.net.start_relay("https://other.example/")
        self.assertNoResult(online)
        self.net.start_relay(url)
        advance(self.clock, 0)
        self.successResultOf(online)
        self.assertEqual(endpoint.addr().relay_url(), url)

    def test_ports(self) -> None:
        """
        Endpoints without a port get different ones.
        """
        builders = [self.bindings.EndpointBuilder() for _ in range(2)]
        sockets = [self.calls.wait(each.bind(), 1).bound_sockets() for each in builders]
        self.assertNotEqual(*sockets)
