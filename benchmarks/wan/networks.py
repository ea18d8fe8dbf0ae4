"""
An Internet with a DHT in it, and members that join it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred

from benchmarks.members import EventProcess
from benchmarks.wan.carrier import Internet
from benchmarks.wan.contestants import SERVERS, Contestant, Seat
from benchmarks.wan.host import Host
from dtt.config import PUBLIC_BOOTSTRAP
from dtt.testing.vast import Links, VastDHT, member_host
from tests.interop.peers import Program

#: Of real nodes: the first of their addresses, the port of most of them, and how
#: many at the start of the list are bootstrap nodes, which are never silent.
_FIRST, _PORT, _BOOTSTRAP = 0x8000, 6881, len(PUBLIC_BOOTSTRAP)

#: hyperswarm's port of nodes, and how many bootstrap nodes its members are told.
_HYPERSWARM_PORT, _HYPERSWARM_BOOTSTRAP = 49737, 3

#: Seconds that real nodes may take to know each other.
_SETTLES_WITHIN = 120.0


@frozen(slots=True)
class Weather:
    """
    What the Internet is like.

    @ivar silent: share of the DHT nodes that never answer.
    @ivar loss: share of UDP datagrams that is lost.
    @ivar tcp_loss: share of TCP segments that is lost.
    @ivar low: seconds, one way, at least.
    @ivar high: seconds, one way, at most.
    @ivar seed: of everything that is drawn.
    """

    silent: float
    loss: float
    tcp_loss: float
    low: float
    high: float
    seed: int

    @property
    def round_trip(self) -> float:
        """
        Seconds, on average.
        """
        return self.low + self.high


class Network:
    """
    @ivar internet: what carries packets.
    @ivar words: what DHT it has.
    """

    def __init__(self, reactor: Any, weather: Weather, words: str, dht: VastDHT | None = None) -> None:
        """
        @param dht: the model; real nodes are added otherwise.
        """
        self.words = words
        self._reactor = reactor
        self._weather = weather
        self._rng = Random(weather.seed)
        links = Links(weather.seed, low=weather.low, high=weather.high)
        self.internet = Internet(reactor, self._rng, links, weather.loss, weather.tcp_loss, dht)
        self._names: dict[str, str] = {}
        self._bootstrap: tuple[str, ...] = ()
        self._hosts: list[Host] = []
        self._nodes: Program | None = None
        self._numbers = iter(range(_FIRST))
        if dht is not None:
            self._call([host for host, _ in dht.bootstrap])

    def _call(self, hosts: Sequence[str]) -> None:
        """
        Give the names of the public bootstrap nodes to some hosts.
        """
        self._names = {name: hosts[number % len(hosts)] for number, (name, _) in enumerate(PUBLIC_BOOTSTRAP)}

    def add_host(self, addresses: Sequence[str]) -> Host:
        """
        A new one.
        """
        host = Host(addresses, self._names)
        self._hosts.append(host)
        self.internet.attach(host)
        return host

    def remove_host(self, host: Host) -> None:
        """
        Nothing runs on it any more.
        """
        self.internet.detach(host)
        self._hosts.remove(host)
        host.close()

    async def add_nodes(self, kind: str, count: int) -> None:
        """
        Real nodes; some fall silent once they know each other.

        @param kind: C{libtorrent} or C{hyperswarm}.
        """
        addresses = [member_host(_FIRST + number) for number in range(count)]
        self._call(addresses[:_BOOTSTRAP])
        host = self.add_host(addresses)
        if kind == "libtorrent":
            ports = [port for _, port in PUBLIC_BOOTSTRAP] + [_PORT] * count
            places = [f"{address}:{port}" for address, port in zip(addresses, ports, strict=False)]
            command = [sys.executable, str(SERVERS / "libtorrent_hosts.py"), *places]
        else:
            self._bootstrap = tuple(
                f"{each}:{_HYPERSWARM_PORT}" for each in addresses[:_HYPERSWARM_BOOTSTRAP]
            )
            command = ["node", str(SERVERS / "hyperswarm" / "nodes.js"), *addresses]
        self._nodes = Program(self._reactor, host.enter(*command))
        await self._nodes.port.addTimeout(_SETTLES_WITHIN, self._reactor)
        others = addresses[_BOOTSTRAP:]
        silent = min(len(others), int(self._weather.silent * count))
        self.internet.silent.update(self._rng.sample(others, silent))

    def next_address(self) -> str:
        """
        Of a member; each has one of its own.
        """
        return member_host(next(self._numbers))

    def bootstrap_of(self, contestant: Contestant) -> tuple[str, ...]:
        """
        HOST:PORT that its members are told.
        """
        return () if contestant.mainline else self._bootstrap

    def stop(self) -> None:
        """
        Take everything away.
        """
        if self._nodes is not None:
            Deferred.fromCoroutine(self._nodes.stop())
        self.internet.stop()
        for host in self._hosts:
            host.close()
        self._hosts.clear()


class Member:
    """
    One of two, with a host of its own, on which it may run several times.

    @ivar address: its host's.
    @ivar process: what runs, or has run.
    """

    process: EventProcess

    def __init__(self, reactor: Any, network: Network, contestant: Contestant, folder: Path, secret: Path):
        """
        @param folder: for its state; made.
        """
        self.address = network.next_address()
        self._reactor = reactor
        self._network = network
        self._contestant = contestant
        self._folder = folder
        self._secret = secret
        self._host = network.add_host((self.address,))
        folder.mkdir()

    def start(self, topic: str, environ: dict[str, str]) -> EventProcess:
        """
        Run it.
        """
        bootstrap = self._network.bootstrap_of(self._contestant)
        seat = Seat(self.address, topic, self._folder, self._secret, bootstrap)
        self.process = EventProcess(self._reactor, self._host.enter(*self._contestant.command(seat)))
        self.process.spawn(environ)
        return self.process

    async def stop(self) -> None:
        """
        End the process, if there is one.
        """
        if hasattr(self, "process"):
            await self.process.stop()

    async def close(self) -> None:
        """
        End everything.
        """
        await self.stop()
        self._network.remove_host(self._host)
