"""
Joins former neighbours again whose connections have died.

When a machine's network changes, all its connections die at once.  The former neighbours still exist, and
joining them is faster than a search.  If both sides are behind NATs, both must dial at the same time, but the
other side does not know the new address.  It learns the address from a common neighbour, if there is one;
otherwise it finds the address in the stores, where the member that has moved publishes it at once.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress
from typing import Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from dtt.deferreds import cancel_if_active
from dtt.errors import TopicLeft
from dtt.interfaces import GossipMessage, IAddressBook, IGossip, PeerId

#: Seconds before each attempt to join a former neighbour again, after the previous one (guess: a
#: member that has moved notices it within 8 s, and publishes its new address within 2 s; a
#: dial lasts some seconds).
PAUSES: Final = (0.0, 2.5, 4.0, 6.0, 8.0, 12.0, 20.0)

#: Former neighbours that are remembered, the latest (the default number of neighbours).
MAX_LOST: Final = 5


class Rejoiner:
    """
    Joins the former neighbours of a topic whose connections have died: each at its new
    address as soon as it is known, several times within a minute.
    """

    def __init__(self, clock: IReactorTime, gossip: IGossip, book: IAddressBook) -> None:
        """
        @param clock: schedules the attempts.
        @param gossip: the gossip of the topic.
        @param book: looks for new addresses.
        """
        self._clock = clock
        self._gossip = gossip
        self._book = book
        # The next attempt for each.
        self._lost: OrderedDict[PeerId, IDelayedCall] = OrderedDict()

    def stop(self) -> None:
        """
        Stop joining former neighbours.
        """
        for peer_id in tuple(self._lost):
            self._forget(peer_id)

    def neighbor_up(self, peer_id: PeerId) -> None:
        """
        Forget C{peer_id}.
        """
        self._forget(peer_id)

    def neighbor_down(self, peer_id: PeerId) -> None:
        """
        Do nothing: L{link_broken} reports the reason.
        """

    def message_received(self, message: GossipMessage) -> None:
        """
        Do nothing.
        """

    def link_broken(self, peer_id: PeerId, reason: str, unconfirmed: int) -> None:
        """
        Start looking for a neighbour whose connection broke: it has not left.
        """
        if reason == "silent":
            self._forget(peer_id)
            self._schedule(peer_id, 0)
            if len(self._lost) > MAX_LOST:
                self._forget(next(iter(self._lost)))

    def broadcast_unheard(self) -> None:
        """
        Do nothing.
        """

    def peer_moved(self, peer_id: PeerId) -> None:
        """
        Join C{peer_id} if it is lost: a member has reported another address of it.
        """
        if peer_id in self._lost:
            # Not now: the address is not stored yet.
            self._clock.callLater(0, self._join, peer_id)

    def _schedule(self, peer_id: PeerId, tries: int) -> None:
        self._lost[peer_id] = self._clock.callLater(PAUSES[tries], self._try, peer_id, tries + 1)

    def _try(self, peer_id: PeerId, tries: int) -> None:
        if tries < len(PAUSES):
            self._schedule(peer_id, tries)
        else:
            del self._lost[peer_id]
        # In parallel with the search: its address may be unchanged, if we have moved.
        self._book.refresh(peer_id)
        self._join(peer_id)

    def _join(self, peer_id: PeerId) -> None:
        if peer_id not in self._gossip.neighbors():
            with suppress(TopicLeft):
                self._gossip.join((peer_id,))

    def _forget(self, peer_id: PeerId) -> None:
        cancel_if_active(self._lost.pop(peer_id, None))
