"""
Ed25519 identities of members.

Rules (docs/protocol/records.md sections 1 and 2, docs/protocol/addresses.md
sections 1 and 4): a peer id is the 32-byte public key, identical to iroh's
EndpointId.  Verification is strict, like C{verify_strict} in Rust: keys and R
of small order and non-canonical encodings of keys and S are rejected.
"""

from __future__ import annotations

import hashlib
import os
from functools import lru_cache

from attrs import Factory, field, frozen
from nacl.bindings import (
    crypto_core_ed25519_is_valid_point,
    crypto_sign,
    crypto_sign_open,
    crypto_sign_seed_keypair,
)
from nacl.exceptions import BadSignatureError

from dtt.arguments import check_bytes
from dtt.errors import UsageError

#: Size of a seed and of a peer id (RFC 8032, section 5.1.5).
KEY_BYTES = 32
#: Size of a signature (RFC 8032, section 5.1.6).
SIGNATURE_BYTES = 64

_Z32 = "ybndrfg8ejkmcpqxot1uwisza345h769"
_Z32_VALUES = {character: value for value, character in enumerate(_Z32)}


def _check_seed(seed: bytes) -> bytes:
    check_bytes("seed", seed)
    if len(seed) != KEY_BYTES:
        raise UsageError(f"an Ed25519 seed is {KEY_BYTES} bytes, not {len(seed)}")
    return seed


@frozen(slots=True)
class PeerKey:
    """
    The Ed25519 key pair of a member.

    @ivar seed: the secret seed, 32 bytes; excluded from the repr.
    @ivar peer_id: the public key, 32 bytes.
    """

    seed: bytes = field(repr=False, converter=_check_seed)
    _pair: tuple[bytes, bytes] = field(
        init=False,
        repr=False,
        eq=False,
        default=Factory(lambda self: crypto_sign_seed_keypair(self.seed), takes_self=True),
    )
    peer_id: bytes = field(
        init=False, eq=False, repr=bytes.hex, default=Factory(lambda self: self._pair[0], takes_self=True)
    )

    @classmethod
    def generate(cls) -> PeerKey:
        """
        Generate a new key with the system's random number generator.
        """
        return cls(os.urandom(KEY_BYTES))

    @classmethod
    def from_seed(cls, seed: bytes) -> PeerKey:
        """
        Return the key for a 32-byte seed (RFC 8032, section 5.1.5).

        @raise WrongType: C{seed} is not C{bytes}.
        @raise UsageError: C{seed} is not 32 bytes.
        """
        return cls(seed)

    def sign_application(self, context: bytes, data: bytes) -> bytes:
        """
        Return the 64-byte signature of L{application_message} of C{context} and C{data}.
        """
        return self.sign(application_message(context, data))

    def sign(self, message: bytes) -> bytes:
        """
        Return the 64-byte Ed25519 signature of C{message}.

        @raise WrongType: C{message} is not C{bytes}.
        """
        check_bytes("message", message)
        return crypto_sign(message, self._pair[1])[:SIGNATURE_BYTES]


#: The prefix of the signed bytes of applications.  Nothing that dtt itself signs begins with it.
_APPLICATION = b"dtt/1 application"


def application_message(context: bytes, data: bytes) -> bytes:
    """
    Return the bytes that are signed for an application: a prefix of 17 bytes, SHA-512 of
    C{context} and SHA-512 of C{data}, 145 bytes in all.  No C{context} and no C{data} can
    make them a record, a DHT item or part of a handshake.
    """
    return _APPLICATION + hashlib.sha512(context).digest() + hashlib.sha512(data).digest()


def verify_application(peer_id: bytes, context: bytes, data: bytes, signature: bytes) -> bool:
    """
    Return whether C{signature} is the signature by C{peer_id} of L{application_message}
    of C{context} and C{data}.

    @param peer_id: 32 bytes; any other length makes the result C{False}.
    @param signature: 64 bytes; any other length makes the result C{False}.
    """
    return verify(peer_id, application_message(context, data), signature)


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """
    Return whether C{signature} is a strictly valid signature of C{message}.

    @param public_key: 32 bytes; any other length makes the result C{False}.
    @param signature: 64 bytes; any other length makes the result C{False}.
    """
    if len(public_key) != KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    try:
        crypto_sign_open(signature + message, public_key)
    except BadSignatureError:
        return False
    return True


# Each id that gossip or a record names is checked repeatedly, and one check costs
# a scalar multiplication; 4096 ids are far more than the views of one swarm
# (guess).
@lru_cache(maxsize=4096)
def is_valid_peer_id(peer_id: bytes) -> bool:
    """
    Return whether C{peer_id} can be a peer id: 32 bytes that encode, canonically,
    a non-zero point of the prime-order group (docs/protocol/addresses.md section 4).
    """
    return len(peer_id) == KEY_BYTES and crypto_core_ed25519_is_valid_point(peer_id)


def z32_encode(data: bytes) -> str:
    """
    Encode C{data} as z-base-32; 32 bytes become 52 characters
    (docs/protocol/addresses.md section 1).
    """
    padding = -len(data) * 8 % 5
    number = int.from_bytes(data, "big") << padding
    bits = len(data) * 8 + padding
    return "".join(_Z32[number >> shift & 31] for shift in range(bits - 5, -1, -5))


def z32_decode(text: str) -> bytes:
    """
    Decode z-base-32, the inverse of L{z32_encode}.

    @raise UsageError: C{text} is not the canonical encoding of any bytes.
    """
    number = 0
    for character in text:
        value = _Z32_VALUES.get(character)
        if value is None:
            raise UsageError(f"not z-base-32: {text[:64]!r}")
        number = number << 5 | value
    size, padding = divmod(len(text) * 5, 8)
    if padding >= 5 or number & (1 << padding) - 1:
        raise UsageError(f"not z-base-32: {text[:64]!r}")
    return (number >> padding).to_bytes(size, "big")
