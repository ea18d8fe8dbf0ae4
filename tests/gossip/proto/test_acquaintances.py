"""
Tests for L{dtt.gossip.proto.acquaintances}.
"""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from dtt.gossip.proto.acquaintances import ENOUGH_SAMPLES, HEARD_FOR, MAX_HEARD, Acquaintances


def peer(number: int) -> bytes:
    """Return an id."""
    return number.to_bytes(32)


class AcquaintancesTests(SynchronousTestCase):
    """
    Tests for L{Acquaintances}.
    """

    def setUp(self) -> None:
        self.known = Acquaintances()

    def test_heard(self) -> None:
        """A member counts for five minutes after it was heard of last."""
        self.known.heard(peer(1), 0.0)
        self.known.heard(peer(2), 0.0)
        self.known.heard(peer(1), 10.0)
        self.assertTrue(self.known.has(peer(2), HEARD_FOR - 1))
        self.assertFalse(self.known.has(peer(2), HEARD_FOR))
        self.assertTrue(self.known.has(peer(1), HEARD_FOR))
        self.assertFalse(self.known.has(peer(3), 0.0))

    def test_latest(self) -> None:
        """Those heard of last come first."""
        for number in (1, 2, 3, 1):
            self.known.heard(peer(number), 5.0 + number)
        self.assertEqual(self.known.latest(2, 10.0), [peer(1), peer(3)])
        self.assertEqual(self.known.latest(5, 5.0 + 2 + HEARD_FOR), [])

    def test_knows_most(self) -> None:
        """
        Where each origin has come twice on average, at least four fifths of the part are
        known in nearly all cases; in a large one, this is never claimed.
        """
        claimed, shares = 0, []
        for seed in range(40):
            rng, known, seen = Random(seed), Acquaintances(), set()
            for second in range(0, 300, 9):
                seen.add(origin := peer(rng.randrange(12)))
                known.sampled(origin, float(second))
            if known.knows_most(299.0):
                claimed += 1
                shares.append(len(seen) / 12)
            large = Acquaintances()
            for second in range(0, 300, 9):
                large.sampled(peer(rng.randrange(1000)), float(second))
            self.assertFalse(large.knows_most(299.0), f"seed {seed}")
        self.assertGreater(claimed, 35)
        self.assertGreater(sorted(shares)[2], 0.8)

    def test_too_few(self) -> None:
        """A few samples prove nothing, and old ones do not count."""
        for _ in range(ENOUGH_SAMPLES - 1):
            self.known.sampled(peer(1), 0.0)
        self.assertFalse(self.known.knows_most(0.0))
        self.known.sampled(peer(1), 10.0)
        self.assertTrue(self.known.knows_most(10.0))
        self.assertFalse(self.known.knows_most(HEARD_FOR))

    def test_bounded(self) -> None:
        """The number of members is limited; the latest are kept."""
        for number in range(MAX_HEARD + 5):
            self.known.sampled(peer(number), 0.0)
        self.assertFalse(self.known.has(peer(4), 0.0))
        self.assertTrue(self.known.has(peer(5), 0.0))

    def test_clear(self) -> None:
        """Without neighbours nothing is known."""
        for _ in range(ENOUGH_SAMPLES):
            self.known.sampled(peer(1), 0.0)
        self.known.clear()
        self.assertFalse(self.known.knows_most(0.0))
        self.assertFalse(self.known.has(peer(1), 0.0))
