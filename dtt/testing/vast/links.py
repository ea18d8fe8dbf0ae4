"""
How long datagrams take between two hosts, and how many get lost.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from random import Random
from typing import Final

#: Pairs of hosts whose latency is kept: about 10 MB.  Guess.
_CACHED: Final = 65536


class Links:
    """
    The latency of each pair of hosts, drawn once; and the loss of all.

    @ivar low: the smallest one-way latency, seconds.
    @ivar high: the largest, without jitter.
    @ivar jitter: the most that is added to a latency, anew each time, seconds.
    @ivar loss: the share of datagrams that get lost on one way, 0..1.
    """

    def __init__(
        self, seed: int = 0, *, low: float = 0.02, high: float = 0.15, jitter: float = 0.0, loss: float = 0.0
    ) -> None:
        """
        The defaults of C{low} and C{high} are those of docs/protocol/latency.md.

        @param low: equal to C{high}: all pairs have the same latency.
        @raise ValueError: C{low}, C{high}, C{jitter} or C{loss} can't be.
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
        The one-way latency between two hosts without jitter, seconds; the
        same in both directions.  None from a host to itself.
        """
        if a == b:
            return 0.0
        return self._base(a, b) if a < b else self._base(b, a)

    def delay(self, a: str, b: str) -> float:
        """
        The seconds that the next datagram from C{a} to C{b} takes.
        """
        base = self.base(a, b)
        return base + self._rng.random() * self.jitter if self.jitter else base

    def loses(self, rng: Random) -> bool:
        """
        Does the next datagram get lost?
        """
        return self.loss > 0 and rng.random() < self.loss

    def _draw(self, a: str, b: str) -> float:
        digest = blake2b(f"{a} {b}".encode("ascii"), digest_size=7, key=self._key).digest()
        return self.low + (self.high - self.low) * (int.from_bytes(digest) / 2**56)
