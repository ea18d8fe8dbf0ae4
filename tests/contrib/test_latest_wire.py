"""
Tests for L{dtt.contrib.latest_wire}.
"""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from dtt.contrib.latest_wire import (
    FIRST,
    KEY_BYTES,
    LAST,
    SUMMARY,
    TO_NEIGHBOR,
    TO_SWARM,
    Entry,
    Summary,
    decode,
    encode_entry,
    encode_summaries,
    encode_summary,
    key_of,
)
from dtt.errors import DecodeError


class EntryTests(SynchronousTestCase):
    """
    Tests for entries.
    """

    def test_bytes(self) -> None:
        """
        An entry has the documented bytes.
        """
        entry = Entry(b"me", 258, b"value")
        encoded = encode_entry(entry, TO_SWARM)
        self.assertEqual(encoded, b"dtt-lv1e\x02me\0\0\0\0\0\0\x01\x02value")
        self.assertEqual(decode(encoded), entry)
        self.assertEqual(encode_entry(entry, TO_NEIGHBOR), b"dtt-lv1n" + encoded[8:])
        self.assertEqual(decode(encode_entry(entry, TO_NEIGHBOR)), entry)

    def test_beats(self) -> None:
        """
        The larger version wins, then the larger value.
        """
        entry = Entry(b"a", 2, b"b")
        self.assertTrue(entry.beats(None))
        self.assertFalse(entry.beats(entry))
        for other, wins in ((Entry(b"a", 1, b"z"), True), (Entry(b"a", 3, b""), False)):
            self.assertEqual(entry.beats(other), wins)
            self.assertEqual(other.beats(entry), not wins)
        self.assertTrue(entry.beats(Entry(b"a", 2, b"a")))

    def test_malformed(self) -> None:
        """
        Malformed messages are refused; those of others are not ours.
        """
        good = encode_entry(Entry(b"me", 1, b""), TO_SWARM)
        for content in (
            TO_SWARM,
            good[:-1],
            TO_SWARM + b"\0" + bytes(8),
            TO_SWARM + b"\x41" + bytes(0x41 + 8),
            SUMMARY,
            SUMMARY + bytes(31),
            SUMMARY + LAST + FIRST,
            SUMMARY + FIRST + LAST + bytes(23),
            SUMMARY + FIRST + FIRST + LAST + bytes(8),
        ):
            self.assertRaises(DecodeError, decode, content)
        for content in (b"", b"dtt-lv1", b"hello, world"):
            self.assertIsNone(decode(content))


class SummaryTests(SynchronousTestCase):
    """
    Tests for summaries.
    """

    def test_bytes(self) -> None:
        """
        A summary has the documented bytes.
        """
        key = key_of(b"me")
        self.assertEqual(len(key), KEY_BYTES)
        summary = Summary(FIRST, LAST, {key: 1})
        encoded = encode_summary(summary)
        self.assertEqual(encoded, b"dtt-lv1s" + FIRST + LAST + key + b"\0\0\0\0\0\0\0\x01")
        self.assertEqual(decode(encoded), summary)

    def test_parts(self) -> None:
        """
        The messages of a large summary fit, hold each key once, and their ranges cover
        the whole range without overlapping.
        """
        for seed in range(20):
            rng = Random(seed)
            keys = [rng.randbytes(KEY_BYTES) for _ in range(rng.randrange(400))]
            first, last = rng.choice(((FIRST, LAST), (min(keys, default=FIRST), max(keys, default=LAST))))
            versions = {key: rng.randrange(2**64) for key in keys}
            found: dict[bytes, int] = {}
            after = int.from_bytes(first, "big")
            for content in encode_summaries(Summary(first, last, versions), 600):
                self.assertLessEqual(len(content), 600, f"seed {seed}")
                part = decode(content)
                assert isinstance(part, Summary)
                self.assertEqual(int.from_bytes(part.first, "big"), after, f"seed {seed}")
                after = int.from_bytes(part.last, "big") + 1
                self.assertFalse(found.keys() & part.versions.keys())
                found.update(part.versions)
            self.assertEqual(after, int.from_bytes(last, "big") + 1, f"seed {seed}")
            self.assertEqual(found, versions, f"seed {seed}")
