"""
The datagrams of PCP and NAT-PMP.  Pure.

Rules: PCP is RFC 6887, its MAP request section 11.1; NAT-PMP is RFC 6886.  Both use UDP
port 5351 of the router.  A router that speaks NAT-PMP only answers a PCP request with
version 0 and result 1 (RFC 6887 section 9, RFC 6886 section 3.5).
"""

from __future__ import annotations

import ipaddress
import struct
from enum import Enum
from typing import Final

from attrs import frozen

from dtt.errors import DecodeError

#: The UDP port of the router (RFC 6887 section 19.1).
SERVER_PORT: Final = 5351

#: The most bytes of an answer (RFC 6887 section 7).
MAX_ANSWER: Final = 1100

#: Bytes of the nonce of a PCP mapping.
NONCE_SIZE: Final = 12

_PCP, _NAT_PMP = 2, 0
_MAP = 1
_EXTERNAL_ADDRESS = 0
_ANSWER = 0x80

#: Result codes that mean "unsupported version" (RFC 6887 section 7.4, RFC 6886 section 3.5).
_UNSUPPORTED_VERSION = 1

_PCP_REASONS: Final = {
    2: "not authorized",
    3: "malformed request",
    4: "unsupported opcode",
    5: "unsupported option",
    7: "network failure",
    8: "no resources",
    9: "unsupported protocol",
    10: "quota exceeded",
    11: "cannot provide the external address",
    12: "address mismatch",
    13: "excessive remote peers",
}
_NAT_PMP_REASONS: Final = {
    2: "not authorized",
    3: "network failure",
    4: "no resources",
    5: "unsupported opcode",
}


class Transport(Enum):
    """
    The protocol whose port is mapped: its IANA number, and NAT-PMP's opcode.
    """

    TCP = (6, 2)
    UDP = (17, 1)


class UnsupportedVersionError(DecodeError):
    """
    The router does not speak PCP.
    """


class RefusedError(DecodeError):
    """
    The router refused the request; the text is the reason.
    """


@frozen(slots=True)
class Answer:
    """
    The answer of a router.

    @ivar port: the external port; 0 for the answer to L{nat_pmp_address}.
    @ivar lifetime: seconds until the mapping ends; 0: it was removed.
    @ivar epoch: seconds since the router lost its mappings.
    @ivar host: the external address; C{None} if the answer does not contain it.
    """

    port: int
    lifetime: int
    epoch: int
    host: str | None


def pcp_map(
    transport: Transport, nonce: bytes, client: str, port: int, external: int, lifetime: int
) -> bytes:
    """
    Return a PCP MAP request (60 bytes).

    @param nonce: 12 bytes, the same for each request about this mapping.
    @param client: our address as the router sees it, an IP literal.
    @param port: our port.
    @param external: the port outside that we would like; 0: any.
    @param lifetime: seconds; 0: remove the mapping.
    """
    nothing = "::ffff:0.0.0.0" if "." in client else "::"
    return (
        struct.pack("!BBHI", _PCP, _MAP, 0, lifetime)
        + _packed(client)
        + nonce
        + struct.pack("!BxxxHH", transport.value[0], port, external)
        + _packed(nothing)
    )


def nat_pmp_map(transport: Transport, port: int, external: int, lifetime: int) -> bytes:
    """
    Return a NAT-PMP mapping request (12 bytes); the parameters are those of L{pcp_map}.
    """
    return struct.pack("!BBHHHI", _NAT_PMP, transport.value[1], 0, port, external, lifetime)


def nat_pmp_address() -> bytes:
    """
    Return a NAT-PMP request for the address outside (2 bytes).
    """
    return bytes((_NAT_PMP, _EXTERNAL_ADDRESS))


def read_pcp(datagram: bytes, transport: Transport, nonce: bytes, port: int) -> Answer | None:
    """
    Read the answer to L{pcp_map}.

    @return: C{None} if it answers another request.
    @raise UnsupportedVersionError: the router speaks NAT-PMP, or another version.
    @raise RefusedError: the router refused.
    @raise DecodeError: it is malformed.
    """
    if len(datagram) < 4 or not datagram[1] & _ANSWER:
        raise DecodeError("not an answer")
    if datagram[0] != _PCP:
        if datagram[3] == _UNSUPPORTED_VERSION:
            raise UnsupportedVersionError(f"version {datagram[0]}")
        return None  # the answer to another NAT-PMP request
    if len(datagram) > MAX_ANSWER or len(datagram) % 4:
        raise DecodeError("bad length")
    if datagram[1] != _ANSWER | _MAP:
        return None
    result = datagram[3]
    if result == _UNSUPPORTED_VERSION:
        raise UnsupportedVersionError("PCP is not supported")
    if result:
        if len(datagram) >= 36 and datagram[24:36] != nonce:
            return None
        raise RefusedError(_PCP_REASONS.get(result, f"error {result}"))
    if len(datagram) < 60:
        raise DecodeError("too short")
    lifetime, epoch = struct.unpack_from("!II", datagram, 4)
    protocol, ours, external = struct.unpack_from("!BxxxHH", datagram, 36)
    if datagram[24:36] != nonce or protocol != transport.value[0] or ours != port:
        return None
    address = ipaddress.IPv6Address(datagram[44:60])
    return Answer(external, lifetime, epoch, str(address.ipv4_mapped or address))


def read_nat_pmp(datagram: bytes, transport: Transport | None, port: int) -> Answer | None:
    """
    Read the answer to L{nat_pmp_map}, or to L{nat_pmp_address} if C{transport} is
    C{None}.

    @return: C{None} if it answers another request.
    @raise RefusedError: the router refused.
    @raise DecodeError: it is malformed.
    """
    opcode = _EXTERNAL_ADDRESS if transport is None else transport.value[1]
    size = 12 if transport is None else 16
    if len(datagram) < 8 or datagram[0] != _NAT_PMP or not datagram[1] & _ANSWER:
        raise DecodeError("not an answer")
    if datagram[1] != _ANSWER | opcode:
        return None
    result, epoch = struct.unpack_from("!HI", datagram, 2)
    if result == _UNSUPPORTED_VERSION:
        return None  # the answer to another PCP request
    if result:
        raise RefusedError(_NAT_PMP_REASONS.get(result, f"error {result}"))
    if len(datagram) != size:
        raise DecodeError("bad length")
    if transport is None:
        return Answer(0, 0, epoch, str(ipaddress.IPv4Address(datagram[8:12])))
    ours, external, lifetime = struct.unpack_from("!HHI", datagram, 8)
    return Answer(external, lifetime, epoch, None) if ours == port else None


def _packed(host: str) -> bytes:
    """
    Return an address as PCP writes it: 16 bytes, IPv4 mapped.
    """
    return ipaddress.IPv6Address(f"::ffff:{host}" if ":" not in host else host).packed
