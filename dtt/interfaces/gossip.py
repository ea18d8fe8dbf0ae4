"""
The interfaces of the gossip of one topic, and of its observers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from zope.interface import Interface

from dtt.interfaces.addresses import PeerId
from dtt.wire.values import GossipMessage

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred


class GossipObserver(Protocol):
    """
    The type of an observer of a topic: any object with these three methods.  They must
    not be coroutine functions, and their results are ignored.  The methods of
    L{TopicObserver} and L{LinkObserver} are optional.  After the topic is left only
    C{topic_left} is called: there is no C{neighbor_down} for the remaining neighbours.
    """

    def neighbor_up(self, peer_id: PeerId, /) -> object:
        """
        Called when C{peer_id} has entered our active view.
        """

    def neighbor_down(self, peer_id: PeerId, /) -> object:
        """
        Called when C{peer_id} has left our active view.
        """

    def message_received(self, message: GossipMessage, /) -> object:
        """
        Called when a message of the topic has arrived.
        """


class TopicObserver(GossipObserver, Protocol):
    """
    A L{GossipObserver} that is also notified of the end.
    """

    def topic_left(self) -> object:
        """
        Called once, when the topic is left or the tracker stops.
        """


class LinkObserver(GossipObserver, Protocol):
    """
    A L{GossipObserver} that is also notified of messages that may be lost.  Each of the two methods is
    optional.
    """

    def link_broken(self, peer_id: PeerId, reason: str, unconfirmed: int, /) -> object:
        """
        Called when a connection to the neighbour C{peer_id} broke; if it was the last one, C{neighbor_down}
        follows.

        @param reason: the reason, in a few words.
        @param unconfirmed: the number of messages that were sent to it after it was last heard from, and may
            be lost.
        """

    def broadcast_unheard(self) -> object:
        """
        Called when a message was broadcast while there was no neighbour; not called again until there has
        been one.
        """


class IGossip(Interface):
    """
    The gossip of one topic, as the tracker's services use it.
    """

    def join(peers: Sequence[PeerId]) -> None:
        """
        Dial each of C{peers}, and send it a HyParView C{Join}.

        @raise dtt.errors.TopicLeft: after L{leave}.
        """

    def broadcast(content: bytes) -> Deferred[int]:
        """
        Send C{content} to the whole swarm.

        @return: fires with the number of neighbours to which it was sent or announced,
            when every eager neighbour has less than 256 KiB unsent and no other
            neighbour is far behind; after C{[timeouts] broadcast} in any case.
        @raise dtt.errors.ContentTooLarge: C{content} is more than 4055 bytes (with the
            default C{max_message_size}).
        @raise dtt.errors.DuplicateContent: it is equal to a message of the last
            90 s.
        @raise dtt.errors.TopicLeft: after L{leave}.
        """

    def broadcast_neighbors(content: bytes) -> Deferred[int]:
        """Send C{content} to all direct neighbours; otherwise as L{broadcast}."""

    def send(peer_id: PeerId, content: bytes) -> Deferred[None]:
        """
        Send C{content} to one direct neighbour.

        @return: fires when it has less than 256 KiB unsent; after
            C{[timeouts] broadcast_neighbors} in any case.
        @raise dtt.errors.NotNeighbor: C{peer_id} is not a neighbour.
        @raise dtt.errors.ContentTooLarge: as L{broadcast}.
        @raise dtt.errors.TopicLeft: after L{leave}.
        """

    def neighbors() -> tuple[PeerId, ...]:
        """Return the peer ids of the active view."""

    def message_hashes() -> tuple[bytes, ...]:
        """
        Return the hashes (SHA-512, truncated to 32 bytes) of the last 5 distinct
        messages to the swarm I{received} in the last 120 s, oldest first.
        """

    def messages_known_since() -> float | None:
        """
        Return the unix time since which we know every message of our partition of the swarm; C{None} if there
        has been none since we joined.
        """

    def are_foreign(hashes: Sequence[bytes], minute: int) -> bool:
        """
        Return whether a record shows that its publisher receives other messages than we do, and so is in
        another partition of the swarm.

        @param hashes: the L{message_hashes} of its publisher.
        @param minute: the unix minute of its slot.
        """

    def is_of_our_part(peer_id: PeerId) -> bool:
        """
        Return whether C{peer_id} is known to be in our partition of the swarm: it is a neighbour, or was
        heard of through one in the last minutes.
        """

    def knows_most() -> bool:
        """
        Return whether we know most members of our partition of the swarm, so that an unknown member is
        probably in another one.
        """

    def compare(peer_id: PeerId) -> Deferred[tuple[PeerId, ...] | None]:
        """
        Ask a member for other members of its partition of the swarm.

        @return: fires with their ids, or with C{None} if the member can't be reached or does not answer.
        @raise dtt.errors.TopicLeft: after L{leave}.
        """

    def when_joined() -> Deferred[None]:
        """
        Return a new Deferred, which fires once there is a neighbour, and fails with L{dtt.errors.TopicLeft}
        if the topic is left first.  It can be cancelled.
        """

    def subscribe(observer: GossipObserver) -> Callable[[], None]:
        """
        Notify C{observer} from now on, starting with C{neighbor_up} for each
        current neighbour.

        @return: a function that ends the subscription.
        @raise dtt.errors.WrongType: a method is missing, or is a coroutine function.
        """

    def leave() -> Deferred[None]:
        """
        Leave the topic, and disconnect from all neighbours.

        @return: fires once the disconnect messages are on their way.
        """
