"""
Tests for which addresses whole trackers list, and what they say if nobody can reach them.
"""

from __future__ import annotations

from random import Random
from unittest.mock import patch

from dtt.config import Config, DHTConfig
from dtt.dht.node import DHTNode
from dtt.events import AddressesMissing, AddressesPublished
from dtt.tracker import transports
from dtt.tracker.tracker import Tracker
from dtt.wire.addresses import decode_peer_data
from tests.sweeps import sized
from tests.tracker.case import TrackerTestCase


class ReachableTests(TrackerTestCase):
    """
    Members that nobody can reach.
    """

    def on_machine_with(self, *interfaces: str) -> Tracker:
        """Start a tracker that listens on all IPv4 addresses of a machine with these addresses."""
        # A simulated machine knows only its own.
        self.patch(transports, "interfaces_of", lambda reactor: lambda: interfaces)
        tracker = self.tracker(1, start=False, listen=("10.0.0.1", 0))
        for listener in tracker._listeners._hosts:
            tracker._listeners._hosts[listener] = ("0.0.0.0", 0)
            listener._interface_addresses = lambda: interfaces  # type: ignore[attr-defined]
        tracker.privilegedStartService()
        tracker.startService()
        return tracker

    def test_unreachable(self) -> None:
        """
        A member of a network elsewhere publishes neither loopback addresses nor those of
        a family on which it does not listen, and says once why.
        """
        for interfaces, reason in (
            ((), "this machine has no default route"),
            (("2a00::1",), "it listens on IPv4 only, and this machine has only IPv6"),
        ):
            tracker = self.on_machine_with(*interfaces)
            topic = tracker.join("x")
            self.net.advance(sized(130, 300))
            self.assertEqual(self.of(tracker, AddressesPublished), [])
            self.assertEqual(decode_peer_data(topic._gossip._data or b""), ())
            self.assertEqual([event.reason for event in self.of(tracker, AddressesMissing)], [reason])
            self.stop(tracker)

    def test_reachable(self) -> None:
        """
        A member with an address says nothing; one whose network is on this machine lists
        loopback.
        """
        tracker = self.on_machine_with("80.0.0.1")
        self.net.advance(100)
        self.assertEqual(self.of(tracker, AddressesMissing), [])
        self.stop(tracker)
        local = self.on_machine_with()
        local.dht._reach.include("127.0.0.1")
        self.net.advance(100)
        self.assertEqual(
            [str(address).partition(":")[0] for address in local._listeners.transport.addresses()],
            ["127.0.0.1"],
        )

    def test_only_ipv6(self) -> None:
        """
        On a machine that has only IPv6, the DHT and the transports listen on IPv6 unless
        another address is configured.
        """
        config = Config(transport="streams")
        for interfaces, interface6, host in (
            (("2a00::1",), "::", "::"),
            (("80.0.0.1",), None, "0.0.0.0"),
            (("80.0.0.1", "2a00::1"), "::", "0.0.0.0"),
            (("80.0.0.1", "fd00::1"), None, "0.0.0.0"),
            ((), None, "0.0.0.0"),
        ):
            with (
                patch("dtt.tracker.tracker.interfaces_of", lambda _, found=interfaces: lambda: found),
                patch("dtt.tracker.own_dht.interfaces_of", lambda _, found=interfaces: lambda: found),
                patch("dtt.tracker.transports.interfaces_of", lambda _, found=interfaces: lambda: found),
                patch("dtt.tracker.own_dht.DHTNode", side_effect=DHTNode) as made,
            ):
                tracker = Tracker(self.net.reactor("10.0.0.9"), config, rng=Random(1))
                self.assertEqual(made.call_args.kwargs["interface6"], interface6)
                self.assertEqual([host for host, _ in tracker._listeners._hosts.values()], [host])
                tracker = Tracker(
                    self.net.reactor("10.0.0.9"),
                    Config(
                        transport="streams",
                        listen=("10.0.0.9", 0),
                        dht=DHTConfig(bind="10.0.0.9"),
                    ),
                    rng=Random(1),
                )
                self.assertIsNone(made.call_args.kwargs["interface6"])
                self.assertEqual([host for host, _ in tracker._listeners._hosts.values()], ["10.0.0.9"])
