"""
Tests for L{dtt.transport.iroh.gate}.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dtt.events import PeerRefused
from dtt.transport.iroh import gate as gate_module
from dtt.transport.iroh.gate import MAX_INCOMING, MAX_INCOMING_BYTES, MAX_OUTGOING, MAX_WAIT, Gate, Waiting
from dtt.wire.length_prefix import prefix
from tests.transport.iroh.common import OTHER, TOPIC, ProvingTestCase, RawPeer


class Connection:
    """
    Stands for a connection of a peer.
    """

    def __init__(self, peer_id: bytes) -> None:
        self.peer_id = peer_id


class GateTests(SynchronousTestCase):
    """
    Tests for L{Gate}.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.expired: list[tuple[bytes, bytes, list[bytes], list[bytes]]] = []
        self.gate = Gate(self.clock, self.expire)
        self.connection: Any = Connection(b"p" * 32)
        self.other: Any = Connection(b"q" * 32)

    def expire(self, peer_id: bytes, topic_id: bytes, waiting: Waiting) -> None:
        """
        Keep what has waited too long.
        """
        incoming = [message for _, message in waiting.incoming]
        self.expired.append((peer_id, topic_id, waiting.outgoing, incoming))

    def test_released(self) -> None:
        """
        What waits is returned once, in order, with the connections on which it came, and then no time limit
        is left.
        """
        self.assertIsNone(self.gate.release(b"p" * 32, TOPIC))
        for message in (b"1", b"2"):
            self.assertTrue(self.gate.hold_outgoing(b"p" * 32, TOPIC, message))
        self.assertEqual(self.gate.hold_incoming(self.connection, TOPIC, [b"3", b"4"]), 2)
        waiting = self.gate.release(b"p" * 32, TOPIC)
        assert waiting is not None
        self.assertEqual(waiting.outgoing, [b"1", b"2"])
        self.assertEqual(waiting.incoming, [(self.connection, b"3"), (self.connection, b"4")])
        self.assertIsNone(self.gate.release(b"p" * 32, TOPIC))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_time_limit(self) -> None:
        """
        The time is counted from the first message, in either direction, for each peer and topic.
        """
        self.gate.hold_outgoing(b"p" * 32, TOPIC, b"1")
        self.clock.advance(MAX_WAIT - 1)
        self.gate.hold_incoming(self.connection, TOPIC, [b"2"])
        self.gate.hold_incoming(self.connection, OTHER, [b"3"])
        self.clock.advance(1)
        self.assertEqual(self.expired, [(b"p" * 32, TOPIC, [b"1"], [b"2"])])
        self.clock.advance(MAX_WAIT - 1)
        self.assertEqual(self.expired[1:], [(b"p" * 32, OTHER, [], [b"3"])])

    def test_outgoing_is_bounded(self) -> None:
        """
        So many messages to a peer wait for each topic.
        """
        held = [self.gate.hold_outgoing(b"p" * 32, TOPIC, b"x") for _ in range(MAX_OUTGOING + 2)]
        self.assertEqual(held, [True] * MAX_OUTGOING + [False] * 2)
        self.assertTrue(self.gate.hold_outgoing(b"p" * 32, OTHER, b"x"))
        self.assertTrue(self.gate.hold_outgoing(b"q" * 32, TOPIC, b"x"))

    def test_incoming_is_bounded(self) -> None:
        """
        So many messages of a peer wait, and so many bytes, in all topics together.
        """
        self.assertEqual(self.gate.hold_incoming(self.connection, TOPIC, [b"x"] * (MAX_INCOMING - 1)), 3)
        self.assertEqual(self.gate.hold_incoming(self.connection, OTHER, [b"x"] * 5), 1)
        self.assertEqual(self.gate.hold_incoming(self.connection, OTHER, [b"x"]), 0)
        half = bytes(MAX_INCOMING_BYTES // 2)
        self.assertEqual(self.gate.hold_incoming(self.other, TOPIC, [half]), 1)
        self.assertEqual(self.gate.hold_incoming(self.other, OTHER, [half + b"x"]), 0)
        self.assertEqual(self.gate.hold_incoming(self.other, OTHER, [half, b"x"]), 1)

    def test_nothing_for_what_is_refused(self) -> None:
        """
        A message that is not held starts no time limit.
        """
        self.assertEqual(self.gate.hold_incoming(self.connection, TOPIC, [bytes(MAX_INCOMING_BYTES + 1)]), 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_bytes_of_all(self) -> None:
        """
        The bytes of all peers are bounded; there is room again after a release, a time limit, and a
        connection that ended.
        """
        self.patch(gate_module, "MAX_BYTES", 100)
        ends: tuple[Any, ...] = (
            lambda: self.gate.release(b"p" * 32, TOPIC),
            lambda: self.clock.advance(MAX_WAIT),
            lambda: self.gate.forget(b"p" * 32),
            lambda: self.gate.forget(topic_id=TOPIC),
            lambda: self.gate.forget(),
        )
        for end in ends:
            self.assertEqual(self.gate.hold_incoming(self.connection, TOPIC, [bytes(60)]), 1)
            self.assertEqual(self.gate.hold_incoming(self.other, OTHER, [bytes(41)]), 0)
            end()
            self.assertEqual(self.gate.hold_incoming(self.other, OTHER, [bytes(100)]), 1)
            self.gate.forget()
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_forgotten(self) -> None:
        """
        What waits for one peer, or one topic, can be dropped; the rest stays.
        """
        for peer_id in (b"p" * 32, b"q" * 32):
            for topic_id in (TOPIC, OTHER):
                self.gate.hold_outgoing(peer_id, topic_id, b"x")
        self.gate.forget(b"p" * 32, TOPIC)
        self.gate.forget(b"unknown", TOPIC)
        self.gate.forget(topic_id=OTHER)
        self.assertIsNotNone(self.gate.release(b"q" * 32, TOPIC))
        self.assertEqual(self.clock.getDelayedCalls(), [])


class StrangerTests(ProvingTestCase):
    """
    Peers that prove nothing to a transport that requires it.
    """

    def test_peer_without_proofs(self) -> None:
        """
        A peer that proves nothing, like a Rust member, neither gets a message nor has
        one delivered; it is refused after 5 s, which is reported.  Without the
        requirement it takes part.
        """
        for required in (False, True):
            transport, links, events = self.strict(5) if required else (self.a, self.on_a, [])
            raw = RawPeer(self, 7 + required)
            connection = raw.connect(transport)
            raw.write(connection, prefix(TOPIC) + prefix(b"join"))
            self.advance(0.5)
            self.assertEqual([text for _, text in links.messages], [] if required else [b"join"])
            transport.send(raw.key.peer_id, TOPIC, b"secret words")
            if not required:
                self.assertEqual(raw.read(connection), prefix(TOPIC) + prefix(b"secret words"))
                continue
            self.advance(MAX_WAIT)
            (event,) = events
            assert isinstance(event, PeerRefused)
            self.assertEqual(event.peer, raw.key.peer_id)
            self.assertEqual(transport.counters["refused_not_proved"], 1)
            self.assertEqual((links.messages, links.disconnected), ([], [raw.key.peer_id]))
            self.advance(2)
            self.assertEqual(transport.counters["closed_by_peer"], 0)
            self.assertFalse(transport.is_connected(raw.key.peer_id))
            self.assertEqual(connection.streams[0]._arrived, b"")

    def test_strangers_are_bounded(self) -> None:
        """
        Of what strangers send, four messages and 4096 bytes each are kept for 5 s, and
        nothing afterwards.
        """
        strict, links, _ = self.strict()
        raws = [RawPeer(self, 10 + number) for number in range(8)]
        for raw in raws:
            connection = raw.connect(strict)
            raw.write(connection, prefix(TOPIC) + prefix(b"x" * 1000) * 50)
        self.advance(0.5)
        gate = strict.peers._gate
        self.assertEqual(gate._bytes, 8 * 4 * 1000)
        self.assertEqual(strict.counters["received_not_proved"], 8 * 46)
        self.advance(6)
        self.assertEqual((gate._bytes, gate._waiting, links.messages), (0, {}, []))
        self.assertEqual(strict.counters["received_not_proved"], 8 * 50)
