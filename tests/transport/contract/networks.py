"""
Networks of each kind of transport, with the operations that the tests of the contract need.
"""

from __future__ import annotations

from typing import Protocol, TypeAlias

from twisted.internet.task import Clock

from dtt.identity import PeerKey
from dtt.testing.iroh.network import MemoryIroh
from dtt.testing.memory_transport import MemoryHub, MemoryPeerTransport
from dtt.testing.net.clock import ThreadClock, advance
from dtt.testing.net.tcp import MemoryTCPNetwork
from dtt.transport.iroh.transport import IrohTransport
from dtt.transport.streams.transport import StreamsTransport
from dtt.wire.addresses import IROH, QUIC, STREAMS, PeerAddress
from tests.transport.quic.network import KEYS, QuicNetwork

Transport: TypeAlias = StreamsTransport | MemoryPeerTransport | IrohTransport


class Network(Protocol):
    """
    The operations that the tests need from a network of either kind.
    """

    @property
    def clock(self) -> Clock:
        """The clock of the network."""

    kind: int
    """The kind of its transports, as in address hints."""
    keep_alive: bool | None
    """Whether an idle connection has a timer; C{None}: some have."""
    listener_timers: int
    """The number of timers of a running transport without connections."""
    refuses: bool
    """Whether a port without a listener refuses connections."""
    max_message: int
    """The size of the largest message, in bytes."""

    def transport(self, n: int) -> Transport:
        """Return a listening transport; a larger C{n} gives a larger peer id."""

    def advance(self, seconds: float) -> None:
        """Advance the clock."""

    def silence(self, transport: Transport) -> None:
        """Let connects to C{transport} go unanswered."""

    def cut(self, one: Transport, other: Transport) -> None:
        """Break all connections between two transports."""

    def stall(self, transport: Transport) -> None:
        """Stop C{transport} from reading."""

    def resume(self, transport: Transport) -> None:
        """Let C{transport} read again."""

    def connections(self, transport: Transport) -> int:
        """Return its number of connections."""


class StreamsNetwork:
    """
    L{Network} of L{StreamsTransport}s.
    """

    #: Sorted by peer id.
    keys = sorted((PeerKey.from_seed(bytes((n,)) * 32) for n in range(24)), key=lambda key: key.peer_id)

    kind = STREAMS
    keep_alive: bool | None = True
    listener_timers = 0
    refuses = True
    max_message = 4096

    def __init__(self) -> None:
        self.clock = Clock()
        self.tcp = MemoryTCPNetwork(self.clock)

    def transport(self, n: int) -> Transport:
        host = f"10.0.0.{n}"
        transport = StreamsTransport(self.tcp.reactor(host), self.keys[n])
        transport.listen(host, 0)
        return transport

    def _host(self, transport: Transport) -> str:
        return f"10.0.0.{[key.peer_id for key in self.keys].index(transport.peer_id)}"

    def advance(self, seconds: float) -> None:
        self.tcp.advance(seconds)

    def silence(self, transport: Transport) -> None:
        self.tcp.silent.add(self._host(transport))

    def cut(self, one: Transport, other: Transport) -> None:
        self.tcp.cut(self._host(one), self._host(other))

    def stall(self, transport: Transport) -> None:
        for end in self.tcp.transports(self._host(transport)):
            end.pauseProducing()

    def resume(self, transport: Transport) -> None:
        for end in self.tcp.transports(self._host(transport)):
            end.resumeProducing()

    def connections(self, transport: Transport) -> int:
        return len(self.tcp.transports(self._host(transport)))


class HubNetwork:
    """
    L{Network} of L{MemoryPeerTransport}s.
    """

    kind = STREAMS
    keep_alive: bool | None = False
    listener_timers = 0
    refuses = True
    max_message = 4096

    def __init__(self) -> None:
        self.clock = Clock()
        self.hub = MemoryHub(self.clock)

    def transport(self, n: int) -> Transport:
        return self.hub.transport(bytes((n + 1,)) * 32)

    def advance(self, seconds: float) -> None:
        MemoryTCPNetwork(self.clock).advance(seconds)

    def silence(self, transport: Transport) -> None:
        for address in transport.addresses():
            if isinstance(address, PeerAddress):
                self.hub.unreachable.add((address.host, address.port))

    def cut(self, one: Transport, other: Transport) -> None:
        self.hub.cut(one.peer_id, other.peer_id)

    def stall(self, transport: Transport) -> None:
        self.hub.stall(transport.peer_id)

    def resume(self, transport: Transport) -> None:
        self.hub.resume(transport.peer_id)

    def connections(self, transport: Transport) -> int:
        return self.hub.connections(transport.peer_id)


class QuicContractNetwork(QuicNetwork):
    """
    L{Network} of L{StreamsTransport}s over QUIC.  A larger C{n} gives a smaller peer id:
    the larger id opens the connections, and here that is the one that dials.
    """

    kind = QUIC
    keep_alive: bool | None = None
    listener_timers = 0
    refuses = False
    max_message = 4096

    def transport(self, n: int) -> StreamsTransport:  # type: ignore[override]
        return super().transport(len(KEYS) - n)

    def silence(self, transport: Transport) -> None:
        self.udp.dead.add(self._host(transport))

    def _host(self, transport: Transport) -> str:
        return f"10.0.0.{[key.peer_id for key in KEYS].index(transport.peer_id)}"

    def cut(self, one: Transport, other: Transport) -> None:
        for transport, peer in ((one, other), (other, one)):
            assert isinstance(transport, StreamsTransport)
            for connection in list(transport.connections):
                if connection.peer_id == peer.peer_id:
                    connection.abort("cut")

    def stall(self, transport: Transport) -> None:
        self.udp.dead.add(self._host(transport))

    def resume(self, transport: Transport) -> None:
        self.udp.dead.discard(self._host(transport))

    def connections(self, transport: Transport) -> int:
        assert isinstance(transport, StreamsTransport)
        return len(transport.connections)


class IrohNetwork:
    """
    L{Network} of L{IrohTransport}s.
    """

    keys = StreamsNetwork.keys

    kind = IROH
    keep_alive: bool | None = None
    listener_timers = 1
    refuses = False
    max_message = 4095

    def __init__(self) -> None:
        self.clock = ThreadClock()
        self.iroh = MemoryIroh(self.clock, window=65536)

    def transport(self, n: int) -> Transport:
        host = f"10.0.0.{n}"
        transport = IrohTransport(self.clock, self.keys[n], bindings=self.iroh.bindings(host))
        transport.listen(host, 0)
        return transport

    def _host(self, transport: Transport) -> str:
        return f"10.0.0.{[key.peer_id for key in self.keys].index(transport.peer_id)}"

    def advance(self, seconds: float) -> None:
        advance(self.clock, seconds)

    def silence(self, transport: Transport) -> None:
        self.iroh.silent.add(self._host(transport))

    def cut(self, one: Transport, other: Transport) -> None:
        self.iroh.cut(self._host(one), self._host(other))

    def stall(self, transport: Transport) -> None:
        self.iroh.stalled.add(self._host(transport))

    def resume(self, transport: Transport) -> None:
        self.iroh.resume(self._host(transport))

    def connections(self, transport: Transport) -> int:
        host = self._host(transport)
        return sum(end.endpoint.host == host for end in self.iroh.connections)
