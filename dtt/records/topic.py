"""
Topics, slots and their keys.  Pure.

Contract: docs/protocol/records.md section 1.  H is SHA-512, truncated to 32
bytes.  The minute is little-endian in the derivation of slots and big-endian in
the default rotation; the difference is intended.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final, Self, TypeAlias

from attrs import Factory, field, frozen

from dtt.arguments import check_bytes, check_type
from dtt.errors import UsageError
from dtt.identity import PeerKey
from dtt.records.hpke import KeyPair

#: Minutes are unsigned 64-bit integers (docs/protocol/records.md section 1).
MAX_MINUTE = 2**64 - 1

#: Derives a slot's encryption seed: (topic id, unix minute, initial secret hash) -> 32
#: bytes.  Applications can use their own.
Rotation: TypeAlias = Callable[[bytes, int, bytes], bytes]

_HASH_PREFIX = "hex:"


def truncated_sha512(data: bytes) -> bytes:
    """
    Return H of docs/protocol/records.md: SHA-512, truncated to 32 bytes.
    """
    return hashlib.sha512(data).digest()[:32]


#: The cost of L{secret_code} for scrypt: 32 MiB of memory and about 0.1 s (guess: a
#: person waits for one, a guesser for each).
_CODE_COST = {"n": 2**15, "r": 8, "p": 1, "maxmem": 64 * 1024 * 1024}


#: The maximum length of the label of a topic in characters (guess: it begins log lines).
MAX_LABEL = 64


def _label(name: str) -> str:
    shown = "".join(
        each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in name[: MAX_LABEL + 1]
    )
    return shown if len(shown) <= MAX_LABEL else f"{shown[: MAX_LABEL - 3]}..."


class TopicId(bytes):
    """
    The id of a topic: 32 bytes.

    It is a subclass of C{bytes}, so it can be used wherever a topic id is expected, and a separate class, so
    it can't be mistaken for a topic I{name} of 32 bytes.

    @ivar label: a label for people: the name, shortened and printable, or the first digits of the id if no
        name is known.
    """

    label: str

    def __new__(cls, topic_hash: bytes, name: str | None = None) -> Self:
        """
        @param topic_hash: the id, 32 bytes; that of another C{TopicId} comes with its
            label.
        @param name: the name of the topic, if it is known.
        @raise WrongType: C{topic_hash} is not C{bytes}.
        @raise UsageError: C{topic_hash} is not 32 bytes.
        """
        check_bytes("a topic id", topic_hash)
        if len(topic_hash) != 32:
            raise UsageError(f"a topic id is 32 bytes, not {len(topic_hash)}")
        topic_id = super().__new__(cls, topic_hash)
        if name:
            topic_id.label = _label(name)
        elif isinstance(topic_hash, TopicId):
            topic_id.label = topic_hash.label
        else:
            topic_id.label = f"{_HASH_PREFIX}{topic_hash.hex()[:10]}..."
        return topic_id

    @classmethod
    def from_name(cls, name: str | bytes) -> Self:
        """
        Derive the id from the name of a topic.

        @param name: text, which is encoded as UTF-8, or bytes of any length.
        @raise WrongType: it is neither text nor C{bytes}.
        @raise UsageError: the text is not valid Unicode (it has a lone surrogate).
        """
        check_type("the name of a topic", name, (str, bytes), "str or bytes")
        if isinstance(name, str):
            try:
                name = name.encode("utf-8")
            except UnicodeEncodeError:
                raise UsageError(f"topic name {name[:64]!a} is not Unicode text") from None
        return cls(truncated_sha512(name), name[: 4 * MAX_LABEL].decode("utf-8", "replace"))

    @classmethod
    def parse(cls, text: str) -> Self:
        """
        Parse a topic as given on the command line: C{hex:} and 64 hexadecimal
        digits is an id, anything else a name.  Bytes of the command line that are
        not UTF-8, which Python represents as lone surrogates, are used as typed.

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


def label_of(topic_id: bytes) -> str:
    """
    Return what people call the topic with this id, 32 bytes; see L{TopicId}.
    """
    return TopicId(topic_id).label


def check_minute(minute: int) -> int:
    """
    Return C{minute} if it is valid.

    @raise UsageError: it is not in 0..L{MAX_MINUTE}.
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
    The BEP44 mutable item of one topic for one minute.

    Everyone who knows the topic can derive its signing key, so the seed is not a
    secret.

    @ivar topic_id: 32 bytes.
    @ivar minute: the unix minute, 0..2^64-1.
    @ivar signing_seed: the Ed25519 seed of the item's key, 32 bytes.
    @ivar public_key: the item's key, 32 bytes.
    @ivar salt: the item's salt, 32 bytes.
    @ivar target: the item's target in the DHT (BEP44: SHA-1 of key and salt), 20
        bytes.
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
    Return the unix minute of a unix time in seconds.
    """
    return check_minute(int(seconds // 60))


def initial_secret_hash(secret: bytes) -> bytes:
    """
    Return H of the initial secret, which a member stores instead of the secret; 32
    bytes.
    """
    return truncated_sha512(secret)


#: The hash of the empty secret: that of a topic without a secret.
NO_SECRET: Final = initial_secret_hash(b"")


def secret_code(slot: Slot, secret: bytes) -> str:
    """
    Return six decimal digits with which two people compare secrets, for example by
    telephone.  They depend on the topic, the secret and the hour of the slot.

    Many secrets have the same digits, and each guess costs 0.1 s: who sees the
    digits can exclude guesses, but can't be sure of one, and not at all of a secret
    that can't be guessed.

    @param slot: a slot of the topic in that hour.
    @param secret: the initial secret.
    """
    salt = b"dtt secret code" + slot.topic_id + (slot.minute // 60).to_bytes(8, "big")
    digest = hashlib.scrypt(secret, salt=salt, dklen=16, **_CODE_COST)
    return f"{int.from_bytes(digest, 'big') % 10**6:06d}"


def default_rotation(topic_id: bytes, minute: int, secret_hash: bytes) -> bytes:
    """
    Derive an encryption seed as upstream does: H(topic id, big-endian minute,
    initial secret hash).
    """
    return truncated_sha512(topic_id + minute.to_bytes(8, "big") + secret_hash)


def encryption_seed(slot: Slot, secret_hash: bytes, rotation: Rotation = default_rotation) -> bytes:
    """
    Return the Ed25519 seed of the key that the records of C{slot} are encrypted
    to; 32 bytes.

    @param slot: the slot.
    @param secret_hash: the result of L{initial_secret_hash}, 32 bytes.
    @param rotation: derives the seed.
    @raise UsageError: the rotation did not return 32 bytes.
    """
    return rotated(slot.topic_id, slot.minute, secret_hash, rotation)


def rotated(topic_id: bytes, minute: int, secret_hash: bytes, rotation: Rotation) -> bytes:
    """
    Return the seed that C{rotation} derives, 32 bytes.

    @param topic_id: 32 bytes.
    @param minute: a unix minute.
    @param secret_hash: the result of L{initial_secret_hash}, 32 bytes.
    @param rotation: derives the seed.
    @raise UsageError: the rotation did not return 32 bytes.
    """
    seed = rotation(topic_id, minute, secret_hash)
    if not isinstance(seed, bytes) or len(seed) != 32:
        found = f"{len(seed)} bytes" if isinstance(seed, bytes) else type(seed).__name__
        raise UsageError(f"a secret rotation must return 32 bytes, this one returned {found}")
    return seed


def encryption_key(slot: Slot, secret_hash: bytes, rotation: Rotation = default_rotation) -> KeyPair:
    """
    Return the key pair that the records of C{slot} are encrypted to.  Computing it
    costs a scalar multiplication: keep it while the slot is in use.

    @param slot: the slot.
    @param secret_hash: the result of L{initial_secret_hash}, 32 bytes.
    @param rotation: derives the seed.
    @raise UsageError: as L{encryption_seed}.
    """
    return KeyPair.from_seed(encryption_seed(slot, secret_hash, rotation))


@frozen(slots=True)
class TopicKeys:
    """
    The keys that the members of a topic share.

    @ivar topic_id: 32 bytes.
    @ivar secret_hash: the result of L{initial_secret_hash}, 32 bytes; not in the repr.
    @ivar rotation: derives the encryption seed of each minute.
    """

    topic_id: TopicId = field(converter=TopicId, repr=bytes.hex)
    secret_hash: bytes = field(repr=False)
    rotation: Rotation = field(default=default_rotation, repr=False)

    def slot(self, minute: int) -> Slot:
        """
        Return the slot of a unix minute.
        """
        return Slot(self.topic_id, minute)

    @property
    def has_secret(self) -> bool:
        """
        Whether the initial secret is not empty.  If it is empty, anyone who knows the topic can derive all
        keys.
        """
        return self.secret_hash != NO_SECRET

    def rotated(self, minute: int) -> bytes:
        """
        Return the seed that the rotation derives for a unix minute, 32 bytes.

        @raise UsageError: the rotation does not return 32 bytes.
        """
        return rotated(self.topic_id, minute, self.secret_hash, self.rotation)

    def encryption_key(self, slot: Slot) -> KeyPair:
        """
        Return the key pair of C{slot}; see L{encryption_key}.

        @raise UsageError: the rotation does not return 32 bytes.
        """
        return encryption_key(slot, self.secret_hash, self.rotation)
