"""
Metrics of broadcasts over a L{GossipNetwork}, the same as iroh-gossip's.

The scenarios, the rounds and the metrics are those of iroh-gossip 0.101
(C{src/proto/sim.rs}, C{tests/sim.rs}, C{simulations/all.toml}): all members join one peer
at the same time and have 20 times the largest latency to settle. Then, round by round,
messages are broadcast at the same time; a round ends when all members have all messages.
One difference makes our results worse: a new connection takes four latencies here, and
none there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from attrs import frozen

from dtt.gossip.proto.events import Broadcast, JoinPeers
from dtt.testing.simulation.network import GossipNetwork, uniform
from dtt.wire.values import GossipMessage

#: Minimum and maximum one-way latency in seconds, drawn for each link: upstream's C{all.toml}, and the
#: default of its C{tests/sim.rs}.
LATENCY, LONG_LATENCY = (0.010, 0.050), (0.010, 0.100)

#: Multiples of the largest latency that a new swarm gets to settle, and the timeout of a round in
#: seconds (upstream).
SETTLING, ROUND_TIMEOUT = 20, 5.0


@frozen(slots=True)
class RoundStats:
    """
    The metrics of one round, or the means of several.

    @ivar missed: undelivered messages, summed over all peers.
    @ivar ldh: last delivery hop: the largest number of hops that a message had taken when
        a peer first received it; 0: directly from its author.
    @ivar rmr: relative message redundancy: contents that arrived anywhere, including
        duplicates, for each that was needed (less one, as in the PlumTree paper), less 1.
    @ivar seconds: the time from the broadcasts to the last delivery.
    """

    missed: float
    ldh: float
    rmr: float
    seconds: float

    @classmethod
    def mean(cls, rounds: Sequence[RoundStats]) -> RoundStats:
        """
        The mean of each metric.
        """
        count = len(rounds)
        return cls(
            sum(r.missed for r in rounds) / count,
            sum(r.ldh for r in rounds) / count,
            sum(r.rmr for r in rounds) / count,
            sum(r.seconds for r in rounds) / count,
        )


class Simulator:
    """
    A swarm of gossip machines that have joined and settled.

    @ivar network: the machines.
    """

    def __init__(
        self, peers: int, seed: int, latency: tuple[float, float] = LATENCY, size: int = 100
    ) -> None:
        """
        @param peers: the number of machines.
        @param seed: the seed of all random choices.
        @param latency: the minimum and maximum one-way latency of a link, in seconds.
        @param size: the size of a content, in bytes.
        """
        self._rng = Random(seed)
        self._size = size
        self._broadcasts = 0
        self.network = GossipNetwork(self._rng, uniform(*latency))
        ids = [number.to_bytes(4, "big") * 8 for number in range(peers)]
        for peer in ids:
            self.network.add(peer)
            self.network.command(peer, JoinPeers((ids[0],)))
        self.network.advance(SETTLING * latency[1])

    def random_peer(self) -> bytes:
        """
        A random living peer.
        """
        return self._rng.choice(tuple(self.network.nodes))

    def isolated(self) -> int:
        """
        The number of peers without a neighbour.
        """
        return sum(not node.swarm.neighbors() for node in self.network.nodes.values())

    def crash(self, count: int, unnoticed: float = 0.0) -> None:
        """
        Make C{count} random peers vanish at the same time; see L{GossipNetwork.kill}.
        """
        for _ in range(count):
            self.network.kill(self.random_peer(), unnoticed)

    def gossip_round(self, senders: Sequence[bytes]) -> RoundStats:
        """
        Let each of C{senders} broadcast a new message, and run until all are delivered or
        the round times out.
        """
        network = self.network
        for node in network.nodes.values():
            node.events.clear()
            node.payloads = 0
        started, wanted = network.now, len(senders) * (len(network.nodes) - 1)
        network.deliveries = 0
        for sender in senders:
            self._broadcasts += 1
            network.command(sender, Broadcast((b"%d" % self._broadcasts).ljust(self._size)))
        network.run_while(lambda: network.deliveries < wanted, ROUND_TIMEOUT)
        received = [
            event.round
            for node in network.nodes.values()
            for event in node.events
            if isinstance(event, GossipMessage)
        ]
        payloads = sum(node.payloads for node in network.nodes.values())
        return RoundStats(
            missed=wanted - len(received),
            ldh=max(received, default=0),
            rmr=payloads / max(1, len(received) - 1) - 1,
            seconds=network.now - started,
        )


def single_sender(simulator: Simulator, rounds: int) -> list[RoundStats]:
    """
    One peer broadcasts a message each round.
    """
    sender = simulator.random_peer()
    return [simulator.gossip_round([sender]) for _ in range(rounds)]


def all_senders(simulator: Simulator, rounds: int) -> list[RoundStats]:
    """
    A random peer broadcasts a message each round.
    """
    return [simulator.gossip_round([simulator.random_peer()]) for _ in range(rounds)]


def burst(simulator: Simulator, rounds: int) -> list[RoundStats]:
    """
    All peers broadcast a message each round, at the same time.
    """
    return [simulator.gossip_round(tuple(simulator.network.nodes)) for _ in range(rounds)]


@frozen(slots=True)
class Scenario:
    """
    A measurement and its upper bounds (from upstream's C{tests/sim.rs}, which also
    requires that no message is missed).

    @ivar run: runs a given number of rounds.
    @ivar rounds: the number of rounds upstream.
    @ivar max_ldh: the mean C{ldh} must be below.
    @ivar max_rmr: the mean C{rmr} must be below.
    """

    run: Callable[[Simulator, int], list[RoundStats]]
    rounds: int
    max_ldh: float
    max_rmr: float

    def is_met_by(self, stats: RoundStats) -> bool:
        """
        Are the means within the bounds?
        """
        return stats.missed == 0 and stats.ldh < self.max_ldh and stats.rmr < self.max_rmr


SCENARIOS = {
    "single sender": Scenario(single_sender, 30, 15, 0.2),
    "all senders": Scenario(all_senders, 30, 18, 1),
    "burst": Scenario(burst, 5, 30, 3),
}
