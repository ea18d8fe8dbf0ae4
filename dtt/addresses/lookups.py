"""
Look-ups of peers in the stores.

Rules (docs/protocol/addresses.md section 2): all stores are asked at once, and of all
packets the newest counts.  Whoever waits is told as soon as something is
usable; the search goes on, for what follows.  One search for an id at a time,
4 in all, each over within 10 s; others wait.  After a search an id is not
searched again for a while, ever longer if nothing was usable: a peer that has
published nothing must not cost a lookup in the DHT each time that its id is
heard.
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
from dtt.interfaces import PeerId

#: Seconds that a search may take (docs/protocol/records.md section 6: a read of the DHT).
TIMEOUT = 10.0

#: Searches at the same time, and those that wait for their turn (guess: a DHT
#: lookup is some 60 packets, and in a small DHT they all go to the same nodes;
#: the active and the passive view hold 35).
MAX_RUNNING = 4
MAX_WAITING = 64

#: Seconds before an id is searched again, doubling each time that nothing was
#: usable (guess: a peer that starts with us publishes within seconds).
FIRST_HOLD = 2.0
LONGEST_HOLD = 300.0

#: Ids whose searches are remembered (guess; about 100 kB).
MAX_HELD = 1024


@define(slots=True, eq=False)
class _Search:
    """
    @ivar waiting: those who want to know, each with a Deferred of its own.
    @ivar newest: the packet that counts so far.
    @ivar running: one for each store; empty: its turn has not come.
    """

    peer_id: PeerId
    waiting: dict[Deferred[None], None] = field(factory=dict)
    newest: Packet | None = None
    running: list[Deferred[None]] = field(factory=list)

    def tell(self) -> None:
        """
        Fire all who wait.
        """
        waiting, self.waiting = self.waiting, {}
        for each in waiting:
            # The callback of one may have cancelled another.
            if not each.called:
                each.callback(None)


class Lookups:
    """
    See the module's words.

    @ivar counters: C{"searches"}, C{"found"}, and what went wrong.
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
        @param learn: told of each packet that is newer than those before.
        @param is_usable: whether there is now something to dial.
        """
        self.counters = counters
        self._reactor = reactor
        self._stores = stores
        self._learn = learn
        self._is_usable = is_usable
        self._searches: dict[PeerId, _Search] = {}
        self._turns: deque[_Search] = deque()
        # The end of the hold, and its length; the oldest first.
        self._holds: dict[PeerId, tuple[float, float]] = {}
        self._stopped = False

    def find(self, peer_id: PeerId) -> Deferred[None] | None:
        """
        Search, or join the search that is under way.

        @return: C{None}: not now.  Else a Deferred of its own for each caller,
            which fires when something is usable or the search is over; when
            it is cancelled, a search that has begun goes on.
        """
        search = self._searches.get(peer_id)
        if search is None:
            if not self._stores or self._stopped or self._is_held(peer_id):
                return None
            if len(self._turns) >= MAX_WAITING:
                self.counters["too many searches"] += 1
                return None
            search = self._searches[peer_id] = _Search(peer_id)
            self._turns.append(search)
        waiting: Deferred[None] = Deferred(lambda waiting: self._left(search, waiting))
        search.waiting[waiting] = None
        self._next_turn()
        return waiting

    def stop(self) -> None:
        """
        End all searches; who waits is told.
        """
        self._stopped = True
        self._turns.clear()
        for search in tuple(self._searches.values()):
            for running in tuple(search.running):
                running.cancel()
            search.tell()
        self._searches.clear()

    def _left(self, search: _Search, waiting: Deferred[None]) -> None:
        search.waiting.pop(waiting, None)
        if not search.waiting and search in self._turns:
            self._turns.remove(search)
            del self._searches[search.peer_id]

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
                self.counters["older packet"] += 1
            return
        search.newest = packet
        self._learn(packet)
        if self._is_usable(search.peer_id):
            search.tell()

    def _failed(self, failure: Failure, name: str) -> None:
        if failure.check(DeferredTimeoutError):
            self.counters[f"{name}: search timed out"] += 1
        elif not failure.check(CancelledError):  # by us, or by the end of the DHT node
            self._log.failure("a search of {store} failed in an unexpected way", failure, store=name)

    def _over(self, search: _Search) -> None:
        if self._stopped:
            return
        del self._searches[search.peer_id]
        if search.newest is not None:
            self.counters["found"] += 1
        self._hold(search.peer_id)
        search.tell()
        self._next_turn()

    def _is_held(self, peer_id: PeerId) -> bool:
        return self._holds.get(peer_id, (0.0, 0.0))[0] > self._reactor.seconds()

    def _hold(self, peer_id: PeerId) -> None:
        _, length = self._holds.pop(peer_id, (0.0, 0.0))
        length = FIRST_HOLD if self._is_usable(peer_id) else min(max(FIRST_HOLD, 2 * length), LONGEST_HOLD)
        self._holds[peer_id] = (self._reactor.seconds() + length, length)
        while len(self._holds) > MAX_HELD:
            del self._holds[next(iter(self._holds))]
