"""
Topics share connections: which connection serves a peer, and what flows on it.

Rules (docs/protocol/streams.md sections 1, 3 and 4): per peer one connection is the
I{current} one, which all is sent on; every connection is read until it ends.
Two of the same peer: if both were opened within 10 s, the one opened by the
larger peer id stays, else the newer one.  A message for a topic whose OPEN the
peer has not answered yet waits, for at most 5 s; but a Join that waits when our
OPEN is written goes with it, sealed, and not again.  A connection that serves no
topic any more, and one that was replaced, is closed a second later: by then
the other side has seen what we have seen, and nothing is closed that it is
about to use.

L{Multiplexer} knows neither TLS nor TCP: L{dtt.transport.streams.transport} feeds it
with real connections, L{dtt.testing.memory_transport} with connections in memory.
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

#: Seconds within which two connections count as opened at once (docs/protocol/streams.md section 1).
DUPLICATE_WINDOW = 10.0

#: How many messages wait for the peer's OPEN, and how many seconds (docs/protocol/streams.md section 3).
MAX_WAITING, MAX_WAIT = 16, 5.0

#: Seconds from a connection's last use to its end (guess: some round trips).
LINGER = 1.0


@define(slots=True, eq=False)
class _Topic:
    key: bytes = field(repr=False)
    links: ITopicLinks


@define(slots=True, eq=False)
class _Waiting:
    """
    Messages of one topic that wait for one peer's OPEN.
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
    The table of connections and topics of one transport.

    @ivar counters: what happened, by reason.
    @ivar writers: who waits for slow readers; told by connections when they
        have fewer than L{dtt.transport.backpressure.WRITABLE} unsent bytes again.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, peer_id: PeerId, counters: Counter[str]) -> None:
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
        As L{dtt.interfaces.IPeerTransport.open_topic}.
        """
        if topic_id in self._topics:
            raise ValueError("the topic is open already")
        key = topic_key(topic_id, secret_hash)
        self._topics[topic_id] = _Topic(key, links)
        self._keys[topic_id] = key
        for link in tuple(self._links):
            if link.channels.topic_opened(topic_id, key):
                self._open(link, topic_id)
                # Links are not called before we return: the topic is not ready yet.
                self._clock.callLater(0, self._kept_received, link, topic_id)

    def close_topic(self, topic_id: bytes) -> None:
        """
        As L{dtt.interfaces.IPeerTransport.close_topic}; nothing if it is not open.
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
        As L{dtt.interfaces.IPeerTransport.disconnect}.
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
        As L{dtt.interfaces.IPeerTransport.is_connected}.
        """
        return peer_id in self._peers

    def send(self, peer_id: PeerId, topic_id: bytes, message: bytes) -> bool:
        """
        As L{dtt.interfaces.IPeerTransport.send}.

        @raise ValueError: the message is larger than L{MAX_MESSAGE}.
        """
        if len(message) > MAX_MESSAGE:
            raise ValueError(f"a message has at most {MAX_MESSAGE} bytes, not {len(message)}")
        peer = self._peers.get(peer_id)
        if peer is None or topic_id not in self._topics:
            return False
        number = peer.current.channels.sending(topic_id)
        if number is None:
            self._expect(peer, topic_id, message)
        else:
            # One message goes to many peers in a row.
            if self._framed[1] is not message or self._framed[0] != number:
                self._framed = (number, message, encode_frame(Data(number, message)))
            peer.current.connection.send(self._framed[2])
        return True

    # What happens on connections

    def connection_made(self, connection: Connection) -> Link | None:
        """
        C{connection} is authenticated.  L{None}: there is no room for it.
        """
        peer_id = connection.peer_id
        if not self.make_room():
            self.counters["refused: too many connections"] += 1
            return None
        channels = Channels(connection.exporter, self._own_id, peer_id)
        link = Link(connection, peer_id, self._clock.seconds(), channels)
        self._links[link] = None
        peer = self._peers.get(peer_id)
        if peer is None:
            self._peers[peer_id] = _Peer(link)
            self._tell(lambda links: links.peer_connected(peer_id), tuple(self._topics))
            return link
        self.counters["duplicate connections"] += 1
        if self._survives(link, peer.current):
            self._replace(peer, link)
        else:
            self._linger(link)
        return link

    def frames_received(self, link: Link, frames: Sequence[ReceivedFrame]) -> None:
        """
        Frames of the peer, in their order; those after an end of the connection
        are dropped.

        @raise dtt.errors.RemoteError: the peer misbehaved.
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
            self.counters["received: not admitted"] += len(messages)
        else:
            topic.links.messages_received(link.peer_id, messages)

    def _control_received(self, link: Link, frame: ReceivedFrame) -> None:
        if isinstance(frame, Open):
            opened = link.channels.peer_opened(frame, self._keys)
            if opened is None:
                self.counters["received: unknown tag"] += 1
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
            self.counters["received: unknown frame"] += 1

    def _kept_received(self, link: Link, topic_id: bytes) -> None:
        """
        We hold a topic now for which C{link} may have kept an EARLY.
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
            self._log.failure("a kept frame could not be handled")
            link.connection.abort("internal error")

    def connection_lost(self, link: Link) -> None:
        """
        The connection of C{link} has ended, for whatever reason.
        """
        if link not in self._links:
            return
        del self._links[link]
        self._keep(link)
        peer = self._peers.get(link.peer_id)
        if peer is not None and peer.current is link:
            other = next(
                (o for o in reversed(self._links) if o.peer_id == link.peer_id and not o.closing), None
            )
            if other is not None:
                self._keep(other)
                peer.current = other
                self._take_over(peer, link)
                self.writers.check()
            else:
                self._gone(peer, link)

    def close_all(self) -> None:
        """
        Leave all topics and close all connections.
        """
        for topic_id in tuple(self._topics):
            self.close_topic(topic_id)
        for link in tuple(self._links):
            self._close(link)

    def make_room(self) -> bool:
        """
        Whether one more connection may be had; at the limit the oldest one
        that serves no topic makes way.
        """
        live = [link for link in self._links if not link.closing]
        if len(live) < MAX_CONNECTIONS:
            return True
        idle = next((link for link in live if not self._serves(link)), None)
        if idle is None:
            return False
        self.counters["closed: made room"] += 1
        self._close(idle)
        return True

    # Inside

    def _connection(self, peer_id: PeerId) -> Connection | None:
        peer = self._peers.get(peer_id)
        return None if peer is None else peer.current.connection

    def _tell(self, call: Callable[[ITopicLinks], None], topic_ids: Sequence[bytes]) -> None:
        for topic_id in topic_ids:
            # A callee may close a topic.
            if (topic := self._topics.get(topic_id)) is None:
                continue
            try:
                call(topic.links)
            except Exception:
                self._log.failure("a topic could not handle what happened to a connection")

    def _survives(self, new: Link, old: Link) -> bool:
        if new.opened_at - old.opened_at > DUPLICATE_WINDOW:
            return True
        if new.connection.opened_by_us == old.connection.opened_by_us:
            return True
        return new.connection.opened_by_us == (self._own_id > new.peer_id)

    def _replace(self, peer: _Peer, link: Link) -> None:
        old, peer.current = peer.current, link
        self._take_over(peer, old)
        self._linger(old)
        self.writers.check()

    def _take_over(self, peer: _Peer, old: Link) -> None:
        """
        What C{old} served, the current connection is to serve.
        """
        for topic_id in self._serves(old) | peer.waiting.keys():
            self._expect(peer, topic_id)

    def _open(self, link: Link, topic_id: bytes) -> None:
        """
        Have our OPEN stand on C{link}, as an answer to the peer's or because
        we want to send, and let out what waits for the peer's.
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
        The first message that waits for the peer's OPEN, if it may go beside ours.
        """
        waiting = peer.waiting.get(topic_id)
        if waiting is None or not waiting.messages:
            return []
        early = peer.current.channels.early(topic_id, self._keys[topic_id], waiting.messages[0])
        if early is None:
            return []
        del waiting.messages[0]
        return [early]

    def _expect(self, peer: _Peer, topic_id: bytes, message: bytes | None = None) -> None:
        """
        The peer is to admit us to a topic within L{MAX_WAIT}.

        @param message: what is sent then.
        """
        waiting = peer.waiting.get(topic_id)
        if waiting is None:
            timeout = self._clock.callLater(MAX_WAIT, self._not_admitted, peer, topic_id)
            waiting = peer.waiting[topic_id] = _Waiting(timeout)
        if message is not None:
            if len(waiting.messages) < MAX_WAITING:
                waiting.messages.append(message)
            else:
                self.counters["send: too many waiting"] += 1
        self._open(peer.current, topic_id)

    def _stop_waiting(self, peer: _Peer, topic_id: bytes) -> list[bytes]:
        waiting = peer.waiting.pop(topic_id, None)
        if waiting is None:
            return []
        cancel_if_active(waiting.timeout)
        return waiting.messages

    def _not_admitted(self, peer: _Peer, topic_id: bytes) -> None:
        self.counters["send: not admitted"] += 1
        peer_id = peer.current.peer_id
        self.disconnect(peer_id, topic_id)
        self._tell(lambda links: links.peer_disconnected(peer_id), (topic_id,))

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
            self._linger(link)

    def _serves(self, link: Link) -> set[bytes]:
        """
        Topics that C{link} is shared for, or is to be.
        """
        peer = self._peers.get(link.peer_id)
        if peer is None or peer.current is not link:
            return link.channels.shared()
        return link.channels.shared() | peer.waiting.keys()

    def _use(self, link: Link) -> None:
        """
        C{link} is needed after all, unless another one has replaced it.
        """
        peer = self._peers.get(link.peer_id)
        if peer is not None and peer.current is link:
            self._keep(link)

    def _linger(self, link: Link) -> None:
        if link.linger is None and not link.closing:
            link.linger = self._clock.callLater(LINGER, self._close, link)

    def _keep(self, link: Link) -> None:
        if link.linger is not None:
            cancel_if_active(link.linger)
            link.linger = None

    def _close(self, link: Link) -> None:
        self._keep(link)
        if link.closing:
            return
        link.closing = True
        peer = self._peers.get(link.peer_id)
        if peer is not None and peer.current is link:
            self._gone(peer, link)
        link.connection.close()

    def _gone(self, peer: _Peer, link: Link) -> None:
        """
        C{link} was the last connection to its peer.
        """
        lost = self._serves(link)
        del self._peers[link.peer_id]
        for topic_id in tuple(peer.waiting):
            self._stop_waiting(peer, topic_id)
        self._tell(lambda links: links.peer_disconnected(link.peer_id), tuple(lost))
        self.writers.check()
