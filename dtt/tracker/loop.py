"""
Services that are one coroutine.

Rules: the coroutine starts with the service; C{stopService} cancels it and
waits for its end, and so does the end of the topic; any other exception that
leaves it is our own mistake and is logged.
"""

from __future__ import annotations

from random import Random

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from dtt.errors import TopicLeft
from dtt.interfaces import IGossip


class LoopService(Service):
    """
    A service whose life is L{run}.
    """

    _log = Logger()
    _running: Deferred[None] | None = None

    async def run(self) -> None:
        """
        What the service does until it is cancelled.
        """
        raise NotImplementedError

    def startService(self) -> None:
        """
        Start L{run}.
        """
        super().startService()
        self._running = Deferred.fromCoroutine(self.run())
        self._running.addErrback(self._ended)

    def stopService(self) -> Deferred[None]:
        """
        Cancel L{run}.

        @return: fires once it has ended.
        """
        super().stopService()
        running, self._running = self._running, None
        if running is None:
            return succeed(None)
        running.cancel()
        return running

    def _ended(self, failure: Failure) -> None:
        if failure.check(CancelledError, TopicLeft) is None:
            self._log.failure("{service} ended by a mistake of ours", failure, service=type(self).__name__)


class PeriodicService(LoopService):
    """
    Once the topic is joined: L{tick}, again and again.

    The time between two ticks is C{base} + uniform(0, C{jitter}) seconds
    (docs/protocol/records.md section 6).
    """

    def __init__(
        self,
        reactor: IReactorTime,
        rng: Random,
        gossip: IGossip,
        *,
        initial: float,
        base: float,
        jitter: float,
    ) -> None:
        self._reactor = reactor
        self._rng = rng
        self._gossip = gossip
        self._initial = initial
        self._base = base
        self._jitter = jitter

    async def tick(self) -> None:
        """
        What is to be done each time.
        """
        raise NotImplementedError

    async def run(self) -> None:
        """
        Wait until joined, then tick for ever.
        """
        await self._gossip.when_joined()
        await deferLater(self._reactor, self._initial)
        while True:
            await self.tick()
            await deferLater(self._reactor, self._base + self._rng.uniform(0, self._jitter))
