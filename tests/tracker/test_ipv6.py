"""
Trackers on machines with IPv4 and IPv6, in virtual time.
"""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dtt.config import Config, DHTConfig
from dtt.dht.node import DHTNode
from dtt.testing.net.clock import HeapClock
from dtt.testing.net.machines import MachineNetwork
from dtt.tracker.tracker import Tracker
from tests.tracker.common import fixed_chance

NODES = 5


class DualStackTests(SynchronousTestCase):
    """
    Machines that have a global IPv6 address.
    """

    def setUp(self) -> None:
        """Start a DHT, each node of which has addresses of both families."""
        fixed_chance(self)
        self.net = MachineNetwork(HeapClock(), latency=0.02, rng=Random(0), log_limit=0)
        self.running: list[Any] = []
        bootstrap = [("45.1.0.1", 6881), ("2a00:1::1", 6881)]
        for number in range(1, NODES + 1):
            node = DHTNode(
                self.net.udp.reactor(f"45.{number}.0.1", f"2a00:{number}::1"),
                port=6881,
                interface6="::",
                bootstrap=bootstrap if number > 1 else [],
                rng=Random(f"node {number}"),
            )
            node.startService()
            self.running.append(node)
            self.net.advance(0.3)
        self.net.advance(5)
        self.addCleanup(self.end)

    def end(self) -> None:
        """Stop everything."""
        for each in reversed(self.running):
            each.stopService()
        self.net.advance(3)

    def member(self, host: str, host6: str | None, **options: Any) -> Tracker:
        """Start a tracker that has joined a topic."""
        options.setdefault("transport", "streams,quic")
        dht = DHTConfig(
            bootstrap=(("45.1.0.1", 6881), ("2a00:1::1", 6881)), bind6=options.pop("bind6", "auto")
        )
        tracker = Tracker(
            self.net.reactor(host, host6),
            Config(dht=dht, **options),
            lambda event: None,
            Random(f"member {len(self.running)}"),
        )
        tracker.startService()
        self.running.append(tracker)
        tracker.join("x", b"s")
        return tracker

    def joined(self, *trackers: Tracker) -> bool:
        """Return whether all have a neighbour."""
        return all(topic.neighbors() for each in trackers for topic in each._topics.values())

    def kinds(self, tracker: Tracker) -> set[tuple[int, bool]]:
        """Return the transports of its addresses, and whether these are of IPv6."""
        return {(a.transport, ":" in a.host) for a in tracker._listeners.transport.addresses()}  # type: ignore[union-attr]

    def test_both(self) -> None:
        """
        Without any option, the DHT, streams and QUIC use both families.
        """
        one, two = self.member("80.0.0.1", "2a00:99::1"), self.member("80.0.0.2", None)
        self.net.advance(15)
        self.assertTrue(self.joined(one, two))
        self.assertEqual([side.ready for side in one.dht.sides], [True, True])
        self.assertEqual(self.kinds(one), {(0, False), (0, True), (2, False), (2, True)})
        self.assertEqual(self.kinds(two), {(0, False), (2, False)})
        self.assertEqual({host for host, _ in one.dht.mapped()}, {"80.0.0.1", "2a00:99::1"})

    def test_ipv6_only_peers(self) -> None:
        """
        A machine with both families meets one that has only IPv6.
        """
        one, two = self.member("80.0.0.1", "2a00:99::1"), self.member("2a00:98::1", None)
        self.net.advance(15)
        self.assertTrue(self.joined(one, two))

    def test_off(self) -> None:
        """
        IPv6 can be switched off.
        """
        one = self.member("80.0.0.1", "2a00:99::1", bind6="off")
        self.net.advance(5)
        self.assertEqual(len(one.dht.sides), 1)
        self.assertEqual(self.kinds(one), {(0, False), (2, False)})

    def test_address(self) -> None:
        """
        An address can be given.
        """
        one = self.member("80.0.0.1", "2a00:99::1", bind6="2a00:99::1")
        self.net.advance(5)
        self.assertIn(("2a00:99::1", one.dht.port6), one.dht.bound_addresses())

    def test_no_ipv6_socket(self) -> None:
        """
        A machine on which IPv6 can't be used, although it has an address, continues without it.
        """
        reactor = self.net.reactor("80.0.0.1")
        reactor.local_addresses = lambda: ("80.0.0.1", "2a00:99::1")
        self.patch(self.net, "reactor", lambda host, host6: reactor)
        one = self.member("80.0.0.1", "2a00:99::1")
        self.net.advance(5)
        self.assertEqual(len(one.dht.sides), 1)
        self.assertTrue(one.dht.sides[0].ready)

    def test_broken(self) -> None:
        """
        IPv6 on which nothing arrives delays nothing.
        """
        times = []
        for number, hosts in enumerate((("2a00:97::1", "2a00:96::1"), (None, None))):
            network = self.net
            one = self.member(f"80.{number}.0.1", hosts[0])
            two = self.member(f"80.{number}.0.2", hosts[1])
            for each, host6 in ((one, hosts[0]), (two, hosts[1])):
                # The machine still has the address.
                self.assertEqual(len(each.dht.sides), 2 if host6 else 1)
                known = each._reactor.local_addresses()
                self.patch(each._reactor, "local_addresses", lambda known=known: known)
                assert each._listeners._streams is not None
                each._listeners._streams._interface_addresses = each._reactor.local_addresses
            network.unplug(*(host for host in hosts if host))
            began = network.clock.seconds()
            while not self.joined(one, two):
                network.advance(0.05)
                self.assertLess(network.clock.seconds() - began, 10)
            times.append(network.clock.seconds() - began)
            for each in (one, two):
                self.running.remove(each)
                each.stopService()
            network.advance(3)
        self.assertLess(times[0], times[1] + 0.3, f"{times}")
