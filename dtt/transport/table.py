"""
The authenticated connections of one transport: which one serves a peer.

Rules (docs/protocol/streams.md section 1): each peer has one I{current} connection, on
which everything is sent; every connection is read until it ends.  At most
C{max_connections} serve their peers: at the limit one that no topic uses is closed
to make room, the oldest of the network that has most of these, or else the new one is
refused.

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
from dtt.errors import NoRoom
from dtt.interfaces import ITopicLinks, LinkPath, PeerId
from dtt.net.networks import most_dispensable
from dtt.transport.backpressure import SendQueue, Writers
from dtt.transport.dialing import MAX_DIALS
from dtt.transport.settings import Reports

#: Connections that are closing; beyond that the oldest is aborted.  Guess: each costs a descriptor
#: for at most 5 s.
MAX_CLOSING = 128

#: Seconds from a connection's last use to its close (guess: a few round trips).
LINGER = 1.0

#: Seconds until a transport that stops aborts what is left (docs/protocol/streams.md section 4).
STOP_TIMEOUT = 1.5


class AuthenticatedConnection(SendQueue, Protocol):
    """
    A connection, as L{ConnectionTable} uses it.
    """

    @property
    def peer_id(self) -> PeerId:
        """Peer id of the remote end (32 bytes)."""

    @property
    def networks(self) -> tuple[str, ...]:
        """The networks of the remote host, each within the one before."""

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
        uses_of: Callable[[LinkT], Collection[object]],
        on_retired: Callable[[LinkT], None],
        max_connections: int,
    ) -> None:
        """
        @param clock: schedules closes.
        @param counters: incremented for each event.
        @param uses_of: returns what uses a connection, such as topics.
        @param on_retired: called once for each connection, when we close it or it has
            ended: it no longer serves its peer.
        @param max_connections: how many connections may serve their peers.
        """
        self._clock = clock
        self._counters = counters
        self._uses_of = uses_of
        self._on_retired = on_retired
        self._max_connections = max_connections
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

    def link_broken(self, peer_id: PeerId, topic_ids: Iterable[bytes], heard: float, reason: str) -> None:
        """
        Notify some topics that a connection to the peer has broken.

        @param heard: when the peer was last heard from on it, in seconds.
        @param reason: the reason, in a few words.
        """
        if reason == "by peer":
            reason = "closed by the peer"
        self._notify(lambda links: links.link_broken(peer_id, heard, reason), tuple(topic_ids))

    # Connections

    def has_room(self) -> bool:
        """
        Return whether one more connection is allowed, or would be after closing one
        that no topic uses.
        """
        if len(self.links) < self._max_connections:
            return True
        serving = [link for link in self.links.values() if not link.closing]
        return len(serving) < self._max_connections or not all(map(self._uses_of, serving))

    def is_connected(self, peer_id: PeerId) -> bool:
        """
        Return whether the peer has a current connection.
        """
        return peer_id in self.current

    def path(self, peer_id: PeerId) -> LinkPath | None:
        """
        Return how the peer is reached; C{None} if it is not connected.
        """
        link = self.current.get(peer_id)
        return None if link is None else link.connection.path

    def check_dial(self, reports: Reports, dials_full: bool) -> None:
        """
        Check the limits before a peer is dialled, and count and report one that is
        reached.

        @param reports: counts and reports.
        @param dials_full: whether too many peers are being dialled.  This is only counted
            here: the dial itself fails.
        @raise NoRoom: there are too many connections.
        """
        if not self.has_room():
            reports.limit("dial_no_room", "connections", self._max_connections)
            raise NoRoom("too many connections")
        if dials_full:
            reports.limit("dial_too_many", "peers dialled at the same time", MAX_DIALS)

    def used(self) -> tuple[int, int]:
        """
        Return how many connections serve their peers, and how many may at most.
        """
        return sum(not link.closing for link in self.links.values()), self._max_connections

    def make_room(self) -> bool:
        """
        Return whether one more connection is allowed.  At the limit, a
        connection that no topic uses is closed first: the oldest of the network that
        has most of these.
        """
        serving = [link for link in self.links.values() if not link.closing]
        if len(serving) < self._max_connections:
            return True
        unused = [link for link in serving if not self._uses_of(link)]
        if not unused:
            return False
        self._counters["closed_made_room"] += 1
        self.close(most_dispensable(unused, lambda link: link.connection.networks))
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
        Note that no connection serves the peer any longer.

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
