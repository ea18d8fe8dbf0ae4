"""
The greeter: joins members that have announced themselves because they are alone.

Rules (docs/protocol/sealed.md section 5): a member that finds nobody in the slots, because
an attacker has filled them, announces itself.  Members with neighbours are not announced by
default, so it would not find them.  Therefore, one of several neighbouring members looks for
announcements in each turn, and joins members that have no neighbour.
"""

from __future__ import annotations

from random import Random
from typing import Final

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from dtt.discovery.announce_channel import AnnounceChannel
from dtt.interfaces import IGossip, PeerId
from dtt.records.topic import truncated_sha512
from dtt.tracker.loop import LoopService

#: The length of a turn, and the maximum random delay of a lookup after its beginning, in seconds
#: (docs/protocol/sealed.md section 5).
INTERVAL: Final = 30.0
JITTER: Final = 5.0

#: The maximum number of members that are joined after one lookup (guess).
MAX_JOINED: Final = 2


def is_greeter(own_id: PeerId, neighbors: tuple[PeerId, ...], turn: int) -> bool:
    """
    Return whether a member looks for announcements in a turn: it does if its hash is lower than those of its
    neighbours.

    @param own_id: its peer id, 32 bytes.
    @param neighbors: those of its neighbours.
    @param turn: the number of L{INTERVAL}s since 1970.
    """

    def rank(peer: PeerId) -> bytes:
        return truncated_sha512(peer + turn.to_bytes(8, "little"))

    return min((own_id, *neighbors), key=rank) == own_id


class Greeter(LoopService):
    """
    Looks for announcements while we have neighbours.
    """

    def __init__(
        self, reactor: IReactorTime, rng: Random, gossip: IGossip, channel: AnnounceChannel, own_id: PeerId
    ) -> None:
        """
        @param rng: draws the jitter.
        @param gossip: joins the members found.
        @param channel: finds them.
        @param own_id: our peer id, 32 bytes.
        """
        self._reactor = reactor
        self._rng = rng
        self._gossip = gossip
        self._channel = channel
        self._own_id = own_id

    async def run(self) -> None:
        """
        Wait until the topic is joined, then tick soon after the beginning of each turn.
        """
        await self._gossip.when_joined()
        while True:
            left = INTERVAL - self._reactor.seconds() % INTERVAL
            await deferLater(self._reactor, left + self._rng.uniform(0, JITTER))
            await self.tick()

    async def tick(self) -> None:
        """
        Look, if it is our turn, and join members that have no neighbour.
        """
        neighbors = self._gossip.neighbors()
        if not neighbors or not is_greeter(self._own_id, neighbors, int(self._reactor.seconds() // INTERVAL)):
            return
        found = await self._channel.look()
        neighbors = self._gossip.neighbors()
        alone = {
            record.publisher: None
            for record in found
            if not record.active_peers and record.publisher not in neighbors
        }
        if alone and neighbors:
            self._gossip.join(list(alone)[:MAX_JOINED])
