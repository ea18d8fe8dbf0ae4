"""
The status of a tracker: the values of L{Tracker.status<dtt.tracker.tracker.Tracker.status>}.

A snapshot is created on request, and does not change afterwards.  It contains no secret and
no key.  Don't trust values in it that other members choose (currently only peer ids).

L{as_json} turns each of these values into JSON: binary values in hex, and the attributes'
names as keys.  C{/v1/status} returns this JSON (docs/reference/http.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import AttrsInstance, field, fields, frozen, has


@frozen(slots=True, kw_only=True)
class NeighborStatus:
    """
    One neighbour in a topic.

    @ivar peer_id: its peer id, 32 bytes.
    @ivar since: when it became a neighbour, unix seconds.
    @ivar transport: how we are connected: C{"streams"}, C{"quic"} or C{"iroh"}; C{None}:
        unknown, or the connection is just changing.
    @ivar address: the address at which we see it, as C{host:port}; C{None}: unknown, as
        over a relay.
    @ivar round_trip: seconds; C{None}: not measured.
    @ivar found_by: the channel by which we found it, such as C{"record_slot"};
        C{"peers"}: no channel, so it has found us, or a member has named it.
    """

    peer_id: bytes
    since: float
    transport: str | None = None
    address: str | None = None
    round_trip: float | None = None
    found_by: str = "peers"


@frozen(slots=True, kw_only=True)
class RecordStatus:
    """
    A record of another member that was found recently.

    @ivar publisher: the peer id of the member, 32 bytes.
    @ivar minute: the unix minute of the record.
    @ivar channel: the discovery channel, such as C{"record_slot"}.
    @ivar seen: when it was found first, unix seconds.
    @ivar active_peers: the members that it names as its neighbours, 32 bytes each; not
        verified.
    """

    publisher: bytes
    minute: int
    channel: str
    seen: float
    active_peers: tuple[bytes, ...] = ()


@frozen(slots=True, kw_only=True)
class FindStatus:
    """
    The members that one discovery channel has found since the topic was joined, by outcome:
    the numbers of L{TopicService.finds<dtt.tracker.topic.TopicService.finds>}.

    @ivar channel: the name of the channel, or C{"peers"}: those that found us, or
        that members have named.
    @ivar found: members of which the channel has found a record.
    @ivar named: members that only records of others named at first.
    @ivar joined: those of both that became neighbours.
    @ivar unreachable: those that could not be reached.
    @ivar wrong_key: those at whose address another peer answered.
    @ivar refused: those that were reached and have not become neighbours.
    @ivar expired: those for which none of this happened within two minutes.
    """

    channel: str
    found: int = 0
    named: int = 0
    joined: int = 0
    unreachable: int = 0
    wrong_key: int = 0
    refused: int = 0
    expired: int = 0


@frozen(slots=True, kw_only=True)
class RecordsStatus:
    """
    The records of a topic, according to the last reads.

    @ivar found: other members with a record in the current or the previous minute.
    @ivar unreadable: records in these slots that our secret does not decrypt.
    @ivar refused: values that were not valid records, since the topic was joined, by reason.
    @ivar read_failed: whether the last read of a slot failed.
    @ivar stored_minute: the unix minute of our last stored record; C{None}: none yet.
    @ivar stored_copies: the DHT nodes that are known to store it.
    @ivar recent: the records found in the last ten minutes, at most 64, the latest last.
    """

    found: int = 0
    unreadable: int = 0
    refused: Mapping[str, int] = field(factory=dict)
    read_failed: bool = False
    stored_minute: int | None = None
    stored_copies: int = 0
    recent: tuple[RecordStatus, ...] = ()


@frozen(slots=True, kw_only=True)
class TopicStatus:
    """
    One topic.

    @ivar topic_id: its id, 32 bytes.
    @ivar label: its name, if we know it; otherwise the beginning of its id.
    @ivar state: C{"stopped"}: the tracker is not running; C{"waiting"}: no channel can be queried yet;
        C{"searching"}: there is no neighbour; C{"joined"}.
    @ivar doing: a description of what the topic does now.
    @ivar since: since when it is in this state, unix seconds.
    @ivar reason: why there is no neighbour, as a sentence; C{None}: there is one, or the reason is not known
        yet.
    @ivar has_secret: whether it has a secret that is not empty.
    @ivar neighbors: the neighbours, the oldest first.
    @ivar known_peers: other members that are known (the passive view).
    @ivar records: its records.
    @ivar finds: the results of each discovery channel.
    @ivar messages_received: messages received since the topic was joined.
    @ivar messages_sent: messages broadcast since then.
    @ivar counters: what was dropped, may be lost or reached nobody, by reason
        (docs/reference/events.md).
    """

    topic_id: bytes
    label: str
    state: str
    doing: str
    since: float
    reason: str | None = None
    has_secret: bool = True
    neighbors: tuple[NeighborStatus, ...] = ()
    known_peers: int = 0
    records: RecordsStatus = RecordsStatus()
    finds: tuple[FindStatus, ...] = ()
    messages_received: int = 0
    messages_sent: int = 0
    counters: Mapping[str, int] = field(factory=dict)


@frozen(slots=True, kw_only=True)
class NATStatus:
    """
    How other DHT nodes see one UDP socket.

    @ivar family: C{"ipv4"} or C{"ipv6"}.
    @ivar kind: C{"none"}, C{"endpoint-independent"} or C{"symmetric"}
        (L{NatDetected<dtt.events.NatDetected>}); C{"unknown"}: not known yet.
    @ivar mapped: the address and port at which they see it, as C{host:port}; C{None}: not known, or different
        for each of them.
    @ivar voters: the number of networks whose nodes reported it.
    """

    family: str
    kind: str = "unknown"
    mapped: str | None = None
    voters: int = 0


@frozen(slots=True, kw_only=True)
class DHTStatus:
    """
    The DHT node.

    @ivar ready: whether any node has answered.
    @ivar node_id: our node id, 20 bytes.
    @ivar port: the UDP port, 0 before it is bound.
    @ivar port6: the UDP port for IPv6; C{None}: without IPv6.
    @ivar nodes: the nodes in the routing tables.
    @ivar external_host: our external IP address, as nodes agree; C{None}: unknown.
    @ivar nat: the kind of NAT in front of each socket.
    @ivar round_trip: the smoothed round trip in seconds, of the first family that has
        one; C{None}: not measured.
    @ivar stored_items: the items that we store for others.
    @ivar stored_peers: the announced peers that we store for others.
    @ivar sent_rate: datagrams sent per second in the last minute.
    @ivar received_rate: datagrams received per second in the last minute.
    @ivar counters: everything else that is counted, see
        L{statistics<dtt.dht.statistics.statistics>}.
    """

    ready: bool
    node_id: bytes
    port: int
    port6: int | None = None
    nodes: int = 0
    external_host: str | None = None
    nat: tuple[NATStatus, ...] = ()
    round_trip: float | None = None
    stored_items: int = 0
    stored_peers: int = 0
    sent_rate: float = 0.0
    received_rate: float = 0.0
    counters: Mapping[str, float] = field(factory=dict)


@frozen(slots=True, kw_only=True)
class MappingStatus:
    """
    A port that a router maps to us.

    @ivar protocol: C{"UDP"} or C{"TCP"}.
    @ivar port: our port.
    @ivar outside: the external address and port, as C{host:port}.
    @ivar method: C{"PCP"}, C{"NAT-PMP"} or C{"UPnP"}.
    @ivar listed: whether other members learn C{outside}.
    """

    protocol: str
    port: int
    outside: str
    method: str
    listed: bool


@frozen(slots=True, kw_only=True)
class TrafficSample:
    """
    The datagrams of the DHT node, and the messages of all topics, in one interval of 15
    seconds.

    @ivar time: its end, unix seconds.
    @ivar sent: datagrams sent.
    @ivar received: datagrams received.
    @ivar messages_sent: messages broadcast.
    @ivar messages_received: messages received.
    """

    time: float
    sent: int = 0
    received: int = 0
    messages_sent: int = 0
    messages_received: int = 0


@frozen(slots=True, kw_only=True)
class EventStatus:
    """
    An event.

    @ivar time: when, unix seconds.
    @ivar name: the name of the event (docs/reference/events.md).
    @ivar text: the event as a sentence.
    @ivar topic: the topic id, 32 bytes; C{None}: it concerns no single topic.
    @ivar is_warning: whether the operator may have to act.
    """

    time: float
    name: str
    text: str
    topic: bytes | None = None
    is_warning: bool = False


@frozen(slots=True, kw_only=True)
class TrackerStatus:
    """
    A tracker.

    @ivar version: the version of dtt.
    @ivar peer_id: our peer id, 32 bytes.
    @ivar state: C{"not running"}, C{"running"} or C{"stopped"}.
    @ivar time: when this snapshot was made, unix seconds.
    @ivar started: when the tracker was started, unix seconds; C{None}: it was not.
    @ivar uptime: seconds since then.
    @ivar listen: what the transports listen on, each as C{transport:host:port}.
    @ivar addresses: the addresses that other members learn, each as
        C{transport:host:port}, or C{relay:URL}.
    @ivar unreachable: why there are none; C{None}: there are.
    @ivar was_reached: whether a member has ever connected to us.
    @ivar connections: connections that serve members.
    @ivar max_connections: the maximum number of these.
    @ivar dht: the DHT node.
    @ivar mappings: the ports that a router maps to us.
    @ivar topics: the topics, in the order in which they were joined.
    @ivar traffic: the last hour, the latest last; at most 240 samples.
    @ivar events: the last events other than messages, the latest last; at most 64.
    @ivar counters: the counters of the transports (C{"streams"}, C{"iroh"}) and of the
        address stores (C{"addresses"}), by their names.
    """

    version: str
    peer_id: bytes
    state: str
    time: float
    started: float | None
    uptime: float
    dht: DHTStatus
    listen: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    unreachable: str | None = None
    was_reached: bool = False
    connections: int = 0
    max_connections: int = 0
    mappings: tuple[MappingStatus, ...] = ()
    topics: tuple[TopicStatus, ...] = ()
    traffic: tuple[TrafficSample, ...] = ()
    events: tuple[EventStatus, ...] = ()
    counters: Mapping[str, Mapping[str, int]] = field(factory=dict)


def as_json(value: AttrsInstance) -> dict[str, Any]:
    """
    Return one of these values as a JSON object: binary values as hex digits, and seconds
    rounded to microseconds.
    """
    return {each.name: _json(getattr(value, each.name)) for each in fields(type(value))}


def _json(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, tuple):
        return [_json(each) for each in value]
    if isinstance(value, Mapping):
        return {name: _json(each) for name, each in sorted(value.items())}
    return as_json(value) if has(type(value)) else value
