"""
Limits on unauthenticated inbound connections.  Pure.

Rules (docs/protocol/streams.md section 1): at most 4 concurrent handshakes per /24
(IPv4) or /64 (IPv6), loopback exempt; for iroh, all connections through relays count as
one network.  The kernel's accept backlog is one queue for all sources, so one network
could block the others there.  Therefore further connections are accepted but not read:
their bytes stay in the kernel, each costs one descriptor, and each starts its handshake
when another of its network has finished.  At most 12 connections per network wait, and
at most 64 in total are in a handshake or waiting; further ones are refused.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define

from dtt.net.networks import network_of

#: Seconds from connecting to the end of the handshake (docs/protocol/streams.md section 1).
HANDSHAKE_TIMEOUT = 10.0

#: Concurrent handshakes per network (docs/protocol/streams.md section 1).
MAX_PER_NETWORK = 4

#: Connections per network that wait for a handshake (guess; must stay well below
#: MAX_UNAUTHENTICATED, or one network could block the others).
MAX_WAITING_PER_NETWORK = 12

#: Unauthenticated connections in total (guess; half the limit of authenticated ones).
MAX_UNAUTHENTICATED = 64


@define(slots=True, eq=False)
class HandshakeSlot:
    """
    One connection's entry in L{Handshakes}.

    @ivar network: the network it counts towards; C{None} if exempt.
    @ivar proceed: called when its handshake may start.
    @ivar running: whether it is in its handshake, as opposed to waiting for one.
    """

    network: str | None
    proceed: Callable[[], None]
    running: bool


class Handshakes:
    """
    The unauthenticated connections of one listener.
    """

    def __init__(self) -> None:
        self._slots: dict[HandshakeSlot, None] = {}

    def __len__(self) -> int:
        """
        Return the number of connections in a handshake or waiting for one.
        """
        return len(self._slots)

    def enter(self, host: str | None, proceed: Callable[[], None]) -> HandshakeSlot | None:
        """
        Register a connection from C{host}.

        @param host: an IP literal, or C{None} for a connection through a relay; all of
            these count as one network.
        @param proceed: called when the handshake may start, unless C{running} is
            already true.
        @return: the connection's entry, or C{None} if the connection must be refused.
        """
        if len(self._slots) >= MAX_UNAUTHENTICATED:
            return None
        network = "relays" if host is None else network_of(host)
        same = [] if network is None else [slot for slot in self._slots if slot.network == network]
        if len(same) >= MAX_PER_NETWORK + MAX_WAITING_PER_NETWORK:
            return None
        slot = HandshakeSlot(network, proceed, sum(slot.running for slot in same) < MAX_PER_NETWORK)
        self._slots[slot] = None
        return slot

    def leave(self, slot: HandshakeSlot) -> None:
        """
        Remove a connection that is authenticated or gone, and start the next waiting
        one of its network.
        """
        if slot not in self._slots:
            return
        del self._slots[slot]
        if not slot.running:
            return
        following = next((p for p in self._slots if not p.running and p.network == slot.network), None)
        if following is not None:
            following.running = True
            following.proceed()
