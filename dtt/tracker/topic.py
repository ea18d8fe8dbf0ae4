"""
One topic: its gossip, and the services that fill it with neighbours.

Data flow (docs/explanation/architecture.md, "A record becomes a neighbour"): the fetcher joins members
whose records it finds; once there is a neighbour, the publisher keeps us
visible and the mergers look for bubbles.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from attrs import define
from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from zope.interface import implementer

from dtt.config import Config
from dtt.discovery.record_slot import RecordClient
from dtt.events import EventSink, Message, NeighborDown, NeighborUp, PeerDialled, PeerFailed, TopicJoined
from dtt.gossip.member import GossipMember
from dtt.gossip.services import GossipServices
from dtt.identity import PeerKey
from dtt.interfaces import IDHT, GossipMessage, IAddressBook, IGossipObserver, IPeerTransport
from dtt.records.record import MAX_ACTIVE_PEERS, MAX_MESSAGE_HASHES, GossipContent
from dtt.records.topic import Rotation, TopicId
from dtt.tracker.fetcher import Fetcher
from dtt.tracker.merger import BubbleMerge, MessageOverlapMerge
from dtt.tracker.publisher import Publisher
from dtt.wire.addresses import PeerAddress


@define
class SharedServices:
    """
    What all topics of a tracker share.

    @ivar reachable: whether a connection of another member has ever reached us.
    """

    reactor: IReactorTime
    rng: Random
    config: Config
    key: PeerKey
    dht: IDHT
    book: IAddressBook
    transport: IPeerTransport
    emit: EventSink
    reachable: Callable[[], bool]


class TopicService(MultiService):
    """
    A topic that we take part in; made by L{dtt.Tracker.join}.

    @ivar topic_id: 32 bytes.
    """

    def __init__(
        self,
        shared: SharedServices,
        topic_id: TopicId,
        secret_hash: bytes,
        rotation: Rotation,
        forget: Callable[[TopicService], None],
    ) -> None:
        """
        @param secret_hash: the initial secret hash, 32 bytes.
        @param forget: told when the topic is left.
        @raise UsageError: C{rotation} does not return 32 bytes.
        """
        super().__init__()
        self.topic_id = topic_id
        self._forget = forget
        self._leaving: Deferred[None] | None = None
        self._reactor = shared.reactor
        config, emit = shared.config, shared.emit
        records = RecordClient(
            shared.reactor,
            shared.rng,
            config.dht,
            config.bootstrap.max_bootstrap_records,
            shared.key,
            topic_id,
            secret_hash,
            rotation,
            shared.dht,
            shared.book,
            emit,
        )
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
            secret_hash,
            on_dialled=lambda peer: emit(PeerDialled(topic_id, peer)),
            on_failed=lambda peer, reason: emit(PeerFailed(topic_id, peer, reason)),
        )
        gossip.subscribe(_Reporter(topic_id, emit, gossip.neighbors))

        def content() -> GossipContent:
            return GossipContent(
                gossip.neighbors()[:MAX_ACTIVE_PEERS],
                gossip.message_hashes()[-MAX_MESSAGE_HASHES:],
                tuple(a for a in shared.transport.addresses() if isinstance(a, PeerAddress)),
            )

        Fetcher(
            shared.reactor,
            shared.rng,
            config.bootstrap,
            shared.dht,
            gossip,
            shared.book,
            records,
            content,
            shared.reachable,
            shared.transport.finds_peers,
        ).setServiceParent(self)
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
        Open the topic for other members, and begin to look for them.
        """
        self._gossip.start()
        super().startService()

    async def _stop(self) -> None:
        goodbye = self._gossip.leave().addCallback(lambda _: self._forget(self))
        # A sink of events may have called us from within one of the loops,
        # which can be cancelled only when it waits for something.
        await deferLater(self._reactor, 0)
        await maybeDeferred(super().stopService)
        await goodbye

    def stopService(self) -> Deferred[None]:
        """
        Say goodbye and stop all loops; whoever waits gets L{TopicLeft}.
        """
        return Deferred.fromCoroutine(self._stop())

    def when_joined(self) -> Deferred[None]:
        """
        Fires once there is a neighbour.  Each caller gets a Deferred of its
        own, which can be cancelled; it fails with L{TopicLeft}.
        """
        return self._gossip.when_joined()

    def subscribe(self, observer: IGossipObserver) -> Callable[[], None]:
        """
        Tell C{observer} what happens, starting with the present neighbours.

        @return: ends the subscription.
        """
        return self._gossip.subscribe(observer)

    def broadcast(self, content: bytes) -> Deferred[None]:
        """
        Send C{content} to the whole swarm; nobody gets it while there is no
        neighbour.

        @return: fires when every eager neighbour has less than 256 KiB unsent
            and no other one is far behind, after C{[timeouts] broadcast} in any
            case: wait for it before the next one, when there is much to send.
        @raise ContentTooLarge: more than 4055 bytes.
        @raise DuplicateContent: equal to a message of the last 90 s.
        @raise TopicLeft: the topic was left.
        @raise UsageError: the tracker has not started.
        """
        return self._gossip.broadcast(content)

    def broadcast_neighbors(self, content: bytes) -> Deferred[None]:
        """
        As L{broadcast}, to direct neighbours only.
        """
        return self._gossip.broadcast_neighbors(content)

    def neighbors(self) -> tuple[bytes, ...]:
        """
        The peer ids of the present neighbours.
        """
        return self._gossip.neighbors()

    def join_peers(self, peer_ids: Sequence[bytes]) -> None:
        """
        Ask members that are known from elsewhere to take us in.

        @raise TopicLeft: the topic was left.
        @raise UsageError: the tracker has not started.
        """
        self._gossip.join(peer_ids)

    def leave(self) -> Deferred[None]:
        """
        Leave the topic, also before the tracker has started; later calls that
        need it raise L{TopicLeft}, this one does not.

        @return: fires once all loops have ended and the goodbyes are sent.
        """
        if self._leaving is None:
            if self.running:
                self._leaving = maybeDeferred(self.disownServiceParent)
            else:
                if self.parent is not None:
                    self.disownServiceParent()
                self._leaving = self.stopService()
        left: Deferred[None] = Deferred()

        def tell(_: object) -> None:
            if not left.called:
                left.callback(None)

        self._leaving.addCallback(tell)
        return left

    def update_addresses(self) -> None:
        """
        The transport's addresses may have changed: tell neighbours.
        """
        self._gossip.update_addresses()


@implementer(IGossipObserver)
class _Reporter:
    """
    Turns what the gossip tells into events.
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
