"""
Tests for L{dtt.gossip.proto.views}.
"""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from dtt.gossip.proto.config import GossipConfig
from dtt.gossip.proto.views import Views

ME = b"m" * 32


def peer(number: int) -> bytes:
    """Return the id of one of many peers."""
    return number.to_bytes(32, "big")


class ViewsTests(SynchronousTestCase):
    """
    Tests for L{Views}.
    """

    def views(self, seed: int = 0, **config: int) -> Views:
        """
        Empty views.
        """
        return Views(ME, Random(seed), lambda each: each != peer(0), GossipConfig(**config))

    def test_disjoint(self) -> None:
        """
        A peer is in at most one view; the member itself is in none.
        """
        views = self.views()
        for each in (peer(1), ME, peer(1)):
            views.add_passive(each)
        self.assertEqual((list(views.active), list(views.passive)), ([], [peer(1)]))
        views.add_active(peer(1))
        views.add_passive(peer(1))
        self.assertEqual((list(views.active), list(views.passive)), ([peer(1)], []))

    def test_passive_is_bounded(self) -> None:
        """
        A full passive view loses a random peer to each new one.
        """
        kept = set()
        for seed in range(20):
            views = self.views(seed, passive_view_capacity=5)
            for number in range(1, 50):
                views.add_passive(peer(number))
                self.assertLessEqual(len(views.passive), 5, f"seed {seed}")
            self.assertIn(peer(49), views.passive, f"seed {seed}")
            kept.add(frozenset(views.passive))
        self.assertGreater(len(kept), 10)

    def test_known_data_is_bounded(self) -> None:
        """
        The PeerData of a bounded number of peers is kept; peers in no view are forgotten
        first, the oldest first.
        """
        views = self.views(max_known_data=4)
        views.add_active(peer(1))
        views.add_passive(peer(2))
        for number in range(1, 20):
            self.assertTrue(views.learn(peer(number), b"data %d" % number))
            self.assertLessEqual(views.count_data(), 4)
        known = [number for number in range(1, 20) if views.data_of(peer(number)) is not None]
        self.assertEqual(known, [1, 2, 18, 19])

    def test_news(self) -> None:
        """
        PeerData is reported when it is new; PeerData that is too long is not kept.
        """
        views = self.views()
        self.assertFalse(views.learn(peer(1), None))
        self.assertFalse(views.learn(peer(1), b""))
        self.assertTrue(views.learn(peer(1), b"one"))
        self.assertFalse(views.learn(peer(1), b"one"))
        self.assertTrue(views.learn(peer(1), b"x" * 1025))
        self.assertEqual(views.data_of(peer(1)), b"one")

    def test_forgotten_with_its_peer(self) -> None:
        """
        A peer's PeerData is forgotten when it leaves the passive view, and kept while it
        is a neighbour.
        """
        views = self.views()
        for number in (1, 2):
            views.add_passive(peer(number))
            views.learn(peer(number), b"data")
            views.alive.add(peer(number))
        views.add_active(peer(2))
        for number in (1, 2):
            views.drop_passive(peer(number))
        self.assertEqual((views.data_of(peer(1)), views.data_of(peer(2))), (None, b"data"))
        self.assertEqual(views.alive, {peer(2)})

    def test_usable(self) -> None:
        """
        The member itself is not usable; neither is an invalid key, unless it is already
        known.
        """
        views = self.views()
        self.assertEqual([views.is_usable(each) for each in (ME, peer(0), peer(1))], [False, False, True])
        views.add_active(peer(0))
        self.assertTrue(views.is_usable(peer(0)))

    def test_samples(self) -> None:
        """
        A sample has no excluded peer, no peer twice, and at most all peers.
        """
        for seed in range(20):
            views = self.views(seed)
            for number in range(1, 6):
                views.add_active(peer(number))
            sample = views.sample_active(3, peer(1))
            self.assertEqual(len(set(sample)), 3, f"seed {seed}")
            self.assertNotIn(peer(1), sample, f"seed {seed}")
            self.assertEqual(set(views.sample_active(9, peer(1))), {peer(n) for n in range(2, 6)})
            self.assertEqual(views.random_active(*map(peer, range(1, 5))), peer(5))
            self.assertIsNone(views.random_active(*map(peer, range(1, 6))))
