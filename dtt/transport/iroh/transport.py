"""
The transport that Rust peers speak: iroh-gossip over QUIC (extra C{iroh}).

Rules: docs/protocol/gossip.md sections 4, 5, 11 and 14.  The parts:
L{dtt.transport.iroh.calls} calls the bindings, L{dtt.transport.iroh.endpoint}
holds the sockets, L{dtt.transport.iroh.acceptor} bounds what strangers cost,
L{dtt.transport.iroh.connection} carries streams, L{dtt.transport.iroh.connections}
decides which connection serves which peer and topic.  Here they are put together.

There is no admission as over streams: iroh-gossip lets everybody talk who knows
the topic id.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorCore
from twisted.logger import Logger
from zope.interface import implementer

from dtt.deferreds import cancel_if_active
from dtt.errors import DialFailed
from dtt.identity import PeerKey
from dtt.interfaces import IListener, ITopicLinks, PeerId
from dtt.net.local import listening_addresses, local_addresses
from dtt.transport.iroh.acceptor import Acceptor
from dtt.transport.iroh.bindings import Bindings, IrohConnection, IrohEndpoint, load_bindings
from dtt.transport.iroh.calls import Calls, IrohFailure
from dtt.transport.iroh.connection import QuicConnection
from dtt.transport.iroh.connections import Peers
from dtt.transport.iroh.dialer import QuicDialing
from dtt.transport.iroh.endpoint import QuicEndpoint
from dtt.wire.addresses import IROH, MAX_ADDRESSES, Address, PeerAddress, RelayAddress

#: Seconds that connections, and then the endpoint, may take to end; with
#: L{dtt.transport.streams.transport.STOP_TIMEOUT} for both (docs/protocol/streams.md section 4).
GOODBYE_TIMEOUT, STOP_TIMEOUT = 1.0, 1.5

#: Seconds between two looks at our own addresses (guess).  The library would
#: tell changes, but to an asyncio loop of the whole process only.
WATCH_INTERVAL = 5.0


@implementer(IListener)
class IrohTransport:
    """
    An L{IPeerTransport} over the iroh bindings.

    @ivar kind: L{IROH}.
    @ivar peer_id: who we are (32 bytes).
    @ivar port: what we are bound to, or L{None}.
    @ivar finds_peers: whether L{dial} may find a peer by its id alone.
    @ivar counters: what happened, by reason.
    @ivar peers: the table of connections.
    """

    _log = Logger()

    kind = IROH

    def __init__(
        self,
        reactor: Any,
        key: PeerKey,
        *,
        preset: str = "none",
        relay_urls: Sequence[str] = (),
        on_addresses_changed: Callable[[], None] = lambda: None,
        interface_addresses: Callable[[], Sequence[str]] = local_addresses,
        bindings: Bindings | None = None,
    ) -> None:
        """
        @param reactor: provides L{twisted.internet.interfaces.IReactorTime} and
            L{twisted.internet.interfaces.IReactorFromThreads}.
        @param key: the peer key; nothing of it is written anywhere.
        @param preset: C{none}: no server of anybody's; C{n0}: n0's relays, DNS
            and pkarr publishing.
        @param relay_urls: relays to use in place of the preset's.
        @param on_addresses_changed: told when L{addresses} has changed.
        @param interface_addresses: the IP literals of this machine.
        @param bindings: the module C{iroh}, or what takes its place.
        @raise UsageError: it is not installed, or an argument is wrong.
        """
        bindings = bindings or load_bindings()
        self.peer_id = key.peer_id
        self.port: int | None = None
        self.counters: Counter[str] = Counter()
        self._reactor = reactor
        self._calls = Calls(reactor, bindings.IrohError)
        self._endpoint = QuicEndpoint(reactor, bindings, self._calls, key, preset, relay_urls)
        self.finds_peers = self._endpoint.finds_peers
        self.peers = Peers(reactor, self.counters, self._all_gone)
        self._acceptor = Acceptor(reactor, self._calls, self.counters, self._accepted)
        self._dialing = QuicDialing(
            reactor,
            self._calls,
            bindings,
            self._endpoint.spares,
            self.finds_peers,
            self.peers.is_connected,
            lambda connection, on_closed: self._made(connection, True, on_closed),
        )
        self._bound: IrohEndpoint | None = None
        self._interface_addresses = interface_addresses
        self._external_host: str | None = None
        self._on_addresses_changed = on_addresses_changed
        self._watch: IDelayedCall | None = None
        self._watched: tuple[Address, ...] = ()
        self._stopped = False
        self._at_shutdown: Any = None
        self._gone: Deferred[None] = Deferred()
        self._ending: Deferred[None] | None = None

    def __repr__(self) -> str:
        return f"<IrohTransport {self.peer_id.hex()[:10]} port {self.port}>"

    # Listening

    def listen(self, host: str, port: int) -> None:
        """
        Bind now, and accept connections.  May be called once.

        @param host: an IP literal; C{""}, C{"0.0.0.0"} or C{"::"} is every address.
        @param port: UDP; 0 for a free one.
        @raise ListenError: it can't be bound.
        """
        self._bound = self._endpoint.bind(host or "0.0.0.0", port)
        self.port = self._endpoint.bound[0][1]
        self._acceptor.start(self._bound)
        self._dialing.start(self._bound)
        if IReactorCore.providedBy(self._reactor):
            self._at_shutdown = self._reactor.addSystemEventTrigger("during", "shutdown", self.stop)
        self._watched = self.addresses()
        self._watch = self._reactor.callLater(WATCH_INTERVAL, self._look)
        if self._endpoint.has_relays:
            online = self._calls.call(self._bound.online())
            online.addCallbacks(lambda _: self._compare(), lambda _: None)

    def set_external_host(self, host: str | None) -> None:
        """
        What others see as our address.

        @param host: an IP literal, for instance what DHT nodes agree on.
        """
        self._external_host = host

    def addresses(self) -> tuple[Address, ...]:
        """
        Where we listen, as others should dial it (docs/protocol/addresses.md section
        3): at most 8 addresses, and our relay.
        """
        bound = self._endpoint.bound
        pairs = listening_addresses(bound, self._external_host, self._interface_addresses())
        if any(ipaddress.ip_address(host).is_unspecified for host, _ in bound):
            # The library may know the port that a NAT has given us.
            pairs += [
                p for p in self._endpoint.known_addresses() if not ipaddress.ip_address(p[0]).is_loopback
            ]
        direct = tuple(PeerAddress(IROH, *pair) for pair in dict.fromkeys(pairs))[:MAX_ADDRESSES]
        relay = self._endpoint.relay()
        return direct if relay is None else (*direct, relay)

    def stop(self) -> Deferred[None]:
        """
        Say goodbye on all topics, close everything, listen no more.  Fires when
        all is gone; after 1.5 s, or when cancelled, what is left is aborted.
        Who asks again waits for the same end.  The port is free then; if dials
        were under way the library keeps it for 2.5 s more (seen with iroh 1.4.1).
        """
        if self._ending is None:
            self._ending = self._end()
        ending = self._ending
        result: Deferred[None] = Deferred(lambda _: ending.cancel())
        ending.addBoth(lambda _: None if result.called else result.callback(None))
        return result

    def _end(self) -> Deferred[None]:
        self._stopped = True
        if self._at_shutdown is not None:
            trigger, self._at_shutdown = self._at_shutdown, None
            # While the trigger runs there is nothing to remove.
            with suppress(ValueError, TypeError, KeyError):
                self._reactor.removeSystemEventTrigger(trigger)
        cancel_if_active(self._watch)
        self._dialing.stop()
        self._acceptor.stop()
        self.peers.close_all()
        return Deferred.fromCoroutine(self._wait_until_gone())

    async def _wait_until_gone(self) -> None:
        timeout = self._reactor.callLater(GOODBYE_TIMEOUT, self.peers.abort_all)
        try:
            if self.peers.connections():
                await self._gone
            closing = self._endpoint.close()
            cancel_if_active(timeout)
            timeout = self._reactor.callLater(STOP_TIMEOUT - GOODBYE_TIMEOUT, closing.cancel)
            with suppress(IrohFailure, CancelledError):
                await closing
        finally:
            cancel_if_active(timeout)
            self.peers.abort_all()
            self._bound = None
            self._endpoint.close().cancel()
            self._calls.cancel_all()

    # IPeerTransport

    def open_topic(self, topic_id: bytes, secret_hash: bytes, links: ITopicLinks) -> None:
        """
        As L{IPeerTransport.open_topic}; the secret is of no use here.
        """
        self.peers.open_topic(topic_id, links)

    def close_topic(self, topic_id: bytes) -> None:
        """
        As L{IPeerTransport.close_topic}; nothing if the topic is not open.
        """
        self.peers.close_topic(topic_id)

    def dial(self, peer_id: PeerId, addresses: Sequence[Address]) -> Deferred[None]:
        """
        As L{IPeerTransport.dial}: one attempt at all addresses, which the
        library tries side by side.
        """
        if peer_id == self.peer_id:
            return fail(DialFailed("own key"))
        if self.peers.is_connected(peer_id):
            return succeed(None)
        if self._stopped or self._bound is None:
            return fail(DialFailed("stopped" if self._stopped else "not listening"))
        direct = [a for a in addresses if isinstance(a, PeerAddress) and a.transport == IROH]
        relays = [a for a in addresses if isinstance(a, RelayAddress) and self._endpoint.has_relays]
        return self._dialing.dial(peer_id, (*direct[:MAX_ADDRESSES], *relays[:1]))

    def is_connected(self, peer_id: PeerId) -> bool:
        """
        As L{IPeerTransport.is_connected}.
        """
        return self.peers.is_connected(peer_id)

    def send(self, peer_id: PeerId, topic_id: bytes, message: bytes) -> bool:
        """
        As L{IPeerTransport.send}.

        @raise ValueError: the message has more than 4095 bytes.
        """
        return self.peers.send(peer_id, topic_id, message)

    def disconnect(self, peer_id: PeerId, topic_id: bytes) -> None:
        """
        As L{IPeerTransport.disconnect}.
        """
        self.peers.disconnect(peer_id, topic_id)

    def when_writable(self, peer_ids: Sequence[PeerId]) -> Deferred[None]:
        """
        As L{IPeerTransport.when_writable}.
        """
        return self.peers.writers.when_writable(peer_ids)

    # Inside

    def _accepted(self, connection: IrohConnection) -> None:
        self._made(connection, False)

    def _made(
        self, raw: IrohConnection, opened_by_us: bool, on_closed: Callable[[], None] = lambda: None
    ) -> bool:
        """
        @param on_closed: told when the connection is closed.
        @return: whether there is room for one more connection.
        """
        connection = QuicConnection(self._reactor, self._calls, raw, opened_by_us, self.peers, on_closed)
        if self._stopped or connection.peer_id == self.peer_id:
            connection.abort("cancelled" if self._stopped else "own key")
            return False
        if not self.peers.connection_made(connection):
            connection.abort("too many connections")
            return False
        self.counters["dialled" if opened_by_us else "accepted"] += 1
        if not opened_by_us:
            self._dialing.connected(connection.peer_id)
        connection.start()
        return True

    def _all_gone(self) -> None:
        if self._ending is not None and not self._gone.called:
            self._gone.callback(None)

    def _look(self) -> None:
        self._watch = self._reactor.callLater(WATCH_INTERVAL, self._look)
        self._compare()

    def _compare(self) -> None:
        """
        Tell if our addresses have changed.
        """
        addresses = self.addresses()
        if addresses != self._watched and not self._stopped:
            self._watched = addresses
            self._on_addresses_changed()
