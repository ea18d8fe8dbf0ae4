"""
Tests for L{dtt.tracker.loop}.
"""

from __future__ import annotations

from itertools import pairwise
from random import Random

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dtt.errors import TopicLeft
from dtt.testing.fake_gossip import FakeGossip
from dtt.tracker.loop import LoopService, PeriodicService


class Waiting(LoopService):
    """Waits for C{what}; takes C{goodbye} to end."""

    def __init__(self) -> None:
        self.what: Deferred[None] = Deferred()
        self.goodbye: Deferred[None] | None = None
        self.ended = False

    async def run(self) -> None:
        try:
            await self.what
        finally:
            if self.goodbye is not None:
                await self.goodbye
            self.ended = True


class LoopServiceTests(SynchronousTestCase):
    """
    Tests for L{LoopService}.
    """

    def test_cancel_is_awaited(self) -> None:
        """
        stopService cancels what the coroutine waits for, and fires when the coroutine has
        ended.
        """
        service = Waiting()
        service.goodbye = Deferred()
        service.startService()
        stopped = service.stopService()
        self.assertNoResult(stopped)
        self.assertFalse(service.ended)
        service.goodbye.callback(None)
        self.assertIsNone(self.successResultOf(stopped))
        self.assertTrue(service.ended)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_stop_without_start(self) -> None:
        """A service that was not started, or has stopped, stops immediately."""
        service = Waiting()
        self.successResultOf(service.stopService())
        service.startService()
        self.successResultOf(service.stopService())
        self.successResultOf(service.stopService())

    def test_error_is_logged(self) -> None:
        """An exception in the coroutine is logged, and the service can be stopped."""
        service = Waiting()
        service.startService()
        service.what.errback(ZeroDivisionError())
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.successResultOf(service.stopService())

    def test_error_at_once(self) -> None:
        """An exception before the first wait is logged, too."""
        service = Waiting()
        service.what.errback(ZeroDivisionError())
        service.startService()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_end_of_the_topic(self) -> None:
        """Leaving the topic is not an error."""
        service = Waiting()
        service.startService()
        service.what.errback(TopicLeft("left"))
        self.assertTrue(service.ended)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_cancelled_inside(self) -> None:
        """A cancellation from elsewhere ends the loop silently."""
        service = Waiting()
        service.startService()
        service.what.errback(CancelledError())
        self.assertTrue(service.ended)

    def test_run_is_to_be_written(self) -> None:
        """A service without C{run} raises an error."""
        LoopService().startService()
        self.assertEqual(len(self.flushLoggedErrors(NotImplementedError)), 1)


class Ticking(PeriodicService):
    """Counts its ticks."""

    takes: Deferred[None] | None = None

    def __init__(self, clock: Clock, gossip: FakeGossip, rng: Random) -> None:
        super().__init__(clock, rng, gossip, initial=10.0, base=20.0, jitter=5.0)
        self.clock = clock
        self.times: list[float] = []

    async def tick(self) -> None:
        self.times.append(self.clock.seconds())
        if self.takes is not None:
            await self.takes


class PeriodicServiceTests(SynchronousTestCase):
    """
    Tests for L{PeriodicService}.
    """

    def setUp(self) -> None:
        """A service that is not joined."""
        self.clock = Clock()
        self.gossip = FakeGossip()
        self.service = Ticking(self.clock, self.gossip, Random(1))

    def test_only_once_joined(self) -> None:
        """The first tick follows the initial delay after the first neighbour."""
        self.service.startService()
        self.clock.advance(100)
        self.gossip.up(b"p")
        self.clock.advance(9.99)
        self.assertEqual(self.service.times, [])
        self.clock.advance(0.01)
        self.assertEqual(self.service.times, [110.0])

    def test_intervals(self) -> None:
        """The intervals between ticks are base + uniform(0, jitter) seconds, and differ."""
        self.gossip.up(b"p")
        self.service.startService()
        self.clock.pump([0.01] * 30000)
        times = self.service.times
        self.assertGreater(len(times), 10)
        steps = [later - earlier for earlier, later in pairwise(times)]
        self.assertTrue(all(19.98 < step < 25.02 for step in steps), f"seed 1: {steps}")
        self.assertGreater(max(steps) - min(steps), 2.0, f"seed 1: {steps}")

    def test_interval_begins_after_the_tick(self) -> None:
        """A slow tick does not overlap with the next one."""
        self.service.takes = Deferred()
        self.gossip.up(b"p")
        self.service.startService()
        self.clock.advance(10)
        self.clock.advance(1000)
        self.assertEqual(len(self.service.times), 1)
        self.service.takes.callback(None)
        self.clock.advance(25)
        self.assertEqual(len(self.service.times), 2)

    def test_stop(self) -> None:
        """Nothing is left after stopping: when not joined, while waiting, or during a tick."""
        self.service.startService()
        self.successResultOf(self.service.stopService())
        self.gossip.up(b"p")
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.service.startService()
        self.successResultOf(self.service.stopService())
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.service.takes = Deferred()
        self.service.startService()
        self.clock.advance(10)
        self.successResultOf(self.service.stopService())
        self.clock.advance(1000)
        self.assertEqual((len(self.service.times), self.clock.getDelayedCalls()), (1, []))
