"""
Tests for L{dtt.records.replays}.
"""

from __future__ import annotations

import time
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from dtt.errors import EnvelopeRefused
from dtt.identity import PeerKey
from dtt.records.envelope import Envelope, seal
from dtt.records.replays import SPAN, WINDOW, Replays, Verifier
from tests.sweeps import sized

NOW = 1_800_000_000_000
ALICE, BOB = b"a" * 32, b"b" * 32


def message(author: bytes, counter: int, time: int = NOW) -> Envelope:
    """
    Return a message.
    """
    return Envelope(author, time, counter, b"")


class ReplaysTests(SynchronousTestCase):
    """
    What is accepted once, and what is not.
    """

    def setUp(self) -> None:
        self.replays = Replays()

    def accepts(self, each: Envelope, now: int = NOW) -> bool:
        """
        Whether a message is accepted now.
        """
        try:
            self.replays.check(each, now)
        except EnvelopeRefused:
            return False
        return True

    def test_once(self) -> None:
        """Each message is accepted once, in any order, within the span of counters."""
        for seed in range(sized(5, 50)):
            self.replays = Replays()
            rng = Random(seed)
            counters = list(range(10_000, 10_000 + SPAN))
            rng.shuffle(counters)
            for author in (ALICE, BOB):
                for counter in counters:
                    self.assertTrue(self.accepts(message(author, counter)), f"seed {seed}")
                for counter in counters:
                    self.assertFalse(self.accepts(message(author, counter)), f"seed {seed}")

    def test_old_counters(self) -> None:
        """Counters below the span are refused: it is not known whether they were seen."""
        self.assertTrue(self.accepts(message(ALICE, 5000)))
        self.assertTrue(self.accepts(message(ALICE, 5000 - SPAN + 1)))
        self.assertFalse(self.accepts(message(ALICE, 5000 - SPAN)))
        self.assertTrue(self.accepts(message(ALICE, 2**64 - 1)))
        self.assertFalse(self.accepts(message(ALICE, 5001)))

    def test_time(self) -> None:
        """A time outside the window is refused, and the exception says by how many seconds."""
        self.assertTrue(self.accepts(message(ALICE, 1, NOW - WINDOW)))
        self.assertTrue(self.accepts(message(ALICE, 2, NOW + WINDOW)))
        for difference in (-WINDOW - 1, WINDOW + 1, -3_600_000):
            with self.assertRaises(EnvelopeRefused) as caught:
                self.replays.check(message(BOB, 1, NOW + difference), NOW)
            refusal = caught.exception
            self.assertEqual(
                (refusal.reason, refusal.author, refusal.ahead), ("time", BOB, difference / 1000)
            )
        self.assertEqual(len(self.replays), 1)

    def test_forgotten(self) -> None:
        """An author is forgotten when its messages would be refused for their time, and not before."""
        early, late = message(ALICE, 1, NOW - WINDOW), message(ALICE, 2, NOW + WINDOW)
        self.assertTrue(self.accepts(late) and self.accepts(early))
        for later in (0, WINDOW, 2 * WINDOW):
            self.assertFalse(self.accepts(late, NOW + later))
        self.assertEqual(len(self.replays), 1)
        self.assertTrue(self.accepts(message(BOB, 1, NOW + 2 * WINDOW + 1), NOW + 2 * WINDOW + 1))
        self.assertEqual(len(self.replays), 1)
        self.assertFalse(self.accepts(late, NOW + 2 * WINDOW + 1))

    def test_many_authors(self) -> None:
        """
        Beyond the limit the author that was quiet for longest is forgotten; its messages are still
        not accepted twice, and its next one is accepted.
        """
        self.replays = Replays(max_authors=10)
        old = message(ALICE, 1, NOW - 5000)
        self.assertTrue(self.accepts(old))
        for number in range(10):
            self.assertTrue(self.accepts(message(bytes((number,)) * 32, 1, NOW + number)))
        self.assertEqual(len(self.replays), 10)
        self.assertFalse(self.accepts(old))
        self.assertTrue(self.accepts(message(ALICE, 2, NOW + 100)))

    def test_flood(self) -> None:
        """
        However many authors there are, memory is bounded, nothing is accepted twice, and a member
        with a good clock is always heard.
        """
        for seed in range(sized(8, 300)):
            rng = Random(seed)
            self.replays = Replays(max_authors=20)
            accepted: set[tuple[bytes, int]] = set()
            sent: list[Envelope] = []
            now = NOW
            counter = 0
            for _ in range(2000):
                now += rng.randrange(1, 500)
                if rng.random() < 0.1:
                    counter += 1
                    honest = message(ALICE, counter, now)
                    sent.append(honest)
                    self.assertTrue(self.accepts(honest, now), f"seed {seed}")
                    accepted.add((ALICE, counter))
                    continue
                if sent and rng.random() < 0.5:
                    each = rng.choice(sent[-200:])
                else:
                    each = message(rng.randbytes(32), rng.randrange(5), now + rng.randrange(-WINDOW, WINDOW))
                    sent.append(each)
                if self.accepts(each, now):
                    self.assertNotIn((each.author, each.counter), accepted, f"seed {seed}")
                    accepted.add((each.author, each.counter))
                self.assertLessEqual(len(self.replays), 20)
                self.assertLessEqual(len(self.replays._order), 80 + 1)

    def test_future(self) -> None:
        """
        Authors whose times are all ahead do not lock out one whose time is right.
        """
        self.replays = Replays(max_authors=10)
        for number in range(50):
            fake = message(bytes((number,)) * 32, 1, NOW + WINDOW - number)
            self.assertEqual(self.accepts(fake), number < 10)
        for number in range(5):
            honest = message(ALICE, number, NOW + 100 * number)
            self.assertTrue(self.accepts(honest, NOW + 100 * number))
            self.assertFalse(self.accepts(honest, NOW + 100 * number))

    def test_cost(self) -> None:
        """A full memory does not make a message expensive."""
        began = time.process_time()
        for number in range(20_000):
            self.accepts(message(number.to_bytes(32, "big"), 1, NOW + number % 1000))
        self.assertLess(time.process_time() - began, 5)


class VerifierTests(SynchronousTestCase):
    """
    Signatures and replays together.
    """

    def test_open(self) -> None:
        """A message is opened once; one of our own that comes back is a replay."""
        key, topic = PeerKey(b"k" * 32), b"t" * 32
        verifier = Verifier(topic, PeerKey(b"o" * 32).peer_id)
        data = seal(key, topic, NOW, 1, b"hello")
        self.assertEqual(verifier.open(data, NOW / 1000 + 5).content, b"hello")
        own = seal(PeerKey(b"o" * 32), topic, NOW, 1, b"mine")
        for again in (data, own):
            with self.assertRaises(EnvelopeRefused) as caught:
                verifier.open(again, NOW / 1000)
            self.assertEqual(caught.exception.reason, "replay")

    def test_forged(self) -> None:
        """A forged message does not use up the counter of its author."""
        key, topic = PeerKey(b"k" * 32), b"t" * 32
        verifier = Verifier(topic, b"o" * 32)
        data = seal(key, topic, NOW, 1, b"hello")
        with self.assertRaises(EnvelopeRefused):
            verifier.open(data[:-1] + bytes((data[-1] ^ 1,)), NOW / 1000)
        self.assertEqual(verifier.open(data, NOW / 1000).content, b"hello")
