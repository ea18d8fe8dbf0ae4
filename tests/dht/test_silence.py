"""
Tests for how L{dtt.dht.maintenance} interprets time-outs: are other nodes dead, or are
we cut off?
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dtt.dht.maintenance import SILENCE
from dtt.interfaces import Contact
from dtt.krpc.protocol import HARD_TIMEOUT
from tests.dht.network import PUBLIC_KEY, SALT, Network, outcome
from tests.sweeps import sized


class SilenceTests(SynchronousTestCase):
    """
    When the bootstrap hosts are queried again.
    """

    def build(self, count: int, seed: int = 0) -> None:
        """
        Create a network whose node under test counts how often it bootstraps.
        """
        self.network = Network(count, seed=seed)
        self.addCleanup(self.network.stop)
        self.network.udp.advance(20.0)
        self.node = self.network.nodes[1]
        self.lost = 0
        bootstrap = self.node.sides[0]._bootstrap
        start = bootstrap.start

        def started(known: list[Contact]) -> None:
            self.lost += not bootstrap.running
            start(known)

        self.patch(bootstrap, "start", started)

    def ask_dead(self, count: int) -> None:
        """
        Send queries to nodes that do not exist.
        """
        for _ in range(count):
            self.dead += 1
            contact = Contact(self.dead.to_bytes(20), f"10.77.{self.dead}.1", 1)
            outcome(self.node.sides[0].client.ask(contact, b"ping", {}))

    dead = 0

    def ask_alive(self) -> None:
        """
        Send a query that is answered.
        """
        contact = self.node.table.contacts()[0]
        outcome(self.node.sides[0].client.ask(contact, b"ping", {}))
        self.network.udp.advance(0.1)

    def test_one_lookups_dead_nodes(self) -> None:
        """
        Time-outs of concurrent queries do not count if a response has arrived since
        they were sent.
        """
        self.build(6)
        self.ask_dead(40)
        self.network.udp.advance(1.0)
        self.ask_alive()
        self.network.udp.advance(HARD_TIMEOUT)
        self.assertEqual(self.node.krpc.counters["timeouts"], 40)
        self.assertEqual(self.lost, 0)

    def test_no_answers(self) -> None:
        """
        L{SILENCE} time-outs of queries sent after the last response trigger
        bootstrapping, one fewer does not.
        """
        for count, lost in ((SILENCE - 1, 0), (SILENCE, 1), (40, 1)):
            self.build(6)
            self.ask_alive()
            self.ask_dead(count)
            self.network.udp.advance(HARD_TIMEOUT + 0.01)
            self.assertEqual(self.lost, lost, count)

    def test_answer_between(self) -> None:
        """
        A response resets the count: of the queries sent before and after it, only the
        latter count, even if the former have already timed out.
        """
        for wait in (0.5, HARD_TIMEOUT + 0.01):
            for after, lost in ((SILENCE - 1, 0), (SILENCE, 1)):
                self.build(6)
                self.ask_dead(SILENCE - 1)
                self.network.udp.advance(wait)
                self.ask_alive()
                self.ask_dead(after)
                self.network.udp.advance(HARD_TIMEOUT + 0.01)
                self.assertEqual(self.lost, lost, (wait, after))

    def test_lookups_with_dead_nodes(self) -> None:
        """
        Lookups in a network most of whose nodes are dead do not trigger bootstrapping;
        the death of the rest does.
        """
        for seed in range(sized(1, 3)):
            self.build(40, seed)
            udp = self.network.udp
            udp.dead = {self.network.host(number) for number in range(15, 40)}
            self.network.result(self.node.get_mutable(PUBLIC_KEY, SALT))
            udp.advance(HARD_TIMEOUT + 0.1)
            self.assertGreater(self.node.krpc.counters["timeouts"], SILENCE, f"seed {seed}")
            self.assertEqual(self.lost, 0, f"seed {seed}")
            udp.dead = {self.network.host(number) for number in range(40) if number != 1}
            for _ in range(3):
                outcome(self.node.get_mutable(PUBLIC_KEY, SALT))
                udp.advance(3.0)
            self.assertGreaterEqual(self.lost, 1, f"seed {seed}")
