"""
Tests for L{dtt.deferreds}.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from dtt.deferreds import Waiters, abandon, cancel_if_active, first_of, gather_until


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
        """A waiter that has cancelled no longer waits, but the others do."""
        waiters: Waiters[int] = Waiters()
        one, other = waiters.wait(), waiters.wait()
        one.cancel()
        self.failureResultOf(one, CancelledError)
        self.assertEqual(len(waiters), 1)
        waiters.fire(1)
        self.assertEqual(self.successResultOf(other), 1)

    def test_callbacks_that_interfere(self) -> None:
        """One callback cancels the next waiter and waits again: neither is fired now."""
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
        """The source is notified when the last waiter has cancelled, but not when they are fired."""
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


class GatherUntilTests(SynchronousTestCase):
    """
    Tests for L{gather_until}.
    """

    def test_all(self) -> None:
        """
        It fires with the results in order after the last one.
        """
        deferreds: list[Deferred[int]] = [Deferred(), Deferred()]
        both = gather_until(deferreds)
        deferreds[1].callback(1)
        self.assertNoResult(both)
        deferreds[0].callback(0)
        self.assertEqual(self.successResultOf(both), [0, 1])

    def test_enough(self) -> None:
        """
        A sufficient result cancels the others.
        """
        cancelled: list[object] = []
        slow: Deferred[int] = Deferred(cancelled.append)
        quick: Deferred[int] = Deferred()
        both = gather_until([slow, quick], lambda result: result > 0)
        quick.callback(1)
        self.assertEqual(self.successResultOf(both), [1])
        self.assertEqual(cancelled, [slow])

    def test_not_promising(self) -> None:
        """
        A Deferred that is not promising is not waited for once a promising one has fired,
        but it is if another one like it has.
        """
        cancelled: list[object] = []
        running: list[Deferred[int]] = [Deferred(), Deferred(cancelled.append)]
        promising = {0}
        both = gather_until(running, promising=promising.__contains__)
        running[0].callback(1)
        self.assertEqual(self.successResultOf(both), [1])
        self.assertEqual(cancelled, running[1:])

        running = [Deferred(), Deferred()]
        both = gather_until(running, promising=promising.__contains__)
        running[1].callback(2)
        self.assertNoResult(both)
        running[0].callback(1)
        self.assertEqual(self.successResultOf(both), [1, 2])

    def test_failure(self) -> None:
        """
        It fails with the first failure and cancels the others; cancelling it does the
        same.
        """
        for kind in (ValueError, CancelledError):
            cancelled: list[object] = []
            one: Deferred[int] = Deferred()
            two: Deferred[int] = Deferred(cancelled.append)
            both = gather_until([one, two])
            if kind is ValueError:
                one.errback(ValueError())
            else:
                both.cancel()
            self.failureResultOf(both, kind)
            self.assertEqual(cancelled, [two])

    def test_none(self) -> None:
        """Without Deferreds there is nothing to wait for."""
        self.assertEqual(self.successResultOf(gather_until([])), [])

    def test_tolerated(self) -> None:
        """
        A tolerated failure is left out, in any order; if all fail, the whole fails.
        """
        for order in ((0, 1), (1, 0)):
            running: list[Deferred[int]] = [Deferred(), Deferred()]
            both = gather_until(running, tolerated=KeyError)
            for index in order:
                if index:
                    running[index].callback(1)
                else:
                    running[index].errback(KeyError())
            self.assertEqual(self.successResultOf(both), [1])
        running = [Deferred(), Deferred()]
        both = gather_until(running, tolerated=KeyError)
        running[0].errback(KeyError())
        self.assertNoResult(both)
        running[1].errback(KeyError())
        self.failureResultOf(both, KeyError)


class FirstOfTests(SynchronousTestCase):
    """
    Tests for L{first_of} and L{abandon}.
    """

    def test_first(self) -> None:
        """It returns the index of the one that fires first, and leaves the others alone."""
        one: Deferred[int] = Deferred()
        other: Deferred[int] = Deferred()
        first = Deferred.fromCoroutine(first_of(one, other))
        other.callback(5)
        self.assertEqual(self.successResultOf(first), 1)
        self.assertNoResult(one)

    def test_failure(self) -> None:
        """It raises the exception of the one that fails first."""
        one: Deferred[int] = Deferred()
        first = Deferred.fromCoroutine(first_of(one, Deferred()))
        one.errback(ValueError())
        self.failureResultOf(first, ValueError)
        abandon(one)

    def test_abandon(self) -> None:
        """Abandoned Deferreds are cancelled; those that have fired stay; failures are ignored."""
        cancelled: list[object] = []
        waiting: Deferred[int] = Deferred(cancelled.append)
        fired: Deferred[int] = Deferred()
        fired.callback(5)
        abandon(waiting, fired)
        self.assertEqual(cancelled, [waiting])
        self.assertEqual(self.successResultOf(fired), 5)
        self.assertIsNone(self.successResultOf(waiting))
