"""
One topic: its gossip, and the services that find neighbours for it.

Data flow (docs/explanation/architecture.md, "A record becomes a neighbour"): the
fetcher joins the members whose records it finds; once there is a neighbour, the
publisher keeps us visible and the mergers search for other bubbles.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import deferLater
from zope.interface import implementer

from dtt.discovery.record_slot import RecordClient
from dtt.discovery.shared import SharedServices
from dtt.events import EventSink, Message, NeighborDown, NeighborUp, PeerDialled, PeerFailed, TopicJoined
from dtt.gossip.member import GossipMember
from dtt.gossip.services import GossipServices
from dtt.interfaces import GossipMessage, IGossipObserver
from dtt.records.record import MAX_ACTIVE_PEERS, MAX_MESSAGE_HASHES, GossipContent
from dtt.records.topic import TopicKeys
from dtt.tracker.fetcher import Fetcher
from dtt.tracker.merger import BubbleMerge, MessageOverlapMerge
from dtt.tracker.publisher import Publisher
from dtt.wire.addresses import PeerAddress


class TopicService(MultiService):
    """
    A topic that we have joined.  Made by
    L{Tracker.join<dtt.tracker.tracker.Tracker.join>}.

    @ivar topic_id: 32 bytes.
    """

    def __init__(
        self,
        shared: SharedServices,
        keys: TopicKeys,
        forget: Callable[[TopicService], None],
    ) -> None:
        """
        @param shared: the services of the tracker.
        @param keys: the keys of the topic.
        @param forget: called with this service when the topic is left.
        @raise UsageError: the rotation does not return 32 bytes.
        """
        super().__init__()
        self.topic_id = topic_id = keys.topic_id
        self._forget = forget
        self._leaving: Deferred[None] | None = None
        self._reactor = shared.reactor
        config, emit = shared.config, shared.emit
        records = RecordClient(shared, keys)
        self._gossip = gossip = GossipMember(
            GossipServices(
                shared.reactor,
                shared.rng,
                shared.key.peer_id,
                shared.transport,
                shared.book,
                config.timeouts,
            ),
            topic_id,
            keys.secret_hash,
            on_dialled=lambda peer: emit(PeerDialled(topic_id, peer)),
            on_failed=lambda peer, reason: emit(PeerFailed(topic_id, peer, reason)),
        )
        gossip.subscribe(_EventEmitter(topic_id, emit, gossip.neighbors))

        def content() -> GossipContent:
            return GossipContent(
                gossip.neighbors()[:MAX_ACTIVE_PEERS],
                gossip.message_hashes()[-MAX_MESSAGE_HASHES:],
                tuple(a for a in shared.transport.addresses() if isinstance(a, PeerAddress)),
            )

        Fetcher(shared, gossip, records, content).setServiceParent(self)
        if config.publisher.enabled:
            Publisher(
                shared.reactor, shared.rng, config.publisher, gossip, records, content
            ).setServiceParent(self)
        if config.bubble_merge.enabled:
            BubbleMerge(shared.reactor, shared.rng, config.bubble_merge, gossip, records).setServiceParent(
                self
            )
        if config.message_overlap_merge.enabled:
            MessageOverlapMerge(
                shared.reactor, shared.rng, config.message_overlap_merge, gossip, records
            ).setServiceParent(self)

    def startService(self) -> None:
        """
        Accept other members, and start searching for them.
        """
        self._gossip.start()
        super().startService()

    async def _stop(self) -> None:
        goodbye = self._gossip.leave().addCallback(lambda _: self._forget(self))
        # An event sink may have called us from within one of the coroutines, which
        # can be cancelled only while it waits.
        await deferLater(self._reactor, 0)
        await maybeDeferred(super().stopService)
        await goodbye

    def stopService(self) -> Deferred[None]:
        """
        Leave the topic, and stop all services.  Deferreds of L{when_joined} that
        have not fired fail with L{TopicLeft<dtt.errors.TopicLeft>}.

        @return: fires once all coroutines have ended.
        """
        return Deferred.fromCoroutine(self._stop())

    def when_joined(self) -> Deferred[None]:
        """
        Return a new Deferred, which fires once there is a neighbour and fails
        with L{TopicLeft<dtt.errors.TopicLeft>}.  It can be cancelled.
        """
        return self._gossip.when_joined()

    def subscribe(self, observer: IGossipObserver) -> Callable[[], None]:
        """
        Notify C{observer} from now on, starting with C{neighbor_up} for each
        current neighbour.

        @return: a function that ends the subscription.
        """
        return self._gossip.subscribe(observer)

    def broadcast(self, content: bytes) -> Deferred[None]:
        """
        Send C{content} to the whole swarm.  Without a neighbour, no member
        receives it.

        @return: fires when every eager neighbour has less than 256 KiB unsent
            and no other neighbour is far behind; after C{[timeouts] broadcast}
            in any case.  When sending much, wait for it before the next message.
        @raise ContentTooLarge: C{content} is more than 4055 bytes.
        @raise DuplicateContent: it is equal to a message of the last 90 s.
        @raise TopicLeft: the topic was left.
        @raise UsageError: the tracker has not started.
        """
        return self._gossip.broadcast(content)

    def broadcast_neighbors(self, content: bytes) -> Deferred[None]:
        """
        Send C{content} to direct neighbours only; otherwise as L{broadcast}.
        """
        return self._gossip.broadcast_neighbors(content)

    def neighbors(self) -> tuple[bytes, ...]:
        """
        Return the peer ids of the current neighbours.
        """
        return self._gossip.neighbors()

    def join_peers(self, peer_ids: Sequence[bytes]) -> None:
        """
        Join members that the application knows from another source.

        @param peer_ids: their peer ids, 32 bytes each.
        @raise TopicLeft: the topic was left.
        @raise UsageError: the tracker has not started.
        """
        self._gossip.join(peer_ids)

    def leave(self) -> Deferred[None]:
        """
        Leave the topic.  Possible also before the tracker has started.  Later
        calls of other methods raise L{TopicLeft<dtt.errors.TopicLeft>}; further
        calls of this one don't.

        @return: fires once all coroutines have ended and the disconnect messages
            are sent.
        """
        if self._leaving is None:
            if self.running:
                self._leaving = maybeDeferred(self.disownServiceParent)
            else:
                if self.parent is not None:
                    self.disownServiceParent()
                self._leaving = self.stopService()
        left: Deferred[None] = Deferred()

        def fire(_: object) -> None:
            if not left.called:
                left.callback(None)

        self._leaving.addCallback(fire)
        return left

    def update_addresses(self) -> None:
        """
        Notify neighbours if the addresses of the transport have changed.
        """
        self._gossip.update_addresses()


@implementer(IGossipObserver)
class _EventEmitter:
    """
    Turns notifications of the gossip into events.
    """

    def __init__(self, topic_id: bytes, emit: EventSink, neighbors: Callable[[], Sequence[bytes]]) -> None:
        self._topic_id = topic_id
        self._emit = emit
        self._neighbors = neighbors

    def neighbor_up(self, peer_id: bytes) -> None:
        self._emit(NeighborUp(self._topic_id, peer_id))
        if len(self._neighbors()) == 1:
            self._emit(TopicJoined(self._topic_id))

    def neighbor_down(self, peer_id: bytes) -> None:
        self._emit(NeighborDown(self._topic_id, peer_id))

    def message_received(self, message: GossipMessage) -> None:
        self._emit(Message(self._topic_id, message.delivered_from, message.scope, message.content))
