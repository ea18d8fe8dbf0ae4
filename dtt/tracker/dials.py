"""
Joins the members that were found, with limited concurrency.

Rules: publishers come before members known from hearsay, and both are joined in
random order; each member is joined once per round; a few are joined
concurrently, further ones one at a time.  Thus a publisher that does not answer does not delay others, and a
slot full of forged records does not make us dial all of them at once.  An id without an address that may be
dialled now does not count against the limit: if its address is found later, it is joined then
(docs/protocol/latency.md section 3, item 2).
"""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from dtt.deferreds import cancel_if_active
from dtt.errors import TopicLeft
from dtt.interfaces import IAddressBook, IGossip

#: Members that are joined concurrently; further ones follow one at a time.  Guess:
#: one less than the size of HyParView's active view.
BURST: Final = 4

#: The maximum number of waiting publishers, and of waiting members from hearsay.
#: More occur only in slots full of forged records, and later reads find them
#: again (guess).
MAX_WAITING: Final = 256


class Dials:
    """
    The queue of members to join.

    @ivar began: whether a member was joined in this round.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        rng: Random,
        gossip: IGossip,
        book: IAddressBook,
        interval: float,
        finds_peers: bool = False,
    ) -> None:
        """
        @param rng: shuffles the members.
        @param gossip: joins them.
        @param book: resolves their addresses.
        @param interval: seconds between two members, once L{BURST} have been
            joined.
        @param finds_peers: whether members can be dialled without an address.
        """
        self.began = False
        self._reactor = reactor
        self._rng = rng
        self._gossip = gossip
        self._book = book
        self._interval = interval
        self._finds_peers = finds_peers
        self._publishers: list[bytes] = []
        self._hearsay: list[bytes] = []
        self._round: set[bytes] = set()
        self._looked_up: dict[bytes, Deferred[Any]] = {}
        # When a token bucket of BURST tokens would be full again.
        self._full_at = reactor.seconds()
        self._timer: IDelayedCall | None = None

    def next_round(self) -> None:
        """
        Begin a new round.  Members may be joined again once the queue is empty.
        """
        self.began = False
        if not self._publishers and not self._hearsay:
            self._round.clear()

    def add(self, publishers: Iterable[bytes], hearsay: Iterable[bytes] = ()) -> None:
        """
        Queue these peer ids, except those that were queued in this round.

        @param publishers: members that have published a record.
        @param hearsay: members that other members' records name.
        """
        for peers, waiting in ((publishers, self._publishers), (hearsay, self._hearsay)):
            new = [peer for peer in peers if peer not in self._round]
            self._rng.shuffle(new)
            self._round.update(new)
            waiting += new
            del waiting[MAX_WAITING:]
        self._join_waiting()

    def stop(self) -> None:
        """
        Clear the queue, and cancel the resolution of addresses.
        """
        self._publishers.clear()
        self._hearsay.clear()
        self.next_round()
        cancel_if_active(self._timer)
        self._timer = None
        for looked_up in tuple(self._looked_up.values()):
            looked_up.cancel()

    def _join_waiting(self) -> None:
        if self._timer is not None:
            return
        while (waiting := self._publishers or self._hearsay) and not self._gossip.neighbors():
            now = self._reactor.seconds()
            wait = self._full_at - (BURST - 1) * self._interval - now
            if wait > 0:
                self._timer = self._reactor.callLater(wait, self._tick)
                return
            if self._is_dialable(peer := waiting.pop(0)):
                self._full_at = max(self._full_at, now) + self._interval
                self._join(peer)

    def _tick(self) -> None:
        self._timer = None
        self._join_waiting()

    def _join(self, peer: bytes) -> None:
        self.began = True
        try:
            self._gossip.join((peer,))
        except TopicLeft:  # an event sink that was notified of a record may have left the topic
            self.stop()

    def _is_dialable(self, peer: bytes) -> bool:
        """
        Return whether C{peer} can be dialled now.  If its address must be looked
        up first, C{peer} is joined when the address is found, if there is still
        no neighbour.
        """
        if self._finds_peers:
            return True
        if peer in self._looked_up:
            return False
        synchronous = True
        dialable = False

        def found(addresses: tuple[Any, ...]) -> None:
            nonlocal dialable
            self._looked_up.pop(peer, None)
            if synchronous:
                dialable = bool(addresses)
            elif addresses and not self._gossip.neighbors():
                self._join(peer)

        def failed(failure: Any) -> None:
            self._looked_up.pop(peer, None)
            failure.trap(CancelledError)

        resolving = self._looked_up[peer] = self._book.resolve(peer)
        resolving.addCallback(found).addErrback(failed)
        synchronous = False
        return dialable
