"""
Tests for L{dtt.tracker.fetcher}.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from random import Random
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from dtt.config import BootstrapConfig, Config
from dtt.discovery.candidates import FoundRecord
from dtt.discovery.channels import Channels
from dtt.discovery.interfaces import ContentSource, IDiscoveryChannel
from dtt.discovery.shared import SharedServices
from dtt.discovery.slot_channel import SlotChannel, effort_after
from dtt.discovery.slot_reader import URGENT, Effort
from dtt.records.record import GossipContent, RecordContent
from dtt.testing.fake_dht import FakeDHT
from dtt.testing.fake_gossip import FakeGossip
from dtt.testing.memory_channel import MemoryChannel
from dtt.testing.net.clock import advance
from dtt.tracker.fetcher import Fetcher, wait_after
from dtt.wire.addresses import Address, PeerAddress
from tests.tracker.common import IDS, KEYS, MINUTE, START, Book, address, start_clock


class WaitTests(SynchronousTestCase):
    """
    Tests for L{wait_after}.
    """

    def test_first_waits(self) -> None:
        """The first waits are 0.05, 0.1, 0.25, 0.5 and 1 s, then the setting applies."""
        self.assertEqual(
            [wait_after(polls, 0.0, 1.5) for polls in range(1, 8)], [0.05, 0.1, 0.25, 0.5, 1.0, 1.5, 1.5]
        )

    def test_setting_is_the_ceiling(self) -> None:
        """No wait of the first minute is longer than the setting."""
        self.assertEqual(
            [wait_after(polls, 9.9, 0.2) for polls in range(1, 8)], [0.05, 0.1, 0.2, 0.2, 0.2, 0.2, 0.2]
        )

    def test_alone(self) -> None:
        """
        Alone for 10 s it polls every 4 s, after a minute every 6 s, after five minutes every
        12 s, after ten minutes every 20 s, or as configured.
        """
        self.assertEqual(wait_after(40, 9.9, 2.0), 2.0)
        self.assertEqual(wait_after(40, 10.0, 2.0), 4.0)
        self.assertEqual(wait_after(40, 59.9, 2.0), 4.0)
        self.assertEqual(wait_after(40, 60.0, 2.0), 6.0)
        self.assertEqual(wait_after(1, 60.0, 2.0), 6.0)
        self.assertEqual(wait_after(40, 299.9, 2.0), 6.0)
        self.assertEqual(wait_after(40, 300.0, 2.0), 12.0)
        self.assertEqual(wait_after(40, 599.9, 2.0), 12.0)
        self.assertEqual(wait_after(400, 600.0, 2.0), 20.0)
        self.assertEqual(wait_after(400, 60.0, 8.0), 8.0)
        self.assertEqual(wait_after(400, 600.0, 30.0), 30.0)


class Records:
    """
    A record client with prepared results.

    @ivar found: the result of each fetch.
    @ivar log: all calls, with their times.
    """

    def __init__(self, clock: Any) -> None:
        self.clock = clock
        self.found: list[FoundRecord] = []
        self.log: list[tuple[float, str, Any]] = []
        self.contents: list[RecordContent] = []
        self.publishing: Deferred[int] | None = None
        self.reading: Deferred[list[FoundRecord]] | None = None
        self.efforts: list[Effort] = []
        self.on_record: Callable[[FoundRecord], None] = lambda _: None

    async def fetch(self, minutes: tuple[int, ...], source: str, effort: Effort) -> list[FoundRecord]:
        assert source == "fetcher"
        if not minutes:
            return []
        # The first read is made in two parts.
        later = bool(self.efforts) and len(minutes) == 1 and minutes[0] < self.clock.seconds() // 60
        self.log.append(
            (round(self.clock.seconds() - START, 6), "fetch earlier" if later else "fetch", minutes)
        )
        self.efforts.append(effort)
        return self.found if later or self.reading is None else await self.reading

    async def publish(self, minute: int, content: ContentSource, source: str, urgent: bool) -> int:
        assert source == "fetcher"
        assert urgent
        self.log.append((round(self.clock.seconds() - START, 6), "publish", minute))
        self.contents.append(content())
        return 2 if self.publishing is None else await self.publishing or 0

    def times(self, what: str) -> list[float]:
        """The times of calls of C{what}."""
        return [time for time, name, _ in self.log if name == what]


class FetcherTests(SynchronousTestCase):
    """
    Tests for L{Fetcher}.
    """

    def setUp(self) -> None:
        """Start without other members."""
        self.clock = start_clock()
        self.gossip = FakeGossip()
        self.records = Records(self.clock)
        self.book = Book()
        self.dht = FakeDHT(self.clock)
        self.finds_peers = False
        self.addresses: tuple[PeerAddress, ...] = ()

    def start(self, *channels: IDiscoveryChannel, **config: Any) -> Fetcher:
        """A running fetcher with these channels and the slots."""
        transport: Any = SimpleNamespace(finds_peers=self.finds_peers)
        shared = SharedServices(
            self.clock,
            Random(1),
            Config(bootstrap=BootstrapConfig(**config)),
            KEYS[0],
            self.dht,
            self.book,
            transport,
            lambda event: None,
            lambda: False,
        )
        fetcher = Fetcher(
            shared,
            self.gossip,
            Channels([SlotChannel(shared, self.records), *channels]),  # type: ignore[arg-type]
            lambda: GossipContent(self.gossip.neighbors(), (), self.addresses),
        )
        fetcher.startService()
        self.addCleanup(self.ended, fetcher)
        return fetcher

    def ended(self, fetcher: Fetcher) -> None:
        """It can be stopped at any time, and leaves nothing behind."""
        self.successResultOf(fetcher.stopService())
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(len(self.gossip._joining), 0)
        self.assertEqual(len(self.gossip._observers), 0)

    def find(self, *numbers: int, hearsay: tuple[int, ...] = ()) -> None:
        """Let members be found that have published and can be dialled."""
        for number in (*numbers, *hearsay):
            self.book.known[IDS[number]] = (address(number),)
        self.records.found += [
            FoundRecord(IDS[number], MINUTE, tuple(IDS[other] for other in hearsay)) for number in numbers
        ]

    def advance(self, seconds: float) -> None:
        """Advance the clock."""
        advance(self.clock, seconds)

    def test_waits_for_the_dht(self) -> None:
        """Nothing happens before the DHT is ready; then it starts immediately."""
        self.dht = FakeDHT(self.clock, ready=False)
        self.start()
        self.advance(30)
        self.assertEqual(self.records.log, [])
        self.dht.become_ready()
        self.assertEqual(
            self.records.log,
            [
                (30.0, "publish", MINUTE),
                (30.0, "fetch", (MINUTE,)),
                (30.0, "fetch earlier", (MINUTE - 1,)),
            ],
        )

    def test_without_the_dht(self) -> None:
        """
        A channel that needs no DHT is asked before the DHT is ready; then the search starts again, with its
        first reads and its first waits.
        """
        self.dht = FakeDHT(self.clock, ready=False)
        found = {IDS[1]: FoundRecord(IDS[1], MINUTE, addresses=(address(1),))}
        self.book.learn(IDS[1], (address(1),), "record")
        self.start(MemoryChannel(self.clock, IDS[0], found))
        self.advance(30)
        self.assertIn((IDS[1],), self.gossip.joins)
        self.assertEqual(self.records.log, [])
        self.dht.become_ready()
        self.advance(0.01)
        self.assertEqual(self.records.log[:2], [(30.0, "publish", MINUTE), (30.0, "fetch", (MINUTE,))])
        self.assertEqual(self.records.efforts[0], URGENT)

    def test_channels_that_become_ready_together(self) -> None:
        """
        Two channels that wait for the DHT are both asked as soon as it is ready, though the
        read on one of them takes long.
        """
        dht = self.dht = FakeDHT(self.clock, ready=False)

        class OverDHT(MemoryChannel):
            def when_ready(self) -> Deferred[None]:
                return dht.when_usable()

        self.records.reading = Deferred()
        self.book.learn(IDS[1], (address(1),), "record")
        self.start(OverDHT(self.clock, IDS[0], {IDS[1]: FoundRecord(IDS[1], MINUTE)}))
        self.advance(30)
        self.dht.become_ready()
        self.advance(0.5)
        self.assertEqual(self.records.times("fetch"), [30.0])
        self.assertIn((IDS[1],), self.gossip.joins)

    def test_publishes_first(self) -> None:
        """A record is published immediately, and the read does not wait for it."""
        self.records.publishing = Deferred()
        self.start()
        self.assertEqual([what for _, what, _ in self.records.log], ["publish", "fetch", "fetch earlier"])
        self.assertEqual(self.records.contents, [GossipContent()])

    def test_publishes_after_the_first_read(self) -> None:
        """Without publish-on-startup, the read comes first."""
        self.start(publish_record_on_startup=False)
        self.assertEqual([what for _, what, _ in self.records.log], ["fetch", "fetch earlier", "publish"])

    def test_nobody(self) -> None:
        """Alone, it polls at dtt's intervals."""
        self.start()
        self.advance(10)
        expected = [0, 0.05, 0.15, 0.4, 0.9, 1.9, 3.4, 4.9, 6.4, 7.9, 9.4]
        self.assertEqual(self.records.times("fetch"), expected)

    def test_nobody_for_long(self) -> None:
        """
        After 10 s alone it polls every 4 s, after a minute every 6 s, after five minutes every 12 s,
        after ten every 20 s, and also at the start of each minute, where a new slot begins.
        """
        self.start()
        self.advance(900)
        times = self.records.times("fetch")
        for start, end, wait in (
            (4, 10, 1.5),
            (14, 60, 4.0),
            (66, 300, 6.0),
            (312, 600, 12.0),
            (620, 900, 20.0),
        ):
            steps = [
                round(later - earlier, 6)
                for earlier, later in pairwise(times)
                if start <= earlier and later <= end and 1.0 < (START + later) % 60 < 59.9
            ]
            self.assertEqual(set(steps), {wait})
        turns = [time for time in times if (START + time) % 60 < 1.0]
        self.assertEqual(len(turns), 15)

    def test_polled_minutes(self) -> None:
        """The previous minute is read with every second poll, and with each poll early in the minute."""
        self.start(no_peers_retry_interval=0.5)
        self.advance(54.9)
        reads = [(time, minutes) for time, what, minutes in self.records.log if what == "fetch"]
        early = [minutes for time, minutes in reads if time >= 50]
        self.assertGreaterEqual(len(early), 2)
        self.assertEqual(set(early), {(MINUTE, MINUTE + 1)})
        late = [minutes for time, minutes in reads if time < 50]
        self.assertEqual(late[:4], [(MINUTE,), (MINUTE,), (MINUTE - 1, MINUTE), (MINUTE,)])

    def test_older_first(self) -> None:
        """The minute before the previous one is read first if configured."""
        self.start(check_older_records_first_on_startup=True)
        self.assertEqual(self.records.log[1][2], (MINUTE - 2, MINUTE - 1))

    def test_publishes_twice_a_minute(self) -> None:
        """Alone, it puts its record once a minute, and once more to top it up."""
        self.start()
        self.advance(109.9)  # minutes begin after 50 and 110 s
        minutes = [minute for _, what, minute in self.records.log if what == "publish"]
        self.assertEqual(minutes, [MINUTE] * 2 + [MINUTE + 1] * 2)
        times = self.records.times("publish")
        self.assertEqual(times[0], 0.0)
        self.assertTrue(10 <= times[1] < 12, times)
        self.assertTrue(50 <= times[2] < 52, times)
        self.assertTrue(times[2] + 10 <= times[3] < times[2] + 17, times)

    def rename(self, fetcher: Fetcher, *numbers: int) -> None:
        """Change the addresses of the member."""
        self.addresses = tuple(address(number) for number in numbers)
        fetcher.addresses_changed()

    def test_addresses_changed(self) -> None:
        """
        Alone, it puts its record at once when its addresses have changed, not when they are
        fewer, and at most three times a minute besides the other puts.
        """
        fetcher = self.start()
        self.advance(3)
        self.rename(fetcher, 1)
        self.assertEqual(self.records.times("publish"), [0.0, 3.0])
        self.assertEqual(self.records.contents[-1].addresses, (address(1),))
        self.rename(fetcher)
        self.rename(fetcher, 1)
        self.assertEqual(self.records.times("publish"), [0.0, 3.0])
        for number in range(2, 9):
            self.rename(fetcher, number)
        self.assertEqual(self.records.times("publish"), [0.0, 3.0, 3.0, 3.0])
        self.advance(49)  # the next minute begins after 50 s
        self.assertEqual(self.records.contents[-1].addresses, (address(8),))
        self.rename(fetcher, 9)
        self.assertEqual(len([time for time in self.records.times("publish") if time >= 52.0]), 1)

    def test_addresses_changed_during_a_put(self) -> None:
        """If the addresses change after a put has used them, another one follows when it has ended."""
        self.records.publishing = Deferred()
        fetcher = self.start()
        self.rename(fetcher, 1)
        self.advance(1)
        self.assertEqual(self.records.times("publish"), [0.0])
        publishing, self.records.publishing = self.records.publishing, None
        publishing.callback(2)
        self.assertEqual(self.records.times("publish"), [0.0, 1.0])
        self.assertEqual(self.records.contents[-1].addresses, (address(1),))

    def test_addresses_changed_while_joined(self) -> None:
        """With a neighbour, before the search, and after the end, changed addresses cause no put."""
        self.dht = FakeDHT(self.clock, ready=False)
        fetcher = self.start()
        self.rename(fetcher, 1)
        self.assertEqual(self.records.log, [])
        self.dht.become_ready()
        self.gossip.up(IDS[1])
        self.rename(fetcher, 2)
        self.successResultOf(fetcher.stopService())
        self.rename(fetcher, 3)
        self.assertEqual(len(self.records.times("publish")), 1)

    def test_put_that_hangs(self) -> None:
        """There is one put at a time; one of a past minute is cancelled for a new one."""
        self.records.publishing = Deferred()
        self.start()
        self.advance(49.9)
        self.assertEqual(self.records.times("publish"), [0.0])
        self.advance(5)
        self.assertEqual(len(self.records.times("publish")), 2)

    def test_put_that_breaks(self) -> None:
        """An unexpected error while publishing is logged, and the search continues."""
        self.records.publishing = Deferred()
        self.start()
        self.records.publishing.errback(ZeroDivisionError())
        self.advance(5)
        self.assertGreater(len(self.records.times("fetch")), 5)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_joined_already(self) -> None:
        """With a neighbour it does not search."""
        self.gossip.up(IDS[1])
        self.start()
        self.advance(100)
        self.assertEqual(self.records.log, [])

    def test_starts_anew(self) -> None:
        """When the last neighbour is lost, and only then, it searches again, immediately."""
        self.gossip.up(IDS[1])
        self.gossip.up(IDS[2])
        self.start()
        self.advance(20)
        self.gossip.down(IDS[1])
        self.assertEqual(self.records.log, [])
        self.gossip.down(IDS[2])
        self.assertEqual(self.records.times("fetch"), [20.0])
        self.gossip.up(IDS[3])
        self.advance(20)
        self.assertEqual(self.records.times("fetch"), [20.0])
        self.gossip.down(IDS[3])
        self.advance(0.06)
        self.assertEqual(self.records.times("fetch"), [20.0, 40.0, 40.05])

    def test_flapping(self) -> None:
        """A neighbour that leaves immediately does not end the search: its waits keep growing."""
        self.start()
        for _ in range(100):
            self.gossip.up(IDS[1])
            self.gossip.down(IDS[1])
            self.advance(0.1)
        self.assertLess(len(self.records.times("fetch")), 20)
        self.assertLessEqual(len(self.records.times("publish")), 2)

    def test_joins_several_at_once(self) -> None:
        """Four members are joined immediately, the others one by one, after the settle time each."""
        self.find(1, 2, 3, 4, 5, 6)
        self.start()
        self.assertEqual(len(self.gossip.joins), 4)
        self.advance(0.15)
        self.assertEqual(len(self.gossip.joins), 5)
        self.advance(0.1)
        self.assertEqual(sorted(self.gossip.joins), sorted((IDS[n],) for n in range(1, 7)))
        self.advance(0.24)  # the confirmation time is 0.5 s
        self.assertEqual(len(self.records.times("fetch")), 1)
        self.advance(0.02)
        self.assertEqual(self.records.times("fetch"), [0.0, 0.5])

    def test_record_in_a_datagram(self) -> None:
        """A publisher is joined when its record arrives, while the read continues."""
        self.records.reading = Deferred()
        self.book.learn(IDS[1], (address(1),), "record")
        self.start()
        self.records.on_record(FoundRecord(IDS[1], MINUTE))
        self.assertEqual(self.gossip.joins, [(IDS[1],)])
        self.records.on_record(FoundRecord(IDS[1], MINUTE - 1))
        self.assertEqual(self.gossip.joins, [(IDS[1],)])

    def test_first_is_a_liar(self) -> None:
        """A publisher that never answers delays no other."""
        self.find(1, 2)
        self.gossip.on_join = lambda peers: (
            self.clock.callLater(0.03, self.gossip.up, peers[0]) if peers[0] == IDS[2] else None
        )
        self.start()
        self.advance(0.03)
        self.assertEqual(self.gossip.neighbors(), (IDS[2],))

    def test_record_of_the_joined(self) -> None:
        """With a neighbour, records cause no joins."""
        self.gossip.up(IDS[3])
        self.book.learn(IDS[1], (address(1),), "record")
        self.start()
        self.records.on_record(FoundRecord(IDS[1], MINUTE))
        self.assertEqual(self.gossip.joins, [])

    def test_record_after_the_end(self) -> None:
        """A record that arrives after the topic was left has no effect."""
        self.book.learn(IDS[1], (address(1),), "record")
        fetcher = self.start()
        fetcher.stopService()
        self.records.on_record(FoundRecord(IDS[1], MINUTE))
        self.assertEqual(self.gossip.joins, [])

    def test_several_channels(self) -> None:
        """
        All channels are asked, before the DHT is ready, too; the member that is reported first
        is joined first; our record is published on all channels.
        """
        self.dht = FakeDHT(self.clock, ready=False)
        self.records.reading = Deferred()
        self.book.learn(IDS[3], (address(3),), "record")
        store = {IDS[3]: FoundRecord(IDS[3], MINUTE)}
        self.start(MemoryChannel(self.clock, IDS[0], store, 0.2))
        self.advance(0.3)
        self.assertEqual(self.gossip.joins, [(IDS[3],)])
        self.assertEqual(set(store), {IDS[0], IDS[3]})

    def test_broken_channel(self) -> None:
        """A bug in one channel does not end the search on the others."""

        class Broken(MemoryChannel):
            def find(self, *args: Any) -> Deferred[Any]:
                raise ZeroDivisionError

        self.start(Broken(self.clock, IDS[0], {}))
        self.advance(1)
        self.find(1)
        self.advance(2)
        self.assertIn((IDS[1],), self.gossip.joins)
        self.assertGreater(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_joined_ends_the_read(self) -> None:
        """A new neighbour ends the current read."""
        cancelled: list[object] = []
        self.records.reading = Deferred(cancelled.append)
        self.start()
        self.gossip.up(IDS[1])
        self.assertEqual(len(cancelled), 1)

    def test_previous_minute_waits(self) -> None:
        """
        The first read of the previous minute begins 0.7 s after that of the current one,
        and is omitted if a member has been found by then.
        """
        self.records.reading = Deferred()
        self.start()
        self.advance(0.69)
        self.assertEqual(self.records.times("fetch earlier"), [])
        self.advance(0.02)
        self.assertEqual(self.records.times("fetch earlier"), [0.7])

    def test_previous_minute_is_not_needed(self) -> None:
        """The previous minute is not read at all if a member has been found by then."""
        self.records.reading = Deferred()
        self.book.learn(IDS[1], (address(1),), "record")
        self.start()
        self.records.on_record(FoundRecord(IDS[1], MINUTE))
        self.advance(1.0)
        self.assertEqual(self.records.times("fetch earlier"), [])

    def test_search_state(self) -> None:
        """Each round tells the channels how long the search has lasted, and its number."""
        self.start()
        self.advance(30)
        efforts = self.records.efforts
        self.assertEqual(efforts[0], URGENT)
        self.assertEqual(efforts[2], effort_after(0.05))
        self.assertEqual(efforts[-1], effort_after(29.0))

    def test_stops_when_joined(self) -> None:
        """The first neighbour ends the round; nothing continues in the background."""
        self.find(1, 2, 3)
        self.gossip.on_join = lambda peers: self.clock.callLater(0.03, self.gossip.up, peers[0])
        self.start()
        self.advance(60)
        self.assertEqual(len(self.gossip.joins), 3)
        self.assertEqual(self.records.times("fetch"), [0.0])
        self.assertEqual(self.records.times("publish"), [0.0])

    def test_joined_in_the_confirmation_time(self) -> None:
        """A neighbour that comes up late counts, too."""
        self.find(1)
        self.gossip.on_join = lambda peers: self.clock.callLater(0.4, self.gossip.up, peers[0])
        self.start()
        self.advance(60)
        self.assertEqual(len(self.records.times("fetch")), 1)

    def test_joined_by_somebody_during_the_read(self) -> None:
        """If a neighbour comes up during the read, no member is joined."""
        reading: Deferred[list[FoundRecord]] = Deferred()

        async def fetch(*args: Any) -> list[FoundRecord]:
            return await reading

        self.records.fetch = fetch  # type: ignore[method-assign, assignment]
        self.find(1)
        self.start()
        self.gossip.up(IDS[5])
        reading.callback(self.records.found)
        self.advance(5)
        self.assertEqual(self.gossip.joins, [])

    def test_publishers_before_hearsay(self) -> None:
        """Publishers are tried at once, members that are known only from them two seconds later."""
        self.find(1, 2, hearsay=(3, 4, 5))
        self.start()
        self.advance(1.9)
        self.assertEqual({peer for (peer,) in self.gossip.joins}, {IDS[1], IDS[2]})
        self.advance(2)
        self.assertEqual({peer for (peer,) in self.gossip.joins}, set(IDS[1:6]))

    def test_back_off(self) -> None:
        """Candidates that can't be dialled now take no time; without others the round ends."""
        self.find(1, 2, hearsay=(3,))
        self.book.backing_off = {IDS[1], IDS[3]}
        self.start()
        self.advance(0.7)
        self.assertEqual(self.gossip.joins[:1], [(IDS[2],)])
        self.assertEqual(set(self.gossip.joins), {(IDS[2],)})
        self.book.backing_off.add(IDS[2])
        before = len(self.gossip.joins)
        times = len(self.records.times("fetch"))
        self.advance(2)
        self.assertEqual(len(self.gossip.joins), before)
        self.assertGreater(len(self.records.times("fetch")), times)

    def test_poll_interval_with_members(self) -> None:
        """If members exist but can't be joined, the discovery poll interval is the maximum."""
        self.find(1)
        self.book.backing_off = {IDS[1]}
        self.start(discovery_poll_interval=3.0, no_peers_retry_interval=1.5)
        self.advance(30)
        times = self.records.times("fetch")
        self.assertEqual([round(b - a, 6) for a, b in pairwise(times[6:])][:2], [3.0] * 2)

    def test_stop_while_publishing(self) -> None:
        """The background put ends with the service."""
        cancelled: list[object] = []
        self.records.publishing = Deferred(cancelled.append)
        fetcher = self.start()
        self.successResultOf(fetcher.stopService())
        self.assertEqual(len(cancelled), 1)

    def test_look_up(self) -> None:
        """
        A member whose address has to be looked up is joined when it is found; meanwhile
        others are joined, and the reads continue.
        """
        self.find(1)
        self.records.found.insert(0, FoundRecord(IDS[2], MINUTE, ()))
        looking_up: Deferred[tuple[Address, ...]] = Deferred()
        self.book.slow[IDS[2]] = looking_up
        self.start()
        self.advance(0.01)
        self.assertEqual(self.gossip.joins, [(IDS[1],)])
        self.advance(1.0)
        self.assertEqual(set(self.gossip.joins), {(IDS[1],)})
        self.assertGreater(len(self.records.times("fetch")), 1)
        self.assertEqual(self.book.asked.count(IDS[2]), 1)
        looking_up.callback((address(2),))
        self.assertEqual(self.gossip.joins[-1], (IDS[2],))

    def test_look_up_in_vain(self) -> None:
        """
        A member that is not found is not joined, and looked up again with the next read.
        """
        self.records.found = [FoundRecord(IDS[2], MINUTE, ())]
        self.book.slow[IDS[2]] = Deferred()
        self.start()
        self.book.slow.pop(IDS[2]).callback(())
        self.advance(1.0)
        self.assertEqual(self.gossip.joins, [])
        self.assertGreater(self.book.asked.count(IDS[2]), 1)

    def test_look_up_ends_late(self) -> None:
        """
        With a neighbour, or after leaving the topic, no more members are joined.
        """
        self.records.found = [FoundRecord(IDS[number], MINUTE, ()) for number in (2, 3)]
        for number in (2, 3):
            self.book.slow[IDS[number]] = Deferred()
        self.start()
        self.gossip.up(IDS[1])
        self.book.slow[IDS[2]].callback((address(2),))
        self.assertEqual(self.gossip.joins, [])
        self.gossip.down(IDS[1])
        self.gossip.leave()
        self.book.slow[IDS[3]].callback((address(3),))
        self.assertEqual(self.gossip.joins, [])

    def test_look_up_cancelled(self) -> None:
        """
        The end of the topic also ends lookups.
        """
        self.records.found = [FoundRecord(IDS[2], MINUTE, ())]
        self.book.slow[IDS[2]] = Deferred()
        fetcher = self.start()
        self.successResultOf(fetcher.stopService())
        self.assertTrue(self.book.slow[IDS[2]].called)

    def test_found_by_id(self) -> None:
        """
        If members can be dialled without an address none is looked up first.
        """
        self.finds_peers = True
        self.records.found = [FoundRecord(IDS[2], MINUTE, ())]
        self.start()
        self.assertEqual((self.gossip.joins, self.book.asked), ([(IDS[2],)], []))
