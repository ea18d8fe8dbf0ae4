"""
How long it takes two members to find each other.

C{python -m benchmarks.coldstart [--quick] [--runs N] [--only TEXT]}, in a checkout, with
libtorrent installed. Each run has its own DHT on loopback. Two members start together; a
third one starts a second after they have joined. Members are processes (C{dtt chat
--json}), and the figures come from their own events. Times are counted from
C{node.started}; for a pair, from that of the later member until both have joined.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from attrs import Factory, define, frozen
from twisted.internet.defer import Deferred, TimeoutError, gatherResults
from twisted.internet.task import deferLater, react

from benchmarks.members import MemberProcess, environment
from dtt.dht.node import DHTNode
from tests.interop.libtorrent_swarm import LibtorrentSwarm
from tests.interop.support import LOOPBACK, dtt_swarm, stop_all

#: The number of nodes in each kind of DHT, and how many of them die in some scenes (20 %).
LIBTORRENT_NODES, LIBTORRENT_DEAD = 30, 6
DTT_NODES, DTT_DEAD = 16, 3

#: The number of bootstrap nodes given to a member.
BOOTSTRAP = 3

#: Seconds from a joined pair to the newcomer; and the limit for joining.
NEWCOMER_AFTER = 1.0
LIMIT = 15.0

#: Goals in seconds: medians of (pair, newcomer) by kind of DHT, and the 95th
#: percentile of all; both with dead nodes; from the start of the process; and the
#: cost of C{import dtt}.
LIBTORRENT_GOALS = (0.08, 0.02)
DTT_GOALS = (0.03, 0.02)
LATE_GOAL = 0.12
DEAD_GOAL = 0.3
PROCESS_GOAL = 0.8
IMPORT_GOAL = 0.045

#: The steps that events report.
STEPS = ("dht.ready", "record.published", "record.found", "peer.dialled", "topic.joined")

IMPORTS = """
from time import perf_counter as now
from twisted.internet import reactor
a = now()
import dtt
b = now()
dtt.Tracker
print(b - a, now() - a)
"""


class Network(Protocol):
    """
    A DHT.
    """

    @property
    def addresses(self) -> list[tuple[str, int]]: ...

    async def kill(self, count: int) -> None: ...

    async def stop(self) -> None: ...


class _Libtorrent:
    def __init__(self) -> None:
        self._swarm = LibtorrentSwarm(LIBTORRENT_NODES)

    @classmethod
    async def start(cls, reactor: Any) -> Network:
        network = cls()
        await network._swarm.settled(reactor)
        return network

    @property
    def addresses(self) -> list[tuple[str, int]]:
        return self._swarm.addresses

    async def kill(self, count: int) -> None:
        self._swarm.kill(count)

    async def stop(self) -> None:
        self._swarm.stop()


class _DTT:
    def __init__(self, nodes: list[DHTNode]) -> None:
        self._nodes = nodes

    @classmethod
    async def start(cls, reactor: Any) -> Network:
        network = cls(await dtt_swarm(reactor, DTT_NODES))
        await deferLater(reactor, 0.5)
        return network

    @property
    def addresses(self) -> list[tuple[str, int]]:
        return [(LOOPBACK, node.port) for node in self._nodes]

    async def kill(self, count: int) -> None:
        dead = self._nodes[-count:]
        del self._nodes[-count:]
        await stop_all(dead)

    async def stop(self) -> None:
        await stop_all(self._nodes)


@frozen(slots=True)
class Scene:
    """
    One kind of DHT.

    @ivar name: its name in the output.
    @ivar start: starts it.
    @ivar dead: the number of nodes killed after they have met.
    @ivar goals: the medians of a pair and of a newcomer.
    """

    name: str
    start: Any
    dead: int
    goals: tuple[float, float]

    @property
    def late(self) -> float:
        """
        The goal of the 95th percentile.
        """
        return DEAD_GOAL if self.dead else LATE_GOAL


_DEAD_GOALS = (DEAD_GOAL, DEAD_GOAL)


SCENES = (
    Scene(f"{LIBTORRENT_NODES} libtorrent nodes", _Libtorrent.start, 0, LIBTORRENT_GOALS),
    Scene(
        f"{LIBTORRENT_NODES} libtorrent nodes, {LIBTORRENT_DEAD} dead",
        _Libtorrent.start,
        LIBTORRENT_DEAD,
        _DEAD_GOALS,
    ),
    Scene(f"{DTT_NODES} dtt nodes", _DTT.start, 0, DTT_GOALS),
    Scene(f"{DTT_NODES} dtt nodes, {DTT_DEAD} dead", _DTT.start, DTT_DEAD, _DEAD_GOALS),
)


@define
class Times:
    """
    The measurements, one value for each run.

    @ivar steps: for each step, a value for each member that took it.
    @ivar failed: the number of runs in which a member did not join.
    """

    joined: list[float] = Factory(list)
    from_process: list[float] = Factory(list)
    steps: dict[str, list[float]] = Factory(lambda: {step: [] for step in STEPS})
    failed: int = 0

    def add(self, members: Sequence[MemberProcess]) -> None:
        """
        Add the times of members that were started together and have joined.
        """
        joined = max(member.first["topic.joined"] for member in members)
        self.joined.append(joined - max(member.first["node.started"] for member in members))
        self.from_process.append(joined - max(member.spawned for member in members))
        for step, values in self.steps.items():
            values += [since for member in members if (since := member.since_start(step)) is not None]


def percentile(values: Sequence[float], share: float) -> float:
    """
    The value that C{share} of C{values} do not exceed.
    """
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def report(scene: Scene, what: str, times: Times, goal: float) -> bool:
    """
    Print a line and its steps.

    @return: whether the goals were reached.
    """
    if not times.joined:
        print(f"{scene.name:30} {what:9} no member joined")
        return False
    middle, late = statistics.median(times.joined), percentile(times.joined, 0.95)
    process = statistics.median(times.from_process)
    process_late = percentile(times.from_process, 0.95)
    reached = middle <= goal and late <= scene.late and process <= PROCESS_GOAL and not times.failed
    print(
        f"{scene.name:30} {what:9} joined p50 {1000 * middle:5.0f} p95 {1000 * late:5.0f} ms"
        f" (goals {1000 * goal:.0f}, {1000 * scene.late:.0f})"
        f"   from process p50 {1000 * process:5.0f} p95 {1000 * process_late:5.0f} ms"
        f"   {'reached' if reached else 'MISSED'}" + (f"   {times.failed} failed" if times.failed else "")
    )
    steps = (f"{step} {1000 * statistics.median(v):.1f}" for step, v in times.steps.items() if v)
    print(f"{'':41}p50 of a member, ms: " + ", ".join(steps), flush=True)
    return reached


async def _together(
    reactor: Any, members: Sequence[MemberProcess], environ: dict[str, str], times: Times
) -> bool:
    for member in members:
        member.spawn(environ)
    try:
        await gatherResults([member.joined for member in members]).addTimeout(LIMIT, reactor)
    except TimeoutError:
        times.failed += 1
        return False
    times.add(members)
    return True


async def run_once(
    reactor: Any, scene: Scene, secret_file: str, environ: dict[str, str], pair: Times, newcomer: Times
) -> None:
    """
    One DHT, three members.
    """
    network: Network = await scene.start(reactor)
    members: list[MemberProcess] = []
    try:
        if scene.dead:
            await network.kill(scene.dead)
        topic = os.urandom(8).hex()
        bootstrap = network.addresses[:BOOTSTRAP]
        members = [MemberProcess(reactor, topic, secret_file, bootstrap) for _ in range(3)]
        if await _together(reactor, members[:2], environ, pair):
            await deferLater(reactor, NEWCOMER_AFTER)
            await _together(reactor, members[2:], environ, newcomer)
    finally:
        await gatherResults([member.stop() for member in members if hasattr(member, "spawned")])
        await network.stop()


def imports(environ: dict[str, str], runs: int) -> bool:
    """
    The time that C{import dtt} takes in addition to importing Twisted's reactor.
    """
    bare, tracker = [], []
    for _ in range(runs + 1):
        output = subprocess.run(
            [sys.executable, "-c", IMPORTS], env=environ, check=True, capture_output=True, text=True
        ).stdout
        first, second = map(float, output.split())
        bare.append(first)
        tracker.append(second)
    # The first run compiles.
    cost = statistics.median(bare[1:])
    print(
        f"import dtt: {1000 * cost:.1f} ms over Twisted's reactor (goal {1000 * IMPORT_GOAL:.0f}); "
        f"with dtt.Tracker: {1000 * statistics.median(tracker[1:]):.1f} ms"
    )
    return cost <= IMPORT_GOAL


async def measure(reactor: Any, runs: int, only: str) -> None:
    """
    Measure all kinds of DHT, or those with C{only} in their names.

    @raise SystemExit: status 1, if a goal was missed.
    """
    with tempfile.TemporaryDirectory(prefix="dtt-coldstart-") as folder:
        environ = environment(folder)
        secret = Path(folder) / "secret"
        secret.touch(mode=0o600)
        secret.write_text(os.urandom(16).hex())
        reached = [imports(environ, max(runs, 5))]
        for scene in (scene for scene in SCENES if only in scene.name):
            pair, newcomer = Times(), Times()
            for _ in range(runs):
                await run_once(reactor, scene, str(secret), environ, pair, newcomer)
            reached.append(report(scene, "pair", pair, scene.goals[0]))
            reached.append(report(scene, "newcomer", newcomer, scene.goals[1]))
    if not all(reached):
        raise SystemExit(1)


def main(arguments: Sequence[str]) -> None:
    """
    Run the command.
    """
    parser = argparse.ArgumentParser(description="Measure cold starts of members.")
    parser.add_argument("--runs", type=int, default=20, help="runs on each kind of DHT")
    parser.add_argument("--quick", action="store_true", help="two runs, under a minute")
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="only the kinds of DHT with TEXT in their name"
    )
    options = parser.parse_args(arguments)
    runs = 2 if options.quick else options.runs

    def begin(reactor: Any) -> Deferred[None]:
        return Deferred.fromCoroutine(measure(reactor, runs, options.only))

    react(begin)


if __name__ == "__main__":
    main(sys.argv[1:])
