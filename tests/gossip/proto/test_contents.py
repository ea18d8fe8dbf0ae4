"""
Tests for L{dtt.gossip.proto.contents}: its cost when full.  Its contents are tested
with L{dtt.gossip.proto.plumtree}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dtt.gossip.proto.config import GossipConfig
from dtt.gossip.proto.contents import Contents


class ContentsTests(SynchronousTestCase):
    """
    Tests for L{Contents}.
    """

    def test_full(self) -> None:
        """The oldest entries are dropped, one for each new one."""
        contents = Contents(GossipConfig(max_received=3, max_cached=2))
        ids = [bytes((number,)) * 32 for number in range(5)]
        for identity in ids:
            contents.remember(identity, 0.0)
            contents.keep(identity, b"hi", 1, (identity,), 0.0)
        self.assertEqual(
            [identity in contents.received for identity in ids], [False, False, True, True, True]
        )
        self.assertEqual(contents.sizes(), (3, 2, 4))
        kept = [contents.take_for(identity, identity) is not None for identity in ids]
        self.assertEqual(kept, [False] * 3 + [True] * 2)

    def test_requested_once(self) -> None:
        """A content is returned once to each peer that may request it, and to no other."""
        contents = Contents(GossipConfig())
        contents.keep(b"i" * 32, b"hi", 1, (b"a", b"b"), 0.0)
        taken = [contents.take_for(peer, b"i" * 32) is not None for peer in (b"c", b"a", b"a", b"c", b"b")]
        self.assertEqual(taken, [False, True, False, False, True])
        self.assertEqual(contents.sizes(), (0, 0, 0))
