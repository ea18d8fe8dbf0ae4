"""
The members of a simulated world.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

from attrs import define, field
from twisted.internet.defer import Deferred

from dtt.events import Event, Message, NeighborDown, NeighborUp, PeerDialled, PeerFailed
from dtt.interfaces import IPeerTransport
from dtt.testing.components import components
from dtt.tracker.topic import TopicService
from dtt.tracker.tracker import Tracker


class Runner(Protocol):
    """
    The program on a member's machine.
    """

    def start(self) -> None:
        """
        Start, and join the topic.
        """

    def stop(self) -> Deferred[None]:
        """
        Leave, and stop.
        """

    def neighbors(self) -> tuple[bytes, ...]:
        """
        Return the peer ids of the neighbours.
        """

    def broadcast(self, content: bytes) -> object:
        """
        Send a message to all members.
        """

    def finds(self) -> dict[str, int]:
        """
        Return what the discovery channels have found, as
        L{TopicService.finds<dtt.tracker.topic.TopicService.finds>} does.
        """


@define(slots=True, eq=False)
class Member:
    """
    A member, and what has been seen of it.

    @ivar name: what a report calls it.
    @ivar peer_id: its peer id, 32 bytes.
    @ivar reactor: the reactor of its machine.
    @ivar rule: how it finds others.
    @ivar clock: returns the true time in seconds.
    @ivar runner: what runs on its machine.
    @ivar first_start: when it was started first; 0: never.
    @ivar stopped_at: when it stopped; 0: it has not.
    @ivar started_at: when it was started last.
    @ivar joined_at: when it had a neighbour first since then; C{None}: it has had none.
    @ivar running: whether it has been started and not stopped.
    @ivar dials: the number of dials that ended, since the last start.
    @ivar changes: the number of neighbours won and lost since the last start.
    @ivar earlier_finds: what was found before it was restarted.
    @ivar events: the other events, by name.
    @ivar heard: the contents of the messages that it has received, and when.
    @ivar messages: the gossip messages that it has sent: C{"membership"} and C{"content"}.
    @ivar sent_before: the datagrams that its machine had sent to DHT nodes at the last start.
    @ivar sent_to_join: the datagrams that it had sent when it had joined.
    """

    name: str
    peer_id: bytes
    reactor: Any
    rule: str
    clock: Callable[[], float]
    runner: Runner = field(init=False)
    first_start: float = 0.0
    stopped_at: float = 0.0
    started_at: float = 0.0
    joined_at: float | None = None
    running: bool = False
    dials: int = 0
    changes: int = 0
    earlier_finds: Counter[str] = field(factory=Counter)
    events: Counter[str] = field(factory=Counter)
    heard: dict[bytes, float] = field(factory=dict)
    messages: Counter[str] = field(factory=Counter)
    sent_before: int = 0
    sent_to_join: int = 0

    @property
    def host(self) -> str:
        """
        The address of its machine.
        """
        return str(self.reactor.host)

    @property
    def seconds(self) -> float | None:
        """
        The seconds from its start until it had joined.
        """
        return None if self.joined_at is None else self.joined_at - self.started_at

    def finds(self) -> Counter[str]:
        """
        The members that its discovery channels have found, by outcome.
        """
        return self.earlier_finds + Counter(self.runner.finds())

    def neighbors(self) -> tuple[bytes, ...]:
        """
        Its neighbours.
        """
        return self.runner.neighbors() if self.running else ()

    def on_event(self, event: Event) -> None:
        """
        Record an observation.
        """
        if isinstance(event, Message):
            self.heard.setdefault(event.content, self.clock())
        elif isinstance(event, NeighborUp | NeighborDown):
            self.changes += 1
        elif isinstance(event, PeerDialled | PeerFailed):
            self.dials += 1
        else:
            self.events[event.name] += 1


def count_messages(transport: IPeerTransport, messages: Counter[str]) -> None:
    """
    Count the gossip messages that are sent over a transport from now on.

    @param transport: the transport.
    @param messages: counts those of the membership and those that carry or announce
        contents (docs/protocol/gossip.md section 3: the first byte).
    """
    send = transport.send

    def counting(peer_id: bytes, topic_id: bytes, message: bytes) -> bool:
        messages["content" if message[:1] == b"\x01" else "membership"] += 1
        return send(peer_id, topic_id, message)

    transport.send = counting  # type: ignore[method-assign]


class TrackerRunner:
    """
    A whole L{Tracker} with one topic.

    @ivar tracker: the tracker.
    @ivar topic: the topic.
    """

    def __init__(self, tracker: Tracker, name: str, secret: bytes, messages: Counter[str]) -> None:
        self.tracker = tracker
        count_messages(tracker._listeners.transport, messages)
        self.topic: TopicService = tracker.join(name, secret)

    def start(self) -> None:
        """
        Start the tracker.
        """
        self.tracker.privilegedStartService()
        self.tracker.startService()

    def stop(self) -> Deferred[None]:
        """
        Stop it.
        """
        return self.tracker.stopService()

    def neighbors(self) -> tuple[bytes, ...]:
        """
        Return the peer ids of the neighbours.
        """
        return self.topic.neighbors()

    def broadcast(self, content: bytes) -> object:
        """
        Send a message to all members.
        """
        return self.topic.broadcast(content)

    def finds(self) -> dict[str, int]:
        """
        Return what the discovery channels have found.
        """
        return self.topic.finds()


def parts(members: list[Member]) -> list[int]:
    """
    Return the sizes of the parts into which the links among the running members divide
    them, the largest first.
    """
    links = {member.peer_id: member.neighbors() for member in members if member.running}
    return sorted(map(len, components(links)), reverse=True)
