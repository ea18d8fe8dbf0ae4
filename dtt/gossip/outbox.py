"""
Outbox: sends one topic's messages to peers, and dials those that are not connected.

Rules (docs/protocol/gossip.md section 5): a message to a peer that is not connected
waits until the peer has been looked up and dialled, with one dial per peer at a time;
then everything that waits is sent in order.  A transport that finds peers by their ids
does not wait for a slow lookup: it dials by the id alone until the lookup yields
addresses.  Addresses that become known during a dial are added to it.  When the dial
fails the queue is dropped, and the next message dials again (docs/protocol/gossip.md
section 11, Q1).  Networks with many failed dials are not dialled (L{dtt.net.dial_budget}).  A request to end
the connection keeps its position in the queue.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred, FailureGroup, race
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.logger import Logger
from twisted.python.failure import Failure

from dtt.errors import DialFailed, NoRoom
from dtt.gossip.services import GossipServices
from dtt.interfaces import PeerId
from dtt.wire.addresses import Address

#: Messages that wait for one peer; further ones are dropped (docs/protocol/gossip.md section 1,
#: "send queue per connection").
MAX_QUEUE = 64

#: Peers that are looked up and dialled concurrently.  Guess: what the membership machine requests
#: at most (30), and a few Joins.
MAX_DIALS = 40

#: Seconds for a lookup before a transport that can do so searches for the peer itself (guess: most
#: lookups are answered immediately, from addresses named in a record).
RESOLVE_SHARE = 1.0


def _some(addresses: Sequence[Address]) -> Sequence[Address]:
    if not addresses:
        raise DialFailed("no address")
    return addresses


def _raise(group: FailureGroup) -> NoReturn:
    """
    Raise the reason for which all ways to reach a peer failed; errors that are not the
    peer's fault take precedence.
    """
    own = [failure for failure in group.failures if not failure.check(DialFailed)]
    if own:
        min(own, key=lambda failure: bool(failure.check(CancelledError))).raiseException()
    error = NoRoom if all(failure.check(NoRoom) for failure in group.failures) else DialFailed
    raise error(", ".join(dict.fromkeys(failure.getErrorMessage() for failure in group.failures)))


#: Seconds between two looks for further addresses of a peer that is being dialled (guess: a lone
#: member reads its slot as often).
LOOK_INTERVAL = 0.5


@define(slots=True, eq=False)
class _Dial:
    """
    @ivar queue: encoded messages; C{None} stands for a request to end the connection.
    @ivar running: the lookup and dial in progress.
    @ivar tried: the addresses that were dialled.
    @ivar further: the dial of addresses that became known meanwhile.
    @ivar looked: when such addresses were last looked for.
    """

    queue: list[bytes | None] = field(factory=list, repr=False)
    running: Deferred[bool] | None = None
    tried: Sequence[Address] = ()
    further: Deferred[None] | None = None
    looked: float = 0.0

    def end(self) -> None:
        """
        Cancel the dial of further addresses.
        """
        if self.further is not None:
            self.further.cancel()


class Outbox:
    """
    Sends one topic's messages.

    @ivar counters: dropped messages, by reason: C{send_queue_full}: too many waited for
        their peer; C{send_too_many_dials}: too many peers were being dialled, or the
        message was for a neighbour that is no longer connected; C{send_dial_failed}:
        the peer they waited for was not reached.
    """

    _log = Logger()

    def __init__(
        self,
        services: GossipServices,
        topic_id: bytes,
        on_started: Callable[[PeerId], None],
        on_reached: Callable[[PeerId], None],
        on_failed: Callable[[PeerId, str, bool, Sequence[Address]], None],
    ) -> None:
        """
        @param services: shared with the outboxes of other topics.
        @param topic_id: 32 bytes.
        @param on_started: called before a peer is looked up.
        @param on_reached: called when our dial of a peer has succeeded; its messages
            are sent afterwards.
        @param on_failed: called with a reason when our dial has failed, with whether that
            was for lack of connections and no fault of the peer, and with the addresses
            that were dialled.
        """
        self.counters: Counter[str] = Counter()
        self._reactor = services.reactor
        self._transport = services.transport
        self._book = services.book
        self._budget = services.dials
        self._timeout = services.timeouts.join_peer
        self._topic_id = topic_id
        self._on_started = on_started
        self._on_reached = on_reached
        self._on_failed = on_failed
        self._dials: dict[PeerId, _Dial] = {}
        self._stopped = False

    def send_connected(self, peer: PeerId, message: bytes) -> bool:
        """
        Send an encoded message if C{peer} is connected.

        @return: whether it is connected.
        """
        if self._dials and self._transport.is_connected(peer):
            self.connected(peer)
        return self._transport.send(peer, self._topic_id, message)

    def send(self, peer: PeerId, message: bytes, max_dials: int = MAX_DIALS) -> None:
        """
        Send an encoded message, and dial the peer if it is not connected.

        @param max_dials: dial only while fewer dials than this are in progress.
        """
        if self.send_connected(peer, message):
            return
        dial = self._dials.get(peer)
        if dial is not None:
            # A Join repeated during the dial carries no new information, and each one would be
            # forwarded through the swarm.
            if len(dial.queue) >= MAX_QUEUE:
                self.counters["send_queue_full"] += 1
            elif message not in dial.queue[-1:]:
                dial.queue.append(message)
            self._add_addresses(peer, dial)
        elif self._stopped or len(self._dials) >= max_dials:
            self.counters["send_too_many_dials"] += 1
        else:
            self._begin(peer, message)

    def disconnect(self, peer: PeerId) -> None:
        """
        End the topic's use of the connection, after everything sent before.
        """
        dial = self._dials.get(peer)
        if dial is None or self._transport.is_connected(peer):
            self.connected(peer)
            self._transport.disconnect(peer, self._topic_id)
        elif dial.queue and dial.queue[-1] is not None:
            dial.queue.append(None)

    def connected(self, peer: PeerId) -> None:
        """
        Send what waits for C{peer}: it is connected, whichever side dialled.
        """
        dial = self._dials.get(peer)
        if dial is not None:
            self._flush(peer, dial)

    def stop(self) -> None:
        """
        Cancel all dials, and dial no more.
        """
        self._stopped = True
        dials, self._dials = self._dials, {}
        for dial in dials.values():
            dial.end()
            if dial.running is not None:
                dial.running.cancel()

    def _add_addresses(self, peer: PeerId, dial: _Dial) -> None:
        """
        Let a dial in progress use addresses that have become known since it began, such as
        a port that the peer's router has mapped.
        """
        now = self._reactor.seconds()
        if not dial.tried or now < dial.looked + LOOK_INTERVAL:
            return
        dial.looked = now
        resolving = self._book.resolve(peer)
        if not resolving.called:  # nothing is known now
            resolving.addErrback(lambda failure: failure.trap(CancelledError))
            resolving.cancel()
            return
        resolving.addCallback(lambda found: self._dial_further(peer, dial, found))

    def _dial_further(self, peer: PeerId, dial: _Dial, found: Sequence[Address]) -> None:
        new = self._budget.take(
            [address for address in found if address not in dial.tried], self._reactor.seconds()
        )
        if not new:
            return
        dial.tried = (*dial.tried, *new)
        dial.end()
        # The transport adds them to its dial of this peer, which the first dial waits for.
        dial.further = self._transport.dial(peer, new, self._topic_id)
        dial.further.addErrback(lambda failure: failure.trap(DialFailed, CancelledError))

    def _flush(self, peer: PeerId, dial: _Dial) -> None:
        queue, dial.queue = dial.queue, []
        for message in queue:
            if message is None:
                self._transport.disconnect(peer, self._topic_id)
            else:
                self._transport.send(peer, self._topic_id, message)

    def _begin(self, peer: PeerId, message: bytes) -> None:
        dial = self._dials[peer] = _Dial([message])
        self._on_started(peer)
        running = Deferred.fromCoroutine(self._reach(peer))
        dial.running = running
        running.addTimeout(self._timeout, self._reactor).addCallbacks(
            lambda dialled: self._succeeded(peer, dial, dialled),
            lambda failure: self._failed(peer, dial, failure),
        ).addErrback(lambda failure: self._log.failure("unexpected error after a dial", failure))

    async def _reach(self, peer: PeerId) -> bool:
        """
        Look up and dial the peer; return whether we opened the connection.
        """
        resolving = self._book.resolve(peer)
        if not self._transport.finds_peers:
            return await self._dial(peer, await resolving)
        soon = resolving.addTimeout(RESOLVE_SHARE, self._reactor, lambda *_: None)
        addresses: Sequence[Address] | None = await soon
        if addresses is not None:
            return await self._dial(peer, addresses)
        # The lookup continues in the background; resolve() joins it.
        by_id = Deferred.fromCoroutine(self._dial(peer, ()))
        ways: list[Deferred[Any]] = [by_id, self._book.resolve(peer).addCallback(_some)]
        try:
            winner, result = await race(ways)
        except FailureGroup as group:
            _raise(group)
        # With addresses, the transport still searches by id as well.
        return result if ways[winner] is by_id else await self._dial(peer, result)

    async def _dial(self, peer: PeerId, addresses: Sequence[Address]) -> bool:
        if self._transport.is_connected(peer):
            return False
        if not addresses and not self._transport.finds_peers:
            # Not a failed dial, so no back-off (docs/protocol/addresses.md section 4).
            raise DialFailed("no address")
        allowed = self._budget.take(addresses, self._reactor.seconds())
        if addresses and not allowed and not self._transport.finds_peers:
            # Perhaps no fault of the peer, so no back-off.
            raise NoRoom("too many dials of its network")
        addresses = allowed
        if addresses and peer in self._dials:
            self._dials[peer].tried = addresses
        try:
            await self._transport.dial(peer, addresses, self._topic_id)
        except NoRoom:
            # No fault of the peer, so no back-off.
            raise
        except (DialFailed, CancelledError):
            if not self._stopped:
                self._book.failed(peer, addresses)
            raise
        self._book.succeeded(peer)
        dial = self._dials.get(peer)
        self._budget.give_back(addresses if dial is None else dial.tried)
        return True

    def _succeeded(self, peer: PeerId, dial: _Dial, dialled: bool) -> None:
        if self._stopped:
            return
        del self._dials[peer]
        dial.end()
        if dialled:
            self._on_reached(peer)
        self._flush(peer, dial)

    def _failed(self, peer: PeerId, dial: _Dial, failure: Failure) -> None:
        if self._stopped:
            return
        del self._dials[peer]
        dial.end()
        if self._transport.is_connected(peer):
            self._flush(peer, dial)
            return
        if failure.check(DialFailed):
            reason = failure.getErrorMessage()
        elif failure.check(DeferredTimeoutError):
            reason = "timed out"
        else:
            self._log.failure("unexpected error while dialling", failure)
            reason = "internal error"
        self.counters["send_dial_failed"] += sum(message is not None for message in dial.queue)
        self._on_failed(peer, reason, failure.check(NoRoom) is not None, dial.tried)
