"""
Questions to members for others of their part of the swarm (docs/protocol/gossip.md
section 19).
"""

from __future__ import annotations

from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from dtt.deferreds import cancel_if_active
from dtt.interfaces import PeerId

#: Seconds for a dial and the answer (guess: a dial takes 5 s at most, an answer one round trip).
TIMEOUT: Final = 8.0


class Comparisons:
    """
    The questions that have not been answered yet, one for each peer.
    """

    def __init__(self, clock: IReactorTime) -> None:
        """
        @param clock: schedules the timeouts.
        """
        self._clock = clock
        self._waiting: dict[PeerId, Deferred[tuple[PeerId, ...] | None]] = {}

    def wait(self, peer: PeerId) -> Deferred[tuple[PeerId, ...] | None]:
        """
        Return a Deferred that fires with the answer of C{peer}, and with C{None} if there
        is none.  An earlier one for the same peer fires with C{None}.
        """
        self.failed(peer)
        timeout = self._clock.callLater(TIMEOUT, self.failed, peer)

        def over(result: tuple[PeerId, ...] | None) -> tuple[PeerId, ...] | None:
            cancel_if_active(timeout)
            if self._waiting.get(peer) is waiting:
                del self._waiting[peer]
            return result

        waiting: Deferred[tuple[PeerId, ...] | None] = Deferred()
        self._waiting[peer] = waiting
        return waiting.addBoth(over)

    def answered(self, peer: PeerId, peers: tuple[PeerId, ...]) -> None:
        """
        Fire what waits for C{peer}.
        """
        self._fire(peer, peers)

    def failed(self, peer: PeerId) -> None:
        """
        Fire what waits for C{peer} with C{None}.
        """
        self._fire(peer, None)

    def stop(self) -> None:
        """
        Fire everything that waits with C{None}.
        """
        for peer in tuple(self._waiting):
            self.failed(peer)

    def _fire(self, peer: PeerId, result: tuple[PeerId, ...] | None) -> None:
        waiting = self._waiting.pop(peer, None)
        if waiting is not None and not waiting.called:
            waiting.callback(result)
