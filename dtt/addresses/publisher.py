"""
Keeps our packet published in one store.

Rules (docs/protocol/addresses.md section 1): publish at every interval, with a
new sequence number each time, and without waiting for it when the addresses have
changed; if the store has a newer one of our packets, sign again with a higher
sequence number; after a failure, retry with increasing delays, or when the store
allows it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from dtt.addresses.interfaces import IPacketStore
from dtt.addresses.signer import Signer
from dtt.counters import snake_case
from dtt.errors import DTTError, LocalError, PublishFailed

#: Seconds before the first publication: the first traffic of a member serves to
#: find others, and DHT nodes need a moment to agree on our address (measured: with
#: 8 nodes, whose packet budgets are the tightest, a pair joined after 0.25 s, but
#: after 2.15 s if a packet was published immediately).  Guess: the time in which
#: most pairs have joined.
START_DELAY = 3.0

#: Seconds for which changes are collected before they are published: addresses
#: change within milliseconds of each other (iroh-mainline-address-lookup waits
#: 50 ms; guess).
DEBOUNCE = 0.1

#: The minimum interval between publications in seconds, however often the addresses
#: change (guess: an attacker who makes DHT nodes disagree about our address must not
#: keep us busy).
SHORTEST = 5.0

#: Seconds before the first retry; doubles up to the longest, or to the interval if
#: that is shorter (guess).
FIRST_RETRY = 5.0
LONGEST_RETRY = 300.0

#: The timeout of one publication, in seconds (guess: a lookup and two round trips).
TIMEOUT = 30.0

#: The number of signatures per publication: the second exceeds the sequence number
#: that was found, and a third is for another program with our key that publishes at
#: the same moment (guess).
MAX_ATTEMPTS = 3


class PacketPublisher(Service):
    """
    Keeps our packet published in one store.

    @ivar published: the DNS packet that was last published in the store.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        signer: Signer,
        store: IPacketStore,
        interval: float,
        counters: Counter[str],
        on_published: Callable[[str, int], None],
    ) -> None:
        """
        @param signer: makes the packets.
        @param store: the store.
        @param interval: the interval between publications, in seconds.
        @param counters: counts C{"<store>: published"} and C{"<store>: <reason>"},
            see L{dtt.counters}.
        @param on_published: called with the name of the store and the number of
            addresses, when a packet with different addresses was published.
        """
        self.published: bytes | None = None
        self._reactor = reactor
        self._signer = signer
        self._store = store
        self._interval = interval
        self._counters = counters
        self._on_published = on_published
        self._running: Deferred[None] | None = None
        self._woken: Deferred[None] | None = None
        self._changed = False

    def startService(self) -> None:
        """
        Start publishing.
        """
        super().startService()
        self._running = Deferred.fromCoroutine(self._run())
        self._running.addErrback(self._ended)

    def stopService(self) -> Deferred[None]:
        """
        Stop publishing.  The published packet stays in the store until it expires.

        @return: fires once publishing has stopped.
        """
        super().stopService()
        running, self._running = self._running, None
        if running is None:
            return succeed(None)
        running.cancel()
        return running

    def update(self) -> None:
        """
        Publish again soon if our addresses have changed.
        """
        self._changed = True
        if self._woken is not None and not self._woken.called:
            self._woken.callback(None)

    async def _run(self) -> None:
        failures = 0
        await self._store.when_ready()
        await deferLater(self._reactor, START_DELAY)
        while True:
            await self._store.when_ready()
            self._changed = False
            dns = self._signer.dns()
            shortest, longest = 0.0, self._interval
            if dns is not None:
                shortest = SHORTEST
                try:
                    await self._publish(dns)
                    failures = 0
                except (DTTError, DeferredTimeoutError) as error:
                    failures += 1
                    self._report(error, failures)
                    longest = min(FIRST_RETRY * 2.0 ** min(failures - 1, 16), LONGEST_RETRY, self._interval)
                    shortest = getattr(error, "retry_after", None) or SHORTEST
            await deferLater(self._reactor, shortest)
            await self._sleep(longest - shortest, dns)
            await deferLater(self._reactor, DEBOUNCE)

    async def _publish(self, dns: bytes) -> None:
        above = 0
        for attempt in range(1, MAX_ATTEMPTS + 1):
            packet = self._signer.packet(dns, above)
            try:
                await self._store.publish(self._signer.key, packet).addTimeout(TIMEOUT, self._reactor)
                break
            except PublishFailed as error:
                if error.newer_seq is None or attempt == MAX_ATTEMPTS:
                    raise
                above = error.newer_seq
        self._counters[f"{self._store.name}: published"] += 1
        if dns != self.published:
            self.published = dns
            self._on_published(self._store.name, len(packet.addresses()))

    def _report(self, error: Exception, failures: int) -> None:
        reason = "timed out" if isinstance(error, DeferredTimeoutError) else str(error)
        self._counters[f"{self._store.name}: {snake_case(reason)}"] += 1
        if failures == 1:
            self._log.warn(
                "Our addresses could not be published at {store}: {reason}. Retrying.",
                store=self._store.name,
                reason=reason,
            )

    async def _sleep(self, seconds: float, dns: bytes | None) -> None:
        """
        Wait for C{seconds}, or until our addresses differ from those in C{dns}.
        """
        end = self._reactor.seconds() + seconds
        while not (self._changed and self._signer.dns() != dns):
            self._changed = False
            left = end - self._reactor.seconds()
            if left <= 0:
                return
            self._woken = Deferred()
            try:
                await self._woken.addTimeout(left, self._reactor)
            except DeferredTimeoutError:
                return

    def _ended(self, failure: Failure) -> None:
        # A LocalError: the DHT node that the store uses has stopped first.
        if failure.check(CancelledError, LocalError) is None:
            self._log.failure(
                "{service} stopped on an unexpected error (a bug)", failure, service=type(self).__name__
            )
