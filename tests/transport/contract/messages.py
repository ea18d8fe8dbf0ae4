"""
The contract of transports: messages.
"""

from __future__ import annotations

from dtt.testing.memory_transport import RecordingLinks
from tests.transport.contract.case import OTHER, SECRET, TOPIC, ContractMixin


class MessagesMixin(ContractMixin):
    """
    Messages between connected peers.
    """

    def test_messages(self) -> None:
        """
        Messages arrive in order, on their topic, from their sender.
        """
        on_a, on_b = self.open(self.a, self.b)
        (others,) = self.open(self.a, topic=OTHER)
        self.open(self.b, topic=OTHER)
        self.connect(self.a, self.b)
        for number in range(10):
            self.a.send(self.b.peer_id, TOPIC, b"%d" % number)
            self.b.send(self.a.peer_id, TOPIC, b"%d" % number)
        self.b.send(self.a.peer_id, OTHER, b"other")
        self.net.advance(0.1)
        self.assertEqual(on_a.messages, [(self.b.peer_id, b"%d" % number) for number in range(10)])
        self.assertEqual(on_b.messages, [(self.a.peer_id, b"%d" % number) for number in range(10)])
        self.assertEqual(others.messages, [(self.b.peer_id, b"other")])
        largest = bytes(self.net.max_message)
        self.a.send(self.b.peer_id, TOPIC, largest)
        self.net.advance(0.1)
        self.assertEqual(on_b.messages[-1], (self.a.peer_id, largest))

    def test_not_connected(self) -> None:
        """
        A message to an unconnected peer is dropped, and so is one on a topic that is
        not open; a message that is too large is an error.
        """
        (on_a,) = self.open(self.a)
        self.a.send(self.b.peer_id, TOPIC, b"lost")
        self.a.disconnect(self.b.peer_id, TOPIC)
        self.connect(self.a, self.b)
        self.a.send(self.b.peer_id, OTHER, b"lost")
        self.net.advance(10)
        self.assertEqual(on_a.disconnected, [])
        self.assertRaises(ValueError, self.a.send, self.b.peer_id, TOPIC, bytes(self.net.max_message + 1))

    def test_topic_twice(self) -> None:
        """
        An open topic can't be opened again.
        """
        self.open(self.a)
        self.assertRaises(ValueError, self.a.open_topic, TOPIC, SECRET, RecordingLinks())
