"""
Tests for L{dtt.discovery.shared}.
"""

from __future__ import annotations

from typing import Any, cast

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from dtt.testing.fake_dht import FakeDHT
from tests.tracker.common import IDS, START, Member, start_clock


class SharedServicesTests(SynchronousTestCase):
    """
    Tests for L{SharedServices<dtt.discovery.shared.SharedServices>}.
    """

    def setUp(self) -> None:
        """The services of a member."""
        self.clock = start_clock()
        self.shared = Member(self.clock, FakeDHT(self.clock)).shared

    def test_estimated_time(self) -> None:
        """The time of most members is ours, plus what they are ahead now."""
        ahead = 0.0
        shared = evolve(self.shared, ahead=lambda: ahead)
        self.assertEqual(shared.estimated_time(), START)
        ahead = -90.0
        self.clock.advance(1)
        self.assertEqual(shared.estimated_time(), START - 89)

    def test_for_gossip(self) -> None:
        """All topics share the budget and the dials, so that these are limited together."""
        transport = cast(Any, object())
        shared = evolve(self.shared, transport=transport)
        one, two = shared.for_gossip(), shared.for_gossip()
        self.assertEqual((one.peer_id, one.transport, one.reactor), (IDS[0], transport, self.clock))
        self.assertIs(one.book, shared.book)
        self.assertIs(one.rng, shared.rng)
        self.assertEqual(one.timeouts, shared.config.timeouts)
        for services in (one, two):
            self.assertIs(services.budget, shared.budget)
            self.assertIs(services.dials, shared.dials)
