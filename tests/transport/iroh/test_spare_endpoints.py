"""
Tests for L{dtt.transport.iroh.spare_endpoints}.  Dials that use them are in
L{tests.transport.iroh.test_dialer}.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from dtt.errors import DialFailed, NoRoom
from dtt.testing.iroh.network import MemoryEndpointBuilder, MemoryIroh
from dtt.testing.iroh.streams import Changes, IrohError
from dtt.testing.net.clock import ThreadClock, advance
from dtt.transport.iroh.calls import Calls, IrohFailure
from dtt.transport.iroh.endpoint import ALPN
from dtt.transport.iroh.spare_endpoints import MAX_SPARES, SpareEndpoints
from tests.transport.iroh.common import KEYS


class SpareEndpointsTests(SynchronousTestCase):
    """
    Tests for L{SpareEndpoints}.
    """

    def setUp(self) -> None:
        self.clock = ThreadClock()
        self.net = MemoryIroh(self.clock)
        self.calls = Calls(self.clock, IrohError)
        self.spares = SpareEndpoints(self.clock, self.calls, lambda: self.builder(1))

    def builder(self, number: int) -> Any:
        """
        The builder of an endpoint with one of our keys.
        """
        bindings = self.net.bindings(f"10.0.0.{number}")
        builder = bindings.EndpointBuilder()
        builder.secret_key(KEYS[number].seed)
        return builder

    def bind(self) -> Deferred[Any]:
        """
        Bind one.
        """
        binding = Deferred.fromCoroutine(self.spares.bind())
        advance(self.clock, 0.1)
        return binding

    def test_bind_and_close(self) -> None:
        """
        An endpoint exists until it is closed, once.
        """
        endpoint = self.successResultOf(self.bind())
        other = self.successResultOf(self.bind())
        self.assertEqual(self.spares.open, [endpoint, other])
        self.spares.close(endpoint)
        self.spares.close(endpoint)
        advance(self.clock, 0.1)
        self.assertEqual((self.spares.open, self.net.endpoints), ([other], [other]))

    def test_limit(self) -> None:
        """
        There are at most so many, those that are being bound included; a closed one makes room.
        """
        changes = self.slow()
        binding = [self.bind() for _ in range(MAX_SPARES)]
        self.assertEqual(str(self.failureResultOf(self.bind(), NoRoom).value), "too many dials")
        changes.notify()
        advance(self.clock, 0.1)
        endpoints = [self.successResultOf(each) for each in binding]
        self.failureResultOf(self.bind(), NoRoom)
        self.spares.close(endpoints[0])
        binding = [self.bind()]
        changes.notify()
        advance(self.clock, 0.1)
        self.assertEqual(len(self.spares.open), MAX_SPARES)
        self.successResultOf(binding[0])

    def slow(self) -> Changes:
        """
        Let binding take until the result is notified.
        """
        changes = Changes()
        original: Any = MemoryEndpointBuilder.bind

        async def bind(builder: MemoryEndpointBuilder) -> Any:
            await changes.wait()
            return await original(builder)

        self.patch(MemoryEndpointBuilder, "bind", bind)
        return changes

    def test_cannot_be_bound(self) -> None:
        """
        A failure is one of the dial, and uses no place.
        """

        async def bind(builder: MemoryEndpointBuilder) -> Any:
            raise IrohError("BIND", "too many open files")

        self.patch(MemoryEndpointBuilder, "bind", bind)
        for _ in range(MAX_SPARES + 1):
            self.assertEqual(str(self.failureResultOf(self.bind(), DialFailed).value), "no socket")
        self.assertEqual(self.spares.open, [])

    def test_cancelled(self) -> None:
        """
        A dial that is cancelled while its endpoint is bound uses no place.
        """
        self.slow()
        binding = self.bind()
        self.assertEqual(self.spares.open, [None])
        binding.cancel()
        self.failureResultOf(binding, CancelledError)
        self.assertEqual((self.spares.open, self.net.endpoints), ([], []))

    def test_inbound(self) -> None:
        """
        It refuses connections, even those of the right protocol.
        """
        endpoint = self.successResultOf(self.bind())
        builder = self.builder(2)
        builder.alpns([ALPN])
        stranger = self.calls.wait(builder.bind(), 1)
        bindings = self.net.bindings("10.0.0.2")
        peer_id = bindings.EndpointId.from_bytes(KEYS[1].peer_id)
        for _ in range(3):
            address = bindings.EndpointAddr(peer_id, None, endpoint.bound_sockets())
            connecting = self.calls.call(stranger.connect(address, ALPN))
            advance(self.clock, 0.2)
            self.assertEqual(self.failureResultOf(connecting, IrohFailure).value.text, "refused")
        self.assertEqual(self.net.connections, [])

    def test_close_all(self) -> None:
        """
        The result fires when all are closed, also those whose end has begun before; an error of the library
        does not matter.
        """
        endpoints = [self.successResultOf(self.bind()) for _ in range(3)]
        changes = Changes()

        async def close() -> None:
            await changes.wait()
            raise IrohError("CLOSED", "closed")

        for endpoint in endpoints:
            self.patch(endpoint, "close", close)
        self.spares.close(endpoints[0])
        closed = self.spares.close_all()
        self.assertEqual(self.spares.open, [])
        self.assertNoResult(closed)
        changes.notify()
        advance(self.clock, 0.1)
        self.successResultOf(closed)
        self.successResultOf(self.spares.close_all())
