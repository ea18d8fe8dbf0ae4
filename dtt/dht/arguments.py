"""
Validation of the arguments of L{IDHT<dtt.interfaces.IDHT>} operations. Pure.

Each function raises L{UsageError<dtt.errors.UsageError>}, a C{ValueError}, for an invalid argument, and
L{WrongType<dtt.errors.WrongType>} for one of a wrong type.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import NoneType

from dtt.arguments import check_bytes, check_integer, check_number, check_reactor, check_type, kind_of
from dtt.dht.routing.ids import ID_SIZE
from dtt.errors import DecodeError, UsageError, WrongType
from dtt.identity import KEY_BYTES
from dtt.interfaces import Contact, MutableRead
from dtt.krpc.bencode import decode
from dtt.krpc.items import MAX_SALT_SIZE, MAX_SEQ, MAX_VALUE_SIZE, PUBLIC_KEY_SIZE, MutableItem, sign_item


def check_node(
    reactor: object,
    port: int,
    node_id: bytes | None,
    upload_rate: object,
    bootstrap: object,
    known_nodes: Sequence[Contact],
) -> None:
    """
    Check the arguments of a L{DHTNode<dtt.dht.node.DHTNode>}.
    """
    check_reactor("the first argument", reactor)
    check_port(port, 0)
    if node_id is not None:
        check_bytes("node_id", node_id)
        if len(node_id) != ID_SIZE:
            raise UsageError(f"node_id must have {ID_SIZE} bytes")
    check_number("upload_rate", upload_rate)
    if isinstance(bootstrap, str | bytes) or not isinstance(bootstrap, Sequence):
        raise WrongType(f"bootstrap must be a sequence of (host, port) pairs, not {kind_of(bootstrap)}")
    for number, pair in enumerate(bootstrap):
        if not isinstance(pair, tuple | list) or len(pair) != 2 or not isinstance(pair[0], str):
            raise WrongType(f"bootstrap[{number}] must be a (host, port) pair, not {kind_of(pair)}")
        check_port(pair[1], 0)
    check_type("known_nodes", known_nodes, Sequence, "the result of known_nodes()")
    if not all(isinstance(each, Contact) for each in known_nodes):
        raise WrongType("known_nodes must be the result of known_nodes()")


def check_target(target: bytes) -> None:
    """
    Check a target or an info hash.
    """
    check_bytes("a target", target)
    if len(target) != ID_SIZE:
        raise UsageError(f"a target must have {ID_SIZE} bytes, not {len(target)}")


def check_port(port: int, lowest: int = 1) -> None:
    """
    Check a port.

    @param lowest: 0 if 0 has a meaning.
    """
    check_integer("a port", port)
    if not lowest <= port < 0x10000:
        raise UsageError(f"a port must be within {lowest}..65535, not {port}")


def check_key(public_key: bytes, salt: bytes) -> None:
    """
    Check the public key and the salt of a mutable item.
    """
    check_bytes("a public key", public_key)
    check_bytes("a salt", salt)
    if len(public_key) != PUBLIC_KEY_SIZE or len(salt) > MAX_SALT_SIZE:
        raise UsageError(f"a public key must have {PUBLIC_KEY_SIZE} bytes, a salt at most {MAX_SALT_SIZE}")


def check_immutable(value: bytes) -> None:
    """
    Check that C{value} is a bencoded value of at most
    L{MAX_VALUE_SIZE<dtt.krpc.items.MAX_VALUE_SIZE>} bytes.
    """
    check_bytes("the value", value)
    if len(value) > MAX_VALUE_SIZE:
        raise UsageError(f"the value is longer than {MAX_VALUE_SIZE} bytes")
    try:
        decode(value)
    except DecodeError as error:
        raise UsageError(f"the value is not bencoded: {error}") from None


def item_to_put(
    seed: bytes, salt: bytes, seq: int, value: bytes, cas: int | None, read: MutableRead | None
) -> MutableItem:
    """
    Check the arguments of a put of a mutable item, and sign the item.

    @param seed: the 32-byte Ed25519 seed.
    @param cas: the sequence number to replace, or C{None}.
    @param read: an earlier read of the same item, or C{None}.
    """
    for name, each in (("the seed", seed), ("a salt", salt), ("the value", value)):
        check_bytes(name, each)
    if len(seed) != KEY_BYTES:
        raise UsageError(f"an Ed25519 seed is {KEY_BYTES} bytes, not {len(seed)}")
    check_integer("seq", seq)
    check_type("read", read, (MutableRead, NoneType), "the result of get_mutable()")
    item = sign_item(seed, salt, seq, value)
    if cas is not None:
        check_integer("cas", cas)
        if not 0 <= cas <= MAX_SEQ:
            raise UsageError("cas must be within 0..2^63-1")
    if read is not None and (item.public_key, salt) != (read.public_key, read.salt):
        raise UsageError("the read belongs to another item")
    return item
