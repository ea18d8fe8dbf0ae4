"""
Tests for L{dtt.discovery.slot_reader}.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import deferLater

from dtt.config import DHTConfig
from dtt.dht.client.placement import INNER
from dtt.discovery import slot_reader
from dtt.discovery.candidates import FoundRecord
from dtt.discovery.slot_reader import PATIENT, URGENT, SlotReader
from dtt.discovery.slot_scheme import SlotScheme
from dtt.errors import LookupFailed, QueryTimeout
from dtt.events import RecordFound
from dtt.interfaces import MutableRead
from dtt.records.record import Record
from dtt.records.topic import Slot, TopicId, TopicKeys, initial_secret_hash
from tests.discovery.records import RecordClientTestCase
from tests.tracker.common import (
    IDS,
    KEYS,
    MINUTE,
    SECRET_HASH,
    TOPIC,
    CountingDHT,
    SilentDHT,
    address,
    store,
)


class ReadTests(RecordClientTestCase):
    """
    How a slot is read.
    """

    def setUp(self) -> None:
        """A member with an observed DHT that answers after 0.1 s."""
        super().setUp()
        self.dht.latency = 0.1
        self.counting = CountingDHT(self.dht)
        self.reader = self.member(0, self.counting)

    def advance(self, seconds: float) -> None:
        """Advance the clock in small steps."""
        self.clock.pump([0.05] * round(seconds * 20))

    def test_one_lookup_is_shared(self) -> None:
        """A concurrent read and publish share one lookup, and the put needs no other."""
        read = self.reader.fetch()
        put = self.reader.publish()
        again = self.reader.fetch()
        self.advance(1)
        self.assertEqual(self.successResultOf(read), [])
        self.assertEqual(self.successResultOf(again), [])
        self.assertEqual(self.successResultOf(put), 2)
        self.assertEqual(self.counting.calls, ["get_mutable", "put_mutable"])

    def test_refresh(self) -> None:
        """The second read queries the same nodes again, directly; after a while there is a new lookup."""
        for seconds in (0.2, 1.0, slot_reader.LOOKUP_LIFETIME, 1.0):
            self.reader.fetch()
            self.advance(seconds + 0.1)
        self.assertEqual(self.counting.calls, ["get_mutable", "refresh", "refresh", "get_mutable"])

    def test_network_changed(self) -> None:
        """
        After a change of our network, there is a new lookup, also for a put: the tokens so far are for
        another address.
        """
        self.reader.publish()
        self.advance(1)
        self.reader.client.network_changed()
        self.reader.publish()
        self.advance(1)
        lookups = [call for call in self.counting.calls if call == "get_mutable"]
        self.assertEqual(len(lookups), 2)

    def test_thin_read(self) -> None:
        """A lookup that found few nodes is repeated soon."""
        self.dht.dead.update(self.dht.contacts[slot_reader.THIN - 1 :])
        self.reader.fetch()
        self.advance(slot_reader.THIN_LIFETIME + 0.2)
        self.reader.fetch()
        self.assertEqual(self.counting.calls, ["get_mutable", "get_mutable"])

    def test_read_that_ends_at_once(self) -> None:
        """
        A refresh may end immediately, if no node may be queried now: the next read still
        works.
        """
        self.reader.fetch()
        self.advance(1)
        self.counting.instead["refresh"] = lambda read, *args: succeed(read)
        for _ in range(3):
            self.assertEqual(self.successResultOf(self.reader.fetch()), [])
        self.assertEqual(self.counting.calls[1:], ["refresh"] * 3)

    def test_refresh_that_fails(self) -> None:
        """If none of the known nodes answers any longer, the next read looks for others."""
        self.reader.fetch()
        self.advance(1)
        self.counting.instead["refresh"] = lambda *args: fail(LookupFailed("none of 32 DHT nodes answered"))
        self.assertEqual(self.successResultOf(self.reader.fetch()), [])
        self.reader.fetch()
        self.advance(1)
        self.reader.fetch()
        self.assertEqual(self.counting.calls, ["get_mutable", "refresh", "get_mutable", "refresh"])

    def test_read_that_fails_at_once(self) -> None:
        """A read may fail immediately; this is counted, and the slot counts as empty."""
        self.counting.instead["get_mutable"] = lambda *args, **kw: fail(QueryTimeout("no reply"))
        for _ in range(2):
            self.assertEqual(self.successResultOf(self.reader.fetch()), [])
        self.assertEqual(self.reader.client.counters, {"read_failed": 2})

    def test_timeout(self) -> None:
        """A read that takes too long is given up and counts as empty; the other slot is unaffected."""
        self.dht.latency = 0
        self.successResultOf(self.member(1).publish(minute=MINUTE - 1))
        silent = SilentDHT()
        real = self.dht.get_mutable
        key = Slot(TOPIC, MINUTE).public_key
        self.counting.instead["get_mutable"] = lambda public_key, *args, **kw: (
            silent.get_mutable() if public_key == key else real(public_key, *args, **kw)
        )
        reader = self.member(0, self.counting, config=DHTConfig(get_timeout=3))
        read = reader.fetch(MINUTE - 1, MINUTE)
        self.clock.advance(2.9)
        self.assertNoResult(read)
        self.clock.advance(0.2)
        self.assertEqual(len(self.successResultOf(read)), 1)
        self.assertEqual(silent.cancelled, ["get_mutable"])
        self.assertEqual(reader.client.counters["read_failed"], 1)

    def test_cancel(self) -> None:
        """Cancelling a fetch cancels its reads and leaves nothing behind."""
        silent = SilentDHT()
        reader = self.member(0, silent)
        read = reader.fetch(MINUTE - 1, MINUTE)
        read.cancel()
        self.failureResultOf(read, CancelledError)
        self.assertEqual(silent.cancelled, ["get_mutable"] * 2)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        reader.fetch()
        self.assertEqual(silent.calls, ["get_mutable"] * 3)

    def test_cancel_one_of_two(self) -> None:
        """A read that another caller waits for continues."""
        one, other = self.reader.fetch(), self.reader.fetch()
        one.cancel()
        self.failureResultOf(one, CancelledError)
        self.advance(1)
        self.assertEqual(self.successResultOf(other), [])

    def test_cancel_while_it_ends(self) -> None:
        """Of two callers that wait for a read, the first may cancel the second when it ends."""
        one, other = self.reader.fetch(), self.reader.fetch()
        one.addCallback(lambda _: other.cancel())
        self.advance(1)
        self.successResultOf(one)
        self.failureResultOf(other, CancelledError)
        self.assertEqual(self.successResultOf(self.fetched()), [])

    def test_join_while_it_is_cancelled(self) -> None:
        """
        A caller that joins a read which has been cancelled but has not ended yet, or is
        just being cancelled, gets a separate read.
        """

        async def slow_to_end() -> None:
            try:
                await Deferred()
            finally:
                await deferLater(self.clock, 0.5)

        self.counting.instead["get_mutable"] = lambda *args, **kw: Deferred.fromCoroutine(slow_to_end())
        first = self.reader.fetch()
        first.addErrback(lambda _: None)
        first.cancel()
        del self.counting.instead["get_mutable"]
        second = self.reader.fetch()
        self.advance(1)
        self.assertEqual(self.successResultOf(second), [])

        def join(_: object) -> None:
            del self.counting.instead["refresh"]
            joined.append(self.reader.fetch())

        joined: list[Deferred[Any]] = []
        self.counting.instead["refresh"] = lambda *args, **kw: Deferred(join)
        self.reader.fetch().addErrback(lambda _: None).cancel()
        self.advance(1)
        self.assertEqual([self.successResultOf(each) for each in joined], [[]])
        self.assertEqual(self.counting.calls, ["get_mutable"] * 2 + ["refresh"] * 2)

    def fetched(self) -> Deferred[Any]:
        """The result and the duration of another fetch."""
        read = self.reader.fetch()
        self.advance(1)
        return read


class StreamTests(RecordClientTestCase):
    """
    Tests for L{record_client.RecordClient.on_record}.
    """

    def test_before_the_end(self) -> None:
        """A record is reported when its datagram arrives, once, while the read continues."""
        self.successResultOf(self.member(1).publish())
        counting = CountingDHT(self.dht)
        real = self.dht.get_mutable

        def get_mutable(*args: Any, **kw: Any) -> Deferred[MutableRead]:
            real(*args, **kw)
            return Deferred()

        counting.instead["get_mutable"] = get_mutable
        reader = self.member(0, counting)
        reported: list[FoundRecord] = []
        reader.client.on_record = reported.append
        self.assertNoResult(reader.fetch())
        self.assertEqual([record.publisher for record in reported], [IDS[1]])
        self.assertEqual(reader.book.known[IDS[1]], (address(1),))
        self.assertEqual(list(reader.events), [RecordFound(TOPIC, MINUTE, IDS[1], "test")])

    def test_once(self) -> None:
        """Further reads do not report it again; the member's own record is not reported."""
        self.successResultOf(self.member(1).publish())
        reader = self.member(0)
        reported: list[FoundRecord] = []
        reader.client.on_record = reported.append
        self.successResultOf(reader.publish())
        for _ in range(3):
            self.successResultOf(reader.fetch())
        self.assertEqual([record.publisher for record in reported], [IDS[1]])

    def test_not_after_cancelling(self) -> None:
        """Answers that arrive after the read was cancelled are not reported."""
        self.dht.latency = 0.1
        self.member(1).publish()
        self.clock.pump([0.05] * 20)
        reader = self.member(0)
        reported: list[FoundRecord] = []
        reader.client.on_record = reported.append
        reader.fetch().addErrback(lambda _: None).cancel()
        self.clock.pump([0.05] * 20)
        self.assertEqual(reported, [])


class ValueTests(RecordClientTestCase):
    """
    The values of a slot.
    """

    def test_refused(self) -> None:
        """A value that is not a record of the slot is counted once, by reason, and dropped."""
        forged = Record.sign(KEYS[1], self.slot, b"x" * 320)
        other_topic = Slot(TopicId.from_name("another"), MINUTE)
        values = {
            "length": b"too short",
            "decrypt": self.encrypted(2, secret_hash=initial_secret_hash(b"another")),
            "topic": self.encrypted(3, slot=other_topic),
            "minute": self.encrypted(4, slot=Slot(TOPIC, MINUTE - 1)),
            "signature": self.sealed(evolve(forged, content=b"y" * 320), self.slot),
            "content": self.encrypted(5, content=b"no gossip content"),
        }
        for value in values.values():
            store(self.dht, value)
        self.successResultOf(self.member(6).publish())
        reader = self.member(0)
        for _ in range(2):
            found = self.successResultOf(reader.fetch())
            self.assertEqual([record.publisher for record in found], [IDS[6]])
        self.assertEqual(
            dict(reader.client.counters), {"opened": 1, **{f"refused_{reason}": 1 for reason in values}}
        )

    def test_flood_of_values(self) -> None:
        """
        Nodes that invent new values with each read do not fill memory, and do not exclude
        a record that arrives later.
        """
        self.patch(slot_reader, "MAX_VALUES", 8)
        reader = self.member(0)
        for number in range(10):
            store(self.dht, b"junk %d" % number)
        self.successResultOf(reader.fetch())
        self.successResultOf(self.member(1).publish())
        self.assertEqual(len(self.successResultOf(reader.fetch())), 1)
        self.assertLessEqual(max(len(state.reader._opened) for state in reader.client._slots.values()), 8)

    keys = TopicKeys(TOPIC, SECRET_HASH)

    def reader(self, **kw: Any) -> SlotReader:
        """A reader of the slot, for the first member."""
        shared = self.member(0).shared
        slot = SlotScheme(shared, self.keys).slot(MINUTE)
        self.counters: Counter[str] = Counter()
        return SlotReader(shared, slot, self.counters, **kw)

    def test_nothing_read(self) -> None:
        """Before the first read, nothing is known."""
        reader = self.reader()
        self.assertIsNone(reader.latest)
        self.assertEqual((reader.taken(), reader.unreadable(), reader.contested()), (0, 0, (0, 0)))
        self.assertEqual(reader.records_of(IDS[1]), [])

    def test_counted(self) -> None:
        """Nodes that hold anything, values of another secret, and nodes that hold no record are counted."""
        other = self.encrypted(2, secret_hash=initial_secret_hash(b"another"))
        good = self.encrypted(1)
        for value in (b"junk", other, good):
            store(self.dht, value, own_id=value[:32])
        reader = self.reader()
        read = self.successResultOf(reader.read(URGENT))
        holders = {value: len(nodes) for value, nodes in read.values().items()}
        self.assertEqual(set(holders), {b"junk", other, good})
        total = sum(holders.values())
        self.assertEqual(reader.unreadable(), 1)
        self.assertEqual(reader.contested(), (total - holders[good], total))
        self.assertEqual(reader.taken(), total)
        self.assertEqual([reader.publisher(value) for value in (good, other, b"junk")], [IDS[1], None, None])
        ((value, record),) = reader.records_of(IDS[1])
        self.assertEqual((value, record.publisher), (good, IDS[1]))
        self.assertEqual(self.counters, {"opened": 1, "refused_decrypt": 1, "refused_length": 1})

    def test_not_accepted(self) -> None:
        """A record that is not used now is counted once and not reported, but may be used later."""
        store(self.dht, self.encrypted(1))
        told: list[FoundRecord] = []
        accepted = False
        reader = self.reader(on_record=told.append, accepts=lambda record: accepted)
        for _ in range(2):
            read = self.successResultOf(reader.read(URGENT))
            self.assertEqual((reader.records(read), told), ([], []))
        self.assertEqual(self.counters["refused_minute"], 1)
        self.assertIsNone(reader.publisher(self.encrypted(1)))
        accepted = True
        self.assertEqual([record.publisher for record in reader.records(read)], [IDS[1]])
        self.assertEqual(reader.publisher(self.encrypted(1)), IDS[1])

    def test_max_age(self) -> None:
        """A read that ended a short time ago is reused, if that is wanted."""
        reader = self.reader()
        first = self.successResultOf(reader.read(PATIENT))
        store(self.dht, self.encrypted(1))
        self.clock.advance(PATIENT.max_age or 0)
        self.assertIs(self.successResultOf(reader.read(PATIENT)), first)
        self.assertEqual(len(self.successResultOf(reader.read(URGENT)).values()), 1)
        self.clock.advance((PATIENT.max_age or 0) + 1)
        self.assertIsNot(self.successResultOf(reader.read(PATIENT)), first)

    def test_stored(self) -> None:
        """What we have stored is known without another read, on the nodes that hold it."""
        reader = self.reader()
        read = self.successResultOf(reader.read(URGENT))
        holders = [answer.contact for answer in read.answers[:3]]
        value = self.encrypted(0)
        reader.stored(value, read, holders)
        assert reader.latest is not None
        self.assertEqual(
            [answer.contact for answer in reader.latest.answers if answer.value == value], holders
        )
        self.assertEqual(len(reader.latest.answers), len(read.answers))
        self.assertEqual([record.publisher for record in reader.records(reader.latest)], [IDS[0]])

    def test_inner_again(self) -> None:
        """The nearest nodes are asked again; if none of them answers, what was read remains."""
        reader = self.reader()
        read = self.successResultOf(reader.read(URGENT))
        store(self.dht, self.encrypted(1))
        self.successResultOf(Deferred.fromCoroutine(reader.read_inner_again()))
        assert reader.latest is not None
        after = reader.latest
        self.assertEqual(len(after.answers), len(read.answers))
        self.assertIn(self.encrypted(1), after.values())
        self.dht.dead = set(self.dht.contacts)
        again = Deferred.fromCoroutine(reader.read_inner_again())
        self.clock.advance(60)
        self.successResultOf(again)
        self.assertEqual(reader.latest, after)

    def test_patient_refresh(self) -> None:
        """A patient read asks only the inner nodes again, unless all of them hold a value."""
        self.counting = CountingDHT(self.dht)
        shared = self.member(0, self.counting).shared
        reader = SlotReader(shared, SlotScheme(shared, self.keys).slot(MINUTE), Counter())
        first = self.successResultOf(reader.read(URGENT))
        asked: list[int | None] = []

        def refresh(read: MutableRead, on_answer: Any, nearest: int | None = None) -> Deferred[MutableRead]:
            asked.append(nearest)
            return succeed(read)

        self.counting.instead["refresh"] = refresh
        effort = evolve(PATIENT, max_age=None)
        holders = [answer.contact for answer in first.answers[: INNER + 1]]
        for count in (0, INNER - 1, INNER):
            reader.stored(self.encrypted(0), first, holders[:count])
            self.successResultOf(reader.read(effort))
        self.assertEqual(asked, [INNER, INNER, None])

    def test_stored_meanwhile(self) -> None:
        """What we store during a read is not lost when the read ends with older answers."""
        reader = self.reader()
        read = self.successResultOf(reader.read(URGENT))
        self.dht.latency = 0.1
        reading = reader.read(URGENT)
        self.clock.advance(0.05)
        holder = read.answers[0].contact
        reader.stored(self.encrypted(0), read, [holder])
        self.clock.pump([0.05] * 20)
        self.assertEqual(self.successResultOf(reading).values(), {self.encrypted(0): [holder]})

    def test_inner_during_a_read(self) -> None:
        """During a read, the nearest of the nodes that have answered in it so far are asked again."""
        counting = CountingDHT(self.dht)
        shared = self.member(0, counting).shared
        reader = SlotReader(shared, SlotScheme(shared, self.keys).slot(MINUTE), Counter())
        read = self.successResultOf(reader.read(URGENT))
        far = read.answers[-1]
        asked: list[MutableRead] = []

        def refresh(read: MutableRead, on_answer: Any, nearest: int | None = None) -> Deferred[MutableRead]:
            asked.append(read)
            if len(asked) == 1:
                on_answer(far)
                return Deferred()
            return succeed(read)

        counting.instead["refresh"] = refresh
        self.assertNoResult(reader.read(URGENT))
        self.successResultOf(Deferred.fromCoroutine(reader.read_inner_again()))
        self.assertEqual(asked[1].answers, (far,))
