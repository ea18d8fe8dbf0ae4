"""
Tests for L{dtt.tracker.snapshot}.  Snapshots of whole trackers are in
L{tests.tracker.test_status}.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dtt.dht.mapped_address import MappingVotes
from dtt.krpc.compact import IPV4, IPV6
from dtt.tracker.snapshot import dht_status, mappings, shown_address
from dtt.tracker.status import DHTStatus, MappingStatus, NATStatus
from dtt.tracker.traffic import INTERVAL, Totals, Traffic
from dtt.wire.addresses import IROH, QUIC, PeerAddress, RelayAddress

OWN = "192.168.1.5"


class Node:
    """
    Stands for a DHT node on both families.
    """

    def __init__(self) -> None:
        self.node_id, self.port, self.port6 = b"n" * 20, 6881, 6882
        self.known, self.external_host = 150, "203.0.113.1"
        self.votes = [MappingVotes(), MappingVotes()]
        self.sides = [
            SimpleNamespace(ready=ready, family=family, neighbourhood=SimpleNamespace(mapping=votes))
            for ready, family, votes in zip((False, True), (IPV4, IPV6), self.votes, strict=True)
        ]
        self.bound: list[Any] = [("0.0.0.0", 6881)]
        self.numbers: dict[str, float] = {"items": 3, "peers": 4, "ipv4_responses": 9, "ipv6_round_trip": 0.2}

    def statistics(self) -> dict[str, float]:
        """The counters."""
        return self.numbers

    def bound_addresses(self) -> list[Any]:
        """The sockets."""
        return self.bound


class DHTStatusTests(SynchronousTestCase):
    """
    Tests for L{dht_status}.
    """

    def setUp(self) -> None:
        self.node: Any = Node()
        self.clock = Clock()
        self.traffic = Traffic(self.clock, Totals)

    def status(self) -> DHTStatus:
        """
        The snapshot.
        """
        return dht_status(self.node, self.traffic, [OWN])

    def test_numbers(self) -> None:
        """
        What is stored has its own place, and is no counter; the node is ready when one family is.
        """
        status = self.status()
        self.assertEqual((status.stored_items, status.stored_peers), (3, 4))
        self.assertEqual(status.counters, {"ipv4_responses": 9, "ipv6_round_trip": 0.2})
        self.assertEqual((status.ready, status.nodes, status.round_trip), (True, 150, 0.2))
        self.assertEqual((status.port, status.port6, status.external_host), (6881, 6882, "203.0.113.1"))
        self.node.sides[1].ready = False
        self.assertFalse(self.status().ready)

    def test_statistics_are_unchanged(self) -> None:
        """
        The node's own numbers stay as they are.
        """
        self.status()
        self.assertIn("items", self.node.numbers)

    def test_round_trip(self) -> None:
        """
        The round trip is that of the first family that has one, even if it is 0.
        """
        self.node.numbers["ipv4_round_trip"] = 0.0
        self.assertEqual(self.status().round_trip, 0.0)
        self.node.numbers.clear()
        self.assertIsNone(self.status().round_trip)

    def test_not_bound(self) -> None:
        """
        A node without a socket knows no nodes.
        """
        self.node.bound = []
        self.assertEqual(self.status().nodes, 0)

    def test_rates(self) -> None:
        """
        The rates are those of the traffic.
        """
        totals = [Totals(), Totals(30, 60)]
        traffic = Traffic(self.clock, lambda: totals.pop(0))
        traffic.startService()
        self.clock.advance(INTERVAL)
        status = dht_status(self.node, traffic, [OWN])
        self.assertEqual((status.sent_rate, status.received_rate), (30 / INTERVAL, 60 / INTERVAL))
        traffic.stopService()

    def vote(self, side: int, seen: str, *ports: int) -> None:
        """
        Let nodes in different networks report our address, each with another port.
        """
        for number, port in enumerate(ports):
            self.node.votes[side].vote(bytes((45, number, 0, 1)), bytes(map(int, seen.split("."))), port)

    def test_nat(self) -> None:
        """
        Each family has its kind of NAT, with the number of voters; before there are enough it has none.
        """
        self.assertEqual(
            self.status().nat, (NATStatus(family="ipv4", voters=0), NATStatus(family="ipv6", voters=0))
        )
        for seen, ports, kind, mapped in (
            ("203.0.113.1", (5,) * 8, "endpoint-independent", "203.0.113.1:5"),
            (OWN, (5,) * 8, "none", f"{OWN}:5"),
            ("203.0.113.1", range(8), "symmetric", None),
        ):
            self.setUp()
            self.vote(0, seen, *ports)
            self.assertEqual(
                self.status().nat[0], NATStatus(family="ipv4", kind=kind, mapped=mapped, voters=8)
            )


class AddressesTests(SynchronousTestCase):
    """
    Tests for L{shown_address} and L{mappings}.
    """

    def test_address(self) -> None:
        """
        An address is shown with its transport.
        """
        for address, text in (
            (PeerAddress(QUIC, "192.0.2.1", 5), "quic:192.0.2.1:5"),
            (PeerAddress(IROH, "2001:db8::1", 5), "iroh:[2001:db8::1]:5"),
            (RelayAddress("https://relay.example/"), "relay:https://relay.example/"),
        ):
            self.assertEqual(shown_address(address), text)

    def test_mappings(self) -> None:
        """
        Every mapped port is shown, whether or not members learn it.
        """
        ports = [
            {"protocol": "UDP", "port": 6881, "outside": "203.0.113.1:7", "method": "PCP", "listed": True},
            {"protocol": "TCP", "port": 4433, "outside": "10.0.0.1:8", "method": "UPnP", "listed": False},
        ]
        mapped = {(each["protocol"], each["port"]): SimpleNamespace(**each) for each in ports}
        mapping: Any = SimpleNamespace(mapped=mapped)
        expected: list[Any] = [MappingStatus(**each) for each in ports]  # type: ignore[arg-type]
        self.assertEqual(list(mappings(mapping)), expected)
