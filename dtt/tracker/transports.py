"""
The transports of a tracker: chooses them, binds their ports, and combines them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import Logger

from dtt.config import TRANSPORTS, Config
from dtt.dht.node import DHTNode
from dtt.errors import ListenError, UsageError
from dtt.events import EventSink
from dtt.identity import PeerKey
from dtt.interfaces import IListener, IPeerTransport, PeerId
from dtt.net.host_port import HostPort
from dtt.net.local import interfaces_of, ipv6_interface, only_ipv6, why_unreachable
from dtt.tracker.clock import ClockWatch
from dtt.tracker.saved import SavedPorts
from dtt.transport.combined import CombinedTransport
from dtt.transport.iroh import bindings as iroh_bindings
from dtt.transport.settings import TransportSettings
from dtt.transport.streams.transport import StreamsTransport
from dtt.wire.addresses import QUIC, STREAMS, TRANSPORT_NAMES, Address, PeerAddress, direct_addresses

_log = Logger()


def transport_names(wanted: Sequence[str] | None) -> tuple[str, ...]:
    """
    Return the transports that a setting selects, the preferred one first.

    @param wanted: some of L{TRANSPORTS<dtt.config.TRANSPORTS>}; C{None}: those that are
        installed.
    @raise UsageError: iroh is selected, but is not installed or can't be used.
    """
    names = [name for name in TRANSPORTS if wanted is None or name in wanted]
    if "iroh" in names and (reason := iroh_bindings.unavailable_reason()) is not None:
        if wanted is not None:
            raise UsageError(f"transport iroh needs the iroh package{reason}: {iroh_bindings.HOW_TO_INSTALL}")
        names.remove("iroh")
    return tuple(names)


def bind_port(wanted: int, kept: int, bind: Callable[[int], int]) -> int:
    """
    Bind the configured port; if there is none, the kept port, or any port if that is taken.

    @param wanted: the configured port; 0: none.
    @param kept: the port that earlier runs have used; 0: none.
    @param bind: binds a port, or any port if it is 0; returns the port.
    @return: the port to keep for later runs.  If the kept port is taken, it is replaced for this run only,
        because firewall rules, for example, rely on it.
    @raise ListenError: the port can't be bound.
    """
    if wanted or not kept:
        return bind(wanted)
    try:
        return bind(kept)
    except ListenError as error:
        port = bind(0)
        _log.warn(
            "{reason}. Using port {port} in this run; the next run will use {kept} if it is free.",
            reason=_sentence(error.reason),
            port=port,
            kept=kept,
        )
        return kept


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _sockets(addresses: Sequence[Address]) -> list[HostPort]:
    return [(each.host, each.port) for each in direct_addresses(addresses, QUIC)]


class Listeners:
    """
    The transports of a tracker.

    @ivar transport: all of them combined into one, for the gossip.
    @ivar clocks: the clocks of members.
    """

    def __init__(
        self,
        reactor: Any,
        rng: Random,
        key: PeerKey,
        config: Config,
        on_addresses_changed: Callable[[], None],
        emit: EventSink,
    ) -> None:
        """
        @param reactor: provides IReactorTime, IReactorTCP and IReactorUDP.
        @param rng: an unpredictable random number generator.
        @param key: our key pair.
        @param config: the settings.
        @param on_addresses_changed: called when the addresses of C{transport}
            have changed.
        @param emit: called with the events of the transports.
        @raise UsageError: a transport is not installed.
        """
        self.clocks = ClockWatch(reactor, emit)
        settings = TransportSettings(
            config.max_connections,
            config.require_secret,
            emit,
            on_addresses_changed,
            config.gossip.max_message_size,
            self.clocks.heard,
        )
        self._on_addresses_changed = on_addresses_changed
        self._hosts: dict[IListener, HostPort] = {}
        self._interfaces = interfaces_of(reactor)
        self._kept: dict[str, int] = {}
        if config.transport is None and (reason := iroh_bindings.unavailable_reason()):
            _log.warn(
                "The iroh transport is disabled: it needs the iroh package{reason}: {how}",
                reason=reason,
                how=iroh_bindings.HOW_TO_INSTALL,
            )
        listen = config.listen
        self._interface6: str | None = None
        self._needs_ipv6 = config.dht.bind6 != "auto"
        if listen[0] in ("", "0.0.0.0"):
            self._interface6 = ipv6_interface(config.dht.bind6, listen[0], self._interfaces())
            if self._interface6 == "::" and only_ipv6(self._interfaces()):
                self._interface6, listen = None, ("::", listen[1])
        names = transport_names(config.transport)
        self._streams: StreamsTransport | None = None
        self._shared: list[HostPort] = []
        self._claimed: DHTNode | None = None
        if "streams" in names or "quic" in names:
            quic_rng = rng if "quic" in names else None
            self._streams = StreamsTransport(
                reactor, key, tcp="streams" in names, quic_rng=quic_rng, settings=settings
            )
            self._hosts[self._streams] = listen
        if "iroh" in names:
            from dtt.transport.iroh.endpoint import Servers
            from dtt.transport.iroh.transport import IrohTransport

            iroh = IrohTransport(
                reactor,
                key,
                servers=Servers(config.iroh.preset, config.iroh.relays),
                settings=settings,
            )
            self._hosts[iroh] = config.iroh.listen or (listen[0], 0)
        listeners = tuple(self._hosts)
        self.transport: IPeerTransport = (
            listeners[0] if len(listeners) == 1 else CombinedTransport(reactor, listeners)
        )

    def listen(self, saved: SavedPorts) -> SavedPorts:
        """
        Bind the ports of all transports; if none is configured, the kept one.

        @param saved: the kept ports.
        @return: the ports to keep.  Those of transports that are not used are
            unchanged.
        @raise ListenError: a port can't be bound.  Those before it stay bound
            until L{stop}, and another call continues with it.
        """
        for listener, (host, port) in self._hosts.items():
            name = TRANSPORT_NAMES[listener.kinds[0]]
            if name == "quic":  # it uses the port of the DHT node
                continue
            if listener.port is None:

                def bind(port: int, listener: IListener = listener, host: str = host) -> int:
                    listener.listen(host, port)
                    return listener.port or 0

                self._kept[name] = bind_port(port, getattr(saved, name), bind)
                if name == "streams" and self._interface6 is not None:
                    self._listen_on_ipv6(listener, self._interface6, fixed=bool(port))
            saved = evolve(saved, **{name: self._kept[name]})
        return saved

    def _listen_on_ipv6(self, listener: IListener, host: str, *, fixed: bool) -> None:
        """
        Also listen on IPv6, on the same port if possible.

        @param fixed: whether the port was configured, so no other port is allowed.
        """
        try:
            try:
                listener.listen(host, listener.port or 0)
            except ListenError:
                if fixed:
                    raise
                listener.listen(host, 0)
        except ListenError as error:
            if self._needs_ipv6:
                raise
            _log.info("Continuing without IPv6: {reason}", reason=error.reason)

    def listen_addresses(self) -> tuple[str, ...]:
        """
        Return the addresses that the transports listen on, each as
        C{transport:host:port}.
        """
        bound = [
            PeerAddress(listener.kinds[0], host, listener.port)
            for listener, (host, _) in self._hosts.items()
            if listener.port is not None
        ]
        bound += [PeerAddress(QUIC, *pair) for pair in self._shared]
        bound.sort(key=lambda address: TRANSPORTS.index(TRANSPORT_NAMES[address.transport]))
        return tuple(f"{TRANSPORT_NAMES[address.transport]}:{address}" for address in bound)

    def ports(self) -> dict[int, HostPort]:
        """
        Return the ports that a router may map, by kind: the IPv4 literal that each is
        bound to, and the port.
        """
        found: dict[int, HostPort] = {}
        if self._streams is not None and self._streams.port is not None:
            found[STREAMS] = (self._hosts[self._streams][0] or "0.0.0.0", self._streams.port)
        for host, port in self._shared:
            found.setdefault(QUIC, (host, port))
        return {kind: pair for kind, pair in found.items() if ":" not in pair[0]}

    @property
    def streams(self) -> StreamsTransport | None:
        """
        The transport for streams and quic; C{None} if neither is used.
        """
        return self._streams

    def bound_ports(self) -> dict[str, int]:
        """
        Return the port of each transport that is bound, by the transport's name.
        """
        bound = {
            TRANSPORT_NAMES[listener.kinds[0]]: listener.port
            for listener in self._hosts
            if listener.port is not None
        }
        for _, port in self._shared[:1]:
            bound["quic"] = port
        return bound

    def counters(self) -> dict[str, Mapping[str, int]]:
        """
        Return the counters of each transport, by its name.
        """
        return {
            TRANSPORT_NAMES[STREAMS] if listener is self._streams else TRANSPORT_NAMES[listener.kinds[0]]: (
                listener.counters
            )
            for listener in self._hosts
        }

    def claim_socket(self, dht: DHTNode) -> None:
        """
        Get the datagrams of the DHT node's sockets that are QUIC, if it is used.

        @raise UsageError: they already go to another tracker.
        """
        if self._streams is not None and self._streams.quic is not None:
            quic = self._streams.quic
            dht.share(quic.datagram_received, quic.connection_ids)
            self._claimed = dht

    def use_socket(self, dht: DHTNode) -> None:
        """
        Use the DHT node's sockets for QUIC; they are bound.
        """
        if self._streams is not None and self._streams.quic is not None:
            self._shared = dht.bound_addresses()
            self._streams.attach(dht.send_datagram, self._shared)

    def set_mapped(self, addresses: Sequence[tuple[str, int]]) -> None:
        """
        Set the addresses at which others see the DHT node's sockets.
        """
        if self._streams is not None and self._streams.quic is not None:
            self._streams.set_mapped(addresses)
            self._on_addresses_changed()

    def behind_nat(self, hosts: Sequence[str]) -> bool:
        """
        Return whether others see us at addresses that are not this machine's.

        @param hosts: the IP literals at which they see us.
        """
        local = self._interfaces()
        return any(host not in local for host in hosts)

    def network_changed(self) -> None:
        """
        Check all connections: the network of this machine has changed.
        """
        for listener in self._hosts:
            listener.network_changed()

    def peer_moved(self, peer_id: PeerId, addresses: Sequence[Address]) -> None:
        """
        Check the connections to a peer, and add these addresses to dials in progress: a message named them.
        """
        for listener in self._hosts:
            listener.peer_moved(peer_id, addresses)

    def set_forwarded(self, addresses: Mapping[int, tuple[str, int]]) -> None:
        """
        Set the external addresses that the router maps to us, by kind.
        """
        if self._streams is not None:
            self._streams.set_forwarded(addresses)
            self._on_addresses_changed()

    def set_loopback(self, *, listed: bool) -> None:
        """
        Set whether other members can use our loopback addresses.
        """
        for listener in self._hosts:
            listener.lists_loopback = listed

    def why_unreachable(self) -> str | None:
        """
        Return why other members can't dial us; C{None} if there is an address.
        """
        if not self._hosts or self.transport.addresses():
            return None
        return why_unreachable([host or "0.0.0.0" for host, _ in self._hosts.values()], self._interfaces())

    def set_external_host(self, host: str) -> None:
        """
        Set our external address, as others see it.

        @param host: an IP literal.
        """
        for listener in self._hosts:
            listener.set_external_host(host)
        self._on_addresses_changed()

    def reachable(self) -> bool:
        """
        Return whether a member has ever connected to us.
        """
        return any(listener.counters["accepted"] for listener in self._hosts)

    def reached(self) -> bool:
        """
        Return whether a member has reached us from outside without our probes; true without QUIC, which alone
        traverses NATs.
        """
        streams = self._streams
        return streams is None or streams.quic is None or streams.reached

    def probe(self, peer_id: PeerId, addresses: Sequence[Address], topic_id: bytes) -> None:
        """
        Admit a peer that looks for us: send probes to its QUIC addresses.
        """
        if self._streams is not None and self._streams.quic is not None:
            self._streams.quic.let_in(peer_id, _sockets(addresses), topic_id)

    def keep_open(self, peer_id: PeerId, addresses: Sequence[Address], topic_id: bytes) -> None:
        """
        Admit a peer that may look for us later: send one probe to each of its QUIC addresses.
        """
        if self._streams is not None and self._streams.quic is not None:
            self._streams.quic.let_in(peer_id, _sockets(addresses), topic_id, most=1)

    def stop(self) -> Deferred[None]:
        """
        Stop all transports.

        @return: fires when everything is closed, within 1.5 s.
        """
        self.clocks.stop()
        return gatherResults([listener.stop() for listener in self._hosts]).addCallback(self._release)

    def _release(self, _: object) -> None:
        if self._claimed is not None:
            self._claimed.unshare()
            self._claimed = None
