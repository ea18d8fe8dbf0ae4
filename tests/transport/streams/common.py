"""
Helpers for the tests of L{dtt.transport.streams}: two transports on hosts in memory, and a raw client.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from dtt.identity import PeerKey
from dtt.testing.memory_transport import RecordingLinks
from dtt.testing.net.clock import HeapClock
from dtt.testing.net.tcp import MemoryTCPNetwork
from dtt.transport.admission import topic_key
from dtt.transport.streams.frames import ClockTime, FrameParser, ReceivedFrame
from dtt.transport.streams.tls import ConnectionCreator, SecuredConnection, export_key
from dtt.transport.streams.transport import StreamsTransport

TOPIC, SECRET = b"t" * 32, b"s" * 32
KEY = topic_key(TOPIC, SECRET)
TOPIC2 = b"u" * 32
KEY2 = topic_key(TOPIC2, SECRET)
JOIN = b"\x00\x00\x00"
ALICE, BOB, CAROL = (PeerKey.from_seed(bytes((n,)) * 32) for n in range(1, 4))


def without_clocks(data: bytes) -> list[ReceivedFrame]:
    """
    Return the frames in C{data}, without those that say what the peer's clock shows.
    """
    return [frame for frame in FrameParser().feed(data) if not isinstance(frame, ClockTime)]


class Stranger(Protocol):
    """
    A raw client that connects to us, and does what the test says.
    """

    secured: SecuredConnection

    def __init__(self) -> None:
        self.received = b""
        self.pieces: list[bytes] = []
        self.lost = False

    def dataReceived(self, data: bytes) -> None:
        """
        Record the data.
        """
        self.received += data
        self.pieces.append(data)

    def exporter(self) -> bytes:
        """
        Return the keying material of the TLS connection.
        """
        return export_key(self.secured.connection)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Record the end.
        """
        self.lost = True


class StreamsTestCase(SynchronousTestCase):
    """
    Two transports on two hosts.
    """

    def setUp(self) -> None:
        self.clock = HeapClock()
        self.net = MemoryTCPNetwork(self.clock)
        self.a, self.b = self.transport(ALICE, "10.0.0.1"), self.transport(BOB, "10.0.0.2")

    def transport(self, key: PeerKey, host: str, **options: Any) -> StreamsTransport:
        """
        Return a listening transport.
        """
        transport = StreamsTransport(self.net.reactor(host), key, **options)
        transport.listen(host, 4433)
        return transport

    def share(self) -> tuple[RecordingLinks, RecordingLinks]:
        """
        Connect both on one topic.
        """
        links = RecordingLinks(), RecordingLinks()
        self.a.open_topic(TOPIC, SECRET, links[0])
        self.b.open_topic(TOPIC, SECRET, links[1])
        result = self.a.dial(self.b.peer_id, self.b.addresses())
        self.net.advance(0.1)
        self.successResultOf(result)
        self.a.send(self.b.peer_id, TOPIC, b"hello")
        self.net.advance(0.1)
        self.assertEqual(len(links[1].messages), 1)
        links[1].messages.clear()
        return links

    def stranger(self, key: PeerKey | None = CAROL, host: str = "10.0.0.3") -> Stranger:
        """
        Connect a raw client to C{b}, with C{key} or without TLS.
        """
        stranger = Stranger()
        reactor = self.net.reactor(host)
        factory: Any = Factory.forProtocol(lambda: stranger)
        if key is not None:
            factory = TLSMemoryBIOFactory(ConnectionCreator(key), True, factory, reactor)
        TCP4ClientEndpoint(reactor, "10.0.0.2", 4433).connect(factory)
        self.net.advance(0.1)
        return stranger

    def write(self, stranger: Stranger, data: bytes) -> None:
        """
        Let C{stranger} send C{data}.
        """
        transport: Any = stranger.transport
        transport.write(data)
        self.net.advance(0.1)
