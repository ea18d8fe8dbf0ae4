"""
Tests for L{dtt.transport.quic.library}: what dtt uses of aioquic beyond its public
interface is still there.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dtt.transport.quic.library import MAX_BURST, not_sent, server_certificate
from dtt.transport.quic.session import SocketAddress
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

    def bursts(self, latency: float) -> list[int]:
        """
        Return the numbers of datagrams that a busy client has sent at once.
        """
        pair = Pair()
        client, _ = pair.connect()
        pair.latency = latency
        sizes = []
        send = client.datagrams

        def counted(now: float) -> list[tuple[bytes, SocketAddress]]:
            datagrams = send(now)
            sizes.append(len(datagrams))
            return datagrams

        self.patch(client, "datagrams", counted)
        for _ in range(400):
            while not client.has_backlog():
                client.write(bytes(4000))
            pair.exchange()
        return sizes

    def test_burst_on_a_fast_path(self) -> None:
        """
        If datagrams take less time than a reactor can wait for, several are sent at once.
        """
        sizes = self.bursts(0.0001)
        self.assertIn(max(sizes), (MAX_BURST, MAX_BURST + 1))
        self.assertGreaterEqual(min(sizes[-100:]), MAX_BURST)

    def test_burst_on_a_slow_path(self) -> None:
        """
        Otherwise bursts are as small as those of aioquic.
        """
        sizes = self.bursts(1.0)
        self.assertIn(max(sizes), (16, 17))
