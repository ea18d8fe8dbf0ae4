"""
Tests for L{dtt.gossip.proto.config}.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dtt.gossip.proto.config import GossipConfig
from dtt.gossip.proto.messages import Gossip, IHave, encode


class GossipConfigTests(SynchronousTestCase):
    """
    Tests for L{GossipConfig}.
    """

    def test_defaults(self) -> None:
        """The defaults are those of section 10 of the specification."""
        config = GossipConfig()
        self.assertEqual((config.max_content, config.max_ihave_entries, config.max_sent), (4055, 116, 4095))

    def test_sizes_fit(self) -> None:
        """The largest content with the largest round, and a full IHave, fit into a message."""
        for size in (512, 4096, 9000):
            config = GossipConfig(max_message_size=size)
            gossip = Gossip(b"i" * 32, b"c" * config.max_content, 0xFFFF)
            ihave = IHave(((b"i" * 32, 0xFFFF),) * config.max_ihave_entries)
            self.assertEqual(len(encode(gossip)), config.max_sent)
            self.assertLessEqual(len(encode(ihave)), config.max_sent)

    def test_refused(self) -> None:
        """Invalid values are refused."""
        bad: list[dict[str, Any]] = [
            {"max_message_size": 511},
            {"active_view_capacity": 0},
            {"shuffle_interval": 0},
            {"active_random_walk_length": 65536},
        ]
        for settings in bad:
            with self.assertRaises(ValueError, msg=str(settings)):
                GossipConfig(**settings)
