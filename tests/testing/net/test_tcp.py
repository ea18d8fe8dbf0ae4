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

from dtt.testing.net.tcp import BUFFER_SIZE, WINDOW, MemoryTCPNetwork


class Recorder(Protocol):
    """
    Keeps what happens.
    """

    transport: Any

    def __init__(self) -> None:
        self.received = b""
        self.reason: type[BaseException] | None = None
        self.paused: bool | None = None

    def dataReceived(self, data: bytes) -> None:
        """
        Kept.
        """
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Kept.
        """
        assert self.reason is None
        self.reason = reason.type

    def pauseProducing(self) -> None:
        """
        As a producer.
        """
        self.paused = True

    def resumeProducing(self) -> None:
        """
        As a producer.
        """
        self.paused = False

    def stopProducing(self) -> None:
        """
        As a producer.
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
        A server's protocol.
        """
        self.servers.append(Recorder())
        return self.servers[-1]

    def connect(self, port: int = 80) -> Deferred[Any]:
        """
        A client's protocol.
        """
        endpoint = TCP4ClientEndpoint(self.client_reactor, "10.0.0.1", port, timeout=5)
        return endpoint.connect(Factory.forProtocol(Recorder))

    def connected(self) -> tuple[Recorder, Recorder]:
        """
        Client and server.
        """
        result = self.connect()
        self.net.advance(0.31)
        return self.successResultOf(result), self.servers[-1]

    def test_interfaces(self) -> None:
        """
        Reactor, port and transport have what Twisted's have.
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
        A connect takes two latencies, for the server three; bytes take one and keep their order.
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
        Each way may have a latency of its own; bytes do not overtake each other, or the connection.
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
        A server without a protocol closes the connection; if its port was closed meanwhile, it is reset.
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
        A client factory without a protocol has its connection closed.
        """
        self.client_reactor.connectTCP("10.0.0.1", 80, _Client())
        self.net.advance(1)
        self.assertEqual([server.reason for server in self.servers], [ConnectionDone])
        self.assertEqual(self.net.transports(), [])

    def test_failed_connects(self) -> None:
        """
        Nobody there, no answer, cancelled.
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
        A bound port is taken until it is given back; 0 is a free one.
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
        What is written is delivered before the end, which both see as clean.
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
        An abort is no clean end, and drops what is not on its way.
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
        A receiver that does not read makes the sender's buffer fill; its
        producer is paused, and resumed when the buffer is empty.
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
        A connection that is being closed stays until its producer is gone.
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
        A silent host's bytes and ends go nowhere.
        """
        client, server = self.connected()
        self.net.silent.add("10.0.0.2")
        client.transport.write(b"hello")
        client.transport.abortConnection()
        self.net.advance(1)
        self.assertEqual((client.reason, server.reason, server.received), (ConnectionAborted, None, b""))

    def test_cut(self) -> None:
        """
        A cut is seen by both at once.
        """
        client, server = self.connected()
        self.net.cut("10.0.0.1", "10.0.0.2")
        self.assertEqual((client.reason, server.reason), (ConnectionLost, ConnectionLost))


class _Client(Factory):
    """
    A client factory that does not care.
    """

    noisy = False

    def startedConnecting(self, connector: object) -> None:
        """Nothing."""

    def clientConnectionFailed(self, connector: object, reason: object) -> None:
        """Nothing."""

    def clientConnectionLost(self, connector: object, reason: object) -> None:
        """Nothing."""

    def buildProtocol(self, addr: object) -> None:
        """None."""


class _Nobody(Factory):
    """
    A server factory that has no protocol for anybody.
    """

    noisy = False

    def buildProtocol(self, addr: object) -> None:
        """None."""
