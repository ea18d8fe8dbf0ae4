"""
Spare endpoints: additional iroh endpoints, each for one outbound connection.

Rules: an iroh endpoint keeps using the addresses that it was given for a peer within
the last minute, and can't be made to forget them (L{dtt.transport.iroh.suspects}).  A
fresh endpoint knows no addresses.  It has our key; refuses inbound connections (the
library keeps those that are not accepted); uses no relay (there it would replace the
listening endpoint); costs four descriptors and half a megabyte; and is closed with its
connection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from dtt.errors import DialFailed, NoRoom
from dtt.transport.iroh.acceptor import serve_incoming
from dtt.transport.iroh.bindings import IrohEndpoint, IrohIncoming
from dtt.transport.iroh.calls import Calls, IrohFailure

#: Maximum number of spare endpoints (guess: suspect peers are few, and each is dialled at eight
#: addresses for at most 10 s).
MAX_SPARES = 32


class SpareEndpoints:
    """
    The spare endpoints of one transport.

    @ivar open: the endpoints, with C{None} for each that is being bound.
    """

    def __init__(self, clock: IReactorTime, calls: Calls, builder: Callable[[], Any]) -> None:
        """
        @param clock: the reactor.
        @param calls: runs the bindings' coroutines.
        @param builder: creates the bindings' C{EndpointBuilder} for one endpoint.
        """
        self.open: list[IrohEndpoint | None] = []
        self._clock = clock
        self._calls = calls
        self._builder = builder
        self._closing: dict[Deferred[Any], None] = {}

    async def bind(self) -> IrohEndpoint:
        """
        Bind and return a new endpoint.

        @raise DialFailed: there are too many, or it can't be bound.
        """
        if len(self.open) >= MAX_SPARES:
            raise NoRoom("too many dials")
        self.open.append(None)
        try:
            endpoint: IrohEndpoint = await self._calls.call(self._builder().bind())
        except IrohFailure:
            raise DialFailed("no socket") from None
        finally:
            self.open.remove(None)
        self.open.append(endpoint)
        # This fails only when it is cancelled.
        refusing = serve_incoming(endpoint, self._calls, self._clock, self._refuse)
        Deferred.fromCoroutine(refusing).addErrback(Failure.cleanFailure)
        return endpoint

    def close(self, endpoint: IrohEndpoint) -> None:
        """
        Close one endpoint; does nothing if it is already closed.
        """
        if endpoint not in self.open:
            return
        self.open.remove(endpoint)
        closing = self._calls.call(endpoint.close())
        self._closing[closing] = None
        closing.addBoth(lambda _: self._closing.pop(closing, None))

    async def _refuse(self, incoming: IrohIncoming) -> None:
        await self._calls.call(incoming.refuse())

    def close_all(self) -> Deferred[Any]:
        """
        Close all endpoints; the result fires when all are closed.
        """
        for endpoint in tuple(self.open):
            if endpoint is not None:
                self.close(endpoint)
        return DeferredList(tuple(self._closing))
