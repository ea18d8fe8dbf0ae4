"""
The contract of L{IGossip}, as far as the tracker relies on it, for L{GossipMember} over
in-memory transports and for L{FakeGossip}.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from dtt.addresses.book import AddressBook
from dtt.errors import ContentTooLarge, DuplicateContent, TopicLeft
from dtt.gossip.member import GossipMember
from dtt.gossip.services import GossipServices
from dtt.identity import PeerKey
from dtt.interfaces import GossipMessage, IGossip
from dtt.records.topic import truncated_sha512
from dtt.testing.fake_gossip import FakeGossip
from dtt.testing.memory_transport import MemoryHub, MemoryPeerTransport
from dtt.testing.net.clock import advance

if TYPE_CHECKING:
    _Base = SynchronousTestCase
else:
    _Base = object

IDS = [PeerKey.from_seed(bytes((number,)) * 32).peer_id for number in (1, 2)]


class Recorder:
    """Records notifications; may raise."""

    def __init__(self, broken: bool = False) -> None:
        self.reported: list[object] = []
        self.broken = broken

    def neighbor_up(self, peer_id: bytes) -> None:
        self._tell(("up", peer_id))

    def neighbor_down(self, peer_id: bytes) -> None:
        self._tell(("down", peer_id))

    def message_received(self, message: GossipMessage) -> None:
        self._tell((message.content, message.scope, message.delivered_from))

    def _tell(self, what: object) -> None:
        self.reported.append(what)
        if self.broken:
            raise ZeroDivisionError


class GossipContract(_Base):
    """
    One member, and another one that comes and goes.
    """

    gossip: IGossip

    def up(self) -> None:
        """Make the other member a neighbour."""
        raise NotImplementedError

    def down(self) -> None:
        """Let the other member leave."""
        raise NotImplementedError

    def receive(self, content: bytes) -> None:
        """Let the other member send a message."""
        raise NotImplementedError

    def test_interface(self) -> None:
        """The object provides IGossip."""
        verifyObject(IGossip, self.gossip)

    def test_joined(self) -> None:
        """Each caller of when_joined gets its own Deferred; with a neighbour it fires immediately."""
        one, other, third = (self.gossip.when_joined() for _ in range(3))
        other.cancel()
        self.failureResultOf(other, CancelledError)
        self.assertEqual(self.gossip.neighbors(), ())
        self.up()
        self.assertIsNone(self.successResultOf(one))
        self.assertIsNone(self.successResultOf(third))
        self.assertEqual(self.gossip.neighbors(), (IDS[1],))
        self.successResultOf(self.gossip.when_joined())
        self.down()
        self.assertEqual(self.gossip.neighbors(), ())
        self.assertNoResult(self.gossip.when_joined())

    def test_observer(self) -> None:
        """An observer is notified of the current neighbours, then of all events, until it unsubscribes."""
        self.up()
        observer = Recorder()
        unsubscribe = self.gossip.subscribe(observer)
        self.receive(b"hello")
        self.down()
        unsubscribe()
        unsubscribe()
        self.up()
        self.assertEqual(observer.reported, [("up", IDS[1]), (b"hello", "swarm", IDS[1]), ("down", IDS[1])])

    def test_when_an_observer_is_told(self) -> None:
        """The state is updated before the notification: a neighbour that is gone is not in neighbors()."""
        seen: list[tuple[bytes, ...]] = []
        observer = Recorder()
        observer.neighbor_down = lambda peer_id: seen.append(self.gossip.neighbors())  # type: ignore[method-assign]
        observer.neighbor_up = lambda peer_id: seen.append(self.gossip.neighbors())  # type: ignore[method-assign]
        self.gossip.subscribe(observer)
        self.up()
        self.down()
        self.assertEqual(seen, [(IDS[1],), ()])

    def test_broken_observer(self) -> None:
        """An exception in an observer is logged and does not affect others."""
        good = Recorder()
        self.gossip.subscribe(Recorder(broken=True))
        self.gossip.subscribe(good)
        self.up()
        self.assertEqual(good.reported, [("up", IDS[1])])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_hashes(self) -> None:
        """The result has the last 5 distinct messages received, the oldest first."""
        self.up()
        contents = [b"%d" % number for number in range(7)]
        for content in contents:
            self.receive(content)
        self.assertEqual(self.gossip.message_hashes(), tuple(map(truncated_sha512, contents[2:])))

    def test_broadcast(self) -> None:
        """A content that is too large or not new is refused immediately."""
        self.up()
        self.successResultOf(self.gossip.broadcast(b"hello"))
        with self.assertRaises(DuplicateContent):
            self.gossip.broadcast(b"hello")
        with self.assertRaises(ContentTooLarge):
            self.gossip.broadcast(b"x" * 4056)
        self.successResultOf(self.gossip.broadcast(b"x" * 4055))
        self.receive(b"theirs")
        with self.assertRaises(DuplicateContent):
            self.gossip.broadcast(b"theirs")

    def test_left(self) -> None:
        """After leave, everything raises TopicLeft or fails with it, and there are no more notifications."""
        observer = Recorder()
        self.gossip.subscribe(observer)
        waiting = self.gossip.when_joined()
        self.successResultOf(self.gossip.leave())
        self.failureResultOf(waiting, TopicLeft)
        self.failureResultOf(self.gossip.when_joined(), TopicLeft)
        for call in (
            lambda: self.gossip.join([IDS[1]]),
            lambda: self.gossip.broadcast(b"x"),
            lambda: self.gossip.broadcast_neighbors(b"x"),
            lambda: self.gossip.subscribe(observer),
        ):
            with self.assertRaises(TopicLeft):
                call()
        self.assertEqual((self.gossip.neighbors(), observer.reported), ((), []))
        self.successResultOf(self.gossip.leave())


class FakeGossipTests(GossipContract, SynchronousTestCase):
    """
    L{FakeGossip}.
    """

    def setUp(self) -> None:
        """Create a fake."""
        self.gossip = self.fake = FakeGossip()

    def up(self) -> None:
        self.fake.up(IDS[1])

    def down(self) -> None:
        self.fake.down(IDS[1])

    def receive(self, content: bytes) -> None:
        self.fake.receive(content, IDS[1])

    def test_remembers(self) -> None:
        """Calls are recorded."""
        reported: list[tuple[bytes, ...]] = []
        self.fake.on_join = reported.append
        self.fake.join([IDS[1]])
        self.fake.broadcast(b"a")
        self.fake.broadcast_neighbors(b"b")
        self.assertEqual((self.fake.joins, reported), ([(IDS[1],)], [(IDS[1],)]))
        self.assertEqual(self.fake.broadcasts, [b"a", b"b"])


class GossipMemberTests(GossipContract, SynchronousTestCase):
    """
    L{GossipMember}.
    """

    def setUp(self) -> None:
        """Create two members on a hub."""
        self.clock = Clock()
        self.hub = MemoryHub(self.clock)
        self.books: dict[int, AddressBook] = {}
        self.transports: dict[int, MemoryPeerTransport] = {}
        member = self.member(0)
        member.start()
        self.gossip = member

    def member(self, number: int) -> GossipMember:
        """Create a member."""
        transport = self.hub.transport(IDS[number])
        book = AddressBook(self.clock, Random(number), transport.addresses, IDS[number])
        self.books[number], self.transports[number] = book, transport
        services = GossipServices(self.clock, Random(number), IDS[number], transport, book)
        return GossipMember(services, b"t" * 32, b"s" * 32)

    def up(self) -> None:
        self.other = self.member(1)
        self.other.start()
        self.books[1].learn(IDS[0], self.transports[0].addresses(), "record")
        self.other.join([IDS[0]])
        advance(self.clock, 1)

    def down(self) -> None:
        self.other.leave()
        advance(self.clock, 1)

    def receive(self, content: bytes) -> None:
        self.other.broadcast(content)
        advance(self.clock, 1)
