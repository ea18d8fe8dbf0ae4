"""
Tests for L{dtt.gossip.proto.hyparview}: docs/protocol/gossip.md sections 6 and 11.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from dtt.gossip.proto.config import MAX_PEER_DATA, MAX_PENDING, GossipConfig
from dtt.gossip.proto.events import (
    DialStarted,
    DisconnectPeer,
    JoinPeers,
    LimitNeighbors,
    NeighborDown,
    NeighborUp,
    Output,
    PeerConnected,
    PeerDataLearned,
    PeerDisconnected,
    Quit,
    SendMessage,
    UpdateData,
)
from dtt.gossip.proto.hyparview import HyParView
from dtt.gossip.proto.messages import (
    Disconnect,
    ForwardJoin,
    Join,
    Message,
    Neighbor,
    PeerInfo,
    Priority,
    Shuffle,
    ShuffleReply,
    encode,
)

HIGH, LOW = Priority.HIGH, Priority.LOW


def peer(number: int) -> bytes:
    """A peer id."""
    return number.to_bytes(4, "big") * 8


ME = peer(1)
INVALID = b"\xee" * 32
A, B, C, D, E, F, X = (peer(number) for number in range(2, 9))


class Machine:
    """
    A machine with initial neighbours, and short methods for its inputs.
    """

    def __init__(
        self,
        active: Sequence[bytes] = (),
        passive: Sequence[bytes] = (),
        config: GossipConfig | None = None,
        me: bytes = ME,
    ) -> None:
        self.now = 0.0
        self.view = HyParView(me, Random(1), lambda peer: peer != INVALID, b"mine", config)
        for neighbor in active:
            self.hear(neighbor, Neighbor(HIGH))
        for known in passive:
            self.view.views.add_passive(known)

    def hear(self, sender: bytes, message: Message) -> list[Output]:
        """Receive a message."""
        return self.view.receive(sender, message, self.now)

    def wait(self, seconds: float) -> list[Output]:
        """Let time pass."""
        end = self.now + seconds
        out: list[Output] = []
        while (when := self.view.timers.next) is not None and when <= end:
            self.now = when
            out += self.view.handle_timer(when)
        self.now = end
        return out


def sent(outputs: Sequence[Output], kind: type[Message] | None = None) -> list[tuple[bytes, Message]]:
    """Return (peer, message) of each message sent."""
    return [
        (output.peer, output.message)
        for output in outputs
        if isinstance(output, SendMessage) and (kind is None or isinstance(output.message, kind))
    ]


class LimitTests(SynchronousTestCase):
    """
    Fewer neighbours than configured.
    """

    def test_fewer(self) -> None:
        """
        The newest neighbours beyond the limit are disconnected and stay in the passive view; further
        ones are refused or replace one.
        """
        machine = Machine(active=(A, B, C, D))
        out = machine.view.handle(LimitNeighbors(2), 0.0)
        self.assertEqual(
            [output for output in out if isinstance(output, NeighborDown)], [NeighborDown(C), NeighborDown(D)]
        )
        self.assertEqual(sent(out, Disconnect), [(C, Disconnect(True)), (D, Disconnect(True))])
        self.assertEqual((list(machine.view.views.active), set(machine.view.views.passive)), ([A, B], {C, D}))
        self.assertEqual(sent(machine.hear(E, Neighbor(LOW)), Disconnect), [(E, Disconnect(True))])
        machine.hear(F, Neighbor(HIGH))
        self.assertEqual(len(machine.view.views.active), 2)
        self.assertIn(F, machine.view.views.active)

    def test_urgent(self) -> None:
        """
        A limited member with fewer than two neighbours asks with High priority, since
        the others are full without it; an unlimited one does so without any.
        """
        for limit, priority in ((3, HIGH), (5, LOW)):
            machine = Machine(active=(A,), passive=(B,))
            out = machine.view.handle(LimitNeighbors(limit), 0.0)
            self.assertEqual(sent(out, Neighbor), [(B, Neighbor(priority, b"mine"))])

    def test_bounds(self) -> None:
        """
        At least one neighbour is allowed, and never more than configured; a higher
        limit lets the member look for more.
        """
        machine = Machine(active=(A, B), passive=(C, D))
        machine.view.handle(LimitNeighbors(0), 0.0)
        self.assertEqual(list(machine.view.views.active), [A])
        out = machine.view.handle(LimitNeighbors(9), 0.0)
        self.assertEqual(len(sent(out, Neighbor)), 3)


class JoinTests(SynchronousTestCase):
    """
    Joining, and being joined.
    """

    def test_join_command(self) -> None:
        """A Join is sent with our PeerData; no view changes."""
        machine = Machine()
        out = machine.view.handle(JoinPeers((A, B, A)), 0.0)
        self.assertEqual(out, [SendMessage(A, Join(b"mine")), SendMessage(B, Join(b"mine"))])
        self.assertEqual(
            (machine.view.views.active, machine.view.views.passive, machine.view.pending), ({}, {}, {})
        )

    def test_join_leaves_out(self) -> None:
        """The member itself (Q4), invalid ids and neighbours (Q11) get no Join; a pending peer does (Q11)."""
        machine = Machine(active=[A, B])
        machine.hear(A, ForwardJoin(PeerInfo(C), 0))
        self.assertIn(C, machine.view.pending)
        out = machine.view.handle(JoinPeers((ME, INVALID, A, C)), 0.0)
        self.assertEqual(out, [SendMessage(C, Join(b"mine"))])

    def test_joined_by(self) -> None:
        """
        A Join is answered by a High Neighbor, and a ForwardJoin is sent to every other
        neighbour.
        """
        machine = Machine(active=[A, B])
        out = machine.hear(C, Join(b"c"))
        walk = ForwardJoin(PeerInfo(C, b"c"), 6)
        self.assertEqual(
            out,
            [
                PeerDataLearned(C, b"c"),
                NeighborUp(C),
                SendMessage(C, Neighbor(HIGH, b"mine")),
                SendMessage(A, walk),
                SendMessage(B, walk),
            ],
        )
        self.assertIn(C, machine.view.pending)

    def test_joined_when_full(self) -> None:
        """
        At a full node a random neighbour is evicted, notified, and kept as passive;
        then the new one is up.
        """
        machine = Machine(active=[A, B], config=GossipConfig(active_view_capacity=2))
        out = machine.hear(C, Join())
        assert isinstance(out[0], NeighborDown)
        evicted = out[0].peer
        rest = ({A, B} - {evicted}).pop()
        self.assertEqual(
            out[1:],
            [
                SendMessage(evicted, ShuffleReply((PeerInfo(rest),))),
                SendMessage(evicted, Disconnect(True)),
                DisconnectPeer(evicted),
                NeighborUp(C),
                SendMessage(C, Neighbor(HIGH, b"mine")),
                SendMessage(rest, ForwardJoin(PeerInfo(C), 6)),
            ],
        )
        self.assertEqual(list(machine.view.views.passive), [evicted])

    def test_evicted_survives_its_disconnect(self) -> None:
        """
        The end of an evicted peer's connection does not remove it from the passive view;
        a second one does.
        """
        machine = Machine(active=[A], config=GossipConfig(active_view_capacity=1))
        machine.hear(B, Join())
        machine.view.handle(PeerDisconnected(A), 0.0)
        self.assertIn(A, machine.view.views.passive)
        machine.view.handle(PeerDisconnected(A), 0.0)
        self.assertNotIn(A, machine.view.views.passive)


class ForwardJoinTests(SynchronousTestCase):
    """
    The random walk of a Join.
    """

    def test_known_neighbor(self) -> None:
        """Rule 1: the link to an existing neighbour is renewed."""
        out = Machine(active=[A, B, C]).hear(A, ForwardJoin(PeerInfo(B, b"b"), 4))
        self.assertEqual(out, [PeerDataLearned(B, b"b"), SendMessage(B, Neighbor(HIGH, b"mine"))])

    def test_end_of_walk(self) -> None:
        """
        Rule 2: at ttl 0, or with one neighbour, the peer gets a Neighbor request; it is
        in no view until it answers.
        """
        for active, ttl in (([A, B], 0), ([A], 5)):
            machine = Machine(active=active)
            out = machine.hear(A, ForwardJoin(PeerInfo(X, b"x"), ttl))
            self.assertEqual(out, [PeerDataLearned(X, b"x"), SendMessage(X, Neighbor(HIGH, b"mine"))])
            self.assertNotIn(X, {**machine.view.views.active, **machine.view.views.passive})
            out = machine.hear(X, Neighbor(HIGH, b"x"))
            self.assertEqual(out, [NeighborUp(X)])

    def test_passes_on(self) -> None:
        """
        Rule 3: the walk continues to a neighbour other than its sender, with the ttl
        reduced by one.
        """
        out = Machine(active=[A, B]).hear(A, ForwardJoin(PeerInfo(X, b"x"), 5))
        self.assertEqual(out, [SendMessage(B, ForwardJoin(PeerInfo(X, b"x"), 4))])

    def test_enters_passive(self) -> None:
        """At the passive random walk length the peer also enters the passive view."""
        machine = Machine(active=[A, B])
        machine.hear(A, ForwardJoin(PeerInfo(X), 3))
        self.assertEqual(list(machine.view.views.passive), [X])

    def test_ttl_is_clamped(self) -> None:
        """Q9: a ttl beyond the configured length is clamped to it."""
        out = Machine(active=[A, B]).hear(A, ForwardJoin(PeerInfo(X), 0xFFFF))
        self.assertEqual(out, [SendMessage(B, ForwardJoin(PeerInfo(X), 5))])

    def test_unusable(self) -> None:
        """Q4 and addresses.md section 4: the own id and invalid ones are dropped."""
        for joining in (ME, INVALID):
            for ttl in (0, 3, 5):
                machine = Machine(active=[A, B])
                self.assertEqual(machine.hear(A, ForwardJoin(PeerInfo(joining, b"d"), ttl)), [])
                self.assertEqual(machine.view.views.passive, {})

    def test_flood(self) -> None:
        """
        However many peers a neighbour names, requests, views, PeerData and timers stay
        bounded, and it does not keep the member from asking others.
        """
        config = GossipConfig()
        machine = Machine(active=[A])
        for number in range(100, 3000):
            machine.hear(A, ForwardJoin(PeerInfo(peer(number), b"d" * 500), 0))
        self.assertEqual(len(machine.view.pending), 8)
        self.assertEqual(len(machine.view.views.passive), 4)
        self.assertLessEqual(machine.view.views.count_data(), config.max_known_data)
        self.assertLessEqual(len(machine.view.timers), MAX_PENDING + 1)
        machine.view.views.add_passive(B)
        self.assertEqual(len(sent(machine.hear(A, Disconnect(False)), Neighbor)), 1)
        machine.wait(1.0)
        self.assertLessEqual(len(machine.view.pending), config.active_view_capacity)

    def test_pending_is_bounded(self) -> None:
        """The number of requests is bounded, even if many neighbours name peers."""
        machine = Machine(active=[A])
        for number in range(100, 1000):
            machine.hear(peer(number), Neighbor(LOW))
            for other in range(2):
                machine.hear(peer(number), ForwardJoin(PeerInfo(peer(1000 + 2 * number + other)), 0))
        for neighbor in tuple(machine.view.views.active):
            for number in range(5000, 5020):
                machine.hear(neighbor, ForwardJoin(PeerInfo(peer(number)), 0))
        self.assertLessEqual(len(machine.view.pending), MAX_PENDING)

    def test_stranger(self) -> None:
        """Only a neighbour's ForwardJoins and Shuffles are passed on, unless there is no neighbour."""
        machine = Machine(active=[A, B])
        for message in (ForwardJoin(PeerInfo(X), 0), ForwardJoin(PeerInfo(X), 5), Shuffle(X, (), 0)):
            self.assertEqual(machine.hear(C, message), [DisconnectPeer(C)])
        self.assertEqual(len(sent(Machine().hear(C, ForwardJoin(PeerInfo(X), 0)))), 1)

    def test_walks_are_limited(self) -> None:
        """A neighbour's ForwardJoins are passed on up to a rate."""
        machine = Machine(active=[A, B])
        passed = 0
        for second in range(10):
            machine.now = float(second)
            for number in range(100, 300):
                passed += len(sent(machine.hear(A, ForwardJoin(PeerInfo(peer(number)), 5))))
        self.assertEqual(passed, 128 + 4 * 9)


class NeighborTests(SynchronousTestCase):
    """
    Neighbor requests and answers.
    """

    def test_unasked(self) -> None:
        """An unsolicited Neighbor is answered, and the answer is not tracked (Q6)."""
        machine = Machine()
        out = machine.hear(A, Neighbor(LOW, b"a"))
        self.assertEqual(
            out, [PeerDataLearned(A, b"a"), NeighborUp(A), SendMessage(A, Neighbor(LOW, b"mine"))]
        )
        self.assertEqual(machine.view.pending, {})

    def test_low_refused(self) -> None:
        """A Low request at a full node is refused: ShuffleReply, Disconnect(alive), one disconnection."""
        machine = Machine(active=[A], config=GossipConfig(active_view_capacity=1))
        out = machine.hear(B, Neighbor(LOW))
        self.assertEqual(
            out,
            [
                SendMessage(B, ShuffleReply((PeerInfo(A),))),
                SendMessage(B, Disconnect(True)),
                DisconnectPeer(B),
            ],
        )
        self.assertEqual(list(machine.view.views.active), [A])

    def test_late_answers_do_not_loop(self) -> None:
        """
        When both sides mistake the other's late answer for a request, they do not
        answer forever.
        """
        one, other = Machine(), Machine(me=A)
        one.hear(B, ForwardJoin(PeerInfo(A), 0))
        one.wait(0.6)
        on_the_way = sent(other.hear(ME, Neighbor(HIGH)), Neighbor)
        exchanged = 0
        receiver, sender = one, A
        while on_the_way and exchanged < 20:
            exchanged += len(on_the_way)
            receiver.now += 0.6
            on_the_way = sent(receiver.hear(sender, on_the_way[0][1]), Neighbor)
            receiver, sender = (other, ME) if receiver is one else (one, A)
        self.assertEqual(exchanged, 2)
        self.assertEqual((list(one.view.views.active), list(other.view.views.active)), ([A], [ME]))

    def test_neighbor_renews(self) -> None:
        """
        An unsolicited Neighbor from a neighbour is answered, some seconds after the
        last answer.
        """
        machine = Machine(active=[A])
        self.assertEqual(machine.hear(A, Neighbor(HIGH)), [])
        machine.now = 5.0
        self.assertEqual(machine.hear(A, Neighbor(HIGH)), [SendMessage(A, Neighbor(HIGH, b"mine"))])

    def test_timeout(self) -> None:
        """
        A passive peer that does not answer within 500 ms is forgotten and disconnected,
        and the next one gets a request.
        """
        machine = Machine(active=[A], passive=[B, C])
        ((first, _),) = sent(machine.hear(A, ShuffleReply()))
        self.assertEqual(machine.wait(0.499), [])
        second = ({B, C} - {first}).pop()
        self.assertEqual(
            machine.wait(0.001), [DisconnectPeer(first), SendMessage(second, Neighbor(LOW, b"mine"))]
        )
        self.assertEqual(list(machine.view.views.passive), [second])

    def test_timeout_counts_from_connection(self) -> None:
        """The timeout is suspended during a dial; it starts at the connection."""
        machine = Machine(active=[A], passive=[B])
        machine.hear(A, ShuffleReply())
        machine.view.handle(DialStarted(B), machine.now)
        self.assertEqual(machine.wait(30.0), [])
        machine.view.handle(PeerConnected(B), machine.now)
        self.assertEqual(machine.wait(0.49), [])
        self.assertEqual(machine.wait(0.02), [DisconnectPeer(B)])

    def test_dial_without_end(self) -> None:
        """A dial whose end is never reported does not keep the request forever."""
        machine = Machine(active=[A], passive=[B], config=GossipConfig(shuffle_interval=1000))
        machine.hear(A, ShuffleReply())
        machine.view.handle(DialStarted(B), machine.now)
        self.assertEqual(machine.wait(41.0), [DisconnectPeer(B)])

    def test_failed_dial(self) -> None:
        """
        A passive peer that can't be dialled is forgotten and the next one gets a
        request immediately.
        """
        machine = Machine(active=[A], passive=[B, C])
        ((first, _),) = sent(machine.hear(A, ShuffleReply()))
        machine.view.handle(DialStarted(first), machine.now)
        out = machine.view.handle(PeerDisconnected(first), machine.now)
        second = ({B, C} - {first}).pop()
        self.assertEqual(out, [SendMessage(second, Neighbor(LOW, b"mine"))])

    def test_refused_by(self) -> None:
        """A refusal leaves the peer in the passive view, and no pending request."""
        machine = Machine(active=[A], passive=[B])
        machine.hear(A, ShuffleReply())
        self.assertEqual(machine.hear(B, ShuffleReply()), [])
        self.assertEqual(machine.hear(B, Disconnect(True)), [])
        self.assertEqual((machine.view.pending, list(machine.view.views.passive)), ({}, [B]))

    def test_disconnect_clears_pending(self) -> None:
        """Q6: sending a Disconnect ends a pending request."""
        machine = Machine(active=[A], config=GossipConfig(active_view_capacity=1))
        machine.hear(A, ForwardJoin(PeerInfo(A), 0))
        self.assertIn(A, machine.view.pending)
        machine.hear(B, Neighbor(HIGH))
        self.assertEqual(machine.view.pending, {})

    def evicted(self, config: GossipConfig) -> Machine:
        """Return a machine that has answered A, and has evicted it for B."""
        machine = Machine(config=config)
        self.assertEqual(sent(machine.hear(A, Neighbor(HIGH))), [(A, Neighbor(HIGH, b"mine"))])
        self.assertIn((A, Disconnect(True)), sent(machine.hear(B, Neighbor(HIGH))))
        return machine

    def test_answer_to_an_answer(self) -> None:
        """
        A former neighbour that was answered recently evicts no neighbour; some seconds
        later it does.
        """
        machine = self.evicted(GossipConfig(active_view_capacity=1))
        self.assertIn((A, Disconnect(True)), sent(machine.hear(A, Neighbor(HIGH))))
        self.assertEqual(list(machine.view.views.active), [B])
        machine.now = 5.0
        self.assertIn((A, Neighbor(HIGH, b"mine")), sent(machine.hear(A, Neighbor(HIGH))))
        self.assertEqual(list(machine.view.views.active), [A])

    def test_answered_again(self) -> None:
        """If there is room it becomes a neighbour again, and is answered."""
        machine = self.evicted(GossipConfig(active_view_capacity=1))
        machine.hear(B, Disconnect(False))
        machine.wait(0.6)
        self.assertEqual(sent(machine.hear(A, Neighbor(HIGH))), [(A, Neighbor(LOW, b"mine"))])
        self.assertEqual(list(machine.view.views.active), [A])

    def test_answered_bounded(self) -> None:
        """The number of peers whose answer time is kept is bounded."""
        machine = self.evicted(GossipConfig(active_view_capacity=1, max_answered=1))
        self.assertEqual(list(machine.view.views.answered), [B])
        machine.hear(A, Neighbor(HIGH))
        self.assertEqual(list(machine.view.views.active), [A])


class DepartureTests(SynchronousTestCase):
    """
    Neighbours that leave, and leaving.
    """

    def test_left_alive(self) -> None:
        """A neighbour that disconnects alive becomes passive; another peer gets a request."""
        machine = Machine(active=[A, B])
        out = machine.hear(B, Disconnect(True))
        self.assertEqual(out, [NeighborDown(B), DisconnectPeer(B)])
        self.assertEqual(list(machine.view.views.passive), [B])

    def test_left_for_good(self) -> None:
        """
        A neighbour that quits is forgotten; if no neighbour is left the next request is
        High.
        """
        machine = Machine(active=[A], passive=[B])
        out = machine.hear(A, Disconnect(False))
        self.assertEqual(out, [NeighborDown(A), DisconnectPeer(A), SendMessage(B, Neighbor(HIGH, b"mine"))])
        self.assertNotIn(A, machine.view.views.passive)

    def test_lost(self) -> None:
        """A neighbour whose connection breaks is forgotten."""
        machine = Machine(active=[A, B])
        out = machine.view.handle(PeerDisconnected(A), 0.0)
        self.assertEqual(out, [NeighborDown(A), DisconnectPeer(A)])
        self.assertEqual(machine.view.views.passive, {})

    def test_data_is_told_again(self) -> None:
        """
        PeerData of a neighbour that becomes passive is reported again, which renews its
        addresses.
        """
        machine = Machine(active=[A, B])
        machine.hear(B, Neighbor(HIGH, b"b"))
        self.assertIn(PeerDataLearned(B, b"b"), machine.hear(B, Disconnect(True)))

    def test_quit(self) -> None:
        """
        Every neighbour gets ShuffleReply and Disconnect(alive=false); there are no
        events, and no timers remain.
        """
        machine = Machine(active=[A, B], passive=[C])
        out = machine.view.handle(Quit(), 1.0)
        self.assertEqual([output.peer for output in out if isinstance(output, DisconnectPeer)], [A, B])
        self.assertEqual([p for p, _ in sent(out, ShuffleReply)], [A, B])
        self.assertEqual(sent(out, Disconnect), [(A, Disconnect(False)), (B, Disconnect(False))])
        self.assertEqual(len(out), 6)
        self.assertIsNone(machine.view.timers.next)

    def test_strangers_are_let_go(self) -> None:
        """
        After a membership message from a peer that is not a neighbour, its connection
        is not needed.
        """
        self.assertEqual(Machine().hear(A, ShuffleReply()), [DisconnectPeer(A)])
        self.assertEqual(Machine().hear(A, Disconnect(True)), [])


class ShuffleTests(SynchronousTestCase):
    """
    Shuffles.
    """

    def test_sent_each_minute(self) -> None:
        """
        Each minute a Shuffle with 3 active peers, 4 passive peers and ourselves last is
        sent to a neighbour.
        """
        machine = Machine(active=[A, B, C, D, E], passive=[peer(number) for number in range(20, 40)])
        self.assertEqual(machine.wait(59.9), [])
        for _ in range(2):
            ((target, message),) = sent(machine.wait(60.0))
            assert isinstance(message, Shuffle)
            named = [node.peer_id for node in message.nodes]
            self.assertEqual((message.origin, message.ttl, len(named), named[-1]), (ME, 5, 8, ME))
            self.assertEqual(len(set(named) & {A, B, C, D, E}), 3)
            self.assertNotIn(target, named)
            self.assertEqual(message.nodes[-1].data, b"mine")

    def test_alone(self) -> None:
        """Without a neighbour nothing is sent, and the timer continues."""
        machine = Machine()
        machine.view.handle(JoinPeers(()), 0.0)
        self.assertEqual(machine.wait(60.0), [])
        self.assertEqual(machine.view.timers.next, 120.0)

    def test_end_of_walk(self) -> None:
        """
        At its end a Shuffle's nodes are added and its origin gets as many peers,
        passive before active.
        """
        machine = Machine(active=[A, B], passive=[C])
        out = machine.hear(A, Shuffle(X, (PeerInfo(D, b"d"), PeerInfo(X)), 0))
        self.assertEqual(set(machine.view.views.passive), {C, D, X})
        ((target, reply),) = sent(out)
        assert isinstance(reply, ShuffleReply)
        self.assertEqual((target, len(reply.nodes)), (X, 2))
        self.assertIn(PeerDataLearned(D, b"d"), out)

    def test_passes_on(self) -> None:
        """
        A Shuffle is forwarded to a neighbour that is neither sender nor origin, or
        dropped; its ttl is clamped.
        """
        nodes = (PeerInfo(D),)
        machine = Machine(active=[A, B, C])
        self.assertEqual(machine.hear(A, Shuffle(B, nodes, 0xFFFF)), [SendMessage(C, Shuffle(B, nodes, 5))])
        self.assertEqual(Machine(active=[A, B]).hear(A, Shuffle(B, nodes, 3)), [])

    def test_unusable_ids(self) -> None:
        """Invalid ids and the own id are neither stored nor forwarded; a Shuffle from one is dropped."""
        nodes = (PeerInfo(INVALID, b"i"), PeerInfo(ME, b"m"), PeerInfo(D))
        machine = Machine(active=[A, B])
        self.assertEqual(
            machine.hear(A, Shuffle(X, nodes, 3)), [SendMessage(B, Shuffle(X, (PeerInfo(D),), 2))]
        )
        machine.hear(A, ShuffleReply(nodes))
        self.assertEqual(list(machine.view.views.passive), [D])
        for origin in (ME, INVALID):
            self.assertEqual(machine.hear(A, Shuffle(origin, nodes, 0)), [])

    def test_reply_refills(self) -> None:
        """
        The nodes of a ShuffleReply enter the passive view, and one of them gets a Low
        request.
        """
        machine = Machine(active=[A])
        out = machine.hear(A, ShuffleReply((PeerInfo(B, b"b"),)))
        self.assertEqual(out, [PeerDataLearned(B, b"b"), SendMessage(B, Neighbor(LOW, b"mine"))])
        self.assertEqual(list(machine.view.views.passive), [B])

    def asked(self, machine: Machine, refuser: bytes) -> list[bytes]:
        """Refuse a request, and return the peers that are asked then."""
        asked = [peer for peer, _ in sent(machine.hear(refuser, ShuffleReply()), Neighbor)]
        machine.hear(refuser, Disconnect(True))
        return asked

    def ask_around(self, machine: Machine, seconds: float) -> list[bytes]:
        """
        Let C{A} answer one Shuffle a minute, and all peers refuse; return those that were asked.
        """
        everybody = []
        for _ in range(int(seconds / 60)):
            machine.wait(60.0)
            asking = [peer for peer, _ in sent(machine.hear(A, ShuffleReply()), Neighbor)]
            while asking:
                everybody += asking
                machine.wait(0.1)
                asking = self.asked(machine, asking[0])
        return everybody

    def test_last_place(self) -> None:
        """
        A member with one free place, whom all others refuse, asks few of them: each attempt costs three
        messages.
        """
        others = [peer(number) for number in range(100, 130)]
        machine = Machine(active=[A, B, C, D], passive=others)
        asked = self.ask_around(machine, 600.0)
        self.assertLessEqual(len(asked), 4 + 600 / 120 + 1)
        self.assertGreaterEqual(len(asked), 600 / 120)

    def test_refusers(self) -> None:
        """
        A member with enough neighbours does not ask a peer again soon that has refused; one with few does.
        """
        few = Machine(active=[A], passive=[B, C])
        self.assertGreater(len(self.ask_around(few, 120.0)), 4)
        enough = Machine(active=[A, D, E], passive=[B, C])
        self.assertEqual(sorted(self.ask_around(enough, 120.0)), [B, C])
        self.assertEqual(sorted(self.ask_around(enough, 120.0)), [B, C])

    def test_passive_is_bounded(self) -> None:
        """The passive view and the state of its peers are bounded, however many introduce others."""
        machine = Machine(active=[A])
        for number in range(100, 200):
            machine.view.pending[peer(number)] = False
            nodes = tuple(PeerInfo(peer(n), b"d" * 100) for n in range(number * 50, number * 50 + 50))
            machine.hear(peer(number), ShuffleReply(nodes))
            machine.hear(peer(number), Disconnect(True))
        self.assertEqual(len(machine.view.views.passive), 30)
        self.assertLessEqual(machine.view.views.count_data(), 35)

    def test_alive_marks_are_bounded(self) -> None:
        """Only peers in a view are marked as alive."""
        machine = Machine(active=[A, B])
        for number in range(100, 1000):
            machine.hear(A, ShuffleReply((PeerInfo(peer(number)),)))
            machine.hear(peer(number), Disconnect(True))
        self.assertLessEqual(len(machine.view.views.alive), 35)

    def test_messages_fit(self) -> None:
        """Q10: with large PeerData in the views, our messages are still small enough."""
        config = GossipConfig(active_view_capacity=2)
        machine = Machine(active=[A, B], config=config)
        for number in range(100, 130):
            machine.view.views.add_passive(peer(number))
            machine.view.views.learn(peer(number), b"d" * MAX_PEER_DATA)
        out = machine.wait(60.0) + machine.hear(C, Shuffle(X, (PeerInfo(D),) * 30, 0))
        out += machine.hear(A, Shuffle(X, (PeerInfo(D),) * 30, 0))
        out += machine.view.handle(Quit(), machine.now)
        sizes = [len(encode(message)) for _, message in sent(out)]
        self.assertGreater(max(sizes), 2000)
        self.assertLessEqual(max(sizes), GossipConfig().max_sent)


class DataTests(SynchronousTestCase):
    """
    PeerData.
    """

    def test_learned_once(self) -> None:
        """
        PeerData is reported when it differs from what is known; empty PeerData never
        is.
        """
        machine = Machine(active=[A])
        self.assertEqual(machine.hear(A, Neighbor(HIGH, b"one")), [PeerDataLearned(A, b"one")])
        self.assertEqual(machine.hear(A, Neighbor(HIGH, b"one")), [])
        self.assertEqual(machine.hear(A, Neighbor(HIGH, b"")), [])
        self.assertEqual(machine.hear(A, Neighbor(HIGH, b"two")), [PeerDataLearned(A, b"two")])

    def test_too_long(self) -> None:
        """PeerData that is too long is reported, but not kept."""
        machine = Machine(active=[A])
        self.assertEqual(machine.hear(A, Neighbor(HIGH, b"x" * 1025)), [PeerDataLearned(A, b"x" * 1025)])
        self.assertEqual(machine.view.views.count_data(), 0)

    def test_update(self) -> None:
        """
        Our new PeerData is sent with later messages; PeerData that is too long is an
        error.
        """
        machine = Machine()
        self.assertEqual(machine.view.handle(UpdateData(b"new"), 0.0), [])
        self.assertEqual(machine.view.handle(JoinPeers((A,)), 0.0), [SendMessage(A, Join(b"new"))])
        self.assertRaises(ValueError, machine.view.handle, UpdateData(b"x" * 1025), 0.0)

    def test_update_is_told(self) -> None:
        """
        Neighbours get our new PeerData at once, and their answers are not answered.
        """
        machine = Machine()
        machine.view.receive(A, Neighbor(Priority.HIGH, b"a"), 0.0)
        self.assertEqual(
            machine.view.handle(UpdateData(b"new"), 60.0), [SendMessage(A, Neighbor(Priority.LOW, b"new"))]
        )
        self.assertEqual(machine.view.receive(A, Neighbor(Priority.LOW, b"a"), 60.1), [])
        other = Machine()
        other.view.receive(A, Neighbor(Priority.HIGH, b"a"), 0.0)
        out = other.view.receive(A, Neighbor(Priority.LOW, b"moved"), 60.0)
        self.assertIn(PeerDataLearned(A, b"moved"), out)
