"""
What a hostile peer sends: packets that aioquic itself would not write.
"""

from __future__ import annotations

from typing import Any

from aioquic._buffer import Buffer
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import QuicPacketType
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.tls import Epoch

#: Types of frames (RFC 9000 section 19).
ACK, CRYPTO, STREAM_WITH_OFFSET_AND_LENGTH = 0x02, 0x06, 0x0E


def numbers(*values: int) -> bytes:
    """
    Return numbers as QUIC encodes them.
    """
    buffer = Buffer(capacity=8 * len(values))
    for value in values:
        buffer.push_uint_var(value)
    return buffer.data


def stream_frame(offset: int, data: bytes, stream: int = 2) -> bytes:
    """
    Return a STREAM frame.
    """
    return bytes((STREAM_WITH_OFFSET_AND_LENGTH,)) + numbers(stream, offset, len(data)) + data


def crypto_frame(offset: int, data: bytes) -> bytes:
    """
    Return a CRYPTO frame.
    """
    return bytes((CRYPTO,)) + numbers(offset, len(data)) + data


def packet(quic: QuicConnection, frames: bytes) -> bytes:
    """
    Return a packet of an open connection.

    @param frames: the first one has a type below 0x40.
    """
    builder = QuicPacketBuilder(
        host_cid=quic.host_cid,
        is_client=quic._is_client,
        max_datagram_size=1400,
        packet_number=quic._packet_number,
        peer_cid=quic._peer_cid.cid,
        version=quic._version,  # type: ignore[arg-type]
    )
    crypto: Any = quic._cryptos[Epoch.ONE_RTT]
    builder.start_packet(QuicPacketType.ONE_RTT, crypto)
    buffer = builder.start_frame(frames[0], capacity=len(frames))
    buffer.push_bytes(frames[1:])
    datagrams, _ = builder.flush()
    quic._packet_number = builder.packet_number
    (datagram,) = datagrams
    return datagram


def first_packet(destination: bytes, rest: bytes = b"", *, size: int = 1200) -> bytes:
    """
    Return what looks like a client's first packet.

    @param rest: what follows the connection ids.
    """
    head = b"\xc0\x00\x00\x00\x01" + bytes((len(destination),)) + destination + b"\x08" + b"s" * 8
    return (head + rest).ljust(size, b"\x00")
