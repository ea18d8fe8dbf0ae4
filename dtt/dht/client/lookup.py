"""
The iterative lookup (Kademlia section 2.3, BEP5).

Rules:
  - The nearest candidates that have not been asked are asked, C{alpha} at a
    time, until the C{width} nearest that are not silent have all answered.
    C{alpha} bounds all queries in flight, those of the fourth rule too; it may
    be changed on the way.
  - A wide lookup first finds its way with the nearest L{HOMING}: what is farther
    is soon overtaken by nearer ones, and would hold their queries up.
  - A query that passes the soft time-out is I{slow}: it frees its place at
    once and nobody waits for it, but its answer still counts if it comes
    while the lookup runs.  Only when nobody has answered, or few have and too
    few round trips are known for the time-out to be trusted, does the lookup
    wait for slow ones: then the silence may be our own.
  - Nodes tell the 8 nearest that they know, all of them the same ones.  A wide
    lookup that is left with gaps behind those asks for the nodes of the
    neighbouring subtrees, by C{find_node}, and goes on; so does any one when a
    network has more than one of these 8, since only one of them counts.  Who
    told of fewer than 8 knows no others and is not asked for them.
  - What an answer says is taken in at once.  What follows from it is done in a
    turn of its own, after all answers that have come in with it.
  - Whatever hostile nodes send, queries and candidates are bounded.
  - BEP42-invalid nodes are as good as others; but readers that order nodes as
    the crate mainline does, valid ones first, must find what we write, and we
    what they wrote: for slots the nearest in that order are asked too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from typing import Any, Final, Generic, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from dtt.dht.client.shortlist import BITS, Candidate, Candidates, Order, State
from dtt.dht.routing.buckets import K
from dtt.dht.routing.ids import distance
from dtt.interfaces import Contact
from dtt.krpc.messages import Response
from dtt.net.networks import is_loopback

T = TypeVar("T")

#: Queries in flight.  Upstream's mainline uses 20, libtorrent 5.  In a DHT of
#: millions, a third of them silent, a slot read takes 2.0 s with 16 (109
#: queries), 1.6 s with 32 (137), 4.8 s with 4 (77): docs/protocol/latency.md section 1, E.
ALPHA: Final = 16
URGENT_ALPHA: Final = 40
PATIENT_ALPHA: Final = 4

#: Nodes of a slot read (docs/protocol/dht.md section 4, "Reader").
SLOT_WIDTH: Final = 32

#: Candidates of a wide lookup that are asked beyond those that have to answer,
#: so that dead ones among these cost one soft time-out, not one after the
#: other.  Guess: a quarter.
SPARE: Final = 8

#: Queries in one turn of the reactor; the others go in the next ones: each costs
#: some 30 µs, and nothing shall hold all others up for longer than 0.3 ms.
MAX_AT_ONCE: Final = 8

#: Queries of one lookup.  A slot read of an honest network needs 36-40
#: (docs/protocol/dht.md section 4); six times that.
MAX_QUERIES: Final = 256

#: Nodes taken from one answer: libtorrent sends 8, mainline 20
#: (docs/protocol/dht.md section 1); all that fit into an MTU are 57.
MAX_NODES: Final = 20

#: Of the nearest candidates, how many a wide lookup asks on its way.  Measured in
#: a DHT of millions, a third of them silent: with 6, a newcomer finds a record
#: after 682 ms (95 datagrams), with 12 after 646 (137), with 16 after 620 (139),
#: with 24 after 629 (140).
HOMING: Final = 16

#: When a slot's inner nodes count as known (docs/protocol/latency.md section 3, item 4).
INNER: Final = 12
INNER_ANSWERS: Final = 5

#: Rounds of asking for the neighbouring subtrees, each finer than the one
#: before, and wider if those have too few nodes; and by how many prefixes the
#: first is wider at most because of silent nodes.  In models of 40 to 1000 nodes
#: that all tell the same 8, one round found 91 % of the 32 nearest with 46 queries
#: in all, three 99.6 % with 69.  In one of 2^22, 35 % of them silent, one found 96 %
#: (at worst 88 %) with 121, two found all with 142.
MAX_WIDENINGS: Final = 3
MAX_WIDER: Final = 2

#: The last of the nearest may be this many times as far as the 8th, before
#: the ranks between count as unknown: ids are uniform, so 4 times is the mean
#: for 32, and 3 standard deviations are another factor of 2.
GAP: Final = 8


class Ask(Protocol):
    """
    How a lookup sends a query; see L{dtt.krpc.protocol.KRPCProtocol.query}.
    The answer comes later, never during the call.
    """

    def __call__(
        self, contact: Contact, method: bytes, arguments: dict[bytes, Any], on_slow: Callable[[], None]
    ) -> Deferred[Response]: ...


def neighbouring_targets(target: bytes, depth: int, finer: int = 0, wider: int = 0) -> list[bytes]:
    """
    Where to look for the nodes around those that share C{depth} bits with
    C{target}.  With about 8 of these, the siblings of the last three prefixes
    have about 8, 8 and 16 nodes; an answer has room for 8.  In a network so
    small that the first one is half of it, there may be as many in that half.

    @param finer: how often to halve the subtrees once more, when that was not
        enough.
    @param wider: of how many further prefixes to take the siblings, too, when
        those have fewer nodes than they should; they come first.
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
    What can be called off.
    """

    def cancel(self) -> None: ...


class Lookup(Generic[T]):
    """
    One lookup.  What it makes of a response is its user's: C{interpret}.

    @ivar target: 20 bytes.
    @ivar alpha: queries in flight; may be changed while it runs.
    @ivar queries: how many were sent so far.
    """

    def __init__(
        self,
        target: bytes,
        method: bytes,
        arguments: dict[bytes, Any],
        *,
        ask: Ask,
        may_ask: Callable[[Contact], bool],
        nodes_of: Callable[[Response], Iterable[Contact]],
        interpret: Callable[[Contact, Response], T],
        starts: Callable[[], Iterable[Contact]],
        later: Callable[[Callable[[], None]], Delayed],
        is_secure: Callable[[Contact], bool] | None = None,
        trusts_timeout: Callable[[], bool] = lambda: True,
        on_inner: Callable[[list[T]], None] | None = None,
        width: int = K,
        alpha: int = ALPHA,
        closed: bool = False,
        own_id: bytes = b"",
    ) -> None:
        """
        @param ask: sends a query.
        @param may_ask: whether it would be sent now (packet budget).
        @param nodes_of: the contacts in a response.
        @param interpret: makes a result of a response, when it arrives.
        @param starts: whom to begin with; asked again before the lookup ends,
            since others may have become known meanwhile.
        @param later: calls something in the next turn of the reactor.
        @param is_secure: BEP42; if given, the nearest in mainline's order have
            to answer too.
        @param trusts_timeout: whether enough round trips are known for the
            soft time-out to mean something.
        @param on_inner: told once the results of the nearest nodes that have
            answered, as soon as the nearest L{INNER} known ones have all been
            asked and L{INNER_ANSWERS} of them have answered.
        @param width: how many of the nearest have to answer.
        @param alpha: queries in flight.
        @param closed: many nodes share an IP address.
        @param own_id: never asked.
        """
        self.alpha = alpha
        self.target = target
        self.queries = 0
        self._method = method
        self._arguments = arguments
        self._ask = ask
        self._may_ask = may_ask
        self._nodes_of = nodes_of
        self._interpret = interpret
        self._starts = starts
        self._later = later
        self._trusts_timeout = trusts_timeout
        self._on_inner = on_inner
        self._own_id = own_id
        self._candidates: Candidates[T] = Candidates(target, width, is_secure, closed, own_id)
        self._wide = self._homing = width > K
        self._in_flight = 0
        # Whose answers are still to come, slow ones too.
        self._open: set[Candidate[T]] = set()
        self._widenings = 0
        # How many are made in any case.
        self._rounds = 1
        # Rounds in which the subtrees had fewer nodes than they should.
        self._wider = 0
        self._added_before = -1
        # Queries for neighbouring subtrees that are waited for.
        self._widening: set[Deferred[Response]] = set()
        # All of them whose answers are still to come, slow ones too.
        self._around: set[Deferred[Response]] = set()
        # Where it is still to be asked for them, and who may know.
        self._gaps: deque[bytes] = deque()
        self._informants: list[Candidate[T]] = []
        # What is left of MAX_AT_ONCE, and the next step.
        self._at_once = 0
        self._next: Delayed | None = None
        self._done: Deferred[list[T]] | None = None

    @property
    def running(self) -> bool:
        """
        Has it begun and not ended?
        """
        return self._done is not None

    def start(self) -> Deferred[list[T]]:
        """
        Begin.

        @return: fires with the results of the C{width} nearest nodes that
            answered, the nearest first, and then of those that only
            mainline's order has.  Cancelling it ends all queries.
        """
        done: Deferred[list[T]] = Deferred(lambda _: self._cancel())
        self._done = done
        self._candidates.learn(self._starts())
        self._step()
        return done

    def silent(self) -> list[Contact]:
        """
        Near nodes that are slow: they may be dead, or only late.
        """
        return self._candidates.silent()

    def learn(self, contacts: Iterable[Contact]) -> None:
        """
        Take further candidates in, while it runs.
        """
        if self._done is not None:
            self._candidates.learn(contacts)
            self._soon()

    def widen(self, width: int) -> None:
        """
        From now on C{width} nodes have to answer, if it is a wide lookup and
        they were fewer.
        """
        if self._wide:
            order = self._candidates.orders[0]
            order.width = max(order.width, width)

    def moved(self, own_id: bytes) -> None:
        """
        We have another id now (BEP42), by which others may name us.
        """
        self._own_id = self._candidates.own_id = own_id

    def stop(self) -> None:
        """
        End now, with what there is.
        """
        if self._done is not None:
            self._finish()

    def _soon(self) -> None:
        # Whatever happens, the next step is taken once, in a turn of its own.
        if self._next is None and self._done is not None:
            self._next = self._later(self._turn)

    def _turn(self) -> None:
        self._next = None
        self._step()

    def _step(self) -> None:
        self._at_once = MAX_AT_ONCE
        waiting = self._ask_nearest()
        if self._homing or self._on_inner is not None:
            inner = self._candidates.inner(INNER, INNER_ANSWERS)
            self._tell_inner(inner)
            if self._done is None:
                return
            if self._homing and (inner is not None or not waiting):
                self._homing = False
                waiting = self._ask_nearest()
        if (self._wide or self._candidates.crowded) and not self._widening and not self._gaps:
            self._widen(waiting)
        while self._gaps and self._has_room():
            self._ask_around(self._gaps.popleft())
        if not waiting and not self._widening and not self._gaps and not self._silent():
            self._finish()

    def _ask_nearest(self) -> bool:
        # Says whether an answer has to be waited for.
        added = self._candidates.added
        while not (waiting := sum(map(self._walk, self._candidates.orders))):
            self._candidates.learn(self._starts())
            if self._candidates.added == added:
                break
            added = self._candidates.added
        return waiting > 0

    def _tell_inner(self, inner: list[T] | None) -> None:
        # Whoever is told may end the lookup.
        if inner is not None and self._on_inner is not None:
            on_inner, self._on_inner = self._on_inner, None
            on_inner(inner)

    def _has_room(self) -> bool:
        # May one more query be sent in this turn?
        if self._in_flight + len(self._widening) >= self.alpha:
            return False
        if not self._at_once:
            self._soon()
        return self._at_once > 0

    def _walk(self, order: Order[T]) -> bool:
        # Asks whom it may; says whether an answer has to be waited for.
        left = min(order.width, HOMING) if self._homing else order.width
        spare = SPARE if self._wide and not self._homing else 0
        waiting = False
        for candidate in self._candidates.alone(order):
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
        return not answered or not self._trusts_timeout()

    def _send(self, candidate: Candidate[T]) -> None:
        self.queries += 1
        self._at_once -= 1
        candidate.state = State.ASKED
        candidate.informant = next(
            (informant for informant in candidate.informants if informant.believed), None
        )
        candidate.held_back = not self._may_ask(candidate.contact)
        self._in_flight += 1
        if candidate.held_back:
            self._slow(candidate)
        query = self._ask(candidate.contact, self._method, self._arguments, partial(self._slow, candidate))
        candidate.query = query
        self._open.add(candidate)
        query.addCallbacks(self._answered, self._failed, callbackArgs=(candidate,), errbackArgs=(candidate,))

    def _slow(self, candidate: Candidate[T]) -> None:
        if candidate.state is State.ASKED:
            candidate.state = State.SLOW
            self._in_flight -= 1
            # Who has not been asked yet can't have been silent.
            if candidate.informant is not None and not candidate.held_back:
                candidate.informant.silences += 1
            self._soon()

    def _answered(self, response: Response, candidate: Candidate[T]) -> None:
        self._over(candidate)
        if candidate.informant is not None:
            candidate.informant.answers += 1
            candidate.informant.silences -= candidate.state is State.SLOW and not candidate.held_back
        candidate.state = State.ANSWERED
        if self._done is None:
            return
        if response.node_id != candidate.contact.node_id:
            self._candidates.renamed(candidate, response.node_id)
            if response.node_id == self._own_id:
                # Ourselves, under an earlier id.
                self._candidates.drop(candidate)
                self._soon()
                return
        # Who tells of fewer knows no others.
        candidate.knows_more = self._learn_from(response, candidate) >= K
        candidate.result = self._interpret(candidate.contact, response)
        self._soon()

    def _over(self, candidate: Candidate[T]) -> None:
        self._in_flight -= candidate.state is State.ASKED
        self._open.discard(candidate)
        candidate.query = None

    def _failed(self, failure: Failure, candidate: Candidate[T]) -> None:
        self._over(candidate)
        if candidate.informant is not None:
            candidate.informant.silences += candidate.state is State.ASKED
        candidate.state = State.FAILED
        # Made-up near nodes must not keep real ones out.
        self._candidates.drop(candidate)
        self._soon()

    def _learn_from(self, response: Response, informant: Candidate[T]) -> int:
        told = list(islice(self._nodes_of(response), MAX_NODES))
        # Who is elsewhere has no say about our own machine.
        here = is_loopback(informant.contact.host)
        self._candidates.learn(
            (contact for contact in told if here or not is_loopback(contact.host)), informant
        )
        return len(told)

    def _widen(self, waiting: bool) -> None:
        # Are there gaps that answers which are still waited for won't fill?
        candidates = self._candidates
        added = candidates.added
        if self._widenings >= MAX_WIDENINGS or self.queries >= MAX_QUERIES:
            return
        width = candidates.orders[0].width
        known = candidates.all()
        if waiting and (len(known) >= width or any(each.state is State.NEW for each in known)):
            return
        near = candidates.answered()
        informants = [candidate for candidate in near if candidate.knows_more and candidate.believed]
        if not informants or (waiting and len(near) < K):
            return
        eighth = known[min(K, len(known)) - 1].distance
        depth = BITS - eighth.bit_length()
        dense = len(near) >= width and near[-1].distance <= GAP * eighth
        # Are there too few where has been looked so far, and is there more to look at?
        few = (
            self._widenings > 0
            and self._wider < depth - 2
            and (len(known) < width or known[width - 1].distance >= 1 << BITS - depth + 2 + self._wider)
        )
        # Silent nodes among the nearest push the last of them outwards, and take
        # places in the answers.
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

    def _ask_around(self, target: bytes) -> None:
        number = distance(target, self.target)
        self._informants.sort(key=lambda candidate: candidate.distance ^ number)
        # Another one in each round: each knows others.  Once each, or packet
        # budgets would be used up before the first record is there to be read.
        skipped = min(self._widenings, len(self._informants)) - 1
        for informant in self._informants[skipped:]:
            if informant.asked_around < self._widenings:
                informant.asked_around += 1
                self._ask_for(informant, target)
                return

    def _ask_for(self, informant: Candidate[T], target: bytes) -> None:
        def over(_: object = None) -> None:
            if query in self._widening:
                self._widening.remove(query)
                self._soon()

        def answered(response: Response) -> None:
            if self._done is not None:
                self._learn_from(response, informant)
            over()

        if self.queries >= MAX_QUERIES or not self._may_ask(informant.contact):
            return
        self.queries += 1
        self._at_once -= 1
        query = self._ask(informant.contact, b"find_node", {b"target": target}, lambda: over())
        self._widening.add(query)
        self._around.add(query)
        query.addCallbacks(answered, over)
        query.addBoth(lambda _: self._around.discard(query))

    def _finish(self) -> None:
        # Slow queries go on: their time-outs tell the routing table something.
        done, self._done = self._done, None
        self._cancel_next()
        for candidate in [each for each in self._open if each.held_back]:
            candidate.query.cancel()
        assert done is not None
        done.callback(self._candidates.results())

    def _cancel_next(self) -> None:
        step, self._next = self._next, None
        if step is not None:
            step.cancel()

    def _cancel(self) -> None:
        self._done = None
        self._cancel_next()
        for query in list(self._around):
            query.cancel()
        for candidate in list(self._open):
            candidate.query.cancel()
