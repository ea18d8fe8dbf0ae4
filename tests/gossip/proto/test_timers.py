"""
Tests for L{dtt.gossip.proto.timers}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dtt.gossip.proto.timers import Timers


class TimersTests(SynchronousTestCase):
    """
    Tests for L{Timers}.
    """

    def test_order(self) -> None:
        """Timers fire by time, then in the order in which they were started, once."""
        timers: Timers[str] = Timers()
        for name, when in (("late", 2.0), ("first", 1.0), ("second", 1.0)):
            timers.start(name, when)
        self.assertEqual(timers.next, 1.0)
        self.assertEqual([timers.pop(1.5) for _ in range(3)], ["first", "second", None])
        self.assertEqual((timers.pop(2.0), timers.next, len(timers)), ("late", None, 0))

    def test_restart_replaces(self) -> None:
        """A restarted timer fires only at its new time."""
        timers: Timers[str] = Timers()
        timers.start("a", 1.0)
        timers.start("a", 3.0)
        self.assertEqual(
            (timers.next, timers.pop(2.0), timers.pop(3.0), timers.pop(9.0)), (3.0, None, "a", None)
        )

    def test_stop(self) -> None:
        """A stopped timer does not fire; stopping one that is not running is harmless."""
        timers: Timers[str] = Timers()
        timers.start("a", 1.0)
        timers.stop("a")
        timers.stop("b")
        self.assertNotIn("a", timers)
        self.assertEqual((timers.next, timers.pop(2.0)), (None, None))

    def test_bounded(self) -> None:
        """Restarting forever does not grow the heap."""
        timers: Timers[str] = Timers()
        # The first to fire stays: replaced entries are never at the top of the heap.
        timers.start("first", 0.5)
        for turn in range(10_000):
            timers.start("a", 1.0 + turn)
            timers.start("b", 1.0 + turn)
        self.assertLess(len(timers._heap), 100)
        self.assertEqual((timers.next, timers.pop(0.5), timers.next), (0.5, "first", 10_000.0))
