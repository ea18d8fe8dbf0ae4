"""
Tests for L{dtt.discovery.record_slot}.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from random import Random
from typing import Any

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase

from dtt.config import DHTConfig
from dtt.dht.client.lookup import SLOT_WIDTH
from dtt.dht.client.placement import MAX_SEQ
from dtt.dht.client.shortlist import MAINLINE_WIDTH
from dtt.dht.node import DHTNode
from dtt.dht.routing.ids import is_valid
from dtt.discovery import record_slot as record_client
from dtt.discovery import slot_reader, slot_scheme
from dtt.discovery.candidates import FoundRecord
from dtt.discovery.record_slot import UNREADABLE_INTERVAL, SlotSummary
from dtt.errors import LookupFailed, QueryTimeout, UsageError
from dtt.events import RecordFound, RecordPublished, RecordsUnreadable, SlotContested
from dtt.interfaces import MutableRead, PutResult
from dtt.records.record import ENTROPY_BYTES, GossipContent, Record, encrypt, open_record
from dtt.records.topic import Slot, TopicKeys, default_rotation, encryption_key, initial_secret_hash
from dtt.testing.fake_dht import FakeDHT
from dtt.testing.net.machines import MachineNetwork
from dtt.testing.storage import StorageDHT
from tests.discovery.records import RecordClientTestCase
from tests.sweeps import sized
from tests.tracker.common import (
    IDS,
    KEYS,
    MINUTE,
    SECRET_HASH,
    TOPIC,
    CountingDHT,
    Member,
    SilentDHT,
    address,
    start_clock,
    store,
)

HASHES = [bytes((number,)) * 32 for number in range(1, 10)]


class FetchTests(RecordClientTestCase):
    """
    Tests for L{record_client.RecordClient.fetch}.
    """

    def test_what_a_record_says(self) -> None:
        """
        Peers, hashes and addresses of a record are returned, the book learns the
        addresses, and an event reports it.
        """
        content = GossipContent((IDS[3], IDS[4]), (HASHES[0],), (address(1),))
        self.successResultOf(self.member(1).publish(content))
        reader = self.member(0)
        (found,) = self.successResultOf(reader.fetch())
        self.assertEqual(found, FoundRecord(IDS[1], MINUTE, (IDS[3], IDS[4]), (HASHES[0],), (address(1),)))
        self.assertEqual(reader.book.known, {IDS[1]: (address(1),)})
        self.assertEqual(reader.events, [RecordFound(TOPIC, MINUTE, IDS[1], "test")])

    def test_found_is_told_once(self) -> None:
        """A record that is found again in the next read is not reported again."""
        self.successResultOf(self.member(1).publish())
        reader = self.member(0)
        for _ in range(3):
            self.assertEqual(len(self.successResultOf(reader.fetch())), 1)
        self.assertEqual(len(reader.events), 1)
        self.assertEqual(reader.client.counters["opened"], 1)

    def test_several_minutes(self) -> None:
        """Slots are read concurrently; the records of all are returned."""
        self.successResultOf(self.member(1).publish(minute=MINUTE - 1))
        self.successResultOf(self.member(2).publish(minute=MINUTE))
        found = self.successResultOf(self.member(0).fetch(MINUTE - 1, MINUTE))
        self.assertEqual(
            [(record.publisher, record.minute) for record in found],
            [(IDS[1], MINUTE - 1), (IDS[2], MINUTE)],
        )

    def test_own_is_dropped(self) -> None:
        """
        The member's own records are dropped, and neither the member itself nor invalid
        ids become candidates.
        """
        member = self.member(0)
        self.successResultOf(member.publish())
        self.successResultOf(self.member(1).publish(GossipContent((IDS[0], b"\xff" * 32, IDS[2]))))
        (found,) = self.successResultOf(member.fetch())
        self.assertEqual((found.publisher, found.active_peers), (IDS[1], (IDS[2],)))

    def test_united(self) -> None:
        """
        If the content of a publisher has grown, both records are found and returned as
        one, the last seen first.
        """
        publisher = self.member(1)
        self.successResultOf(publisher.publish(GossipContent((IDS[2],), (), (address(1),))))
        reader = self.member(0)
        self.successResultOf(reader.fetch())
        self.clock.advance(2)
        self.successResultOf(publisher.publish(GossipContent((IDS[3],), (HASHES[0],), (address(2),))))
        self.assertEqual(len(self.dht.stored(self.slot.public_key, self.slot.salt)), 2)
        (found,) = self.successResultOf(reader.fetch())
        self.assertEqual(
            found, FoundRecord(IDS[1], MINUTE, (IDS[3], IDS[2]), (HASHES[0],), (address(2), address(1)))
        )
        self.assertEqual(reader.book.known[IDS[1]], (address(2), address(1)))

    def test_other_secret(self) -> None:
        """Members with different secrets do not find each other."""
        self.successResultOf(self.member(1, secret_hash=initial_secret_hash(b"another")).publish())
        self.assertEqual(self.successResultOf(self.member(0).fetch()), [])

    def test_unreadable(self) -> None:
        """
        Records that our secret does not decrypt are reported with their number, once in an hour;
        what has not the form of a record is not.
        """
        other = initial_secret_hash(b"another")
        for number in (1, 2, 3):
            store(self.dht, self.encrypted(number, secret_hash=other), own_id=IDS[number])
        store(self.dht, b"junk")
        member = self.member()
        self.assertEqual(self.successResultOf(member.fetch()), [])
        self.assertEqual(member.events, [RecordsUnreadable(TOPIC, MINUTE, 3)])
        self.assertEqual(member.client.summary(), SlotSummary(0, 3, False))
        self.clock.advance(40)
        self.successResultOf(member.fetch())
        self.assertEqual(len(member.events), 1)
        self.clock.advance(UNREADABLE_INTERVAL)
        self.assertEqual(member.client.summary(), SlotSummary(0, 0, False))
        later = MINUTE + 61
        slot = Slot(TOPIC, later)
        store(self.dht, self.encrypted(1, slot=slot, in_slot=slot, secret_hash=other), minute=later)
        self.successResultOf(member.fetch(later))
        self.assertEqual(member.events[1:], [RecordsUnreadable(TOPIC, later, 1)])

    def test_contested(self) -> None:
        """
        A slot in which most nodes store junk is reported, once in an hour, and not as one of
        members with another secret, whatever the junk looks like.
        """
        other = initial_secret_hash(b"another")
        for number in range(1, 8):
            value = self.encrypted(number, secret_hash=other) if number % 2 else b"junk %d" % number
            store(self.dht, value, own_id=IDS[number])
        member = self.member()
        self.successResultOf(member.fetch())
        (event,) = member.events
        assert isinstance(event, SlotContested)
        self.assertGreaterEqual(event.junk, record_client.CONTESTED)
        self.assertEqual((event.topic, event.minute, event.values), (TOPIC, MINUTE, event.junk))
        self.clock.advance(40)
        self.successResultOf(member.fetch())
        self.assertEqual(len(member.events), 1)
        self.assertIn(f"{event.junk} of {event.junk} values in the slot are not records", event.text())

    def test_half_contested(self) -> None:
        """A slot in which records remain is not contested."""
        self.patch(record_client, "CONTESTED", 2)
        for number in range(1, 3):
            store(self.dht, b"junk %d" % number, own_id=IDS[number])
        self.successResultOf(self.member(1).publish())
        member = self.member()
        self.successResultOf(member.fetch())
        self.assertEqual([type(event) for event in member.events], [RecordFound])

    def test_readable(self) -> None:
        """Records that our secret decrypts cause no warning; a summary counts their publishers."""
        self.successResultOf(self.member(1).publish())
        member = self.member()
        self.successResultOf(member.publish())
        self.successResultOf(member.fetch())
        self.assertEqual(member.client.summary(), SlotSummary(1, 0, False))
        self.assertNotIn(RecordsUnreadable, [type(event) for event in member.events])

    def test_summary_of_a_failure(self) -> None:
        """A summary says whether the last read has failed."""
        dht = CountingDHT(self.dht)
        member = self.member(dht=dht)
        dht.instead["get_mutable"] = lambda *_, **kw: fail(QueryTimeout("no"))
        self.successResultOf(member.fetch())
        self.assertEqual(member.client.summary(), SlotSummary(0, 0, True))
        dht.instead.clear()
        self.successResultOf(member.fetch())
        self.assertEqual(member.client.summary(), SlotSummary(0, 0, False))

    def test_slots_are_forgotten(self) -> None:
        """The state of only a few slots is kept."""
        reader = self.member(0)
        for minute in range(MINUTE, MINUTE + 20):
            self.successResultOf(reader.fetch(minute))
        self.assertEqual(len(reader.client._slots), slot_scheme.MAX_SLOTS)
        self.assertIn(MINUTE + 19, reader.client._slots)

    def test_bad_rotation(self) -> None:
        """A rotation that does not return 32 bytes is refused when the client is created."""
        member = self.member(0)
        with self.assertRaises(UsageError):
            record_client.RecordClient(
                member.shared, TopicKeys(TOPIC, SECRET_HASH, lambda *args, **kw: b"short")
            )


class PublishTests(RecordClientTestCase):
    """
    Tests for L{record_client.RecordClient.publish}.
    """

    def stored(self) -> dict[bytes, int]:
        """The slot's values, and the number of nodes that hold each."""
        return self.dht.stored(self.slot.public_key, self.slot.salt)

    def test_stored(self) -> None:
        """The first put stores an inner and an outer copy of the record, and an event reports it."""
        member = self.member(0)
        self.assertEqual(self.successResultOf(member.publish()), 2)
        self.assertEqual(list(self.stored().values()), [2])
        self.assertEqual(member.events, [RecordPublished(TOPIC, MINUTE, 2)])

    def test_top_up(self) -> None:
        """The second put adds copies of the same bytes."""
        member = self.member(0)
        self.successResultOf(member.publish())
        before = set(self.stored())
        self.clock.advance(10)
        self.assertEqual(self.successResultOf(member.publish()), 6)
        self.assertEqual(self.stored(), {before.pop(): 6})

    def test_same_content_or_less(self) -> None:
        """If the content is the same or a subset, the same bytes are put again."""
        member = self.member(0)
        self.successResultOf(member.publish(GossipContent((IDS[1], IDS[2]), (HASHES[0],), (address(0),))))
        self.clock.advance(10)
        self.successResultOf(member.publish(GossipContent((IDS[2],), (), ())))
        self.assertEqual(len(self.stored()), 1)

    def test_grown_content(self) -> None:
        """A new peer, hash or address makes a new record."""
        member = self.member(0)
        contents = [
            GossipContent(),
            GossipContent((IDS[1],)),
            GossipContent((IDS[1],), (HASHES[0],)),
            GossipContent((IDS[1],), (HASHES[0],), (address(0),)),
        ]
        for count, content in enumerate(contents, 1):
            self.dht = FakeDHT(self.clock)
            member.client._shared = evolve(member.shared, dht=self.dht)
            self.successResultOf(member.publish(content))
            self.assertEqual(len(self.stored()), 1)
            (found,) = self.successResultOf(self.member(9).fetch())
            self.assertEqual(
                (found.active_peers, found.last_message_hashes, found.addresses),
                (content.active_peers, content.last_message_hashes, content.addresses),
                f"content {count}",
            )
            self.clock.advance(record_client.FRESH + 1)

    def test_no_place_for_grown_content(self) -> None:
        """
        A publisher that has all its copies counts as published even if there is no room
        for a record with more content: no retry, no event, no failure.
        """
        member = self.member(0)
        for _ in range(2):
            self.successResultOf(member.publish())
            self.clock.advance(10)
        self.assertEqual(sum(self.stored().values()), 6)
        reported = len(member.events)
        self.assertEqual(self.successResultOf(member.publish(GossipContent((IDS[1],)))), 6)
        self.assertEqual((len(self.stored()), len(member.events)), (1, reported))
        self.assertEqual(member.client.counters["publish_failed"], 0)

    def test_cap(self) -> None:
        """A slot with enough records of others gets none of this member's; its own record does not count."""
        for number in (1, 2):
            self.successResultOf(self.member(number).publish())
        self.assertEqual(self.successResultOf(self.member(0, max_bootstrap_records=3).publish()), 2)
        self.clock.advance(2)
        full = self.member(3, max_bootstrap_records=3)
        before = self.stored()
        self.assertEqual(self.successResultOf(full.publish()), 0)
        self.assertEqual(self.stored(), before)
        self.assertEqual(full.client.counters["slot_full"], 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_never(self) -> None:
        """With a cap of 0, the slot is not even read."""
        silent = SilentDHT()
        self.assertEqual(self.successResultOf(self.member(0, silent, max_bootstrap_records=0).publish()), 0)
        self.assertEqual(silent.calls, [])

    def test_junk_does_not_count(self) -> None:
        """Values that are not records do not fill a slot."""
        for number in range(6):
            store(self.dht, b"junk %d" % number)
        self.assertGreater(self.successResultOf(self.member(0).publish()), 0)

    def test_fresh_read(self) -> None:
        """A read that has just ended serves the put, with its tokens."""
        counting = CountingDHT(self.dht)
        member = self.member(0, counting)
        self.successResultOf(member.fetch())
        self.clock.advance(record_client.FRESH)
        self.successResultOf(member.publish())
        self.assertEqual(counting.calls, ["get_mutable", "put_mutable"])

    def test_stale_read(self) -> None:
        """The tokens of a read older than 5 s are not used: the nodes are queried again."""
        counting = CountingDHT(self.dht)
        member = self.member(0, counting)
        self.successResultOf(member.fetch())
        self.clock.advance(record_client.FRESH + 0.1)
        self.successResultOf(member.publish())
        self.assertEqual(counting.calls, ["get_mutable", "refresh", "put_mutable"])

    def test_retries(self) -> None:
        """A put that stores nothing is retried 3 times, each after 5 s + 0..10 s; then there is a warning."""
        times: list[float] = []

        def nothing(*args: Any, **kw: Any) -> Deferred[PutResult]:
            times.append(self.clock.seconds())
            return succeed(PutResult())

        counting = CountingDHT(self.dht)
        counting.instead["put_mutable"] = nothing
        member = self.member(0, counting)
        put = member.publish()
        self.clock.pump([0.1] * 600)
        self.assertEqual(self.successResultOf(put), 0)
        waits = [later - earlier for earlier, later in pairwise(times)]
        self.assertEqual(len(waits), 3)
        self.assertTrue(all(5.0 <= wait <= 15.2 for wait in waits), waits)
        self.assertGreater(max(waits) - min(waits), 0.5, waits)
        self.assertEqual(member.client.counters["publish_failed"], 4)
        self.assertEqual(member.events, [])

    def test_retry_after_errors(self) -> None:
        """Time-outs of read and put count as failed puts; the next attempt may succeed."""
        counting = CountingDHT(self.dht)
        silent = SilentDHT()
        counting.instead["get_mutable"] = silent.get_mutable
        config = DHTConfig(get_timeout=2, put_timeout=3, base_retry_interval=5, max_retry_jitter=0)
        put = self.member(0, counting, config=config).publish()
        self.clock.advance(2)
        self.assertEqual(silent.cancelled, ["get_mutable"])
        counting.instead = {"put_mutable": silent.put_mutable}
        self.clock.advance(5)
        self.clock.advance(3)
        self.assertEqual(silent.cancelled, ["get_mutable", "put_mutable"])
        counting.instead = {}
        self.clock.advance(4.9)
        self.assertNoResult(put)
        self.clock.advance(0.1)
        self.assertEqual(self.successResultOf(put), 2)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_retry_looks_anew(self) -> None:
        """A publisher that found no free node starts a new lookup for its retry, and tries all nodes."""
        counting = CountingDHT(self.dht)
        widths: list[int] = []

        def get_mutable(*args: Any, **kw: Any) -> Deferred[MutableRead]:
            widths.append(kw["width"])
            return self.dht.get_mutable(*args, **kw)

        counting.instead = {
            "get_mutable": get_mutable,
            "put_mutable": lambda *args, **kw: succeed(PutResult()),
        }
        put = self.member(0, counting).publish()
        self.clock.pump([0.1] * 151)
        counting.instead = {"get_mutable": get_mutable}
        self.clock.pump([0.1] * 150)
        self.assertEqual(self.successResultOf(put), 2)
        self.assertEqual(widths[:2], [slot_reader.PATIENT_WIDTH, SLOT_WIDTH])
        self.assertNotIn("refresh", counting.calls)

    def test_second_copy_waits_for_a_crowd(self) -> None:
        """
        If three others have just published, the second copy follows a second later, if
        there is still room.
        """
        for crowd, copies in ((False, 2), (True, 1)):
            dht = FakeDHT(self.clock)
            for number in range(1, 4):
                self.successResultOf(self.member(number, dht).publish())
            counting = CountingDHT(dht)
            reads: list[MutableRead] = []
            slow: Deferred[MutableRead] = Deferred()

            def get_mutable(
                *args: Any, dht: FakeDHT = dht, reads: Any = reads, slow: Any = slow, **kw: Any
            ) -> Any:
                dht.get_mutable(*args, **kw).addCallback(reads.append)
                return slow

            counting.instead["get_mutable"] = get_mutable
            put = self.member(0, counting, max_bootstrap_records=100).publish(urgent=True)
            stored = dht.stored(self.slot.public_key, self.slot.salt)
            self.assertEqual(list(stored.values()).count(1), 1)
            slow.callback(reads[0])
            for number in range(4, 15) if crowd else ():
                self.successResultOf(self.member(number, dht, max_bootstrap_records=100).publish())
            self.clock.advance(record_client.FORMING_PAUSE - 0.01)
            self.assertNoResult(put)
            self.clock.advance(0.01)
            self.assertEqual(self.successResultOf(put), copies)

    def test_acknowledged_only(self) -> None:
        """A put that was only acknowledged causes neither a retry nor an event."""
        counting = CountingDHT(self.dht)
        contact = self.dht.contacts[0]
        counting.instead["put_mutable"] = lambda *args, **kw: succeed(PutResult(acknowledged=(contact,)))
        member = self.member(0, counting)
        self.assertEqual(self.successResultOf(member.publish()), 1)
        self.assertEqual(member.events, [])

    def test_read_anew_during_the_put(self) -> None:
        """Nodes that stored the record count, even if a concurrent read has found other nodes."""
        counting = CountingDHT(self.dht)
        member = self.member(0, counting)
        putting: list[Deferred[PutResult]] = []

        def put_later(*args: Any, **kw: Any) -> Deferred[PutResult]:
            putting.append(Deferred())
            return putting[0]

        counting.instead["put_mutable"] = put_later
        put = member.publish()
        counting.instead["refresh"] = lambda read, *args: succeed(MutableRead(read.public_key, read.salt, ()))
        self.successResultOf(member.fetch())
        putting[0].callback(PutResult(stored=self.dht.contacts[:2]))
        self.assertEqual(self.successResultOf(put), 2)

    def test_cancel(self) -> None:
        """Cancelling leaves nothing behind: no read, no put, no scheduled retry."""
        silent = SilentDHT()
        put = self.member(0, silent).publish()
        put.cancel()
        self.failureResultOf(put, CancelledError)
        counting = CountingDHT(self.dht)
        counting.instead["put_mutable"] = silent.put_mutable
        put = self.member(0, counting).publish()
        put.cancel()
        self.failureResultOf(put, CancelledError)
        self.assertEqual(silent.cancelled, ["get_mutable", "put_mutable"])
        counting.instead["put_mutable"] = lambda *args, **kw: succeed(PutResult())
        put = self.member(0, counting).publish()
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        put.cancel()
        self.failureResultOf(put, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_first_copy_is_early(self) -> None:
        """
        An urgent publish puts the first copy once the nearest nodes have answered, while
        others are silent, and the second after the complete read; the event reports both.
        """
        counting = CountingDHT(self.dht)
        slow: Deferred[MutableRead] = Deferred()
        real = self.dht.get_mutable

        def get_mutable(*args: Any, **kw: Any) -> Deferred[MutableRead]:
            real(*args, **kw).addCallback(reads.append)
            return slow

        reads: list[MutableRead] = []
        counting.instead["get_mutable"] = get_mutable
        member = self.member(0, counting)
        put = member.publish(urgent=True)
        self.assertEqual(list(self.stored().values()), [1])
        self.assertEqual(counting.calls, ["get_mutable", "put_mutable", "refresh"])
        self.assertEqual(member.events, [])
        slow.callback(reads[0])
        self.clock.advance(record_client.SECOND_LOOK_AFTER)
        self.assertEqual(self.successResultOf(put), 2)
        self.assertEqual(list(self.stored().values()), [2])
        self.assertEqual(member.events, [RecordPublished(TOPIC, MINUTE, 2)])

    def test_first_copy_fails(self) -> None:
        """If the first copy can't be placed, the others still are."""
        counting = CountingDHT(self.dht)
        real = self.dht.put_mutable

        def put_mutable(*args: Any, **kw: Any) -> Deferred[PutResult]:
            return real(*args, **kw) if kw["read_back"] else fail(QueryTimeout("no reply"))

        counting.instead["put_mutable"] = put_mutable
        self.assertEqual(self.successResultOf(self.member(0, counting).publish(urgent=True)), 2)

    def test_second_look_fails(self) -> None:
        """If no node answers the second read of the slot, the first copy still counts."""
        counting = CountingDHT(self.dht)
        counting.instead["refresh"] = lambda *args: fail(LookupFailed("none of 8 DHT nodes answered"))
        self.dht.latency = 0.05
        member = self.member(0, counting)
        put = member.publish(urgent=True)
        self.clock.pump([0.05] * 100)
        self.assertIn("refresh", counting.calls)
        self.assertEqual(self.successResultOf(put), 2)
        self.assertEqual(member.events, [RecordPublished(TOPIC, MINUTE, 2)])
        self.assertEqual(member.client.counters["publish_failed"], 0)

    def test_alone_at_a_full_slot(self) -> None:
        """
        A member without a neighbour publishes in a slot that holds enough records of others,
        and overwrites none of them; one with a neighbour does not publish.
        """
        for number in range(1, 9):
            self.successResultOf(self.member(number, max_bootstrap_records=100).publish())
        before = self.stored()
        self.assertEqual(self.successResultOf(self.member(0).publish()), 0)
        self.assertEqual(self.stored(), before)
        self.assertEqual(self.successResultOf(self.member(0).publish(urgent=True)), 2)
        self.assertEqual(self.stored(), {**self.stored(), **before})
        self.assertIn(IDS[0], {found.publisher for found in self.successResultOf(self.member(9).fetch())})

    def test_alone_but_never_to_publish(self) -> None:
        """With a limit of 0, not even a member without a neighbour publishes."""
        silent = SilentDHT()
        member = self.member(0, silent, max_bootstrap_records=0)
        self.assertEqual(self.successResultOf(member.publish(urgent=True)), 0)
        self.assertEqual(silent.calls, [])

    def test_content_is_made_late(self) -> None:
        """
        The content of a record is made when the slot has been read, and again for each
        later put: what the read has taught us is in it.
        """
        for urgent in (False, True):
            with self.subTest(urgent=urgent):
                self.publish_late(urgent)

    def publish_late(self, urgent: bool) -> None:
        """Publish a content that is different each time, and read it."""
        self.dht = FakeDHT(self.clock, latency=0.1)
        made: list[float] = []

        def content() -> GossipContent:
            made.append(self.clock.seconds())
            return GossipContent(addresses=(address(len(made)),))

        start = self.clock.seconds()
        member = self.member(0, self.dht)
        publishing = Deferred.fromCoroutine(member.client.publish(MINUTE, content, "test", urgent))
        self.assertEqual(made, [])
        self.clock.pump([0.05] * 100)
        self.successResultOf(publishing)
        self.assertGreaterEqual(made[0] - start, 0.09)
        reading = self.member(1, self.dht).fetch()
        self.clock.pump([0.05] * 100)
        (found,) = self.successResultOf(reading)
        self.assertEqual(set(found.addresses), {address(n + 1) for n in range(len(made))})

    def test_cancel_in_a_hurry(self) -> None:
        """Cancelling an urgent publish also ends the early put."""
        counting = CountingDHT(self.dht)
        silent = SilentDHT()
        counting.instead["put_mutable"] = silent.put_mutable
        put = self.member(0, counting).publish(urgent=True)
        put.cancel()
        self.failureResultOf(put, CancelledError)
        self.assertEqual(silent.cancelled, ["put_mutable"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_two_at_once(self) -> None:
        """
        Of two members that publish concurrently, at least one sees the other when it
        reads the inner nodes again.
        """
        for seed in range(10):
            self.dht = FakeDHT(self.clock, latency=0.1, rng=Random(seed))
            members = [self.member(number, self.dht) for number in (0, 1)]
            for member in members:
                member.publish(urgent=True)
                self.clock.advance(0.05)
            self.clock.pump([0.05] * 12)
            seen = [event for member in members for event in member.events if isinstance(event, RecordFound)]
            self.assertGreater(len(seen), 0, f"seed {seed}")

    def test_many_publishers(self) -> None:
        """With a higher cap, a reader recovers the records of twenty publishers."""
        for number in range(1, 21):
            self.successResultOf(self.member(number, max_bootstrap_records=100).publish())
        found = self.successResultOf(self.member(0).fetch())
        self.assertEqual(
            {record.publisher for record in found}, set(IDS[1:21]) & {r.publisher for r in found}
        )
        self.assertGreaterEqual(len(found), 15)


class FloodTests(SynchronousTestCase):
    """
    Members beside a writer like the Rust crate's, which puts its record on all of the 20
    nodes that such a reader looks at, in a DHT of nodes that replace a record by any other
    one (docs/protocol/dht.md section 4, rule 8).
    """

    def world(self, seed: int, manners: dict[str, float]) -> None:
        """Create a DHT."""
        self.clock = start_clock()
        self.slot = Slot(TOPIC, MINUTE)
        storage = StorageDHT(300, Random(seed), silent=0.1, secure=0.5, manners=manners)
        self.bootstrap = storage.bootstrap
        self.net = MachineNetwork(self.clock, beyond=storage)
        self.rng = Random(seed)
        self.upstream = self.node("45.0.1.1")

    def node(self, host: str) -> DHTNode:
        """Start a DHT node."""
        rng = Random(self.rng.random())
        node = DHTNode(self.net.reactor(host), interface=host, bootstrap=self.bootstrap, rng=rng)
        node.startService()
        self.net.advance(5)
        self.addCleanup(self.net.advance, 1)
        self.addCleanup(node.stopService)
        return node

    def member(self, number: int) -> Member:
        """Start a member."""
        host = f"45.0.0.{number}"
        member = Member(self.net.reactor(host), self.node(host), number)
        self.addCleanup(member.end)
        return member

    def look(self) -> MutableRead:
        """Read as the crate does."""
        reading = self.upstream.get_mutable(self.slot.public_key, self.slot.salt, width=MAINLINE_WIDTH)
        self.net.advance(10)
        read = self.successResultOf(reading)
        valid_first = sorted(
            read.answers, key=lambda each: not is_valid(each.contact.node_id, each.contact.host)
        )
        return evolve(read, answers=tuple(valid_first[:MAINLINE_WIDTH]))

    def flood(self) -> int:
        """Write as the crate does, and return the number of nodes that answered."""
        key = encryption_key(self.slot, SECRET_HASH, default_rotation)
        record = Record.sign(KEYS[0], self.slot, GossipContent().encode())
        putting = self.upstream.put_latest(
            self.slot.signing_seed,
            encrypt(record, key.public, self.rng.randbytes(ENTROPY_BYTES)),
            MAX_SEQ,
            self.slot.salt,
            cas=MAX_SEQ,
            read=self.look(),
            copies=MAINLINE_WIDTH,
        )
        self.net.advance(10)
        result = self.successResultOf(putting)
        return len(result.stored) + len(result.acknowledged)

    def publish(self, members: list[Member]) -> None:
        """Let members publish or top up, one after another, when their last reads are too old."""
        self.net.advance(30)
        for member in members:
            publishing = member.publish()
            self.net.advance(10)
            self.assertGreater(self.successResultOf(publishing), 0)

    def seen(self) -> Counter[bytes]:
        """The publishers whose records a reader like the crate's finds, and their copies."""
        key = encryption_key(self.slot, SECRET_HASH, default_rotation)
        copies: Counter[bytes] = Counter()
        for value, holders in self.look().values().items():
            copies[open_record(value, self.slot, key).publisher] += len(holders)
        return copies

    def test_found_again(self) -> None:
        """
        Each such write hides the members from such readers until they publish the next
        time; then all are found, and the writer loses one copy to each at a time.
        """
        for seed in range(sized(1, 5)):
            self.world(seed, {"mainline": 1.0})
            members = [self.member(1), self.member(2)]
            self.publish(members)
            self.assertEqual(set(self.seen()), {IDS[1], IDS[2]}, f"seed {seed}")
            for _ in range(3):
                self.assertEqual(self.flood(), MAINLINE_WIDTH)
                self.assertEqual(set(self.seen()), {IDS[0]}, f"seed {seed}")
                self.publish(members)
                seen = self.seen()
                self.assertEqual(set(seen), {IDS[0], IDS[1], IDS[2]}, f"seed {seed}")
                self.assertGreaterEqual(seen[IDS[0]], MAINLINE_WIDTH - 4, f"seed {seed}")

    def test_came_later(self) -> None:
        """
        Where some of the nodes that hold the record replace it, members that publish after
        such a write are found, too.
        """
        for seed in range(sized(1, 5)):
            self.world(seed, {"libtorrent": 0.7, "mainline": 0.3})
            self.flood()
            self.publish([self.member(1), self.member(2)])
            self.assertEqual(set(self.seen()), {IDS[0], IDS[1], IDS[2]}, f"seed {seed}")
