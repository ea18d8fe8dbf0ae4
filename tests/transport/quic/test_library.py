"""
Tests for L{dtt.transport.quic.library}: what dtt uses of aioquic beyond its public
interface is still there.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dtt.transport.quic.library import not_sent, server_certificate
from dtt.transport.streams.tls import certificate_peer_id
from tests.transport.quic.sessions import CLIENT_KEY, SERVER_KEY, Pair


class LibraryTests(SynchronousTestCase):
    """
    The private parts.
    """

    def test_certificate(self) -> None:
        """
        The client has the server's certificate after the handshake, and none before.
        """
        pair = Pair()
        pair.client.connect(pair.server_address, 0.0)
        self.assertIsNone(server_certificate(pair.client._quic))
        pair.run()
        certificate = server_certificate(pair.client._quic)
        assert certificate is not None
        self.assertEqual(certificate_peer_id(certificate), SERVER_KEY.peer_id)
        self.assertNotEqual(SERVER_KEY.peer_id, CLIENT_KEY.peer_id)

    def test_not_sent(self) -> None:
        """
        What was written and not sent is counted.
        """
        pair = Pair()
        pair.connect()
        self.assertEqual(not_sent(pair.client._quic, 2), 0)
        pair.client.write(bytes(5000))
        self.assertEqual(not_sent(pair.client._quic, 2), 5000)
        pair.client.datagrams(pair.now)
        self.assertLess(not_sent(pair.client._quic, 2), 5000)
        pair.run()
        self.assertEqual(not_sent(pair.client._quic, 2), 0)
