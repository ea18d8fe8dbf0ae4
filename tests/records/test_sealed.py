"""
Tests for L{dtt.records.sealed}.
"""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from random import Random

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from dtt.errors import RecordRefused, UsageError
from dtt.identity import PeerKey
from dtt.records.hpke import KeyPair
from dtt.records.record import ENTROPY_BYTES, GossipContent, Record
from dtt.records.sealed import (
    LANES,
    HiddenItem,
    announced_info_hash,
    direct_item,
    epoch_of,
    period_of,
    sealed_slot,
)
from dtt.records.topic import TopicId, TopicKeys, initial_secret_hash

CASES = json.loads((Path(__file__).parent.parent / "vectors" / "sealed.json").read_text())
KEYS = TopicKeys(TopicId.from_name("a topic"), initial_secret_hash(b"a secret"))
OTHER = evolve(KEYS, secret_hash=initial_secret_hash(b"another"))


class VectorTests(SynchronousTestCase):
    """
    Tests with vectors that were computed by another program.
    """

    def keys(self, case: dict[str, str]) -> TopicKeys:
        """The keys of a case."""
        topic = TopicId.from_name(bytes.fromhex(case["topic_name"]))
        return TopicKeys(topic, initial_secret_hash(bytes.fromhex(case["initial_secret"])))

    def check(self, item: HiddenItem, expected: dict[str, str]) -> None:
        """Compare an item."""
        self.assertEqual(item.signing_seed.hex(), expected["signing_seed"])
        self.assertEqual(item.public_key.hex(), expected["public_key"])
        self.assertEqual(item.salt.hex(), expected.get("salt", ""))
        self.assertEqual(item.target.hex(), expected["target"])
        self.assertEqual(item.key, KeyPair.from_seed(bytes.fromhex(expected["encryption_seed"])))
        self.assertEqual(item.key.public.hex(), expected["encryption_public_key"])

    def test_items(self) -> None:
        """Sealed slots, direct items and info hashes match."""
        self.assertEqual(len(CASES), 11)
        for case in CASES:
            keys, minute = self.keys(case), int(case["unix_minute"])
            self.assertEqual((period_of(minute), epoch_of(minute)), (int(case["period"]), int(case["epoch"])))
            for lane in case["lanes"]:
                self.check(sealed_slot(keys, period_of(minute), lane["lane"]), lane)
            self.check(direct_item(keys, epoch_of(minute)), case["direct"])
            self.assertEqual(announced_info_hash(keys, epoch_of(minute)).hex(), case["announce_info_hash"])

    def test_records(self) -> None:
        """Values are opened."""
        (case,) = [case for case in CASES if "record" in case["direct"]]
        keys, minute = self.keys(case), int(case["unix_minute"])
        for item, expected in (
            (sealed_slot(keys, period_of(minute)), case["lanes"][0]["record"]),
            (direct_item(keys, epoch_of(minute)), case["direct"]["record"]),
        ):
            record = item.open(bytes.fromhex(expected["value"]))
            self.assertEqual(record.publisher.hex(), expected["publisher"])
            self.assertEqual(record.minute, expected["unix_minute"])


class DerivationTests(SynchronousTestCase):
    """
    Tests for what the derivations depend on.
    """

    def test_all_differ(self) -> None:
        """Different topics, secrets, periods and lanes have different targets."""
        topic = evolve(KEYS, topic_id=TopicId.from_name("b topic"))
        items = [
            sealed_slot(keys, period, lane)
            for keys, period, lane in product((KEYS, OTHER, topic), (0, 1, 2), range(LANES))
        ]
        items += [direct_item(keys, epoch) for keys, epoch in product((KEYS, OTHER, topic), (0, 1, 2))]
        self.assertEqual(len({item.target for item in items}), len(items))
        self.assertEqual(len({item.key.public for item in items}), len(items))

    def test_nothing_in_the_repr(self) -> None:
        """An item shows none of its keys: who sees them could write it."""
        item = sealed_slot(KEYS, 7)
        for secret in (item.signing_seed, item.salt, item.key.secret, item.public_key, item.target):
            self.assertNotIn(secret.hex(), repr(item))
            self.assertNotIn(repr(secret), repr(item))

    def test_rotation(self) -> None:
        """An application's rotation is used, for the first minute of a period or an epoch."""
        minutes: list[int] = []

        def rotation(topic_id: bytes, minute: int, secret_hash: bytes) -> bytes:
            minutes.append(minute)
            return bytes(32)

        keys = evolve(KEYS, rotation=rotation)
        self.assertNotEqual(sealed_slot(keys, 7).target, sealed_slot(KEYS, 7).target)
        direct_item(keys, 3)
        announced_info_hash(keys, 3)
        self.assertEqual(minutes, [70, 1080, 1080])
        broken = evolve(KEYS, rotation=lambda *_: b"short")
        for derive in (sealed_slot, direct_item, announced_info_hash):
            self.assertRaises(UsageError, derive, broken, 7)

    def test_has_secret(self) -> None:
        """The hash of the empty secret is no secret."""
        self.assertTrue(KEYS.has_secret)
        self.assertFalse(evolve(KEYS, secret_hash=initial_secret_hash(b"")).has_secret)


class OpenTests(SynchronousTestCase):
    """
    Tests for L{HiddenItem.seal} and L{HiddenItem.open}.
    """

    def sealed(self, item: HiddenItem, topic_id: bytes = KEYS.topic_id, minute: int = 5) -> bytes:
        """A record of any minute."""
        record = Record.sign_at(PeerKey(bytes(32)), topic_id, minute, GossipContent().encode())
        return item.seal(record, Random(0).randbytes(ENTROPY_BYTES))

    def refused(self, item: HiddenItem, value: bytes) -> tuple[str, str]:
        """Why a value is refused."""
        refusal = self.assertRaises(RecordRefused, item.open, value)
        return refusal.stage, refusal.reason

    def test_opened(self) -> None:
        """A record of any minute is opened."""
        item = sealed_slot(KEYS, 7)
        for minute in (0, 70, 2**64 - 1):
            self.assertEqual(item.open(self.sealed(item, minute=minute)).minute, minute)

    def test_refused(self) -> None:
        """Records of other slots and topics, damaged ones and junk are refused."""
        item = sealed_slot(KEYS, 7)
        value = self.sealed(item)
        self.assertEqual(self.refused(sealed_slot(KEYS, 7, 1), value), ("decrypt", "decrypt"))
        self.assertEqual(self.refused(sealed_slot(OTHER, 7), value), ("decrypt", "decrypt"))
        self.assertEqual(self.refused(item, self.sealed(item, bytes(32))), ("verify", "topic"))
        self.assertEqual(self.refused(item, b""), ("parse", "length"))
        for place in (0, 10, 200, len(value) - 1):
            damaged = bytearray(value)
            damaged[place] ^= 1
            self.refused(item, bytes(damaged))

    def test_signature(self) -> None:
        """A record that its publisher has not signed is refused."""
        item = sealed_slot(KEYS, 7)
        record = Record.sign_at(PeerKey(bytes(32)), KEYS.topic_id, 5, GossipContent().encode())
        forged = evolve(record, minute=6)
        value = item.seal(forged, Random(0).randbytes(ENTROPY_BYTES))
        self.assertEqual(self.refused(item, value), ("verify", "signature"))
