"""
Tests for L{dtt.gossip.proto.plumtree}: docs/protocol/gossip.md sections 7, 11 and 13.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from twisted.trial.unittest import SynchronousTestCase

from dtt.errors import ContentTooLarge, DuplicateContent, NotNeighbor
from dtt.gossip.proto.config import GossipConfig
from dtt.gossip.proto.events import (
    Broadcast,
    NeighborDown,
    NeighborUp,
    Output,
    PeerDisconnected,
    Quit,
    SendMessage,
)
from dtt.gossip.proto.messages import Gossip, Graft, IHave, Message, Prune, message_id
from dtt.gossip.proto.plumtree import PlumTree
from dtt.wire.values import GossipMessage

A, B, C, D = (bytes((byte,)) * 32 for byte in b"abcd")
HI = message_id(b"hi")


def hi(hops: int | None) -> Gossip:
    """The message used in these tests."""
    return Gossip(HI, b"hi", hops)


def number_id(number: int) -> bytes:
    """Return a message id without a known content."""
    return number.to_bytes(32, "big")


class Machine:
    """
    A machine with neighbours, and short methods for its inputs.
    """

    def __init__(
        self, eager: Sequence[bytes] = (), lazy: Sequence[bytes] = (), config: GossipConfig | None = None
    ) -> None:
        self.now = 0.0
        self.tree = PlumTree(config)
        for peer in (*eager, *lazy):
            self.tree.handle(NeighborUp(peer), 0.0)
        for peer in lazy:
            self.hear(peer, Prune())

    def hear(self, sender: bytes, message: Message) -> list[Output]:
        """Receive a message."""
        return self.tree.receive(sender, message, self.now)

    def broadcast(self, content: bytes, neighbors_only: bool = False) -> list[Output]:
        """Broadcast a content."""
        return self.tree.handle(Broadcast(content, neighbors_only), self.now)

    def wait(self, seconds: float) -> list[Output]:
        """Let time pass."""
        end = self.now + seconds
        out: list[Output] = []
        while (when := self.tree.timers.next) is not None and when <= end:
            self.now = when
            out += self.tree.handle_timer(when)
        self.now = end
        return out


class BroadcastTests(SynchronousTestCase):
    """
    Contents broadcast by the member itself.
    """

    def test_swarm(self) -> None:
        """
        Eager neighbours get the content immediately, lazy ones an announcement after 5
        ms.
        """
        machine = Machine([A, B], [C])
        self.assertEqual(machine.broadcast(b"hi"), [SendMessage(A, hi(0)), SendMessage(B, hi(0))])
        self.assertEqual(machine.wait(0.0049), [])
        self.assertEqual(machine.wait(0.0002), [SendMessage(C, IHave(((HI, 0),)))])

    def test_neighbors(self) -> None:
        """
        A content with scope "neighbors" goes to all neighbours, eager or lazy, and is
        neither announced nor recorded.
        """
        machine = Machine([A], [C])
        to_all = [SendMessage(A, hi(None)), SendMessage(C, hi(None))]
        self.assertEqual(machine.broadcast(b"hi", True), to_all)
        self.assertEqual(machine.wait(1.0), [])
        self.assertEqual(machine.broadcast(b"hi", True), to_all)
        self.assertEqual(machine.hear(C, Graft(HI, 0)), [])

    def test_one_neighbor(self) -> None:
        """
        A content for one neighbour goes to that one, eager or lazy; anyone else is refused.
        """
        machine = Machine([A], [C])
        for peer in (A, C, A):
            self.assertEqual(
                machine.tree.handle(Broadcast(b"hi", True, peer), machine.now),
                [SendMessage(peer, hi(None))],
            )
        self.assertRaises(NotNeighbor, machine.tree.handle, Broadcast(b"hi", True, B), machine.now)
        self.assertEqual(machine.wait(1.0), [])

    def test_nobody(self) -> None:
        """
        A content that was broadcast to nobody is neither kept nor remembered, and may be
        broadcast to the neighbours that come later.
        """
        machine = Machine([])
        self.assertEqual(machine.broadcast(b"hi"), [])
        machine.tree.handle(NeighborUp(A), machine.now)
        self.assertEqual(machine.hear(A, Graft(HI, 0)), [])
        self.assertEqual(machine.broadcast(b"hi"), [SendMessage(A, hi(0))])
        self.assertRaises(DuplicateContent, machine.broadcast, b"hi")

    def test_too_large(self) -> None:
        """A content that not every member could forward is an error."""
        machine = Machine([A])
        self.assertRaises(ContentTooLarge, machine.broadcast, b"x" * 4056)
        self.assertEqual(len(machine.broadcast(b"x" * 4055)), 1)

    def test_full_ihave(self) -> None:
        """116 announcements fill a message, which is sent immediately."""
        machine = Machine([], [C])
        out = [output for number in range(120) for output in machine.broadcast(b"%d" % number)]
        ((first),) = out
        assert isinstance(first, SendMessage)
        assert isinstance(first.message, IHave)
        self.assertEqual(len(first.message.entries), 116)
        ((rest),) = machine.wait(0.01)
        assert isinstance(rest, SendMessage)
        assert isinstance(rest.message, IHave)
        self.assertEqual(len(rest.message.entries), 4)


class GossipTests(SynchronousTestCase):
    """
    Contents broadcast by others.
    """

    def test_forwarded(self) -> None:
        """
        A content is forwarded to eager neighbours with the next round, and delivered to
        the application as received.
        """
        machine = Machine([A, B, C], [D])
        self.assertEqual(
            machine.hear(A, hi(3)),
            [SendMessage(B, hi(4)), SendMessage(C, hi(4)), GossipMessage(b"hi", "swarm", A, 3)],
        )
        self.assertEqual(machine.wait(0.01), [SendMessage(D, IHave(((HI, 4),)))])

    def test_from_lazy_sender(self) -> None:
        """The sender of a content gets no announcement of it."""
        machine = Machine([], [A])
        machine.hear(A, hi(0))
        self.assertEqual(machine.wait(0.5), [])

    def test_from_stranger(self) -> None:
        """
        Q6: a content from a peer that is not a neighbour is processed; the peer enters
        neither set (Q7).
        """
        machine = Machine([B])
        self.assertEqual(machine.hear(A, hi(0)), [SendMessage(B, hi(1)), GossipMessage(b"hi", "swarm", A, 0)])
        self.assertEqual(machine.hear(A, hi(0)), [SendMessage(A, Prune())])
        self.assertEqual(machine.hear(A, Graft(None, 0)), [])
        self.assertEqual((list(machine.tree.eager), list(machine.tree.lazy)), ([B], []))

    def test_spoofed(self) -> None:
        """A message whose id does not match its content has no effect."""
        machine = Machine([A, B])
        self.assertEqual(machine.hear(A, Gossip(HI, b"ho", 0)), [])
        self.assertEqual(machine.tree.counters["gossip_spoofed"], 1)
        self.assertEqual(len(machine.hear(A, hi(0))), 2)
        self.assertEqual(machine.hear(B, Gossip(HI, b"ho", 0)), [])
        self.assertIn(B, machine.tree.eager)

    def test_duplicate(self) -> None:
        """A duplicate makes its sender lazy and prunes it; it is not delivered again, in either scope."""
        for scope in (0, None):
            machine = Machine([A, B])
            machine.hear(A, hi(0))
            self.assertEqual(machine.hear(B, hi(scope)), [SendMessage(B, Prune())])
            self.assertEqual((list(machine.tree.eager), list(machine.tree.lazy)), ([A], [B]))

    def test_neighbors_scope(self) -> None:
        """A content with scope "neighbors" is delivered each time and not forwarded."""
        machine = Machine([A, B])
        for _ in range(2):
            self.assertEqual(machine.hear(A, hi(None)), [GossipMessage(b"hi", "neighbors", A, 0)])

    def test_last_round(self) -> None:
        """Q9: at round 65535 a content is delivered but not forwarded."""
        machine = Machine([A, B], [C])
        self.assertEqual(machine.hear(A, hi(0xFFFF)), [GossipMessage(b"hi", "swarm", A, 0xFFFF)])
        self.assertEqual(machine.wait(0.5), [])
        self.assertEqual(len(Machine([A, B]).hear(A, hi(0xFFFE))), 2)

    def test_too_large_to_forward(self) -> None:
        """Q3: a content that would grow beyond 4095 bytes is delivered but not forwarded."""
        content = b"x" * 4057
        for hops, forwarded in ((126, True), (127, False)):
            machine = Machine([A, B])
            out = machine.hear(A, Gossip(message_id(content), content, hops))
            self.assertEqual(len(out), 2 if forwarded else 1)

    def test_expiry(self) -> None:
        """A payload that may be requested is kept for 30 s, each id for 90 s."""
        machine = Machine([A], [B, C])
        machine.hear(A, hi(0))
        machine.wait(29.0)
        self.assertEqual(machine.hear(B, Graft(HI, 1)), [SendMessage(B, hi(1))])
        machine.wait(2.0)
        self.assertEqual(machine.hear(C, Graft(HI, 1)), [])
        machine.wait(58.0)
        self.assertEqual(machine.hear(B, hi(5)), [SendMessage(B, Prune())])
        machine.wait(2.0)
        self.assertIn(GossipMessage(b"hi", "swarm", B, 5), machine.hear(B, hi(5)))

    def test_broadcast_again(self) -> None:
        """
        The same content can be broadcast again only after its id has expired, in either
        scope.
        """
        machine = Machine([A])
        machine.broadcast(b"hi")
        machine.wait(89.0)
        self.assertRaises(DuplicateContent, machine.broadcast, b"hi")
        self.assertRaises(DuplicateContent, machine.broadcast, b"hi", True)
        machine.wait(2.0)
        self.assertEqual(machine.broadcast(b"hi"), [SendMessage(A, hi(0))])


class OptimisationTests(SynchronousTestCase):
    """
    Switching to a much shorter path.
    """

    def received_with(self, hops: int, lazy: Sequence[bytes] = (B,)) -> tuple[Machine, list[Output]]:
        """B has announced the content with round 2; A sends it with round C{hops}."""
        machine = Machine([A, C], lazy)
        machine.hear(B, IHave(((HI, 2),)))
        return machine, machine.hear(A, hi(hops))

    def test_not_worth_it(self) -> None:
        """Received with round 6, forwarded with 7: 7 - 2 < 7, so nothing changes."""
        _, out = self.received_with(6)
        self.assertEqual(out, [SendMessage(C, hi(7)), GossipMessage(b"hi", "swarm", A, 6)])

    def test_threshold(self) -> None:
        """Received with 8 (or 9): Graft to the announcer, Prune to the sender, then the event."""
        for hops in (8, 9):
            machine, out = self.received_with(hops)
            self.assertEqual(
                out,
                [
                    SendMessage(C, hi(hops + 1)),
                    SendMessage(B, Graft(None, 2)),
                    SendMessage(A, Prune()),
                    GossipMessage(b"hi", "swarm", A, hops),
                ],
            )
            self.assertEqual((list(machine.tree.eager), list(machine.tree.lazy)), ([C, B], [A]))

    def test_announcer_is_no_neighbor(self) -> None:
        """Q7: an announcement of a peer that is not a neighbour changes no link."""
        machine, out = self.received_with(20, lazy=())
        self.assertEqual(out, [SendMessage(C, hi(21)), GossipMessage(b"hi", "swarm", A, 20)])
        self.assertEqual(list(machine.tree.eager), [A, C])


class AnnouncementTests(SynchronousTestCase):
    """
    IHave and Graft.
    """

    def test_graft_sources_in_turn(self) -> None:
        """
        The first source gets a Graft after 80 ms, the next one 40 ms later; each
        becomes eager.
        """
        machine = Machine([], [A, B])
        machine.hear(A, IHave(((HI, 1),)))
        machine.hear(B, IHave(((HI, 2),)))
        self.assertEqual(machine.wait(0.079), [])
        self.assertEqual(machine.wait(0.002), [SendMessage(A, Graft(HI, 1))])
        self.assertEqual(list(machine.tree.eager), [A])
        self.assertEqual(machine.wait(0.038), [])
        self.assertEqual(machine.wait(0.002), [SendMessage(B, Graft(HI, 2))])
        self.assertEqual(machine.wait(0.5), [])

    def test_arrives_in_time(self) -> None:
        """A content that arrives within 80 ms is not requested."""
        machine = Machine([A], [B])
        machine.hear(B, IHave(((HI, 1),)))
        machine.hear(A, hi(0))
        self.assertEqual([o for o in machine.wait(0.5) if o != SendMessage(B, IHave(((HI, 1),)))], [])

    def test_known_content(self) -> None:
        """An announcement of a received content is ignored."""
        machine = Machine([A], [B])
        machine.hear(A, hi(0))
        machine.wait(0.01)
        machine.hear(B, IHave(((HI, 1),)))
        self.assertEqual(machine.wait(0.5), [])

    def test_asked_again(self) -> None:
        """A peer that announces again after a Graft gets another Graft."""
        machine = Machine([], [A])
        for _ in range(2):
            machine.hear(A, IHave(((HI, 1),)))
            self.assertEqual(machine.wait(0.2), [SendMessage(A, Graft(HI, 1))])

    def test_nothing_left_behind(self) -> None:
        """Q8: when all sources got a Graft, nothing is kept of the announcement."""
        machine = Machine([], [A, B])
        for peer in (A, B, A):
            machine.hear(peer, IHave(((HI, 1),)))
        machine.wait(0.2)
        self.assertEqual((len(machine.tree._missing), machine.tree._missing._by_peer), (0, {}))
        self.assertEqual(len(machine.tree.timers), 0)

    def test_graft(self) -> None:
        """
        A Graft makes its sender eager and is answered by the content with the next
        round.
        """
        machine = Machine([A], [B])
        machine.hear(A, hi(1))
        self.assertEqual(machine.hear(B, Graft(HI, 2)), [SendMessage(B, hi(2))])
        self.assertIn(B, machine.tree.eager)
        self.assertEqual(machine.hear(B, Graft(number_id(1), 0)), [])

    def test_kept_for_whom_may_ask(self) -> None:
        """
        A content is kept until each peer to which it was announced has shown that it
        has it, or has requested it.
        """
        machine = Machine([A], [B, C, D])
        machine.hear(A, hi(0))
        self.assertEqual(machine.tree._contents.sizes(), (1, 1, 2))
        machine.hear(B, IHave(((HI, 1),)))
        machine.hear(C, hi(5))
        self.assertEqual(machine.tree._contents.sizes(), (1, 1, 2))
        self.assertEqual(machine.hear(D, Graft(HI, 1)), [SendMessage(D, hi(1))])
        self.assertEqual(machine.tree._contents.sizes(), (1, 0, 0))
        self.assertEqual(machine.hear(D, Graft(HI, 1)), [])

    def test_others_keep_it(self) -> None:
        """Only peers to which it was announced count, each individually."""
        machine = Machine([A], [B, C])
        machine.hear(A, hi(0))
        for peer in (A, D, B, B):
            machine.hear(peer, IHave(((HI, 1),)))
        self.assertEqual(machine.hear(C, Graft(HI, 1)), [SendMessage(C, hi(1))])

    def test_ahead(self) -> None:
        """We are ahead while a neighbour may request more contents than C{max_behind}."""
        machine = Machine([A], [B, C], GossipConfig(max_behind=2, max_cached=4))
        for number in range(3):
            self.assertFalse(machine.tree.is_ahead())
            machine.broadcast(b"%d" % number)
        self.assertTrue(machine.tree.is_ahead())
        machine.hear(B, IHave(((message_id(b"0"), 1),)))
        self.assertTrue(machine.tree.is_ahead())
        machine.hear(C, Graft(message_id(b"1"), 1))
        self.assertFalse(machine.tree.is_ahead())
        # A content that could not be kept can't be requested.
        for number in range(3, 20):
            machine.broadcast(b"%d" % number)
        self.assertEqual(machine.tree._contents.behind, {B: 4})
        machine.tree.handle(NeighborDown(B), machine.now)
        self.assertFalse(machine.tree.is_ahead())
        self.assertEqual(machine.tree._contents.sizes()[1:], (0, 0))

    def test_behind(self) -> None:
        """
        A neighbour that announces nothing is not waited for; no neighbour is behind for
        longer than contents are kept.
        """
        machine = Machine([A], [B], GossipConfig(max_behind=1))
        for number in range(2):
            machine.broadcast(b"%d" % number)
        machine.hear(A, hi(0))
        for _ in range(29):
            machine.wait(1.0)
            self.assertFalse(machine.tree.is_ahead())
            machine.hear(B, IHave(((HI, 1),)))
            self.assertTrue(machine.tree.is_ahead())
        machine.wait(2.0)
        machine.hear(B, IHave(((HI, 1),)))
        self.assertFalse(machine.tree.is_ahead())

    def test_signs_of_life(self) -> None:
        """A lazy neighbour that sends contents is not silent; one with empty announcements is."""
        machine = Machine([A], [B], GossipConfig(max_behind=1))
        for number in range(2):
            machine.broadcast(b"%d" % number)
        machine.hear(A, hi(0))
        machine.wait(1.5)
        machine.hear(B, IHave(()))
        self.assertFalse(machine.tree.is_ahead())
        machine.hear(B, hi(1))
        self.assertTrue(machine.tree.is_ahead())

    def test_not_kept(self) -> None:
        """
        A content that no peer may request is not kept: it was pushed to all, or the
        others had announced it.
        """
        machine = Machine([A, B], [])
        machine.broadcast(b"mine")
        machine.hear(A, hi(0))
        self.assertEqual(machine.tree._contents.sizes(), (2, 0, 0))
        machine = Machine([A], [B])
        machine.hear(B, IHave(((HI, 1),)))
        machine.hear(A, hi(0))
        self.assertEqual(machine.tree._contents.sizes(), (1, 0, 0))
        self.assertEqual(machine.wait(0.01), [SendMessage(B, IHave(((HI, 1),)))])

    def test_departed_source(self) -> None:
        """Q7: a departed peer gets neither Grafts nor announcements."""
        for gone in (NeighborDown(A), PeerDisconnected(A)):
            machine = Machine([], [A])
            machine.hear(A, IHave(((HI, 1),)))
            machine.broadcast(b"mine")
            machine.tree.handle(gone, 0.0)
            self.assertEqual(machine.wait(0.5), [])
            self.assertEqual((len(machine.tree._missing), machine.tree._lazy_queues), (0, {}))

    def test_quit(self) -> None:
        """After Quit nothing is kept and no timer runs."""
        machine = Machine([A], [B])
        machine.broadcast(b"mine")
        machine.hear(B, IHave(((HI, 1),)))
        machine.tree.handle(Quit(), 0.0)
        self.assertIsNone(machine.tree.timers.next)
        self.assertEqual((machine.tree._contents.sizes(), len(machine.tree._missing)), ((0, 0, 0), 0))


class BoundsTests(SynchronousTestCase):
    """
    Limits on state that peers cause.
    """

    def test_announcement_flood(self) -> None:
        """
        One peer's announcements are limited, and leave room for others; the rest is
        requested immediately, as far as a peer may have requests unanswered.
        """
        config = GossipConfig(max_missing=100, max_missing_per_peer=60)
        machine = Machine([], [A, B, C], config)
        asked: Counter[bytes] = Counter()
        for peer, first in ((A, 0), (B, 1000)):
            for number in range(0, 500, 50):
                entries = tuple((number_id(first + number + n), 0) for n in range(50))
                out = machine.hear(peer, IHave(entries))
                asked.update(o.peer for o in out if isinstance(o, SendMessage))
        self.assertEqual(len(machine.tree._missing), 100)
        self.assertEqual((machine.tree._missing.count_by(A), machine.tree._missing.count_by(B)), (60, 40))
        self.assertEqual((machine.tree.counters["ihave_untracked"], asked), (900, {A: 256, B: 256}))
        self.assertEqual(list(machine.tree.eager), [A, B], "a Graft makes the link eager")
        # Contents that another peer has announced are awaited from that peer.
        self.assertEqual(machine.hear(B, IHave(((number_id(0), 0),))), [])
        self.assertLessEqual(len(machine.tree.timers), 102)
        machine.wait(0.2)
        self.assertEqual((len(machine.tree._missing), machine.tree._missing._by_peer), (0, {}))

    def test_content_flood(self) -> None:
        """Ids and payloads are limited in number and bytes; the oldest are dropped first."""
        config = GossipConfig(max_received=50, max_cached=20, max_cached_bytes=15_000)
        machine = Machine([A], [B], config)
        contents = [b"%d" % number * 300 for number in range(100, 200)]
        for content in contents:
            machine.hear(A, Gossip(message_id(content), content, 0))
        self.assertEqual(machine.tree._contents.sizes(), (50, 16, 14_400))
        self.assertRaises(DuplicateContent, machine.broadcast, contents[-1])
        self.assertEqual(len(machine.broadcast(contents[0])), 1)
        small = Machine([A], [B], config)
        for number in range(100):
            small.hear(A, Gossip(message_id(b"%d" % number), b"%d" % number, 0))
        self.assertEqual(small.tree._contents.sizes()[1], 20)

    def test_lazy_queues(self) -> None:
        """The entries queued for a lazy neighbour are fewer than one message holds."""
        machine = Machine([A], [B])
        for number in range(1000):
            machine.hear(A, Gossip(message_id(b"%d" % number), b"%d" % number, 0))
            self.assertLess(len(machine.tree._lazy_queues.get(B, ())), 116)
