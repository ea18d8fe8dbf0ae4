"""
Write tokens (BEP5, "announce_peer"; BEP44, "put"). Pure.

Rules (docs/protocol/dht.md section 3): a token is a keyed hash of the querier's IP
address and the target, so it can be neither forged nor reused elsewhere. The secret
changes every 5 minutes and the previous one remains valid, so a token lives 5 to 10
minutes.
"""

from __future__ import annotations

from hashlib import blake2b
from hmac import compare_digest
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from random import Random

#: Seconds that a secret is used for new tokens (BEP5).
ROTATION_INTERVAL: Final = 300.0

#: Bytes of a token (docs/protocol/dht.md section 3: at least 8).
TOKEN_SIZE: Final = 8

_SECRET_SIZE = 32


def _token(secret: blake2b, ip: bytes, target: bytes) -> bytes:
    keyed = secret.copy()
    keyed.update(ip + target)
    return keyed.digest()


class Tokens:
    """
    Creates and validates tokens.
    """

    __slots__ = ("_previous", "_rng", "_secret", "_since")

    def __init__(self, rng: Random, now: float) -> None:
        """
        @param rng: the source of the secrets; must be unpredictable.
        @param now: the current time, seconds.
        """
        self._rng = rng
        self._secret = self._new_secret()
        self._previous = self._new_secret()
        self._since = now

    def _new_secret(self) -> blake2b:
        # A keyed hash to copy: half the work per token.
        return blake2b(digest_size=TOKEN_SIZE, key=self._rng.randbytes(_SECRET_SIZE))

    def _rotate(self, now: float) -> None:
        age = now - self._since
        if age < ROTATION_INTERVAL:
            return
        stale = age >= 2 * ROTATION_INTERVAL
        self._previous = self._new_secret() if stale else self._secret
        self._secret = self._new_secret()
        # As if it had been rotated on time, even without queries then.
        self._since += age // ROTATION_INTERVAL * ROTATION_INTERVAL

    def token(self, ip: bytes, target: bytes, now: float) -> bytes:
        """
        Return the token for a querier.

        @param ip: the querier's IP address, 4 or 16 bytes.
        @param target: a target or an info hash, 20 bytes.
        """
        self._rotate(now)
        return _token(self._secret, ip, target)

    def is_valid(self, token: bytes, ip: bytes, target: bytes, now: float) -> bool:
        """
        Return whether this is the querier's token from the last 5 to 10 minutes.
        """
        self._rotate(now)
        return compare_digest(token, _token(self._secret, ip, target)) or compare_digest(
            token, _token(self._previous, ip, target)
        )
