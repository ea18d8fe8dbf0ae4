"""
Machines on a network in memory: UDP, TCP, names and time together.

What a L{dtt.Tracker} needs of a reactor, so that trackers run unchanged and
without real time: L{MachineNetwork} joins L{dtt.testing.net.udp} and
L{dtt.testing.net.tcp} under one clock.

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

    @ivar host: its IP address.
    """

    def __init__(self, network: MachineNetwork, host: str) -> None:
        super().__init__(network.tcp, host)
        self._udp = network.udp.reactor(host)

    @property
    def nameResolver(self) -> IHostnameResolver:
        """
        Resolves L{MemoryUDPNetwork.names}.
        """
        return self._udp.nameResolver

    def installNameResolver(self, resolver: IHostnameResolver) -> IHostnameResolver:
        """
        Replace the resolver; returns the previous one.
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
        See L{dtt.testing.net.udp.MemoryUDPReactor.listenUDP}.
        """
        return self._udp.listenUDP(port, protocol, interface, maxPacketSize)


class MachineNetwork:
    """
    Machines that can reach each other.

    @ivar clock: everybody's time.
    @ivar udp: the way of datagrams.
    @ivar tcp: the way of connections.
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
        @param latency: seconds one way.
        @param rng: decides which datagrams get lost.
        @param links: latency and loss of each pair of machines, instead of
            C{latency}.  Connections have neither jitter nor loss.
        @param beyond: hosts without a reactor, which answer datagrams: a
            L{VastDHT<dtt.testing.vast.VastDHT>}.
        @param log_limit: of C{udp.log}; see L{MemoryUDPNetwork}.
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
        A L{MachineReactor} of the machine with this IP address.
        """
        return MachineReactor(self, host)

    def advance(self, seconds: float) -> None:
        """
        Let time pass, event by event.
        """
        advance(self.clock, seconds)

    def listening(self) -> set[tuple[str, str, int]]:
        """
        What is bound now: C{"udp"} or C{"tcp"}, host and port.
        """
        udp = {("udp", *address) for address in self.udp.addresses()}
        return udp | {("tcp", *address) for address in self.tcp.addresses()}
