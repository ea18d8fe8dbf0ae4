"""
The built-in transport: gossip between dtt peers over TLS 1.3, on TCP or QUIC.

Rules: docs/protocol/streams.md, docs/protocol/quic.md.  The parts:
L{dtt.transport.streams.tls} and L{dtt.transport.quic.connector} authenticate peers,
L{dtt.transport.streams.connection} carries frames,
L{dtt.transport.streams.multiplexer} decides which connection serves which peer and
topic, L{dtt.transport.dialing} tries addresses concurrently,
L{dtt.transport.handshakes} limits unauthenticated connections.  This module combines
them, and listens.

TCP is tried first, since it is faster once it works, and QUIC a quarter of a second
later; QUIC is first if both sides are behind NATs.  A connection over QUIC moves to TCP
if that turns out to be possible.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from attrs import frozen
from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.error import (
    CannotListenError,
    ConnectionRefusedError,
    NoRouteError,
    TimeoutError,
)
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from zope.interface import implementer

from dtt.deferreds import Waiters, cancel_if_active
from dtt.errors import DialFailed, ListenError, NoRoom
from dtt.events import PeerPunched
from dtt.identity import PeerKey
from dtt.interfaces import ILinkPaths, IListener, ITopicLinks, LinkPath, PeerId
from dtt.net.local import interfaces_of, listening_addresses
from dtt.net.networks import Scope, scope
from dtt.net.steady import SteadyClock
from dtt.transport.dialing import Dials
from dtt.transport.handshakes import HANDSHAKE_TIMEOUT, Handshakes
from dtt.transport.settings import TransportSettings
from dtt.transport.share import Share
from dtt.transport.streams.connection import StreamsConnection
from dtt.transport.streams.listening import listen_beside_ipv4
from dtt.transport.streams.multiplexer import Multiplexer
from dtt.transport.streams.shared_tls import SharedTLSFactory
from dtt.transport.streams.tls import ConnectionCreator
from dtt.transport.table import MAX_CLOSING, STOP_TIMEOUT
from dtt.wire.addresses import (
    QUIC,
    STREAMS,
    Address,
    PeerAddress,
    alternate,
    alternate_families,
    direct_addresses,
)

if TYPE_CHECKING:
    from dtt.transport.quic.connector import QuicConnector

#: Seconds after which a peer that is connected over QUIC is tried over TCP, if it has
#: named addresses for it.  More than the 10 s within which two connections count as
#: opened at the same time (docs/protocol/quic.md section 5).
MOVE_AFTER = 15.0

#: Peers whose TCP addresses are kept for that (guess: as many as connections).
MAX_MOVING = 512


class _Factory(Factory):
    """
    Builds the protocol of one side; not noisy.
    """

    noisy = False

    def __init__(self, build: Callable[[], StreamsConnection]) -> None:
        self._build = build

    def buildProtocol(self, addr: IAddress | None) -> StreamsConnection:
        """
        Return a new connection.
        """
        return self._build()

    def logPrefix(self) -> str:
        """
        Return the prefix for log messages.
        """
        return "dtt streams"


@frozen(slots=True)
class _ThroughNAT:
    """
    The QUIC addresses of a peer, which are probed together.

    @ivar addresses: hosts and ports, the most likely first.
    @ivar topic_id: a topic of the peer, if known.
    """

    addresses: tuple[tuple[str, int], ...]
    topic_id: bytes | None


_Target: TypeAlias = PeerAddress | _ThroughNAT


@implementer(IListener, ILinkPaths)
class StreamsTransport:
    """
    An L{IListener} over TCP and TLS 1.3, and over QUIC.

    @ivar peer_id: our peer id (32 bytes).
    @ivar port: the TCP port of the first listener; C{None} before L{listen}.
    @ivar lists_loopback: whether L{addresses} lists loopback addresses if there are no
        others.
    @ivar counters: events by name.  C{"accepted"} counts inbound authenticated
        connections: while it is 0, this member may be unreachable from outside.
    @ivar connections: all connections, authenticated or not.
    @ivar handshakes: the inbound connections that are not authenticated.
    @ivar multiplexer: the authenticated connections and their topics.
    @ivar share: the share of the reactor's time of all connections.
    @ivar kinds: the numbers in address hints: C{STREAMS} if TCP is used, C{QUIC} if
        QUIC is.
    @ivar quic: the QUIC connections; C{None} if QUIC is not used.
    @ivar mapped: the addresses at which others see the socket of QUIC, at most one of
        each family.
    """

    finds_peers = False

    def __init__(
        self,
        reactor: Any,
        key: PeerKey,
        *,
        tcp: bool = True,
        quic_rng: Random | None = None,
        interface_addresses: Callable[[], Sequence[str]] | None = None,
        settings: TransportSettings | None = None,
    ) -> None:
        """
        @param reactor: provides C{IReactorTCP} and C{IReactorTime}.
        @param key: the peer key; it is never written anywhere.
        @param tcp: whether to use TCP.
        @param quic_rng: an unpredictable random number generator for QUIC; C{None}: QUIC
            is not used.  QUIC also needs L{attach}.
        @param interface_addresses: returns the IP literals of this machine; C{None}: see
            L{interfaces_of<dtt.net.local.interfaces_of>}.
        @param settings: the settings; C{None}: the defaults.
        """
        self._reactor = reactor
        self.peer_id = key.peer_id
        self.port: int | None = None
        self.lists_loopback = True
        self.counters: Counter[str] = Counter()
        self.connections: dict[StreamsConnection, None] = {}
        self.handshakes = Handshakes()
        settings = settings or TransportSettings()
        self._emit = settings.emit
        self.multiplexer = Multiplexer(reactor, key.peer_id, self.counters, settings)
        self._clock = clock = SteadyClock(reactor)
        self.share = Share(clock)
        self.quic: QuicConnector | None = None
        if quic_rng is not None:
            # Imported here because it loads aioquic, which takes longer than the rest of this package.
            from dtt.transport.quic.connector import QuicConnector

            self.quic = QuicConnector(clock, key, self, quic_rng, self.counters)
            self.multiplexer.on_introduced = self.quic.introduced
        self.kinds = (*((STREAMS,) if tcp else ()), *(() if self.quic is None else (QUIC,)))
        self.mapped: tuple[tuple[str, int], ...] = ()
        self._dials: Dials[_Target] = Dials(clock, self._attempt)
        self._shared_ports: tuple[tuple[str, int], ...] = ()
        # TCP addresses of peers that are also dialled over QUIC.
        self._move_to: dict[PeerId, list[PeerAddress]] = {}
        self._creator = ConnectionCreator(key)
        self._interface_addresses = interface_addresses or interfaces_of(reactor)
        self._external_host: str | None = None
        self._forwarded: dict[int, tuple[str, int]] = {}
        self._listeners: list[tuple[IListeningPort, str, int]] = []
        self._stopped = self._reached_over_tcp = False
        self._ended: Waiters[None] = Waiters()

    def __repr__(self) -> str:
        return f"<StreamsTransport {self.peer_id.hex()[:10]} port {self.port}>"

    # Listening

    def listen(self, host: str, port: int) -> None:
        """
        Bind immediately and accept connections.  May be called once per address family.

        @param host: an IP literal; C{""} or C{"0.0.0.0"} means every IPv4 address,
            C{"::"} every IPv6 address.
        @param port: a TCP port; 0 for any free one.
        @raise ListenError: the address can't be bound.
        """
        if STREAMS not in self.kinds:
            return
        factory = self._tls(False, lambda: self.build(None))
        try:
            if self._listeners and ":" in host:
                listener = listen_beside_ipv4(self._reactor, port, factory, host)
            else:
                listener = self._reactor.listenTCP(port, factory, interface=host)
        except CannotListenError as error:
            raise ListenError.of(f"TCP {host or '*'} port {port}", error.socketError) from None
        bound = listener.getHost().port
        self._listeners.append((listener, host or "0.0.0.0", bound))
        if self.port is None:
            self.port = bound

    def set_external_host(self, host: str | None) -> None:
        """
        Set the address at which other members see us.

        @param host: an IP literal, for example the one that DHT nodes agree on; C{None}
            if unknown.
        """
        self._external_host = host

    def addresses(self) -> tuple[PeerAddress, ...]:
        """
        Return the addresses at which other members can dial us, those over TCP and QUIC
        alternating (docs/protocol/addresses.md section 3).
        """
        interfaces = self._interface_addresses()
        bound = [(host, port) for _, host, port in self._listeners]
        loopback = self.lists_loopback
        own = listening_addresses(bound, self._external_host, interfaces, loopback=loopback)
        over_tcp = [PeerAddress(STREAMS, *pair) for pair in self._with_forwarded(STREAMS, own)]
        loopback = loopback and not self.mapped
        local = listening_addresses(self._shared_ports, None, interfaces, loopback=loopback)
        own = [*self.mapped, *local]
        over_quic = [PeerAddress(QUIC, *pair) for pair in self._with_forwarded(QUIC, own)]
        return alternate((*over_tcp, *over_quic))

    # The socket of QUIC

    def attach(self, send: Callable[[bytes, str, int], None], ports: Sequence[tuple[str, int]]) -> None:
        """
        Use a UDP socket for QUIC.

        @param send: sends a datagram to a host and port; does not raise.
        @param ports: the IP literal and the port to which each of its addresses is
            bound; C{"0.0.0.0"} and C{"::"} stand for all.
        """
        self._shared_ports = tuple(ports)
        if self.quic is not None:
            self.quic.attach(send)

    def set_mapped(self, addresses: Sequence[tuple[str, int]]) -> None:
        """
        Set the addresses at which others see the socket of QUIC.

        @param addresses: at most one of each family; none of a family whose NAT uses
            another address for each destination.
        """
        self.mapped = tuple(addresses)

    def network_changed(self) -> None:
        """
        Check all connections, and dial and probe again: the network of this machine has changed.
        """
        for connection in tuple(self.connections):
            connection.check()
        self._dials.restart(lambda target: isinstance(target, PeerAddress))
        if self.quic is not None:
            self.quic.network_changed()

    def peer_moved(self, peer_id: PeerId, addresses: Sequence[Address]) -> None:
        """
        Check the connections to a peer, which has other addresses according to some message.  If it is being
        dialled, also try these.
        """
        for connection in tuple(self.connections):
            if connection.peer_id == peer_id:
                connection.check()
        if self._dials.is_dialling(peer_id):
            self.dial(peer_id, addresses).addErrback(lambda failure: failure.trap(DialFailed))

    def set_forwarded(self, addresses: Mapping[int, tuple[str, int]]) -> None:
        """
        Set the addresses outside that a router forwards to us, also for a NAT that uses
        another address for each destination.

        @param addresses: a global IPv4 literal and a port, for C{STREAMS}, C{QUIC} or
            both.
        """
        self._forwarded = dict(addresses)

    def stop(self) -> Deferred[None]:
        """
        Close all topics, connections and listeners.

        @return: fires when all connections are gone; after 1.5 s, or when cancelled,
            the remaining ones are aborted.
        """
        self._stopped = True
        listeners, self._listeners = self._listeners, []
        closing = [maybeDeferred(listener.stopListening) for listener, _, _ in listeners]
        self._dials.stop()
        self._move_to.clear()
        self._shared_ports = self.mapped = ()
        self._forwarded.clear()
        if self.quic is not None:
            self.quic.stop()
        self.multiplexer.close_all()
        self._abort(lambda connection: not connection.exporter)
        return Deferred.fromCoroutine(self._wait_until_gone(closing))

    async def _wait_until_gone(self, closing: list[Deferred[Any]]) -> None:
        timeout = self._clock.callLater(STOP_TIMEOUT, self._abort)
        try:
            for each in closing:
                await each
            if self.connections:
                await self._ended.wait()
        finally:
            cancel_if_active(timeout)
            self._abort()
            if self.quic is not None:
                self.quic.close()

    def _abort(self, which: Callable[[StreamsConnection], bool] = lambda _: True) -> None:
        for connection in tuple(self.connections):
            if which(connection):
                connection.abort("cancelled")

    # IPeerTransport

    def open_topic(self, topic_id: bytes, secret_hash: bytes, links: ITopicLinks) -> None:
        """
        Open a topic on all connections; raises C{ValueError} if it is already open.
        """
        self.multiplexer.open_topic(topic_id, secret_hash, links)
        if self.quic is not None:
            self.quic.traversal.probes.open_topic(topic_id, secret_hash)

    def close_topic(self, topic_id: bytes) -> None:
        """
        Close a topic on all connections; does nothing if it is not open.
        """
        self.multiplexer.close_topic(topic_id)
        if self.quic is not None:
            self.quic.traversal.probes.close_topic(topic_id)

    def dial(
        self, peer_id: PeerId, addresses: Sequence[Address], topic_id: bytes | None = None
    ) -> Deferred[None]:
        """
        Try the TCP addresses among C{addresses} one after the other, 250 ms apart, and
        the QUIC addresses together, as the second one.
        """
        if peer_id == self.peer_id:
            return fail(DialFailed("own key"))
        if self.multiplexer.table.is_connected(peer_id):
            return succeed(None)
        if self._stopped:
            return fail(DialFailed("stopped"))
        try:
            self.multiplexer.table.check_dial(self.multiplexer.reports, self._dials.is_full(peer_id))
        except NoRoom as error:
            return fail(error)
        over_tcp = direct_addresses(addresses, STREAMS) if STREAMS in self.kinds else []
        over_tcp = alternate_families(over_tcp)
        targets: list[_Target] = [*over_tcp]
        over_quic = tuple((a.host, a.port) for a in direct_addresses(addresses, QUIC))
        if self.quic is not None and over_quic:
            both_behind_nat = self._behind_nat() and len({host for host, _ in over_quic}) > 1
            targets.insert(0 if both_behind_nat else 1, _ThroughNAT(over_quic, topic_id))
            if over_tcp:
                self._move_to[peer_id] = over_tcp
                if len(self._move_to) > MAX_MOVING:
                    del self._move_to[next(iter(self._move_to))]
        return self._dials.dial(peer_id, targets)

    def _with_forwarded(self, kind: int, own: list[tuple[str, int]]) -> Iterable[tuple[str, int]]:
        """
        Add the external address to our own ones: first, since everyone can dial it, but last if others see us
        elsewhere, because the router may be wrong.
        """
        forwarded = self._forwarded.get(kind)
        if forwarded is None:
            return dict.fromkeys(own)
        seen = {host for host, _ in self.mapped if ":" not in host}
        if not seen and self._external_host is not None:
            seen = {self._external_host}
        first = not seen or forwarded[0] in seen
        return dict.fromkeys((forwarded, *own) if first else (*own, forwarded))

    def _behind_nat(self) -> bool:
        """
        Return whether others see us at an address that is not this machine's.
        """
        outside = {host for host, _ in self.mapped}
        if self._external_host is not None:
            outside.add(self._external_host)
        return bool(outside.difference(self._interface_addresses()))

    @property
    def reached(self) -> bool:
        """
        Whether a peer has reached us from outside without our probes.
        """
        return self._reached_over_tcp or (self.quic is not None and self.quic.traversal.reached)

    def is_connected(self, peer_id: PeerId) -> bool:
        """
        Return whether an authenticated connection to the peer exists.
        """
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
        """
        Send one encoded gossip message, or queue it until the peer admits us to the
        topic.

        @return: whether the peer is connected; otherwise the message is dropped.
        @raise ValueError: the message has more than 4096 bytes.
        """
        return self.multiplexer.send(peer_id, topic_id, message)

    def disconnect(self, peer_id: PeerId, topic_id: bytes) -> None:
        """
        End the topic's use of the peer's connections.  A connection that serves no
        other topic is closed one second later, unless it is used again.
        """
        self.multiplexer.disconnect(peer_id, topic_id)

    def when_writable(self, peer_ids: Sequence[PeerId]) -> Deferred[None]:
        """
        Fire when each of the peers has less than 256 KiB unsent or no connection.
        """
        return self.multiplexer.writers.when_writable(peer_ids)

    # Called by connections

    def build(self, dialled: PeerId | None, kind: int = STREAMS) -> StreamsConnection:
        """
        Return a new connection.

        @param dialled: the expected peer id; C{None} for an inbound connection.
        @param kind: C{STREAMS} over TCP, C{QUIC} over QUIC.
        """
        connection = StreamsConnection(self._clock, self, dialled)
        connection.kind = kind
        return connection

    def authenticated(self, connection: StreamsConnection) -> None:
        """
        Count a newly authenticated connection, and fire the dials of its peer.
        """
        peer_id = connection.peer_id
        self.counters["dialled" if connection.opened_by_us else "accepted"] += 1
        over_quic = connection.kind == QUIC
        if not (over_quic or connection.opened_by_us):
            self._reached_over_tcp |= scope(connection.peer_host) is Scope.GLOBAL
        if over_quic or not connection.opened_by_us:
            asked_for = self._dials.connected(peer_id)
            if connection.opened_by_us and not asked_for:
                self.multiplexer.close_unless_used(peer_id)
        if self.quic is not None:
            began = self.quic.connected(peer_id)
            if over_quic and began is not None:
                self._report_punched(connection, began)
        addresses = self._move_to.pop(peer_id, None)
        if over_quic and addresses:
            self._clock.callLater(MOVE_AFTER, self._move, peer_id, addresses)
        # Closing connections count towards no other limit, but each costs a descriptor.
        closing = [each for each in self.connections if each.closing]
        if len(closing) > MAX_CLOSING:
            closing[0].abort("did not close in time")

    def connection_lost(self, connection: StreamsConnection) -> None:
        """
        Remove a connection that has ended; L{stop} waits for the last one.
        """
        self.connections.pop(connection, None)
        if not self.connections:
            self._ended.fire(None)

    # Internals

    def _move(self, peer_id: PeerId, addresses: list[PeerAddress]) -> None:
        """
        Try to reach a peer that is connected over QUIC over TCP; the new connection then
        becomes the current one.
        """
        if not self._stopped and self.multiplexer.kind_of(peer_id) == QUIC:
            self._dials.dial(peer_id, addresses).addErrback(lambda failure: failure.trap(DialFailed))

    def _report_punched(self, connection: StreamsConnection, began: float) -> None:
        """
        Report a connection over QUIC.

        @param began: when probing began, in seconds of the reactor's clock.
        """
        seconds = round(self._reactor.seconds() - began, 3)
        there: Any = cast(Any, connection.transport).getPeer()
        path = str(PeerAddress(QUIC, there.host, there.port))
        self._emit(PeerPunched(connection.peer_id, seconds, path))

    def _tls(self, is_client: bool, build: Callable[[], StreamsConnection]) -> SharedTLSFactory:
        return SharedTLSFactory(self.share, self._creator, is_client, _Factory(build), self._reactor)

    def _attempt(self, peer_id: PeerId, target: _Target) -> Deferred[None]:
        if isinstance(target, PeerAddress):
            return self._attempt_tcp(peer_id, target)
        assert self.quic is not None
        own = [(address.host, address.port) for address in direct_addresses(self.addresses(), QUIC)]
        if target.topic_id is not None:
            self.multiplexer.ask_for(peer_id, target.topic_id, own)
        return self.quic.attempt(peer_id, target.addresses, target.topic_id)

    def _attempt_tcp(self, peer_id: PeerId, address: PeerAddress) -> Deferred[None]:
        connection = StreamsConnection(self._clock, self, peer_id)
        authenticated = connection.when_authenticated()
        # The factory builds one connection, and does not keep it.
        factory = self._tls(True, [connection].pop)
        endpoint_class = TCP6ClientEndpoint if ":" in address.host else TCP4ClientEndpoint
        endpoint = endpoint_class(self._reactor, address.host, address.port, timeout=int(HANDSHAKE_TIMEOUT))
        return endpoint.connect(factory).addCallbacks(lambda _: authenticated, _dial_failed)


def _dial_failed(failure: Failure) -> Failure:
    """
    Translate a failed TCP connect into a L{DialFailed} with a short reason.
    """
    for error, reason in (
        (ConnectionRefusedError, "connection refused"),
        (TimeoutError, "timed out"),
        (NoRouteError, "no route"),
    ):
        if isinstance(failure.value, error):
            return Failure(DialFailed(reason))
    return Failure(DialFailed("connection failed"))
