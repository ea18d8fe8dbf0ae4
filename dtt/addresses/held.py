"""
Addresses that are not dialled for a while.

Rule (docs/protocol/addresses.md section 4): after a failed or unauthenticated
dial, an (ip, port) is not dialled for 10 s, regardless of who names it.  Relays
serve many peers, and are not held.
"""

from __future__ import annotations

from collections.abc import Iterable

from dtt.wire.addresses import Address, PeerAddress

#: Seconds for which an address is held (docs/protocol/addresses.md section 4).
HOLD_TIME = 10.0

#: The maximum number of held addresses (guess: 8 for each of 512 dials that failed
#: within C{HOLD_TIME}).
MAX_HELD_ADDRESSES = 4096


class HeldAddresses:
    """
    The set of (ip, port) pairs that may not be dialled now.
    """

    def __init__(self) -> None:
        # Until when each is held; ordered, because all are held equally long.
        self._held: dict[tuple[str, int], float] = {}

    def __len__(self) -> int:
        """
        Return the number of held addresses.
        """
        return len(self._held)

    def hold(self, addresses: Iterable[Address], now: float) -> None:
        """
        Hold C{addresses}, except relays, from now on.

        @param now: the reactor's seconds.
        """
        self._release(now)
        for address in addresses:
            if isinstance(address, PeerAddress):
                host_port = address.host, address.port
                self._held.pop(host_port, None)
                self._held[host_port] = now + HOLD_TIME
        while len(self._held) > MAX_HELD_ADDRESSES:
            del self._held[next(iter(self._held))]

    def has(self, address: Address, now: float) -> bool:
        """
        Return whether C{address} is held.

        @param now: the reactor's seconds.
        """
        self._release(now)
        return isinstance(address, PeerAddress) and (address.host, address.port) in self._held

    def _release(self, now: float) -> None:
        while self._held:
            host_port, until = next(iter(self._held.items()))
            if until > now:
                return
            del self._held[host_port]
