"""
Node ids, their distance, and the ids that an address may have (BEP42).  Pure.

Rules: an id is 20 bytes; the distance of two is their XOR as a number.  By
BEP42 the first 21 bits of an id follow from a CRC32-C of the node's address
and three bits of the id's last byte; addresses of local networks are exempt.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from dtt.krpc.compact import encode_address

if TYPE_CHECKING:
    from random import Random

#: Bytes of an id.
ID_SIZE: Final = 20

_MASK4 = bytes.fromhex("030f3fff")
_MASK6 = bytes.fromhex("0103070f1f3f7fff")

# BEP42, "Security Consideration of Local Network": the first byte of an IPv4
# address, or the first two; and the same of IPv6.
_LOCAL_FIRST = frozenset(("10", "127"))
_LOCAL_SECOND = frozenset((("192", "168"), ("169", "254"), *(("172", str(byte)) for byte in range(16, 32))))
_LOCAL6 = tuple(map(ipaddress.ip_network, ("::1/128", "fe80::/10", "fc00::/7")))


def _crc32c_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return tuple(table)


_CRC32C = _crc32c_table()


def crc32c(data: bytes) -> int:
    """
    CRC32-C (Castagnoli; RFC 3720, appendix B.4).
    """
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC32C[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def distance(a: bytes, b: bytes) -> int:
    """
    How far two ids are from each other (Kademlia's XOR metric).
    """
    return int.from_bytes(a, "big") ^ int.from_bytes(b, "big")


def random_id(rng: Random) -> bytes:
    """
    Any id.
    """
    return rng.randbytes(ID_SIZE)


def is_exempt(ip: str) -> bool:
    """
    May an address have any id (BEP42's local networks)?

    @param ip: an IP literal.
    """
    # One answer may name 32 addresses that were never seen: with ipaddress
    # they would take half a millisecond.
    if ":" not in ip:
        first, second, _ = ip.split(".", 2)
        if first in _LOCAL_FIRST:
            return True
        return (first, second) in _LOCAL_SECOND
    return _is_exempt6(ip)


@lru_cache(maxsize=1024)
def _is_exempt6(ip: str) -> bool:
    address = ipaddress.ip_address(ip)
    return any(address in network for network in _LOCAL6)


def is_loopback(ip: str) -> bool:
    """
    Is this our own machine, where many nodes share an address?
    """
    return ip.startswith("127.") or ip == "::1"


@lru_cache(maxsize=4096)
def site(ip: str) -> str:
    """
    What one host can't have many of: of IPv4 the address, of IPv6 its network
    (/64), in which a host may take any address it likes.

    @param ip: an IP literal.
    """
    if ":" not in ip:
        return ip
    return str(ipaddress.IPv6Address(int(ipaddress.IPv6Address(ip)) >> 64 << 64)) + "/64"


@lru_cache(maxsize=4096)
def subnet(ip: str) -> str:
    """
    What one operator can't have many of: of public IPv4 addresses the /24, of
    IPv6 the /64.  In local networks (L{is_exempt}), where there is one operator
    anyway, each address is one.

    @param ip: an IP literal.
    """
    return site(ip) if ":" in ip or is_exempt(ip) else ip.rpartition(".")[0]


def _prefix(ip: str, seed: int) -> int:
    # The 21 bits for an address and the last byte of the id.
    packed = encode_address(ip, 0)[:-2]
    mask = _MASK4 if len(packed) == 4 else _MASK6
    masked = bytearray(a & b for a, b in zip(packed, mask, strict=False))
    masked[0] |= (seed & 7) << 5
    return crc32c(bytes(masked)) >> 11


def generate(ip: str, rng: Random) -> bytes:
    """
    An id that is valid for an address.

    @param ip: our external address, an IP literal.
    """
    node_id = bytearray(rng.randbytes(ID_SIZE))
    bits = _prefix(ip, node_id[-1]) << 3 | node_id[2] & 7
    node_id[:3] = bits.to_bytes(3, "big")
    return bytes(node_id)


def is_valid(node_id: bytes, ip: str) -> bool:
    """
    May the node at an address have this id?

    @param ip: an IP literal.
    """
    if is_exempt(ip):
        return True
    return int.from_bytes(node_id[:3], "big") >> 3 == _prefix(ip, node_id[-1])
