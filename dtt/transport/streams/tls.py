"""
TLS 1.3 between two peer keys.

Rules (docs/protocol/streams.md section 1): the certificate is self-signed, made in
memory from the peer key, and carries no information except the key.  Both sides present
one, and neither checks anything else in it.  ALPN is C{dtt/2}; sessions are never
resumed.  OpenSSL accepts small-order keys, for which anyone can forge signatures: they
are refused here.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, cast

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from dtt.errors import DecodeError, LocalError
from dtt.identity import PeerKey, is_valid_peer_id
from dtt.interfaces import PeerId

#: The ALPN protocol that both sides require (docs/protocol/streams.md section 1).
ALPN = b"dtt/2"

#: Label of the TLS exporter that admission tags are bound to (docs/protocol/streams.md section 3).
EXPORTER_LABEL = b"EXPORTER-dtt-1"


def make_certificate(key: PeerKey) -> x509.Certificate:
    """
    Return the self-signed certificate of C{key}; the bytes are the same each time.
    """
    private = Ed25519PrivateKey.from_private_bytes(key.seed)
    name = x509.Name([])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2000, 1, 1))
        # RFC 5280 section 4.1.2.5: no well-defined expiration date.
        .not_valid_after(datetime(9999, 12, 31, 23, 59, 59))
        .sign(private, None)
    )


def certificate_peer_id(certificate: x509.Certificate) -> PeerId:
    """
    Return the peer id that a certificate belongs to (32 bytes).

    @raise DecodeError: its key is not Ed25519, or not a valid peer id.
    """
    try:
        key = certificate.public_key()
    except Exception:  # cryptography raises various classes for broken and unknown keys
        raise DecodeError("bad peer key") from None
    if not isinstance(key, Ed25519PublicKey):
        raise DecodeError("bad peer key")
    peer_id = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    if not is_valid_peer_id(peer_id):
        raise DecodeError("bad peer key")
    return peer_id


def connection_peer_id(connection: SSL.Connection) -> PeerId:
    """
    Return the peer id of the remote end (32 bytes), once the handshake is complete.

    @raise DecodeError: the peer sent no certificate, or see L{certificate_peer_id}.
    """
    certificate = connection.get_peer_certificate()
    if certificate is None:
        raise DecodeError("no certificate")
    try:
        parsed = certificate.to_cryptography()
    except Exception:  # see certificate_peer_id
        raise DecodeError("bad certificate") from None
    return certificate_peer_id(parsed)


def export_key(connection: SSL.Connection) -> bytes:
    """
    Return 32 bytes of keying material known only to the two ends of C{connection}.
    """
    return bytes(connection.export_keying_material(EXPORTER_LABEL, 32))


def _select_alpn(_connection: SSL.Connection, offered: list[bytes]) -> bytes:
    # Without a match the handshake continues without ALPN; the connection is then closed with a
    # proper reason (no ALPN).
    return ALPN if ALPN in offered else cast(bytes, SSL.NO_OVERLAPPING_PROTOCOLS)


def make_context(key: PeerKey) -> SSL.Context:
    """
    Return the OpenSSL context for C{key}, used for both clients and servers.

    @raise LocalError: this system forbids memory that is writable and executable, which
        pyOpenSSL needs for its callbacks.
    """
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.use_certificate(make_certificate(key))
    context.use_privatekey(Ed25519PrivateKey.from_private_bytes(key.seed))
    try:
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *_: True)
    except MemoryError:
        raise LocalError(
            "TLS can't start: this system forbids memory that is writable and executable "
            "(in a systemd unit: remove MemoryDenyWriteExecute=yes)"
        ) from None
    context.set_alpn_protos([ALPN])
    context.set_alpn_select_callback(_select_alpn)
    # pyOpenSSL can't stop a server from sending TLS 1.3 tickets.  With these options a ticket
    # refers to an entry of a disabled cache, so nothing is resumed.
    context.set_options(SSL.OP_NO_TICKET)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_session_id(ALPN)
    return context


class SecuredConnection:
    """
    A TLS connection as L{dtt.transport.streams.connection.Secured}.

    @ivar connection: the OpenSSL connection.
    """

    def __init__(self, connection: SSL.Connection) -> None:
        """
        @param connection: the OpenSSL connection.
        """
        self.connection = connection

    def authenticate(self) -> tuple[PeerId, bytes]:
        """
        Return the peer id and the exporter, once the handshake is complete.

        @raise DecodeError: another protocol was negotiated, or see
            L{connection_peer_id}.
        """
        if self.connection.get_alpn_proto_negotiated() != ALPN:
            raise DecodeError("no ALPN")
        return connection_peer_id(self.connection), export_key(self.connection)


@implementer(IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator)
class ConnectionCreator:
    """
    Creates the OpenSSL connections for one key.  Each is also set, as a
    L{SecuredConnection}, as the attribute C{secured} of the protocol that TLS wraps.
    """

    def __init__(self, key: PeerKey) -> None:
        """
        @param key: the peer key that both certificate and signature use.
        """
        self._context = make_context(key)

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:  # noqa: N803
        """
        Return the OpenSSL connection for an outbound TLS connection.
        """
        connection = SSL.Connection(self._context, None)
        cast(Any, tlsProtocol.wrappedProtocol).secured = SecuredConnection(connection)
        return connection

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:  # noqa: N803
        """
        Return the OpenSSL connection for an inbound TLS connection.
        """
        return self.clientConnectionForTLS(tlsProtocol)
