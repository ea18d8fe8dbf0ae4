"""
Tests for L{dtt.tracker.network_watch}.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dtt.tracker.network_watch import INTERVAL, LATE, PAUSE, Change, NetworkWatch


class NetworkWatchTests(SynchronousTestCase):
    """
    Tests for L{NetworkWatch}.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.addresses: tuple[str, ...] = ("192.168.1.2",)
        self.changes: list[Change] = []
        self.watch = NetworkWatch(self.clock, lambda: self.addresses, self.changes.append)
        self.watch.start()

    def wait(self, seconds: float) -> None:
        """Let time pass in small steps."""
        for _ in range(round(seconds * 2)):
            self.clock.advance(0.5)

    def test_nothing(self) -> None:
        """Nothing is reported while nothing changes."""
        self.wait(300)
        self.assertEqual(self.changes, [])

    def test_address(self) -> None:
        """Another address is reported once."""
        self.addresses = ("192.168.1.2", "2a00::1")
        self.wait(INTERVAL)
        self.assertEqual(self.changes, [Change.ADDRESSES])
        self.addresses = ("2a00::1", "192.168.1.2")
        self.wait(60)
        self.assertEqual(self.changes, [Change.ADDRESSES])

    def test_away(self) -> None:
        """While there is no network nothing is reported, but its return is, also with the same address."""
        self.addresses = ()
        self.wait(60)
        self.assertEqual(self.changes, [])
        self.addresses = ("192.168.1.2",)
        self.wait(INTERVAL)
        self.assertEqual(self.changes, [Change.ADDRESSES])

    def test_no_network_at_the_start(self) -> None:
        """The first network is reported, too."""
        self.watch.stop()
        self.addresses = ()
        self.watch.start()
        self.wait(10)
        self.addresses = ("10.0.0.1",)
        self.wait(INTERVAL)
        self.assertEqual(self.changes, [Change.ADDRESSES])

    def test_sleep(self) -> None:
        """A sleep is reported, a short delay is not."""
        self.clock.advance(INTERVAL + LATE - 1)
        self.assertEqual(self.changes, [])
        self.clock.advance(3600)
        self.assertEqual(self.changes, [Change.SLEPT])
        self.wait(60)
        self.assertEqual(self.changes, [Change.SLEPT])

    def test_slept_and_moved(self) -> None:
        """Both together are one change."""
        self.addresses = ("10.0.0.1",)
        self.clock.advance(3600)
        self.assertEqual(self.changes, [Change.ADDRESSES])

    def test_clock_set_back(self) -> None:
        """A clock that was set back does not count as sleep."""
        self.clock.rightNow -= 3600
        self.wait(3700)
        self.assertEqual(self.changes, [])

    def test_seen_before_the_look(self) -> None:
        """If others notice first that the machine has other addresses, that is reported, and only once."""
        self.wait(10)
        self.addresses = ("10.0.0.9",)
        self.watch.mapping_changed()
        self.clock.advance(0)
        self.assertEqual(self.changes, [Change.ADDRESSES])
        self.wait(60)
        self.assertEqual(self.changes, [Change.ADDRESSES])

    def test_mapping(self) -> None:
        """Votes on another mapping count at once, then once in a while."""
        for _ in range(20):
            self.watch.mapping_changed()
            self.clock.advance(0.5)
        self.assertEqual(self.changes, [Change.MAPPING])
        self.wait(PAUSE)
        self.assertEqual(self.changes, [Change.MAPPING] * 2)
        self.wait(60)
        self.assertEqual(self.changes, [Change.MAPPING] * 2)

    def test_returned(self) -> None:
        """A network that has returned counts at once, then once in a while."""
        for _ in range(20):
            self.watch.returned()
            self.clock.advance(0.5)
        self.assertEqual(self.changes, [Change.RETURNED])
        self.wait(PAUSE)
        self.assertEqual(self.changes, [Change.RETURNED] * 2)

    def test_stop(self) -> None:
        """Nothing is left behind."""
        self.watch.mapping_changed()
        self.watch.returned()
        self.watch.stop()
        self.watch.mapping_changed()
        self.watch.returned()
        self.assertEqual(self.clock.getDelayedCalls(), [])
