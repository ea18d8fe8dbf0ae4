"""
The routing tables of the nodes of a L{dtt.testing.vast.VastDHT}. Pure.

Rules: bucket C{i} of a node's routing table has nodes that share exactly C{i} bits with
it. A hash keyed with the owner draws them from the numbers that fall into the bucket; if
the bucket has room for all of them, it has all. A given share of the entries is missing,
another share names nodes that are gone.
"""

from __future__ import annotations

from hashlib import shake_128
from struct import unpack
from typing import Final

#: The capacity of a k-bucket (BEP5).
BUCKET: Final = 8

#: The capacities of the first buckets in libtorrent (C{dht_extended_routing_table},
#: routing_table::bucket_limit).
EXTENDED: Final = (128, 64, 32, 16)

# The bits of a draw: the number within the bucket, whether the entry is missing, whether its node is
# gone.
_NUMBER_BITS = 24
_SHARE_BITS = 20
_SHARE_MASK = (1 << _SHARE_BITS) - 1

# A bucket is large from this many numbers per entry on: two draws are hardly ever equal. For smaller
# buckets, _DRAWS draws per entry are enough.
_LARGE = 64
_DRAWS = 4


class Tables:
    """
    The routing tables of all nodes. An entry is C{2 * number}, or C{2 * number + 1} if
    its node is gone: a former node with the same number.
    """

    def __init__(self, bits: int, key: bytes, missing: float, dead: float) -> None:
        """
        @param bits: there are 2^bits nodes.
        @param key: the key of the hash that draws the entries.
        @param missing: the share of entries missing from a table, 0..1.
        @param dead: the share of the other entries whose node is gone, 0..1.
        """
        self._bits = bits
        self._seed = shake_128(key)
        self._missing = int(missing * (1 << _SHARE_BITS))
        self._dead = int(dead * (1 << _SHARE_BITS))

    def nearest(
        self, owner: int, wanted: int, count: int, capacity: int = BUCKET, extended: bool = False
    ) -> list[int]:
        """
        The entries of a table nearest to a number, the nearest first.

        @param owner: the number of the table's node.
        @param wanted: the number that corresponds to the target.
        @param count: the maximum number of entries.
        @param capacity: the capacity of a bucket.
        @param extended: the first buckets have the capacities L{EXTENDED}.
        """
        found: list[int] = []
        difference = owner ^ wanted
        near = range(self._bits - 1, -1, -1)
        # In this order, each bucket is nearer than all later ones.
        order = [bit for bit in near if difference >> bit & 1]
        order += [bit for bit in reversed(near) if not difference >> bit & 1]
        target = wanted << 1
        for bit in order:
            entries = self.entries(owner, bit, capacity, extended)
            found += [each ^ target for each in sorted([entry ^ target for entry in entries])]
            if len(found) >= count:
                break
        return found[:count]

    def entries(self, owner: int, bit: int, capacity: int = BUCKET, extended: bool = False) -> list[int]:
        """
        The entries of one bucket, in no particular order.

        @param bit: the highest bit in which the bucket's nodes differ from the owner; 0
            is the lowest bit of a number.
        """
        if extended and self._bits - bit <= len(EXTENDED):
            capacity = EXTENDED[self._bits - bit - 1]
        base = (owner >> bit ^ 1) << bit
        size = 1 << bit
        draws = capacity + 1 if size > _LARGE * capacity else _DRAWS * capacity
        if size <= capacity:
            draws = size
        stream = self._seed.copy()
        stream.update(b"%d %d" % (owner, bit))
        words = unpack(f"<{draws}Q", stream.digest(8 * draws))
        if size <= capacity:
            chosen = dict(zip(range(size), words, strict=True))
        else:
            mask = size - 1
            chosen = {word & mask: word for word in words}
        if self._missing or self._dead:
            return self._thinned(base, list(chosen.items())[:capacity])
        return [(base | number) << 1 for number in list(chosen)[:capacity]]

    def _thinned(self, base: int, chosen: list[tuple[int, int]]) -> list[int]:
        return [
            (base | number) << 1 | ((word >> _NUMBER_BITS + _SHARE_BITS) & _SHARE_MASK < self._dead)
            for number, word in chosen
            if (word >> _NUMBER_BITS) & _SHARE_MASK >= self._missing
        ]
