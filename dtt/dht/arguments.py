"""
Validation of the arguments of L{IDHT<dtt.interfaces.IDHT>} operations. Pure.

Each function raises C{ValueError} for an invalid argument.
"""

from __future__ import annotations

from dtt.dht.routing.ids import ID_SIZE
from dtt.errors import DecodeError
from dtt.interfaces import MutableRead
from dtt.krpc.bencode import decode
from dtt.krpc.items import MAX_SALT_SIZE, MAX_SEQ, MAX_VALUE_SIZE, PUBLIC_KEY_SIZE, MutableItem, sign_item


def check_target(target: bytes) -> None:
    """
    Check the length of a target or an info hash.
    """
    if len(target) != ID_SIZE:
        raise ValueError(f"a target must have {ID_SIZE} bytes")


def check_port(port: int, lowest: int = 1) -> None:
    """
    Check a port.

    @param lowest: 0 if 0 has a meaning.
    """
    if not lowest <= port < 0x10000:
        raise ValueError(f"a port must be within {lowest}..65535")


def check_key(public_key: bytes, salt: bytes) -> None:
    """
    Check the lengths of the public key and the salt of a mutable item.
    """
    if len(public_key) != PUBLIC_KEY_SIZE or len(salt) > MAX_SALT_SIZE:
        raise ValueError(f"a public key must have {PUBLIC_KEY_SIZE} bytes, a salt at most {MAX_SALT_SIZE}")


def check_immutable(value: bytes) -> None:
    """
    Check that C{value} is a bencoded value of at most
    L{MAX_VALUE_SIZE<dtt.krpc.items.MAX_VALUE_SIZE>} bytes.
    """
    if len(value) > MAX_VALUE_SIZE:
        raise ValueError(f"the value is longer than {MAX_VALUE_SIZE} bytes")
    try:
        decode(value)
    except DecodeError as error:
        raise ValueError(f"the value is not bencoded: {error}") from None


def item_to_put(
    seed: bytes, salt: bytes, seq: int, value: bytes, cas: int | None, read: MutableRead | None
) -> MutableItem:
    """
    Check the arguments of a put of a mutable item, and sign the item.

    @param seed: the 32-byte Ed25519 seed.
    @param cas: the sequence number to replace, or C{None}.
    @param read: an earlier read of the same item, or C{None}.
    """
    item = sign_item(seed, salt, seq, value)
    if cas is not None and not 0 <= cas <= MAX_SEQ:
        raise ValueError("cas must be within 0..2^63-1")
    if read is not None and (item.public_key, salt) != (read.public_key, read.salt):
        raise ValueError("the read belongs to another item")
    return item
