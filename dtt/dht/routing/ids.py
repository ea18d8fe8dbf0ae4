"""
Node ids, their distance, and the ids valid for an address (BEP42). Pure.

Rules: an id has 20 bytes. The distance between two ids is their XOR as a number. By
BEP42 the first 21 bits of an id are derived from a CRC32-C of the node's address and
three bits of the id's last byte. Addresses of local networks are exempt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dtt.krpc.compact import encode_address
from dtt.net.networks import is_exempt

if TYPE_CHECKING:
    from random import Random

#: Bytes of an id.
ID_SIZE: Final = 20

_MASK4 = bytes.fromhex("030f3fff")
_MASK6 = bytes.fromhex("0103070f1f3f7fff")


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
    Return the CRC32-C (Castagnoli; RFC 3720, appendix B.4) of C{data}.
    """
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC32C[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def distance(a: bytes, b: bytes) -> int:
    """
    Return the distance between two ids (Kademlia's XOR metric).
    """
    return int.from_bytes(a, "big") ^ int.from_bytes(b, "big")


def random_id(rng: Random) -> bytes:
    """
    Return a random id.
    """
    return rng.randbytes(ID_SIZE)


def _prefix(ip: str, seed: int) -> int:
    # The first 21 bits of an id, for an address and the last byte of the id.
    packed = encode_address(ip, 0)[:-2]
    mask = _MASK4 if len(packed) == 4 else _MASK6
    masked = bytearray(a & b for a, b in zip(packed, mask, strict=False))
    masked[0] |= (seed & 7) << 5
    return crc32c(bytes(masked)) >> 11


def generate(ip: str, rng: Random) -> bytes:
    """
    Return a random id that is valid for an address.

    @param ip: our external address, an IP literal.
    """
    node_id = bytearray(rng.randbytes(ID_SIZE))
    bits = _prefix(ip, node_id[-1]) << 3 | node_id[2] & 7
    node_id[:3] = bits.to_bytes(3, "big")
    return bytes(node_id)


def is_valid(node_id: bytes, ip: str) -> bool:
    """
    Return whether an id is valid for the address of its node.

    @param ip: an IP literal.
    """
    if is_exempt(ip):
        return True
    return int.from_bytes(node_id[:3], "big") >> 3 == _prefix(ip, node_id[-1])
