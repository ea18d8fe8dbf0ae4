"""
Members that are known to be in our partition (part) of the swarm.  Pure.

Rules (docs/protocol/gossip.md section 19): a neighbour is in our part; so is the origin
of a Shuffle and the subject of a ForwardJoin that a neighbour has forwarded, because these messages travel
over the links of the swarm. Being in the passive view proves nothing: ids stay there long after the swarm was
partitioned.

Origins of Shuffles are a random sample of the part: once most of them repeat, we know most
of its members.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Final

#: Seconds for which a member counts as one of our part after it was heard of (guess: five
#: Shuffles; a record is at most two minutes old).
HEARD_FOR: Final = 300.0

#: The members that are remembered; the one heard of longest ago is forgotten first.  Guess: more
#: than are heard of within HEARD_FOR in the largest swarm, some 7 a minute.
MAX_HEARD: Final = 512

#: Origins of Shuffles in HEARD_FOR seconds that are enough to judge, and how often each of them
#: must have come on average.  If each of N members is drawn equally often, the share of them that
#: has been seen after 2 draws of each that was seen is 80 %.
ENOUGH_SAMPLES: Final = 8
REPEATS: Final = 2.0


class Acquaintances:
    """
    The members of our part that were heard of recently.
    """

    __slots__ = ("_heard", "_samples")

    def __init__(self) -> None:
        # When each was last heard of, the latest last.
        self._heard: OrderedDict[bytes, float] = OrderedDict()
        self._samples: deque[tuple[float, bytes]] = deque(maxlen=MAX_HEARD)

    def heard(self, peer: bytes, now: float) -> None:
        """
        Record that C{peer} is in our part.
        """
        self._heard[peer] = now
        self._heard.move_to_end(peer)
        if len(self._heard) > MAX_HEARD:
            self._heard.popitem(last=False)

    def sampled(self, peer: bytes, now: float) -> None:
        """
        Record the origin of a Shuffle.
        """
        self.heard(peer, now)
        self._samples.append((now, peer))

    def has(self, peer: bytes, now: float) -> bool:
        """
        Return whether C{peer} was heard of recently.
        """
        heard_at = self._heard.get(peer)
        return heard_at is not None and now - heard_at < HEARD_FOR

    def latest(self, count: int, now: float) -> list[bytes]:
        """
        Return the C{count} members heard of last, the latest first.
        """
        found: list[bytes] = []
        for peer in reversed(self._heard):
            if len(found) == count or now - self._heard[peer] >= HEARD_FOR:
                break
            found.append(peer)
        return found

    def knows_most(self, now: float) -> bool:
        """
        Return whether most members of our part have been heard of recently.
        """
        samples = self._samples
        while samples and now - samples[0][0] >= HEARD_FOR:
            samples.popleft()
        distinct = len({peer for _, peer in samples})
        return len(samples) >= ENOUGH_SAMPLES and len(samples) >= REPEATS * distinct

    def clear(self) -> None:
        """
        Forget everything: there is no longer a neighbour.
        """
        self._heard.clear()
        self._samples.clear()
