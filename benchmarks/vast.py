"""
How long it takes two members to find each other on a DHT of realistic size, in virtual
time.

C{python -m benchmarks.vast [--quick] [--runs N] [--silent SHARE] [--loss SHARE] [--rtt
LOW-HIGH] ...}. Whole trackers and, for C{recall}, a DHT node run on L{dtt.testing.vast}.
C{crowd} is 2 to 50 members that publish at the same time; C{traffic} is what a member
sends to the DHT when joined, and when alone, C{topics} what it sends with many topics.
Times are on the model's clock, independent of this machine's load. The same arguments
print the same figures.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from math import ceil, inf
from statistics import fmean
from time import perf_counter

from dtt.testing.vast.scenario import (
    Meeting,
    Setting,
    Traffic,
    alone,
    crowd,
    joined,
    many_topics,
    newcomer,
    pair,
    recall,
)

#: The measurements.
KINDS = ("pair", "newcomer", "recall", "crowd", "traffic", "topics")

#: The numbers of concurrent publishers.
CROWDS = (2, 5, 10, 20, 50)

#: The numbers of topics that two members share.
TOPICS = (1, 10, 100, 1000)

#: The numbers of runs of each crowd, and of long-running members.
FEW_RUNS = 6

#: The numbers of runs and slots with C{--quick}.
QUICK = (4, 20)


def percentile(values: Sequence[float], share: float) -> float:
    """
    The smallest value that C{share} of C{values} do not exceed.
    """
    return sorted(values)[max(0, ceil(share * len(values)) - 1)]


def _milliseconds(seconds: float) -> str:
    return "never" if seconds == inf else f"{1000 * seconds:.0f}"


def report_meetings(name: str, meetings: Sequence[Meeting]) -> str:
    """
    Format a line on one kind of start.
    """
    seconds = [inf if each.seconds is None else each.seconds for each in meetings]
    failed = seconds.count(inf)
    first, last = ([each.datagrams[index] for each in meetings] for index in (0, 1))
    return (
        f"{name:9} joined p50 {_milliseconds(percentile(seconds, 0.5)):>6}"
        f" p95 {_milliseconds(percentile(seconds, 0.95)):>6}"
        f" max {_milliseconds(max(seconds)):>6} ms"
        f"   DHT datagrams p50 (p95): first {percentile(first, 0.5):.0f} ({percentile(first, 0.95):.0f}),"
        f" last {percentile(last, 0.5):.0f} ({percentile(last, 0.95):.0f})"
        + (f"   {failed} FAILED" if failed else "")
    )


def report_recall(setting: Setting, targets: int) -> str:
    """
    Format a line on the recall of slot reads.
    """
    reads = recall(setting, targets)
    inner, all_ = ([getattr(read, name) for read in reads] for name in ("inner", "all"))
    queries = [read.queries for read in reads]
    return (
        f"recall    of the nearest 12: mean {fmean(inner):.1%} worst {min(inner):.1%}"
        f"   of 32: mean {fmean(all_):.1%} worst {min(all_):.1%}"
        f"   nearer than the best: at most {max(read.best for read in reads)}"
        f"   queries mean {fmean(queries):.0f} max {max(queries)}"
        f"   p50 {_milliseconds(percentile([read.seconds for read in reads], 0.5))} ms"
    )


def report_crowd(setting: Setting, count: int) -> str:
    """
    Format a line on the share of publishers that a reader finds.
    """
    runs = [crowd(setting, count, run) for run in range(FEW_RUNS)]
    ours, upstream = ([getattr(run, name) for run in runs] for name in ("ours", "upstream"))
    return (
        f"crowd     of {count:2}: our reader finds {fmean(ours):.0%} (worst {min(ours):.0%}),"
        f" upstream's rule {fmean(upstream):.0%} (worst {min(upstream):.0%})"
    )


def report_traffic(setting: Setting) -> list[str]:
    """
    Format lines on the traffic from members to the DHT.
    """
    lone = [alone(setting, run) for run in range(FEW_RUNS)]
    kinds = {
        "two joined": [each for run in range(FEW_RUNS) for each in joined(setting, run)],
        "ten joined": joined(setting, count=10),
        "alone": [first for first, _ in lone],
        "after 10 min": [later for _, later in lone],
    }
    return [_traffic_line(name, sent) for name, sent in kinds.items()]


def _traffic_line(name: str, sent: list[Traffic]) -> str:
    packets, size = ([getattr(each, what) for each in sent] for what in ("packets", "bytes"))
    return (
        f"traffic   {name:12}: {fmean(packets):.2f} packets/s (most {max(packets):.2f}),"
        f" {fmean(size):.0f} B/s (most {max(size):.0f}) to the DHT"
    )


def measure(setting: Setting, kinds: Sequence[str], runs: int, targets: int, verbose: bool) -> None:
    """
    Print all measurements.
    """
    starts: dict[str, Callable[[Setting, int], Meeting]] = {"pair": pair, "newcomer": newcomer}
    for kind in kinds:
        began = perf_counter()
        if kind == "crowd":
            for size in CROWDS:
                print(report_crowd(setting, size), flush=True)
            continue
        if kind == "traffic":
            print("\n".join(report_traffic(setting)), flush=True)
            continue
        if kind == "topics":
            for topics in TOPICS:
                traffic, met = many_topics(setting, topics)
                print(f"{_traffic_line(f'{topics} topics', [traffic])}, met in {met:.0%}", flush=True)
            continue
        if kind == "recall":
            line, count = report_recall(setting, targets), targets
        else:
            meetings = []
            for run in range(runs):
                meetings.append(starts[kind](setting, run))
                if verbose:
                    print(f"{kind} {run}: {meetings[-1]}", flush=True)
            line, count = report_meetings(kind, meetings), runs
        print(f"{line}   ({(perf_counter() - began) / count:.2f} s each)", flush=True)


def _range(text: str) -> tuple[float, float]:
    low, _, high = text.partition("-")
    return float(low), float(high or low)


def _shares(text: str) -> dict[str, float]:
    return {name: float(share) for name, _, share in (part.partition("=") for part in text.split(","))}


def main(arguments: Sequence[str]) -> None:
    """
    Run the command.
    """
    parser = argparse.ArgumentParser(description="Measure cold starts of members on a large simulated DHT.")
    parser.add_argument("--runs", type=int, default=40, help="cold starts of each kind")
    parser.add_argument("--targets", type=int, default=200, help="number of slots to read")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK[0]} runs, {QUICK[1]} slots")
    parser.add_argument(
        "--only",
        default=KINDS[:3],
        type=lambda text: text.split(","),
        metavar="KIND,...",
        help=", ".join(KINDS),
    )
    parser.add_argument("--bits", type=int, default=22, help="there are 2^BITS nodes")
    parser.add_argument("--silent", type=float, default=0.35, help="share of nodes that never answer")
    parser.add_argument("--loss", type=float, default=0.015, help="share of datagrams lost in each direction")
    parser.add_argument(
        "--rtt", type=_range, default=(40.0, 300.0), metavar="LOW-HIGH", help="round trips, ms"
    )
    parser.add_argument("--secure", type=float, default=1.0, help="share of ids that are valid by BEP42")
    parser.add_argument("--missing", type=float, default=0.0, help="share of entries missing from the tables")
    parser.add_argument("--dead", type=float, default=0.0, help="share of entries whose node is gone")
    parser.add_argument(
        "--manners",
        type=_shares,
        default={"libtorrent": 1.0},
        metavar="NAME=SHARE,...",
        help="implementations",
    )
    parser.add_argument("--warm", action="store_true", help="members have run before")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verbose", action="store_true", help="print each run")
    options = parser.parse_args(arguments)
    low, high = options.rtt
    setting = Setting(
        bits=options.bits,
        seed=options.seed,
        silent=options.silent,
        secure=options.secure,
        missing=options.missing,
        dead=options.dead,
        manners=options.manners,
        low=low / 2000,
        high=high / 2000,
        loss=options.loss,
        warm=options.warm,
    )
    runs, targets = QUICK if options.quick else (options.runs, options.targets)
    measure(setting, options.only, runs, targets, options.verbose)


if __name__ == "__main__":
    main(sys.argv[1:])
