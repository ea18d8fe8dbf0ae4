"""
Joining the members that were found, several at a time within a budget.

Rules: publishers go before those known from hearsay, and both in a random
order; a member is joined once a round; a few may be joined at once, further
ones one by one.  So a publisher that does not answer delays no other, and a
slot full of made-up records does not make us dial them all at the same moment.
An id without an address that may be dialled now takes no place: if its address
is found later, it is joined then (docs/protocol/latency.md section 3, item 2).
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

#: Members that are joined at once; further ones follow one by one.  Guess: one
#: less than the active view of HyParView has places.
AT_ONCE: Final = 4

#: Publishers that wait, and others: more are only in slots full of made-up
#: records, and are found again with a later read (guess).
MAX_WAITING: Final = 256


class Dials:
    """
    @ivar began: whether anybody was joined in this round.
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
        @param interval: seconds from one member to the next, once L{AT_ONCE}
            have been joined.
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
        # When a token bucket of AT_ONCE would be full again.
        self._full_at = reactor.seconds()
        self._timer: IDelayedCall | None = None

    def next_round(self) -> None:
        """
        Everybody may be joined once more, when all who wait have had their turn.
        """
        self.began = False
        if not self._publishers and not self._hearsay:
            self._round.clear()

    def add(self, publishers: Iterable[bytes], hearsay: Iterable[bytes] = ()) -> None:
        """
        Join these peer ids, unless they have been in this round.
        """
        for peers, waiting in ((publishers, self._publishers), (hearsay, self._hearsay)):
            new = [peer for peer in peers if peer not in self._round]
            self._rng.shuffle(new)
            self._round.update(new)
            waiting += new
            del waiting[MAX_WAITING:]
        self._go_on()

    def stop(self) -> None:
        """
        Join nobody any more.
        """
        self._publishers.clear()
        self._hearsay.clear()
        self.next_round()
        cancel_if_active(self._timer)
        self._timer = None
        for looked_up in tuple(self._looked_up.values()):
            looked_up.cancel()

    def _go_on(self) -> None:
        if self._timer is not None:
            return
        while (waiting := self._publishers or self._hearsay) and not self._gossip.neighbors():
            now = self._reactor.seconds()
            wait = self._full_at - (AT_ONCE - 1) * self._interval - now
            if wait > 0:
                self._timer = self._reactor.callLater(wait, self._tick)
                return
            if self._is_dialable(peer := waiting.pop(0)):
                self._full_at = max(self._full_at, now) + self._interval
                self._join(peer)

    def _tick(self) -> None:
        self._timer = None
        self._go_on()

    def _join(self, peer: bytes) -> None:
        self.began = True
        try:
            self._gossip.join((peer,))
        except TopicLeft:  # whoever is told of a record may have left
            self.stop()

    def _is_dialable(self, peer: bytes) -> bool:
        """
        Whether C{peer} can be dialled now.  If an address has to be looked up
        first, C{peer} is joined when it is found, if we are still alone.
        """
        if self._finds_peers:
            return True
        if peer in self._looked_up:
            return False
        at_once = True
        dialable = False

        def found(addresses: tuple[Any, ...]) -> None:
            nonlocal dialable
            self._looked_up.pop(peer, None)
            if at_once:
                dialable = bool(addresses)
            elif addresses and not self._gossip.neighbors():
                self._join(peer)

        def failed(failure: Any) -> None:
            self._looked_up.pop(peer, None)
            failure.trap(CancelledError)

        resolving = self._looked_up[peer] = self._book.resolve(peer)
        resolving.addCallback(found).addErrback(failed)
        at_once = False
        return dialable
