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

import os
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from attrs import define, evolve, field
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from dtt.dht.client.placement import FirstCopy, Placement
from dtt.discovery.candidates import FoundRecord
from dtt.discovery.shared import SharedServices
from dtt.discovery.slot_reader import PATIENT, URGENT, Effort, SlotReader
from dtt.errors import RemoteError
from dtt.events import RecordFound, RecordPublished
from dtt.interfaces import IPlacement, MutableRead, PutResult
from dtt.records.record import ENTROPY_BYTES, GossipContent, Record, encrypt
from dtt.records.topic import TopicKeys, unix_minute

#: The number of slots whose state is kept: the two that are read, the two before
#: them, and the next one in case the clock is adjusted (guess).
MAX_SLOTS = 5

#: A put uses a read that ended at most this many seconds ago: changes since then
#: cost a refused put (guess).
FRESH = 5.0

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


@define
class _SlotState:
    """
    The state of one slot.

    @ivar reader: reads the slot.
    @ivar source: the service that requested the last read, for C{RecordFound}.
    @ivar announced: the publishers that were reported as found.
    @ivar own: the content that we published last, and its encrypted record.
    """

    reader: SlotReader
    source: str = ""
    announced: set[bytes] = field(factory=set)
    own: tuple[GossipContent, bytes] | None = None


class RecordClient:
    """
    Fetches and publishes one topic's records.

    @ivar counters: C{opened}, C{refused_REASON}, C{read_failed}, C{published},
        C{publish_failed}, C{slot_full}.
    @ivar on_record: called with each record of another member as soon as the
        datagram that contains it arrives, once for each slot.
    """

    _log = Logger()

    def __init__(
        self,
        shared: SharedServices,
        keys: TopicKeys,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """
        @param shared: the services of the tracker.
        @param keys: the keys of the topic.
        @param entropy: returns the given number of random bytes, for encryption.
        @raise UsageError: the rotation does not return 32 bytes.
        """
        self.counters: Counter[str] = Counter()
        self.on_record: Callable[[FoundRecord], None] = lambda _: None
        self._shared = shared
        self._keys = keys
        self._reactor = shared.reactor
        self._config = shared.config.dht
        self._max_bootstrap_records = shared.config.bootstrap.max_bootstrap_records
        self._own_id = shared.key.peer_id
        self._entropy = entropy
        self._slots: dict[int, _SlotState] = {}
        self._state(unix_minute(shared.reactor.seconds()))

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
        try:
            return [record for fetch in fetches for record in await fetch]
        finally:
            for fetch in fetches:
                fetch.addErrback(_ignore_cancelled)
                fetch.cancel()

    async def publish(self, minute: int, content: GossipContent, source: str, urgent: bool = False) -> int:
        """
        Put our record into the slot of C{minute}, or replenish its copies.

        @param minute: the slot's unix minute.
        @param content: the content of the record.
        @param source: the service that publishes, for
            L{RecordFound<dtt.events.RecordFound>}.
        @param urgent: put the first copy before the read of the slot has ended.
        @return: the number of nodes known to store it or an earlier record of
            ours; 0 if there is none, or if the slot holds enough records of
            other members.
        """
        if not self._max_bootstrap_records:
            return 0
        for attempt in range(1 + self._config.retries):
            if attempt:
                jitter = self._shared.rng.uniform(0, self._config.max_retry_jitter)
                await deferLater(self._reactor, self._config.base_retry_interval + jitter)
            try:
                effort = AGAIN if attempt else evolve(URGENT if urgent else PATIENT, max_age=FRESH)
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
        self._log.warn(
            "Our record for minute {minute} could not be stored on any DHT node. "
            "Other members may find us by the next record.",
            minute=minute,
        )
        return 0

    async def _fetch(self, minute: int, source: str, effort: Effort) -> list[FoundRecord]:
        state = self._state(minute)
        state.source = source
        try:
            read = await state.reader.read(effort)
        except (RemoteError, TimeoutError) as error:
            self.counters["read_failed"] += 1
            self._log.debug("Reading the slot of minute {minute} failed: {error}", minute=minute, error=error)
            return []
        return self._found(state, read)

    async def _publish(
        self, state: _SlotState, content: GossipContent, source: str, effort: Effort, early: bool
    ) -> int | None:
        """
        Make one attempt.

        @param effort: the effort of the read.
        @param early: whether to put the first copy before the read has ended.
        @return: the number of nodes that now store this record or an earlier one
            of ours with less content; C{None}: the slot is full.
        """
        reader = state.reader
        state.source = source
        placement = Placement(self._own_id, reader.publisher)
        first: list[Deferred[bool]] = []

        def put_first(inner: MutableRead) -> None:
            first.append(Deferred.fromCoroutine(self._put_first(state, content, FirstCopy(placement), inner)))

        try:
            await reader.read(effort, put_first if early else None)
            new = [await each for each in first] == [True]
            if first:
                # Other members may have published meanwhile: leave them the remaining places.
                await reader.read_inner_again()
                if new and len(state.announced) >= FORMING:
                    await deferLater(self._reactor, FORMING_PAUSE)
                    await reader.read_inner_again()
        finally:
            for each in first:
                each.addErrback(_ignore_cancelled)
                each.cancel()
        read = reader.latest
        assert read is not None
        if self._is_full(self._found(state, read)):
            return None
        value = self._encrypted(state, content)
        result = await self._put(reader, value, placement, read)
        copies = len({*(reader.latest or read).values().get(value, ()), *result.stored})
        if result.stored or (new and copies):
            self.counters["published"] += 1
            self._shared.emit(RecordPublished(self._keys.topic_id, reader.slot.minute, copies))
        return copies or self._earlier_copies(reader, read) or len(result.acknowledged)

    async def _put_first(
        self, state: _SlotState, content: GossipContent, placement: FirstCopy, inner: MutableRead
    ) -> bool:
        """
        Put the first copy on one of the nearest nodes, and read these nodes again.

        @return: whether one of them stored it.
        """
        reader = state.reader
        if self._is_full(self._found(state, inner)):
            return False
        try:
            result = await self._put(
                reader, self._encrypted(state, content), placement, inner, read_back=False
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
        reader: SlotReader,
        value: bytes,
        placement: IPlacement,
        read: MutableRead,
        read_back: bool = True,
    ) -> PutResult:
        slot = reader.slot
        result = await self._shared.dht.put_mutable(
            slot.signing_seed, slot.salt, value, placement, read, read_back=read_back
        ).addTimeout(self._config.put_timeout, self._reactor)
        reader.stored(value, read, result.stored)
        return result

    def _is_full(self, found: Sequence[FoundRecord]) -> bool:
        return len(found) >= self._max_bootstrap_records

    def _earlier_copies(self, reader: SlotReader, read: MutableRead) -> int:
        """
        Return the number of nodes that store earlier records of ours.  If there are
        enough of them, there is no place for a record with more content
        (docs/protocol/dht.md section 4, writer rule 4).
        """
        values = read.values().items()
        return sum(len(holders) for value, holders in values if reader.publisher(value) == self._own_id)

    def _state(self, minute: int) -> _SlotState:
        state = self._slots.get(minute)
        if state is None:
            slot = self._keys.slot(minute)
            key = self._keys.encryption_key(slot)
            reader = SlotReader(
                self._shared, slot, key, self.counters, lambda record: self._announce(made, record)
            )
            state = made = self._slots[minute] = _SlotState(reader)
            if len(self._slots) > MAX_SLOTS:
                del self._slots[next(iter(self._slots))]
        return state

    def _announce(self, state: _SlotState, record: FoundRecord) -> None:
        """
        Handle a record of another member as it arrives.
        """
        self._shared.book.learn(record.publisher, record.addresses, "record")
        if record.publisher not in state.announced:
            state.announced.add(record.publisher)
            self._shared.emit(RecordFound(self._keys.topic_id, record.minute, record.publisher, state.source))
        self.on_record(record)

    def _found(self, state: _SlotState, read: MutableRead) -> list[FoundRecord]:
        """
        Return the records of other members in C{read}.
        """
        found = [each for each in state.reader.records(read) if each.publisher != self._own_id]
        for record in found:
            self._shared.book.learn(record.publisher, record.addresses, "record")
        return found

    def _encrypted(self, state: _SlotState, content: GossipContent) -> bytes:
        """
        Return our encrypted record: the same bytes as before, unless the content
        has grown.
        """
        if state.own is None or _has_grown(state.own[0], content):
            slot, key = state.reader.slot, state.reader.key
            record = Record.sign(self._shared.key, slot, content.encode())
            state.own = content, encrypt(record, key.public, self._entropy(ENTROPY_BYTES))
        return state.own[1]


def _ignore_cancelled(failure: Failure) -> Any:
    failure.trap(CancelledError)


def _has_grown(old: GossipContent, new: GossipContent) -> bool:
    """
    Return whether C{new} contains anything that C{old} does not.
    """
    return not (
        set(new.active_peers) <= set(old.active_peers)
        and set(new.last_message_hashes) <= set(old.last_message_hashes)
        and set(new.addresses) <= set(old.addresses)
    )
