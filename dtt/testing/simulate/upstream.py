"""
A member that finds others by the rule of the Rust crate.

Rules: docs/protocol/records.md sections 5 and 6, "Upstream". A record is put on the 20
nodes that the crate mainline reads, valid ids first (BEP42), with C{seq} and C{cas} at
their maximum; a slot with five records of others is left alone; what a read brings is
used when the read has ended; members are dialled one after another.

Lookups, connections and gossip are dtt's. So is the list of addresses in its records,
which stands for the lookup of addresses by key: a real Rust member learns them later.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from random import Random
from typing import Any, Final

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred, TimeoutError, gatherResults, maybeDeferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from dtt.addresses.book import AddressBook
from dtt.config import BootstrapConfig, BubbleMergeConfig, DHTConfig, PublisherConfig
from dtt.deferreds import gather_until
from dtt.dht.client.shortlist import MAINLINE_WIDTH
from dtt.dht.node import DHTNode
from dtt.dht.routing.ids import is_valid
from dtt.discovery.candidates import FoundRecord, candidates, recent_minutes, unite
from dtt.discovery.finds import Finds
from dtt.errors import DecodeError, RecordRefused, RemoteError, TopicLeft
from dtt.events import Event
from dtt.gossip.member import GossipMember
from dtt.gossip.services import GossipServices
from dtt.identity import PeerKey, is_valid_peer_id
from dtt.interfaces import GossipMessage, MutableRead
from dtt.records.record import (
    ENTROPY_BYTES,
    MAX_ACTIVE_PEERS,
    MAX_MESSAGE_HASHES,
    GossipContent,
    Record,
    encrypt,
    open_record,
)
from dtt.records.topic import Slot, TopicKeys, unix_minute
from dtt.tracker.reporter import TopicReporter
from dtt.transport.streams.transport import StreamsTransport
from dtt.wire.addresses import PeerAddress

#: The highest sequence number (BEP44).
_MAX_SEQ: Final = 2**63 - 1


class UpstreamRunner:
    """
    Such a member, in one topic.

    @ivar transport: its connections.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        rng: Random,
        key: PeerKey,
        keys: TopicKeys,
        bootstrap: Sequence[tuple[str, int]],
        on_event: Callable[[Event], None],
    ) -> None:
        """
        @param reactor: the reactor of its machine.
        @param rng: the source of all random choices.
        @param key: its key pair.
        @param keys: what the members of the topic share.
        @param bootstrap: the DHT's bootstrap hosts.
        @param on_event: called with each event.
        """
        self._reactor, self._rng, self._key, self._keys = reactor, rng, key, keys
        self._dht = DHTNode(reactor, interface=reactor.host, bootstrap=bootstrap, rng=Random(rng.random()))
        self.transport = StreamsTransport(reactor, key, interface_addresses=lambda: (reactor.host,))
        self._book = AddressBook(reactor, rng, self.transport.addresses, key.peer_id)
        services = GossipServices(reactor, rng, key.peer_id, self.transport, self._book)
        topic_id = keys.topic_id
        self._reporter = TopicReporter(reactor, topic_id, Finds(self._book.source), on_event)
        self._gossip = GossipMember(
            services,
            topic_id,
            keys.secret_hash,
            on_dialled=self._reporter.peer_dialled,
            on_failed=lambda peer, reason, tried: self._reporter.peer_failed(peer, reason, ()),
        )
        self._loops: list[Deferred[None]] = []
        self._published = -1
        self._lost: Deferred[None] | None = None

    def start(self) -> None:
        """
        Start, and join the topic.
        """
        self.transport.listen(self._reactor.host, 0)
        self._dht.privilegedStartService()
        self._dht.startService()
        self._gossip.start()
        self._gossip.subscribe(self._reporter)
        self._gossip.subscribe(self)
        publisher, bubble = PublisherConfig(), BubbleMergeConfig()
        periodic = self._periodic
        for loop in (
            self._fetch(),
            periodic(publisher.initial_delay, publisher.base_interval, publisher.max_jitter, self._publish),
            periodic(bubble.initial_interval, bubble.base_interval, bubble.max_jitter, self._merge_bubbles),
            periodic(bubble.initial_interval, bubble.base_interval, bubble.max_jitter, self._merge_overlap),
        ):
            self._run(loop)

    def stop(self) -> Deferred[None]:
        """
        Leave, and stop.
        """
        for loop in tuple(self._loops):
            loop.cancel()

        async def stop() -> None:
            await self._gossip.leave()
            await gatherResults([self.transport.stop(), maybeDeferred(self._dht.stopService)])

        return Deferred.fromCoroutine(stop())

    def neighbors(self) -> tuple[bytes, ...]:
        """
        Return the peer ids of the neighbours.
        """
        return self._gossip.neighbors()

    def broadcast(self, content: bytes) -> object:
        """
        Send a message to all members.
        """
        return self._gossip.broadcast(content)

    def finds(self) -> dict[str, int]:
        """
        Return what its reads have found: the channel C{"upstream"}.
        """
        return self._reporter.finds.counters(self._reactor.seconds())

    def neighbor_up(self, peer_id: bytes) -> None:
        """
        Do nothing.
        """

    def neighbor_down(self, peer_id: bytes) -> None:
        """
        Search again if it was the last.
        """
        if not self._gossip.neighbors() and self._lost is not None:
            lost, self._lost = self._lost, None
            lost.callback(None)

    def message_received(self, message: GossipMessage) -> None:
        """
        Do nothing.
        """

    def _run(self, loop: Coroutine[Any, Any, None]) -> None:
        running = Deferred.fromCoroutine(loop)
        running.addErrback(lambda failure: failure.trap(CancelledError, TopicLeft))
        running.addErrback(lambda failure: self._log.failure("a loop failed", failure))
        self._loops.append(running)

    async def _periodic(
        self, initial: float, base: float, jitter: float, tick: Callable[[], Coroutine[Any, Any, None]]
    ) -> None:
        await self._gossip.when_joined()
        await deferLater(self._reactor, initial)
        while True:
            await tick()
            await deferLater(self._reactor, base + self._rng.uniform(0, jitter))

    async def _fetch(self) -> None:
        config = BootstrapConfig()
        await self._dht.when_ready()
        self._run(self._publish_once())
        while True:
            while not self._gossip.neighbors():
                found = await self._read_recent()
                if not found:
                    self._run(self._publish_once())
                    await self._joined_within(config.no_peers_retry_interval)
                    continue
                publishers, hearsay = candidates(found)
                for peer in (*publishers, *hearsay):
                    if self._gossip.neighbors():
                        break
                    self._gossip.join((peer,))
                    await self._joined_within(config.per_peer_join_settle_time)
                await self._joined_within(config.join_confirmation_wait_time)
                if not self._gossip.neighbors():
                    self._run(self._publish_once())
                    await self._joined_within(config.discovery_poll_interval)
            self._lost = Deferred()
            await self._lost

    async def _joined_within(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await self._gossip.when_joined().addTimeout(seconds, self._reactor)

    async def _publish_once(self) -> None:
        minute = unix_minute(self._reactor.seconds())
        if minute != self._published:
            self._published = minute
            await self._publish()

    async def _publish(self) -> None:
        config = DHTConfig()
        slot = self._keys.slot(unix_minute(self._reactor.seconds()))
        for attempt in range(1 + config.retries):
            if attempt:
                jitter = self._rng.uniform(0, config.max_retry_jitter)
                await deferLater(self._reactor, config.base_retry_interval + jitter)
            read = await self._read(slot)
            if read is None:
                continue
            if len(self._records(slot, read)) >= BootstrapConfig().max_bootstrap_records:
                return
            content = GossipContent(
                self._gossip.neighbors()[:MAX_ACTIVE_PEERS],
                self._gossip.message_hashes()[-MAX_MESSAGE_HASHES:],
                tuple(each for each in self.transport.addresses() if isinstance(each, PeerAddress)),
            )
            record = Record.sign(self._key, slot, content.encode())
            to = self._keys.encryption_key(slot).public
            value = encrypt(record, to, self._rng.randbytes(ENTROPY_BYTES))
            try:
                result = await self._dht.put_latest(
                    slot.signing_seed,
                    value,
                    _MAX_SEQ,
                    slot.salt,
                    cas=_MAX_SEQ,
                    read=read,
                    copies=MAINLINE_WIDTH,
                ).addTimeout(config.put_timeout, self._reactor)
            except (RemoteError, TimeoutError):
                continue
            if result.stored or result.acknowledged:
                return

    async def _read(self, slot: Slot) -> MutableRead | None:
        reading = self._dht.get_mutable(
            slot.public_key, slot.salt, alpha=MAINLINE_WIDTH, width=MAINLINE_WIDTH
        )
        try:
            read = await reading.addTimeout(DHTConfig().get_timeout, self._reactor)
        except (RemoteError, TimeoutError):
            return None
        answers = sorted(
            read.answers, key=lambda answer: not is_valid(answer.contact.node_id, answer.contact.host)
        )
        return evolve(read, answers=tuple(answers[:MAINLINE_WIDTH]), silent=())

    def _records(self, slot: Slot, read: MutableRead) -> list[FoundRecord]:
        key = self._keys.encryption_key(slot)
        found = []
        for value in read.values():
            try:
                record = open_record(value, slot, key)
                content = GossipContent.decode(record.content)
            except (RecordRefused, DecodeError):
                continue
            if record.publisher != self._key.peer_id:
                peers = tuple(
                    peer
                    for peer in content.active_peers
                    if peer != self._key.peer_id and is_valid_peer_id(peer)
                )
                found.append(
                    FoundRecord(
                        record.publisher, record.minute, peers, content.last_message_hashes, content.addresses
                    )
                )
        return unite(found)

    async def _read_recent(self) -> list[FoundRecord]:
        slots = [self._keys.slot(minute) for minute in recent_minutes(unix_minute(self._reactor.seconds()))]
        reads = await gather_until([Deferred.fromCoroutine(self._read(slot)) for slot in slots])
        found = []
        for slot, read in zip(slots, reads, strict=True):
            if read is not None:
                found += self._records(slot, read)
        for record in found:
            self._book.learn(record.publisher, record.addresses, "record")
            self._reporter.found(evolve(record, channel="upstream"))
        return found

    async def _merge_bubbles(self) -> None:
        config = BubbleMergeConfig()
        found = await self._read_recent()
        if len(self._gossip.neighbors()) < config.min_neighbors:
            self._join_some(found)

    async def _merge_overlap(self) -> None:
        ours = set(self._gossip.message_hashes())
        if not ours:
            return
        found = await self._read_recent()
        self._join_some(
            [
                record
                for record in found
                if record.last_message_hashes and ours.isdisjoint(record.last_message_hashes)
            ]
        )

    def _join_some(self, records: Sequence[FoundRecord]) -> None:
        publishers, hearsay = candidates(records, without=self._gossip.neighbors())
        named = publishers + hearsay
        self._gossip.join(self._rng.sample(named, min(BubbleMergeConfig().max_join_peers, len(named))))
