"""
A simulated Internet: it carries the IP packets of hosts, with latency and loss.

All packets between hosts are carried unchanged, whatever they contain. When a UDP
datagram arrives at a node of a DHT model, the model computes the answer, and the answer
is carried back. Packets to other destinations are dropped.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import suppress
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Any, NamedTuple, Protocol

from twisted.internet.interfaces import IDelayedCall, IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from benchmarks.wan.host import Host
from benchmarks.wan.packets import TCP, UDP, Packet, datagram, parse

Address = tuple[str, int]

#: The delay in seconds up to which a packet does not count as late: the reactor's timers have a
#: resolution of 1 ms, and other processes use the machine (guess).
LATE = 0.01

#: The number of packets read from a host in one turn (guess).
_BATCH = 64

#: The size of the largest packet, in bytes.
_LARGEST = 65535


def be_punctual() -> None:
    """
    Give this process, but none of its children, the highest priority: busy members or
    other processes must not delay packets.
    """
    with suppress(OSError):  # best effort: it needs the privilege
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))


class Ways(Protocol):
    """
    The latencies between hosts.
    """

    def delay(self, source: str, destination: str) -> float:
        """
        The one-way latency in seconds.
        """


class DHT(Protocol):
    """
    A model of a DHT.

    @ivar bootstrap: host and port of each of its bootstrap hosts.
    """

    @property
    def bootstrap(self) -> Collection[Address]: ...

    def has(self, host: str) -> bool:
        """
        Is this the address of one of its nodes?
        """

    def answer(self, data: bytes, source: Address, destination: Address, now: float) -> bytes | None:
        """
        The reply of a node to a datagram.
        """


class Passage(NamedTuple):
    """
    The journey of one packet.

    @ivar packet: the packet.
    @ivar sent: when it was sent, by the reactor's clock.
    @ivar arrived: when it arrives; C{None}: it is lost, or has no destination.
    """

    sent: float
    arrived: float | None
    packet: Packet


@implementer(IReadDescriptor)
class _Mouth:
    """
    Reads the packets that a host sends.
    """

    def __init__(self, host: Host, take: Callable[[bytes], None]) -> None:
        self.host = host
        self._take = take

    def fileno(self) -> int:
        """
        The descriptor of the TUN device.
        """
        return self.host.tun

    def logPrefix(self) -> str:
        """
        The prefix for log messages.
        """
        return "host"

    def doRead(self) -> None:
        """
        Read packets from the device.
        """
        with suppress(BlockingIOError):
            for _ in range(_BATCH):
                self._take(os.read(self.host.tun, _LARGEST))

    def connectionLost(self, reason: Failure) -> None:
        """
        Do nothing.
        """


class Internet:
    """
    @ivar watchers: called with every packet that a host sends, and every answer of the
        model.
    @ivar silent: hosts whose packets are dropped.
    @ivar counters: numbers of packets: C{carried}, C{lost}, C{nowhere}, C{answered} (by
        the model), C{refused} (by a host), C{late} (by more than L{LATE}).
    @ivar worst: the largest delay of a late packet, in seconds.
    """

    def __init__(
        self,
        reactor: Any,
        rng: Random,
        ways: Ways,
        loss: float,
        tcp_loss: float = 0.0,
        dht: DHT | None = None,
    ) -> None:
        """
        @param loss: the share of UDP datagrams lost.
        @param tcp_loss: the share of TCP segments lost.
        """
        self.watchers: list[Callable[[Passage], None]] = []
        self.silent: set[str] = set()
        self.counters: Counter[str] = Counter()
        self.worst = 0.0
        self._reactor = reactor
        self._rng = rng
        self._ways = ways
        self._loss = {UDP: loss, TCP: tcp_loss}
        self._dht = dht
        # Bootstrap hosts answer at any port.
        self._bootstrap = dict(dht.bootstrap) if dht else {}
        self._mouths: dict[str, _Mouth] = {}
        self._due: list[tuple[float, int, Callable[[Any], None], Any]] = []
        self._numbers = count()
        self._timer: IDelayedCall | None = None
        self._at = 0.0  # when it fires
        self._delivering = False

    def attach(self, host: Host) -> None:
        """
        Start carrying the packets from and to a host.
        """
        mouth = _Mouth(host, self._take)
        self._mouths.update(dict.fromkeys(host.addresses, mouth))
        self._reactor.addReader(mouth)

    def detach(self, host: Host) -> None:
        """
        Stop carrying packets for a host. Call this before the host is closed.
        """
        for address in host.addresses:
            mouth = self._mouths.pop(address, None)
            if mouth is not None:
                self._reactor.removeReader(mouth)

    def stop(self) -> None:
        """
        Stop carrying packets.
        """
        for mouth in set(self._mouths.values()):
            self.detach(mouth.host)
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _take(self, data: bytes) -> None:
        """
        Handle a packet that a host has sent.
        """
        packet = parse(data)
        if packet is None:
            return
        if packet.destination in self._mouths:
            self._carry(packet, self._hand, (packet.destination, data))
        elif packet.protocol == UDP and self._dht is not None and self._is_node(packet.destination):
            self._carry(packet, self._ask, packet)
        else:
            self.counters["nowhere"] += 1
            self._tell(Passage(self._reactor.seconds(), None, packet))

    def _is_node(self, host: str) -> bool:
        return host in self._bootstrap or (self._dht is not None and self._dht.has(host))

    def _carry(self, packet: Packet, then: Callable[[Any], None], what: Any) -> None:
        now = self._reactor.seconds()
        if packet.source in self.silent or packet.destination in self.silent or self._is_lost(packet):
            self.counters["lost"] += 1
            self._tell(Passage(now, None, packet))
            return
        due = now + self._ways.delay(packet.source, packet.destination)
        heappush(self._due, (due, next(self._numbers), then, what))
        self._tell(Passage(now, due, packet))
        self._set_timer()

    def _set_timer(self) -> None:
        """
        Schedule the next wake-up for when the next packet is due.
        """
        if not self._due or self._delivering:
            return
        due = self._due[0][0]
        after = max(0.0, due - self._reactor.seconds())
        if self._timer is None:
            self._timer = self._reactor.callLater(after, self._deliver)
        elif due < self._at:
            self._timer.reset(after)
        else:
            return
        self._at = due

    def _is_lost(self, packet: Packet) -> bool:
        return self._rng.random() < self._loss.get(packet.protocol, 0.0)

    def _tell(self, passage: Passage) -> None:
        for watcher in self.watchers:
            watcher(passage)

    def _deliver(self) -> None:
        self._timer = None
        self._delivering = True
        while self._due and self._due[0][0] <= (now := self._reactor.seconds()):
            due, _, then, what = heappop(self._due)
            if now - due > LATE:
                self.counters["late"] += 1
                self.worst = max(self.worst, now - due)
            then(what)
        self._delivering = False
        self._set_timer()

    def _hand(self, what: tuple[str, bytes]) -> None:
        """
        Hand a packet to its host.
        """
        destination, data = what
        mouth = self._mouths.get(destination)
        try:
            if mouth is not None:
                os.write(mouth.host.tun, data)
                self.counters["carried"] += 1
        except OSError:
            self.counters["refused"] += 1

    def _ask(self, packet: Packet) -> None:
        """
        Pass a datagram to a node of the model.
        """
        assert self._dht is not None
        asked = packet.destination, packet.ports[1]
        node = packet.destination, self._bootstrap.get(packet.destination, packet.ports[1])
        asker = packet.source, packet.ports[0]
        self.counters["carried"] += 1
        answer = self._dht.answer(packet.payload, asker, node, self._reactor.seconds())
        if answer is not None:
            self.counters["answered"] += 1
            reply = Packet(asked[0], asker[0], UDP, (asked[1], asker[1]), 0, answer)
            self._carry(reply, self._hand, (asker[0], datagram(asked, asker, answer)))
