"""
Tests for L{dtt.tracker.dials}.
"""

from __future__ import annotations

from random import Random

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from dtt.testing.fake_gossip import FakeGossip
from dtt.testing.net.clock import advance
from dtt.tracker.dials import BURST, MAX_WAITING, Dials
from dtt.wire.addresses import Address
from tests.tracker.common import IDS, START, Book, address, start_clock


class DialsTests(SynchronousTestCase):
    """
    Tests for L{Dials}.
    """

    def setUp(self) -> None:
        """Give every member an address; no member answers."""
        self.clock = start_clock()
        self.gossip = FakeGossip()
        self.book = Book()
        self.book.known = {peer: (address(number),) for number, peer in enumerate(IDS)}
        self.times: list[float] = []
        self.gossip.on_join = lambda _: self.times.append(round(self.clock.seconds() - START, 3))
        self.dials = self.make()

    def make(self, finds_peers: bool = False) -> Dials:
        """Make a L{Dials} with an interval of 0.1 s."""
        dials = Dials(self.clock, Random(1), self.gossip, self.book, 0.1, finds_peers)
        self.addCleanup(self.stopped, dials)
        return dials

    def stopped(self, dials: Dials) -> None:
        """Check that it can be stopped at any time, and leaves nothing behind."""
        dials.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def advance(self, seconds: float) -> None:
        """Advance the clock."""
        advance(self.clock, seconds)

    def joined(self) -> list[bytes]:
        """Return all members that were joined, in order."""
        return [peer for (peer,) in self.gossip.joins]

    def slow(self, number: int) -> Deferred[tuple[Address, ...]]:
        """Return the lookup of a member's addresses, which the test completes."""
        looking_up: Deferred[tuple[Address, ...]] = Deferred()
        self.book.slow[IDS[number]] = looking_up
        return looking_up

    def test_some_at_once(self) -> None:
        """Four members are joined concurrently, further ones one at a time at the interval."""
        self.assertEqual(BURST, 4)
        self.dials.add(IDS[1:8])
        self.assertEqual(self.times, [0.0] * 4)
        self.advance(10)
        self.assertEqual(self.times, [0.0] * 4 + [0.1, 0.2, 0.3])
        self.assertEqual(sorted(self.joined()), sorted(IDS[1:8]))

    def test_budget_of_several_rounds(self) -> None:
        """
        Neither a new round nor another call resets the budget; it refills by one member per
        interval, up to four.
        """
        self.dials.add(IDS[1:4])
        self.dials.next_round()
        self.dials.add(IDS[1:4])
        self.assertEqual(self.times, [0.0] * 4)
        self.advance(1)
        self.assertEqual(self.times, [0.0] * 4 + [0.1, 0.2])
        self.dials.add(IDS[10:20])
        self.assertEqual(self.times[6:], [1.0] * 4)

    def test_liar_first(self) -> None:
        """A member that never becomes a neighbour delays no other."""
        self.dials.add(IDS[1:2])
        self.dials.add(IDS[2:3])
        self.assertEqual((self.joined(), self.times), (IDS[1:3], [0.0, 0.0]))

    def test_publishers_before_hearsay(self) -> None:
        """
        Publishers are joined before members from hearsay, even if those have waited longer;
        each group is in random order.
        """
        self.dials.add((), IDS[10:18])
        self.dials.add(IDS[1:6])
        self.advance(0.5)
        joined = self.joined()
        self.assertLess(set(joined[:4]), set(IDS[10:18]))
        self.assertEqual(set(joined[4:9]), set(IDS[1:6]))
        self.advance(1)
        self.assertEqual(set(self.joined()[9:]), set(IDS[10:18]) - set(joined[:4]))
        self.assertNotEqual(joined[4:9], IDS[1:6])

    def test_once_a_round(self) -> None:
        """A member is joined once per round, whether it is known as a publisher or from hearsay."""
        self.dials.add(IDS[1:3], IDS[2:4])
        self.dials.add(IDS[1:4])
        self.advance(1)
        self.assertEqual(sorted(self.joined()), sorted(IDS[1:4]))
        self.assertTrue(self.dials.began)
        self.dials.next_round()
        self.assertFalse(self.dials.began)
        self.dials.add(IDS[1:3])
        self.assertTrue(self.dials.began)
        self.assertEqual(len(self.joined()), 5)

    def test_round_that_is_not_over(self) -> None:
        """
        If a round begins while members of the previous one still wait, no member is joined
        again before they have been: otherwise the members that every read finds would
        exclude the others for ever.
        """
        self.dials.add(IDS[1:11], IDS[11:13])
        for _ in range(10):
            self.advance(0.05)
            self.dials.next_round()
            self.dials.add(IDS[1:11], IDS[11:13])
        self.advance(0.3)
        self.assertEqual(sorted(self.joined()), sorted(IDS[1:13]))

    def test_made_up_members(self) -> None:
        """
        The number of waiting members is bounded, however many are forged, and they are
        joined one at a time.
        """
        dials = self.make(finds_peers=True)
        for number in range(10):
            dials.add(bytes((number, other)) * 16 for other in range(100))
        self.advance(1000)
        self.assertEqual(len(self.joined()), BURST + MAX_WAITING)
        self.assertEqual(self.times[4:7], [0.1, 0.2, 0.3])

    def test_joined_meanwhile(self) -> None:
        """With a neighbour, no further member is joined."""
        self.dials.add(IDS[1:8])
        self.gossip.up(IDS[20])
        self.advance(10)
        self.assertEqual(len(self.joined()), 4)
        self.dials.add(IDS[21:23])
        self.assertEqual(len(self.joined()), 4)

    def test_joined_at_once(self) -> None:
        """If a member becomes a neighbour while it is joined, no further one is joined."""
        self.gossip.on_join = lambda peers: self.gossip.up(peers[0])
        self.dials.add(IDS[1:4])
        self.assertEqual(len(self.joined()), 1)

    def test_stop(self) -> None:
        """After the stop no member is joined, neither from the queue nor after a lookup."""
        looking_up = self.slow(1)
        self.dials.add(IDS[1:2])
        self.dials.add(IDS[2:10])
        self.dials.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.advance(10)
        self.assertEqual(len(self.joined()), 4)
        self.assertTrue(looking_up.called)

    def test_topic_left(self) -> None:
        """After the topic was left no member is joined, and nothing fails although others wait."""
        self.dials.add(IDS[1:8])
        self.gossip.leave()
        self.advance(10)
        self.dials.add(IDS[10:12])
        self.assertEqual(len(self.joined()), 4)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_left_while_joining(self) -> None:
        """The topic may be left during a join."""
        self.gossip.on_join = lambda _: self.gossip.leave()
        self.dials.add(IDS[1:4])
        self.assertEqual(len(self.joined()), 1)

    def test_back_off(self) -> None:
        """Members that can't be dialled now do not count against the limit, and cause no delay."""
        self.book.backing_off = set(IDS[1:7])
        self.dials.add(IDS[1:11])
        self.assertEqual((set(self.joined()), self.times), (set(IDS[7:11]), [0.0] * 4))
        self.advance(10)
        self.assertEqual(len(self.joined()), 4)

    def test_nobody_can_be_dialled(self) -> None:
        """If no member can be dialled, C{began} stays false."""
        self.book.backing_off = set(IDS[1:7])
        self.dials.add(IDS[1:7])
        self.assertFalse(self.dials.began)

    def test_look_up(self) -> None:
        """
        A member whose address must be looked up does not count against the limit, is joined
        when the address is found, and has one lookup at a time.
        """
        looking_up = self.slow(1)
        self.dials.add(IDS[1:2])
        self.dials.add(IDS[2:6])
        self.assertEqual((set(self.joined()), self.times), (set(IDS[2:6]), [0.0] * 4))
        self.dials.next_round()
        self.dials.add(IDS[1:2])
        self.assertEqual(self.book.asked.count(IDS[1]), 1)
        self.advance(1)
        self.assertFalse(self.dials.began)
        looking_up.callback((address(1),))
        self.assertEqual(self.joined()[4:], [IDS[1]])
        self.assertTrue(self.dials.began)

    def test_look_up_in_vain(self) -> None:
        """A member whose address is not found is not joined, and is looked up again in the next round."""
        looking_up = self.slow(1)
        self.dials.add(IDS[1:2])
        looking_up.callback(())
        self.assertEqual((self.joined(), self.dials.began), ([], False))
        del self.book.slow[IDS[1]]
        self.dials.next_round()
        self.dials.add(IDS[1:2])
        self.assertEqual(self.joined(), [IDS[1]])

    def test_look_up_ends_late(self) -> None:
        """If there is a neighbour or the topic was left, a member that was looked up is not joined."""
        looking_up = [self.slow(number) for number in (1, 2)]
        self.dials.add(IDS[1:3])
        self.gossip.up(IDS[20])
        looking_up[0].callback((address(1),))
        self.gossip.down(IDS[20])
        self.gossip.leave()
        looking_up[1].callback((address(2),))
        self.assertEqual(self.joined(), [])

    def test_finds_peers(self) -> None:
        """If members can be dialled without an address, none is looked up; the budget is the same."""
        self.book.known.clear()
        self.make(finds_peers=True).add(IDS[1:7])
        self.assertEqual((self.book.asked, self.times), ([], [0.0] * 4))
        self.advance(1)
        self.assertEqual(self.times[4:], [0.1, 0.2])
