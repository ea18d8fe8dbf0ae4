"""
Tests for L{dtt.testing.simulation.broadcasts}, and of the machines by it: the goals that
iroh-gossip sets itself, on 20 and 100 nodes; C{benchmarks/gossip_sim.py} has
1000 as well.
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

SEEDS = (0, 1)


class RoundTests(SynchronousTestCase):
    """
    The numbers of a round.
    """

    def test_pair(self) -> None:
        """Of two, one gets each message from its author: no hop, and no duplicate."""
        simulator = Simulator(2, 1)
        one, other = simulator.network.nodes
        stats = simulator.gossip_round([one, one, other])
        self.assertEqual((stats.missed, stats.ldh), (0, 0))
        # Three contents, three deliveries, and the paper's "less one".
        self.assertEqual(stats.rmr, 3 / (3 - 1) - 1)
        self.assertTrue(LATENCY[0] <= stats.seconds <= LATENCY[1], stats.seconds)

    def test_missed(self) -> None:
        """What does not arrive within five seconds is missed."""
        simulator = Simulator(20, 1)
        simulator.network.loss = 1.0
        stats = simulator.gossip_round([simulator.random_peer()])
        self.assertEqual((stats.missed, stats.ldh, stats.seconds), (19, 0, 5.0))

    def test_mean(self) -> None:
        """The mean of two rounds is that of each number."""
        mean = RoundStats.mean([RoundStats(0, 1, 2, 3), RoundStats(2, 2, 4, 5)])
        self.assertEqual(mean, RoundStats(1, 1.5, 3, 4))

    def test_deterministic(self) -> None:
        """Two runs with the same seed come to the same, those with another to something else."""
        one, same, other = (all_senders(Simulator(20, seed), 5) for seed in (7, 7, 8))
        self.assertEqual(one, same)
        self.assertNotEqual(one, other)


class GoalTests(SynchronousTestCase):
    """
    Missed 0; last delivery hop and redundancy below the limits of iroh-gossip.
    """

    def reach(self, peers: int, name: str, rounds: int, latency: tuple[float, float] = LATENCY) -> None:
        """All seeds meet the goals of a scenario."""
        scenario = SCENARIOS[name]
        for seed in SEEDS:
            simulator = Simulator(peers, seed, latency)
            stats = RoundStats.mean(scenario.run(simulator, rounds))
            self.assertTrue(scenario.is_met_by(stats), f"{name}, {peers} nodes, seed {seed}: {stats}")
            self.assertEqual((simulator.isolated(), len(simulator.network.connected_components())), (0, 1))

    def test_single_sender(self) -> None:
        """One sender: LDH < 15, RMR < 0.2."""
        for peers in (20, 100):
            self.reach(peers, "single sender", 30)

    def test_all_senders(self) -> None:
        """A random sender each round: LDH < 18, RMR < 1."""
        for peers in (20, 100):
            self.reach(peers, "all senders", 30)

    def test_burst(self) -> None:
        """All at the same time: LDH < 30, RMR < 3."""
        self.reach(20, "burst", 5)
        self.reach(100, "burst", 1)

    def test_long_latencies(self) -> None:
        """Links of up to 100 ms, longer than a Graft waits."""
        self.reach(100, "all senders", 30, LONG_LATENCY)

    def test_is_met(self) -> None:
        """One message missed is enough to fail, and so is the limit itself."""
        scenario = SCENARIOS["single sender"]
        self.assertTrue(scenario.is_met_by(RoundStats(0, 14.9, 0.19, 1)))
        for stats in (RoundStats(0.1, 1, 0, 1), RoundStats(0, 15, 0, 1), RoundStats(0, 1, 0.2, 1)):
            self.assertFalse(scenario.is_met_by(stats))


class RepairTests(SynchronousTestCase):
    """
    What breaks is mended.
    """

    def test_settled(self) -> None:
        """Some seconds after all have joined one node at once, nobody asks for neighbours any more."""
        simulator = Simulator(100, 0, LONG_LATENCY)
        simulator.network.advance(10.0)
        said: list[str] = []
        simulator.network.tap = lambda sender, receiver, message: said.append(type(message).__name__)
        simulator.network.advance(40.0)
        self.assertEqual((said, simulator.network.asymmetric_links()), ([], []))

    def test_crashes(self) -> None:
        """When 30 of 100 nodes end at once, what is broadcast two seconds later reaches the other 70."""
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
        When their connections stand on for half a minute, announcements bring
        round what the dead do not forward.
        """
        for seed in SEEDS:
            simulator = Simulator(100, seed)
            single_sender(simulator, 3)
            simulator.crash(30, unnoticed=30.0)
            stats = single_sender(simulator, 5)
            self.assertEqual([each.missed for each in stats], [0] * 5, f"seed {seed}")
            simulator.network.advance(32.0)
            dead = {p for node in simulator.network.nodes.values() for p in node.swarm.neighbors()}
            self.assertEqual(dead - simulator.network.nodes.keys(), set())

    def test_loss(self) -> None:
        """Of messages that must get through one loss in twenty, one in ten thousand is missed at most."""
        for seed in SEEDS:
            simulator = Simulator(100, seed)
            simulator.network.loss = 0.05
            stats = RoundStats.mean(all_senders(simulator, 30))
            self.assertLessEqual(stats.missed / 99, 1e-4, f"seed {seed}: {stats}")
