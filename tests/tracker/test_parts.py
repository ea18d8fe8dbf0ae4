"""
Tests for L{dtt.tracker.parts}.
"""

from __future__ import annotations

from random import Random

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from dtt.discovery.candidates import FoundRecord
from dtt.interfaces import PeerId
from dtt.testing.fake_gossip import FakeGossip
from dtt.testing.net.clock import advance
from dtt.tracker.parts import LEFT_ALONE, SELDOM, SETTLE, SPREAD, PartMerge
from tests.tracker.common import IDS, MINUTE, start_clock


class PartMergeTests(SynchronousTestCase):
    """
    Tests for L{PartMerge}.
    """

    def setUp(self) -> None:
        """A member with a neighbour, which knows its part."""
        self.clock = start_clock()
        self.gossip = FakeGossip()
        self.gossip.up(IDS[1])
        self.gossip.part = {IDS[2], IDS[3]}
        self.gossip.knows = True
        self.parts = self.make()

    def make(self, number: int = 0, seed: int = 1) -> PartMerge:
        """Return the running service of a member."""
        parts = PartMerge(self.clock, Random(seed), self.gossip, IDS[number])
        parts.startService()
        self.addCleanup(parts.stopService)
        return parts

    def found(self, publisher: PeerId, *named: PeerId, minute: int = MINUTE) -> None:
        """A record was read."""
        self.parts.record_found(FoundRecord(publisher, minute, named))

    def advance(self, seconds: float = SETTLE) -> None:
        """Advance the clock."""
        advance(self.clock, seconds)

    def test_other_part(self) -> None:
        """
        An unknown publisher is asked for members of its part, and joined if none of them
        is known, by a member with a record in the slot.
        """
        self.parts.published("record_slot")
        self.gossip.parts[IDS[5]] = (IDS[6], IDS[7])
        self.found(IDS[5], IDS[6])
        self.advance(SETTLE - 0.1)
        self.assertEqual(self.gossip.compared, [])
        self.advance(0.1)
        self.assertEqual((self.gossip.compared, self.gossip.joins), ([IDS[5]], [(IDS[5],)]))
        self.assertEqual((self.parts.compared, self.parts.joined), (1, 1))

    def test_same_part(self) -> None:
        """It is not joined if it names a member that we know, in its record or when asked."""
        self.parts.published("record_slot")
        self.gossip.parts[IDS[5]] = (IDS[6], IDS[3])
        self.found(IDS[4], IDS[2])
        self.found(IDS[5], IDS[6])
        self.advance()
        self.assertEqual((self.gossip.compared, self.gossip.joins), ([IDS[5]], []))

    def test_names_us(self) -> None:
        """Who names us is in our part."""
        self.parts.published("record_slot")
        self.gossip.parts[IDS[5]] = (IDS[0],)
        self.found(IDS[5])
        self.advance()
        self.assertEqual((self.gossip.compared, self.gossip.joins), ([IDS[5]], []))

    def test_unreachable(self) -> None:
        """Who does not answer is left alone for a while."""
        self.parts.published("record_slot")
        self.found(IDS[5])
        self.advance()
        self.assertEqual((self.gossip.compared, self.gossip.joins), ([IDS[5]], []))
        self.advance(60)
        self.parts.published("record_slot")
        self.found(IDS[5], minute=MINUTE + 1)
        self.advance()
        self.assertEqual(self.gossip.compared, [IDS[5]])
        self.advance(LEFT_ALONE)
        self.parts.published("record_slot")
        self.found(IDS[5], minute=MINUTE + 3)
        self.advance()
        self.assertEqual(self.gossip.compared, [IDS[5]] * 2)

    def test_one_acts(self) -> None:
        """
        Of the members of a part that have a record in the slot, exactly one looks at an
        unknown publisher; which one differs from minute to minute.
        """
        actors = []
        for step in range(12):
            minute = int(self.clock.seconds() // 60)
            self.gossip.part = {IDS[number] for number in range(4)}
            self.gossip.compared.clear()
            acted = []
            for number in range(4):
                self.parts = self.make(number, step)
                self.parts.published("record_slot")
                for other in range(4):
                    if other != number:
                        self.found(IDS[other], minute=minute)
                self.found(IDS[10], minute=minute)
                before = len(self.gossip.compared)
                self.advance()
                if len(self.gossip.compared) > before:
                    acted.append(number)
            self.assertEqual(len(acted), 1, f"{minute}: {acted}")
            actors += acted
            self.advance(60)
        self.assertGreater(len(set(actors)), 1)

    def test_one_a_minute(self) -> None:
        """Of all unknown publishers, one is looked at in a minute."""
        self.parts.published("record_slot")
        for number in range(5, 12):
            self.found(IDS[number])
            self.advance(1)
        self.assertEqual(len(self.gossip.compared), 1)

    def test_without_own_record(self) -> None:
        """
        If another member of our part has a record, a member without one does nothing; if
        none has, it acts within a minute, unless the publisher is known by then.
        """
        self.found(IDS[2])
        self.found(IDS[5])
        self.advance(SETTLE + SPREAD)
        self.assertEqual(self.gossip.compared, [])
        for known in (False, True):
            self.parts = self.make()
            minute = int(self.clock.seconds() // 60)
            self.gossip.compared.clear()
            self.found(IDS[6], minute=minute)
            self.advance(SETTLE)
            if known:
                self.gossip.part.add(IDS[6])
            self.advance(SPREAD)
            self.assertEqual(self.gossip.compared, [] if known else [IDS[6]])

    def test_large_part(self) -> None:
        """Where nobody knows most of the part, few of those without a record act."""
        self.gossip.knows = False
        count = 0
        for seed in range(2 * SELDOM):
            self.parts = PartMerge(self.clock, Random(seed), self.gossip, IDS[0])
            self.parts.startService()
            self.found(IDS[5])
            self.parts.look()
            self.parts.stopService()
            count += self.parts.compared
        self.assertTrue(0 < count < 10, count)

    def test_early_look(self) -> None:
        """Soon after joining the decision is made at once, and again."""
        self.parts.published("record_slot")
        self.found(IDS[5])
        self.parts.look()
        self.assertEqual(self.gossip.compared, [IDS[5]])
        self.found(IDS[6])
        self.parts.look()
        self.assertEqual(self.gossip.compared, [IDS[5], IDS[6]])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_alone(self) -> None:
        """A member without neighbours is in no part."""
        self.parts.published("record_slot")
        self.gossip.down(IDS[1])
        self.found(IDS[5])
        self.advance()
        self.assertEqual(self.gossip.compared, [])

    def test_old_records(self) -> None:
        """Records of earlier minutes say nothing about now; nor does our own."""
        self.parts.published("record_slot")
        self.found(IDS[5], minute=MINUTE - 2)
        self.found(IDS[0])
        self.advance()
        self.assertEqual(self.gossip.compared, [])

    def test_sealed(self) -> None:
        """Records in sealed slots are recent for their whole period and the next one."""
        self.advance(60 * (10 - MINUTE % 10))
        minute = int(self.clock.seconds() // 60)
        self.parts.published("sealed_slot")
        self.advance(8 * 60)
        self.parts.record_found(FoundRecord(IDS[5], minute - 11, channel="sealed_slot"))
        self.advance()
        self.assertEqual(self.gossip.compared, [])
        self.parts.record_found(FoundRecord(IDS[5], minute - 1, channel="sealed_slot"))
        self.advance()
        self.assertEqual(self.gossip.compared, [IDS[5]])

    def test_stop(self) -> None:
        """Stopping ends what waits."""
        self.parts.published("record_slot")
        waiting: Deferred[tuple[PeerId, ...] | None] = Deferred()
        self.patch(self.gossip, "compare", lambda peer: waiting)
        self.found(IDS[5])
        self.advance()
        self.assertFalse(waiting.called)
        self.parts.stopService()
        self.assertTrue(waiting.called)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.found(IDS[6])
        self.assertEqual(self.clock.getDelayedCalls(), [])
