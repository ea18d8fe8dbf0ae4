"""
Topics share connections: which connection is current for a peer, and what is sent on
it.

Rules (docs/protocol/streams.md sections 1, 3 and 4; L{dtt.transport.table}): of two
connections to the same peer, the one opened by the larger peer id becomes current if
both were opened within 10 s, else the newer one.  A message for a topic whose OPEN the
peer has not answered yet waits for at most 5 s; but a Join that waits when our OPEN is
written is sent with it, encrypted, and is not sent again.  A connection without topics,
and one that was replaced, is closed one second later: by then the other side has seen
the same events, and the connection is not closed while that side is about to use it.

L{Multiplexer} is independent of TLS and TCP: L{dtt.transport.streams.transport} gives
it real connections, L{dtt.testing.memory_transport} in-memory ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from typing import Protocol, cast

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from dtt.deferreds import cancel_if_active
from dtt.errors import RemoteError
from dtt.interfaces import ITopicLinks, PeerId
from dtt.transport.backpressure import short_reason
from dtt.transport.streams.channels import Channels, topic_key
from dtt.transport.streams.frames import (
    MAX_MESSAGE,
    Close,
    Data,
    Early,
    Frame,
    Open,
    Ping,
    Pong,
    ReceivedFrame,
    Unknown,
    encode_frame,
)
from dtt.transport.table import LINGER, AuthenticatedConnection, ConnectionTable, TableEntry

#: Seconds within which two connections count as opened simultaneously (docs/protocol/streams.md
#: section 1).
DUPLICATE_WINDOW = 10.0

#: Messages that wait for the peer's OPEN, and the seconds that they wait (docs/protocol/streams.md
#: section 3).
MAX_WAITING, MAX_WAIT = 16, 5.0


class Connection(AuthenticatedConnection, Protocol):
    """
    What L{Multiplexer} needs from an authenticated connection.  Neither L{send} nor
    C{close} calls the multiplexer back before it returns.
    """

    @property
    def opened_by_us(self) -> bool:
        """Whether this side dialled."""

    @property
    def exporter(self) -> bytes:
        """Keying material known only to the two ends of this connection (32 bytes)."""

    def send(self, frame: bytes) -> None:
        """Send one encoded frame; dropped once the connection is closed."""

    def abort(self, reason: str) -> None:
        """Close the connection immediately, notify the multiplexer, and count C{reason}."""


@define(slots=True, eq=False)
class Link(TableEntry[Connection]):
    """
    The multiplexer's state for one connection.

    @ivar opened_at: time of authentication, in seconds.
    @ivar channels: the topics opened on the connection, by both ends.
    """

    opened_at: float
    channels: Channels


@define(slots=True, eq=False)
class _Waiting:
    """
    Messages of one topic that wait for one peer's OPEN.

    @ivar timeout: gives up.
    @ivar messages: encoded gossip messages, in order.
    """

    timeout: IDelayedCall
    messages: list[bytes] = field(factory=list, repr=False)


def _channel_of_data(frame: ReceivedFrame) -> int | None:
    return frame.channel if isinstance(frame, Data) else None


class Multiplexer:
    """
    The connections and topics of one transport.

    @ivar counters: events by name, shared with the transport.
    @ivar writers: callers waiting for slow readers; connections call its C{check} when
        they have less than L{dtt.transport.backpressure.WRITABLE} bytes unsent again.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, peer_id: PeerId, counters: Counter[str]) -> None:
        """
        @param clock: schedules timeouts.
        @param peer_id: our peer id (32 bytes).
        @param counters: incremented for each event.
        """
        self._clock = clock
        self._own_id = peer_id
        self.counters = counters
        self._table: ConnectionTable[Link] = ConnectionTable(clock, counters, self._serves, self._retired)
        self.writers = self._table.writers
        # The topic keys, by topic id.
        self._keys: dict[bytes, bytes] = {}
        # What waits for the peer's OPEN, by peer and topic.
        self._waiting: dict[PeerId, dict[bytes, _Waiting]] = {}
        self._framed = (-1, b"", b"")

    # Topics

    def open_topic(self, topic_id: bytes, secret_hash: bytes, links: ITopicLinks) -> None:
        """
        Open a topic, and answer the OPENs that peers have already sent for it.

        @param topic_id: 32 bytes.
        @param secret_hash: the initial secret hash (32 bytes).
        @param links: receives the topic's events.
        @raise ValueError: the topic is already open.
        """
        self._table.open_topic(topic_id, links)
        key = self._keys[topic_id] = topic_key(topic_id, secret_hash)
        for link in tuple(self._table.links.values()):
            if link.channels.topic_opened(topic_id, key):
                self._open(link, topic_id)
                # Not now: the caller is not ready for messages until this method returns.
                self._clock.callLater(0, self._deliver_early, link, topic_id)

    def close_topic(self, topic_id: bytes) -> None:
        """
        Close a topic on all connections; does nothing if it is not open.
        """
        if self._table.topics.pop(topic_id, None) is None:
            return
        del self._keys[topic_id]
        for peer_id in self._waiting:
            self._stop_waiting(peer_id, topic_id)
        for link in tuple(self._table.links.values()):
            self._leave(link, topic_id)
            link.channels.forget(topic_id)

    def disconnect(self, peer_id: PeerId, topic_id: bytes) -> None:
        """
        End the topic's use of all connections to the peer.
        """
        if peer_id not in self._table.current:
            return
        self._stop_waiting(peer_id, topic_id)
        for link in tuple(self._table.links.values()):
            if link.peer_id == peer_id:
                self._leave(link, topic_id)

    # Sending

    def is_connected(self, peer_id: PeerId) -> bool:
        """
        Return whether the peer has a current connection.
        """
        return peer_id in self._table.current

    def send(self, peer_id: PeerId, topic_id: bytes, message: bytes) -> bool:
        """
        Send a message on the peer's current connection, or queue it until the peer
        admits us to the topic.

        @return: whether the peer is connected and the topic is open; otherwise the
            message is dropped.
        @raise ValueError: the message is larger than L{MAX_MESSAGE}.
        """
        if len(message) > MAX_MESSAGE:
            raise ValueError(f"message of {len(message)} bytes; the maximum is {MAX_MESSAGE}")
        link = self._table.current.get(peer_id)
        if link is None or topic_id not in self._keys:
            return False
        number = link.channels.sending(topic_id)
        if number is None:
            self._await_admission(link, topic_id, message)
        else:
            # The same message is usually sent to several peers in a row: encode it once.
            if self._framed[1] is not message or self._framed[0] != number:
                self._framed = (number, message, encode_frame(Data(number, message)))
            link.connection.send(self._framed[2])
        return True

    # Connection events

    def connection_made(self, connection: Connection) -> Link | None:
        """
        Add an authenticated connection.

        @return: its state, or C{None} if there are too many connections.
        """
        peer_id = connection.peer_id
        if not self._table.make_room():
            return None
        channels = Channels(connection.exporter, self._own_id, peer_id)
        link = Link(connection, self._clock.seconds(), channels)
        current = self._table.add(link)
        if current is None:
            self._table.peer_connected(peer_id)
        elif self._survives(link, current):
            self._schedule_close(current)
            self._take_over(link, current)
        else:
            self._schedule_close(link)
        return link

    def frames_received(self, link: Link, frames: Sequence[ReceivedFrame]) -> None:
        """
        Handle frames from the peer, in order; frames after the end of the connection
        are dropped.

        @raise dtt.errors.RemoteError: the peer violated the protocol.
        """
        for channel, group in groupby(frames, _channel_of_data):
            if channel is None:
                for frame in group:
                    if link.connection in self._table.links:
                        self._control_received(link, frame)
            elif link.connection in self._table.links:
                self._messages_received(link, channel, [cast(Data, frame).message for frame in group])

    def _messages_received(self, link: Link, channel: int, messages: list[bytes]) -> None:
        topic_id = link.channels.topic_of(channel)
        links = None if topic_id is None else self._table.topics.get(topic_id)
        if links is None:
            self.counters["received_not_admitted"] += len(messages)
        else:
            links.messages_received(link.peer_id, messages)

    def _control_received(self, link: Link, frame: ReceivedFrame) -> None:
        if isinstance(frame, Open):
            opened = link.channels.peer_opened(frame, self._keys)
            if opened is None:
                self.counters["received_unknown_tag"] += 1
                self._use(link)
            else:
                self._open(link, opened)
        elif isinstance(frame, Early):
            join = link.channels.peer_early(frame, self._keys)
            if join is not None:
                self._messages_received(link, frame.channel, [join])
        elif isinstance(frame, Close):
            link.channels.peer_closed(frame)
            self._close_unused(link)
        elif isinstance(frame, Ping):
            link.connection.send(encode_frame(Pong(frame.payload)))
        elif isinstance(frame, Unknown):
            self.counters["received_unknown_frame"] += 1

    def _deliver_early(self, link: Link, topic_id: bytes) -> None:
        """
        Handle the EARLY that C{link} may have kept for a topic that we have just
        opened.
        """
        key = self._keys.get(topic_id)
        if key is None or link.connection not in self._table.links:
            return
        try:
            kept = link.channels.take_early(topic_id, key)
            if kept is not None:
                self._messages_received(link, kept[0], [kept[1]])
        except RemoteError as error:
            link.connection.abort(short_reason(error))
        except Exception:
            self._log.failure("unexpected error while handling a kept EARLY")
            link.connection.abort("internal error")

    def connection_lost(self, link: Link) -> None:
        """
        Remove a connection that has ended, for any reason.
        """
        self._table.remove(link.connection)

    def close_all(self) -> None:
        """
        Close all topics and all connections.
        """
        for topic_id in tuple(self._keys):
            self.close_topic(topic_id)
        self._table.close_all()

    # Internals

    def _survives(self, new: Link, old: Link) -> bool:
        if new.opened_at - old.opened_at > DUPLICATE_WINDOW:
            return True
        if new.connection.opened_by_us == old.connection.opened_by_us:
            return True
        return new.connection.opened_by_us == (self._own_id > new.peer_id)

    def _take_over(self, link: Link, old: Link) -> None:
        """
        Make C{link} current, and move the topics of the former current connection to
        it.
        """
        self._table.current[link.peer_id] = link
        for topic_id in old.channels.shared() | self._waiting.get(link.peer_id, {}).keys():
            self._await_admission(link, topic_id)
        self.writers.check()

    def _retired(self, link: Link) -> None:
        """
        Let another connection of the peer take over from C{link}.  Not when we close
        it: only unused ones are closed.
        """
        peer_id = link.peer_id
        if self._table.current.get(peer_id) is not link:
            return
        others = self._table.serving(peer_id)
        if others and link.connection not in self._table.links:
            self._table.keep(others[-1])
            self._take_over(others[-1], link)
            return
        topic_ids = self._serves(link)
        for waiting in self._waiting.pop(peer_id, {}).values():
            cancel_if_active(waiting.timeout)
        self._table.forget_peer(peer_id, topic_ids)

    def _open(self, link: Link, topic_id: bytes) -> None:
        """
        Ensure that our OPEN stands on C{link}, to answer the peer's or because we want
        to send, and send what waited for the peer's OPEN if it stands.
        """
        if link.closing:
            return
        frames: list[Frame] = [*link.channels.open(topic_id, self._keys[topic_id])]
        if self._table.current.get(link.peer_id) is link:
            if frames:
                frames += self._early(link, topic_id)
            number = link.channels.sending(topic_id)
            if number is not None:
                frames += [Data(number, message) for message in self._stop_waiting(link.peer_id, topic_id)]
        if frames:
            link.connection.send(b"".join(map(encode_frame, frames)))
        self._use(link)

    def _early(self, link: Link, topic_id: bytes) -> list[Early]:
        """
        Return the first waiting message as EARLY if it may be sent with our OPEN.
        """
        waiting = self._waiting.get(link.peer_id, {}).get(topic_id)
        if waiting is None or not waiting.messages:
            return []
        early = link.channels.early(topic_id, self._keys[topic_id], waiting.messages[0])
        if early is None:
            return []
        del waiting.messages[0]
        return [early]

    def _await_admission(self, link: Link, topic_id: bytes, message: bytes | None = None) -> None:
        """
        Wait for the peer to admit us to a topic within L{MAX_WAIT}.

        @param link: the peer's current connection.
        @param message: an encoded gossip message to send then.
        """
        of_peer = self._waiting.setdefault(link.peer_id, {})
        waiting = of_peer.get(topic_id)
        if waiting is None:
            timeout = self._clock.callLater(MAX_WAIT, self._not_admitted, link.peer_id, topic_id)
            waiting = of_peer[topic_id] = _Waiting(timeout)
        if message is not None:
            if len(waiting.messages) < MAX_WAITING:
                waiting.messages.append(message)
            else:
                self.counters["send_too_many_waiting"] += 1
        self._open(link, topic_id)

    def _stop_waiting(self, peer_id: PeerId, topic_id: bytes) -> list[bytes]:
        waiting = self._waiting.get(peer_id, {}).pop(topic_id, None)
        if waiting is None:
            return []
        cancel_if_active(waiting.timeout)
        return waiting.messages

    def _not_admitted(self, peer_id: PeerId, topic_id: bytes) -> None:
        self.counters["send_not_admitted"] += 1
        self.disconnect(peer_id, topic_id)
        self._table.peer_disconnected(peer_id, (topic_id,))

    def _leave(self, link: Link, topic_id: bytes) -> None:
        """
        End the topic's use of C{link}.
        """
        closed = link.channels.close(topic_id)
        if closed is not None:
            link.connection.send(encode_frame(closed))
            self._close_unused(link)

    def _close_unused(self, link: Link) -> None:
        if link.connection in self._table.links and link.channels.idle() and not self._serves(link):
            self._schedule_close(link)

    def _serves(self, link: Link) -> set[bytes]:
        """
        Return the topics that C{link} carries or is waiting to carry.
        """
        if self._table.current.get(link.peer_id) is not link:
            return link.channels.shared()
        return link.channels.shared() | self._waiting.get(link.peer_id, {}).keys()

    def _use(self, link: Link) -> None:
        """
        Cancel the scheduled close of C{link}, unless another connection has replaced
        it.
        """
        if self._table.current.get(link.peer_id) is link:
            self._table.keep(link)

    def _schedule_close(self, link: Link) -> None:
        if link.linger is None and not link.closing:
            self._table.close_later(link, LINGER)
