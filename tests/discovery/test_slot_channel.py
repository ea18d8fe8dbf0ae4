"""
Tests for L{dtt.discovery.slot_channel}.
"""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from dtt.dht.client.lookup import ALPHA, URGENT_ALPHA
from dtt.dht.client.placement import INNER
from dtt.discovery.candidates import FoundRecord
from dtt.discovery.interfaces import ContentSource, SearchState
from dtt.discovery.slot_channel import (
    LOOKUP_AGAIN_AFTER,
    PREVIOUS_AFTER,
    PREVIOUS_MINUTE_ROUNDS,
    URGENT_FOR,
    WRITERS,
    SlotChannel,
    effort_after,
    is_writer,
    minutes_to_read,
)
from dtt.discovery.slot_reader import LOOKUP_LIFETIME, PATIENT, URGENT, Effort
from dtt.records.record import GossipContent
from dtt.testing.fake_dht import FakeDHT
from dtt.testing.net.clock import advance
from tests.tracker.common import IDS, MINUTE, Member, start_clock

EARLIER, CURRENT = FoundRecord(IDS[1], MINUTE - 1), FoundRecord(IDS[2], MINUTE)


class MinutesTests(SynchronousTestCase):
    """
    Tests for L{minutes_to_read}.
    """

    def test_every_second_poll(self) -> None:
        """Later in a minute the previous one is read with every second poll, including the first."""
        now = 100 * 60 + 5.0
        self.assertEqual(
            [minutes_to_read(now, polls, False) for polls in range(4)], [(99, 100), (100,), (99, 100), (100,)]
        )

    def test_later(self) -> None:
        """Once many reads have found nobody, the previous minute is read only at the turn of the minute."""
        self.assertEqual(minutes_to_read(100 * 60 + 5.0, PREVIOUS_MINUTE_ROUNDS, False), (100,))
        self.assertEqual(minutes_to_read(100 * 60 + 4.0, PREVIOUS_MINUTE_ROUNDS, False), (99, 100))

    def test_turn_of_the_minute(self) -> None:
        """In the first 5 s of a minute the previous one is read with every poll."""
        for now in (6000.0, 6004.99):
            self.assertEqual([minutes_to_read(now, polls, False) for polls in range(3)], [(99, 100)] * 3)

    def test_older_first(self) -> None:
        """If configured, the first read includes the two minutes before."""
        now = 100 * 60 + 30.0
        self.assertEqual(
            [minutes_to_read(now, polls, True) for polls in range(3)], [(98, 99), (100,), (99, 100)]
        )

    def test_saturates(self) -> None:
        """There is no minute before minute 0."""
        self.assertEqual(minutes_to_read(30.0, 0, False), (0,))
        self.assertEqual(minutes_to_read(30.0, 0, True), (0,))
        self.assertEqual(minutes_to_read(90.0, 0, True), (0,))


class WriterTests(SynchronousTestCase):
    """
    Tests for L{is_writer}.
    """

    def test_as_many_as_needed(self) -> None:
        """In each minute, all members select the same few members of a swarm to write; each has its turn."""
        written: set[bytes] = set()
        for minute in range(100):
            writers = {
                peer for peer in IDS if is_writer(peer, [each for each in IDS if each != peer], minute)
            }
            self.assertEqual(len(writers), WRITERS)
            written |= writers
        self.assertEqual(written, set(IDS))

    def test_few(self) -> None:
        """In a small swarm all write."""
        for count in range(WRITERS):
            self.assertTrue(is_writer(IDS[0], IDS[1 : 1 + count], MINUTE))


class EffortTests(SynchronousTestCase):
    """
    Tests for L{effort_after}.
    """

    def test_urgent_at_first(self) -> None:
        """Lookups have many concurrent queries for the first 10 s, then fewer."""
        self.assertEqual(effort_after(0.0).alpha, URGENT_ALPHA)
        self.assertEqual(effort_after(URGENT_FOR - 0.1).alpha, URGENT_ALPHA)
        self.assertEqual(effort_after(URGENT_FOR).alpha, ALPHA)

    def test_nearest(self) -> None:
        """Nodes that are queried again are the inner ones only."""
        self.assertEqual({effort_after(after).nearest for after in (0.0, 5.0, 500.0)}, {INNER})

    def test_new_lookups(self) -> None:
        """The longer the search, the longer the nodes of a lookup are queried again."""
        lifetimes = [effort_after(2 * after).lifetime for after in (0.0, *LOOKUP_AGAIN_AFTER)]
        self.assertEqual(lifetimes, [*LOOKUP_AGAIN_AFTER, LOOKUP_LIFETIME])


class Records:
    """
    A record client with prepared results.

    @ivar calls: the arguments of all calls.
    @ivar reading: the pending read of the current minute, or C{None}: it ends at once.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.reading: Deferred[None] | None = None
        self.on_record: Any = None

    async def fetch(
        self, minutes: tuple[int, ...], source: str, effort: Effort = PATIENT
    ) -> list[FoundRecord]:
        self.calls.append((minutes, source, effort))
        if MINUTE in minutes and self.reading is not None:
            await self.reading
        return [record for record in (EARLIER, CURRENT) if record.minute in minutes]

    async def publish(self, minute: int, content: ContentSource, source: str, urgent: bool) -> int:
        self.calls.append((minute, content(), source, urgent))
        return 2


class SlotChannelTests(SynchronousTestCase):
    """
    Tests for L{SlotChannel}: which slots it reads, and how.
    """

    def setUp(self) -> None:
        """A channel ten seconds into a minute."""
        self.clock = start_clock()
        self.records = Records()
        self.dht = FakeDHT(self.clock)
        self.channel = self.make()
        self.joining = False

    def make(self) -> SlotChannel:
        """Return a channel over the prepared records."""
        return SlotChannel(Member(self.clock, self.dht).shared, self.records)  # type: ignore[arg-type]

    def search(self, rounds: int = 0, alone_for: float = 0.0) -> Deferred[list[FoundRecord]]:
        """Search without a neighbour."""
        return self.channel.find("test", SearchState(alone_for, rounds, lambda: self.joining))

    def test_ready(self) -> None:
        """It is ready when the DHT is."""
        self.dht = FakeDHT(self.clock, ready=False)
        ready = self.make().when_ready()
        self.assertNoResult(ready)
        self.dht.become_ready()
        self.assertIsNone(self.successResultOf(ready))

    def test_patient(self) -> None:
        """With neighbours, both recent slots are read patiently."""
        self.assertEqual(self.successResultOf(self.channel.find("test")), [EARLIER, CURRENT])
        self.assertEqual(self.records.calls, [((MINUTE - 1, MINUTE), "test", PATIENT)])

    def test_publish(self) -> None:
        """It publishes in the slot of the current minute."""
        content = GossipContent((IDS[1],))
        self.assertEqual(self.successResultOf(self.channel.publish(lambda: content, "test", True)), 2)
        self.clock.advance(50)
        self.successResultOf(self.channel.publish(lambda: content, "test"))
        self.assertEqual(
            self.records.calls, [(MINUTE, content, "test", True), (MINUTE + 1, content, "test", False)]
        )

    def skewed(self, ahead: float) -> None:
        """Most members have clocks that are ahead of ours."""
        shared = evolve(Member(self.clock, self.dht).shared, ahead=lambda: ahead)
        self.channel = SlotChannel(shared, self.records)  # type: ignore[arg-type]

    def test_skewed(self) -> None:
        """
        If our clock differs from those of most members, slots are read for their time, too,
        and ours is written for it.
        """
        self.skewed(600.0)
        self.channel.find("test")
        self.search(1)
        self.search(2)
        self.channel.watch("test")
        self.channel.publish(GossipContent, "test", True)
        self.assertEqual(
            [call[0] for call in self.records.calls],
            [
                (MINUTE - 1, MINUTE, MINUTE + 9, MINUTE + 10),
                (MINUTE, MINUTE + 10),
                (MINUTE - 1, MINUTE, MINUTE + 9, MINUTE + 10),
                (MINUTE, MINUTE + 10),
                MINUTE + 10,
            ],
        )

    def test_skewed_first(self) -> None:
        """The first read of a search covers their time at once."""
        self.skewed(-600.0)
        self.search()
        self.assertEqual(self.records.calls[0][0], (MINUTE, MINUTE - 11, MINUTE - 10))

    def test_hardly_skewed(self) -> None:
        """Within a minute there is nothing more to read."""
        self.skewed(20.0)
        self.channel.find("test")
        self.assertEqual(self.records.calls[0][0], (MINUTE - 1, MINUTE))

    def test_in_turn(self) -> None:
        """
        Beside another channel, a member that has been alone for some time reads with every
        second search, and with the first one of a minute.
        """
        self.channel.alternates = True
        for alone_for, calls in ((URGENT_FOR - 1, 8), (URGENT_FOR, 4)):
            self.successResultOf(self.search(2, alone_for))
            self.records.calls.clear()
            for rounds in range(3, 11):
                self.successResultOf(self.search(rounds, alone_for))
            self.assertEqual(len(self.records.calls), calls)
        self.clock.advance(60)
        self.successResultOf(self.search(11, URGENT_FOR))
        self.assertEqual(len(self.records.calls), 5)

    def test_others_are_found_elsewhere(self) -> None:
        """
        While members are found elsewhere, a lone member reads every second time, and looks
        for newcomers are halved; mergers still read.
        """
        others: list[bytes] = []
        self.channel.elsewhere = lambda: others
        for count, calls in ((0, 10), (1, 5)):
            others[:] = IDS[1 : 1 + count]
            self.records.calls.clear()
            for rounds in range(1, 11):
                self.successResultOf(self.search(rounds, 20.0))
            self.assertEqual(len(self.records.calls), calls)
            self.records.calls.clear()
            for _ in range(10):
                self.successResultOf(self.channel.watch("watcher"))
            self.assertEqual(len(self.records.calls), calls)
            self.records.calls.clear()
            for _ in range(10):
                self.successResultOf(self.channel.find("bubble merge"))
            self.assertEqual(len(self.records.calls), 10)

    def test_writers(self) -> None:
        """With many others elsewhere, some publish in a minute; who is alone always does."""
        self.channel.elsewhere = lambda: IDS[1:25]
        for minute in range(40):
            self.clock.advance(60 * minute)
            self.successResultOf(self.channel.publish(GossipContent, "test"))
        self.assertTrue(1 <= len(self.records.calls) < 25, len(self.records.calls))
        self.records.calls.clear()
        for minute in range(10):
            self.clock.advance(60 * minute)
            self.successResultOf(self.channel.publish(GossipContent, "test", True))
        self.assertEqual(len(self.records.calls), 10)

    def test_first_round(self) -> None:
        """The first round reads the previous slot after the current one."""
        self.assertEqual(self.successResultOf(self.search()), [EARLIER, CURRENT])
        self.assertEqual(self.records.calls, [((MINUTE,), "test", URGENT), ((MINUTE - 1,), "test", URGENT)])

    def test_previous_minute_waits(self) -> None:
        """If the current slot takes longer, the read of the previous one begins meanwhile."""
        self.records.reading = Deferred()
        found = self.search()
        advance(self.clock, PREVIOUS_AFTER - 0.01)
        self.assertEqual(len(self.records.calls), 1)
        advance(self.clock, 0.02)
        self.assertEqual(self.records.calls[1:], [((MINUTE - 1,), "test", URGENT)])
        self.assertNoResult(found)
        self.records.reading.callback(None)
        self.assertEqual(self.successResultOf(found), [EARLIER, CURRENT])

    def test_previous_minute_is_not_needed(self) -> None:
        """The previous slot is not read if a member is being joined by then."""
        self.records.reading = Deferred()
        found = self.search()
        self.joining = True
        advance(self.clock, PREVIOUS_AFTER + 0.01)
        self.records.reading.callback(None)
        self.assertEqual(self.successResultOf(found), [CURRENT])
        self.assertEqual([minutes for minutes, *_ in self.records.calls], [(MINUTE,), ()])

    def test_turn_of_the_minute(self) -> None:
        """At the beginning of a minute, even the first round reads both slots at the same time."""
        self.clock.advance(50)
        self.successResultOf(self.search())
        self.assertEqual(self.records.calls, [((MINUTE, MINUTE + 1), "test", URGENT)])

    def test_later_rounds(self) -> None:
        """Later rounds read every second time both slots, with the effort for the time alone."""
        for rounds in (1, 2):
            self.successResultOf(self.search(rounds, 20.0))
        self.assertEqual(
            self.records.calls,
            [((MINUTE,), "test", effort_after(20.0)), ((MINUTE - 1, MINUTE), "test", effort_after(20.0))],
        )
