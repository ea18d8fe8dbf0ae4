"""
Tests for L{dtt.deferreds}.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from dtt.deferreds import Waiters, cancel_if_active


def _append(result: int, fired: list[tuple[int, int]], number: int) -> None:
    fired.append((number, result))


class WaitersTests(SynchronousTestCase):
    """
    Tests for L{Waiters}.
    """

    def test_order(self) -> None:
        """All who wait are fired, in their order, once."""
        waiters: Waiters[int] = Waiters()
        fired: list[tuple[int, int]] = []
        for number in range(3):
            waiters.wait().addCallback(_append, fired, number)
        self.assertEqual(len(waiters), 3)
        waiters.fire(5)
        waiters.fire(6)
        self.assertEqual(fired, [(0, 5), (1, 5), (2, 5)])
        self.assertEqual(len(waiters), 0)

    def test_cancelled(self) -> None:
        """Who has cancelled does not wait any longer, and the others do."""
        waiters: Waiters[int] = Waiters()
        one, other = waiters.wait(), waiters.wait()
        one.cancel()
        self.failureResultOf(one, CancelledError)
        self.assertEqual(len(waiters), 1)
        waiters.fire(1)
        self.assertEqual(self.successResultOf(other), 1)

    def test_callbacks_that_interfere(self) -> None:
        """One callback cancels the next waiter and waits anew: neither is fired now."""
        waiters: Waiters[int] = Waiters()
        again: list[Deferred[int]] = []
        one, other = waiters.wait(), waiters.wait()

        def interfere(_: int) -> None:
            other.cancel()
            again.append(waiters.wait())

        one.addCallback(interfere)
        waiters.fire(1)
        self.failureResultOf(other, CancelledError)
        self.assertNoResult(again[0])
        waiters.fire(2)
        self.assertEqual(self.successResultOf(again[0]), 2)

    def test_abandoned(self) -> None:
        """When the last waiter has cancelled, whoever works for them is told; not when they are fired."""
        abandoned: list[int] = []
        waiters: Waiters[int] = Waiters(lambda: abandoned.append(1))
        waiting = [waiters.wait() for _ in range(3)]
        for waiter, count in zip(waiting, (0, 0, 1), strict=True):
            waiter.cancel()
            self.failureResultOf(waiter, CancelledError)
            self.assertEqual(len(abandoned), count)
        one, other = waiters.wait(), waiters.wait()
        one.addCallback(lambda _: other.cancel())
        waiters.fire(1)
        self.failureResultOf(other, CancelledError)
        self.assertEqual(len(abandoned), 1)

    def test_failure(self) -> None:
        """A failure goes to all."""
        waiters: Waiters[int] = Waiters()
        waiting = [waiters.wait(), waiters.wait()]
        waiters.fire(Failure(ValueError("no")))
        for waiter in waiting:
            self.failureResultOf(waiter, ValueError)

    def test_cancel_all(self) -> None:
        """All who wait can be cancelled together."""
        waiters: Waiters[int] = Waiters()
        waiting = [waiters.wait(), waiters.wait()]
        waiters.cancel()
        for waiter in waiting:
            self.failureResultOf(waiter, CancelledError)
        self.assertEqual(len(waiters), 0)


class CancelTests(SynchronousTestCase):
    """
    Tests for L{cancel_if_active}.
    """

    def test_cancel(self) -> None:
        """A delayed call that waits is cancelled; any other, or none, is left alone."""
        clock = Clock()
        called: list[int] = []
        call = clock.callLater(1, called.append, 1)
        cancel_if_active(call)
        cancel_if_active(call)
        cancel_if_active(None)
        clock.advance(2)
        self.assertEqual(called, [])
        cancel_if_active(clock.callLater(0, called.append, 2))
        clock.advance(0)
        self.assertEqual(called, [])
