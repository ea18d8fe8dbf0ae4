"""
Places that are left alone for a while.

Rule (docs/protocol/addresses.md section 4): after a failed or unauthenticated dial an
(ip, port) is not dialled for 10 s, whoever names it.  A relay serves many
peers, and is not held.
"""

from __future__ import annotations

from collections.abc import Iterable

from dtt.wire.addresses import Address, PeerAddress

#: Seconds (docs/protocol/addresses.md section 4).
PLACE_HOLD = 10.0

#: Places that are remembered (guess: 8 for each of 512 dials that failed within
#: L{PLACE_HOLD}).
MAX_HELD_PLACES = 4096


class HeldPlaces:
    """
    See the module's words.
    """

    def __init__(self) -> None:
        # In the order of their ends, as all are held equally long.
        self._held: dict[tuple[str, int], float] = {}

    def __len__(self) -> int:
        """
        How many are remembered.
        """
        return len(self._held)

    def hold(self, addresses: Iterable[Address], now: float) -> None:
        """
        Leave them alone from now on.
        """
        self._release(now)
        for address in addresses:
            if isinstance(address, PeerAddress):
                place = address.host, address.port
                self._held.pop(place, None)
                self._held[place] = now + PLACE_HOLD
        while len(self._held) > MAX_HELD_PLACES:
            del self._held[next(iter(self._held))]

    def has(self, address: Address, now: float) -> bool:
        """
        Is it to be left alone?
        """
        self._release(now)
        return isinstance(address, PeerAddress) and (address.host, address.port) in self._held

    def _release(self, now: float) -> None:
        while self._held:
            place, until = next(iter(self._held.items()))
            if until > now:
                return
            del self._held[place]
