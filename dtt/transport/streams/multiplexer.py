"""
Topics share connections: which connection is current for a peer, and what is sent on
it.

Rules (docs/protocol/streams.md sections 1, 3 and 4): each peer has one I{current}
connection, on which everything is sent; every connection is read until it ends.  Of two
connections to the same peer: if both were opened within 10 s, the one opened by the
larger peer id becomes current, else the newer one.  A message for a topic whose OPEN
the peer has not answered yet waits for at most 5 s; but a Join that waits when our OPEN
is written is sent with it, encrypted, and is not sent again.  A connection without
topics, and one that was replaced, is closed one second later: by then the other side
has seen the same events, and the connection is not closed while that side is about to
use it.

L{Multiplexer} is independent of TLS and TCP: L{dtt.transport.streams.transport} gives
it real connections, L{dtt.testing.memory_transport} in-memory ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import cast

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from dtt.deferreds import cancel_if_active
from dtt.errors import RemoteError
from dtt.interfaces import ITopicLinks, PeerId
from dtt.transport.backpressure import Connection, Link, Writers, short_reason
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

#: Authenticated connections (docs/protocol/streams.md section 1).
MAX_CONNECTIONS = 128

#: Seconds within which two connections count as opened simultaneously (docs/protocol/streams.md
#: section 1).
DUPLICATE_WINDOW = 10.0

#: Messages that wait for the peer's OPEN, and the seconds that they wait (docs/protocol/streams.md
#: section 3).
MAX_WAITING, MAX_WAIT = 16, 5.0

#: Seconds from a connection's last use to its close (guess: a few round trips).
LINGER = 1.0


@define(slots=True, eq=False)
class _Topic:
    key: bytes = field(repr=False)
    links: ITopicLinks


@define(slots=True, eq=False)
class _Waiting:
    """
    Messages of one topic that wait for one peer's OPEN.

    @ivar timeout: gives up.
    @ivar messages: encoded gossip messages, in order.
    """

    timeout: IDelayedCall
    messages: list[bytes] = field(factory=list, repr=False)


@define(slots=True, eq=False)
class _Peer:
    current: Link
    waiting: dict[bytes, _Waiting] = field(factory=dict)


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
        self._topics: dict[bytes, _Topic] = {}
        self._keys: dict[bytes, bytes] = {}
        self._peers: dict[PeerId, _Peer] = {}
        self._links: dict[Link, None] = {}
        self._framed = (-1, b"", b"")
        self.writers = Writers(self._connection)

    # Topics

    def open_topic(self, topic_id: bytes, secret_hash: bytes, links: ITopicLinks) -> None:
        """
        Open a topic, and answer the OPENs that peers have already sent for it.

        @param topic_id: 32 bytes.
        @param secret_hash: the initial secret hash (32 bytes).
        @param links: receives the topic's events.
        @raise ValueError: the topic is already open.
        """
        if topic_id in self._topics:
            raise ValueError("the topic is already open")
        key = topic_key(topic_id, secret_hash)
        self._topics[topic_id] = _Topic(key, links)
        self._keys[topic_id] = key
        for link in tuple(self._links):
            if link.channels.topic_opened(topic_id, key):
                self._open(link, topic_id)
                # Not now: the caller is not ready for messages until this method returns.
                self._clock.callLater(0, self._deliver_early, link, topic_id)

    def close_topic(self, topic_id: bytes) -> None:
        """
        Close a topic on all connections; does nothing if it is not open.
        """
        if self._topics.pop(topic_id, None) is None:
            return
        del self._keys[topic_id]
        for peer in self._peers.values():
            self._stop_waiting(peer, topic_id)
        for link in tuple(self._links):
            self._leave(link, topic_id)
            link.channels.forget(topic_id)

    def disconnect(self, peer_id: PeerId, topic_id: bytes) -> None:
        """
        End the topic's use of all connections to the peer.
        """
        if (peer := self._peers.get(peer_id)) is None:
            return
        self._stop_waiting(peer, topic_id)
        for link in tuple(self._links):
            if link.peer_id == peer_id:
                self._leave(link, topic_id)

    # Sending

    def is_connected(self, peer_id: PeerId) -> bool:
        """
        Return whether the peer has a current connection.
        """
        return peer_id in self._peers

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
        peer = self._peers.get(peer_id)
        if peer is None or topic_id not in self._topics:
            return False
        number = peer.current.channels.sending(topic_id)
        if number is None:
            self._await_admission(peer, topic_id, message)
        else:
            # The same message is usually sent to several peers in a row: encode it once.
            if self._framed[1] is not message or self._framed[0] != number:
                self._framed = (number, message, encode_frame(Data(number, message)))
            peer.current.connection.send(self._framed[2])
        return True

    # Connection events

    def connection_made(self, connection: Connection) -> Link | None:
        """
        Add an authenticated connection.

        @return: its state, or C{None} if there are too many connections.
        """
        peer_id = connection.peer_id
        if not self.make_room():
            self.counters["refused_too_many_connections"] += 1
            return None
        channels = Channels(connection.exporter, self._own_id, peer_id)
        link = Link(connection, peer_id, self._clock.seconds(), channels)
        self._links[link] = None
        peer = self._peers.get(peer_id)
        if peer is None:
            self._peers[peer_id] = _Peer(link)
            self._notify(lambda links: links.peer_connected(peer_id), tuple(self._topics))
            return link
        self.counters["duplicate_connections"] += 1
        if self._survives(link, peer.current):
            self._replace(peer, link)
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
                    if link in self._links:
                        self._control_received(link, frame)
            elif link in self._links:
                self._messages_received(link, channel, [cast(Data, frame).message for frame in group])

    def _messages_received(self, link: Link, channel: int, messages: list[bytes]) -> None:
        topic_id = link.channels.topic_of(channel)
        topic = None if topic_id is None else self._topics.get(topic_id)
        if topic is None:
            self.counters["received_not_admitted"] += len(messages)
        else:
            topic.links.messages_received(link.peer_id, messages)

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
        topic = self._topics.get(topic_id)
        if topic is None or link not in self._links:
            return
        try:
            kept = link.channels.take_early(topic_id, topic.key)
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
        if link not in self._links:
            return
        del self._links[link]
        self._cancel_close(link)
        peer = self._peers.get(link.peer_id)
        if peer is not None and peer.current is link:
            other = next(
                (o for o in reversed(self._links) if o.peer_id == link.peer_id and not o.closing), None
            )
            if other is not None:
                self._cancel_close(other)
                peer.current = other
                self._take_over(peer, link)
                self.writers.check()
            else:
                self._peer_disconnected(peer, link)

    def close_all(self) -> None:
        """
        Close all topics and all connections.
        """
        for topic_id in tuple(self._topics):
            self.close_topic(topic_id)
        for link in tuple(self._links):
            self._close(link)

    def make_room(self) -> bool:
        """
        Return whether one more connection is allowed.  At the limit, the oldest
        connection that serves no topic is closed first.
        """
        live = [link for link in self._links if not link.closing]
        if len(live) < MAX_CONNECTIONS:
            return True
        idle = next((link for link in live if not self._serves(link)), None)
        if idle is None:
            return False
        self.counters["closed_made_room"] += 1
        self._close(idle)
        return True

    # Internals

    def _connection(self, peer_id: PeerId) -> Connection | None:
        peer = self._peers.get(peer_id)
        return None if peer is None else peer.current.connection

    def _notify(self, call: Callable[[ITopicLinks], None], topic_ids: Sequence[bytes]) -> None:
        for topic_id in topic_ids:
            # An earlier call may have closed this topic.
            if (topic := self._topics.get(topic_id)) is None:
                continue
            try:
                call(topic.links)
            except Exception:
                self._log.failure("unexpected error while handling a connection event")

    def _survives(self, new: Link, old: Link) -> bool:
        if new.opened_at - old.opened_at > DUPLICATE_WINDOW:
            return True
        if new.connection.opened_by_us == old.connection.opened_by_us:
            return True
        return new.connection.opened_by_us == (self._own_id > new.peer_id)

    def _replace(self, peer: _Peer, link: Link) -> None:
        old, peer.current = peer.current, link
        self._take_over(peer, old)
        self._schedule_close(old)
        self.writers.check()

    def _take_over(self, peer: _Peer, old: Link) -> None:
        """
        Move the topics that C{old} served to the current connection.
        """
        for topic_id in self._serves(old) | peer.waiting.keys():
            self._await_admission(peer, topic_id)

    def _open(self, link: Link, topic_id: bytes) -> None:
        """
        Ensure that our OPEN stands on C{link}, to answer the peer's or because we want
        to send, and send what waited for the peer's OPEN if it stands.
        """
        if link.closing:
            return
        frames: list[Frame] = [*link.channels.open(topic_id, self._keys[topic_id])]
        peer = self._peers.get(link.peer_id)
        if peer is not None and peer.current is link:
            if frames:
                frames += self._early(peer, topic_id)
            number = link.channels.sending(topic_id)
            if number is not None:
                frames += [Data(number, message) for message in self._stop_waiting(peer, topic_id)]
        if frames:
            link.connection.send(b"".join(map(encode_frame, frames)))
        self._use(link)

    def _early(self, peer: _Peer, topic_id: bytes) -> list[Early]:
        """
        Return the first waiting message as EARLY if it may be sent with our OPEN.
        """
        waiting = peer.waiting.get(topic_id)
        if waiting is None or not waiting.messages:
            return []
        early = peer.current.channels.early(topic_id, self._keys[topic_id], waiting.messages[0])
        if early is None:
            return []
        del waiting.messages[0]
        return [early]

    def _await_admission(self, peer: _Peer, topic_id: bytes, message: bytes | None = None) -> None:
        """
        Wait for the peer to admit us to a topic within L{MAX_WAIT}.

        @param message: an encoded gossip message to send then.
        """
        waiting = peer.waiting.get(topic_id)
        if waiting is None:
            timeout = self._clock.callLater(MAX_WAIT, self._not_admitted, peer, topic_id)
            waiting = peer.waiting[topic_id] = _Waiting(timeout)
        if message is not None:
            if len(waiting.messages) < MAX_WAITING:
                waiting.messages.append(message)
            else:
                self.counters["send_too_many_waiting"] += 1
        self._open(peer.current, topic_id)

    def _stop_waiting(self, peer: _Peer, topic_id: bytes) -> list[bytes]:
        waiting = peer.waiting.pop(topic_id, None)
        if waiting is None:
            return []
        cancel_if_active(waiting.timeout)
        return waiting.messages

    def _not_admitted(self, peer: _Peer, topic_id: bytes) -> None:
        self.counters["send_not_admitted"] += 1
        peer_id = peer.current.peer_id
        self.disconnect(peer_id, topic_id)
        self._notify(lambda links: links.peer_disconnected(peer_id), (topic_id,))

    def _leave(self, link: Link, topic_id: bytes) -> None:
        """
        End the topic's use of C{link}.
        """
        closed = link.channels.close(topic_id)
        if closed is not None:
            link.connection.send(encode_frame(closed))
            self._close_unused(link)

    def _close_unused(self, link: Link) -> None:
        if link in self._links and link.channels.idle() and not self._serves(link):
            self._schedule_close(link)

    def _serves(self, link: Link) -> set[bytes]:
        """
        Return the topics that C{link} carries or is waiting to carry.
        """
        peer = self._peers.get(link.peer_id)
        if peer is None or peer.current is not link:
            return link.channels.shared()
        return link.channels.shared() | peer.waiting.keys()

    def _use(self, link: Link) -> None:
        """
        Cancel the scheduled close of C{link}, unless another connection has replaced
        it.
        """
        peer = self._peers.get(link.peer_id)
        if peer is not None and peer.current is link:
            self._cancel_close(link)

    def _schedule_close(self, link: Link) -> None:
        if link.linger is None and not link.closing:
            link.linger = self._clock.callLater(LINGER, self._close, link)

    def _cancel_close(self, link: Link) -> None:
        if link.linger is not None:
            cancel_if_active(link.linger)
            link.linger = None

    def _close(self, link: Link) -> None:
        self._cancel_close(link)
        if link.closing:
            return
        link.closing = True
        peer = self._peers.get(link.peer_id)
        if peer is not None and peer.current is link:
            self._peer_disconnected(peer, link)
        link.connection.close()

    def _peer_disconnected(self, peer: _Peer, link: Link) -> None:
        """
        Handle the end of C{link}, the last connection to its peer.
        """
        lost = self._serves(link)
        del self._peers[link.peer_id]
        for topic_id in tuple(peer.waiting):
            self._stop_waiting(peer, topic_id)
        self._notify(lambda links: links.peer_disconnected(link.peer_id), tuple(lost))
        self.writers.check()
