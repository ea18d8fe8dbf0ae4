"""
Tests for L{dtt.testing.vast.tables}.
"""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from dtt.testing.vast.tables import BUCKET, EXTENDED, Tables

BITS = 22


def tables(missing: float = 0.0, dead: float = 0.0) -> Tables:
    """The tables of one DHT."""
    return Tables(BITS, b"k" * 32, missing, dead)


class TablesTests(SynchronousTestCase):
    """
    Routing tables.
    """

    def test_buckets(self) -> None:
        """
        The highest bit in which an entry differs from the owner is that of its bucket;
        buckets are full, or contain all nodes.
        """
        for owner in (0, 1234567, 2**BITS - 1):
            for bit in range(BITS):
                entries = [entry >> 1 for entry in tables().entries(owner, bit)]
                self.assertTrue(all((entry ^ owner).bit_length() == bit + 1 for entry in entries))
                self.assertEqual(len(set(entries)), len(entries))
                self.assertEqual(len(entries), min(BUCKET, 2**bit))

    def test_extended(self) -> None:
        """The first buckets of an extended table have libtorrent's sizes."""
        sizes = [len(tables().entries(77, BITS - 1 - index, extended=True)) for index in range(6)]
        self.assertEqual(sizes, [*EXTENDED, BUCKET, BUCKET])

    def test_nearest(self) -> None:
        """The nearest entries are those of the whole table, the nearest first."""
        rng = Random(1)
        for table in (tables(), tables(0.3, 0.1)):
            for _ in range(50):
                owner, wanted = rng.randrange(2**BITS), rng.randrange(2**BITS)
                if rng.random() < 0.5:
                    wanted = owner ^ rng.randrange(1 << rng.randrange(1, BITS))
                everything = [entry for bit in range(BITS) for entry in table.entries(owner, bit)]
                everything.sort(key=lambda entry: (entry >> 1) ^ wanted)
                self.assertEqual(table.nearest(owner, wanted, 8), everything[:8])
                self.assertEqual(table.nearest(owner, wanted, 20), everything[:20])

    def test_shares(self) -> None:
        """The given shares of entries are missing or gone."""
        rng = Random(2)
        table = tables(0.2, 0.1)
        entries = [
            e for _ in range(1000) for e in table.entries(rng.randrange(2**BITS), rng.randrange(3, BITS))
        ]
        self.assertApproximates(len(entries) / 8000, 0.8, 0.02)
        self.assertApproximates(sum(entry & 1 for entry in entries) / len(entries), 0.1, 0.02)
