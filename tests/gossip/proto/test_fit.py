"""
Tests for L{dtt.gossip.proto.fit}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dtt.gossip.proto.fit import fit
from dtt.gossip.proto.messages import (
    ForwardJoin,
    Gossip,
    Join,
    Neighbor,
    PeerInfo,
    Priority,
    Shuffle,
    ShuffleReply,
    encode,
)

LIMIT = 4095


def peer(number: int, length: int | None = None) -> PeerInfo:
    """Return a node with C{length} bytes of PeerData."""
    return PeerInfo(bytes((number,)) * 32, None if length is None else b"d" * length)


class FitTests(SynchronousTestCase):
    """
    Tests for L{fit}.
    """

    def test_small_is_untouched(self) -> None:
        """A message that fits is returned unchanged."""
        message = ShuffleReply((peer(1, 500), peer(2)))
        self.assertIs(fit(message, LIMIT), message)

    def test_longest_data_first(self) -> None:
        """The longest PeerData is dropped, the others are kept."""
        message = Shuffle(b"o" * 32, (peer(1, 600), peer(2, 3400), peer(3, 30)), 6)
        self.assertEqual(fit(message, LIMIT), Shuffle(b"o" * 32, (peer(1, 600), peer(2), peer(3, 30)), 6))

    def test_nodes_from_the_front(self) -> None:
        """
        If that is not enough, nodes are dropped from the front; the origin's own last
        entry is kept.
        """
        message = ShuffleReply(tuple(peer(number, 10) for number in range(150)))
        fitting = fit(message, LIMIT)
        assert isinstance(fitting, ShuffleReply)
        self.assertEqual(fitting.nodes[-1], peer(149))
        self.assertTrue(LIMIT - 40 < len(encode(fitting)) <= LIMIT)

    def test_own_data(self) -> None:
        """Join, Neighbor and ForwardJoin lose their data."""
        big = b"d" * LIMIT
        self.assertEqual(fit(Join(big), LIMIT), Join())
        self.assertEqual(fit(Neighbor(Priority.LOW, big), LIMIT), Neighbor(Priority.LOW))
        self.assertEqual(
            fit(ForwardJoin(PeerInfo(b"p" * 32, big), 3), LIMIT), ForwardJoin(PeerInfo(b"p" * 32), 3)
        )

    def test_nothing_helps(self) -> None:
        """A content can't be shrunk."""
        self.assertIsNone(fit(Gossip(b"i" * 32, b"c" * LIMIT, 0), LIMIT))
