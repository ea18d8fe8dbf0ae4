"""
The number of publishers in a slot that are known to be alive.

Rules (docs/protocol/records.md section 6, "Who counts"): a slot that has enough records needs no further one,
but records that an insider has invented must not stop a swarm from publishing.  A publisher that could not be
reached does not count.  A publisher that we have not heard of through the swarm does not count either, if we
know most of our part.  In a large part, where nobody knows most of it, one of many members counts only
publishers that it knows.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from random import Random
from typing import Final

from twisted.internet.interfaces import IReactorTime

from dtt.discovery.candidates import FoundRecord
from dtt.interfaces import IGossip, PeerId

#: Seconds for which a publisher that could not be reached does not count (guess: its records
#: are gone by then).
UNREACHABLE_FOR: Final = 300.0

#: The maximum number of such publishers that are remembered (guess).
MAX_UNREACHABLE: Final = 256

#: In a large part, one in this number of times only known publishers count.  A publisher tick comes every
#: 35 s, so 1000 members try some 70 records more a minute, for which there are 32 nodes.
SELDOM: Final = 25


class ProvenPublishers:
    """
    Counts the publishers in a slot.
    """

    def __init__(self, clock: IReactorTime, rng: Random, gossip: IGossip) -> None:
        """
        @param clock: the time.
        @param rng: decides who counts only known publishers.
        @param gossip: the gossip of the topic.
        """
        self._clock = clock
        self._rng = rng
        self._gossip = gossip
        self._unreachable: OrderedDict[PeerId, float] = OrderedDict()

    def failed(self, peer: PeerId) -> None:
        """
        Record that a member could not be reached.
        """
        self._unreachable[peer] = self._clock.seconds()
        self._unreachable.move_to_end(peer)
        if len(self._unreachable) > MAX_UNREACHABLE:
            self._unreachable.popitem(last=False)

    def unreachable(self, peer: PeerId) -> bool:
        """
        Return whether C{peer} could not be reached recently, and is not known to be in our part.
        """
        at = self._unreachable.get(peer)
        lately = at is not None and self._clock.seconds() - at < UNREACHABLE_FOR
        return lately and not self._gossip.is_of_our_part(peer)

    def count(self, records: Sequence[FoundRecord]) -> int:
        """
        Return how many of the publishers of C{records} count.

        @param records: those of other members in a slot, one for each.
        """
        left = [record for record in records if not self.unreachable(record.publisher)]
        if self._gossip.knows_most() or not self._rng.randrange(SELDOM):
            left = [record for record in left if self._gossip.is_of_our_part(record.publisher)]
        return len(left)
