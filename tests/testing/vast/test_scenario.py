"""
Tests for L{dtt.testing.vast.scenario} and L{dtt.testing.vast.world}: whole trackers on a
DHT of realistic size.
"""

from __future__ import annotations

from unittest.mock import patch

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from dtt.testing.vast import scenario
from dtt.testing.vast.scenario import Setting, newcomer, pair, recall
from dtt.testing.vast.world import START, World
from tests.sweeps import thorough

#: Shares of silent nodes and of lost datagrams as in the real DHT.
SETTING = Setting(silent=0.35, loss=0.015)


class ScenarioTests(SynchronousTestCase):
    """
    Cold starts and slot reads.
    """

    def test_pair(self) -> None:
        """Two members among four million nodes find each other; repeating a run gives the same datagrams."""
        meeting = pair(SETTING)
        assert meeting.seconds is not None
        self.assertTrue(0.5 < meeting.seconds < 60)
        self.assertTrue(all(100 < count < 5000 for count in meeting.datagrams))
        self.assertEqual(pair(SETTING), meeting)

    @thorough
    def test_newcomer(self) -> None:
        """A member that has been alone for a while is found."""
        meeting = newcomer(SETTING)
        assert meeting.seconds is not None
        self.assertTrue(0.5 < meeting.seconds < 60)
        self.assertGreater(meeting.datagrams[0], meeting.datagrams[1])

    def test_never(self) -> None:
        """If no node answers, no member joins."""
        with patch.object(scenario, "LIMIT", 5.0):
            meeting = pair(Setting(silent=1.0))
        self.assertIsNone(meeting.seconds)
        self.assertGreater(min(meeting.datagrams), 2)

    def test_recall(self) -> None:
        """A slot read is compared with the nodes that are truly nearest."""
        reads = recall(Setting(bits=20), 3)
        self.assertEqual(recall(Setting(bits=20), 3), reads)
        for read in reads:
            self.assertTrue(0 < read.all <= 1 and 0 < read.inner <= 1 and read.best < 10)
            self.assertTrue(30 < read.queries < 400 and 0.3 < read.seconds < 10)


class WorldTests(SynchronousTestCase):
    """
    Time and machines.
    """

    def test_world(self) -> None:
        """A run begins within its minute, on machines that are not part of the DHT."""
        world = World(Setting(seed=3), 4)
        self.assertTrue(START <= world.clock.seconds() < START + 60)
        self.assertFalse(world.dht.has(world.host()))
        self.assertNotEqual(world.clock.seconds(), World(Setting(seed=3), 5).clock.seconds())
        self.assertNotEqual(world.dht.contact(1), World(Setting(seed=4), 4).dht.contact(1))

    def test_until(self) -> None:
        """The time advances until a Deferred has fired, or up to a limit."""
        world = World(Setting())
        began = world.clock.seconds()
        done: Deferred[None] = Deferred()
        world.until(done, 1.0)
        self.assertApproximates(world.clock.seconds() - began, 1.0, 0.06)
        world.clock.callLater(0.5, done.callback, None)
        world.until(done, 10.0)
        self.assertApproximates(world.clock.seconds() - began, 1.5, 0.11)
