"""
The authenticated connections of one transport: which one serves a peer.

Rules (docs/protocol/streams.md section 1): each peer has one I{current} connection, on
which everything is sent; every connection is read until it ends.  At most 128 serve
their peers: at the limit the oldest that no topic uses is closed to make room, or else
the new one is refused.

L{dtt.transport.streams.multiplexer} and L{dtt.transport.iroh.connections} use this
table.  They decide what differs between the protocols: which of several connections is
current, which topics use a connection, and how long an unused one is kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from typing import Any, Generic, Protocol, TypeVar

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from dtt.deferreds import cancel_if_active
from dtt.interfaces import ITopicLinks, PeerId
from dtt.transport.backpressure import SendQueue, Writers

#: Authenticated connections (docs/protocol/streams.md section 1).
MAX_CONNECTIONS = 128

#: Seconds from a connection's last use to its close (guess: a few round trips).
LINGER = 1.0

#: Seconds until a transport that stops aborts what is left (docs/protocol/streams.md section 4).
STOP_TIMEOUT = 1.5


class AuthenticatedConnection(SendQueue, Protocol):
    """
    What L{ConnectionTable} needs from a connection.
    """

    @property
    def peer_id(self) -> PeerId:
        """Peer id of the remote end (32 bytes)."""

    def close(self) -> None:
        """Close the connection once everything sent has been written."""


ConnectionT = TypeVar("ConnectionT", bound=AuthenticatedConnection)


@define(slots=True, eq=False)
class TableEntry(Generic[ConnectionT]):
    """
    The state of one connection.

    @ivar connection: the connection itself.
    @ivar closing: whether it no longer serves its peer.
    @ivar linger: the scheduled close, if any.
    """

    connection: ConnectionT
    closing: bool = field(default=False, init=False)
    linger: IDelayedCall | None = field(default=None, init=False)

    @property
    def peer_id(self) -> PeerId:
        """
        Peer id of the remote end (32 bytes).
        """
        return self.connection.peer_id


LinkT = TypeVar("LinkT", bound=TableEntry[Any])


class ConnectionTable(Generic[LinkT]):
    """
    The connections and topics of one transport.

    @ivar topics: the open topics, by topic id.
    @ivar links: the connections that have not ended, the oldest first.
    @ivar current: the current connection of each connected peer.
    @ivar writers: callers waiting for slow readers.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        counters: Counter[str],
        topics_of: Callable[[LinkT], Collection[bytes]],
        on_retired: Callable[[LinkT], None],
    ) -> None:
        """
        @param clock: schedules closes.
        @param counters: incremented for each event.
        @param topics_of: returns the topics that use a connection.
        @param on_retired: called once for each connection, when we close it or it has
            ended: it no longer serves its peer.
        """
        self._clock = clock
        self._counters = counters
        self._topics_of = topics_of
        self._on_retired = on_retired
        self.topics: dict[bytes, ITopicLinks] = {}
        self.links: dict[AuthenticatedConnection, LinkT] = {}
        self.current: dict[PeerId, LinkT] = {}
        self.writers = Writers(self._current_connection)

    # Topics

    def open_topic(self, topic_id: bytes, links: ITopicLinks) -> None:
        """
        Add a topic.

        @raise ValueError: the topic is already open.
        """
        if topic_id in self.topics:
            raise ValueError("the topic is already open")
        self.topics[topic_id] = links

    def peer_connected(self, peer_id: PeerId) -> None:
        """
        Notify all topics that the peer has got its first connection.
        """
        self._notify(lambda links: links.peer_connected(peer_id), tuple(self.topics))

    def peer_disconnected(self, peer_id: PeerId, topic_ids: Iterable[bytes]) -> None:
        """
        Notify some topics that the peer can't be reached.
        """
        self._notify(lambda links: links.peer_disconnected(peer_id), tuple(topic_ids))

    # Connections

    def make_room(self) -> bool:
        """
        Return whether one more connection is allowed.  At the limit, the oldest
        connection that no topic uses is closed first.
        """
        serving = [link for link in self.links.values() if not link.closing]
        if len(serving) < MAX_CONNECTIONS:
            return True
        unused = next((link for link in serving if not self._topics_of(link)), None)
        if unused is None:
            self._counters["refused_too_many_connections"] += 1
            return False
        self._counters["closed_made_room"] += 1
        self.close(unused)
        return True

    def add(self, link: LinkT) -> LinkT | None:
        """
        Add a connection; it is current if the peer has no other.

        @return: the peer's current connection before, if any.
        """
        self.links[link.connection] = link
        current = self.current.setdefault(link.peer_id, link)
        if current is link:
            return None
        self._counters["duplicate_connections"] += 1
        return current

    def serving(self, peer_id: PeerId) -> list[LinkT]:
        """
        Return the connections that serve the peer, the oldest first.
        """
        return [link for link in self.links.values() if link.peer_id == peer_id and not link.closing]

    def remove(self, connection: AuthenticatedConnection) -> None:
        """
        Remove a connection that has ended; does nothing if it is not in the table.
        """
        link = self.links.pop(connection, None)
        if link is not None and not link.closing:
            self._retire(link)

    def forget_peer(self, peer_id: PeerId, topic_ids: Iterable[bytes]) -> None:
        """
        Note that no connection serves the peer any more.

        @param topic_ids: the topics that used the last one.
        """
        del self.current[peer_id]
        self.peer_disconnected(peer_id, topic_ids)
        self.writers.check()

    # Closing

    def close_later(self, link: LinkT, seconds: float) -> None:
        """
        Close C{link} after C{seconds}, instead of when its close was scheduled before.
        """
        self.keep(link)
        link.linger = self._clock.callLater(seconds, self.close, link)

    def keep(self, link: LinkT) -> None:
        """
        Cancel the scheduled close of C{link}.
        """
        cancel_if_active(link.linger)
        link.linger = None

    def close(self, link: LinkT) -> None:
        """
        Close C{link} once everything sent has been written.
        """
        if not link.closing:
            self._retire(link)
            link.connection.close()

    def close_all(self) -> None:
        """
        Close all connections.
        """
        for link in tuple(self.links.values()):
            self.close(link)

    # Internals

    def _retire(self, link: LinkT) -> None:
        self.keep(link)
        link.closing = True
        self._on_retired(link)

    def _current_connection(self, peer_id: PeerId) -> AuthenticatedConnection | None:
        link = self.current.get(peer_id)
        return None if link is None else link.connection

    def _notify(self, call: Callable[[ITopicLinks], None], topic_ids: tuple[bytes, ...]) -> None:
        for topic_id in topic_ids:
            # An earlier call may have closed this topic.
            if (links := self.topics.get(topic_id)) is None:
                continue
            try:
                call(links)
            except Exception:
                self._log.failure("unexpected error while handling a connection event")
