"""
The table of iroh connections: which one serves a peer, and which topics use it.

Rules (docs/protocol/gossip.md sections 5 and 11): of several connections to a peer the
newest is the I{current} one, on which everything is sent; all of them are read until
they end, because the peer may consider another one the newest.  A message for a topic
that we have not opened is dropped.  When a topic has ended with a C{Disconnect} and no
other topic uses the connection, it is closed one second later, unless it is used
again.  An unused connection without a C{Disconnect} is kept for 5 minutes: Rust does
not redial a peer that closed one (Q13).  A replaced connection is closed when the peer,
too, has been sending on a newer one for a while.  At most as many connections may be
closing as are served; beyond that the oldest are aborted.

There is no admission: any peer that knows the topic id may take part.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from dtt.deferreds import cancel_if_active
from dtt.interfaces import ITopicLinks, PeerId
from dtt.transport.backpressure import Writers, closed_counter
from dtt.transport.iroh.connection import QuicConnection
from dtt.transport.iroh.stream_parser import DISCONNECT, MAX_SENT
from dtt.transport.streams.multiplexer import LINGER, MAX_CONNECTIONS

#: Seconds for a new connection to be used for a topic (guess).
FIRST_USE = 10.0

#: Seconds for which an unused connection is kept (docs/protocol/gossip.md section 1, address
#: retention).
UNUSED = 300.0

#: Seconds after which a replaced connection that the peer does not use is closed, if the peer uses
#: the current one (guess: far longer than messages are in flight).
REPLACED = 30.0

#: Connections per peer; a further one replaces the oldest (guess: two from simultaneous dials, and
#: two more from before a restart or a change of network).
MAX_PER_PEER = 4


@define(slots=True, eq=False)
class _Link:
    """
    The state of one connection.

    @ivar connection: the connection itself.
    @ivar heard: when the peer last sent a message on it, in seconds.
    @ivar used: topics with messages in either direction that have not ended.
    @ivar fresh: whether nothing has been sent or received yet.
    @ivar linger: the scheduled close, if any.
    """

    connection: QuicConnection
    heard: float
    used: set[bytes] = field(factory=set)
    fresh: bool = True
    linger: IDelayedCall | None = None


@define(slots=True, eq=False)
class _Peer:
    """
    @ivar links: the peer's connections, the oldest first; the last one is current.
    @ivar replaced: schedules the check of replaced connections.
    """

    links: list[_Link]
    replaced: IDelayedCall | None = None


class Peers:
    """
    The connections and topics of one iroh transport.

    @ivar counters: events by name.
    @ivar writers: callers waiting for slow readers.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, counters: Counter[str], on_gone: Callable[[], None]) -> None:
        """
        @param clock: schedules timeouts.
        @param counters: incremented for each event.
        @param on_gone: called when the last connection has ended.
        """
        self._clock = clock
        self.counters = counters
        self._on_gone = on_gone
        self._topics: dict[bytes, ITopicLinks] = {}
        self._peers: dict[PeerId, _Peer] = {}
        self._links: dict[QuicConnection, _Link] = {}
        # All connections that have not ended; those that are closing serve no peer.
        self._open: dict[QuicConnection, None] = {}
        self.writers = Writers(self._current)

    # Topics

    def open_topic(self, topic_id: bytes, links: ITopicLinks) -> None:
        """
        Open a topic.

        @param topic_id: 32 bytes.
        @param links: receives the topic's events.
        @raise ValueError: the topic is already open.
        """
        if topic_id in self._topics:
            raise ValueError("the topic is already open")
        self._topics[topic_id] = links

    def close_topic(self, topic_id: bytes) -> None:
        """
        Close a topic on all connections; does nothing if it is not open.
        """
        if self._topics.pop(topic_id, None) is None:
            return
        for link in tuple(self._links.values()):
            link.connection.finish(topic_id)
            self._end_use(link, topic_id, LINGER)

    def disconnect(self, peer_id: PeerId, topic_id: bytes) -> None:
        """
        End the topic's use of all connections to the peer.
        """
        peer = self._peers.get(peer_id)
        if peer is not None:
            for link in tuple(peer.links):
                link.connection.finish(topic_id)
                self._end_use(link, topic_id, UNUSED)

    # Sending

    def is_connected(self, peer_id: PeerId) -> bool:
        """
        Return whether the peer has a current connection.
        """
        return peer_id in self._peers

    def send(self, peer_id: PeerId, topic_id: bytes, message: bytes) -> bool:
        """
        Send a message on the peer's current connection.

        @return: whether the peer is connected and the topic is open; otherwise the
            message is dropped.
        @raise ValueError: the message has more than 4095 bytes.
        """
        if len(message) > MAX_SENT:
            raise ValueError(f"message of {len(message)} bytes; the maximum is {MAX_SENT}")
        peer = self._peers.get(peer_id)
        if peer is None or topic_id not in self._topics:
            return False
        link = peer.links[-1]
        self._message_passed(link, topic_id, message)
        link.connection.send(topic_id, message)
        return True

    # Connection events

    def connection_made(self, connection: QuicConnection) -> bool:
        """
        Add an authenticated connection that has not been started.

        @return: whether there is room for it.
        """
        peer_id = connection.peer_id
        peer = self._peers.get(peer_id)
        if peer is not None and len(peer.links) >= MAX_PER_PEER:
            self.counters["closed_replaced"] += 1
            self._close(peer.links[0])
        elif not self._make_room():
            self.counters["refused_too_many_connections"] += 1
            return False
        # The room may have been made by closing this peer's only connection.
        peer = self._peers.get(peer_id)
        link = self._links[connection] = _Link(connection, self._clock.seconds())
        self._open[connection] = None
        if len(self._open) > 2 * MAX_CONNECTIONS:
            next(each for each in self._open if each not in self._links).abort("did not close in time")
        if peer is None:
            self._peers[peer_id] = _Peer([link])
        else:
            self.counters["duplicate_connections"] += 1
            peer.links.append(link)
            self._watch(peer)
        self._schedule_close(link, FIRST_USE)
        if peer is None:
            self._notify(lambda links: links.peer_connected(peer_id), tuple(self._topics))
        else:
            self.writers.check()
        return True

    def header_received(self, connection: QuicConnection, topic_id: bytes) -> None:
        """
        Note that the peer uses the connection: it has opened a stream.
        """
        link = self._links.get(connection)
        if link is not None and link.fresh:
            link.fresh = False
            self._schedule_close(link, UNUSED)

    def messages_received(self, connection: QuicConnection, topic_id: bytes, messages: list[bytes]) -> None:
        """
        Pass messages to their topic, or drop them if it is not open.

        @raise dtt.errors.RemoteError: a message is malformed.
        """
        last = messages[-1]
        if len(messages) > 1 and last.startswith(DISCONNECT):
            # Handle the messages before it first: replies to them must not follow the Disconnect.
            self.messages_received(connection, topic_id, messages[:-1])
            messages = [last]
        links = self._topics.get(topic_id)
        if links is None:
            self.counters["received_unknown_topic"] += len(messages)
            return
        link = self._links.get(connection)
        if link is not None:
            link.heard = self._clock.seconds()
            self._message_passed(link, topic_id, last)
        links.messages_received(connection.peer_id, messages)

    def writable(self) -> None:
        """
        Notify waiting callers that a connection may be writable.
        """
        self.writers.check()

    def connection_lost(self, connection: QuicConnection, reason: str) -> None:
        """
        Remove a connection that has ended.

        @param reason: C{""} or C{"cancelled"} if we requested the end.
        """
        if reason not in ("", "cancelled"):
            self.counters[closed_counter(reason)] += 1
        link = self._links.get(connection)
        if link is not None:
            self._remove(link)
        self._open.pop(connection, None)
        if not self._open:
            self._on_gone()

    def close_all(self) -> None:
        """
        Close all topics and all connections.
        """
        for topic_id in tuple(self._topics):
            self.close_topic(topic_id)
        for link in tuple(self._links.values()):
            self._close(link)

    def abort_all(self) -> None:
        """
        Abort all connections.
        """
        for connection in tuple(self._open):
            connection.abort("cancelled")

    def connections(self) -> tuple[QuicConnection, ...]:
        """
        Return all connections that have not ended.
        """
        return tuple(self._open)

    # Internals

    def _current(self, peer_id: PeerId) -> QuicConnection | None:
        peer = self._peers.get(peer_id)
        return None if peer is None else peer.links[-1].connection

    def _notify(self, call: Callable[[ITopicLinks], None], topic_ids: Sequence[bytes]) -> None:
        for topic_id in topic_ids:
            # An earlier call may have closed this topic.
            if (links := self._topics.get(topic_id)) is None:
                continue
            try:
                call(links)
            except Exception:
                self._log.failure("unexpected error while handling a connection event")

    def _message_passed(self, link: _Link, topic_id: bytes, message: bytes) -> None:
        """
        Track the use of C{link} by a message in either direction.
        """
        if message.startswith(DISCONNECT):
            self._end_use(link, topic_id, LINGER)
        elif topic_id not in link.used:
            link.used.add(topic_id)
            link.fresh = False
            self._cancel_close(link)

    def _end_use(self, link: _Link, topic_id: bytes, seconds: float) -> None:
        """
        End the topic's use of C{link}.

        @param seconds: how long the connection is kept without any topic.
        """
        if topic_id in link.used:
            link.used.discard(topic_id)
            self._schedule_close(link, seconds)

    def _schedule_close(self, link: _Link, seconds: float) -> None:
        """
        Close C{link} after C{seconds}, unless a topic uses it.
        """
        if not link.used:
            self._cancel_close(link)
            link.linger = self._clock.callLater(seconds, self._close, link)

    def _cancel_close(self, link: _Link) -> None:
        if link.linger is not None:
            cancel_if_active(link.linger)
            link.linger = None

    def _close(self, link: _Link) -> None:
        """
        Remove C{link} from the table, and close the connection once everything is sent.
        """
        self._remove(link)
        link.connection.close()

    def _remove(self, link: _Link) -> None:
        connection = link.connection
        if self._links.pop(connection, None) is None:
            return
        self._cancel_close(link)
        peer = self._peers[connection.peer_id]
        peer.links.remove(link)
        if peer.links:
            # Its topics continue on the remaining connections.
            peer.links[-1].used |= link.used
            if link.used:
                self._cancel_close(peer.links[-1])
        else:
            del self._peers[connection.peer_id]
            cancel_if_active(peer.replaced)
            self._notify(lambda links: links.peer_disconnected(connection.peer_id), tuple(link.used))
        self.writers.check()

    def _make_room(self) -> bool:
        """
        Return whether one more connection is allowed.  At the limit, the oldest
        connection that no topic uses is closed first.
        """
        if len(self._links) < MAX_CONNECTIONS:
            return True
        idle = next((link for link in self._links.values() if not link.used), None)
        if idle is None:
            return False
        self.counters["closed_made_room"] += 1
        self._close(idle)
        return True

    def _watch(self, peer: _Peer) -> None:
        if peer.replaced is None or not peer.replaced.active():
            peer.replaced = self._clock.callLater(REPLACED, self._close_replaced, peer, self._clock.seconds())

    def _close_replaced(self, peer: _Peer, since: float) -> None:
        """
        Close replaced connections that the peer no longer uses.

        @param since: when the check was scheduled, in seconds.
        """
        current = peer.links[-1]
        if current.heard > since + REPLACED / 2:
            for link in peer.links[:-1]:
                if link.heard <= since + REPLACED / 2:
                    self.counters["closed_replaced"] += 1
                    self._close(link)
        if len(peer.links) > 1:
            self._watch(peer)
