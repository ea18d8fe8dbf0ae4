"""
The mergers: find and join the other bubbles of a partitioned swarm.

Both query the discovery channels, and join a few of the members found
(docs/protocol/records.md section 6).  Bubble merge acts while there are few
neighbours, message overlap merge when a record shows that its publisher receives
other messages than we do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from dtt.config import BubbleMergeConfig, MessageOverlapMergeConfig
from dtt.deferreds import abandon, first_of
from dtt.discovery.candidates import FoundRecord
from dtt.discovery.channels import Channels
from dtt.discovery.hearsay import Hearsay
from dtt.interfaces import IGossip
from dtt.tracker.loop import PeriodicService

#: Seconds from joining to the early look: members that start together may form several bubbles,
#: and see each other's records a second later (docs/protocol/records.md section 6, "Quiet parts").
EARLY_LOOK: Final = (2.0, 3.0)

#: Seconds after which the early look uses the records that have arrived: silent nodes delay its end by
#: several seconds (guess: some round trips).
LOOK_FOR: Final = 1.5


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
        channels: Channels,
    ) -> None:
        """
        @param rng: draws the jitter, and chooses the members to join.
        @param config: the intervals and limits.
        @param gossip: the gossip of the topic.
        @param channels: find the members.
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
        self._channels = channels
        self._hearsay = Hearsay()

    def _join_some(self, records: Sequence[FoundRecord]) -> None:
        """
        Join a random selection of the members that C{records} name.
        """
        now = self._reactor.seconds()
        publishers, hearsay = self._hearsay.candidates(records, now, self._gossip.neighbors())
        named = publishers + hearsay
        self._gossip.join(self._rng.sample(named, min(self._max_join_peers, len(named))))


class BubbleMerge(_Merger):
    """
    Bubble merge: joins members found while there are few neighbours.

    @ivar on_looked: an attribute to set: called after the early look.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        rng: Random,
        config: BubbleMergeConfig,
        gossip: IGossip,
        channels: Channels,
    ) -> None:
        """
        @param rng: draws the jitter, and chooses the members to join.
        @param config: the intervals and limits.
        @param gossip: the gossip of the topic.
        @param channels: find the members.
        """
        super().__init__(reactor, rng, config, gossip, channels)
        self._min_neighbors = config.min_neighbors
        self.on_looked: Callable[[], object] = lambda: None

    async def run(self) -> None:
        """
        Wait until the topic is joined, look early, then tick until cancelled.
        """
        await self._gossip.when_joined()
        after = self._rng.uniform(*EARLY_LOOK)
        if self._initial > after:
            await deferLater(self._reactor, after)
            await self._look()
            self._initial -= after
        await super().run()

    async def _look(self) -> None:
        """
        Join a few members that have started at the same time and are not known to be in our partition.
        """
        arrived: list[FoundRecord] = []
        looking = self._channels.watch("bubble merge", arrived.append)
        pause: Deferred[None] = deferLater(self._reactor, LOOK_FOR)
        try:
            await first_of(looking, pause)
            if not self._join_strangers(arrived):
                self._join_strangers(await looking)
        finally:
            abandon(looking, pause)
        self.on_looked()

    def _join_strangers(self, records: Sequence[FoundRecord]) -> bool:
        """
        Join some of those that are not known to be in our partition.

        @return: whether no others need be found.
        """
        strangers = [each for each in records if not self._gossip.is_of_our_part(each.publisher)]
        if strangers and not self._has_enough():
            self._join_some(strangers)
        return bool(strangers)

    async def tick(self) -> None:
        """
        Search for members, and join a few members, unless there are enough
        neighbours.
        """
        if self._has_enough():  # saves the search
            return
        records = await self._channels.find("bubble merge")
        if not self._has_enough():
            self._join_some(records)

    def _has_enough(self) -> bool:
        return len(self._gossip.neighbors()) >= self._min_neighbors


class MessageOverlapMerge(_Merger):
    """
    Message overlap merge: joins members that receive other messages than we do.
    """

    async def tick(self) -> None:
        """
        Search for members, and join a few whose records show that they are in another partition of the swarm.
        A neighbour never is, whatever its record lists.
        """
        if self._gossip.messages_known_since() is None:  # saves the reads
            return
        records = await self._channels.find("message overlap merge")
        neighbors = self._gossip.neighbors()
        self._join_some(
            [
                record
                for record in records
                if record.publisher not in neighbors
                and self._gossip.are_foreign(record.last_message_hashes, record.minute)
            ]
        )
