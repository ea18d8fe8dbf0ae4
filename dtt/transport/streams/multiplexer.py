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
from collections.abc import Callable, Collection, Sequence
from itertools import groupby
from typing import Protocol, cast

from attrs import define, field
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from dtt.deferreds import cancel_if_active
from dtt.errors import DialFailed, RemoteError
from dtt.interfaces import ITopicLinks, LinkPath, PeerId
from dtt.transport.admission import MAX_TOPICS, MAX_UNMATCHED, topic_key
from dtt.transport.appstreams.frames import StreamCredit, StreamData, StreamEnd, StreamOpen, StreamReset
from dtt.transport.appstreams.link import LinkStreams
from dtt.transport.appstreams.services import Services
from dtt.transport.appstreams.stream import AppStream
from dtt.transport.backpressure import short_reason
from dtt.transport.settings import Reports, TransportSettings
from dtt.transport.streams.channels import Channels
from dtt.transport.streams.frames import (
    MAX_RENDEZVOUS,
    ClockTime,
    Close,
    Data,
    Early,
    Frame,
    Open,
    Ping,
    Pong,
    ReceivedFrame,
    Rendezvous,
    Unknown,
    encode_frame,
)
from dtt.transport.streams.introductions import Introductions
from dtt.transport.table import LINGER, AuthenticatedConnection, ConnectionTable, TableEntry

#: Seconds within which two connections count as opened simultaneously (docs/protocol/streams.md
#: section 1).
DUPLICATE_WINDOW = 10.0

#: Seconds that a topic waits until its OPEN is allowed (L{Channels.blocked}).  Guess: those before it
#: give up after MAX_WAIT, sixteen at a time, so this suffices for some hundreds.
MAX_BLOCKED = 120.0

#: Messages that wait for the peer's OPEN, and the seconds that they wait (docs/protocol/streams.md
#: section 3).
MAX_WAITING, MAX_WAIT = 16, 5.0

#: Seconds until a connection that we have opened for the peer is closed if neither side has used
#: it (guess: the peer uses it within a round trip).
UNASKED_LINGER = 5.0


#: Frames of application streams.
_STREAM_FRAMES = (StreamData, StreamCredit, StreamOpen, StreamEnd, StreamReset)
#: Seconds after which our time is sent to a peer again (docs/protocol/clock.md section 1).
CLOCK_INTERVAL = 1800.0

#: Introductions asked for at a time (guess: twice HyParView's active view).
MAX_ASKED = 10


class Connection(AuthenticatedConnection, Protocol):
    """
    An authenticated connection, as L{Multiplexer} uses it.  Neither L{send} nor
    C{close} calls the multiplexer back before it returns.
    """

    @property
    def opened_by_us(self) -> bool:
        """Whether this side dialled."""

    @property
    def kind(self) -> int:
        """The number of its transport in address hints."""

    @property
    def remote(self) -> tuple[str, int] | None:
        """The UDP address at which we see the peer; C{None} over TCP."""

    @property
    def path(self) -> LinkPath:
        """The path to the peer, for status pages."""

    @property
    def exporter(self) -> bytes:
        """Keying material known only to the two ends of this connection (32 bytes)."""

    @property
    def has_room(self) -> bool:
        """Whether nothing that was sent waits, and the connection is not closed."""

    def send(self, frame: bytes) -> None:
        """Send encoded frames; dropped once the connection is closed."""

    def abort(self, reason: str) -> None:
        """Close the connection immediately, notify the multiplexer, and count C{reason}."""


@define(slots=True, eq=False)
class Link(TableEntry[Connection]):
    """
    The multiplexer's state for one connection.

    @ivar opened_at: time of authentication, in seconds.
    @ivar channels: the topics opened on the connection, by both ends.
    @ivar heard: when the last frame arrived, in seconds.
    @ivar streams: its application streams.
    @ivar borrowed: the topics that were opened for application streams, and that gossip does
        not use.
    @ivar told_clock: when our time was last sent to the peer, in seconds.
    """

    opened_at: float
    channels: Channels
    heard: float
    streams: LinkStreams = field(init=False)
    borrowed: set[bytes] = field(factory=set, init=False)
    told_clock: float | None = None


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
    @ivar table: the connections and the topics.
    @ivar reports: counts and reports limits.
    @ivar services: what application streams can be opened for.
    @ivar on_introduced: an attribute to set: called with the id of a peer that wants to
        connect to us, its UDP addresses, and a topic that we share with it.  All of it
        is hearsay of a member of that topic.
    @ivar writers: callers waiting for slow readers; connections call its C{check} when
        they have less than L{dtt.transport.backpressure.WRITABLE} bytes unsent again.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        peer_id: PeerId,
        counters: Counter[str],
        settings: TransportSettings | None = None,
    ) -> None:
        """
        @param clock: schedules timeouts.
        @param peer_id: our peer id (32 bytes).
        @param counters: incremented for each event.
        @param settings: the settings; C{None}: the defaults.
        """
        settings = settings or TransportSettings()
        self._clock = clock
        self._own_id = peer_id
        self.counters = counters
        self.table: ConnectionTable[Link] = ConnectionTable(
            clock, counters, self._uses, self._retired, settings.max_connections
        )
        self._max_connections = settings.max_connections
        self._on_clock = settings.on_clock
        self.max_message_size = settings.max_message_size
        self.reports = Reports(clock, counters, settings.emit)
        self.writers = self.table.writers
        self.services = Services(clock, peer_id, counters)
        # The topic keys, by topic id.
        self._keys: dict[bytes, bytes] = {}
        # What waits for the peer's OPEN, by peer and topic.
        self._waiting: dict[PeerId, dict[bytes, _Waiting]] = {}
        self._framed = (-1, b"", b"")
        self._introductions = Introductions(peer_id, counters)
        self.on_introduced: Callable[[PeerId, Sequence[tuple[str, int]], bytes], object] = lambda *_: None

    # Topics

    def open_topic(self, topic_id: bytes, secret_hash: bytes, links: ITopicLinks) -> None:
        """
        Open a topic, and answer the OPENs that peers have already sent for it.

        @param topic_id: 32 bytes.
        @param secret_hash: the initial secret hash (32 bytes).
        @param links: receives the topic's events.
        @raise ValueError: the topic is already open.
        """
        self.table.open_topic(topic_id, links)
        key = self._keys[topic_id] = topic_key(topic_id, secret_hash)
        for link in tuple(self.table.links.values()):
            if link.channels.topic_opened(topic_id, key):
                self._open(link, topic_id)
                # Not now: the caller is not ready for messages until this method returns.
                self._clock.callLater(0, self._deliver_early, link, topic_id)

    def close_topic(self, topic_id: bytes) -> None:
        """
        Close a topic on all connections; does nothing if it is not open.
        """
        if self.table.topics.pop(topic_id, None) is None:
            return
        del self._keys[topic_id]
        for peer_id in self._waiting:
            self._stop_waiting(peer_id, topic_id)
        for link in tuple(self.table.links.values()):
            self._leave(link, topic_id)
            link.channels.forget(topic_id)

    def disconnect(self, peer_id: PeerId, topic_id: bytes) -> None:
        """
        End the topic's use of all connections to the peer.
        """
        if peer_id not in self.table.current:
            return
        self._stop_waiting(peer_id, topic_id)
        for link in tuple(self.table.links.values()):
            if link.peer_id == peer_id:
                self._leave(link, topic_id)

    # Sending

    def kind_of(self, peer_id: PeerId) -> int | None:
        """
        Return the kind of the peer's current connection, if there is one.
        """
        link = self.table.current.get(peer_id)
        return None if link is None else link.connection.kind

    def send(self, peer_id: PeerId, topic_id: bytes, message: bytes) -> bool:
        """
        Send a message on the peer's current connection, or queue it until the peer
        admits us to the topic.

        @return: whether the peer is connected and the topic is open; otherwise the
            message is dropped.
        @raise ValueError: the message is larger than C{max_message_size}.
        """
        if len(message) > self.max_message_size:
            raise ValueError(f"message of {len(message)} bytes; the maximum is {self.max_message_size}")
        link = self.table.current.get(peer_id)
        if link is None or topic_id not in self._keys:
            return False
        link.borrowed.discard(topic_id)
        number = link.channels.sending(topic_id)
        if number is None:
            self._await_admission(link, topic_id, message)
        else:
            # The same message is usually sent to several peers in a row: encode it once.
            if self._framed[1] is not message or self._framed[0] != number:
                self._framed = (number, message, encode_frame(Data(number, message)))
            link.connection.send(self._framed[2])
        return True

    def open_stream(self, peer_id: PeerId, name: bytes) -> Deferred[AppStream]:
        """
        Open an application stream on the peer's current connection.

        @param name: what the peer is to serve, 1..255 bytes.
        @return: as L{LinkStreams.open}; fails with L{DialFailed} if the peer is not
            connected.
        """
        link = self.table.current.get(peer_id)
        if link is None:
            return fail(DialFailed("not connected"))
        opening = link.streams.open(name)
        if link.streams.is_waiting:
            for topic_id in tuple(self._keys):
                if topic_id not in link.channels.ours:
                    link.borrowed.add(topic_id)
                self._open(link, topic_id)
        return opening

    def has_room(self, link: Link) -> None:
        """
        Let application streams send: nothing else waits on the connection.
        """
        link.streams.pump()

    def ask_for(self, peer_id: PeerId, topic_id: bytes, addresses: Sequence[tuple[str, int]]) -> None:
        """
        Ask peers with which we share a topic to introduce us to another one.

        @param addresses: our UDP addresses, the most likely first.
        """
        asked = 0
        for link in tuple(self.table.current.values()):
            number = link.channels.sending(topic_id)
            if number is None or link.connection.unsent:
                continue
            request = Rendezvous(number, False, self._own_id, peer_id, tuple(addresses[:MAX_RENDEZVOUS]))
            link.connection.send(encode_frame(request))
            self.counters["rendezvous_asked"] += 1
            asked += 1
            if asked == MAX_ASKED:
                break

    # Connection events

    def connection_made(self, connection: Connection) -> Link | None:
        """
        Add an authenticated connection.

        @return: its state, or C{None} if there are too many connections.
        """
        peer_id = connection.peer_id
        if not self.table.make_room():
            self.reports.limit("refused_too_many_connections", "connections", self._max_connections)
            self.reports.refused(peer_id, "too many connections")
            return None
        channels = Channels(connection.exporter, self._own_id, peer_id, self.counters)
        now = self._clock.seconds()
        link = Link(connection, now, channels, now)
        link.streams = LinkStreams(
            self.services,
            connection,
            lambda: bool(channels.shared()),
            lambda used: self._streams_changed(link, used),
        )
        current = self.table.add(link)
        if current is None:
            self.table.peer_connected(peer_id)
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
        link.heard = self._clock.seconds()
        ping: Ping | None = None
        for channel, group in groupby(frames, _channel_of_data):
            if channel is None:
                for frame in group:
                    if isinstance(frame, Ping):
                        ping = frame
                    elif link.connection in self.table.links:
                        self._control_received(link, frame)
            elif link.connection in self.table.links:
                self._messages_received(link, channel, [cast(Data, frame).message for frame in group])
        # One answer is enough for several, and a peer that reads nothing gets no more of them.
        if ping is not None and not link.connection.unsent and link.connection in self.table.links:
            link.connection.send(encode_frame(Pong(ping.payload)))
        if link.told_clock is not None and link.connection in self.table.links:
            self._tell_clock(link)

    def _messages_received(self, link: Link, channel: int, messages: list[bytes]) -> None:
        topic_id = link.channels.topic_of(channel)
        links = None if topic_id is None else self.table.topics.get(topic_id)
        if links is None:
            self.counters["received_not_admitted"] += len(messages)
        else:
            links.messages_received(link.peer_id, messages)

    def _control_received(self, link: Link, frame: ReceivedFrame) -> None:
        if isinstance(frame, _STREAM_FRAMES):
            link.streams.received(frame)
        elif isinstance(frame, Open):
            opened = link.channels.peer_opened(frame, self._keys)
            if opened is None:
                self.counters["received_unknown_tag"] += 1
                self._use(link)
            else:
                self._open(link, opened)
                self._open_blocked(link)
                self._tell_clock(link)
        elif isinstance(frame, Early):
            join = link.channels.peer_early(frame, self._keys)
            if join is not None:
                self._messages_received(link, frame.channel, [join])
        elif isinstance(frame, Close):
            link.channels.peer_closed(frame)
            self._open_blocked(link)
            self._close_unused(link)
        elif isinstance(frame, Rendezvous):
            self._rendezvous_received(link, frame)
        elif isinstance(frame, ClockTime):
            if link.channels.trusted:
                self._on_clock(link.peer_id, frame.milliseconds / 1000)
        elif isinstance(frame, Unknown):
            self.counters["received_unknown_frame"] += 1

    def _tell_clock(self, link: Link) -> None:
        """
        Send our time to a peer that has proved a topic, unless it was sent recently (docs/protocol/clock.md
        section 1).
        """
        now = self._clock.seconds()
        if link.told_clock is None or now - link.told_clock >= CLOCK_INTERVAL:
            link.told_clock = now
            link.connection.send(encode_frame(ClockTime(max(0, round(now * 1000)))))

    def _rendezvous_received(self, link: Link, frame: Rendezvous) -> None:
        topic_id = link.channels.topic_of(frame.channel)
        if topic_id is None or topic_id not in self.table.topics:
            self.counters["received_not_admitted"] += 1
            return
        now = self._clock.seconds()
        if frame.is_forwarded:
            if self._introductions.accepts(link.peer_id, frame, now):
                self.on_introduced(frame.asker, frame.addresses, topic_id)
            return
        target = self.table.current.get(frame.target)
        channel = (
            None if target is None or frame.target == link.peer_id else target.channels.sending(topic_id)
        )
        if target is None or channel is None or target.connection.unsent:
            self.counters["rendezvous_not_connected"] += 1
            return
        forwarded = self._introductions.forwarded(link.peer_id, frame, channel, link.connection.remote, now)
        if forwarded is not None:
            target.connection.send(encode_frame(forwarded))

    def _deliver_early(self, link: Link, topic_id: bytes) -> None:
        """
        Handle the EARLY that C{link} may have kept for a topic that we have just
        opened.
        """
        key = self._keys.get(topic_id)
        if key is None or link.connection not in self.table.links:
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

    def close_unless_used(self, peer_id: PeerId) -> None:
        """
        Close the connection to a peer after L{UNASKED_LINGER} seconds, unless a topic
        uses it by then: nobody here has asked for it.
        """
        link = self.table.current.get(peer_id)
        if link is not None and link.channels.idle() and not self._uses(link):
            self.table.close_later(link, UNASKED_LINGER)

    def connection_lost(self, link: Link, reason: str) -> None:
        """
        Remove a connection that has ended.

        @param reason: the reason, in a few words; C{""} if we requested the end.
        """
        # The peer closes a duplicate at about the same time as we do: whoever is first breaks nothing.
        if reason and not link.closing and link.linger is None:
            self.table.link_broken(link.peer_id, self._serves(link), link.heard, reason)
        self.table.remove(link.connection)
        link.streams.lost(f"the connection has ended: {reason}" if reason else "the connection has ended")

    def close_all(self) -> None:
        """
        Close all topics and all connections.
        """
        for topic_id in tuple(self._keys):
            self.close_topic(topic_id)
        self.table.close_all()

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
        self.table.current[link.peer_id] = link
        for topic_id in old.channels.shared() | self._waiting.get(link.peer_id, {}).keys():
            self._await_admission(link, topic_id)
        self.writers.check()

    def _retired(self, link: Link) -> None:
        """
        Let another connection of the peer take over from C{link}.  Not when we close
        it: only unused ones are closed.
        """
        peer_id = link.peer_id
        if self.table.current.get(peer_id) is not link:
            return
        others = self.table.serving(peer_id)
        if others and link.connection not in self.table.links:
            self.table.keep(others[-1])
            self._take_over(others[-1], link)
            return
        topic_ids = self._serves(link)
        for waiting in self._waiting.pop(peer_id, {}).values():
            cancel_if_active(waiting.timeout)
        self.table.forget_peer(peer_id, topic_ids)

    def _open(self, link: Link, topic_id: bytes) -> None:
        """
        Ensure that our OPEN is valid on C{link}, to answer the peer's or because we want to send, and send
        waiting messages if the peer's OPEN is valid.
        """
        if link.closing:
            return
        frames: list[Frame] = [*link.channels.open(topic_id, self._keys[topic_id])]
        if self.table.current.get(link.peer_id) is link:
            if frames:
                frames += self._early(link, topic_id)
            number = link.channels.sending(topic_id)
            if number is not None:
                frames += [Data(number, message) for message in self._stop_waiting(link.peer_id, topic_id)]
        if frames:
            link.connection.send(b"".join(map(encode_frame, frames)))
        self._use(link)
        if link.streams.is_waiting and link.channels.shared():
            link.streams.admitted()

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
        new = waiting is None
        if waiting is None:
            timeout = self._clock.callLater(MAX_WAIT, self._not_admitted, link.peer_id, topic_id)
            waiting = of_peer[topic_id] = _Waiting(timeout)
        if message is not None:
            if len(waiting.messages) < MAX_WAITING:
                waiting.messages.append(message)
            else:
                what = "messages that wait for a peer to open their topic"
                self.reports.limit("send_too_many_waiting", what, MAX_WAITING)
        self._open(link, topic_id)
        if new and link.channels.blocked and topic_id not in link.channels.ours:
            waiting.timeout.reset(MAX_BLOCKED)

    def _stop_waiting(self, peer_id: PeerId, topic_id: bytes) -> list[bytes]:
        waiting = self._waiting.get(peer_id, {}).pop(topic_id, None)
        if waiting is None:
            return []
        cancel_if_active(waiting.timeout)
        return waiting.messages

    def _not_admitted(self, peer_id: PeerId, topic_id: bytes) -> None:
        self.counters["send_not_admitted"] += 1
        link = self.table.current.get(peer_id)
        if link is not None and topic_id not in link.channels.ours:
            limit = MAX_TOPICS if link.channels.trusted else MAX_UNMATCHED
            self.reports.limit("send_too_many_topics", "topics of one connection", limit)
        self.table.link_broken(peer_id, (topic_id,), self._clock.seconds() - MAX_WAIT, "not admitted")
        self.disconnect(peer_id, topic_id)
        self.table.peer_disconnected(peer_id, (topic_id,))

    def _open_blocked(self, link: Link) -> None:
        """
        Send the OPENs that were not allowed before and are now.
        """
        channels = link.channels
        if not channels.blocked or self.table.current.get(link.peer_id) is not link:
            return
        channels.blocked = False
        for topic_id, waiting in tuple(self._waiting.get(link.peer_id, {}).items()):
            if topic_id in channels.ours:
                continue
            self._open(link, topic_id)
            if channels.blocked:
                return
            if waiting.timeout.active():
                waiting.timeout.reset(MAX_WAIT)

    def _leave(self, link: Link, topic_id: bytes) -> None:
        """
        End the topic's use of C{link}.
        """
        closed = link.channels.close(topic_id)
        if closed is not None:
            link.connection.send(encode_frame(closed))
            self._open_blocked(link)
            self._close_unused(link)

    def _close_unused(self, link: Link) -> None:
        if link.connection in self.table.links and link.channels.idle() and not self._uses(link):
            self._schedule_close(link)

    def _serves(self, link: Link) -> set[bytes]:
        """
        Return the topics that C{link} carries or is waiting to carry.
        """
        if self.table.current.get(link.peer_id) is not link:
            return link.channels.shared()
        return link.channels.shared() | self._waiting.get(link.peer_id, {}).keys()

    def _uses(self, link: Link) -> Collection[object]:
        """
        Return what uses C{link}: topics, else application streams.
        """
        return self._serves(link) or link.streams.numbers

    def _streams_changed(self, link: Link, used: bool) -> None:
        """
        Keep C{link} while it has application streams; then give back the topics that were
        opened for them, and close it if nothing else keeps it.
        """
        if used:
            self.table.keep(link)
            return
        for topic_id in tuple(link.borrowed):
            self._leave(link, topic_id)
        link.borrowed.clear()
        if self.table.current.get(link.peer_id) is link:
            self._close_unused(link)
        elif link.connection in self.table.links:
            self._schedule_close(link)

    def _use(self, link: Link) -> None:
        """
        Cancel the scheduled close of C{link}, unless another connection has replaced
        it.
        """
        if self.table.current.get(link.peer_id) is link:
            self.table.keep(link)

    def _schedule_close(self, link: Link) -> None:
        if link.linger is None and not link.closing and not link.streams.numbers:
            self.table.close_later(link, LINGER)
