"""
Tests for L{dtt.transport.iroh.proofs}.
"""

from __future__ import annotations

import hmac

from twisted.trial.unittest import SynchronousTestCase

from dtt.errors import DecodeError
from dtt.transport.admission import MAX_TOPICS, MAX_UNMATCHED, topic_key
from dtt.transport.iroh.proofs import ProofParser, Proofs, proof_tag
from dtt.wire.length_prefix import prefix
from tests.transport.iroh.common import OTHER, SECRET, TOPIC

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
