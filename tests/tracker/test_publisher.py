"""
Tests for L{dtt.tracker.publisher}.
"""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dtt.config import PublisherConfig
from dtt.discovery.interfaces import ContentSource
from dtt.records.record import GossipContent, RecordContent
from dtt.testing.fake_gossip import FakeGossip
from dtt.testing.net.clock import advance
from dtt.tracker.publisher import Publisher
from tests.tracker.common import IDS, MINUTE, start_clock


class PublisherTests(SynchronousTestCase):
    """
    Tests for L{Publisher}.
    """

    def setUp(self) -> None:
        """A publisher that is not joined, with ticks without jitter."""
        self.clock = start_clock()
        self.gossip = FakeGossip()
        self.published: list[tuple[float, RecordContent, str]] = []
        channels: Any = self
        self.publisher = Publisher(
            self.clock,
            Random(1),
            PublisherConfig(max_jitter=0.0),
            self.gossip,
            channels,
            lambda: GossipContent(self.gossip.neighbors(), self.gossip.message_hashes()),
        )
        self.publisher.startService()

    async def publish(self, content: ContentSource, source: str) -> int:
        """Record the call, in place of L{Channels<dtt.discovery.channels.Channels>}."""
        self.published.append((self.clock.seconds() - MINUTE * 60, content(), source))
        return 2

    def test_delays(self) -> None:
        """
        Once joined, it waits the initial delay and publishes, then again after each base
        interval.
        """
        advance(self.clock, 100)
        self.assertEqual(self.published, [])
        self.gossip.up(IDS[1])
        advance(self.clock, 25)
        self.assertEqual(
            [time for time, _, _ in self.published],
            [120.0, 130.0],
        )

    def test_content(self) -> None:
        """Each record contains what is known when it is created."""
        self.gossip.up(IDS[1])
        advance(self.clock, 10)
        self.gossip.up(IDS[2])
        self.gossip.receive(b"hello", IDS[2])
        advance(self.clock, 10)
        contents = [content for _, content, _ in self.published]
        self.assertEqual(contents[0], GossipContent((IDS[1],)))
        self.assertEqual(contents[1], GossipContent((IDS[1], IDS[2]), self.gossip.message_hashes()))
        self.assertEqual({source for *_, source in self.published}, {"publisher"})

    def test_stop(self) -> None:
        """Nothing is left after stopping."""
        self.gossip.up(IDS[1])
        advance(self.clock, 15)
        self.successResultOf(self.publisher.stopService())
        self.assertEqual(self.clock.getDelayedCalls(), [])
