"""
One slot: who near it holds what, and which of it are records.

Rules: docs/protocol/records.md section 4.  The slot is looked up once; then the same
nodes are asked again directly, until the lookup is too old or has found too
few.  Whoever asks while a read is under way shares it.
A value is opened when the datagram that brings it arrives, once; a record is
reported at once (docs/protocol/latency.md section 3, item 2), anything else is counted
by reason and dropped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from attrs import evolve, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from dtt.dht.client.lookup import PATIENT_ALPHA, SLOT_WIDTH, URGENT_ALPHA
from dtt.dht.client.placement import INNER, MAX_SEQ, MIDDLE
from dtt.dht.routing.ids import distance
from dtt.discovery.candidates import FoundRecord, unite
from dtt.errors import DecodeError, RecordRefused
from dtt.identity import is_valid_peer_id
from dtt.interfaces import IDHT, Contact, MutableRead, NodeAnswer
from dtt.krpc.items import mutable_target
from dtt.records.hpke import KeyPair
from dtt.records.record import GossipContent, Record, open_record
from dtt.records.topic import Slot

#: Values of one slot that are remembered; then the oldest is forgotten, and
#: opened again if it is still there.  32 nodes answer with one each; more than
#: this come only from nodes that make them up (guess).
MAX_VALUES: Final = 256

#: After so many seconds a slot is looked up anew instead of asking the same
#: nodes again: nearer ones may have become known.  Those of a slot change little
#: while it is of use, two minutes (guess).
LOOKUP_LIFETIME: Final = 120.0

#: A read from so few nodes that a record has no place farther out (docs/protocol/dht.md
#: section 4) is built upon for so many seconds only: the network is coming up,
#: or the machine was busy (guess; no less, for the sake of packet budgets, which
#: refill once a second).
THIN: Final = MIDDLE + 1
THIN_LIFETIME: Final = 2.0


#: Nodes that a member with neighbours reads a slot from: all the inner and middle
#: ranks, and some of the outer one for a second copy.  Guess.
PATIENT_WIDTH: Final = 24


@frozen(slots=True)
class Effort:
    """
    How hard a read tries.

    @ivar alpha: queries in flight of a lookup.
    @ivar width: how many of the nearest nodes have to answer.
    @ivar lifetime: seconds after which the slot is looked up anew.
    @ivar max_age: a read that ended at most so many seconds ago will do;
        C{None}: none will.
    @ivar nearest: of the nodes known, how many of the nearest are asked again;
        C{None}: all.
    """

    alpha: int
    width: int = SLOT_WIDTH
    lifetime: float = LOOKUP_LIFETIME
    max_age: float | None = None
    nearest: int | None = None


#: For members without a neighbour, and for those that have one (docs/protocol/latency.md
#: section 3, item 6): each record has a copy on one of the nodes of the inner
#: ranks, if there is a place.
URGENT: Final = Effort(URGENT_ALPHA)
PATIENT: Final = Effort(PATIENT_ALPHA, PATIENT_WIDTH, max_age=20.0, nearest=INNER)


class SlotReader:
    """
    Reads one slot.

    @ivar slot: which.
    @ivar key: what its records are sealed to.
    @ivar latest: the last read, or C{None}.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        dht: IDHT,
        slot: Slot,
        key: KeyPair,
        own_id: bytes,
        timeout: float,
        counters: Counter[str],
        on_record: Callable[[FoundRecord], None] = lambda _: None,
    ) -> None:
        """
        @param own_id: our peer id, which no record names as a neighbour.
        @param timeout: for one read, seconds.
        @param counters: C{opened} and C{refused.REASON} are counted here.
        @param on_record: told each record of others once, when the first
            datagram that brings it arrives.
        """
        self._on_record = on_record
        self.slot = slot
        self.key = key
        self.latest: MutableRead | None = None
        self._reactor = reactor
        self._dht = dht
        self._own_id = own_id
        self._timeout = timeout
        self._counters = counters
        self._read_at = self._looked_up = 0.0
        self._reading: Deferred[MutableRead] | None = None
        self._waiting: list[Deferred[MutableRead]] = []
        # Who wants to know of the inner nodes of the lookup under way, and
        # what they said once they had answered.
        self._on_inner: list[Callable[[MutableRead], None]] = []
        self._inner: MutableRead | None = None
        # What nodes have said since the read under way began.
        self._heard_of: dict[Contact, NodeAnswer] = {}
        self._newer: dict[Contact, NodeAnswer] = {}
        # Of each value seen, its record, or None if it is none; the first seen first.
        self._opened: dict[bytes, FoundRecord | None] = {}

    def read(
        self, effort: Effort, on_inner: Callable[[MutableRead], None] | None = None
    ) -> Deferred[MutableRead]:
        """
        Read the slot.

        @param effort: of no effect on a read that is under way, which is shared.
        @param on_inner: told once what the nearest nodes say, if the slot is
            looked up, and they are known before the read ends; see
            L{IDHT.get_mutable}.
        @return: can be cancelled; fails with L{RemoteError<dtt.errors.RemoteError>}
            or C{twisted.internet.defer.TimeoutError}.
        """

        def cancel(waiter: Deferred[MutableRead]) -> None:
            if waiter in self._waiting:  # else the read has just ended
                self._waiting.remove(waiter)
                if not self._waiting and self._reading is not None:
                    # Its end may take a while; who asks from now on gets a read of its own.
                    given_up, self._reading = self._reading, None
                    given_up.cancel()

        waiter: Deferred[MutableRead] = Deferred(cancel)
        age = self._reactor.seconds() - self._read_at
        if self.latest is not None and effort.max_age is not None and age <= effort.max_age:
            waiter.callback(self.latest)
            return waiter
        self._waiting.append(waiter)
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
        Ask the nearest of the nodes that have answered so far once more, while
        a read is under way.
        """
        target = mutable_target(self.slot.public_key, self.slot.salt)
        known = (
            self._heard_of
            if self._reading is not None or self.latest is None
            else {answer.contact: answer for answer in self.latest.answers}
        )
        nearest = sorted(known.values(), key=lambda answer: distance(target, answer.contact.node_id))[:INNER]
        inner = MutableRead(self.slot.public_key, self.slot.salt, tuple(nearest))
        again = await self._dht.refresh(inner, self._heard).addTimeout(self._timeout, self._reactor)
        self._update(again.answers)

    def records(self, read: MutableRead) -> list[FoundRecord]:
        """
        The records in C{read}, ours too, one for each publisher, the newest seen
        first.
        """
        held = read.values()
        for value in held:
            self._open(value)
        newest_first = reversed(self._opened.items())
        return unite([record for value, record in newest_first if value in held and record is not None])

    def publisher(self, value: bytes) -> bytes | None:
        """
        Whose record C{value} is; C{None} if it is none.
        """
        record = self._open(value)
        return None if record is None else record.publisher

    def stored(self, value: bytes, read: MutableRead, holders: Sequence[Contact]) -> None:
        """
        Remember that C{holders}, nodes of C{read}, hold C{value} now.
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
            reading = self._dht.refresh(latest, self._heard, effort.nearest)
        # Before anything is told of its end: it may have ended already, when
        # no node may be asked now.
        self._reading = reading
        reading.addTimeout(self._timeout, self._reactor).addBoth(self._ended, reading).addErrback(
            lambda failure: self._log.failure("a read ended badly", failure)
        )

    def _ended(self, result: MutableRead | Failure, reading: Deferred[MutableRead]) -> None:
        if reading is not self._reading:
            return
        self._reading = None
        waiting, self._waiting = self._waiting, []
        if isinstance(result, MutableRead):
            result = self.latest = _updated(result, self._newer)
            self._read_at = self._reactor.seconds()
        for waiter in waiting:
            # What one does with it may have cancelled another.
            if not waiter.called:
                waiter.callback(result)

    def _open(self, value: bytes) -> FoundRecord | None:
        if value in self._opened:
            return self._opened[value]
        if len(self._opened) >= MAX_VALUES:
            del self._opened[next(iter(self._opened))]
        found = None
        try:
            record = open_record(value, self.slot, self.key)
            found = self._found(record, GossipContent.decode(record.content))
            self._counters["opened"] += 1
        except RecordRefused as refused:
            self._counters[f"refused.{refused.reason}"] += 1
        except DecodeError:
            self._counters["refused.content"] += 1
        self._opened[value] = found
        if found is not None and found.publisher != self._own_id:
            self._on_record(found)
        return found

    def _found(self, record: Record, content: GossipContent) -> FoundRecord:
        return FoundRecord(
            record.publisher,
            record.minute,
            tuple(peer for peer in content.active_peers if peer != self._own_id and is_valid_peer_id(peer)),
            content.last_message_hashes,
            content.addresses,
        )


def _updated(read: MutableRead, newer: Mapping[Contact, NodeAnswer]) -> MutableRead:
    """
    A read with some of its answers replaced.
    """
    return evolve(read, answers=tuple(newer.get(answer.contact, answer) for answer in read.answers))
