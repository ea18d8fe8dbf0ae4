"""
HPKE base mode for records.  Pure: randomness is passed as bytes.

Contract: docs/protocol/records.md section 3; RFC 9180 with the suite DHKEM(X25519,
HKDF-SHA256), HKDF-SHA256, ChaCha20Poly1305.  Each context encrypts one message,
so the nonce is the base nonce, and no exporter secret is derived.  Keys are
Ed25519 keys converted to X25519.  On the wire: LE64(32), enc, ciphertext.
"""

from __future__ import annotations

import hashlib
import hmac

from attrs import field, frozen
from nacl.bindings import (
    crypto_aead_chacha20poly1305_ietf_decrypt,
    crypto_aead_chacha20poly1305_ietf_encrypt,
    crypto_scalarmult,
    crypto_scalarmult_base,
    crypto_sign_ed25519_pk_to_curve25519,
)
from nacl.exceptions import CryptoError
from nacl.exceptions import RuntimeError as NaClRuntimeError

from dtt.errors import DecodeError, UsageError

#: The number of bytes that sealing adds: the length of enc, enc, and the tag
#: (docs/protocol/records.md section 3).
OVERHEAD = 8 + 32 + 16

_INFO = b"arbitrary_info_bytes"
_AAD = b"arbitrary_seal_bytes"
_ENC_LENGTH = (32).to_bytes(8, "little")
_HEADER_BYTES = 8 + 32

# RFC 9180 sections 4.1 and 5.1: every label includes the version and the suite.
_KEM_SUITE = b"KEM" + (0x0020).to_bytes(2, "big")
_SUITE = b"HPKE" + b"".join(number.to_bytes(2, "big") for number in (0x0020, 0x0001, 0x0003))


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")


def _expand_prefix(suite: bytes, label: bytes, length: int) -> bytes:
    return length.to_bytes(2, "big") + b"HPKE-v1" + suite + label


# RFC 9180 section 5.1, KeySchedule with mode_base: this part is constant.
_KEY_SCHEDULE_CONTEXT = (
    b"\x00"
    + _hmac(b"", b"HPKE-v1" + _SUITE + b"psk_id_hash")
    + _hmac(b"", b"HPKE-v1" + _SUITE + b"info_hash" + _INFO)
)
# Every output is at most 32 bytes, so HKDF-Expand consists of its first block only:
# HMAC(prk, info, 01).
_EAE_PRK = b"HPKE-v1" + _KEM_SUITE + b"eae_prk"
_SHARED_SECRET = _expand_prefix(_KEM_SUITE, b"shared_secret", 32)
_SECRET = b"HPKE-v1" + _SUITE + b"secret"
_KEY = _expand_prefix(_SUITE, b"key", 32) + _KEY_SCHEDULE_CONTEXT + b"\x01"
_BASE_NONCE = _expand_prefix(_SUITE, b"base_nonce", 12) + _KEY_SCHEDULE_CONTEXT + b"\x01"


@frozen(slots=True)
class KeyPair:
    """
    The X25519 form of an Ed25519 key pair, to which data can be sealed.

    @ivar secret: the secret key, 32 bytes; excluded from the repr.
    @ivar public: the public key, 32 bytes.
    """

    secret: bytes = field(repr=False)
    public: bytes = field(repr=bytes.hex)

    @classmethod
    def from_seed(cls, seed: bytes) -> KeyPair:
        """
        Derive the key pair from an Ed25519 seed.  The secret key is the first half
        of the seed's SHA-512; X25519 clamps it (RFC 7748, section 5).

        @param seed: 32 bytes.
        """
        secret = hashlib.sha512(seed).digest()[:32]
        return cls(secret, crypto_scalarmult_base(secret))


def x25519_public_key(ed25519_public_key: bytes) -> bytes:
    """
    Convert an Ed25519 public key to X25519.

    @param ed25519_public_key: 32 bytes.
    @return: 32 bytes.
    @raise UsageError: it is not a valid Ed25519 public key.
    """
    try:
        if len(ed25519_public_key) == 32:
            return crypto_sign_ed25519_pk_to_curve25519(ed25519_public_key)
    except NaClRuntimeError:
        pass
    raise UsageError("not an Ed25519 public key")


def _key_and_nonce(dh: bytes, kem_context: bytes) -> tuple[bytes, bytes]:
    eae_prk = _hmac(b"", _EAE_PRK + dh)
    shared_secret = _hmac(eae_prk, _SHARED_SECRET + kem_context + b"\x01")
    secret = _hmac(shared_secret, _SECRET)
    return _hmac(secret, _KEY), _hmac(secret, _BASE_NONCE)[:12]


def seal(to: bytes, data: bytes, ephemeral: bytes) -> bytes:
    """
    Encrypt C{data} for the owner of a key.

    @param to: the recipient's X25519 public key, 32 bytes.
    @param data: the plaintext.
    @param ephemeral: the ephemeral X25519 secret key, 32 fresh random bytes; never
        reuse them.
    @return: the sealed message, L{OVERHEAD} bytes longer than C{data}.
    @raise UsageError: C{to} is not a valid key, or C{ephemeral} is not 32 bytes.
    """
    if len(to) != 32 or len(ephemeral) != 32:
        raise UsageError("an X25519 key is 32 bytes")
    enc = crypto_scalarmult_base(ephemeral)
    try:
        dh = crypto_scalarmult(ephemeral, to)
    except NaClRuntimeError:
        raise UsageError("not an X25519 public key") from None
    key, nonce = _key_and_nonce(dh, enc + to)
    return _ENC_LENGTH + enc + crypto_aead_chacha20poly1305_ietf_encrypt(data, _AAD, nonce, key)


def open_(pair: KeyPair, sealed: bytes) -> bytes:
    """
    Decrypt a sealed message.

    Upstream accepts a length field of up to 128, but an X25519 key is always 32
    bytes: any other length fails there too.

    @param pair: the recipient's key pair.
    @param sealed: the result of L{seal}.
    @return: the plaintext.
    @raise DecodeError: C{sealed} is malformed, or was not sealed to this key.
    """
    if len(sealed) < OVERHEAD or sealed[:8] != _ENC_LENGTH:
        raise DecodeError("bad sealed message")
    enc = sealed[8:_HEADER_BYTES]
    try:
        # Raises for an enc of small order (RFC 9180 section 7.1.4).
        dh = crypto_scalarmult(pair.secret, enc)
        key, nonce = _key_and_nonce(dh, enc + pair.public)
        return crypto_aead_chacha20poly1305_ietf_decrypt(sealed[_HEADER_BYTES:], _AAD, nonce, key)
    except (NaClRuntimeError, CryptoError):
        raise DecodeError("can't be decrypted") from None
