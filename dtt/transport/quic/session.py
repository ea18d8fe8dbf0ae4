"""
One QUIC connection: authentication, and one byte stream in each direction.  Sans-I/O.

Rules (docs/protocol/quic.md section 4): QUIC version 1, TLS 1.3, ALPN C{dtt/q1}; no
resumption, no early data.  Each side opens one unidirectional stream and accepts one.
The server proves its key by its certificate, and begins its stream with a nonce.  The
client begins its stream with a nonce, its peer id and a signature over both nonces, both
ids and the server's certificate: a signature made for one server is worthless for
another, and one made in an earlier session is worthless now.  The hash that it signs
also takes the place of the TLS exporter: the nonces travel inside the encrypted
connection only.  What follows on the streams are the frames of
docs/protocol/streams.md section 2.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Callable
from typing import Final, TypeAlias

from aioquic.quic import events as quic_events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import QuicProtocolVersion
from attrs import field, frozen
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from dtt.errors import DecodeError
from dtt.identity import KEY_BYTES, SIGNATURE_BYTES, PeerKey, is_valid_peer_id, verify
from dtt.interfaces import PeerId
from dtt.transport.quic.library import (
    acknowledged_unsent,
    charge,
    close_event,
    handshake_has_too_many_holes,
    has_too_many_holes,
    kept,
    not_sent,
    restrain,
    round_trip,
    server_certificate,
)
from dtt.transport.streams.tls import certificate_peer_id, make_certificate

#: The ALPN protocol (docs/protocol/quic.md section 4).
ALPN: Final = "dtt/q1"

#: The size in bytes of our connection ids, and of each nonce.
CONNECTION_ID_SIZE: Final = 8
NONCE_SIZE: Final = 32

#: Seconds without a packet from the peer until the connection is lost
#: (docs/protocol/quic.md section 4).
IDLE_TIMEOUT: Final = 30.0

#: Bytes of a UDP payload: what every path with IPv6 carries (RFC 8200 section 5: 1280
#: with all headers).
MAX_DATAGRAM: Final = 1232

#: Bytes that the peer may send beyond what has arrived without a hole (the window of
#: streams, too).
WINDOW: Final = 1024 * 1024

#: Bytes not sent yet above which there is a backlog, and below which there is none any
#: more (L{dtt.transport.streams.connection.NOT_SENT}).
PAUSE_ABOVE, RESUME_BELOW = 128 * 1024, 64 * 1024

#: Bytes kept for a peer that has not acknowledged them above which there is a backlog: a
#: peer that acknowledges all but one byte could make us keep any number.  A peer with our
#: own window never has so many.
MAX_KEPT: Final = 2 * WINDOW

_SIGNATURE_CONTEXT: Final = b"dtt/q1 client"
_HELLO_SIZE: Final = NONCE_SIZE + KEY_BYTES + SIGNATURE_BYTES

#: The first unidirectional stream of the client and of the server (RFC 9000 section 2.1).
_CLIENT_STREAM, _SERVER_STREAM = 2, 3

#: Application error codes of CONNECTION_CLOSE: a clean end, and an abrupt one.
CLOSED, ABORTED = 0, 1

#: A host and a port.
SocketAddress: TypeAlias = tuple[str, int]


@frozen(slots=True)
class Authenticated:
    """
    Both sides have proved their keys.

    @ivar peer_id: the peer (32 bytes).
    @ivar exporter: keying material known only to the two ends (32 bytes).
    """

    peer_id: PeerId
    exporter: bytes = field(repr=False)


@frozen(slots=True)
class Received:
    """
    Bytes of the peer's stream, in order.
    """

    data: bytes


@frozen(slots=True)
class Finished:
    """
    The peer has ended its stream; all its bytes were delivered before.
    """


@frozen(slots=True)
class Terminated:
    """
    The connection has ended.

    @ivar reason: a short reason; empty if the peer has closed the connection cleanly.
    """

    reason: str


Event: TypeAlias = Authenticated | Received | Finished | Terminated


def configurations(key: PeerKey) -> tuple[QuicConfiguration, QuicConfiguration]:
    """
    Return the configurations of our clients and of our servers.
    """

    def configuration(is_client: bool) -> QuicConfiguration:
        return QuicConfiguration(
            alpn_protocols=[ALPN],
            connection_id_length=CONNECTION_ID_SIZE,
            idle_timeout=IDLE_TIMEOUT,
            is_client=is_client,
            max_data=WINDOW,
            max_stream_data=WINDOW,
            max_datagram_size=MAX_DATAGRAM,
            supported_versions=[QuicProtocolVersion.VERSION_1],
            # Certificates are self-signed; we compare the key with the dialled id.
            verify_mode=ssl.CERT_NONE,
        )

    client, server = configuration(True), configuration(False)
    server.certificate = make_certificate(key)
    server.private_key = Ed25519PrivateKey.from_private_bytes(key.seed)
    return client, server


class Session:
    """
    One QUIC connection to one peer.

    @ivar connection_ids: the ids by which datagrams for this connection are recognized.
    @ivar authenticated: whether L{Authenticated} has been returned.
    @ivar ended: whether L{Terminated} has been returned.
    """

    def __init__(
        self,
        configuration: QuicConfiguration,
        key: PeerKey,
        random_bytes: Callable[[int], bytes],
        *,
        dialled: PeerId | None = None,
        destination: bytes = b"",
    ) -> None:
        """
        @param configuration: one of L{configurations}.
        @param key: our key pair.
        @param random_bytes: returns this number of unpredictable bytes.
        @param dialled: the expected peer id (32 bytes); C{None} if we are the server.
        @param destination: on the server, the destination connection id of the first
            packet.
        """
        self._key = key
        self._dialled = dialled
        self._is_client = dialled is not None
        self._quic = QuicConnection(
            configuration=configuration,
            original_destination_connection_id=None if self._is_client else destination,
        )
        self.connection_ids = {self._quic.host_cid}
        self._nonce = random_bytes(NONCE_SIZE)
        self._send_stream, self._receive_stream = (
            (_CLIENT_STREAM, _SERVER_STREAM) if self._is_client else (_SERVER_STREAM, _CLIENT_STREAM)
        )
        restrain(self._quic, self._receive_stream, WINDOW)
        # The address to which the path was proved.
        self._proved: SocketAddress | None = None
        # The beginning of the peer's stream, until it is complete.
        self._beginning = bytearray()
        self._greeted = False
        self._server_certificate = b""
        # Why the peer must be disconnected.
        self._violation = ""
        self.authenticated = False
        self.ended = False

    # Input

    def connect(self, address: SocketAddress, now: float) -> None:
        """
        Start the handshake with the server at C{address}.
        """
        self._proved = address
        self._quic.connect(address, now)

    def receive(self, datagram: bytes, address: SocketAddress, now: float) -> None:
        """
        Handle a datagram; see L{events}.

        @param address: where it came from.  The path to that of the first datagram is
            proved.
        """
        quic = self._quic
        if self._proved is None:
            self._proved = address
        quic.receive_datagram(datagram, address, now)
        if address != self._proved:
            charge(quic, address, len(datagram))
        if not self._violation and has_too_many_holes(quic, self._receive_stream):
            self._violation = "too many pieces"

    def handle_timer(self, now: float) -> None:
        """
        Handle the timer; see L{timer} and L{events}.
        """
        self._quic.handle_timer(now)

    def write(self, data: bytes) -> None:
        """
        Send C{data} to the peer.  Only once L{authenticated}.
        """
        self._quic.send_stream_data(self._send_stream, data)

    def finish(self) -> None:
        """
        End our stream, after all that was written.
        """
        self._quic.send_stream_data(self._send_stream, b"", end_stream=True)

    def close(self, code: int) -> None:
        """
        Close the connection; what was not delivered is lost.

        @param code: L{CLOSED} or L{ABORTED}.
        """
        self._quic.close(error_code=code)

    # Output

    def datagrams(self, now: float) -> list[tuple[bytes, SocketAddress]]:
        """
        Return the datagrams to send now.
        """
        if self.address is None:
            # Nothing that could be read has arrived yet: aioquic expects an address.
            return []
        return self._quic.datagrams_to_send(now)

    def timer(self) -> float | None:
        """
        Return when to call L{handle_timer}.  Call this after each other call.
        """
        return self._quic.get_timer()

    def has_backlog(self) -> bool:
        """
        Return whether nothing more should be written now.
        """
        quic, stream = self._quic, self._send_stream
        return not_sent(quic, stream) > PAUSE_ABOVE or kept(quic, stream) > MAX_KEPT

    def has_drained(self) -> bool:
        """
        Return whether more should be written after there was a backlog.
        """
        quic, stream = self._quic, self._send_stream
        return not_sent(quic, stream) < RESUME_BELOW and kept(quic, stream) <= MAX_KEPT

    @property
    def address(self) -> SocketAddress | None:
        """
        The address to which datagrams are sent now.
        """
        return self._quic.get_peer_address()

    def round_trip(self) -> float | None:
        """
        Return the smoothed round trip in seconds; C{None} if it is not known.
        """
        return round_trip(self._quic)

    def events(self) -> list[Event]:
        """
        Return what has happened since the last call.
        """
        found: list[Event] = []
        # Bytes of the peer's stream that are still to be appended, as one event.
        pieces: list[bytes] = []
        while (event := self._quic.next_event()) is not None:
            if isinstance(event, quic_events.StreamDataReceived) and self._continues(event):
                pieces.append(event.data)
                continue
            _join(pieces, found)
            if isinstance(event, quic_events.StreamDataReceived):
                self._received(event, found)
            elif isinstance(event, quic_events.ConnectionIdIssued):
                self.connection_ids.add(event.connection_id)
            elif isinstance(event, quic_events.ConnectionIdRetired):
                self.connection_ids.discard(event.connection_id)
            elif isinstance(event, quic_events.ProtocolNegotiated):
                if not self._is_client:
                    self._quic.send_stream_data(self._send_stream, self._nonce)
            elif isinstance(event, quic_events.HandshakeCompleted):
                self._handshake_completed(event, found)
            elif isinstance(event, quic_events.StreamReset | quic_events.StopSendingReceived):
                self._fail("stream reset", found)
            elif isinstance(event, quic_events.ConnectionTerminated):
                self._end(_reason(event), found)
        _join(pieces, found)
        closing = close_event(self._quic)
        if closing is not None:
            self._end(_reason(closing), found)
        if not self._violation and handshake_has_too_many_holes(self._quic):
            self._violation = "too many pieces"
        if not self._violation and acknowledged_unsent(self._quic):
            self._violation = "bad acknowledgement"
        if self._violation:
            self._fail(self._violation, found)
        return found

    # Internals

    def _handshake_completed(self, event: quic_events.HandshakeCompleted, found: list[Event]) -> None:
        if event.alpn_protocol != ALPN or event.session_resumed or event.early_data_accepted:
            self._fail("no ALPN", found)
            return
        if self._dialled is None:
            return
        certificate = server_certificate(self._quic)
        try:
            if certificate is None:
                raise DecodeError("no certificate")
            peer_id = certificate_peer_id(certificate)
        except DecodeError as error:
            self._fail(str(error), found)
            return
        if peer_id != self._dialled:
            self._fail("wrong peer key", found)
            return
        self._server_certificate = certificate.public_bytes(Encoding.DER)
        self._greet(found)

    def _continues(self, event: quic_events.StreamDataReceived) -> bool:
        """
        Return whether an event has more bytes of the peer's stream, after its beginning, and nothing else.
        """
        is_its = event.stream_id == self._receive_stream
        return is_its and self._greeted and not (event.end_stream or self.ended)

    def _received(self, event: quic_events.StreamDataReceived, found: list[Event]) -> None:
        if self.ended:
            return
        if event.stream_id != self._receive_stream:
            self._fail("unexpected stream", found)
            return
        data = event.data
        if not self._greeted:
            self._beginning += data
            size = NONCE_SIZE if self._is_client else _HELLO_SIZE
            if len(self._beginning) < size:
                if event.end_stream:
                    self._fail("handshake failed", found)
                return
            data = bytes(self._beginning[size:])
            del self._beginning[size:]
            self._greeted = True
            self._greet(found)
            if found and isinstance(found[-1], Terminated):
                return
        if data:
            found.append(Received(data))
        if event.end_stream:
            found.append(Finished())

    def _greet(self, found: list[Event]) -> None:
        """
        Handle the beginning of the peer's stream, once the handshake is also complete.
        """
        if not self._greeted:
            return
        own, beginning = self._key.peer_id, bytes(self._beginning)
        if self._is_client:
            if not self._server_certificate or self._dialled is None:
                return
            bound = _binding(self._nonce, beginning, own, self._dialled, self._server_certificate)
            signature = self._key.sign(_SIGNATURE_CONTEXT + bound)
            self._quic.send_stream_data(self._send_stream, self._nonce + own + signature)
            peer_id = self._dialled
        else:
            nonce, peer_id = beginning[:NONCE_SIZE], beginning[NONCE_SIZE : NONCE_SIZE + KEY_BYTES]
            certificate = self._quic.configuration.certificate.public_bytes(Encoding.DER)
            bound = _binding(nonce, self._nonce, peer_id, own, certificate)
            signature = beginning[NONCE_SIZE + KEY_BYTES :]
            if not is_valid_peer_id(peer_id) or not verify(peer_id, _SIGNATURE_CONTEXT + bound, signature):
                self._fail("bad peer key", found)
                return
        if peer_id == own:
            self._fail("own key", found)
            return
        self._beginning.clear()
        self.authenticated = True
        found.append(Authenticated(peer_id, bound[:KEY_BYTES]))

    def _fail(self, reason: str, found: list[Event]) -> None:
        if not self.ended:
            self._quic.close(error_code=ABORTED)
            self._end(reason, found)

    def _end(self, reason: str, found: list[Event]) -> None:
        if not self.ended:
            self.ended = True
            found.append(Terminated(reason))


def _binding(
    client_nonce: bytes, server_nonce: bytes, client_id: PeerId, server_id: PeerId, certificate: bytes
) -> bytes:
    """
    Return the 64-byte hash that the client signs.  All parts but the last have a fixed
    size.
    """
    return hashlib.sha512(client_nonce + server_nonce + client_id + server_id + certificate).digest()


def _join(pieces: list[bytes], found: list[Event]) -> None:
    """
    Move C{pieces} to the events, as one.
    """
    if pieces:
        found.append(Received(b"".join(pieces)))
        pieces.clear()


def _reason(event: quic_events.ConnectionTerminated) -> str:
    """
    Return a short reason from a fixed vocabulary: the peer chooses C{reason_phrase}.
    """
    if event.frame_type is None:
        return "" if event.error_code == CLOSED else "by peer"
    return "timed out" if event.reason_phrase == "Idle timeout" else "handshake failed"
