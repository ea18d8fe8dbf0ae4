"""
The contract of transports: slow readers, and the number of connections.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError

from dtt.transport.iroh.transport import IrohTransport
from tests.transport.contract.case import TOPIC, ContractMixin


class LimitsMixin(ContractMixin):
    """
    What one peer may keep waiting, and how many peers.
    """

    def test_when_writable(self) -> None:
        """
        A peer that does not read is not writable until it has read; other peers are,
        connected or not.
        """
        _, on_b = self.open(self.a, self.b)
        self.connect(self.a, self.b)
        self.a.send(self.b.peer_id, TOPIC, b"hello")
        self.net.advance(0.1)
        self.successResultOf(self.a.when_writable([self.b.peer_id, b"x" * 32]))
        self.net.stall(self.b)
        for _ in range(200):
            self.a.send(self.b.peer_id, TOPIC, bytes(4000))
        self.net.advance(1)
        waiting, cancelled = (self.a.when_writable([self.b.peer_id]) for _ in range(2))
        self.assertNoResult(waiting)
        cancelled.cancel()
        self.failureResultOf(cancelled, CancelledError)
        self.successResultOf(self.a.when_writable([b"x" * 32]))
        self.successResultOf(self.a.when_writable([]))
        self.net.resume(self.b)
        self.net.advance(5)
        self.successResultOf(waiting)
        self.assertEqual(len(on_b.messages), 201)

    def test_writable_when_gone(self) -> None:
        """
        A disconnected peer is writable.
        """
        self.open(self.a, self.b)
        self.connect(self.a, self.b)
        self.a.send(self.b.peer_id, TOPIC, b"hello")
        self.net.advance(0.1)
        self.net.stall(self.b)
        for _ in range(200):
            self.a.send(self.b.peer_id, TOPIC, bytes(4000))
        self.net.advance(1)
        waiting = self.a.when_writable([self.b.peer_id])
        self.assertNoResult(waiting)
        self.net.cut(self.a, self.b)
        self.net.advance(1)
        self.successResultOf(waiting)

    def test_too_many_connections(self) -> None:
        """
        At the limit the oldest connection that serves no topic is closed; if all serve
        one, the new one is refused.
        """
        b: Any = self.b
        connections = b.peers if isinstance(b, IrohTransport) else b.multiplexer
        self.patch(connections.table, "_max_connections", 2)
        others = [self.net.transport(n) for n in range(3, 7)]
        self.open(self.b, *others)
        for other in others[:3]:
            self.connect(other, self.b)
        self.net.advance(1)
        self.assertEqual([self.b.is_connected(o.peer_id) for o in others], [False, True, True, False])
        self.assertEqual(self.b.counters["closed_made_room"], 1)
        for other in others[1:3]:
            other.send(self.b.peer_id, TOPIC, b"hello")
        self.net.advance(1)
        others[3].dial(self.b.peer_id, self.b.addresses()).addErrback(lambda _: None)
        self.net.advance(1)
        self.assertEqual([self.b.is_connected(o.peer_id) for o in others], [False, True, True, False])
        self.assertFalse(others[3].is_connected(self.b.peer_id))
        self.assertEqual(self.b.counters["refused_too_many_connections"], 1)
