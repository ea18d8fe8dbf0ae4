"""
Tests for L{dtt.transport.iroh.proofs} and for the exchange of proofs between iroh
transports.
"""

from __future__ import annotations

import hmac
from random import Random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dtt.errors import DecodeError, NoRoom
from dtt.events import Event, LimitReached, PeerRefused
from dtt.testing.iroh.streams import MemoryBiStream
from dtt.testing.memory_transport import RecordingLinks
from dtt.transport.admission import MAX_TOPICS, MAX_UNMATCHED, topic_key
from dtt.transport.iroh.gate import MAX_WAIT
from dtt.transport.iroh.proofs import ProofParser, Proofs, proof_tag
from dtt.transport.iroh.receiving import ReceiveStreams
from dtt.transport.iroh.transport import IrohTransport
from dtt.transport.settings import TransportSettings
from dtt.wire.length_prefix import prefix
from tests.transport.iroh.common import OTHER, SECRET, TOPIC, IrohTestCase, RawPeer

A, B = b"a" * 32, b"b" * 32
KEYS = {TOPIC: topic_key(TOPIC, SECRET)}


def frames(data: bytes) -> list[bytes]:
    """
    Return the nonces and tags in C{data}.
    """
    return ProofParser().feed(data)


class ProofsTests(SynchronousTestCase):
    """
    Tests for L{Proofs}: both ends of a connection.
    """

    def setUp(self) -> None:
        self.a = Proofs(b"1" * 32, A, B, True)
        self.b = Proofs(b"2" * 32, B, A, False)

    def meet(self) -> None:
        """
        Exchange the nonces.
        """
        for one, other in ((self.a, self.b), (self.b, self.a)):
            (nonce,) = frames(one.start())
            self.assertIsNone(other.received(nonce, KEYS))

    def test_definition(self) -> None:
        """
        The tag is as specified in docs/protocol/gossip.md section 16, and is sent once
        the peer's nonce is known.
        """
        self.a.prove(TOPIC)
        self.assertEqual(self.a.outgoing(KEYS), b"")
        self.meet()
        (tag,) = frames(self.a.outgoing(KEYS))
        self.assertEqual(tag, hmac.digest(KEYS[TOPIC], b"iroh" + b"1" * 32 + b"2" * 32 + A + B, "sha256"))
        self.assertEqual(self.b.received(tag, KEYS), TOPIC)
        self.assertEqual((self.b.proved, self.a.proved), ({TOPIC}, set()))
        self.a.prove(TOPIC)
        self.assertEqual(self.a.outgoing(KEYS), b"")
        self.assertIsNone(self.b.received(tag, KEYS))

    def test_useless_elsewhere(self) -> None:
        """
        A tag of another connection, direction, topic or secret proves nothing.
        """
        self.meet()
        nonces = b"1" * 32 + b"2" * 32
        for tag in (
            proof_tag(KEYS[TOPIC], b"1" * 32 + b"3" * 32, A, B),
            proof_tag(KEYS[TOPIC], b"2" * 32 + b"1" * 32, A, B),
            proof_tag(KEYS[TOPIC], nonces, B, A),
            proof_tag(KEYS[TOPIC], nonces, b"c" * 32, B),
            proof_tag(topic_key(OTHER, SECRET), nonces, A, B),
            proof_tag(topic_key(TOPIC, b"x" * 32), nonces, A, B),
        ):
            self.assertIsNone(self.b.received(tag, KEYS))
        self.assertEqual(self.b.proved, set())

    def test_topic_opened_later(self) -> None:
        """
        A tag is kept until we open its topic, and is forgotten as a proof when we close
        it; with another secret it proves nothing.
        """
        self.meet()
        self.a.prove(TOPIC)
        (tag,) = frames(self.a.outgoing(KEYS))
        self.assertIsNone(self.b.received(tag, {}))
        self.assertFalse(self.b.topic_opened(TOPIC, topic_key(TOPIC, b"x" * 32)))
        self.b.topic_closed(TOPIC)
        self.assertTrue(self.b.topic_opened(TOPIC, KEYS[TOPIC]))
        self.b.topic_closed(TOPIC)
        self.assertEqual(self.b.proved, set())
        self.assertTrue(self.b.topic_opened(TOPIC, KEYS[TOPIC]))

    def test_bounds(self) -> None:
        """
        Of tags that match nothing, sixteen are kept, and 1024 in total once one has
        matched; the sender keeps to that.
        """
        topics = {n.to_bytes(32, "big"): topic_key(n.to_bytes(32, "big"), SECRET) for n in range(1200)}
        self.meet()
        for topic_id in topics:
            self.a.prove(topic_id)
        sent = frames(self.a.outgoing(topics))
        self.assertEqual(len(sent), MAX_UNMATCHED)
        for tag in sent:
            self.assertIsNone(self.b.received(tag, KEYS))
        self.assertIsNone(self.b.received(b"x" * 32, KEYS))
        self.assertEqual(self.b.ignored, 1)
        self.b.prove(TOPIC)
        (answer,) = frames(self.b.outgoing(KEYS))
        self.a.topic_opened(TOPIC, KEYS[TOPIC])
        self.assertEqual(self.a.received(answer, {**topics, **KEYS}), TOPIC)
        sent = frames(self.a.outgoing(topics))
        self.assertEqual(len(sent), MAX_TOPICS - MAX_UNMATCHED)
        self.b.received(proof_tag(KEYS[TOPIC], b"1" * 32 + b"2" * 32, A, B), KEYS)
        for tag in sent:
            self.b.received(tag, KEYS)
        self.assertEqual(len(self.b._tags), MAX_TOPICS)

    def test_malformed(self) -> None:
        """
        Any other frame is an error, in however small pieces it arrives.
        """
        for data in (prefix(b"x" * 31), prefix(b"x" * 33), bytes(4), b"\xff" * 4):
            parser = ProofParser()
            good = prefix(b"n" * 32) + prefix(b"t" * 32)
            received = [frame for byte in good for frame in parser.feed(bytes((byte,)))]
            self.assertEqual(received, [b"n" * 32, b"t" * 32])
            error = self.assertRaises(DecodeError, lambda d=data, p=parser: [p.feed(bytes((b,))) for b in d])
            self.assertEqual(str(error), "bad proof")


class ExchangeTests(IrohTestCase):
    """
    Tests of transports on a network in memory.
    """

    def strict(self, number: int = 3) -> tuple[IrohTransport, RecordingLinks, list[Event]]:
        """
        A transport that requires proofs, and its events.
        """
        events: list[Event] = []
        made, links = self.transport(
            number, settings=TransportSettings(require_secret=True, emit=events.append)
        )
        return made, links, events

    def dial(self, one: IrohTransport, other: IrohTransport) -> None:
        """
        Connect.
        """
        result = one.dial(other.peer_id, other.addresses())
        self.advance(0.1)
        self.successResultOf(result)

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

    def test_hostile_streams(self) -> None:
        """
        Garbage on the stream of proofs ends the connection; an end of the stream, a
        flood of tags and a reset do not, and cost nothing.
        """
        rng = Random(1)
        for data, expected in (
            (b"\xff" * 8, {"bad proof": 1}),
            (prefix(b"n" * 32), {}),
            (b"".join(prefix(rng.randbytes(32)) for _ in range(3000)), {}),
        ):
            self.a.counters.clear()
            raw = RawPeer(self, 30 + len(data) % 7)
            connection = raw.connect(self.a)
            stream: MemoryBiStream = raw.call(connection.open_bi())
            raw.call(stream.send().write_all(data))
            self.advance(1)
            self.assertEqual(self.closed(), expected)
            if not expected:
                self.assertEqual(raw.call(stream.recv().read(100))[:4], bytes((0, 0, 0, 32)))
                raw.call(stream.send().finish())
                self.advance(0.5)
                self.assertEqual(self.closed(), {})
                for mine in self.a.peers.connections():
                    if mine.peer_id == raw.key.peer_id:
                        self.assertLessEqual(len(mine.proofs._tags), MAX_UNMATCHED)

    def test_acceptor_may_not_open(self) -> None:
        """
        Only the side that dialled opens the stream.
        """
        raw = RawPeer(self, 9)
        dialled = self.a.dial(raw.key.peer_id, [raw.address])
        self.advance(0.1)
        connection = raw.accept()
        self.successResultOf(dialled)
        stream: Any = raw.call(connection.open_bi())
        raw.call(stream.send().write_all(b"x"))
        self.advance(0.2)
        self.assertEqual(self.closed(), {"bidirectional stream": 1})

    def test_ended_at_once(self) -> None:
        """
        A connection that what has arrived before ends at its start proves nothing.
        """
        self.patch(ReceiveStreams, "start", lambda receiving: receiving._on_failed("too soon"))
        raw = RawPeer(self, 9)
        raw.connect(self.a)
        self.assertEqual(self.closed(), {"too soon": 1})
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_no_room(self) -> None:
        """
        Who is refused for lack of connections learns the reason, and who refuses
        reports the peer.
        """
        events: list[Event] = []
        full, on_full = self.transport(3, settings=TransportSettings(1, emit=events.append))
        first, _ = self.transport(4)
        self.dial(first, full)
        first.send(full.peer_id, TOPIC, b"hello")
        self.advance(0.5)
        second, on_second = self.transport(5)
        dialled = second.dial(full.peer_id, full.addresses())
        self.advance(0.02)
        self.successResultOf(dialled)
        second.send(full.peer_id, TOPIC, b"hello")
        self.advance(0.5)
        self.assertEqual(len(on_full.messages), 1)
        self.assertEqual(
            events,
            [LimitReached("connections", 1), PeerRefused(second.peer_id, "too many connections")],
        )
        self.assertEqual([reason for _, _, reason in on_second.broken], ["the peer has too many connections"])
        refused = self.failureResultOf(full.dial(second.peer_id, second.addresses()), NoRoom)
        self.assertEqual(str(refused.value), "too many connections")
        self.assertEqual(full.counters["dial_no_room"], 1)

    def test_nonces_differ(self) -> None:
        """
        Each connection has a separate nonce.
        """
        nonces = set()
        for number in range(10, 15):
            raw = RawPeer(self, number)
            connection = raw.connect(self.a)
            stream: Any = raw.call(connection.open_bi())
            raw.call(stream.send().write_all(prefix(b"n" * 32)))
            self.advance(0.2)
            nonces.add(raw.call(stream.recv().read(36)))
        self.assertEqual(len(nonces), 5)

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
        other.peers._table.current.pop(strict.peer_id, None)
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
