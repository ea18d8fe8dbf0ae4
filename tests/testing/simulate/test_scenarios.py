"""
Small runs of the scenarios, with fixed seeds; C{python -m dtt.testing.simulate} runs them
in full.
"""

from __future__ import annotations

from math import inf
from typing import Any

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from dtt.config import DiscoveryConfig
from dtt.testing.simulate import faults
from dtt.testing.simulate.driver import Plan
from dtt.testing.simulate.results import Result, times
from dtt.testing.simulate.scenarios import SCENARIOS
from tests.sweeps import sized, thorough
from tests.tracker.common import without_iroh

NODES = sized(80, 150)


class ScenarioTests(SynchronousTestCase):
    """
    Each with a few members and one seed.
    """

    def setUp(self) -> None:
        without_iroh(self)

    def run_small(
        self,
        name: str,
        starters: int = 3,
        newcomers: int = 1,
        limit: float = 60.0,
        seed: int = 1,
        **options: Any,
    ) -> Result:
        """Run a scenario with few members."""
        plan = Plan(starters, newcomers, (1.0, 5.0), limit)
        scenario = SCENARIOS[name]
        return evolve(scenario, plan=plan, options={**scenario.options, **options}).run(1, nodes=NODES)

    def all_within(self, result: Result, seconds: float, role: str | None = None) -> None:
        """Everybody has joined within so many seconds."""
        each = times([result], role=role)
        self.assertTrue(each)
        self.assertLessEqual(max(each), seconds, f"{result.joins}")

    def test_pair(self) -> None:
        """Two members meet."""
        self.all_within(self.run_small("pair", 2, 0), 5)

    def test_newcomer(self) -> None:
        """A newcomer finds a member that is alone."""
        self.all_within(self.run_small("newcomer", 1), 3, "newcomer")

    @thorough
    def test_jam_90(self) -> None:
        """An outsider who fills 90 % of the places does not keep members apart."""
        self.all_within(self.run_small("jam-90", 2), 30)

    @thorough
    def test_sybils(self) -> None:
        """Sybils do not keep members apart, silent or lying."""
        for name in ("sybils-40-lying", "sybils-8-silent-valid"):
            self.all_within(self.run_small(name, 2, 1), 30)

    def test_liars(self) -> None:
        """Nodes that name others which do not exist do not keep members apart."""
        self.all_within(self.run_small("liars", 2, 1), 30)

    def test_loss(self) -> None:
        """Neither does loss."""
        self.all_within(self.run_small("loss-30", 2, 0), 20)

    def test_duplicates(self) -> None:
        """Nor do late and doubled packets."""
        self.all_within(self.run_small("duplicates", 2, 0), 10)

    def test_together(self) -> None:
        """Members that start together are one swarm soon."""
        result = self.run_small("together-8", 4, 0)
        self.assertLessEqual(result.figures["seconds until one swarm"], 10)

    @thorough
    def test_restarted(self) -> None:
        """A member that was killed is back soon."""
        self.all_within(self.run_small("restarted", 2, 0), 10, "restarted")

    @thorough
    def test_moved(self) -> None:
        """A member that wakes elsewhere is back soon."""
        self.all_within(self.run_small("moved", 2, 0, seconds=200.0), 10, "awake")

    @thorough
    def test_replayed(self) -> None:
        """Records of yesterday are refused."""
        result = self.run_small("replay", 2, 0)
        self.all_within(result, 10)
        self.assertGreater(result.figures["records replayed"], 0)
        self.assertEqual(result.figures["old members found"], 0)

    @thorough
    def test_churn(self) -> None:
        """Newcomers find members while nodes come and go."""
        self.all_within(self.run_small("churn", 2, 0, hours=0.35), 10, "newcomer")

    def test_jam_100(self) -> None:
        """Nor does an attacker who fills all of them: outsiders can't fill sealed slots. Members are
        warned."""
        result = self.run_small("jam-100", 2, 1)
        self.all_within(result, 30)
        self.assertGreater(result.finds["sealed_slot_found"], 0)
        self.assertGreater(result.events["slot.contested"], 0)

    @thorough
    def test_jam_100_without_sealed_slots(self) -> None:
        """Without sealed slots and announcements, the public slot alone is not enough."""
        config = {"discovery": DiscoveryConfig(sealed=False, announce_peer="never")}
        scenario = evolve(SCENARIOS["jam-100"], plan=Plan(2, 0, limit=12.0))
        self.assertEqual(times([scenario.run(1, nodes=NODES, config=config)]), [inf, inf])

    def test_insider(self) -> None:
        """A member that fills public and sealed slots with fakes does not keep others apart."""
        result = self.run_small("insider-sealed-5", 2, 1)
        self.all_within(result, 60)
        self.assertLessEqual(result.figures["dials to the victim, most of a member and minute"], 5)

    @thorough
    def test_skew_of_half(self) -> None:
        """Two groups with clocks 10 min apart become one swarm, and are told."""
        result = self.run_small("skew-half-10min", 3, 0)
        self.assertTrue(result.figures["one swarm"])
        self.assertGreater(result.events["clock.skewed"], 0)

    @thorough
    def test_skew_of_hours(self) -> None:
        """A newcomer whose clock is 3 h off announces itself, and is found."""
        self.all_within(self.run_small("skew-3h", 3, 0), 60, "skewed")

    def test_skew(self) -> None:
        """A newcomer whose clock is 10 min off joins, and is warned."""
        # Reports about clocks come within twenty seconds.
        self.patch(faults, "_SETTLED", 20.0)
        result = self.run_small("skew-10min", 2, 0)
        self.all_within(result, 10, "skewed")
        self.assertGreater(result.events["clock.skewed"], 0)
