"""
How well broadcasts spread, and the CPU time that a machine needs per message.

C{python -m benchmarks.gossip_sim [--quick] [--seeds N]}. The first table is that of
iroh-gossip's own simulations (L{dtt.testing.simulation.broadcasts}): networks of 20, 100
and 1000 machines with links of 10 to 50 ms, and of 100 machines with links of 10 to 100
ms. It shows the mean over rounds and seeds, and in brackets the mean of the worst seed.
Goals: 0 missed; of the means, single sender LDH < 15, RMR < 0.2; all senders LDH < 18,
RMR < 1; burst LDH < 30, RMR < 3. C{--quick} omits the 1000 machines.

The second table shows the microseconds from an encoded message to the machine's outputs
and its next timer, on the nodes with five neighbours in a swarm of 100, while contents of
100 bytes are broadcast, nodes crash and others join. Goal: a 95th percentile of at most
30.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Any, cast

from dtt.gossip.proto.events import JoinPeers, Output
from dtt.gossip.proto.messages import Message, decode, encode
from dtt.gossip.proto.swarm import Swarm
from dtt.testing.simulation.broadcasts import (
    LATENCY,
    LONG_LATENCY,
    SCENARIOS,
    RoundStats,
    Simulator,
    all_senders,
    burst,
)

#: iroh-gossip's C{simulations/all.toml}.
SEEDS = (0, 1, 212312388123, 123)

GOAL = 30.0

#: Rounds of a burst with 1000 nodes: each is a million deliveries.
_BIG_BURST = 1


def spread(quick: bool, seeds: Sequence[int]) -> bool:
    """
    Print the first table. Returns whether all goals are met.
    """
    print(f"{'nodes':>5} {'links, ms':>10}  {'scenario':14} {'missed':>7} {'LDH':>14} {'RMR':>12} {'ms':>5}")
    networks = [(20, LATENCY), (100, LATENCY), (100, LONG_LATENCY)]
    networks += [] if quick else [(1000, LATENCY)]
    met = True
    for peers, latency in networks:
        for name, scenario in SCENARIOS.items():
            rounds = _BIG_BURST if peers == 1000 and name == "burst" else scenario.rounds
            means = [
                RoundStats.mean(scenario.run(Simulator(peers, seed, latency), rounds))
                for seed in (seeds[:1] if rounds == _BIG_BURST else seeds)
            ]
            mean = RoundStats.mean(means)
            met = met and scenario.is_met_by(mean)
            links = f"{latency[0] * 1e3:.0f}-{latency[1] * 1e3:.0f}"
            ldh, rmr = max(each.ldh for each in means), max(each.rmr for each in means)
            print(
                f"{peers:5} {links:>10}  {name:14} {mean.missed:7.2f} {mean.ldh:6.2f} ({ldh:5.2f}) "
                f"{mean.rmr:5.2f} ({rmr:.2f}) {mean.seconds * 1e3:5.0f}"
                + ("" if scenario.is_met_by(mean) else "   goal missed"),
                flush=True,
            )
    return met


class TimedSwarm:
    """
    A machine that measures its handling of messages while it has five neighbours.

    @ivar took: microseconds, by kind of message.
    """

    def __init__(self, swarm: Swarm, took: dict[str, list[float]]) -> None:
        self._swarm = swarm
        self.took = took

    def receive(self, peer: bytes, message: Message, now: float) -> list[Output]:
        """
        Handle a message and record the time it took.
        """
        if len(self._swarm.neighbors()) != 5:
            return self._swarm.receive(peer, message, now)
        kind = type(message).__name__
        data = encode(message)
        started = time.perf_counter_ns()
        out = self._swarm.receive(peer, decode(data), now)
        self._swarm.next_timer()
        self.took.setdefault(kind, []).append((time.perf_counter_ns() - started) / 1e3)
        return out

    def __getattr__(self, name: str) -> Any:
        return getattr(self._swarm, name)


def percentile(values: Sequence[float], share: float) -> float:
    """
    The value that C{share} of C{values} do not exceed.
    """
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def _print_row(kind: str, times: Sequence[float]) -> None:
    parts = "".join(f"{percentile(times, share):7.1f}" for share in (0.5, 0.95))
    print(f"{kind:14} {len(times):8}{parts}")


def handling(rounds: int, size: int) -> float:
    """
    Print the second table, for contents of C{size} bytes.

    @return: the 95th percentile over all messages.
    """
    simulator = Simulator(100, 0, size=size)
    network = simulator.network
    took: dict[str, list[float]] = {}

    def measure() -> None:
        for node in network.nodes.values():
            if isinstance(node.swarm, Swarm):
                node.swarm = cast(Swarm, TimedSwarm(node.swarm, took))

    measure()
    all_senders(simulator, rounds)
    burst(simulator, 1)
    for number in range(30):
        simulator.crash(1)
        newcomer = (1000 + number).to_bytes(4, "big") * 8
        network.add(newcomer)
        measure()
        network.command(newcomer, JoinPeers((simulator.random_peer(),)))
        network.advance(10.0)
        all_senders(simulator, 2)
    print(f"\ncontents of {size} bytes, microseconds\n{'message':14} {'count':>8}    p50    p95")
    for kind, times in sorted(took.items(), key=lambda item: -len(item[1])):
        _print_row(kind, times)
    values = [each for times in took.values() for each in times]
    _print_row("all", values)
    return percentile(values, 0.95)


def main(arguments: Sequence[str]) -> int:
    """
    Print both tables. Returns 1 if a goal is missed.
    """
    parser = argparse.ArgumentParser(prog="gossip_sim")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), choices=range(1, len(SEEDS) + 1))
    options = parser.parse_args(arguments)
    met = spread(options.quick, SEEDS[: options.seeds])
    slowest = max(handling(30 if options.quick else 300, size) for size in (100, 4000))
    print(f"goal <= {GOAL:.0f}")
    return int(not met or slowest > GOAL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
