"""
Tests for L{dtt.testing.net.tcp}.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import (
    CannotListenError,
    ConnectingCancelledError,
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
    TimeoutError,
)
from twisted.internet.interfaces import (
    IConnector,
    IListeningPort,
    IReactorTCP,
    IReactorTime,
    ITCPTransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from dtt.testing.net.tcp import MemoryTCPNetwork
from dtt.testing.net.tcp_transport import BUFFER_SIZE, WINDOW


class Recorder(Protocol):
    """
    Records events.
    """

    transport: Any

    def __init__(self) -> None:
        self.received = b""
        self.reason: type[BaseException] | None = None
        self.paused: bool | None = None

    def dataReceived(self, data: bytes) -> None:
        """
        Record the data.
        """
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Record the reason.
        """
        assert self.reason is None
        self.reason = reason.type

    def pauseProducing(self) -> None:
        """
        Record the call.
        """
        self.paused = True

    def resumeProducing(self) -> None:
        """
        Record the call.
        """
        self.paused = False

    def stopProducing(self) -> None:
        """
        Record the call.
        """


class MemoryTCPTests(SynchronousTestCase):
    """
    Tests for L{MemoryTCPNetwork}.
    """

    def setUp(self) -> None:
        self.net = MemoryTCPNetwork(Clock(), latency=0.1)
        self.server_reactor = self.net.reactor("10.0.0.1")
        self.client_reactor = self.net.reactor("10.0.0.2")
        self.servers: list[Recorder] = []
        self.port = self.server_reactor.listenTCP(80, Factory.forProtocol(self.build))

    def build(self) -> Recorder:
        """
        Create the server's protocol.
        """
        self.servers.append(Recorder())
        return self.servers[-1]

    def connect(self, port: int = 80) -> Deferred[Any]:
        """
        Connect a client's protocol.
        """
        endpoint = TCP4ClientEndpoint(self.client_reactor, "10.0.0.1", port, timeout=5)
        return endpoint.connect(Factory.forProtocol(Recorder))

    def connected(self) -> tuple[Recorder, Recorder]:
        """
        A connected client and server.
        """
        result = self.connect()
        self.net.advance(0.31)
        return self.successResultOf(result), self.servers[-1]

    def test_interfaces(self) -> None:
        """
        Reactor, port and transport provide the same interfaces as Twisted's.
        """
        self.assertTrue(verifyObject(IReactorTCP, self.client_reactor))
        self.assertTrue(verifyObject(IReactorTime, self.client_reactor))
        self.assertTrue(verifyObject(IListeningPort, self.port))
        client, _ = self.connected()
        self.assertTrue(verifyObject(ITCPTransport, client.transport))
        connector = self.client_reactor.connectTCP("10.0.0.1", 80, _Client())
        self.assertTrue(verifyObject(IConnector, connector))
        connector.disconnect()

    def test_latency_and_order(self) -> None:
        """
        A connection takes two latencies for the client and three for the server; bytes
        take one and keep their order.
        """
        result = self.connect()
        self.net.advance(0.19)
        self.assertNoResult(result)
        self.net.advance(0.02)
        client = self.successResultOf(result)
        client.transport.write(b"one ")
        client.transport.writeSequence([b"two ", b"three"])
        self.net.advance(0.08)
        self.assertEqual(self.servers, [])
        self.net.advance(0.03)
        (server,) = self.servers
        self.assertEqual(server.received, b"one two three")
        self.assertEqual(server.transport.getPeer().host, "10.0.0.2")
        self.assertEqual(client.transport.getPeer().port, 80)
        self.assertEqual(client.transport.getHost(), server.transport.getPeer())

    def test_latency_of_hosts(self) -> None:
        """
        Each direction may have its own latency; bytes overtake neither each other nor the
        connection.
        """
        delays = iter((0.3, 0.2, 0.9, 0.1, 0.1, 0.1))
        self.net.latency = lambda sender, receiver: next(delays)
        result = self.connect()
        self.net.advance(0.51)
        client = self.successResultOf(result)
        client.transport.write(b"one ")
        client.transport.write(b"two")
        client.transport.loseConnection()
        self.net.advance(1)
        (server,) = self.servers
        self.assertEqual((server.received, server.reason), (b"one two", ConnectionDone))

    def test_not_accepted(self) -> None:
        """
        If the server factory returns no protocol, the connection is closed; if its port
        was closed meanwhile, it is reset.
        """
        self.server_reactor.listenTCP(81, _Nobody())
        result = self.connect(81)
        self.net.advance(0.21)
        one = self.successResultOf(result)
        self.net.advance(0.2)
        result = self.connect()
        self.net.advance(0.21)
        other = self.successResultOf(result)
        self.port.stopListening()
        self.net.advance(0.2)
        self.assertEqual((one.reason, other.reason), (ConnectionDone, ConnectionLost))
        self.assertEqual(self.net.transports(), [])

    def test_client_without_protocol(self) -> None:
        """
        If the client factory returns no protocol, the connection is closed.
        """
        self.client_reactor.connectTCP("10.0.0.1", 80, _Client())
        self.net.advance(1)
        self.assertEqual([server.reason for server in self.servers], [ConnectionDone])
        self.assertEqual(self.net.transports(), [])

    def test_failed_connects(self) -> None:
        """
        A connection attempt can be refused, time out, or be cancelled.
        """
        result = self.connect(81)
        self.net.advance(0.2)
        self.failureResultOf(result, ConnectionRefusedError)
        result = self.connect()
        result.cancel()
        self.failureResultOf(result, ConnectingCancelledError)
        self.net.silent.add("10.0.0.1")
        result = self.connect()
        self.net.advance(4.9)
        self.assertNoResult(result)
        self.net.advance(0.2)
        self.failureResultOf(result, TimeoutError)
        self.assertEqual(self.servers, [])

    def test_listen(self) -> None:
        """
        A bound port is in use until it is released; 0 selects a free one.
        """
        self.assertRaises(CannotListenError, self.server_reactor.listenTCP, 80, Factory())
        self.assertRaises(
            CannotListenError, self.server_reactor.listenTCP, 82, Factory(), interface="10.0.0.9"
        )
        free = [self.server_reactor.listenTCP(0, Factory()).getHost().port for _ in range(2)]
        self.assertEqual(len(set(free)), 2)
        self.successResultOf(self.port.stopListening())
        self.server_reactor.listenTCP(80, Factory())

    def test_lose_connection(self) -> None:
        """
        What was written is delivered before the end, which is clean for both.
        """
        client, server = self.connected()
        client.transport.write(bytes(3 * WINDOW))
        client.transport.loseConnection()
        client.transport.write(b"too late")
        self.assertIsNone(client.reason)
        self.net.advance(1)
        self.assertEqual(server.received, bytes(3 * WINDOW))
        self.assertEqual((client.reason, server.reason), (ConnectionDone, ConnectionDone))
        self.assertEqual(self.net.transports(), [])

    def test_abort_connection(self) -> None:
        """
        An abort is not a clean end, and drops what is not on the way yet.
        """
        client, server = self.connected()
        client.transport.write(bytes(2 * WINDOW))
        client.transport.abortConnection()
        self.assertIsNone(client.reason)
        self.net.advance(1)
        self.assertEqual(len(server.received), WINDOW)
        self.assertEqual((client.reason, server.reason), (ConnectionAborted, ConnectionLost))

    def test_flow_control(self) -> None:
        """
        If a receiver does not read, the sender's buffer fills; its producer is paused,
        and resumed when the buffer is empty.
        """
        client, server = self.connected()
        client.transport.registerProducer(client, True)
        server.transport.pauseProducing()
        client.transport.write(bytes(WINDOW))
        self.assertEqual(client.transport.buffered, 0)
        client.transport.write(bytes(BUFFER_SIZE))
        self.assertIsNone(client.paused)
        client.transport.write(b"x")
        self.assertTrue(client.paused)
        self.net.advance(5)
        self.assertEqual((server.received, client.transport.buffered), (b"", BUFFER_SIZE + 1))
        server.transport.resumeProducing()
        self.assertEqual(server.received, b"")
        self.net.advance(1)
        self.assertEqual(len(server.received), WINDOW + BUFFER_SIZE + 1)
        self.assertFalse(client.paused)

    def test_producer_keeps_it_open(self) -> None:
        """
        A closing connection stays open until its producer is gone.
        """
        client, _ = self.connected()
        client.transport.registerProducer(client, True)
        client.transport.loseConnection()
        client.transport.write(b"last words")
        self.net.advance(1)
        self.assertIsNone(client.reason)
        client.transport.unregisterProducer()
        self.net.advance(1)
        self.assertEqual(self.servers[0].received, b"last words")
        self.assertEqual(client.reason, ConnectionDone)

    def test_end_behind_unread_bytes(self) -> None:
        """
        A receiver that does not read does not see the end either.
        """
        client, server = self.connected()
        server.transport.pauseProducing()
        client.transport.write(b"hello")
        client.transport.loseConnection()
        self.net.advance(1)
        self.assertIsNone(server.reason)
        server.transport.resumeProducing()
        self.net.advance(0)
        self.assertEqual((server.received, server.reason), (b"hello", ConnectionDone))

    def test_silent(self) -> None:
        """
        Bytes and ends from a silent host are lost.
        """
        client, server = self.connected()
        self.net.silent.add("10.0.0.2")
        client.transport.write(b"hello")
        client.transport.abortConnection()
        self.net.advance(1)
        self.assertEqual((client.reason, server.reason, server.received), (ConnectionAborted, None, b""))

    def test_cut(self) -> None:
        """
        Both ends see a cut at the same time.
        """
        client, server = self.connected()
        self.net.cut("10.0.0.1", "10.0.0.2")
        self.assertEqual((client.reason, server.reason), (ConnectionLost, ConnectionLost))


class _Client(Factory):
    """
    A client factory that ignores events.
    """

    noisy = False

    def startedConnecting(self, connector: object) -> None:
        """Do nothing."""

    def clientConnectionFailed(self, connector: object, reason: object) -> None:
        """Do nothing."""

    def clientConnectionLost(self, connector: object, reason: object) -> None:
        """Do nothing."""

    def buildProtocol(self, addr: object) -> None:
        """Return no protocol."""


class _Nobody(Factory):
    """
    A server factory that never returns a protocol.
    """

    noisy = False

    def buildProtocol(self, addr: object) -> None:
        """Return no protocol."""
