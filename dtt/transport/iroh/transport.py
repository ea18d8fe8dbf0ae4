"""
The iroh transport: iroh-gossip over QUIC, compatible with Rust peers (extra C{iroh}).

Rules: docs/protocol/gossip.md sections 4, 5, 11 and 14.  The parts:
L{dtt.transport.iroh.calls} calls the bindings, L{dtt.transport.iroh.endpoint} owns the
sockets, L{dtt.transport.iroh.acceptor} limits unauthenticated connections,
L{dtt.transport.iroh.connection} carries streams, L{dtt.transport.iroh.connections}
decides which connection serves which peer and topic.  This module combines them.

Unlike the streams transport, iroh-gossip has no admission: any peer that knows the
topic id may take part, unless the settings require proofs of the secret, which dtt
members exchange (docs/protocol/gossip.md section 16).
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
from dtt.errors import DialFailed, NoRoom
from dtt.identity import PeerKey
from dtt.interfaces import ILinkPaths, IListener, ITopicLinks, LinkPath, PeerId
from dtt.net.local import interfaces_of, listening_addresses
from dtt.transport.iroh.acceptor import Acceptor
from dtt.transport.iroh.bindings import Bindings, IrohConnection, IrohEndpoint, load_bindings
from dtt.transport.iroh.calls import Calls, IrohFailure
from dtt.transport.iroh.connection import NO_ROOM, QuicConnection
from dtt.transport.iroh.connections import Peers
from dtt.transport.iroh.dialer import QuicDialing
from dtt.transport.iroh.endpoint import NO_SERVERS, QuicEndpoint, Servers
from dtt.transport.settings import TransportSettings
from dtt.transport.table import STOP_TIMEOUT
from dtt.wire.addresses import IROH, MAX_ADDRESSES, Address, PeerAddress, RelayAddress

#: Seconds for connections to close when the transport stops; the endpoint has the rest of
#: L{STOP_TIMEOUT}.
GOODBYE_TIMEOUT = 1.0

#: Seconds between two checks of our own addresses (guess).  The library could report changes, but
#: only to a process-wide asyncio loop.
WATCH_INTERVAL = 5.0


@implementer(IListener, ILinkPaths)
class IrohTransport:
    """
    An L{IListener} over the iroh bindings.

    @ivar kind: L{IROH}.
    @ivar peer_id: our peer id (32 bytes).
    @ivar port: the bound UDP port; C{None} before L{listen}.
    @ivar finds_peers: whether L{dial} may find a peer by its id alone.
    @ivar lists_loopback: whether L{addresses} lists loopback addresses if there are no
        others.
    @ivar counters: events by name.
    @ivar peers: the table of connections.
    """

    _log = Logger()

    kinds = (IROH,)

    def __init__(
        self,
        reactor: Any,
        key: PeerKey,
        *,
        servers: Servers = NO_SERVERS,
        settings: TransportSettings | None = None,
        interface_addresses: Callable[[], Sequence[str]] | None = None,
        bindings: Bindings | None = None,
    ) -> None:
        """
        @param reactor: provides C{IReactorTime} and C{IReactorFromThreads}.
        @param key: the peer key; it is never written anywhere.
        @param servers: the servers to use; by default none.
        @param settings: the settings; C{None}: the defaults.
        @param interface_addresses: returns the IP literals of this machine; C{None}: see
            L{interfaces_of<dtt.net.local.interfaces_of>}.
        @param bindings: the module C{iroh}, or a replacement.
        @raise UsageError: the package is not installed, or an argument is invalid.
        """
        bindings = bindings or load_bindings()
        settings = settings or TransportSettings()
        self.peer_id = key.peer_id
        self.port: int | None = None
        self.lists_loopback = True
        self.counters: Counter[str] = Counter()
        self._reactor = reactor
        self._calls = Calls(reactor, bindings.IrohError)
        self._endpoint = QuicEndpoint(reactor, bindings, self._calls, key, servers)
        self.finds_peers = self._endpoint.finds_peers
        self.peers = Peers(reactor, key.peer_id, self.counters, self._all_gone, settings)
        self._acceptor = Acceptor(reactor, self._calls, self.counters, self._accepted)
        self._dialing = QuicDialing(
            reactor,
            self._calls,
            bindings,
            self._endpoint,
            self.peers.table.is_connected,
            self._dialled,
        )
        self._bound: IrohEndpoint | None = None
        self._interface_addresses = interface_addresses or interfaces_of(reactor)
        self._external_host: str | None = None
        self._on_addresses_changed = settings.on_addresses_changed
        self._address_poll: IDelayedCall | None = None
        self._last_addresses: tuple[Address, ...] = ()
        self._stopped = False
        self._at_shutdown: Any = None
        self._gone: Deferred[None] = Deferred()
        self._ending: Deferred[None] | None = None

    def __repr__(self) -> str:
        return f"<IrohTransport {self.peer_id.hex()[:10]} port {self.port}>"

    # Listening

    def listen(self, host: str, port: int) -> None:
        """
        Bind immediately and accept connections.  May be called once.

        @param host: an IP literal; C{""}, C{"0.0.0.0"} and C{"::"} mean every address.
        @param port: a UDP port; 0 for any free one.
        @raise ListenError: the address can't be bound.
        """
        self._bound = self._endpoint.bind(host or "0.0.0.0", port)
        self.port = self._endpoint.bound[0][1]
        self._acceptor.start(self._bound)
        self._dialing.start(self._bound)
        if IReactorCore.providedBy(self._reactor):
            self._at_shutdown = self._reactor.addSystemEventTrigger("during", "shutdown", self.stop)
        self._last_addresses = self.addresses()
        self._address_poll = self._reactor.callLater(WATCH_INTERVAL, self._poll_addresses)
        if self._endpoint.has_relays:
            online = self._calls.call(self._bound.online())
            online.addCallbacks(lambda _: self._check_addresses(), lambda _: None)

    def set_external_host(self, host: str | None) -> None:
        """
        Set the address at which other members see us.

        @param host: an IP literal, for example the one that DHT nodes agree on; C{None}
            if unknown.
        """
        self._external_host = host

    def addresses(self) -> tuple[Address, ...]:
        """
        Return at most 12 addresses at which other members can dial us, and our relay
        (docs/protocol/addresses.md section 3).
        """
        bound = self._endpoint.bound
        pairs = listening_addresses(
            bound, self._external_host, self._interface_addresses(), loopback=self.lists_loopback
        )
        if any(ipaddress.ip_address(host).is_unspecified for host, _ in bound):
            # The library may know the external port assigned by a NAT.
            pairs += [
                p for p in self._endpoint.known_addresses() if not ipaddress.ip_address(p[0]).is_loopback
            ]
        direct = tuple(PeerAddress(IROH, *pair) for pair in dict.fromkeys(pairs))[:MAX_ADDRESSES]
        relay = self._endpoint.relay()
        return direct if relay is None else (*direct, relay)

    def network_changed(self) -> None:
        """
        Do nothing: iroh watches the network itself.
        """

    def peer_moved(self, peer_id: PeerId, addresses: Sequence[Address]) -> None:
        """
        Do nothing: iroh notices by itself what is lost.
        """

    def stop(self) -> Deferred[None]:
        """
        Close all topics, connections and sockets.  May be called again.

        @return: a separate Deferred for each caller, which fires when everything is
            closed; after 1.5 s, or when cancelled, the rest is aborted.  The port is
            free then; but if dials were in progress, the library keeps it for another
            2.5 s (observed with iroh 1.4.1).
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
            # The trigger is already removed while it runs.
            with suppress(ValueError, TypeError, KeyError):
                self._reactor.removeSystemEventTrigger(trigger)
        cancel_if_active(self._address_poll)
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
        Open a topic; raises C{ValueError} if it is already open.
        """
        self.peers.open_topic(topic_id, secret_hash, links)

    def close_topic(self, topic_id: bytes) -> None:
        """
        Close a topic on all connections; does nothing if it is not open.
        """
        self.peers.close_topic(topic_id)

    def dial(
        self, peer_id: PeerId, addresses: Sequence[Address], topic_id: bytes | None = None
    ) -> Deferred[None]:
        """
        Make one attempt at all addresses, which the library tries concurrently.
        """
        if peer_id == self.peer_id:
            return fail(DialFailed("own key"))
        if self.peers.table.is_connected(peer_id):
            return succeed(None)
        if self._stopped or self._bound is None:
            return fail(DialFailed("stopped" if self._stopped else "not listening"))
        try:
            self.peers.table.check_dial(self.peers.reports, self._dialing.is_full(peer_id))
        except NoRoom as error:
            return fail(error)
        direct = [a for a in addresses if isinstance(a, PeerAddress) and a.transport == IROH]
        relays = [a for a in addresses if isinstance(a, RelayAddress) and self._endpoint.has_relays]
        return self._dialing.dial(peer_id, (*direct[:MAX_ADDRESSES], *relays[:1]))

    def is_connected(self, peer_id: PeerId) -> bool:
        """
        Return whether an authenticated connection to the peer exists.
        """
        return self.peers.table.is_connected(peer_id)

    def path(self, peer_id: PeerId) -> LinkPath | None:
        """
        Return how the peer is reached; C{None} if it is not connected.
        """
        return self.peers.table.path(peer_id)

    def connections_used(self) -> tuple[int, int]:
        """
        Return how many connections serve their peers, and how many may at most.
        """
        return self.peers.table.used()

    def send(self, peer_id: PeerId, topic_id: bytes, message: bytes) -> bool:
        """
        Send one encoded gossip message on the topic's stream.

        @return: whether the peer is connected; otherwise the message is dropped.
        @raise ValueError: the message has more than 4095 bytes.
        """
        return self.peers.send(peer_id, topic_id, message)

    def disconnect(self, peer_id: PeerId, topic_id: bytes) -> None:
        """
        End the topic's use of the peer's connections.
        """
        self.peers.disconnect(peer_id, topic_id)

    def when_writable(self, peer_ids: Sequence[PeerId]) -> Deferred[None]:
        """
        Fire when each of the peers has less than 256 KiB unsent or no connection.
        """
        return self.peers.writers.when_writable(peer_ids)

    # Internals

    def _accepted(self, connection: IrohConnection, networks: tuple[str, ...]) -> None:
        self._add_connection(connection, networks)

    def _dialled(self, connection: IrohConnection, on_closed: Callable[[], None]) -> bool:
        return self._add_connection(connection, None, on_closed)

    def _add_connection(
        self,
        raw: IrohConnection,
        networks: tuple[str, ...] | None,
        on_closed: Callable[[], None] = lambda: None,
    ) -> bool:
        """
        Add a new connection to the table.

        @param networks: the networks of the remote host; C{None}: we have dialled it.
        @param on_closed: called when the connection is closed.
        @return: whether there was room for it.
        """
        opened_by_us = networks is None
        connection = QuicConnection(self._reactor, self._calls, raw, opened_by_us, self.peers, on_closed)
        if networks is not None:
            connection.networks = networks
        if self._stopped or connection.peer_id == self.peer_id:
            connection.abort("cancelled" if self._stopped else "own key")
            return False
        if not self.peers.connection_made(connection):
            connection.abort(NO_ROOM)
            return False
        self.counters["dialled" if opened_by_us else "accepted"] += 1
        if not opened_by_us:
            self._dialing.connected(connection.peer_id)
        connection.start()
        return True

    def _all_gone(self) -> None:
        if self._ending is not None and not self._gone.called:
            self._gone.callback(None)

    def _poll_addresses(self) -> None:
        self._address_poll = self._reactor.callLater(WATCH_INTERVAL, self._poll_addresses)
        self._check_addresses()

    def _check_addresses(self) -> None:
        """
        Call the settings' C{on_addresses_changed} if our addresses have changed.
        """
        addresses = self.addresses()
        if addresses != self._last_addresses and not self._stopped:
            self._last_addresses = addresses
            self._on_addresses_changed()
