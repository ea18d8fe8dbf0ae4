"""
Fakes of L{Tracker<dtt.tracker.tracker.Tracker>} and
L{TopicService<dtt.tracker.topic.TopicService>}, for tests that need no swarm.

L{FakeTracker} has no network and no DHT: the test decides which members appear and disappear, and which
messages arrive.  They can replace a tracker or a topic in an application: they are
subclasses, check arguments in the same way, and raise the same exceptions.  Behaviour that depends on time or
a network, such as the loss of a message, needs a L{VirtualSwarm<dtt.testing.swarm.VirtualSwarm>}.

Example::

    tracker = FakeTracker()
    application = MyApplication(tracker)
    topic = tracker.topic("garden party")
    topic.up(PEER)
    topic.receive(b"hello", PEER)
    topic.sent                   # what the application has broadcast
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from dtt._version import __version__
from dtt.arguments import check_bytes, check_function, check_id, check_ids
from dtt.config import Config
from dtt.errors import LocalError, TopicLeft, UsageError
from dtt.events import Event
from dtt.feed import Feed
from dtt.gossip.feed import MessageFeed
from dtt.identity import PeerKey
from dtt.interfaces import GossipMessage, GossipObserver
from dtt.records.topic import Rotation, TopicId, default_rotation
from dtt.testing.fake_discovery import FakeDiscoveryService
from dtt.testing.fake_gossip import FakeGossip
from dtt.tracker.app_streams import CONNECT_TIMEOUT
from dtt.tracker.discover import Found
from dtt.tracker.signing import Signing
from dtt.tracker.status import DHTStatus, TopicStatus, TrackerStatus
from dtt.tracker.topic import TopicService
from dtt.tracker.tracker import Tracker
from dtt.transport.appstreams.endpoints import StreamClientEndpoint, StreamServerEndpoint

# Any minute: the rotation of a topic is tried when it is joined, and signed messages have its time.
_MINUTE = 30_000_000


class FakeTopicService(TopicService):
    """
    A topic whose neighbours and messages come from the test.

    @ivar secret: the secret that was passed to C{join}.
    @ivar accept: the callable that was passed to C{join}.
    """

    def __init__(
        self,
        topic_id: TopicId,
        secret: bytes,
        accept: Callable[[bytes], bool] | None,
        signing: Signing,
        forget: Callable[[FakeTopicService], None],
    ) -> None:
        """
        @param topic_id: the topic.
        @param secret: the secret that was passed to C{join}.
        @param accept: the callable that was passed to C{join}.
        @param signing: signs messages.
        @param forget: called when the topic is left.
        """
        MultiService.__init__(self)
        self.signing = signing
        self.topic_id = topic_id
        self.secret = secret
        self.accept = accept
        self._forget_fake = forget
        self._fake = FakeGossip()
        self._is_left = False
        self._unheard = 0

    # Controls for tests

    @property
    def sent(self) -> list[bytes]:
        """
        The contents that the application has sent, to all or to neighbours, in order.
        """
        return self._fake.broadcasts

    @property
    def sent_to(self) -> list[tuple[bytes, bytes]]:
        """
        The contents that the application has sent to one neighbour, with its peer id, in
        order.
        """
        return self._fake.sent

    @property
    def asked_for(self) -> list[bytes]:
        """
        The peer ids passed to L{join_peers}, in order.
        """
        return [peer for peers in self._fake.joins for peer in peers]

    def up(self, peer_id: bytes) -> None:
        """
        Make a member a neighbour, unless the application does not accept it.

        @param peer_id: any 32 bytes.
        """
        check_id("peer_id", peer_id)
        if self.accept is None or self.accept(peer_id):
            self._fake.up(peer_id)

    def down(self, peer_id: bytes) -> None:
        """
        Remove a neighbour.
        """
        if peer_id not in self._fake.neighbors():
            raise UsageError(f"{peer_id.hex()} is not a neighbour")
        self._fake.down(peer_id)

    def receive(self, content: bytes, delivered_from: bytes) -> None:
        """
        Let a message arrive.

        @param content: its content.
        @param delivered_from: the neighbour that delivered it, 32 bytes.
        """
        check_id("delivered_from", delivered_from)
        self._fake.receive(content, delivered_from)

    def receive_directly(self, content: bytes, peer_id: bytes) -> None:
        """
        Let a message arrive that a neighbour has sent to us or to all its neighbours.

        @param content: its content.
        @param peer_id: the neighbour, 32 bytes.
        """
        check_id("peer_id", peer_id)
        message = GossipMessage(content, "neighbors", peer_id)
        self._fake._notify(lambda observer: observer.message_received(message))

    # What the application calls

    def __repr__(self) -> str:
        return f"<FakeTopicService {self.topic_id.hex()[:10]}>"

    def startService(self) -> None:
        """
        Allow broadcasts.
        """
        MultiService.startService(self)

    def stopService(self) -> Deferred[None]:
        """
        Leave the topic.
        """
        if not self._is_left:
            self._is_left = True
            self._forget_fake(self)
            self._fake.leave()
        MultiService.stopService(self)
        return succeed(None)

    def when_joined(self) -> Deferred[None]:
        """
        Return a Deferred that fires at the first L{up}.
        """
        return fail(TopicLeft("the topic was left")) if self._is_left else self._fake.when_joined()

    def subscribe(self, observer: GossipObserver) -> Callable[[], None]:
        """
        Notify C{observer} of L{up}, L{down} and L{receive}.
        """
        self._check_left()
        return self._fake.subscribe(observer)

    def broadcast(self, content: bytes) -> Deferred[int]:
        """
        Record the content in L{sent}, and fire with the number of neighbours.
        """
        self._check_running()
        sending = self._fake.broadcast(content)
        if not self._fake.neighbors():
            self._unheard += 1
        return sending

    def broadcast_neighbors(self, content: bytes) -> Deferred[int]:
        """
        Record the content in L{sent}, and fire with the number of neighbours.
        """
        self._check_running()
        return self._fake.broadcast_neighbors(content)

    def send(self, peer_id: bytes, content: bytes) -> Deferred[None]:
        """
        Record the content in L{sent_to}.
        """
        self._check_running()
        return self._fake.send(peer_id, content)

    def messages(self) -> Feed[GossipMessage]:
        """
        Return an asynchronous iterator over what arrives from now on.
        """
        return MessageFeed.of(self._fake)

    def neighbors(self) -> tuple[bytes, ...]:
        """
        Return the neighbours, in the order in which they came.
        """
        return self._fake.neighbors()

    def counters(self) -> dict[str, int]:
        """
        Return how many messages were sent without a neighbour.
        """
        return {"broadcast_unheard": self._unheard} if self._unheard else {}

    def record_counters(self) -> dict[str, int]:
        """
        Return nothing: there are no records.
        """
        return {}

    def finds(self) -> dict[str, int]:
        """
        Return nothing: there are no channels.
        """
        return {}

    def status(self) -> TopicStatus:
        """
        Return a snapshot without details.
        """
        joined = bool(self._fake.neighbors())
        return TopicStatus(
            topic_id=bytes(self.topic_id),
            label=self.topic_id.label,
            state="not running" if not self.running else "joined" if joined else "searching",
            doing="",
            since=0.0,
            messages_sent=len(self.sent),
        )

    def status_counts(self) -> tuple[int, int]:
        """
        Return how many messages were broadcast; none are counted as received.
        """
        return len(self.sent), 0

    def remember_neighbors(self) -> None:
        """
        Do nothing: nothing is written.
        """

    def join_peers(self, peer_ids: Sequence[bytes]) -> None:
        """
        Record the peers in L{asked_for}.
        """
        self._check_running()
        self._fake.join(check_ids("peer_ids", peer_ids))

    def leave(self) -> Deferred[None]:
        """
        Leave the topic.
        """
        if self.parent is not None and not self._is_left:
            self.disownServiceParent()
        return self.stopService()

    def network_changed(self) -> None:
        """
        Do nothing: there is no network.
        """

    def peer_moved(self, peer_id: bytes) -> None:
        """
        Do nothing: there is no network.
        """

    def update_addresses(self) -> None:
        """
        Do nothing: there is no network.
        """

    def _check_left(self) -> None:
        if self._is_left:
            raise TopicLeft("the topic was left")

    def _check_running(self) -> None:
        self._check_left()
        if not self.running:
            raise UsageError("the topic has not been started yet: wait for when_joined()")


class FakeTracker(Tracker):
    """
    A tracker without a network.  It opens nothing and writes nothing.

    @ivar clock: its time, which the test advances.  Only the time of signed messages
        depends on it.
    """

    def __init__(self, config: Config | None = None, key: PeerKey | None = None) -> None:
        """
        @param config: the value of C{config}.
        @param key: the key of the member; C{None}: always the same.
        """
        MultiService.__init__(self)
        self.config = config or Config()
        self._key = key or PeerKey.from_seed(bytes(32))
        self.peer_id = self._key.peer_id
        self.clock = Clock()
        self.clock.rightNow = _MINUTE * 60.0
        self._stopped = False
        self._topics = {}
        self._discoveries = {}

    def __repr__(self) -> str:
        return f"<FakeTracker {self.peer_id.hex()[:10]}>"

    def topic(self, name: str | bytes | TopicId) -> FakeTopicService:
        """
        Return a topic that the application has joined.

        @raise KeyError: it has not.
        """
        topic: Any = self._topics[name if isinstance(name, TopicId) else TopicId.from_name(name)]
        return topic  # type: ignore[no-any-return]

    def discovery(self, name: str | bytes | TopicId) -> FakeDiscoveryService:
        """
        Return a topic for which the application has called L{discover}.

        @raise KeyError: it has not.
        """
        found: Any = self._discoveries[name if isinstance(name, TopicId) else TopicId.from_name(name)]
        return found  # type: ignore[no-any-return]

    def join(
        self,
        name: str | bytes | TopicId,
        secret: bytes = b"",
        rotation: Rotation = default_rotation,
        *,
        accept: Callable[[bytes], bool] | None = None,
    ) -> FakeTopicService:
        """
        Join a topic; see L{Tracker.join}.
        """
        check_function("accept", accept, optional=True)
        if self.config.transport == ():
            raise UsageError("this tracker has no transports (transport=()): it can only discover")
        topic_id = self._tried(name, secret, rotation)
        signing = Signing(topic_id, self._key, self.clock.seconds, lambda event: None)
        topic = FakeTopicService(topic_id, secret, accept, signing, self._forget_fake)
        self._topics[topic.topic_id] = topic
        topic.setServiceParent(self)
        return topic

    def discover(
        self,
        topic: str | bytes | TopicId,
        *,
        secret: bytes = b"",
        content: bytes | None = None,
        on_found: Callable[[Found], object] | None = None,
        rotation: Rotation = default_rotation,
    ) -> FakeDiscoveryService:
        """
        Find others, and be found; see L{Tracker.discover}.
        """
        check_function("on_found", on_found, optional=True)
        service = FakeDiscoveryService(self._tried(topic, secret, rotation), content, self._forget_fake)
        if on_found is not None:
            service.subscribe(on_found)
        self._discoveries[service.topic_id] = service
        service.setServiceParent(self)
        return service

    @property
    def ports(self) -> dict[str, int]:
        """
        Nothing: no port is bound.
        """
        return {}

    def counters(self) -> dict[str, float]:
        """
        Return nothing: nothing is counted.
        """
        return {}

    def client_endpoint(
        self, peer_id: bytes, name: bytes, timeout: float = CONNECT_TIMEOUT
    ) -> StreamClientEndpoint:
        """
        Raise L{UsageError}, as a tracker without streams does: use a
        L{VirtualSwarm<dtt.testing.swarm.VirtualSwarm>}.
        """
        raise UsageError("a FakeTracker has no streams; use a VirtualSwarm")

    def server_endpoint(self, name: bytes) -> StreamServerEndpoint:
        """
        Raise L{UsageError}, as L{client_endpoint}.
        """
        raise UsageError("a FakeTracker has no streams; use a VirtualSwarm")

    def observe_events(self, observer: Callable[[Event, float], None]) -> Callable[[], None]:
        """
        Observe nothing: there are no events.
        """
        return lambda: None

    def status(self) -> TrackerStatus:
        """
        Return a snapshot without details.
        """
        return TrackerStatus(
            version=__version__.public(),
            peer_id=bytes(self.peer_id),
            state="stopped" if self._stopped else "running" if self.running else "not running",
            time=self.clock.seconds(),
            started=None,
            uptime=0.0,
            dht=DHTStatus(ready=False, node_id=bytes(20), port=0),
            topics=tuple(topic.status() for topic in self._topics.values()),
        )

    def privilegedStartService(self) -> None:
        """
        Do nothing: no port is bound.
        """

    def startService(self) -> None:
        """
        Start the topics.

        @raise LocalError: the tracker has stopped.
        """
        if self._stopped:
            raise LocalError("a stopped tracker can't be restarted; make a new one")
        MultiService.startService(self)

    def stopService(self) -> Deferred[None]:
        """
        Leave every topic.
        """
        self._stopped = True
        for each in self._all():
            each.leave()
        MultiService.stopService(self)
        return succeed(None)

    def _tried(self, name: str | bytes | TopicId, secret: bytes, rotation: Rotation) -> TopicId:
        """
        Check arguments as the real one does.
        """
        check_bytes("secret", secret)
        keys = self._keys(name, secret, rotation)
        keys.encryption_key(keys.slot(_MINUTE))  # raises UsageError
        return keys.topic_id

    def _forget_fake(self, left: FakeTopicService | FakeDiscoveryService) -> None:
        self._topics.pop(left.topic_id, None)
        self._discoveries.pop(left.topic_id, None)
