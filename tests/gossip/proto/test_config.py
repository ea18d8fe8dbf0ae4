"""
Tests for L{dtt.gossip.proto.config}.
"""

from __future__ import annotations

from typing import Any

from attrs import asdict
from twisted.trial.unittest import SynchronousTestCase

from dtt.config import GossipSettings
from dtt.gossip.proto.config import MAX_MESSAGE_SIZE, MIN_MESSAGE_SIZE, GossipConfig
from dtt.gossip.proto.messages import Gossip, IHave, decode, encode
from dtt.wire.postcard import encode_varint
from tests.sweeps import sized


class GossipConfigTests(SynchronousTestCase):
    """
    Tests for L{GossipConfig}.
    """

    def test_sizes(self) -> None:
        """The default sizes are those of section 10 of the specification."""
        config = GossipConfig()
        self.assertEqual((config.max_content, config.max_ihave_entries, config.max_sent), (4055, 116, 4095))

    def test_sizes_fit(self) -> None:
        """
        For every size, the largest content with the largest round, and a full IHave, fit into
        a message; a content of one byte more does not, unless its length needs a byte more.
        """
        for size in range(MIN_MESSAGE_SIZE, MAX_MESSAGE_SIZE + 1, sized(7, 1)):
            config = GossipConfig(max_message_size=size)
            self.assertLessEqual(self.size_of(config.max_content), config.max_sent, size)
            self.assertGreater(self.size_of(config.max_content + 1), config.max_sent, size)
        for size in (512, 4096, 16_424, 16_425, 65_536):
            config = GossipConfig(max_message_size=size)
            gossip = Gossip(b"i" * 32, b"c" * config.max_content, 0xFFFF)
            ihave = IHave(((b"i" * 32, 0xFFFF),) * config.max_ihave_entries)
            self.assertEqual(len(encode(gossip)), self.size_of(config.max_content))
            self.assertLessEqual(len(encode(ihave)), config.max_sent)
            self.assertEqual(decode(encode(gossip)), gossip)
            self.assertEqual(decode(encode(ihave)), ihave)

    def size_of(self, content: int) -> int:
        """The size of a Gossip message with a content of this size and the largest round."""
        return 2 + 32 + len(encode_varint(content)) + content + 1 + 3

    def test_settings(self) -> None:
        """What operators may set has the same names and defaults."""
        settings, config = GossipSettings(), GossipConfig()
        for name in asdict(settings):
            self.assertEqual(getattr(settings, name), getattr(config, name), name)

    def test_refused(self) -> None:
        """Invalid values are refused."""
        bad: list[dict[str, Any]] = [
            {"active_view_capacity": 0},
            {"shuffle_interval": 0},
            {"max_cached": 0},
            {"max_message_size": 511},
            {"max_message_size": 65_537},
        ]
        for settings in bad:
            with self.assertRaises(ValueError, msg=str(settings)):
                GossipConfig(**settings)
