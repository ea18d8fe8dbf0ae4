"""
NATs and firewalls for the in-memory networks.

The terms are those of RFC 4787.  A NAT has hosts I{inside} and one address I{outside}; it
may itself be inside another one (a provider's NAT).  A firewall is a NAT that does not
translate.

Example::

    network = MachineNetwork(HeapClock())
    home = NAT(network.clock, "203.0.113.1")
    network.place("192.168.1.2", home)
    laptop = network.reactor("192.168.1.2")
"""

from __future__ import annotations

from enum import Enum
from random import Random
from typing import TypeAlias

from attrs import define, field
from twisted.internet.interfaces import IReactorTime

#: A host and a port.
SocketAddress: TypeAlias = tuple[str, int]


class Behaviour(Enum):
    """
    The properties of the destination on which a mapping or a filter depends (RFC 4787 sections
    4.1 and 5).
    """

    ENDPOINT_INDEPENDENT = "endpoint-independent"
    ADDRESS_AND_PORT_DEPENDENT = "address and port-dependent"


@define(slots=True, eq=False)
class _Mapping:
    """
    A mapping.

    @ivar inside: the address inside.
    @ivar port: the port outside.
    @ivar contacted: when something was last sent to each destination.
    @ivar used: when the mapping was last used, in either direction.
    """

    inside: SocketAddress
    port: int
    used: float
    contacted: dict[SocketAddress, float] = field(factory=dict)


class NAT:
    """
    A NAT, or a firewall.

    @ivar host: its external address; for a firewall, the address of its only host.
    @ivar inside: the hosts behind it.
    @ivar outer: the NAT in front of it, if any.
    """

    def __init__(
        self,
        clock: IReactorTime,
        host: str,
        *,
        mapping: Behaviour = Behaviour.ENDPOINT_INDEPENDENT,
        filtering: Behaviour = Behaviour.ADDRESS_AND_PORT_DEPENDENT,
        keeps_ports: bool = True,
        lifetime: float = 120.0,
        hairpin: bool = False,
        outer: NAT | None = None,
        rng: Random | None = None,
    ) -> None:
        """
        @param clock: the time.
        @param host: see the attribute.
        @param mapping: whether a host and port has one external port for all destinations, or a different one
            for each (a "symmetric" NAT).
        @param filtering: who may send to an external port: anyone, or only destinations of
            earlier packets.
        @param keeps_ports: whether a mapping gets the port number of the host if it is
            free.
        @param lifetime: seconds after which an unused mapping is forgotten.
        @param hairpin: whether hosts inside reach each other at the external address.
        @param outer: see the attribute.
        @param rng: draws ports.
        """
        self.host = host
        self.inside: set[str] = set()
        self.outer = outer
        if outer is not None:
            outer.inside.add(host)
        self.hairpin = hairpin
        self._clock = clock
        self._mapping = mapping
        self._filtering = filtering
        self._keeps_ports = keeps_ports
        self._lifetime = lifetime
        self._rng = Random(0) if rng is None else rng
        self._mappings: dict[tuple[SocketAddress, SocketAddress | None], _Mapping] = {}
        self._ports: dict[int, _Mapping] = {}
        #: Ports opened by hand or by a port mapping protocol, by port outside.
        self.forwarded: dict[int, SocketAddress] = {}
        # From which of them answers go out, by source and destination, and when they were used.
        self._answering: dict[tuple[SocketAddress, SocketAddress], tuple[int, float]] = {}

    @property
    def translates(self) -> bool:
        """
        Whether it is a NAT rather than a firewall.
        """
        return self.host not in self.inside

    def change_address(self, host: str) -> None:
        """
        Change the external address, as some providers do at night; all mappings are lost.
        Call C{MemoryUDPNetwork.moved} afterwards.
        """
        self.host = host
        self.forget()

    def forget(self) -> None:
        """
        Lose all mappings, as at a restart.
        """
        self._mappings.clear()
        self._ports.clear()
        self._answering.clear()

    def outbound(self, source: SocketAddress, destination: SocketAddress) -> SocketAddress:
        """
        Let a datagram out, and return its external source address.
        """
        now = self._clock.seconds()
        port, used = self._answering.get((source, destination), (0, 0.0))
        if port in self.forwarded and used + self._lifetime >= now:
            self._answering[source, destination] = (port, now)
            return (self.host, port) if self.translates else source
        dependent = self._mapping is Behaviour.ADDRESS_AND_PORT_DEPENDENT
        key = (source, destination if dependent else None)
        mapping = self._mappings.get(key)
        if mapping is None or mapping.used + self._lifetime < now:
            if mapping is not None and self._ports.get(mapping.port) is mapping:
                del self._ports[mapping.port]
            mapping = self._mappings[key] = _Mapping(source, self._free_port(source[1], now), now)
            self._ports[mapping.port] = mapping
        mapping.used = mapping.contacted[destination] = now
        return (self.host, mapping.port) if self.translates else source

    def inbound(self, destination: SocketAddress, source: SocketAddress) -> SocketAddress | None:
        """
        Return where a datagram from outside goes inside; C{None} if it is dropped.
        """
        now = self._clock.seconds()
        port = destination[1]
        if port in self.forwarded:
            inside = self.forwarded[port]
            self._answering[inside, source] = (port, now)
            return inside
        mapping = self._ports.get(port)
        if mapping is None or mapping.used + self._lifetime < now:
            return None
        if self._filtering is Behaviour.ADDRESS_AND_PORT_DEPENDENT:
            contacted = mapping.contacted.get(source)
            if contacted is None or contacted + self._lifetime < now:
                return None
            mapping.contacted[source] = now
        mapping.used = now
        return mapping.inside

    def _free_port(self, wanted: int, now: float) -> int:
        port = wanted
        keeps = self._keeps_ports and self._mapping is Behaviour.ENDPOINT_INDEPENDENT
        if not self.translates:
            keeps = True
        while not keeps or self._taken(port, now):
            keeps = True
            port = self._rng.randrange(1024, 65536)
        return port

    def _taken(self, port: int, now: float) -> bool:
        mapping = self._ports.get(port)
        return port in self.forwarded or (mapping is not None and mapping.used + self._lifetime >= now)


class NATs:
    """
    All NATs of a network: which host is behind which, and the way of each datagram.
    """

    def __init__(self) -> None:
        self._behind: dict[str, NAT] = {}
        self._at: dict[str, NAT] = {}

    def __bool__(self) -> bool:
        return bool(self._behind)

    def place(self, host: str, nat: NAT) -> None:
        """
        Put a host behind a NAT; a host that is the address of C{nat} itself is behind a
        firewall.
        """
        self.remove(host)
        nat.inside.add(host)
        self._behind[host] = nat
        self.moved()

    def remove(self, host: str) -> None:
        """
        Put a host on the open Internet.
        """
        nat = self._behind.pop(host, None)
        if nat is not None:
            nat.inside.discard(host)
        self.moved()

    def moved(self) -> None:
        """
        Update the addresses of all NATs.
        """
        self._at = {}
        for nat in self._behind.values():
            each: NAT | None = nat
            while each is not None:
                self._at[each.host] = each
                each = each.outer

    def way_out(
        self, source: SocketAddress, destination: SocketAddress
    ) -> tuple[SocketAddress, SocketAddress] | None:
        """
        Return source and destination of a datagram on its way between NATs; C{None} if a
        NAT drops it.
        """
        nat = self._behind.get(source[0])
        while nat is not None:
            if nat.translates and destination[0] in nat.inside:
                break
            source = nat.outbound(source, destination)
            if nat.translates and destination[0] == nat.host:
                if not nat.hairpin:
                    return None
                inside = nat.inbound(destination, source)
                return None if inside is None else (source, inside)
            nat = nat.outer
        return source, destination

    def way_in(self, source: SocketAddress, destination: SocketAddress) -> SocketAddress | None:
        """
        Return where a datagram arrives; C{None} if a NAT drops it, or the destination has no external
        address.
        """
        passed: NAT | None = None
        while True:
            nat = self._at.get(destination[0])
            if nat is None or nat is passed:
                break
            if nat.translates and source[0] in nat.inside:
                break
            inside = nat.inbound(destination, source)
            if inside is None:
                return None
            passed, destination = nat, inside
        behind = self._behind.get(destination[0])
        if behind is None or behind is passed or source[0] in behind.inside:
            return destination
        # A hairpinned datagram comes with the NAT's own address.
        return destination if source[0] == behind.host else None

    def can_connect(self, client: str, server: str) -> bool:
        """
        Return whether a TCP connection from one host to another can be opened: there is
        no hole punching for it, and no forwarding.
        """
        if server in self._at:
            return False
        behind = self._behind.get(server)
        return behind is None or client in behind.inside
