"""
Nodes for the tests of L{dtt.dht.client.lookup} and L{dtt.dht.client.shortlist}, without a
network.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from itertools import count as numbers
from operator import itemgetter
from random import Random
from typing import Any

from attrs import Factory, frozen
from twisted.internet.defer import Deferred

from dtt.dht.client.credit import Credit
from dtt.dht.client.lookup import ALPHA, Lookup, LookupOptions, Question
from dtt.dht.routing.buckets import K
from dtt.errors import QueryTimeout
from dtt.interfaces import Contact
from dtt.krpc.messages import Response
from dtt.testing.net.clock import HeapClock

TARGET = bytes(20)


@frozen(slots=True)
class SwarmClient:
    """
    The client of a lookup, with replaceable parts; see
    L{LookupClient<dtt.dht.client.lookup.LookupClient>}.
    """

    ask: Any
    may_ask: Any
    starts: Any
    later: Any
    is_secure: Any = None
    trusts_timeout: bool = True
    closed: bool = False
    own_id: bytes = b""
    credit: Credit = Factory(lambda: Credit(closed=False))

    def nodes_of(self, response: Response, informant: Contact) -> list[Contact]:
        """
        Return the nodes in a response of the swarm.
        """
        nodes: list[Contact] = response.values[b"nodes"]
        return nodes


class Index:
    """
    Contacts, from which those nearest to a target are found quickly.
    """

    def __init__(self, contacts: Iterable[Contact]) -> None:
        pairs = sorted(
            ((int.from_bytes(contact.node_id), contact) for contact in contacts), key=itemgetter(0)
        )
        self.ids = [number for number, _ in pairs]
        self.contacts = [contact for _, contact in pairs]

    def bounds(self, number: int, free: int) -> tuple[int, int]:
        """
        Return the first and the last place, plus one, of the ids that differ from
        C{number} in the last C{free} bits only.
        """
        start = number >> free << free
        return bisect_left(self.ids, start), bisect_left(self.ids, start + (1 << free))

    def nearest(self, target: bytes, count: int) -> list[Contact]:
        """
        Return the C{count} nearest contacts, or all.
        """
        number = int.from_bytes(target)
        free = 160 - (len(self.ids) // max(1, count)).bit_length()
        first, last = self.bounds(number, free)
        while last - first < count and free < 160:
            free += 1
            first, last = self.bounds(number, free)
        places = sorted(range(first, last), key=lambda place: self.ids[place] ^ number)
        return [self.contacts[place] for place in places[:count]]


@lru_cache(maxsize=40)
def _population(count: int, seed: int) -> tuple[list[Contact], Index, dict[Contact, Index], Any]:
    """
    Return what swarms of the same size and seed share: the nodes, their index, the tables
    made so far, and the state of the random number generator.
    """
    rng = Random(seed)
    contacts = [
        Contact(rng.randbytes(20), f"10.{number >> 8}.{number & 255}.1", 1) for number in range(count)
    ]
    return contacts, Index(contacts), {}, rng.getstate()


class Swarm:
    """
    Nodes that know the nodes near them and some others. A clock drives the queries: a
    response takes 10 ms, a query is slow after 50 ms, a query to a dead node fails
    after 2 s.

    @ivar index: the nodes, for finding the nearest.
    @ivar tables: the tables of nodes that have been asked.
    @ivar open: the queries in flight, slow ones excluded.
    @ivar most_open: the most queries in flight so far.
    @ivar slow: the nodes that are currently slow.
    """

    def __init__(self, count: int, seed: int = 0) -> None:
        self.clock = HeapClock()
        self.rng = Random()
        contacts, self.index, self.tables, state = _population(count, seed)
        self._contacts = list(contacts)
        self.rng.setstate(state)
        self.dead: set[Contact] = set()
        self.lags: dict[Contact, float] = {}
        self.asked: list[Contact] = []
        self.slow: set[Contact] = set()
        self.answered: set[Contact] = set()
        self.open = 0
        self.most_open = 0
        self.exhausted: set[Contact] = set()
        self.cancelled = 0
        self.nodes: Callable[[Contact, bytes], list[Contact]] = self.honest

    @property
    def contacts(self) -> list[Contact]:
        """
        All nodes.
        """
        return self._contacts

    @contacts.setter
    def contacts(self, contacts: list[Contact]) -> None:
        self._contacts = contacts
        self.index = Index(contacts)

    def near(self, target: bytes, count: int) -> list[Contact]:
        """
        Return the nearest of all nodes.
        """
        return self.index.nearest(target, count)

    def alive(self, count: int) -> list[Contact]:
        """
        Return the responsive nodes nearest to the target.
        """
        nearest = self.near(TARGET, len(self.contacts))
        return [contact for contact in nearest if contact not in self.dead][:count]

    def honest(self, contact: Contact, target: bytes) -> list[Contact]:
        """
        Return the 8 nearest nodes.
        """
        return self.near(target, 8)

    def ask(
        self, contact: Contact, method: bytes, arguments: dict[bytes, Any], on_slow: Callable[[], None]
    ) -> Deferred[Response]:
        def cancel(_: Deferred[Response]) -> None:
            self.cancelled += 1
            for call in (answering, slow):
                if call.active():
                    call.cancel()

        self.asked.append(contact)
        answer: Deferred[Response] = Deferred(cancel)
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        slow = self.clock.callLater(0.05, self._slow, contact, on_slow)
        if contact in self.dead:
            answering = self.clock.callLater(2.0, answer.errback, QueryTimeout("no reply"))
        else:
            lag = self.lags.get(contact, 0.01)
            answering = self.clock.callLater(
                lag, self._answer, contact, arguments[b"target"], answer, slow, lag
            )
        return answer

    def _slow(self, contact: Contact, on_slow: Callable[[], None]) -> None:
        self.open -= 1
        self.slow.add(contact)
        on_slow()

    def _answer(
        self, contact: Contact, target: bytes, answer: Deferred[Response], slow: Any, lag: float
    ) -> None:
        if slow.active():
            slow.cancel()
            self.open -= 1
        self.slow.discard(contact)
        self.answered.add(contact)
        values = {b"nodes": self.nodes(contact, target)}
        answer.callback(Response(b"tttt", contact.node_id, values, b"", None))

    def lookup(
        self,
        starts: Iterable[Contact],
        /,
        *,
        interpret: Callable[[Contact, Response], Contact] = lambda contact, _: contact,
        on_inner: Callable[[list[Contact]], None] | None = None,
        width: int = K,
        alpha: int = ALPHA,
        **parts: Any,
    ) -> Lookup[Contact]:
        """
        Create a lookup of L{TARGET} with the contacts that answer as results.

        @param parts: replaced parts of the client. With C{is_secure}, mainline's order
            counts too.
        """
        starts = list(starts)
        client: dict[str, Any] = {
            "ask": self.ask,
            "may_ask": lambda contact: contact not in self.exhausted,
            "starts": lambda target: starts,
            "later": partial(self.clock.callLater, 0.0),
        }
        return Lookup(
            SwarmClient(**(client | parts)),
            Question(TARGET, b"get", {b"target": TARGET}),
            interpret,
            on_inner=on_inner,
            options=LookupOptions(width=width, alpha=alpha, mainline="is_secure" in parts),
        )

    def run(self, deferred: Deferred[list[Contact]], seconds: float = 5.0) -> tuple[list[Any], float]:
        """
        Run a lookup; return its outcome and duration.
        """
        results: list[Any] = []
        start = self.clock.seconds()
        deferred.addBoth(results.append)
        while not results and self.clock.seconds() < start + seconds:
            self.clock.advance(0.01)
        return results, self.clock.seconds() - start


class LargeSwarm(Swarm):
    """
    Nodes whose tables have 8 random nodes of each subtree other than their own, as in
    the real DHT, and hostile nodes among them.

    @ivar returned: the number of nodes in a response.
    @ivar hostile: nodes that name instead nodes near the target that do not exist, each
        nearer than the last.
    @ivar invented: these nodes, and the hostile node that named each.
    """

    def __init__(self, count: int, seed: int = 0, *, returned: int = K) -> None:
        super().__init__(count, seed)
        self.returned = returned
        self.hostile: set[Contact] = set()
        self.invented: dict[Contact, Contact] = {}
        self._serial = numbers()
        self.nodes = self.from_table
        self._contacts = list(self.index.contacts)

    def some(self, count: int) -> list[Contact]:
        """
        Return random nodes.
        """
        return self.rng.sample(self.contacts, count)

    def table(self, contact: Contact) -> Index:
        """
        Return the nodes that a node knows.
        """
        if contact not in self.tables:
            rng = Random(contact.node_id)
            number = int.from_bytes(contact.node_id)
            known: list[Contact] = []
            # The ids that share the bits so far; all others of them are in one of its halves.
            first, last = 0, len(self.contacts)
            for bits in reversed(range(160)):
                if last - first <= 1:
                    break
                half = bisect_left(self.index.ids, (number >> bits | 1) << bits, first, last)
                theirs, ours = ((first, half), (half, last))[:: 1 if number >> bits & 1 else -1]
                others = self.index.contacts[slice(*theirs)]
                known += rng.sample(others, K) if len(others) > K else others
                first, last = ours
            self.tables[contact] = Index(known)
        return self.tables[contact]

    def from_table(self, contact: Contact, target: bytes) -> list[Contact]:
        """
        Return the nearest nodes that a node knows, or claims to know.
        """
        if contact in self.hostile:
            return self.invent(contact)
        return self.table(contact).nearest(target, self.returned)

    def invent(self, informant: Contact, count: int = 20) -> list[Contact]:
        """
        Return nodes that do not exist, nearer than all others.
        """
        made = [
            Contact((1 << 140 - number % 100).to_bytes(20), f"80.{number >> 8}.{number & 255}.1", 1)
            for number in (next(self._serial) for _ in range(count))
        ]
        self.invented.update(dict.fromkeys(made, informant))
        self.dead.update(made)
        return made
