"""
Reads one slot: which values the nodes near it store, and which are records.

Rules: docs/protocol/records.md section 4.  The slot is looked up once; further
reads query the same nodes directly, until the lookup is too old or has found
too few nodes.  Concurrent reads share one operation.  Each value is opened once,
when the datagram that contains it arrives; a record is reported immediately
(docs/protocol/latency.md section 3, item 2), anything else is counted by reason
and dropped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Protocol

from attrs import evolve, frozen
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from dtt.deferreds import Waiters
from dtt.dht.client.lookup import PATIENT_ALPHA, SLOT_WIDTH, URGENT_ALPHA
from dtt.dht.client.placement import CANDIDATES, INNER, MAX_SEQ, MIDDLE
from dtt.dht.routing.ids import distance
from dtt.discovery.candidates import FoundRecord, unite
from dtt.discovery.shared import SharedServices
from dtt.errors import DecodeError, LookupFailed, RecordRefused
from dtt.interfaces import Contact, MutableRead, NodeAnswer
from dtt.krpc.items import mutable_target
from dtt.records.record import Record

#: The number of remembered values of a slot.  Beyond that the oldest is forgotten,
#: and opened again if it is still stored.  32 nodes answer with one value each; more
#: values than this come only from nodes that forge them (guess).
MAX_VALUES: Final = 256

#: Seconds after which a read does a new lookup instead of querying the same nodes
#: again, because nearer nodes may have become known.  The nodes near a slot change
#: little during the two minutes in which it is used (guess).
LOOKUP_LIFETIME: Final = 120.0

#: A lookup with fewer than C{THIN} answers, too few for a record in the outer ranks
#: (docs/protocol/dht.md section 4), is reused for C{THIN_LIFETIME} seconds only: the
#: network is coming up, or the machine was busy (guess; not shorter, because packet
#: budgets refill once per second).
THIN: Final = MIDDLE + 1
THIN_LIFETIME: Final = 2.0

#: The number of nodes from which a member with neighbours reads a slot: all inner
#: and middle ranks, and some outer ones for a second copy (guess).
PATIENT_WIDTH: Final = 24


@frozen(slots=True)
class Effort:
    """
    The thoroughness of a read.

    @ivar alpha: the number of concurrent queries of a lookup.
    @ivar width: the number of nearest nodes that must answer.
    @ivar lifetime: seconds after which a new lookup is done.
    @ivar max_age: reuse a read that ended at most this many seconds ago; C{None}:
        always read.
    @ivar nearest: the number of nearest known nodes that are queried again;
        C{None}: all.  All are queried if none of these is free.
    """

    alpha: int
    width: int = SLOT_WIDTH
    lifetime: float = LOOKUP_LIFETIME
    max_age: float | None = None
    nearest: int | None = None


#: The effort of members without a neighbour, and of those with one
#: (docs/protocol/latency.md section 3, item 6).  C{PATIENT} queries the inner ranks
#: only: each record has a copy on one of them, if there is a place.
URGENT: Final = Effort(URGENT_ALPHA)
PATIENT: Final = Effort(PATIENT_ALPHA, PATIENT_WIDTH, max_age=20.0, nearest=INNER)


class ReadableSlot(Protocol):
    """
    A mutable item that holds records of many publishers, as a reader sees it.
    """

    @property
    def public_key(self) -> bytes:
        """
        The item's key, 32 bytes.
        """

    @property
    def salt(self) -> bytes:
        """
        The item's salt, at most 64 bytes.
        """

    def open(self, value: bytes) -> Record:
        """
        Decrypt and verify a value.

        @raise RecordRefused: it is not a valid record.
        """


class SlotReader:
    """
    Reads one slot.

    @ivar slot: the slot.
    @ivar latest: the last read, or C{None}.
    """

    _log = Logger()

    def __init__(
        self,
        shared: SharedServices,
        slot: ReadableSlot,
        counters: Counter[str],
        on_record: Callable[[FoundRecord], None] = lambda _: None,
        accepts: Callable[[FoundRecord], bool] = lambda _: True,
        combine: Callable[[Sequence[FoundRecord]], list[FoundRecord]] = unite,
    ) -> None:
        """
        @param shared: the services of the tracker.
        @param slot: the slot.
        @param counters: counts C{opened} and C{refused_REASON}.
        @param on_record: called once with each record of another member, when the
            first datagram that contains it arrives.
        @param accepts: returns whether a record is used now; others are treated like values that are not
            records.
        @param combine: merges the records of each publisher into one.
        """
        self._on_record = on_record
        self._accepts = accepts
        self._combine = combine
        self.slot = slot
        self.latest: MutableRead | None = None
        self._reactor = shared.reactor
        self._dht = shared.dht
        # No record names us as a neighbour.
        self._own_id = shared.key.peer_id
        self._read_content = shared.read_content
        self._timeout = shared.config.dht.get_timeout
        self._counters = counters
        self._read_at = self._looked_up = 0.0
        self._reading: Deferred[MutableRead] | None = None
        self._waiters: Waiters[MutableRead] = Waiters(self._abandon)
        # Callbacks for the answers of the inner nodes of the current lookup, and
        # these answers once they have arrived.
        self._on_inner: list[Callable[[MutableRead], None]] = []
        self._inner: MutableRead | None = None
        # Answers of nodes since the current read began.
        self._heard_of: dict[Contact, NodeAnswer] = {}
        self._newer: dict[Contact, NodeAnswer] = {}
        # The record in each value seen, or None; in the order in which they were seen.
        self._opened: dict[bytes, FoundRecord | None] = {}
        # Those that have the form of a record, but are encrypted to another key.
        self._sealed: set[bytes] = set()

    def read(
        self, effort: Effort, on_inner: Callable[[MutableRead], None] | None = None
    ) -> Deferred[MutableRead]:
        """
        Read the slot.

        @param effort: how thorough the read is; ignored if a read is in progress,
            which is shared.
        @param on_inner: called at most once with the answers of the nearest nodes,
            if there is a lookup and they answer before it ends; see
            L{get_mutable<dtt.interfaces.IDHT.get_mutable>}.
        @return: fires with the read; can be cancelled; fails with
            L{RemoteError<dtt.errors.RemoteError>} or
            C{twisted.internet.defer.TimeoutError}.
        """
        age = self._reactor.seconds() - self._read_at
        if self.latest is not None and effort.max_age is not None and age <= effort.max_age:
            return succeed(self.latest)
        waiter = self._waiters.wait()
        if self._reading is None:
            self._start(effort)
        if on_inner is not None and self._reading is not None:
            if self._inner is not None:
                on_inner(self._inner)
            else:
                self._on_inner.append(on_inner)
        return waiter

    async def read_inner_again(self) -> None:
        """
        Query the nearest of the nodes that have answered so far once more.  If no
        read is in progress, these are the nodes of the last one.  If none of them
        answers now, what was read before remains.
        """
        target = mutable_target(self.slot.public_key, self.slot.salt)
        known = (
            self._heard_of
            if self._reading is not None or self.latest is None
            else {answer.contact: answer for answer in self.latest.answers}
        )
        nearest = sorted(known.values(), key=lambda answer: distance(target, answer.contact.node_id))[:INNER]
        inner = MutableRead(self.slot.public_key, self.slot.salt, tuple(nearest))
        try:
            again = await self._dht.refresh(inner, self._heard).addTimeout(self._timeout, self._reactor)
        except LookupFailed:
            return
        self._update(again.answers)

    def network_changed(self) -> None:
        """
        Do a new lookup with the next read: the write tokens in the answers so far are bound to an address
        that we may no longer have.
        """
        self._read_at = self._looked_up = float("-inf")

    def records(self, read: MutableRead) -> list[FoundRecord]:
        """
        Return the records in C{read}, including our own, one for each publisher,
        the most recently seen first.
        """
        held = read.values()
        for value in held:
            self._open(value)
        newest_first = reversed(self._opened.items())
        return self._combine(
            [
                record
                for value, record in newest_first
                if value in held and record is not None and self._accepts(record)
            ]
        )

    def taken(self) -> int:
        """
        Return how many of the candidates for a put hold any value, by the last read.
        """
        return (
            0 if self.latest is None else sum(a.value is not None for a in self.latest.answers[:CANDIDATES])
        )

    def unreadable(self) -> int:
        """
        Return the number of values in the last read that have the form of a record,
        but that our secret does not decrypt.
        """
        return 0 if self.latest is None else sum(value in self._sealed for value in self.latest.values())

    def contested(self) -> tuple[int, int]:
        """
        Return how many nodes stored something else than a record that our secret opens in
        the last read, and how many stored anything.
        """
        if self.latest is None:
            return 0, 0
        held = self.latest.values()
        junk = sum(len(holders) for value, holders in held.items() if self._open(value) is None)
        return junk, sum(map(len, held.values()))

    def publisher(self, value: bytes) -> bytes | None:
        """
        Return the peer id of the publisher of the record in C{value}; C{None} if
        C{value} is not a record.
        """
        record = self._open(value)
        return None if record is None or not self._accepts(record) else record.publisher

    def records_of(self, publisher: bytes) -> list[tuple[bytes, FoundRecord]]:
        """
        Return the values seen so far that are records of a publisher, and their contents.

        @param publisher: its peer id, 32 bytes.
        """
        opened = self._opened.items()
        return [
            (value, record)
            for value, record in opened
            if record is not None and record.publisher == publisher
        ]

    def stored(self, value: bytes, read: MutableRead, holders: Sequence[Contact]) -> None:
        """
        Remember that C{holders}, which are nodes of C{read}, now store C{value}.
        """
        self._update(
            evolve(answer, value=value, seq=MAX_SEQ) for answer in read.answers if answer.contact in holders
        )

    def _update(self, answers: Iterable[NodeAnswer]) -> None:
        newer = {answer.contact: answer for answer in answers}
        if self._reading is not None:
            self._newer |= newer
        if self.latest is not None:
            self.latest = _updated(self.latest, newer)

    def _heard(self, answer: NodeAnswer) -> None:
        self._heard_of[answer.contact] = answer
        if answer.value is not None:
            self._open(answer.value)

    def _heard_inner(self, inner: MutableRead) -> None:
        self._inner = inner
        waiting, self._on_inner = self._on_inner, []
        for on_inner in waiting:
            on_inner(inner)

    def _start(self, effort: Effort) -> None:
        now = self._reactor.seconds()
        latest = self.latest
        lifetime = effort.lifetime if latest and len(latest.answers) >= THIN else THIN_LIFETIME
        self._on_inner, self._inner, self._heard_of, self._newer = [], None, {}, {}
        if latest is None or now - self._looked_up > lifetime:
            self._looked_up = now
            reading = self._dht.get_mutable(
                self.slot.public_key,
                self.slot.salt,
                self._heard,
                self._heard_inner,
                known=latest,
                alpha=effort.alpha,
                width=effort.width,
            )
        else:
            nearest = effort.nearest
            if all(answer.value is not None for answer in latest.answers[:nearest]):
                nearest = None  # newcomers find a place only farther away
            reading = Deferred.fromCoroutine(self._read_again(latest, nearest))
        # Set this before adding callbacks: the read may already have ended, if no
        # node can be queried now.
        self._reading = reading
        reading.addTimeout(self._timeout, self._reactor).addBoth(self._ended, reading).addErrback(
            lambda failure: self._log.failure(
                "Handling the end of a read failed with an unexpected error (a bug)", failure
            )
        )

    async def _read_again(self, latest: MutableRead, nearest: int | None) -> MutableRead:
        """
        Query the nodes of the last read once more.

        @param nearest: as in L{Effort}.
        """
        read = await self._dht.refresh(latest, self._heard, nearest)
        if nearest is not None and _has_replaced(latest, read):
            # Whoever replaced one value, as the crate mainline does, probably replaced others farther away.
            read = await self._dht.refresh(read, self._heard)
        return read

    def _ended(self, result: MutableRead | Failure, reading: Deferred[MutableRead]) -> None:
        if reading is not self._reading:
            return
        self._reading = None
        if isinstance(result, MutableRead):
            result = self.latest = _updated(result, self._newer)
            self._read_at = self._reactor.seconds()
        else:
            # The nodes of the last lookup may all be gone: do another.
            self._looked_up = float("-inf")
        self._waiters.fire(result)

    def _abandon(self) -> None:
        # It may take a while to end; later calls start a new read.
        if self._reading is not None:
            abandoned, self._reading = self._reading, None
            abandoned.cancel()

    def _open(self, value: bytes) -> FoundRecord | None:
        if value in self._opened:
            return self._opened[value]
        if len(self._opened) >= MAX_VALUES:
            oldest = next(iter(self._opened))
            del self._opened[oldest]
            self._sealed.discard(oldest)
        found = None
        try:
            found = self._read_content(self.slot.open(value), self._own_id)
            self._counters["opened"] += 1
        except RecordRefused as refused:
            self._counters[f"refused_{refused.reason}"] += 1
            if refused.stage == "decrypt":
                self._sealed.add(value)
        except DecodeError:
            self._counters["refused_content"] += 1
        self._opened[value] = found
        if found is not None and found.publisher != self._own_id:
            if self._accepts(found):
                self._on_record(found)
            else:
                self._counters["refused_minute"] += 1
        return found


def _updated(read: MutableRead, newer: Mapping[Contact, NodeAnswer]) -> MutableRead:
    """
    Return C{read} with those of its answers replaced that C{newer} contains.
    """
    return evolve(read, answers=tuple(newer.get(answer.contact, answer) for answer in read.answers))


def _has_replaced(old: MutableRead, new: MutableRead) -> bool:
    """
    Return whether a node now holds another value in the place of the one that it held.
    """
    held = {answer.contact: answer.value for answer in old.answers if answer.value is not None}
    return any(
        answer.value is not None and answer.value != held.get(answer.contact, answer.value)
        for answer in new.answers
    )
