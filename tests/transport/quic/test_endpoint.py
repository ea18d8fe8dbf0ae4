"""
Tests for L{dtt.transport.quic.endpoint}: which datagram belongs to which connection.
"""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from dtt.testing.net.clock import HeapClock
from dtt.transport.quic.endpoint import MIN_INITIAL, QuicEndpoint
from dtt.transport.quic.session import CONNECTION_ID_SIZE, SocketAddress
from dtt.transport.quic.stream import MAX_RECEIVED
from dtt.transport.share import Share
from tests.transport.quic.network import KEYS
from tests.transport.quic.packets import first_packet

ADDRESSES: tuple[SocketAddress, SocketAddress] = (("192.0.2.1", 1), ("192.0.2.2", 2))


class Secured:
    """
    The protocol of a connection.

    @ivar received: the bytes that have arrived.
    @ivar lost: why the connection ended.
    """

    secured: Any
    pending = False
    portion = 1

    def __init__(self) -> None:
        self.transport: Any = None
        self.is_ready = False
        self.received = b""
        self.lost: list[Failure] = []

    def makeConnection(self, transport: Any) -> None:
        """Keep the transport."""
        self.transport = transport

    def handshakeCompleted(self) -> None:
        """Note it."""
        self.is_ready = True

    def dataReceived(self, data: bytes) -> None:
        """Keep it."""
        self.received += data

    def connectionLost(self, reason: Failure) -> None:
        """Keep the reason."""
        self.lost.append(reason)

    def abort(self, reason: str) -> None:
        """End."""
        self.transport.abortConnection()

    def work(self, units: int) -> int:
        """There is none."""
        return units


class Side:
    """
    One endpoint, and what it has sent.

    @ivar accepted: the protocols of inbound connections.
    @ivar sent: datagrams that were not delivered.
    """

    def __init__(self, number: int, clock: HeapClock) -> None:
        self.address = ADDRESSES[number]
        self.key = KEYS[number]
        self.accepted: list[Secured] = []
        self.sent: list[bytes] = []
        self.counters: Counter[str] = Counter()
        self.endpoint = QuicEndpoint(
            clock,
            self.key,
            lambda datagram, address: self.sent.append(datagram),
            self.counters,
            Share(clock),
            Random(number).randbytes,
        )

    def accept(self) -> Secured:
        """Make the protocol of an inbound connection."""
        self.accepted.append(Secured())
        return self.accepted[-1]


class EndpointTests(SynchronousTestCase):
    """
    Tests for L{QuicEndpoint}.
    """

    def setUp(self) -> None:
        self.clock = HeapClock()
        self.client, self.server = (Side(number, self.clock) for number in (0, 1))

    def exchange(self) -> None:
        """
        Deliver everything until nothing is sent; first packets are accepted.
        """
        for _ in range(30):
            for one, other in ((self.client, self.server), (self.server, self.client)):
                sent, one.sent = one.sent, []
                for datagram in sent:
                    if other.endpoint.is_first(datagram) and not other.endpoint.knows(datagram):
                        other.endpoint.accept(datagram, one.address, other.accept)
                    else:
                        other.endpoint.datagram_received(datagram, one.address)
                self.clock.advance(0.01)

    def dial(self) -> Secured:
        """
        Begin a connection to the server.
        """
        protocol = Secured()
        self.client.endpoint.connect(protocol, self.server.key.peer_id, self.server.address)
        return protocol

    def connect(self) -> tuple[Secured, Secured]:
        """
        Open a connection, and return the protocols of both ends.
        """
        protocol = self.dial()
        self.exchange()
        self.assertTrue(protocol.is_ready)
        return protocol, self.server.accepted[-1]

    def test_connect(self) -> None:
        """
        A connection is opened and used; each side knows its datagrams by its ids.
        """
        one, other = self.connect()
        one.transport.write(b"hello")
        other.transport.write(b"world")
        self.exchange()
        self.assertEqual((one.received, other.received), (b"world", b"hello"))
        self.assertEqual(one.secured.authenticate()[0], self.server.key.peer_id)
        self.assertEqual(other.secured.authenticate()[0], self.client.key.peer_id)
        for side in (self.client, self.server):
            self.assertEqual({len(each) for each in _ids(side)}, {CONNECTION_ID_SIZE})
            self.assertEqual(side.counters, {})

    def test_own_ids(self) -> None:
        """
        A datagram with a short header belongs to the connection whose id it carries; with any other id it
        is dropped and counted.
        """
        self.connect()
        endpoint = self.server.endpoint
        (own, *_) = _ids(self.server)
        self.assertTrue(endpoint.knows(b"\x40" + own + bytes(20)))
        for datagram in (
            b"",
            b"\x40",
            b"\x40" + own[:-1],
            b"\x40" + bytes(30),
            b"\x40\x00" + own + bytes(20),
        ):
            self.assertFalse(endpoint.knows(datagram), datagram)
            endpoint.datagram_received(datagram, self.client.address)
        self.assertEqual(self.server.counters, {"dropped_quic": 5})

    def test_chosen_ids(self) -> None:
        """
        The id that a client has chosen is valid in long headers only, and does not appear among ours.
        """
        self.dial()
        (first, *_) = self.client.sent
        chosen = first[6 : 6 + first[5]]
        self.exchange()
        endpoint = self.server.endpoint
        self.assertTrue(endpoint.knows(first))
        self.assertFalse(endpoint.knows(b"\x40" + chosen + bytes(20)))
        self.assertNotIn(chosen, endpoint.connection_ids)

    def test_other_long_headers(self) -> None:
        """
        Version Negotiation, Retry and other versions belong to no connection, whatever ids they carry.
        """
        self.connect()
        (own, *_) = _ids(self.client)
        for head in (
            b"\xc0\x00\x00\x00\x00",
            b"\xf0\x00\x00\x00\x01",
            b"\xff\x00\x00\x00\x01",
            b"\xc0\x6b\x33\x43\xcf",
        ):
            self.assertFalse(self.client.endpoint.knows(head + b"\x08" + own + bytes(30)))
        self.assertTrue(self.client.endpoint.knows(b"\xe0\x00\x00\x00\x01\x08" + own + bytes(30)))

    def test_repeated_first_packet(self) -> None:
        """
        A first packet that arrives again does not begin another connection.
        """
        self.dial()
        (first, *_) = self.client.sent
        for _ in range(3):
            self.server.endpoint.accept(first, self.client.address, self.server.accept)
        self.assertEqual(len(self.server.accepted), 1)
        self.exchange()
        self.server.endpoint.accept(first, ("192.0.2.9", 9), self.server.accept)
        self.assertEqual(len(self.server.accepted), 1)

    def test_first_packets(self) -> None:
        """
        Only an Initial of version 1 with an id of 8 to 20 bytes, in a datagram of the right size, can be
        the first packet.
        """
        is_first = self.server.endpoint.is_first
        for size in (8, 20):
            self.assertTrue(is_first(first_packet(bytes(size))), size)
        self.assertTrue(is_first(first_packet(bytes(8), size=MAX_RECEIVED)))
        good = first_packet(bytes(8))
        for datagram in (
            b"",
            first_packet(bytes(7)),
            first_packet(bytes(21)),
            first_packet(bytes(8), size=MIN_INITIAL - 1),
            first_packet(bytes(8), size=MAX_RECEIVED + 1),
            b"\x40" + good[1:],
            b"\xe0" + good[1:],
            good[:1] + bytes(4) + good[5:],
        ):
            self.assertFalse(is_first(datagram), datagram[:8])

    def test_several(self) -> None:
        """
        The datagrams of two connections between the same addresses are told apart.
        """
        ends = [self.connect(), self.connect()]
        for number, (one, _) in enumerate(ends):
            one.transport.write(b"%d" % number)
        self.exchange()
        self.assertEqual([other.received for _, other in ends], [b"0", b"1"])

    def test_nothing_is_left(self) -> None:
        """
        After its end a connection's ids are forgotten, those that the client has chosen, too, and no timer
        is left; the ids of another one stay.
        """
        ends = self.connect()
        other = self.connect()
        ends[0].abort("test")
        self.exchange()
        self.assertEqual([len(each.lost) for each in (*ends, *other)], [1, 1, 0, 0])
        self.assertEqual(len(self.server.endpoint._chosen), 1)
        other[0].transport.write(b"still here")
        self.exchange()
        self.assertEqual(other[1].received, b"still here")
        other[1].abort("test")
        self.exchange()
        self.assertEqual((len(self.client.endpoint), len(self.server.endpoint)), (0, 0))
        self.assertEqual(self.clock.getDelayedCalls(), [])


def _ids(side: Side) -> list[bytes]:
    """
    The connection ids that a side has drawn.
    """
    ids: Any = side.endpoint.connection_ids
    return list(ids)
