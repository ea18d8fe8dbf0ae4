"""
Tests for results, reports, plots and the command of the simulations.
"""

from __future__ import annotations

import io
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from importlib.util import find_spec
from math import inf
from pathlib import Path

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from dtt.testing.simulate.__main__ import main
from dtt.testing.simulate.plot import plot, steps
from dtt.testing.simulate.report import lines, misses
from dtt.testing.simulate.results import (
    Join,
    Result,
    at_percentile,
    figure,
    joined_within,
    percentile,
    rate,
    seen,
    times,
)
from dtt.testing.simulate.scenarios import SCENARIOS
from tests.tracker.common import without_iroh

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

    def test_report(self) -> None:
        """The report shows times, traffic, finds, figures and goals."""
        scenario = evolve(SCENARIOS["pair"], goals=(joined_within(0.7, 3), rate(500)))
        text = "\n".join(lines("pair", scenario, {"dtt": [RESULT]}))
        for part in (
            "pair: two members start together",
            "dtt, 1 runs of 60 s, 3 joins",
            "starter: p50 1.5, p95 2.5, p99 2.5 s",
            "newcomer: p50 never",
            "2 s 50%, 5 s 100%",
            "datagrams p50 200, p95 900",
            "mean 400, most 900; to one node in 10 s: 12",
            "public slots: 10, with one of no member: 3",
            "finds: lan_found 4",
            "other events: topic.alone 1",
            "dials: p50 7",
            "at least 0.7: MISSED",
            "at most 500: met",
            "trace of the first run: abc",
        ):
            self.assertIn(part, text)
        self.assertNotIn("dht.ready", text)
        self.assertEqual(misses(scenario, [RESULT]), [scenario.goals[0]])

    def test_steps(self) -> None:
        """The plotted line rises with each member that has joined."""
        x, y = steps([RESULT], 10.0)
        self.assertEqual(x, [0.0, 1.5, 2.5, 10.0])
        self.assertEqual([round(share, 2) for share in y], [0.0, 0.33, 0.67, 0.67])

    def test_plot(self) -> None:
        """A plot is a file of the wanted type."""
        for suffix, start in ((".png", b"\x89PNG"), (".svg", b"<?xml")):
            path = Path(self.mktemp()).with_suffix(suffix)
            plot(path, "a title", {"dtt": [RESULT], "upstream": [RESULT]}, 10.0)
            self.assertTrue(path.read_bytes().startswith(start))

    if find_spec("matplotlib") is None:
        test_plot.skip = "the extra is not installed (pip install 'distributed-topic-tracker[sim]')"  # type: ignore[attr-defined]


class CommandTests(SynchronousTestCase):
    """
    Tests for C{python -m dtt.testing.simulate}.
    """

    def run_command(self, *arguments: str) -> tuple[int, str]:
        """Run it; return the exit code and what it has printed."""
        output = io.StringIO()
        with redirect_stdout(output), redirect_stderr(output):
            try:
                code = main(arguments)
            except SystemExit as ended:
                code = int(str(ended.code))
        return code, output.getvalue()

    def test_list(self) -> None:
        """Without a name, all scenarios are listed."""
        code, output = self.run_command()
        self.assertEqual(code, 0)
        self.assertEqual([line.split()[0] for line in output.splitlines()], list(SCENARIOS))

    def test_wrong(self) -> None:
        """A wrong argument is refused in one line that says what to do."""
        for arguments, text in (
            (("nonsense",), "there is no scenario 'nonsense'"),
            (("pair", "--plot", "x.gif"), "must end in .png or .svg"),
            (("pair", "--seeds", "-1"), "--seeds must not be negative"),
        ):
            code, output = self.run_command(*arguments)
            self.assertEqual(code, 2)
            self.assertIn(text, output)

    def test_run(self) -> None:
        """A scenario is run with both rules, and reported."""
        without_iroh(self)
        code, output = self.run_command("pair", "--seeds", "1", "--nodes", "200")
        self.assertIn("dtt, seed 0: 2 of 2 joined", output)
        self.assertIn(" upstream, 1 runs of", output)
        self.assertEqual(code, 1 if "MISSED" in output else 0)
