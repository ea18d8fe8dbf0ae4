"""
Tests for L{dtt.tracker.clock}.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dtt.discovery.skew import HARMLESS
from dtt.events import ClockSkewed, Event
from dtt.tracker.clock import CHANGE, INTERVAL, ONE_AFTER, ClockWatch
from tests.tracker.common import IDS


class ClockWatchTests(SynchronousTestCase):
    """
    Tests for L{ClockWatch}.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1e9)
        self.events: list[Event] = []
        self.watch = ClockWatch(self.clock, self.events.append)

    def hear(self, ahead: float, *numbers: int) -> list[Event]:
        """Hear clocks, and return what is reported."""
        for number in numbers:
            self.watch.heard(IDS[number], self.clock.seconds() + ahead)
        events, self.events[:] = list(self.events), []
        return events

    def test_behind(self) -> None:
        """If two members say so, our clock is behind; the warning says by how much."""
        self.assertEqual(self.hear(600.0, 1), [])
        self.clock.advance(ONE_AFTER - 1)
        self.assertEqual(self.events, [])
        (event,) = self.hear(600.0, 2)
        self.assertEqual(event, ClockSkewed(-600, 2, 0))
        self.assertEqual(self.watch.ahead(), 600.0)
        self.assertIn("10 minutes behind those of 2 members", event.text())

    def test_ahead(self) -> None:
        """The same if it is ahead."""
        (event,) = self.hear(-90.0, 1, 2)
        self.assertEqual(event, ClockSkewed(90, 2, 0))
        self.assertIn("90 s ahead of those", event.text())

    def test_one(self) -> None:
        """
        The difference to the only clock that is known is reported after some time, and changes no estimate:
        either may be wrong.
        """
        self.hear(-10800.0, 1)
        self.clock.advance(ONE_AFTER)
        (event,) = self.events
        self.assertEqual(event, ClockSkewed(10800, 1, 0))
        self.assertIn("3 hours ahead of that of the only member whose clock is known. ", event.text())
        self.assertIn("synchronise the clocks of both machines", event.text())
        self.assertEqual(self.watch.ahead(), 0.0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_one_of_several(self) -> None:
        """If others are heard meanwhile, and after the end, it is not reported."""
        self.hear(600.0, 1)
        self.assertEqual(self.hear(0.1, 2), [])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.watch.clear()
        self.hear(600.0, 1)
        self.watch.clear()
        self.hear(HARMLESS - 1, 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_again(self) -> None:
        """It is said again when it has changed much, and once an hour, with the time since."""
        self.hear(600.0, 1, 2)
        self.assertEqual(self.hear(601.0, 3), [])
        self.clock.advance(120)
        changed = self.hear(600.0 + CHANGE, 1, 2, 3)
        self.assertEqual([type(each) for each in changed], [ClockSkewed])
        self.clock.advance(INTERVAL / 2)
        self.assertEqual(self.hear(600.0 + CHANGE, 1, 2, 3), [])
        self.clock.advance(INTERVAL / 2)
        (event,) = self.hear(600.0 + CHANGE, 4)
        assert isinstance(event, ClockSkewed)
        self.assertEqual(event.since, INTERVAL + 120)
        self.assertIn("for 62 minutes", event.text())

    def test_set_right(self) -> None:
        """A clock that is right again is not mentioned; when it is wrong again, it is new."""
        self.hear(600.0, 1, 2)
        self.assertEqual(self.hear(0.0, 1, 2), [])
        self.clock.advance(60)
        self.assertEqual(self.hear(600.0, 1, 2), [ClockSkewed(-600, 2, 0)])

    def test_clear(self) -> None:
        """After our clock was set, what was known before says nothing; also if it was set back."""
        self.hear(600.0, 1, 2)
        self.watch.clear()
        self.assertEqual(self.watch.ahead(), 0.0)
        self.hear(600.0, 1, 2)
        self.clock.rightNow -= 600
        self.assertEqual(self.watch.ahead(), 0.0)
