"""
The contract of transports: what is left when one stops, and after random use.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from dtt.wire.addresses import PeerAddress
from tests.sweeps import sized
from tests.transport.contract.case import BYE, JOIN, OTHER, TOPIC, ContractMixin
from tests.transport.contract.networks import StreamsNetwork, Transport


class StoppingMixin(ContractMixin):
    """
    Ends of transports.
    """

    def test_stop(self) -> None:
        """
        Stopping closes cleanly: the peer reports no disconnection; later calls fail,
        and no timer is left.
        """
        on_a, on_b = self.open(self.a, self.b)
        self.connect(self.a, self.b)
        self.b.send(self.a.peer_id, TOPIC, b"hello")
        self.net.advance(0.1)
        self.b.send(self.a.peer_id, TOPIC, BYE)
        running = self.b.dial(StreamsNetwork.keys[9].peer_id, [PeerAddress(self.net.kind, "10.0.0.200", 1)])
        result = self.b.stop()
        self.assertEqual(self.reason(running), "stopped")
        self.net.advance(1)
        self.successResultOf(result)
        self.assertEqual(on_a.messages[-1], (self.b.peer_id, BYE))
        self.assertEqual(on_a.disconnected + on_b.disconnected, [])
        self.assertEqual(self.net.connections(self.a), 0)
        self.assertEqual(self.b.addresses(), ())
        self.assertEqual(self.reason(self.b.dial(self.a.peer_id, self.a.addresses())), "stopped")
        self.successResultOf(self.b.stop())
        self.net.advance(6)
        self.assertEqual(len(self.net.clock.getDelayedCalls()), self.net.listener_timers)

    def test_random_use(self) -> None:
        """
        With four peers used at random nothing is logged, both sides agree once it is
        quiet, and nothing is left at the end.
        """
        for seed in range(self.random_runs):
            self.run_randomly(seed)

    random_runs = sized(1, 3)

    def run_randomly(self, seed: int) -> None:
        """
        One run of L{test_random_use}.
        """
        rng = Random(seed)
        self.net = self.network()
        transports: Sequence[Transport] = [self.net.transport(n) for n in range(1, 5)]
        topics = [TOPIC, OTHER]
        held = {(transport.peer_id, topic): False for transport in transports for topic in topics}
        for _ in range(200):
            one, other = rng.sample(transports, 2)
            topic = rng.choice(topics)
            match rng.randrange(9):
                case 0 | 1:
                    one.dial(other.peer_id, other.addresses()).addErrback(lambda _: None)
                case 2 | 3 | 4:
                    for _ in range(rng.randrange(4)):
                        one.send(other.peer_id, topic, rng.choice((JOIN, rng.randbytes(100))))
                case 5:
                    one.disconnect(other.peer_id, topic)
                case 6 if held[one.peer_id, topic]:
                    one.close_topic(topic)
                    held[one.peer_id, topic] = False
                case 6 | 7 if not held[one.peer_id, topic]:
                    self.open(one, topic=topic)
                    held[one.peer_id, topic] = True
                case 8 if rng.random() < 0.2:
                    self.net.cut(one, other)
            self.net.advance(rng.choice((0, 0.003, 0.01, 0.05, 0.5)))
        self.net.advance(20)
        for one in transports:
            for other in transports:
                self.assertEqual(
                    one.is_connected(other.peer_id), other.is_connected(one.peer_id), f"seed {seed}"
                )
        if self.net.keep_alive is not None:
            timers = sum(map(self.net.connections, transports)) if self.net.keep_alive else 0
            self.assertEqual(len(self.net.clock.getDelayedCalls()), timers, f"seed {seed}")
        for transport in transports:
            transport.stop()
        self.net.advance(10)
        self.assertEqual(self.net.clock.getDelayedCalls(), [], f"seed {seed}")
        for transport in transports:
            closed = {reason for reason in transport.counters if reason.startswith("closed_")}
            allowed = {
                "closed_by_peer",
                "closed_cut",
                "closed_timed_out",
                "closed_handshake_failed",
                "closed_replaced",
            }
            self.assertEqual(closed - allowed, set(), f"seed {seed}")
