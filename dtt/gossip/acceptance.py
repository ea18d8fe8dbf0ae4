"""
The application's decisions about which peers a topic accepts.

Rules (docs/protocol/gossip.md section 18): the application is asked about a peer before
it is dialled or remembered, and when it connects or sends something without being a
neighbour; never from within the state machine, which sees only the refusals.  A refusal
counts for ten minutes, in which the application is not asked again.  An acceptance is
not remembered.  Any result other than C{True}, and any exception, is a refusal.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from typing import Final

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from dtt.arguments import truth_of
from dtt.gossip.proto.messages import ForwardJoin, Message, Shuffle, ShuffleReply
from dtt.identity import is_valid_peer_id
from dtt.interfaces import PeerId
from dtt.net.bounded import make_room

#: Seconds for which a refusal counts.
REFUSED_FOR: Final = 600.0

#: Refused peers that are remembered; the oldest are forgotten first (guess: more than
#: swarms have).
MAX_REFUSED: Final = 4096


def named_in(message: Message) -> tuple[PeerId, ...]:
    """
    Return the peers that a message names, its sender excluded.
    """
    match message:
        case ForwardJoin(peer=peer):
            return (peer.peer_id,)
        case Shuffle(origin=origin, nodes=nodes):
            return (origin, *(node.peer_id for node in nodes))
        case ShuffleReply(nodes=nodes):
            return tuple(node.peer_id for node in nodes)
        case _:
            return ()


class Acceptance:
    """
    The decisions of an application about the peers of one topic.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, accept: Callable[[PeerId], bool], counters: Counter[str]) -> None:
        """
        @param clock: tells the time.
        @param accept: returns whether a peer, 32 bytes, is accepted.
        @param counters: counts C{peers_refused}: the refusals.
        """
        self._clock = clock
        self._accept = accept
        self._counters = counters
        self._refused: OrderedDict[PeerId, float] = OrderedDict()

    def is_refused(self, peer: PeerId) -> bool:
        """
        Return whether a peer was refused recently, without asking.
        """
        return self._refused.get(peer, 0.0) > self._clock.seconds()

    def is_usable(self, peer: PeerId) -> bool:
        """
        Return whether 32 bytes can be the id of a peer, and were not refused recently.
        """
        return is_valid_peer_id(peer) and not self.is_refused(peer)

    def ask(self, peers: Iterable[PeerId]) -> None:
        """
        Ask about peers that were not refused recently.
        """
        for peer in dict.fromkeys(peers):
            if not self.is_refused(peer):
                self._ask(peer)

    def _ask(self, peer: PeerId) -> None:
        accepted = False
        try:
            accepted = truth_of("accept", self._accept(peer))
        except Exception:
            self._log.failure("{peer} is refused: the topic's accept function failed", peer=peer.hex()[:10])
        if not accepted:
            now = self._clock.seconds()
            self._counters["peers_refused"] += 1
            self._refused.pop(peer, None)
            make_room(self._refused, now, MAX_REFUSED)
            self._refused[peer] = now + REFUSED_FOR
