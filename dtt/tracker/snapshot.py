"""
Creates the values of L{dtt.tracker.status} from the parts of a tracker and of a topic.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Final

from attrs import frozen

from dtt.dht.mapped_address import MappingKind
from dtt.discovery.finds import PEERS
from dtt.discovery.record_slot import RecordClient
from dtt.gossip.member import GossipMember
from dtt.interfaces import ILinkPaths, IPeerTransport, LinkPath
from dtt.records.topic import TopicKeys, initial_secret_hash
from dtt.tracker.alone import AloneReporter
from dtt.tracker.fetcher import Fetcher
from dtt.tracker.nat import describe_nat
from dtt.tracker.port_mapping import PortMapping
from dtt.tracker.reporter import TopicReporter
from dtt.tracker.status import (
    DHTStatus,
    FindStatus,
    MappingStatus,
    NATStatus,
    NeighborStatus,
    RecordsStatus,
    RecordStatus,
    TopicStatus,
)
from dtt.tracker.traffic import Traffic
from dtt.wire.addresses import TRANSPORT_NAMES, Address, PeerAddress

if TYPE_CHECKING:
    from dtt.dht.node import DHTNode

_NO_SECRET: Final = initial_secret_hash(b"")


@frozen
class TopicParts:
    """
    The parts of a topic that contribute to its snapshot.

    @ivar keys: the keys.
    @ivar gossip: the gossip.
    @ivar records: the records.
    @ivar fetcher: the fetcher.
    @ivar alone: knows why there is no neighbour.
    @ivar reporter: knows what has happened.
    """

    keys: TopicKeys
    gossip: GossipMember
    records: RecordClient
    fetcher: Fetcher
    alone: AloneReporter
    reporter: TopicReporter

    def status(self, transport: IPeerTransport, now: float, *, running: bool) -> TopicStatus:
        """
        Return the snapshot of the topic.

        @param transport: reports how neighbours are reached, if it can.
        @param now: unix seconds.
        @param running: whether the topic has started.
        """
        reporter, topic_id = self.reporter, self.keys.topic_id
        neighbors = self.gossip.neighbors()
        doing = self.fetcher.doing()
        if not running:
            state = "stopped"
        elif neighbors:
            state = "joined"
        else:
            state = "searching" if self.fetcher.searching else "waiting"
        return TopicStatus(
            topic_id=bytes(topic_id),
            label=topic_id.label,
            state=state,
            doing=doing,
            since=reporter.since,
            reason=self.alone.reason(),
            has_secret=self.keys.secret_hash != _NO_SECRET,
            neighbors=tuple(_neighbor(peer, reporter, transport) for peer in neighbors),
            known_peers=self.gossip.known_peers(),
            records=self._records(now),
            finds=tuple(
                FindStatus(channel=channel, **numbers)
                for channel, numbers in reporter.finds.by_channel(now).items()
            ),
            messages_received=reporter.received,
            messages_sent=reporter.sent,
            counters=self.gossip.drops(),
        )

    def _records(self, now: float) -> RecordsStatus:
        summary, stored = self.records.summary(), self.reporter.stored
        refused = {
            name.removeprefix("refused_"): count
            for name, count in self.records.counters.items()
            if name.startswith("refused_")
        }
        return RecordsStatus(
            found=summary.found,
            unreadable=summary.unreadable,
            refused=refused,
            read_failed=summary.failed,
            stored_minute=None if stored is None else stored.minute,
            stored_copies=0 if stored is None else stored.stored,
            recent=tuple(
                RecordStatus(
                    publisher=each.record.publisher,
                    minute=each.record.minute,
                    channel=each.record.channel,
                    seen=each.seen,
                    active_peers=each.record.active_peers,
                )
                for each in self.reporter.finds.records(now)
            ),
        )


def _neighbor(peer: bytes, reporter: TopicReporter, transport: IPeerTransport) -> NeighborStatus:
    known = reporter.neighbors.get(peer)
    paths = ILinkPaths(transport, None)
    path: LinkPath | None = None if paths is None else paths.path(peer)
    return NeighborStatus(
        peer_id=bytes(peer),
        since=reporter.since if known is None else known.since,
        transport=None if path is None else path.transport,
        address=None if path is None else path.address,
        round_trip=None if path is None else path.round_trip,
        found_by=PEERS if known is None else known.found_by,
    )


def dht_status(dht: DHTNode, traffic: Traffic, own: Collection[str]) -> DHTStatus:
    """
    Return the snapshot of a DHT node.

    @param dht: the node.
    @param traffic: knows the rates.
    @param own: the IP literals of this machine.
    """
    counters = dict(dht.statistics())
    items, peers = (int(counters.pop(name, 0)) for name in ("items", "peers"))
    trips = [counters.get(f"{side.family.name.lower()}_round_trip") for side in dht.sides]
    sent_rate, received_rate = traffic.rates()
    return DHTStatus(
        ready=any(side.ready for side in dht.sides),
        node_id=dht.node_id,
        port=dht.port,
        port6=dht.port6,
        nodes=dht.known if dht.bound_addresses() else 0,
        external_host=dht.external_host,
        nat=_nat(dht, own),
        round_trip=next((trip for trip in trips if trip is not None), None),
        stored_items=items,
        stored_peers=peers,
        sent_rate=sent_rate,
        received_rate=received_rate,
        counters=counters,
    )


def _nat(dht: DHTNode, own: Collection[str]) -> tuple[NATStatus, ...]:
    found = []
    for side in dht.sides:
        votes, family = side.neighbourhood.mapping, side.family.name.lower()
        event = describe_nat(votes, own)
        if event is not None:
            found.append(NATStatus(family=family, kind=event.kind, mapped=event.mapped, voters=event.voters))
        elif votes.kind is MappingKind.SYMMETRIC:
            found.append(NATStatus(family=family, kind="symmetric", voters=votes.voters))
        else:
            found.append(NATStatus(family=family, voters=votes.voters))
    return tuple(found)


def shown_address(address: Address) -> str:
    """
    Return one of our addresses as text: C{transport:host:port}, or C{relay:URL}.
    """
    if isinstance(address, PeerAddress):
        return f"{TRANSPORT_NAMES[address.transport]}:{address}"
    return f"relay:{address}"


def mappings(port_mapping: PortMapping) -> tuple[MappingStatus, ...]:
    """
    Return the snapshot of the mapped ports.
    """
    return tuple(
        MappingStatus(
            protocol=each.protocol,
            port=each.port,
            outside=each.outside,
            method=each.method,
            listed=each.listed,
        )
        for each in port_mapping.mapped.values()
    )
