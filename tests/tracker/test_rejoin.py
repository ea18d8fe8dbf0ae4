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
from dtt.tracker.rejoin import KEEP_OPEN_EVERY, KEEP_OPEN_FOR, MAX_LOST, PAUSES, PEEK_EVERY, Rejoiner
from dtt.wire.addresses import QUIC, Address, PeerAddress
from tests.tracker.common import Book

ONE, TWO = b"1" * 32, b"2" * 32

HOME, WITHIN = PeerAddress(QUIC, "80.0.1.1", 4433), PeerAddress(QUIC, "192.168.1.2", 4433)


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
        self.book.learn(ONE, (HOME, WITHIN), "record")
        self.probed: list[tuple[bytes, tuple[Address, ...]]] = []
        self.rejoiner = Rejoiner(
            self.clock,
            cast(IGossip, self.gossip),
            self.book,
            lambda peer, addresses: self.probed.append((peer, tuple(addresses))),
        )

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
        self.clock.pump([1.0] * 60)
        self.assertEqual(self.gossip.joined, [(ONE,)] * len(PAUSES))
        self.assertEqual(self.book.refreshed, [ONE] * len(PAUSES))
        self.assertLess(sum(PAUSES), 60)

    def test_kept_open(self) -> None:
        """
        Later, one probe at a time goes to the global addresses that it had, for some hours; its addresses are
        not looked for any more.
        """
        self.lose(ONE)
        self.clock.pump([1.0] * 60)
        self.assertEqual(self.probed, [])
        del self.gossip.joined[:]
        self.clock.pump([KEEP_OPEN_EVERY] * 10)
        self.assertEqual(self.probed, [(ONE, (HOME,))] * 10)
        self.clock.pump([KEEP_OPEN_EVERY] * int(KEEP_OPEN_FOR / KEEP_OPEN_EVERY))
        self.assertEqual((self.gossip.joined, self.book.refreshed), ([], [ONE] * len(PAUSES)))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_back(self) -> None:
        """A member that is a neighbour again is not probed any more."""
        self.lose(ONE)
        self.clock.pump([1.0] * 100)
        self.assertEqual(len(self.probed), 1)
        self.rejoiner.neighbor_up(ONE)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_gone(self) -> None:
        """Members that have left, and those that are neighbours again, are not joined."""
        self.lose(ONE, "closed by the peer")
        self.assertEqual(self.gossip.joined, [])
        self.lose(ONE)
        self.rejoiner.neighbor_up(ONE)
        self.clock.pump([1.0] * 120)
        self.assertEqual(self.gossip.joined, [(ONE,)])

    def test_peeks(self) -> None:
        """
        A member that is alone then looks for a new address of each lost one in turn, at little cost, as
        long as they are kept; one that has a neighbour does not.
        """
        self.lose(ONE)
        self.lose(TWO)
        self.clock.pump([1.0] * int(sum(PAUSES)))
        self.assertEqual(self.book.peeked, [])
        self.clock.pump([PEEK_EVERY] * 6)
        self.assertEqual(sorted(self.book.peeked), [ONE] * 3 + [TWO] * 3)
        self.gossip.current = (b"3" * 32,)
        self.clock.pump([PEEK_EVERY] * 6)
        self.assertEqual(len(self.book.peeked), 6)
        self.gossip.current = ()
        self.rejoiner.neighbor_up(TWO)
        self.clock.pump([PEEK_EVERY] * 2)
        self.assertEqual(self.book.peeked[6:], [ONE] * 2)
        self.clock.pump([60.0] * int(KEEP_OPEN_FOR / 60))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_moved(self) -> None:
        """A member that is lost and has another address is joined at once, for some hours."""
        self.rejoiner.peer_moved(ONE)
        self.lose(ONE)
        self.rejoiner.peer_moved(ONE)
        self.clock.advance(0)
        self.assertEqual(self.gossip.joined, [(ONE,), (ONE,)])
        self.clock.pump([60.0] * int(KEEP_OPEN_FOR / 60 + 2))
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
