"""
The results of a simulation, and the goals of a scenario.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from math import ceil, inf

from attrs import field, frozen

from dtt.testing.simulate.members import Member


@frozen(slots=True)
class Join:
    """
    One member's way into the swarm.

    @ivar role: C{"starter"}, C{"newcomer"}, or as a scenario calls it.
    @ivar rule: the member's rule.
    @ivar seconds: how long it took; C{None}: it had not joined at the end.
    @ivar datagrams: what it had sent by then to others than members.
    @ivar dials: the dials that had ended by then.
    """

    role: str
    rule: str
    seconds: float | None
    datagrams: int
    dials: int


@frozen(slots=True)
class Result:
    """
    The result of one run.

    @ivar joins: all joins.
    @ivar seconds: the simulated time.
    @ivar curve: seconds since the start, members joined and members running.
    @ivar rate: datagrams of a member and minute on average.
    @ivar highest_rate: the same of the member with most.
    @ivar most: the most datagrams from one member to one node within 10 s.
    @ivar contested: nodes near the last slots that hold what no member has written, and
        nodes that hold anything.
    @ivar finds: the members that the discovery channels of all members have found, by outcome.
    @ivar events: the members' other events, by name.
    @ivar digest: the trace hash.
    @ivar figures: what else the scenario measures.
    """

    joins: tuple[Join, ...]
    seconds: float
    curve: tuple[tuple[float, int, int], ...] = field(repr=False)
    rate: float
    highest_rate: float
    most: int
    contested: tuple[int, int]
    finds: Counter[str]
    events: Counter[str]
    digest: str
    figures: dict[str, float]


def join_of(member: Member, role: str, sent: int) -> Join:
    """
    The join of a member.

    @param sent: the datagrams that its machine has sent.
    """
    datagrams = member.sent_to_join if member.joined_at is not None else sent - member.sent_before
    return Join(role, member.rule, member.seconds, datagrams, member.dials)


def percentile(values: Iterable[float], share: float) -> float:
    """
    The smallest value that C{share} of C{values} do not exceed; infinite without any.
    """
    ordered = sorted(values)
    return ordered[max(0, ceil(share * len(ordered)) - 1)] if ordered else inf


def times(results: Iterable[Result], rule: str | None = None, role: str | None = None) -> list[float]:
    """
    The seconds of all joins; infinite for those that did not join.

    @param rule: only members with this rule.
    @param role: only members in this role.
    """
    return [
        inf if join.seconds is None else join.seconds
        for result in results
        for join in result.joins
        if rule in (None, join.rule) and role in (None, join.role)
    ]


@frozen(slots=True)
class Goal:
    """
    A goal of a scenario.

    @ivar text: a description.
    @ivar measure: returns the figure.
    @ivar limit: the maximum or minimum of the figure.
    @ivar at_least: whether C{limit} is the minimum.
    """

    text: str
    measure: Callable[[Sequence[Result]], float]
    limit: float
    at_least: bool = False

    def is_met(self, results: Sequence[Result]) -> bool:
        """
        Is it met?
        """
        measured = self.measure(results)
        return measured >= self.limit if self.at_least else measured <= self.limit


def joined_within(share: float, seconds: float, role: str | None = None) -> Goal:
    """
    A share of the members has joined within so many seconds.
    """

    def measure(results: Sequence[Result]) -> float:
        each = times(results, role=role)
        return sum(one <= seconds for one in each) / len(each) if each else 0.0

    who = f" of role {role}" if role else ""
    return Goal(f"share joined within {seconds:g} s{who}", measure, share, at_least=True)


def at_percentile(share: float, seconds: float, role: str | None = None) -> Goal:
    """
    A percentile of the times.
    """
    who = f" of role {role}" if role else ""
    return Goal(
        f"p{100 * share:g}{who}, seconds",
        lambda results: percentile(times(results, role=role), share),
        seconds,
    )


def figure(name: str, limit: float, *, at_least: bool = False, share: float = 1.0) -> Goal:
    """
    A figure that the scenario measures: the highest of all runs, or a percentile.
    """

    def measure(results: Sequence[Result]) -> float:
        each = [result.figures[name] for result in results]
        return min(each) if at_least else percentile(each, share)

    return Goal(name if share == 1.0 else f"{name}, p{100 * share:g}", measure, limit, at_least)


def rate(limit: float) -> Goal:
    """
    The datagrams of a member and minute.
    """
    return Goal(
        "datagrams a member and minute, mean", lambda results: _mean([each.rate for each in results]), limit
    )


def seen(event: str) -> Goal:
    """
    At least one member has reported something in each run.

    @param event: the name of the event.
    """
    return Goal(
        f"runs with the event {event}",
        lambda results: sum(result.events[event] > 0 for result in results) / len(results),
        1.0,
        at_least=True,
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
