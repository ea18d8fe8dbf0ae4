"""
Tracks whether the contents that peers announce arrive when we request them.  Pure.

Rules (docs/protocol/gossip.md section 7.1): a peer may have a limited number of our requests unanswered; the
limit grows when announced contents arrive.  If an announced content has not arrived from anyone some time
after we requested it, the requested peers get a debt; so does a peer that sends a content that does not match
its id. Contents that a peer delivers or correctly announces pay its debts off. Thus losses and delays, which
affect some of many contents, do not break a link, but announcements that never arrive do.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Final

#: Unanswered requests to one peer: at first, and at most, once as many contents that it announced
#: have come.  Further ones wait.  Guess: at first more than a swarm announces within a round trip
#: (100 ms at 2500 messages a second), at most ten times that.
FIRST_REQUESTS: Final = 256
MAX_REQUESTS: Final = 2560

#: Unanswered requests to a peer that is no longer pushed to (guess).
DEBTOR_REQUESTS: Final = 16

#: Announcements of one peer that wait until we may request them; further ones are dropped.
MAX_WAITING: Final = 8192

#: Evictions (one a second) after which a content that we have asked for is overdue.  Guess: longer
#: than a peer may leave data unread before its connection ends.  Counted in timer events and not
#: in seconds: when our own process was suspended, answers are still on the way.
PATIENCE: Final = 15

#: The debt of one content that does not match its id: no honest member forwards one.
SPOOFED: Final = 16

#: The debt from which on a peer is no longer pushed to, and the debt from which on it is no
#: neighbour.  Guess: with a loss of one message in ten, a peer pays four debts for each it makes.
DEBT_EAGER: Final = 32
DEBT_NEIGHBOR: Final = 64

#: Peers whose debts are remembered, also after they have gone; the oldest are forgotten first.
MAX_DEBTORS: Final = 256


class Promises:
    """
    The contents that we have requested, and the debts of peers.
    """

    __slots__ = ("_asked", "_debts", "_kept", "_ticks", "_unanswered", "_waiting")

    def __init__(self) -> None:
        self._ticks = 0
        # The peers that were asked for a content, and the tick at which it is overdue.
        self._asked: OrderedDict[bytes, tuple[int, tuple[bytes, ...]]] = OrderedDict()
        self._unanswered: dict[bytes, int] = {}
        self._waiting: dict[bytes, deque[tuple[bytes, int]]] = {}
        self._kept: OrderedDict[bytes, int] = OrderedDict()
        self._debts: OrderedDict[bytes, int] = OrderedDict()

    def __len__(self) -> int:
        """
        Return the number of requested contents.
        """
        return len(self._asked)

    def ask(self, peer: bytes, identity: bytes, hops: int) -> bool:
        """
        Return whether to request a content from C{peer} now, and record it.  Otherwise it waits.

        @param identity: its message id (32 bytes).
        @param hops: the round of its announcement.
        """
        if not self._may_ask(peer):
            waiting = self._waiting.setdefault(peer, deque())
            if len(waiting) < MAX_WAITING:
                waiting.append((identity, hops))
            return False
        overdue, peers = self._asked.get(identity, (self._ticks + PATIENCE, ()))
        self._asked[identity] = (overdue, (*peers, peer))
        self._unanswered[peer] = self._unanswered.get(peer, 0) + 1
        return True

    def next_waiting(self, peer: bytes) -> tuple[bytes, int] | None:
        """
        Remove and return the next id and round that waits for C{peer}; C{None} if there is none, or if it
        must still wait.
        """
        waiting = self._waiting.get(peer)
        if waiting is None or not self._may_ask(peer):
            return None
        entry = waiting.popleft()
        if not waiting:
            del self._waiting[peer]
        return entry

    def came(self, identity: bytes, sender: bytes, announcers: dict[bytes, int]) -> tuple[bytes, ...]:
        """
        Record that a content has come.

        @param sender: the peer that has sent it.
        @param announcers: peers that had announced it and were not asked yet.
        @return: the peers that were asked for it.
        """
        if self._debts:
            self._pay(sender)
        if not self._asked and not announcers:
            return ()
        _, peers = self._asked.pop(identity, (0, ()))
        for peer in (*peers, *announcers):
            self._kept[peer] = min(self._kept.get(peer, 0) + 1, MAX_REQUESTS)
            self._pay(peer)
        while len(self._kept) > MAX_DEBTORS:
            self._kept.popitem(last=False)
        for peer in peers:
            self._answered(peer)
        return peers

    def spoofed(self, peer: bytes) -> None:
        """
        Record that C{peer} has sent a content that does not match its id.
        """
        self._owe(peer, SPOOFED)

    def tick(self) -> list[bytes]:
        """
        Record that a second has passed, and return the peers that owe us a content since
        now, each once for each.
        """
        self._ticks += 1
        debtors: list[bytes] = []
        while self._asked:
            identity = next(iter(self._asked))
            overdue, peers = self._asked[identity]
            if overdue > self._ticks:
                break
            del self._asked[identity]
            for peer in peers:
                self._answered(peer)
                self._owe(peer, 1)
                self._kept.pop(peer, None)
            debtors += peers
        return debtors

    def debt(self, peer: bytes) -> int:
        """
        Return the debt of C{peer}.
        """
        return self._debts.get(peer, 0)

    def forget_peer(self, peer: bytes) -> None:
        """
        Stop requesting contents from C{peer}.  Its debt is remembered.
        """
        self._waiting.pop(peer, None)
        self._kept.pop(peer, None)
        if peer not in self._unanswered:
            return
        for identity, (overdue, peers) in tuple(self._asked.items()):
            if peer in peers:
                others = tuple([other for other in peers if other != peer])
                if others:
                    self._asked[identity] = (overdue, others)
                else:
                    del self._asked[identity]
        del self._unanswered[peer]

    def clear(self) -> None:
        """
        Forget everything.
        """
        for table in (self._asked, self._unanswered, self._waiting, self._kept, self._debts):
            table.clear()

    def _may_ask(self, peer: bytes) -> bool:
        limit = min(FIRST_REQUESTS + self._kept.get(peer, 0), MAX_REQUESTS)
        if self.debt(peer) >= DEBT_EAGER:
            limit = DEBTOR_REQUESTS
        return self._unanswered.get(peer, 0) < limit

    def _answered(self, peer: bytes) -> None:
        if (count := self._unanswered[peer] - 1) > 0:
            self._unanswered[peer] = count
        else:
            del self._unanswered[peer]

    def _owe(self, peer: bytes, debt: int) -> None:
        self._debts[peer] = self._debts.pop(peer, 0) + debt
        if len(self._debts) > MAX_DEBTORS:
            self._debts.popitem(last=False)

    def _pay(self, peer: bytes) -> None:
        debt = self._debts.get(peer)
        if debt is None:
            return
        if debt > 1:
            self._debts[peer] = debt - 1
        else:
            del self._debts[peer]
