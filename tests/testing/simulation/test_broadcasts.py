"""
Tests for L{dtt.testing.simulation.broadcasts}, and of the state machines with it:
iroh-gossip's own goals, on 20 and 100 nodes, or 60 where that is enough;
C{benchmarks/gossip_sim.py} also has 1000.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dtt.testing.simulation.broadcasts import (
    LATENCY,
    LONG_LATENCY,
    SCENARIOS,
    RoundStats,
    Simulator,
    all_senders,
    single_sender,
)
from tests.sweeps import sized

SEEDS = range(sized(1, 2))


class RoundTests(SynchronousTestCase):
    """
    The metrics of a round.
    """

    def test_pair(self) -> None:
        """Of two peers, one gets each message from its author: no hop, and no duplicate."""
        simulator = Simulator(2, 1)
        one, other = simulator.network.nodes
        stats = simulator.gossip_round([one, one, other])
        self.assertEqual((stats.missed, stats.ldh), (0, 0))
        # Three contents, three deliveries, and the paper's "less one".
        self.assertEqual(stats.rmr, 3 / (3 - 1) - 1)
        self.assertTrue(LATENCY[0] <= stats.seconds <= LATENCY[1], stats.seconds)

    def test_missed(self) -> None:
        """A message that does not arrive within five seconds is missed."""
        simulator = Simulator(20, 1)
        simulator.network.loss = 1.0
        stats = simulator.gossip_round([simulator.random_peer()])
        self.assertEqual((stats.missed, stats.ldh, stats.seconds), (19, 0, 5.0))

    def test_mean(self) -> None:
        """The mean of two rounds is the mean of each metric."""
        mean = RoundStats.mean([RoundStats(0, 1, 2, 3), RoundStats(2, 2, 4, 5)])
        self.assertEqual(mean, RoundStats(1, 1.5, 3, 4))

    def test_deterministic(self) -> None:
        """Two runs with the same seed have the same results, those with another seed have others."""
        one, same, other = (all_senders(Simulator(20, seed), 5) for seed in (7, 7, 8))
        self.assertEqual(one, same)
        self.assertNotEqual(one, other)


class GoalTests(SynchronousTestCase):
    """
    0 missed; last delivery hop and redundancy below iroh-gossip's limits.
    """

    def reach(self, peers: int, name: str, rounds: int, latency: tuple[float, float] = LATENCY) -> None:
        """Check that all seeds meet the goals of a scenario."""
        scenario = SCENARIOS[name]
        for seed in SEEDS:
            simulator = Simulator(peers, seed, latency)
            stats = RoundStats.mean(scenario.run(simulator, rounds))
            self.assertTrue(scenario.is_met_by(stats), f"{name}, {peers} nodes, seed {seed}: {stats}")
            self.assertEqual((simulator.isolated(), len(simulator.network.connected_components())), (0, 1))

    def test_single_sender(self) -> None:
        """One sender: LDH < 15, RMR < 0.2."""
        for peers in (20, sized(60, 100)):
            self.reach(peers, "single sender", 30)

    def test_all_senders(self) -> None:
        """A random sender each round: LDH < 18, RMR < 1."""
        for peers in (20, sized(60, 100)):
            self.reach(peers, "all senders", sized(15, 30))

    def test_burst(self) -> None:
        """All at the same time: LDH < 30, RMR < 3."""
        self.reach(20, "burst", 5)
        self.reach(sized(60, 100), "burst", 1)

    def test_long_latencies(self) -> None:
        """The goals are also met on links of up to 100 ms, longer than the timeout of a Graft."""
        self.reach(100, "all senders", sized(15, 30), LONG_LATENCY)

    def test_is_met(self) -> None:
        """One message missed, or a value equal to the limit, fails the goal."""
        scenario = SCENARIOS["single sender"]
        self.assertTrue(scenario.is_met_by(RoundStats(0, 14.9, 0.19, 1)))
        for stats in (RoundStats(0.1, 1, 0, 1), RoundStats(0, 15, 0, 1), RoundStats(0, 1, 0.2, 1)):
            self.assertFalse(scenario.is_met_by(stats))


class RepairTests(SynchronousTestCase):
    """
    Recovery from failures.
    """

    def test_settled(self) -> None:
        """
        Some seconds after all have joined one node at the same time, there are no more
        Neighbor requests.
        """
        simulator = Simulator(100, 0, LONG_LATENCY)
        simulator.network.advance(10.0)
        said: list[str] = []
        simulator.network.tap = lambda sender, receiver, message: said.append(type(message).__name__)
        simulator.network.advance(40.0)
        self.assertEqual((said, simulator.network.asymmetric_links()), ([], []))

    def test_crashes(self) -> None:
        """If 30 of 100 nodes end at the same time, broadcasts two seconds later reach the other 70."""
        for seed in SEEDS:
            simulator = Simulator(100, seed)
            single_sender(simulator, 3)
            simulator.crash(30)
            simulator.network.advance(2.0)
            stats = all_senders(simulator, 10)
            self.assertEqual([each.missed for each in stats], [0] * 10, f"seed {seed}")
            self.assertEqual((len(simulator.network.nodes), simulator.isolated()), (70, 0))

    def test_crashes_unnoticed(self) -> None:
        """
        When the connections of the dead stay open for half a minute,
        announcements bring what the dead do not forward to all who have a living
        path to the author.  (All neighbours of a node are dead in about one of
        six runs: it is cut off until it notices.)
        """
        for seed in range(sized(1, 12)):
            simulator = Simulator(100, seed)
            single_sender(simulator, 3)
            simulator.crash(30, unnoticed=30.0)
            cut_off = 70 - max(map(len, simulator.network.connected_components()))
            stats = single_sender(simulator, 5)
            self.assertLessEqual(max(each.missed for each in stats), cut_off, f"seed {seed}")
            simulator.network.advance(32.0)
            dead = {p for node in simulator.network.nodes.values() for p in node.swarm.neighbors()}
            self.assertEqual(dead - simulator.network.nodes.keys(), set(), f"seed {seed}")
            self.assertEqual([each.missed for each in single_sender(simulator, 3)], [0] * 3, f"seed {seed}")

    def test_loss(self) -> None:
        """With a loss of one message in twenty, at most one delivery in ten thousand is missed, or one."""
        missed: dict[int, float] = {}
        seeds = sized(1, 10)
        for seed in range(seeds):
            simulator = Simulator(100, seed)
            simulator.network.loss = 0.05
            missed[seed] = sum(each.missed for each in all_senders(simulator, 30))
        self.assertLessEqual(sum(missed.values()), max(1, 1e-4 * seeds * 30 * 99), f"by seed: {missed}")

    def test_full_views(self) -> None:
        """
        Ten seconds after all have joined one node at the same time, no member has two free places: refused
        members continue to ask.
        """
        for seed in range(sized(1, 6)):
            simulator = Simulator(100, seed)
            simulator.network.advance(10.0)
            fewest = min(len(node.swarm.neighbors()) for node in simulator.network.nodes.values())
            self.assertGreaterEqual(fewest, 4, f"seed {seed}")
