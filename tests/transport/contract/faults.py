"""
The contract of transports: faults of a peer and our own, and calls from within a callback.
"""

from __future__ import annotations

from dtt.errors import DecodeError
from tests.transport.contract.case import BYE, TOPIC, ContractMixin


class FaultsMixin(ContractMixin):
    """
    What a callback may do.
    """

    def test_peer_misbehaves(self) -> None:
        """
        A message that its topic rejects ends the connection for all topics; the reason
        is counted.
        """
        on_a, on_b = self.open(self.a, self.b)

        def refuse(peer_id: bytes, message: bytes) -> None:
            raise DecodeError("nonsense")

        on_b.on_message = refuse
        self.connect(self.a, self.b)
        self.a.send(self.b.peer_id, TOPIC, b"hello")
        self.a.send(self.b.peer_id, TOPIC, b"more")
        self.net.advance(1)
        self.assertEqual(len(on_b.messages), 1)
        self.assertEqual(self.b.counters["closed_nonsense"], 1)
        self.assertEqual(on_a.disconnected, [self.b.peer_id])
        self.assertEqual(on_b.disconnected, [self.a.peer_id])
        self.assertEqual(self.net.connections(self.b), 0)

    def test_our_own_fault(self) -> None:
        """
        Any other exception is logged and ends the connection.
        """
        _, on_b = self.open(self.a, self.b)

        def fail(peer_id: bytes, message: bytes) -> None:
            raise ZeroDivisionError

        on_b.on_message = fail
        self.connect(self.a, self.b)
        self.a.send(self.b.peer_id, TOPIC, b"hello")
        self.net.advance(1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.b.counters["closed_internal_error"], 1)
        self.assertEqual(self.net.connections(self.b), 0)

    def test_everything_within_a_callback(self) -> None:
        """
        A topic may call any method while it handles a message.
        """
        on_a, on_b = self.open(self.a, self.b)
        self.connect(self.a, self.b)

        def leave(peer_id: bytes, message: bytes) -> None:
            self.b.send(peer_id, TOPIC, BYE)
            self.b.disconnect(peer_id, TOPIC)
            self.b.close_topic(TOPIC)

        self.a.send(self.b.peer_id, TOPIC, b"hello")
        self.net.advance(1)
        on_b.on_message = leave
        for _ in range(3):
            self.a.send(self.b.peer_id, TOPIC, b"hello")
            self.net.advance(0.001)
        self.net.advance(2)
        self.assertEqual(len(on_b.messages), 2)
        self.assertEqual(on_a.messages, [(self.b.peer_id, BYE)])
        self.assertEqual(self.net.connections(self.a), 0)
