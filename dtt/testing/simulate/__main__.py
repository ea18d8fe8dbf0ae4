"""
C{python -m dtt.testing.simulate}: run scenarios, and report.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from time import process_time

from attrs import evolve

from dtt.testing.simulate.plot import SUFFIXES, plot
from dtt.testing.simulate.report import lines, misses
from dtt.testing.simulate.results import Result
from dtt.testing.simulate.scenarios import SCENARIOS, Scenario
from dtt.testing.simulate.setting import RULES


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dtt.testing.simulate",
        description="Simulate members that look for each other, in virtual time, and report.",
        epilog="The exit code is 1 if a goal is missed.",
    )
    parser.add_argument("scenario", nargs="?", help="the name of a scenario; without it, all are listed")
    parser.add_argument("--seed", type=int, default=0, help="the first seed (default: 0)")
    parser.add_argument(
        "--seeds", type=int, help="the number of runs (default: as many as the scenario needs)"
    )
    parser.add_argument(
        "--rule", choices=(*RULES, "both"), default="both", help="how members find each other (default: both)"
    )
    parser.add_argument("--nodes", type=int, help="the number of DHT nodes")
    parser.add_argument("--starters", type=int, help="members that start together")
    parser.add_argument("--newcomers", type=int, help="members that start later")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="write a plot (.png or .svg; extra sim)")
    parser.add_argument("--quiet", action="store_true", help="no line for each run")
    return parser


def _changed(scenario: Scenario, options: argparse.Namespace) -> Scenario:
    plan = scenario.plan
    for name in ("starters", "newcomers"):
        if getattr(options, name) is not None:
            plan = evolve(plan, **{name: getattr(options, name)})
    setting = scenario.setting
    if options.nodes is not None:
        setting = evolve(setting, nodes=options.nodes)
    return evolve(scenario, plan=plan, setting=setting)


def _runs(scenario: Scenario, rule: str, options: argparse.Namespace) -> list[Result]:
    results = []
    seeds = options.seeds or scenario.seeds
    for seed in range(options.seed, options.seed + seeds):
        began = process_time()
        results.append(scenario.run(seed, rule=rule))
        if not options.quiet:
            joined = sum(join.seconds is not None for join in results[-1].joins)
            print(
                f"{rule}, seed {seed}: {joined} of {len(results[-1].joins)} joined,"
                f" {results[-1].seconds:.0f} s in {process_time() - began:.1f} s of CPU",
                file=sys.stderr,
                flush=True,
            )
    return results


def main(arguments: Sequence[str]) -> int:
    """
    Run the command.

    @return: the exit code.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.scenario is None:
        width = max(map(len, SCENARIOS))
        for name, scenario in SCENARIOS.items():
            print(f"{name:{width}}  {scenario.about}")
        return 0
    if options.scenario not in SCENARIOS:
        parser.error(f"there is no scenario {options.scenario!r}; call it without arguments for a list")
    if options.plot is not None and options.plot.suffix not in SUFFIXES:
        parser.error(f"--plot: the name must end in {' or '.join(SUFFIXES)}")
    for name in ("nodes", "starters", "newcomers", "seeds"):
        if (getattr(options, name) or 0) < 0:
            parser.error(f"--{name} must not be negative")
    scenario = _changed(SCENARIOS[options.scenario], options)
    rules = RULES if options.rule == "both" else (options.rule,)
    results = {rule: _runs(scenario, rule, options) for rule in rules}
    print("\n".join(lines(options.scenario, scenario, results)))
    if options.plot is not None:
        try:
            plot(options.plot, f"{options.scenario}: {scenario.about}", results, scenario.plan.limit)
        except ImportError:
            print("a plot needs matplotlib: pip install 'distributed-topic-tracker[sim]'", file=sys.stderr)
            return 2
        except OSError as error:
            print(f"the plot can't be written: {error.strerror}", file=sys.stderr)
            return 2
    return 1 if "dtt" in results and misses(scenario, results["dtt"]) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
