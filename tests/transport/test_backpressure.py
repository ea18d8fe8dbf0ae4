"""
Tests for L{dtt.transport.backpressure} that do not need a transport.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dtt.transport.backpressure import SLOW_BYTES, SLOW_SECONDS, STALLED_SECONDS, WRITABLE, Patience


class PatienceTests(SynchronousTestCase):
    """
    Tests for L{Patience}.
    """

    def setUp(self) -> None:
        """Create one that reports when it has given up."""
        self.clock = Clock()
        self.given_up: list[float] = []
        self.patience = Patience(self.clock, lambda: self.given_up.append(self.clock.seconds()))

    def test_nothing_taken(self) -> None:
        """A peer is given up half a minute after others began to wait for it, if it reads nothing."""
        self.patience.waiting(WRITABLE - 1)
        self.clock.advance(5)
        self.patience.waiting(WRITABLE)
        self.clock.advance(5)
        self.patience.waiting(WRITABLE + 1)
        self.clock.advance(STALLED_SECONDS - 5.1)
        self.assertEqual(self.given_up, [])
        self.clock.advance(0.1)
        self.assertEqual(len(self.given_up), 1)
        self.patience.taken(WRITABLE)
        self.clock.advance(100)
        self.assertEqual(len(self.given_up), 1)

    def test_slow_but_steady(self) -> None:
        """It is not given up while it reads occasionally, with up to 1 MiB unsent."""
        self.patience.waiting(SLOW_BYTES)
        for _ in range(10):
            self.clock.advance(STALLED_SECONDS - 1)
            self.patience.taken(SLOW_BYTES)
        self.assertEqual(self.given_up, [])
        self.clock.advance(STALLED_SECONDS)
        self.assertEqual(len(self.given_up), 1)

    def test_too_much(self) -> None:
        """
        With more unsent data, reading is not sufficient: it is given up ten seconds after
        exceeding the limit.
        """
        self.patience.waiting(WRITABLE)
        self.clock.advance(9)
        self.patience.waiting(SLOW_BYTES + 1)
        for _ in range(9):
            self.clock.advance(1)
            self.patience.waiting(2 * SLOW_BYTES)
            self.patience.taken(SLOW_BYTES + 1)
        self.assertEqual(self.given_up, [])
        self.clock.advance(1)
        self.assertEqual(self.given_up, [9.0 + SLOW_SECONDS])
        self.clock.advance(100)
        self.assertEqual(len(self.given_up), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_not_too_much_any_more(self) -> None:
        """A peer that gets below 1 MiB in between has another ten seconds."""
        for _ in range(5):
            self.patience.waiting(SLOW_BYTES + 1)
            self.clock.advance(9)
            self.patience.taken(SLOW_BYTES)
        self.assertEqual(self.given_up, [])

    def test_writable_again(self) -> None:
        """When no writer waits any more, the state is reset."""
        for _ in range(2):
            self.patience.waiting(SLOW_BYTES + 1)
            self.clock.advance(9)
            self.patience.taken(WRITABLE - 1)
            self.clock.advance(STALLED_SECONDS)
            self.assertEqual(self.given_up, [])
        self.patience.waiting(SLOW_BYTES + 1)
        self.patience.end()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_lose(self) -> None:
        """It can be given up earlier; this is reported later, and once."""
        self.patience.waiting(WRITABLE)
        self.patience.lose()
        self.assertEqual(self.given_up, [])
        self.clock.advance(0)
        self.clock.advance(100)
        self.assertEqual(self.given_up, [0.0])
