"""
Tests for L{dtt.gossip.comparisons}, and for comparisons by L{dtt.gossip.member}.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dtt.errors import TopicLeft
from dtt.gossip.comparisons import TIMEOUT, Comparisons
from tests.gossip.test_member import IDS, MembersCase

PEER, OTHER = b"p" * 32, b"o" * 32


class ComparisonsTests(SynchronousTestCase):
    """
    Tests for L{Comparisons}.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.comparisons = Comparisons(self.clock)

    def test_answered(self) -> None:
        """An answer fires what waits for this peer."""
        one, other = self.comparisons.wait(PEER), self.comparisons.wait(OTHER)
        self.comparisons.answered(PEER, (OTHER,))
        self.comparisons.answered(PEER, ())
        self.assertEqual(self.successResultOf(one), (OTHER,))
        self.assertNoResult(other)
        self.comparisons.failed(OTHER)
        self.assertIsNone(self.successResultOf(other))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_timeout(self) -> None:
        """Without an answer the result is C{None}."""
        waiting = self.comparisons.wait(PEER)
        self.clock.advance(TIMEOUT)
        self.assertIsNone(self.successResultOf(waiting))

    def test_again(self) -> None:
        """A second question takes the place of the first one."""
        one, two = self.comparisons.wait(PEER), self.comparisons.wait(PEER)
        self.assertIsNone(self.successResultOf(one))
        self.clock.advance(TIMEOUT / 2)
        self.comparisons.answered(PEER, ())
        self.assertEqual(self.successResultOf(two), ())

    def test_cancel(self) -> None:
        """Who waits can cancel."""
        waiting = self.comparisons.wait(PEER)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.comparisons.answered(PEER, ())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stop(self) -> None:
        """At the end nobody waits any longer."""
        waiting = self.comparisons.wait(PEER)
        self.comparisons.stop()
        self.assertIsNone(self.successResultOf(waiting))


class MemberTests(MembersCase):
    """
    One member asks another one.
    """

    def test_other_part(self) -> None:
        """A member of another part names its neighbours, and does not become one."""
        one, two = self.joined(2)
        three, four = self.peer(), self.peer()
        three.book.learn(four.peer_id, four.transport.addresses(), "record")
        three.member.join([four.peer_id])
        self.advance(1.0)
        one.book.learn(three.peer_id, three.transport.addresses(), "record")
        asked = one.member.compare(three.peer_id)
        self.advance(1.0)
        self.assertEqual(self.successResultOf(asked), (four.peer_id,))
        self.assertEqual(one.member.neighbors(), (two.peer_id,))
        self.assertFalse(one.member.is_of_our_part(three.peer_id))
        self.assertTrue(one.member.is_of_our_part(two.peer_id))
        self.assertFalse(one.member.knows_most())

    def test_unreachable(self) -> None:
        """A member that can't be reached gives no answer."""
        one, _ = self.joined(2)
        asked = one.member.compare(IDS[5])
        self.advance(1.0)
        self.assertIsNone(self.successResultOf(asked))

    def test_left(self) -> None:
        """After the topic was left nobody is asked."""
        one, _ = self.joined(2)
        asked = one.member.compare(IDS[5])
        one.member.leave()
        self.advance(1.0)
        self.assertIsNone(self.successResultOf(asked))
        self.assertRaises(TopicLeft, one.member.compare, IDS[5])
