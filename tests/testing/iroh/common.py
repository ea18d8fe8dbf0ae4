"""
Helpers for the tests of iroh in memory.
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


class NetworkTestCase(SynchronousTestCase):
    """
    Two endpoints on a network in memory.
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
