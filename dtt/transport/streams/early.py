"""
EARLY: the Join that is sent together with an OPEN, encrypted.  Pure.

Rules (docs/protocol/streams.md section 3, docs/protocol/latency.md section 3): the key
is an HMAC-SHA256 with the topic key, so only holders of the topic's secret can read or
make an EARLY.  The key depends on the connection and the direction, so an EARLY can be
neither replayed nor reflected.  The nonce is zero: each key encrypts exactly one
message.  There is no associated data: the key binds everything that matters, and the
channel number has no meaning outside the connection, on which only the sender writes.
"""

from __future__ import annotations

import hmac

from nacl.bindings import (
    crypto_aead_chacha20poly1305_ietf_decrypt,
    crypto_aead_chacha20poly1305_ietf_encrypt,
)
from nacl.exceptions import CryptoError

from dtt.errors import DecodeError
from dtt.gossip.proto.messages import Join, decode
from dtt.transport.streams.frames import SEAL_SIZE

_NONCE = bytes(12)


def early_key(topic_key: bytes, exporter: bytes, sender: bytes, receiver: bytes) -> bytes:
    """
    Return the key for the EARLY of C{sender} (32 bytes).

    @param topic_key: see L{dtt.transport.admission.topic_key}.
    @param exporter: keying material of this TLS connection (32 bytes).
    @param sender: peer id (32 bytes).
    @param receiver: peer id (32 bytes).
    """
    return hmac.digest(topic_key, b"early" + exporter + sender + receiver, "sha256")


def is_join(message: bytes) -> bool:
    """
    Return whether C{message} is an encoded L{Join}.
    """
    try:
        return isinstance(decode(message), Join)
    except DecodeError:
        return False


def seal(key: bytes, join: bytes) -> bytes:
    """
    Encrypt C{join} for the receiver; the result is L{SEAL_SIZE} bytes longer.

    @param key: the L{early_key}; it must never be used for another message.
    @param join: an encoded L{Join}.
    """
    return crypto_aead_chacha20poly1305_ietf_encrypt(join, None, _NONCE, key)


def unseal(key: bytes, sealed: bytes) -> bytes:
    """
    Decrypt the content of an EARLY and return the encoded L{Join}.

    @param key: the L{early_key}.
    @param sealed: the content, at least L{SEAL_SIZE} bytes.
    @raise DecodeError: it was not encrypted with C{key}, or is not a L{Join}.
    """
    if len(sealed) < SEAL_SIZE:
        raise DecodeError("early not authentic")
    try:
        message = crypto_aead_chacha20poly1305_ietf_decrypt(sealed, None, _NONCE, key)
    except CryptoError:
        raise DecodeError("early not authentic") from None
    if not is_join(message):
        raise DecodeError("early not a join")
    return message
