"""
Tests for L{dtt.transport.iroh.acceptor}, over an in-memory QUIC network.
"""

from __future__ import annotations

from itertools import pairwise

from dtt.transport import handshakes
from dtt.transport.handshakes import MAX_UNAUTHENTICATED
from dtt.transport.iroh import acceptor as quic_accepting
from tests.transport.iroh.common import IrohTestCase, RawPeer


class AcceptingTests(IrohTestCase):
    """
    Unauthenticated connections.
    """

    def test_too_many(self) -> None:
        """
        When there are too many handshakes, the oldest of the largest network is
        cancelled; others are not affected.
        """
        honest, raw = RawPeer(self, 3), RawPeer(self, 2)
        self.patch(quic_accepting, "RETRY_THRESHOLD", 1000)
        self.net.latency = 1
        first = honest.begin(self.a)
        dials = [raw.begin(self.a) for _ in range(MAX_UNAUTHENTICATED + 9)]
        self.patch(
            handshakes, "networks_of", lambda host: ("honest",) if host == "10.0.0.3" else ("hostile",)
        )
        self.advance(1.5)
        self.assertEqual(self.closed(), {"too many handshakes": 10})
        self.assertEqual(len(self.a._acceptor.handshakes), MAX_UNAUTHENTICATED)
        self.advance(10)
        self.successResultOf(first)
        self.assertEqual(self.a.counters["accepted"], MAX_UNAUTHENTICATED)
        self.assertEqual(len(self.a._acceptor.handshakes), 0)
        for dial in dials:
            dial.addErrback(lambda _: None)

    def test_addresses_are_proved(self) -> None:
        """
        When many handshakes are in progress, an address must be validated first, which
        costs a round trip.
        """
        self.patch(quic_accepting, "RETRY_THRESHOLD", 2)
        raws = [RawPeer(self, number) for number in range(2, 7)]
        dials = [raw.begin(self.a) for raw in raws]
        self.advance(1)
        self.assertEqual(self.a.counters["handshake_retried"], 3)
        for dial in dials:
            self.successResultOf(dial)
        self.assertEqual(self.a.counters["accepted"], 5)

    def test_time_limit(self) -> None:
        """
        A handshake that does not end is cancelled after 10 s.
        """
        raw = RawPeer(self, 2)
        self.net.latency = 30
        dial = raw.begin(self.a)
        self.advance(30.1)
        self.assertEqual(len(self.a._acceptor.handshakes), 1)
        self.advance(10)
        self.assertEqual(len(self.a._acceptor.handshakes), 0)
        self.assertEqual(self.closed(), {"handshake failed": 1})
        dial.addErrback(lambda _: None)

    def test_own_key(self) -> None:
        """
        A connection with our own key is refused.
        """
        raw = RawPeer(self, 1)
        dial = raw.begin(self.a)
        self.advance(1)
        self.assertEqual(self.closed(), {"own key": 1})
        self.successResultOf(dial)

    def test_flood(self) -> None:
        """
        A burst of connections does not starve the reactor.
        """
        raw = RawPeer(self, 2)
        for _ in range(200):
            raw.begin(self.a)
        refused = 200 - MAX_UNAUTHENTICATED
        turns: list[int] = []

        def tick() -> None:
            turns.append(self.a.counters["closed_too_many_handshakes"])
            if turns[-1] < refused and len(turns) < 1000:
                self.clock.callLater(0, tick)

        self.patch(quic_accepting, "RETRY_THRESHOLD", 1000)
        self.clock.callLater(0.01, tick)
        self.advance(0.015)
        self.assertEqual(turns[-1], refused)
        self.assertLessEqual(max(b - a for a, b in pairwise(turns)), quic_accepting.MAX_ACCEPTS)
