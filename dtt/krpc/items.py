"""
Items of BEP44: targets, signatures, limits.  Pure.

Rules: an immutable item is a bencoded value and its target the SHA-1 of that;
a mutable item belongs to an Ed25519 key and a salt, and its target is
SHA1(key ‖ salt).  Signed is C{4:salt<n>:<salt>3:seqi<seq>e1:v<value>}, without
the salt's part if it is empty.  A value has at most 1000 bytes I{bencoded}.
Any bencoded value may be stored; it is kept, hashed and verified as its
encoding.  Signatures are verified as libsodium does: no small-order keys, no
non-canonical encodings.
"""

from __future__ import annotations

from hashlib import sha1
from typing import Any, Final

from attrs import frozen
from nacl.bindings import crypto_sign, crypto_sign_open, crypto_sign_seed_keypair
from nacl.exceptions import BadSignatureError

from dtt.errors import DecodeError
from dtt.krpc.bencode import Encoded, encode

#: Bytes of a bencoded value (BEP44, "Messages").
MAX_VALUE_SIZE: Final = 1000

#: Bytes of a byte string that fits: four are C{996:}.
MAX_STRING_SIZE: Final = 996

#: Bytes of a salt (BEP44, "Mutable items").
MAX_SALT_SIZE: Final = 64

#: The greatest sequence number; all of the field use signed 64-bit numbers.
MAX_SEQ: Final = 2**63 - 1

PUBLIC_KEY_SIZE: Final = 32
SIGNATURE_SIZE: Final = 64


@frozen(slots=True, weakref_slot=False, init=False)
class MutableItem:
    """
    A mutable item with a well-formed, though perhaps wrong, signature.

    @ivar seq: 0..L{MAX_SEQ}.
    @ivar encoded: the bencoded value, at most L{MAX_VALUE_SIZE} bytes.
    """

    # Key, signature and salt: one object instead of three saves a stored item
    # 90 bytes.
    _rest: bytes
    seq: int
    encoded: Encoded

    def __init__(self, public_key: bytes, salt: bytes, seq: int, encoded: Encoded, signature: bytes) -> None:
        # The number that every record has is one object for all of them, too.
        seq = MAX_SEQ if seq == MAX_SEQ else seq
        self.__attrs_init__(public_key + signature + salt, seq, encoded)

    @property
    def public_key(self) -> bytes:
        """
        32 bytes.
        """
        return self._rest[:PUBLIC_KEY_SIZE]

    @property
    def signature(self) -> bytes:
        """
        64 bytes.
        """
        return self._rest[PUBLIC_KEY_SIZE : PUBLIC_KEY_SIZE + SIGNATURE_SIZE]

    @property
    def salt(self) -> bytes:
        """
        At most L{MAX_SALT_SIZE} bytes.
        """
        return self._rest[PUBLIC_KEY_SIZE + SIGNATURE_SIZE :]

    @property
    def target(self) -> bytes:
        """
        Where it is stored, 20 bytes.
        """
        return mutable_target(self.public_key, self.salt)

    def is_genuine(self) -> bool:
        """
        Does the signature hold?
        """
        return verify(self.public_key, self.salt, self.seq, self.encoded, self.signature)

    def arguments(self) -> dict[bytes, Any]:
        """
        For a C{put}, without token and C{cas}.
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
    The 20-byte target of a mutable item.
    """
    return sha1(public_key + salt).digest()


def immutable_target(encoded: bytes) -> bytes:
    """
    The 20-byte target of an immutable item, given its bencoded value.
    """
    return sha1(encoded).digest()


def signature_buffer(salt: bytes, seq: int, encoded: bytes) -> bytes:
    """
    What is signed.
    """
    prefix = b"4:salt%d:%b" % (len(salt), salt) if salt else b""
    return b"%b3:seqi%de1:v%b" % (prefix, seq, encoded)


def sign(seed: bytes, salt: bytes, seq: int, encoded: bytes) -> bytes:
    """
    The 64-byte signature of a mutable item.

    @param seed: the 32-byte Ed25519 seed.
    @param encoded: the bencoded value.
    """
    _, secret_key = crypto_sign_seed_keypair(seed)
    return crypto_sign(signature_buffer(salt, seq, encoded), secret_key)[:SIGNATURE_SIZE]


def verify(public_key: bytes, salt: bytes, seq: int, encoded: bytes, signature: bytes) -> bool:
    """
    Is this the signature of that item?  L{False} for wrong sizes, too.
    """
    if len(public_key) != PUBLIC_KEY_SIZE or len(signature) != SIGNATURE_SIZE:
        return False
    try:
        crypto_sign_open(signature + signature_buffer(salt, seq, encoded), public_key)
    except BadSignatureError:
        return False
    return True


def sign_item(seed: bytes, salt: bytes, seq: int, value: bytes) -> MutableItem:
    """
    A mutable item whose value is the byte string C{value}.

    @param seed: the 32-byte Ed25519 seed.
    @raise ValueError: something is too long, or C{seq} out of range.
    """
    if len(value) > MAX_STRING_SIZE:
        raise ValueError(f"the value has more than {MAX_STRING_SIZE} bytes")
    if len(salt) > MAX_SALT_SIZE:
        raise ValueError(f"the salt has more than {MAX_SALT_SIZE} bytes")
    if not 0 <= seq <= MAX_SEQ:
        raise ValueError("seq is not within 0..2^63-1")
    public_key, _ = crypto_sign_seed_keypair(seed)
    encoded = Encoded(encode(value))
    return MutableItem(public_key, salt, seq, encoded, sign(seed, salt, seq, encoded))


def read_item(values: dict[bytes, Any], public_key: bytes, salt: bytes) -> MutableItem | None:
    """
    The verified mutable item in a response to C{get}.

    @param values: the response's values.
    @return: L{None} if the response has no C{v}.
    @raise DecodeError: what it has is not an item of this key and salt.
    """
    if b"v" not in values:
        return None
    seq, signature = values.get(b"seq"), values.get(b"sig")
    if values.get(b"k") != public_key:
        raise DecodeError("item: other key")
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
