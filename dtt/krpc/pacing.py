"""
How fast to ask, and how long to wait for an answer.  Pure.

Rules: no node is sent more than 20 queries in any 10 s, bursts of 10
(docs/protocol/dht.md section 2); a query is slow once the round trips seen so far,
to whatever nodes, make a reply unlikely (RFC 6298, section 2).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, TypeAlias

from dtt.net.bounded import make_room

#: Seconds until a query is slow, before any round trip is known (docs/protocol/dht.md
#: section 4, "dead nodes").
INITIAL_SOFT_TIMEOUT: Final = 0.25

#: Seconds by which the soft time-out is above the smoothed round trip at least
#: (the clock granularity G of RFC 6298): where round trips do not vary, each
#: answer would come just after its query counts as slow.  A guess, for the
#: scheduling of a busy machine.
MIN_MARGIN: Final = 0.05

#: Bound of the soft time-out, seconds: libtorrent's "short" time-out.
MAX_SOFT_TIMEOUT: Final = 1.0

#: Round trips after which the soft time-out is trusted: a bucketful.  Guess.
ENOUGH_ROUND_TRIPS: Final = 8

#: Queries that one node can be sent at once, and seconds until one more: at
#: most 20 in any 10 s (docs/protocol/dht.md section 2).
BURST: Final = 10
REFILL_INTERVAL: Final = 1.0

#: Nodes whose budget is remembered.  One is forgotten 10 s after its last
#: packet, so that is 1600 new nodes a second.  Guess.
MAX_BUDGETS: Final = 16384


#: Times this close are equal; absorbs rounding in "now + delay".
EPSILON: Final = 1e-6

Address: TypeAlias = tuple[str, int]


class RoundTrips:
    """
    The round trips seen, smoothed.
    """

    __slots__ = ("_measured", "_smoothed", "_variation")

    def __init__(self) -> None:
        self._measured = 0
        self._smoothed: float | None = None
        self._variation = 0.0

    def measured(self, seconds: float) -> None:
        """
        A reply took so long.
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
        SRTT, seconds; L{None} before the first.
        """
        return self._smoothed

    @property
    def soft_timeout(self) -> float:
        """
        SRTT + max(4 RTTVAR, L{MIN_MARGIN}), at most L{MAX_SOFT_TIMEOUT}; seconds
        (RFC 6298, section 2).
        """
        if self._smoothed is None:
            return INITIAL_SOFT_TIMEOUT
        return min(self._smoothed + max(4 * self._variation, MIN_MARGIN), MAX_SOFT_TIMEOUT)

    @property
    def trusted(self) -> bool:
        """
        Are enough round trips known for the soft time-out to fit the network?
        """
        return self._measured >= ENOUGH_ROUND_TRIPS


class PacketBudgets:
    """
    For each node a token bucket, kept as the time at which it is full again.
    """

    __slots__ = ("_full",)

    def __init__(self) -> None:
        # Least recently used first.
        self._full: OrderedDict[Address, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full)

    def wait(self, address: Address, now: float) -> float:
        """
        Seconds until one more packet may go to a node; 0 if it may go now.
        """
        full = self._full.get(address)
        if full is None:
            return 0.0
        wait = full - (BURST - 1) * REFILL_INTERVAL - now
        return wait if wait > EPSILON else 0.0

    def spend(self, address: Address, now: float) -> None:
        """
        A packet goes to a node, now or after its L{wait}.
        """
        budgets = self._full
        full = max(budgets.pop(address, now), now) + REFILL_INTERVAL
        make_room(budgets, now, MAX_BUDGETS)
        budgets[address] = full

    def refund(self, address: Address) -> None:
        """
        A packet that was waiting will not go.
        """
        if address in self._full:
            self._full[address] -= REFILL_INTERVAL
