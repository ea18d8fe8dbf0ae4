"""
Tests for L{dtt.testing.net.clock}.
"""

from __future__ import annotations

from random import Random

from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from dtt.testing.net.clock import HeapClock, advance
from tests.sweeps import sized


class Story:
    """
    Random calls, which schedule, move and cancel others when they run.

    @ivar log: the calls and their times.
    """

    def __init__(self, clock: Clock, seed: int, ties: bool) -> None:
        self.clock = clock
        self.rng = Random(seed)
        self.log: list[tuple[int, float]] = []
        self._ties = ties
        self._calls: list[tuple[int, object]] = []
        for _ in range(30):
            self.schedule()

    def seconds(self) -> float:
        """A random delay; with ties, one of a few values."""
        return self.rng.randrange(5) / 4 if self._ties else self.rng.random() * 2

    def schedule(self) -> None:
        """Schedule a call."""
        number = len(self._calls)
        self._calls.append((number, self.clock.callLater(self.seconds(), self.happen, number)))

    def happen(self, number: int) -> None:
        """Run a call, which may schedule, move or cancel others."""
        # Sums of delays are rounded differently.
        self.log.append((number, round(self.clock.seconds(), 9)))
        for _ in range(self.rng.choice((0, 1, 1, 2)) if len(self._calls) < 300 else 0):
            self.schedule()
        # Calls moved to equal times run in a different order.
        number, call = self.rng.choice(self._calls)
        deed = self.rng.randrange(2 if self._ties else 5)
        if call.active():  # type: ignore[attr-defined]
            if deed == 1:
                call.cancel()  # type: ignore[attr-defined]
            elif deed == 2:
                call.reset(self.seconds())  # type: ignore[attr-defined]
            elif deed > 2:
                call.delay(self.seconds() - self.rng.random())  # type: ignore[attr-defined]


class HeapClockTests(SynchronousTestCase):
    """
    The clock with a heap.
    """

    def test_interface(self) -> None:
        """The clock provides C{IReactorTime}."""
        self.assertTrue(verifyObject(IReactorTime, HeapClock()))

    def test_as_clock(self) -> None:
        """Calls that are scheduled, moved and cancelled run at the same times as with Twisted's clock."""
        for seed in range(sized(4, 200)):
            for ties in (True, False):
                logs, left = [], []
                for clock in (Clock(), HeapClock()):
                    story = Story(clock, seed, ties)
                    for step in range(20):
                        if seed % 2:
                            advance(clock, step / 7)
                        else:
                            clock.advance(step / 7)
                    logs.append(story.log)
                    left.append(
                        (
                            clock.seconds(),
                            sorted(round(call.getTime(), 9) for call in clock.getDelayedCalls()),
                        )
                    )
                self.assertEqual(logs[0], logs[1], f"seed {seed}")
                self.assertEqual(left[0], left[1], f"seed {seed}")
                self.assertGreater(len(logs[0]), 9)

    def test_order(self) -> None:
        """Calls at equal times run in the order of scheduling, even if they were moved."""
        clock, made = HeapClock(), list[float]()
        first = clock.callLater(3, made.append, 1)
        clock.callLater(2, made.append, 2)
        third = clock.callLater(1, made.append, 3)
        first.reset(2)
        third.delay(1)
        clock.advance(2)
        self.assertEqual(made, [1, 2, 3])

    def test_moved_back(self) -> None:
        """A call that was delayed and then reset to an earlier time runs at that time."""
        clock, made = HeapClock(), list[float]()
        call = clock.callLater(5, lambda: made.append(clock.seconds()))
        call.delay(10)
        clock.advance(6)
        call.reset(4)
        self.assertEqual((clock.next_due(), call.getTime()), (10, 10))
        call.reset(8)
        call.reset(5)
        advance(clock, 20)
        self.assertEqual(made, [11])

    def test_active(self) -> None:
        """Calls that have run or were cancelled are no longer active."""
        clock = HeapClock()
        made, cancelled, left = (clock.callLater(delay, lambda: None) for delay in (1, 2, 3))
        clock.advance(1)
        cancelled.cancel()
        self.assertEqual(clock.getDelayedCalls(), [left])
        self.assertRaises(AlreadyCalled, made.cancel)
        self.assertRaises(AlreadyCancelled, cancelled.cancel)

    def test_bounded(self) -> None:
        """Cancelled and moved calls leave nothing behind."""
        clock = HeapClock()
        timer = clock.callLater(1e9, lambda: None)
        for step in range(10_000):
            clock.callLater(10, lambda: None).cancel()
            timer.reset(1e9 - step)
        self.assertLess(len(clock._heap), 100)
        self.assertEqual(clock.next_due(), 1e9 - 9999)

    def test_error(self) -> None:
        """A call that raises counts as run; later ones run in the next turn."""
        clock, made = HeapClock(), list[float]()
        clock.callLater(1, lambda: 1 / 0)
        clock.callLater(1, made.append, 1)
        self.assertRaises(ZeroDivisionError, clock.advance, 1)
        clock.advance(0)
        self.assertEqual((made, clock.getDelayedCalls()), ([1], []))
