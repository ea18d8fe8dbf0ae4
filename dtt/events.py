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


@frozen(slots=True)
class Event:
    """
    Base class of all events.

    @cvar name: the value of C{event} in JSON.
    """

    name: ClassVar[str]

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
        return f"The DHT answers; {self.nodes} nodes known."


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
class TopicEvent(Event):
    """
    Base class of the events of one topic.

    @ivar topic: the topic id, 32 bytes.
    """

    topic: bytes


@frozen(slots=True)
class RecordPublished(TopicEvent):
    """
    Our record was stored in a slot.

    @ivar minute: the slot's unix minute.
    @ivar stored: the number of DHT nodes that store it.
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
    @ivar publisher: the peer id of the member, 32 bytes.
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
    """

    name: ClassVar[str] = "peer.failed"
    peer: bytes
    reason: str

    def text(self) -> str:
        return f"Could not reach {short(self.peer)}: {self.reason}."


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
class TopicJoined(TopicEvent):
    """
    We have a neighbour after having had none.
    """

    name: ClassVar[str] = "topic.joined"

    def text(self) -> str:
        return "Joined the swarm."


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
        return f"A message of {len(self.content)} bytes arrived through {short(self.delivered_from)}."


#: Called with each event as it happens.
EventSink: TypeAlias = Callable[[Event], None]

#: All events, in the order in which a member usually sees them.
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
    Return the JSON object that represents C{event}.

    @param event: the event.
    @param time: when it happened, in unix seconds.
    """
    return {"event": event.name, "time": round(time, 6), **event.json_fields()}
