"""
Tests for L{dtt.dht.outage}.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dtt.dht.bootstrap import MAX_PAUSE
from dtt.dht.node import DHTNode
from dtt.dht.outage import KNOWN_WITHIN, MIN_SILENCE, MIN_TIMEOUTS, PROBE_INTERVAL, OutageWatch
from dtt.testing.net.udp import Datagram
from tests.dht.network import Network
from tests.sweeps import sized


class OutageWatchTests(SynchronousTestCase):
    """
    When an outage begins and ends.
    """

    def setUp(self) -> None:
        """Make a watch that counts probes and returns."""
        self.clock = Clock()
        self.probes = self.returns = 0
        self.watch = OutageWatch(self.clock, self.probe, self.returned)
        self.watch.begin()

    def probe(self) -> None:
        """Count a probe."""
        self.probes += 1

    def returned(self) -> None:
        """Count a return."""
        self.returns += 1

    def fail(self, count: int = MIN_TIMEOUTS) -> None:  # type: ignore[override]
        """Let queries time out that were sent in the course of L{MIN_SILENCE} seconds."""
        for _ in range(count - 1):
            self.watch.timed_out(self.clock.seconds())
        sent = self.clock.seconds()
        self.clock.advance(MIN_SILENCE)
        self.watch.timed_out(sent)

    def test_outage(self) -> None:
        """During an outage, probes go out; a known node that answers ends it."""
        self.fail()
        self.assertTrue(self.watch.silent)
        self.clock.pump([PROBE_INTERVAL] * 100)
        self.assertEqual((self.probes, self.returns), (100, 0))
        self.watch.heard(is_known=True)
        self.assertEqual((self.watch.silent, self.returns), (False, 1))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.watch.heard(is_known=True)
        self.assertEqual(self.returns, 1)

    def test_no_outage(self) -> None:
        """Few timeouts, those of one moment, and those of queries sent before a response are no outage."""
        self.fail(MIN_TIMEOUTS - 1)
        self.watch.begin()
        for _ in range(100):
            self.watch.timed_out(self.clock.seconds())
        self.clock.advance(1.0)
        self.watch.heard(is_known=False)
        for _ in range(100):
            self.watch.timed_out(0.0)
        self.assertEqual((self.watch.silent, self.watch.timeouts), (False, 0))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_unknown_nodes(self) -> None:
        """
        A response from an unknown node does not end an outage; if no known one follows, it ends without any
        notification.
        """
        self.fail()
        self.watch.heard(is_known=False)
        self.assertTrue(self.watch.silent)
        self.clock.pump([PROBE_INTERVAL] * int(KNOWN_WITHIN))
        self.assertEqual((self.watch.silent, self.returns), (False, 0))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_begin(self) -> None:
        """When the network is another one, the outage is over."""
        self.fail()
        self.watch.begin()
        self.watch.heard(is_known=True)
        self.assertEqual((self.watch.silent, self.returns), (False, 0))
        self.assertEqual(self.clock.getDelayedCalls(), [])


class NodeTests(SynchronousTestCase):
    """
    Nodes whose network is gone for a while.
    """

    def build(self, seed: int, families: str = "4") -> DHTNode:
        """Create a network, and return a node that counts its returns."""
        self.network = Network(24, seed=seed, families=families)
        self.addCleanup(self.network.stop)
        self.network.udp.advance(20.0)
        node = self.network.nodes[1]
        self.returns = 0
        self.addCleanup(node.observe(on_returned=self.returned))
        self.sent = 0
        self.network.udp.observers.append(self.count)
        return node

    def returned(self) -> None:
        """Count a return."""
        self.returns += 1

    def count(self, datagram: Datagram) -> None:
        """Count what the node sends."""
        self.sent += datagram.source[0] in (self.network.host(1), self.network.host6(1))

    def go(self, *hosts: str, seconds: float) -> None:
        """Silence addresses for some seconds.  The node pings others, as behind a NAT."""
        self.network.nodes[1].keep_mapping(behind_nat=True)
        self.network.udp.dead.update(hosts)
        self.network.udp.advance(seconds)
        self.network.udp.dead.difference_update(hosts)

    def test_return(self) -> None:
        """
        However long the network was gone, its return is noticed within seconds, and the table is soon as
        full as before.  Meanwhile little is sent.
        """
        for seed in range(sized(2, 30)):
            node = self.build(seed)
            known = len(node.table)
            for seconds in (60, 300, 3600):
                self.sent, self.returns = 0, 0
                gone = seconds + 7.3 * seed
                self.go(self.network.host(1), seconds=gone)
                self.assertLess(self.sent / gone, 4.0, f"seed {seed}")
                self.assertEqual(self.returns, 0, f"seed {seed}")
                self.network.udp.advance(2 * PROBE_INTERVAL)
                self.assertEqual(self.returns, 1, f"seed {seed} {seconds}")
                self.assertGreaterEqual(len(node.table), known - 2, f"seed {seed} {seconds}")

    def test_one_family(self) -> None:
        """The loss of IPv4 alone is noticed, and its return too."""
        for seed in range(sized(1, 10)):
            node = self.build(seed, "46")
            self.go(self.network.host(1), seconds=120)
            self.assertTrue(node.sides[0].neighbourhood.outage.silent, f"seed {seed}")
            self.assertFalse(node.sides[1].neighbourhood.outage.silent, f"seed {seed}")
            self.network.udp.advance(2 * PROBE_INTERVAL)
            self.assertEqual(self.returns, 1, f"seed {seed}")

    def test_started_without_a_network(self) -> None:
        """
        A node that starts while there is no network, and knows only a bootstrap host, is ready soon after the
        network has come, not after the next round of bootstrapping.
        """
        self.build(0)
        node = self.network.node(start=False)
        host = self.network.host(len(self.network.nodes) - 1)
        self.network.udp.dead.add(host)
        node.startService()
        self.network.udp.advance(10 * MAX_PAUSE)
        ready = node.when_ready()
        self.assertNoResult(ready)
        self.network.udp.dead.discard(host)
        self.network.udp.advance(PROBE_INTERVAL + 1)
        self.successResultOf(ready)
