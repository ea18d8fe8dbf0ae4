"""
Lookups of peers in the stores.

Rules (docs/protocol/addresses.md section 2): all stores are queried concurrently,
and the newest of all packets counts.  Callers are notified as soon as an address
is usable; the search continues for newer packets.  There is one search per id and
4 in total at a time, each for at most 10 s; others wait in a queue.  After a
search, an id is not searched again for a while, which grows if nothing was
usable: a peer that has published nothing must not cost a DHT lookup each time its
id is mentioned.  Of ids for which only others vouch, 30 are searched a minute at most:
a member can name any number of ids.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from dtt.addresses.interfaces import IPacketStore
from dtt.addresses.pkarr import Packet
from dtt.deferreds import Waiters
from dtt.interfaces import PeerId

#: The timeout of a search in seconds (docs/protocol/records.md section 6: a read of
#: the DHT).
TIMEOUT = 10.0

#: The maximum numbers of concurrent and of queued searches (guess: a DHT lookup takes
#: about 60 packets, and in a small DHT they all go to the same nodes; the active and
#: the passive view hold 35 members).
MAX_RUNNING = 4
MAX_WAITING = 64

#: Searches for ids that have signed nothing themselves, within C{WINDOW} seconds (the
#: contract of discovery).
MAX_HEARSAY = 30
WINDOW = 60.0

#: Seconds before an id is searched again; doubles each time nothing was usable
#: (guess: a peer that starts together with us publishes within seconds).
FIRST_HOLD = 2.0
LONGEST_HOLD = 300.0

#: The maximum number of ids whose last search is remembered (guess; about 100 kB).
MAX_HELD = 1024


@define(slots=True, eq=False)
class _Search:
    """
    A search for the addresses of one peer.

    @ivar peer_id: the peer.
    @ivar waiters: the waiting callers.
    @ivar newest: the newest packet so far.
    @ivar running: the lookups, one for each store; empty while the search is
        queued.
    """

    peer_id: PeerId
    waiters: Waiters[None]
    newest: Packet | None = None
    running: list[Deferred[None]] = field(factory=list)


class Lookups:
    """
    Searches for peers in all stores; its rules are in the module's docstring.

    @ivar counters: counts C{searches}, C{found}, C{older_packet},
        C{too_many_searches}, C{too_many_hearsay_searches} and C{"<store>: search_timed_out"}.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        stores: Sequence[IPacketStore],
        learn: Callable[[Packet], object],
        is_usable: Callable[[PeerId], bool],
        counters: Counter[str],
    ) -> None:
        """
        @param stores: the stores to query.
        @param learn: called with each packet that is newer than those before.
        @param is_usable: returns whether a peer has an address that may be dialled
            now.
        @param counters: counts searches and failures.
        """
        self.counters = counters
        self._reactor = reactor
        self._stores = stores
        self._learn = learn
        self._is_usable = is_usable
        self._searches: dict[PeerId, _Search] = {}
        self._peeks: dict[PeerId, list[Deferred[None]]] = {}
        self._turns: deque[_Search] = deque()
        # The end and the length of the hold of each id; the oldest first.
        self._holds: dict[PeerId, tuple[float, float]] = {}
        # When the last searches for hearsay were requested, the oldest first.
        self._hearsay: deque[float] = deque(maxlen=MAX_HEARSAY)
        self._stopped = False

    def find(self, peer_id: PeerId, *, signed: bool = True) -> Deferred[None] | None:
        """
        Start a search for a peer, or join the one in progress.

        @param signed: whether we know an address that the peer has signed; otherwise the id may be made up.
        @return: C{None} if the peer can't be searched now.  Else a new Deferred,
            which fires when an address is usable or the search is over.  Cancelling
            it does not stop a search that has started.
        """
        search = self._searches.get(peer_id)
        if search is None:
            if not self._stores or self._stopped or self._is_held(peer_id):
                return None
            if len(self._turns) >= MAX_WAITING:
                self.counters["too_many_searches"] += 1
                return None
            if not signed and not self._may_search_hearsay():
                self.counters["too_many_hearsay_searches"] += 1
                return None
            search = self._searches[peer_id] = _Search(peer_id, Waiters(lambda: self._abandoned(peer_id)))
            self._turns.append(search)
        waiter = search.waiters.wait()
        self._next_turn()
        return waiter

    def peek(self, peer_id: PeerId) -> None:
        """
        Look for a newer packet of a peer at little cost, unless it is searched already.  The caller limits
        the rate, and the number of peers.
        """
        if self._stopped or peer_id in self._searches or peer_id in self._peeks:
            return
        peeks = self._peeks[peer_id] = [
            store.peek(peer_id, self._peeked).addTimeout(TIMEOUT, self._reactor) for store in self._stores
        ]
        for store, peek in zip(self._stores, peeks, strict=True):
            peek.addErrback(self._failed, store.name)
        DeferredList(peeks).addCallback(lambda _: self._peeks.pop(peer_id, None))

    def _peeked(self, packet: Packet) -> None:
        if not self._stopped:
            self._learn(packet)

    def stop(self) -> None:
        """
        Cancel all searches, and notify all waiting callers.
        """
        self._stopped = True
        self._turns.clear()
        for peek in [each for peeks in self._peeks.values() for each in peeks]:
            peek.cancel()
        for search in tuple(self._searches.values()):
            for running in tuple(search.running):
                running.cancel()
            search.waiters.fire(None)
        self._searches.clear()

    def _may_search_hearsay(self) -> bool:
        now, recent = self._reactor.seconds(), self._hearsay
        if len(recent) == MAX_HEARSAY and now - recent[0] < WINDOW:
            return False
        recent.append(now)
        return True

    def _abandoned(self, peer_id: PeerId) -> None:
        search = self._searches.get(peer_id)
        if search is not None and search in self._turns:  # it has not begun
            self._turns.remove(search)
            del self._searches[peer_id]

    def _next_turn(self) -> None:
        while self._turns and len(self._searches) - len(self._turns) < MAX_RUNNING:
            self._begin(self._turns.popleft())

    def _begin(self, search: _Search) -> None:
        self.counters["searches"] += 1
        search.running = [
            store.find(search.peer_id, lambda packet: self._found(search, packet)).addTimeout(
                TIMEOUT, self._reactor
            )
            for store in self._stores
        ]
        for store, running in zip(self._stores, search.running, strict=True):
            running.addErrback(self._failed, store.name)
        DeferredList(search.running).addCallback(lambda _: self._over(search))

    def _found(self, search: _Search, packet: Packet) -> None:
        if self._stopped or self._searches.get(search.peer_id) is not search:
            return
        if search.newest is not None and search.newest.version() >= packet.version():
            if search.newest.version() > packet.version():
                self.counters["older_packet"] += 1
            return
        search.newest = packet
        self._learn(packet)
        if self._is_usable(search.peer_id):
            search.waiters.fire(None)

    def _failed(self, failure: Failure, name: str) -> None:
        if failure.check(DeferredTimeoutError):
            self.counters[f"{name}: search_timed_out"] += 1
        elif not failure.check(CancelledError):  # cancelled by us, or by the stop of the DHT node
            self._log.failure(
                "Searching {store} failed with an unexpected error (a bug)", failure, store=name
            )

    def _over(self, search: _Search) -> None:
        if self._stopped:
            return
        del self._searches[search.peer_id]
        if search.newest is not None:
            self.counters["found"] += 1
        self._hold(search.peer_id)
        search.waiters.fire(None)
        self._next_turn()

    def _is_held(self, peer_id: PeerId) -> bool:
        return self._holds.get(peer_id, (0.0, 0.0))[0] > self._reactor.seconds()

    def _hold(self, peer_id: PeerId) -> None:
        _, length = self._holds.pop(peer_id, (0.0, 0.0))
        length = FIRST_HOLD if self._is_usable(peer_id) else min(max(FIRST_HOLD, 2 * length), LONGEST_HOLD)
        self._holds[peer_id] = (self._reactor.seconds() + length, length)
        while len(self._holds) > MAX_HELD:
            del self._holds[next(iter(self._holds))]
