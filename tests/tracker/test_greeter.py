"""
Tests for L{dtt.tracker.greeter}.
"""

from __future__ import annotations

from random import Random
from typing import Any, cast

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from dtt.discovery.candidates import FoundRecord
from dtt.testing.fake_gossip import FakeGossip
from dtt.tracker.greeter import INTERVAL, JITTER, MAX_JOINED, Greeter, is_greeter
from tests.tracker.common import IDS, MINUTE, start_clock


class Announcements:
    """
    A channel with prepared finds.

    @ivar looks: how often it has looked.
    """

    def __init__(self) -> None:
        self.looks = 0
        self.found: list[FoundRecord] = []

    def look(self) -> Deferred[list[FoundRecord]]:
        self.looks += 1
        return succeed(self.found)


class TurnTests(SynchronousTestCase):
    """
    Tests for L{is_greeter}.
    """

    def test_one_of_neighbours(self) -> None:
        """In each turn exactly one of members that are all neighbours looks; each has its turn."""
        members = IDS[:6]
        looked: set[bytes] = set()
        for turn in range(100):
            greeters = [
                each for each in members if is_greeter(each, tuple(o for o in members if o != each), turn)
            ]
            self.assertEqual(len(greeters), 1)
            looked.update(greeters)
        self.assertEqual(looked, set(members))


class GreeterTests(SynchronousTestCase):
    """
    Tests for L{Greeter}.
    """

    def setUp(self) -> None:
        """A member with a neighbour, whose turn comes often."""
        self.clock = start_clock()
        self.gossip = FakeGossip()
        self.channel = Announcements()
        self.greeter = Greeter(self.clock, Random(0), self.gossip, cast(Any, self.channel), IDS[0])
        self.greeter.startService()
        self.addCleanup(self.greeter.stopService)

    def turns(self, count: int) -> None:
        """Let time pass."""
        for _ in range(count):
            self.clock.advance(INTERVAL + JITTER)

    def test_not_alone(self) -> None:
        """Without a neighbour it does nothing: the fetcher looks."""
        self.turns(10)
        self.assertEqual(self.channel.looks, 0)

    def test_looks(self) -> None:
        """With neighbours it looks sometimes."""
        for peer in IDS[1:4]:
            self.gossip.up(peer)
        self.turns(40)
        self.assertTrue(2 <= self.channel.looks <= 25, self.channel.looks)

    def test_every_turn(self) -> None:
        """Of two neighbours, one looks in each turn."""
        other = FakeGossip()
        greeter = Greeter(self.clock, Random(1), other, cast(Any, self.channel), IDS[1])
        greeter.startService()
        self.addCleanup(greeter.stopService)
        self.gossip.up(IDS[1])
        other.up(IDS[0])
        self.clock.advance(INTERVAL - self.clock.seconds() % INTERVAL - 0.5)
        before = self.channel.looks
        for turn in range(1, 30):
            for _ in range(int(INTERVAL)):
                self.clock.advance(1.0)
            self.assertEqual(self.channel.looks - before, turn)

    def test_joins(self) -> None:
        """It joins a few members that have no neighbour and are not neighbours."""
        self.gossip.up(IDS[1])
        self.channel.found = [
            FoundRecord(IDS[1], MINUTE),
            FoundRecord(IDS[2], MINUTE, (IDS[3],)),
            *(FoundRecord(each, MINUTE) for each in IDS[4:9]),
        ]
        while not self.channel.looks:
            self.turns(1)
        self.assertEqual(self.gossip.joins, [tuple(IDS[4 : 4 + MAX_JOINED])])
