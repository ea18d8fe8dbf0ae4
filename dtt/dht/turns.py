"""
Turns: how many operations of a node run at the same time.

Rules: an operation that has to wait for others starts later; it never fails for that.
A few may always run. More may run as long as the nodes that they query can take it:
while fewer queries are waiting for packet budgets than half as many as operations run.
Operations of different kinds start alternately, so that a thousand writes do not delay
one read, and those of one kind in order. A reactor turn starts a few at most.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime

#: The number of operations that may always run, and that may start in one reactor turn:
#: each has one query to the same node at a time, and a query a second may be sent to it.
#: Guess.
FEW: Final = 8

#: The most operations that run at the same time. A thousand topics need about 40. Each
#: sends up to 8 queries in a reactor turn, 30 µs each: 15 ms. Guess.
MOST: Final = 64

#: Seconds between two looks at the number of queries held back. Guess.
POLL_INTERVAL: Final = 0.1


class Turns:
    """
    Assigns turns to operations.

    @ivar running: the number of operations that have a turn.
    """

    def __init__(self, reactor: IReactorTime, held_back: Callable[[], int]) -> None:
        """
        @param reactor: the clock.
        @param held_back: returns the number of queries waiting for a packet budget.
        """
        self.running = 0
        self._reactor = reactor
        self._held_back = held_back
        # Those waiting, by kind. The first kind is the next to start.
        self._waiting: OrderedDict[str, dict[Deferred[None], None]] = OrderedDict()
        self._next: IDelayedCall | None = None

    @property
    def waiting(self) -> int:
        """
        The number of operations that are waiting for their turn.
        """
        return sum(map(len, self._waiting.values()))

    def wait(self, kind: str) -> Deferred[None]:
        """
        Wait for a turn, which ends with L{end}.

        @param kind: the kind of operation.
        @return: fires when the operation may start.  If it is cancelled, there is no turn to end.
        """
        if self.running < FEW and not self._waiting:
            self.running += 1
            return succeed(None)
        turn: Deferred[None] = Deferred(lambda _: self._forget(kind, turn))
        self._waiting.setdefault(kind, {})[turn] = None
        if self._next is None:
            self._next = self._reactor.callLater(0.0, self._start)
        return turn

    def end(self) -> None:
        """
        End a turn.
        """
        self.running -= 1
        if self._waiting and self._next is not None:
            self._next.reset(0.0)

    def _forget(self, kind: str, turn: Deferred[None]) -> None:
        waiting = self._waiting.get(kind, {})
        if turn not in waiting:
            # It was about to start.
            self.running -= 1
            return
        del waiting[turn]
        if not waiting:
            del self._waiting[kind]
        if not self._waiting and self._next is not None:
            self._next.cancel()
            self._next = None

    def _may_start(self) -> bool:
        return self.running < FEW or (self.running < MOST and 2 * self._held_back() < self.running)

    def _start(self) -> None:
        self._next = None
        ready: list[Deferred[None]] = []
        while self._waiting and len(ready) < FEW and self._may_start():
            self.running += 1
            kind, waiting = self._waiting.popitem(last=False)
            turn = next(iter(waiting))
            del waiting[turn]
            if waiting:
                self._waiting[kind] = waiting
            ready.append(turn)
        if self._waiting:
            self._next = self._reactor.callLater(0.0 if len(ready) == FEW else POLL_INTERVAL, self._start)
        for turn in ready:
            if not turn.called:
                turn.callback(None)
