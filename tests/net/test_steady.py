"""
Tests for L{dtt.net.steady}.
"""

from __future__ import annotations

import weakref
from random import Random

from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from dtt.net.steady import SteadyClock


class SteadyClockTests(SynchronousTestCase):
    """
    Tests for L{SteadyClock}.
    """

    def setUp(self) -> None:
        self.reactor = Clock()
        self.reactor.advance(10_000)
        self.clock = SteadyClock(self.reactor)
        self.called: list[str] = []

    def set_back(self, seconds: float) -> None:
        """Set the reactor's time back."""
        self.reactor.rightNow -= seconds

    def test_same(self) -> None:
        """The time is that of the reactor, and calls are made when they are due."""
        verifyObject(IReactorTime, self.clock)
        self.clock.callLater(5, self.called.append, "x")
        self.reactor.advance(4.9)
        self.assertEqual((self.called, self.clock.seconds()), ([], 10_004.9))
        self.reactor.advance(0.2)
        self.assertEqual((self.called, self.clock.getDelayedCalls()), (["x"], ()))

    def test_set_back(self) -> None:
        """After a step back the time continues, and no call is late once the step is noticed."""
        self.clock.callLater(5, self.called.append, "x")
        self.reactor.advance(2)
        self.clock.seconds()
        self.set_back(3600)
        self.assertEqual(self.clock.seconds(), 10_002)
        self.assertEqual(self.clock.unix(self.clock.seconds()), 6402)
        self.reactor.advance(3)
        self.assertEqual((self.called, self.clock.seconds()), (["x"], 10_005))

    def test_set_forward(self) -> None:
        """A step forward counts as time that has passed."""
        self.clock.callLater(5, self.called.append, "x")
        self.reactor.rightNow += 3600
        self.assertEqual(self.clock.seconds(), 13_600)
        self.reactor.advance(0)
        self.assertEqual(self.called, ["x"])

    def test_pending(self) -> None:
        """Calls can be cancelled, reset and delayed, as those of a reactor."""
        call = self.clock.callLater(5, self.called.append, "x")
        verifyObject(IDelayedCall, call)
        self.set_back(100)
        call.reset(2)
        self.assertEqual((call.getTime(), call.active()), (10_002, True))
        call.delay(1)
        self.reactor.advance(2.5)
        self.assertEqual(self.called, [])
        self.reactor.advance(0.5)
        self.assertEqual((self.called, call.active()), (["x"], False))
        self.assertRaises(AlreadyCalled, call.cancel)
        other = self.clock.callLater(1, self.called.append, "y")
        other.cancel()
        self.assertRaises(AlreadyCancelled, other.reset, 1)
        self.reactor.advance(9)
        self.assertEqual((self.called, self.reactor.getDelayedCalls()), (["x"], []))

    def test_forgotten(self) -> None:
        """A call that has run, or was cancelled, does not refer to its function any more."""
        functions = [lambda: None, lambda: None]
        kept = [weakref.ref(function) for function in functions]
        calls = [self.clock.callLater(5, functions.pop()) for _ in kept]
        calls[0].cancel()
        self.reactor.advance(6)
        self.assertEqual([call.active() for call in calls], [False, False])
        self.assertEqual([each() for each in kept], [None, None])

    def test_random(self) -> None:
        """The time never goes back, whatever happens to the reactor's."""
        for seed in range(200):
            rng = Random(seed)
            last = self.clock.seconds()
            for _ in range(20):
                if rng.random() < 0.5:
                    self.set_back(rng.uniform(0, 5000))
                else:
                    self.reactor.advance(rng.uniform(0, 100))
                now = self.clock.seconds()
                self.assertGreaterEqual(now, last, f"seed {seed}")
                last = now
