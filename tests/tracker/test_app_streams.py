"""
Tests for L{dtt.tracker.app_streams}: endpoints of whole trackers, on an internet in memory.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IStreamClientEndpoint, IStreamServerEndpoint
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from dtt.config import Config
from dtt.errors import DialFailed, StreamRefused, TopicLeft, UsageError, WrongType
from dtt.tracker.tracker import Tracker
from tests.sweeps import sized
from tests.tracker.common import without_iroh
from tests.tracker.internet import Internet, Member
from tests.transport.appstreams.common import Recorder, Recorders


class EndpointTests(SynchronousTestCase):
    """
    Members of a topic, in three kinds of places.
    """

    def start(self, *kinds: str) -> list[Member]:
        """
        Start members in a topic, and wait until they are neighbours.
        """
        self.internet = Internet(7)
        self.addCleanup(self.internet.stop)
        members = [self.internet.start(self.internet.member(kind)) for kind in kinds]
        self.assertTrue(self.internet.until(lambda: all(member.neighbors for member in members), 30))
        return members

    def exchange(self, one: Member, other: Member, size: int = 100_000) -> Any:
        """
        Open a stream from C{one} to C{other}, send bytes both ways, and return the client.
        """
        server = Recorders()
        port = self.successResultOf(other.tracker.server_endpoint(b"app/1").listen(server))
        endpoint = one.tracker.client_endpoint(other.tracker.peer_id, b"app/1")
        connecting = endpoint.connect(Recorders())
        self.internet.advance(1)
        client: Any = self.successResultOf(connecting)
        self.assertEqual(server.peers[0].peer_id, one.tracker.peer_id)
        client.transport.write(bytes(size))
        server.made[0].transport.write(b"hello")
        self.internet.advance(2)
        self.assertEqual((len(server.made[0].received), client.received), (size, b"hello"))
        port.stopListening()
        return client

    def test_neighbours(self) -> None:
        """Neighbours open streams to each other, over QUIC through NATs, and over TCP."""
        for kinds in (("nat", "nat"), ("public", "public"))[: sized(1, 2)]:
            one, other = self.start(*kinds)
            client = self.exchange(one, other)
            self.exchange(other, one)
            client.transport.loseConnection()
            self.internet.advance(5)
            self.assertEqual(one.neighbors, (other.tracker.peer_id,))
            self.internet.stop()

    def test_not_a_neighbour(self) -> None:
        """
        A member that is no neighbour is dialled, and its connection ends after the stream.  A member
        without a common topic refuses.
        """
        one, other = self.start("public", "public")
        stranger = self.internet.start(self.internet.member(), "another topic")
        self.internet.advance(5)
        for member in (one, stranger):
            addresses = other.tracker._listeners.transport.addresses()
            member.tracker._addresses.book.learn(other.tracker.peer_id, addresses, "test")
        assert one.topic is not None
        one.topic._gossip._outbox.disconnect(other.tracker.peer_id)
        self.internet.advance(3)
        streams = one.tracker._listeners.streams
        assert streams is not None
        self.assertFalse(streams.is_connected(other.tracker.peer_id))
        server = Recorders()
        other.tracker.server_endpoint(b"app/1").listen(server)
        endpoint = stranger.tracker.client_endpoint(other.tracker.peer_id, b"app/1")
        refused = endpoint.connect(Recorders())
        self.internet.advance(10)
        failure = self.failureResultOf(refused, StreamRefused)
        self.assertEqual(failure.getErrorMessage(), "the peer shares no topic with us")
        self.assertEqual(server.made, [])
        self.exchange_again(one, other)

    def exchange_again(self, one: Member, other: Member) -> None:
        """
        Open a stream under another name.
        """
        server = Recorders()
        other.tracker.server_endpoint(b"app/2").listen(server)
        connecting = one.tracker.client_endpoint(other.tracker.peer_id, b"app/2").connect(Recorders())
        self.internet.advance(5)
        client: Any = self.successResultOf(connecting)
        client.transport.write(b"hello")
        self.internet.advance(1)
        self.assertEqual(server.made[0].received, b"hello")

    def test_unknown_member(self) -> None:
        """Without an address, or without a topic, the connect fails with a reason."""
        (one,) = [self.internet_member()]
        endpoint = one.tracker.client_endpoint(bytes(Tracker(*self.another()).peer_id), b"app/1")
        lonely = endpoint.connect(Recorders())
        self.assertIn("no topic is joined", self.failureResultOf(lonely, DialFailed).getErrorMessage())
        self.internet.start(one)
        connecting = endpoint.connect(Recorders())
        self.internet.advance(31)
        self.failureResultOf(connecting, DialFailed)

    def internet_member(self) -> Member:
        """
        A member that is not started.
        """
        self.internet = Internet(8)
        self.addCleanup(self.internet.stop)
        return self.internet.member()

    def another(self) -> tuple[Any, Config]:
        """
        The arguments of a tracker that is never started.
        """
        return self.internet.net.reactor("10.9.9.9"), Config(transport=("streams",))

    def test_arguments(self) -> None:
        """Wrong arguments, and a tracker without streams and quic, raise UsageError at the call."""
        tracker = self.internet_member().tracker
        other = Tracker(*self.another()).peer_id
        self.assertTrue(verifyObject(IStreamClientEndpoint, tracker.client_endpoint(other, b"x")))
        self.assertTrue(verifyObject(IStreamServerEndpoint, tracker.server_endpoint(b"x")))
        wrong: Any
        for wrong in (b"short", other.hex(), None, tracker.peer_id, bytes(32)):
            with self.assertRaises(UsageError):
                tracker.client_endpoint(wrong, b"app/1")
        for wrong in (b"", bytes(256), "app/1", None):
            with self.assertRaises(UsageError):
                tracker.client_endpoint(other, wrong)
            with self.assertRaises(UsageError):
                tracker.server_endpoint(wrong)
        for wrong in (0, -1.0, "5", float("nan"), float("inf")):
            with self.assertRaises(UsageError):
                tracker.client_endpoint(other, b"app/1", wrong)
        for call in (
            lambda: tracker.client_endpoint(other, b"app/1").connect,
            lambda: tracker.server_endpoint(b"app/1").listen,
        ):
            for wrong in (None, Recorder, Recorder(), Recorders):
                error = self.assertRaises(WrongType, call(), wrong)
                self.assertIn("Factory.forProtocol", str(error))
        self.successResultOf(tracker.server_endpoint(b"app/1").listen(Recorders()))
        tracker._app_streams._transport = None
        with self.assertRaises(UsageError):
            tracker.server_endpoint(b"app/1")

    def test_tracker_stops(self) -> None:
        """When a tracker stops, its streams end on both sides; it makes no endpoints any more."""
        one, other = self.start("public", "public")
        endpoint = one.tracker.client_endpoint(other.tracker.peer_id, b"app/1")
        client: Recorder = self.exchange(one, other)
        one.tracker.stopService()
        self.internet.advance(5)
        self.assertEqual(len(client.lost), 1)
        late = endpoint.connect(Recorders())
        self.internet.advance(1)
        self.failureResultOf(late, DialFailed)
        for call in (
            lambda: one.tracker.client_endpoint(other.tracker.peer_id, b"app/1"),
            lambda: one.tracker.server_endpoint(b"app/1"),
        ):
            self.assertRaises(TopicLeft, call)

    def setUp(self) -> None:
        without_iroh(self)
