"""
Many users of L{dtt.tracker.discover} of one topic, on a fake DHT.
"""

from __future__ import annotations

from random import Random

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from dtt.discovery.sealed_slot import SealedScheme
from dtt.identity import PeerKey
from dtt.records.topic import TopicKeys
from dtt.testing.fake_dht import FakeDHT
from dtt.testing.net.clock import advance
from dtt.tracker.discover import DiscoveryService
from tests.sweeps import sized, thorough
from tests.tracker.common import SECRET_HASH, TOPIC, Member, start_clock


class ManyPublishersTests(SynchronousTestCase):
    """
    More publishers than one slot has room for.
    """

    def find(self, count: int, seconds: float, nodes: int = 60) -> list[DiscoveryService]:
        """
        Start this number of publishers within five seconds; return them after some time.
        """
        clock = start_clock()
        dht = FakeDHT(clock, latency=0.1, nodes=nodes)
        services = []
        for number in range(count):
            shared = evolve(
                Member(clock, dht).shared,
                rng=Random(f"{count} {number}"),
                key=PeerKey.from_seed(number.to_bytes(32, "big")),
            )
            keys = TopicKeys(TOPIC, SECRET_HASH)
            service = DiscoveryService(shared, keys, b"%d" % number, lambda _: None)
            services.append(service)
            service.startService()
            advance(clock, 5 / count)
        advance(clock, seconds)
        for service in services:
            service.stopService()
        advance(clock, 1)
        return services

    def test_small_lanes(self) -> None:
        """
        Some publishers, in lanes of eight nodes, all find each other within three minutes,
        although a period has just begun.
        """
        self.patch(SealedScheme, "full", 6)
        count = sized(10, 16)
        services = self.find(count, 175, nodes=8)
        self.assertEqual([len(service.found()) for service in services], [count - 1] * count)

    @thorough
    def test_hundred(self) -> None:
        """
        A hundred publishers, who need four lanes of the sealed slot, all find each other
        within three minutes.
        """
        services = self.find(100, 175)
        self.assertEqual([len(service.found()) for service in services], [99] * 100)
