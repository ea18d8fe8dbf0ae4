"""
The capacity of each topic when all topics together need more connections than there are.

Rules: the topics of a process share its connections.  While at most three quarters of
them are in use, each topic may fill its active view.  Beyond that all topics get the
same capacity: the largest one with which the connections suffice.  A topic gives up its
newest neighbours in the usual way (C{ShuffleReply} and C{Disconnect}), so they stay in the passive view.  The
other connections are for short-lived uses.  Two neighbours are the minimum as long as the connections suffice
for that: with one, each lost connection would cut us off.  Topics whose members are the same cost nothing
extra, since they share connections.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from dtt.deferreds import cancel_if_active
from dtt.gossip.proto.config import GossipConfig
from dtt.interfaces import IPeerTransport, PeerId

#: The largest capacity: that of the active view (docs/protocol/gossip.md section 1).
FULL = GossipConfig().active_view_capacity

#: Neighbours that each topic may have in any case, if the connections suffice.
MINIMUM = 2

#: Seconds between two computations (guess: connections that are given up are closed by then).
INTERVAL = 1.0


class BudgetMember(Protocol):
    """
    A topic, as the budget sees it.
    """

    def neighbors(self) -> Sequence[PeerId]:
        """Return the neighbours, the oldest first."""

    def known_peers(self) -> int:
        """Return how many other peers are known."""

    def limit_neighbors(self, capacity: int) -> None:
        """Have at most C{capacity} neighbours from now on."""


class LinkBudget:
    """
    The connections that the topics of a process share.

    @ivar capacity: how many neighbours each topic may have now.
    """

    def __init__(self, clock: IReactorTime, transport: IPeerTransport) -> None:
        """
        @param clock: schedules the computations.
        @param transport: reports the number of connections.
        """
        self.capacity = FULL
        self._clock = clock
        self._transport = transport
        self._members: dict[BudgetMember, None] = {}
        self._next: IDelayedCall | None = None

    def add(self, member: BudgetMember) -> None:
        """
        Add a topic.
        """
        self._members[member] = None
        if self.capacity < FULL:
            member.limit_neighbors(self.capacity)
        self.changed()

    def remove(self, member: BudgetMember) -> None:
        """
        Remove a topic; does nothing if it is not there.
        """
        self._members.pop(member, None)
        if self._members:
            self.changed()
        else:
            cancel_if_active(self._next)
            self._next = None

    def changed(self) -> None:
        """
        Note that a topic has got or lost a neighbour, or that a connection was refused.
        """
        if self._next is None and self._members and (self.capacity < FULL or self._crowded()):
            self._next = self._clock.callLater(INTERVAL, self._compute)

    def _crowded(self) -> bool:
        used, maximum = self._transport.connections_used()
        return used > maximum * 3 // 4

    def _compute(self) -> None:
        self._next = None
        capacity = self._best()
        if capacity < self.capacity or (capacity > self.capacity and not self._crowded()):
            self.capacity = capacity
            for member in tuple(self._members):
                member.limit_neighbors(capacity)
        if self.capacity < FULL:
            for member in tuple(self._members):
                if len(member.neighbors()) < min(MINIMUM, self.capacity):
                    # Look for more among the peers that it knows.
                    member.limit_neighbors(self.capacity)
            self.changed()

    def _best(self) -> int:
        """
        Return the largest capacity for which the connections suffice.
        """
        _, maximum = self._transport.connections_used()
        topics = [(tuple(member.neighbors()), member.known_peers()) for member in self._members]
        for capacity in range(FULL, 1, -1):
            peers: set[PeerId] = set()
            missing = 0
            for neighbors, known in topics:
                peers.update(neighbors[:capacity])
                # A topic without neighbours must get its first ones.
                wanted = capacity if neighbors else MINIMUM
                missing += max(0, min(wanted - len(neighbors), known if neighbors else wanted))
            if len(peers) + missing <= (maximum if capacity <= MINIMUM else maximum * 3 // 4):
                return capacity
        return 1
