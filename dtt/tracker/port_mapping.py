"""
Keeps the ports at which other members reach us mapped at the router.

Rules (docs/protocol/quic.md section 6): a router is asked only if a mapping can help: we have a private IPv4
address, there is a router, and the DHT is not local.  If the router or our own address changes, everything is
mapped again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random
from typing import Any, Final, TypeAlias

from twisted.application.service import MultiService
from twisted.internet.interfaces import IReactorFromThreads

from dtt.events import EventSink, PortMapped
from dtt.net.host_port import HostPort
from dtt.net.local import local_addresses
from dtt.net.networks import Scope, canonical, scope
from dtt.portmap import mapper, upnp
from dtt.portmap.gateway import find_gateway
from dtt.portmap.wire import Transport
from dtt.wire.addresses import QUIC, STREAMS, PeerAddress

#: The protocol of each kind of addresses.
TRANSPORTS: Final = {STREAMS: Transport.TCP, QUIC: Transport.UDP}

#: Seconds between two renewals of all mappings because others see us at another address: they may lie
#: (guess).
RESTART_INTERVAL: Final = 60.0

#: Our ports: a kind of addresses (C{STREAMS} or C{QUIC}), and the IP literal and the
#: port that it is bound to.
Ports: TypeAlias = Callable[[], Mapping[int, HostPort]]

#: External addresses by kind.
Outside: TypeAlias = Mapping[int, tuple[str, int]]


def find_router(bound: str) -> tuple[str, str] | None:
    """
    Find the router, if there is a NAT between us and the Internet.

    @param bound: the IPv4 address that our socket is bound to; C{"0.0.0.0"}: all.
    @return: the addresses of the router and of this machine on its network, IPv4
        literals; C{None} if there is nothing to map: no router, our address is global, or our socket is bound
        to another address, such as loopback.
    """
    own = next((host for host in local_addresses() if ":" not in host), None)
    if own is None or bound not in ("0.0.0.0", own) or scope(own) is not Scope.PRIVATE:
        return None
    router = find_gateway(own)
    return None if router is None else (router, own)


def is_local(bootstrap: Iterable[HostPort]) -> bool:
    """
    Return whether a DHT is on this machine or in a private network: none of its bootstrap hosts has a name or
    a global address.
    """
    return all(canonical(host) is not None and scope(host) is not Scope.GLOBAL for host, _ in bootstrap)


class PortMapping(MultiService):
    """
    Maps the ports of the transports.

    @ivar outside: the global addresses that the router maps to us, by kind.
    @ivar mapped: the mappings of the router, by protocol and our port.
    """

    def __init__(
        self,
        reactor: Any,
        rng: Random,
        bound: Callable[[], Sequence[HostPort]],
        ports: Ports,
        on_change: Callable[[Outside], None],
        emit: EventSink,
    ) -> None:
        """
        @param reactor: provides C{IReactorTime} and C{IReactorUDP}; UPnP also needs
            C{IReactorFromThreads}.
        @param rng: an unpredictable random number generator.
        @param bound: returns the IP literals and ports of the DHT node's sockets.
        @param ports: returns our ports.
        @param on_change: called with L{outside} when it has changed.
        @param emit: called with an event for each mapping.
        """
        super().__init__()
        self.outside: dict[int, tuple[str, int]] = {}
        self._reactor = reactor
        self._bound = bound
        self._ports = ports
        self._on_change = on_change
        self._emit = emit
        self.mapped: dict[tuple[Transport, int], PortMapped] = {}
        self._kinds: dict[tuple[Transport, int], int] = {}
        self._reported: dict[tuple[Transport, int], tuple[str | None, int, str]] = {}
        self._found: tuple[str, str] | None = None
        self._restarted: float | None = None
        further = None
        if upnp.is_installed() and IReactorFromThreads.providedBy(reactor):
            further = upnp.UPnP(reactor)
        self._mapper = mapper.PortMapper(reactor, rng, self._router, self._changed, further)
        self._mapper.setServiceParent(self)

    def check(self) -> None:
        """
        Start, or start again if the router or our address has changed.
        """
        if not self.running:
            return
        before, self._found = self._found, self._router()
        if self._found == before:
            return
        if self._kinds:
            self._mapper.restart()
            return
        for kind, (host, port) in self._ports().items():
            if self._found is not None and host in ("0.0.0.0", self._found[1]):
                self._kinds[TRANSPORTS[kind], port] = kind
                self._mapper.want(TRANSPORTS[kind], port)

    def network_changed(self) -> None:
        """
        Map everything again: the network of this machine has changed, or it has slept.
        """
        before = self._found
        self.check()
        if self.running and self._kinds and self._found == before:
            self._mapper.restart()

    def seen_at(self, host: str) -> None:
        """
        Map everything again if the router reported another external address than the one at which others see
        us now: it has a new address.

        @param host: an IPv4 literal.
        """
        now = self._reactor.seconds()
        recent = self._restarted is not None and now < self._restarted + RESTART_INTERVAL
        if not recent and self.outside and host not in {outside for outside, _ in self.outside.values()}:
            self._restarted = now
            self._mapper.restart()

    def _router(self) -> tuple[str, str] | None:
        bound = next((host for host, _ in self._bound() if ":" not in host), None)
        return None if bound is None else find_router(bound)

    def _changed(self, mapping: mapper.Mapping, is_new: bool) -> None:
        key = mapping.transport, mapping.port
        kind = self._kinds[key]
        outside = dict(self.outside)
        if is_new and mapping.host is not None and ":" not in mapping.host and mapping.is_public:
            outside[kind] = (mapping.host, mapping.external)
        else:
            outside.pop(kind, None)
        if outside != self.outside:
            self.outside = outside
            self._on_change(outside)
        said = (mapping.host, mapping.external, mapping.method)
        if not is_new:
            self.mapped.pop(key, None)
            return
        shown = str(PeerAddress(kind, mapping.host or "0.0.0.0", mapping.external))
        event = PortMapped(mapping.transport.name, mapping.port, shown, mapping.method, mapping.is_public)
        self.mapped[key] = event
        if self._reported.get(key) != said:
            self._reported[key] = said
            self._emit(event)
