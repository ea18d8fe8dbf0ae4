"""
Finds other partitions (parts) of a swarm, even if there are no messages in them.

Rules (docs/protocol/records.md section 6, "Quiet parts"): a record whose publisher we have
not heard of through the swarm may be a sign of another part, or of a large swarm.  This costs nothing,
because members read slots anyway.  Before a member joins such a publisher, it compares the members of the two
parts: first the neighbours that the record names, then those that the publisher names when queried. If one of
them is known, the publisher is in our part.

Only few members act.  Of all unknown publishers in a minute, one is queried; the publisher in our part whose
hash is the lowest queries it, at once.  If no publisher of our part is in the slot, members that know most of
their part act, at a random time in the next minute; in a large part, one of many.
"""

from __future__ import annotations

from collections import OrderedDict
from random import Random
from typing import Final

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from dtt.deferreds import cancel_if_active
from dtt.discovery.candidates import FoundRecord
from dtt.errors import TopicLeft
from dtt.interfaces import IGossip, PeerId
from dtt.records.sealed import period_of
from dtt.records.topic import truncated_sha512, unix_minute

#: The channel whose records remain for a whole period.  Records of the previous period are
#: read once: they may be from members whose clocks are behind.
SEALED: Final = "sealed_slot"

#: Seconds from the first record of a read to the decision (guess: a read takes about a second).
SETTLE: Final = 2.0

#: Seconds within which members act whose part has no record in the slot, if they know their part.
SPREAD: Final = 60.0

#: One of how many members acts in a minute if its part has no record, and it does not know most
#: of it.  A large part has many members: of 500, one acts every two minutes.
SELDOM: Final = 1000

#: Seconds for which a publisher that was queried is not queried again (guess: two parts that can't reach each
#: other would keep trying).
LEFT_ALONE: Final = 120.0

#: The publishers that are remembered (guess: more than are found within L{LEFT_ALONE}).
MAX_PUBLISHERS: Final = 256


class PartMerge(Service):
    """
    Joins a member of another part of the swarm.

    @ivar compared: the number of publishers that were asked.
    @ivar joined: the number of those that were joined.
    """

    def __init__(self, reactor: IReactorTime, rng: Random, gossip: IGossip, own_id: PeerId) -> None:
        """
        @param reactor: schedules the decisions.
        @param rng: spreads the decisions of members that have no record in the slot.
        @param gossip: the gossip of the topic.
        @param own_id: our peer id, 32 bytes.
        """
        self.compared = self.joined = 0
        self._reactor = reactor
        self._rng = rng
        self._gossip = gossip
        self._own_id = own_id
        # The last record of each publisher, the latest last.
        self._records: OrderedDict[PeerId, FoundRecord] = OrderedDict()
        # The queried publishers and the times; the latest last.
        self._looked_at: OrderedDict[PeerId, float] = OrderedDict()
        # The minute of our last record, by channel.
        self._published: dict[str, int] = {}
        self._decided = -1
        self._timer: IDelayedCall | None = None
        self._comparing: Deferred[None] | None = None

    def stopService(self) -> None:
        """
        Stop.
        """
        super().stopService()
        cancel_if_active(self._timer)
        if self._comparing is not None:
            self._comparing.cancel()

    def record_found(self, record: FoundRecord) -> None:
        """
        Note a record that was read.
        """
        if not self.running or record.publisher == self._own_id:
            return
        self._records.pop(record.publisher, None)
        self._records[record.publisher] = record
        if len(self._records) > MAX_PUBLISHERS:
            self._records.popitem(last=False)
        if self._timer is None and self._is_sign(record):
            self._timer = self._reactor.callLater(SETTLE, self._decide)

    def published(self, channel: str) -> None:
        """
        Note that our record is in a slot.

        @param channel: the name of the channel.
        """
        self._published[channel] = unix_minute(self._reactor.seconds())

    def look(self) -> None:
        """
        Decide again now, even if we have already decided in this minute: we have just joined.
        """
        self._decided = -1
        cancel_if_active(self._timer)
        if self.running:
            self._decide()

    def _is_recent(self, channel: str, minute: int) -> bool:
        """
        Return whether a record of C{minute} can still be in the slots that are read.
        """
        now = unix_minute(self._reactor.seconds())
        if channel == SEALED:
            return abs(period_of(minute) - period_of(now)) <= 1
        return minute >= now - 1

    def _is_sign(self, record: FoundRecord) -> bool:
        """
        Return whether a record may come from another part.
        """
        at = self._looked_at.get(record.publisher)
        return (
            self._is_recent(record.channel, record.minute)
            and bool(self._gossip.neighbors())
            and not self._is_ours(record)
            and (at is None or self._reactor.seconds() - at >= LEFT_ALONE)
        )

    def _is_ours(self, record: FoundRecord) -> bool:
        """
        Return whether a record shows that its publisher is in our part.
        """
        return any(map(self._is_known, (record.publisher, *record.active_peers)))

    def _is_known(self, peer: PeerId) -> bool:
        return peer == self._own_id or self._gossip.is_of_our_part(peer)

    def _decide(self) -> None:
        """
        Choose one publisher, and query it if it is our turn.
        """
        self._timer = None
        minute = unix_minute(self._reactor.seconds())
        if minute == self._decided:
            return
        recent = [
            record for record in self._records.values() if self._is_recent(record.channel, record.minute)
        ]
        signs = [record for record in recent if self._is_sign(record)]
        if not signs or self._comparing is not None:
            return
        self._decided = minute
        chosen = min(signs, key=lambda record: _rank(record.publisher, b"", minute))
        ours = [record.publisher for record in recent if self._is_ours(record)]
        if any(self._is_recent(*each) for each in self._published.items()):
            ours.append(self._own_id)
        if self._own_id in ours:
            if not self._gossip.knows_most():
                # In a large swarm, those that we don't know may be in our part.
                ours += [record.publisher for record in recent if record is not chosen]
            if self._own_id == min(ours, key=lambda peer: _rank(peer, chosen.publisher, minute)):
                self._look_at(chosen)
        elif not ours:
            if self._gossip.knows_most():
                delay = self._rng.uniform(0, SPREAD)
                self._timer = self._reactor.callLater(delay, self._look_if_needed, chosen)
            elif not self._rng.randrange(SELDOM):
                self._look_at(chosen)

    def _look_if_needed(self, record: FoundRecord) -> None:
        self._timer = None
        if self._comparing is None and self._is_sign(record):
            self._look_at(record)

    def _look_at(self, record: FoundRecord) -> None:
        self._looked_at.pop(record.publisher, None)
        self._looked_at[record.publisher] = self._reactor.seconds()
        if len(self._looked_at) > MAX_PUBLISHERS:
            self._looked_at.popitem(last=False)
        self.compared += 1
        comparing = Deferred.fromCoroutine(self._compare(record.publisher))
        if not comparing.called:
            self._comparing = comparing
        comparing.addErrback(lambda failure: failure.trap(TopicLeft, CancelledError))

    async def _compare(self, publisher: PeerId) -> None:
        try:
            named = await self._gossip.compare(publisher)
            if named is not None and not any(map(self._is_known, (publisher, *named))):
                self.joined += 1
                self._gossip.join((publisher,))
        finally:
            self._comparing = None


def _rank(peer: PeerId, about: PeerId, minute: int) -> bytes:
    """
    Return the rank of C{peer} in a minute: the smallest is first.
    """
    return truncated_sha512(about + minute.to_bytes(8, "little") + peer)
