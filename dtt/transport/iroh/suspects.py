"""
Peers at one of whose addresses somebody else answers.  Pure.

Rules (seen with iroh 1.4.1): an endpoint sends the first packet of a dial to all
addresses that it was given for a peer, also by earlier dials of the last minute,
and whoever answers first decides: if that is somebody else the dial fails,
whatever the other addresses are.  Anybody can name a false address for a peer.
So once that has happened the peer is dialled at one address at a time, each by an
endpoint that knows no other one (L{dtt.transport.iroh.dialer}): those first at
which nothing has failed yet, then those at which it is longest ago.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from attrs import define, field

from dtt.interfaces import PeerId
from dtt.wire.addresses import Address

#: Seconds for which a peer is dialled so, and a false address remembered (guess:
#: longer than the longest pause between its dials, 5 minutes, times two).
SUSPECT_TIME = 600.0

#: Peers that are remembered, and addresses of each (guess: a few swarms; what is
#: named for a peer at a time, twice).
MAX_SUSPECTS, MAX_FAILED = 256, 16


@define(slots=True)
class _Suspect:
    """
    @ivar until: when it is forgotten.
    @ivar failed: where it was not reached, the longest ago first.
    """

    until: float
    failed: OrderedDict[Address, None] = field(factory=OrderedDict)


@define(slots=True)
class Suspects:
    """
    The peers, and where they were not reached.
    """

    _peers: OrderedDict[PeerId, _Suspect] = field(factory=OrderedDict)

    def has(self, peer_id: PeerId, now: float) -> bool:
        """
        Whether C{peer_id} is to be dialled at one address at a time.
        """
        suspect = self._peers.get(peer_id)
        return suspect is not None and now < suspect.until

    def order(self, peer_id: PeerId, addresses: Iterable[Address]) -> list[Address]:
        """
        C{addresses} as they are to be tried.
        """
        suspect = self._peers.get(peer_id)
        failed = [] if suspect is None else list(suspect.failed)
        return sorted(addresses, key=lambda address: failed.index(address) if address in failed else -1)

    def add(self, peer_id: PeerId, now: float) -> None:
        """
        A dial of C{peer_id} met somebody else.
        """
        suspect = self._peers.pop(peer_id, None) or _Suspect(now)
        if now >= suspect.until:
            suspect.failed.clear()
        suspect.until = now + SUSPECT_TIME
        self._peers[peer_id] = suspect
        if len(self._peers) > MAX_SUSPECTS:
            self._peers.popitem(last=False)

    def failed(self, peer_id: PeerId, address: Address) -> None:
        """
        C{peer_id} was not reached at C{address}.
        """
        suspect = self._peers.get(peer_id)
        if suspect is not None:
            suspect.failed.pop(address, None)
            suspect.failed[address] = None
            if len(suspect.failed) > MAX_FAILED:
                suspect.failed.popitem(last=False)
