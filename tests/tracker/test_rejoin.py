"""
Tests for L{dtt.tracker.rejoin}.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dtt.errors import TopicLeft
from dtt.interfaces import IGossip
from dtt.tracker.rejoin import MAX_LOST, PAUSES, Rejoiner
from tests.tracker.common import Book

ONE, TWO = b"1" * 32, b"2" * 32


class Gossip:
    """
    Records whom it joins.

    @ivar joined: the peers.
    @ivar left: whether the topic was left.
    """

    def __init__(self) -> None:
        self.joined: list[tuple[bytes, ...]] = []
        self.current: tuple[bytes, ...] = ()
        self.left = False

    def neighbors(self) -> tuple[bytes, ...]:
        """Return the neighbours."""
        return self.current

    def join(self, peers: Sequence[bytes]) -> None:
        """Record peers."""
        if self.left:
            raise TopicLeft("left")
        self.joined.append(tuple(peers))


class RejoinerTests(SynchronousTestCase):
    """
    Tests for L{Rejoiner}.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.gossip = Gossip()
        self.book = Book()
        self.rejoiner = Rejoiner(self.clock, cast(IGossip, self.gossip), self.book)

    def lose(self, peer: bytes, reason: str = "silent") -> None:
        """Lose a neighbour."""
        self.rejoiner.link_broken(peer, reason, 0)
        self.rejoiner.neighbor_down(peer)
        self.clock.advance(0)

    def test_lost(self) -> None:
        """
        A neighbour that was silent is joined, and its new addresses are looked for, several
        times within a minute, whether or not there are other neighbours.
        """
        self.gossip.current = (TWO,)
        self.lose(ONE)
        self.assertEqual(self.gossip.joined, [(ONE,)])
        self.clock.pump([1.0] * 120)
        self.assertEqual(self.gossip.joined, [(ONE,)] * len(PAUSES))
        self.assertEqual(self.book.refreshed, [ONE] * len(PAUSES))
        self.assertLess(sum(PAUSES), 60)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_gone(self) -> None:
        """Members that have left, and those that are neighbours again, are not joined."""
        self.lose(ONE, "closed by the peer")
        self.assertEqual(self.gossip.joined, [])
        self.lose(ONE)
        self.rejoiner.neighbor_up(ONE)
        self.clock.pump([1.0] * 120)
        self.assertEqual(self.gossip.joined, [(ONE,)])

    def test_moved(self) -> None:
        """A member that is lost and has another address is joined at once, but not for ever."""
        self.rejoiner.peer_moved(ONE)
        self.lose(ONE)
        self.rejoiner.peer_moved(ONE)
        self.clock.advance(0)
        self.assertEqual(self.gossip.joined, [(ONE,), (ONE,)])
        self.clock.pump([1.0] * 120)
        del self.gossip.joined[:]
        self.rejoiner.peer_moved(ONE)
        self.clock.advance(0)
        self.assertEqual(self.gossip.joined, [])

    def test_bounded(self) -> None:
        """Few are remembered."""
        for number in range(100):
            self.rejoiner.link_broken(bytes((number,)) * 32, "silent", 0)
        self.lose(ONE)
        self.assertEqual(len(self.gossip.joined), MAX_LOST)
        self.assertIn((ONE,), self.gossip.joined)

    def test_left(self) -> None:
        """A topic that was left is left alone."""
        self.gossip.left = True
        self.lose(ONE)
        self.rejoiner.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
