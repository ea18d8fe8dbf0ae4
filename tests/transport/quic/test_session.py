"""
Tests for L{dtt.transport.quic.session}.
"""

from __future__ import annotations

import hashlib
from typing import Any

from aioquic.quic.configuration import QuicConfiguration
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.trial.unittest import SynchronousTestCase

from dtt.identity import PeerKey
from dtt.transport.quic import session as session_module
from dtt.transport.quic.session import (
    ABORTED,
    CLOSED,
    IDLE_TIMEOUT,
    Authenticated,
    Finished,
    Received,
    Terminated,
    configurations,
)
from tests.transport.quic.sessions import CLIENT_KEY, OTHER_KEY, SERVER_KEY, Pair


class HandshakeTests(SynchronousTestCase):
    """
    Who is let in.
    """

    def test_authenticated(self) -> None:
        """
        Both sides learn each other's id and the same keying material, which is new in
        each session: the client after one round trip, the server with the client's next
        datagram.
        """
        exporters = set()
        for seed in (1, 2):
            pair = Pair(seed=seed)
            pair.client.connect(pair.server_address, 0.0)
            pair.exchange()
            (at_client,) = pair.client_events
            self.assertEqual(pair.server_events, [])
            pair.client.write(b"first")
            pair.exchange()
            at_server, first = pair.server_events
            self.assertEqual(first, Received(b"first"))
            assert isinstance(at_client, Authenticated)
            assert isinstance(at_server, Authenticated)
            self.assertEqual(at_client.peer_id, SERVER_KEY.peer_id)
            self.assertEqual(at_server.peer_id, CLIENT_KEY.peer_id)
            self.assertEqual(at_client.exporter, at_server.exporter)
            exporters.add(at_client.exporter)
        self.assertEqual(len(exporters), 2)

    def test_wrong_peer(self) -> None:
        """
        A server with another key than the dialled one is refused before the client has
        said who it is.
        """
        pair = Pair(dialled=OTHER_KEY)
        pair.connect()
        self.assertEqual(pair.client_events, [Terminated("wrong peer key")])
        self.assertEqual(pair.server_events, [Terminated("handshake failed")])

    def test_own_key(self) -> None:
        """
        A client with our own key is refused.
        """
        pair = Pair(client_key=SERVER_KEY)
        pair.connect()
        self.assertIn(Terminated("own key"), pair.client_events + pair.server_events)
        self.assertFalse(pair.server is not None and pair.server.authenticated)

    def refused(self, patch: Any) -> None:
        """
        The server refuses a client that does C{patch(pair)} first.
        """
        pair = Pair()
        pair.client.connect(pair.server_address, 0.0)
        patch(pair)
        pair.run()
        self.assertEqual(pair.server_events, [Terminated("bad peer key")])
        self.assertIn(Terminated("by peer"), pair.client_events)

    def test_forged_id(self) -> None:
        """
        A client that claims another id than its key's is refused.
        """

        class Liar:
            peer_id = OTHER_KEY.peer_id
            sign = CLIENT_KEY.sign

        self.refused(lambda pair: setattr(pair.client, "_key", Liar))

    def test_small_order(self) -> None:
        """
        A client with a key of small order, for which anyone can sign, is refused.
        """

        class Liar:
            peer_id = b"\x01" + bytes(31)

            @staticmethod
            def sign(message: bytes) -> bytes:
                return b"\x01" + bytes(63)

        self.refused(lambda pair: setattr(pair.client, "_key", Liar))

    def test_signature_for_another_server(self) -> None:
        """
        A signature over another server's certificate is refused: a server can't pass on
        what a client has signed for it.
        """
        other = configurations(OTHER_KEY)[1].certificate
        binding: Any = session_module._binding

        def for_other(*parts: Any) -> bytes:
            found: bytes = binding(*parts[:-1], other.public_bytes(Encoding.DER))
            return found

        def patch(pair: Pair) -> None:
            def greet(found: Any) -> None:
                self.patch(session_module, "_binding", for_other)
                try:
                    original(found)
                finally:
                    self.patch(session_module, "_binding", binding)

            original = pair.client._greet
            pair.client._greet = greet  # type: ignore[method-assign]

        self.refused(patch)

    def test_signature_of_an_earlier_session(self) -> None:
        """
        What a client has sent in one session is refused in another.
        """
        first = Pair(seed=1)
        sent: list[bytes] = []
        quic: Any = first.client._quic
        original = quic.send_stream_data

        def keep(stream: int, data: bytes) -> None:
            sent.append(data)
            original(stream, data)

        quic.send_stream_data = keep
        first.connect()

        def patch(pair: Pair) -> None:
            def greet(found: Any) -> None:
                if pair.client._greeted and not pair.client.authenticated:
                    pair.client.authenticated = True
                    pair.client._quic.send_stream_data(2, sent[0])

            pair.client._greet = greet  # type: ignore[method-assign]

        self.refused(patch)

    def test_no_certificate(self) -> None:
        """
        If the library does not show the server's certificate, the client gives up.
        """
        self.patch(session_module, "server_certificate", lambda quic: None)
        pair = Pair()
        pair.connect()
        self.assertEqual(pair.client_events, [Terminated("no certificate")])

    def test_other_protocol(self) -> None:
        """
        Without our ALPN protocol there is no connection.
        """

        def other(key: PeerKey, number: int) -> QuicConfiguration:
            configuration = configurations(key)[number]
            configuration.alpn_protocols = ["h3"]
            return configuration

        for pair in (Pair(client=other(CLIENT_KEY, 0)), Pair(server=other(SERVER_KEY, 1))):
            pair.connect()
            self.assertFalse(pair.client.authenticated)
            assert pair.server is not None
            self.assertFalse(pair.server.authenticated)
            self.assertTrue(pair.client.ended)

    def test_hello_in_pieces(self) -> None:
        """
        The client's first bytes may arrive one by one.
        """
        pair = Pair()
        quic: Any = pair.client._quic
        original = quic.send_stream_data
        pending: list[int] = []

        def one_by_one(stream: int, data: bytes, end_stream: bool = False) -> None:
            pending.extend(data)

        quic.send_stream_data = one_by_one
        pair.client.connect(pair.server_address, 0.0)
        pair.run()
        self.assertEqual(len(pending), 128)
        for byte in pending:
            self.assertEqual(pair.server_events, [])
            original(2, bytes((byte,)))
            pair.exchange()
        self.assertIsInstance(pair.server_events[0], Authenticated)

    def test_ends_within_the_hello(self) -> None:
        """
        A stream that ends before the client has proved its key ends the connection.
        """
        pair = Pair()
        quic: Any = pair.client._quic
        original = quic.send_stream_data
        quic.send_stream_data = lambda stream, data: original(stream, data[:100], True)
        pair.connect()
        self.assertEqual(pair.server_events, [Terminated("handshake failed")])


class StreamTests(SynchronousTestCase):
    """
    What happens on an open connection.
    """

    def setUp(self) -> None:
        self.pair = Pair()
        self.client, self.server = self.pair.connect()
        self.pair.client_events.clear()
        self.pair.server_events.clear()

    def test_bytes(self) -> None:
        """
        All bytes arrive in order, in both directions.
        """
        data = hashlib.shake_128(b"data").digest(300_000)
        self.client.write(data)
        self.server.write(data[::-1])
        self.pair.run()
        for events, expected in ((self.pair.server_events, data), (self.pair.client_events, data[::-1])):
            self.assertEqual(b"".join(e.data for e in events if isinstance(e, Received)), expected)

    def test_adjacent_bytes(self) -> None:
        """
        The bytes of several datagrams that are received together are one event; the end is another.
        """
        data = hashlib.shake_128(b"adjacent").digest(3000)
        self.client.write(data)
        self.client.finish()
        datagrams = self.client.datagrams(self.pair.now)
        self.assertEqual(len(datagrams), 3)
        for datagram, _ in datagrams[:-1]:
            self.server.receive(datagram, self.pair.client_address, self.pair.now)
        (first,) = self.server.events()
        assert isinstance(first, Received)
        self.server.receive(datagrams[-1][0], self.pair.client_address, self.pair.now)
        last, end = self.server.events()
        assert isinstance(last, Received)
        self.assertEqual((first.data + last.data, end), (data, Finished()))

    def test_bytes_before_a_violation(self) -> None:
        """
        Bytes that came before a violation are delivered first; those after it are not.
        """
        for stream, piece in ((2, b"before"), (6, b"x"), (2, b"after")):
            self.client._quic.send_stream_data(stream, piece)
            for datagram, _ in self.client.datagrams(self.pair.now):
                self.server.receive(datagram, self.pair.client_address, self.pair.now)
        self.assertEqual(self.server.events(), [Received(b"before"), Terminated("unexpected stream")])

    def test_finish(self) -> None:
        """
        The end of a stream comes after its bytes, and a clean close after that.
        """
        self.client.write(b"goodbye")
        self.client.finish()
        self.pair.run()
        self.assertEqual(self.pair.server_events, [Received(b"goodbye"), Finished()])
        self.server.close(CLOSED)
        self.pair.run()
        self.assertEqual(self.pair.client_events, [Terminated("")])

    def test_abort(self) -> None:
        """
        An abrupt close is distinguished from a clean one.
        """
        self.server.close(ABORTED)
        self.pair.run()
        self.assertEqual(self.pair.client_events, [Terminated("by peer")])

    def test_other_streams(self) -> None:
        """
        A peer that uses any other stream is disconnected.
        """
        for stream in (0, 6):
            self.setUp()
            self.client._quic.send_stream_data(stream, b"x")
            self.pair.run()
            self.assertEqual(self.pair.server_events, [Terminated("unexpected stream")])

    def test_reset(self) -> None:
        """
        A peer that resets its stream is disconnected.
        """
        self.client._quic.reset_stream(2, 0)
        self.pair.run()
        self.assertEqual(self.pair.server_events, [Terminated("stream reset")])

    def test_silence(self) -> None:
        """
        A connection without packets ends after 30 s.
        """
        due = self.client.timer()
        assert due is not None
        self.assertLessEqual(due, self.pair.now + IDLE_TIMEOUT)
        self.client.handle_timer(self.pair.now + IDLE_TIMEOUT)
        self.assertEqual(self.client.events(), [Terminated("timed out")])

    def test_garbage(self) -> None:
        """
        Datagrams that are not the peer's change nothing.
        """
        ids = sorted(self.server.connection_ids)
        for first in (0x40, 0x64, 0xC0, 0xFF):
            for size in (1, 30, 1200, 65507):
                garbage = (bytes((first,)) + ids[0] + bytes(size))[:65507]
                self.server.receive(garbage, self.pair.client_address, self.pair.now)
                self.assertEqual(self.server.events(), [])
        self.client.write(b"still here")
        self.pair.run()
        self.assertEqual(self.pair.server_events, [Received(b"still here")])

    def test_connection_ids(self) -> None:
        """
        Connection ids have 8 bytes, and are those of datagrams that arrive.
        """
        self.assertEqual({len(each) for each in self.client.connection_ids}, {8})
        self.server.write(b"x")
        for datagram, _ in self.server.datagrams(self.pair.now):
            self.assertIn(datagram[1:9], self.client.connection_ids)
