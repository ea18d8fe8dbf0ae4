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
        """Everybody has an address, and nobody answers."""
        self.clock = start_clock()
        self.gossip = FakeGossip()
        self.book = Book()
        self.book.known = {peer: (address(number),) for number, peer in enumerate(IDS)}
        self.times: list[float] = []
        self.gossip.on_join = lambda _: self.times.append(round(self.clock.seconds() - START, 3))
        self.dials = self.make()

    def make(self, finds_peers: bool = False) -> Dials:
        """One that waits 0.1 s from one member to the next."""
        dials = Dials(self.clock, Random(1), self.gossip, self.book, 0.1, finds_peers)
        self.addCleanup(self.stopped, dials)
        return dials

    def stopped(self, dials: Dials) -> None:
        """It can be stopped at any time, and leaves nothing behind."""
        dials.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        advance(self.clock, seconds)

    def joined(self) -> list[bytes]:
        """Everybody who was joined, in order."""
        return [peer for (peer,) in self.gossip.joins]

    def slow(self, number: int) -> Deferred[tuple[Address, ...]]:
        """The look-up of a member's addresses, which the test ends."""
        looking_up: Deferred[tuple[Address, ...]] = Deferred()
        self.book.slow[IDS[number]] = looking_up
        return looking_up

    def test_some_at_once(self) -> None:
        """Four are joined at once, the others one by one, with the interval from one to the next."""
        self.assertEqual(BURST, 4)
        self.dials.add(IDS[1:8])
        self.assertEqual(self.times, [0.0] * 4)
        self.advance(10)
        self.assertEqual(self.times, [0.0] * 4 + [0.1, 0.2, 0.3])
        self.assertEqual(sorted(self.joined()), sorted(IDS[1:8]))

    def test_budget_of_several_rounds(self) -> None:
        """
        How many are joined at once does not begin anew with a round, or with
        each call: it comes back with time, one each interval, up to four.
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
        """One that never becomes a neighbour delays no other."""
        self.dials.add(IDS[1:2])
        self.dials.add(IDS[2:3])
        self.assertEqual((self.joined(), self.times), (IDS[1:3], [0.0, 0.0]))

    def test_publishers_before_hearsay(self) -> None:
        """
        Publishers go before those known from hearsay, also before those that
        have waited for longer; the order of each is random.
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
        """A member is joined once a round, whether it is known as publisher or from hearsay."""
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
        When a round begins while members of the one before still wait, nobody
        is joined again before they have had their turn: else those that are
        found with each read would keep out the others for ever.
        """
        self.dials.add(IDS[1:11], IDS[11:13])
        for _ in range(10):
            self.advance(0.05)
            self.dials.next_round()
            self.dials.add(IDS[1:11], IDS[11:13])
        self.advance(0.3)
        self.assertEqual(sorted(self.joined()), sorted(IDS[1:13]))

    def test_made_up_members(self) -> None:
        """However many are made up, only so many wait, and they are joined one by one."""
        dials = self.make(finds_peers=True)
        for number in range(10):
            dials.add(bytes((number, other)) * 16 for other in range(100))
        self.advance(1000)
        self.assertEqual(len(self.joined()), BURST + MAX_WAITING)
        self.assertEqual(self.times[4:7], [0.1, 0.2, 0.3])

    def test_joined_meanwhile(self) -> None:
        """With a neighbour nobody is joined any more."""
        self.dials.add(IDS[1:8])
        self.gossip.up(IDS[20])
        self.advance(10)
        self.assertEqual(len(self.joined()), 4)
        self.dials.add(IDS[21:23])
        self.assertEqual(len(self.joined()), 4)

    def test_joined_at_once(self) -> None:
        """One that becomes a neighbour while it is joined is the last."""
        self.gossip.on_join = lambda peers: self.gossip.up(peers[0])
        self.dials.add(IDS[1:4])
        self.assertEqual(len(self.joined()), 1)

    def test_stop(self) -> None:
        """After the end nobody is joined: not whoever waits, nor whose address is being looked up."""
        looking_up = self.slow(1)
        self.dials.add(IDS[1:2])
        self.dials.add(IDS[2:10])
        self.dials.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.advance(10)
        self.assertEqual(len(self.joined()), 4)
        self.assertTrue(looking_up.called)

    def test_topic_left(self) -> None:
        """Once the topic was left nobody is joined, and nothing breaks, though others wait."""
        self.dials.add(IDS[1:8])
        self.gossip.leave()
        self.advance(10)
        self.dials.add(IDS[10:12])
        self.assertEqual(len(self.joined()), 4)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_left_while_joining(self) -> None:
        """Whoever is told of a join may leave the topic."""
        self.gossip.on_join = lambda _: self.gossip.leave()
        self.dials.add(IDS[1:4])
        self.assertEqual(len(self.joined()), 1)

    def test_back_off(self) -> None:
        """Those that can't be dialled now take no place and no time."""
        self.book.backing_off = set(IDS[1:7])
        self.dials.add(IDS[1:11])
        self.assertEqual((set(self.joined()), self.times), (set(IDS[7:11]), [0.0] * 4))
        self.advance(10)
        self.assertEqual(len(self.joined()), 4)

    def test_nobody_can_be_dialled(self) -> None:
        """Then nothing has begun."""
        self.book.backing_off = set(IDS[1:7])
        self.dials.add(IDS[1:7])
        self.assertFalse(self.dials.began)

    def test_look_up(self) -> None:
        """
        One whose address has to be looked up takes no place, is joined when it
        is found, and is looked up once at a time.
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
        """One that is nowhere is not joined, and looked up again in the next round."""
        looking_up = self.slow(1)
        self.dials.add(IDS[1:2])
        looking_up.callback(())
        self.assertEqual((self.joined(), self.dials.began), ([], False))
        del self.book.slow[IDS[1]]
        self.dials.next_round()
        self.dials.add(IDS[1:2])
        self.assertEqual(self.joined(), [IDS[1]])

    def test_look_up_ends_late(self) -> None:
        """With a neighbour, or with the topic left, one that was looked up is not joined."""
        looking_up = [self.slow(number) for number in (1, 2)]
        self.dials.add(IDS[1:3])
        self.gossip.up(IDS[20])
        looking_up[0].callback((address(1),))
        self.gossip.down(IDS[20])
        self.gossip.leave()
        looking_up[1].callback((address(2),))
        self.assertEqual(self.joined(), [])

    def test_finds_peers(self) -> None:
        """Where members can be dialled without an address none is looked up; the budget is the same."""
        self.book.known.clear()
        self.make(finds_peers=True).add(IDS[1:7])
        self.assertEqual((self.book.asked, self.times), ([], [0.0] * 4))
        self.advance(1)
        self.assertEqual(self.times[4:], [0.1, 0.2])
