"""
Tests for L{dtt.records.envelope}.
"""

from __future__ import annotations

import re
from pathlib import Path
from random import Random

from twisted.trial.unittest import SkipTest, SynchronousTestCase

import dtt
from dtt.errors import EnvelopeRefused, UsageError
from dtt.identity import PeerKey
from dtt.records.envelope import CONTEXT, OVERHEAD, Envelope, is_envelope, seal, unseal
from dtt.records.topic import TopicId
from tests.sweeps import sized

KEY = PeerKey(bytes(range(32)))
TOPIC = TopicId.from_name("garden party")
TIME = 1_800_000_000_000


class EnvelopeTests(SynchronousTestCase):
    """
    Sealing and verifying.
    """

    def test_example(self) -> None:
        """The example of docs/protocol/signed.md section 1 is what we write."""
        page = Path(dtt.__file__).parents[1] / "docs/protocol/signed.md"
        if not page.exists():
            raise SkipTest("the documentation is not beside an installed package")
        (shown,) = re.findall(r"```text\n(01 [0-9a-f \n|]+)```", page.read_text("utf-8"))
        data = seal(KEY, TOPIC, TIME, TIME * 1000, b"hello")
        self.assertEqual(bytes.fromhex(shown.replace("|", "")), data)
        self.assertEqual(unseal(TOPIC, data), Envelope(KEY.peer_id, TIME, TIME * 1000, b"hello"))

    def test_layout(self) -> None:
        """The signature is over the context, the topic and the rest; 113 bytes are added."""
        data = seal(KEY, TOPIC, 1, 2, b"content")
        self.assertEqual((len(data), OVERHEAD), (len(b"content") + 113, 113))
        self.assertEqual(data[-64:], KEY.sign(CONTEXT + TOPIC + data[:-64]))

    def test_every_bit_counts(self) -> None:
        """Whichever bit is changed, the message is refused; so it is in another topic."""
        data = seal(KEY, TOPIC, TIME, 1, b"hi")
        for position in range(8 * len(data)):
            changed = bytearray(data)
            changed[position // 8] ^= 1 << position % 8
            with self.assertRaises(EnvelopeRefused):
                unseal(TOPIC, bytes(changed))
        with self.assertRaises(EnvelopeRefused) as caught:
            unseal(TopicId.from_name("another party"), data)
        self.assertEqual((caught.exception.reason, caught.exception.author), ("bad signature", KEY.peer_id))

    def test_not_signed(self) -> None:
        """Data that is too short, or begins otherwise, is not an envelope."""
        for data in (b"", b"hello", b"\x01" * (OVERHEAD - 1), b"{" + bytes(200), b"\x02" + bytes(200)):
            self.assertFalse(is_envelope(data))
            with self.assertRaises(EnvelopeRefused) as caught:
                unseal(TOPIC, data)
            self.assertEqual((caught.exception.reason, caught.exception.author), ("not signed", None))

    def test_random(self) -> None:
        """Random bytes are refused, whatever they are; random contents come back."""
        for seed in range(sized(50, 2000)):
            rng = Random(seed)
            with self.assertRaises(EnvelopeRefused):
                unseal(TOPIC, b"\x01" + rng.randbytes(rng.randrange(300)))
            content = rng.randbytes(rng.randrange(4000))
            time, counter = rng.getrandbits(64), rng.getrandbits(64)
            found = unseal(TOPIC, seal(KEY, TOPIC, time, counter, content))
            self.assertEqual(found, Envelope(KEY.peer_id, time, counter, content), f"seed {seed}")

    def test_small_order(self) -> None:
        """A key of small order, whose signatures anyone can forge, is not an author."""
        for key in (bytes(32), b"\x01" + bytes(31), b"\xec" + b"\xff" * 30 + b"\x7f"):
            body = b"\x01" + key + bytes(16)
            with self.assertRaises(EnvelopeRefused):
                unseal(TOPIC, body + b"\x01" + bytes(63))

    def test_arguments(self) -> None:
        """Numbers that do not fit are refused."""
        for time, counter in ((-1, 0), (0, -1), (2**64, 0), (0, 2**64)):
            with self.assertRaises(UsageError):
                seal(KEY, TOPIC, time, counter, b"")
