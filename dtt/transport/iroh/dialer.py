"""
Dials over iroh.

Rules: the library tries all addresses of a peer and its relay concurrently, and
verifies its id; for us this is one attempt.  If the library can't parse a relay's URL,
the other addresses are tried without it.  If another key answers at one address
(L{dtt.transport.iroh.suspects}), each address becomes a separate attempt, with a separate endpoint
(L{dtt.transport.iroh.spare_endpoints}).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from dtt.errors import DialFailed, NoRoom
from dtt.interfaces import PeerId
from dtt.transport.dialing import DIAL_TIMEOUT, Dials
from dtt.transport.iroh.bindings import Bindings, IrohConnection, IrohEndpoint
from dtt.transport.iroh.calls import Calls, IrohFailure
from dtt.transport.iroh.endpoint import ALPN, QuicEndpoint
from dtt.transport.iroh.suspects import Suspects
from dtt.wire.addresses import Address, PeerAddress, RelayAddress

#: Reason of a dial that was answered by another peer key.
WRONG_KEY = "wrong peer key"

_BAD_RELAY = "bad relay"

#: Fragments of the library's error messages, and the reason reported for each.
_REASONS = (
    ("UnknownIssuer", WRONG_KEY),
    ("known protocol", "protocol mismatch"),
    ("timed out", "timed out"),
    ("No addressing", "no address"),
    ("relay URL", _BAD_RELAY),
)

#: The target of one attempt: usually all known addresses of a peer.
_Target: TypeAlias = tuple[Address, ...]


def _nothing() -> None:
    """
    Do nothing when a connection of the listening endpoint closes.
    """


class QuicDialing:
    """
    Dials peers over iroh.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        calls: Calls,
        bindings: Bindings,
        own: QuicEndpoint,
        is_connected: Callable[[PeerId], bool],
        on_connection: Callable[[IrohConnection, Callable[[], None]], bool],
    ) -> None:
        """
        @param clock: the reactor.
        @param calls: runs the bindings' coroutines.
        @param bindings: the module C{iroh}, or a replacement.
        @param own: our endpoint, which need not be bound yet.
        @param is_connected: returns whether a peer is connected, whichever side
            dialled.
        @param on_connection: called with each authenticated connection, and with a
            function to call when the connection is closed; returns whether there is
            room for it.
        """
        self._clock = clock
        self._calls = calls
        self._bindings = bindings
        self._spares = own.spares
        self._by_id = own.finds_peers
        self._is_connected = is_connected
        self._on_connection = on_connection
        self._endpoint: IrohEndpoint | None = None
        self._suspects = Suspects()
        self._dials: Dials[_Target] = Dials(clock, self._attempt)
        self._alone: Dials[_Target] = Dials(clock, self._attempt_alone)
        self._stopped = False

    def start(self, endpoint: IrohEndpoint) -> None:
        """
        Dial from C{endpoint} from now on.
        """
        self._endpoint = endpoint

    def dial(self, peer_id: PeerId, addresses: _Target) -> Deferred[None]:
        """
        Dial C{peer_id}, or join the dial in progress.

        @return: fires when the peer is connected; fails with L{DialFailed}.
        """
        return self._dials.dial(peer_id, [addresses] if addresses or self._by_id else [])

    def is_full(self, peer_id: PeerId) -> bool:
        """
        Return whether C{peer_id} is not dialled because too many others are.
        """
        return self._dials.is_full(peer_id)

    def connected(self, peer_id: PeerId) -> None:
        """
        Fire the dials of C{peer_id}: it has connected to us.
        """
        self._alone.connected(peer_id)
        self._dials.connected(peer_id)

    def stop(self) -> None:
        """
        Fail all dials.
        """
        self._stopped = True
        self._dials.stop()
        self._alone.stop()
        self._endpoint = None

    # Attempts

    def _attempt(self, peer_id: PeerId, target: _Target) -> Deferred[None]:
        return self._run(peer_id, self._connect(peer_id, target))

    def _attempt_alone(self, peer_id: PeerId, target: _Target) -> Deferred[None]:
        return self._run(peer_id, self._connect_alone(peer_id, target))

    def _run(self, peer_id: PeerId, attempt: Coroutine[Deferred[Any], Any, None]) -> Deferred[None]:
        def cancel(_: Deferred[None]) -> None:
            # If the peer has connected to us meanwhile, it may consider the connection of this
            # attempt its newest, and would take its end for a disconnection: let the attempt
            # continue.
            if not self._is_connected(peer_id):
                running.cancel()

        result: Deferred[None] = Deferred(cancel)

        def over(outcome: Any) -> None:
            if isinstance(outcome, Failure) and outcome.check(CancelledError):
                outcome.cleanFailure()
                outcome = Failure(DialFailed("cancelled"))
            if not result.called:
                result.callback(outcome)
            elif isinstance(outcome, Failure) and not outcome.check(DialFailed):
                self._log.failure("unexpected error while opening a connection", outcome)

        running = Deferred.fromCoroutine(attempt)
        running.addBoth(over)
        return result

    async def _connect(self, peer_id: PeerId, target: _Target) -> None:
        if not target or not self._suspects.has(peer_id, self._clock.seconds()):
            try:
                self._hand_over(await self._try_all(peer_id, target))
                return
            except DialFailed as error:
                if str(error) != WRONG_KEY or not target:
                    raise
            self._suspects.add(peer_id, self._clock.seconds())
            # A cancelled attempt may continue, see L{_run}.
            if self._stopped or self._is_connected(peer_id):
                raise DialFailed(WRONG_KEY)
        each: list[_Target] = [(address,) for address in self._suspects.order(peer_id, target)]
        await self._alone.dial(peer_id, [*each, ()] if self._by_id else each)

    async def _connect_alone(self, peer_id: PeerId, target: _Target) -> None:
        try:
            if target and isinstance(target[0], PeerAddress):
                await self._connect_from_spare(peer_id, target)
            else:
                self._hand_over(await self._try(self._endpoint, peer_id, target))
        except DialFailed:
            if target:
                self._suspects.failed(peer_id, target[0])
            raise

    async def _connect_from_spare(self, peer_id: PeerId, target: _Target) -> None:
        spare = await self._spares.bind()
        connection = None
        try:
            connection = await self._try(spare, peer_id, target, DIAL_TIMEOUT)
        finally:
            if connection is None:
                self._spares.close(spare)
        self._hand_over(connection, lambda: self._spares.close(spare))

    async def _try_all(self, peer_id: PeerId, target: _Target) -> IrohConnection:
        direct = tuple(address for address in target if isinstance(address, PeerAddress))
        try:
            return await self._try(self._endpoint, peer_id, target)
        except DialFailed as error:
            if str(error) != _BAD_RELAY or not direct:
                raise
        return await self._try(self._endpoint, peer_id, direct)

    async def _try(
        self,
        endpoint: IrohEndpoint | None,
        peer_id: PeerId,
        target: _Target,
        timeout: float | None = None,
    ) -> IrohConnection:
        """
        Connect from C{endpoint} to one target.

        @raise DialFailed: the peer was not reached.
        """
        if endpoint is None:
            raise DialFailed("stopped")
        bindings = self._bindings
        direct = [str(address) for address in target if isinstance(address, PeerAddress)]
        relay = next((address.url for address in target if isinstance(address, RelayAddress)), None)
        try:
            address = bindings.EndpointAddr(bindings.EndpointId.from_bytes(peer_id), relay, direct)
            connecting = self._calls.call(endpoint.connect(address, ALPN))
            if timeout is not None:
                connecting.addTimeout(timeout, self._clock)
            return await connecting
        except bindings.IrohError:
            raise DialFailed("invalid peer id") from None
        except DeferredTimeoutError:
            raise DialFailed("timed out") from None
        except IrohFailure as error:
            words = error.text
            reason = next((reason for piece, reason in _REASONS if piece in words), "connection failed")
            raise DialFailed(reason) from None

    def _hand_over(self, connection: IrohConnection, on_closed: Callable[[], None] = _nothing) -> None:
        if not self._on_connection(connection, on_closed):
            raise NoRoom("too many connections")
