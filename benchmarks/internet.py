"""
How long it takes two members to find each other over a simulated Internet: a DHT of
realistic size and latency, real UDP and TCP, and whole processes.

C{python -m benchmarks.internet [--runs N] [--only NAME,...] [--trace] [--nodes real:64]
...}, in a checkout, on Linux, as root (see L{benchmarks.wan.host}). Each member is a
process on its own host. This program carries all packets, and is also the DHT
(L{dtt.testing.vast}), or runs real nodes behind the same delays.

  - Pair: both start together, on a fresh topic.
  - Newcomer: one has waited for 20 to 50 s when the other one starts.
  - Warm: the same two again, on another topic, with the state that they kept.

Times are counted from the first datagram that the later member sends to the DHT (the
start of its interpreter is not included) until both have joined. The output says what
"joined" means for each contestant.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

from attrs import define, field, frozen
from twisted.internet.defer import Deferred, DeferredLock, DeferredSemaphore, TimeoutError, gatherResults
from twisted.internet.task import deferLater, react

from benchmarks.members import EventProcess, environment
from benchmarks.wan.carrier import be_punctual
from benchmarks.wan.contestants import CONTESTANTS, USUAL, Contestant, UnavailableError
from benchmarks.wan.host import missing
from benchmarks.wan.networks import Member, Network, Weather
from benchmarks.wan.trace import Trace
from dtt.testing.vast import VastDHT

#: The root of the checkout.
ROOT = Path(__file__).parents[1]

#: The number of nodes in hyperswarm's DHT.
HYPERSWARM_NODES = 64

#: The limit for meeting, and the time that a member runs on before it stops, in seconds: dtt writes the
#: nodes that it knows when it stops.
LIMIT, LINGERS = 60.0, 3.0

#: The number of newcomer runs that wait at the same time; only one starts at a time (guess: two cores).
TOGETHER = 4

#: The most seconds that a waiting member needs to start.
BEGINS_WITHIN = 10.0

PAIR, NEWCOMER = "pair", "newcomer"

#: The width of a cell of the table.
WIDTH = 32


@define
class Times:
    """
    The measurements, one value for each run.

    @ivar joined: seconds until both had joined.
    @ivar datagrams: the number of datagrams that a member sent to the DHT until it had
        joined: for both members of a pair, and for a newcomer.
    @ivar failed: the number of runs in which the members did not meet.
    """

    joined: list[float] = field(factory=list)
    datagrams: list[int] = field(factory=list)
    failed: int = 0

    def words(self) -> str:
        """
        Format a cell of the table.
        """
        runs = len(self.joined) + self.failed
        if not runs:
            return f"{'':{WIDTH}}"
        times, sent = "never", ""
        if self.joined:
            middle, late = 1000 * statistics.median(self.joined), 1000 * percentile(self.joined, 0.95)
            times, sent = f"{middle:.0f} / {late:.0f}", f"{statistics.median(self.datagrams):.0f}"
        return f"{times:>14} {f'{len(self.joined)}/{runs}':>7} {sent:>9}"


def percentile(values: Sequence[float], share: float) -> float:
    """
    The value that C{share} of C{values} do not exceed.
    """
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


@frozen(slots=True)
class Settings:
    """
    The parameters of the measurements.

    @ivar runs: the number of runs of each kind.
    @ivar kinds: L{PAIR}, L{NEWCOMER} or both.
    @ivar waits: seconds until a newcomer starts, minimum and maximum.
    @ivar trace: print the steps of the first run of each kind.
    """

    runs: int
    kinds: tuple[str, ...]
    waits: tuple[float, float]
    trace: bool
    weather: Weather


class Bench:
    """
    One contestant in one network.

    @ivar times: the measurements, by kind and by whether the members were warm.
    """

    def __init__(
        self, reactor: Any, network: Network, contestant: Contestant, settings: Settings, folder: Path
    ) -> None:
        self.times = {(kind, warm): Times() for kind in (PAIR, NEWCOMER) for warm in (False, True)}
        self._reactor = reactor
        self._network = network
        self._contestant = contestant
        self._settings = settings
        self._folder = folder
        # Hosts have another working directory.
        self._environ = {**environment(str(folder / "compiled")), "PYTHONPATH": str(ROOT)}
        self._secret = folder / "secret"
        self._numbers = count()
        self._rng = Random(settings.weather.seed)
        self._alone = DeferredLock()
        self._traced: set[tuple[str, bool]] = set()

    async def run(self) -> None:
        """
        Do all runs.
        """
        if PAIR in self._settings.kinds:
            for _ in range(self._settings.runs):
                await self._meet_twice(PAIR)
        if NEWCOMER in self._settings.kinds:
            turns = DeferredSemaphore(TOGETHER)
            await gatherResults(
                [
                    turns.run(lambda: Deferred.fromCoroutine(self._meet_twice(NEWCOMER)))
                    for _ in range(self._settings.runs)
                ],
                consumeErrors=True,
            )

    async def _meet_twice(self, kind: str) -> None:
        """
        Let two new members meet; then again, if warm starts are measured.
        """
        members: list[Member] = []
        try:
            for _ in range(2):
                folder = self._folder / f"{self._contestant.name}-{next(self._numbers)}"
                members.append(Member(self._reactor, self._network, self._contestant, folder, self._secret))
            for warm in (False, True) if self._contestant.warm else (False,):
                await (self._pair if kind == PAIR else self._newcomer)(members, warm)
                await deferLater(self._reactor, LINGERS)
                await gatherResults([Deferred.fromCoroutine(member.stop()) for member in members])
        finally:
            for member in members:
                await member.close()

    async def _pair(self, members: Sequence[Member], warm: bool) -> None:
        with self._watched(members) as trace:
            topic, began = os.urandom(32).hex(), self._reactor.seconds()
            processes = [member.start(topic, self._environ) for member in members]
            await self._joined(processes)
        self._count(PAIR, warm, trace, began, processes)

    async def _newcomer(self, members: Sequence[Member], warm: bool) -> None:
        with self._watched(members) as trace:
            topic = os.urandom(32).hex()
            first = members[0].start(topic, self._environ)
            await deferLater(self._reactor, self._rng.uniform(*self._settings.waits))
            async with self._alone:
                began = self._reactor.seconds()
                processes = [first, members[1].start(topic, self._environ)]
                await self._joined(processes)
                self._count(NEWCOMER, warm, trace, began, processes)

    @contextmanager
    def _watched(self, members: Sequence[Member]) -> Iterator[Trace]:
        trace = Trace([member.address for member in members])
        watchers = self._network.internet.watchers
        watchers.append(trace.watch)
        try:
            yield trace
        finally:
            watchers.remove(trace.watch)

    async def _joined(self, processes: Sequence[EventProcess]) -> None:
        joined = gatherResults([process.joined for process in processes], consumeErrors=True)
        with suppress(TimeoutError):
            await joined.addTimeout(LIMIT, self._reactor)

    def _count(
        self, kind: str, warm: bool, trace: Trace, began: float, processes: Sequence[EventProcess]
    ) -> None:
        """
        Record the end of a run.
        """
        times = self.times[kind, warm]
        joined = [process.first.get("topic.joined") for process in processes]
        starts = [trace.started(member, began) for member in range(2)]
        counted = starts if kind == PAIR else starts[1:]
        begins = [start for start in counted if start is not None]
        if self._settings.trace and (kind, warm) not in self._traced:
            self._traced.add((kind, warm))
            self._tell(kind, warm, trace, max(begins, default=began), began, joined)
        if None in joined or len(begins) < len(counted):
            times.failed += 1
            return
        end = max(time for time in joined if time is not None)
        times.joined.append(end - max(begins))
        for member in range(2) if kind == PAIR else (1,):
            times.datagrams.append(trace.datagrams(member, began, joined[member] or end))

    def _tell(
        self,
        kind: str,
        warm: bool,
        trace: Trace,
        zero: float,
        since: float,
        joined: Sequence[float | None],
    ) -> None:
        round_trip = self._settings.weather.round_trip
        state = "warm" if warm else "cold"
        print(
            f"\n{self._contestant.name}, {state}, {kind}: ms, round trips of {1000 * round_trip:.0f} ms, "
            "datagrams to the DHT until then"
        )
        names = ("first", "second") if kind == PAIR else ("waiting", "newcomer")
        for step in trace.steps(since, joined):
            took = step.time - zero
            print(
                f"  {1000 * took:8.0f} {took / round_trip if round_trip else 0:6.1f} {step.datagrams:5}"
                f"  {names[step.member]:8}  {step.words}"
            )
        sys.stdout.flush()


async def open_network(
    reactor: Any, contestant: Contestant, weather: Weather, bits: int, real: int, networks: list[Network]
) -> Network:
    """
    Create the network for a contestant.

    @param real: the number of libtorrent nodes; 0: the model.
    @param networks: the list that gets the network as soon as it needs to be stopped.
    """
    if contestant.mainline and not real:
        dht = VastDHT(bits, seed=weather.seed, silent=weather.silent)
        network = Network(reactor, weather, f"a model of 2^{bits} nodes", dht)
        networks.append(network)
        return network
    kind, number = ("libtorrent", real) if contestant.mainline else ("hyperswarm", HYPERSWARM_NODES)
    network = Network(reactor, weather, f"{number} real nodes of {kind}")
    networks.append(network)
    await network.add_nodes(kind, number)
    return network


def table(results: Sequence[tuple[Contestant, dict[tuple[str, bool], Times]]]) -> None:
    """
    Print the measurements.
    """
    columns = f"{'p50 / p95, ms':>14} {'met':>7} {'datagrams':>9}"
    print(f"{'':20}  {PAIR:^{WIDTH}}  {NEWCOMER:^{WIDTH}}")
    print(f"{'':20}  {columns:{WIDTH}}  {columns}")
    for contestant, times in results:
        for warm in (False, True) if contestant.warm else (False,):
            cells = "  ".join(times[kind, warm].words() for kind in (PAIR, NEWCOMER))
            print(f"{'' if warm else contestant.name:15} {'warm' if warm else 'cold'}  {cells}")
    sys.stdout.flush()


async def measure(
    reactor: Any, chosen: Sequence[Contestant], settings: Settings, bits: int, real: int
) -> None:
    """
    Measure all available contestants, one after the other.
    """
    networks: list[Network] = []

    def stop() -> None:
        while networks:
            networks.pop().stop()

    reactor.addSystemEventTrigger("before", "shutdown", stop)
    results: list[tuple[Contestant, dict[tuple[str, bool], Times]]] = []
    with tempfile.TemporaryDirectory(prefix="dtt-internet-") as name:
        folder = Path(name)
        secret = folder / "secret"
        secret.touch(mode=0o600)
        secret.write_text(os.urandom(16).hex())
        for contestant in chosen:
            try:
                contestant.check()
            except UnavailableError as error:
                print(f"{contestant.name}: skipped: {error}", flush=True)
                continue
            network = await open_network(reactor, contestant, settings.weather, bits, real, networks)
            bench = Bench(reactor, network, contestant, settings, folder)
            # Exclude long-lived objects from garbage collection, which would delay packets.
            gc.collect()
            gc.freeze()
            began = reactor.seconds()
            await bench.run()
            counters, worst = network.internet.counters, 1000 * network.internet.worst
            packets = sum(counters[key] for key in ("carried", "lost", "nowhere"))
            print(
                f"\n{contestant.name}: {contestant.joined}; {network.words}\n"
                f"  {packets} packets in {reactor.seconds() - began:.0f} s; {counters['late']} late, "
                f"by {worst:.0f} ms at most; {dict(counters)}"
            )
            results.append((contestant, bench.times))
            table(results[-1:])
            stop()
    if len(results) > 1:
        print()
        table(results)


def span(text: str) -> tuple[float, float]:
    """
    Parse C{LOW-HIGH}, or one number for both.
    """
    low, _, high = text.partition("-")
    return float(low), float(high or low)


def real_nodes(text: str) -> int:
    """
    Parse C{real:N}.
    """
    kind, _, number = text.partition(":")
    if kind != "real":
        raise ValueError("must be real:N")
    return int(number)


def main(arguments: Sequence[str]) -> None:
    """
    Run the command.
    """
    parser = argparse.ArgumentParser(
        prog="internet", description="Measure cold starts of members over a simulated Internet."
    )
    names = [contestant.name for contestant in CONTESTANTS]
    parser.add_argument("--runs", type=int, default=10, help="runs of each kind; %(default)s")
    parser.add_argument("--quick", action="store_true", help="two runs, newcomers after 5 s")
    parser.add_argument(
        "--only",
        default=",".join(USUAL),
        metavar="NAME,...",
        help=f"contestants: {', '.join(names)}; %(default)s",
    )
    parser.add_argument("--kind", choices=(PAIR, NEWCOMER), action="append", help="default: both")
    parser.add_argument(
        "--wait",
        type=span,
        default=(20.0, 50.0),
        metavar="S-S",
        help="seconds that a newcomer's peer has waited; 20-50",
    )
    parser.add_argument(
        "--silent", type=float, default=0.35, help="share of the DHT nodes that never answer; %(default)s"
    )
    parser.add_argument("--loss", type=float, default=0.015, help="share of UDP datagrams lost; %(default)s")
    parser.add_argument("--tcp-loss", type=float, default=0.0, help="share of TCP segments lost; %(default)s")
    parser.add_argument(
        "--delay", type=span, default=(0.02, 0.15), metavar="S-S", help="one-way latency, s; 0.02-0.15"
    )
    parser.add_argument("--bits", type=int, default=22, help="the model has 2^BITS nodes; %(default)s")
    parser.add_argument(
        "--nodes", type=real_nodes, default=0, metavar="real:N", help="N real nodes instead of the model"
    )
    parser.add_argument("--seed", type=int, default=1, help="seed of all random choices; %(default)s")
    parser.add_argument("--trace", action="store_true", help="print the steps of the first run of each kind")
    options = parser.parse_args(arguments)
    unknown = set(options.only.split(",")) - set(names)
    if unknown:
        parser.error(f"unknown contestant: {', '.join(unknown)}")
    reason = missing()
    if reason:
        parser.error(reason)
    weather = Weather(
        options.silent, options.loss, options.tcp_loss, options.delay[0], options.delay[1], options.seed
    )
    settings = Settings(
        2 if options.quick else options.runs,
        tuple(options.kind or (PAIR, NEWCOMER)),
        (5.0, 5.0) if options.quick else options.wait,
        options.trace,
        weather,
    )
    chosen = [each for each in CONTESTANTS if each.name in options.only.split(",")]

    def begin(reactor: Any) -> Deferred[None]:
        return Deferred.fromCoroutine(measure(reactor, chosen, settings, options.bits, options.nodes))

    be_punctual()
    react(begin)


if __name__ == "__main__":
    main(sys.argv[1:])
