"""
Services that run one coroutine.

Rules: the coroutine starts with the service; C{stopService} cancels it and
waits until it has ended.  The end of the topic ends it too.  Any other
exception that it raises is a bug, and is logged.
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
    A service that runs the coroutine L{run}.
    """

    _log = Logger()
    _running: Deferred[None] | None = None

    async def run(self) -> None:
        """
        Do the work of the service until cancelled.
        """
        raise NotImplementedError

    def startService(self) -> None:
        """
        Start the coroutine.
        """
        super().startService()
        self._begin()

    def stopService(self) -> Deferred[None]:
        """
        Cancel the coroutine.

        @return: fires once it has ended.
        """
        super().stopService()
        running, self._running = self._running, None
        if running is None:
            return succeed(None)
        running.cancel()
        return running

    def restart(self) -> None:
        """
        Restart the coroutine, unless the service is stopped.
        """
        running = self._running
        if running is None:
            return
        # It ends before it returns, unless it cleans up.
        running.addBoth(lambda _: self._begin() if self._running is running else None)
        running.cancel()

    def _begin(self) -> None:
        self._running = Deferred.fromCoroutine(self.run())
        self._running.addErrback(self._ended)

    def _ended(self, failure: Failure) -> None:
        if failure.check(CancelledError, TopicLeft) is None:
            self._log.failure(
                "{service} stopped on an unexpected error (a bug)", failure, service=type(self).__name__
            )


class PeriodicService(LoopService):
    """
    A service that calls L{tick} periodically once the topic is joined.

    The interval is C{base} + uniform(0, C{jitter}) seconds
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
        """
        @param rng: draws the jitter.
        @param gossip: the gossip of the topic.
        @param initial: seconds between joining and the first tick.
        @param base: the minimum interval between two ticks, in seconds.
        @param jitter: the maximum random addition to it, in seconds.
        """
        self._reactor = reactor
        self._rng = rng
        self._gossip = gossip
        self._initial = initial
        self._base = base
        self._jitter = jitter

    async def tick(self) -> None:
        """
        Do the periodic work once.
        """
        raise NotImplementedError

    def restart(self) -> None:
        """
        Tick now if the topic is joined, otherwise as soon as it is.
        """
        self._initial = 0.0
        super().restart()

    async def run(self) -> None:
        """
        Wait until the topic is joined, then tick until cancelled.
        """
        await self._gossip.when_joined()
        await deferLater(self._reactor, self._initial)
        while True:
            await self.tick()
            await deferLater(self._reactor, self._base + self._rng.uniform(0, self._jitter))
