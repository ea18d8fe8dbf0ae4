"""
In-memory machines: UDP, TCP, name resolution and time together.

L{MachineNetwork} joins L{dtt.testing.net.udp} and L{dtt.testing.net.tcp} under one clock.
Its reactors offer what a L{dtt.Tracker} needs, so that trackers run unmodified and in
virtual time.

Example::

    network = MachineNetwork(HeapClock())
    tracker = Tracker(network.reactor("10.0.0.1"), Config(listen=("10.0.0.1", 0)))
    tracker.startService()
    network.advance(1.0)
"""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.internet.interfaces import (
    IHostnameResolver,
    IReactorPluggableNameResolver,
    IReactorTCP,
    IReactorTime,
    IReactorUDP,
)
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import Clock
from zope.interface import implementer

from dtt.testing.net.clock import advance
from dtt.testing.net.distance import Beyond
from dtt.testing.net.tcp import MemoryTCPNetwork, MemoryTCPReactor
from dtt.testing.net.udp import MemoryUDPNetwork, MemoryUDPPort
from dtt.testing.vast.links import Links


@implementer(IReactorTCP, IReactorUDP, IReactorTime, IReactorPluggableNameResolver)
class MachineReactor(MemoryTCPReactor):
    """
    The reactor of one machine.

    @ivar host: the machine's IP address.
    """

    def __init__(self, network: MachineNetwork, host: str) -> None:
        super().__init__(network.tcp, host)
        self._udp = network.udp.reactor(host)

    @property
    def nameResolver(self) -> IHostnameResolver:
        """
        The installed resolver; by default it resolves L{MemoryUDPNetwork.names
        <dtt.testing.net.udp.MemoryUDPNetwork>}.
        """
        return self._udp.nameResolver

    def installNameResolver(self, resolver: IHostnameResolver) -> IHostnameResolver:
        """
        Replace the resolver and return the previous one.
        """
        return self._udp.installNameResolver(resolver)

    def listenUDP(
        self,
        port: int,
        protocol: DatagramProtocol,
        interface: str = "",
        maxPacketSize: int = 8192,  # noqa: N803 - Twisted's name
    ) -> MemoryUDPPort:
        """
        Bind a UDP port of this machine; see
        L{dtt.testing.net.udp.MemoryUDPReactor.listenUDP}.
        """
        return self._udp.listenUDP(port, protocol, interface, maxPacketSize)


class MachineNetwork:
    """
    Machines that can reach each other.

    @ivar clock: the clock of all machines.
    @ivar udp: carries the datagrams.
    @ivar tcp: carries the connections.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        latency: float = 0.01,
        rng: Random | None = None,
        links: Links | None = None,
        beyond: Beyond | None = None,
        log_limit: int | None = None,
    ) -> None:
        """
        @param clock: the clock of all machines.
        @param latency: the one-way latency in seconds.
        @param rng: decides which datagrams are lost.
        @param links: the latency and loss of each pair of machines, instead of
            C{latency}. Connections have neither jitter nor loss.
        @param beyond: hosts without a reactor that answer datagrams, such as a
            L{VastDHT<dtt.testing.vast.VastDHT>}.
        @param log_limit: the limit of C{udp.log}; see L{MemoryUDPNetwork}.
        """
        self.clock = clock
        self.udp = MemoryUDPNetwork(
            clock,
            latency=latency if links is None else links.delay,
            loss=0.0 if links is None else links.loss,
            rng=rng,
            beyond=beyond,
            log_limit=log_limit,
        )
        self.tcp = MemoryTCPNetwork(clock, latency=latency if links is None else links.base)

    def reactor(self, host: str) -> Any:
        """
        A L{MachineReactor} for the machine with this IP address.
        """
        return MachineReactor(self, host)

    def advance(self, seconds: float) -> None:
        """
        Advance the clock by C{seconds}, event by event.
        """
        advance(self.clock, seconds)

    def listening(self) -> set[tuple[str, str, int]]:
        """
        The addresses in use now: C{"udp"} or C{"tcp"}, host and port.
        """
        udp = {("udp", *address) for address in self.udp.addresses()}
        return udp | {("tcp", *address) for address in self.tcp.addresses()}
