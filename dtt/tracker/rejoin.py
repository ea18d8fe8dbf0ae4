"""
Joins former neighbours again whose connections have died.

When a machine's network changes, all its connections die at once.  The former neighbours still exist, and
joining them is faster than a search.  If both sides are behind NATs, both must dial at the same time, but the
other side does not know the new address.  It learns the address from a common neighbour, if there is one;
otherwise it finds the address in the stores, where the member that has moved publishes it at once.

A member whose network is gone comes back later, usually at the same address, and then looks for us at once.
Until then, one probe now and then keeps our NAT open for it.  If it comes back at another address, our NAT
lets nothing in from there before we have sent something.  A member that is alone has nobody to tell it.  It
therefore asks two of the nodes that store the signed packet of a former neighbour every few seconds: it reads
the slots less often.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from attrs import define
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from dtt.deferreds import abandon, cancel_if_active
from dtt.errors import TopicLeft
from dtt.interfaces import GossipMessage, IAddressBook, IGossip, PeerId
from dtt.net.networks import Scope, scope
from dtt.wire.addresses import Address, PeerAddress

#: Seconds before each attempt to join a former neighbour again, after the previous one (guess: a
#: member that has moved notices it within 8 s, and publishes its new address within 2 s; a
#: dial lasts some seconds).
PAUSES: Final = (0.0, 2.5, 4.0, 6.0, 8.0, 12.0, 20.0)

#: Seconds between two probes of a former neighbour after these attempts, and for how long they go on
#: (guesses: less than the 30 s for which a NAT keeps a mapping that was not answered; a machine that sleeps).
KEEP_OPEN_EVERY: Final = 28.0
KEEP_OPEN_FOR: Final = 2 * 3600.0

#: Seconds between two looks at the packet of a former neighbour after these attempts (guess: a member that
#: is back has stored its packet within 5 s, and is to be joined within 10 s).
PEEK_EVERY: Final = 4.5

#: Former neighbours that are remembered, the latest (the default number of neighbours).
MAX_LOST: Final = 5


@define(slots=True, eq=False)
class _Lost:
    """
    A former neighbour.

    @ivar since: when its connection died.
    @ivar addresses: its global addresses then.
    @ivar tries: the number of attempts to join it.
    @ivar next: the next one, or the next probe.
    """

    since: float
    addresses: tuple[Address, ...]
    tries: int = 0
    next: IDelayedCall | None = None


class Rejoiner:
    """
    Joins the former neighbours of a topic whose connections have died: each at its new
    address as soon as it is known, several times within a minute.
    """

    def __init__(
        self,
        clock: IReactorTime,
        gossip: IGossip,
        book: IAddressBook,
        keep_open: Callable[[PeerId, Sequence[Address]], object],
    ) -> None:
        """
        @param clock: schedules the attempts.
        @param gossip: the gossip of the topic.
        @param book: looks for new addresses.
        @param keep_open: sends one probe to each of a peer's addresses.
        """
        self._clock = clock
        self._gossip = gossip
        self._book = book
        self._keep_open = keep_open
        self._peek: IDelayedCall | None = None
        self._peeks = 0
        self._lost: OrderedDict[PeerId, _Lost] = OrderedDict()

    def stop(self) -> None:
        """
        Stop joining former neighbours.
        """
        for peer_id in tuple(self._lost):
            self._forget(peer_id)

    def neighbor_up(self, peer_id: PeerId) -> None:
        """
        Forget C{peer_id}.
        """
        self._forget(peer_id)

    def neighbor_down(self, peer_id: PeerId) -> None:
        """
        Do nothing: L{link_broken} reports the reason.
        """

    def message_received(self, message: GossipMessage) -> None:
        """
        Do nothing.
        """

    def link_broken(self, peer_id: PeerId, reason: str, unconfirmed: int) -> None:
        """
        Start looking for a neighbour whose connection broke: it has not left.
        """
        if reason == "silent":
            self._forget(peer_id)
            lost = self._lost[peer_id] = _Lost(self._clock.seconds(), self._addresses(peer_id))
            self._schedule(peer_id, lost)
            if self._peek is None:
                self._peek = self._clock.callLater(PEEK_EVERY, self._peek_next)
            if len(self._lost) > MAX_LOST:
                self._forget(next(iter(self._lost)))

    def broadcast_unheard(self) -> None:
        """
        Do nothing.
        """

    def peer_moved(self, peer_id: PeerId) -> None:
        """
        Join C{peer_id} if it is lost: a member has reported another address of it.
        """
        if peer_id in self._lost:
            # Not now: the address is not stored yet.
            self._clock.callLater(0, self._join, peer_id)

    def _addresses(self, peer_id: PeerId) -> tuple[Address, ...]:
        found: list[Address] = []
        resolving = self._book.resolve(peer_id)
        if resolving.called:
            resolving.addCallback(found.extend)
        else:
            abandon(resolving)
        direct = (each for each in found if isinstance(each, PeerAddress))
        return tuple(each for each in direct if scope(each.host) is Scope.GLOBAL)

    def _schedule(self, peer_id: PeerId, lost: _Lost) -> None:
        pause = PAUSES[lost.tries] if lost.tries < len(PAUSES) else KEEP_OPEN_EVERY
        lost.next = self._clock.callLater(pause, self._try, peer_id, lost)

    def _try(self, peer_id: PeerId, lost: _Lost) -> None:
        if self._clock.seconds() - lost.since > KEEP_OPEN_FOR:
            self._forget(peer_id)
            return
        lost.tries += 1
        self._schedule(peer_id, lost)
        if lost.tries > len(PAUSES):
            self._keep_open(peer_id, lost.addresses)
            return
        # In parallel with the search: its address may be unchanged, if we have moved.
        self._book.refresh(peer_id)
        self._join(peer_id)

    def _peek_next(self) -> None:
        """
        If we are alone, look for a new address of one former neighbour, of each in turn.
        """
        late = [peer_id for peer_id, lost in self._lost.items() if lost.tries >= len(PAUSES)]
        if late and not self._gossip.neighbors():
            self._book.peek(late[self._peeks % len(late)])
            self._peeks += 1
        self._peek = self._clock.callLater(PEEK_EVERY, self._peek_next) if self._lost else None

    def _join(self, peer_id: PeerId) -> None:
        if peer_id not in self._gossip.neighbors():
            with suppress(TopicLeft):
                self._gossip.join((peer_id,))

    def _forget(self, peer_id: PeerId) -> None:
        lost = self._lost.pop(peer_id, None)
        if lost is not None:
            cancel_if_active(lost.next)
        if not self._lost:
            cancel_if_active(self._peek)
            self._peek = None
