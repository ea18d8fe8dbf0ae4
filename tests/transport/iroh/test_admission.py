"""
Tests for L{dtt.transport.iroh.admission}.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dtt.events import PeerRefused
from dtt.identity import PeerKey
from dtt.testing.memory_transport import RecordingLinks
from dtt.transport.admission import topic_key
from dtt.transport.iroh.admission import Admission
from dtt.transport.iroh.proofs import Proofs, proof_tag
from tests.transport.iroh.common import OTHER, SECRET, TOPIC, ProvingTestCase

PEER = PeerKey.from_seed(b"p" * 32).peer_id
OWN = b"o" * 32


class Connection:
    """
    Stands for a connection of a peer: its proofs, and what it was asked to prove.
    """

    def __init__(self, peer_id: bytes = PEER) -> None:
        self.peer_id = peer_id
        self.proofs = Proofs(b"1" * 32, OWN, peer_id, True)
        self.proofs.received(b"2" * 32, {})
        self.asked: list[bytes] = []

    def prove(self, topic_id: bytes) -> None:
        """Note it."""
        self.asked.append(topic_id)

    def tag(self, topic_id: bytes, secret: bytes = SECRET) -> bytes:
        """The peer's proof of a topic."""
        return proof_tag(topic_key(topic_id, secret), b"1" * 32 + b"2" * 32, self.peer_id, OWN)


class AdmissionTests(SynchronousTestCase):
    """
    Tests for L{Admission}.
    """

    def setUp(self) -> None:
        self.admission = Admission(True)
        self.connection: Any = Connection()

    def receive(self, connection: Any, topic_id: bytes) -> bytes | None:
        """
        Let a proof arrive on a connection.
        """
        return self.admission.frame_received(connection, connection.tag(topic_id))

    def test_proved(self) -> None:
        """
        A peer is admitted to the topic that it has proved; the first proof is reported, even if it comes on
        another connection.
        """
        self.admission.open_topic(TOPIC, SECRET, [self.connection])
        self.assertFalse(self.admission.admits(PEER, TOPIC))
        self.assertEqual(self.receive(self.connection, TOPIC), TOPIC)
        self.assertTrue(self.admission.admits(PEER, TOPIC))
        self.assertFalse(self.admission.admits(PEER, OTHER))
        self.assertFalse(self.admission.admits(b"x" * 32, TOPIC))
        self.assertIsNone(self.receive(self.connection, TOPIC))
        self.assertIsNone(self.receive(Connection(), TOPIC))

    def test_not_required(self) -> None:
        """
        A member that does not require proofs admits everybody, and still notes who has proved what.
        """
        self.admission = Admission(False)
        self.assertTrue(self.admission.admits(PEER, TOPIC))
        self.admission.open_topic(TOPIC, SECRET, [self.connection])
        self.assertEqual(self.receive(self.connection, TOPIC), TOPIC)

    def test_opened_later(self) -> None:
        """
        When a topic is opened whose proof has arrived, the peer is admitted, and gets our proof; a peer that
        has proved nothing gets none.
        """
        silent: Any = Connection(b"x" * 32)
        self.assertIsNone(self.receive(self.connection, TOPIC))
        self.admission.open_topic(TOPIC, SECRET, [self.connection, silent])
        self.assertTrue(self.admission.admits(PEER, TOPIC))
        self.assertFalse(self.admission.admits(silent.peer_id, TOPIC))
        self.assertEqual((self.connection.asked, silent.asked), ([TOPIC], []))

    def test_closed(self) -> None:
        """
        A topic that is closed must be proved again, with the secret with which it is opened again.
        """
        self.admission.open_topic(TOPIC, SECRET, [])
        self.admission.open_topic(OTHER, SECRET, [])
        self.receive(self.connection, TOPIC)
        self.receive(self.connection, OTHER)
        self.admission.close_topic(TOPIC, [self.connection])
        self.admission.close_topic(TOPIC, [self.connection])
        self.assertEqual(
            [self.admission.admits(PEER, topic_id) for topic_id in (TOPIC, OTHER)], [False, True]
        )
        self.assertEqual(set(self.admission.keys), {OTHER})
        self.admission.open_topic(TOPIC, b"x" * 32, [self.connection])
        self.assertFalse(self.admission.admits(PEER, TOPIC))

    def test_connection_ended(self) -> None:
        """
        What was proved on a connection that has ended no longer holds; what was proved on another one does.
        """
        other: Any = Connection()
        for topic_id in (TOPIC, OTHER):
            self.admission.open_topic(topic_id, SECRET, [])
        self.receive(self.connection, TOPIC)
        self.receive(other, OTHER)
        self.admission.connection_ended(PEER, [other])
        self.assertEqual(
            [self.admission.admits(PEER, topic_id) for topic_id in (TOPIC, OTHER)], [False, True]
        )
        self.admission.connection_ended(PEER, [])
        self.assertFalse(self.admission.admits(PEER, OTHER))
        self.admission.connection_ended(PEER, [])


class ExchangeTests(ProvingTestCase):
    """
    Which messages transports exchange, with and without proofs.
    """

    def test_members(self) -> None:
        """
        Members of dtt prove the topics that they use, in both directions, whether or
        not one requires it.
        """
        b, on_b = self.connected()
        self.a.send(b.peer_id, TOPIC, b"hello")
        self.advance(0.5)
        self.assertEqual((self.a.counters["proofs_accepted"], b.counters["proofs_accepted"]), (1, 1))
        self.assertEqual(on_b.messages, [(self.a.peer_id, b"hello")])

    def test_required(self) -> None:
        """
        A member that requires proofs exchanges messages with members of dtt, in order, whichever side dials
        or sends first, and even if both require them.
        """
        for number, both, we_dial, we_speak in ((n, n & 1, n & 2, n & 4) for n in range(8)):
            strict, on_strict, events = self.strict(10 + number)
            other, on_other = self.strict(20 + number)[:2] if both else self.transport(20 + number)
            self.dial(*((strict, other) if we_dial else (other, strict)))
            speaker, listener, heard = (strict, other, on_other) if we_speak else (other, strict, on_strict)
            for text in (b"1", b"2", b"3"):
                speaker.send(listener.peer_id, TOPIC, text)
            self.advance(0.5)
            self.assertEqual([text for _, text in heard.messages], [b"1", b"2", b"3"])
            answered = on_other if heard is on_strict else on_strict
            listener.send(speaker.peer_id, TOPIC, b"answer")
            self.advance(0.5)
            self.assertEqual([text for _, text in answered.messages], [b"answer"])
            self.assertEqual((events, on_strict.disconnected), ([], []))
            self.advance(20)
            speaker.send(listener.peer_id, TOPIC, b"later")
            self.advance(0.5)
            self.assertEqual(heard.messages[-1][1], b"later")

    def test_wrong_secret(self) -> None:
        """
        A member with another secret is refused.
        """
        strict, on_strict, events = self.strict()
        other, _ = self.transport(4)
        other.close_topic(TOPIC)
        on_other = RecordingLinks()
        other.open_topic(TOPIC, b"x" * 32, on_other)
        self.dial(other, strict)
        other.send(strict.peer_id, TOPIC, b"let me in")
        strict.send(other.peer_id, TOPIC, b"secret words")
        self.advance(6)
        self.assertEqual((on_strict.messages, on_other.messages), ([], []))
        self.assertEqual([type(event) for event in events], [PeerRefused])
        self.assertEqual(on_strict.disconnected, [other.peer_id])

    def test_topic_opened_later(self) -> None:
        """
        A peer that opens the topic after we have dialled it is admitted then.
        """
        strict, _, events = self.strict()
        other, _ = self.transport(4)
        other.close_topic(TOPIC)
        self.dial(strict, other)
        strict.send(other.peer_id, TOPIC, b"hello")
        self.advance(1)
        on_other = RecordingLinks()
        other.open_topic(TOPIC, SECRET, on_other)
        self.advance(1)
        self.assertEqual(on_other.messages, [(strict.peer_id, b"hello")])
        self.assertEqual(events, [])

    def test_second_connection(self) -> None:
        """
        A proof on one connection holds for the peer's other connections, and is sent again on the one that
        takes over.
        """
        strict, on_strict, events = self.strict()
        other, on_other = self.transport(4)
        self.dial(strict, other)
        strict.send(other.peer_id, TOPIC, b"1")
        self.advance(0.5)
        first = strict.peers.connections()
        result = other._dialing.dial(strict.peer_id, tuple(strict.addresses()))
        other.peers.table.current.pop(strict.peer_id, None)
        self.advance(0.5)
        self.successResultOf(result)
        self.assertEqual(len(strict.peers.connections()), 2)
        other.send(strict.peer_id, TOPIC, b"2")
        strict.send(other.peer_id, TOPIC, b"3")
        self.advance(0.5)
        for connection in first:
            connection._connection.lose("timed out")  # type: ignore[attr-defined]
        self.advance(0.5)
        strict.send(other.peer_id, TOPIC, b"4")
        self.advance(0.5)
        self.assertEqual([text for _, text in on_strict.messages], [b"2"])
        self.assertEqual([text for _, text in on_other.messages], [b"1", b"3", b"4"])
        self.assertEqual(events, [])
