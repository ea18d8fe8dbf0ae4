"""
Tests for L{dtt.transport.iroh.dialer} and L{dtt.transport.iroh.spare_endpoints}: false
addresses. Other dials are in L{tests.transport.iroh.test_transport} and
L{tests.transport.test_contract}.
"""

from __future__ import annotations

from itertools import pairwise

from twisted.internet.defer import CancelledError, Deferred

from dtt.testing.iroh.endpoints import MemoryEndpoint
from dtt.transport.iroh import spare_endpoints as quic_spares
from dtt.transport.iroh.acceptor import MAX_ACCEPTS
from dtt.transport.iroh.endpoint import ALPN, Servers
from dtt.wire.addresses import IROH, PeerAddress, RelayAddress
from tests.transport.iroh.common import BYE, TOPIC, IrohTestCase, RawPeer


class FalseAddressTests(IrohTestCase):
    """
    C{a} dials C{b}, for which the address of C{c} was named.
    """

    def setUp(self) -> None:
        super().setUp()
        self.b, self.on_b = self.transport(2)
        self.c, _ = self.transport(3)
        self.good, self.false = *self.b.addresses(), *self.c.addresses()
        self.hole = PeerAddress(IROH, "10.0.0.200", 1)
        self.endpoints = len(self.net.endpoints)

    def dial(self, *addresses: PeerAddress | RelayAddress, seconds: float = 1.0) -> Deferred[None]:
        """
        Dial, and advance the clock.
        """
        result = self.a.dial(self.b.peer_id, addresses)
        self.advance(seconds)
        return result

    def handshakes_of_c(self) -> int:
        """
        Return the number of handshakes at C{c} so far.
        """
        return self.c.counters["accepted"] + self.c.counters["closed_handshake_failed"]

    def leave(self) -> None:
        """
        End the connection; attempts at unused addresses end after 10 s.
        """
        self.a.send(self.b.peer_id, TOPIC, b"hello")
        self.a.send(self.b.peer_id, TOPIC, BYE)
        self.a.disconnect(self.b.peer_id, TOPIC)
        self.advance(11)
        self.assertEqual(self.net.connections, [])

    def test_among_good_ones(self) -> None:
        """
        A false address does not prevent a dial, at any position.  The connection's
        resources are released after it.
        """
        for addresses in (
            (self.false, self.good),
            (self.good, self.false),
            (self.hole, self.false, self.good),
        ):
            self.successResultOf(self.dial(*addresses))
            self.a.send(self.b.peer_id, TOPIC, b"hello")
            self.b.send(self.a.peer_id, TOPIC, b"you, too")
            self.advance(0.1)
            self.assertEqual(self.on_b.messages.pop(), (self.a.peer_id, b"hello"))
            self.assertEqual(self.on_a.messages.pop(), (self.b.peer_id, b"you, too"))
            self.leave()
            self.on_b.messages.clear()
            self.assertEqual(len(self.net.endpoints), self.endpoints)
        self.assertEqual(self.a._endpoint.spares.open, [])

    def test_remembered(self) -> None:
        """
        From then on the other addresses are tried first, so the false one is not
        contacted; eventually it is forgotten.
        """
        self.successResultOf(self.dial(self.false, self.good))
        self.leave()
        before = self.handshakes_of_c()
        self.assertGreater(before, 0)
        self.successResultOf(self.dial(self.false, self.good, seconds=0.1))
        self.assertEqual(self.handshakes_of_c(), before)
        self.leave()
        self.advance(1000)
        self.successResultOf(self.dial(self.false, self.good))
        self.assertGreater(self.handshakes_of_c(), before)

    def test_named_before(self) -> None:
        """
        Neither does a false address from an earlier dial, which the library remembers.
        """
        failed = self.failureResultOf(self.dial(self.false))
        self.assertEqual(str(failed.value), "wrong peer key")
        self.successResultOf(self.dial(self.good))

    def test_by_relay(self) -> None:
        """
        The relay is tried, too, when the library has forgotten the false address.
        """
        url = "https://relay.example/"
        self.net.start_relay(url)
        one, _ = self.transport(5, servers=Servers(relay_urls=[url]))
        other, _ = self.transport(6, servers=Servers(relay_urls=[url]))
        self.endpoints = len(self.net.endpoints)
        addresses = [self.false, RelayAddress(url)]
        result = one.dial(other.peer_id, addresses)
        self.advance(1)
        self.assertEqual(str(self.failureResultOf(result).value), "wrong peer key")
        self.advance(61)
        result = one.dial(other.peer_id, addresses)
        self.advance(1)
        self.successResultOf(result)

    def test_by_id(self) -> None:
        """
        So is the id alone, if the library finds peers by it.
        """
        transport, _ = self.transport(5, servers=Servers("n0"))
        dial = transport.dial(self.b.peer_id, [self.false])
        self.advance(1)
        self.assertEqual(str(self.failureResultOf(dial).value), "wrong peer key, no address")

    def test_strangers(self) -> None:
        """
        Spare endpoints refuse inbound connections; these do not accumulate, and do not
        starve the reactor.
        """
        self.successResultOf(self.dial(self.false, self.good))
        (spare,) = self.net.endpoints[self.endpoints :]
        raw = RawPeer(self, 4)
        bindings = self.net.bindings("10.0.0.4")
        address = bindings.EndpointAddr(
            bindings.EndpointId.from_bytes(self.a.peer_id), None, [f"{spare.host}:{spare.port}"]
        )
        dials = [raw.start(raw.endpoint.connect(address, ALPN)) for _ in range(100)]
        waiting: list[int] = []

        def tick() -> None:
            waiting.append(len(spare._queue))
            if len(waiting) < 50:
                self.clock.callLater(0, tick)

        self.clock.callLater(0.01, tick)
        self.advance(0.0101)
        self.assertLessEqual(max(b - a for b, a in pairwise(waiting)), MAX_ACCEPTS)
        self.assertEqual(waiting[-1], 0)
        self.advance(0.1)
        self.assertEqual([self.successResultOf(dial) for dial in dials], [None] * 100)
        self.assertEqual(self.a.counters["accepted"], 0)

    def test_nothing_is_left(self) -> None:
        """
        After dials that failed, timed out, were cancelled, or were overtaken by the
        peer's own dial, no endpoint is left.
        """
        self.failureResultOf(self.dial(self.false))
        self.failureResultOf(self.dial(self.false, self.hole, seconds=11))
        cancelled = self.dial(self.false, self.hole)
        self.assertGreater(len(self.net.endpoints), self.endpoints)
        cancelled.cancel()
        self.failureResultOf(cancelled, CancelledError)
        faster = self.dial(self.hole, self.false)
        meanwhile = self.b.dial(self.a.peer_id, self.a.addresses())
        self.advance(11)
        self.successResultOf(meanwhile)
        self.successResultOf(faster)
        self.assertEqual(len(self.net.endpoints), self.endpoints)
        self.assertEqual(self.a._endpoint.spares.open, [])

    def test_no_socket(self) -> None:
        """
        A dial fails when no further endpoint can be bound, or when there are too many.
        """
        self.failureResultOf(self.dial(self.false))
        self.patch(quic_spares, "MAX_SPARES", 0)
        self.assertEqual(str(self.failureResultOf(self.dial(self.good)).value), "too many dials")
        self.patch(quic_spares, "MAX_SPARES", 1)

        async def bind(builder: object) -> MemoryEndpoint:
            raise self.net.bindings("x").IrohError("BIND", "too many open files")

        builder = type(self.net.bindings("10.0.0.1").EndpointBuilder())
        original = builder.bind
        self.patch(builder, "bind", bind)
        self.assertEqual(str(self.failureResultOf(self.dial(self.good)).value), "no socket")
        self.patch(builder, "bind", original)
        self.successResultOf(self.dial(self.good))

    def test_stop(self) -> None:
        """
        Stopping says goodbye on connections of spare endpoints, too, and leaves no
        endpoint.
        """
        self.successResultOf(self.dial(self.false, self.good))
        self.a.send(self.b.peer_id, TOPIC, BYE)
        stopped = self.a.stop()
        self.advance(1.5)
        self.successResultOf(stopped)
        self.assertEqual(self.on_b.messages, [(self.a.peer_id, BYE)])
        self.assertEqual(self.b.counters["closed_by_peer"], 1)
        self.assertEqual(len(self.net.endpoints), self.endpoints - 1)

    def test_closed_at_exit(self) -> None:
        """
        Without a stop, all endpoints are closed at exit.
        """
        self.successResultOf(self.dial(self.false, self.good))
        self.a._calls.end()
        self.assertEqual(len(self.net.endpoints), self.endpoints - 1)
