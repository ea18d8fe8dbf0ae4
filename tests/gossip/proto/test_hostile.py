"""
Tests of the gossip machines against one hostile member: docs/protocol/gossip.md
sections 6.5 and 7.1.
"""

from __future__ import annotations

from collections import Counter
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from dtt.gossip.proto.events import (
    Broadcast,
    DisconnectPeer,
    JoinPeers,
    NeighborDown,
    NeighborUp,
    PeerDataLearned,
    PeerDisconnected,
    SendMessage,
)
from dtt.gossip.proto.messages import (
    Disconnect,
    ForwardJoin,
    Gossip,
    Graft,
    IHave,
    Join,
    Message,
    Neighbor,
    PeerInfo,
    Priority,
    Prune,
    Shuffle,
    ShuffleReply,
    message_id,
)
from dtt.gossip.proto.promises import FIRST_REQUESTS, PATIENCE
from dtt.testing.simulation.network import GossipNetwork, uniform
from tests.gossip.proto.test_hyparview import A, B, C, D, E, F, X, peer, sent
from tests.gossip.proto.test_hyparview import Machine as MembershipMachine
from tests.gossip.proto.test_plumtree import HI, hi, number_id
from tests.gossip.proto.test_plumtree import Machine as BroadcastMachine
from tests.sweeps import sized

HIGH, LOW = Priority.HIGH, Priority.LOW
SEEDS = range(sized(1, 3))
HOSTILE = b"H" * 32

#: Peers that fill half of a passive view.
KNOWN = [peer(number) for number in range(50, 65)]


def swarm(seed: int, count: int) -> GossipNetwork:
    """Return members that have found each other and have shuffled twice."""
    net = GossipNetwork(Random(seed), uniform(0.01, 0.05))
    for number in range(1, count + 1):
        net.add(peer(number))
        net.command(peer(number), JoinPeers((peer(Random(number).randrange(1, max(2, number))),)))
        net.advance(0.2)
    net.advance(130.0)
    return net


class PoisonTests(SynchronousTestCase):
    """
    Made-up members.
    """

    def poison(self, net: GossipNetwork, rng: Random, seconds: int) -> float:
        """
        Let a member that everybody has as a neighbour send made-up ids in all kinds of
        messages.

        @return: the share of made-up ids in the passive views.
        """
        members = list(net.nodes)

        def made_up() -> PeerInfo:
            return PeerInfo(b"F" + rng.randbytes(31))

        for second in range(seconds):
            for member in members:
                nodes = tuple(made_up() for _ in range(32))
                messages: list[Message] = [
                    Shuffle(made_up().peer_id, nodes, rng.randrange(7)),
                    Shuffle(rng.choice(members), nodes, 0),
                    ShuffleReply(nodes),
                    ForwardJoin(made_up(), 3),
                    ForwardJoin(made_up(), 0),
                ]
                if second % 6 == 0:
                    messages.insert(0, Neighbor(HIGH))
                for message in messages:
                    net.deliver(HOSTILE, member, message)
            net.advance(1.0)
        known = [each for member in members for each in net.nodes[member].swarm.known_peers()]
        return sum(each[:1] == b"F" for each in known) / len(known)

    def test_share_of_views(self) -> None:
        """
        At most a fifth of all passive views is made up, and after a crash of half of the
        members the others are one swarm within seconds.
        """
        for seed in SEEDS:
            net, rng = swarm(seed, 40), Random(seed)
            self.assertLessEqual(self.poison(net, rng, 60), 0.2, f"seed {seed}")
            for member in rng.sample(list(net.nodes), 20):
                net.kill(member)
            for member in tuple(net.nodes):
                net.command(member, PeerDisconnected(HOSTILE))
            net.advance(10.0)
            self.assertEqual(len(net.connected_components()), 1, f"seed {seed}")

    def test_proven_stay(self) -> None:
        """Hearsay replaces no peer that has sent us something, unless we ask for it."""
        known = [peer(number) for number in range(100, 130)]
        machine = MembershipMachine(active=[A, B], passive=known)
        for number in range(1000, 2000):
            node = PeerInfo(peer(number))
            for message in (Shuffle(A, (node,), 0), ShuffleReply((node,)), ForwardJoin(node, 3)):
                machine.now += 1.0
                machine.hear(A, message)
        self.assertEqual(list(machine.view.views.passive), known)

    def test_few_of_each_sender(self) -> None:
        """One sender adds four peers a minute unasked, and never has more than three in the view."""
        for message in (
            lambda node: Shuffle(A, (node,), 0),
            lambda node: ShuffleReply((node,)),
            lambda node: ForwardJoin(node, 3),
        ):
            machine = MembershipMachine(active=[A, B, C, D, E], passive=KNOWN)
            added: set[bytes] = set()
            for number in range(100, 700):
                machine.now += 0.1
                machine.hear(A, message(PeerInfo(peer(number))))
                added.update(machine.view.views.passive)
                self.assertLessEqual(len(machine.view.views.passive), len(KNOWN) + 3)
            self.assertLessEqual(len(added), len(KNOWN) + 8)

    def test_unasked_reply(self) -> None:
        """A stranger's ShuffleReply counts once after our Shuffle, and only with eight nodes."""
        machine = MembershipMachine(active=[A, B], passive=KNOWN)
        reply = ShuffleReply(tuple(PeerInfo(peer(number)) for number in range(100, 132)))
        machine.hear(X, reply)
        self.assertEqual(list(machine.view.views.passive), KNOWN)
        self.assertEqual(len(sent(machine.wait(61.0), Shuffle)), 1)
        machine.hear(X, reply)
        first = set(machine.view.views.passive)
        self.assertEqual(len(first), len(KNOWN) + 3)
        machine.hear(F, reply)
        self.assertEqual(set(machine.view.views.passive), first)

    def test_statements(self) -> None:
        """What others say about a peer does not replace the addresses that it has stated itself."""
        machine = MembershipMachine(active=[A, B])
        machine.hear(B, Neighbor(HIGH, b"stated"))
        node = PeerInfo(B, b"false")
        for message in (ForwardJoin(node, 5), Shuffle(A, (node,), 0), ShuffleReply((node,))):
            self.assertNotIn(PeerDataLearned(B, b"false"), machine.hear(A, message))
        machine.hear(B, Disconnect(True))
        for message in (ForwardJoin(node, 3), Shuffle(A, (node,), 0), ShuffleReply((node,))):
            self.assertNotIn(PeerDataLearned(B, b"false"), machine.hear(A, message))
        self.assertEqual(machine.view.views.data_of(B), b"stated")
        self.assertIn(PeerDataLearned(B, b"new"), machine.hear(B, Neighbor(HIGH, b"new")))

    def test_not_passed_on(self) -> None:
        """Our Shuffles and replies name peers only that have sent us something."""
        machine = MembershipMachine(active=[A, B], passive=KNOWN)
        machine.hear(A, ForwardJoin(PeerInfo(X), 3))
        self.assertIn(X, machine.view.views.passive)
        for _, message in sent(machine.hear(A, Shuffle(F, (PeerInfo(D),) * 8, 0))) + sent(machine.wait(60.0)):
            assert isinstance(message, ShuffleReply | Shuffle)
            self.assertNotIn(X, [node.peer_id for node in message.nodes])


class FloodTests(SynchronousTestCase):
    """
    Membership messages that make a member send others.
    """

    def test_joins(self) -> None:
        """
        A Join that is repeated is announced to the neighbours three times, then every
        five seconds, and evicts few neighbours.
        """
        machine = MembershipMachine(active=[A, B, C, D, E])
        walks, evicted = 0, 0
        for number in range(600):
            machine.now = number / 10
            out = machine.hear(X, Join()) + machine.hear(X, Disconnect(False))
            walks += len(sent(out, ForwardJoin))
            evicted += sum(isinstance(each, NeighborDown) and each.peer != X for each in out)
            if len(machine.view.views.active) < 5:
                machine.view.views.add_active(peer(100 + number))
        self.assertLessEqual(walks, 4 * (3 + 12))
        self.assertLessEqual(evicted, 4 + 4)

    def test_joins_of_a_neighbor(self) -> None:
        """A neighbour that repeats its Join causes no messages."""
        machine = MembershipMachine(active=[A, B])
        out = [each for _ in range(100) for each in machine.hear(A, Join())]
        self.assertEqual(
            Counter(type(message).__name__ for _, message in sent(out)), {"Neighbor": 1, "ForwardJoin": 3}
        )

    def test_refusals(self) -> None:
        """A refusal that is repeated no longer contains contacts: it is not larger than the request."""
        machine = MembershipMachine(active=[A, B, C, D, E])
        out = [each for _ in range(100) for each in machine.hear(X, Neighbor(LOW))]
        self.assertEqual(len(sent(out, ShuffleReply)), 4)
        self.assertEqual(len(sent(out, Disconnect)), 100)

    def test_shuffles(self) -> None:
        """A neighbour's Shuffles are answered and passed on a few times a minute."""
        for ttl in (0, 5):
            machine = MembershipMachine(active=[A, B])
            count = 0
            for number in range(600):
                machine.now = number / 10
                count += len(sent(machine.hear(A, Shuffle(peer(1000 + number), (PeerInfo(D),), ttl))))
            self.assertLessEqual(count, 8)

    def test_replies(self) -> None:
        """ShuffleReplies do not make us ask one peer after another."""
        machine = MembershipMachine(active=[A, B])
        asked = 0
        for number in range(100):
            machine.view.views.add_passive(peer(100 + number))
            out = machine.hear(A, ShuffleReply())
            asked += len(sent(out, Neighbor))
            for other in tuple(machine.view.pending):
                machine.hear(other, Disconnect(True))
        self.assertEqual(asked, 10)


class PromiseTests(SynchronousTestCase):
    """
    Announcements that never come, and contents under false ids.
    """

    def test_flood(self) -> None:
        """
        Announcements that never come buy a bounded number of Grafts; then the link is no
        longer eager, and the neighbour is dropped and refused for some minutes.
        """
        net = GossipNetwork(Random(1))
        for member in (A, B, HOSTILE):
            net.add(member)
        net.command(B, JoinPeers((A,)))
        net.advance(1.0)
        said: Counter[str] = Counter()

        def tap(sender: bytes, receiver: bytes, message: Message) -> None:
            if receiver == HOSTILE:
                said[type(message).__name__] += 1

        net.tap = tap
        net.deliver(HOSTILE, A, Neighbor(HIGH))
        number = 0
        for _ in range(300):
            entries = tuple((number_id(number + each), 0) for each in range(116))
            number += len(entries)
            net.deliver(HOSTILE, A, IHave(entries))
            net.advance(0.01)
        self.assertEqual(said["Graft"], FIRST_REQUESTS)
        node = net.nodes[A]
        self.assertTrue(node.swarm.is_neighbor(HOSTILE))
        net.advance(PATIENCE + 2.0)
        self.assertFalse(node.swarm.is_neighbor(HOSTILE))
        self.assertIn(NeighborDown(HOSTILE), node.events)
        self.assertEqual(said["Prune"], 1)
        self.assertGreaterEqual(said["Disconnect"], 1)
        self.assertEqual(node.swarm.counters["neighbors_dropped"], 1)
        before = said["Graft"]
        for seconds in (10.0, 200.0):
            for message in (Join(), Neighbor(HIGH), IHave(((number_id(10**6), 0),))):
                net.deliver(HOSTILE, A, message)
            self.assertFalse(node.swarm.is_neighbor(HOSTILE))
            net.advance(seconds)
        self.assertEqual(said["Graft"], before)
        self.assertEqual(node.swarm.neighbors(), (B,))
        net.advance(100.0)
        net.deliver(HOSTILE, A, Neighbor(HIGH))
        self.assertTrue(node.swarm.is_neighbor(HOSTILE))

    def test_slow_flood(self) -> None:
        """A few such announcements a second end the eager link first, then the neighbour."""
        machine = BroadcastMachine([A, B], [X])
        dropped_at = lazy_at = 0
        for second in range(120):
            for number in range(4):
                machine.hear(X, IHave(((number_id(4 * second + number), 0),)))
            out = machine.wait(1.0)
            if SendMessage(X, Prune()) in out and not lazy_at:
                lazy_at = second
            if machine.tree.dropped and not dropped_at:
                dropped_at = second
                break
        self.assertTrue(PATIENCE < lazy_at < dropped_at < 60, (lazy_at, dropped_at))

    def test_spoofed(self) -> None:
        """A spoofed content is ignored; two end the eager link, four the neighbour."""
        machine = BroadcastMachine([A, B])
        spoofed = Gossip(HI, b"ho", 0)
        self.assertEqual(machine.hear(A, spoofed), [])
        self.assertEqual(machine.hear(A, spoofed), [SendMessage(A, Prune())])
        self.assertEqual((list(machine.tree.eager), list(machine.tree.lazy)), ([B], [A]))
        self.assertEqual(machine.hear(A, spoofed), [])
        machine.hear(A, spoofed)
        self.assertEqual(machine.tree.dropped, [A])

    def test_spoofed_in_a_swarm(self) -> None:
        """The neighbour that spoofs is dropped at once, with a Disconnect."""
        net = GossipNetwork(Random(1))
        node = net.add(A)
        node.swarm.receive(X, Neighbor(HIGH), 0.0)
        out = [each for _ in range(4) for each in node.swarm.receive(X, Gossip(HI, b"ho", 0), 0.0)]
        self.assertEqual(
            out,
            [SendMessage(X, Prune()), NeighborDown(X), SendMessage(X, Disconnect(True)), DisconnectPeer(X)],
        )
        self.assertEqual(node.swarm.neighbors(), ())

    def test_late_and_lost(self) -> None:
        """Contents that come late, from others, or mostly, cost no link."""
        machine = BroadcastMachine([A], [B])
        for number in range(2000):
            content = b"%d" % number
            machine.hear(B, IHave(((message_id(content), 1),)))
            machine.wait(0.1)
            if number % 5:
                machine.hear((A, B)[number % 2], Gossip(message_id(content), content, 1))
        for number in range(FIRST_REQUESTS):
            content = b"late %d" % number
            machine.hear(B, IHave(((message_id(content), 1),)))
        machine.wait(PATIENCE - 2)
        for number in range(FIRST_REQUESTS):
            content = b"late %d" % number
            machine.hear(B, Gossip(message_id(content), content, 1))
        machine.wait(PATIENCE + 2)
        self.assertEqual(machine.tree.dropped, [])
        self.assertLess(machine.tree._promises.debt(B), 32)

    def test_lossy_swarm(self) -> None:
        """With a loss of one message in ten, nobody is dropped or demoted."""
        for seed in SEEDS:
            net = swarm(seed, 20)
            net.loss = 0.1
            for number in range(200):
                net.command(peer(1 + number % 20), Broadcast(b"%d" % number))
                net.advance(0.1)
            net.advance(PATIENCE + 2.0)
            for node in net.nodes.values():
                self.assertEqual(node.swarm.counters["neighbors_dropped"], 0, f"seed {seed}")

    def test_many_requests(self) -> None:
        """
        What a neighbour announces beyond its unanswered requests waits, and is asked for
        as answers come: everything arrives.
        """
        machine = BroadcastMachine([], [A])
        contents = {message_id(b"%d" % number): b"%d" % number for number in range(3000)}
        entries = tuple((identity, 0) for identity in contents)
        for start in range(0, 3000, 100):
            machine.hear(A, IHave(entries[start : start + 100]))
        asked = sent(machine.wait(0.1), Graft)
        self.assertEqual(len(asked), FIRST_REQUESTS)
        received = 0
        while asked:
            _, graft = asked.pop(0)
            assert isinstance(graft, Graft)
            assert graft.message_id is not None
            received += 1
            asked += sent(machine.hear(A, Gossip(graft.message_id, contents[graft.message_id], 0)), Graft)
        self.assertEqual(received, 3000)
        self.assertEqual((len(machine.tree._promises), machine.tree._promises._waiting), (0, {}))

    def test_repeated(self) -> None:
        """An announcement that is repeated buys no more Grafts than different ones."""
        machine = BroadcastMachine([B], [A])
        grafts = 0
        for _ in range(1000):
            machine.hear(A, IHave(((number_id(1), 0),)))
            grafts += len(sent(machine.wait(0.01), Graft))
        self.assertLessEqual(grafts, FIRST_REQUESTS)
        grafts += len(sent(machine.wait(PATIENCE), Graft))
        self.assertEqual(machine.tree._promises.debt(A), grafts)

    def test_suspended(self) -> None:
        """If our own process was suspended, contents are not overdue at once."""
        machine = BroadcastMachine([], [A])
        for number in range(100):
            machine.hear(A, IHave(((number_id(number), 0),)))
        machine.wait(0.1)
        machine.now += 3600.0
        machine.tree.handle_timer(machine.now)
        self.assertEqual((machine.tree.dropped, machine.tree._promises.debt(A)), ([], 0))

    def test_grafts_are_answered_once(self) -> None:
        """Repeated Grafts, and those of peers that got the content, buy no further copies."""
        machine = BroadcastMachine([A], [B, C])
        machine.hear(A, hi(0))
        out = [
            each for _ in range(10) for each in machine.hear(B, Graft(HI, 1)) + machine.hear(A, Graft(HI, 1))
        ]
        self.assertEqual(out, [SendMessage(B, hi(1))])

    def test_forgotten(self) -> None:
        """Nothing but its debt is kept of a peer that is gone."""
        machine = BroadcastMachine([B], [A])
        for number in range(500):
            machine.hear(A, IHave(((number_id(number), 0),)))
        machine.wait(1.0)
        self.assertEqual(len(machine.tree._promises), FIRST_REQUESTS)
        machine.tree.handle(NeighborDown(A), machine.now)
        promises = machine.tree._promises
        self.assertEqual((len(promises), promises._unanswered, promises._waiting), (0, {}, {}))
        machine.tree.handle(NeighborUp(A), machine.now)
        machine.wait(PATIENCE + 1)
        self.assertEqual(promises.debt(A), 0)
