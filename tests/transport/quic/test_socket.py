"""
Tests for L{dtt.transport.quic.socket}.
"""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dtt.errors import ListenError
from dtt.net.buffers import RECEIVE_BUFFER
from dtt.testing.net.tcp import MemoryTCPNetwork
from dtt.testing.net.udp import Datagram, MemoryUDPNetwork
from dtt.transport.quic.socket import QuicSocket, listen
from dtt.transport.streams.transport import StreamsTransport
from dtt.wire.addresses import QUIC, PeerAddress
from tests.transport.quic.network import KEYS

HOST, OTHER = "10.0.0.1", ("10.0.0.2", 5)


class Handle:
    """
    Stands for a socket of the system.

    @ivar buffer: the size of its receive buffer.
    """

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, tuple[str, int]]] = []
        self.error: Exception | None = None
        self.buffer = 0

    def getsockopt(self, level: int, option: int) -> int:
        """Return the size of the buffer."""
        return self.buffer

    def setsockopt(self, level: int, option: int, value: int) -> None:
        """Set the size of the buffer."""
        self.buffer = value

    def sendto(self, datagram: bytes, address: tuple[str, int]) -> None:
        """Send, or fail."""
        if self.error is not None:
            raise self.error
        self.sent.append((datagram, address))


class Port:
    """
    Stands for a port of the reactor, which has a socket.
    """

    def __init__(self) -> None:
        self.handle = Handle()

    def getHandle(self) -> Handle:
        """The socket."""
        return self.handle


class SocketTests(SynchronousTestCase):
    """
    Tests for L{QuicSocket} and L{listen}.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.network = MemoryUDPNetwork(self.clock)
        self.transport = StreamsTransport(
            MemoryTCPNetwork(self.clock).reactor(HOST),
            KEYS[0],
            tcp=False,
            quic_rng=Random(0),
            interface_addresses=lambda: (HOST,),
        )
        assert self.transport.quic is not None
        self.quic = self.transport.quic
        self.arrived: list[Any] = []

    def test_listen(self) -> None:
        """
        The port that is bound is returned, and belongs to our addresses.
        """
        port, listening = listen(self.network.reactor(HOST), self.transport, HOST)
        self.assertEqual(self.network.addresses(), [(HOST, port)])
        self.assertIn(PeerAddress(QUIC, HOST, port), self.transport.addresses())
        host: Any = listening.getHost()
        self.assertEqual((host.host, host.port), (HOST, port))

    def test_taken(self) -> None:
        """
        A port that is taken is an error that names it.
        """
        listen(self.network.reactor(HOST), self.transport, HOST, 4433)
        error = self.assertRaises(ListenError, listen, self.network.reactor(HOST), self.transport, HOST, 4433)
        self.assertIn(f"UDP {HOST} port 4433", str(error))

    def socket(self) -> QuicSocket:
        """
        A socket whose datagrams are kept.
        """
        self.patch(self.quic, "datagram_received", lambda *arguments: self.arrived.append(arguments))
        return QuicSocket(self.quic)

    def test_received(self) -> None:
        """
        A datagram is passed on with the host and the port of its sender, also if the system tells more.
        """
        socket = self.socket()
        socket.datagramReceived(b"a", OTHER)
        socket.datagramReceived(b"b", ("2001:db8::1", 5, 0, 0))
        self.assertEqual(self.arrived, [(b"a", *OTHER), (b"b", "2001:db8::1", 5)])

    def test_sent(self) -> None:
        """
        A datagram is sent by the port, before and after nothing.
        """
        sent: list[Datagram] = []
        self.network.observers.append(sent.append)
        socket = self.socket()
        socket.send(b"before", *OTHER)
        port = self.network.reactor(HOST).listenUDP(7, socket)
        socket.send(b"now", *OTHER)
        port.stopListening()
        socket.send(b"after", *OTHER)
        self.assertEqual([(each.data, each.destination) for each in sent], [(b"now", OTHER)])
        self.assertEqual(self.quic.counters, {})

    def test_handle(self) -> None:
        """
        A real socket gets a large receive buffer, and is used directly until the port is closed.
        """
        socket, port = self.socket(), Port()
        transport: Any = port
        socket.makeConnection(transport)
        self.assertEqual(port.handle.buffer, RECEIVE_BUFFER)
        socket.send(b"a", *OTHER)
        self.assertEqual(port.handle.sent, [(b"a", OTHER)])
        socket.doStop()
        socket.send(b"b", *OTHER)
        self.assertEqual(len(port.handle.sent), 1)

    def test_cannot_be_sent(self) -> None:
        """
        A datagram that the system refuses is counted, and lost.
        """
        socket, port = self.socket(), Port()
        transport: Any = port
        socket.makeConnection(transport)
        errors = (BlockingIOError(), OSError(101, "Network is unreachable"), ValueError(), OverflowError())
        for error in errors:
            port.handle.error = error
            socket.send(b"a", *OTHER)
        self.assertEqual(self.quic.counters, {"write_failed": 4})
        port.handle.error = None
        socket.send(b"a", *OTHER)
        self.assertEqual(len(port.handle.sent), 1)
