"""
Tests for L{dtt.testing.net.tcp}.
"""

from __future__ import annotations

from twisted.internet.error import (
    CannotListenError,
    ConnectingCancelledError,
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
from twisted.internet.protocol import Factory
from zope.interface.verify import verifyObject

from tests.testing.net.tcp import TCPTestCase


class MemoryTCPTests(TCPTestCase):
    """
    Tests for L{MemoryTCPNetwork}.
    """

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
