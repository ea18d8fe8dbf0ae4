"""
Keeps our packet in one store.

Rules (docs/protocol/addresses.md section 1): published every interval, with a new
sequence number each time, and at once when the addresses have changed; where
somebody has a newer packet of ours, signed again above it; after a failure
tried again, ever more slowly, or when the store says.
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
from dtt.errors import DTTError, LocalError, PublishFailed

#: Seconds before the first time: what a member sends first is for finding
#: others, and DHT nodes need a moment to agree about where we are (measured: on 8
#: nodes, whose packet budgets are the narrowest, a pair joined after 0.25 s, with
#: a packet published at once after 2.15 s).  Guess: the time in which most pairs
#: have joined.
START_DELAY = 3.0

#: Seconds for which changes are gathered before they are published: addresses
#: change within milliseconds of each other (iroh-mainline-address-lookup waits
#: 50 ms; guess).
DEBOUNCE = 0.1

#: Seconds between two times at least, however often the addresses change (guess:
#: whoever can make DHT nodes disagree about where we are must not keep us busy).
SHORTEST = 5.0

#: Seconds before the first retry, doubling up to the longest, or to the interval
#: if that is shorter (guess).
FIRST_RETRY = 5.0
LONGEST_RETRY = 300.0

#: Seconds that one time may take (guess: a lookup and two round trips).
TIMEOUT = 30.0

#: Signatures in one time: the second goes above what was found, and a third is
#: for a program with our key that publishes at the same moment (guess).
MAX_ATTEMPTS = 3


class PacketPublisher(Service):
    """
    See the module's words.

    @ivar published: the DNS packet that is in the store, as far as we know.
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
        @param interval: seconds.
        @param counters: C{"<store>: published"} and C{"<store>: <reason>"}.
        @param on_published: told the store's name and the number of addresses,
            when a packet with other addresses than before is there.
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
        Begin.
        """
        super().startService()
        self._running = Deferred.fromCoroutine(self._run())
        self._running.addErrback(self._ended)

    def stopService(self) -> Deferred[None]:
        """
        End; what was published stays until others forget it.
        """
        super().stopService()
        running, self._running = self._running, None
        if running is None:
            return succeed(None)
        running.cancel()
        return running

    def update(self) -> None:
        """
        Our addresses may have changed.
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
                    self._tell(error, failures)
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

    def _tell(self, error: Exception, failures: int) -> None:
        reason = "timed out" if isinstance(error, DeferredTimeoutError) else str(error)
        self._counters[f"{self._store.name}: {reason}"] += 1
        if failures == 1:
            self._log.warn(
                "Our addresses could not be published at {store}: {reason}. Trying on.",
                store=self._store.name,
                reason=reason,
            )

    async def _sleep(self, seconds: float, dns: bytes | None) -> None:
        """
        Wait; shorter, if the addresses become others than those in C{dns}.
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
        # The owner of the store may stop first.
        if failure.check(CancelledError, LocalError) is None:
            self._log.failure("{service} ended by a mistake of ours", failure, service=type(self).__name__)
