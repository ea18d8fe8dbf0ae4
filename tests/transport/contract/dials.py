"""
The contract of transports: dials.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError

from dtt.wire.addresses import IROH, STREAMS, PeerAddress
from tests.transport.contract.case import OTHER, TOPIC, ContractMixin


class DialsMixin(ContractMixin):
    """
    How connections begin.
    """

    def test_dial(self) -> None:
        """
        A dial connects both sides; every topic on each side is notified once.
        """
        on_a, on_b = self.open(self.a, self.b)
        (also_on_a,) = self.open(self.a, topic=OTHER)
        self.assertFalse(self.a.is_connected(self.b.peer_id))
        self.connect(self.a, self.b)
        self.assertTrue(self.a.is_connected(self.b.peer_id))
        self.assertTrue(self.b.is_connected(self.a.peer_id))
        self.assertEqual(on_a.connected, [self.b.peer_id])
        self.assertEqual(also_on_a.connected, [self.b.peer_id])
        self.assertEqual(on_b.connected, [self.a.peer_id])
        self.assertEqual((self.a.counters["dialled"], self.b.counters["accepted"]), (1, 1))

    def test_dial_when_connected(self) -> None:
        """
        A dial of a connected peer fires immediately, with or without addresses.
        """
        self.connect(self.a, self.b)
        self.successResultOf(self.a.dial(self.b.peer_id, []))
        self.successResultOf(self.b.dial(self.a.peer_id, []))

    def test_joined_dials(self) -> None:
        """
        Two dials of one peer make one connection.
        """
        results = [self.a.dial(self.b.peer_id, self.b.addresses()) for _ in range(2)]
        self.net.advance(0.1)
        for result in results:
            self.successResultOf(result)
        self.assertEqual(self.net.connections(self.a), 1)

    def test_dial_fails(self) -> None:
        """
        A dial fails with a specific reason for: no address, connection refused, wrong
        peer key, own key, no answer.
        """
        c = self.net.transport(3)
        a, b = self.a.peer_id, self.b.peer_id
        nowhere = PeerAddress(self.net.kind, "10.0.0.200", 1)
        other = PeerAddress(STREAMS + IROH - self.net.kind, "10.0.0.2", 4433)
        self.assertEqual(self.reason(self.a.dial(b, [])), "no address")
        self.assertEqual(self.reason(self.a.dial(b, [other])), "no address")
        self.assertEqual(self.reason(self.a.dial(a, self.a.addresses())), "own key")
        refused = self.a.dial(b, [nowhere])
        self.net.advance(0.1 if self.net.refuses else 10.1)
        self.assertEqual(self.reason(refused), "connection refused" if self.net.refuses else "timed out")
        wrong = self.a.dial(b, c.addresses())
        self.net.advance(0.1)
        self.assertEqual(self.reason(wrong), "wrong peer key")
        self.assertFalse(self.a.is_connected(c.peer_id))
        self.net.silence(c)
        silent = self.a.dial(c.peer_id, c.addresses())
        self.net.advance(9.9)
        self.assertNoResult(silent)
        self.net.advance(0.2)
        self.assertEqual(self.reason(silent), "timed out")

    def test_one_of_several_addresses(self) -> None:
        """
        One working address among several is enough.
        """
        c = self.net.transport(3)
        addresses = [PeerAddress(self.net.kind, "10.0.0.200", 1), *c.addresses(), *self.b.addresses()]
        result = self.a.dial(self.b.peer_id, addresses)
        self.net.advance(1)
        self.successResultOf(result)
        self.assertEqual(self.net.connections(self.a), 1)

    def test_cancelled_dial(self) -> None:
        """
        A dial cancelled at any time leaves nothing behind; the next one works.
        """
        for milliseconds in range(0, 60, 7):
            result = self.a.dial(self.b.peer_id, self.b.addresses())
            self.net.advance(milliseconds / 1000)
            if result.called:
                break
            result.cancel()
            self.failureResultOf(result, CancelledError)
            self.net.advance(1)
            self.assertFalse(self.a.is_connected(self.b.peer_id))
            self.assertFalse(self.b.is_connected(self.a.peer_id))
            self.assertEqual(self.net.connections(self.a), 0)
        else:
            self.fail("no dial got through")
        self.assertGreater(milliseconds, 20)

    def test_dialled_by_the_peer_meanwhile(self) -> None:
        """
        A dial succeeds when the peer connects to us first.
        """
        c = self.net.transport(3)
        self.net.silence(c)
        running = self.a.dial(self.b.peer_id, c.addresses())
        self.net.advance(1)
        self.assertNoResult(running)
        self.open(self.a, self.b)
        self.connect(self.b, self.a)
        self.successResultOf(running)
        self.b.send(self.a.peer_id, TOPIC, b"hello")
        self.net.advance(12)
        self.assertEqual(self.net.connections(self.a), 1)
