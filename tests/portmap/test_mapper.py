"""
Tests for L{dtt.portmap.mapper}.
"""

from __future__ import annotations

from functools import partial
from random import Random
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import DatagramProtocol
from twisted.trial.unittest import SynchronousTestCase

from dtt.portmap.mapper import (
    ATTEMPTS,
    LIFETIME,
    RETRY_AFTER,
    SHORT,
    STOP_TIMEOUT,
    IPortMapper,
    Mapping,
    PortMapper,
)
from dtt.portmap.wire import SERVER_PORT, Transport
from dtt.testing.net.clock import HeapClock
from dtt.testing.net.udp import MemoryUDPNetwork
from tests.portmap.router import OUTSIDE, OWN, ROUTER, TCP, UDP, Router


class MapperTests(SynchronousTestCase):
    """
    A L{PortMapper} and its router.
    """

    def setUp(self) -> None:
        self.network = MemoryUDPNetwork(HeapClock())
        self.changes: list[tuple[Mapping, bool]] = []

    def mapper(self, further: IPortMapper | None = None) -> PortMapper:
        """
        Return a running mapper that wants two ports.
        """
        mapper = PortMapper(
            self.network.reactor(OWN),
            Random(0),
            lambda: (ROUTER, OWN),
            lambda mapping, is_new: self.changes.append((mapping, is_new)),
            further,
        )
        mapper.want(UDP, 6881)
        mapper.startService()
        mapper.want(TCP, 4433)
        return mapper

    def test_each_protocol(self) -> None:
        """
        Ports are mapped by PCP; by NAT-PMP if the router does not speak PCP.
        """
        for pcp, method in ((True, "PCP"), (False, "NAT-PMP")):
            self.setUp()
            router = Router(self.network, pcp=pcp)
            mapper = self.mapper()
            self.network.advance(0.2)
            self.assertEqual(router.mapped, {(UDP, 6881): 7881, (TCP, 4433): 5433})
            self.assertCountEqual(
                [(m.transport, m.port, m.host, m.external, m.method) for m in mapper.mappings()],
                [(UDP, 6881, OUTSIDE, 7881, method), (TCP, 4433, OUTSIDE, 5433, method)],
            )
            self.assertTrue(all(m.lifetime == LIFETIME for m in mapper.mappings()))
            self.assertTrue(mapper.mappings()[0].is_public)
            self.assertEqual(len(self.changes), 2)
            self.successResultOf(mapper.stopService() or succeed(None))
            self.network.advance(0.1)
            self.assertEqual(router.mapped, {})
            self.assertEqual(self.network.clock.getDelayedCalls(), [])

    def test_only_nat_pmp_in_silence(self) -> None:
        """
        A router that ignores PCP is asked by NAT-PMP.
        """
        router = Router(self.network, nat_pmp=True)
        router.pcp = False
        router.change = lambda answer: b"" if len(answer) == 8 else answer
        mapper = self.mapper()
        self.network.advance(sum(ATTEMPTS[:SHORT]) + 0.2)
        self.assertEqual({m.method for m in mapper.mappings()}, {"NAT-PMP"})

    def test_slow(self) -> None:
        """
        A router that answers late is asked again, by both protocols.
        """
        for pcp, method in ((True, "PCP"), (False, "NAT-PMP")):
            self.setUp()
            self.network.latency = 0.6
            Router(self.network, pcp=pcp, nat_pmp=not pcp)
            mapper = self.mapper()
            self.network.advance(2 * sum(ATTEMPTS) + 2.0)
            self.assertEqual([m.method for m in mapper.mappings()], [method, method])
            mapper.stopService()

    def test_refused_by_both(self) -> None:
        """
        A router that refuses is not asked again before the next time.
        """
        router = Router(self.network)
        router.result = 2
        mapper = self.mapper()
        self.network.advance(20.0)
        self.assertEqual((mapper.mappings(), len(router.asked)), ([], 4))
        mapper.stopService()

    def test_renewal(self) -> None:
        """
        A mapping is renewed after half of its lifetime, without a change.
        """
        router = Router(self.network)
        router.lifetime = 600
        self.mapper()
        self.network.advance(1.0)
        self.assertEqual(len(router.asked), 2)
        self.network.advance(300.0)
        self.assertEqual(len(router.asked), 4)
        self.assertEqual(len(self.changes), 2)

    def test_renewal_is_not_answered(self) -> None:
        """
        A mapping whose renewal is not answered is kept, and tried again every half minute,
        until its time is over.
        """
        for silence, is_kept in ((250.0, True), (700.0, False)):
            self.setUp()
            router = Router(self.network)
            router.lifetime = 600
            mapper = self.mapper()
            self.network.advance(200.0)
            self.network.dead.add(ROUTER)
            self.network.advance(silence)
            self.assertEqual(len(mapper.mappings()), 2 if is_kept else 0)
            self.network.dead.clear()
            self.network.advance(RETRY_AFTER if not is_kept else 40.0)
            self.assertEqual(len(mapper.mappings()), 2)
            self.assertEqual([is_new for _, is_new in self.changes].count(False), 0 if is_kept else 2)
            self.network.advance(400.0)
            self.assertEqual(len(mapper.mappings()), 2)

    def test_short_lifetime(self) -> None:
        """
        A router that grants a second is not asked without pause.
        """
        router = Router(self.network)
        router.lifetime = 1
        self.mapper()
        self.network.advance(100.0)
        self.assertLess(len(router.asked), 10)

    def test_router_restarts(self) -> None:
        """
        When the router shows that it has restarted, the other ports are mapped at once.
        """
        router = Router(self.network)
        router.lifetime = 3600
        mapper = self.mapper()
        self.network.advance(1000.0)
        router.mapped.clear()
        router.started = self.network.clock.seconds()
        while not router.mapped:
            self.network.advance(1.0)
        self.network.advance(1.0)
        self.assertEqual(len(router.mapped), 2)
        self.assertEqual(len(mapper.mappings()), 2)

    def test_no_router(self) -> None:
        """
        Without an answer, or without a network, it is tried again after ten minutes.
        """
        mapper = self.mapper()
        self.network.advance(60.0)
        self.assertEqual(mapper.mappings(), [])
        router = Router(self.network)
        self.network.advance(RETRY_AFTER + 10.0)
        self.assertEqual(len(router.mapped), 2)

    def test_refused(self) -> None:
        """
        A router that refuses is not asked again at once.
        """
        router = Router(self.network)
        router.result = 2
        mapper = self.mapper()
        self.network.advance(60.0)
        self.assertEqual(mapper.mappings(), [])
        self.assertLess(len(router.asked), 10)

    def test_wrong_answers(self) -> None:
        """
        Answers that are malformed, cut off, huge, of another request or from elsewhere
        change nothing.
        """
        good: list[bytes] = []

        def keep(answer: bytes) -> bytes:
            good.append(answer)
            return answer

        router = Router(self.network)
        router.change = keep
        self.mapper()
        self.network.advance(0.2)
        answer = good[0]
        wrong = [
            *(answer[:size] for size in range(len(answer))),
            answer + bytes(4000),
            answer[:24] + bytes(12) + answer[36:],
            answer[:36] + b"\x01" + answer[37:],
            answer[:40] + b"\x00\x01" + answer[42:],
            bytes(60),
            b"\xff" * 60,
        ]
        for each in wrong:
            self.setUp()
            Router(self.network).change = partial(lambda each, _: each, each)
            mapper = self.mapper()
            self.network.advance(30.0)
            self.assertEqual(mapper.mappings(), [], each.hex())
            mapper.stopService()
        self.setUp()
        mapper = self.mapper()
        forger = DatagramProtocol()
        forging: Any = self.network.reactor("192.168.1.66").listenUDP(SERVER_PORT, forger)
        (socket,) = [address for address in self.network.addresses() if address[0] == OWN]
        forging.write(answer, socket)
        self.network.advance(1.0)
        self.assertEqual(mapper.mappings(), [])

    def test_further(self) -> None:
        """
        Where neither works, the further way is used, and its mapping is removed at the
        end.
        """
        done: list[str] = []

        class Further(IPortMapper):
            def map(self, transport: Transport, port: int, lifetime: int) -> Deferred[Mapping | None]:
                return succeed(Mapping(transport, port, "100.64.0.1", port, "UPnP", lifetime))

            def unmap(self, mapping: Mapping) -> Deferred[None]:
                done.append(mapping.transport.name)
                return succeed(None)

        mapper = self.mapper(Further())
        self.network.advance(20.0)
        self.assertEqual([m.method for m in mapper.mappings()], ["UPnP", "UPnP"])
        self.assertFalse(mapper.mappings()[0].is_public)
        self.successResultOf(mapper.stopService() or succeed(None))
        self.assertCountEqual(done, ["UDP", "TCP"])

    def test_further_without_network(self) -> None:
        """
        Without a router the further way is not tried either.
        """
        asked: list[int] = []

        class Further(IPortMapper):
            def map(self, transport: Transport, port: int, lifetime: int) -> Deferred[Mapping | None]:
                asked.append(port)
                return succeed(None)

        mapper = PortMapper(
            self.network.reactor(OWN), Random(1), lambda: None, lambda mapping, is_new: None, Further()
        )
        mapper.want(UDP, 1)
        mapper.startService()
        self.network.advance(20.0)
        self.assertEqual(asked, [])
        mapper.stopService()

    def test_further_never_ends(self) -> None:
        """
        The end waits a bounded time for a further way.
        """

        class Further(IPortMapper):
            def map(self, transport: Transport, port: int, lifetime: int) -> Deferred[Mapping | None]:
                return succeed(Mapping(transport, port, OUTSIDE, port, "UPnP", lifetime))

            def unmap(self, mapping: Mapping) -> Deferred[None]:
                return Deferred(lambda _: None)

        mapper = self.mapper(Further())
        self.network.advance(20.0)
        stopping = mapper.stopService() or succeed(None)
        self.assertNoResult(stopping)
        self.network.advance(STOP_TIMEOUT)
        self.successResultOf(stopping)
        self.assertEqual(self.network.clock.getDelayedCalls(), [])

    def test_no_socket(self) -> None:
        """
        If there is no socket for the requests, nothing is mapped, and nothing is logged.
        """
        Router(self.network)
        reactor = self.network.reactor(OWN)

        def refuse(*_: Any, **__: Any) -> Any:
            raise CannotListenError("", 0, OSError(24, "too many open files"))

        reactor.listenUDP = refuse  # type: ignore[method-assign]
        changes: list[Mapping] = []
        mapper = PortMapper(reactor, Random(1), lambda: (ROUTER, OWN), lambda each, _: changes.append(each))
        mapper.want(UDP, 1)
        mapper.startService()
        self.network.advance(20.0)
        mapper.stopService()
        self.assertEqual((changes, self.flushLoggedErrors()), ([], []))

    def test_restart(self) -> None:
        """
        In another network everything is mapped again.
        """
        router = Router(self.network)
        mapper = self.mapper()
        self.network.advance(1.0)
        router.mapped.clear()
        mapper.restart()
        self.assertEqual([is_new for _, is_new in self.changes], [True, True, False, False])
        self.network.advance(1.0)
        self.assertEqual(len(router.mapped), 2)

    def test_stop_at_any_time(self) -> None:
        """
        Stopping at any time leaves nothing behind.
        """
        for milliseconds in range(0, 60, 5):
            self.setUp()
            Router(self.network)
            mapper = self.mapper()
            self.network.advance(milliseconds / 1000)
            self.successResultOf(mapper.stopService() or succeed(None))
            self.network.advance(0.1)
            self.assertEqual(self.network.clock.getDelayedCalls(), [])
            self.assertEqual(self.network.addresses(), [(ROUTER, SERVER_PORT)])
