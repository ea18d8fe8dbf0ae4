"""
Tests for L{dtt.app.limited}.
"""

from __future__ import annotations

from itertools import pairwise
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from dtt.app.limited import MAX_KINDS, LimitedLog
from dtt.events import DHTNodes, Event, Message, NeighborUp, TopicJoined
from dtt.testing.net.clock import HeapClock

ONE, TWO = b"1" * 32, b"2" * 32


class LimitedLogTests(SynchronousTestCase):
    """
    Tests for L{LimitedLog}.
    """

    def setUp(self) -> None:
        """Make a log."""
        self.clock = HeapClock()
        self.lines: list[tuple[float, Event, int]] = []
        self.log = LimitedLog(
            self.clock, lambda event, others: self.lines.append((self.clock.seconds(), event, others))
        )

    def test_once(self) -> None:
        """A single event is logged at once, and nothing remains."""
        self.log(TopicJoined(ONE))
        self.assertEqual(self.lines, [(0.0, TopicJoined(ONE), 0)])
        self.clock.advance(1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_burst(self) -> None:
        """Of a burst the first is logged, and the last after a second, with the number of the others."""
        for number in range(5):
            self.log(DHTNodes(number))
        self.clock.advance(1)
        self.assertEqual(self.lines, [(0.0, DHTNodes(0), 0), (1.0, DHTNodes(4), 3)])
        self.clock.advance(1)
        self.clock.advance(1)
        self.assertEqual(len(self.lines), 2)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_kinds(self) -> None:
        """Other kinds and other topics are logged by themselves."""
        for event in (TopicJoined(ONE), TopicJoined(TWO), NeighborUp(ONE, TWO), DHTNodes(1)):
            self.log(event)
        self.assertEqual(len(self.lines), 4)

    def test_rate(self) -> None:
        """Whatever comes, at most one line a second is logged of a kind, and every event is counted."""
        for seed in range(20):
            self.setUp()
            rng = Random(seed)
            sent = 0
            for _ in range(300):
                for _ in range(rng.randrange(4)):
                    sent += 1
                    self.log(Message(ONE, TWO, "swarm", b"x"))
                self.clock.advance(rng.random() / 5)
            self.clock.pump([1, 1, 1])
            times = [time for time, _, _ in self.lines]
            self.assertTrue(all(b - a > 0.999 for a, b in pairwise(times)), seed)
            self.assertEqual(sum(1 + others for _, _, others in self.lines), sent, seed)

    def test_bounded(self) -> None:
        """However many topics there are, what is remembered is bounded."""
        for number in range(2 * MAX_KINDS):
            self.log(TopicJoined(number.to_bytes(32, "big")))
        self.assertEqual(len(self.clock.getDelayedCalls()), MAX_KINDS)
