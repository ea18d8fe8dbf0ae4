"""
The contract of L{IDiscoveryChannel}, for the record slots, the sealed slots and the channel
in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from dtt.discovery.candidates import FoundRecord
from dtt.discovery.interfaces import IDiscoveryChannel, SearchState
from dtt.discovery.sealed_channel import SealedChannel
from dtt.discovery.slot_channel import SlotChannel
from dtt.records.record import GossipContent
from dtt.records.topic import TopicKeys
from dtt.testing.fake_dht import FakeDHT
from dtt.testing.memory_channel import MemoryChannel
from dtt.testing.net.clock import advance
from tests.tracker.common import IDS, MINUTE, SECRET_HASH, TOPIC, Member, address, start_clock

ALONE = SearchState(0.0, 0, lambda: False)


class ContractMixin:
    """
    The contract tests; C{channels} are those of three members of a topic.
    """

    channels: list[IDiscoveryChannel]
    clock: Any
    assertEqual: Callable[..., Any]
    assertGreaterEqual: Callable[..., Any]
    failureResultOf: Callable[..., Any]
    successResultOf: Callable[..., Any]

    def setUp(self) -> None:
        """Three members."""
        self.clock = start_clock()
        self.channels = self.make()

    def make(self) -> list[IDiscoveryChannel]:
        """Return channels whose calls end within 5 s, but not at once."""
        raise NotImplementedError

    def wait(self, deferred: Deferred[Any]) -> Any:
        """Return the result."""
        advance(self.clock, 5)
        return self.successResultOf(deferred)

    def publish(self, number: int, *, urgent: bool = False) -> int:
        """Publish the record of one member."""
        content = GossipContent(addresses=(address(number),))
        copies: int = self.wait(self.channels[number].publish(lambda: content, "test", urgent))
        return copies

    def test_interface(self) -> None:
        """The channel provides L{IDiscoveryChannel}, becomes ready, and has a name."""
        for channel in self.channels:
            verifyObject(IDiscoveryChannel, channel)
            self.wait(channel.when_ready())
            self.assertEqual(channel.name, channel.name.lower().replace(" ", "_"))

    def test_nothing(self) -> None:
        """Without records nothing is found."""
        self.assertEqual(self.wait(self.channels[0].find("test")), [])
        self.assertEqual(self.wait(self.channels[0].find("test", ALONE)), [])

    def test_found(self) -> None:
        """What one member publishes the others find, with and without a neighbour, but not itself."""
        for urgent in (False, True):
            self.channels = self.make()
            self.assertGreaterEqual(self.publish(0, urgent=urgent), 1)
            for search in (None, ALONE):
                self.assertEqual(self.wait(self.channels[0].find("test", search)), [])
                (found,) = self.wait(self.channels[1].find("test", search))
                self.assertEqual(
                    (found.publisher, found.minute, found.addresses), (IDS[0], MINUTE, (address(0),))
                )

    def test_reported(self) -> None:
        """Each record of another member is reported before the search ends, to the current C{on_record}."""
        for number in (0, 1):
            self.publish(number)
        reported: list[bytes] = []
        channel = self.channels[2]
        channel.on_record = lambda record: reported.append(record.publisher)
        ended: list[set[bytes]] = []
        channel.find("test", ALONE).addCallback(lambda _: ended.append(set(reported)))
        advance(self.clock, 5)
        self.assertEqual(ended, [{IDS[0], IDS[1]}])

    def test_cancel(self) -> None:
        """Every call can be cancelled, which leaves nothing behind."""
        for call in (
            lambda channel: channel.find("test"),
            lambda channel: channel.find("test", ALONE),
            lambda channel: channel.publish(GossipContent, "test"),
            lambda channel: channel.publish(GossipContent, "test", True),
        ):
            cancelled = call(self.channels[0])
            cancelled.cancel()
            self.failureResultOf(cancelled, CancelledError)
            advance(self.clock, 0.0)
            self.assertEqual(self.clock.getDelayedCalls(), [])


class SlotChannelTests(ContractMixin, SynchronousTestCase):
    """
    The record slots of the DHT.
    """

    def make(self) -> list[IDiscoveryChannel]:
        """Three members on one DHT with latency."""
        dht = FakeDHT(self.clock, latency=0.05)
        members = [Member(self.clock, dht, number) for number in range(3)]
        return [SlotChannel(member.shared, member.client) for member in members]


class SealedChannelTests(ContractMixin, SynchronousTestCase):
    """
    The sealed slots of the DHT.
    """

    def make(self) -> list[IDiscoveryChannel]:
        """Three members on one DHT with latency, who write at the beginning of a period."""
        dht = FakeDHT(self.clock, latency=0.05)
        channels = [
            SealedChannel(Member(self.clock, dht, number).shared, TopicKeys(TOPIC, SECRET_HASH))
            for number in range(3)
        ]
        for channel in channels:
            channel.share = 0.0
        return list(channels)


class MemoryChannelTests(ContractMixin, SynchronousTestCase):
    """
    The channel in memory.
    """

    def make(self) -> list[IDiscoveryChannel]:
        """Three members with shared records."""
        records: dict[bytes, FoundRecord] = {}
        return [MemoryChannel(self.clock, IDS[number], records, 0.5) for number in range(3)]

    def test_at_once(self) -> None:
        """Without a delay each call ends at once."""
        records: dict[bytes, FoundRecord] = {}
        one, other = (MemoryChannel(self.clock, IDS[number], records) for number in range(2))
        self.assertEqual(self.successResultOf(one.publish(GossipContent, "test")), 1)
        (found,) = self.successResultOf(other.find("test"))
        self.assertEqual(found, FoundRecord(IDS[0], MINUTE))
