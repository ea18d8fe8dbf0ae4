"""
One topic's records: fetch and publish them, a slot at a time.

Rules: specs/records.md sections 4 and 5, specs/dht.md section 4.  One lookup
serves the read, the write (its tokens) and the next reads of the same slot,
for which the nodes are asked again directly.  Every value is opened once.  A
value that is no record of the slot is counted by reason and dropped.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from random import Random
from typing import TypeVar

from attrs import define, evolve, field, frozen
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from dtt.config import DHTConfig
from dtt.dht.placement import MAX_SEQ, Placement
from dtt.errors import DecodeError, RecordRefused, RemoteError
from dtt.events import EventSink, RecordFound, RecordPublished
from dtt.hints import PeerAddress
from dtt.identity import PeerKey, is_valid_peer_id
from dtt.interfaces import IDHT, Contact, IAddressBook, MutableRead
from dtt.records.hpke import KeyPair
from dtt.records.record import ENTROPY_BYTES, GossipContent, Record, encrypt, open_record
from dtt.records.topic import Rotation, Slot, encryption_key, unix_minute

T = TypeVar("T")

#: Slots whose state is kept: the two that are read, the two before them, and
#: the next one if the clock is corrected (guess).
MAX_SLOTS = 5

#: Values of one slot that are remembered; then the oldest is forgotten, and
#: opened again if it is still there.  32 nodes answer with one each; more than
#: this come only from nodes that make them up (guess).
MAX_VALUES = 256

#: After so many seconds a slot is looked up anew instead of asking the same
#: nodes again: nearer ones may have become known (guess).
LOOKUP_LIFETIME = 20.0

#: A read from fewer nodes than a bucket has (BEP5) is built upon for so many
#: seconds only: the network is coming up, or the machine was busy (guess; no
#: less, for the sake of packet budgets, which refill once a second).
THIN = 8
THIN_LIFETIME = 2.0

#: A put uses a read that ended at most so many seconds ago (guess).
FRESH = 1.0


@frozen(slots=True)
class FoundRecord:
    """
    What one publisher says in a slot; of several valid records by one, united.

    @ivar publisher: its peer id, 32 bytes.
    @ivar minute: the slot's unix minute.
    @ivar active_peers: its neighbours, hearsay; only valid peer ids.
    @ivar last_message_hashes: of messages that it received, 32 bytes each.
    @ivar addresses: where it listens.
    """

    publisher: bytes
    minute: int
    active_peers: tuple[bytes, ...] = ()
    last_message_hashes: tuple[bytes, ...] = ()
    addresses: tuple[PeerAddress, ...] = ()


def recent_minutes(minute: int) -> tuple[int, ...]:
    """
    C{minute} and the one before it; the first minute of all has none.
    """
    return (minute - 1, minute) if minute else (0,)


def candidates(
    records: Sequence[FoundRecord], without: Sequence[bytes] = ()
) -> tuple[list[bytes], list[bytes]]:
    """
    Whom C{records} name, each once: the publishers, and those known from
    hearsay only.

    @param without: peer ids to leave out.
    """
    excluded = frozenset(without)
    publishers = dict.fromkeys(record.publisher for record in records if record.publisher not in excluded)
    hearsay = dict.fromkeys(
        peer
        for record in records
        for peer in record.active_peers
        if peer not in excluded and peer not in publishers
    )
    return list(publishers), list(hearsay)


def unite(records: Sequence[FoundRecord]) -> list[FoundRecord]:
    """
    One entry for each publisher, of C{records} of one slot: everything that
    any of its records says, once each, in the order of C{records}.
    """
    united: dict[bytes, FoundRecord] = {}
    for record in records:
        known = united.get(record.publisher)
        if known is not None:
            record = evolve(
                known,
                active_peers=_merged(known.active_peers, record.active_peers),
                last_message_hashes=_merged(known.last_message_hashes, record.last_message_hashes),
                addresses=_merged(known.addresses, record.addresses),
            )
        united[record.publisher] = record
    return list(united.values())


def _merged(first: tuple[T, ...], second: tuple[T, ...]) -> tuple[T, ...]:
    return tuple(dict.fromkeys((*first, *second)))


@define
class _SlotState:
    """
    What we know of one slot.

    @ivar read: the last read.
    @ivar read_at: when it ended.
    @ivar looked_up: when its nodes were looked up.
    @ivar reading: the read that is under way.
    @ivar waiting: those who wait for it.
    @ivar opened: of each value seen, its record; L{None}: it is none.  The
        first seen comes first.
    @ivar announced: publishers that were reported as found.
    @ivar own: the content that we published last, and its encrypted record.
    """

    slot: Slot
    key: KeyPair
    read: MutableRead | None = None
    read_at: float = 0.0
    looked_up: float = 0.0
    reading: Deferred[MutableRead] | None = None
    waiting: list[Deferred[MutableRead]] = field(factory=list)
    opened: dict[bytes, FoundRecord | None] = field(factory=dict)
    announced: set[bytes] = field(factory=set)
    own: tuple[GossipContent, bytes] | None = None


class RecordClient:
    """
    Fetches and publishes one topic's records.

    @ivar counters: C{opened}, C{refused.REASON}, C{read failed}, C{published},
        C{publish failed}, C{slot full}.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        rng: Random,
        dht_config: DHTConfig,
        max_bootstrap_records: int,
        key: PeerKey,
        topic_id: bytes,
        secret_hash: bytes,
        rotation: Rotation,
        dht: IDHT,
        book: IAddressBook,
        emit: EventSink,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """
        @param max_bootstrap_records: a slot with this many records of others
            gets none of ours; 0: never publish.
        @param secret_hash: the initial secret hash, 32 bytes.
        @param emit: told of records found and published.
        @param entropy: makes so many random bytes, for encryption.
        @raise UsageError: C{rotation} does not return 32 bytes.
        """
        self.counters: Counter[str] = Counter()
        self._reactor = reactor
        self._rng = rng
        self._config = dht_config
        self._max_bootstrap_records = max_bootstrap_records
        self._key = key
        self._topic_id = topic_id
        self._secret_hash = secret_hash
        self._rotation = rotation
        self._dht = dht
        self._book = book
        self._emit = emit
        self._entropy = entropy
        self._slots: dict[int, _SlotState] = {}
        self._state(unix_minute(reactor.seconds()))

    async def fetch(self, minutes: Sequence[int], source: str) -> list[FoundRecord]:
        """
        The records of others in the slots of C{minutes}, which are read side
        by side; a slot that can't be read counts as empty.

        @param source: who asks, for L{RecordFound}.
        """
        fetches = [Deferred.fromCoroutine(self._fetch(minute, source)) for minute in minutes]
        try:
            return [record for fetch in fetches for record in await fetch]
        finally:
            for fetch in fetches:
                fetch.addErrback(_ignore_cancelled)
                fetch.cancel()

    async def publish(self, minute: int, content: GossipContent, source: str) -> int:
        """
        Put our record into the slot of C{minute}, or top its copies up.

        @return: how many nodes are known to hold it, or an earlier one of ours;
            0 if none is, or if the slot holds enough records of others.
        """
        if not self._max_bootstrap_records:
            return 0
        for attempt in range(1 + self._config.retries):
            if attempt:
                jitter = self._rng.uniform(0, self._config.max_retry_jitter)
                await deferLater(self._reactor, self._config.base_retry_interval + jitter)
            try:
                copies = await self._publish(self._state(minute), content, source)
            except (RemoteError, TimeoutError) as error:
                self._log.debug("publishing failed: {error}", error=error)
                copies = 0
            if copies is None:
                self.counters["slot full"] += 1
                return 0
            if copies:
                return copies
            self.counters["publish failed"] += 1
        self._log.warn(
            "Our record for minute {minute} could not be stored on any DHT node; "
            "others may find us later, with the next one.",
            minute=minute,
        )
        return 0

    async def _fetch(self, minute: int, source: str) -> list[FoundRecord]:
        state = self._state(minute)
        try:
            read = await self._read(state)
        except (RemoteError, TimeoutError) as error:
            self.counters["read failed"] += 1
            self._log.debug("slot of minute {minute} not read: {error}", minute=minute, error=error)
            return []
        return self._found(state, read, source)

    async def _publish(self, state: _SlotState, content: GossipContent, source: str) -> int | None:
        """
        Try once.

        @return: nodes that hold a record of ours now, this one or an earlier one
            that says less; L{None}: the slot is full.
        """
        read = state.read
        if read is None or self._reactor.seconds() - state.read_at > FRESH:
            read = await self._read(state)
        if len(self._found(state, read, source)) >= self._max_bootstrap_records:
            return None
        value = self._encrypted(state, content)
        placement = Placement(self._key.peer_id, lambda held: self._publisher(state, held))
        result = await self._dht.put_mutable(
            state.slot.signing_seed, state.slot.salt, value, placement, read
        ).addTimeout(self._config.put_timeout, self._reactor)
        state.read = _with_copies(state.read or read, value, result.stored)
        copies = len({*state.read.values().get(value, ()), *result.stored})
        if result.stored:
            self.counters["published"] += 1
            self._emit(RecordPublished(self._topic_id, state.slot.minute, copies))
        return copies or self._earlier_copies(state, read) or len(result.acknowledged)

    def _earlier_copies(self, state: _SlotState, read: MutableRead) -> int:
        """
        On how many nodes our earlier records lie: enough of them leave no place
        for one that says more (specs/dht.md section 4, writer rule 4).
        """
        own_id = self._key.peer_id
        return sum(
            len(holders)
            for value, holders in read.values().items()
            if self._publisher(state, value) == own_id
        )

    def _state(self, minute: int) -> _SlotState:
        state = self._slots.get(minute)
        if state is None:
            slot = Slot(self._topic_id, minute)
            key = encryption_key(slot, self._secret_hash, self._rotation)
            state = self._slots[minute] = _SlotState(slot, key)
            if len(self._slots) > MAX_SLOTS:
                del self._slots[next(iter(self._slots))]
        return state

    def _read(self, state: _SlotState) -> Deferred[MutableRead]:
        """
        Read the slot; whoever asks while a read is under way shares it.
        """

        def cancel(waiter: Deferred[MutableRead]) -> None:
            if waiter in state.waiting:  # else the read has just ended
                state.waiting.remove(waiter)
                if not state.waiting and state.reading is not None:
                    state.reading.cancel()

        waiter: Deferred[MutableRead] = Deferred(cancel)
        state.waiting.append(waiter)
        if state.reading is None:
            self._start_read(state)
        return waiter

    def _start_read(self, state: _SlotState) -> None:
        now = self._reactor.seconds()
        lifetime = LOOKUP_LIFETIME if state.read and len(state.read.answers) >= THIN else THIN_LIFETIME
        if state.read is None or now - state.looked_up > lifetime:
            state.looked_up = now
            reading = self._dht.get_mutable(state.slot.public_key, state.slot.salt)
        else:
            reading = self._dht.refresh(state.read)
        # Before anything is told of its end: it may have ended already, when
        # no node may be asked now.
        state.reading = reading

        def finish(result: MutableRead | Failure) -> None:
            state.reading = None
            waiting, state.waiting = state.waiting, []
            if isinstance(result, MutableRead):
                state.read, state.read_at = result, self._reactor.seconds()
            for waiter in waiting:
                # What one does with it may have cancelled another.
                if not waiter.called:
                    waiter.callback(result)

        reading.addTimeout(self._config.get_timeout, self._reactor).addBoth(finish).addErrback(
            lambda failure: self._log.failure("a read ended badly", failure)
        )

    def _found(self, state: _SlotState, read: MutableRead, source: str) -> list[FoundRecord]:
        """
        The records of others in C{read}, one for each publisher, the newest
        seen first.
        """
        held = read.values()
        for value in held:
            self._open(state, value)
        found = unite(
            [
                record
                for value, record in reversed(state.opened.items())
                if value in held and record is not None and record.publisher != self._key.peer_id
            ]
        )
        for record in found:
            self._book.learn(record.publisher, record.addresses, "record")
            if record.publisher not in state.announced:
                state.announced.add(record.publisher)
                self._emit(RecordFound(self._topic_id, state.slot.minute, record.publisher, source))
        return found

    def _open(self, state: _SlotState, value: bytes) -> FoundRecord | None:
        """
        The record that C{value} is, ours too; each value is opened once.
        """
        if value in state.opened:
            return state.opened[value]
        if len(state.opened) >= MAX_VALUES:
            del state.opened[next(iter(state.opened))]
        found = None
        try:
            record = open_record(value, state.slot, state.key)
            found = self._found_record(record, GossipContent.decode(record.content))
            self.counters["opened"] += 1
        except RecordRefused as refused:
            self.counters[f"refused.{refused.reason}"] += 1
        except DecodeError:
            self.counters["refused.content"] += 1
        state.opened[value] = found
        return found

    def _found_record(self, record: Record, content: GossipContent) -> FoundRecord:
        return FoundRecord(
            record.publisher,
            record.minute,
            tuple(
                peer for peer in content.active_peers if peer != self._key.peer_id and is_valid_peer_id(peer)
            ),
            content.last_message_hashes,
            content.addresses,
        )

    def _publisher(self, state: _SlotState, value: bytes) -> bytes | None:
        record = self._open(state, value)
        return None if record is None else record.publisher

    def _encrypted(self, state: _SlotState, content: GossipContent) -> bytes:
        """
        Our record: the same bytes as before, unless the content has grown.
        """
        if state.own is None or _has_grown(state.own[0], content):
            record = Record.sign(self._key, state.slot, content.encode())
            state.own = content, encrypt(record, state.key.public, self._entropy(ENTROPY_BYTES))
        return state.own[1]


def _ignore_cancelled(failure: Failure) -> list[FoundRecord]:
    failure.trap(CancelledError)
    return []


def _has_grown(old: GossipContent, new: GossipContent) -> bool:
    """
    Whether C{new} says something that C{old} does not.
    """
    return not (
        set(new.active_peers) <= set(old.active_peers)
        and set(new.last_message_hashes) <= set(old.last_message_hashes)
        and set(new.addresses) <= set(old.addresses)
    )


def _with_copies(read: MutableRead, value: bytes, stored: Sequence[Contact]) -> MutableRead:
    """
    C{read} as it would be now that C{stored} nodes hold C{value}.
    """
    holders = frozenset(stored)
    return evolve(
        read,
        answers=tuple(
            evolve(answer, value=value, seq=MAX_SEQ) if answer.contact in holders else answer
            for answer in read.answers
        ),
    )
