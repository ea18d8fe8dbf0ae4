"""
BEP44 items: targets, signatures, limits. Pure.

Rules: an immutable item is a bencoded value; its target is the SHA-1 of that value. A
mutable item belongs to an Ed25519 key and a salt; its target is SHA1(key ‖ salt). The
signature covers C{4:salt<n>:<salt>3:seqi<seq>e1:v<value>}, without the salt part if the
salt is empty. A value has at most 1000 bytes I{bencoded}. Any bencoded value may be
stored; it is stored, hashed and verified in its encoded form. Signatures are verified
as in libsodium: small-order keys and non-canonical encodings are rejected.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha1
from typing import Any, Final

from attrs import frozen
from nacl.bindings import crypto_sign, crypto_sign_open, crypto_sign_seed_keypair
from nacl.exceptions import BadSignatureError

from dtt.errors import DecodeError
from dtt.krpc.bencode import Encoded, encode

#: The most bytes of a bencoded value (BEP44, "Messages").
MAX_VALUE_SIZE: Final = 1000

#: The most bytes of a byte string as value: its prefix C{996:} takes four.
MAX_STRING_SIZE: Final = 996

#: The most bytes of a salt (BEP44, "Mutable items").
MAX_SALT_SIZE: Final = 64

#: The highest sequence number: all implementations use signed 64-bit integers.
MAX_SEQ: Final = 2**63 - 1

PUBLIC_KEY_SIZE: Final = 32
SIGNATURE_SIZE: Final = 64


@frozen(slots=True, weakref_slot=False, init=False)
class MutableItem:
    """
    A mutable item with a well-formed signature, not necessarily a valid one.

    @ivar seq: the sequence number, 0..L{MAX_SEQ}.
    @ivar encoded: the bencoded value, at most L{MAX_VALUE_SIZE} bytes.
    """

    # Key, signature and salt: one object instead of three saves 90 bytes per stored
    # item.
    _rest: bytes
    seq: int
    encoded: Encoded

    def __init__(self, public_key: bytes, salt: bytes, seq: int, encoded: Encoded, signature: bytes) -> None:
        """
        @param public_key: 32 bytes.
        @param salt: at most L{MAX_SALT_SIZE} bytes.
        @param seq: 0..L{MAX_SEQ}.
        @param encoded: the bencoded value.
        @param signature: 64 bytes.
        """
        # All records have this number; share one int object among them.
        seq = MAX_SEQ if seq == MAX_SEQ else seq
        self.__attrs_init__(public_key + signature + salt, seq, encoded)

    @property
    def public_key(self) -> bytes:
        """
        The Ed25519 public key, 32 bytes.
        """
        return self._rest[:PUBLIC_KEY_SIZE]

    @property
    def signature(self) -> bytes:
        """
        The signature, 64 bytes.
        """
        return self._rest[PUBLIC_KEY_SIZE : PUBLIC_KEY_SIZE + SIGNATURE_SIZE]

    @property
    def salt(self) -> bytes:
        """
        The salt, at most L{MAX_SALT_SIZE} bytes.
        """
        return self._rest[PUBLIC_KEY_SIZE + SIGNATURE_SIZE :]

    @property
    def target(self) -> bytes:
        """
        The target under which the item is stored, 20 bytes.
        """
        return mutable_target(self.public_key, self.salt)

    def is_genuine(self) -> bool:
        """
        Return whether the signature is valid.
        """
        return verify(self.public_key, self.salt, self.seq, self.encoded, self.signature)

    def arguments(self) -> dict[bytes, Any]:
        """
        Return the arguments of a C{put}, without C{token} and C{cas}.
        """
        arguments: dict[bytes, Any] = {
            b"k": self.public_key,
            b"seq": self.seq,
            b"sig": self.signature,
            b"v": self.encoded,
        }
        if self.salt:
            arguments[b"salt"] = self.salt
        return arguments


def mutable_target(public_key: bytes, salt: bytes = b"") -> bytes:
    """
    Return the 20-byte target of a mutable item.
    """
    return sha1(public_key + salt).digest()


def immutable_target(encoded: bytes) -> bytes:
    """
    Return the 20-byte target of an immutable item.

    @param encoded: the bencoded value.
    """
    return sha1(encoded).digest()


def signature_buffer(salt: bytes, seq: int, encoded: bytes) -> bytes:
    """
    Return the bytes that the signature of a mutable item covers.

    @param encoded: the bencoded value.
    """
    prefix = b"4:salt%d:%b" % (len(salt), salt) if salt else b""
    return b"%b3:seqi%de1:v%b" % (prefix, seq, encoded)


def sign(seed: bytes, salt: bytes, seq: int, encoded: bytes) -> bytes:
    """
    Return the 64-byte signature of a mutable item.

    @param seed: the 32-byte Ed25519 seed.
    @param encoded: the bencoded value.
    """
    _, secret_key = crypto_sign_seed_keypair(seed)
    return crypto_sign(signature_buffer(salt, seq, encoded), secret_key)[:SIGNATURE_SIZE]


def verify(public_key: bytes, salt: bytes, seq: int, encoded: bytes, signature: bytes) -> bool:
    """
    Return whether C{signature} is valid for a mutable item. It is not if the key or the
    signature has a wrong size.
    """
    if len(public_key) != PUBLIC_KEY_SIZE or len(signature) != SIGNATURE_SIZE:
        return False
    return _is_signed(signature + signature_buffer(salt, seq, encoded), public_key)


# Several nodes return the same item, at each read of its slot: it is verified once.
@lru_cache(maxsize=512)
def _is_signed(signed: bytes, public_key: bytes) -> bool:
    try:
        crypto_sign_open(signed, public_key)
    except BadSignatureError:
        return False
    return True


def sign_item(seed: bytes, salt: bytes, seq: int, value: bytes) -> MutableItem:
    """
    Sign a mutable item whose value is the byte string C{value}.

    @param seed: the 32-byte Ed25519 seed.
    @raise ValueError: the value or the salt is too long, or C{seq} is out of range.
    """
    if len(value) > MAX_STRING_SIZE:
        raise ValueError(f"the value is longer than {MAX_STRING_SIZE} bytes")
    if len(salt) > MAX_SALT_SIZE:
        raise ValueError(f"the salt is longer than {MAX_SALT_SIZE} bytes")
    if not 0 <= seq <= MAX_SEQ:
        raise ValueError("seq must be within 0..2^63-1")
    public_key, _ = crypto_sign_seed_keypair(seed)
    encoded = Encoded(encode(value))
    return MutableItem(public_key, salt, seq, encoded, sign(seed, salt, seq, encoded))


def read_item(values: dict[bytes, Any], public_key: bytes, salt: bytes) -> MutableItem | None:
    """
    Extract the mutable item from a C{get} response and verify it.

    @param values: the values of the response.
    @return: C{None} if the response has no C{v}.
    @raise DecodeError: the response has a C{v}, but not a valid item of this key and
        salt.
    """
    if b"v" not in values:
        return None
    seq, signature = values.get(b"seq"), values.get(b"sig")
    if values.get(b"k") != public_key:
        raise DecodeError("item: wrong key")
    if type(seq) is not int or not 0 <= seq <= MAX_SEQ:
        raise DecodeError("item: bad seq")
    if type(signature) is not bytes or len(signature) != SIGNATURE_SIZE:
        raise DecodeError("item: bad signature")
    encoded = Encoded(encode(values[b"v"]))
    if len(encoded) > MAX_VALUE_SIZE:
        raise DecodeError("item: too large")
    item = MutableItem(public_key, salt, seq, encoded, signature)
    if not item.is_genuine():
        raise DecodeError("item: bad signature")
    return item
