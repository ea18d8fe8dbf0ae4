"""
Fetches and publishes the records of one topic.

Rules: docs/protocol/records.md sections 4 and 5, docs/protocol/dht.md section 4.
One lookup serves the read, the write (with its tokens) and the next reads of the
same slot.  An urgent write puts the first copy as soon as the nearest nodes are
known, long before the lookup ends, and reads those nodes again immediately
afterwards: thus two members that start simultaneously see each other
(docs/protocol/latency.md section 3, items 3 and 4).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final

from attrs import define, evolve, field, frozen
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from dtt.deferreds import gather_until
from dtt.dht.client.placement import FirstCopy, Placement
from dtt.discovery.candidates import FoundRecord, recent_minutes
from dtt.discovery.interfaces import ContentSource
from dtt.discovery.shared import SharedServices
from dtt.discovery.slot_reader import PATIENT, URGENT, Effort, SlotReader
from dtt.discovery.slot_scheme import SlotScheme, WritableSlot
from dtt.errors import RemoteError
from dtt.events import RecordFound, RecordPublished, RecordsUnreadable, SlotContested
from dtt.interfaces import IPlacement, MutableRead, PutResult
from dtt.records.record import ENTROPY_BYTES, Record, RecordContent
from dtt.records.topic import TopicKeys, unix_minute

#: A put uses a read that ended at most this many seconds ago: changes since then
#: cost a refused put (guess).
FRESH = 25.0

#: The effort of the read for a retry, after no node stored the record: a new lookup
#: of full width.
AGAIN = evolve(URGENT, lifetime=0.0)

#: Seconds between the first and the second time that the inner nodes are read again
#: (guess: two round trips).
SECOND_LOOK_AFTER = 0.3

#: If at least C{FORMING} other members have published when our first copy is
#: stored, a crowd may be forming: the second copy waits for C{FORMING_PAUSE}
#: seconds, and is then placed only if there is room to spare.  Without this pause,
#: 57 % of 50 members that started within a second found a place.
FORMING = 3
FORMING_PAUSE = 1.0

#: How often our records in a slot make room for another one, since our network has
#: changed (guess: once for the addresses of this machine, once for the mapped one).
MAX_STALE: Final = 2

#: In the place of our peer id, the publisher of these.
_STALE: Final = b"stale"

#: Seconds after which records that our secret does not decrypt are reported again
#: (guess: anyone who knows the topic can store what looks like them).
UNREADABLE_INTERVAL = 3600.0

#: A slot is reported as contested if this many nodes store something else than a record that our
#: secret opens, and these are this share of all that store anything.  Members with another secret
#: leave some ten copies (five records, two copies each).
CONTESTED: Final = 13
CONTESTED_SHARE: Final = 0.8


@frozen(slots=True)
class SlotSummary:
    """
    The results of the last reads of the current slots.

    @ivar found: the number of other members with a record.
    @ivar unreadable: the number of records that our secret does not decrypt.
    @ivar failed: whether the last read failed.
    """

    found: int
    unreadable: int
    failed: bool


@define
class _SlotState:
    """
    The state of one slot.

    @ivar number: its number in the scheme.
    @ivar slot: the slot.
    @ivar reader: reads the slot.
    @ivar source: the service that requested the last read, for C{RecordFound}.
    @ivar announced: the publishers that were reported as found.
    @ivar own: the content that we published last, and its encrypted record.
    @ivar may_move: whether our network has changed while the slot was in use.
    @ivar values: all our records.
    @ivar stale: those with addresses that we had before a change.
    @ivar retired: how often records have become stale.
    """

    number: int
    slot: WritableSlot
    reader: SlotReader
    source: str = ""
    announced: set[bytes] = field(factory=set)
    own: tuple[RecordContent, bytes] | None = None
    may_move: bool = False
    values: set[bytes] = field(factory=set)
    stale: set[bytes] = field(factory=set)
    retired: int = 0


class RecordClient:
    """
    Fetches and publishes one topic's records.

    @ivar counters: C{opened}, C{refused_REASON}, C{read_failed}, C{published},
        C{publish_failed}, C{slot_full}.
    @ivar scheme: the slots.
    @ivar on_record: called with each record of another member as soon as the
        datagram that contains it arrives, once for each slot.
    @ivar count: an attribute to set: returns how many of the given records, one for
        each publisher, count towards the maximum of a slot.
    """

    _log = Logger()

    def __init__(
        self,
        shared: SharedServices,
        keys: TopicKeys,
        entropy: Callable[[int], bytes] | None = None,
        scheme: SlotScheme | None = None,
    ) -> None:
        """
        @param shared: the services of the tracker.
        @param keys: the keys of the topic.
        @param entropy: returns the given number of random bytes, for encryption;
            C{None}: those of C{shared.rng}.
        @param scheme: the slots; C{None}: the record slots.
        @raise UsageError: the rotation does not return 32 bytes.
        """
        self.counters: Counter[str] = Counter()
        self.on_record: Callable[[FoundRecord], None] = lambda _: None
        self.count: Callable[[Sequence[FoundRecord]], int] = len
        self._shared = shared
        self._keys = keys
        self._reactor = shared.reactor
        self._config = shared.config.dht
        self.scheme = scheme or SlotScheme(shared, keys)
        self._own_id = shared.key.peer_id
        self._entropy = entropy or shared.rng.randbytes
        self._slots: dict[int, _SlotState] = {}
        self._read_failed = False
        self._reported_unreadable: float | None = None
        self._reported_contested: float | None = None
        self.scheme.slot(unix_minute(shared.reactor.seconds()))  # complain early about a rotation

    async def fetch(self, minutes: Sequence[int], source: str, effort: Effort = PATIENT) -> list[FoundRecord]:
        """
        Read the slots of C{minutes} concurrently, and return the records of other
        members.  A slot that can't be read counts as empty.

        @param minutes: unix minutes.
        @param source: the service that requests the read, for
            L{RecordFound<dtt.events.RecordFound>}.
        @param effort: how thorough the read is.
        """
        fetches = [Deferred.fromCoroutine(self._fetch(minute, source, effort)) for minute in minutes]
        return [record for records in await gather_until(fetches) for record in records]

    async def publish(self, minute: int, content: ContentSource, source: str, urgent: bool = False) -> int:
        """
        Put our record into the slot of C{minute}, or replenish its copies.

        @param minute: the slot's unix minute.
        @param content: returns the content of the record; called when the slot has
            been read.
        @param source: the service that publishes, for
            L{RecordFound<dtt.events.RecordFound>}.
        @param urgent: we have no neighbour: put the first copy before the read of the
            slot has ended, and however many records the slot holds.  Their publishers
            may all be unreachable.
        @return: the number of nodes known to store it or one of our earlier records; 0 if there is none, or
            if the slot holds enough records of other members.
        """
        if not self.scheme.max_others:
            return 0
        for attempt in range(1 + self._config.retries):
            if attempt:
                jitter = self._shared.rng.uniform(0, self._config.max_retry_jitter)
                await deferLater(self._reactor, self._config.base_retry_interval + jitter)
            try:
                lifetime = self.scheme.lifetime
                first = evolve(URGENT if urgent else PATIENT, max_age=FRESH, lifetime=lifetime)
                effort = AGAIN if attempt else first
                copies = await self._publish(self._state(minute), content, source, effort, urgent)
            except (RemoteError, TimeoutError) as error:
                self._log.debug("Publishing failed: {error}", error=error)
                copies = 0
            if copies is None:
                self.counters["slot_full"] += 1
                return 0
            if copies:
                return copies
            self.counters["publish_failed"] += 1
            if self.is_full(minute):
                return 0
        self._log.warn(
            "[{topic}] Our record for minute {minute} could not be stored on any DHT node ({channel}). "
            "Other members may find us by the next record.",
            topic=self._keys.topic_id.label,
            minute=self._minute(self._state(minute)),
            channel=self.scheme.channel,
        )
        return 0

    def is_full(self, number: int) -> bool:
        """
        Return whether members use another slot instead of this one, according to its last read.

        @param number: the slot's number in the scheme.
        """
        state = self._slots.get(number)
        return state is not None and state.reader.taken() >= self.scheme.full

    def publishers(self, numbers: Iterable[int]) -> set[bytes]:
        """
        Return the peer ids of the other members whose records were seen in slots.

        @param numbers: the slots' numbers in the scheme.
        """
        states = (self._slots[each] for each in numbers if each in self._slots)
        return set().union(*(state.announced for state in states))

    def has_own(self, number: int) -> bool:
        """
        Return whether one of our records has been seen in a slot.

        @param number: the slot's number in the scheme.
        """
        state = self._slots.get(number)
        return state is not None and bool(state.reader.records_of(self._own_id))

    def summary(self) -> SlotSummary:
        """
        Return what the last reads of the current and the previous minute have found.
        """
        slots = [
            self._slots[each]
            for each in recent_minutes(unix_minute(self._reactor.seconds()))
            if each in self._slots
        ]
        found = self.publishers(state.number for state in slots)
        unreadable = max((state.reader.unreadable() for state in slots), default=0)
        return SlotSummary(len(found), unreadable, self._read_failed)

    async def _fetch(self, minute: int, source: str, effort: Effort) -> list[FoundRecord]:
        state = self._state(minute)
        state.source = source
        try:
            read = await state.reader.read(effort)
        except (RemoteError, TimeoutError) as error:
            self.counters["read_failed"] += 1
            self._read_failed = True
            self._log.debug("Reading the slot of minute {minute} failed: {error}", minute=minute, error=error)
            return []
        self._read_failed = False
        if not self._report_contested(minute, state.reader):
            self._report_unreadable(minute, state.reader)
        return self._found(state, read)

    def _report_contested(self, minute: int, reader: SlotReader) -> bool:
        """
        Report that a slot is full of junk, and return whether it is.
        """
        junk, values = reader.contested()
        if junk < CONTESTED or junk < CONTESTED_SHARE * values:
            return False
        now, last = self._reactor.seconds(), self._reported_contested
        if last is None or now - last >= UNREADABLE_INTERVAL:
            self._reported_contested = now
            self._shared.emit(SlotContested(self._keys.topic_id, minute, junk, values))
        return True

    def _report_unreadable(self, minute: int, reader: SlotReader) -> None:
        now = self._reactor.seconds()
        last = self._reported_unreadable
        if (last is None or now - last >= UNREADABLE_INTERVAL) and (count := reader.unreadable()):
            self._reported_unreadable = now
            self._shared.emit(RecordsUnreadable(self._keys.topic_id, minute, count))

    async def _publish(
        self, state: _SlotState, content: ContentSource, source: str, effort: Effort, urgent: bool
    ) -> int | None:
        """
        Make one attempt.

        @param effort: the effort of the read.
        @param urgent: as for L{publish}.
        @return: the number of nodes that now store this record or an earlier one with less content; C{None}:
            the slot is full.
        """
        reader = state.reader
        state.source = source
        copies_for = partial(self.scheme.copies, state.number)
        placement = Placement(self._own_id, partial(self._holder, state), copies_for)
        first: list[Deferred[bool]] = []
        over = False

        def put_first(inner: MutableRead) -> None:
            # Others may wait for the same lookup, which then continues when we are cancelled.
            if over:
                return
            first.append(Deferred.fromCoroutine(self._put_first(state, content, FirstCopy(placement), inner)))

        try:
            await reader.read(effort, put_first if urgent else None)
            new = [await each for each in first] == [True]
            if first:
                # Other members may have published meanwhile: leave them the remaining places.
                await reader.read_inner_again()
                if new and len(state.announced) >= FORMING:
                    await deferLater(self._reactor, FORMING_PAUSE)
                    await reader.read_inner_again()
        finally:
            over = True
            for each in first:
                each.addErrback(_ignore_cancelled)
                each.cancel()
        read = reader.latest
        assert read is not None
        # If a member joins soon, this is the only read that it completes.
        self._report_contested(state.number, reader)
        if not urgent and self.count(self._found(state, read)) >= self.scheme.max_others:
            return None
        value = self._encrypted(state, content())
        result = await self._put(state, value, placement, read)
        copies = len({*(reader.latest or read).values().get(value, ()), *result.stored})
        if result.stored or (new and copies):
            self.counters["published"] += 1
            self._shared.emit(
                RecordPublished(self._keys.topic_id, self._minute(state), copies, self.scheme.channel)
            )
        return copies or self._earlier_copies(reader, read) or len(result.acknowledged)

    async def _put_first(
        self, state: _SlotState, content: ContentSource, placement: FirstCopy, inner: MutableRead
    ) -> bool:
        """
        Put the first copy on one of the nearest nodes, and read these nodes again.

        @return: whether one of them stored it.
        """
        try:
            result = await self._put(
                state, self._encrypted(state, content()), placement, inner, read_back=False
            )
            if result.stored:
                await self._see_others(state)
        except (RemoteError, TimeoutError) as error:
            self._log.debug("Placing the first copy failed: {error}", error=error)
            return False
        return bool(result.stored)

    async def _see_others(self, state: _SlotState) -> None:
        """
        Read the inner nodes again, and once more if that finds no other member: a
        member that starts simultaneously may be slightly later, and datagrams
        get lost.
        """
        await state.reader.read_inner_again()
        if not state.announced:
            await deferLater(self._reactor, SECOND_LOOK_AFTER)
            await state.reader.read_inner_again()

    async def _put(
        self,
        state: _SlotState,
        value: bytes,
        placement: IPlacement,
        read: MutableRead,
        read_back: bool = True,
    ) -> PutResult:
        slot = state.slot
        result = await self._shared.dht.put_mutable(
            slot.signing_seed, slot.salt, value, placement, read, read_back=read_back
        ).addTimeout(self._config.put_timeout, self._reactor)
        state.reader.stored(value, read, result.stored)
        return result

    def _holder(self, state: _SlotState, value: bytes) -> bytes | None:
        """
        Return the publisher of a record for placement: copies of our records with outdated addresses do not
        count, so there is room for new ones.
        """
        return _STALE if value in state.stale else state.reader.publisher(value)

    def network_changed(self) -> None:
        """
        Allow another of our records in the current slots: its addresses may differ from those of the earlier
        records.  Writing it takes new reads.
        """
        for state in self._slots.values():
            state.may_move = True
            state.reader.network_changed()

    def _earlier_copies(self, reader: SlotReader, read: MutableRead) -> int:
        """
        Return the number of nodes that store our earlier records.  If there are
        enough of them, there is no place for a record with more content
        (docs/protocol/dht.md section 4, writer rule 4).
        """
        values = read.values().items()
        return sum(len(holders) for value, holders in values if reader.publisher(value) == self._own_id)

    def _state(self, minute: int) -> _SlotState:
        state = self._slots.get(minute)
        if state is None:
            slot = self.scheme.slot(minute)
            reader = SlotReader(
                self._shared,
                slot,
                self.counters,
                lambda record: self._announce(made, record),
                self.scheme.accepts,
                self.scheme.combine,
            )
            state = made = self._slots[minute] = _SlotState(minute, slot, reader)
            if len(self._slots) > self.scheme.max_slots:
                del self._slots[next(iter(self._slots))]
        return state

    def _minute(self, state: _SlotState) -> int:
        return self.scheme.minute(state.number, self._reactor.seconds())

    def _announce(self, state: _SlotState, record: FoundRecord) -> None:
        """
        Handle a record of another member as it arrives.
        """
        self._shared.book.learn(record.publisher, record.addresses, "record")
        if record.publisher not in state.announced:
            self._shared.book.published(record.publisher)
            state.announced.add(record.publisher)
            self._shared.emit(
                RecordFound(
                    self._keys.topic_id, record.minute, record.publisher, state.source, self.scheme.channel
                )
            )
        self.on_record(record)

    def _found(self, state: _SlotState, read: MutableRead) -> list[FoundRecord]:
        """
        Return the records of other members in C{read}.
        """
        found = [each for each in state.reader.records(read) if each.publisher != self._own_id]
        for record in found:
            self._shared.book.learn(record.publisher, record.addresses, "record")
        return found

    def _retire(self, state: _SlotState, content: RecordContent) -> None:
        """
        If our network has changed and C{content} has other addresses, the record that we
        have published is stale.
        """
        old = state.reader.records_of(self._own_id)
        outdated = [value for value, record in old if self.scheme.outdated(record, content)]
        state.stale.update(outdated[:MAX_STALE])
        if state.own is None or not state.may_move or state.retired >= MAX_STALE:
            return
        if not set(content.addresses) <= set(state.own[0].addresses):
            state.retired += 1
            state.stale |= state.values

    def _encrypted(self, state: _SlotState, content: RecordContent) -> bytes:
        """
        Return our encrypted record: the same bytes as before, unless the content
        has grown.
        """
        if state.own is None or self.scheme.is_news(state.own[0], content):
            self._retire(state, content)
            record = Record.sign_at(
                self._shared.key, self._keys.topic_id, self._minute(state), content.encode()
            )
            state.own = content, state.slot.seal(record, self._entropy(ENTROPY_BYTES))
            state.values.add(state.own[1])
        return state.own[1]


def _ignore_cancelled(failure: Failure) -> Any:
    failure.trap(CancelledError)
