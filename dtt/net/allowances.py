"""
Rate limits for each of many keys, for instance peers.  Pure.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

#: Keys whose use is remembered, unless told otherwise.  Guess: far more than the neighbours of some
#: minutes.
MAX_KEYS: Final = 256


class Allowances:
    """
    A token bucket for each key, in bounded memory: the key used longest ago is forgotten
    first.
    """

    __slots__ = ("_burst", "_full_at", "_interval", "_most")

    def __init__(self, burst: int, interval: float, most: int = MAX_KEYS) -> None:
        """
        @param burst: how many times in a row something may happen.
        @param interval: seconds until it may happen once more.
        @param most: the number of keys that are remembered.
        """
        self._burst = burst
        self._interval = interval
        self._most = most
        # When the bucket of each key is full again; the latest used is last.
        self._full_at: OrderedDict[bytes, float] = OrderedDict()

    def take(self, key: bytes, now: float) -> bool:
        """
        Return whether it may happen once more for C{key}, and count it.
        """
        full_at = max(self._full_at.get(key, now), now) + self._interval
        if full_at - now > self._burst * self._interval:
            return False
        self._full_at[key] = full_at
        self._full_at.move_to_end(key)
        if len(self._full_at) > self._most:
            self._full_at.popitem(last=False)
        return True
