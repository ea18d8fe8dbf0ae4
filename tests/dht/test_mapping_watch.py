"""
Tests for L{dtt.dht.mapping_watch}.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dtt.dht.mapping_watch import DOUBT_PAUSE, DOUBT_PINGS, PING_INTERVAL, MappingWatch
from dtt.interfaces import Contact


class MappingWatchTests(SynchronousTestCase):
    """
    Tests for L{MappingWatch}.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.nodes = [Contact(bytes(20), f"45.{number // 2}.0.{number}", 6881) for number in range(20)]
        self.pinged: list[Contact] = []
        self.watch = MappingWatch(self.clock, lambda: self.nodes, self.pinged.append)
        self.watch.start()

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.pump([0.5] * round(2 * seconds))

    def test_without_nat(self) -> None:
        """Without a NAT nothing is sent."""
        self.wait(600)
        self.watch.doubted()
        self.assertEqual(self.pinged, [])

    def test_nat(self) -> None:
        """Behind a NAT one node is pinged at a time, each time another one."""
        self.watch.enabled = True
        self.wait(20 * PING_INTERVAL)
        self.assertEqual(len(self.pinged), 20)
        self.assertEqual(len(set(self.pinged)), 20)

    def test_other_traffic(self) -> None:
        """Nothing is sent while other responses say what the mapping is."""
        self.watch.enabled = True
        for _ in range(100):
            self.watch.confirmed()
            self.wait(1)
        self.assertEqual(self.pinged, [])

    def test_doubt(self) -> None:
        """When one node names another mapping some are asked, of different networks, not too often."""
        self.watch.enabled = True
        for _ in range(100):
            self.watch.doubted()
        self.assertEqual(len({node.host.rpartition(".")[0] for node in self.pinged}), DOUBT_PINGS)
        self.assertEqual(len(self.pinged), DOUBT_PINGS)
        self.wait(DOUBT_PAUSE)
        self.pinged.clear()
        self.watch.doubted()
        self.assertEqual(len(self.pinged), DOUBT_PINGS)

    def test_empty(self) -> None:
        """Without nodes nothing happens."""
        self.watch.enabled = True
        self.nodes = []
        self.watch.doubted()
        self.wait(60)
        self.watch.stop()
        self.watch.doubted()
        self.assertEqual((self.pinged, self.clock.getDelayedCalls()), ([], []))
