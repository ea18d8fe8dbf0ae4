"""
The report of a simulation, as text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from math import inf

from dtt.testing.simulate.results import Goal, Result, percentile, times
from dtt.testing.simulate.scenarios import Scenario

#: The seconds after a member's start of the table "joined over time".
MARKS = (1, 2, 5, 10, 30, 60, 120)

#: Events that are irrelevant to discovery.
_ORDINARY = frozenset(
    (
        "node.started",
        "dht.ready",
        "dht.nodes",
        "topic.joined",
        "addresses.published",
        "record.found",
        "record.published",
    )
)


def _number(value: float) -> str:
    return "never" if value == inf else f"{value:.4g}"


def _joined(seconds: Sequence[float]) -> str:
    shares = [f"{mark} s {sum(each <= mark for each in seconds) / len(seconds):.0%}" for mark in MARKS]
    return ", ".join(shares)


def _percentiles(seconds: Sequence[float]) -> str:
    return ", ".join(f"p{100 * share:g} {_number(percentile(seconds, share))}" for share in (0.5, 0.95, 0.99))


def _goal(goal: Goal, results: Sequence[Result]) -> str:
    sign = "at least" if goal.at_least else "at most"
    outcome = "met" if goal.is_met(results) else "MISSED"
    return f"  {goal.text}: {_number(goal.measure(results))}, {sign} {_number(goal.limit)}: {outcome}"


def _most_common(what: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(what.items())) or "none"


def lines(name: str, scenario: Scenario, results: Mapping[str, Sequence[Result]]) -> list[str]:
    """
    Report the results of one scenario.

    @param name: its name.
    @param scenario: the scenario.
    @param results: the results of each rule.
    """
    found = [f"{name}: {scenario.about}"]
    for rule, each in results.items():
        seconds = times(each)
        found.append(f" {rule}, {len(each)} runs of {each[0].seconds:.0f} s, {len(seconds)} joins")
        for role in sorted({join.role for result in each for join in result.joins}):
            in_role = times(each, role=role)
            found.append(f"  {role}: {_percentiles(in_role)} s; joined within {_joined(in_role)}")
        joins = [join for result in each for join in result.joins]
        if joins:
            datagrams = [join.datagrams for join in joins]
            dials = [join.dials for join in joins]
            found.append(f"  until joined: datagrams {_percentiles(datagrams)}; dials {_percentiles(dials)}")
        rates = sum(result.rate for result in each) / len(each)
        highest = max(result.highest_rate for result in each)
        found.append(
            f"  datagrams a member and minute: mean {rates:.0f}, most {highest:.0f};"
            f" to one node in 10 s: {max(result.most for result in each)}"
        )
        bad, held = (sum(result.contested[index] for result in each) for index in (0, 1))
        found.append(f"  nodes with a value in the last public slots: {held}, with one of no member: {bad}")
        found.append(f"  finds: {_most_common(sum((result.finds for result in each), Counter()))}")
        events = sum((result.events for result in each), Counter[str]())
        said = Counter({event: count for event, count in events.items() if event not in _ORDINARY})
        found.append(f"  other events: {_most_common(said)}")
        for figure in each[0].figures:
            values = [result.figures[figure] for result in each]
            found.append(f"  {figure}: {_percentiles(values)}")
        if rule == "dtt":
            found += [_goal(goal, each) for goal in scenario.goals]
        found.append(f"  trace of the first run: {each[0].digest}")
    return found


def misses(scenario: Scenario, results: Sequence[Result]) -> list[Goal]:
    """
    Return the goals that are missed.
    """
    return [goal for goal in scenario.goals if not goal.is_met(results)]
