"""
Latency and loss of datagrams between hosts.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from random import Random
from typing import Final

#: The number of pairs of hosts whose latency is cached: about 10 MB. Guess.
_CACHED: Final = 65536


class Links:
    """
    A fixed random latency for each pair of hosts, and a loss that is the same for all.

    @ivar low: the smallest one-way latency, in seconds.
    @ivar high: the largest one-way latency without jitter, in seconds.
    @ivar jitter: the maximum added to the latency of each datagram, in seconds.
    @ivar loss: the share of datagrams lost in one direction, 0..1.
    """

    def __init__(
        self, seed: int = 0, *, low: float = 0.02, high: float = 0.15, jitter: float = 0.0, loss: float = 0.0
    ) -> None:
        """
        The defaults of C{low} and C{high} are those of docs/protocol/latency.md.

        @param seed: a different seed gives different latencies.
        @param low: see the attribute. If it equals C{high}, all pairs have the same
            latency.
        @param high: see the attribute.
        @param jitter: see the attribute.
        @param loss: see the attribute.
        @raise ValueError: C{low}, C{high}, C{jitter} or C{loss} is out of range.
        """
        if not 0 <= low <= high or jitter < 0:
            raise ValueError("latencies must be 0 <= low <= high, jitter must not be negative")
        if not 0 <= loss <= 1:
            raise ValueError("loss must be within 0..1")
        self.low, self.high, self.jitter, self.loss = low, high, jitter, loss
        self._key = b"links%d" % seed
        self._rng = Random(seed)
        self._base = lru_cache(_CACHED)(self._draw)

    def base(self, a: str, b: str) -> float:
        """
        The one-way latency between two hosts without jitter, in seconds. It is the same
        in both directions, and 0 from a host to itself.
        """
        if a == b:
            return 0.0
        return self._base(a, b) if a < b else self._base(b, a)

    def delay(self, a: str, b: str) -> float:
        """
        The one-way latency of the next datagram from C{a} to C{b}, in seconds.
        """
        base = self.base(a, b)
        return base + self._rng.random() * self.jitter if self.jitter else base

    def loses(self, rng: Random) -> bool:
        """
        Is the next datagram lost?
        """
        return self.loss > 0 and rng.random() < self.loss

    def _draw(self, a: str, b: str) -> float:
        digest = blake2b(f"{a} {b}".encode("ascii"), digest_size=7, key=self._key).digest()
        return self.low + (self.high - self.low) * (int.from_bytes(digest) / 2**56)
