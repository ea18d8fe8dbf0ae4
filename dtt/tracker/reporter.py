"""
Reports of one topic: events, counters, and the history for L{dtt.tracker.status}.

Rule: everything that others can cause is bounded.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen
from twisted.internet.interfaces import IReactorTime

from dtt.discovery.candidates import FoundRecord
from dtt.discovery.finds import Finds
from dtt.events import (
    BroadcastUnheard,
    Event,
    EventSink,
    LinkBroken,
    Message,
    NeighborDown,
    NeighborUp,
    PeerDialled,
    PeerFailed,
    RecordPublished,
    TopicJoined,
)
from dtt.interfaces import GossipMessage, PeerId


@frozen(slots=True)
class NeighborSince:
    """
    A neighbour.

    @ivar since: when it became one, unix seconds.
    @ivar found_by: the channel that had found it.
    """

    since: float
    found_by: str


class TopicReporter:
    """
    Reports what happens in a topic.

    @ivar finds: the members that were found.
    @ivar since: when the topic last changed between having a neighbour and having none,
        unix seconds.
    @ivar neighbors: the neighbours.
    @ivar stored: our record that was stored last.
    @ivar sent: an attribute to set: messages broadcast.
    @ivar received: messages received.
    """

    def __init__(self, clock: IReactorTime, topic_id: bytes, finds: Finds, emit: EventSink) -> None:
        """
        @param clock: the time.
        @param topic_id: 32 bytes.
        @param finds: is notified of the outcomes of members.
        @param emit: called with each event.
        """
        self.finds = finds
        self.since = clock.seconds()
        self.neighbors: dict[PeerId, NeighborSince] = {}
        self.stored: RecordPublished | None = None
        self.sent = self.received = 0
        self._clock = clock
        self._topic_id = topic_id
        self._emit = emit

    def emit(self, event: Event) -> None:
        """
        Record an event of any part of the topic, and pass it on.
        """
        if isinstance(event, RecordPublished):
            self.stored = event
        self._emit(event)

    def found(self, record: FoundRecord) -> None:
        """
        A channel has reported a record.
        """
        self.finds.found(record, self._clock.seconds())

    def peer_dialled(self, peer: PeerId) -> None:
        """
        We have connected to a member.
        """
        self.finds.dialled(peer, self._clock.seconds())
        self.emit(PeerDialled(self._topic_id, peer))

    def peer_failed(self, peer: PeerId, reason: str, tried: Sequence[str]) -> None:
        """
        A member could not be reached.

        @param reason: why, in a few words.
        @param tried: the kinds of its addresses, see
            L{kinds_of<dtt.wire.addresses.kinds_of>}.
        """
        self.finds.failed(peer, reason, self._clock.seconds())
        self.emit(PeerFailed(self._topic_id, peer, reason, tuple(tried)))

    def neighbor_up(self, peer_id: PeerId) -> None:
        """
        There is a new neighbour.
        """
        now, is_first = self._clock.seconds(), not self.neighbors
        if is_first:
            self.since = now
        self.neighbors[peer_id] = NeighborSince(now, self.finds.channel_of(peer_id))
        self.finds.joined(peer_id, now)
        self.emit(NeighborUp(self._topic_id, peer_id))
        if is_first and self.neighbors:  # an event sink may have left the topic
            self.emit(TopicJoined(self._topic_id))

    def neighbor_down(self, peer_id: PeerId) -> None:
        """
        A neighbour is gone.
        """
        self.neighbors.pop(peer_id, None)
        if not self.neighbors:
            self.since = self._clock.seconds()
        self.emit(NeighborDown(self._topic_id, peer_id))

    def link_broken(self, peer_id: PeerId, reason: str, unconfirmed: int) -> None:
        """
        The connection to a neighbour broke.
        """
        self.emit(LinkBroken(self._topic_id, peer_id, reason, unconfirmed))

    def broadcast_unheard(self) -> None:
        """
        Nobody was there to receive a message.
        """
        self.emit(BroadcastUnheard(self._topic_id))

    def message_received(self, message: GossipMessage) -> None:
        """
        A message has arrived.
        """
        self.received += 1
        self.emit(Message(self._topic_id, message.delivered_from, message.scope, message.content))
