"""
Tests for L{dtt.discovery.announce_channel}.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from dtt.config import BootstrapConfig, Config, DiscoveryConfig
from dtt.discovery.announce_channel import (
    ALONE_AFTER,
    ANNOUNCE_EVERY,
    LOOK_EVERY,
    LOOK_TIMEOUT,
    MAX_ASKED,
    MAX_ASKED_OF_NETWORK,
    PAUSES,
    AnnounceChannel,
    epochs_to_ask,
)
from dtt.discovery.candidates import FoundRecord
from dtt.discovery.direct import DirectQuestion
from dtt.discovery.interfaces import IDiscoveryChannel, SearchState
from dtt.errors import LocalError, LookupFailed
from dtt.interfaces import PutResult
from dtt.net.host_port import HostPort
from dtt.records.record import GossipContent
from dtt.records.sealed import EPOCH_MINUTES, announced_info_hash, epoch_of
from dtt.records.topic import TopicKeys
from dtt.testing.fake_dht import FakeDHT
from tests.dht.network import Network
from tests.tracker.common import IDS, MINUTE, SECRET_HASH, TOPIC, Member, address, start_clock

KEYS = TopicKeys(TOPIC, SECRET_HASH)
EPOCH = epoch_of(MINUTE)
PLACE: HostPort = ("198.51.100.7", 6881)


class DHT:
    """
    The announcements of a DHT.

    @ivar named: the addresses that the nodes name.
    @ivar announced: the info hashes announced.
    @ivar looked: those that were looked up.
    """

    def __init__(self) -> None:
        self.named: list[HostPort] = []
        self.announced: list[bytes] = []
        self.looked: list[bytes] = []
        self.result: Callable[[], Deferred[Any]] = lambda: succeed(PutResult((cast(Any, None),) * 8))
        self.looking: Deferred[Any] | None = None

    def when_usable(self) -> Deferred[None]:
        return succeed(None)

    def announce_peer(self, info_hash: bytes, port: int) -> Deferred[PutResult]:
        assert port == 0
        self.announced.append(info_hash)
        return self.result()

    def get_peers(self, info_hash: bytes, on_peer: Callable[[str, int], None]) -> Deferred[Any]:
        self.looked.append(info_hash)
        for host, port in self.named:
            on_peer(host, port)
        return self.looking or succeed(frozenset(self.named))


class Direct:
    """
    Direct questions with prepared answers.

    @ivar asked: the addresses asked.
    @ivar records: the answers.
    @ivar waiting: the open questions, if they are not answered at once.
    """

    def __init__(self) -> None:
        self.asked: list[HostPort] = []
        self.records: dict[HostPort, FoundRecord] = {}
        self.waiting: dict[HostPort, Deferred[list[FoundRecord]]] | None = None

    def ask_directly(self, address: HostPort) -> Deferred[list[FoundRecord]]:
        self.asked.append(address)
        if self.waiting is not None:
            asking: Deferred[list[FoundRecord]] = Deferred()
            self.waiting[address] = asking
            return asking
        return succeed([self.records[address]] if address in self.records else [])


class EpochsTests(SynchronousTestCase):
    """
    Tests for L{epochs_to_ask}.
    """

    def test_nearer(self) -> None:
        """The neighbouring epoch that is nearer is asked as well."""
        start = 5 * EPOCH_MINUTES * 60.0
        self.assertEqual(epochs_to_ask(start), (5, 4))
        self.assertEqual(epochs_to_ask(start + EPOCH_MINUTES * 30 - 1), (5, 4))
        self.assertEqual(epochs_to_ask(start + EPOCH_MINUTES * 30), (5, 6))
        self.assertEqual(epochs_to_ask(0.0), (0,))

    def test_three_hours_apart(self) -> None:
        """Clocks may be three hours apart."""
        for now in range(10**7, 10**7 + 12 * 3600, 601):
            for skew in (-3 * 3600, 3 * 3600):
                self.assertIn(epoch_of((now + skew) // 60), epochs_to_ask(now))


class AnnounceChannelTestCase(SynchronousTestCase):
    """
    A channel with prepared announcements and answers.
    """

    when = "alone"

    def setUp(self) -> None:
        """Nobody has announced anything."""
        self.clock = start_clock()
        self.dht, self.direct = DHT(), Direct()
        self.joining = False
        self.reported: list[bytes] = []
        self.channel = self.make()

    def make(self, **config: Any) -> AnnounceChannel:
        """Make a channel."""
        settings = Config(discovery=DiscoveryConfig(announce_peer=self.when), **config)
        shared = evolve(
            Member(self.clock, FakeDHT(self.clock)).shared, config=settings, dht=cast(Any, self.dht)
        )
        channel = AnnounceChannel(shared, KEYS, cast(Any, self.direct))
        channel.on_record = lambda record: self.reported.append(record.publisher)
        return channel

    def find(self, alone_for: float = ALONE_AFTER) -> Deferred[list[FoundRecord]]:
        """Search without a neighbour."""
        return self.channel.find("test", SearchState(alone_for, 9, lambda: self.joining))

    def publish(self, urgent: bool = True) -> int:
        """Publish."""
        return self.successResultOf(self.channel.publish(GossipContent, "test", urgent))


class AloneTests(AnnounceChannelTestCase):
    """
    Tests for a member that announces itself while it is alone.
    """

    def test_interface(self) -> None:
        """It is a channel that is ready when the DHT is."""
        verifyObject(IDiscoveryChannel, self.channel)
        self.assertEqual(self.channel.name, "announce")
        self.successResultOf(self.channel.when_ready())

    def test_only_alone(self) -> None:
        """Nothing is announced or looked up with a neighbour, or before it is alone for some seconds."""
        self.successResultOf(self.channel.find("test"))
        self.successResultOf(self.channel.watch("test"))
        self.assertEqual(self.publish(), 0)
        self.successResultOf(self.find(ALONE_AFTER - 0.1))
        self.assertEqual((self.publish(), self.publish(False)), (0, 0))
        self.assertEqual((self.dht.announced, self.dht.looked), ([], []))
        self.successResultOf(self.find())
        self.assertEqual(self.dht.announced, [announced_info_hash(KEYS, EPOCH)])
        self.assertEqual(self.dht.looked, [announced_info_hash(KEYS, each) for each in (EPOCH, EPOCH - 1)])

    def test_not_alone_any_longer(self) -> None:
        """When the member has had a neighbour, it announces nothing until it is alone for long again."""
        self.successResultOf(self.find())
        self.successResultOf(self.channel.find("test"))
        self.clock.advance(ANNOUNCE_EVERY)
        self.assertEqual(self.publish(), 0)

    def test_joining(self) -> None:
        """Nothing is looked up while a member is being joined."""
        self.joining = True
        self.successResultOf(self.find())
        self.assertEqual(self.dht.looked, [])

    def look_after(self, seconds: float, alone_for: float = ALONE_AFTER) -> int:
        """The number of lookups so far, after a search in some seconds."""
        self.clock.advance(seconds)
        self.successResultOf(self.find(alone_for))
        return len(self.dht.looked) // 2

    def test_pauses(self) -> None:
        """The pauses between lookups grow."""
        self.assertEqual(self.look_after(0), 1)
        for number, pause in enumerate((*PAUSES, PAUSES[-1]), 1):
            self.assertEqual(self.look_after(pause - 1), number)
            self.assertEqual(self.look_after(1), number + 1)

    def test_alone_again(self) -> None:
        """They begin anew once there was a neighbour, but not with a lookup at once."""
        for pause in (0, *PAUSES):
            self.look_after(pause)
        self.assertEqual(self.look_after(1, 0), 4)
        self.assertEqual(self.look_after(LOOK_EVERY - 2), 4)
        self.assertEqual(self.look_after(1), 5)
        self.assertEqual(self.look_after(PAUSES[0]), 6)

    def test_announced_again(self) -> None:
        """An announcement is repeated after a time, and in a new epoch at once."""
        self.successResultOf(self.find())
        self.assertEqual(len(self.dht.announced), 1)
        left = EPOCH_MINUTES * 60 - self.clock.seconds() % (EPOCH_MINUTES * 60)
        for seconds, announcements in (
            (0, 1),
            (ANNOUNCE_EVERY - 1, 1),
            (1, 2),
            (left - ANNOUNCE_EVERY, 3),
        ):
            self.clock.advance(seconds)
            self.publish()
            self.assertEqual(len(self.dht.announced), announcements)

    def test_failures(self) -> None:
        """Failures are counted, and an announcement that failed is tried again."""
        self.dht.looking = fail(LookupFailed("nobody"))
        self.dht.looking.addErrback(lambda failure: failure)
        self.dht.result = lambda: fail(LookupFailed("nobody"))
        self.assertEqual(self.successResultOf(self.find()), [])
        self.dht.result = lambda: succeed(PutResult())
        self.assertEqual(self.publish(), 0)
        self.dht.result = lambda: Deferred()
        waiting = self.channel.publish(GossipContent, "test", True)
        self.clock.advance(100)
        self.assertEqual(self.successResultOf(waiting), 0)
        self.assertEqual(len(self.dht.announced), 3)
        self.assertEqual(self.channel.counters["announce_failed"], 3)

    def test_stopped_node(self) -> None:
        """A node that the application has stopped is a failure like others: it may start it again."""
        self.dht.looking = fail(LocalError("the DHT node has been stopped"))
        self.dht.looking.addErrback(lambda failure: failure)
        self.dht.result = lambda: fail(LocalError("the DHT node has been stopped"))
        self.assertEqual(self.successResultOf(self.find()), [])
        self.assertGreater(self.channel.counters["look_failed"], 0)
        self.assertEqual(self.channel.counters["announce_failed"], 1)

    def test_cancel(self) -> None:
        """Calls can be cancelled; a cancelled announcement is tried again."""
        self.dht.looking, self.dht.result = Deferred(), lambda: Deferred()
        self.dht.named, self.direct.waiting = [PLACE], {}
        find, publish = self.find, partial(self.channel.publish, GossipContent, "test", True)
        for method in (find, publish):
            call = method()
            call.cancel()
            self.failureResultOf(call, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertTrue(self.direct.waiting[PLACE].called)
        self.dht.looking, self.dht.named = None, []
        self.clock.advance(LOOK_EVERY)
        announcing = find()
        announcing.cancel()
        self.failureResultOf(announcing, CancelledError)
        publish().addErrback(lambda _: None).cancel()
        self.assertEqual(len(self.dht.announced), 3)

    def test_no_publish(self) -> None:
        """A member that publishes nothing is not announced, but looks."""
        self.channel = self.make(bootstrap=BootstrapConfig(max_bootstrap_records=0))
        self.successResultOf(self.find())
        self.assertEqual((self.publish(), self.dht.announced), (0, []))
        self.assertEqual(len(self.dht.looked), 2)


class AskTests(AnnounceChannelTestCase):
    """
    Tests for the nodes that are asked.
    """

    def test_found(self) -> None:
        """A node that has announced itself is asked, and its record is reported."""
        self.dht.named = [PLACE, ("198.51.101.7", 1)]
        self.direct.records[PLACE] = FoundRecord(IDS[1], MINUTE)
        self.assertEqual(self.successResultOf(self.find()), [FoundRecord(IDS[1], MINUTE)])
        self.assertEqual(self.reported, [IDS[1]])
        self.assertEqual(self.direct.asked, self.dht.named)  # once, although both epochs name them

    def test_reported_before_the_end(self) -> None:
        """A record is reported when it arrives, while other nodes are silent; a look ends in time."""
        other = ("198.51.101.7", 1)
        self.dht.named, self.direct.waiting = [PLACE, other], {}
        found = self.find()
        self.direct.waiting[PLACE].callback([FoundRecord(IDS[1], MINUTE)])
        self.assertEqual(self.reported, [IDS[1]])
        self.assertNoResult(found)
        self.clock.advance(LOOK_TIMEOUT)
        self.assertEqual(self.successResultOf(found), [FoundRecord(IDS[1], MINUTE)])

    def test_slow_announcement(self) -> None:
        """A look does not wait longer for our own announcement; it is tried again then."""
        self.dht.result = lambda: Deferred()
        found = self.find()
        self.clock.advance(LOOK_TIMEOUT)
        self.assertEqual(self.successResultOf(found), [])
        self.dht.result = lambda: succeed(PutResult((cast(Any, None),) * 8))
        self.assertEqual(self.publish(), 8)

    def test_bounded(self) -> None:
        """Of many addresses few are asked, and at most two in a network: that of a victim."""
        self.dht.named = [("203.0.113." + str(number), 80) for number in range(1, 100)]
        self.successResultOf(self.find())
        self.assertEqual(len(self.direct.asked), MAX_ASKED_OF_NETWORK)
        self.direct.asked.clear()
        self.clock.advance(LOOK_EVERY)
        self.dht.named += [(f"198.{number}.0.1", 80) for number in range(100)]
        self.successResultOf(self.find())
        self.assertEqual(len(self.direct.asked), MAX_ASKED)


class AlwaysTests(AnnounceChannelTestCase):
    """
    Tests for a member that always announces itself.
    """

    when = "always"

    def test_always(self) -> None:
        """It is announced with neighbours, too, and looks at once without one."""
        self.successResultOf(self.channel.find("test"))
        self.assertEqual(self.publish(False), 8)
        self.assertEqual(self.dht.looked, [])
        self.successResultOf(self.find(0.0))
        self.assertEqual(len(self.dht.looked), 2)


class NodeTests(SynchronousTestCase):
    """
    Tests with real nodes.
    """

    def test_meeting(self) -> None:
        """One member announces itself in a DHT, another one finds it and gets its record."""
        network = Network(12)
        channels = []
        try:
            for number in range(2):
                member = Member(network.clock, network.node(), number)
                content = GossipContent(addresses=(address(number),))
                direct = DirectQuestion(member.shared, KEYS, lambda content=content: content)  # type: ignore[misc]
                direct.start()
                channels.append(AnnounceChannel(member.shared, KEYS, direct))
            network.udp.advance(2.0)
            search = SearchState(ALONE_AFTER, 9, lambda: False)
            self.assertEqual(network.result(channels[0].find("test", search), 10), [])
            self.assertEqual(channels[0].counters["announced"], 1)
            reported: list[FoundRecord] = []
            channels[1].on_record = reported.append
            (found,) = network.result(channels[1].find("test", search), 10)
            self.assertEqual((found.publisher, found.addresses), (IDS[0], (address(0),)))
            self.assertEqual(reported, [found])
        finally:
            network.stop()

    def test_together(self) -> None:
        """Members that start together find each other at the second look."""
        network = Network(12)
        channels = []
        try:
            for number in range(3):
                member = Member(network.clock, network.node(), number)
                direct = DirectQuestion(member.shared, KEYS, GossipContent)
                direct.start()
                channels.append(AnnounceChannel(member.shared, KEYS, direct))
            network.udp.advance(2.0)
            for seconds, number in ((0.0, 0), (PAUSES[0], 2)):
                network.udp.advance(seconds)
                alone = SearchState(ALONE_AFTER + seconds, 9, lambda: False)
                found = [channel.find("test", alone) for channel in channels]
                network.udp.advance(2 * LOOK_TIMEOUT)
                for own, finding in enumerate(found):
                    records = self.successResultOf(finding)
                    others = {IDS[each] for each in range(3) if each != own}
                    self.assertLessEqual({record.publisher for record in records}, others)
                    self.assertGreaterEqual(len({record.publisher for record in records}), number)
        finally:
            network.stop()
