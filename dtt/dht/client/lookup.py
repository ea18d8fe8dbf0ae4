"""
The iterative lookup (Kademlia section 2.3, BEP5).

Rules:
  - The nearest unqueried candidates are queried, at most C{alpha} at a time, until the
    C{width} nearest responsive ones have all answered. C{alpha} bounds all queries in
    flight, including those of the fourth rule, and may change during the lookup.
  - A wide lookup first homes in on the target with the nearest L{HOMING} candidates:
    farther ones are soon overtaken by nearer ones and would delay their queries.
  - A query that exceeds the soft timeout is I{slow}.  It frees its place immediately
    and the lookup no longer waits for it, but its response still counts while the
    lookup runs. The lookup waits for slow queries only if no node has answered, or if
    few have and too few round trips are known to trust the timeout: then our own
    network may be the cause.
  - A query that must wait for the packet budget of its node does not delay the lookup, unless half of the 8
    nearest nodes are in this state: without them, the result would be meaningless.
  - Nodes return the 8 nearest nodes that they know, all of them the same 8. A wide
    lookup that is left with gaps behind those queries for the nodes of the neighbouring
    subtrees by C{find_node}, and continues. So does any lookup if a network has several
    of these 8, of which only one counts. A node that returned fewer than 8 knows no others and is not queried
    for them.
  - The content of a response is processed immediately.  The next step runs in a separate reactor turn, after
    all responses that arrived together.
  - Queries and candidates are bounded, whatever hostile nodes send.
  - BEP42-invalid nodes are as good as valid ones. But readers that order nodes as the
    crate mainline does, valid ones first, must find what we write, and we what they
    wrote: for slots, the nearest nodes in that order are queried too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import islice
from typing import Any, Final, Generic, Protocol, TypeVar

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from dtt.dht.client.credit import PROBATION, Credit
from dtt.dht.client.shortlist import BITS, Candidate, Candidates, Order, State
from dtt.dht.routing.buckets import K
from dtt.dht.routing.ids import distance
from dtt.errors import LookupFailed
from dtt.interfaces import Contact
from dtt.krpc.messages import Response

T = TypeVar("T")

#: The most queries in flight. Upstream's mainline uses 20, libtorrent 5. In a DHT of
#: millions of nodes, a third of them silent, a slot read takes 2.0 s with 16 (109
#: queries), 1.6 s with 32 (137), 4.8 s with 4 (77): docs/protocol/latency.md section 1,
#: E.
ALPHA: Final = 16
URGENT_ALPHA: Final = 40
PATIENT_ALPHA: Final = 4

#: The width of a slot read (docs/protocol/dht.md section 4, "Reader").
SLOT_WIDTH: Final = 32

#: Candidates a wide lookup queries beyond those that have to answer, so that dead ones
#: among the latter cost one soft timeout in total instead of one each.  Guess: a
#: quarter.
SPARE: Final = 8

#: The most queries per reactor turn; the rest follow in the next turns. Each takes
#: about 30 µs, and nothing should block the reactor for longer than 0.3 ms.
MAX_PER_TURN: Final = 8

#: The most queries of one lookup. A slot read in an honest network needs 36-40
#: (docs/protocol/dht.md section 4); this is six times that.
MAX_QUERIES: Final = 256

#: The most nodes taken from one response: libtorrent sends 8, mainline 20
#: (docs/protocol/dht.md section 1); an MTU holds 57.
MAX_NODES: Final = 20

#: How many of the nearest candidates a wide lookup queries while homing. Measured in a
#: DHT of millions of nodes, a third of them silent: with 6, a newcomer finds a record
#: after 682 ms (95 datagrams), with 12 after 646 (137), with 16 after 620 (139), with
#: 24 after 629 (140).
HOMING: Final = 16

#: The inner nodes of a slot count as known once this many nearest ones have been
#: queried and this many of those have answered (docs/protocol/latency.md section 3,
#: item 4).
INNER: Final = 12
INNER_ANSWERS: Final = 5

#: The most rounds of querying for the neighbouring subtrees, each finer than the one
#: before, and wider if the subtrees have too few nodes; and the most prefixes by which
#: silent nodes widen the first round. In models of 40 to 1000 nodes that all return the
#: same 8, one round found 91 % of the 32 nearest with 46 queries in total, three 99.6 %
#: with 69. In one of 2^22, 35 % of them silent, one found 96 % (at worst 88 %) with
#: 121, two found all with 142.
MAX_WIDENINGS: Final = 3
MAX_WIDER: Final = 2

#: The last of the nearest nodes may be this many times as far as the 8th; beyond, there
#: are unknown ranks between. Ids are uniform, so for 32 nodes the mean is 4, and 3
#: standard deviations are another factor of 2.
GAP: Final = 8


class Ask(Protocol):
    """
    Sends a query; see L{KRPCProtocol.query<dtt.krpc.protocol.KRPCProtocol.query>}. The
    Deferred never fires during the call.
    """

    def __call__(
        self, contact: Contact, method: bytes, arguments: dict[bytes, Any], on_slow: Callable[[], None]
    ) -> Deferred[Response]: ...


def neighbouring_targets(target: bytes, depth: int, finer: int = 0, wider: int = 0) -> list[bytes]:
    """
    Return targets in the subtrees around the nodes that share C{depth} bits with
    C{target}.

    If about 8 nodes share those bits, the sibling subtrees of the last three prefixes
    have about 8, 8 and 16 nodes, and a response has room for 8. In a network so small
    that the first subtree is half of it, that half may have 16 too.

    @param finer: how often to halve the subtrees further, if that was not enough.
    @param wider: the number of shorter prefixes whose siblings to include, if the
        others have fewer nodes than expected. They come first.
    """
    number = int.from_bytes(target)
    targets = []
    farther = [(depth - 2 - more, 2 - more) for more in range(wider, 0, -1)]
    for level, few in (*farther, (depth, 0), (depth - 1, 1), (depth - 2, 2)):
        bits = finer + (few if level else 2)
        if 0 <= level < BITS - bits:
            sibling = number ^ 1 << (BITS - 1 - level)
            targets += [sibling ^ part << (BITS - 1 - level - bits) for part in range(1 << bits)]
    return [number.to_bytes(20) for number in targets]


class Delayed(Protocol):
    """
    A scheduled call that can be cancelled.
    """

    def cancel(self) -> None: ...


class LookupClient(Protocol):
    """
    The client of a lookup, as the lookup uses it.
    """

    @property
    def own_id(self) -> bytes:
        """
        Our id, never queried.
        """

    @property
    def closed(self) -> bool:
        """
        Whether many nodes share an IP address.
        """

    @property
    def trusts_timeout(self) -> bool:
        """
        Whether enough round trips are known to trust the soft timeout.
        """

    @property
    def credit(self) -> Credit:
        """
        The credibility of nodes from earlier lookups.
        """

    def ask(
        self, contact: Contact, method: bytes, arguments: dict[bytes, Any], on_slow: Callable[[], None]
    ) -> Deferred[Response]:
        """
        Send a query; see L{Ask}.
        """

    def may_ask(self, contact: Contact) -> bool:
        """
        Return whether a query would be sent immediately (packet budget).
        """

    def nodes_of(self, response: Response, informant: Contact) -> Iterable[Contact]:
        """
        Extract the contacts from the response of C{informant}, without those that it
        may not name.
        """

    def starts(self, target: bytes) -> Iterable[Contact]:
        """
        Return the starting points; called again before the lookup ends, since more may
        have become known.
        """

    def is_secure(self, contact: Contact) -> bool:
        """
        Return whether an id is BEP42-valid.
        """

    def later(self, call: Callable[[], None]) -> Delayed:
        """
        Schedule a call in the next reactor turn.
        """


@frozen(slots=True)
class Question:
    """
    The query of a lookup.

    @ivar target: 20 bytes.
    @ivar method: the method of the queries.
    @ivar arguments: the arguments of the queries, without C{id}.
    """

    target: bytes
    method: bytes
    arguments: dict[bytes, Any]


@frozen(slots=True)
class LookupOptions:
    """
    Options of a lookup.

    @ivar width: the number of nearest nodes that must answer.
    @ivar alpha: the initial maximum of queries in flight.
    @ivar known: starting points in addition to those of the client.
    @ivar mainline: the nearest nodes in mainline's order must also answer, except in a closed network.
    """

    width: int = K
    alpha: int = ALPHA
    known: Sequence[Contact] = ()
    mainline: bool = False


#: A plain lookup.
DEFAULTS: Final = LookupOptions()


class Lookup(Generic[T]):
    """
    One lookup. The caller's C{interpret} converts responses to results.

    @ivar target: 20 bytes.
    @ivar alpha: the most queries in flight; may be changed during the lookup.
    @ivar queries: the number of queries sent so far.
    @ivar answers: the number of nodes that have answered so far.
    """

    def __init__(
        self,
        client: LookupClient,
        question: Question,
        interpret: Callable[[Contact, Response], T],
        *,
        on_inner: Callable[[list[T]], None] | None = None,
        options: LookupOptions = DEFAULTS,
    ) -> None:
        """
        @param client: sends the queries.
        @param question: the query.
        @param interpret: converts a response to a result, on arrival.
        @param on_inner: called once with the results of the nearest nodes that have
            answered, as soon as the nearest L{INNER} known ones have all been queried
            and L{INNER_ANSWERS} of them have answered.
        @param options: the options.
        """
        self.alpha = options.alpha
        self.target = question.target
        self.queries = 0
        self.answers = 0
        self._client = client
        self._question = question
        self._interpret = interpret
        self._on_inner = on_inner
        self._known = options.known
        self._own_id = client.own_id
        self._candidates: Candidates[T] = Candidates(
            question.target,
            options.width,
            client.is_secure if options.mainline and not client.closed else None,
            client.closed,
            client.own_id,
        )
        self._wide = self._homing = options.width > K
        self._in_flight = 0
        # Candidates with an open query, including slow ones.
        self._open: dict[Candidate[T], None] = {}
        self._widenings = 0
        # The least number of widening rounds.
        self._rounds = 1
        # By how many prefixes the next round is wider.
        self._wider = 0
        self._added_before = -1
        # Queries for neighbouring subtrees that the lookup waits for.
        self._widening: set[Deferred[Response]] = set()
        # All open ones, including slow ones.
        self._subtree_queries: dict[Deferred[Response], None] = {}
        # Subtrees still to be queried for, and the candidates that may know them.
        self._gaps: deque[bytes] = deque()
        self._informants: list[Candidate[T]] = []
        # The queries left in this turn, and the scheduled next step.
        self._turn_budget = 0
        self._next: Delayed | None = None
        self._done: Deferred[list[T]] | None = None
        # The result of silent(), once the lookup has ended.
        self._silent_nodes: list[Contact] = []

    @property
    def running(self) -> bool:
        """
        Whether the lookup has started and not ended.
        """
        return self._done is not None

    def start(self) -> Deferred[list[T]]:
        """
        Start the lookup.

        @return: fires with the results of the C{width} nearest nodes that answered,
            nearest first, followed by those that appear only in mainline's order.
            Cancelling it cancels all queries.
        """
        done: Deferred[list[T]] = Deferred(lambda _: self._cancel())
        self._done = done
        self._candidates.learn(self._starts())
        self._step()
        return done

    def _starts(self) -> list[Contact]:
        return [*self._known, *self._client.starts(self.target)]

    def check(self) -> None:
        """
        Check that the lookup could be carried out.

        @raise LookupFailed: no node has answered.
        """
        if not self.answers:
            raise LookupFailed(
                f"none of {self.queries} DHT nodes answered" if self.queries else "no DHT node is known"
            )

    def silent(self) -> list[Contact]:
        """
        Return near nodes whose query is slow: they may be dead, or late.
        """
        return self._candidates.silent() if self._done is not None else self._silent_nodes

    def learn(self, contacts: Iterable[Contact]) -> None:
        """
        Add candidates to a running lookup.
        """
        if self._done is not None:
            self._candidates.learn(contacts)
            self._schedule_step()

    def widen(self, width: int) -> None:
        """
        Require C{width} nodes to answer, if this is a wide lookup and fewer were
        required.
        """
        if self._wide:
            order = self._candidates.orders[0]
            order.width = max(order.width, width)

    def id_changed(self, own_id: bytes) -> None:
        """
        Change our own id (BEP42), by which others may name us.
        """
        self._own_id = self._candidates.own_id = own_id

    def stop(self) -> None:
        """
        End the lookup with the results so far.
        """
        if self._done is not None:
            self._finish()

    def _schedule_step(self) -> None:
        # Schedule one next step, in a separate turn.
        if self._next is None and self._done is not None:
            self._next = self._client.later(self._turn)

    def _turn(self) -> None:
        self._next = None
        self._step()

    def _step(self) -> None:
        self._turn_budget = MAX_PER_TURN
        waiting = self._ask_nearest()
        if self._homing or self._on_inner is not None:
            inner = self._candidates.inner(INNER, INNER_ANSWERS)
            self._notify_inner(inner)
            if self._done is None:
                return
            if self._homing and (inner is not None or not waiting):
                self._homing = False
                waiting = self._ask_nearest()
        if (self._wide or self._candidates.crowded) and not self._widening and not self._gaps:
            self._widen(waiting)
        while self._gaps and self._has_room():
            self._query_subtree(self._gaps.popleft())
        if waiting or self._widening or self._gaps:
            return
        if not self._silent() and not self._candidates.held_back():
            self._finish()

    def _ask_nearest(self) -> bool:
        # Return whether to wait for a response.
        added = self._candidates.added
        while not (waiting := sum(map(self._walk, self._candidates.orders))):
            self._candidates.learn(self._starts())
            if self._candidates.added == added:
                break
            added = self._candidates.added
        return waiting > 0

    def _notify_inner(self, inner: list[T] | None) -> None:
        # The observer may end the lookup.
        if inner is not None and self._on_inner is not None:
            on_inner, self._on_inner = self._on_inner, None
            on_inner(inner)

    def _has_room(self) -> bool:
        # Return whether one more query may be sent in this turn.
        if self._in_flight + len(self._widening) >= self.alpha:
            return False
        if not self._turn_budget:
            self._schedule_step()
        return self._turn_budget > 0

    def _walk(self, order: Order[T]) -> bool:
        # Query what is allowed; return whether to wait for a response.
        left = min(order.width, HOMING) if self._homing else order.width
        spare = SPARE if self._wide and not self._homing else 0
        waiting = False
        for candidate in self._candidates.one_per_network(order):
            if candidate.state is State.SLOW or candidate.state is State.FAILED:
                continue
            if not left and not spare:
                break
            if candidate.state is State.NEW:
                if self.queries >= MAX_QUERIES:
                    continue
                if self._has_room():
                    self._send(candidate)
                    if candidate.held_back:
                        continue
            if left:
                left -= 1
                waiting = waiting or candidate.state is not State.ANSWERED
            else:
                spare -= 1
        return waiting

    def _silent(self) -> bool:
        states = [candidate.state for candidate in self._candidates.all()]
        answered = states.count(State.ANSWERED)
        if answered >= K or states.count(State.SLOW) <= answered:
            return False
        return not answered or not self._client.trusts_timeout

    def _send(self, candidate: Candidate[T]) -> None:
        self.queries += 1
        self._turn_budget -= 1
        candidate.state = State.ASKED
        candidate.informant = next(
            (informant for informant in candidate.informants if informant.credible), None
        )
        candidate.held_back = not self._client.may_ask(candidate.contact)
        if candidate.held_back:
            candidate.state = State.SLOW
            self._schedule_step()
        else:
            self._in_flight += 1
        question = self._question
        query = self._client.ask(
            candidate.contact, question.method, question.arguments, partial(self._slow, candidate)
        )
        candidate.query = query
        self._open[candidate] = None
        query.addCallbacks(self._answered, self._failed, callbackArgs=(candidate,), errbackArgs=(candidate,))

    def _slow(self, candidate: Candidate[T]) -> None:
        if candidate.held_back:
            candidate.held_back = False
        elif candidate.state is State.ASKED:
            candidate.state = State.SLOW
            self._in_flight -= 1
        else:
            return
        if candidate.informant is not None:
            candidate.informant.silences += 1
        self._schedule_step()

    def _answered(self, response: Response, candidate: Candidate[T]) -> None:
        self._over(candidate)
        if candidate.informant is not None:
            candidate.informant.answers += 1
            candidate.informant.silences -= candidate.state is State.SLOW and not candidate.held_back
        candidate.state = State.ANSWERED
        if self._done is None:
            return
        self.answers += 1
        if response.node_id != candidate.contact.node_id:
            self._candidates.renamed(candidate, response.node_id)
            if response.node_id == self._own_id:
                # This is our own node under an earlier id.
                self.answers -= 1
                self._candidates.drop(candidate)
                self._schedule_step()
                return
        # A node that returns fewer knows no others.
        candidate.knows_more = self._learn_from(response, candidate) >= K
        candidate.result = self._interpret(candidate.contact, response)
        self._schedule_step()

    def _over(self, candidate: Candidate[T]) -> None:
        self._in_flight -= candidate.state is State.ASKED
        self._open.pop(candidate, None)
        candidate.query = None

    def _failed(self, failure: Failure, candidate: Candidate[T]) -> None:
        self._over(candidate)
        if candidate.informant is not None:
            candidate.informant.silences += candidate.state is State.ASKED
        candidate.state = State.FAILED
        # Invented near nodes must not keep real ones out.
        self._candidates.drop(candidate)
        self._schedule_step()

    def _learn_from(self, response: Response, informant: Candidate[T]) -> int:
        named = list(islice(self._client.nodes_of(response, informant.contact), MAX_NODES))
        if not self._client.credit.trusts(informant.contact):
            named = named[:PROBATION]
        self._candidates.learn(named, informant)
        return len(named)

    def _widen(self, waiting: bool) -> None:
        # Queue subtrees to query for if there are gaps that the pending responses won't
        # fill.
        candidates = self._candidates
        added = candidates.added
        if self._widenings >= MAX_WIDENINGS or self.queries >= MAX_QUERIES:
            return
        width = candidates.orders[0].width
        known = candidates.all()
        if waiting and (len(known) >= width or any(each.state is State.NEW for each in known)):
            return
        near = candidates.answered()
        informants = [candidate for candidate in near if candidate.knows_more and candidate.credible]
        if not informants or (waiting and len(near) < K):
            return
        eighth = known[min(K, len(known)) - 1].distance
        depth = BITS - eighth.bit_length()
        dense = len(near) >= width and near[-1].distance <= GAP * eighth
        # Are there too few in the area searched so far, with more area left?
        few = (
            self._widenings > 0
            and self._wider < depth - 2
            and (len(known) < width or known[width - 1].distance >= 1 << BITS - depth + 2 + self._wider)
        )
        # Silent nodes among the nearest push the last ranks outwards and occupy places
        # in responses.
        farther = 0
        if len(near) >= width:
            farther = min(depth - 2 - (BITS - near[-1].distance.bit_length()), MAX_WIDER)
        if farther > 0 or not dense:
            self._rounds = 2
        unseen = farther > self._wider or self._widenings < self._rounds
        if not few and not unseen and (added == self._added_before or dense):
            return
        self._wider = max(self._wider + few, farther)
        self._gaps.extend(neighbouring_targets(self.target, depth, self._widenings, self._wider))
        self._widenings += 1
        self._added_before = added
        self._informants = informants

    def _query_subtree(self, target: bytes) -> None:
        number = distance(target, self.target)
        self._informants.sort(key=lambda candidate: candidate.distance ^ number)
        # Use another informant in each round, since each knows different nodes, and
        # each only once per round: otherwise packet budgets would be spent before the
        # first record can be read.
        skipped = min(self._widenings, len(self._informants)) - 1
        for informant in self._informants[skipped:]:
            if informant.subtree_queries < self._widenings:
                informant.subtree_queries += 1
                self._find_subtree(informant, target)
                return

    def _find_subtree(self, informant: Candidate[T], target: bytes) -> None:
        def over(_: object = None) -> None:
            if query in self._widening:
                self._widening.remove(query)
                self._schedule_step()

        def answered(response: Response) -> None:
            if self._done is not None:
                self._learn_from(response, informant)
            over()

        if self.queries >= MAX_QUERIES or not self._client.may_ask(informant.contact):
            return
        self.queries += 1
        self._turn_budget -= 1
        query = self._client.ask(informant.contact, b"find_node", {b"target": target}, lambda: over())
        self._widening.add(query)
        self._subtree_queries[query] = None
        query.addCallbacks(answered, over)
        query.addBoth(lambda _: self._subtree_queries.pop(query, None))

    def _finish(self) -> None:
        # Slow queries stay open: the routing table learns from their timeouts.
        done, self._done = self._done, None
        self._cancel_next()
        for candidate in [each for each in self._open if each.held_back]:
            candidate.query.cancel()
        assert done is not None
        results, self._silent_nodes = self._candidates.results(), self._candidates.silent()
        for contact, answers, silences in self._candidates.informants():
            self._client.credit.judge(contact, answers, silences)
        self._break_cycles()
        done.callback(results)

    def _break_cycles(self) -> None:
        # Candidates refer to each other, and the caller's function usually to this
        # lookup. Under attack a lookup has hundreds; the garbage collector would delay
        # the reactor by a tenth of a second.
        self._candidates.clear()
        self._informants = []
        self._gaps.clear()
        self._on_inner = None
        del self._interpret

    def _cancel_next(self) -> None:
        step, self._next = self._next, None
        if step is not None:
            step.cancel()

    def _cancel(self) -> None:
        self._done = None
        self._cancel_next()
        for query in list(self._subtree_queries):
            query.cancel()
        for candidate in list(self._open):
            candidate.query.cancel()
        self._break_cycles()
