"""
Tests for L{dtt.testing.iroh.network}: the behaviour of the bindings
(docs/protocol/gossip.md section 14), as far as the transport relies on it.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from dtt.identity import PeerKey
from dtt.testing.iroh.endpoints import MemoryEndpoint
from dtt.testing.iroh.network import MemoryIroh
from dtt.testing.iroh.streams import MemoryConnection
from dtt.testing.net.clock import ThreadClock, advance
from dtt.transport.iroh.calls import Calls, IrohFailure

KEYS = [PeerKey.from_seed(bytes((number,)) * 32) for number in range(5)]
ALPN = b"test"


class MemoryIrohTests(SynchronousTestCase):
    """
    Tests for L{MemoryIroh}.
    """

    def setUp(self) -> None:
        self.clock = ThreadClock()
        self.net = MemoryIroh(self.clock, window=1000)
        self.bindings = self.net.bindings("10.0.0.1")
        self.calls = Calls(self.clock, self.bindings.IrohError)
        self.one, self.other = self.endpoint(1), self.endpoint(2)

    def endpoint(self, number: int) -> MemoryEndpoint:
        """
        An endpoint on its own host.
        """
        builder = self.net.bindings(f"10.0.0.{number}").EndpointBuilder()
        builder.apply_minimal()
        builder.secret_key(KEYS[number].seed)
        builder.alpns([ALPN])
        builder.bind_addr(f"10.0.0.{number}:{number}")
        endpoint: MemoryEndpoint = self.calls.wait(builder.bind(), 1)
        return endpoint

    def begin(self, coroutine: Coroutine[Any, Any, Any], seconds: float = 0.1) -> Deferred[Any]:
        """
        Start a call, and advance the clock a little.
        """
        result = self.calls.call(coroutine)
        advance(self.clock, seconds)
        return result

    def call(self, coroutine: Coroutine[Any, Any, Any], seconds: float = 0.1) -> Any:
        """
        The result of a call.
        """
        return self.successResultOf(self.begin(coroutine, seconds))

    def error(self, result: Deferred[Any]) -> str:
        """
        The error of a failed call.
        """
        return str(self.failureResultOf(result, IrohFailure).value)

    def dial(self, number: int, *direct: str, alpn: bytes = ALPN) -> Deferred[Any]:
        """
        Let C{one} dial.
        """
        peer = self.bindings.EndpointId.from_bytes(KEYS[number].peer_id)
        return self.begin(self.one.connect(self.bindings.EndpointAddr(peer, None, list(direct)), alpn))

    def pair(self) -> tuple[MemoryConnection, MemoryConnection]:
        """
        Both ends of a connection.
        """
        dial = self.dial(2, "10.0.0.2:2")
        incoming = self.call(self.other.accept_next())
        accepting = self.call(incoming.accept())
        there = self.call(accepting.connect())
        return self.successResultOf(dial), there

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

    def test_stream(self) -> None:
        """
        Bytes, the end of the stream and its acknowledgement arrive; a write waits for the
        window.
        """
        here, there = self.pair()
        writing = self.call(here.open_uni())
        written = self.begin(writing.write_all(bytes(1500)))
        self.assertNoResult(written)
        reading = self.call(there.accept_uni())
        self.assertEqual(len(self.call(reading.read(600))), 600)
        self.successResultOf(written)
        self.call(writing.finish())
        self.successResultOf(self.begin(writing.stopped()))
        self.assertEqual(len(self.call(reading.read(5000))), 900)
        self.assertEqual(self.call(reading.read(5000)), b"")

    def test_close(self) -> None:
        """
        Closing a connection fails all pending calls; data that had arrived can still be
        read.
        """
        here, there = self.pair()
        writing = self.call(here.open_uni())
        self.call(writing.write_all(b"hello"))
        accepting = self.begin(here.accept_uni())
        here.close(0, b"bye")
        advance(self.clock, 0.1)
        self.assertTrue(self.error(accepting).startswith("CONNECTION"))
        self.assertEqual(there.close_reason(), "closed by peer: bye (code 0)")
        reading = self.call(there.accept_uni())
        self.assertEqual(self.call(reading.read(100)), b"hello")
        self.assertIn("ConnectionLost", self.error(self.begin(reading.read(100))))
        self.assertTrue(self.error(self.begin(there.open_uni())).startswith("CONNECTION"))

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
