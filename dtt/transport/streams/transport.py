"""
The built-in transport: gossip between dtt peers over TLS 1.3.

Rules: docs/protocol/streams.md.  The parts: L{dtt.transport.streams.tls} proves who is there,
L{dtt.transport.streams.connection} carries frames, L{dtt.transport.streams.multiplexer} decides
which connection serves which peer and topic, L{dtt.transport.dialing} tries
addresses side by side, L{dtt.transport.handshakes} bounds what strangers cost.
Here they are put together, and here we listen.
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

from dtt.deferreds import cancel_if_active
from dtt.errors import DialFailed, ListenError
from dtt.identity import PeerKey
from dtt.interfaces import IListener, ITopicLinks, PeerId
from dtt.net.local import listening_addresses, local_addresses
from dtt.transport.dialing import Dials
from dtt.transport.handshakes import Handshakes
from dtt.transport.streams.connection import HANDSHAKE_TIMEOUT, StreamsConnection
from dtt.transport.streams.multiplexer import MAX_CONNECTIONS, Multiplexer
from dtt.transport.streams.tls import ConnectionCreator
from dtt.wire.addresses import MAX_ADDRESSES, STREAMS, Address, PeerAddress, direct_addresses

#: Seconds that L{StreamsTransport.stop} waits at most (docs/protocol/streams.md section 4).
STOP_TIMEOUT = 1.5


class _Factory(Factory):
    """
    Makes the protocol of one side; silent.
    """

    noisy = False

    def __init__(self, build: Callable[[], StreamsConnection]) -> None:
        self._build = build

    def buildProtocol(self, addr: IAddress | None) -> StreamsConnection:
        """
        A new connection.
        """
        return self._build()

    def logPrefix(self) -> str:
        """
        What the log calls us.
        """
        return "dtt streams"


@implementer(IListener)
class StreamsTransport:
    """
    An L{IPeerTransport} over TCP and TLS 1.3.

    @ivar peer_id: who we are (32 bytes).
    @ivar port: what the first listener is bound to, or L{None}.
    @ivar counters: what happened, by reason.  C{"accepted"} counts inbound
        authenticated connections: while it is 0, perhaps nobody can dial us.
    @ivar connections: all that exist, authenticated or not.
    @ivar handshakes: inbound ones that are not authenticated.
    @ivar multiplexer: the table of authenticated ones.
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
        @param reactor: provides L{twisted.internet.interfaces.IReactorTCP} and
            L{twisted.internet.interfaces.IReactorTime}.
        @param key: the peer key; nothing of it is written anywhere.
        @param interface_addresses: the IP literals of this machine.
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
        self._waiting_for_end: list[Deferred[None]] = []

    def __repr__(self) -> str:
        return f"<StreamsTransport {self.peer_id.hex()[:10]} port {self.port}>"

    # Listening

    def listen(self, host: str, port: int) -> None:
        """
        Bind now, and accept connections.  May be called once per family.

        @param host: an IP literal; C{""} or C{"0.0.0.0"} is every IPv4
            address, C{"::"} every IPv6 one.
        @param port: 0 for a free one.
        @raise ListenError: it can't be bound.
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
        What others see as our address.

        @param host: an IP literal, for instance what DHT nodes agree on.
        """
        self._external_host = host

    def addresses(self) -> tuple[PeerAddress, ...]:
        """
        Where we listen, as others should dial it, at most 8
        (docs/protocol/addresses.md section 3).
        """
        bound = [(host, port) for _, host, port in self._listeners]
        pairs = listening_addresses(bound, self._external_host, self._interface_addresses())
        return tuple(PeerAddress(STREAMS, *pair) for pair in pairs)[:MAX_ADDRESSES]

    def stop(self) -> Deferred[None]:
        """
        Say goodbye on all topics, close everything, listen no more.  Fires when
        all is gone; after 1.5 s, or when cancelled, what is left is aborted.
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
                gone: Deferred[None] = Deferred()
                self._waiting_for_end.append(gone)
                await gone
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
        As L{IPeerTransport.open_topic}.
        """
        self.multiplexer.open_topic(topic_id, secret_hash, links)

    def close_topic(self, topic_id: bytes) -> None:
        """
        As L{IPeerTransport.close_topic}; nothing if the topic is not open.
        """
        self.multiplexer.close_topic(topic_id)

    def dial(self, peer_id: PeerId, addresses: Sequence[Address]) -> Deferred[None]:
        """
        As L{IPeerTransport.dial}.
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
        As L{IPeerTransport.is_connected}.
        """
        return self.multiplexer.is_connected(peer_id)

    def send(self, peer_id: PeerId, topic_id: bytes, message: bytes) -> bool:
        """
        As L{IPeerTransport.send}.

        @raise ValueError: the message has more than 4096 bytes.
        """
        return self.multiplexer.send(peer_id, topic_id, message)

    def disconnect(self, peer_id: PeerId, topic_id: bytes) -> None:
        """
        As L{IPeerTransport.disconnect}.  A connection that serves no topic any
        more is closed a second later, unless it is used again.
        """
        self.multiplexer.disconnect(peer_id, topic_id)

    def when_writable(self, peer_ids: Sequence[PeerId]) -> Deferred[None]:
        """
        As L{IPeerTransport.when_writable}.
        """
        return self.multiplexer.writers.when_writable(peer_ids)

    # What connections tell

    def authenticated(self, connection: StreamsConnection) -> None:
        """
        C{connection} is in the multiplexer.
        """
        self.counters["dialled" if connection.opened_by_us else "accepted"] += 1
        if not connection.opened_by_us:
            self._dials.connected(connection.peer_id)
        # As many as are served may be closing: each costs a descriptor.
        closing = [each for each in self.connections if each.closing]
        if len(closing) > MAX_CONNECTIONS:
            closing[0].abort("did not close in time")

    def connection_lost(self, connection: StreamsConnection) -> None:
        """
        C{connection} is gone.
        """
        self.connections.pop(connection, None)
        if not self.connections:
            waiting, self._waiting_for_end = self._waiting_for_end, []
            for gone in waiting:
                if not gone.called:
                    gone.callback(None)

    # Inside

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
    TCP did not connect: why, in a few words.
    """
    for error, reason in (
        (ConnectionRefusedError, "connection refused"),
        (TimeoutError, "timed out"),
        (NoRouteError, "no route"),
    ):
        if isinstance(failure.value, error):
            return Failure(DialFailed(reason))
    return Failure(DialFailed("connection failed"))
