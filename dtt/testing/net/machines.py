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

from collections.abc import Callable, Iterable
from random import Random
from typing import Any

from twisted.internet.interfaces import (
    IDelayedCall,
    IHostnameResolver,
    IReactorPluggableNameResolver,
    IReactorTCP,
    IReactorTime,
    IReactorUDP,
)
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import Clock
from zope.interface import implementer

from dtt.net.multicast import Received
from dtt.testing.net.clock import advance
from dtt.testing.net.distance import Beyond
from dtt.testing.net.machine_time import MachineTime
from dtt.testing.net.multicast import LocalNetworks, MemoryMulticastSocket
from dtt.testing.net.nat import NAT
from dtt.testing.net.tcp import MemoryTCPNetwork, MemoryTCPReactor
from dtt.testing.net.udp import LOG_LIMIT, MemoryUDPNetwork, MemoryUDPPort
from dtt.testing.vast.links import Links


@implementer(IReactorTCP, IReactorUDP, IReactorTime, IReactorPluggableNameResolver)
class MachineReactor(MemoryTCPReactor):
    """
    The reactor of one machine.

    @ivar host: the machine's IP address.
    @ivar host6: its IPv6 address, if it has two addresses.
    """

    def __init__(self, network: MachineNetwork, host: str, host6: str | None = None) -> None:
        super().__init__(network.tcp, host, host6)
        self._machines = network
        self._udp = network.udp.reactor(host, host6)
        self._time = network.time(host)

    def seconds(self) -> float:
        """
        The time according to this machine's clock; see L{MachineNetwork.set_skew}.
        """
        return self._time.seconds()

    def callLater(
        self,
        delay: float,
        callable: Callable[..., object],  # noqa: A002 - Twisted's name
        *args: Any,
        **kw: Any,
    ) -> IDelayedCall:
        """
        Schedule a call on this machine; see L{MachineNetwork.sleep}.
        """
        return self._time.callLater(delay, callable, *args, **kw)

    def local_addresses(self) -> tuple[str, ...]:
        """
        Return the addresses of this machine that have a network: see
        L{MachineNetwork.unplug}.
        """
        unplugged = self._machines.unplugged
        return tuple(host for host in (self.host, self.host6) if host is not None and host not in unplugged)

    def move(self, host: str) -> None:
        """
        Give this machine another address, as in another Wi-Fi.  Its ports stay bound;
        its connections are dead.
        """
        self._machines._times.pop(self.host, None)
        self._machines._times[host] = self._time
        self._udp.move(host)
        super().move(host)

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

    def open_multicast(
        self, group: str, port: int, searched: Received, answered: Received
    ) -> MemoryMulticastSocket | None:
        """
        Open sockets for a group; see L{dtt.net.multicast.open_multicast}.
        """
        host6 = self.host6
        if ":" in group and host6 is not None:
            return self._machines.lan.open(lambda: host6, group, port, searched, answered)
        return self._machines.lan.open(lambda: self.host, group, port, searched, answered)

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
    @ivar lan: carries multicast datagrams, among machines that share a local network.
    @ivar unplugged: the addresses that are disconnected.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        latency: float = 0.01,
        rng: Random | None = None,
        links: Links | None = None,
        beyond: Beyond | None = None,
        log_limit: int | None = LOG_LIMIT,
    ) -> None:
        """
        @param clock: the clock of all machines.
        @param latency: the one-way latency in seconds.
        @param rng: decides which datagrams and segments suffer which fault.
        @param links: the latency and loss of each pair of machines, instead of
            C{latency}. Connections have no jitter, and no loss unless C{tcp.loss} is set.
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
        faults = Random(0)
        if rng is not None:
            faults.setstate(rng.getstate())
        self.tcp = MemoryTCPNetwork(clock, latency=latency if links is None else links.base, rng=faults)
        self.tcp.nats = self.udp.nats
        self._division = self.tcp.division = self.udp.division
        self._times: dict[str, MachineTime] = {}
        self.lan = LocalNetworks(clock)
        self.unplugged: set[str] = set()

    def place(self, host: str, nat: NAT) -> None:
        """
        Put a machine behind a NAT, or behind a firewall whose address is its own.
        """
        self.udp.nats.place(host, nat)

    def reactor(self, host: str, host6: str | None = None) -> Any:
        """
        A L{MachineReactor} for the machine with this IP address.

        @param host6: an additional IPv6 address.
        """
        return MachineReactor(self, host, host6)

    def time(self, host: str) -> MachineTime:
        """
        The time of a machine.
        """
        found = self._times.get(host)
        if found is None:
            found = self._times[host] = MachineTime(self.clock)
        return found

    def set_skew(self, host: str, seconds: float) -> None:
        """
        Set the error of a machine's clock.  Call this before anything runs on it.

        @param seconds: the number of seconds by which it is ahead; negative: behind.
        """
        self.time(host).skew = seconds

    def sleep(self, host: str) -> None:
        """
        Let a machine sleep: nothing runs on it, and it has no network.
        """
        self.time(host).asleep = True
        self.unplug(host)

    def wake(self, reactor: MachineReactor, host: str | None = None) -> None:
        """
        Wake a machine: what has fallen due runs now.

        @param reactor: its reactor.
        @param host: another address that it has now.
        """
        time = self.time(reactor.host)
        self.plug(reactor.host)
        if host is not None:
            reactor.move(host)
        time.wake()

    def stop(self, host: str, *, power: bool = True) -> None:
        """
        Stop everything that runs on a machine, as C{kill -9} does, without goodbyes.  The next L{reactor} is
        that of a new start.

        @param power: whether the machine itself still runs, and resets its connections; if
            not, others notice nothing.
        """
        time = self._times.pop(host, None)
        if time is not None:
            time.stopped = True
        self.udp.vanish(host)
        self.tcp.vanish(host, power)

    def divide(self, *groups: Iterable[str]) -> None:
        """
        Divide the network: hosts of different groups don't reach each other, those of no
        group reach all. Without groups the network is whole again.
        """
        self._division.parts.clear()
        for number, hosts in enumerate(groups):
            self._division.parts.update(dict.fromkeys(hosts, number))

    def unplug(self, *hosts: str) -> None:
        """
        Disconnect these addresses from the network: nothing is sent or received there, and their machines
        don't have them meanwhile.
        """
        self.unplugged.update(hosts)
        self.silence(*hosts)

    def silence(self, *hosts: str) -> None:
        """
        Let nothing be sent or received at these addresses, which their machines keep: the line behind their
        router is dead.
        """
        self.udp.dead.update(hosts)
        self.tcp.silent.update(hosts)

    def plug(self, *hosts: str) -> None:
        """
        Reconnect these addresses to the network: the end of L{unplug} or L{silence}.
        """
        self.unplugged.difference_update(hosts)
        self.udp.dead.difference_update(hosts)
        self.tcp.silent.difference_update(hosts)

    def sever(self, one: str, other: str) -> None:
        """
        Lose everything that these two addresses send to each other.
        """
        self._division.severed.add(frozenset((one, other)))

    def mend(self, one: str, other: str) -> None:
        """
        End what L{sever} began.  Connections between the two are reset, as by hosts that
        have given them up meanwhile.
        """
        self._division.severed.discard(frozenset((one, other)))
        self.tcp.cut(one, other)

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
