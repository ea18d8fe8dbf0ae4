"""
Who connects to our iroh endpoint.

Rules: a handshake ends within 10 s; how many go on at a time is bounded for each
network and in all (L{dtt.transport.handshakes}); those through relays count as
one network.  When many go on, a peer must prove its address before it costs us
anything (QUIC Retry, RFC 9000 section 8.1.2), so that invented addresses can't
take all places.
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

from dtt.transport.handshakes import Handshakes
from dtt.transport.iroh.bindings import IrohConnection, IrohEndpoint, IrohIncoming, split_address
from dtt.transport.iroh.calls import Calls, IrohFailure
from dtt.transport.streams.connection import HANDSHAKE_TIMEOUT

#: Handshakes at a time from which on addresses must be proved (guess: a quarter
#: of the places).
MANY_HANDSHAKES = 16

#: Incoming connections after which the reactor gets its turn, though more may be
#: there (guess).
MAX_ACCEPTS = 16


async def take_incoming(
    endpoint: IrohEndpoint,
    calls: Calls,
    clock: IReactorTime,
    meet: Callable[[IrohIncoming], Coroutine[Any, Any, None]],
) -> None:
    """
    C{meet} one after the other whoever comes to C{endpoint}, until it is closed.
    """
    met = 0
    while (incoming := await calls.call(endpoint.accept_next())) is not None:
        await meet(incoming)
        met += 1
        if met % MAX_ACCEPTS == 0:
            await deferLater(clock, 0)


class Acceptor:
    """
    Accepts connections.

    @ivar handshakes: those that are not authenticated.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        calls: Calls,
        counters: Counter[str],
        on_connection: Callable[[IrohConnection], None],
    ) -> None:
        """
        @param on_connection: given each authenticated connection.
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
        Accept what comes to C{endpoint}, until it is closed.
        """
        self._run(Deferred.fromCoroutine(take_incoming(endpoint, self._calls, self._clock, self._meet)))

    def stop(self) -> None:
        """
        Accept nothing more, and give up what is in its handshake.
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
                self._counters["closed: handshake failed"] += 1
                result.cleanFailure()
            else:
                self._log.failure("a connection could not be accepted", result)

        running.addBoth(over)

    async def _meet(self, incoming: IrohIncoming) -> None:
        admitting = Deferred.fromCoroutine(self._admit(incoming))
        self._run(admitting.addTimeout(HANDSHAKE_TIMEOUT, self._clock))

    async def _admit(self, incoming: IrohIncoming) -> None:
        source = await self._calls.call(incoming.remote_addr())
        if len(self.handshakes) >= MANY_HANDSHAKES and not await self._calls.call(
            incoming.remote_addr_validated()
        ):
            self._counters["handshakes: address to be proved"] += 1
            await self._calls.call(incoming.retry())
            return
        turn: Deferred[None] = Deferred()
        host = split_address(source.addr)[0] if source.is_ip() else None
        place = self.handshakes.enter(host, lambda: turn.callback(None))
        if place is None:
            self._counters["closed: too many handshakes"] += 1
            await self._calls.call(incoming.refuse())
            return
        try:
            if not place.running:
                await turn
            accepting = await self._calls.call(incoming.accept())
            connection = await self._calls.call(accepting.connect())
        finally:
            self.handshakes.leave(place)
        self._on_connection(connection)
