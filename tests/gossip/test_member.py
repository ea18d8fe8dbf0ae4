"""
Tests for L{dtt.gossip.member}.
"""

from __future__ import annotations

import hashlib
import math
from random import Random

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from dtt.addresses.book import AddressBook
from dtt.config import TimeoutsConfig
from dtt.errors import ContentTooLarge, DecodeError, DuplicateContent, TopicLeft, UsageError
from dtt.gossip.member import GossipMember
from dtt.gossip.proto.config import GossipConfig
from dtt.gossip.proto.events import PeerDataLearned
from dtt.gossip.proto.messages import (
    Disconnect,
    Gossip,
    Graft,
    IHave,
    Join,
    Neighbor,
    PeerInfo,
    Priority,
    Prune,
    Shuffle,
    decode,
    encode,
    message_id,
)
from dtt.gossip.services import GossipServices
from dtt.identity import PeerKey
from dtt.interfaces import GossipMessage, IGossip, ITopicLinks, PeerId
from dtt.testing.memory_transport import MemoryHub, MemoryPeerTransport
from dtt.wire.addresses import STREAMS, PeerAddress, encode_peer_data

TOPIC = b"t" * 32
SECRET = b"s" * 32
IDS = [PeerKey.from_seed(bytes((number,)) * 32).peer_id for number in range(8)]


class Recorder:
    """An observer that records events."""

    def __init__(self) -> None:
        self.ups: list[PeerId] = []
        self.downs: list[PeerId] = []
        self.messages: list[GossipMessage] = []

    def neighbor_up(self, peer_id: PeerId) -> None:
        """Record it."""
        self.ups.append(peer_id)

    def neighbor_down(self, peer_id: PeerId) -> None:
        """Record it."""
        self.downs.append(peer_id)

    def message_received(self, message: GossipMessage) -> None:
        """Record it."""
        self.messages.append(message)


class Broken(Recorder):
    """An observer that always raises."""

    def neighbor_up(self, peer_id: PeerId) -> None:
        """Raise an exception."""
        raise ZeroDivisionError

    def message_received(self, message: GossipMessage) -> None:
        """Raise an exception."""
        raise ZeroDivisionError


class Peer:
    """A member on a memory transport, with its own address book."""

    def __init__(self, hub: MemoryHub, clock: Clock, peer_id: PeerId) -> None:
        self.peer_id = peer_id
        self.transport: MemoryPeerTransport = hub.transport(peer_id)
        self.book = AddressBook(clock, Random(1), self.transport.addresses, peer_id)
        self.events: list[tuple[object, ...]] = []
        self.member = GossipMember(
            GossipServices(
                clock,
                Random(peer_id),
                peer_id,
                self.transport,
                self.book,
                TimeoutsConfig(join_peer=5.0),
            ),
            TOPIC,
            SECRET,
            on_dialled=lambda peer: self.events.append(("dialled", peer)),
            on_failed=lambda peer, reason, tried: self.events.append(("failed", peer, reason)),
            config=GossipConfig(max_behind=100),
        )
        self.recorder = Recorder()
        self.member.subscribe(self.recorder)


class MembersCase(SynchronousTestCase):
    """
    A hub with a clock.
    """

    def setUp(self) -> None:
        """Start without members."""
        self.clock = Clock()
        self.hub = MemoryHub(self.clock)
        self.peers: list[Peer] = []

    def peer(self, start: bool = True) -> Peer:
        """Add a member."""
        made = Peer(self.hub, self.clock, IDS[len(self.peers)])
        self.peers.append(made)
        if start:
            made.member.start()
        return made

    def joined(self, count: int) -> list[Peer]:
        """Return C{count} members that form one swarm."""
        made = [self.peer() for _ in range(count)]
        for other in made[1:]:
            other.book.learn(made[0].peer_id, made[0].transport.addresses(), "record")
            other.member.join([made[0].peer_id])
            self.advance(1.0)
        return made

    def advance(self, seconds: float) -> None:
        """Advance the clock in small steps."""
        for _ in range(round(seconds * 100)):
            self.clock.advance(0.01)


class JoinTests(MembersCase):
    """
    Joining over a transport.
    """

    def test_interfaces(self) -> None:
        """A member provides both interfaces."""
        member = self.peer(start=False).member
        verifyObject(IGossip, member)
        verifyObject(ITopicLinks, member)

    def test_two(self) -> None:
        """Join dials the peer; both become neighbours, and the dial is reported."""
        a, b = self.joined(2)
        self.assertEqual((a.member.neighbors(), b.member.neighbors()), ((b.peer_id,), (a.peer_id,)))
        self.assertEqual((a.recorder.ups, b.recorder.ups), ([b.peer_id], [a.peer_id]))
        self.assertEqual((a.events, b.events), ([], [("dialled", a.peer_id)]))

    def test_addresses_travel(self) -> None:
        """
        Three members find each other although two know only the first: PeerData carries
        the addresses.
        """
        a, b, c = self.joined(3)
        for one in (a, b, c):
            others = {IDS[0], IDS[1], IDS[2]} - {one.peer_id}
            self.assertEqual(set(one.member.neighbors()), others)
        self.assertTrue(b.book.known(c.peer_id) or c.book.known(b.peer_id))

    def test_larger_swarm(self) -> None:
        """Eight members form a swarm in which a broadcast reaches all, once."""
        peers = self.joined(8)
        peers[3].member.broadcast(b"hello")
        self.advance(2.0)
        for one in peers:
            expected = [] if one is peers[3] else [b"hello"]
            self.assertEqual([m.content for m in one.recorder.messages], expected)

    def test_left_out(self) -> None:
        """Our own id and invalid ids are not dialled."""
        a = self.peer()
        a.member.join([a.peer_id, b"\0" * 32, b"\xff" * 32, b"short"])
        self.advance(1.0)
        self.assertEqual(a.events, [])

    def test_no_address(self) -> None:
        """A peer without an address is reported as failed; a later join succeeds."""
        a, b = self.peer(), self.peer()
        b.member.join([a.peer_id])
        self.assertEqual(b.events, [("failed", a.peer_id, "no address")])
        b.book.learn(a.peer_id, a.transport.addresses(), "record")
        b.member.join([a.peer_id])
        self.advance(1.0)
        self.assertEqual(b.member.neighbors(), (a.peer_id,))

    def test_unreachable(self) -> None:
        """A dial that does not end is cancelled after the timeout for a peer."""
        a, b = self.peer(), self.peer()
        address = a.transport.addresses()[0]
        self.hub.unreachable.add((address.host, address.port))
        b.book.learn(a.peer_id, [address], "record")
        b.member.join([a.peer_id])
        self.advance(5.1)
        self.assertEqual(b.events, [("failed", a.peer_id, "timed out")])

    def test_before_the_topic_is_open(self) -> None:
        """
        Q12: a Join to a peer that has not opened the topic is dropped; repeated later
        it works.
        """
        a, b = self.peer(start=False), self.peer()
        b.book.learn(a.peer_id, a.transport.addresses(), "record")
        b.member.join([a.peer_id])
        self.advance(6.0)
        self.assertEqual(b.member.neighbors(), ())
        a.member.start()
        b.member.join([a.peer_id])
        self.advance(1.0)
        self.assertEqual(b.member.neighbors(), (a.peer_id,))

    def test_lost_connection(self) -> None:
        """A broken connection removes the neighbour on both sides."""
        a, b = self.joined(2)
        self.hub.cut(a.peer_id, b.peer_id)
        self.assertEqual((a.recorder.downs, b.recorder.downs), ([b.peer_id], [a.peer_id]))
        self.assertEqual(a.member.neighbors(), ())

    def test_update_addresses(self) -> None:
        """Changed addresses are sent with the next membership message."""
        a, b = self.peer(), self.peer()
        moved = PeerAddress(STREAMS, "10.9.9.9", 99)
        self.patch(b.transport, "_address", moved)
        b.member.update_addresses()
        b.book.learn(a.peer_id, a.transport.addresses(), "record")
        b.member.join([a.peer_id])
        self.advance(1.0)
        self.assertEqual([known.address for known in a.book.known(b.peer_id)], [moved])


class BroadcastTests(MembersCase):
    """
    Contents.
    """

    def test_received(self) -> None:
        """A content arrives with its scope, last hop and round, but not at its author."""
        a, b = self.joined(2)
        a.member.broadcast(b"one")
        a.member.broadcast_neighbors(b"two")
        self.advance(0.1)
        self.assertEqual(
            b.recorder.messages,
            [GossipMessage(b"one", "swarm", a.peer_id, 0), GossipMessage(b"two", "neighbors", a.peer_id, 0)],
        )
        self.assertEqual(a.recorder.messages, [])

    def test_refused(self) -> None:
        """
        Contents that are too large, and duplicates of the last 90 s, sent or received,
        are refused immediately.
        """
        a, b = self.joined(2)
        self.assertRaises(ContentTooLarge, a.member.broadcast, b"x" * 4056)
        self.successResultOf(a.member.broadcast(b"x" * 4055))
        self.assertRaises(DuplicateContent, a.member.broadcast, b"x" * 4055)
        self.advance(0.1)
        self.assertRaises(DuplicateContent, b.member.broadcast, b"x" * 4055)
        self.assertRaises(DuplicateContent, b.member.broadcast_neighbors, b"x" * 4055)
        self.advance(92.0)
        self.successResultOf(a.member.broadcast(b"x" * 4055))
        self.advance(0.1)
        self.assertEqual(len(b.recorder.messages), 2)

    def test_states(self) -> None:
        """
        Broadcasting before the start is a usage error; after leaving it fails with
        L{TopicLeft}.
        """
        a = self.peer(start=False)
        self.assertRaises(UsageError, a.member.broadcast, b"x")
        self.assertRaises(UsageError, a.member.join, [])
        a.member.start()
        self.assertRaises(UsageError, a.member.start)
        self.successResultOf(a.member.leave())
        self.assertRaises(TopicLeft, a.member.broadcast, b"x")
        self.assertRaises(TopicLeft, a.member.broadcast_neighbors, b"x")
        self.assertRaises(TopicLeft, a.member.join, [])
        self.assertRaises(TopicLeft, a.member.subscribe, Recorder())

    def slow(self) -> tuple[Peer, Deferred[int]]:
        """Broadcast while the neighbour does not read."""
        a, b = self.joined(2)
        self.hub.stall(b.peer_id)
        for number in range(70):
            a.member.broadcast(b"%d" % number + b"x" * 4000)
            self.advance(0.01)
        self.advance(0.05)
        return a, a.member.broadcast(b"last")

    def test_pacing(self) -> None:
        """The result waits for a neighbour that does not read, and fires when it does."""
        _, result = self.slow()
        self.assertNoResult(result)
        self.hub.resume(IDS[1])
        self.successResultOf(result)

    def test_pacing_times_out(self) -> None:
        """The result fires after the timeout in any case."""
        _, result = self.slow()
        self.advance(4.9)
        self.assertNoResult(result)
        self.advance(0.2)
        self.successResultOf(result)

    def test_pacing_cancelled(self) -> None:
        """The result can be cancelled; leaving fires the remaining ones."""
        a, result = self.slow()
        result.cancel()
        self.failureResultOf(result, CancelledError)
        other = a.member.broadcast(b"other")
        self.assertNoResult(other)
        a.member.leave()
        self.successResultOf(other)

    def test_pacing_when_pruned(self) -> None:
        """
        When all neighbours have pruned us, a broadcast waits until one requests the
        content; a content for neighbours only is not announced, and does not wait.
        """
        a, b = self.joined(2)
        a.member.messages_received(b.peer_id, [encode(Prune())])
        self.assertEqual(self.successResultOf(a.member.broadcast_neighbors(b"near")), 1)
        result = a.member.broadcast(b"one")
        self.assertNoResult(result)
        self.advance(0.2)
        self.successResultOf(result)
        self.assertEqual([message.content for message in b.recorder.messages], [b"near", b"one"])
        self.successResultOf(a.member.broadcast(b"two"))

    def test_pacing_when_pruned_ends(self) -> None:
        """
        That wait ends after the timeout, when cancelled, when the neighbour goes, and
        with the topic.
        """
        for end in ("time", "cancel", "neighbour", "leave"):
            a, b = self.joined(2)
            self.hub.stall(b.peer_id)
            a.member.messages_received(b.peer_id, [encode(Prune())])
            result = a.member.broadcast(b"one")
            self.advance(4.9)
            self.assertNoResult(result)
            match end:
                case "time":
                    self.advance(0.2)
                case "cancel":
                    result.cancel()
                    self.failureResultOf(result, CancelledError)
                case "neighbour":
                    a.member.peer_disconnected(b.peer_id)
                case "leave":
                    a.member.leave()
            if end != "cancel":
                self.successResultOf(result)

    def test_pacing_when_one_is_behind(self) -> None:
        """
        A broadcast waits for a neighbour that gets its contents from others and is far
        behind, until it has them, or is gone or silent.
        """
        for end in ("reads", "gone", "silent"):
            self.setUp()
            a, _, c = self.joined(3)
            a.member.messages_received(c.peer_id, [encode(Prune())])
            self.hub.stall(c.peer_id)
            for number in range(100):
                self.successResultOf(a.member.broadcast(b"%d" % number))
            result = a.member.broadcast(b"one more")
            self.advance(0.3)
            self.assertNoResult(result)
            if end == "reads":
                self.hub.resume(c.peer_id)
                self.advance(0.3)
                self.assertEqual(len(c.recorder.messages), 101)
            elif end == "gone":
                a.member.peer_disconnected(c.peer_id)
            else:
                self.advance(2.0)
            self.successResultOf(result)

    def test_pacing_behind_and_slow(self) -> None:
        """
        After waiting for one that is far behind, a broadcast waits for the eager
        neighbours as usual.
        """
        a, b, c = self.joined(3)
        a.member.messages_received(c.peer_id, [encode(Prune())])
        for other in (b, c):
            self.hub.stall(other.peer_id)
        for number in range(100):
            a.member.broadcast(b"%d" % number + b"x" * 4000)
        self.advance(0.3)
        result = a.member.broadcast(b"one more")
        entries = tuple((message_id(b"%d" % number + b"x" * 4000), 1) for number in range(100))
        a.member.messages_received(c.peer_id, [encode(IHave(entries[:50])), encode(IHave(entries[50:]))])
        self.assertNoResult(result)
        self.hub.resume(b.peer_id)
        self.advance(0.3)
        self.successResultOf(result)
        again = a.member.broadcast(b"again")
        self.successResultOf(again)

    def test_message_hashes(self) -> None:
        """
        The result has the hashes of the last five distinct contents received, the oldest
        first, without those for neighbours only.  What the others list is not foreign,
        even to the sender.
        """
        a, b = self.joined(2)
        self.assertEqual(b.member.message_hashes(), ())
        for number in range(7):
            a.member.broadcast(b"%d" % number)
        a.member.broadcast_neighbors(b"n")
        a.member.broadcast(b"7")
        a.member.broadcast_neighbors(b"n")
        self.advance(0.1)
        self.assertEqual(
            b.member.message_hashes(),
            tuple(hashlib.sha512(content).digest()[:32] for content in (b"3", b"4", b"5", b"6", b"7")),
        )
        self.assertEqual(a.member.message_hashes(), ())
        self.advance(200)
        minute = int(self.clock.seconds() // 60)
        for member in (a.member, b.member):
            self.assertIsNotNone(member.messages_known_since())
            self.assertFalse(member.are_foreign([hashlib.sha512(b"7").digest()[:32]], minute))
            self.assertTrue(member.are_foreign([b"h" * 32], minute))

    def test_message_hashes_after_isolation(self) -> None:
        """A member that was without neighbours can't know all messages."""
        a, b = self.joined(2)
        a.member.broadcast(b"hello")
        self.advance(200)
        self.assertIsNotNone(b.member.messages_known_since())
        self.hub.cut(a.peer_id, b.peer_id)
        self.advance(0.1)
        b.member.join([a.peer_id])
        self.advance(1)
        self.assertEqual(b.member.neighbors(), (a.peer_id,))
        self.assertIsNone(b.member.messages_known_since())


class ObserverTests(MembersCase):
    """
    Observers of a topic.
    """

    def test_replay_and_end(self) -> None:
        """
        A later observer is notified of the current neighbours first, and of nothing
        after its end.
        """
        a, b = self.joined(2)
        late = Recorder()
        end = a.member.subscribe(late)
        self.assertEqual(late.ups, [b.peer_id])
        end()
        end()
        b.member.broadcast(b"x")
        self.advance(0.1)
        self.assertEqual((late.messages, len(a.recorder.messages)), ([], 1))

    def test_broken_observer(self) -> None:
        """An exception in an observer is logged and does not affect others."""
        a, b = self.joined(2)
        a.member.subscribe(Broken())
        last = Recorder()
        a.member.subscribe(last)
        b.member.broadcast(b"x")
        self.advance(0.1)
        self.assertEqual(len(last.messages), 1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)

    def test_observer_subscribes(self) -> None:
        """An observer subscribed during a notification is not notified twice."""
        a, b = self.peer(), self.peer()
        second = Recorder()

        class First(Recorder):
            def neighbor_up(self, peer_id: PeerId) -> None:
                a.member.subscribe(second)

        a.member.subscribe(First())
        b.book.learn(a.peer_id, a.transport.addresses(), "record")
        b.member.join([a.peer_id])
        self.advance(1.0)
        self.assertEqual(second.ups, [b.peer_id])

    def test_observer_leaves(self) -> None:
        """An observer may leave the topic during a notification: all goodbyes are sent."""
        a, b = self.peer(), self.peer()
        left: list[Deferred[None]] = []

        class Leaver(Recorder):
            def neighbor_up(self, peer_id: PeerId) -> None:
                left.append(a.member.leave())

        a.member.subscribe(Leaver())
        b.book.learn(a.peer_id, a.transport.addresses(), "record")
        b.member.join([a.peer_id])
        self.advance(1.0)
        self.successResultOf(left[0])
        self.assertEqual(b.recorder.downs, b.recorder.ups)
        self.assertEqual(b.member.neighbors(), ())

    def test_when_joined(self) -> None:
        """
        Each caller gets a separate Deferred, before and after; each can be cancelled
        alone.
        """
        a, b = self.peer(), self.peer(start=False)
        first, second = b.member.when_joined(), b.member.when_joined()
        self.assertIsNot(first, second)
        second.cancel()
        self.failureResultOf(second, CancelledError)
        b.member.start()
        self.assertNoResult(first)
        b.book.learn(a.peer_id, a.transport.addresses(), "record")
        b.member.join([a.peer_id])
        self.advance(1.0)
        self.successResultOf(first)
        self.successResultOf(b.member.when_joined())

    def test_when_joined_fails(self) -> None:
        """Waiting when the topic is left, or afterwards, fails with L{TopicLeft}."""
        a = self.peer()
        waiting = a.member.when_joined()
        a.member.leave()
        self.failureResultOf(waiting, TopicLeft)
        self.failureResultOf(a.member.when_joined(), TopicLeft)


class LeaveTests(MembersCase):
    """
    Leaving.
    """

    def test_goodbye(self) -> None:
        """Neighbours see us leave immediately; the connection ends; we have no neighbours."""
        a, b = self.joined(2)
        self.successResultOf(a.member.leave())
        self.assertEqual(a.member.neighbors(), ())
        self.advance(0.1)
        self.assertEqual(b.recorder.downs, [a.peer_id])
        self.advance(5.0)
        self.assertFalse(b.transport.is_connected(a.peer_id))

    def test_nothing_left(self) -> None:
        """
        After leaving no delayed call remains, even with a dial in progress or a
        broadcast waiting.
        """
        a, b = self.joined(2)
        address = PeerAddress(STREAMS, "10.99.0.1", 1)
        self.hub.unreachable.add((address.host, address.port))
        a.book.learn(IDS[5], [address], "record")
        a.member.join([IDS[5]])
        a.member.broadcast(b"x")
        for one in (a, b):
            self.successResultOf(one.member.leave())
            one.transport.stop()
        self.advance(5.0)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(a.events, [])

    def test_again(self) -> None:
        """Leaving twice, or without a start, is harmless."""
        a, b = self.peer(), self.peer(start=False)
        for member in (a.member, a.member, b.member, b.member):
            self.successResultOf(member.leave())
        self.assertRaises(UsageError, b.member.start)

    def test_topic_can_be_opened_again(self) -> None:
        """The transport's topic is closed: another member can open it again."""
        a = self.peer()
        a.member.leave()
        services = GossipServices(self.clock, Random(1), a.peer_id, a.transport, a.book)
        again = GossipMember(services, TOPIC, SECRET)
        again.start()
        self.successResultOf(again.leave())


class HostileTests(MembersCase):
    """
    Invalid or abusive input from peers.
    """

    def test_malformed(self) -> None:
        """A malformed or oversize message is a L{DecodeError} for the transport."""
        member = self.peer().member
        for message in (b"", b"\x07", b"\x00\x05\x02\x00", encode(Join(b"x" * 4096))):
            self.assertRaises(DecodeError, member.messages_received, IDS[5], [message])

    def test_before_a_malformed_one(self) -> None:
        """
        Messages before a malformed one in the same batch are handled, those after it
        are not.
        """
        a, b = self.joined(2)
        one, two = (encode(Gossip(message_id(content), content, 0)) for content in (b"one", b"two"))
        self.assertRaises(DecodeError, a.member.messages_received, b.peer_id, [one, b"\x07", two])
        self.assertEqual([message.content for message in a.recorder.messages], [b"one"])

    def test_left_between_messages(self) -> None:
        """After leaving while a batch of messages is delivered, the rest is not delivered."""
        a, b = self.joined(2)
        remember = a.recorder.message_received

        def leave(message: GossipMessage) -> None:
            remember(message)
            a.member.leave()

        self.patch(a.recorder, "message_received", leave)
        contents = (b"one", b"two")
        a.member.messages_received(b.peer_id, [encode(Gossip(message_id(c), c, 0)) for c in contents])
        a.member.messages_received(b.peer_id, [encode(Gossip(message_id(b"three"), b"three", 0))])
        self.assertEqual([message.content for message in a.recorder.messages], [b"one"])

    def test_bad_peer_data(self) -> None:
        """PeerData that can't be decoded has no effect."""
        a = self.peer()
        self.patch(a.transport, "is_connected", lambda peer_id: True)
        a.member.messages_received(IDS[5], [encode(Join(b"\xff\xff"))])
        self.assertEqual(a.member.neighbors(), (IDS[5],))
        self.assertEqual(a.book.known(IDS[5]), ())

    def test_strangers_are_not_dialled_for_contents(self) -> None:
        """Q7: flow control messages do not dial a peer that is not a neighbour."""
        a = self.peer()
        a.book.learn(IDS[5], [PeerAddress(STREAMS, "10.99.0.1", 1)], "record")
        gossip = encode(Gossip(message_id(b"x"), b"x", 0))
        for message in (gossip, gossip, encode(Graft(message_id(b"x"), 0))):
            a.member.messages_received(IDS[5], [message])
        self.advance(1.0)
        self.assertEqual(a.events, [])
        self.assertEqual(len(a.recorder.messages), 1)

    def test_courtesy_is_bounded(self) -> None:
        """
        Shuffles that name arbitrary peers as their origin start a bounded number of
        dials.
        """
        a = self.peer()
        address = PeerAddress(STREAMS, "10.99.0.1", 1)
        self.hub.unreachable.add((address.host, address.port))
        for number in range(30):
            origin = PeerKey.from_seed(bytes((100 + number,)) * 32).peer_id
            data = encode_peer_data([address])
            a.member.messages_received(IDS[5], [encode(Shuffle(origin, (PeerInfo(origin, data),), 0))])
        self.assertLessEqual(len(a.member._outbox._dials), 8)

    def test_after_leaving(self) -> None:
        """Events from a transport after leaving are ignored."""
        a = self.peer()
        a.member.leave()
        a.member.peer_connected(IDS[5])
        a.member.messages_received(IDS[5], [encode(Join())])
        a.member.peer_disconnected(IDS[5])
        self.assertEqual((a.member.neighbors(), self.clock.getDelayedCalls()), ((), []))

    def test_failing_output(self) -> None:
        """An error in performing an output is logged; the next ones are performed."""
        a = self.peer()
        self.patch(a.transport, "is_connected", lambda peer_id: True)
        self.patch(a.book, "learn", lambda *args: 1 / 0)
        a.member._perform([PeerDataLearned(IDS[5], encode_peer_data(a.transport.addresses()))])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        a.member.messages_received(IDS[5], [encode(Neighbor(Priority.HIGH))])
        a.member.messages_received(IDS[5], [encode(Disconnect(False))])
        self.assertEqual((a.recorder.ups, a.recorder.downs), ([IDS[5]], [IDS[5]]))


class TimerTests(MembersCase):
    """
    One delayed call for all timers.
    """

    def test_one_call(self) -> None:
        """One delayed call serves all timers of the machine."""
        a, _ = self.joined(2)
        own = [c for c in self.clock.getDelayedCalls() if getattr(c, "func", None) == a.member._on_timer]
        self.assertEqual(len(own), 1)

    def test_rounding_error(self) -> None:
        """A call that is early by a rounding error does what is due, and is not repeated."""
        a = self.peer()
        a.member.broadcast(b"x")
        when, timer = a.member._swarm.next_timer(), a.member._timer
        assert when is not None
        assert timer is not None
        timer.cancel()
        self.clock.rightNow = math.nextafter(when, 0.0)
        a.member._on_timer()
        after = a.member._swarm.next_timer()
        assert after is not None
        self.assertGreater(after, when + 0.5)

    def test_encoded_once(self) -> None:
        """Several peers get the same encoded message."""
        peers = self.joined(4)
        seen: list[bytes] = []
        original = peers[0].transport.send

        def spy(peer_id: PeerId, topic_id: bytes, message: bytes) -> bool:
            seen.append(message)
            return original(peer_id, topic_id, message)

        self.patch(peers[0].transport, "send", spy)
        peers[0].member.broadcast(b"hello")
        self.assertEqual([decode(data) for data in seen], [Gossip(message_id(b"hello"), b"hello", 0)] * 3)
        self.assertIs(seen[0], seen[1])
