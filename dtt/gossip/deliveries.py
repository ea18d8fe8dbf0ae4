"""
Which messages may not have reached a neighbour.  Pure.

A transport reports a broken connection together with the time at which something last
arrived on it.  What was sent later is unconfirmed: it may have arrived or not.  The
times are kept in steps of 0.1 s, for at most the last 1024 steps in which something was
sent.
"""

from __future__ import annotations

from collections import deque

#: Steps per second, and steps kept for each neighbour (guess: 100 s of uninterrupted sending, which
#: exceeds the time after which a silent connection is closed, docs/protocol/streams.md section 1).
RESOLUTION, STEPS = 10, 1024


class Deliveries:
    """
    The messages sent to each neighbour.
    """

    def __init__(self) -> None:
        # For each neighbour [step, number of messages], the oldest first.
        self._sent: dict[bytes, deque[list[int]]] = {}

    def sent(self, peer: bytes, now: float) -> None:
        """
        Note that a message was sent.

        @param peer: peer id (32 bytes).
        @param now: seconds.
        """
        step = int(now * RESOLUTION)
        steps = self._sent.get(peer)
        if steps is None:
            steps = self._sent[peer] = deque(maxlen=STEPS)
        elif steps[-1][0] == step:
            steps[-1][1] += 1
            return
        steps.append([step, 1])

    def unconfirmed(self, peer: bytes, heard: float) -> int:
        """
        Return the number of messages sent since a connection was last heard from.

        @param peer: peer id (32 bytes).
        @param heard: when something last arrived on it, in seconds.
        """
        since = int(heard * RESOLUTION)
        return sum(count for step, count in self._sent.get(peer, ()) if step >= since)

    def forget(self, peer: bytes) -> None:
        """
        Forget what was sent to a neighbour.
        """
        self._sent.pop(peer, None)
