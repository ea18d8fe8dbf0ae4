"""
Shared code for the tests of the iroh transport: an in-memory QUIC network, and a raw
peer that follows no protocol rules.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from dtt.events import Event
from dtt.identity import PeerKey
from dtt.testing.iroh.network import MemoryIroh
from dtt.testing.iroh.streams import MemoryConnection, MemoryStream
from dtt.testing.memory_transport import RecordingLinks
from dtt.testing.net.clock import ThreadClock, advance
from dtt.transport.iroh.calls import Calls, IrohFailure
from dtt.transport.iroh.endpoint import ALPN
from dtt.transport.iroh.transport import IrohTransport
from dtt.transport.settings import TransportSettings
from dtt.wire.addresses import IROH, PeerAddress

TOPIC, OTHER, SECRET = b"t" * 32, b"u" * 32, b"s" * 32
BYE = b"\x00\x05\x00\x00"
KEYS = [PeerKey.from_seed(bytes((number,)) * 32) for number in range(40)]


class RawPeer:
    """
    An endpoint on the network that follows no protocol rules.

    @ivar key: its peer key.
    @ivar connections: its connections, in order.
    """

    def __init__(self, test: IrohTestCase, number: int) -> None:
        self._test = test
        self.key = KEYS[number]
        self.connections: list[MemoryConnection] = []
        self._bindings = test.net.bindings(f"10.0.0.{number}")
        self._calls = Calls(test.clock, self._bindings.IrohError)
        builder = self._bindings.EndpointBuilder()
        builder.secret_key(self.key.seed)
        builder.alpns([ALPN])
        builder.bind_addr(f"10.0.0.{number}:4433")
        self.endpoint = self._calls.wait(builder.bind(), 1)
        self.address = PeerAddress(IROH, f"10.0.0.{number}", 4433)

    def call(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """
        Return the result of a call of the bindings, which must be available soon.
        """
        result = self._calls.call(coroutine)
        self._test.advance(0.1)
        return self._test.successResultOf(result)

    def start(self, coroutine: Coroutine[Any, Any, Any]) -> Deferred[Any]:
        """
        Start a call of the bindings; a failure gives C{None}.
        """
        return self._calls.call(coroutine).addErrback(lambda failure: failure.trap(IrohFailure) and None)

    def connect(self, to: IrohTransport) -> MemoryConnection:
        """
        Connect to C{to}.
        """
        connecting = self.begin(to)
        self._test.advance(0.1)
        connection: MemoryConnection = self._test.successResultOf(connecting)
        self.connections.append(connection)
        return connection

    def begin(self, to: IrohTransport) -> Deferred[Any]:
        """
        Start to connect.
        """
        bindings = self._bindings
        (host,) = (a for a in to.addresses() if isinstance(a, PeerAddress))
        addr = bindings.EndpointAddr(bindings.EndpointId.from_bytes(to.peer_id), None, [str(host)])
        return self.start(self.endpoint.connect(addr, ALPN))

    def accept(self) -> MemoryConnection:
        """
        Return the next inbound connection.
        """
        incoming = self.call(self.endpoint.accept_next())
        accepting = self.call(incoming.accept())
        connection: MemoryConnection = self.call(accepting.connect())
        self.connections.append(connection)
        return connection

    def write(self, connection: MemoryConnection, data: bytes) -> MemoryStream:
        """
        Write to a new stream.
        """
        stream: MemoryStream = self.call(connection.open_uni())
        self.call(stream.write_all(data))
        return stream

    def read(self, connection: MemoryConnection) -> bytes:
        """
        Return what is available on the next stream of C{connection}.
        """
        stream = self.call(connection.accept_uni())
        data: bytes = self.call(stream.read(1_000_000))
        return data


class IrohTestCase(SynchronousTestCase):
    """
    Tests on a network.
    """

    def setUp(self) -> None:
        self.clock = ThreadClock()
        self.net = MemoryIroh(self.clock)
        self.a, self.on_a = self.transport(1)

    def advance(self, seconds: float) -> None:
        """
        Advance the clock.
        """
        advance(self.clock, seconds)

    def transport(self, number: int, **settings: Any) -> tuple[IrohTransport, RecordingLinks]:
        """
        A transport on which L{TOPIC} is open.
        """
        host = f"10.0.0.{number}"
        transport = IrohTransport(self.clock, KEYS[number], bindings=self.net.bindings(host), **settings)
        transport.listen(host, 0)
        links = RecordingLinks()
        transport.open_topic(TOPIC, SECRET, links)
        return transport, links

    def connected(self) -> tuple[IrohTransport, RecordingLinks]:
        """
        Return another transport to which L{a} is connected.
        """
        b, on_b = self.transport(2)
        result = self.a.dial(b.peer_id, b.addresses())
        self.advance(0.1)
        self.successResultOf(result)
        return b, on_b

    def closed(self) -> dict[str, int]:
        """
        The reasons for which connections of L{a} were closed.
        """
        return {
            reason.removeprefix("closed_").replace("_", " "): count
            for reason, count in self.a.counters.items()
            if reason.startswith("closed_")
        }


class ProvingTestCase(IrohTestCase):
    """
    Tests with transports that require proofs.
    """

    def strict(self, number: int = 3) -> tuple[IrohTransport, RecordingLinks, list[Event]]:
        """
        A transport that requires proofs, and its events.
        """
        events: list[Event] = []
        made, links = self.transport(
            number, settings=TransportSettings(require_secret=True, emit=events.append)
        )
        return made, links, events

    def dial(self, one: IrohTransport, other: IrohTransport) -> None:
        """
        Connect.
        """
        result = one.dial(other.peer_id, other.addresses())
        self.advance(0.1)
        self.successResultOf(result)
