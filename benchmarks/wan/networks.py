"""
A simulated Internet with a DHT, and the members that join it.
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

#: For real nodes: the first of their addresses, the port of most of them, and the number of bootstrap
#: nodes at the start of the list, which are never silent.
_FIRST, _PORT, _BOOTSTRAP = 0x8000, 6881, len(PUBLIC_BOOTSTRAP)

#: The port of hyperswarm's nodes, and the number of bootstrap nodes given to its members.
_HYPERSWARM_PORT, _HYPERSWARM_BOOTSTRAP = 49737, 3

#: Seconds that real nodes get to find each other.
_SETTLES_WITHIN = 120.0


@frozen(slots=True)
class Weather:
    """
    The conditions on the Internet.

    @ivar silent: the share of DHT nodes that never answer.
    @ivar loss: the share of UDP datagrams lost.
    @ivar tcp_loss: the share of TCP segments lost.
    @ivar low: the smallest one-way latency, in seconds.
    @ivar high: the largest one-way latency, in seconds.
    @ivar seed: the seed of all random choices.
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
        The mean round-trip time, in seconds.
        """
        return self.low + self.high


class Network:
    """
    Hosts, a DHT, and the Internet that connects them.

    @ivar internet: carries the packets.
    @ivar words: a description of the DHT.
    """

    def __init__(self, reactor: Any, weather: Weather, words: str, dht: VastDHT | None = None) -> None:
        """
        @param dht: the model; C{None}: real nodes are added later.
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
        Use some hosts as the public bootstrap nodes, by name.
        """
        self._names = {name: hosts[number % len(hosts)] for number, (name, _) in enumerate(PUBLIC_BOOTSTRAP)}

    def add_host(self, addresses: Sequence[str]) -> Host:
        """
        Add a host.
        """
        host = Host(addresses, self._names)
        self._hosts.append(host)
        self.internet.attach(host)
        return host

    def remove_host(self, host: Host) -> None:
        """
        Remove a host on which nothing is running.
        """
        self.internet.detach(host)
        self._hosts.remove(host)
        host.close()

    async def add_nodes(self, kind: str, count: int) -> None:
        """
        Add real nodes. Some of them fall silent once they know each other.

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
        An unused address for a member.
        """
        return member_host(next(self._numbers))

    def bootstrap_of(self, contestant: Contestant) -> tuple[str, ...]:
        """
        The bootstrap nodes for members, HOST:PORT each.
        """
        return () if contestant.mainline else self._bootstrap

    def stop(self) -> None:
        """
        Stop everything.
        """
        if self._nodes is not None:
            Deferred.fromCoroutine(self._nodes.stop())
        self.internet.stop()
        for host in self._hosts:
            host.close()
        self._hosts.clear()


class Member:
    """
    One of two members, with its own host, on which it may run several times.

    @ivar address: the address of its host.
    @ivar process: the current or last process.
    """

    process: EventProcess

    def __init__(self, reactor: Any, network: Network, contestant: Contestant, folder: Path, secret: Path):
        """
        @param folder: the folder for its state, which is created.
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
        Start the process.
        """
        bootstrap = self._network.bootstrap_of(self._contestant)
        seat = Seat(self.address, topic, self._folder, self._secret, bootstrap)
        self.process = EventProcess(self._reactor, self._host.enter(*self._contestant.command(seat)))
        self.process.spawn(environ)
        return self.process

    async def stop(self) -> None:
        """
        Stop the process, if there is one.
        """
        if hasattr(self, "process"):
            await self.process.stop()

    async def close(self) -> None:
        """
        Stop the process and remove the host.
        """
        await self.stop()
        self._network.remove_host(self._host)
