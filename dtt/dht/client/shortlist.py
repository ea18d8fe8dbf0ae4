"""
The candidates of a lookup, in one or two orders. Pure.

Rules:
  - A lookup of a slot has a second order, that of the crate mainline: BEP42-valid nodes
    first, then by distance.
  - A bounded number of candidates is kept, the nearest. A nearer one always replaces
    the farthest, whatever the state of that one: in a DHT of millions of nodes, a
    lookup learns of thousands on its way to the target. Candidates named only by
    informants that are not credible go first.
  - Outside closed networks and loopback, a network (/24; IPv6: /48) has one place among
    the nearest, that of its nearest node, and few candidates to fill it.
  - A failed candidate makes room.
  - Most nodes that an honest node names answer. An informant that names silent ones
    loses its credibility: the other nodes that it named are not queried, unless another
    informant names them too.  Invented nodes, however near, therefore cost few queries and do not displace
    real ones.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from enum import Enum, auto
from itertools import islice
from typing import Any, Final, Generic, TypeVar

from attrs import Factory, define

from dtt.dht.routing.buckets import K
from dtt.interfaces import Contact
from dtt.net.networks import is_loopback, line

T = TypeVar("T")

#: The width of a read by mainline (docs/protocol/dht.md section 1, k).
MAINLINE_WIDTH: Final = 20

#: The most candidates kept. Guess: as many as could be queried.
MAX_CANDIDATES: Final = 256

#: The most candidates of one network, outside closed networks: if the first fails,
#: another takes its place. More would let one network fill the lookup. Guess.
MAX_PER_NETWORK: Final = 4

#: An informant that has named at least this many silent nodes, and more than this many
#: times as many silent as responsive ones, is not credible. With 60 % silent nodes, an
#: honest informant of 20 nodes gets there in 3 of 100 cases, one of 8 in 2.
MAX_SILENT: Final = 8
SILENT_SHARE: Final = 4

#: Bits of an id.
BITS: Final = 160


class State(Enum):
    """
    The state of a candidate. L{SLOW}: its query is open, but the lookup does not wait
    for it.
    """

    NEW = auto()
    ASKED = auto()
    SLOW = auto()
    FAILED = auto()
    ANSWERED = auto()


@define(slots=True, eq=False)
class Candidate(Generic[T]):
    """
    A node that a lookup may query.

    @ivar contact: its id and address.
    @ivar distance: its XOR distance from the target.
    @ivar network: the network of which one candidate counts among the nearest; C{None}:
        no such limit.
    @ivar informants: the candidates that named it; empty if we knew it ourselves.
    @ivar informant: the informant on whose word it was queried; C{None}: on our own.
    @ivar state: the state of its query.
    @ivar held_back: its query is waiting for the packet budget.
    @ivar query: the Deferred of its open query.
    @ivar result: the caller's interpretation of its response.
    @ivar knows_more: it returned as many nodes as fit into a response.
    @ivar subtree_queries: how often it was queried for nodes of other subtrees.
    @ivar places: its place in each order; empty once dropped.
    @ivar answers: how many nodes that it named have answered.
    @ivar silences: how many nodes that it named have not answered in time.
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
    subtree_queries: int = 0
    places: tuple[Any, ...] = ()
    answers: int = 0
    silences: int = 0

    @property
    def credible(self) -> bool:
        """
        Whether the nodes that it names are worth querying.
        """
        return self.silences < MAX_SILENT or self.silences <= SILENT_SHARE * self.answers

    @property
    def vouched_for(self) -> bool:
        """
        Whether we knew it, or a credible informant has named it.
        """
        return not self.informants or any(informant.credible for informant in self.informants)

    def named_by(self, informant: Candidate[T] | None) -> None:
        """
        Record one more informant.

        @param informant: the informant; C{None}: we know the node ourselves.
        """
        if informant is None:
            self.informants.clear()
        elif self.informants:
            self.informants.append(informant)


class Order(Generic[T]):
    """
    One order of the candidates.

    @ivar width: how many of the first responsive candidates have to answer.
    @ivar key: maps a candidate to its sort key.
    @ivar ranked: sorted tuples of key, serial number and candidate.
    """

    __slots__ = ("key", "ranked", "width")

    def __init__(self, width: int, key: Callable[[Candidate[T]], int]) -> None:
        self.width = width
        self.key = key
        self.ranked: list[tuple[int, int, Candidate[T]]] = []


class Candidates(Generic[T]):
    """
    The candidates of one lookup.

    @ivar orders: the order by distance, and mainline's if requested.
    @ivar added: the number of candidates added so far.
    @ivar own_id: our id, never a candidate; may be changed.
    @ivar crowded: whether a network has more than one candidate.
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
        @param target: 20 bytes.
        @param width: how many of the nearest have to answer.
        @param is_secure: returns whether an id is BEP42-valid; if given, there is
            mainline's order too.
        @param closed: many nodes share an IP address.
        @param own_id: our id.
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
        # Whether any informant has lost its credibility.
        self._doubts = False

    def all(self) -> list[Candidate[T]]:
        """
        Return all candidates that have not failed, nearest first.
        """
        return [candidate for _, _, candidate in self.orders[0].ranked]

    def answered(self) -> list[Candidate[T]]:
        """
        Return the nearest candidates that have answered, at most as many as have to.
        """
        answered = [each for each in self.one_per_network(self.orders[0]) if each.state is State.ANSWERED]
        return answered[: self.orders[0].width]

    def silent(self) -> list[Contact]:
        """
        Return slow candidates that are as near as those that had to answer.
        """
        answered = self.answered()
        last = answered[-1].distance if len(answered) == self.orders[0].width else 1 << BITS
        slow = [each for each in self.all() if each.state is State.SLOW and each.distance < last]
        return [candidate.contact for candidate in slow[: self.orders[0].width]]

    def held_back(self) -> bool:
        """
        Return whether the queries to half of the nearest candidates, other than slow
        ones, have not even been sent.
        """
        unsent = seen = 0
        for candidate in self.one_per_network(self.orders[0]):
            if candidate.state is State.SLOW:
                if not candidate.held_back:
                    continue
                unsent += 1
            seen += 1
            if seen == K:
                break
        return unsent >= K // 2

    def one_per_network(self, order: Order[T]) -> Iterator[Candidate[T]]:
        """
        Iterate over the candidates in an order: of each network up to its first
        responsive one, and no new ones without a credible informant.
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
            # Use the current state: the consumer may just have queried it.
            if network is not None and candidate.state not in (State.SLOW, State.FAILED):
                networks.add(network)

    def learn(self, contacts: Iterable[Contact], informant: Candidate[T] | None = None) -> None:
        """
        Add those of C{contacts} for which there is room.

        @param informant: the candidate that named them; C{None}: we know them
            ourselves.
        """
        if informant is not None and not informant.credible:
            return
        for contact in contacts:
            address = (contact.host, contact.port)
            candidate = self._known.get(address)
            if candidate is not None:
                if candidate.state is State.NEW:
                    candidate.named_by(informant)
                # A candidate dropped before it was queried may return.
                if candidate.state is State.NEW and not candidate.places and self._has_room(candidate):
                    self._rank(candidate)
                continue
            if contact.node_id == self.own_id:
                continue
            network = None if self._closed or is_loopback(contact.host) else line(contact.host)
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
        Remove a candidate that failed or is too far.
        """
        for order, place in zip(self.orders, candidate.places, strict=False):
            del order.ranked[bisect_left(order.ranked, place)]
        candidate.places = ()

    def renamed(self, candidate: Candidate[T], node_id: bytes) -> None:
        """
        Re-rank a candidate that responded with another id than it was named with.
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
        Return the results of the nearest candidates that have answered, or C{None}
        unless the C{asked} nearest responsive ones have all been queried and
        C{answered} of them have answered.
        """
        heard = (each for each in self.one_per_network(self.orders[0]) if each.state is not State.SLOW)
        nearest = list(islice(heard, asked))
        if any(each.state is State.NEW for each in nearest):
            return None
        results = [each.result for each in nearest if each.state is State.ANSWERED]
        return [each for each in results if each is not None] if len(results) >= answered else None

    def results(self) -> list[T]:
        """
        Return the results of the candidates that had to answer and did, in any order;
        nearest first.
        """
        found: dict[int, T] = {}
        for order in self.orders:
            left = order.width
            for candidate in self.one_per_network(order):
                if left and candidate.state is State.ANSWERED:
                    left -= 1
                    if candidate.result is not None:
                        found[candidate.distance] = candidate.result
        return [found[distance] for distance in sorted(found)]

    def informants(self) -> list[tuple[Contact, int, int]]:
        """
        Return the candidates on whose word others were queried, and how many of these
        have and have not answered.
        """
        return [
            (each.contact, each.answers, each.silences)
            for each in self._known.values()
            if each.answers or each.silences
        ]

    def clear(self) -> None:
        """
        Forget all candidates, and what they know about each other, so that their memory
        is freed without the garbage collector.
        """
        for candidate in self._known.values():
            candidate.informants.clear()
            candidate.informant = candidate.result = None
            candidate.places = ()
        self._known.clear()
        for order in self.orders:
            order.ranked.clear()

    def _rank(self, candidate: Candidate[T]) -> None:
        self.added += 1
        candidate.places = tuple((order.key(candidate), self.added, candidate) for order in self.orders)
        for order, place in zip(self.orders, candidate.places, strict=True):
            insort(order.ranked, place)
