"""
The mergers: find and join the other bubbles of a partitioned swarm.

Both read the slots of the previous and the current minute, and join a few of
the members found there (docs/protocol/records.md section 6).  Bubble merge acts
while there are few neighbours, message overlap merge when a record shows that
its publisher receives other messages than we do.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from twisted.internet.interfaces import IReactorTime

from dtt.config import BubbleMergeConfig, MessageOverlapMergeConfig
from dtt.discovery.candidates import FoundRecord, candidates, recent_minutes
from dtt.discovery.record_slot import RecordClient
from dtt.interfaces import IGossip
from dtt.records.topic import unix_minute
from dtt.tracker.loop import PeriodicService


class _Merger(PeriodicService):
    """
    The common base of both mergers.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        rng: Random,
        config: BubbleMergeConfig | MessageOverlapMergeConfig,
        gossip: IGossip,
        records: RecordClient,
    ) -> None:
        """
        @param rng: draws the jitter, and chooses the members to join.
        @param config: the intervals and limits.
        @param gossip: the gossip of the topic.
        @param records: reads the slots.
        """
        super().__init__(
            reactor,
            rng,
            gossip,
            initial=config.initial_interval,
            base=config.base_interval,
            jitter=config.max_jitter,
        )
        self._max_join_peers = config.max_join_peers
        self._records = records

    async def _read(self, source: str) -> list[FoundRecord]:
        return await self._records.fetch(recent_minutes(unix_minute(self._reactor.seconds())), source)

    def _join_some(self, records: Sequence[FoundRecord]) -> None:
        """
        Join a random selection of the members that C{records} name.
        """
        publishers, hearsay = candidates(records, without=self._gossip.neighbors())
        named = publishers + hearsay
        self._gossip.join(self._rng.sample(named, min(self._max_join_peers, len(named))))


class BubbleMerge(_Merger):
    """
    Bubble merge: joins members found in the slots while there are few neighbours.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        rng: Random,
        config: BubbleMergeConfig,
        gossip: IGossip,
        records: RecordClient,
    ) -> None:
        """
        @param rng: draws the jitter, and chooses the members to join.
        @param config: the intervals and limits.
        @param gossip: the gossip of the topic.
        @param records: reads the slots.
        """
        super().__init__(reactor, rng, config, gossip, records)
        self._min_neighbors = config.min_neighbors

    async def tick(self) -> None:
        """
        Read the slots, and join a few members, unless there are enough
        neighbours.
        """
        if self._has_enough():  # saves the reads
            return
        records = await self._read("bubble merge")
        if not self._has_enough():
            self._join_some(records)

    def _has_enough(self) -> bool:
        return len(self._gossip.neighbors()) >= self._min_neighbors


class MessageOverlapMerge(_Merger):
    """
    Message overlap merge: joins members that have received messages, but none of
    the ones that we have received.
    """

    async def tick(self) -> None:
        """
        Read the slots, and join a few members whose messages don't overlap ours.
        """
        if not self._gossip.message_hashes():
            return
        records = await self._read("message overlap merge")
        ours = frozenset(self._gossip.message_hashes())
        self._join_some(
            [
                record
                for record in records
                if record.last_message_hashes and ours.isdisjoint(record.last_message_hashes)
            ]
        )
