"""
IPv4 packets with UDP or TCP: parsing, as far as the simulated Internet needs it, and
writing of datagrams.
"""

from __future__ import annotations

import struct
from socket import inet_aton, inet_ntoa
from typing import NamedTuple

#: Protocol numbers (RFC 790).
ICMP, TCP, UDP = 1, 6, 17

#: TCP flags (RFC 9293 section 3.1).
FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10

_DONT_FRAGMENT = 0x4000
_TTL = 64

_HEADER = struct.Struct("!BBHHHBBH4s4s")
_UDP = struct.Struct("!HHHH")
_TCP = struct.Struct("!HHIIBB")
_WORDS = struct.Struct("!10H")


class Packet(NamedTuple):
    """
    A parsed IPv4 packet.

    @ivar source: the sender's address.
    @ivar ports: the source and destination ports; 0 if there are none.
    @ivar flags: the TCP flags.
    @ivar payload: the UDP or TCP payload.
    """

    source: str
    destination: str
    protocol: int
    ports: tuple[int, int]
    flags: int
    payload: bytes


def parse(data: bytes) -> Packet | None:
    """
    Parse a packet.

    @return: C{None} if it is not a complete IPv4 packet.
    """
    if len(data) < 20 or data[0] >> 4 != 4:
        return None
    start = 4 * (data[0] & 15)
    protocol, end = data[9], int.from_bytes(data[2:4], "big")
    source, destination = inet_ntoa(data[12:16]), inet_ntoa(data[16:20])
    if not 20 <= start <= end <= len(data):
        return None
    if protocol == UDP and end >= start + 8:
        return Packet(
            source, destination, UDP, struct.unpack_from("!HH", data, start), 0, data[start + 8 : end]
        )
    if protocol == TCP and end >= start + 20:
        from_port, to_port, _, _, offset, flags = _TCP.unpack_from(data, start)
        payload = data[start + 4 * (offset >> 4) : end]
        return Packet(source, destination, TCP, (from_port, to_port), flags, payload)
    return Packet(source, destination, protocol, (0, 0), 0, b"")


def checksum(header: bytes) -> int:
    """
    The checksum of a 20-byte IPv4 header (RFC 1071).
    """
    total: int = sum(_WORDS.unpack(header))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def datagram(source: tuple[str, int], destination: tuple[str, int], payload: bytes) -> bytes:
    """
    An IPv4 packet with a UDP datagram, without a UDP checksum (allowed by RFC 768).
    """
    length = 28 + len(payload)
    addresses = inet_aton(source[0]), inet_aton(destination[0])
    header = _HEADER.pack(0x45, 0, length, 0, _DONT_FRAGMENT, _TTL, UDP, 0, *addresses)
    header = header[:10] + checksum(header).to_bytes(2, "big") + header[12:]
    return header + _UDP.pack(source[1], destination[1], length - 20, 0) + payload
