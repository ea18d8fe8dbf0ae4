"""
The limit on dials to one network.  Pure.

Rule (docs/protocol/addresses.md section 4): in any 60 s, at most 5 addresses of one
network are dialled over each transport, not counting those at which a peer was reached.  A
member can name any addresses, under as many ids as it likes; without this limit it could
make all members dial a victim.

A network is the /24 of a public IPv4 address, the /48 of a public IPv6 address, or one
address of a local network.  Loopback addresses have no limit: they lead to this machine.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from typing import Final, TypeAlias

from dtt.net.networks import Scope, line, scope
from dtt.wire.addresses import Address, PeerAddress

#: Dials of one network over one transport within C{WINDOW} seconds (the contract of
#: discovery: at most 5 dials to a victim for each member and minute).
MAX_DIALS: Final = 5
WINDOW: Final = 60.0

#: The networks that are remembered; the one that was dialled longest ago is forgotten first.
#: Guess: more than can be dialled within a minute.
MAX_NETWORKS: Final = 1024

_Key: TypeAlias = tuple[int, str]


def _key(address: Address) -> _Key | None:
    """
    Return what is limited; C{None} for a relay, and for an address of this machine.
    """
    if not isinstance(address, PeerAddress) or scope(address.host) is Scope.LOOPBACK:
        return None
    return address.transport, line(address.host)


class DialBudget:
    """
    The dials of the last minute, by network.

    @ivar refused: the number of addresses that were not dialled.
    """

    def __init__(self) -> None:
        self.refused = 0
        # When each was begun, the oldest first; the network dialled last is the last.
        self._begun: OrderedDict[_Key, deque[float]] = OrderedDict()

    def has_room(self, address: Address, now: float) -> bool:
        """
        Return whether C{address} may be dialled now.

        @param now: seconds, monotonic.
        """
        key = _key(address)
        return key is None or len(self._recent(key, now)) < MAX_DIALS

    def take(self, addresses: Iterable[Address], now: float) -> tuple[Address, ...]:
        """
        Return those of C{addresses} that may be dialled now, in order, and count them.

        @param now: seconds, monotonic.
        """
        taken = []
        for address in addresses:
            key = _key(address)
            if key is not None:
                begun = self._recent(key, now)
                if len(begun) >= MAX_DIALS:
                    self.refused += 1
                    continue
                begun.append(now)
                self._begun[key] = begun
                self._begun.move_to_end(key)
                if len(self._begun) > MAX_NETWORKS:
                    self._begun.popitem(last=False)
            taken.append(address)
        return tuple(taken)

    def give_back(self, addresses: Iterable[Address]) -> None:
        """
        Forget dials: the peer was reached.

        @param addresses: what L{take} has returned.
        """
        for address in addresses:
            key = _key(address)
            if key is not None and (begun := self._begun.get(key)):
                begun.pop()
                if not begun:
                    del self._begun[key]

    def clear(self) -> None:
        """
        Forget all dials: the network of this machine has changed.
        """
        self._begun.clear()

    def _recent(self, key: _Key, now: float) -> deque[float]:
        begun = self._begun.get(key)
        if begun is None:
            return deque()
        while begun and begun[0] <= now - WINDOW:
            begun.popleft()
        return begun
