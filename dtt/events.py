"""
What operators and applications see: every event, its name and its fields, in
one list.  Pure.

C{dtt chat --json} and C{twistd dtt --log-format json} print each as one JSON
line: C{event} (the name), C{time} (unix seconds), C{topic} (hex id, where there
is one), then the fields in their order; binary values in hex.  As text, each
is one sentence.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeAlias

from attrs import fields, frozen


def short(peer_id: bytes) -> str:
    """
    The first 10 hex digits of an id: enough to tell members apart in a log.
    """
    return peer_id.hex()[:10]


@frozen(slots=True)
class Event:
    """
    Something happened.

    @cvar name: its name in JSON.
    """

    name: ClassVar[str]

    def json_fields(self) -> dict[str, Any]:
        """
        The event's own fields, fit for JSON.
        """
        values = ((field.name, getattr(self, field.name)) for field in fields(type(self)))
        return {name: value.hex() if isinstance(value, bytes) else value for name, value in values}

    def text(self) -> str:
        """
        The event as a sentence for an operator.
        """
        raise NotImplementedError


@frozen(slots=True)
class NodeStarted(Event):
    """
    The tracker is bound to its ports.

    @ivar peer_id: our id, 32 bytes.
    @ivar dht_port: the UDP port of the DHT node.
    @ivar listen: where members reach us, C{transport:host:port} each.
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

    @ivar nodes: how many nodes are known.
    """

    name: ClassVar[str] = "dht.ready"
    nodes: int

    def text(self) -> str:
        return f"The DHT answers; {self.nodes} nodes known."


@frozen(slots=True)
class AddressesPublished(Event):
    """
    Our addresses can be looked up by our id; told again when they change.

    @ivar store: where: C{"dht"}, or the URL of a pkarr relay.
    @ivar addresses: how many.
    """

    name: ClassVar[str] = "addresses.published"
    store: str
    addresses: int

    def text(self) -> str:
        return f"{self.addresses} addresses of ours are published at {self.store}."


@frozen(slots=True)
class TopicEvent(Event):
    """
    Something happened in a topic.

    @ivar topic: its id, 32 bytes.
    """

    topic: bytes


@frozen(slots=True)
class RecordPublished(TopicEvent):
    """
    Our record was put into a slot.

    @ivar minute: the slot's unix minute.
    @ivar stored: on how many DHT nodes it was stored.
    """

    name: ClassVar[str] = "record.published"
    minute: int
    stored: int

    def text(self) -> str:
        return f"Our record for minute {self.minute} is stored on {self.stored} DHT nodes."


@frozen(slots=True)
class RecordFound(TopicEvent):
    """
    Another member's record was found in a slot, for the first time.

    @ivar minute: the slot's unix minute.
    @ivar publisher: the member, 32 bytes.
    @ivar source: the service that read it: C{"fetcher"}, C{"publisher"},
        C{"bubble merge"} or C{"message overlap merge"}.
    """

    name: ClassVar[str] = "record.found"
    minute: int
    publisher: bytes
    source: str

    def text(self) -> str:
        return f"Found the record of {short(self.publisher)} for minute {self.minute} ({self.source})."


@frozen(slots=True)
class PeerDialled(TopicEvent):
    """
    A connection to a member was made by us.

    @ivar peer: the member, 32 bytes.
    """

    name: ClassVar[str] = "peer.dialled"
    peer: bytes

    def text(self) -> str:
        return f"Connected to {short(self.peer)}."


@frozen(slots=True)
class PeerFailed(TopicEvent):
    """
    A member could not be reached.

    @ivar peer: the member, 32 bytes.
    @ivar reason: why, in a few words.
    """

    name: ClassVar[str] = "peer.failed"
    peer: bytes
    reason: str

    def text(self) -> str:
        return f"Could not reach {short(self.peer)}: {self.reason}."


@frozen(slots=True)
class NeighborUp(TopicEvent):
    """
    A member became our neighbour.

    @ivar peer: the member, 32 bytes.
    """

    name: ClassVar[str] = "neighbor.up"
    peer: bytes

    def text(self) -> str:
        return f"{short(self.peer)} is a neighbour now."


@frozen(slots=True)
class NeighborDown(TopicEvent):
    """
    A member is our neighbour no longer.

    @ivar peer: the member, 32 bytes.
    """

    name: ClassVar[str] = "neighbor.down"
    peer: bytes

    def text(self) -> str:
        return f"{short(self.peer)} is no neighbour any more."


@frozen(slots=True)
class TopicJoined(TopicEvent):
    """
    We have a neighbour, after having had none.
    """

    name: ClassVar[str] = "topic.joined"

    def text(self) -> str:
        return "Joined the swarm."


@frozen(slots=True)
class Message(TopicEvent):
    """
    A message of the topic arrived.

    @ivar delivered_from: the neighbour that handed it to us (the last hop,
        not the author), 32 bytes.
    @ivar scope: C{"swarm"} or C{"neighbors"}.
    @ivar content: in JSON C{content} as text when it is UTF-8, else
        C{content_hex}.
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
        return f"A message of {len(self.content)} bytes arrived through {short(self.delivered_from)}."


#: Takes each event as it happens.
EventSink: TypeAlias = Callable[[Event], None]

#: Every event, in the order in which a member usually sees them.
EVENTS: tuple[type[Event], ...] = (
    NodeStarted,
    DHTReady,
    AddressesPublished,
    RecordPublished,
    RecordFound,
    PeerDialled,
    PeerFailed,
    NeighborUp,
    NeighborDown,
    TopicJoined,
    Message,
)


def to_json(event: Event, time: float) -> dict[str, Any]:
    """
    C{event} as the object of its JSON line.

    @param time: when it happened, unix seconds.
    """
    return {"event": event.name, "time": round(time, 6), **event.json_fields()}
