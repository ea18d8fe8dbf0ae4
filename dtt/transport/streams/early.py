"""
The Join that travels beside an OPEN, sealed.  Pure.

Rules (docs/protocol/streams.md section 3, docs/protocol/latency.md section 3): the key is
HMAC-SHA256 with the topic key, so whoever does not know the topic's secret can
neither read an EARLY nor make one.  The key depends on the connection and the
direction, so that no EARLY can be replayed or reflected.  The nonce is zero: a
key seals one message and no other.  There is no associated data: the key binds
all that matters, and the channel number means nothing outside of the connection,
on which nobody but the sender writes.
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
    The key (32 bytes) of what C{sender} sends early.

    @param topic_key: see L{dtt.transport.streams.channels.topic_key}.
    @param exporter: 32 bytes that only this TLS connection has.
    @param sender: peer id (32 bytes).
    @param receiver: peer id (32 bytes).
    """
    return hmac.digest(topic_key, b"early" + exporter + sender + receiver, "sha256")


def is_join(message: bytes) -> bool:
    """
    Whether C{message} is an encoded L{Join}.
    """
    try:
        return isinstance(decode(message), Join)
    except DecodeError:
        return False


def seal(key: bytes, join: bytes) -> bytes:
    """
    C{join} for the receiver: L{SEAL_SIZE} bytes longer.

    @param key: the L{early_key}; it must not seal another message, ever.
    @param join: an encoded L{Join}.
    """
    return crypto_aead_chacha20poly1305_ietf_encrypt(join, None, _NONCE, key)


def unseal(key: bytes, sealed: bytes) -> bytes:
    """
    What L{seal} was given.

    @param key: the L{early_key}.
    @raise DecodeError: it was not sealed with C{key}, or is no L{Join}.
    """
    if len(sealed) < SEAL_SIZE:
        raise DecodeError("early is not authentic")
    try:
        message = crypto_aead_chacha20poly1305_ietf_decrypt(sealed, None, _NONCE, key)
    except CryptoError:
        raise DecodeError("early is not authentic") from None
    if not is_join(message):
        raise DecodeError("early is no join")
    return message
