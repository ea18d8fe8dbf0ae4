"""
Tests for L{dtt.dht.server.shares}.
"""

from __future__ import annotations

from collections import Counter
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from dtt.dht.server.shares import Shares
from tests.sweeps import sized


class SharesTests(SynchronousTestCase):
    """
    L{Shares}.
    """

    def test_order(self) -> None:
        """
        Within the network that makes room, the oldest entries come first; a refreshed one
        is the newest, and the newest one is spared.
        """
        shares: Shares[int] = Shares()
        leaves = [shares.add(key, b"aab") for key in range(4)]
        shares.add(9, b"aac")
        leaves[0].refresh(0)
        self.assertEqual(shares.oldest_of_largest(8), [1, 2, 3])
        self.assertEqual(shares.oldest_of_largest(2), [1, 2])
        self.assertEqual(shares.oldest_of_line(b"aac", 8), [9])

    def test_levels(self) -> None:
        """
        The family that has most loses, of it the largest network, and so on down.
        """
        shares: Shares[bytes] = Shares()
        networks = (
            b"aaaabb\0\0",
            b"aaaabb\0\1",
            b"aaaabb\1\0",
            b"aaaacc\0\0",
            b"dddd\0\0\0\0",
            b"dddd\1\0\0\0",
            b"aaa",
            b"aaa",
        )
        for number, network in enumerate(networks):
            shares.add(b"%d" % number, network)
        # IPv6, aaaa::/32, its /48 bb, its /56 0, its /64 0.
        self.assertEqual(shares.oldest_of_largest(1), [b"0"])
        self.assertEqual(shares.line_size(b"aaaabb\0\0"), 3)
        self.assertEqual(shares.oldest_of_line(b"aaaabb\1\0", 1), [b"0"])

    def test_model(self) -> None:
        """
        With any entries added and removed, the entry that makes room is in the largest
        network of each level, as counting all of them shows.
        """
        for seed in range(sized(6, 20)):
            rng = Random(seed)
            shares: Shares[int] = Shares()
            kept: dict[int, bytes] = {}
            spread = rng.choice((2, 5, 40, 250))
            for number in range(600):
                if kept and rng.random() < 0.4:
                    key = rng.choice(list(kept))
                    shares.remove(key, kept.pop(key))
                else:
                    size = rng.choice((3, 8))
                    kept[number] = bytes(rng.randrange(spread) if i else 0 for i in range(size))
                    shares.add(number, kept[number])
                self.assertEqual(len(shares), len(kept), f"seed {seed}")
                if not kept:
                    continue
                network = kept[shares.oldest_of_largest(1)[0]]
                around = list(kept.values())
                sizes = Counter(len(each) for each in around)
                self.assertEqual(sizes[len(network)], max(sizes.values()), f"seed {seed}")
                around = [each for each in around if len(each) == len(network)]
                for level in (2, 3) if len(network) == 3 else (4, 6, 7, 8):
                    counts = Counter(each[:level] for each in around)
                    self.assertEqual(counts[network[:level]], max(counts.values()), f"seed {seed}")
                    around = [each for each in around if each[:level] == network[:level]]
