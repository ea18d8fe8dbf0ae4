"""
The iroh connections and their topics: which connection is current, and which are used.

Rules (docs/protocol/gossip.md sections 5 and 11; L{dtt.transport.table}): of several
connections to a peer the newest is current; all of them are read until they end,
because the peer may consider another one the newest.  A message for a topic that we
have not opened is dropped.  When a topic has ended with a C{Disconnect} and no other
topic uses the connection, it is closed one second later, unless it is used again.  An
unused connection without a C{Disconnect} is kept for 5 minutes: Rust does not redial a
peer that closed one (Q13).  A connection on which none of our topics was named within 10 s is closed.  A
replaced connection is closed when the peer, too, has been sending on a newer one for a while.  At most as
many connections may be closing as are served; beyond that the oldest are aborted.

iroh-gossip has no admission: any peer that knows the topic id may take part, unless we
require proofs (docs/protocol/gossip.md section 16).  Then messages of a topic, in
either direction, wait until the peer has proved that it knows the secret.  A peer that does not do so in time
is refused: the topic leaves its connections, and its messages for the topic are dropped until it has proved
it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from dtt.counters import snake_case
from dtt.deferreds import cancel_if_active
from dtt.interfaces import ITopicLinks, PeerId
from dtt.transport.iroh.admission import Admission
from dtt.transport.iroh.connection import QuicConnection
from dtt.transport.iroh.gate import MAX_OUTGOING, Gate, Waiting
from dtt.transport.iroh.stream_parser import DISCONNECT
from dtt.transport.settings import Reports, TransportSettings
from dtt.transport.share import Share
from dtt.transport.table import LINGER, MAX_CLOSING, ConnectionTable, TableEntry

#: Seconds for a new connection to be used for a topic (guess).
FIRST_USE = 10.0

#: Seconds for which an unused connection is kept (docs/protocol/gossip.md section 1, address
#: retention).
UNUSED = 300.0

#: Seconds after which a replaced connection that the peer does not use is closed, if the peer uses
#: the current one (guess: far longer than messages are in flight).
REPLACED = 30.0

#: Seconds without a packet after which the library ends a connection (docs/protocol/gossip.md section
#: 5).  We are not told when packets arrive, but something has arrived within this time.
IDLE_LIMIT = 35.0

#: Connections per peer; a further one replaces the oldest (guess: two from simultaneous dials, and
#: two more from before a restart or a change of network).
MAX_PER_PEER = 4


@define(slots=True, eq=False)
class _Link(TableEntry[QuicConnection]):
    """
    The state of one connection.

    @ivar heard: when the peer last sent a message on it, in seconds.
    @ivar used: topics with messages in either direction that have not ended.
    @ivar fresh: whether nothing has been sent or received yet.
    @ivar refused: topics that the peer has not proved in time.
    """

    heard: float
    used: set[bytes] = field(factory=set, init=False)
    refused: set[bytes] = field(factory=set, init=False)
    fresh: bool = field(default=True, init=False)


class Peers:
    """
    The connections and topics of one iroh transport.

    @ivar counters: events by name.
    @ivar table: the connections and the topics.
    @ivar writers: callers waiting for slow readers.
    @ivar own_id: our peer id (32 bytes).
    @ivar reports: counts and reports limits.
    @ivar share: divides the turns of the reactor among the connections.
    """

    def __init__(
        self,
        clock: IReactorTime,
        peer_id: PeerId,
        counters: Counter[str],
        on_gone: Callable[[], None],
        settings: TransportSettings | None = None,
    ) -> None:
        """
        @param clock: schedules timeouts.
        @param peer_id: our peer id (32 bytes).
        @param counters: incremented for each event.
        @param on_gone: called when the last connection has ended.
        @param settings: the settings; C{None}: the defaults.
        """
        settings = settings or TransportSettings()
        self._clock = clock
        self.own_id = peer_id
        self.counters = counters
        self.share = Share(clock)
        self._max_connections = settings.max_connections
        self.max_message_size = settings.max_message_size
        self.reports = Reports(clock, counters, settings.emit)
        self._admission = Admission(settings.require_secret)
        self._gate = Gate(clock, self._not_proved)
        self._on_gone = on_gone
        self.table: ConnectionTable[_Link] = ConnectionTable(
            clock, counters, lambda link: link.used, self._retired, settings.max_connections
        )
        self.writers = self.table.writers
        # The next check of replaced connections, by peer.
        self._watches: dict[PeerId, IDelayedCall] = {}

    # Topics

    def open_topic(self, topic_id: bytes, secret_hash: bytes, links: ITopicLinks) -> None:
        """
        Open a topic.

        @param topic_id: 32 bytes.
        @param secret_hash: the initial secret hash (32 bytes).
        @param links: receives the topic's events.
        @raise ValueError: the topic is already open.
        """
        self.table.open_topic(topic_id, links)
        self._admission.open_topic(topic_id, secret_hash, self.connections())

    def close_topic(self, topic_id: bytes) -> None:
        """
        Close a topic on all connections; does nothing if it is not open.
        """
        if self.table.topics.pop(topic_id, None) is None:
            return
        self._gate.forget(topic_id=topic_id)
        for link in tuple(self.table.links.values()):
            link.refused.discard(topic_id)
            if not link.closing:
                link.connection.finish(topic_id)
                self._end_use(link, topic_id, LINGER)
        self._admission.close_topic(topic_id, self.connections())

    def disconnect(self, peer_id: PeerId, topic_id: bytes) -> None:
        """
        End the topic's use of all connections to the peer.
        """
        self._gate.forget(peer_id, topic_id)
        for link in self.table.serving(peer_id):
            link.connection.finish(topic_id)
            self._end_use(link, topic_id, UNUSED)

    # Sending

    def send(self, peer_id: PeerId, topic_id: bytes, message: bytes) -> bool:
        """
        Send a message on the peer's current connection, or let it wait for the peer's
        proof if we require one.

        @return: whether the peer is connected and the topic is open; otherwise the
            message is dropped.
        @raise ValueError: the message has C{max_message_size} bytes or more.
        """
        if len(message) >= self.max_message_size:
            raise ValueError(f"message of {len(message)} bytes; the maximum is {self.max_message_size - 1}")
        link = self.table.current.get(peer_id)
        if link is None or topic_id not in self.table.topics:
            return False
        if not self._admission.admits(peer_id, topic_id):
            link.connection.prove(topic_id)
            if not self._gate.hold_outgoing(peer_id, topic_id, message):
                what = "messages that wait for a proof of their topic"
                self.reports.limit("send_too_many_waiting", what, MAX_OUTGOING)
            return True
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
        links = self.table.serving(peer_id)
        if len(links) >= MAX_PER_PEER:
            self.counters["closed_replaced"] += 1
            self.table.close(links[0])
        elif not self.table.make_room():
            self.reports.limit("refused_too_many_connections", "connections", self._max_connections)
            self.reports.refused(peer_id, "too many connections")
            return False
        link = _Link(connection, self._clock.seconds())
        replaced = self.table.add(link)
        if len(self.table.links) > self._max_connections + MAX_CLOSING:
            oldest = next(each for each in self.table.links.values() if each.closing)
            oldest.connection.abort("did not close in time")
        self._schedule_close(link, FIRST_USE)
        if replaced is None:
            self.table.peer_connected(peer_id)
        else:
            self.table.current[peer_id] = link
            self._watch(peer_id)
            self.writers.check()
        return True

    def header_received(self, connection: QuicConnection, topic_id: bytes) -> bool:
        """
        Note that the peer has opened a stream.  If its topic is open, the peer uses the
        connection.

        @return: whether the topic is open.
        """
        known = topic_id in self.table.topics
        link = self.table.links.get(connection)
        if known and link is not None and link.fresh and not link.closing:
            link.fresh = False
            self._schedule_close(link, UNUSED)
        return known

    def outgoing_proofs(self, connection: QuicConnection) -> bytes:
        """
        Return the proofs to send now.
        """
        return connection.proofs.outgoing(self._admission.keys)

    def proof_received(self, connection: QuicConnection, frame: bytes) -> None:
        """
        Handle a nonce or a tag (32 bytes), and exchange what has waited for it.

        @raise dtt.errors.RemoteError: a message that has waited is malformed.
        """
        ignored = connection.proofs.ignored
        topic_id = self._admission.frame_received(connection, frame)
        self.counters["proofs_ignored"] += connection.proofs.ignored - ignored
        if topic_id is not None:
            self.counters["proofs_accepted"] += 1
            connection.prove(topic_id)
            self._proved(connection.peer_id, topic_id)
        else:
            # The nonce: what has waited for it may be sent now; or the first proof.
            connection.send_proofs()

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
        links = self.table.topics.get(topic_id)
        if links is None:
            self.counters["received_unknown_topic"] += len(messages)
            return
        link = self.table.links.get(connection)
        if not self._admission.admits(connection.peer_id, topic_id):
            self._hold(link, connection, topic_id, messages)
            return
        if link is not None and not link.closing:
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
            self.counters["closed_" + snake_case(reason)] += 1
            link = self.table.links.get(connection)
            if link is not None and not link.closing:
                heard = max(link.heard, self._clock.seconds() - IDLE_LIMIT)
                self.table.link_broken(link.peer_id, link.used, heard, reason)
        self.table.remove(connection)
        if not self.table.links:
            self._on_gone()

    def close_all(self) -> None:
        """
        Close all topics and all connections.
        """
        for topic_id in tuple(self.table.topics):
            self.close_topic(topic_id)
        self.table.close_all()

    def abort_all(self) -> None:
        """
        Abort all connections.
        """
        for connection in self.connections():
            connection.abort("cancelled")

    def connections(self) -> tuple[QuicConnection, ...]:
        """
        Return all connections that have not ended.
        """
        return tuple(link.connection for link in self.table.links.values())

    # Internals

    def _hold(
        self, link: _Link | None, connection: QuicConnection, topic_id: bytes, messages: list[bytes]
    ) -> None:
        """
        Let messages wait for the proof of their topic, or drop them.
        """
        kept = 0
        if link is not None and not link.closing and topic_id not in link.refused:
            # The peer proves its topics when it uses them.  It may answer our proof only.
            connection.prove(topic_id)
            kept = self._gate.hold_incoming(connection, topic_id, messages)
        self.counters["received_not_proved"] += len(messages) - kept

    def _proved(self, peer_id: PeerId, topic_id: bytes) -> None:
        """
        Exchange what has waited for a proof.
        """
        for link in self.table.serving(peer_id):
            link.refused.discard(topic_id)
        waiting = self._gate.release(peer_id, topic_id)
        if waiting is None:
            return
        for message in waiting.outgoing:
            self.send(peer_id, topic_id, message)
        for connection, message in waiting.incoming:
            self.messages_received(connection, topic_id, [message])

    def _not_proved(self, peer_id: PeerId, topic_id: bytes, waiting: Waiting) -> None:
        """
        Refuse a peer that has not proved a topic in time.
        """
        self.counters["refused_not_proved"] += 1
        self.counters["received_not_proved"] += len(waiting.incoming)
        self.reports.refused(peer_id, "it has not proved that it knows the secret")
        for link in self.table.serving(peer_id):
            link.refused.add(topic_id)
            self._schedule_close(link, LINGER)
        if waiting.outgoing:
            self.table.peer_disconnected(peer_id, (topic_id,))

    def _message_passed(self, link: _Link, topic_id: bytes, message: bytes) -> None:
        """
        Track the use of C{link} by a message in either direction.
        """
        if message.startswith(DISCONNECT):
            self._end_use(link, topic_id, LINGER)
        elif topic_id not in link.used:
            link.used.add(topic_id)
            link.fresh = False
            link.connection.prove(topic_id)
            self.table.keep(link)

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
            self.table.close_later(link, seconds)

    def _retired(self, link: _Link) -> None:
        """
        Let the topics of C{link} continue on the peer's remaining connections, if any.
        """
        peer_id = link.peer_id
        others = self.table.serving(peer_id)
        self._admission.connection_ended(peer_id, [other.connection for other in others])
        if others:
            current = self.table.current[peer_id] = others[-1]
            for topic_id in link.used - current.used:
                current.connection.prove(topic_id)
            current.used |= link.used
            if link.used:
                self.table.keep(current)
            self.writers.check()
        else:
            cancel_if_active(self._watches.pop(peer_id, None))
            self._gate.forget(peer_id)
            self.table.forget_peer(peer_id, link.used)

    def _watch(self, peer_id: PeerId) -> None:
        watch = self._watches.get(peer_id)
        if watch is None or not watch.active():
            self._watches[peer_id] = self._clock.callLater(
                REPLACED, self._close_replaced, peer_id, self._clock.seconds()
            )

    def _close_replaced(self, peer_id: PeerId, since: float) -> None:
        """
        Close replaced connections that the peer no longer uses.

        @param since: when the check was scheduled, in seconds.
        """
        *replaced, current = self.table.serving(peer_id)
        if current.heard > since + REPLACED / 2:
            for link in replaced:
                if link.heard <= since + REPLACED / 2:
                    self.counters["closed_replaced"] += 1
                    self.table.close(link)
        if len(self.table.serving(peer_id)) > 1:
            self._watch(peer_id)
