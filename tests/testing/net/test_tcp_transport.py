"""
Tests for L{dtt.testing.net.tcp_transport}.
"""

from __future__ import annotations

from twisted.internet.error import (
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
)

from dtt.testing.net.tcp_transport import BUFFER_SIZE, WINDOW
from tests.testing.net.tcp import TCPTestCase


class TransportTests(TCPTestCase):
    """
    What both ends of a connection see.
    """

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
