"""
The private parts of aioquic that dtt uses.

aioquic has no public access to the peer's certificate, to the state of a stream's
buffers, or to the beginning of a connection's end, and it trusts an authenticated peer
more than we do.  Only this module uses its internals; C{tests.transport.quic.test_library} fails if a new
version changes them.  If the certificate can't be found, the handshake fails: a change of the library can't
open a connection to a peer that has not proved its key.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from aioquic.quic.connection import Limit, QuicConnection
from aioquic.quic.events import ConnectionTerminated
from aioquic.quic.recovery import QuicPacketPacer
from cryptography import x509

#: Holes in what has arrived of a stream, above which the connection is ended.  Each makes
#: every further frame a little more expensive (guess: a window of 1 MiB at 10 % loss has
#: some 85).
MAX_HOLES = 256

#: Datagrams that are sent at once if the path is so fast that they take less than the shortest time
#: in seconds that a reactor waits for a timer (guess for the first: a third of what Linux keeps for
#: a socket by default; epoll waits for whole milliseconds).
MAX_BURST, _SHORTEST_WAIT = 32, 0.001

# Whether aioquic logs something depends on what the peer sends, and without a handler
# Python prints warnings to standard error.  Not a child of any other logger.
_SILENT = logging.Logger("silent", logging.CRITICAL + 1)


class _Window(Limit):
    """
    How many bytes the peer may send: a fixed number beyond what we have delivered.

    aioquic doubles the limit whenever half of it was used, without regard to what is
    still missing: after a gigabyte, a peer could make us keep another one.
    """

    def __init__(self, limit: Limit, size: int, delivered: Callable[[], int]) -> None:
        self._value = size
        self._size = size
        self._delivered = delivered
        super().__init__(frame_type=limit.frame_type, name=limit.name, value=size)

    @property
    def value(self) -> int:
        """
        The limit.
        """
        return self._value

    @value.setter
    def value(self, wanted: int) -> None:
        raised = self._delivered() + self._size
        # Not for each packet.
        if raised - self._value >= self._size // 4:
            self._value = raised


class _Pacer(QuicPacketPacer):
    """
    When the next packet may be sent.  After a burst, the rest waits for a timer.

    aioquic allows bursts of 16 datagrams, in units of the time for one, but takes at least 1 us
    for that: within a machine, where nothing else limits the rate, a burst has 2 datagrams, and the
    reactor makes a turn for each two.  On other fast paths a burst takes less time than the reactor can
    wait for, so that it sends less than it may.
    """

    def update_rate(self, congestion_window: int, smoothed_rtt: float) -> None:
        """
        Update the rate, in seconds for a datagram, and the size of a burst, in seconds.
        """
        super().update_rate(congestion_window, smoothed_rtt)
        assert self.packet_time is not None
        datagrams = min(MAX_BURST, congestion_window // (4 * self._max_datagram_size))
        self.bucket_max = max(self.bucket_max, min(datagrams * self.packet_time, _SHORTEST_WAIT))


def restrain(quic: QuicConnection, receive_stream: int, window: int) -> None:
    """
    Prepare a new connection: limit the data that it keeps for the peer, and stop it from logging.

    @param receive_stream: the only stream on which the peer may send.
    @param window: the maximum number of bytes that are kept.
    """

    def delivered() -> int:
        stream = quic._streams.get(receive_stream)
        return 0 if stream is None else int(stream.receiver.starting_offset())

    quic._local_max_data = _Window(quic._local_max_data, window, delivered)
    quic._loss._pacer = _Pacer(max_datagram_size=quic.configuration.max_datagram_size)
    quic._logger = quic._loss._logger = _SILENT  # type: ignore[assignment]


def server_certificate(quic: QuicConnection) -> x509.Certificate | None:
    """
    Return the certificate that the server has presented and proved to own the key of, or
    C{None} if there is none.  Call this after the handshake, on the client.
    """
    # Set by Certificate; the handshake does not complete unless CertificateVerify was
    # signed with its key (RFC 8446 section 4.4.3).
    certificate = quic.tls._peer_certificate
    return certificate if isinstance(certificate, x509.Certificate) else None


def round_trip(quic: QuicConnection) -> float | None:
    """
    Return the smoothed round trip in seconds; C{None} if nothing was acknowledged yet.
    """
    loss: Any = quic._loss
    return float(loss._rtt_smoothed) if loss._rtt_initialized else None


def close_event(quic: QuicConnection) -> ConnectionTerminated | None:
    """
    Return why a connection is closing, as soon as it is: the event comes only after the last packets in
    flight have had time to arrive.
    """
    return quic._close_event


def not_sent(quic: QuicConnection, stream_id: int) -> int:
    """
    Return the number of bytes written to our stream that have not been sent yet.
    """
    sender: Any = quic._streams[stream_id].sender
    return int(sender._buffer_stop - sender.highest_offset)


def kept(quic: QuicConnection, stream_id: int) -> int:
    """
    Return the number of bytes written to our stream that are kept: from the first one that the peer has not
    acknowledged.
    """
    sender: Any = quic._streams[stream_id].sender
    return int(sender._buffer_stop - sender._buffer_start)


def has_too_many_holes(quic: QuicConnection, receive_stream: int) -> bool:
    """
    Return whether the peer sends its stream in far too many pieces.
    """
    stream: Any = quic._streams.get(receive_stream)
    return stream is not None and len(stream.receiver._ranges) > MAX_HOLES


def handshake_has_too_many_holes(quic: QuicConnection) -> bool:
    """
    Return whether the peer sends its part of the handshake in far too many pieces.
    """
    streams: Any = quic._crypto_streams.values()
    return any(len(stream.receiver._ranges) > MAX_HOLES for stream in streams)


def acknowledged_unsent(quic: QuicConnection) -> bool:
    """
    Return whether the peer has acknowledged a packet that was never sent (RFC 9000
    section 13.1).  aioquic takes all others for lost then.
    """
    next_number = max(1, quic._packet_number)
    return any(space.largest_acked_packet >= next_number for space in quic._loss.spaces)


def charge(quic: QuicConnection, address: Any, size: int) -> None:
    """
    Count a datagram from an address to which the connection is migrating such that no more
    is sent there than has come from there, until the address is validated.  RFC 9000
    section 8.1 allows three times as much.

    @param size: bytes of the datagram.
    """
    for path in quic._network_paths:
        if not path.is_validated and path.addr == address:
            path.bytes_sent += 2 * size
