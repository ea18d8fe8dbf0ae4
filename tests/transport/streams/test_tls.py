"""
Tests for L{dtt.transport.streams.tls}.
"""

from __future__ import annotations

import contextlib
from datetime import datetime
from typing import Any, cast

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL
from OpenSSL._util import lib
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from dtt.errors import DecodeError, LocalError
from dtt.identity import PeerKey
from dtt.transport.streams.tls import (
    ALPN,
    ConnectionCreator,
    certificate_peer_id,
    connection_peer_id,
    export_key,
    make_certificate,
    make_context,
)

ALICE, BOB = PeerKey.from_seed(b"a" * 32), PeerKey.from_seed(b"b" * 32)


def pump(one: SSL.Connection, other: SSL.Connection) -> bytes:
    """
    Exchange the bytes of both connections; return those from C{one}.
    """
    sent = b""
    for source, target in ((one, other), (other, one)):
        try:
            data = source.bio_read(65536)
        except SSL.WantReadError:
            continue
        if source is one:
            sent = data
        target.bio_write(data)
    return sent


def handshake(
    client_context: SSL.Context, server_context: SSL.Context
) -> tuple[SSL.Connection, SSL.Connection]:
    """
    A client and a server after their handshake.
    """
    client, server = SSL.Connection(client_context, None), SSL.Connection(server_context, None)
    client.set_connect_state()
    server.set_accept_state()
    for _ in range(4):
        for each in (client, server):
            with contextlib.suppress(SSL.WantReadError):
                each.do_handshake()
            pump(client, server)
    return client, server


def certificate_of(public_key: Any, private_key: Any, algorithm: Any) -> x509.Certificate:
    """
    Return a certificate for any key, signed by any key.
    """
    name = x509.Name([])
    return x509.CertificateBuilder(
        name, name, public_key, 1, datetime(2000, 1, 1), datetime(2100, 1, 1)
    ).sign(private_key, algorithm)


class CertificateTests(SynchronousTestCase):
    """
    Tests for L{make_certificate} and L{certificate_peer_id}.
    """

    def test_names_its_key(self) -> None:
        """
        The certificate's key is the peer id, it is self-signed, and it is the same each
        time.
        """
        certificate = make_certificate(ALICE)
        self.assertEqual(certificate_peer_id(certificate), ALICE.peer_id)
        certificate.verify_directly_issued_by(certificate)
        again = make_certificate(ALICE)
        self.assertEqual(certificate.public_bytes(Encoding.DER), again.public_bytes(Encoding.DER))

    def test_without_callbacks(self) -> None:
        """
        Where the system forbids the memory that pyOpenSSL's callbacks need, the error says so.
        """

        def set_verify(*_: object) -> None:
            raise MemoryError("Cannot allocate write+execute memory for ffi.callback()")

        self.patch(SSL.Context, "set_verify", set_verify)
        self.assertIn("MemoryDenyWriteExecute", str(self.assertRaises(LocalError, make_context, ALICE)))

    def assert_refused(self, certificate: x509.Certificate, reason: str = "bad peer key") -> None:
        """
        Check that C{certificate} is refused.
        """
        error = self.assertRaises(DecodeError, certificate_peer_id, certificate)
        self.assertEqual(str(error), reason)

    def test_other_kinds_of_key(self) -> None:
        """
        A key that is not Ed25519 is refused.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        self.assert_refused(certificate_of(key.public_key(), key, SHA256()))

    def test_key_that_nobody_owns(self) -> None:
        """
        Small-order points, for which anyone can forge signatures, points with a
        small-order component, and invalid points are refused.
        """
        signer = ed25519.Ed25519PrivateKey.from_private_bytes(ALICE.seed)
        for encoded in (
            bytes(32),
            b"\x01" + bytes(31),
            bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
            bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
            b"\xff" * 32,
            b"\x02" + bytes(31),
        ):
            key = ed25519.Ed25519PublicKey.from_public_bytes(encoded)
            self.assert_refused(certificate_of(key, signer, None))


class HandshakeTests(SynchronousTestCase):
    """
    Tests for L{make_context}.
    """

    def test_mutual(self) -> None:
        """
        Both sides learn each other's id, agree on TLS 1.3 and ALPN, and export the same
        32 bytes, which differ on another connection.
        """
        client, server = handshake(make_context(ALICE), make_context(BOB))
        self.assertEqual(connection_peer_id(client), BOB.peer_id)
        self.assertEqual(connection_peer_id(server), ALICE.peer_id)
        self.assertEqual(client.get_protocol_version_name(), "TLSv1.3")
        self.assertEqual(
            (client.get_alpn_proto_negotiated(), server.get_alpn_proto_negotiated()), (b"dtt/2", b"dtt/2")
        )
        self.assertEqual(export_key(client), export_key(server))
        self.assertEqual(len(export_key(client)), 32)
        other, _ = handshake(make_context(ALICE), make_context(BOB))
        self.assertNotEqual(export_key(other), export_key(client))

    def test_client_without_certificate(self) -> None:
        """
        A client without a certificate is refused.
        """
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_alpn_protos([ALPN])
        self.assertRaises(SSL.Error, handshake, context, make_context(BOB))

    def test_older_tls(self) -> None:
        """
        TLS 1.2 is refused.
        """
        context = make_context(ALICE)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        context.set_max_proto_version(SSL.TLS1_2_VERSION)
        self.assertRaises(SSL.Error, handshake, context, make_context(BOB))

    def test_other_alpn(self) -> None:
        """
        Without a common protocol none is agreed.
        """
        context = make_context(ALICE)
        context.set_alpn_protos([b"http/1.1"])
        client, server = handshake(context, make_context(BOB))
        self.assertEqual((client.get_alpn_proto_negotiated(), server.get_alpn_proto_negotiated()), (b"", b""))

    def test_not_resumed(self) -> None:
        """
        A session can't be resumed: a server to which it is offered again makes a full
        handshake.
        """
        contexts = make_context(ALICE), make_context(BOB)
        client, server = handshake(*contexts)
        server.send(b"x")
        pump(client, server)
        self.assertEqual(client.recv(10), b"x")
        session = client.get_session()
        assert session is not None

        again, peer = SSL.Connection(contexts[0], None), SSL.Connection(contexts[1], None)
        again.set_session(session)
        again.set_connect_state()
        peer.set_accept_state()
        for _ in range(4):
            for each in (again, peer):
                with contextlib.suppress(SSL.WantReadError):
                    each.do_handshake()
                pump(again, peer)
        # pyOpenSSL has no constant for it.
        self.assertEqual([lib.SSL_session_reused(cast(Any, each)._ssl) for each in (again, peer)], [0, 0])
        self.assertNotEqual(export_key(peer), export_key(server))


class ConnectionCreatorTests(SynchronousTestCase):
    """
    Tests for L{ConnectionCreator}.
    """

    def test_interfaces(self) -> None:
        """
        The class provides the interfaces of both sides.
        """
        creator = ConnectionCreator(ALICE)
        self.assertTrue(verifyObject(IOpenSSLClientConnectionCreator, creator))
        self.assertTrue(verifyObject(IOpenSSLServerConnectionCreator, creator))
