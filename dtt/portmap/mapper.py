"""
Keeps our ports mapped by the router.

Rules (docs/protocol/quic.md section 6): PCP is tried first, then NAT-PMP, then UPnP if
it is installed.  A mapping is requested for an hour and renewed after half of the granted time, or as soon as
the router reports that it has lost its mappings; at the end it is removed. Only answers from the router's own
address and port count, and only to open requests.  If a renewal is not answered, the mapping is kept until it
expires.  If nothing works, it is tried again after some minutes: nothing else waits for it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final, TypeAlias

from attrs import define, frozen
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import deferLater
from twisted.logger import Logger

from dtt.errors import DecodeError
from dtt.net.networks import Scope, scope
from dtt.portmap.wire import (
    NONCE_SIZE,
    SERVER_PORT,
    Answer,
    RefusedError,
    Transport,
    UnsupportedVersionError,
    nat_pmp_address,
    nat_pmp_map,
    pcp_map,
    read_nat_pmp,
    read_pcp,
)

#: Seconds for which a mapping is asked, and the shortest and longest time until it is
#: renewed (RFC 6886 section 3.3 recommends two hours and half of what was granted).
LIFETIME: Final = 3600
MIN_RENEWAL: Final = 30.0
MAX_RENEWAL: Final = 1800.0

#: Seconds to wait for an answer, for each attempt (RFC 6886 section 3.1 begins with
#: 0.25 s and doubles; it continues for a minute, but routers answer at once or never).
ATTEMPTS: Final = (0.25, 0.5, 1.0, 2.0)

#: The number of these attempts that each protocol gets first: a router that speaks only
#: one of them may not answer the other at all (guess).
SHORT: Final = 2

#: Seconds until it is tried again after no way has worked (guess).
RETRY_AFTER: Final = 600.0

#: Seconds to wait at the end for mappings by UPnP to be removed (guess).
STOP_TIMEOUT: Final = 1.5

#: Seconds by which the router's clock may differ before it counts as restarted (RFC
#: 6886 section 3.6).
EPOCH_SLACK: Final = 2.0

#: Finds the router and our address on its network, IPv4 literals; C{None}: no network.
FindRouter: TypeAlias = Callable[[], tuple[str, str] | None]


@frozen(slots=True)
class Mapping:
    """
    A mapping.

    @ivar transport: TCP or UDP.
    @ivar port: our port.
    @ivar host: the external address, an IP literal; C{None} if the router does not report it.
    @ivar external: the external port.
    @ivar method: C{"PCP"}, C{"NAT-PMP"} or C{"UPnP"}.
    @ivar lifetime: seconds for which it was granted.
    """

    transport: Transport
    port: int
    host: str | None
    external: int
    method: str
    lifetime: int

    @property
    def is_public(self) -> bool:
        """
        Whether the external address is global.  If not, the router is itself behind a NAT, and the mapping
        does not help.
        """
        return self.host is not None and scope(self.host) is Scope.GLOBAL


class IPortMapper:
    """
    A further way to map ports, such as UPnP.
    """

    def map(self, transport: Transport, port: int, lifetime: int) -> Deferred[Mapping | None]:
        """
        Map a port; return C{None} if no router does.
        """
        raise NotImplementedError

    def unmap(self, mapping: Mapping) -> Deferred[None]:
        """
        Remove a mapping.
        """
        raise NotImplementedError


@define(slots=True, eq=False)
class _Wanted:
    """
    A port to be mapped.

    @ivar nonce: identifies it to PCP.
    @ivar running: keeps it mapped.
    @ivar mapping: the present mapping.
    """

    transport: Transport
    port: int
    nonce: bytes
    running: Deferred[None] | None = None
    mapping: Mapping | None = None


class _Client(DatagramProtocol):
    """
    The socket for PCP and NAT-PMP.
    """

    noisy = False

    def __init__(self) -> None:
        self.waiting: dict[Deferred[Answer], Callable[[bytes], Answer | None]] = {}
        self.router = ""

    def logPrefix(self) -> str:
        """
        Return the name of this socket in twistd's log.
        """
        return "port mapping"

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """
        Pass an answer of the router to the request that waits for it.
        """
        if addr[:2] != (self.router, SERVER_PORT):
            return
        for waiting, read in list(self.waiting.items()):
            try:
                answer = read(datagram)
            except RefusedError as error:
                self._done(waiting, error)
            except UnsupportedVersionError as error:
                self._done(waiting, error)
            except DecodeError:
                continue
            else:
                if answer is not None:
                    self._done(waiting, answer)

    def _done(self, waiting: Deferred[Answer], result: Answer | DecodeError) -> None:
        self.waiting.pop(waiting, None)
        if waiting.called:
            return
        if isinstance(result, Answer):
            waiting.callback(result)
        else:
            waiting.errback(result)

    def send(self, datagram: bytes) -> None:
        """
        Send a datagram to the router; one that can't be sent is lost.
        """
        if self.transport is None:
            return
        with contextlib.suppress(OSError, ValueError):
            self.transport.write(datagram, (self.router, SERVER_PORT))


class PortMapper(Service):
    """
    Maps ports while it runs.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        rng: Random,
        find_router: FindRouter,
        on_change: Callable[[Mapping, bool], None],
        further: IPortMapper | None = None,
    ) -> None:
        """
        @param reactor: provides C{IReactorTime} and C{IReactorUDP}.
        @param rng: the source of nonces, which must be unpredictable.
        @param find_router: finds the router; called for each attempt.
        @param on_change: called with a new or changed mapping and true, or with one that
            has ended and false.
        @param further: tried after PCP and NAT-PMP.
        """
        self._reactor = reactor
        self._rng = rng
        self._find_router = find_router
        self._on_change = on_change
        self._further = further
        self._wanted: dict[tuple[Transport, int], _Wanted] = {}
        self._client = _Client()
        self._listening: IListeningPort | None = None
        # The router's epoch, and when it was read.
        self._epoch: tuple[int, float] | None = None

    def want(self, transport: Transport, port: int) -> None:
        """
        Keep a port mapped from now on, while the service runs.
        """
        wanted = _Wanted(transport, port, self._rng.randbytes(NONCE_SIZE))
        self._wanted[transport, port] = wanted
        if self.running:
            self._start(wanted)

    def mappings(self) -> list[Mapping]:
        """
        Return the present mappings.
        """
        return [wanted.mapping for wanted in self._wanted.values() if wanted.mapping is not None]

    def restart(self) -> None:
        """
        Map everything again: the network has changed.
        """
        self._epoch = None
        for wanted in self._wanted.values():
            if wanted.running is not None:
                wanted.running.cancel()
                self._set(wanted, None)
                self._start(wanted)

    # Service

    def startService(self) -> None:
        """
        Start mapping.
        """
        super().startService()
        for wanted in self._wanted.values():
            self._start(wanted)

    def stopService(self) -> Deferred[None] | None:
        """
        Remove all mappings; the router's answers are not waited for, but UPnP is, for
        L{STOP_TIMEOUT}.

        @return: fires when everything is closed.
        """
        super().stopService()
        ending: list[Deferred[None]] = []
        for wanted in self._wanted.values():
            if wanted.running is not None:
                wanted.running.cancel()
                wanted.running = None
            mapping, wanted.mapping = wanted.mapping, None
            if mapping is None:
                continue
            if mapping.method == "UPnP" and self._further is not None:
                ending.append(
                    self._further.unmap(mapping)
                    .addTimeout(STOP_TIMEOUT, self._reactor)
                    .addErrback(lambda failure: failure.trap(TimeoutError))
                    .addCallback(lambda _: None)
                )
            else:
                self._remove(wanted, mapping)
        listening, self._listening = self._listening, None

        async def end() -> None:
            for each in ending:
                await each
            if listening is not None:
                closed: Any = listening.stopListening()
                if closed is not None:
                    await closed

        return Deferred.fromCoroutine(end())

    # Internals

    def _start(self, wanted: _Wanted) -> None:
        wanted.running = Deferred.fromCoroutine(self._keep(wanted))
        wanted.running.addErrback(lambda failure: failure.trap(CancelledError))
        wanted.running.addErrback(
            lambda failure: self._log.failure("unexpected error while mapping a port (a bug)", failure)
        )

    async def _keep(self, wanted: _Wanted) -> None:
        ends = 0.0
        while True:
            mapping = await self._map(wanted)
            now = self._reactor.seconds()
            wait = RETRY_AFTER
            if mapping is not None:
                ends = now + mapping.lifetime
                wait = min(max(mapping.lifetime / 2, MIN_RENEWAL), MAX_RENEWAL)
            elif wanted.mapping is not None and now + MIN_RENEWAL < ends:
                # The requests or the answers were lost; the mapping still lasts.
                mapping, wait = wanted.mapping, MIN_RENEWAL
            self._set(wanted, mapping)
            await deferLater(self._reactor, wait * self._rng.uniform(0.9, 1.0))

    def _set(self, wanted: _Wanted, mapping: Mapping | None) -> None:
        before, wanted.mapping = wanted.mapping, mapping
        if mapping is not None and mapping != before:
            self._on_change(mapping, True)
        elif mapping is None and before is not None:
            self._on_change(before, False)

    async def _map(self, wanted: _Wanted) -> Mapping | None:
        found = self._find_router()
        if found is None:
            return None
        router, own = found
        self._open(router)
        ways = [self._map_by_pcp, self._map_by_nat_pmp]
        for attempts in (ATTEMPTS[:SHORT], ATTEMPTS):
            for way in tuple(ways):
                try:
                    mapping = await way(wanted, own, attempts)
                except TimeoutError:
                    continue
                except DecodeError:  # the router has answered
                    ways.remove(way)
                    continue
                if mapping.external and mapping.lifetime:
                    return mapping
        if self._further is None:
            return None
        return await self._further.map(wanted.transport, wanted.port, LIFETIME)

    async def _map_by_pcp(self, wanted: _Wanted, own: str, attempts: Sequence[float]) -> Mapping:
        external = wanted.port if wanted.mapping is None else wanted.mapping.external
        request = pcp_map(wanted.transport, wanted.nonce, own, wanted.port, external, LIFETIME)
        answer = await self._ask(
            attempts,
            request,
            lambda datagram: read_pcp(datagram, wanted.transport, wanted.nonce, wanted.port),
        )
        self._epoch_read(answer.epoch, wanted)
        return Mapping(wanted.transport, wanted.port, answer.host, answer.port, "PCP", answer.lifetime)

    async def _map_by_nat_pmp(self, wanted: _Wanted, own: str, attempts: Sequence[float]) -> Mapping:
        external = wanted.port if wanted.mapping is None else wanted.mapping.external
        address = await self._ask(
            attempts, nat_pmp_address(), lambda datagram: read_nat_pmp(datagram, None, 0)
        )
        answer = await self._ask(
            attempts,
            nat_pmp_map(wanted.transport, wanted.port, external, LIFETIME),
            lambda datagram: read_nat_pmp(datagram, wanted.transport, wanted.port),
        )
        self._epoch_read(answer.epoch, wanted)
        return Mapping(wanted.transport, wanted.port, address.host, answer.port, "NAT-PMP", answer.lifetime)

    async def _ask(
        self, attempts: Sequence[float], request: bytes, read: Callable[[bytes], Answer | None]
    ) -> Answer:
        """
        Send a request until it is answered.

        @param attempts: seconds to wait for each answer.
        @raise TimeoutError: there was no answer.
        """
        for wait in attempts:
            waiting: Deferred[Answer] = Deferred()
            self._client.waiting[waiting] = read
            self._client.send(request)
            try:
                return await waiting.addTimeout(wait, self._reactor)
            except TimeoutError:
                continue
            finally:
                self._client.waiting.pop(waiting, None)
        raise TimeoutError

    def _epoch_read(self, epoch: int, asking: _Wanted) -> None:
        """
        Map the other ports again if the router has restarted: then its epoch does not match the time that has
        passed by our clock (RFC 6886 section 3.6, RFC 6887 section 8.5).
        """
        now = self._reactor.seconds()
        before, self._epoch = self._epoch, (epoch, now)
        if before is None or epoch >= before[0] + (now - before[1]) * 7 / 8 - EPOCH_SLACK:
            return
        for wanted in self._wanted.values():
            if wanted is not asking and wanted.running is not None and wanted.mapping is not None:
                wanted.running.cancel()
                self._start(wanted)

    def _open(self, router: str) -> None:
        self._client.router = router
        if self._listening is None and self.running:
            with contextlib.suppress(CannotListenError):  # nothing is sent then, nor answered
                self._listening = self._reactor.listenUDP(0, self._client)

    def _remove(self, wanted: _Wanted, mapping: Mapping) -> None:
        if mapping.method == "PCP":
            found = self._find_router()
            own = "0.0.0.0" if found is None else found[1]
            self._client.send(pcp_map(wanted.transport, wanted.nonce, own, wanted.port, 0, 0))
        else:
            self._client.send(nat_pmp_map(wanted.transport, wanted.port, 0, 0))
