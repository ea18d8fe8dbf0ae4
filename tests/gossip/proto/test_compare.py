"""
Tests for comparisons with other parts of the swarm in L{dtt.gossip.proto.hyparview}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dtt.gossip.proto.events import ComparePeer, DisconnectPeer, PeerCompared, PeerDisconnected
from dtt.gossip.proto.hyparview import MAX_COMPARED, MAX_COMPARING
from dtt.gossip.proto.messages import ForwardJoin, PeerInfo, Shuffle, ShuffleReply
from tests.gossip.proto.test_hyparview import INVALID, ME, A, B, C, D, E, F, Machine, X, peer, sent


def ids(message: object) -> list[bytes]:
    """Return whom a message names."""
    assert isinstance(message, Shuffle | ShuffleReply)
    return [node.peer_id for node in message.nodes]


class CompareTests(SynchronousTestCase):
    """
    What two members ask and tell each other of their parts.
    """

    def test_question(self) -> None:
        """
        The question is a Shuffle with ttl 0, which names members of our part: neighbours
        and those heard of, but none that is only in the passive view.
        """
        machine = Machine(active=(A, B), passive=(C,))
        machine.hear(A, Shuffle(D, (), 3))
        machine.hear(B, ForwardJoin(PeerInfo(E), 3))
        ((to, question),) = sent(machine.view.handle(ComparePeer(X), 1.0))
        assert isinstance(question, Shuffle)
        self.assertEqual((to, question.origin, question.ttl), (X, ME, 0))
        self.assertEqual(set(ids(question)), {A, B, D, E, ME})

    def test_answer(self) -> None:
        """A stranger gets the same answer; what it has named is not stored."""
        machine = Machine(active=(A, B), passive=(C,))
        out = machine.hear(X, Shuffle(X, (PeerInfo(F), PeerInfo(X)), 0))
        ((to, answer),) = sent(out)
        self.assertEqual((to, set(ids(answer))), (X, {A, B}))
        self.assertIn(DisconnectPeer(X), out)
        self.assertEqual(set(machine.view.views.passive), {C})
        self.assertFalse(machine.view.acquaintances.has(X, 0.0))

    def test_answers_are_limited(self) -> None:
        """A stranger gets a few answers, and none is larger than a Shuffle."""
        machine = Machine(active=(A,))
        for number in range(100, 140):
            machine.hear(A, ForwardJoin(PeerInfo(peer(number)), 3))
        answers = [sent(machine.hear(X, Shuffle(X, (), 0)), ShuffleReply) for _ in range(20)]
        self.assertEqual([len(each) for each in answers], [1] * 4 + [0] * 16)
        self.assertEqual(len(ids(answers[0][0][1])), MAX_COMPARED)

    def test_compared(self) -> None:
        """The answer is an output, and changes nothing else; a second one is ignored."""
        machine = Machine(active=(A,))
        machine.view.handle(ComparePeer(X), 0.0)
        answer = ShuffleReply((PeerInfo(B), PeerInfo(INVALID), PeerInfo(C)))
        out = machine.hear(X, answer)
        self.assertEqual(out, [PeerCompared(X, (B, C)), DisconnectPeer(X)])
        self.assertEqual(machine.hear(X, answer), [DisconnectPeer(X)])
        self.assertEqual(set(machine.view.views.passive), set())

    def test_not_asked(self) -> None:
        """Neighbours, ourselves and invalid ids are not asked."""
        machine = Machine(active=(A,))
        for each in (A, ME, INVALID):
            self.assertEqual(machine.view.handle(ComparePeer(each), 0.0), [])

    def test_failed(self) -> None:
        """After a failed dial no answer is awaited; the number of questions is limited."""
        machine = Machine(active=(A,))
        machine.view.handle(ComparePeer(X), 0.0)
        machine.view.handle(PeerDisconnected(X), 0.0)
        self.assertEqual(machine.hear(X, ShuffleReply((PeerInfo(B),))), [DisconnectPeer(X)])
        for number in range(100, 100 + MAX_COMPARING + 3):
            machine.view.handle(ComparePeer(peer(number)), 0.0)
        self.assertEqual(len(machine.view._comparing), MAX_COMPARING)

    def test_strangers_prove_nothing(self) -> None:
        """What strangers say, and who they are, proves nothing about our part."""
        machine = Machine(active=(A, B))
        machine.hear(X, Shuffle(C, (), 3))
        machine.hear(X, ForwardJoin(PeerInfo(D), 3))
        self.assertEqual([machine.view.acquaintances.has(each, 0.0) for each in (X, C, D)], [False] * 3)
        self.assertTrue(machine.view.acquaintances.has(A, 0.0))

    def test_last_neighbor(self) -> None:
        """Without a neighbour there is no part."""
        machine = Machine(active=(A,))
        machine.hear(A, Shuffle(D, (), 3))
        machine.view.handle(PeerDisconnected(A), 0.0)
        self.assertFalse(machine.view.acquaintances.has(D, 0.0))
