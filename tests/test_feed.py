"""
Tests for L{dtt.feed}.
"""

from __future__ import annotations

from contextlib import aclosing

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from dtt.feed import Feed


class FeedTests(SynchronousTestCase):
    """
    A source that is faster or slower than its consumer.
    """

    def test_order(self) -> None:
        """Items come in order, whether the consumer waits for them or they for it."""
        feed: Feed[int] = Feed()
        feed.put(1)
        feed.put(2)
        got = [self.successResultOf(feed.next()) for _ in range(2)]
        waiting = [feed.next(), feed.next()]
        feed.put(3)
        feed.put(4)
        self.assertEqual(got + [self.successResultOf(each) for each in waiting], [1, 2, 3, 4])

    def test_slow_consumer(self) -> None:
        """Beyond the limit the oldest items are dropped and counted."""
        feed: Feed[int] = Feed(limit=3)
        for number in range(5):
            feed.put(number)
        self.assertEqual((feed.dropped, repr(feed)), (2, "<Feed open: 3 waiting, 2 dropped>"))
        self.assertEqual([self.successResultOf(feed.next()) for _ in range(3)], [2, 3, 4])

    def test_end(self) -> None:
        """After the end the items that wait are delivered, and nothing that comes later."""
        feed: Feed[int] = Feed()
        feed.put(1)
        feed.end()
        feed.put(2)
        self.assertEqual(self.successResultOf(feed.next()), 1)
        self.failureResultOf(feed.next(), StopAsyncIteration)
        self.failureResultOf(feed.next(), StopAsyncIteration)

    def test_iteration(self) -> None:
        """It is an asynchronous iterator; the end of the source ends the loop."""
        feed: Feed[int] = Feed()
        got: list[int] = []

        async def iterate() -> None:
            async for item in feed:
                got.append(item)  # noqa: PERF401 - the end is what is tested

        iterating = Deferred.fromCoroutine(iterate())
        feed.put(1)
        feed.put(2)
        self.assertNoResult(iterating)
        feed.end()
        self.successResultOf(iterating)
        self.assertEqual(got, [1, 2])

    def test_close(self) -> None:
        """Closing it ends it at once, tells the source once, and ends what waits."""
        closed: list[str] = []
        feed: Feed[int] = Feed(lambda: closed.append("closed"))

        async def iterate() -> list[int]:
            async with aclosing(feed):
                return [await anext(feed)]

        iterating = Deferred.fromCoroutine(iterate())
        feed.put(1)
        self.assertEqual(self.successResultOf(iterating), [1])
        feed.put(2)
        feed.close()
        self.failureResultOf(feed.next(), StopAsyncIteration)
        self.assertEqual(closed, ["closed"])

    def test_close_while_waiting(self) -> None:
        """A consumer that waits sees the end when another one closes."""
        feed: Feed[int] = Feed()
        waiting = feed.next()
        feed.close()
        self.failureResultOf(waiting, StopAsyncIteration)

    def test_cancel(self) -> None:
        """A cancelled consumer takes no item."""
        feed: Feed[int] = Feed()
        first, second = feed.next(), feed.next()
        first.cancel()
        self.failureResultOf(first, CancelledError)
        feed.put(1)
        self.assertEqual(self.successResultOf(second), 1)
