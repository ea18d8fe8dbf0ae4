"""
Dials: several addresses of one peer attempted concurrently, with one result.

Rules (RFC 8305, "Happy Eyeballs"; docs/protocol/streams.md section 4): each address is
tried 250 ms after the previous one, or as soon as the previous attempt has failed; the
first authenticated connection wins and the other attempts are cancelled.  A dial takes
at most 10 s.  A second caller that dials the same peer joins the dial in progress and
adds its new addresses to it.
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
from dtt.errors import DialFailed, NoRoom
from dtt.interfaces import PeerId
from dtt.wire.addresses import MAX_ADDRESSES

#: Seconds between the starts of two attempts (RFC 8305 section 8, Connection Attempt Delay).
ATTEMPT_DELAY = 0.25

#: Seconds until a dial fails (docs/protocol/streams.md section 1: the handshake's limit).
DIAL_TIMEOUT = 10.0

#: Peers dialled concurrently (guess: a member with a hundred topics that starts dials some hundred).
MAX_DIALS = 128


#: The target of one attempt: usually an address.
A = TypeVar("A", bound=Hashable)


@define(slots=True, eq=False)
class _Dial(Generic[A]):
    """
    The state of one dial.

    @ivar peer_id: the peer (32 bytes).
    @ivar timeout: fails the dial.
    @ivar known: all addresses of the dial.
    @ivar todo: addresses not tried yet, in order.
    @ivar running: attempts in progress.
    @ivar callers: the Deferreds returned to callers.
    @ivar reasons: why attempts failed, without duplicates.
    @ivar next_attempt: starts the next attempt.
    @ivar done: whether the dial has ended.
    """

    peer_id: PeerId
    timeout: IDelayedCall
    known: list[A] = field(factory=list, init=False)
    todo: list[A] = field(factory=list, init=False)
    running: list[Deferred[None]] = field(factory=list, init=False)
    callers: list[Deferred[None]] = field(factory=list, init=False)
    reasons: list[str] = field(factory=list, init=False)
    next_attempt: IDelayedCall | None = field(default=None, init=False)
    done: bool = field(default=False, init=False)

    def fail_reason(self, reason: str) -> str:
        """
        Add C{reason} and return all reasons so far, separated by commas.
        """
        if reason not in self.reasons:
            self.reasons.append(reason)
        return ", ".join(self.reasons)


class Dials(Generic[A]):
    """
    The dials in progress of one transport.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, attempt: Callable[[PeerId, A], Deferred[None]]) -> None:
        """
        @param clock: schedules attempts and timeouts.
        @param attempt: connects to a peer at one address.  Its Deferred fires once the
            peer is authenticated, fails with L{DialFailed}, and can be cancelled.
        """
        self._clock = clock
        self._attempt = attempt
        self._dials: dict[PeerId, _Dial[A]] = {}

    def is_full(self, peer_id: PeerId) -> bool:
        """
        Return whether C{peer_id} is not dialled because too many others are.
        """
        return len(self._dials) >= MAX_DIALS and peer_id not in self._dials

    def is_dialling(self, peer_id: PeerId) -> bool:
        """
        Return whether C{peer_id} is being dialled.
        """
        return peer_id in self._dials

    def dial(self, peer_id: PeerId, addresses: Sequence[A]) -> Deferred[None]:
        """
        Dial C{peer_id}, or join the dial in progress.

        @param peer_id: the peer (32 bytes).
        @param addresses: the addresses to try, in order; a dial uses at most 12.
        @return: a separate Deferred for each caller, which fires when the peer is
            connected and fails with L{DialFailed}; with L{NoRoom} if too many are being dialled, which is not
            a fault of this peer.  The dial is cancelled once all callers have cancelled.
        """
        dial = self._dials.get(peer_id)
        if dial is None:
            if not addresses:
                return fail(DialFailed("no address"))
            if self.is_full(peer_id):
                return fail(NoRoom("too many dials"))
            dial = _Dial(peer_id, self._clock.callLater(DIAL_TIMEOUT, self._timed_out, peer_id))
            self._dials[peer_id] = dial
        new = [a for a in dict.fromkeys(addresses) if a not in dial.known]
        new = new[: MAX_ADDRESSES - len(dial.known)]
        dial.known += new
        dial.todo += new
        result: Deferred[None] = Deferred(lambda result: self._caller_cancelled(dial, result))
        dial.callers.append(result)
        if dial.next_attempt is None:
            self._next(dial)
        return result

    def restart(self, which: Callable[[A], bool]) -> None:
        """
        Try addresses of all dials in progress again, with a new time limit: the network has changed, and what
        was sent before may have been lost.  The attempts in progress continue.

        @param which: whether to try an address again.
        """
        for dial in tuple(self._dials.values()):
            again = [address for address in dial.known if address not in dial.todo and which(address)]
            if again:
                dial.timeout.reset(DIAL_TIMEOUT)
                dial.todo += again
                if dial.next_attempt is None:
                    self._next(dial)

    def connected(self, peer_id: PeerId) -> bool:
        """
        Fire the dial of C{peer_id}: an authenticated connection exists, opened by
        either side.

        @return: whether the peer was being dialled.
        """
        callers = self._end(peer_id)
        for caller in callers:
            # An earlier callback may have cancelled this one.
            if not caller.called:
                caller.callback(None)
        return bool(callers)

    def stop(self) -> None:
        """
        Fail all dials.
        """
        for peer_id in tuple(self._dials):
            self._failed(peer_id, "stopped")

    def _next(self, dial: _Dial[A]) -> None:
        """
        Start the next attempt; fail the dial when no attempt is left.
        """
        cancel_if_active(dial.next_attempt)
        dial.next_attempt = None
        if dial.done:
            return
        if not dial.todo:
            if not dial.running:
                self._failed(dial.peer_id, ", ".join(dial.reasons))
            return
        # Schedule this first: the attempt may fail synchronously and re-enter this method.
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
            self._log.failure("unexpected error while connecting", failure)
            dial.fail_reason("internal error")
        dial.running.remove(attempt)
        self._next(dial)

    def _failed(self, peer_id: PeerId, reason: str) -> None:
        for caller in self._end(peer_id):
            if not caller.called:
                caller.errback(DialFailed(reason))

    def _timed_out(self, peer_id: PeerId) -> None:
        self._failed(peer_id, self._dials[peer_id].fail_reason("timed out"))

    def _caller_cancelled(self, dial: _Dial[A], result: Deferred[None]) -> None:
        """
        Remove a caller that has cancelled.
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
