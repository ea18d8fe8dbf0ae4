"""
A scripted swarm: L{IGossip} without a state machine or a transport.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from dtt.arguments import check_bytes, check_id
from dtt.deferreds import Waiters
from dtt.errors import ContentTooLarge, DuplicateContent, NotNeighbor, TopicLeft
from dtt.gossip.observers import check_observer
from dtt.gossip.proto.config import GossipConfig
from dtt.interfaces import GossipMessage, GossipObserver, IGossip, PeerId
from dtt.records.record import MAX_MESSAGE_HASHES
from dtt.records.topic import truncated_sha512

T = TypeVar("T")


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

    _log = Logger()

    def __init__(self) -> None:
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
        self._observers: dict[object, GossipObserver] = {}
        self._joining: Waiters[None] = Waiters()
        self._left = False

    # Controls for tests

    def up(self, peer_id: PeerId) -> None:
        """
        Make C{peer_id} a neighbour.
        """
        self._neighbors[peer_id] = None
        self._notify(lambda observer: observer.neighbor_up(peer_id))
        self._joining.fire(None)

    def down(self, peer_id: PeerId) -> None:
        """
        Remove the neighbour C{peer_id}.
        """
        del self._neighbors[peer_id]
        self._notify(lambda observer: observer.neighbor_down(peer_id))

    def receive(self, content: bytes, delivered_from: PeerId) -> None:
        """
        Deliver a message that C{delivered_from} passed on.
        """
        self._contents.pop(content, None)
        self._contents[content] = None
        message = GossipMessage(content, "swarm", delivered_from)
        self._notify(lambda observer: observer.message_received(message))

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
        @raise ContentTooLarge: it exceeds 4055 bytes.
        @raise DuplicateContent: it was broadcast with a neighbour, or received, before.
        """
        self._check_content(content)
        self.broadcasts.append(content)
        if self._neighbors:
            self._heard[content] = None
        return succeed(len(self._neighbors))

    def broadcast_neighbors(self, content: bytes) -> Deferred[int]:
        """
        Record the content in L{broadcasts}, and fire with the number of neighbours.
        """
        self._check_content(content)
        self.broadcasts.append(content)
        return succeed(len(self._neighbors))

    def send(self, peer_id: PeerId, content: bytes) -> Deferred[None]:
        """
        Record the content in L{sent}.

        @raise NotNeighbor: C{peer_id} is not a neighbour.
        """
        check_id("peer_id", peer_id)
        self._check_content(content)
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
        check_observer(observer)
        self._check()
        key = object()
        self._observers[key] = observer
        for peer in tuple(self._neighbors):
            self._guard(observer.neighbor_up, peer)
        return lambda: self._unsubscribe(key)

    def leave(self) -> Deferred[None]:
        """
        Drop observers and neighbours, and fail what waits in L{when_joined} with
        L{TopicLeft}.
        """
        if not self._left:
            self._left = True
            self._notify(lambda observer: getattr(observer, "topic_left", lambda: None)())
        self._observers.clear()
        self._neighbors.clear()
        self._joining.fire(Failure(TopicLeft("the topic was left")))
        return succeed(None)

    # Internals

    def _check_content(self, content: bytes) -> None:
        check_bytes("content", content)
        self._check()
        if len(content) > GossipConfig().max_content:
            raise ContentTooLarge(f"{len(content)} bytes")
        if content in self._heard or content in self._contents:
            raise DuplicateContent("the same content was broadcast or received recently")

    def _check(self) -> None:
        if self._left:
            raise TopicLeft("the topic was left")

    def _unsubscribe(self, key: object) -> None:
        self._observers.pop(key, None)

    def _notify(self, call: Callable[[GossipObserver], object]) -> None:
        for key, observer in tuple(self._observers.items()):
            if key in self._observers:
                self._guard(call, observer)

    def _guard(self, call: Callable[[T], object], argument: T) -> None:
        try:
            call(argument)
        except Exception:
            self._log.failure("an observer of the topic failed")
