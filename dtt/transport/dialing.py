"""
Dials: several addresses of one peer side by side, one result.

Rules (RFC 8305, "Happy Eyeballs"; docs/protocol/streams.md section 4): an address is
tried 250 ms after the one before it, or as soon as that one has failed; the
first authenticated connection wins and the other attempts are cancelled.  A
dial ends within 10 s.  Whoever dials a peer that is being dialled joins that
dial, and adds the addresses that it does not know yet.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from dtt.deferreds import cancel_if_active
from dtt.errors import DialFailed
from dtt.interfaces import PeerId
from dtt.wire.addresses import MAX_ADDRESSES

#: Seconds between two attempts (RFC 8305 section 8, Connection Attempt Delay).
ATTEMPT_DELAY = 0.25

#: Seconds that a dial may take (docs/protocol/streams.md section 1: the handshake's bound).
DIAL_TIMEOUT = 10.0

#: Peers dialled at the same time (guess; the active and passive view hold 35).
MAX_DIALS = 32


#: What one attempt is made at: usually an address.
A = TypeVar("A", bound=Hashable)


@define(slots=True, eq=False)
class _Dial(Generic[A]):
    """
    @ivar todo: addresses not tried yet, in order.
    @ivar running: attempts under way.
    @ivar reasons: why attempts failed, each once.
    """

    peer_id: PeerId
    timeout: IDelayedCall
    known: list[A] = field(factory=list)
    todo: list[A] = field(factory=list)
    running: list[Deferred[None]] = field(factory=list)
    callers: list[Deferred[None]] = field(factory=list)
    reasons: list[str] = field(factory=list)
    next_attempt: IDelayedCall | None = None
    done: bool = False

    def fail_reason(self, reason: str) -> str:
        """
        All reasons so far, C{reason} among them.
        """
        if reason not in self.reasons:
            self.reasons.append(reason)
        return ", ".join(self.reasons)


class Dials(Generic[A]):
    """
    The running dials of a transport.

    @param attempt: connects to a peer at one address; fires once it is
        authenticated, fails with L{DialFailed}, can be cancelled.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, attempt: Callable[[PeerId, A], Deferred[None]]) -> None:
        self._clock = clock
        self._attempt = attempt
        self._dials: dict[PeerId, _Dial[A]] = {}

    def dial(self, peer_id: PeerId, addresses: Sequence[A]) -> Deferred[None]:
        """
        Fires when C{peer_id} is connected; a Deferred of its own for each
        caller.  The dial ends when all of them are cancelled.
        """
        dial = self._dials.get(peer_id)
        if dial is None:
            if not addresses:
                return fail(DialFailed("no address"))
            if len(self._dials) >= MAX_DIALS:
                return fail(DialFailed("too many dials"))
            dial = _Dial(peer_id, self._clock.callLater(DIAL_TIMEOUT, self._timed_out, peer_id))
            self._dials[peer_id] = dial
        new = [a for a in dict.fromkeys(addresses) if a not in dial.known]
        new = new[: MAX_ADDRESSES - len(dial.known)]
        dial.known += new
        dial.todo += new
        result: Deferred[None] = Deferred(lambda result: self._left(dial, result))
        dial.callers.append(result)
        if dial.next_attempt is None:
            self._next(dial)
        return result

    def connected(self, peer_id: PeerId) -> None:
        """
        There is an authenticated connection to C{peer_id}, whoever opened it.
        """
        for caller in self._end(peer_id):
            # The callback of one may have cancelled another.
            if not caller.called:
                caller.callback(None)

    def stop(self) -> None:
        """
        Fail all dials.
        """
        for peer_id in tuple(self._dials):
            self._failed(peer_id, "stopped")

    def _next(self, dial: _Dial[A]) -> None:
        """
        Start the next attempt, if there is one.
        """
        cancel_if_active(dial.next_attempt)
        dial.next_attempt = None
        if dial.done:
            return
        if not dial.todo:
            if not dial.running:
                self._failed(dial.peer_id, ", ".join(dial.reasons))
            return
        # Set before the attempt: it may fail at once and come back here.
        dial.next_attempt = self._clock.callLater(ATTEMPT_DELAY, self._next, dial)
        attempt = self._attempt(dial.peer_id, dial.todo.pop(0))
        dial.running.append(attempt)
        attempt.addCallbacks(
            lambda _: self.connected(dial.peer_id),
            lambda failure: self._attempt_failed(dial, attempt, failure),
        )

    def _attempt_failed(self, dial: _Dial[A], attempt: Deferred[None], failure: Failure) -> None:
        if dial.done:
            return
        if isinstance(failure.value, DialFailed):
            dial.fail_reason(failure.getErrorMessage())
        else:
            self._log.failure("an attempt to connect failed in an unexpected way", failure)
            dial.fail_reason("internal error")
        dial.running.remove(attempt)
        self._next(dial)

    def _failed(self, peer_id: PeerId, reason: str) -> None:
        for caller in self._end(peer_id):
            if not caller.called:
                caller.errback(DialFailed(reason))

    def _timed_out(self, peer_id: PeerId) -> None:
        self._failed(peer_id, self._dials[peer_id].fail_reason("timed out"))

    def _left(self, dial: _Dial[A], result: Deferred[None]) -> None:
        """
        A caller has cancelled.
        """
        if result in dial.callers:
            dial.callers.remove(result)
        if not dial.callers:
            self._end(dial.peer_id, dial)

    def _end(self, peer_id: PeerId, only: _Dial[A] | None = None) -> list[Deferred[None]]:
        dial = self._dials.get(peer_id)
        if dial is None or only not in (None, dial):
            return []
        del self._dials[peer_id]
        dial.done = True
        for call in (dial.timeout, dial.next_attempt):
            cancel_if_active(call)
        for attempt in tuple(dial.running):
            attempt.cancel()
        callers, dial.callers = dial.callers, []
        return callers
