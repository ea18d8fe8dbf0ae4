"""
Members that find each other in the local network.
"""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dtt.config import Config, DHTConfig, DiscoveryConfig
from dtt.events import Event
from dtt.testing.net.clock import HeapClock
from dtt.testing.net.machines import MachineNetwork
from dtt.tracker.tracker import Tracker
from tests.tracker.common import fixed_chance


class LocalNetworkTests(SynchronousTestCase):
    """
    Two laptops without an Internet.
    """

    def setUp(self) -> None:
        """No members."""
        fixed_chance(self)
        clock = HeapClock()
        clock.rightNow = 1_800_000_020.0
        self.net = MachineNetwork(clock, rng=Random(1), log_limit=0)
        self.trackers: list[Tracker] = []
        self.addCleanup(self.stop)

    def member(self, host: str, secret: bytes = b"secret", **config: Any) -> Tracker:
        """Start a member."""
        events: list[Event] = []
        discovery = config.pop("discovery", DiscoveryConfig())
        settings = {"transport": "streams,quic", **config}
        tracker = Tracker(
            self.net.reactor(host),
            Config(dht=DHTConfig(bootstrap=()), discovery=discovery, **settings),
            events.append,
            Random(host),
        )
        tracker.startService()
        tracker.join("topic", secret)
        self.trackers.append(tracker)
        return tracker

    def stop(self) -> None:
        """Stop everything."""
        for tracker in self.trackers:
            tracker.stopService()
        self.net.advance(3)

    def joined(self) -> list[bool]:
        """Return whether each has a neighbour."""
        return [bool(topic.neighbors()) for each in self.trackers for topic in each._topics.values()]

    def test_two(self) -> None:
        """They meet within seconds, without any DHT node."""
        self.net.lan.connect("192.168.1.2", "192.168.1.3")
        self.member("192.168.1.2")
        self.net.advance(7)
        self.member("192.168.1.3")
        self.net.advance(5)
        self.assertEqual(self.joined(), [True, True])

    def test_other_clock(self) -> None:
        """What their clocks show does not matter, up to some hours."""
        self.net.lan.connect("192.168.1.2", "192.168.1.3")
        first = self.member("192.168.1.2")
        reactor = first._reactor
        seconds = reactor.seconds
        self.patch(reactor, "seconds", lambda: seconds() + 3 * 3600)
        self.member("192.168.1.3")
        self.net.advance(10)
        self.assertEqual(self.joined(), [True, True])

    def test_other_secret(self) -> None:
        """Members with another secret, and members of other networks, are not found."""
        self.net.lan.connect("192.168.1.2", "192.168.1.3")
        self.member("192.168.1.2")
        self.member("192.168.1.3", b"another")
        self.member("192.168.1.4")
        self.net.advance(20)
        self.assertEqual(self.joined(), [False] * 3)

    def test_off(self) -> None:
        """The search can be switched off; it is off for a DHT of this machine."""
        self.net.lan.connect("192.168.1.2", "192.168.1.3")
        self.member("192.168.1.2")
        self.member("192.168.1.3", discovery=DiscoveryConfig(lan=False))
        self.net.advance(10)
        self.assertEqual(self.joined(), [False, False])
        local = Config(transport="streams", dht=DHTConfig(bootstrap=(("127.0.0.1", 1),)))
        self.assertIsNone(Tracker(self.net.reactor("192.168.1.9"), local, rng=Random(1))._lan)

    def test_without_quic(self) -> None:
        """Over streams alone it works, too."""
        self.net.lan.connect("192.168.1.2", "192.168.1.3")
        for host in ("192.168.1.2", "192.168.1.3"):
            self.member(host, transport="streams")
        self.net.advance(5)
        self.assertEqual(self.joined(), [True, True])

    def test_discovery(self) -> None:
        """
        Contents without a swarm are found there, too, of those who publish one; and those in
        the DHT at once when it can be used.
        """
        self.net.lan.connect("192.168.1.2", "192.168.1.3", "192.168.1.4")
        found = []
        for host, content in (("192.168.1.2", b"one"), ("192.168.1.3", None), ("192.168.1.4", None)):
            config = Config(dht=DHTConfig(bootstrap=()), transport=())
            tracker = Tracker(self.net.reactor(host), config, lambda _: None, Random(host))
            tracker.startService()
            found.append(tracker.discover("topic", secret=b"secret", content=content))
            self.trackers.append(tracker)
        self.net.advance(5)
        self.assertEqual(
            [[(each.content, each.channel) for each in service.found()] for service in found],
            [[], [(b"one", "local_network")], [(b"one", "local_network")]],
        )
