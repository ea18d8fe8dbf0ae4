"""
Suspect peers: those for which another key answered at one of the addresses.  Pure.

Rules (observed with iroh 1.4.1): an endpoint sends the first packet of a dial to all
addresses that it was given for a peer, including those of dials within the last
minute.  The first answer decides: if it comes from another key, the dial fails,
whatever the other addresses are.  Anyone can name a false address for a peer.  So once
this has happened, the peer is dialled at one address at a time, each from an endpoint
that knows no other address (L{dtt.transport.iroh.dialer}).  Addresses without a
recorded failure come first, then those whose last failure is oldest.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from attrs import define, field

from dtt.interfaces import PeerId
from dtt.wire.addresses import Address

#: Seconds for which a peer stays suspect and its failed addresses are remembered (guess: twice the
#: longest pause between its dials, 5 minutes).
SUSPECT_TIME = 600.0

#: Suspect peers, and failed addresses of each (guess: a few swarms; twice the addresses named for a
#: peer at a time).
MAX_SUSPECTS, MAX_FAILED = 256, 16


@define(slots=True)
class _Suspect:
    """
    @ivar until: when the peer is no longer suspect, in seconds.
    @ivar failed: addresses at which it was not reached; the oldest failure first.
    """

    until: float
    failed: OrderedDict[Address, None] = field(factory=OrderedDict)


@define(slots=True)
class Suspects:
    """
    The suspect peers, and the addresses at which they were not reached.
    """

    _peers: OrderedDict[PeerId, _Suspect] = field(factory=OrderedDict)

    def has(self, peer_id: PeerId, now: float) -> bool:
        """
        Return whether C{peer_id} must be dialled at one address at a time.
        """
        suspect = self._peers.get(peer_id)
        return suspect is not None and now < suspect.until

    def order(self, peer_id: PeerId, addresses: Iterable[Address]) -> list[Address]:
        """
        Return C{addresses} in the order in which to try them.
        """
        suspect = self._peers.get(peer_id)
        failed = [] if suspect is None else list(suspect.failed)
        return sorted(addresses, key=lambda address: failed.index(address) if address in failed else -1)

    def add(self, peer_id: PeerId, now: float) -> None:
        """
        Mark C{peer_id} as suspect: another key answered a dial.
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
        Record that C{peer_id} was not reached at C{address}.
        """
        suspect = self._peers.get(peer_id)
        if suspect is not None:
            suspect.failed.pop(address, None)
            suspect.failed[address] = None
            if len(suspect.failed) > MAX_FAILED:
                suspect.failed.popitem(last=False)
