"""
In-memory peer transports.

L{MemoryPeerTransport} is an C{IPeerTransport} whose connections are pairs of objects on a
L{MemoryHub}. It runs on the hub's clock and is deterministic. Tests can simulate network
faults: unreachable addresses, connections that break, peers that stop reading. Frames,
admission, duplicate connections and dials use the same code as
L{dtt.transport.streams.transport}.

Example::

    hub = MemoryHub(Clock())
    alice, bob = hub.transport(b"a" * 32), hub.transport(b"b" * 32)
    alice.open_topic(topic_id, secret_hash, links)
    alice.dial(bob.peer_id, bob.addresses())
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from dtt.counters import snake_case
from dtt.errors import DecodeError, DialFailed, NoRoom, RemoteError
from dtt.interfaces import ILinkPaths, IListener, ITopicLinks, LinkPath, PeerId
from dtt.transport.backpressure import WRITABLE, short_reason
from dtt.transport.dialing import Dials
from dtt.transport.settings import TransportSettings
from dtt.transport.streams.frames import FrameParser
from dtt.transport.streams.multiplexer import Link, Multiplexer
from dtt.wire.addresses import STREAMS, TRANSPORT_NAMES, Address, PeerAddress, direct_addresses


class MemoryHub:
    """
    The network that connects some L{MemoryPeerTransport}s.

    @ivar clock: the clock of everything on the hub.
    @ivar latency: the one-way latency in seconds. A dial takes four latencies (TCP and
        TLS 1.3); the accepting end sees the connection after five.
    @ivar unreachable: (host, port) pairs that never answer: dials to them time out.
    """

    def __init__(self, clock: IReactorTime, latency: float = 0.01) -> None:
        self.clock = clock
        self.latency = latency
        self.unreachable: set[tuple[str, int]] = set()
        self._listeners: dict[tuple[str, int], MemoryPeerTransport] = {}
        self._connections: list[_End] = []
        self._stalled: set[PeerId] = set()
        self._count = 0

    def transport(
        self, peer_id: PeerId, kind: int = STREAMS, settings: TransportSettings | None = None
    ) -> MemoryPeerTransport:
        """
        Create a transport for C{peer_id}, listening on a separate address.

        @param peer_id: 32 bytes.
        @param kind: the number of the transport in address hints.
        @param settings: its settings; C{None}: the defaults.
        """
        self._count += 1
        address = PeerAddress(
            kind, f"10.{self._count >> 16 & 255}.{self._count >> 8 & 255}.{self._count & 255}", 4433
        )
        transport = MemoryPeerTransport(self, peer_id, address, settings)
        self._listeners[address.host, address.port] = transport
        return transport

    def cut(self, one: PeerId, other: PeerId) -> None:
        """
        Break all connections between two peers, at both ends at the same time.
        """
        for end in tuple(self._connections):
            if {end.own_id, end.peer_id} == {one, other}:
                end.abort("cut")

    def connections(self, peer_id: PeerId) -> int:
        """
        The number of connections that C{peer_id} has.
        """
        return sum(end.own_id == peer_id for end in self._connections)

    def stall(self, peer_id: PeerId) -> None:
        """
        Stop C{peer_id} from reading: what is sent to it counts as unsent.
        """
        self._stalled.add(peer_id)

    def resume(self, peer_id: PeerId) -> None:
        """
        Let C{peer_id} read again, beginning with what has piled up.
        """
        self._stalled.discard(peer_id)
        for end in tuple(self._connections):
            if end.own_id == peer_id:
                end.read()


@implementer(ITopicLinks)
class RecordingLinks:
    """
    An L{ITopicLinks} that records the calls it gets.

    @ivar messages: (peer id, message) pairs, in order.
    @ivar connected: peer ids, in order.
    @ivar disconnected: peer ids, in order.
    @ivar broken: (peer id, when it was last heard, reason) of broken connections.
    @ivar on_message: called with the peer id and the message after each message is
        recorded.
    """

    def __init__(self) -> None:
        self.messages: list[tuple[PeerId, bytes]] = []
        self.connected: list[PeerId] = []
        self.disconnected: list[PeerId] = []
        self.broken: list[tuple[PeerId, float, str]] = []
        self.on_message: Callable[[PeerId, bytes], object] = lambda peer_id, message: None

    def messages_received(self, peer_id: PeerId, messages: Sequence[bytes]) -> None:
        """Record the messages and call C{on_message} for each."""
        for message in messages:
            self.messages.append((peer_id, message))
            self.on_message(peer_id, message)

    def peer_connected(self, peer_id: PeerId) -> None:
        """Record the peer in C{connected}."""
        self.connected.append(peer_id)

    def peer_disconnected(self, peer_id: PeerId) -> None:
        """Record the peer in C{disconnected}."""
        self.disconnected.append(peer_id)

    def link_broken(self, peer_id: PeerId, heard: float, reason: str) -> None:
        """Record the connection in C{broken}."""
        self.broken.append((peer_id, heard, reason))


class _End:
    """
    One end of a connection in memory; a L{dtt.transport.streams.multiplexer.Connection}.
    """

    _log = Logger()

    def __init__(
        self,
        hub: MemoryHub,
        transport: MemoryPeerTransport,
        peer_id: PeerId,
        opened_by_us: bool,
        exporter: bytes,
    ) -> None:
        self._hub = hub
        self._transport = transport
        self.own_id = transport.peer_id
        self.peer_id = peer_id
        self.opened_by_us = opened_by_us
        self.kind = transport.kinds[0]
        self.remote: tuple[str, int] | None = None
        self.path = LinkPath(TRANSPORT_NAMES[self.kind])
        self.exporter = exporter
        self.networks: tuple[str, ...] = ()
        self.other: _End | None = None
        self._parser = FrameParser(transport.multiplexer.max_message_size)
        self._inbox: list[bytes] = []
        self._link: Link | None = None
        self._up = False
        self._closed = False

    @property
    def unsent(self) -> int:
        """The bytes that have arrived at the other end but were not read there."""
        return 0 if self.other is None else sum(map(len, self.other._inbox))

    def made(self) -> None:
        """Register the connection: the other end is authenticated."""
        if self._closed:
            return
        self._up = True
        self._hub._connections.append(self)
        self._link = self._transport.multiplexer.connection_made(self)
        if self._link is None:
            self.abort("no room")
            return
        self._transport.counters["dialled" if self.opened_by_us else "accepted"] += 1
        if not self.opened_by_us:
            self._transport._dials.connected(self.peer_id)
        self.read()

    @property
    def has_room(self) -> bool:
        """Whether the other end has read what was sent."""
        return self.unsent == 0 and not self._closed

    def send(self, frame: bytes) -> None:
        """Deliver C{frame} to the other end after one latency."""
        if not self._closed and self.other is not None:
            self._hub.clock.callLater(self._hub.latency, self.other._arrived, frame)

    def close(self) -> None:
        """Close as TLS does: the other end answers, then both ends are closed."""
        if not self._closed:
            self._closed = True
            if self.other is not None:
                self._hub.clock.callLater(self._hub.latency, self.other._ended)

    def read(self) -> None:
        """Handle what has arrived, unless this peer is stalled or its handshake is unfinished."""
        while self._inbox and self._link is not None and self.own_id not in self._hub._stalled:
            data = self._inbox.pop(0)
            try:
                self._transport.multiplexer.frames_received(self._link, self._parser.feed(data))
                if self._parser.fault is not None:
                    raise DecodeError(self._parser.fault)
            except RemoteError as error:
                self.abort(short_reason(error))
            except Exception:
                self._log.failure("could not handle a frame")
                self.abort("internal error")
            if self.other is not None and self.unsent_by_other() < WRITABLE:
                self.other._transport.multiplexer.writers.check()
        other = self.other
        if other is not None and other._link is not None and not self._inbox:
            other._transport.multiplexer.has_room(other._link)

    def unsent_by_other(self) -> int:
        """The other end's L{unsent}."""
        return sum(map(len, self._inbox))

    def abort(self, reason: str) -> None:
        """Break the connection at both ends immediately."""
        if self.other is None:
            return
        self._transport.counters["closed_" + snake_case(reason)] += 1
        other, self.other = self.other, None
        other.other = None
        self._gone(reason)
        other._gone(reason)

    def _arrived(self, data: bytes) -> None:
        if self.other is not None:
            self._inbox.append(data)
            self.read()

    def _ended(self) -> None:
        self.read()
        if self.other is not None:
            self._hub.clock.callLater(self._hub.latency, self.other._closed_cleanly)
        self._gone()

    def _closed_cleanly(self) -> None:
        self.other = None
        self._gone()

    def _gone(self, reason: str = "by peer") -> None:
        if self._closed:
            reason = ""
        self._closed = True
        self._inbox.clear()
        link, self._link = self._link, None
        if self._up:
            self._up = False
            self._hub._connections.remove(self)
        if link is not None:
            self._transport.multiplexer.connection_lost(link, reason)


@implementer(IListener, ILinkPaths)
class MemoryPeerTransport:
    """
    An L{IListener} on a L{MemoryHub}. Use L{MemoryHub.transport} to create one.

    @ivar peer_id: this transport's peer id, 32 bytes.
    @ivar counters: counts of events, by name.
    @ivar lists_loopback: has no effect.
    @ivar multiplexer: the table of connections.
    """

    finds_peers = False

    def __init__(
        self,
        hub: MemoryHub,
        peer_id: PeerId,
        address: PeerAddress,
        settings: TransportSettings | None = None,
    ) -> None:
        self.kinds = (address.transport,)
        self.port: int | None = address.port
        self.peer_id = peer_id
        self.counters: Counter[str] = Counter()
        self.lists_loopback = True
        self._hub = hub
        self._address = address
        self._listening = True
        self.multiplexer = Multiplexer(hub.clock, peer_id, self.counters, settings)
        self._dials = Dials(hub.clock, self._attempt)

    def listen(self, host: str, port: int) -> None:
        """
        Do nothing: the hub has assigned the address.
        """

    def set_external_host(self, host: str | None) -> None:
        """
        Do nothing: all peers see the same addresses.
        """

    def network_changed(self) -> None:
        """
        Do nothing: connections of the hub do not die unnoticed.
        """

    def peer_moved(self, peer_id: PeerId, addresses: Sequence[Address]) -> None:
        """
        Do nothing: addresses do not change.
        """

    def stop(self) -> Deferred[None]:
        """
        Leave all topics, close all connections and stop listening.
        """
        self._listening = False
        self._hub._listeners.pop((self._address.host, self._address.port), None)
        self._dials.stop()
        self.multiplexer.close_all()
        return succeed(None)

    def addresses(self) -> tuple[PeerAddress, ...]:
        """
        The address assigned by the hub; empty once stopped.
        """
        return (self._address,) if self._listening else ()

    def open_topic(self, topic_id: bytes, secret_hash: bytes, links: ITopicLinks) -> None:
        """Accept and send messages of a topic."""
        self.multiplexer.open_topic(topic_id, secret_hash, links)

    def close_topic(self, topic_id: bytes) -> None:
        """Stop accepting and sending messages of a topic."""
        self.multiplexer.close_topic(topic_id)

    def dial(
        self, peer_id: PeerId, addresses: Sequence[Address], topic_id: bytes | None = None
    ) -> Deferred[None]:
        """Connect to a peer, unless a connection exists."""
        if peer_id == self.peer_id:
            return fail(DialFailed("own key"))
        if self.multiplexer.table.is_connected(peer_id):
            return succeed(None)
        if not self._listening:
            return fail(DialFailed("stopped"))
        try:
            self.multiplexer.table.check_dial(self.multiplexer.reports, self._dials.is_full(peer_id))
        except NoRoom as error:
            return fail(error)
        return self._dials.dial(peer_id, direct_addresses(addresses, *self.kinds))

    def is_connected(self, peer_id: PeerId) -> bool:
        """Is there a connection to this peer?"""
        return self.multiplexer.table.is_connected(peer_id)

    def path(self, peer_id: PeerId) -> LinkPath | None:
        """
        Return how the peer is reached; C{None} if it is not connected.
        """
        return self.multiplexer.table.path(peer_id)

    def connections_used(self) -> tuple[int, int]:
        """
        Return how many connections serve their peers, and how many may at most.
        """
        return self.multiplexer.table.used()

    def send(self, peer_id: PeerId, topic_id: bytes, message: bytes) -> bool:
        """Send a message to a connected peer; false if it is not accepted."""
        return self.multiplexer.send(peer_id, topic_id, message)

    def disconnect(self, peer_id: PeerId, topic_id: bytes) -> None:
        """Drop the topic's claim on a connection."""
        self.multiplexer.disconnect(peer_id, topic_id)

    def when_writable(self, peer_ids: Sequence[PeerId]) -> Deferred[None]:
        """Fire when none of the peers is congested."""
        return self.multiplexer.writers.when_writable(peer_ids)

    def _attempt(self, peer_id: PeerId, address: PeerAddress) -> Deferred[None]:
        target = (address.host, address.port)
        latency = self._hub.latency
        result: Deferred[None]
        if target in self._hub.unreachable:
            return Deferred()
        result = Deferred(lambda _: call.cancel())
        call = self._hub.clock.callLater(2 * latency, self._answered, target, result)
        return result.addCallback(lambda _: self._authenticate(peer_id, target))

    def _answered(self, target: tuple[str, int], result: Deferred[None]) -> None:
        """Finish the TCP handshake, one round trip."""
        if target in self._hub._listeners:
            result.callback(None)
        else:
            result.errback(DialFailed("connection refused"))

    def _authenticate(self, peer_id: PeerId, target: tuple[str, int]) -> Deferred[None]:
        """Start the TLS handshake, one more round trip."""
        result: Deferred[None] = Deferred(lambda _: call.cancel())
        call = self._hub.clock.callLater(2 * self._hub.latency, self._met, peer_id, target, result)
        return result

    def _met(self, peer_id: PeerId, target: tuple[str, int], result: Deferred[None]) -> None:
        listener = self._hub._listeners.get(target)
        if listener is None:
            result.errback(DialFailed("connection refused"))
        elif listener.peer_id != peer_id:
            result.errback(DialFailed("wrong peer key"))
        else:
            self._hub._count += 1
            exporter = hashlib.sha256(b"%d" % self._hub._count).digest()
            ours = _End(self._hub, self, peer_id, True, exporter)
            theirs = _End(self._hub, listener, self.peer_id, False, exporter)
            ours.other, theirs.other = theirs, ours
            self._hub.clock.callLater(self._hub.latency, theirs.made)
            ours.made()
            if ours._link is None:
                result.errback(NoRoom("too many connections"))
            else:
                result.callback(None)
