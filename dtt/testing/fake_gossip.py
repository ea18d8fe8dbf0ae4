"""
A scripted swarm: L{IGossip} without a state machine or a transport.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure
from zope.interface import implementer

from dtt.arguments import check_bytes, check_id
from dtt.deferreds import Waiters
from dtt.errors import ContentTooLarge, DuplicateContent, NotNeighbor, TopicLeft
from dtt.gossip.observers import Observers
from dtt.gossip.proto.config import MESSAGE_ID_RETENTION, GossipConfig
from dtt.interfaces import GossipMessage, GossipObserver, IGossip, PeerId
from dtt.records.record import MAX_MESSAGE_HASHES
from dtt.records.topic import truncated_sha512


@implementer(IGossip)
class FakeGossip:
    """
    One topic's swarm, as one member sees it. Neighbours come and go, and messages arrive,
    when the test calls L{up}, L{down} and L{receive}.

    @ivar joins: the peers passed to L{join}, one tuple per call.
    @ivar broadcasts: the contents sent, to all or to neighbours, in order.
    @ivar sent: the contents sent to one neighbour, with its peer id, in order.
    @ivar part: further members of our part of the swarm.
    @ivar knows: whether most of them are known.
    @ivar parts: what members that are compared answer.
    @ivar compared: the members passed to L{compare}.
    @ivar on_join: called with the peers of each L{join}.
    """

    def __init__(self, config: GossipConfig | None = None, now: Callable[[], float] = lambda: 0.0) -> None:
        """
        @param config: the maximum size of a content; C{None}: the defaults.
        @param now: returns the time: equal contents within 90 s are refused.
        """
        self._most = (config or GossipConfig()).max_content
        self._now = now
        self.joins: list[tuple[PeerId, ...]] = []
        self.broadcasts: list[bytes] = []
        self.sent: list[tuple[PeerId, bytes]] = []
        self.part: set[PeerId] = set()
        self.knows = False
        self.parts: dict[PeerId, tuple[PeerId, ...]] = {}
        self.compared: list[PeerId] = []
        self.on_join: Callable[[tuple[PeerId, ...]], object] = lambda peers: None
        self._neighbors: dict[PeerId, None] = {}
        self._contents: dict[bytes, None] = {}
        self._heard: dict[bytes, None] = {}
        # When each content was last sent to the swarm, or received.
        self._recent: dict[bytes, float] = {}
        self._observers = Observers()
        self._unheard = False
        self._notifying = 0
        self._idle: Waiters[None] = Waiters()
        self._joining: Waiters[None] = Waiters()
        self._left = False

    # Controls for tests

    def up(self, peer_id: PeerId) -> None:
        """
        Make C{peer_id} a neighbour.
        """
        self._neighbors[peer_id] = None
        self._unheard = False
        self._notify(lambda observer: observer.neighbor_up(peer_id))
        self._joining.fire(None)

    def down(self, peer_id: PeerId) -> None:
        """
        Remove the neighbour C{peer_id}.
        """
        del self._neighbors[peer_id]
        self._notify(lambda observer: observer.neighbor_down(peer_id))

    def break_link(self, peer_id: PeerId, reason: str, unconfirmed: int) -> None:
        """
        Break the connection to the neighbour C{peer_id}.
        """
        with self._notifications():
            self._observers.notify_optional("link_broken", peer_id, reason, unconfirmed)
        if peer_id in self._neighbors:  # an observer may have left
            self.down(peer_id)

    def receive(self, content: bytes, delivered_from: PeerId) -> None:
        """
        Deliver a message that C{delivered_from} passed on.
        """
        self._contents.pop(content, None)
        self._contents[content] = None
        self._recent[content] = self._now()
        self.deliver(GossipMessage(content, "swarm", delivered_from))

    def deliver(self, message: GossipMessage) -> None:
        """
        Notify the observers of a message.
        """
        self._notify(lambda observer: observer.message_received(message))

    def check_size(self, content: bytes) -> None:
        """
        Check that a message can have a content.

        @raise WrongType: it is not C{bytes}.
        @raise TopicLeft: the topic was left.
        @raise ContentTooLarge: it is too large.
        """
        check_bytes("content", content)
        self._check()
        if len(content) > self._most:
            raise ContentTooLarge(f"{len(content)} bytes; at most {self._most} can be sent")

    def check_content(self, content: bytes) -> None:
        """
        Check that the swarm would deliver a content.

        @raise DuplicateContent: it was broadcast with a neighbour, or received, in the last 90 s.
        """
        self.check_size(content)
        sent = self._recent.get(content)
        if sent is not None and self._now() - sent < MESSAGE_ID_RETENTION:
            raise DuplicateContent(
                "the same content was broadcast or received in the last 90 s; make each message unique"
            )

    def when_idle(self) -> Deferred[None]:
        """
        Return a Deferred that fires when no observer is being notified.
        """
        return self._idle.wait() if self._notifying else succeed(None)

    # IGossip

    def join(self, peers: Sequence[PeerId]) -> None:
        """
        Record the peers in L{joins}.

        @raise TopicLeft: the topic was left.
        """
        self._check()
        self.joins.append(tuple(peers))
        self.on_join(tuple(peers))

    def broadcast(self, content: bytes) -> Deferred[int]:
        """
        Record the content in L{broadcasts}, and fire with the number of neighbours.

        @raise TopicLeft: the topic was left.
        @raise WrongType: it is not C{bytes}.
        @raise ContentTooLarge: it exceeds 4055 bytes by default.
        @raise DuplicateContent: it was broadcast with a neighbour, or received, before.
        """
        self.check_content(content)
        self.broadcasts.append(content)
        if self._neighbors:
            self._heard[content] = None
            self._recent[content] = self._now()
        self._note_unheard()
        return succeed(len(self._neighbors))

    def broadcast_neighbors(self, content: bytes) -> Deferred[int]:
        """
        Record the content in L{broadcasts}, and fire with the number of neighbours.
        """
        self.check_content(content)
        self.broadcasts.append(content)
        self._note_unheard()
        return succeed(len(self._neighbors))

    def send(self, peer_id: PeerId, content: bytes) -> Deferred[None]:
        """
        Record the content in L{sent}.

        @raise NotNeighbor: C{peer_id} is not a neighbour.
        """
        check_id("peer_id", peer_id)
        self.check_content(content)
        if peer_id not in self._neighbors:
            raise NotNeighbor(f"{peer_id.hex()[:10]} is not a neighbour; nothing was sent")
        self.sent.append((peer_id, content))
        return succeed(None)

    def neighbors(self) -> tuple[PeerId, ...]:
        """
        The current neighbours, in the order in which they came.
        """
        return tuple(self._neighbors)

    def message_hashes(self) -> tuple[bytes, ...]:
        """
        The hashes of the last contents received, as a record carries them.
        """
        return tuple(map(truncated_sha512, self._contents))[-MAX_MESSAGE_HASHES:]

    def messages_known_since(self) -> float | None:
        """
        C{None} until a content was received, then 0.
        """
        return 0.0 if self._contents else None

    def are_foreign(self, hashes: Sequence[bytes], minute: int) -> bool:
        """
        Whether there are hashes, and none is that of a content received or sent.
        """
        ours = frozenset(map(truncated_sha512, (*self._contents, *self._heard)))
        return bool(self._contents and hashes) and ours.isdisjoint(hashes)

    def is_of_our_part(self, peer_id: PeerId) -> bool:
        """
        Whether it is a neighbour, or in L{part}.
        """
        return peer_id in self._neighbors or peer_id in self.part

    def knows_most(self) -> bool:
        """
        Return L{knows}.
        """
        return self.knows

    def compare(self, peer_id: PeerId) -> Deferred[tuple[PeerId, ...] | None]:
        """
        Record the peer in L{compared}, and answer from L{parts}.

        @raise TopicLeft: the topic was left.
        """
        self._check()
        self.compared.append(peer_id)
        return succeed(self.parts.get(peer_id))

    def when_joined(self) -> Deferred[None]:
        """
        Fire when there is a neighbour; fail with L{TopicLeft} once the topic is left.
        """
        if self._left:
            return fail(TopicLeft("the topic was left"))
        if self._neighbors:
            return succeed(None)
        return self._joining.wait()

    def subscribe(self, observer: GossipObserver) -> Callable[[], None]:
        """
        Notify C{observer} of the current neighbours and of all later events.

        @return: a function that ends the subscription.
        """
        self._check()
        end = self._observers.add(observer)
        for peer in tuple(self._neighbors):
            self._observers.guard(observer.neighbor_up, peer)
        return end

    def leave(self) -> Deferred[None]:
        """
        Drop observers and neighbours, and fail what waits in L{when_joined} with
        L{TopicLeft}.
        """
        if not self._left:
            self._left = True
            with self._notifications():
                self._observers.end()
        self._neighbors.clear()
        self._joining.fire(Failure(TopicLeft("the topic was left")))
        return succeed(None)

    # Internals

    def _check(self) -> None:
        if self._left:
            raise TopicLeft("the topic was left")

    def _note_unheard(self) -> None:
        if not self._neighbors and not self._unheard:
            self._unheard = True
            with self._notifications():
                self._observers.notify_optional("broadcast_unheard")

    @contextmanager
    def _notifications(self) -> Iterator[None]:
        self._notifying += 1
        try:
            yield
        finally:
            self._notifying -= 1
        if not self._notifying:
            self._idle.fire(None)

    def _notify(self, call: Callable[[GossipObserver], object]) -> None:
        with self._notifications():
            self._observers.notify(call)
