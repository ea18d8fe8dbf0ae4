"""
One topic: its gossip, and the services that find neighbours for it.

Data flow (docs/explanation/architecture.md, "A record becomes a neighbour"): the
fetcher joins the members whose records it finds; once there is a neighbour, the
publisher keeps us visible and the mergers search for other bubbles.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import asdict, evolve
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import deferLater

from dtt.arguments import check_ids
from dtt.discovery.configured import channels_of
from dtt.discovery.finds import Finds
from dtt.discovery.shared import SharedServices
from dtt.events import count_of
from dtt.feed import Feed
from dtt.gossip.feed import MessageFeed
from dtt.gossip.member import GossipMember
from dtt.gossip.proto.config import GossipConfig
from dtt.interfaces import GossipMessage, GossipObserver, PeerId
from dtt.records.record import MAX_ACTIVE_PEERS, MAX_MESSAGE_HASHES, GossipContent
from dtt.records.topic import TopicKeys
from dtt.tracker.alone import AloneReporter
from dtt.tracker.fetcher import Fetcher
from dtt.tracker.greeter import Greeter
from dtt.tracker.leaving import LeavableService
from dtt.tracker.merger import BubbleMerge, MessageOverlapMerge
from dtt.tracker.parts import PartMerge
from dtt.tracker.proven import ProvenPublishers
from dtt.tracker.publisher import Publisher
from dtt.tracker.rejoin import Rejoiner
from dtt.tracker.reporter import TopicReporter
from dtt.tracker.signing import Signing
from dtt.tracker.snapshot import TopicParts
from dtt.tracker.status import TopicStatus
from dtt.tracker.watcher import Watcher
from dtt.wire.addresses import Address, PeerAddress, kinds_of


class TopicService(LeavableService):
    """
    A topic that we have joined.  Made by
    L{Tracker.join<dtt.tracker.tracker.Tracker.join>}.

    @ivar topic_id: 32 bytes.
    @ivar signing: signs messages; see L{dtt.signed}.
    """

    def __init__(
        self,
        shared: SharedServices,
        keys: TopicKeys,
        forget: Callable[[TopicService], None],
        accept: Callable[[PeerId], bool] | None = None,
    ) -> None:
        """
        @param shared: the services of the tracker.
        @param keys: the keys of the topic.
        @param forget: called with this service when the topic is left.
        @param accept: returns whether a peer may be a neighbour; C{None}: all may.
        @raise UsageError: the rotation does not return 32 bytes.
        """
        super().__init__()
        self.topic_id = topic_id = keys.topic_id
        self._forget = forget
        self._reactor = shared.reactor
        self._reporter = reporter = TopicReporter(
            shared.reactor, topic_id, Finds(shared.book.source), shared.emit
        )
        shared = evolve(shared, emit=reporter.emit)
        config = shared.config
        self._transport = shared.transport
        self._channels = channels_of(shared, keys, self._content)
        channels, records = self._channels.all, self._channels.records
        channels.on_found = reporter.found
        self._gossip = gossip = GossipMember(
            shared.for_gossip(),
            topic_id,
            keys.secret_hash,
            on_dialled=reporter.peer_dialled,
            on_failed=self._peer_failed,
            config=GossipConfig(**asdict(config.gossip)),
        )
        if accept is not None:
            gossip.accept_only(accept)
        self.signing = Signing(topic_id, shared.key, shared.estimated_time, shared.emit)
        self._alone = AloneReporter(shared, gossip, records, topic_id)
        gossip.subscribe(reporter)
        if self._channels.memory is not None:
            gossip.subscribe(self._channels.memory)
        self._rejoiner = Rejoiner(
            shared.reactor,
            gossip,
            shared.book,
            lambda peer_id, addresses: shared.keep_open(peer_id, addresses, topic_id),
        )
        gossip.subscribe(self._rejoiner)
        self._fetcher = Fetcher(shared, gossip, channels, self._content)
        self._fetcher.setServiceParent(self)
        self._parts = TopicParts(keys, gossip, records, self._fetcher, self._alone, reporter)
        self._publisher: Publisher | None = None
        if config.publisher.enabled:
            self._publisher = Publisher(
                shared.reactor, shared.rng, config.publisher, gossip, channels, self._content
            )
            self._publisher.setServiceParent(self)
        proven = self._proven = ProvenPublishers(shared.reactor, shared.rng, gossip)
        records.count = proven.count
        if config.bubble_merge.enabled:
            bubbles = BubbleMerge(shared.reactor, shared.rng, config.bubble_merge, gossip, channels)
            bubbles.setServiceParent(self)
            parts = PartMerge(shared.reactor, shared.rng, gossip, shared.key.peer_id)
            channels.on_slot_record, channels.on_published = parts.record_found, parts.published
            bubbles.on_looked = parts.look
            parts.setServiceParent(self)
        if config.message_overlap_merge.enabled:
            MessageOverlapMerge(
                shared.reactor, shared.rng, config.message_overlap_merge, gossip, channels
            ).setServiceParent(self)
        Watcher(shared, gossip, channels, topic_id).setServiceParent(self)
        if self._channels.announcements is not None:
            Greeter(
                shared.reactor, shared.rng, gossip, self._channels.announcements, shared.key.peer_id
            ).setServiceParent(self)
        self._alone.setServiceParent(self)

    def __repr__(self) -> str:
        count = len(self._gossip.neighbors())
        state = count_of(count, "neighbour") if self.running else "not running"
        return f"<TopicService {self.topic_id.label!r}: {state}>"

    def _content(self) -> GossipContent:
        """
        Return the content of our record.
        """
        return GossipContent(
            self._gossip.neighbors()[:MAX_ACTIVE_PEERS],
            self._gossip.message_hashes()[-MAX_MESSAGE_HASHES:],
            tuple(each for each in self._transport.addresses() if isinstance(each, PeerAddress)),
        )

    def _peer_failed(self, peer: PeerId, reason: str, addresses: Sequence[Address]) -> None:
        tried = kinds_of(addresses)
        self._alone.peer_failed(peer, reason, tried)
        self._proven.failed(peer)
        self._reporter.peer_failed(peer, reason, tried)

    def startService(self) -> None:
        """
        Accept other members, and start searching for them.
        """
        self._gossip.start()
        self._channels.start()
        super().startService()

    async def _stop(self) -> None:
        self.remember_neighbors()
        goodbye = self._gossip.leave().addCallback(lambda _: self._forget(self))
        # An event sink may have called us from within one of the coroutines, which
        # can be cancelled only while it waits.
        await deferLater(self._reactor, 0)
        self._rejoiner.stop()
        self._channels.stop()
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
        Return a new Deferred, which fires once there is a neighbour, and fails with
        L{TopicLeft<dtt.errors.TopicLeft>} if the topic is left first.  It can be cancelled.
        """
        return self._gossip.when_joined()

    def subscribe(self, observer: GossipObserver) -> Callable[[], None]:
        """
        Notify C{observer} from now on, starting with C{neighbor_up} for each
        current neighbour.

        @param observer: see L{GossipObserver<dtt.GossipObserver>}.
        @return: a function that ends the subscription.
        @raise WrongType: a method is missing, or is a coroutine function.
        @raise TopicLeft: the topic was left.
        """
        return self._gossip.subscribe(observer)

    def broadcast(self, content: bytes) -> Deferred[int]:
        """
        Send C{content} to the whole swarm.  Without a neighbour, no member
        receives it, and it may be broadcast again.

        @return: fires with the number of neighbours to which it was sent or announced, 0
            if there was none, when every eager neighbour has less than 256 KiB unsent
            and no other neighbour is far behind; after C{[timeouts] broadcast}
            in any case.  To send many messages, wait for it before the next one.
        @raise WrongType: C{content} is not C{bytes}.
        @raise ContentTooLarge: C{content} is more than 4055 bytes.
        @raise DuplicateContent: it is equal to a message of the last 90 s.
        @raise TopicLeft: the topic was left.
        @raise UsageError: the tracker has not started.
        """
        sent = self._gossip.broadcast(content)
        self._reporter.sent += 1
        return sent

    def broadcast_neighbors(self, content: bytes) -> Deferred[int]:
        """
        Send C{content} to all direct neighbours only; otherwise the same as L{broadcast}.
        """
        sent = self._gossip.broadcast_neighbors(content)
        self._reporter.sent += 1
        return sent

    def send(self, peer_id: bytes, content: bytes) -> Deferred[None]:
        """
        Send C{content} to one direct neighbour.  The neighbour receives it as a message with the scope
        C{"neighbors"}, and does not forward it.

        @param peer_id: one of L{neighbors}, 32 bytes.
        @return: fires when the neighbour has less than 256 KiB unsent; after
            C{[timeouts] broadcast_neighbors} in any case.
        @raise NotNeighbor: C{peer_id} is not a neighbour now.
        @raise WrongType: an argument is not C{bytes}.
        @raise ContentTooLarge: C{content} is more than 4055 bytes.
        @raise DuplicateContent: it is equal to a message of the last 90 s to the whole
            swarm.
        @raise TopicLeft: the topic was left.
        @raise UsageError: the tracker has not started, or C{peer_id} is not 32 bytes.
        """
        return self._gossip.send(peer_id, content)

    def messages(self) -> Feed[GossipMessage]:
        """
        Return an asynchronous iterator over the messages that arrive from now on, for
        coroutines that wait for Deferreds.  It ends when the topic is left.  It holds 1024 messages; if the
        consumer is too slow, it drops the oldest.

        @raise TopicLeft: the topic was left.
        """
        return MessageFeed.of(self._gossip)

    def neighbors(self) -> tuple[bytes, ...]:
        """
        Return the peer ids of the current neighbours.
        """
        return self._gossip.neighbors()

    def status(self) -> TopicStatus:
        """
        Return a snapshot of the topic.
        """
        return self._parts.status(self._transport, self._reactor.seconds(), running=bool(self.running))

    def status_counts(self) -> tuple[int, int]:
        """
        Return how many messages were broadcast, and how many were received.
        """
        return self._reporter.sent, self._reporter.received

    def counters(self) -> dict[str, int]:
        """
        Return how many messages were dropped, may be lost or reached nobody, by
        reason (docs/reference/events.md).
        """
        return self._gossip.drops()

    def record_counters(self) -> dict[str, int]:
        """
        Return how many records were read, refused and published, by reason.
        """
        return dict(self._channels.records.counters)

    def finds(self) -> dict[str, int]:
        """
        Return how many members each discovery channel has found, by outcome: see
        L{Finds.counters<dtt.discovery.finds.Finds.counters>}.
        """
        return self._reporter.finds.counters(self._reactor.seconds())

    def join_peers(self, peer_ids: Sequence[bytes]) -> None:
        """
        Join members that the application knows from another source.

        @param peer_ids: their peer ids, 32 bytes each.
        @raise WrongType: it is not a sequence of C{bytes}.
        @raise TopicLeft: the topic was left.
        @raise UsageError: the tracker has not started, or an id is not 32 bytes.
        """
        self._gossip.join(check_ids("peer_ids", peer_ids))

    def network_changed(self) -> None:
        """
        Search without waits if there is no neighbour, and publish our record: the
        network of this machine has changed.
        """
        self._channels.records.network_changed()
        if not self._gossip.neighbors():
            self._fetcher.restart()
        elif self._publisher is not None:
            self._publisher.restart()

    def peer_moved(self, peer_id: bytes) -> None:
        """
        Join a former neighbour again: a message named another address of it.

        @param peer_id: its peer id, 32 bytes.
        """
        self._rejoiner.peer_moved(peer_id)

    def remember_neighbors(self) -> None:
        """
        Note that the current neighbours still exist, for the next start.
        """
        if self._channels.memory is not None:
            self._channels.memory.update()

    def update_addresses(self) -> None:
        """
        Notify neighbours, or the members that search for us, if the addresses of the
        transport have changed.
        """
        self._gossip.update_addresses()
        self._fetcher.addresses_changed()
