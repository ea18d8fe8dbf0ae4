"""
What an idle service costs.

C{python -m benchmarks.daemon [--quick] [--transport streams,quic]}, in a checkout, on Linux.
Starts a closed DHT, C{dtt testnet}, and three services, C{dtt run}, with one topic each: two
that are neighbours, and one that stays alone.  When they have settled, it waits, and prints for
each the memory and the CPU time, in percent of one core, and the context switches a second.

RSS counts all pages in memory; PSS divides those that are shared among the processes that
share them; "own" are those of this process alone.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from attrs import frozen

from benchmarks.dht_support import LOOPBACK

ROOT = Path(__file__).parents[1]

#: The DHT nodes.
NODES = 16

#: Goals: megabytes, and percent of a core.
RESIDENT, BUSY = 50.0, 0.1


@frozen(slots=True)
class Use:
    """
    What a process has used since its start.

    @ivar seconds: CPU time.
    @ivar switches: how often it has waited.
    """

    seconds: float
    switches: int

    @classmethod
    def of(cls, pid: int) -> Use:
        """
        Read it.
        """
        seconds, switches = 0.0, 0
        for task in Path(f"/proc/{pid}/task").iterdir():
            words = (task / "schedstat").read_text().split()
            seconds += int(words[0]) / 1e9
            status = dict(line.split(":", 1) for line in (task / "status").read_text().splitlines())
            switches += int(status["voluntary_ctxt_switches"])
        return cls(seconds, switches)


def memory(pid: int) -> tuple[float, float, float]:
    """
    The RSS, the PSS and what is its own, of a process, in megabytes.
    """
    sizes: dict[str, int] = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, size = line.split(":", 1)
        sizes[name] = int(size.split()[0]) * 1024
    own = sizes["Private_Clean"] + sizes["Private_Dirty"]
    return sizes["Rss"] / 1e6, sizes["Pss"] / 1e6, own / 1e6


@contextmanager
def running(command: Sequence[str], ready: str) -> Iterator[tuple[int, str]]:
    """
    Run a command of C{dtt} until the end of the block.

    @param ready: what is in the first line that says that it is ready.
    @return: its process id, and that line.
    """
    command = [sys.executable, "-m", "dtt", *command]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if ready in line:
                    yield process.pid, line
                    return
            raise SystemExit(f"{' '.join(command)} ended early")
        finally:
            process.terminate()


def main(arguments: Sequence[str]) -> None:
    """
    Run the command.
    """
    parser = argparse.ArgumentParser(description="Measure what an idle service costs.")
    parser.add_argument("--quick", action="store_true", help="one minute, not ten; after half a minute")
    parser.add_argument("--transport", default="streams,quic", help="as of dtt run")
    options = parser.parse_args(arguments)
    settle, wait = (30, 60) if options.quick else (300, 600)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        _, line = stack.enter_context(running(["testnet", str(NODES)], "ready"))
        pids = {}
        for number, topic in enumerate(("garden", "garden", "alone")):
            command = ["run", "--topic", topic, "--state-dir", str(folder / str(number))]
            command += ["--bootstrap", line.split()[1], "--listen", f"{LOOPBACK}:0"]
            command += ["--transport", options.transport, "--log-level", "info"]
            pid, _ = stack.enter_context(running(command, "DHT node"))
            pids[f"{topic} {number}"] = pid
        time.sleep(settle)
        before = {name: Use.of(pid) for name, pid in pids.items()}
        began = time.monotonic()
        time.sleep(wait)
        took = time.monotonic() - began
        for name, pid in pids.items():
            use = Use.of(pid)
            busy = 100 * (use.seconds - before[name].seconds) / took
            turns = (use.switches - before[name].switches) / took
            resident, proportional, own = memory(pid)
            print(
                f"{name:10}RSS {resident:5.1f} MB (goal {RESIDENT:.0f}), PSS {proportional:5.1f}, "
                f"own {own:5.1f}; CPU {busy:.3f} % (goal {BUSY}); waits {turns:.1f} times/s; "
                f"{use.seconds:.2f} s since the start",
                flush=True,
            )


if __name__ == "__main__":
    main(sys.argv[1:])
