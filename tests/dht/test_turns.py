"""
Tests for L{dtt.dht.turns}.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dtt.dht.turns import FEW, MOST, POLL_INTERVAL, Turns


class TurnsTests(SynchronousTestCase):
    """
    L{Turns}.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.held_back = 0
        self.turns = Turns(self.clock, lambda: self.held_back)
        self.started: list[object] = []

    def wait(self, kind: str, name: object = None) -> Deferred[None]:
        """
        Wait for a turn; record C{name} when it has come.
        """
        return self.turns.wait(kind).addCallback(lambda _: self.started.append(name or kind))

    def test_few(self) -> None:
        """
        A few start immediately, even if queries are held back; the next one when one has
        ended.
        """
        self.held_back = 1000
        for number in range(FEW + 2):
            self.wait("get", number + 1)
        self.clock.advance(10.0)
        self.assertEqual(self.started, list(range(1, FEW + 1)))
        self.assertEqual((self.turns.running, self.turns.waiting), (FEW, 2))
        self.turns.end()
        self.clock.advance(0.0)
        self.assertEqual(self.started[FEW:], [FEW + 1])

    def test_many(self) -> None:
        """
        While nothing is held back more start, a few per reactor turn, up to a limit.
        (This clock runs turns that follow without a pause in one go.)
        """
        for number in range(2 * MOST):
            self.wait("get", number + 1)
        self.assertEqual(len(self.started), FEW)
        turns: list[int] = []
        later = self.clock.callLater

        def count(delay: float, call: Callable[[], object]) -> IDelayedCall:
            turns.append(len(self.started))
            return later(delay, call)

        self.patch(self.clock, "callLater", count)
        self.clock.advance(POLL_INTERVAL)
        self.assertEqual(turns, [*range(FEW, MOST, FEW), MOST])
        self.assertEqual(self.started, list(range(1, MOST + 1)))
        for _ in range(2 * MOST):
            self.turns.end()
            self.clock.advance(POLL_INTERVAL)
        self.assertEqual(self.started, list(range(1, 2 * MOST + 1)))
        self.assertEqual((self.turns.running, self.turns.waiting), (0, 0))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_held_back(self) -> None:
        """
        More than a few do not start while many queries are held back, and do when these
        have been sent.
        """
        self.held_back = FEW // 2
        for _ in range(FEW + 1):
            self.wait("get")
        self.clock.pump([POLL_INTERVAL] * 20)
        self.assertEqual(len(self.started), FEW)
        self.held_back -= 1
        self.clock.advance(POLL_INTERVAL)
        self.assertEqual(len(self.started), FEW + 1)

    def test_fair(self) -> None:
        """
        Kinds start alternately, those of one kind in order.
        """
        self.held_back = 1000
        for number in range(FEW + 500):
            self.wait("put", f"put {number}")
        self.wait("get", "get 0")
        self.wait("peers", "peers 0")
        self.wait("get", "get 1")
        del self.started[:]
        for _ in range(6):
            self.turns.end()
            self.clock.advance(0.0)
        self.assertEqual(self.started, ["put 8", "get 0", "peers 0", "put 9", "get 1", "put 10"])

    def test_cancel(self) -> None:
        """
        An operation that is cancelled while waiting gets no turn, and has none to end, even if others start
        at the same time.
        """
        self.held_back = 1000
        for _ in range(FEW):
            self.wait("get")
        waiting = [self.turns.wait("get") for _ in range(3)]
        waiting[1].addCallback(lambda _: waiting[2].cancel())
        waiting[0].cancel()
        self.failureResultOf(waiting[0], CancelledError)
        self.held_back = 0
        self.clock.advance(POLL_INTERVAL)
        self.successResultOf(waiting[1])
        self.failureResultOf(waiting[2], CancelledError)
        self.assertEqual((self.turns.running, self.turns.waiting), (FEW + 1, 0))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_everyone(self) -> None:
        """
        In any order of events everyone gets one turn, and no timer is left.
        """
        for seed in range(20):
            rng = Random(seed)
            self.setUp()
            waiting: list[Deferred[None]] = []
            cancelled: list[object] = []
            for number in range(300):
                self.held_back = rng.choice((0, 0, 5, 100))
                turn = self.wait(rng.choice(("get", "put", "peers")), number + 1)
                turn.addErrback(lambda _, number: cancelled.append(number), number + 1)  # noqa: B023
                waiting.append(turn)
                if rng.random() < 0.2:
                    rng.choice(waiting).cancel()
                if self.turns.running and rng.random() < 0.5:
                    self.turns.end()
                self.assertLessEqual(self.turns.running, MOST, f"seed {seed}")
                self.clock.advance(rng.choice((0.0, 0.05)))
            self.held_back = 0
            while self.turns.running or self.turns.waiting:
                if self.turns.running:
                    self.turns.end()
                self.clock.advance(POLL_INTERVAL)
            everyone = sorted([*self.started, *cancelled], key=str)
            self.assertEqual(everyone, sorted(range(1, 301), key=str), f"seed {seed}")
            self.assertEqual(self.clock.getDelayedCalls(), [], f"seed {seed}")
