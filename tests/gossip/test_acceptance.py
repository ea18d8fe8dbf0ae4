"""
Tests for L{dtt.gossip.acceptance}: the application decides who may be a neighbour.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dtt.gossip.acceptance import MAX_REFUSED, REFUSED_FOR, Acceptance, named_in
from dtt.gossip.proto.messages import ForwardJoin, Join, PeerInfo, Shuffle, ShuffleReply
from dtt.interfaces import PeerId
from tests.gossip.test_member import IDS, MembersCase, Peer

A, B, C = IDS[:3]


class DecisionTests(SynchronousTestCase):
    """
    Tests for the decisions alone.
    """

    def setUp(self) -> None:
        """Refuse A."""
        self.clock = Clock()
        self.asked: list[PeerId] = []
        self.counters: Counter[str] = Counter()
        self.acceptance = Acceptance(self.clock, self.decide, self.counters)

    def decide(self, peer: PeerId) -> bool:
        """Accept all but A."""
        self.asked.append(peer)
        return peer != A

    def test_refusal_lasts(self) -> None:
        """A refusal counts for ten minutes, without another question; an acceptance is asked each time."""
        self.acceptance.ask([A, B, A])
        self.assertEqual((self.asked, self.counters["peers_refused"]), ([A, B], 1))
        self.clock.advance(REFUSED_FOR - 1)
        self.acceptance.ask([A, B])
        self.assertEqual(self.asked, [A, B, B])
        self.assertEqual((self.acceptance.is_usable(A), self.acceptance.is_usable(B)), (False, True))
        self.clock.advance(1)
        self.assertTrue(self.acceptance.is_usable(A))
        self.acceptance.ask([A])
        self.assertEqual((self.asked, self.counters["peers_refused"]), ([A, B, B, A], 2))

    def test_failures_refuse(self) -> None:
        """An exception, and anything else than True, is a refusal, and is logged."""

        def fail(peer: PeerId) -> bool:
            raise ZeroDivisionError

        answers: list[Callable[[PeerId], object]] = [fail, lambda peer: None, lambda peer: object()]
        for answer, error in zip(answers, (ZeroDivisionError, TypeError, TypeError), strict=True):
            acceptance = Acceptance(self.clock, answer, self.counters)  # type: ignore[arg-type]
            acceptance.ask([B])
            self.assertTrue(acceptance.is_refused(B))
            self.assertEqual(len(self.flushLoggedErrors(error)), 1)

    def test_bounded(self) -> None:
        """The oldest refusals are forgotten."""
        acceptance = Acceptance(self.clock, lambda peer: False, self.counters)
        peers = [number.to_bytes(32, "big") for number in range(MAX_REFUSED + 1)]
        acceptance.ask(peers)
        self.assertEqual(
            [acceptance.is_refused(peer) for peer in (*peers[:2], peers[-1])], [False, True, True]
        )

    def test_named(self) -> None:
        """All ids that a message names are asked about."""
        nodes = (PeerInfo(A), PeerInfo(B))
        self.assertEqual(named_in(ForwardJoin(PeerInfo(C), 3)), (C,))
        self.assertEqual(named_in(Shuffle(C, nodes, 3)), (C, A, B))
        self.assertEqual(named_in(ShuffleReply(nodes)), (A, B))
        self.assertEqual(named_in(Join()), ())


class MemberTests(MembersCase):
    """
    Members that do not accept all others.
    """

    def refusing(self, *refused: PeerId) -> Peer:
        """Add a member that refuses some peers."""
        peer = self.peer(start=False)
        peer.member.accept_only(lambda other: other not in refused)
        peer.member.start()
        return peer

    def meet(self, one: Peer, other: Peer) -> None:
        """Let C{one} join C{other}."""
        one.book.learn(other.peer_id, other.transport.addresses(), "record")
        one.member.join([other.peer_id])
        self.advance(2)

    def test_inbound(self) -> None:
        """A refused peer that dials us does not become a neighbour, and loses us."""
        a, b = self.refusing(B), self.peer()
        self.meet(b, a)
        self.assertEqual((a.member.neighbors(), a.recorder.ups, b.member.neighbors()), ((), [], ()))
        self.assertEqual(a.member.drops()["peers_refused"], 1)
        self.advance(2)
        self.assertEqual((a.transport.is_connected(B), b.transport.is_connected(A)), (False, False))

    def test_outbound(self) -> None:
        """We don't dial a refused peer until ten minutes have passed, even if others name it."""
        asked: list[PeerId] = []
        a, b, c = self.peer(start=False), self.peer(), self.peer()
        refused = {B}

        def accept(peer: PeerId) -> bool:
            asked.append(peer)
            return peer not in refused

        a.member.accept_only(accept)
        a.member.start()
        self.meet(a, b)
        self.assertEqual((a.member.neighbors(), a.events, asked), ((), [], [B]))
        self.meet(c, b)
        self.meet(a, c)
        self.advance(150)  # with Shuffles
        self.assertEqual((a.member.neighbors(), a.member.known_peers(), a.recorder.ups), ((C,), 0, [C]))
        self.assertEqual(asked.count(B), 1)
        refused.clear()
        self.advance(REFUSED_FOR)
        self.meet(a, b)
        self.assertEqual(set(a.member.neighbors()), {B, C})

    def test_messages_arrive_through_others(self) -> None:
        """What a refused member says is still passed on by the others."""
        a, b, c = self.refusing(B), self.peer(), self.peer()
        self.meet(c, b)
        self.meet(a, c)
        b.member.broadcast(b"hello")
        self.advance(1)
        self.assertEqual(
            [(each.content, each.delivered_from) for each in a.recorder.messages], [(b"hello", C)]
        )

    def test_leaving_while_asked(self) -> None:
        """The application may leave the topic when it is asked."""
        a, b = self.peer(start=False), self.peer()

        def accept(peer: PeerId) -> bool:
            a.member.leave()
            return True

        a.member.accept_only(accept)
        a.member.start()
        self.meet(b, a)
        self.assertEqual((a.member.neighbors(), b.member.neighbors()), ((), ()))
        self.assertEqual(self.flushLoggedErrors(), [])
