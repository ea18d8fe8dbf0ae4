"""
Peers at one of whose addresses somebody else answers.  Pure.

Rules (seen with iroh 1.4.1): the library sends the first packet of a dial to all
addresses that it was given for a peer, also by earlier dials of the last minute,
and whoever answers first decides: if that is somebody else the dial fails,
whatever the other addresses are.  Anybody can name a false address for a peer.
So once that has happened the peer is dialled at one address at a time, in turn.
With the growing pauses between dials (specs/addresses.md section 4) the turn
comes to each address when the library has forgotten the others.
"""

from __future__ import annotations

from attrs import define, field

from dtt.hints import Address
from dtt.interfaces import PeerId

#: Seconds that a peer is dialled so (guess: longer than the longest pause between
#: its dials, 5 minutes, times two).
SUSPECT_TIME = 600.0

#: Peers that are remembered (guess: a few swarms).
MAX_SUSPECTS = 256


@define(slots=True)
class Suspects:
    """
    The peers, and whose turn it is.
    """

    _peers: dict[PeerId, tuple[float, int]] = field(factory=dict)

    def choose(self, peer_id: PeerId, addresses: tuple[Address, ...], now: float) -> tuple[Address, ...]:
        """
        Those of C{addresses} that are to be dialled now.
        """
        until, turn = self._peers.get(peer_id, (0.0, 0))
        if now >= until or not addresses:
            return addresses
        self._peers[peer_id] = (until, turn + 1)
        return (addresses[turn % len(addresses)],)

    def other_key_answered(self, peer_id: PeerId, now: float) -> None:
        """
        A dial of C{peer_id} met somebody else.
        """
        turn = self._peers.pop(peer_id, (0.0, 0))[1]
        self._peers[peer_id] = (now + SUSPECT_TIME, turn)
        if len(self._peers) > MAX_SUSPECTS:
            del self._peers[next(iter(self._peers))]
