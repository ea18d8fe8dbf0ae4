"""
Inbound connections to the iroh endpoint.

Rules: a handshake takes at most 10 s.  When there are too many at a time, the oldest of
the network with most is cancelled (L{dtt.transport.handshakes}); those through relays
count as one network.  When many are in progress, a peer must validate its address
before it can occupy a slot (QUIC Retry, RFC 9000 section 8.1.2), so that spoofed
addresses can't occupy all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from dtt.counters import snake_case
from dtt.transport.handshakes import HANDSHAKE_TIMEOUT, Handshakes
from dtt.transport.iroh.bindings import IrohConnection, IrohEndpoint, IrohIncoming, split_address
from dtt.transport.iroh.calls import Calls, IrohFailure

#: Concurrent handshakes from which on addresses must be validated (guess: a quarter of the slots).
RETRY_THRESHOLD = 16

#: Inbound connections handled before the reactor gets a turn (guess).
MAX_ACCEPTS = 16


async def serve_incoming(
    endpoint: IrohEndpoint,
    calls: Calls,
    clock: IReactorTime,
    handle: Callable[[IrohIncoming], Coroutine[Any, Any, None]],
) -> None:
    """
    Call C{handle} for each inbound connection of C{endpoint}, one after another, until
    the endpoint is closed.

    @param endpoint: a bound endpoint.
    @param calls: runs the bindings' coroutines.
    @param clock: the reactor.
    @param handle: handles one connection request.
    """
    served = 0
    while (incoming := await calls.call(endpoint.accept_next())) is not None:
        await handle(incoming)
        served += 1
        if served % MAX_ACCEPTS == 0:
            await deferLater(clock, 0)


class Acceptor:
    """
    Accepts connections.

    @ivar handshakes: the connections that are not authenticated.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        calls: Calls,
        counters: Counter[str],
        on_connection: Callable[[IrohConnection, tuple[str, ...]], None],
    ) -> None:
        """
        @param clock: the reactor.
        @param calls: runs the bindings' coroutines.
        @param counters: incremented for each event.
        @param on_connection: called with each authenticated connection, and the networks of
            its remote host, each within the one before.
        """
        self._clock = clock
        self._calls = calls
        self._counters = counters
        self._on_connection = on_connection
        self.handshakes = Handshakes()
        self._running: dict[Deferred[None], None] = {}
        self._stopped = False

    def start(self, endpoint: IrohEndpoint) -> None:
        """
        Accept connections to C{endpoint} until it is closed.
        """
        self._run(
            Deferred.fromCoroutine(serve_incoming(endpoint, self._calls, self._clock, self._start_handshake))
        )

    def stop(self) -> None:
        """
        Accept no more connections, and cancel the handshakes in progress.
        """
        self._stopped = True
        for running in tuple(self._running):
            running.cancel()

    def _run(self, running: Deferred[None]) -> None:
        self._running[running] = None

        def over(result: Failure | None) -> None:
            self._running.pop(running, None)
            if result is None:
                return
            if self._stopped:
                result.cleanFailure()
            elif result.check(IrohFailure, DeferredTimeoutError, CancelledError):
                # The code that cancels a handshake counts it.
                if not result.check(CancelledError):
                    self._counters["closed_handshake_failed"] += 1
                result.cleanFailure()
            else:
                self._log.failure("unexpected error while accepting a connection", result)

        running.addBoth(over)

    async def _start_handshake(self, incoming: IrohIncoming) -> None:
        def close(reason: str) -> None:
            self._counters["closed_" + snake_case(reason)] += 1
            handshake.cancel()

        handshake = Deferred.fromCoroutine(self._handshake(incoming, close))
        self._run(handshake.addTimeout(HANDSHAKE_TIMEOUT, self._clock))

    async def _handshake(self, incoming: IrohIncoming, close: Callable[[str], None]) -> None:
        source = await self._calls.call(incoming.remote_addr())
        if len(self.handshakes) >= RETRY_THRESHOLD and not await self._calls.call(
            incoming.remote_addr_validated()
        ):
            self._counters["handshake_retried"] += 1
            await self._calls.call(incoming.retry())
            return
        host = split_address(source.addr)[0] if source.is_ip() else None
        slot = self.handshakes.enter(host, self._clock.seconds(), close)
        try:
            accepting = await self._calls.call(incoming.accept())
            connection = await self._calls.call(accepting.connect())
        finally:
            self.handshakes.leave(slot)
        self._on_connection(connection, slot.networks)
