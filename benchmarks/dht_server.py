"""
Queries per second that a DHT node answers, dtt compared with other implementations.

C{python -m benchmarks.dht_server [--quick] [--servers a,b] [--kinds a,b] [--rounds N]},
in a checkout, on Linux. dtt, libtorrent, bittorrent-dht (npm) and the Rust crate mainline
run side by side on the first core. One at a time is under load from C{load.c} on the
second core. All are offered the same neighbours, which answer queries, and each keeps as
many as fit in its buckets (L{FakeNodes}); this number is printed.

A round measures each kind of query with each server, one directly after the other, in a
changing order. A measurement during which other processes used the cores is repeated, and
discarded in the end: a server or the load generator had to wait for its core, or the
machine was busy. Ratios are taken within one round; the output shows their median and the
spread from the 10th to the 90th percentile, next to the goals.

  - C{ping}, C{find_node}, C{get_peers}: random targets, nothing stored;
  - C{get}: one of 200 stored mutable items with a 604-byte value;
  - C{put}: items that are new to the server, which has to verify them;
  - C{stored}: puts of those 200 items as they are stored. (bittorrent-dht refuses them
    with 302; this counts as its answer.)
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from attrs import Factory, define, frozen

from benchmarks.dht_support import SERVERS, Asker, FakeNodes, Items, Server, UnavailableError, put_arguments
from dtt.krpc.items import MutableItem
from dtt.krpc.messages import encode_query

#: The numbers of stored items and of targets.
STORED = 200
TARGETS = 2048

#: Items in one round of C{put}: a third of a second for the fastest server.
NEW = 3000

#: The number of concurrent queries.
WINDOW = 64

#: The share of a round for which the server or the load generator may have waited for its core, and the
#: share of both cores that other processes may have used.
MAX_WAITED = 0.03
MAX_FOREIGN = 0.08

#: The maximum number of attempts for a measurement.
ATTEMPTS = 4

#: Goals, (must, ambition), as ratios of dtt's throughput.
GOALS = {
    "libtorrent": {
        "ping": (0.7, 0.9),
        "find_node": (0.85, 1.1),
        "get_peers": (0.85, 1.1),
        "get": (1.0, 1.3),
        "put": (1.3, 1.5),
        "stored": (5.0, 9.0),
    },
    "bittorrent-dht": dict.fromkeys(("ping", "find_node", "get_peers", "get", "put", "stored"), (1.5, 2.0)),
    "mainline": dict.fromkeys(("find_node", "get_peers", "get"), (4.0, 6.0)),
}
KINDS = tuple(GOALS["libtorrent"])

#: The minimum number of bytes in a valid reply: nodes, or a value.
_MIN_BYTES = {"ping": 40, "find_node": 240, "get_peers": 240, "get": 700, "put": 40, "stored": 40}

_LOAD_SOURCE = Path(__file__).with_name("load.c")


def build_load() -> Path:
    """
    Compile the load generator into the user's cache folder, unless it is there.
    """
    source = _LOAD_SOURCE.read_bytes()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dtt-benchmarks"
    binary = cache / f"load-{hashlib.sha256(source).hexdigest()[:16]}"
    if not binary.exists():
        cache.mkdir(parents=True, exist_ok=True)
        made = binary.with_suffix(f".{os.getpid()}")
        subprocess.run(["cc", "-O2", "-o", str(made), str(_LOAD_SOURCE)], check=True)
        made.replace(binary)
    return binary


def machine_busy() -> float:
    """
    The seconds for which all cores were busy, or were taken from this machine (steal
    time).
    """
    user, nice, system, _, _, irq, softirq, stolen, *_ = (
        int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    )
    return (user + nice + system + irq + softirq + stolen) / os.sysconf("SC_CLK_TCK")


@frozen(slots=True)
class Load:
    """
    Runs the load generator.

    @ivar binary: the path that L{build_load} returns.
    @ivar folder: the folder for files of packets.
    @ivar core: the core that it runs on.
    """

    binary: Path
    folder: Path
    core: int

    def write(self, name: str, queries: Sequence[tuple[bytes, dict[bytes, Any]]], node_id: bytes) -> Path:
        """
        Write a file of packets.
        """
        mark = b"1:t4:"
        data = []
        for method, arguments in queries:
            packet = encode_query(b"txid", method, node_id, arguments, False)
            data.append(len(packet).to_bytes(2, "little"))
            data.append((packet.rindex(mark + b"txid") + len(mark)).to_bytes(2, "little"))
            data.append(packet)
        path = self.folder / name
        path.write_bytes(b"".join(data))
        return path

    def run(self, server: Server, kind: str, packets: Path, seconds: float) -> tuple[float, str]:
        """
        Run the load generator against a server.

        @param seconds: the duration; 0: send each packet once.
        @return: replies per second, and what disturbed the measurement.
        """
        accept = "*" if server.name == "bittorrent-dht" and kind == "stored" else "r"
        minimum = 620 if server.name == "bittorrent-dht" and kind == "get" else _MIN_BYTES[kind]
        busy, ours, began = machine_busy(), time.process_time(), time.monotonic()
        before = server.cpu()
        command = (self.binary, server.port, self.core, WINDOW, seconds, accept, minimum, packets)
        process = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE)
        output, _ = process.communicate()
        if process.returncode:
            raise SystemExit(f"the load generator failed on {server.name}, {kind}")
        result = json.loads(output)
        took = time.monotonic() - began
        threads = [
            (ran - before.get(thread, (0.0, 0.0))[0], waited - before.get(thread, (0.0, 0.0))[1])
            for thread, (ran, waited) in server.cpu().items()
        ]
        if result["refused"] or not result["answered"]:
            raise SystemExit(f"{server.name} does not answer {kind} as expected: {result}")
        # The load generator spins: it uses its core from start to end.
        ran = sum(ran for ran, _ in threads)
        foreign = (machine_busy() - busy - ran - result["seconds"] - time.process_time() + ours) / took / 2
        # The thread that does the work may wait for other threads of the same server.
        busiest, waited = max(threads)
        waiting = (max(0.0, waited - (ran - busiest)) + result["waited"] * 1e-9) / took
        disturbed = ""
        if waiting > MAX_WAITED:
            disturbed = "waited"
        elif foreign > MAX_FOREIGN:
            disturbed = "foreign load"
        elif result["lost"]:
            disturbed = "lost datagrams"
        return result["answered"] / result["seconds"], disturbed


@define
class Target:
    """
    A server and its measurements.

    @ivar rates: requests per second, by kind of query and round.
    """

    server: Server
    asker: Asker
    rates: dict[str, dict[int, float]] = Factory(lambda: {kind: {} for kind in KINDS})

    def store(self, items: Sequence[MutableItem]) -> list[bytes]:
        """
        Store items, and return tokens for them.
        """
        tokens = self.asker.tokens(items)
        arguments = [put_arguments(item, token) for item, token in zip(items, tokens, strict=True)]
        for reply in self.asker.ask([(b"put", each) for each in arguments]):
            if reply[b"y"] != b"r":
                raise SystemExit(f"{self.server.name} refuses to store: {reply}")
        return tokens


class Benchmark:
    """
    All rounds of measurements.
    """

    def __init__(self, targets: Sequence[Target], load: Load, seconds: float, new: int) -> None:
        """
        @param seconds: the duration of one measurement.
        @param new: the number of items in one measurement of C{put}.
        """
        self._targets = targets
        self._load = load
        self._seconds = seconds
        self._new = new
        self._rng = random.Random()
        self._id = self._rng.randbytes(20)
        self._items = Items(self._rng.randbytes(32), self._rng)
        self._salts = [self._rng.randbytes(8) for _ in range(STORED)]
        self._seq = 0
        self.measured = 0
        self.repeated: dict[str, int] = {}
        ids = [self._rng.randbytes(20) for _ in range(TARGETS)]
        self._packets = {
            "ping": load.write("ping", [(b"ping", {})], self._id),
            "find_node": load.write(
                "find_node", [(b"find_node", {b"target": each}) for each in ids], self._id
            ),
            "get_peers": load.write(
                "get_peers", [(b"get_peers", {b"info_hash": each}) for each in ids], self._id
            ),
        }

    def _prepare(self, target: Target, kind: str, new: Sequence[MutableItem]) -> Path:
        if kind in self._packets:
            return self._packets[kind]
        if kind == "put":
            items, tokens = new, target.asker.tokens(new)
        else:
            # Newer items may have evicted them since.
            self._seq += 1
            items = [self._items.again(salt, self._seq) for salt in self._salts]
            tokens = target.store(items)
            if kind == "get":
                return self._load.write(
                    kind, [(b"get", {b"target": item.target}) for item in items], self._id
                )
        puts = [(b"put", put_arguments(*pair)) for pair in zip(items, tokens, strict=True)]
        return self._load.write(kind, puts, self._id)

    def round(self, number: int, kind: str) -> None:
        """
        Measure one kind of query with each server.
        """
        turn = number % len(self._targets)
        for target in [*self._targets[turn:], *self._targets[:turn]]:
            for _ in range(ATTEMPTS):
                new = self._items.make(self._new) if kind == "put" else ()
                packets = self._prepare(target, kind, new)
                seconds = 0.0 if kind == "put" else self._seconds
                rate, disturbed = self._load.run(target.server, kind, packets, seconds)
                self.measured += 1
                if not disturbed:
                    target.rates[kind][number] = rate
                    break
                self.repeated[disturbed] = self.repeated.get(disturbed, 0) + 1


def percentile(values: Sequence[float], share: float) -> float:
    """
    The value that C{share} of C{values} do not exceed.
    """
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def report(targets: Sequence[Target], kinds: Sequence[str]) -> None:
    """
    Print requests per second, and the ratios of dtt to all others.
    """
    print(f"\n{'requests/s, median':20}" + "".join(f"{target.server.name:>16}" for target in targets))
    for kind in kinds:
        rates = [list(target.rates[kind].values()) for target in targets]
        print(f"{kind:20}" + "".join(f"{statistics.median(r):16,.0f}" if r else f"{'-':>16}" for r in rates))
    ours = next((target for target in targets if target.server.name == "dtt"), None)
    if ours is None:
        return
    for other in targets:
        if other is ours:
            continue
        head = f"\n{'dtt / ' + other.server.name:20}{'ratio':>7}{'10-90 %':>14}{'rounds':>8}"
        print(head + f"{'must':>7}{'ambition':>10}")
        for kind in kinds:
            mine, theirs = ours.rates[kind], other.rates[kind]
            ratios = [mine[number] / theirs[number] for number in mine if number in theirs]
            if not ratios:
                print(f"{kind:20}{'-':>7}{'':>14}{0:8}")
                continue
            ratio = statistics.median(ratios)
            spread = f"{percentile(ratios, 0.1):.2f}-{percentile(ratios, 0.9):.2f}"
            line = f"{kind:20}{ratio:7.2f}{spread:>14}{len(ratios):8}"
            if kind in GOALS[other.server.name]:
                must, ambition = GOALS[other.server.name][kind]
                word = "ambition" if ratio >= ambition else "must" if ratio >= must else "MISSED"
                line += f"{must:7.2f}{ambition:10.2f}   {word}"
            print(line)


def measure(names: Sequence[str], kinds: Sequence[str], rounds: int, seconds: float, new: int) -> None:
    """
    Start the servers and measure all kinds of queries.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise SystemExit("this benchmark needs two cores; this machine has one")
    # This process and the neighbours share a core with the load generator.
    os.sched_setaffinity(0, {cores[1]})
    rng = random.Random()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dtt-dht-server-")))
        load = Load(build_load(), folder, cores[1])
        fakes = FakeNodes()
        stack.callback(fakes.stop)
        targets = []
        for name in names:
            try:
                server = Server(name, cores[0], fakes.addresses)
            except UnavailableError as error:
                print(f"skipping {name}: {error}")
                continue
            stack.callback(server.stop)
            asker = Asker(server.port, rng.randbytes(20))
            stack.callback(asker.close)
            targets.append(Target(server, asker))
        time.sleep(1.0)
        for _ in range(4):
            for target in targets:
                fakes.greet(target.server.port)
            time.sleep(1.0)
        for target in targets:
            known = fakes.known(target.server.port, target.asker)
            print(f"{target.server.name} knows {known} of {len(fakes.addresses)} neighbours")
        benchmark = Benchmark(targets, load, seconds, new)
        for number in range(rounds):
            for kind in kinds:
                benchmark.round(number, kind)
        report(targets, kinds)
        words = ", ".join(f"{word}: {count}" for word, count in sorted(benchmark.repeated.items())) or "none"
        print(f"\n{benchmark.measured} measurements of {seconds:.2f} s, discarded: {words}")


def _names(choices: Sequence[str]) -> Any:
    def parse(words: str) -> list[str]:
        names = words.split(",")
        unknown = [name for name in names if name not in choices]
        if unknown:
            raise argparse.ArgumentTypeError(f"{unknown[0]} is not one of {', '.join(choices)}")
        return names

    return parse


def main(arguments: Sequence[str]) -> None:
    """
    Run the command.
    """
    parser = argparse.ArgumentParser(description="Measure the queries per second that DHT servers answer.")
    parser.add_argument("--quick", action="store_true", help="three short rounds, under a minute")
    parser.add_argument("--rounds", type=int, help="rounds (15; quick: 3)")
    parser.add_argument("--servers", type=_names(tuple(SERVERS)), default=list(SERVERS), metavar="A,B")
    parser.add_argument("--kinds", type=_names(KINDS), default=list(KINDS), metavar="A,B")
    options = parser.parse_args(arguments)
    rounds = options.rounds or (3 if options.quick else 15)
    seconds, new = (0.2, NEW // 3) if options.quick else (0.4, NEW)
    measure(options.servers, options.kinds, rounds, seconds, new)


if __name__ == "__main__":
    main(sys.argv[1:])
