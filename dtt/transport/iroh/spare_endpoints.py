"""
Endpoints beside the one that listens, each for one connection.

Rules: an iroh endpoint goes on to use what it was told of a peer a minute ago, and
can't be made to forget (L{dtt.transport.iroh.suspects}).  A fresh one knows
nothing.  It has our key, refuses whoever comes (the library keeps those that nobody
takes), uses no relay (there it would take the place of the other one), and costs
four descriptors and half a megabyte; it is closed with its connection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from dtt.errors import DialFailed
from dtt.transport.iroh.acceptor import take_incoming
from dtt.transport.iroh.bindings import IrohEndpoint, IrohIncoming
from dtt.transport.iroh.calls import Calls, IrohFailure

#: How many there may be (guess: suspect peers are few, and each is dialled at eight
#: addresses for 10 s at most).
MAX_SPARES = 32


class Spares:
    """
    Those of one transport.

    @ivar open: they, and L{None} for each that is being bound.
    """

    def __init__(self, clock: IReactorTime, calls: Calls, builder: Callable[[], Any]) -> None:
        """
        @param builder: makes the bindings' C{EndpointBuilder} of one.
        """
        self.open: list[IrohEndpoint | None] = []
        self._clock = clock
        self._calls = calls
        self._builder = builder
        self._closing: dict[Deferred[Any], None] = {}

    async def bind(self) -> IrohEndpoint:
        """
        One more.

        @raise DialFailed: there are too many, or it can't be bound.
        """
        if len(self.open) >= MAX_SPARES:
            raise DialFailed("too many dials")
        self.open.append(None)
        try:
            endpoint: IrohEndpoint = await self._calls.call(self._builder().bind())
        except IrohFailure:
            raise DialFailed("no socket") from None
        finally:
            self.open.remove(None)
        self.open.append(endpoint)
        # It fails only when it is given up.
        refusing = take_incoming(endpoint, self._calls, self._clock, self._refuse)
        Deferred.fromCoroutine(refusing).addErrback(Failure.cleanFailure)
        return endpoint

    def close(self, endpoint: IrohEndpoint) -> None:
        """
        Close one; nothing if it is closed.
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
        Close all.
        """
        for endpoint in tuple(self.open):
            if endpoint is not None:
                self.close(endpoint)
        return DeferredList(tuple(self._closing))
