"""
Topics, slots and their keys.  Pure.

Contract: docs/protocol/records.md section 1.  H is SHA-512 cut to 32 bytes.  The minute is
little-endian where slots are derived and big-endian in the default rotation:
both are right.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Self, TypeAlias

from attrs import Factory, field, frozen

from dtt.errors import UsageError
from dtt.identity import PeerKey
from dtt.records.hpke import KeyPair

#: Minutes are unsigned 64-bit integers (docs/protocol/records.md section 1).
MAX_MINUTE = 2**64 - 1

#: How a slot's encryption seed comes about: (topic id, minute, initial secret
#: hash) -> 32 bytes.  Applications may use their own.
Rotation: TypeAlias = Callable[[bytes, int, bytes], bytes]

_HASH_PREFIX = "hex:"


def truncated_sha512(data: bytes) -> bytes:
    """
    H of docs/protocol/records.md: SHA-512, cut to 32 bytes.
    """
    return hashlib.sha512(data).digest()[:32]


class TopicId(bytes):
    """
    The 32 bytes that a topic is known by; made of a ready hash.

    Being bytes, it can be given wherever a topic id is asked for; being a
    class, it can't be mistaken for a topic I{name} of 32 bytes.
    """

    def __new__(cls, topic_hash: bytes) -> Self:
        """
        @raise UsageError: C{topic_hash} is not 32 bytes.
        """
        if len(topic_hash) != 32:
            raise UsageError(f"a topic id is 32 bytes, not {len(topic_hash)}")
        return super().__new__(cls, topic_hash)

    @classmethod
    def from_name(cls, name: str | bytes) -> Self:
        """
        The id of a topic's name: text (as UTF-8) or any bytes, also 32 of them.

        @raise UsageError: text that is no Unicode (a lone surrogate).
        """
        if isinstance(name, str):
            try:
                name = name.encode("utf-8")
            except UnicodeEncodeError:
                raise UsageError(f"topic name {name[:64]!a} is not Unicode text") from None
        return cls(truncated_sha512(name))

    @classmethod
    def parse(cls, text: str) -> Self:
        """
        The form of the command line: C{hex:} and 64 digits is a ready hash,
        anything else a name.  Bytes of a command line that are no UTF-8, which
        Python gives as lone surrogates, are taken as they were typed.

        @raise UsageError: C{hex:} is not followed by 64 hexadecimal digits.
        """
        if not text.startswith(_HASH_PREFIX):
            try:
                return cls.from_name(text.encode("utf-8", "surrogateescape"))
            except UnicodeEncodeError:
                raise UsageError(f"topic name {text[:64]!a} is not Unicode text") from None
        digits = text.removeprefix(_HASH_PREFIX)
        try:
            if len(digits) != 64:
                raise ValueError
            return cls(bytes.fromhex(digits))
        except ValueError:
            raise UsageError(
                f"topic {text[:80]!a}: {_HASH_PREFIX} must be followed by 64 hexadecimal digits"
            ) from None


def check_minute(minute: int) -> int:
    """
    C{minute} itself.

    @raise UsageError: it is not within 0..L{MAX_MINUTE}.
    """
    if not 0 <= minute <= MAX_MINUTE:
        raise UsageError(f"a unix minute is 0..2^64-1, not {minute}")
    return minute


def _signing_key(slot: Slot) -> PeerKey:
    return PeerKey(truncated_sha512(slot.topic_id + slot.minute.to_bytes(8, "little")))


def _salt(slot: Slot) -> bytes:
    return truncated_sha512(b"salt" + slot.topic_id + slot.minute.to_bytes(8, "little"))


def _derived(compute: Callable[[Slot], bytes]) -> bytes:
    derived: bytes = field(init=False, eq=False, repr=False, default=Factory(compute, takes_self=True))
    return derived


@frozen(slots=True)
class Slot:
    """
    One topic's BEP44 mutable item for one minute.

    Its signing key is public knowledge to whoever knows the topic, and so the
    seed is not a secret.

    @ivar topic_id: 32 bytes.
    @ivar minute: the unix minute, 0..2^64-1.
    @ivar signing_seed: the Ed25519 seed of the item's key, 32 bytes.
    @ivar public_key: the item's key, 32 bytes.
    @ivar salt: the item's salt, 32 bytes.
    @ivar target: where it lies in the DHT (BEP44: SHA-1 of key and salt), 20 bytes.
    """

    topic_id: bytes = field(converter=TopicId, repr=bytes.hex)
    minute: int = field(converter=check_minute)
    _key: PeerKey = field(init=False, eq=False, repr=False, default=Factory(_signing_key, takes_self=True))
    signing_seed: bytes = _derived(lambda slot: slot._key.seed)
    public_key: bytes = _derived(lambda slot: slot._key.peer_id)
    salt: bytes = _derived(_salt)
    target: bytes = _derived(lambda slot: hashlib.sha1(slot.public_key + slot.salt).digest())


def unix_minute(seconds: float) -> int:
    """
    The unix minute of a unix time in seconds.
    """
    return check_minute(int(seconds // 60))


def initial_secret_hash(secret: bytes) -> bytes:
    """
    H of the initial secret: what a member keeps instead of the secret, 32 bytes.
    """
    return truncated_sha512(secret)


def default_rotation(topic_id: bytes, minute: int, secret_hash: bytes) -> bytes:
    """
    Upstream's rotation: H(topic id, big-endian minute, initial secret hash).
    """
    return truncated_sha512(topic_id + minute.to_bytes(8, "big") + secret_hash)


def encryption_seed(slot: Slot, secret_hash: bytes, rotation: Rotation = default_rotation) -> bytes:
    """
    The Ed25519 seed, 32 bytes, of the key that C{slot}'s records are sealed to.

    @param secret_hash: what L{initial_secret_hash} gave.
    @raise UsageError: the rotation did not return 32 bytes.
    """
    seed = rotation(slot.topic_id, slot.minute, secret_hash)
    if not isinstance(seed, bytes) or len(seed) != 32:
        found = f"{len(seed)} bytes" if isinstance(seed, bytes) else type(seed).__name__
        raise UsageError(f"a secret rotation must return 32 bytes, this one returned {found}")
    return seed


def encryption_key(slot: Slot, secret_hash: bytes, rotation: Rotation = default_rotation) -> KeyPair:
    """
    The key that C{slot}'s records are sealed to; worth keeping while the slot
    is read, it costs a scalar multiplication.

    @raise UsageError: as L{encryption_seed}.
    """
    return KeyPair.from_seed(encryption_seed(slot, secret_hash, rotation))
