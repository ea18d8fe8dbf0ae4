"""
Helpers for the tests of application streams: two members over the memory networks.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from dtt.identity import PeerKey
from dtt.testing.memory_transport import RecordingLinks
from dtt.testing.net.tcp import MemoryTCPNetwork
from dtt.transport.appstreams.endpoints import StreamClientEndpoint, StreamServerEndpoint
from dtt.transport.appstreams.stream import AppStream, StreamAddress
from dtt.transport.streams.multiplexer import Multiplexer
from dtt.transport.streams.transport import StreamsTransport
from dtt.wire.addresses import QUIC, STREAMS
from tests.transport.quic.network import QuicNetwork

TOPIC, OTHER, SECRET = b"t" * 32, b"u" * 32, b"s" * 32
KEYS = sorted((PeerKey.from_seed(bytes((n,)) * 32) for n in range(1, 5)), key=lambda key: key.peer_id)


class Recorder(Protocol):
    """
    Keeps what happens to it.

    @ivar received: the bytes that have arrived.
    @ivar ended: how often the peer's end was reported.
    @ivar write_ended: how often our end was reported.
    @ivar lost: why the stream ended.
    """

    def __init__(self) -> None:
        self.received = b""
        self.ended = self.write_ended = 0
        self.lost: list[Failure] = []

    @property
    def stream(self) -> AppStream:
        """The transport."""
        transport: Any = self.transport
        assert isinstance(transport, AppStream)
        return transport

    def dataReceived(self, data: bytes) -> None:
        """Keep it."""
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Keep the reason."""
        self.lost.append(reason)


@implementer(IHalfCloseableProtocol)
class HalfRecorder(Recorder):
    """
    A L{Recorder} that continues when the peer ends its side.
    """

    def readConnectionLost(self) -> None:
        """Count it."""
        self.ended += 1

    def writeConnectionLost(self) -> None:
        """Count it."""
        self.write_ended += 1


class Recorders(Factory):
    """
    Makes recorders, and keeps them.

    @ivar made: the recorders, in order.
    @ivar peers: the addresses for which they were made.
    @ivar started: how often C{doStart} was called more than C{doStop}.
    """

    noisy = False

    def __init__(self, make: Any = Recorder) -> None:
        self.make = make
        self.made: list[Any] = []
        self.peers: list[StreamAddress] = []
        self.started = 0

    def buildProtocol(self, addr: Any) -> Any:
        """Make one."""
        self.peers.append(addr)
        protocol = self.make()
        self.made.append(protocol)
        return protocol

    def doStart(self) -> None:
        """Count it."""
        self.started += 1

    def doStop(self) -> None:
        """Count it."""
        self.started -= 1


class Pair:
    """
    Two members with one topic, connected.

    @ivar sides: their transports; the first one has dialled.
    @ivar links: what the gossip of each got.
    """

    def __init__(self, kind: int = STREAMS, share: bool = True) -> None:
        self.sides: list[StreamsTransport] = []
        if kind == QUIC:
            quic = QuicNetwork()
            self.clock: Clock = quic.clock
            self._advance: Any = quic.advance
            # The larger peer id opens the connection.
            self.sides = [quic.transport(n) for n in (2, 1)]
        else:
            self.clock = Clock()
            self.tcp = MemoryTCPNetwork(self.clock)
            self._advance = self.tcp.advance
            for number in (0, 1):
                host = f"10.0.0.{number + 1}"
                transport = StreamsTransport(self.tcp.reactor(host), KEYS[number])
                transport.listen(host, 4433)
                self.sides.append(transport)
        self.links = [RecordingLinks(), RecordingLinks()]
        for transport, links in zip(self.sides, self.links, strict=True):
            transport.open_topic(TOPIC, SECRET, links)
        one, other = self.sides
        dialling = one.dial(other.peer_id, other.addresses())
        dialling.addErrback(lambda failure: failure.raiseException())
        self._advance(1)
        assert one.is_connected(other.peer_id)
        if share:
            one.send(other.peer_id, TOPIC, b"hello")
            self._advance(0.5)
            assert self.links[1].messages

    def advance(self, seconds: float = 0.5) -> None:
        """Advance the clock."""
        self._advance(seconds)

    def mux(self, side: int) -> Multiplexer:
        """The multiplexer of one side."""
        return self.sides[side].multiplexer

    def link(self, side: int) -> Any:
        """The current connection of one side, as its multiplexer sees it."""
        return self.mux(side).table.current[self.sides[1 - side].peer_id]

    def serve(self, factory: Any, name: bytes = b"app/1", side: int = 1) -> Any:
        """Serve a name."""
        listening: list[Any] = []
        StreamServerEndpoint(self.mux(side).services, name).listen(factory).addCallback(listening.append)
        return listening[0]

    def connect(
        self, factory: Any, name: bytes = b"app/1", side: int = 0, timeout: float = 30.0
    ) -> Deferred[Any]:
        """Open a stream."""
        mux = self.mux(side)
        address = StreamAddress(self.sides[1 - side].peer_id, name)

        async def open_stream(peer: StreamAddress) -> AppStream:
            return await mux.open_stream(peer.peer_id, peer.name)

        return StreamClientEndpoint(self.clock, address, open_stream, timeout).connect(factory)

    def stop(self) -> None:
        """Stop both."""
        for transport in self.sides:
            transport.stop()
        self.advance(5)


class PairTestCase(SynchronousTestCase):
    """
    Tests with a L{Pair}.
    """

    kind = STREAMS

    def setUp(self) -> None:
        self.pair = Pair(self.kind)
        self.addCleanup(self.pair.stop)

    def open(self, make: Any = Recorder, serve: Any = Recorder) -> tuple[Any, Any]:
        """
        Open a stream, and return the protocols of both ends.
        """
        server = Recorders(serve)
        port = self.pair.serve(server)
        connecting = self.pair.connect(Recorders(make))
        self.pair.advance()
        client = self.successResultOf(connecting)
        port.stopListening()
        return client, server.made[0]

    def open_streams(self) -> list[int]:
        """How many streams each side has."""
        return [len(self.pair.link(side).streams._streams) for side in (0, 1)]
