"""
Which iroh connection serves a peer, and which topics use it.

Rules (docs/protocol/gossip.md sections 5 and 11): of several connections to a peer
the newest is the I{current} one, which all is sent on; all of them are read
until they end, for the peer may see another one as the newest.  A message for a
topic that we have not opened is dropped.  When a topic has ended with a
C{Disconnect} and no other one is shared, the connection is closed a second
later, unless it is used again.  One that is not used and saw no C{Disconnect}
stays for 5 minutes: Rust does not dial again a peer that closed it (Q13).  One
that was replaced is closed when the peer, too, has been sending on a newer one
for a while.  As many as are served may be closing; of more the oldest are ended
at once.

There is no admission: who knows the topic id may talk.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from dtt.deferreds import cancel_if_active
from dtt.interfaces import ITopicLinks, PeerId
from dtt.transport.backpressure import Writers
from dtt.transport.iroh.connection import QuicConnection
from dtt.transport.iroh.stream_parser import DISCONNECT, MAX_SENT
from dtt.transport.streams.multiplexer import LINGER, MAX_CONNECTIONS

#: Seconds that a new connection has to show what it is for (guess).
FIRST_USE = 10.0

#: Seconds that an unused connection is kept (docs/protocol/gossip.md section 1,
#: address retention).
UNUSED = 300.0

#: Seconds after which a replaced connection that the peer does not use is closed,
#: if the peer uses the current one (guess: far more than messages are under way).
REPLACED = 30.0

#: Connections of one peer; further ones replace the oldest (guess: two from
#: simultaneous dials, and as many from before a restart or a change of network).
MAX_PER_PEER = 4


@define(slots=True, eq=False)
class _Link:
    """
    A connection, as the table sees it.

    @ivar used: topics that messages went for, either way, and that have not ended.
    @ivar fresh: nothing has come or gone yet.
    @ivar heard: when the peer last sent a message on it, seconds.
    @ivar linger: the end that it is heading for.
    """

    connection: QuicConnection
    heard: float
    used: set[bytes] = field(factory=set)
    fresh: bool = True
    linger: IDelayedCall | None = None


@define(slots=True, eq=False)
class _Peer:
    """
    @ivar links: the oldest first; the last one is current.
    @ivar replaced: looks after those that are not.
    """

    links: list[_Link]
    replaced: IDelayedCall | None = None


class Peers:
    """
    The table of connections and topics of one iroh transport.

    @ivar counters: what happened, by reason.
    @ivar writers: who waits for slow readers.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, counters: Counter[str], on_gone: Callable[[], None]) -> None:
        """
        @param on_gone: told when the last connection has ended.
        """
        self._clock = clock
        self.counters = counters
        self._on_gone = on_gone
        self._topics: dict[bytes, ITopicLinks] = {}
        self._peers: dict[PeerId, _Peer] = {}
        self._links: dict[QuicConnection, _Link] = {}
        # All that have not ended; those that are closing serve nobody.
        self._open: dict[QuicConnection, None] = {}
        self.writers = Writers(self._current)

    # Topics

    def open_topic(self, topic_id: bytes, links: ITopicLinks) -> None:
        """
        As L{dtt.interfaces.IPeerTransport.open_topic}.
        """
        if topic_id in self._topics:
            raise ValueError("the topic is open already")
        self._topics[topic_id] = links

    def close_topic(self, topic_id: bytes) -> None:
        """
        As L{dtt.interfaces.IPeerTransport.close_topic}; nothing if it is not open.
        """
        if self._topics.pop(topic_id, None) is None:
            return
        for link in tuple(self._links.values()):
            link.connection.finish(topic_id)
            self._unuse(link, topic_id, LINGER)

    def disconnect(self, peer_id: PeerId, topic_id: bytes) -> None:
        """
        As L{dtt.interfaces.IPeerTransport.disconnect}.
        """
        peer = self._peers.get(peer_id)
        if peer is not None:
            for link in tuple(peer.links):
                link.connection.finish(topic_id)
                self._unuse(link, topic_id, UNUSED)

    # Sending

    def is_connected(self, peer_id: PeerId) -> bool:
        """
        As L{dtt.interfaces.IPeerTransport.is_connected}.
        """
        return peer_id in self._peers

    def send(self, peer_id: PeerId, topic_id: bytes, message: bytes) -> bool:
        """
        As L{dtt.interfaces.IPeerTransport.send}.

        @raise ValueError: the message has more than 4095 bytes.
        """
        if len(message) > MAX_SENT:
            raise ValueError(f"a message has at most {MAX_SENT} bytes, not {len(message)}")
        peer = self._peers.get(peer_id)
        if peer is None or topic_id not in self._topics:
            return False
        link = peer.links[-1]
        self._note(link, topic_id, message)
        link.connection.send(topic_id, message)
        return True

    # What happens on connections

    def connection_made(self, connection: QuicConnection) -> bool:
        """
        C{connection} is authenticated, and not started yet.

        @return: whether there is room for it.
        """
        peer_id = connection.peer_id
        peer = self._peers.get(peer_id)
        if peer is not None and len(peer.links) >= MAX_PER_PEER:
            self.counters["closed: replaced"] += 1
            self._close(peer.links[0])
        elif not self._make_room():
            self.counters["refused: too many connections"] += 1
            return False
        link = self._links[connection] = _Link(connection, self._clock.seconds())
        self._open[connection] = None
        if len(self._open) > 2 * MAX_CONNECTIONS:
            next(each for each in self._open if each not in self._links).abort("did not close in time")
        if peer is None:
            self._peers[peer_id] = _Peer([link])
        else:
            self.counters["duplicate connections"] += 1
            peer.links.append(link)
            self._watch(peer)
        self._settle(link, FIRST_USE)
        if peer is None:
            self._tell(lambda links: links.peer_connected(peer_id), tuple(self._topics))
        else:
            self.writers.check()
        return True

    def header_received(self, connection: QuicConnection, topic_id: bytes) -> None:
        """
        The peer has opened a stream.
        """
        link = self._links.get(connection)
        if link is not None and link.fresh:
            link.fresh = False
            self._settle(link, UNUSED)

    def messages_received(self, connection: QuicConnection, topic_id: bytes, messages: list[bytes]) -> None:
        """
        Messages of the peer, at least one.

        @raise dtt.errors.RemoteError: one is malformed.
        """
        last = messages[-1]
        if len(messages) > 1 and last.startswith(DISCONNECT):
            # The answers to those before it are not to outlive it.
            self.messages_received(connection, topic_id, messages[:-1])
            messages = [last]
        links = self._topics.get(topic_id)
        if links is None:
            self.counters["received: unknown topic"] += len(messages)
            return
        link = self._links.get(connection)
        if link is not None:
            link.heard = self._clock.seconds()
            self._note(link, topic_id, last)
        links.messages_received(connection.peer_id, messages)

    def writable(self) -> None:
        """
        A slow reader has read.
        """
        self.writers.check()

    def connection_lost(self, connection: QuicConnection, reason: str) -> None:
        """
        C{connection} has ended.

        @param reason: C{""} or C{"cancelled"} if we asked for it.
        """
        if reason not in ("", "cancelled"):
            self.counters[f"closed: {reason}"] += 1
        link = self._links.get(connection)
        if link is not None:
            self._remove(link)
        self._open.pop(connection, None)
        if not self._open:
            self._on_gone()

    def close_all(self) -> None:
        """
        Leave all topics and close all connections.
        """
        for topic_id in tuple(self._topics):
            self.close_topic(topic_id)
        for link in tuple(self._links.values()):
            self._close(link)

    def abort_all(self) -> None:
        """
        End all connections now.
        """
        for connection in tuple(self._open):
            connection.abort("cancelled")

    def connections(self) -> tuple[QuicConnection, ...]:
        """
        All that have not ended.
        """
        return tuple(self._open)

    # Inside

    def _current(self, peer_id: PeerId) -> QuicConnection | None:
        peer = self._peers.get(peer_id)
        return None if peer is None else peer.links[-1].connection

    def _tell(self, call: Callable[[ITopicLinks], None], topic_ids: Sequence[bytes]) -> None:
        for topic_id in topic_ids:
            # A callee may close a topic.
            if (links := self._topics.get(topic_id)) is None:
                continue
            try:
                call(links)
            except Exception:
                self._log.failure("a topic could not handle what happened to a connection")

    def _note(self, link: _Link, topic_id: bytes, message: bytes) -> None:
        """
        A message went over C{link}, either way.
        """
        if message.startswith(DISCONNECT):
            self._unuse(link, topic_id, LINGER)
        elif topic_id not in link.used:
            link.used.add(topic_id)
            link.fresh = False
            self._keep(link)

    def _unuse(self, link: _Link, topic_id: bytes, seconds: float) -> None:
        """
        End the topic's use of C{link}.

        @param seconds: how long it may be without any.
        """
        if topic_id in link.used:
            link.used.discard(topic_id)
            self._settle(link, seconds)

    def _settle(self, link: _Link, seconds: float) -> None:
        """
        Close C{link} after so many seconds, unless a topic uses it.
        """
        if not link.used:
            self._keep(link)
            link.linger = self._clock.callLater(seconds, self._close, link)

    def _keep(self, link: _Link) -> None:
        if link.linger is not None:
            cancel_if_active(link.linger)
            link.linger = None

    def _close(self, link: _Link) -> None:
        """
        Serve nobody with C{link} any more, and close it once all is out.
        """
        self._remove(link)
        link.connection.close()

    def _remove(self, link: _Link) -> None:
        connection = link.connection
        if self._links.pop(connection, None) is None:
            return
        self._keep(link)
        peer = self._peers[connection.peer_id]
        peer.links.remove(link)
        if peer.links:
            # What it served goes on over those that are left.
            peer.links[-1].used |= link.used
            if link.used:
                self._keep(peer.links[-1])
        else:
            del self._peers[connection.peer_id]
            cancel_if_active(peer.replaced)
            self._tell(lambda links: links.peer_disconnected(connection.peer_id), tuple(link.used))
        self.writers.check()

    def _make_room(self) -> bool:
        """
        Whether one more connection may be had; at the limit the oldest one
        that no topic uses makes way.
        """
        if len(self._links) < MAX_CONNECTIONS:
            return True
        idle = next((link for link in self._links.values() if not link.used), None)
        if idle is None:
            return False
        self.counters["closed: made room"] += 1
        self._close(idle)
        return True

    def _watch(self, peer: _Peer) -> None:
        if peer.replaced is None or not peer.replaced.active():
            peer.replaced = self._clock.callLater(REPLACED, self._close_replaced, peer, self._clock.seconds())

    def _close_replaced(self, peer: _Peer, since: float) -> None:
        """
        Close what the peer does not use any more.

        @param since: when it was looked at last.
        """
        current = peer.links[-1]
        if current.heard > since + REPLACED / 2:
            for link in peer.links[:-1]:
                if link.heard <= since + REPLACED / 2:
                    self.counters["closed: replaced"] += 1
                    self._close(link)
        if len(peer.links) > 1:
            self._watch(peer)
