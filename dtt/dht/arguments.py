"""
What an application may not ask of L{IDHT<dtt.interfaces.IDHT>}.  Pure.

Each of these raises L{ValueError}.
"""

from __future__ import annotations

from dtt.dht.routing.ids import ID_SIZE
from dtt.errors import DecodeError
from dtt.interfaces import MutableRead
from dtt.krpc.bencode import decode
from dtt.krpc.items import MAX_SALT_SIZE, MAX_SEQ, MAX_VALUE_SIZE, PUBLIC_KEY_SIZE, MutableItem, sign_item


def check_target(target: bytes) -> None:
    """
    A target or an info hash.
    """
    if len(target) != ID_SIZE:
        raise ValueError(f"a target has {ID_SIZE} bytes")


def check_key(public_key: bytes, salt: bytes) -> None:
    """
    Of a mutable item.
    """
    if len(public_key) != PUBLIC_KEY_SIZE or len(salt) > MAX_SALT_SIZE:
        raise ValueError(f"a public key has {PUBLIC_KEY_SIZE} bytes, a salt at most {MAX_SALT_SIZE}")


def check_immutable(value: bytes) -> None:
    """
    The encoding of an immutable item.
    """
    if len(value) > MAX_VALUE_SIZE:
        raise ValueError(f"the value has more than {MAX_VALUE_SIZE} bytes")
    try:
        decode(value)
    except DecodeError as error:
        raise ValueError(f"the value is not bencoded: {error}") from None


def item_to_put(
    seed: bytes, salt: bytes, seq: int, value: bytes, cas: int | None, read: MutableRead | None
) -> MutableItem:
    """
    A mutable item, signed.

    @param seed: 32 bytes.
    @param read: of the same item, if there is one.
    """
    item = sign_item(seed, salt, seq, value)
    if cas is not None and not 0 <= cas <= MAX_SEQ:
        raise ValueError("cas is not within 0..2^63-1")
    if read is not None and (item.public_key, salt) != (read.public_key, read.salt):
        raise ValueError("the read is of another item")
    return item
