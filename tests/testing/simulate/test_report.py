"""
Tests for L{dtt.testing.simulate.report}, and for the command of the simulations.
"""

from __future__ import annotations

import io
from contextlib import redirect_stderr, redirect_stdout

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from dtt.testing.simulate.__main__ import main
from dtt.testing.simulate.report import lines, misses
from dtt.testing.simulate.results import (
    joined_within,
    rate,
)
from dtt.testing.simulate.scenarios import SCENARIOS
from tests.testing.simulate.test_results import RESULT
from tests.tracker.common import without_iroh


class ReportTests(SynchronousTestCase):
    """
    Tests for L{lines} and L{misses}.
    """

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
