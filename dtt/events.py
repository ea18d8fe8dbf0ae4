"""
The events that operators and applications see, with their names and fields.
Pure.

C{dtt chat --json} and C{twistd dtt --log-format json} print each event as one
line of JSON: C{event} (its name), C{time} (unix seconds), C{topic} (the id in
hex, for events of a topic), then its fields in the order of their definition,
with binary values in hex.  As text, each event is one sentence.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeAlias

from attrs import fields, frozen


def short(peer_id: bytes) -> str:
    """
    Return the first 10 hex digits of a peer id, enough to tell members apart in
    a log.
    """
    return peer_id.hex()[:10]


def count_of(number: int, noun: str) -> str:
    """
    Return C{number} and C{noun}, with a plural s unless C{number} is 1.
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def duration(seconds: float) -> str:
    """
    Return C{seconds} in words, in minutes or hours.
    """
    minutes = round(seconds / 60)
    return count_of(minutes, "minute") if minutes < 120 else count_of(minutes // 60, "hour")


@frozen(slots=True)
class Event:
    """
    Base class of all events.

    @cvar name: the value of C{event} in JSON.
    @cvar is_warning: whether the operator may have to act.
    """

    name: ClassVar[str]
    is_warning: ClassVar[bool] = False

    def json_fields(self) -> dict[str, Any]:
        """
        Return the event's fields as JSON values.
        """
        values = ((field.name, getattr(self, field.name)) for field in fields(type(self)))
        return {name: value.hex() if isinstance(value, bytes) else value for name, value in values}

    def text(self) -> str:
        """
        Return the event as a sentence for an operator.
        """
        raise NotImplementedError


@frozen(slots=True)
class NodeStarted(Event):
    """
    The tracker has bound its ports.

    @ivar peer_id: our peer id, 32 bytes.
    @ivar dht_port: the UDP port of the DHT node.
    @ivar listen: the addresses that the transports listen on, each as
        C{transport:host:port}.
    """

    name: ClassVar[str] = "node.started"
    peer_id: bytes
    dht_port: int
    listen: tuple[str, ...]

    def text(self) -> str:
        return (
            f"Started as {self.peer_id.hex()}: DHT on UDP port {self.dht_port}, "
            f"members on {' and '.join(self.listen)}."
        )


@frozen(slots=True)
class DHTReady(Event):
    """
    The first DHT node has answered.

    @ivar nodes: the number of known nodes.
    """

    name: ClassVar[str] = "dht.ready"
    nodes: int

    def text(self) -> str:
        return f"The DHT answers; {count_of(self.nodes, 'node')} known."


@frozen(slots=True)
class DHTNodes(Event):
    """
    The number of known DHT nodes has more than doubled or halved since it was last reported.

    @ivar nodes: the number of known nodes.
    """

    name: ClassVar[str] = "dht.nodes"
    nodes: int

    def text(self) -> str:
        return f"{count_of(self.nodes, 'DHT node')} known."


@frozen(slots=True)
class NetworkChanged(Event):
    """
    The network of this machine has changed. All connections are checked, and our new addresses are published.

    @ivar reason: what has changed.
    """

    name: ClassVar[str] = "network.changed"
    reason: str

    def text(self) -> str:
        return f"The network has changed ({self.reason}): connecting again."


@frozen(slots=True)
class AddressesPublished(Event):
    """
    Our addresses can be looked up by our peer id.  Emitted again when they
    change.

    @ivar store: C{"dht"}, or the URL of a pkarr relay.
    @ivar addresses: the number of addresses.
    """

    name: ClassVar[str] = "addresses.published"
    store: str
    addresses: int

    def text(self) -> str:
        return f"Published {self.addresses} of our addresses at {self.store}."


@frozen(slots=True)
class AddressesMissing(Event):
    """
    No address is published, because other members could not reach us at any; we can still reach them. Emitted
    again when the reason changes.

    @ivar reason: why.
    """

    name: ClassVar[str] = "addresses.missing"
    reason: str

    def text(self) -> str:
        return f"Other members can't reach this one, and no address is published: {self.reason}."


@frozen(slots=True)
class LimitReached(Event):
    """
    A limit of this member was reached for the first time. Further items are refused or wait, and are counted.

    @ivar what: what is limited, for example C{"connections"}.
    @ivar limit: the maximum.
    """

    name: ClassVar[str] = "limit.reached"
    what: str
    limit: int

    def text(self) -> str:
        return f"The limit of {self.limit} {self.what} is reached."


@frozen(slots=True)
class PeerRefused(Event):
    """
    We have refused a peer.

    @ivar peer: its peer id, 32 bytes.
    @ivar reason: the reason, in a few words.
    @ivar omitted: the number of refusals since the last of these events that were not reported because there
        were too many.
    """

    name: ClassVar[str] = "peer.refused"
    peer: bytes
    reason: str
    omitted: int = 0

    def text(self) -> str:
        others = f" ({self.omitted} other refusals were not reported)" if self.omitted else ""
        return f"Refused {short(self.peer)}: {self.reason}{others}."


@frozen(slots=True)
class ClockSkewed(Event):
    """
    Our clock differs by 30 s or more from those of most members, of half of them, or of the only one whose
    clock is known.  Emitted when this is noticed, when the difference has changed by a minute, and then once
    an hour.

    @ivar seconds: by how much our clock is ahead of theirs; negative: behind.
    @ivar members: the number of members that have about the same time.
    @ivar since: for how many seconds this has been known.
    """

    name: ClassVar[str] = "clock.skewed"
    is_warning: ClassVar[bool] = True
    seconds: int
    members: int
    since: int

    def text(self) -> str:
        by = f"{abs(self.seconds)} s" if abs(self.seconds) < 120 else duration(abs(self.seconds))
        which = "ahead of" if self.seconds > 0 else "behind"
        since = f", for {duration(self.since)}" if self.since >= 60 else ""
        whose, clocks = f"those of {self.members} members", "this machine's clock"
        if self.members == 1:
            whose, clocks = "that of the only member whose clock is known", "the clocks of both machines"
        return (
            f"Our clock is {by} {which} {whose}{since}. Members whose clocks differ find each other late or "
            f"not at all: synchronise {clocks} (NTP)."
        )


@frozen(slots=True)
class NatDetected(Event):
    """
    DHT nodes agree on the address of our UDP socket.  Emitted again when that changes.

    @ivar kind: C{"none"}: they see it at an address of this machine; C{"endpoint-independent"}: all at the
        same address and port of a NAT; C{"symmetric"}: each at a different port of a NAT.
    @ivar mapped: the address and port, as C{host:port}; C{None} for C{"symmetric"}.
    @ivar voters: the number of networks whose nodes reported it.
    """

    name: ClassVar[str] = "nat.detected"
    kind: str
    mapped: str | None
    voters: int

    def text(self) -> str:
        voters = f"as nodes in {count_of(self.voters, 'network')} see it"
        if self.kind == "none":
            return f"No NAT: our UDP socket is {self.mapped}, {voters}."
        if self.mapped is not None:
            return f"Behind a NAT: the external address of our UDP socket is {self.mapped}, {voters}."
        return (
            f"Behind a symmetric NAT: our UDP socket has a different port for each destination, {voters}. "
            "Two members behind such NATs need a third member that both can reach, or a mapped port."
        )


@frozen(slots=True)
class PortMapped(Event):
    """
    A router has mapped a port to us.  Emitted again when the mapping changes, not when
    it is renewed.

    @ivar protocol: C{"UDP"} or C{"TCP"}.
    @ivar port: our port.
    @ivar outside: the external address and port, as C{host:port}; the host is C{0.0.0.0} if the router did
        not report it.
    @ivar method: C{"PCP"}, C{"NAT-PMP"} or C{"UPnP"}.
    @ivar listed: whether other members learn C{outside}.  They do not if it is not a global address,
        because the router is then itself behind a NAT.
    """

    name: ClassVar[str] = "port.mapped"
    protocol: str
    port: int
    outside: str
    method: str
    listed: bool

    def text(self) -> str:
        use = "" if self.listed else "; this is not a public address, so members can't use it"
        return f"The router maps {self.outside} to our {self.protocol} port {self.port} ({self.method}){use}."


@frozen(slots=True)
class PeerPunched(Event):
    """
    A connection over QUIC was established: probes of both sides have opened a path through any NATs and
    firewalls.

    @ivar peer: the peer id of the member, 32 bytes.
    @ivar seconds: the time since our first probe.
    @ivar path: the address of the member, as C{host:port}.
    """

    name: ClassVar[str] = "peer.punched"
    peer: bytes
    seconds: float
    path: str

    def text(self) -> str:
        return f"Opened a path to {short(self.peer)} at {self.path} after {self.seconds:.1f} s (QUIC)."


@frozen(slots=True)
class TopicEvent(Event):
    """
    Base class of the events of one topic.

    @ivar topic: the topic id, 32 bytes.
    """

    topic: bytes


def _in(channel: str) -> str:
    return "" if channel == "record_slot" else f" in the {channel.replace('_', ' ')}"


@frozen(slots=True)
class RecordPublished(TopicEvent):
    """
    Our record was stored in a slot.

    @ivar minute: the unix minute of the record.
    @ivar stored: the number of DHT nodes that store it.
    @ivar channel: the name of the discovery channel that stored it.
    """

    name: ClassVar[str] = "record.published"
    minute: int
    stored: int
    channel: str = "record_slot"

    def text(self) -> str:
        nodes = count_of(self.stored, "DHT node")
        return f"Our record for minute {self.minute} is stored on {nodes}{_in(self.channel)}."


@frozen(slots=True)
class RecordFound(TopicEvent):
    """
    Another member's record was found in a slot, for the first time.

    @ivar minute: the unix minute of the record.
    @ivar publisher: the peer id of the member, 32 bytes.
    @ivar source: the service that read it: C{"fetcher"}, C{"publisher"},
        C{"bubble merge"} or C{"message overlap merge"}.
    @ivar channel: the name of the discovery channel that found it.
    """

    name: ClassVar[str] = "record.found"
    minute: int
    publisher: bytes
    source: str
    channel: str = "record_slot"

    def text(self) -> str:
        found = f"Found the record of {short(self.publisher)} for minute {self.minute}"
        return f"{found}{_in(self.channel)} ({self.source})."


@frozen(slots=True)
class RecordsUnreadable(TopicEvent):
    """
    A slot contains records that our secret does not decrypt: their publishers know the topic, but have
    another secret. Emitted at most once per hour and topic. Anyone who knows the topic can also store values
    that look like such records.

    @ivar minute: the slot's unix minute.
    @ivar records: the number of these records.
    """

    name: ClassVar[str] = "records.unreadable"
    is_warning: ClassVar[bool] = True
    minute: int
    records: int

    def text(self) -> str:
        return (
            f"{count_of(self.records, 'record')} in this slot that our secret does not decrypt. Another "
            "member has a different secret, or this member had a different one a minute ago. "
            "Compare the secret_code of dtt slot --topic TOPIC --secret-file FILE on both sides."
        )


@frozen(slots=True)
class SlotContested(TopicEvent):
    """
    Most values in a record slot are not records: someone who knows the name of the topic fills it. Emitted at
    most once per hour and topic.

    @ivar minute: the slot's unix minute.
    @ivar junk: the number of nodes that store something other than a record.
    @ivar values: the number of nodes that store a value.
    """

    name: ClassVar[str] = "slot.contested"
    is_warning: ClassVar[bool] = True
    minute: int
    junk: int
    values: int

    def text(self) -> str:
        return (
            f"{self.junk} of {self.values} values in the slot are not records: someone who knows the name of "
            "the topic fills it with junk. Members with a secret still find each other in sealed slots; "
            "without a secret, use a topic whose name can't be guessed (dtt new-topic)."
        )


@frozen(slots=True)
class PeerDialled(TopicEvent):
    """
    We have connected to a member.

    @ivar peer: the peer id of the member, 32 bytes.
    """

    name: ClassVar[str] = "peer.dialled"
    peer: bytes

    def text(self) -> str:
        return f"Connected to {short(self.peer)}."


@frozen(slots=True)
class PeerFailed(TopicEvent):
    """
    A member could not be reached.

    @ivar peer: the peer id of the member, 32 bytes.
    @ivar reason: the reason, in a few words.
    @ivar tried: the kinds of its addresses that were tried, each as its transport and
        its scope, such as C{"quic global"} or C{"iroh relay"}.
    """

    name: ClassVar[str] = "peer.failed"
    peer: bytes
    reason: str
    tried: tuple[str, ...] = ()

    def text(self) -> str:
        tried = f" (tried: {', '.join(self.tried)})" if self.tried else ""
        return f"Could not reach {short(self.peer)}: {self.reason}{tried}."


@frozen(slots=True)
class NeighborUp(TopicEvent):
    """
    A member has entered our active view.

    @ivar peer: the peer id of the member, 32 bytes.
    """

    name: ClassVar[str] = "neighbor.up"
    peer: bytes

    def text(self) -> str:
        return f"{short(self.peer)} is now a neighbour."


@frozen(slots=True)
class NeighborDown(TopicEvent):
    """
    A member has left our active view.

    @ivar peer: the peer id of the member, 32 bytes.
    """

    name: ClassVar[str] = "neighbor.down"
    peer: bytes

    def text(self) -> str:
        return f"{short(self.peer)} is no longer a neighbour."


@frozen(slots=True)
class LinkBroken(TopicEvent):
    """
    A connection to a neighbour has broken: neither we nor the neighbour ended it.

    @ivar peer: the peer id of the neighbour, 32 bytes.
    @ivar reason: the reason, in a few words.
    @ivar unconfirmed: the number of messages that were sent to the neighbour after it
        was last heard from, and that may not have arrived.
    """

    name: ClassVar[str] = "link.broken"
    peer: bytes
    reason: str
    unconfirmed: int

    def text(self) -> str:
        lost = f"; {count_of(self.unconfirmed, 'message')} to it may be lost" if self.unconfirmed else ""
        return f"The connection to {short(self.peer)} has broken: {self.reason}{lost}."


@frozen(slots=True)
class MembersUnreachable(TopicEvent):
    """
    Members were found, but none of them could be reached within some seconds.  Emitted once while there is no
    neighbour.

    @ivar members: the number of members found.
    @ivar reason: a sentence with the reason, if it is known, and what to do.
    """

    name: ClassVar[str] = "members.unreachable"
    is_warning: ClassVar[bool] = True
    members: int
    reason: str

    def text(self) -> str:
        return f"Found {count_of(self.members, 'member')}, but none could be reached: {self.reason}."


@frozen(slots=True)
class BroadcastUnheard(TopicEvent):
    """
    A message was broadcast while there was no neighbour, so nobody received it.  Emitted once, until there is
    a neighbour again.
    """

    name: ClassVar[str] = "broadcast.unheard"

    def text(self) -> str:
        return "There is no neighbour: messages that are broadcast now reach nobody."


@frozen(slots=True)
class TopicJoined(TopicEvent):
    """
    We have a neighbour after having had none.
    """

    name: ClassVar[str] = "topic.joined"

    def text(self) -> str:
        return "Joined the swarm."


@frozen(slots=True)
class TopicAlone(TopicEvent):
    """
    We have had no neighbour for 1, 10 or 60 minutes, or for a number of hours.

    @ivar seconds: for how long.
    @ivar reason: a sentence with the reason, if it is known.
    """

    name: ClassVar[str] = "topic.alone"
    is_warning: ClassVar[bool] = True
    seconds: int
    reason: str

    def text(self) -> str:
        return f"No neighbour for {duration(self.seconds)}: {self.reason}."


@frozen(slots=True)
class Message(TopicEvent):
    """
    A message arrived.

    @ivar delivered_from: the peer id of the neighbour that delivered it (the
        last hop, not the author), 32 bytes.
    @ivar scope: C{"swarm"} or C{"neighbors"}.
    @ivar content: the bytes of the message.  In JSON they are C{content} as text
        if they are UTF-8, else C{content_hex}.
    """

    name: ClassVar[str] = "message"
    delivered_from: bytes
    scope: str
    content: bytes

    def json_fields(self) -> dict[str, Any]:
        common = {
            "topic": self.topic.hex(),
            "delivered_from": self.delivered_from.hex(),
            "scope": self.scope,
        }
        try:
            return {**common, "content": self.content.decode("utf-8")}
        except UnicodeDecodeError:
            return {**common, "content_hex": self.content.hex()}

    def text(self) -> str:
        size = count_of(len(self.content), "byte")
        return f"A message of {size} arrived through {short(self.delivered_from)}."


@frozen(slots=True)
class MessageRefused(TopicEvent):
    """
    A message of a topic with signed messages was refused.  Emitted for each reason at
    most once in 10 s.

    @ivar delivered_from: the peer id of the neighbour that delivered it (the last hop,
        not the author), 32 bytes.
    @ivar reason: C{"not signed"}, C{"bad signature"}, C{"time"}, C{"replay"} or
        C{"too many authors"}.
    @ivar author: the peer id of the author, 32 bytes; C{None} unless it is proved.
    @ivar ahead: if the reason is C{"time"}, the number of seconds by which the time of the message is ahead
        of ours (negative: behind); otherwise C{None}.
    @ivar omitted: the number of unreported refusals for this reason since the last of these events.
    """

    name: ClassVar[str] = "message.refused"
    is_warning: ClassVar[bool] = True
    delivered_from: bytes
    reason: str
    author: bytes | None = None
    ahead: float | None = None
    omitted: int = 0

    def text(self) -> str:
        whose = (
            f"of {short(self.author)}" if self.author is not None else f"through {short(self.delivered_from)}"
        )
        others = f" ({self.omitted} others were not reported)" if self.omitted else ""
        if self.ahead is None:
            return f"Refused a message {whose}: {self.reason}{others}."
        side = "ahead of" if self.ahead > 0 else "behind"
        return (
            f"Refused a message {whose}: its time is {duration(abs(self.ahead))} {side} ours{others}. "
            "Compare the clocks."
        )


#: Called with each event as it happens.
EventSink: TypeAlias = Callable[[Event], None]

#: All events, in the order in which a member usually sees them.
EVENTS: tuple[type[Event], ...] = (
    NodeStarted,
    DHTReady,
    DHTNodes,
    AddressesPublished,
    AddressesMissing,
    ClockSkewed,
    NatDetected,
    PortMapped,
    LimitReached,
    PeerRefused,
    PeerPunched,
    RecordPublished,
    RecordFound,
    RecordsUnreadable,
    SlotContested,
    PeerDialled,
    PeerFailed,
    NeighborUp,
    NeighborDown,
    LinkBroken,
    MembersUnreachable,
    BroadcastUnheard,
    TopicJoined,
    TopicAlone,
    Message,
    MessageRefused,
)


def to_json(event: Event, time: float) -> dict[str, Any]:
    """
    Return the JSON object that represents C{event}.

    @param event: the event.
    @param time: when it happened, in unix seconds.
    """
    return {"event": event.name, "time": round(time, 6), **event.json_fields()}
