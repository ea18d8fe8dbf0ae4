"""
Limits on unauthenticated inbound connections.  Pure.

Rules (docs/protocol/streams.md section 1): at most 64 connections are in their
handshake at a time.  A newcomer is never refused: when all places are taken, the oldest connection of the
network with the most places is closed.  Thus an attacker that holds many places without authenticating closes
its own connections.  While half of the places or more are taken, a handshake has 3 s instead of 10 s.

The network of a connection is the /24 of its IPv4 address.  One customer may have an
IPv6 /48, so IPv6 addresses are compared by /48 first, then by /56 within it, then by
/64.  Loopback is one network, and so are all relays of iroh.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define

from dtt.net.networks import most_dispensable, networks_of

#: Seconds from connecting to the end of the handshake (docs/protocol/streams.md section 1).
HANDSHAKE_TIMEOUT = 10.0

#: Unauthenticated connections in total (guess; half the limit of authenticated ones).
MAX_UNAUTHENTICATED = 64

#: Seconds for a handshake while L{PRESSURE} places or more are taken (guess: a round trip, and one
#: retransmission of each packet).
PRESSURE_TIMEOUT = 3.0

#: Places taken from which on L{PRESSURE_TIMEOUT} applies (guess).
PRESSURE = MAX_UNAUTHENTICATED // 2


@define(slots=True, eq=False)
class HandshakeSlot:
    """
    One connection's place in L{Handshakes}.

    @ivar networks: the networks that it counts towards, each within the one before.
    @ivar since: when it was made, in seconds.
    @ivar close: called with a reason when it must make room.
    """

    networks: tuple[str, ...]
    since: float
    close: Callable[[str], object]


class Handshakes:
    """
    The unauthenticated connections of one listener.
    """

    def __init__(self) -> None:
        self._slots: dict[HandshakeSlot, None] = {}

    def __len__(self) -> int:
        """
        Return the number of unauthenticated connections.
        """
        return len(self._slots)

    def enter(self, host: str | None, now: float, close: Callable[[str], object]) -> HandshakeSlot:
        """
        Add a connection from C{host}; others may be closed to make room.

        @param host: an IP literal, or C{None} for a connection through a relay.
        @param now: the time in seconds.
        @param close: called with a reason, at most once, if the connection must be
            closed.
        @return: the connection's place, for L{leave}.
        """
        if len(self._slots) >= PRESSURE:
            for slot in tuple(self._slots):
                if now - slot.since < PRESSURE_TIMEOUT:
                    break
                self._close(slot, "handshake timed out")
        if len(self._slots) >= MAX_UNAUTHENTICATED:
            dispensable = most_dispensable(self._slots, lambda slot: slot.networks)
            self._close(dispensable, "too many handshakes")
        networks = ("relays",) if host is None else networks_of(host)
        slot = HandshakeSlot(networks, now, close)
        self._slots[slot] = None
        return slot

    def leave(self, slot: HandshakeSlot) -> None:
        """
        Remove a connection that is authenticated or gone.
        """
        self._slots.pop(slot, None)

    def _close(self, slot: HandshakeSlot, reason: str) -> None:
        if slot in self._slots:
            del self._slots[slot]
            slot.close(reason)
