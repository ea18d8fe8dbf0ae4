"""
Messages per second exchanged by three members.

C{python -m benchmarks.gossip [--quick] [--transport NAME] [--runs N] [--times N]}, in a
checkout, on Linux. One member broadcasts as fast as its neighbours accept the messages.
The result is the time until both other members have received everything, from the best of
the runs, which alternate between the rows: other load on the machine only makes them
slower. Contents have 100 and 4000 bytes. Rows:

 - C{streams}, C{iroh}: L{dtt.gossip.member.GossipMember} over that transport, each member
   in its own process on loopback; C{iroh} needs the extra.
 - C{Rust}: three members of iroh-gossip in one process with a thread for each core
   (C{tests/interop/rust}, built with cargo if necessary). Its subscribers lose messages
   when they are slower than its network, and it sometimes gets stuck: such a run is
   discarded.

Goals: dtt loses nothing; C{iroh} at least 0.25 of C{Rust} with 100 bytes and 0.5 with
4000; C{streams} at least C{iroh}. "CPU" is microseconds of all members together per
message: use it for comparisons on a busy machine.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from attrs import evolve, frozen

from tests.interop.gossip_trio import Trio

SIZES = (100, 4000)

#: The number of contents of each size in one run: a second or two.
COUNTS = {100: 40_000, 4000: 10_000}

#: The number of contents after which the broadcast tree has settled.
_WARM_UP = 500

_CARGO = Path(__file__).parents[1] / "tests" / "interop" / "rust"
_BUILT_WITHIN, _RUNS_WITHIN = 1500.0, 20.0


class UnavailableError(Exception):
    """
    A row is not available on this machine; the message gives the reason.
    """


@frozen(slots=True)
class Row:
    """
    One line of the table, for contents of one size.

    @ivar rate: messages per second.
    @ivar cpu: microseconds per message; C{None}: not measured.
    """

    rate: float
    lost: int
    cpu: float | None = None


def measure_dtt(transport: str, size: int, count: int) -> Row:
    """
    Measure three Python members.

    @raise UnavailableError: the transport is not installed.
    """
    if transport == "iroh" and (
        find_spec("iroh") is None or find_spec("dtt.transport.iroh.transport") is None
    ):
        raise UnavailableError("iroh is not installed (pip install 'distributed-topic-tracker[iroh]')")
    with Trio(transport) as trio:
        trio.spread(_WARM_UP, size, "warm-up")
        before = sum(member.cpu() for member in trio.members)
        spread = trio.spread(count, size, "measured")
        cpu = sum(member.cpu() for member in trio.members) - before
    return Row((count - spread.lost / 2) / spread.seconds, spread.lost, cpu / count * 1e6)


def _children() -> float:
    """
    The CPU seconds of all child processes that have ended.
    """
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure_rust(size: int, count: int) -> Row | None:
    """
    Measure three Rust members; C{None} if they got stuck.

    @raise UnavailableError: they can't be built or run.
    """
    if not (_CARGO / "Cargo.toml").exists():
        raise UnavailableError("its source is missing")
    if shutil.which("cargo") is None:
        raise UnavailableError("cargo is not installed")
    binary = _CARGO / "target" / "release" / "gossip-bench"
    if not binary.exists():
        print("building the Rust members, which takes minutes the first time", flush=True)
    command = ["cargo", "build", "--release", "--locked", "--quiet", "--bin", "gossip-bench"]
    try:
        subprocess.run(command, cwd=_CARGO, check=True, timeout=_BUILT_WITHIN)
        before = _children()
        done = subprocess.run(
            [str(binary), str(size), "--count", str(count)],
            check=True,
            stdout=subprocess.PIPE,
            timeout=_RUNS_WITHIN,
        )
    except subprocess.TimeoutExpired as error:
        if error.timeout == _BUILT_WITHIN:
            raise UnavailableError(str(error)) from None
        return None
    except subprocess.CalledProcessError as error:
        raise UnavailableError(str(error)) from None
    words = json.loads(done.stdout)
    return Row(words["messages_per_second"], words["lost"], (_children() - before) / count * 1e6)


def measure(name: str, size: int, count: int) -> Row | None:
    """
    Measure one run; C{None} if it got stuck.

    @raise UnavailableError: the row is not available here.
    """
    return measure_rust(size, count) if name == "Rust" else measure_dtt(name, size, count)


def measure_all(names: Sequence[str], runs: int, share: float) -> dict[tuple[str, int], Row]:
    """
    The best of all runs of each row, with the sum of the losses.

    @param share: a factor for the numbers of contents.
    """
    table: dict[tuple[str, int], Row] = {}
    missing: set[str] = set()
    for _ in range(runs):
        for name in names:
            try:
                for size in SIZES if name not in missing else ():
                    row = measure(name, size, int(COUNTS[size] * share))
                    if row is None:
                        print(f"{name} got stuck with {size} bytes", flush=True)
                        continue
                    best = table.get((name, size), row)
                    lost = row.lost if best is row else row.lost + best.lost
                    table[name, size] = evolve(max(row, best, key=lambda row: row.rate), lost=lost)
            except UnavailableError as error:
                print(f"skipping {name}: {error}", flush=True)
                missing.add(name)
    return table


def met(table: dict[tuple[str, int], Row]) -> bool:
    """
    Are the goals met, as far as the rows are available?
    """
    good = not any(row.lost for (name, _), row in table.items() if name != "Rust")
    for size, share in zip(SIZES, (0.25, 0.5), strict=True):
        rust, iroh, streams = (table.get((name, size)) for name in ("Rust", "iroh", "streams"))
        if rust and iroh:
            good = good and iroh.rate >= share * rust.rate
        if iroh and streams:
            good = good and streams.rate >= iroh.rate
    return good


def main(arguments: Sequence[str]) -> int:
    """
    Print the table. Returns 1 if a goal is missed.
    """
    parser = argparse.ArgumentParser(prog="gossip")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--times", type=int, default=1, help="multiply the number of messages by N")
    parser.add_argument("--transport", action="append", choices=("streams", "iroh", "Rust"))
    options = parser.parse_args(arguments)
    names: Sequence[str] = options.transport or ("Rust", "iroh", "streams")
    runs, share = (1, 0.1) if options.quick else (options.runs, options.times)
    table = measure_all(names, runs, share)
    print(f"{'':8} {'bytes':>5} {'messages/s':>11} {'of Rust':>8} {'lost':>6} {'CPU, us':>8}")
    for (name, size), row in table.items():
        rust = table.get(("Rust", size))
        share = f"{row.rate / rust.rate:.2f}" if rust else ""
        cpu = f"{row.cpu:.0f}" if row.cpu is not None else ""
        print(f"{name:8} {size:5} {row.rate:11.0f} {share:>8} {row.lost:6} {cpu:>8}")
    return int(not met(table))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
