"""
QUIC connections on sockets that others share.

Rules (docs/protocol/quic.md section 2): a datagram belongs to a connection if it carries
one of our connection ids: in bytes 1 to 8 of a short header, or in the destination field
of a long one.  A new connection begins with an Initial of at least 1200 bytes from an
address whose path is proved; anything else is dropped without any cryptography.  No
Version Negotiation, no Retry and no stateless reset is ever sent: an address that is not
proved gets nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container

from twisted.internet.interfaces import IReactorTime

from dtt.identity import PeerKey
from dtt.interfaces import PeerId
from dtt.transport.quic.session import CONNECTION_ID_SIZE, Session, SocketAddress, configurations
from dtt.transport.quic.stream import MAX_RECEIVED, ByteStream, SecuredProtocol, Socket
from dtt.transport.share import Share

#: The fewest bytes of a datagram with a client's Initial (RFC 9000 section 14.1).
MIN_INITIAL = 1200

#: The first bits of a long header, those of a version 1 Initial and Retry, and the version.
_LONG, _INITIAL, _RETRY, _TYPE_MASK = 0x80, 0xC0, 0xF0, 0xF0
_VERSION_1 = b"\x00\x00\x00\x01"


class QuicEndpoint:
    """
    The QUIC connections of one member.

    @ivar counters: dropped datagrams by reason.
    """

    def __init__(
        self,
        clock: IReactorTime,
        key: PeerKey,
        send: Callable[[bytes, SocketAddress], object],
        counters: Counter[str],
        share: Share,
        random_bytes: Callable[[int], bytes],
    ) -> None:
        """
        @param clock: schedules timers.
        @param key: our key pair.
        @param send: sends a datagram to an address.
        @param counters: incremented for each dropped datagram.
        @param share: what all connections share.
        @param random_bytes: returns this number of unpredictable bytes.
        """
        self.counters = counters
        self._key = key
        self._random_bytes = random_bytes
        self._client, self._server = configurations(key)
        self._socket = Socket(clock, share, counters, send, self._registered, self._lost)
        self._streams: dict[bytes, ByteStream] = {}
        # By the ids that clients have chosen for their first packets.  They are valid in
        # long headers only: a client could choose what KRPC messages begin with.
        self._chosen: dict[bytes, ByteStream] = {}

    def __len__(self) -> int:
        """
        Return the number of connection ids in use.
        """
        return len(self._streams) + len(self._chosen)

    @property
    def connection_ids(self) -> Container[bytes]:
        """
        The connection ids in use that we have drawn, 8 bytes each: not those that clients
        have chosen.
        """
        return self._streams.keys()

    def knows(self, datagram: bytes) -> bool:
        """
        Return whether a datagram carries one of our connection ids.
        """
        return self._find(datagram) is not None

    def is_first(self, datagram: bytes) -> bool:
        """
        Return whether a datagram has the form of a client's first packet.
        """
        return (
            MIN_INITIAL <= len(datagram) <= MAX_RECEIVED
            and datagram[0] & _TYPE_MASK == _INITIAL
            and datagram[1:5] == _VERSION_1
            and 8 <= datagram[5] <= 20
        )

    def connect(self, protocol: SecuredProtocol, peer_id: PeerId, address: SocketAddress) -> None:
        """
        Open a connection to C{peer_id} for C{protocol}.

        @param address: where the path is proved.
        """

        def make() -> Session:
            return Session(self._client, self._key, self._random_bytes, dialled=peer_id)

        ByteStream(self._socket, protocol, address, make).connect()

    def datagram_received(self, datagram: bytes, address: SocketAddress) -> None:
        """
        Handle a datagram for an open connection; drop any other.
        """
        stream = self._find(datagram)
        if stream is None:
            self.counters["dropped_quic"] += 1
        else:
            stream.datagram_received(datagram, address)

    def accept(self, datagram: bytes, address: SocketAddress, build: Callable[[], SecuredProtocol]) -> None:
        """
        Accept a connection.

        @param datagram: a first packet, see L{is_first}.
        @param address: where it came from; the path there is proved.
        @param build: builds the protocol of the connection.
        """
        destination = _destination(datagram)
        if self.knows(datagram):
            return

        def make() -> Session:
            return Session(self._server, self._key, self._random_bytes, destination=destination)

        stream = ByteStream(self._socket, build(), address, make, destination)
        # A retransmission of this datagram must not begin a second connection.
        self._chosen[destination] = stream
        stream.accept(datagram)

    def _find(self, datagram: bytes) -> ByteStream | None:
        if not datagram:
            return None
        if not datagram[0] & _LONG:
            return self._streams.get(datagram[1 : 1 + CONNECTION_ID_SIZE])
        # Version Negotiation and Retry are not authenticated, and we send neither.
        if datagram[1:5] != _VERSION_1 or datagram[0] & _TYPE_MASK == _RETRY:
            return None
        destination = _destination(datagram)
        return self._streams.get(destination) or self._chosen.get(destination)

    def _registered(self, stream: ByteStream) -> None:
        ids = frozenset(stream.session_ids)
        for gone in stream.connection_ids - ids:
            self._streams.pop(gone, None)
        for new in ids - stream.connection_ids:
            self._streams[new] = stream
        stream.connection_ids = ids

    def _lost(self, stream: ByteStream) -> None:
        for connection_id in stream.connection_ids:
            self._streams.pop(connection_id, None)
        stream.connection_ids = frozenset()
        if self._chosen.get(stream.chosen) is stream:
            del self._chosen[stream.chosen]


def _destination(datagram: bytes) -> bytes:
    """
    Return the destination connection id of a packet with a long header: it comes after
    flags, version and its length (RFC 9000 section 17.2).
    """
    size = datagram[5] if len(datagram) > 5 else 0
    return datagram[6 : 6 + size]
