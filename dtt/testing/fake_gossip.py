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

from dtt.deferreds import Waiters
from dtt.errors import ContentTooLarge, DuplicateContent, TopicLeft
from dtt.gossip.proto.config import GossipConfig
from dtt.interfaces import GossipMessage, IGossip, IGossipObserver, PeerId
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
    @ivar on_join: called with the peers of each L{join}.
    """

    _log = Logger()

    def __init__(self) -> None:
        self.joins: list[tuple[PeerId, ...]] = []
        self.broadcasts: list[bytes] = []
        self.on_join: Callable[[tuple[PeerId, ...]], object] = lambda peers: None
        self._neighbors: dict[PeerId, None] = {}
        self._contents: dict[bytes, None] = {}
        self._observers: dict[object, IGossipObserver] = {}
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

    def broadcast(self, content: bytes) -> Deferred[None]:
        """
        Record the content in L{broadcasts}.

        @raise TopicLeft: the topic was left.
        @raise ContentTooLarge: it exceeds C{GossipConfig.max_content}.
        @raise DuplicateContent: it was broadcast or received before.
        """
        self._check()
        if len(content) > GossipConfig().max_content:
            raise ContentTooLarge(f"{len(content)} bytes")
        if content in self.broadcasts or content in self._contents:
            raise DuplicateContent("the same content was broadcast or received recently")
        self.broadcasts.append(content)
        return succeed(None)

    def broadcast_neighbors(self, content: bytes) -> Deferred[None]:
        """
        Record the content in L{broadcasts}, as L{broadcast} does.
        """
        return self.broadcast(content)

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

    def when_joined(self) -> Deferred[None]:
        """
        Fire when there is a neighbour; fail with L{TopicLeft} once the topic is left.
        """
        if self._left:
            return fail(TopicLeft("the topic was left"))
        if self._neighbors:
            return succeed(None)
        return self._joining.wait()

    def subscribe(self, observer: IGossipObserver) -> Callable[[], None]:
        """
        Notify C{observer} of the current neighbours and of all later events.

        @return: a function that ends the subscription.
        """
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
        self._left = True
        self._observers.clear()
        self._neighbors.clear()
        self._joining.fire(Failure(TopicLeft("the topic was left")))
        return succeed(None)

    # Internals

    def _check(self) -> None:
        if self._left:
            raise TopicLeft("the topic was left")

    def _unsubscribe(self, key: object) -> None:
        self._observers.pop(key, None)

    def _notify(self, call: Callable[[IGossipObserver], None]) -> None:
        for key, observer in tuple(self._observers.items()):
            if key in self._observers:
                self._guard(call, observer)

    def _guard(self, call: Callable[[T], None], argument: T) -> None:
        try:
            call(argument)
        except Exception:
            self._log.failure("an observer of the topic failed")
