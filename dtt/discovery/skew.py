"""
The difference between our clock and those of the other members.  Pure.

Rules (docs/protocol/clock.md): a sample is the clock of one member, from a connection on which it has proved
a topic, or from a record that it has created for us.  The last sample of each member counts for an hour.  Our
own clock is a sample with difference 0; the estimate is the median of all.  Thus no single member can change
it, and correct clocks outvote a wrong one.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from dtt.interfaces import PeerId

#: Seconds for which a sample counts (guess: clocks are set from time to time).
SAMPLE_FOR: Final = 3600.0

#: The members whose clocks are remembered; the one heard longest ago is forgotten first (guess).
MAX_SAMPLES: Final = 64

#: Differences that are taken for none, in seconds: slots are read for a minute more (guess).
HARMLESS: Final = 30.0

#: The most by which a clock may differ, in seconds: others are set to another century (guess: ten
#: years).
MAX_SKEW: Final = 10 * 365 * 86400.0


class SkewEstimate:
    """
    The clocks of other members.
    """

    def __init__(self) -> None:
        # The difference to our clock, and when it was learned; the latest last.
        self._samples: OrderedDict[PeerId, tuple[float, float]] = OrderedDict()

    def add(self, peer: PeerId, ahead: float, now: float) -> None:
        """
        Add the clock of a member.

        @param peer: its peer id.
        @param ahead: the number of seconds by which it is ahead of ours; negative: behind.
        @param now: unix seconds of our clock.
        """
        if not abs(ahead) <= MAX_SKEW:
            return
        self._samples[peer] = (ahead, now)
        self._samples.move_to_end(peer)
        if len(self._samples) > MAX_SAMPLES:
            self._samples.popitem(last=False)

    def clear(self) -> None:
        """
        Forget all samples: our clock was set.
        """
        self._samples.clear()

    def sources(self, now: float) -> int:
        """
        Return of how many other members the clock is known.
        """
        return len(self._recent(now))

    def ahead(self, now: float) -> float:
        """
        Return the number of seconds by which the clocks of most members are ahead of ours; negative: behind;
        0 if the difference is small or uncertain.

        @param now: unix seconds of our clock.
        """
        samples = sorted([0.0, *self._recent(now)])
        # With an even number of samples, two middle ones: the one nearer to our clock.
        low, high = samples[(len(samples) - 1) // 2], samples[len(samples) // 2]
        middle = min(low, high, key=abs)
        return middle if abs(middle) >= HARMLESS else 0.0

    def agreeing(self, ahead: float, now: float) -> int:
        """
        Return how many members have clocks that are ahead of ours by about C{ahead} seconds.
        """
        return sum(abs(each - ahead) < HARMLESS for each in self._recent(now))

    def dissent(self, now: float) -> float:
        """
        Return by how many seconds the clocks of at least half of the other members, and of
        at least two, are ahead of ours; 0 if there is no such group.  This is reported although
        it is uncertain which clocks are right.

        @param now: unix seconds of our clock.
        """
        samples = self._recent(now)
        enough = max(2.0, len(samples) / 2)
        return next(
            (each for each in samples if abs(each) >= HARMLESS and self.agreeing(each, now) >= enough), 0.0
        )

    def only(self, now: float) -> float:
        """
        Return by how many seconds the clock of the only other member whose clock is known is ahead of ours; 0
        if the difference is small, or if there are others.  It is uncertain which of the two is right.

        @param now: unix seconds of our clock.
        """
        samples = self._recent(now)
        return samples[0] if len(samples) == 1 and abs(samples[0]) >= HARMLESS else 0.0

    def _recent(self, now: float) -> list[float]:
        return [ahead for ahead, at in self._samples.values() if 0 <= now - at < SAMPLE_FOR]
