"""
Items and info hashes of a topic that only its members can compute.  Pure.

Contract: docs/protocol/sealed.md section 1.  H is SHA-512, truncated to 32 bytes.  All
derivations include what the topic's rotation makes of the secret, so an outsider knows
neither the target of an item nor its key.  In a topic without a secret they are as public
as the topic.
"""

from __future__ import annotations

import hashlib
from typing import Final

from attrs import Factory, field, frozen

from dtt.identity import PeerKey
from dtt.records.hpke import KeyPair
from dtt.records.record import Record, decrypt, encrypt
from dtt.records.topic import TopicId, TopicKeys, truncated_sha512

#: The length of the period of a sealed slot, and the number of its lanes
#: (docs/protocol/sealed.md section 1).
PERIOD_MINUTES: Final = 10
LANES: Final = 8

#: The length of the period of a direct item and of an announcement (the same source).
EPOCH_MINUTES: Final = 360


def period_of(minute: int) -> int:
    """
    Return the period of sealed slots in which a unix minute is.
    """
    return minute // PERIOD_MINUTES


def epoch_of(minute: int) -> int:
    """
    Return the period of direct items and announcements in which a unix minute is.
    """
    return minute // EPOCH_MINUTES


def _public_key(item: HiddenItem) -> bytes:
    return PeerKey(item.signing_seed).peer_id


@frozen(slots=True)
class HiddenItem:
    """
    A BEP44 mutable item whose target and keys only members can compute.

    @ivar topic_id: 32 bytes.
    @ivar signing_seed: the Ed25519 seed of its key, 32 bytes.
    @ivar salt: its salt, 0 or 32 bytes.
    @ivar key: the key pair that its records are encrypted to.
    @ivar public_key: its key, 32 bytes.
    @ivar target: its target in the DHT, 20 bytes.
    """

    topic_id: bytes = field(repr=bytes.hex)
    signing_seed: bytes = field(repr=False)
    salt: bytes = field(repr=False)
    key: KeyPair = field(repr=False)
    public_key: bytes = field(init=False, repr=False, default=Factory(_public_key, takes_self=True))
    target: bytes = field(
        init=False,
        repr=False,
        default=Factory(lambda item: hashlib.sha1(item.public_key + item.salt).digest(), takes_self=True),
    )

    def seal(self, record: Record, entropy: bytes) -> bytes:
        """
        Encrypt a record for the readers of this item; see
        L{encrypt<dtt.records.record.encrypt>}.
        """
        return encrypt(record, self.key.public, entropy)

    def open(self, value: bytes) -> Record:
        """
        Decrypt and verify a value of this item.  Its minute is not checked: it is the one
        in which the record was made, by the clock of its publisher.

        @raise RecordRefused: stage C{parse}, C{decrypt} or C{verify}.
        """
        record = Record.decode(decrypt(value, self.key))
        record.verify_topic(self.topic_id)
        return record


def sealed_slot(keys: TopicKeys, period: int, lane: int = 0) -> HiddenItem:
    """
    Return the sealed slot of a period and a lane.

    @param keys: the keys of the topic.
    @param period: see L{period_of}.
    @param lane: 0..L{LANES} - 1.
    @raise UsageError: the rotation does not return 32 bytes.
    """
    rotated = keys.rotated(period * PERIOD_MINUTES)
    x = keys.topic_id + rotated + period.to_bytes(8, "little") + lane.to_bytes(8, "little")
    return HiddenItem(
        TopicId(keys.topic_id),
        truncated_sha512(b"dtt/1 sealed slot" + x),
        truncated_sha512(b"dtt/1 sealed salt" + x),
        KeyPair.from_seed(truncated_sha512(b"dtt/1 sealed record" + x)),
    )


def direct_item(keys: TopicKeys, epoch: int) -> HiddenItem:
    """
    Return the item with which members answer direct questions.

    @param keys: the keys of the topic.
    @param epoch: see L{epoch_of}.
    @raise UsageError: the rotation does not return 32 bytes.
    """
    x = _of_epoch(keys, epoch)
    return HiddenItem(
        TopicId(keys.topic_id),
        truncated_sha512(b"dtt/1 direct" + x),
        b"",
        KeyPair.from_seed(truncated_sha512(b"dtt/1 direct record" + x)),
    )


def announced_info_hash(keys: TopicKeys, epoch: int) -> bytes:
    """
    Return the info hash under which members announce themselves, 20 bytes.

    @param keys: the keys of the topic.
    @param epoch: see L{epoch_of}.
    @raise UsageError: the rotation does not return 32 bytes.
    """
    return truncated_sha512(b"dtt/1 announce" + _of_epoch(keys, epoch))[:20]


def _of_epoch(keys: TopicKeys, epoch: int) -> bytes:
    return keys.topic_id + keys.rotated(epoch * EPOCH_MINUTES) + epoch.to_bytes(8, "little")
