"""
The publisher: a member that is joined stays visible to newcomers.

Rule (docs/protocol/records.md section 6): on each tick, publish a record for the
current minute with up to 5 neighbours and 5 message hashes.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from twisted.internet.interfaces import IReactorTime

from dtt.config import PublisherConfig
from dtt.discovery.record_slot import RecordClient
from dtt.interfaces import IGossip
from dtt.records.record import GossipContent
from dtt.records.topic import unix_minute
from dtt.tracker.loop import PeriodicService


class Publisher(PeriodicService):
    """
    Publishes our record.

    @param content: makes the content of a record from what we know now.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        rng: Random,
        config: PublisherConfig,
        gossip: IGossip,
        records: RecordClient,
        content: Callable[[], GossipContent],
    ) -> None:
        super().__init__(
            reactor,
            rng,
            gossip,
            initial=config.initial_delay,
            base=config.base_interval,
            jitter=config.max_jitter,
        )
        self._records = records
        self._content = content

    async def tick(self) -> None:
        """
        Publish once.
        """
        await self._records.publish(unix_minute(self._reactor.seconds()), self._content(), "publisher")
