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

from collections import Counter
from collections.abc import Callable, Sequence
from types import NoneType
from typing import Any

from attrs import asdict
from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, fail, gatherResults
from twisted.internet.task import Clock

from dtt._version import __version__
from dtt.arguments import check_bytes, check_function, check_id, check_ids, check_type
from dtt.config import Config
from dtt.errors import LocalError, TopicLeft, UsageError
from dtt.events import Event
from dtt.feed import Feed
from dtt.gossip.acceptance import Acceptance
from dtt.gossip.feed import MessageFeed
from dtt.gossip.proto.config import GossipConfig
from dtt.identity import PeerKey
from dtt.interfaces import GossipMessage, GossipObserver
from dtt.records.topic import Rotation, TopicId, default_rotation
from dtt.testing.fake_dht import FakeDHT
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
        tracker: FakeTracker,
        topic_id: TopicId,
        secret: bytes,
        accept: Callable[[bytes], bool] | None,
    ) -> None:
        """
        @param tracker: the tracker.
        @param topic_id: the topic.
        @param secret: the secret that was passed to C{join}.
        @param accept: the callable that was passed to C{join}.
        """
        MultiService.__init__(self)
        clock = tracker.clock
        self.signing = Signing(topic_id, tracker._key, clock.seconds, lambda event: None)
        self.topic_id = topic_id
        self.secret = secret
        self.accept = accept
        self._forget_fake = tracker._forget_fake
        self._fake = FakeGossip(GossipConfig(**asdict(tracker.config.gossip)), clock.seconds)
        self._counts: Counter[str] = Counter()
        self._acceptance = None if accept is None else Acceptance(clock, accept, self._counts)
        self._is_left = self._was_started = False

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
        Make a member a neighbour, unless the application does not accept it.  As in a real topic, C{accept}
        is not called again for a refused member for 10 minutes of L{FakeTracker.clock}.

        @param peer_id: any 32 bytes.
        @raise UsageError: it is a neighbour already, or the tracker has not started.
        @raise TopicLeft: the topic was left.
        """
        check_id("peer_id", peer_id)
        self._check_running()
        if peer_id in self._fake.neighbors():
            raise UsageError(f"{peer_id.hex()} is a neighbour already")
        if self._acceptance is not None:
            self._acceptance.ask([peer_id])
            if self._acceptance.is_refused(peer_id) or self._is_left:
                return
        self._fake.up(peer_id)

    def down(self, peer_id: bytes) -> None:
        """
        Remove a neighbour.

        @raise UsageError: it is not a neighbour.
        """
        self._check_neighbor(peer_id)
        self._fake.down(peer_id)

    def break_link(self, peer_id: bytes, reason: str = "connection lost", unconfirmed: int = 0) -> None:
        """
        Break the connection to a neighbour, and remove it: observers are notified by C{link_broken} and
        C{neighbor_down}.

        @param reason: the reason that they get.
        @param unconfirmed: the number of messages to it that may be lost.
        @raise UsageError: it is not a neighbour.
        """
        self._check_neighbor(peer_id)
        self._counts["links_broken"] += 1
        self._counts["unconfirmed"] += unconfirmed
        self._fake.break_link(peer_id, reason, unconfirmed)

    def receive(self, content: bytes, delivered_from: bytes) -> None:
        """
        Let a message arrive.

        @param content: its content.
        @param delivered_from: the neighbour that delivered it, 32 bytes.
        @raise ContentTooLarge: nobody can send a message of this size.
        @raise DuplicateContent: the same content was broadcast or received in the last 90 s of
            L{FakeTracker.clock}: a swarm would not deliver it.
        @raise UsageError: the tracker has not started.
        @raise TopicLeft: the topic was left.
        """
        check_id("delivered_from", delivered_from)
        self._check_running()
        self._fake.check_content(content)
        self._fake.receive(content, delivered_from)

    def receive_directly(self, content: bytes, peer_id: bytes) -> None:
        """
        Let a message arrive that a neighbour has sent to us or to all its neighbours.

        @param content: its content.
        @param peer_id: the neighbour, 32 bytes.
        @raise ContentTooLarge: nobody can send a message of this size.
        @raise UsageError: the tracker has not started.
        @raise TopicLeft: the topic was left.
        """
        check_id("peer_id", peer_id)
        self._check_running()
        self._fake.check_size(content)
        self._fake.deliver(GossipMessage(content, "neighbors", peer_id))

    # What the application calls

    def __repr__(self) -> str:
        return f"<FakeTopicService {self.topic_id.hex()[:10]}>"

    def startService(self) -> None:
        """
        Allow broadcasts.
        """
        if self._was_started or self._is_left:
            raise UsageError("this member was already started: create a new one")
        self._was_started = True
        MultiService.startService(self)

    def stopService(self) -> Deferred[None]:
        """
        Leave the topic.  As with a real one, it can't be joined again while an observer is notified.
        """
        if not self._is_left:
            self._is_left = True
            self._fake.leave()
            self._fake.when_idle().addCallback(lambda _: self._forget_fake(self))
        MultiService.stopService(self)
        return self._fake.when_idle()

    def when_joined(self) -> Deferred[None]:
        """
        Return a Deferred that fires at the first L{up}.
        """
        return fail(TopicLeft("the topic was left")) if self._is_left else self._fake.when_joined()

    def subscribe(self, observer: GossipObserver) -> Callable[[], None]:
        """
        Notify C{observer} of L{up}, L{down} and L{receive}.
        """
        return self._fake.subscribe(observer)

    def broadcast(self, content: bytes) -> Deferred[int]:
        """
        Record the content in L{sent}, and fire with the number of neighbours.
        """
        return self._sent(self._fake.broadcast, content)

    def broadcast_neighbors(self, content: bytes) -> Deferred[int]:
        """
        Record the content in L{sent}, and fire with the number of neighbours.
        """
        return self._sent(self._fake.broadcast_neighbors, content)

    def send(self, peer_id: bytes, content: bytes) -> Deferred[None]:
        """
        Record the content in L{sent_to}.
        """
        check_id("peer_id", peer_id)
        check_bytes("content", content)
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
        Return how many messages were sent without a neighbour, how many members C{accept} has refused, and
        what L{break_link} has lost.
        """
        return dict(self._counts)

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
        peers = check_ids("peer_ids", peer_ids)
        self._check_running()
        if self._acceptance is not None:
            self._acceptance.ask(peer for peer in peers if peer not in self._fake.neighbors())
        self._fake.join(peers)

    def leave(self) -> Deferred[None]:
        """
        Leave the topic.
        """
        self.is_leaving = True
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

    def _sent(self, send: Callable[[bytes], Deferred[int]], content: bytes) -> Deferred[int]:
        check_bytes("content", content)
        self._check_running()
        sent = send(content)
        if not self._fake.neighbors():
            self._counts["broadcast_unheard"] += 1
        return sent

    def _check_neighbor(self, peer_id: bytes) -> None:
        check_id("peer_id", peer_id)
        if peer_id not in self._fake.neighbors():
            raise UsageError(f"{peer_id.hex()} is not a neighbour")

    def _check_running(self) -> None:
        if self._is_left:
            raise TopicLeft("the topic was left")
        if not self.running:
            raise UsageError("the topic has not been started yet: wait for when_joined()")


class FakeTracker(Tracker):
    """
    A tracker without a network.  It opens nothing and writes nothing.

    @ivar clock: its time, which the test advances.  The time of signed messages depends on it, for how long
        an equal content is refused (90 s), and for how long a refused member (10 minutes).
    @ivar dht: a L{FakeDHT<dtt.testing.fake_dht.FakeDHT>}.
    """

    dht: Any

    def __init__(self, config: Config | None = None, key: PeerKey | None = None) -> None:
        """
        @param config: the value of C{config}.
        @param key: the key of the member; C{None}: always the same.
        @raise WrongType: an argument has a wrong type.
        """
        check_type("config", config, (Config, NoneType), "a Config")
        check_type("key", key, (PeerKey, NoneType), "a PeerKey")
        MultiService.__init__(self)
        self.config = config or Config()
        self._key = key or PeerKey.from_seed(bytes(32))
        self.peer_id = self._key.peer_id
        self.clock = Clock()
        self.clock.rightNow = _MINUTE * 60.0
        self.dht = FakeDHT(self.clock)
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
        topic = FakeTopicService(self, topic_id, secret, accept)
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
        check_function("observer", observer)
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
        @raise UsageError: it has started already.
        """
        if self._stopped:
            raise LocalError("a stopped tracker can't be restarted; make a new one")
        if self.running:
            raise UsageError("the tracker has started already; it starts with its parent service")
        MultiService.startService(self)

    def stopService(self) -> Deferred[None]:
        """
        Leave every topic.
        """
        self._stopped = True
        left = gatherResults([each.leave() for each in self._all()])
        MultiService.stopService(self)
        return left.addCallback(lambda _: None)

    def _tried(self, name: str | bytes | TopicId, secret: bytes, rotation: Rotation) -> TopicId:
        """
        Check arguments as the real one does.
        """
        keys = self._keys(name, secret, rotation)
        keys.encryption_key(keys.slot(_MINUTE))  # raises UsageError
        return keys.topic_id

    def _forget_fake(self, left: FakeTopicService | FakeDiscoveryService) -> None:
        self._topics.pop(left.topic_id, None)
        self._discoveries.pop(left.topic_id, None)
