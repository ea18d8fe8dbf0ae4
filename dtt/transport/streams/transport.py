"""
The built-in transport: gossip between dtt peers over TLS 1.3.

Rules: docs/protocol/streams.md.  The parts: L{dtt.transport.streams.tls} authenticates
peers, L{dtt.transport.streams.connection} carries frames,
L{dtt.transport.streams.multiplexer} decides which connection serves which peer and
topic, L{dtt.transport.dialing} tries addresses concurrently,
L{dtt.transport.handshakes} limits unauthenticated connections.  This module combines
them, and listens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

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
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from dtt.deferreds import Waiters, cancel_if_active
from dtt.errors import DialFailed, ListenError
from dtt.identity import PeerKey
from dtt.interfaces import IListener, ITopicLinks, PeerId
from dtt.net.local import listening_addresses, local_addresses
from dtt.transport.dialing import Dials
from dtt.transport.handshakes import HANDSHAKE_TIMEOUT, Handshakes
from dtt.transport.streams.connection import StreamsConnection
from dtt.transport.streams.multiplexer import Multiplexer
from dtt.transport.streams.tls import ConnectionCreator
from dtt.transport.table import MAX_CONNECTIONS, STOP_TIMEOUT
from dtt.wire.addresses import MAX_ADDRESSES, STREAMS, Address, PeerAddress, direct_addresses


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


@implementer(IListener)
class StreamsTransport:
    """
    An L{IListener} over TCP and TLS 1.3.

    @ivar peer_id: our peer id (32 bytes).
    @ivar port: the TCP port of the first listener; C{None} before L{listen}.
    @ivar counters: events by name.  C{"accepted"} counts inbound authenticated
        connections: while it is 0, this member may be unreachable from outside.
    @ivar connections: all connections, authenticated or not.
    @ivar handshakes: the inbound connections that are not authenticated.
    @ivar multiplexer: the authenticated connections and their topics.
    """

    kind = STREAMS
    finds_peers = False

    def __init__(
        self,
        reactor: Any,
        key: PeerKey,
        *,
        interface_addresses: Callable[[], Sequence[str]] = local_addresses,
    ) -> None:
        """
        @param reactor: provides C{IReactorTCP} and C{IReactorTime}.
        @param key: the peer key; it is never written anywhere.
        @param interface_addresses: returns the IP literals of this machine.
        """
        self._reactor = reactor
        self.peer_id = key.peer_id
        self.port: int | None = None
        self.counters: Counter[str] = Counter()
        self.connections: dict[StreamsConnection, None] = {}
        self.handshakes = Handshakes()
        self.multiplexer = Multiplexer(reactor, key.peer_id, self.counters)
        self._dials = Dials(reactor, self._attempt)
        self._creator = ConnectionCreator(key)
        self._interface_addresses = interface_addresses
        self._external_host: str | None = None
        self._listeners: list[tuple[IListeningPort, str, int]] = []
        self._stopped = False
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
        factory = TLSMemoryBIOFactory(self._creator, False, _Factory(self._build_inbound), self._reactor)
        try:
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
        Return at most 8 addresses at which other members can dial us
        (docs/protocol/addresses.md section 3).
        """
        bound = [(host, port) for _, host, port in self._listeners]
        pairs = listening_addresses(bound, self._external_host, self._interface_addresses())
        return tuple(PeerAddress(STREAMS, *pair) for pair in pairs)[:MAX_ADDRESSES]

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
        self.multiplexer.close_all()
        self._abort(lambda connection: not connection.exporter)
        return Deferred.fromCoroutine(self._wait_until_gone(closing))

    async def _wait_until_gone(self, closing: list[Deferred[Any]]) -> None:
        timeout = self._reactor.callLater(STOP_TIMEOUT, self._abort)
        try:
            for each in closing:
                await each
            if self.connections:
                await self._ended.wait()
        finally:
            cancel_if_active(timeout)
            self._abort()

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

    def close_topic(self, topic_id: bytes) -> None:
        """
        Close a topic on all connections; does nothing if it is not open.
        """
        self.multiplexer.close_topic(topic_id)

    def dial(self, peer_id: PeerId, addresses: Sequence[Address]) -> Deferred[None]:
        """
        Try the TCP addresses among C{addresses} concurrently, 250 ms apart.
        """
        if peer_id == self.peer_id:
            return fail(DialFailed("own key"))
        if self.multiplexer.is_connected(peer_id):
            return succeed(None)
        if self._stopped:
            return fail(DialFailed("stopped"))
        return self._dials.dial(peer_id, direct_addresses(addresses, STREAMS))

    def is_connected(self, peer_id: PeerId) -> bool:
        """
        Return whether an authenticated connection to the peer exists.
        """
        return self.multiplexer.is_connected(peer_id)

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

    def authenticated(self, connection: StreamsConnection) -> None:
        """
        Count a newly authenticated connection, and fire the dials of its peer.
        """
        self.counters["dialled" if connection.opened_by_us else "accepted"] += 1
        if not connection.opened_by_us:
            self._dials.connected(connection.peer_id)
        # Closing connections count towards no other limit, but each costs a descriptor.
        closing = [each for each in self.connections if each.closing]
        if len(closing) > MAX_CONNECTIONS:
            closing[0].abort("did not close in time")

    def connection_lost(self, connection: StreamsConnection) -> None:
        """
        Remove a connection that has ended; L{stop} waits for the last one.
        """
        self.connections.pop(connection, None)
        if not self.connections:
            self._ended.fire(None)

    # Internals

    def _build_inbound(self) -> StreamsConnection:
        return StreamsConnection(self._reactor, self, None)

    def _attempt(self, peer_id: PeerId, address: PeerAddress) -> Deferred[None]:
        connection = StreamsConnection(self._reactor, self, peer_id)
        authenticated = connection.when_authenticated()
        factory = TLSMemoryBIOFactory(self._creator, True, _Factory(lambda: connection), self._reactor)
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
