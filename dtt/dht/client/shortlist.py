"""
The nodes that a lookup knows, in one or two orders.  Pure.

Rules:
  - A lookup of slots has a second order, that of the crate mainline:
    BEP42-valid nodes first, then by distance.
  - A bounded number of candidates is kept, the nearest ones.  A nearer one
    always replaces the farthest, whatever has become of that: a lookup in a
    DHT of millions hears of thousands of nodes on its way to the target.  But
    those that nobody who is believed has named go first.
  - A network (/24; of IPv6, /64) has one place among the nearest, that of its
    nearest node, and few candidates to fill it, outside closed networks and
    our own machine.
  - Who failed makes room.
  - Most nodes that an honest node names answer.  A node that names silent ones
    is not believed any more: the others that it named are not asked, unless an
    other node names them, too.  So invented nodes, however near, cost few
    queries and keep no real ones out.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from enum import Enum, auto
from itertools import islice
from typing import Any, Final, Generic, TypeVar

from attrs import Factory, define

from dtt.interfaces import Contact
from dtt.net.networks import is_loopback, subnet

T = TypeVar("T")

#: Nodes that mainline looks at (docs/protocol/dht.md section 1, k).
MAINLINE_WIDTH: Final = 20

#: Candidates kept, the nearest.  Guess: as many as could be asked.
MAX_CANDIDATES: Final = 256

#: Candidates of one network outside closed ones: should the first fail, another
#: takes its place.  More would let one network fill the lookup.  Guess.
MAX_PER_NETWORK: Final = 4

#: So many silent nodes named by one node, and this many times as many silent
#: ones as answers: it is not believed any more.  With 60 % silent nodes, an
#: honest informant of 20 gets there in 3 of 100 cases, one of 8 in 2.
MAX_SILENT: Final = 8
SILENT_SHARE: Final = 4

#: Bits of an id.
BITS: Final = 160


class State(Enum):
    """
    Where a candidate stands.  C{SLOW}: its query is open, but nobody waits.
    """

    NEW = auto()
    ASKED = auto()
    SLOW = auto()
    FAILED = auto()
    ANSWERED = auto()


@define(slots=True, eq=False)
class Candidate(Generic[T]):
    """
    @ivar distance: from the target (XOR).
    @ivar network: what has one place among the nearest; L{None}: no matter.
    @ivar held_back: its query waits for the packet budget.
    @ivar query: the open query, a Deferred.
    @ivar result: what the lookup's user made of its answer.
    @ivar knows_more: whether it told of as many nodes as fit into an answer.
    @ivar asked_around: how often it was asked for nodes elsewhere.
    @ivar places: where it stands in each order; none once it was dropped.
    @ivar informants: who named it; none: we knew it.
    @ivar informant: on whose word it was asked; L{None}: on our own.
    @ivar answers: how many of those that it named have answered.
    @ivar silences: how many have not, in time.
    """

    contact: Contact
    distance: int
    network: str | None
    informants: list[Candidate[T]] = Factory(list)
    informant: Candidate[T] | None = None
    state: State = State.NEW
    held_back: bool = False
    query: Any = None
    result: T | None = None
    knows_more: bool = False
    asked_around: int = 0
    places: tuple[Any, ...] = ()
    answers: int = 0
    silences: int = 0

    @property
    def believed(self) -> bool:
        """
        Are the nodes that it names worth asking?
        """
        return self.silences < MAX_SILENT or self.silences <= SILENT_SHARE * self.answers

    @property
    def vouched_for(self) -> bool:
        """
        Did we know it, or has somebody named it who is believed?
        """
        return not self.informants or any(informant.believed for informant in self.informants)

    def named_by(self, informant: Candidate[T] | None) -> None:
        """
        One more has named it.

        @param informant: L{None}: we know it ourselves.
        """
        if informant is None:
            self.informants.clear()
        elif self.informants:
            self.informants.append(informant)


class Order(Generic[T]):
    """
    One order of the candidates.

    @ivar width: how many of the first, silent ones apart, have to answer.
    @ivar ranked: key, serial number and candidate, sorted.
    """

    __slots__ = ("key", "ranked", "width")

    def __init__(self, width: int, key: Callable[[Candidate[T]], int]) -> None:
        self.width = width
        self.key = key
        self.ranked: list[tuple[int, int, Candidate[T]]] = []


class Candidates(Generic[T]):
    """
    @ivar orders: that of the distance, and mainline's if it is wanted.
    @ivar added: how many have come in so far.
    @ivar own_id: never a candidate; may be changed.
    @ivar crowded: whether a network has more than one.
    """

    def __init__(
        self,
        target: bytes,
        width: int,
        is_secure: Callable[[Contact], bool] | None,
        closed: bool,
        own_id: bytes,
    ) -> None:
        """
        @param is_secure: BEP42; if given, mainline's order is wanted.
        @param closed: many nodes share an IP address.
        """
        self.added = 0
        self.crowded = False
        self.orders: list[Order[T]] = [Order(width, lambda candidate: candidate.distance)]
        if is_secure is not None:
            self.orders.append(
                Order(
                    MAINLINE_WIDTH,
                    lambda candidate: candidate.distance | (not is_secure(candidate.contact)) << BITS,
                )
            )
        self._number = int.from_bytes(target)
        self._closed = closed
        self.own_id = own_id
        self._known: dict[tuple[str, int], Candidate[T]] = {}
        self._per_network: Counter[str] = Counter()
        # Has anybody turned out not to be believed?
        self._doubts = False

    def all(self) -> list[Candidate[T]]:
        """
        All that have not failed, the nearest first.
        """
        return [candidate for _, _, candidate in self.orders[0].ranked]

    def answered(self) -> list[Candidate[T]]:
        """
        The nearest that have answered, no more than have to.
        """
        answered = [each for each in self.alone(self.orders[0]) if each.state is State.ANSWERED]
        return answered[: self.orders[0].width]

    def silent(self) -> list[Contact]:
        """
        Those as near as the ones that had to answer, who have not done so yet.
        """
        answered = self.answered()
        last = answered[-1].distance if len(answered) == self.orders[0].width else 1 << BITS
        slow = [each for each in self.all() if each.state is State.SLOW and each.distance < last]
        return [candidate.contact for candidate in slow[: self.orders[0].width]]

    def alone(self, order: Order[T]) -> Iterator[Candidate[T]]:
        """
        In an order, those that are not silent, each network's first only;
        without new ones that nobody who is believed has named.
        """
        networks: set[str] = set()
        for _, _, candidate in order.ranked:
            network = candidate.network
            if network in networks:
                continue
            if candidate.state is State.NEW and not candidate.vouched_for:
                self._doubts = True
                continue
            yield candidate
            # As it is now: it may just have been asked.
            if network is not None and candidate.state not in (State.SLOW, State.FAILED):
                networks.add(network)

    def learn(self, contacts: Iterable[Contact], informant: Candidate[T] | None = None) -> None:
        """
        Take in whom there is room for.

        @param informant: who named them; L{None}: they are our own.
        """
        if informant is not None and not informant.believed:
            return
        for contact in contacts:
            address = (contact.host, contact.port)
            candidate = self._known.get(address)
            if candidate is not None:
                if candidate.state is State.NEW:
                    candidate.named_by(informant)
                # One that had to go before it was asked may come back.
                if candidate.state is State.NEW and not candidate.places and self._has_room(candidate):
                    self._rank(candidate)
                continue
            if contact.node_id == self.own_id:
                continue
            network = None if self._closed or is_loopback(contact.host) else subnet(contact.host)
            if network is not None:
                self.crowded = self.crowded or self._per_network[network] > 0
                if self._per_network[network] >= MAX_PER_NETWORK:
                    continue
            distance = int.from_bytes(contact.node_id) ^ self._number
            candidate = Candidate(contact, distance, network, [] if informant is None else [informant])
            if not self._has_room(candidate):
                continue
            self._known[address] = candidate
            if network is not None:
                self._per_network[network] += 1
            self._rank(candidate)

    def _has_room(self, candidate: Candidate[T]) -> bool:
        ranked = self.orders[0].ranked
        if len(ranked) < MAX_CANDIDATES:
            return True
        last = ranked[-1][2]
        if self._doubts:
            new_or_slow = (each for _, _, each in reversed(ranked) if each.state in (State.NEW, State.SLOW))
            last = next((each for each in new_or_slow if not each.vouched_for), last)
        if last.vouched_for and last.distance <= candidate.distance:
            return False
        self.drop(last)
        return True

    def drop(self, candidate: Candidate[T]) -> None:
        """
        Make room: it failed, or is too far.
        """
        for order, place in zip(self.orders, candidate.places, strict=False):
            del order.ranked[bisect_left(order.ranked, place)]
        candidate.places = ()

    def renamed(self, candidate: Candidate[T], node_id: bytes) -> None:
        """
        It has another id than we were told: its rank is by its own.
        """
        if not candidate.places:
            return
        self.drop(candidate)
        contact = candidate.contact
        candidate.contact = Contact(node_id, contact.host, contact.port)
        candidate.distance = int.from_bytes(node_id) ^ self._number
        self._rank(candidate)

    def inner(self, asked: int, answered: int) -> list[T] | None:
        """
        The results of the nearest that have answered, as soon as the C{asked}
        nearest known ones that are not silent have all been asked and
        C{answered} of them have answered; until then, L{None}.
        """
        heard = (each for each in self.alone(self.orders[0]) if each.state is not State.SLOW)
        nearest = list(islice(heard, asked))
        if any(each.state is State.NEW for each in nearest):
            return None
        results = [each.result for each in nearest if each.state is State.ANSWERED]
        return [each for each in results if each is not None] if len(results) >= answered else None

    def results(self) -> list[T]:
        """
        Of those that had to answer and did, in any order; the nearest first.
        """
        found: dict[int, T] = {}
        for order in self.orders:
            left = order.width
            for candidate in self.alone(order):
                if left and candidate.state is State.ANSWERED:
                    left -= 1
                    if candidate.result is not None:
                        found[candidate.distance] = candidate.result
        return [found[distance] for distance in sorted(found)]

    def _rank(self, candidate: Candidate[T]) -> None:
        self.added += 1
        candidate.places = tuple((order.key(candidate), self.added, candidate) for order in self.orders)
        for order, place in zip(self.orders, candidate.places, strict=True):
            insort(order.ranked, place)
