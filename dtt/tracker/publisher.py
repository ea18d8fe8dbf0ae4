"""
The publisher: keeps a joined member visible to newcomers.

Rule (docs/protocol/records.md section 6): each tick publishes a record for the
current minute with up to 5 neighbours and 5 message hashes.
"""

from __future__ import annotations

from random import Random

from twisted.internet.interfaces import IReactorTime

from dtt.config import PublisherConfig
from dtt.discovery.channels import Channels
from dtt.discovery.interfaces import ContentSource
from dtt.interfaces import IGossip
from dtt.tracker.loop import PeriodicService


class Publisher(PeriodicService):
    """
    Publishes our record periodically.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        rng: Random,
        config: PublisherConfig,
        gossip: IGossip,
        channels: Channels,
        content: ContentSource,
    ) -> None:
        """
        @param rng: draws the jitter.
        @param config: the intervals.
        @param gossip: the gossip of the topic.
        @param channels: publish the record.
        @param content: returns the current content of our record.
        """
        super().__init__(
            reactor,
            rng,
            gossip,
            initial=config.initial_delay,
            base=config.base_interval,
            jitter=config.max_jitter,
        )
        self._channels = channels
        self._content = content

    async def tick(self) -> None:
        """
        Publish our record.
        """
        await self._channels.publish(self._content, "publisher")
