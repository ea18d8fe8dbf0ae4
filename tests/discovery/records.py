"""
Helpers for the tests of record slots.
"""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dtt.records.record import ENTROPY_BYTES, GossipContent, Record, encrypt
from dtt.records.topic import Slot, default_rotation, encryption_key
from dtt.testing.fake_dht import FakeDHT
from tests.tracker.common import (
    KEYS,
    MINUTE,
    SECRET_HASH,
    TOPIC,
    Member,
    start_clock,
)


class RecordClientTestCase(SynchronousTestCase):
    """
    Members that share an in-memory DHT without latency.
    """

    def setUp(self) -> None:
        """Start with an empty slot."""
        self.clock = start_clock()
        self.dht = FakeDHT(self.clock)
        self.slot = Slot(TOPIC, MINUTE)

    def member(self, number: int = 0, dht: Any = None, **kw: Any) -> Member:
        """Add a member."""
        member = Member(self.clock, dht or self.dht, number, **kw)
        self.addCleanup(member.end)
        return member

    def encrypted(
        self,
        number: int,
        content: bytes | None = None,
        slot: Slot | None = None,
        in_slot: Slot | None = None,
        secret_hash: bytes = SECRET_HASH,
    ) -> bytes:
        """An encrypted record in its stored form, created for C{slot} and encrypted for C{in_slot}."""
        record = Record.sign(
            KEYS[number], slot or self.slot, GossipContent().encode() if content is None else content
        )
        return self.sealed(record, in_slot or self.slot, secret_hash)

    def sealed(self, record: Record, slot: Slot, secret_hash: bytes = SECRET_HASH) -> bytes:
        """Encrypt C{record} for the slot's key."""
        key = encryption_key(slot, secret_hash, default_rotation)
        return encrypt(record, key.public, Random(record.signature).randbytes(ENTROPY_BYTES))
