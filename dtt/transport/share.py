"""
The work of one reactor turn, shared by the connections of a transport.

Rules: what peers have sent is handled in small portions.  Together the connections get
at most L{UNITS} units and L{SECONDS} in a turn of the reactor, however many they are
and however much has arrived; then they queue for the next turn, one portion each in
their turn.  A unit is a message, or 1024 bytes of one
(L{dtt.wire.length_prefix.LengthPrefixed.feed}).  The units make tests deterministic;
the seconds take into account that messages differ in cost, and machines in speed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

#: Units of work in one turn, and seconds after which no further portion is begun (guess: a turn of
#: some milliseconds delays timers and datagrams hardly, and makes the cost of a turn negligible).
UNITS, SECONDS = 1024, 0.008

#: Units of one portion (guess: the most expensive messages cost 0.06 ms each).
PORTION = 64


class Share:
    """
    Divides the turns of the reactor among connections.

    Use: L{take}, then work, then L{done}.  If L{take} returns 0, call L{wait}.
    """

    def __init__(self, clock: IReactorTime) -> None:
        """
        @param clock: schedules turns, and measures the work.
        """
        self._clock = clock
        self._units = UNITS
        self._seconds = SECONDS
        self._queue: deque[Callable[[], None]] = deque()
        self._scheduled = False
        # Whether the caller at the head of the queue has not taken its portion yet.
        self._granted = False
        self._since = 0.0

    def free(self) -> bool:
        """
        Return whether L{take} would return more than 0.
        """
        return self._units > 0 and self._seconds > 0 and (self._granted or not self._queue)

    def take(self, wanted: int = PORTION) -> int:
        """
        Reserve a portion of this turn.

        @param wanted: how many units, at least 1.
        @return: how many units may be used now, at most L{PORTION}; 0 if the caller
            must L{wait}.
        """
        if not self.free():
            return 0
        self._granted = False
        taken = min(wanted, PORTION, self._units)
        self._units -= taken
        self._since = self._clock.seconds()
        return taken

    def done(self, unused: int = 0) -> None:
        """
        Note that the work of the last L{take} is done.

        @param unused: units that were not needed; negative if it needed more.
        """
        self._units += unused
        self._seconds -= self._clock.seconds() - self._since

    def wait(self, turn: Callable[[], None]) -> None:
        """
        Call C{turn} when there is a portion for it, in a later turn of the reactor.
        """
        self._queue.append(turn)
        self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._clock.callLater(0, self._next_turn)

    def _next_turn(self) -> None:
        self._scheduled = False
        self._units, self._seconds = UNITS, SECONDS
        while self._queue and self._units > 0 and self._seconds > 0:
            turn = self._queue.popleft()
            self._granted = True
            turn()
            self._granted = False
        if self._queue:
            self._schedule()
