"""
Tests for L{dtt.transport.quic.probes}.
"""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis.strategies import binary
from twisted.trial.unittest import SynchronousTestCase

from dtt.transport.quic import probes as probes_module
from dtt.transport.quic.probes import MAX_SKEW, PING, PROBE_SIZE, Probes, hint_at, probe_key
from tests.transport.quic.network import KEYS

TOPIC, OTHER, SECRET = b"t" * 32, b"u" * 32, b"s" * 32
ALICE, BOB, CAROL = (key.peer_id for key in KEYS[:3])
NOW = 1_800_000_000.0


class ProbesTests(SynchronousTestCase):
    """
    Writing and reading probes.
    """

    def setUp(self) -> None:
        self.alice, self.bob = Probes(ALICE), Probes(BOB)
        for probes in (self.alice, self.bob):
            probes.open_topic(TOPIC, SECRET)

    def test_ping_and_pong(self) -> None:
        """
        The receiver reads sender, topic and nonce; the answer is as large.
        """
        ping = self.alice.ping(TOPIC, BOB, b"n" * 12, NOW)
        self.assertEqual(len(ping), PROBE_SIZE)
        probe = self.bob.open(ping, NOW)
        assert probe is not None
        self.assertEqual(
            (probe.is_ping, probe.topic_id, probe.sender, probe.nonce), (True, TOPIC, ALICE, b"n" * 12)
        )
        pong = self.bob.pong(probe, NOW)
        self.assertEqual(len(pong), PROBE_SIZE)
        answer = self.alice.open(pong, NOW)
        assert answer is not None
        self.assertEqual((answer.is_ping, answer.sender, answer.nonce), (False, BOB, b"n" * 12))

    def test_known_bytes(self) -> None:
        """
        The bytes are those of docs/protocol/quic.md section 3.
        """
        key = probe_key(bytes(32), bytes(32))
        self.assertEqual(key.hex()[:16], "f48d7651f041e6e5")
        self.assertEqual(hint_at(key, 30_000_000).hex(), "5f358f4b")

    def test_secrecy(self) -> None:
        """
        Without the secret a probe can be neither read nor written, and nothing in it
        shows who sends it to whom.
        """
        stranger = Probes(CAROL)
        stranger.open_topic(TOPIC, b"x" * 32)
        ping = self.alice.ping(TOPIC, BOB, b"n" * 12, NOW)
        self.assertIsNone(stranger.open(ping, NOW))
        self.assertIsNone(self.bob.open(stranger.ping(TOPIC, BOB, b"m" * 12, NOW), NOW))
        for secret in (ALICE, BOB, TOPIC, SECRET):
            self.assertNotIn(secret[:4], ping)

    def test_changed(self) -> None:
        """
        A probe with any bit changed is refused.
        """
        ping = self.alice.ping(TOPIC, BOB, b"n" * 12, NOW)
        for bit in range(8 * len(ping)):
            changed = bytearray(ping)
            changed[bit // 8] ^= 1 << bit % 8
            self.assertIsNone(self.bob.open(bytes(changed), NOW), f"bit {bit}")
        for size in (*range(len(ping)), len(ping) + 1):
            self.assertIsNone(self.bob.open((ping + b"x")[:size], NOW), f"{size} bytes")
        self.assertIsNotNone(self.bob.open(ping, NOW))

    def test_replay(self) -> None:
        """
        A PING is accepted once, and only within 3 minutes, whichever way the clocks
        differ.
        """
        for late in (-MAX_SKEW, 0, MAX_SKEW):
            ping = self.alice.ping(TOPIC, BOB, Random(str(late)).randbytes(12), NOW)
            self.assertIsNotNone(self.bob.open(ping, NOW + late), late)
            self.assertIsNone(self.bob.open(ping, NOW + late), late)
        for late in (-MAX_SKEW - 2, MAX_SKEW + 2):
            self.assertIsNone(self.bob.open(self.alice.ping(TOPIC, BOB, b"n" * 12, NOW), NOW + late))

    def test_for_somebody_else(self) -> None:
        """
        A probe for another member, or from ourselves, is refused.
        """
        self.assertIsNone(self.bob.open(self.alice.ping(TOPIC, CAROL, b"n" * 12, NOW), NOW))
        self.assertIsNone(self.alice.open(self.alice.ping(TOPIC, ALICE, b"n" * 12, NOW), NOW))

    def test_closed_topic(self) -> None:
        """
        Probes of a topic that is not open are refused.
        """
        ping = self.alice.ping(TOPIC, BOB, b"n" * 12, NOW)
        self.bob.close_topic(TOPIC)
        self.bob.close_topic(OTHER)
        self.assertIsNone(self.bob.open(ping, NOW))

    def test_many_nonces(self) -> None:
        """
        The memory for nonces is bounded; those that were seen last are kept.
        """
        self.patch(probes_module, "MAX_NONCES", 3)
        pings = [self.alice.ping(TOPIC, BOB, bytes((number,)) * 12, NOW) for number in range(5)]
        for ping in pings:
            self.assertIsNotNone(self.bob.open(ping, NOW))
        self.assertEqual([self.bob.open(ping, NOW) is None for ping in pings[2:]], [True] * 3)
        self.assertIsNotNone(self.bob.open(pings[0], NOW))

    def test_replay_with_a_fast_clock(self) -> None:
        """
        A PING of a member whose clock is 3 minutes ahead is remembered for the 6 minutes for which it is
        valid.
        """
        ping = self.alice.ping(TOPIC, BOB, b"n" * 12, NOW + MAX_SKEW)
        self.assertIsNotNone(self.bob.open(ping, NOW))
        other = self.alice.ping(TOPIC, BOB, b"m" * 12, NOW + 2 * MAX_SKEW)
        self.assertIsNotNone(self.bob.open(other, NOW + 2 * MAX_SKEW))
        self.assertIsNone(self.bob.open(ping, NOW + 2 * MAX_SKEW))

    def test_refused_first(self) -> None:
        """
        A PING that is refused because of its time does not count as seen.
        """
        ping = self.alice.ping(TOPIC, BOB, b"n" * 12, NOW + MAX_SKEW + 30)
        self.assertIsNone(self.bob.open(ping, NOW))
        self.assertIsNotNone(self.bob.open(ping, NOW + 60))

    def test_pong_again(self) -> None:
        """
        A PONG is read as often as it arrives, and a PING does not pass for one.
        """
        ping = self.alice.ping(TOPIC, BOB, b"n" * 12, NOW)
        probe = self.bob.open(ping, NOW)
        assert probe is not None
        pong = self.bob.pong(probe, NOW)
        for _ in range(2):
            answer = self.alice.open(pong, NOW)
            assert answer is not None
            self.assertFalse(answer.is_ping)
        self.assertIsNone(self.bob.open(pong[:4] + ping[4:], NOW))

    def test_form(self) -> None:
        """
        The form and the hint of a probe are checked without its key: those of a topic that is open count,
        for 3 minutes.
        """
        ping = self.alice.ping(TOPIC, BOB, b"n" * 12, NOW)
        forged = ping[:8] + bytes(PROBE_SIZE - 8)
        self.assertTrue(self.bob.may_be_valid(forged, NOW))
        for late in (-MAX_SKEW, MAX_SKEW):
            self.assertTrue(self.bob.may_be_valid(forged, NOW + late))
        for late in (-MAX_SKEW - 60, MAX_SKEW + 60):
            self.assertFalse(self.bob.may_be_valid(forged, NOW + late))
        self.assertFalse(self.bob.may_be_valid(forged[:-1], NOW))
        self.assertFalse(self.bob.may_be_valid(b"\x00dt\x03" + forged[4:], NOW))
        self.assertFalse(Probes(CAROL).may_be_valid(forged, NOW))

    def test_topics(self) -> None:
        """
        Probes of each open topic are read, also of one that was opened a moment ago.
        """
        self.assertIsNotNone(self.bob.open(self.alice.ping(TOPIC, BOB, b"1" * 12, NOW), NOW))
        for probes in (self.alice, self.bob):
            probes.open_topic(OTHER, SECRET)
        self.assertEqual(self.bob.topics, (TOPIC, OTHER))
        for topic_id, nonce in ((OTHER, b"2" * 12), (TOPIC, b"3" * 12)):
            probe = self.bob.open(self.alice.ping(topic_id, BOB, nonce, NOW), NOW)
            assert probe is not None
            self.assertEqual(probe.topic_id, topic_id)
        self.bob.close_topic(TOPIC)
        self.assertEqual((self.bob.is_open(TOPIC), self.bob.is_open(OTHER)), (False, True))

    def test_no_clock(self) -> None:
        """
        A machine that starts at the beginning of time reads and writes probes.
        """
        self.assertIsNotNone(self.bob.open(self.alice.ping(TOPIC, BOB, b"n" * 12, 5.0), 0.0))

    @given(binary(max_size=200))
    def test_garbage(self, data: bytes) -> None:
        """
        Garbage is refused without an error.
        """
        self.assertIsNone(self.bob.open(data, NOW))
        self.assertIsNone(self.bob.open((PING + data)[:PROBE_SIZE], NOW))
