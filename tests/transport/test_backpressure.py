"""
Tests for L{dtt.transport.backpressure}: what is easier to test without a transport.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dtt.transport.backpressure import SLOW_BYTES, SLOW_SECONDS, STALLED_SECONDS, WRITABLE, SlowReaderTimeout


class SlowReaderTimeoutTests(SynchronousTestCase):
    """
    Tests for L{SlowReaderTimeout}.
    """

    def setUp(self) -> None:
        """A timeout that records when it gives up."""
        self.clock = Clock()
        self.given_up: list[float] = []
        self.timeout = SlowReaderTimeout(self.clock, lambda: self.given_up.append(self.clock.seconds()))

    def test_nothing_taken(self) -> None:
        """It gives up 30 s after the peer stopped being writable."""
        self.timeout.queued(WRITABLE - 1)
        self.clock.advance(5)
        self.timeout.queued(WRITABLE)
        self.clock.advance(5)
        self.timeout.queued(WRITABLE + 1)
        self.clock.advance(STALLED_SECONDS - 5.1)
        self.assertEqual(self.given_up, [])
        self.clock.advance(0.1)
        self.assertEqual(len(self.given_up), 1)
        self.timeout.drained(WRITABLE)
        self.clock.advance(100)
        self.assertEqual(len(self.given_up), 1)

    def test_slow_but_steady(self) -> None:
        """
        It does not give up while up to 1 MiB is unsent and the peer reads something from time to time.
        """
        self.timeout.queued(SLOW_BYTES)
        for _ in range(10):
            self.clock.advance(STALLED_SECONDS - 1)
            self.timeout.drained(SLOW_BYTES)
        self.assertEqual(self.given_up, [])
        self.clock.advance(STALLED_SECONDS)
        self.assertEqual(len(self.given_up), 1)

    def test_too_much(self) -> None:
        """
        With more than 1 MiB unsent, it gives up after 10 s even if the peer reads
        something.
        """
        self.timeout.queued(WRITABLE)
        self.clock.advance(9)
        self.timeout.queued(SLOW_BYTES + 1)
        for _ in range(9):
            self.clock.advance(1)
            self.timeout.queued(2 * SLOW_BYTES)
            self.timeout.drained(SLOW_BYTES + 1)
        self.assertEqual(self.given_up, [])
        self.clock.advance(1)
        self.assertEqual(self.given_up, [9.0 + SLOW_SECONDS])
        self.clock.advance(100)
        self.assertEqual(len(self.given_up), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_not_too_much_any_more(self) -> None:
        """Dropping to 1 MiB or less in between restarts the 10 s."""
        for _ in range(5):
            self.timeout.queued(SLOW_BYTES + 1)
            self.clock.advance(9)
            self.timeout.drained(SLOW_BYTES)
        self.assertEqual(self.given_up, [])

    def test_writable_again(self) -> None:
        """Once the peer is writable both timeouts are cancelled; later they start again."""
        for _ in range(2):
            self.timeout.queued(SLOW_BYTES + 1)
            self.clock.advance(9)
            self.timeout.drained(WRITABLE - 1)
            self.clock.advance(STALLED_SECONDS)
            self.assertEqual(self.given_up, [])
        self.timeout.queued(SLOW_BYTES + 1)
        self.timeout.cancel()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_lose(self) -> None:
        """It can be made to give up early; the callback runs later, and once."""
        self.timeout.queued(WRITABLE)
        self.timeout.expire_soon()
        self.assertEqual(self.given_up, [])
        self.clock.advance(0)
        self.clock.advance(100)
        self.assertEqual(self.given_up, [0.0])
