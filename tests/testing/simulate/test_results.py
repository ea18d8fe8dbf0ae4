"""
Tests for L{dtt.testing.simulate.results}.
"""

from __future__ import annotations

from collections import Counter
from math import inf
from types import SimpleNamespace
from typing import Any

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from dtt.testing.simulate.results import (
    Join,
    Result,
    at_percentile,
    figure,
    join_of,
    joined_within,
    percentile,
    rate,
    seen,
    times,
)

RESULT = Result(
    joins=(
        Join("starter", "dtt", 1.5, 100, 1),
        Join("starter", "dtt", 2.5, 200, 2),
        Join("newcomer", "dtt", None, 900, 30),
    ),
    seconds=60.0,
    curve=((0.0, 0, 3), (1.5, 1, 3), (2.5, 2, 3)),
    rate=400.0,
    highest_rate=900.0,
    most=12,
    contested=(3, 10),
    finds=Counter({"lan_found": 4}),
    events=Counter({"topic.alone": 1, "dht.ready": 3}),
    digest="abc",
    figures={"dials": 7.0},
)


class ResultsTests(SynchronousTestCase):
    """
    Tests for figures and goals.
    """

    def test_times(self) -> None:
        """Who has not joined counts as never."""
        self.assertEqual(times([RESULT]), [1.5, 2.5, inf])
        self.assertEqual(times([RESULT], role="newcomer"), [inf])
        self.assertEqual(times([RESULT], rule="upstream"), [])

    def test_percentile(self) -> None:
        """A percentile is the smallest value that so many do not exceed."""
        self.assertEqual([percentile(range(1, 101), share) for share in (0.5, 0.95, 1.0)], [50, 95, 100])
        self.assertEqual(percentile([], 0.5), inf)

    def test_goals(self) -> None:
        """A goal is met or not."""
        for goal, met in (
            (joined_within(0.6, 3), True),
            (joined_within(0.7, 3), False),
            (joined_within(1.0, 3, "starter"), True),
            (joined_within(0.1, 3, "nobody"), False),
            (at_percentile(0.5, 2.5), True),
            (at_percentile(0.95, 1000), False),
            (figure("dials", 7), True),
            (figure("dials", 6), False),
            (figure("dials", 8, at_least=True), False),
            (rate(399), False),
            (rate(400), True),
            (seen("topic.alone"), True),
            (seen("clock.skewed"), False),
        ):
            self.assertEqual(goal.is_met([RESULT]), met, goal.text)

    def test_goals_of_several_runs(self) -> None:
        """Of several runs the highest figure counts, or the lowest if it is a minimum, or a percentile."""
        runs = [evolve(RESULT, figures={"dials": float(n)}, rate=100.0 * n) for n in range(1, 5)]
        for goal, expected in (
            (figure("dials", 1), 4.0),
            (figure("dials", 1, at_least=True), 1.0),
            (figure("dials", 1, share=0.5), 2.0),
            (rate(1), 250.0),
        ):
            self.assertEqual(goal.measure(runs), expected, goal.text)
        self.assertEqual(rate(1).measure([]), 0.0)
        runs[0] = evolve(runs[0], events=Counter())
        self.assertEqual(seen("topic.alone").measure(runs), 0.75)

    def test_join(self) -> None:
        """What a member sent counts until it had joined, else until the end, without what it sent before."""
        member: Any = SimpleNamespace(
            rule="dtt", seconds=3.0, dials=2, joined_at=3.0, sent_to_join=50, sent_before=100
        )
        self.assertEqual(join_of(member, "starter", 500), Join("starter", "dtt", 3.0, 50, 2))
        member.joined_at = member.seconds = None
        self.assertEqual(join_of(member, "starter", 500), Join("starter", "dtt", None, 400, 2))
