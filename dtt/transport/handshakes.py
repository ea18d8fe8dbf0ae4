"""
How many strangers may be in a handshake with us.  Pure.

Rules (docs/protocol/streams.md section 1): 4 of one /24 (IPv4) or /64 (IPv6) at a
time, loopback exempt; for iroh, those through relays count as one network.
TCP's own backlog is one queue for all sources, so that one of them would hold
up the others; instead a further connection is accepted and not read: its bytes
stay in the kernel, it costs a descriptor, and it takes its turn when another of
its network is through.  At most 12 of a network wait, and at most 64 are in a
handshake or wait for one in all; the rest are refused.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define

from dtt.net.networks import network_of

#: Handshakes of one network at a time (docs/protocol/streams.md section 1).
MAX_PER_NETWORK = 4

#: Those of one network that wait for a handshake (guess; it must stay well
#: below the number for all, or one network could hold up the others).
MAX_WAITING_PER_NETWORK = 12

#: Unauthenticated connections in all (guess; half of the authenticated ones).
MAX_UNAUTHENTICATED = 64


@define(slots=True, eq=False)
class Place:
    """
    A connection's place in L{Handshakes}.

    @ivar running: it is in its handshake, not waiting for one.
    """

    network: str | None
    proceed: Callable[[], None]
    running: bool


class Handshakes:
    """
    The unauthenticated connections of a listener.
    """

    def __init__(self) -> None:
        self._places: dict[Place, None] = {}

    def __len__(self) -> int:
        return len(self._places)

    def enter(self, host: str | None, proceed: Callable[[], None]) -> Place | None:
        """
        A connection from C{host}; L{None}: refuse it.

        @param host: an IP literal; L{None}: it comes through a relay.  All of
            those count as one network.
        @param proceed: called when it may begin, if C{running} is not true yet.
        """
        if len(self._places) >= MAX_UNAUTHENTICATED:
            return None
        network = "relays" if host is None else network_of(host)
        same = [] if network is None else [place for place in self._places if place.network == network]
        if len(same) >= MAX_PER_NETWORK + MAX_WAITING_PER_NETWORK:
            return None
        place = Place(network, proceed, sum(place.running for place in same) < MAX_PER_NETWORK)
        self._places[place] = None
        return place

    def leave(self, place: Place) -> None:
        """
        The connection is authenticated, or gone.
        """
        if place not in self._places:
            return
        del self._places[place]
        if not place.running:
            return
        following = next((p for p in self._places if not p.running and p.network == place.network), None)
        if following is not None:
            following.running = True
            following.proceed()
