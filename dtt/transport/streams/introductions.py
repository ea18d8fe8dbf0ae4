"""
Limits of introductions: a member asks a common neighbour to notify a peer behind a NAT that it wants to
connect, so that both send at the same time.  Pure.

Rules (docs/protocol/quic.md section 8): a request goes to the peer if that is connected
to us and in the same topic.  Its sender counts as the asker, whatever the frame says, and the address at
which we see the asker comes first.  An asker and a peer have 30 introductions at once
and one a second; the rest is dropped.  What a neighbour has forwarded is never forwarded
again, and each neighbour may introduce as many to us.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from dtt.identity import is_valid_peer_id
from dtt.interfaces import PeerId
from dtt.net.allowances import Allowances
from dtt.transport.streams.frames import MAX_RENDEZVOUS, Rendezvous

#: Introductions at once, and seconds until one more is allowed (guess: HyParView wants a
#: few peers at a time, and two hundred newcomers may ask for the same one).
BURST, INTERVAL = 30, 1.0

#: Peers whose introductions are counted; beyond that the least recently active one is
#: forgotten (guess: more than connections).
MAX_COUNTED: Final = 1024


class Introductions:
    """
    The introductions that go through one member, and those that it receives.
    """

    def __init__(self, own_id: PeerId, counters: Counter[str]) -> None:
        """
        @param own_id: our peer id (32 bytes).
        @param counters: incremented for each introduction.
        """
        self._own_id = own_id
        self._counters = counters
        self._by_asker, self._by_target, self._by_neighbor = (
            Allowances(BURST, INTERVAL, MAX_COUNTED) for _ in range(3)
        )

    def forwarded(
        self, asker: PeerId, request: Rendezvous, channel: int, seen: tuple[str, int] | None, now: float
    ) -> Rendezvous | None:
        """
        Return what to send to the target of a request; C{None} if nothing.

        @param asker: the peer that has sent the request.
        @param channel: our channel number at the target.
        @param seen: the UDP address at which we see the asker, if any.
        """
        if not self._by_asker.take(asker, now) or not self._by_target.take(request.target, now):
            self._counters["rendezvous_limit"] += 1
            return None
        self._counters["rendezvous_forwarded"] += 1
        addresses = request.addresses if seen is None else tuple(dict.fromkeys((seen, *request.addresses)))
        return Rendezvous(channel, True, asker, request.target, addresses[:MAX_RENDEZVOUS])

    def accepts(self, neighbor: PeerId, introduction: Rendezvous, now: float) -> bool:
        """
        Return whether to probe the asker that a neighbour introduces.
        """
        asker = introduction.asker
        if introduction.target != self._own_id or asker == self._own_id or not is_valid_peer_id(asker):
            self._counters["rendezvous_refused"] += 1
            return False
        if not self._by_neighbor.take(neighbor, now):
            self._counters["rendezvous_limit"] += 1
            return False
        self._counters["rendezvous_received"] += 1
        return True
