"""
The latency of DHT client operations, dtt compared with libtorrent in the same run.

C{python -m benchmarks.dht_client [--quick] [--runs N] [--sizes A,B] [--round-trips]}, in
a checkout, with libtorrent installed. The swarms consist of dtt nodes, all in one process
(benchmarks/servers/dtt_swarm.py): 300 libtorrent sessions are too much for a small
machine, and this way both clients use the same nodes. Clients take turns. Times are from
the call to the result, measured by the same reactor, in milliseconds:

  - C{cold boot + put}: from the creation of a client with 3 bootstrap nodes until a
    mutable item is stored. libtorrent is polled every millisecond, and puts as soon as it
    knows a node: before that, a put fails immediately;
  - C{warm get}: reading an item put by another client, with a client that has been
    running for some time;
  - the same for an immutable item: here both clients look for the 8 nearest nodes, while
    dtt's mutable reads and puts are those of slots, which hear 32 nodes
    (docs/protocol/dht.md section 4);
  - C{idle round trip}: one ping to an otherwise idle client, from a socket in this
    process: dtt's and libtorrent's nodes, each in its own process; and, as lower bounds,
    an echo by a Twisted protocol and by a bare epoll loop in Python;
  - C{put, 20 % dead} and C{get, 20 % dead}: the same with clients that know the swarm,
    directly after a fifth of it has died.

The goals are printed next to each result.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import Factory, define
from nacl.bindings import crypto_sign_seed_keypair
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.task import deferLater, react

from benchmarks.dht_support import ECHOES, LOOPBACK, Address, Server
from dtt.krpc.messages import encode_query
from tests.interop.peers import LibtorrentPeer, Peer, immutable_target, start_peer

#: The clients measured.
CLIENTS = ("dtt", "libtorrent")

#: The number of bootstrap nodes given to a client.
BOOTSTRAP = 3

#: The share of a swarm that dies.
DEAD = 0.2

#: Seconds until a client is warm; and the limit for an operation.
WARM = 1.5
LIMIT = 40.0

#: Runs on one swarm, and seconds between them. With more runs, dtt would wait for its own limit of 20
#: packets in 10 s to one node (docs/protocol/dht.md section 2), since on 40 nodes nearly every
#: operation queries every node.
RUNS = 5
PAUSE = 2.5

#: Pings in one measurement.
PINGS = 200

#: Goals, (must, ambition): dtt's time as a ratio to libtorrent's, or seconds.
RATIO_GOALS = {"cold boot + put": (0.6, 0.3), "same, immutable": (0.6, 0.3), "idle round trip": (1.25, 1.1)}
SECONDS_GOALS = {"put, 20 % dead": (1.0, 0.35), "get, 20 % dead": (1.0, 0.35)}

_SWARM = Path(__file__).parent / "servers" / "dtt_swarm.py"


class Swarm:
    """
    A process that runs dtt nodes.

    @ivar addresses: the addresses of all nodes.
    """

    def __init__(self, count: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(_SWARM), str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        )
        ports = self._line()[1:]
        self.addresses: list[Address] = [(LOOPBACK, int(port)) for port in ports]

    def _line(self) -> list[str]:
        assert self._process.stdout is not None
        words = self._process.stdout.readline().split()
        if not words:
            raise SystemExit("the swarm stopped early")
        return words

    def kill(self, count: int) -> None:
        """
        Kill the last C{count} nodes.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(f"{count}\n")
        self._process.stdin.flush()
        self._line()

    def stop(self) -> None:
        """
        Stop the process.
        """
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(20)


@define
class Times:
    """
    Durations in seconds, by operation and client.
    """

    seconds: dict[tuple[str, str], list[float]] = Factory(dict)

    def add(self, what: str, kind: str, seconds: float) -> None:
        """
        Add one measurement.
        """
        self.seconds.setdefault((what, kind), []).append(seconds)

    def report(self, title: str) -> None:
        """
        Print medians, ratios and goals.
        """
        head = f"\n{title:20}" + "".join(f"{kind:>22}" for kind in CLIENTS)
        print(head + f"{'ratio':>8}{'must':>9}{'ambition':>10}")
        for what in dict.fromkeys(what for what, _ in self.seconds):
            mine, theirs = (self.seconds[what, kind] for kind in CLIENTS)
            line = f"{what:20}"
            for values in (mine, theirs):
                spread = f"({1000 * min(values):.2f}-{1000 * max(values):.2f})"
                line += f"{1000 * statistics.median(values):9.2f}{spread:>13}"
            ratio = statistics.median(mine) / statistics.median(theirs)
            line += f"{ratio:8.2f}"
            if what in RATIO_GOALS:
                line += _verdict(ratio, *RATIO_GOALS[what], unit="")
            elif what in SECONDS_GOALS:
                line += _verdict(max(mine), *SECONDS_GOALS[what], unit=" s")
            print(line)
        trips = {kind: values for (what, kind), values in self.seconds.items() if what == "idle round trip"}
        if trips:
            words = (f"{kind} {1e6 * statistics.median(values):.1f}" for kind, values in trips.items())
            print("idle round trip, us:", ", ".join(words))


def _verdict(figure: float, must: float, ambition: float, unit: str) -> str:
    word = "ambition" if figure <= ambition else "must" if figure <= must else "MISSED"
    return f"{f'{must:.2f}{unit}':>9}{f'{ambition:.2f}{unit}':>10}   {word}"


def round_trips(server: Server) -> float:
    """
    The median duration of consecutive pings, in seconds.
    """
    ping = encode_query(b"ping", b"ping", os.urandom(20), {}, True)
    seconds = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.connect((LOOPBACK, server.port))
        asker.settimeout(2)
        for _ in range(PINGS):
            began = time.perf_counter()
            asker.send(ping)
            asker.recv(2048)
            seconds.append(time.perf_counter() - began)
            time.sleep(0.002)
    return statistics.median(seconds)


class Benchmark:
    """
    Measurements on one swarm.
    """

    def __init__(self, reactor: Any, swarm: Swarm, times: Times) -> None:
        self._reactor = reactor
        self._swarm = swarm
        self._times = times

    async def _timed(self, what: str, kind: str, action: Any) -> Any:
        began = time.perf_counter()
        operation = Deferred.fromCoroutine(action)
        try:
            result = await operation.addTimeout(LIMIT, self._reactor)
        except TimeoutError:
            raise SystemExit(f"{kind}: {what} took more than {LIMIT:.0f} s") from None
        self._times.add(what, kind, time.perf_counter() - began)
        return result

    async def _put(self, peer: Peer) -> tuple[bytes, bytes]:
        seed = os.urandom(32)
        key = crypto_sign_seed_keypair(seed)[0]
        await peer.put(seed, key, b"", seed)
        return key, seed

    async def _boot_and_put(self, kind: str, immutable: bool) -> Peer:
        peer = await start_peer(self._reactor, kind, self._swarm.addresses[:BOOTSTRAP])
        if immutable:
            await peer.put_immutable(os.urandom(32))
        else:
            await self._put(peer)
        return peer

    async def _get(self, peer: Peer, key: bytes, value: bytes) -> None:
        # Read as completely as libtorrent does, instead of stopping at the first value.
        if isinstance(peer, LibtorrentPeer):
            found = (await peer.client.get_mutable(key, b"")).value
        else:
            found = await peer.get(key, b"")
        if found != value:
            raise SystemExit(f"{peer.kind} does not find the stored item")

    async def _get_immutable(self, peer: Peer, value: bytes) -> None:
        if await peer.get_immutable(immutable_target(value)) != value:
            raise SystemExit(f"{peer.kind} does not find the stored item")

    async def cold(self, runs: int) -> None:
        """
        Measure new clients.
        """
        # They stay until the end: libtorrent would wait 15 s for nodes that have left.
        peers = []
        for _ in range(runs):
            for kind in CLIENTS:
                for what, immutable in (("cold boot + put", False), ("same, immutable", True)):
                    boot = self._boot_and_put(kind, immutable)
                    peers.append(await self._timed(what, kind, boot))
                    await deferLater(self._reactor, 0.1)
        for peer in peers:
            await peer.stop()

    async def warm(self, runs: int) -> None:
        """
        Measure clients that know the swarm, before and after a part of it dies.
        """
        writer = await start_peer(self._reactor, "dtt", self._swarm.addresses[:BOOTSTRAP])
        addresses = self._swarm.addresses[: 2 * BOOTSTRAP]
        peers = [await start_peer(self._reactor, kind, addresses) for kind in CLIENTS]
        await deferLater(self._reactor, WARM)
        for _ in range(min(runs, RUNS)):
            await deferLater(self._reactor, PAUSE)
            for peer in peers:
                key, value = await self._put(writer)
                await self._timed("warm get", peer.kind, self._get(peer, key, value))
                await writer.put_immutable(value)
                await self._timed("warm get, immutable", peer.kind, self._get_immutable(peer, value))
        await deferLater(self._reactor, PAUSE)
        items = [await self._put(writer) for _ in peers]
        self._swarm.kill(int(DEAD * len(self._swarm.addresses)))
        for peer, (key, value) in zip(peers, items, strict=True):
            await self._timed("get, 20 % dead", peer.kind, self._get(peer, key, value))
        for peer in peers:
            await self._timed("put, 20 % dead", peer.kind, self._put(peer))
        for peer in (*peers, writer):
            await peer.stop()


def measure_round_trips(times: Times, runs: int) -> None:
    """
    Measure idle round trips. Each server has the machine to itself while it is measured.
    """
    for _ in range(runs):
        for kind in (*CLIENTS, *ECHOES):
            server = Server(kind)
            time.sleep(0.2)
            times.add("idle round trip", kind, round_trips(server))
            server.stop()


async def _measure(reactor: Any, sizes: Sequence[int], runs: int) -> None:
    for size in sizes:
        times = Times()
        swarm = Swarm(size)
        try:
            benchmark = Benchmark(reactor, swarm, times)
            await benchmark.cold(runs)
        finally:
            swarm.stop()
        for _ in range(-(-runs // RUNS)):
            swarm = Swarm(size)
            try:
                await Benchmark(reactor, swarm, times).warm(runs)
            finally:
                swarm.stop()
        if size == sizes[0]:
            measure_round_trips(times, max(3, runs // 2))
        times.report(f"{size} nodes, ms")


def _sizes(words: str) -> list[int]:
    return [int(word) for word in words.split(",")]


def main(arguments: Sequence[str]) -> None:
    """
    Run the command.
    """
    parser = argparse.ArgumentParser(description="Measure the latency of DHT clients.")
    parser.add_argument("--quick", action="store_true", help="three runs on 40 nodes")
    parser.add_argument("--runs", type=int, help="runs (15; quick: 3)")
    parser.add_argument("--round-trips", action="store_true", help="only idle round trips")
    parser.add_argument("--sizes", type=_sizes, help="sizes of the swarms (40,300; quick: 40)", metavar="A,B")
    options = parser.parse_args(arguments)
    runs = options.runs or (3 if options.quick else 15)
    sizes = options.sizes or ([40] if options.quick else [40, 300])
    if options.round_trips:
        times = Times()
        measure_round_trips(times, runs)
        times.report("ms")
        return
    react(lambda reactor: Deferred.fromCoroutine(_measure(reactor, sizes, runs)), [])


if __name__ == "__main__":
    main(sys.argv[1:])
