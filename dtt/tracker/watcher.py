"""
The watcher: lets newcomers connect through our NAT.

Rules (docs/protocol/quic.md section 9): a member that others can't reach from outside reads the slot often
and cheaply while it has neighbours, and probes members that have none.  They probe us at the same time, so
both NATs are open.
"""

from __future__ import annotations

from random import Random
from typing import Final

from twisted.internet.task import deferLater

from dtt.deferreds import abandon
from dtt.discovery.candidates import FoundRecord
from dtt.discovery.channels import Channels
from dtt.discovery.shared import SharedServices
from dtt.interfaces import IGossip
from dtt.tracker.loop import LoopService
from dtt.wire.addresses import Address

#: Seconds between two reads for each publisher in the slot, ourselves included, and the maximum: all members
#: together read as often as a single one would (docs/protocol/quic.md section 9).
SECONDS_PER_PUBLISHER: Final = 3.0
MAX_INTERVAL: Final = 30.0

#: The share by which intervals vary, so that members do not read at the same moment.
JITTER: Final = 0.5

#: Newcomers that are probed after one read, and those that are remembered (guess: a slot
#: has some thirty places).
MAX_NEW: Final = 8
MAX_SEEN: Final = 256


class Watcher(LoopService):
    """
    Reads the slot while we have neighbours and nobody can reach us, and probes members
    that have no neighbours.
    """

    def __init__(self, shared: SharedServices, gossip: IGossip, channels: Channels, topic_id: bytes) -> None:
        """
        @param shared: the services of the tracker.
        @param gossip: the gossip of the topic.
        @param channels: find members.
        @param topic_id: 32 bytes.
        """
        self._shared = shared
        self._reactor = shared.reactor
        self._rng: Random = shared.rng
        self._gossip = gossip
        self._channels = channels
        self._topic_id = topic_id
        # The publisher and the minute of each record that has been probed.
        self._seen: dict[tuple[bytes, int], None] = {}

    async def run(self) -> None:
        """
        Watch until cancelled.
        """
        publishers = 1
        while True:
            await self._gossip.when_joined()
            interval = min(SECONDS_PER_PUBLISHER * publishers, MAX_INTERVAL)
            await deferLater(self._reactor, interval * self._rng.uniform(1 - JITTER, 1 + JITTER))
            if not self._gossip.neighbors():
                continue
            if self._shared.reached():
                publishers = int(MAX_INTERVAL / SECONDS_PER_PUBLISHER)
                continue
            found = await self._channels.watch("watcher")
            publishers = 1 + len({record.publisher for record in found})
            self._probe(found)

    def _probe(self, found: list[FoundRecord]) -> None:
        """
        Probe the publishers that have no neighbour.
        """
        neighbors = self._gossip.neighbors()
        alone = [
            record
            for record in found
            if not record.active_peers
            and record.publisher not in neighbors
            and (record.publisher, record.minute) not in self._seen
        ]
        for record in alone[:MAX_NEW]:
            self._seen[record.publisher, record.minute] = None
            if len(self._seen) > MAX_SEEN:
                del self._seen[next(iter(self._seen))]
            resolving = self._shared.book.resolve(record.publisher)
            if resolving.called:
                resolving.addCallback(self._resolved, record.publisher)
            else:  # its record has no usable address: it is not worth a lookup
                abandon(resolving)

    def _resolved(self, addresses: tuple[Address, ...], publisher: bytes) -> None:
        self._shared.probe(publisher, addresses, self._topic_id)
