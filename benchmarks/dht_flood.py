"""
A DHT node under attack.

C{python -m benchmarks.dht_flood [--quick] [--lookups]}, in a checkout, on Linux.

  - Memory: the RSS that a node gains from a million valid puts and announces by 100 000
    sources (goal: at most 100 MB).
  - A node with 40 neighbours, alone and then while a process sends it 5000 junk datagrams
    per second from 200 addresses, too few from each to be ignored: the duration of its
    own lookups (goal: at most twice their quiet time), and the delay of its timers (goal:
    p99 at most 5 ms, ambition 3 ms).
  - One source that sends 500 queries per second: when it is cut off (goal: within 10 s),
    while all queries of 1000 other addresses are answered.
"""

from __future__ import annotations

import argparse
import resource
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from random import Random
from typing import Any

from nacl.bindings import crypto_sign_seed_keypair
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.task import Clock, LoopingCall, deferLater, react

from dtt.dht.node import DHTNode
from dtt.dht.server.responder import Responder
from dtt.krpc.flood import FloodLimiter
from dtt.krpc.items import mutable_target, sign_item
from dtt.krpc.messages import Query

LOOPBACK = "127.0.0.1"

#: Seconds between two readings of a timer.
TICK = 0.01

#: Seconds between two lookups. Each queries a third of the 40 nodes; with more than a query per second
#: to one node, dtt's own limit (docs/protocol/dht.md section 2) would delay it.
PAUSE = 0.5


def resident() -> int:
    """
    The RSS of this process, in bytes.
    """
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def memory(count: int) -> float:
    """
    The memory in MB that a responder gains from C{count} valid puts and announces, a
    tenth of them puts, by 100 000 sources.
    """
    rng, clock = Random(1), Clock()
    clock.advance(1_800_000_000)
    responder = Responder(clock, rng.randbytes(20), lambda target: b"", rng=rng)
    tokens = responder._tokens
    hosts = [f"{rng.randrange(1, 224)}.{rng.randrange(256)}.{rng.randrange(256)}.1" for _ in range(100_000)]
    before = resident()
    for number in range(count):
        host = hosts[number % len(hosts)]
        packed, now = socket.inet_aton(host), clock.seconds()
        if number % 10:
            info_hash = rng.randbytes(20)
            arguments: dict[bytes, Any] = {b"info_hash": info_hash, b"port": 6881}
            arguments[b"token"] = tokens.token(packed, info_hash, now)
            method = b"announce_peer"
        else:
            seed = rng.randbytes(32)
            item = sign_item(seed, b"", 1, rng.randbytes(600))
            target = mutable_target(crypto_sign_seed_keypair(seed)[0], b"")
            arguments = {**item.arguments(), b"token": tokens.token(packed, target, now)}
            method = b"put"
        responder.answer(Query(b"tttt", method, rng.randbytes(20), arguments, False, b""), host, 6881)
        clock.advance(0.001)
    stored = responder.counters["stored"] + responder.counters["announced"]
    assert stored == count, f"only {stored} of {count} were accepted: {responder.counters}"
    return (resident() - before) / 1e6


def flood(host: str, port: int, rate: int, seconds: float, sources: int) -> None:
    """
    Send junk datagrams. Runs in its own process.
    """
    rng = Random(2)
    sockets = []
    for number in range(sources):
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sender.bind((f"127.1.{number // 250}.{number % 250 + 1}", 0))
        sockets.append(sender)
    junk = [rng.randbytes(rng.randrange(1, 1400)) for _ in range(50)]
    junk += [b"d1:ad2:id20:" + rng.randbytes(20) + b"e1:q4:ping1:t4:" + rng.randbytes(4) + b"1:y1:qe"] * 50
    junk += [b"d1:a" + b"l" * 700 + b"e" * 700, b"l" + b"i1e" * 450 + b"e"] * 10
    began, sent = time.monotonic(), 0
    while (passed := time.monotonic() - began) < seconds:
        while sent < passed * rate:
            sockets[sent % sources].sendto(junk[sent % len(junk)], (host, port))
            sent += 1
        time.sleep(0.001)


def start_flood(port: int, rate: int, seconds: float, sources: int) -> subprocess.Popen[bytes]:
    """
    Run L{flood} in another process.
    """
    call = (
        f"from benchmarks.dht_flood import flood; flood({LOOPBACK!r}, {port}, {rate}, {seconds}, {sources})"
    )
    return subprocess.Popen([sys.executable, "-c", call])


class Lag:
    """
    Measures the delay of timers.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._expected = reactor.seconds() + TICK
        self.late: list[float] = []
        self._loop = LoopingCall(self._tick)
        self._loop.start(TICK, now=False)

    def _tick(self) -> None:
        now = self._reactor.seconds()
        self.late.append(now - self._expected)
        self._expected = now + TICK

    def stop(self) -> float:
        """
        Stop, and return the 99th percentile in ms.
        """
        self._loop.stop()
        return statistics.quantiles(self.late, n=100)[98] * 1000


async def lookups(reactor: Any, node: DHTNode, seconds: float) -> float:
    """
    The median duration of a lookup, in ms.
    """
    times: list[float] = []
    rng, end = Random(3), reactor.seconds() + seconds
    while reactor.seconds() < end:
        began = reactor.seconds()
        await node.get_peers(rng.randbytes(20))
        times.append(reactor.seconds() - began)
        await deferLater(reactor, PAUSE)
    return statistics.median(times) * 1000


async def under_flood(reactor: Any, seconds: float) -> None:
    """
    Measure lookups and timers, quiet and flooded.
    """
    nodes = [DHTNode(reactor, interface=LOOPBACK, closed=True)]
    nodes[0].startService()
    for _ in range(39):
        nodes.append(DHTNode(reactor, interface=LOOPBACK, closed=True, bootstrap=[(LOOPBACK, nodes[0].port)]))
        nodes[-1].startService()
    victim = DHTNode(reactor, interface=LOOPBACK, bootstrap=[(LOOPBACK, nodes[0].port)])
    victim.startService()
    await gatherResults([node.when_ready() for node in [*nodes[1:], victim]])
    await deferLater(reactor, 1)
    lag = Lag(reactor)
    quiet = await lookups(reactor, victim, seconds)
    quiet_lag = lag.stop()
    process = start_flood(victim.port, 5000, seconds + 2, 200)
    await deferLater(reactor, 1)
    lag = Lag(reactor)
    flooded = await lookups(reactor, victim, seconds)
    flooded_lag = lag.stop()
    process.wait()
    counters = victim.krpc.counters if victim.krpc is not None else {}
    dropped = sum(count for reason, count in counters.items() if reason.startswith("dropped_"))
    print(
        f"lookup: quiet {quiet:.1f} ms, flooded {flooded:.1f} ms, ratio {flooded / quiet:.2f} (goal 2)\n"
        f"timer lag p99: quiet {quiet_lag:.1f} ms, flooded {flooded_lag:.1f} ms (goal 5, ambition 3); "
        f"{dropped} datagrams dropped"
    )
    await gatherResults([maybeDeferred(node.stopService) for node in [*nodes, victim]])


def one_source() -> None:
    """
    Measure how a flooding source among 1000 honest ones is cut off, in the node's own
    time.
    """
    limiter, rng = FloodLimiter(), Random(4)
    cut_off, refused = None, 0
    for step in range(500 * 30):
        now = step / 500
        if not limiter.admits("flood", now) and cut_off is None:
            cut_off = now
        refused += not limiter.admits(f"honest {rng.randrange(1000)}", now)
    print(
        f"500 datagrams/s from one source: cut off after {cut_off} s (goal 10); {refused} of others refused"
    )


def main(arguments: Sequence[str]) -> None:
    """
    Run the command.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dht_flood")
    parser.add_argument("--lookups", action="store_true", help="only lookups and timers")
    parser.add_argument("--quick", action="store_true", help="100 000 puts and announces, 5 s of flood")
    options = parser.parse_args(arguments)
    count = 100_000 if options.quick else 1_000_000
    if not options.lookups:
        print(f"{count} valid puts and announces: RSS +{memory(count):.1f} MB (goal 100)", flush=True)
        one_source()
    seconds = 5.0 if options.quick else 20.0
    react(lambda reactor: Deferred.fromCoroutine(under_flood(reactor, seconds)))


if __name__ == "__main__":
    main(sys.argv[1:])
