"""
The Internet, as far as its users can tell: it carries the IP packets of hosts,
each of which takes its time, and some of which are lost.

What hosts send to each other is carried as it is, whatever it is.  A UDP datagram
for a node of a model of the DHT is shown to that model when it arrives there, and
the answer is carried back.  All else has no destination.
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

#: Seconds by which a packet may be late without being counted: the reactor's
#: timers have a resolution of 1 ms, and others use the machine (guess).
LATE = 0.01

#: Packets that are read from a host in one go (guess).
_BATCH = 64

#: Bytes of the largest packet.
_LARGEST = 65535


def be_punctual() -> None:
    """
    Let this process, but none that it starts, run before all others: a packet
    must not be late because the members, or somebody else, are busy.
    """
    with suppress(OSError):  # without that right it goes as well as it goes
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))


class Ways(Protocol):
    """
    How long the ways between hosts are.
    """

    def delay(self, source: str, destination: str) -> float:
        """
        Seconds, one way.
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
        Whether one of its nodes is there.
        """

    def answer(self, data: bytes, source: Address, destination: Address, now: float) -> bytes | None:
        """
        What a node replies to a datagram.
        """


class Passage(NamedTuple):
    """
    What became of a packet.

    @ivar sent: when, by the reactor's clock.
    @ivar arrived: when it does; L{None}: it is lost, or has no destination.
    """

    sent: float
    arrived: float | None
    packet: Packet


@implementer(IReadDescriptor)
class _Mouth:
    """
    Where the packets of a host come out.
    """

    def __init__(self, host: Host, take: Callable[[bytes], None]) -> None:
        self.host = host
        self._take = take

    def fileno(self) -> int:
        """
        See C{IFileDescriptor}.
        """
        return self.host.tun

    def logPrefix(self) -> str:
        """
        See C{ILoggingContext}.
        """
        return "host"

    def doRead(self) -> None:
        """
        Take what has come.
        """
        with suppress(BlockingIOError):
            for _ in range(_BATCH):
                self._take(os.read(self.host.tun, _LARGEST))

    def connectionLost(self, reason: Failure) -> None:
        """
        The device is gone.
        """


class Internet:
    """
    @ivar watchers: each is told of every packet that a host sends, and of every
        answer of the model.
    @ivar silent: hosts that nothing comes from.
    @ivar counters: packets C{carried}, C{lost}, C{nowhere}, C{answered} (by the
        model), C{refused} (by a host), C{late} (by more than L{LATE}).
    @ivar worst: seconds that the latest one was late.
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
        @param loss: share of the UDP datagrams that is lost.
        @param tcp_loss: the same of TCP.
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
        # Answered at whatever port the names of bootstrap hosts imply.
        self._bootstrap = dict(dht.bootstrap) if dht else {}
        self._mouths: dict[str, _Mouth] = {}
        self._due: list[tuple[float, int, Callable[[Any], None], Any]] = []
        self._numbers = count()
        self._timer: IDelayedCall | None = None
        self._at = 0.0  # when it fires
        self._delivering = False

    def attach(self, host: Host) -> None:
        """
        Carry what a host sends, and what is sent to it.
        """
        mouth = _Mouth(host, self._take)
        self._mouths.update(dict.fromkeys(host.addresses, mouth))
        self._reactor.addReader(mouth)

    def detach(self, host: Host) -> None:
        """
        Carry nothing for a host any more; before it is closed.
        """
        for address in host.addresses:
            mouth = self._mouths.pop(address, None)
            if mouth is not None:
                self._reactor.removeReader(mouth)

    def stop(self) -> None:
        """
        Carry nothing any more.
        """
        for mouth in set(self._mouths.values()):
            self.detach(mouth.host)
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _take(self, data: bytes) -> None:
        """
        A host has sent a packet.
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
        Wake up when the next packet is due.
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
        A packet arrives at a host.
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
        A datagram arrives at a node of the model.
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
