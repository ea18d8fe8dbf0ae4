"""
Tests for L{dtt.transport.share}.
"""

from __future__ import annotations

from collections import Counter
from functools import partial

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dtt.transport.share import PORTION, SECONDS, UNITS, Share


class ShareTests(SynchronousTestCase):
    """
    Tests for L{Share}.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.share = Share(self.clock)
        self.done: Counter[str] = Counter()

    def work(self, name: str, units: int) -> None:
        """
        Use C{units}, in as many turns as necessary.
        """
        while units:
            taken = self.share.take(units)
            if not taken:
                self.share.wait(partial(self.work, name, units))
                return
            self.done[name] += taken
            units -= taken
            self.share.done()

    def turn(self) -> Counter[str]:
        """
        Return what was done in the next turn.
        """
        before = self.done.copy()
        # Clock.advance would also run the turns that this one schedules.
        (call,) = self.clock.calls
        self.clock.calls.clear()
        call.func()
        return self.done - before

    def test_alone(self) -> None:
        """
        A connection that is alone has the whole turn, and then the next one; without
        work nothing is scheduled.
        """
        self.work("a", 2 * UNITS + 10)
        self.assertEqual(self.done, {"a": UNITS})
        self.assertEqual(self.turn(), {"a": UNITS})
        self.assertEqual(self.turn(), {"a": 10})
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_fair(self) -> None:
        """
        Connections that wait take turns, one portion each.
        """
        for number in range(UNITS // PORTION + 2):
            self.work(str(number), 100 * PORTION)
        self.assertEqual(self.done, {"0": UNITS})
        # The one that used up the previous turn comes first.
        first, second = self.turn(), self.turn()
        self.assertEqual(first, {str(number): PORTION for number in range(UNITS // PORTION)})
        self.assertEqual((second["16"], second["17"]), (PORTION, PORTION))
        self.assertEqual(second.total(), UNITS)
        self.assertEqual(max(second.values()), PORTION)

    def test_late(self) -> None:
        """
        Work that comes while others wait gets in line.
        """
        self.work("a", 10 * UNITS)
        self.turn()
        self.work("b", 5)
        self.assertEqual(self.done["b"], 0)
        self.assertEqual(self.turn(), {"a": UNITS - 5, "b": 5})

    def test_seconds(self) -> None:
        """
        When the time of a turn is over, no further portion is begun, though units are
        left.
        """
        portions: list[float] = []

        def work() -> None:
            while self.share.take():
                portions.append(self.clock.seconds())
                self.clock.rightNow += SECONDS * 0.4
                self.share.done()
            self.share.wait(work)

        work()
        self.assertEqual(len(portions), 3)
        self.turn()
        self.assertEqual(len(portions), 6)

    def test_unused(self) -> None:
        """
        Units that were not needed may be used; if more were needed, they are missing.
        """
        for _ in range(3 * UNITS // PORTION):
            self.assertEqual(self.share.take(), PORTION)
            self.share.done(PORTION)
        self.assertEqual(self.share.take(), PORTION)
        self.share.done(PORTION - UNITS)
        self.assertEqual(self.share.take(), 0)

    def test_gone(self) -> None:
        """
        Who waits, and then needs nothing, holds up nobody.
        """
        self.work("a", UNITS)
        self.share.wait(lambda: None)
        self.work("b", 5)
        self.assertEqual(self.turn(), {"b": 5})
