"""
How much we send to addresses that may be forged.  Pure.

Rules (specs/dht.md section 3): an address is proven by a completed round trip,
that is, by a reply to a query of ours or by a valid token; answers to proven
addresses are free.  Answers to all others are limited to so many bytes a
second for each network (/24, or /64 of IPv6) and in all, so that nobody can
use us to flood a third party.  Bytes are charged after an answer was made, so
the first answers to a network always fit, whatever their size.
"""

from __future__ import annotations

from typing import Final

#: Bytes a second to one network, and in all (specs/dht.md section 3;
#: libtorrent's upload limit is 8 kB/s, too).
NETWORK_RATE: Final = 2000.0
TOTAL_RATE: Final = 8000.0

#: A limit may run ahead by this many seconds' worth of bytes.  Guess.
BURST_SECONDS: Final = 1.0

#: Seconds that an address stays proven: the lifetime of a token.
PROVEN_SECONDS: Final = 600.0

#: Proven addresses, and charged networks, that are remembered.  Guesses.
MAX_PROVEN: Final = 8192
MAX_NETWORKS: Final = 4096


def network(ip: bytes) -> bytes:
    """
    The network that shares limits with C{ip}: 3 of 4 bytes, or 8 of 16.
    """
    return ip[:3] if len(ip) == 4 else ip[:8]


class AnswerLimits:
    """
    Who may be answered now.

    @ivar closed: everybody may: a network of our own machines, or a test.
    """

    __slots__ = ("_charged", "_network_rate", "_proven", "_total", "_total_rate", "closed")

    def __init__(
        self, network_rate: float = NETWORK_RATE, total_rate: float = TOTAL_RATE, closed: bool = False
    ) -> None:
        """
        @param network_rate: bytes a second to one network.
        @param total_rate: bytes a second to all unproven addresses.
        """
        self.closed = closed
        self._network_rate = network_rate
        self._total_rate = total_rate
        # When all that was sent will have been earned: in all, and for each
        # network, the least recently charged first.
        self._total = 0.0
        self._charged: dict[bytes, float] = {}
        self._proven: dict[bytes, float] = {}

    def prove(self, ip: bytes, now: float) -> None:
        """
        The node at this address has completed a round trip.

        @param ip: 4 or 16 bytes.
        """
        proven = self._proven
        proven.pop(ip, None)
        while proven:
            oldest = next(iter(proven))
            if now - proven[oldest] < PROVEN_SECONDS and len(proven) < MAX_PROVEN:
                break
            del proven[oldest]
        proven[ip] = now

    def is_proven(self, ip: bytes, now: float) -> bool:
        """
        Are answers to this address free?
        """
        if self.closed:
            return True
        since = self._proven.get(ip)
        return since is not None and now - since < PROVEN_SECONDS

    def allows(self, ip: bytes, now: float) -> bool:
        """
        May an unproven address be answered now?
        """
        horizon = now + BURST_SECONDS
        return self._total < horizon and self._charged.get(network(ip), 0.0) < horizon

    def charge(self, ip: bytes, size: int, now: float) -> None:
        """
        An answer of C{size} bytes goes to an unproven address.
        """
        self._total = max(self._total, now) + size / self._total_rate
        charged = self._charged
        key = network(ip)
        busy = max(charged.pop(key, now), now) + size / self._network_rate
        while charged:
            oldest = next(iter(charged))
            if charged[oldest] > now and len(charged) < MAX_NETWORKS:
                break
            del charged[oldest]
        charged[key] = busy
