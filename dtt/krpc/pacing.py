"""
Outbound pacing and adaptive timeouts.  Pure.

Rules: no node is sent more than 20 queries in any 10 s, in bursts of at most 10
(docs/protocol/dht.md section 2). A query is slow once a reply has become unlikely,
judging by the round trips to all nodes so far (RFC 6298, section 2).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, TypeAlias

from dtt.net.bounded import make_room

#: Seconds until a query is slow, before any round trip is known (docs/protocol/dht.md
#: section 4, "dead nodes").
INITIAL_SOFT_TIMEOUT: Final = 0.25

#: The least seconds between the smoothed round trip and the soft timeout (the clock
#: granularity G of RFC 6298). Without it, if round trips do not vary, each response
#: arrives just after its query counts as slow. Guess, for the scheduling delays of a
#: busy machine.
MIN_MARGIN: Final = 0.05

#: The longest soft timeout, seconds: libtorrent's "short" timeout.
MAX_SOFT_TIMEOUT: Final = 1.0

#: Round trips after which the soft timeout is trusted: as many as a bucket has nodes.
#: Guess.
ENOUGH_ROUND_TRIPS: Final = 8

#: The size of a burst to one node, and the seconds until one more query may follow: at
#: most 20 in any 10 s (docs/protocol/dht.md section 2).
BURST: Final = 10
REFILL_INTERVAL: Final = 1.0

#: The most nodes whose budget is tracked. An entry expires 10 s after the node's last
#: packet, so this allows 1600 new nodes per second. Guess.
MAX_BUDGETS: Final = 16384


#: Times this close count as equal; absorbs rounding in "now + delay".
EPSILON: Final = 1e-6

Address: TypeAlias = tuple[str, int]


class RoundTrips:
    """
    Smoothed round-trip statistics.
    """

    __slots__ = ("_measured", "_smoothed", "_variation")

    def __init__(self) -> None:
        self._measured = 0
        self._smoothed: float | None = None
        self._variation = 0.0

    def measured(self, seconds: float) -> None:
        """
        Add a round trip of C{seconds}.
        """
        seconds = max(seconds, 0.0)
        self._measured += 1
        if self._smoothed is None:
            self._smoothed = seconds
            self._variation = seconds / 2
        else:
            self._variation += (abs(self._smoothed - seconds) - self._variation) / 4
            self._smoothed += (seconds - self._smoothed) / 8

    @property
    def smoothed(self) -> float | None:
        """
        The smoothed round trip (SRTT), seconds; C{None} before the first one.
        """
        return self._smoothed

    @property
    def soft_timeout(self) -> float:
        """
        SRTT + max(4 RTTVAR, L{MIN_MARGIN}), at most L{MAX_SOFT_TIMEOUT}; seconds (RFC
        6298, section 2).
        """
        if self._smoothed is None:
            return INITIAL_SOFT_TIMEOUT
        return min(self._smoothed + max(4 * self._variation, MIN_MARGIN), MAX_SOFT_TIMEOUT)

    @property
    def trusted(self) -> bool:
        """
        Whether enough round trips are known for the soft timeout to suit the network.
        """
        return self._measured >= ENOUGH_ROUND_TRIPS


class PacketBudgets:
    """
    One token bucket per node, stored as the time at which it is full again.
    """

    __slots__ = ("_full",)

    def __init__(self) -> None:
        # Least recently used first.
        self._full: OrderedDict[Address, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full)

    def wait(self, address: Address, now: float) -> float:
        """
        Return the seconds until one more packet may be sent to a node; 0 if now.
        """
        full = self._full.get(address)
        if full is None:
            return 0.0
        wait = full - (BURST - 1) * REFILL_INTERVAL - now
        return wait if wait > EPSILON else 0.0

    def is_half_full(self, address: Address, now: float) -> bool:
        """
        Return whether a node may be sent at least half a burst.
        """
        return self._full.get(address, now) <= now + BURST / 2 * REFILL_INTERVAL

    def spend(self, address: Address, now: float) -> None:
        """
        Charge one packet, sent now or after its L{wait}.
        """
        budgets = self._full
        full = max(budgets.pop(address, now), now) + REFILL_INTERVAL
        make_room(budgets, now, MAX_BUDGETS)
        budgets[address] = full

    def refund(self, address: Address) -> None:
        """
        Undo the charge for a packet that was waiting and won't be sent.
        """
        if address in self._full:
            self._full[address] -= REFILL_INTERVAL
