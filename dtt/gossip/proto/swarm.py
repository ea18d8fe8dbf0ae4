"""
The state machine of one topic: membership and broadcast combined.  Pure.

Contract: docs/protocol/gossip.md section 8.  Each message or other input is passed to
the machine responsible for it; changes of neighbours in the membership machine are then
passed to the broadcast machine.  The shell performs the outputs in order and calls
L{Swarm.handle_timer} at L{Swarm.next_timer}.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from dtt.gossip.proto.config import GossipConfig
from dtt.gossip.proto.events import (
    Broadcast,
    Input,
    NeighborDown,
    NeighborUp,
    Output,
    PeerDisconnected,
    PeerRejected,
    Quit,
)
from dtt.gossip.proto.hyparview import HyParView
from dtt.gossip.proto.messages import Gossip, Graft, IHave, Message, Prune
from dtt.gossip.proto.plumtree import PlumTree

if TYPE_CHECKING:
    from random import Random


#: Messages for the broadcast machine.
_FOR_BROADCAST = (Gossip, IHave, Prune, Graft)


class Swarm:
    """
    The state machine of one topic.
    """

    def __init__(
        self,
        me: bytes,
        rng: Random,
        is_valid_peer_id: Callable[[bytes], bool],
        data: bytes | None = None,
        config: GossipConfig | None = None,
    ) -> None:
        """
        @param me: our peer id (32 bytes).
        @param rng: the source of randomness.
        @param is_valid_peer_id: returns whether 32 bytes can be a peer's key; invalid
            ids are neither stored, nor dialled, nor forwarded
            (docs/protocol/addresses.md section 4).
        @param data: our PeerData, or C{None}.
        @param config: the protocol parameters.
        @raise ValueError: C{data} is too long.
        """
        self._membership = HyParView(me, rng, is_valid_peer_id, data, config)
        self._broadcast = PlumTree(config)
        self._over = False

    def receive(self, peer: bytes, message: Message, now: float) -> list[Output]:
        """
        Handle a message from the authenticated C{peer}.

        @param now: seconds, monotonic.
        @return: the outputs; none after L{Quit}.
        """
        if self._over:
            return []
        if isinstance(message, _FOR_BROADCAST):
            out = self._broadcast.receive(peer, message, now)
            return self._reject(out, now) if self._broadcast.dropped else out
        return self._notify(self._membership.receive(peer, message, now), now)

    def handle(self, event: Input, now: float) -> list[Output]:
        """
        Handle another input.

        @param now: seconds, monotonic.
        @return: the outputs; none after L{Quit}.
        @raise ContentTooLarge: by L{Broadcast}.
        @raise DuplicateContent: by L{Broadcast}: the content was broadcast or received
            within C{message_id_retention}, so the swarm would drop it.
        """
        if self._over:
            return []
        if isinstance(event, Broadcast):
            return self._broadcast.handle(event, now)
        if isinstance(event, Quit):
            self._over = True
            self._broadcast.handle(event, now)
            return self._membership.handle(event, now)
        out = self._notify(self._membership.handle(event, now), now)
        if isinstance(event, PeerDisconnected):
            out += self._broadcast.handle(event, now)
        return out

    def next_timer(self) -> float | None:
        """
        Return when L{handle_timer} must be called, in seconds, or C{None}.
        """
        membership = self._membership.timers.next
        broadcast = self._broadcast.timers.next
        if membership is None or broadcast is None:
            return broadcast if membership is None else membership
        return membership if membership < broadcast else broadcast

    def handle_timer(self, now: float) -> list[Output]:
        """
        Handle the timers due at C{now}, and return the outputs; harmless if none is
        due.
        """
        out = self._notify(self._membership.handle_timer(now), now)
        return self._reject(out + self._broadcast.handle_timer(now), now)

    def neighbors(self) -> tuple[bytes, ...]:
        """
        Return the active view, the oldest neighbour first.
        """
        return tuple(self._membership.views.active)

    def is_neighbor(self, peer: bytes) -> bool:
        """
        Return whether C{peer} is in the active view.
        """
        return peer in self._membership.views.active

    def known_peers(self) -> tuple[bytes, ...]:
        """
        Return the passive view, the oldest peer first.
        """
        return tuple(self._membership.views.passive)

    def is_of_our_part(self, peer: bytes, now: float) -> bool:
        """
        Return whether C{peer} is known to be in our part of the swarm.
        """
        return self.is_neighbor(peer) or self._membership.acquaintances.has(peer, now)

    def knows_most(self, now: float) -> bool:
        """
        Return whether most members of our part of the swarm are known.
        """
        return self._membership.acquaintances.knows_most(now)

    def eager_peers(self) -> tuple[bytes, ...]:
        """
        Return the neighbours that contents are pushed to.
        """
        return tuple(self._broadcast.eager)

    def needs_backpressure(self) -> bool:
        """
        Return whether broadcasts should wait: all neighbours have pruned us, or one of
        them is far behind.
        """
        if not self._membership.views.active:
            return False
        return not self._broadcast.eager or self._broadcast.is_ahead()

    @property
    def counters(self) -> Counter[str]:
        """
        Counters of dropped messages, see L{PlumTree}.
        """
        return self._broadcast.counters

    def _reject(self, out: list[Output], now: float) -> list[Output]:
        """
        Drop the neighbours that the broadcast machine has found to be unreliable.
        """
        dropped, self._broadcast.dropped = self._broadcast.dropped, []
        for peer in dropped:
            out += self._notify(self._membership.handle(PeerRejected(peer), now), now)
        return out

    def _notify(self, out: list[Output], now: float) -> list[Output]:
        for output in out:
            if isinstance(output, NeighborUp | NeighborDown):
                self._broadcast.handle(output, now)
        return out
