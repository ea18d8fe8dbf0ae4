"""
Tests for L{dtt.records.topic}.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dtt.errors import UsageError, WrongType
from dtt.identity import PeerKey
from dtt.records.hpke import x25519_public_key
from dtt.records.topic import (
    MAX_MINUTE,
    Slot,
    TopicId,
    default_rotation,
    encryption_key,
    encryption_seed,
    initial_secret_hash,
    label_of,
    unix_minute,
)

CASES = json.loads((Path(__file__).parent.parent / "vectors" / "slots.json").read_text())


class VectorTests(SynchronousTestCase):
    """
    Tests that everything is derived as in the Rust crate.
    """

    def test_slots(self) -> None:
        """
        The topic id, signing key, salt and target of all cases match.
        """
        self.assertEqual(len(CASES), 40)
        for case in CASES:
            slot = Slot(TopicId.from_name(bytes.fromhex(case["topic_name"])), int(case["unix_minute"]))
            self.assertEqual(slot.topic_id.hex(), case["topic_id"])
            self.assertEqual(slot.signing_seed.hex(), case["signing_seed"])
            self.assertEqual(slot.public_key.hex(), case["signing_public_key"])
            self.assertEqual(slot.salt.hex(), case["salt"])
            self.assertEqual(slot.target.hex(), case["target"])

    def test_encryption_keys(self) -> None:
        """
        The secret hash, rotated secret and encryption key of all cases match.
        """
        for case in CASES:
            slot = Slot(TopicId(bytes.fromhex(case["topic_id"])), int(case["unix_minute"]))
            secret_hash = initial_secret_hash(bytes.fromhex(case["initial_secret"]))
            seed = encryption_seed(slot, secret_hash)
            self.assertEqual(secret_hash.hex(), case["initial_secret_hash"])
            self.assertEqual(seed.hex(), case["rotated_secret"])
            self.assertEqual(PeerKey.from_seed(seed).peer_id.hex(), case["encryption_public_key"])
            self.assertEqual(
                encryption_key(slot, secret_hash).public,
                x25519_public_key(bytes.fromhex(case["encryption_public_key"])),
            )


class TopicIdTests(SynchronousTestCase):
    """
    Tests for L{TopicId}.
    """

    def test_names(self) -> None:
        """
        Text is encoded as UTF-8; a name of 32 bytes is hashed like any other.
        """
        self.assertEqual(TopicId.from_name("gr\u00fcn"), TopicId.from_name(b"gr\xc3\xbcn"))
        self.assertNotEqual(TopicId.from_name(b"a" * 32), b"a" * 32)
        self.assertEqual(len(TopicId.from_name("")), 32)

    def test_ready_hash(self) -> None:
        """
        An id is used unchanged, and must be 32 bytes.
        """
        self.assertEqual(TopicId(b"a" * 32), b"a" * 32)
        for size in (0, 31, 33):
            self.assertRaises(UsageError, TopicId, bytes(size))
        wrong: Any
        for wrong in ("x" * 32, None, 32, [0] * 32):
            self.assertRaises(WrongType, TopicId, wrong)
        for wrong in (None, 5, ["name"]):
            self.assertRaises(WrongType, TopicId.from_name, wrong)

    def test_label(self) -> None:
        """
        An id knows the name from which it was made, shortened and printable; else it has its
        first digits. The label stays with the id.
        """
        digits = f"hex:{'ab' * 5}..."
        for topic_id, label in (
            (TopicId.from_name("garden party"), "garden party"),
            (TopicId.parse("garden party"), "garden party"),
            (TopicId.parse("gr\u00fcn"), "gr\u00fcn"),
            (TopicId.parse("hex:" + "ab" * 32), digits),
            (TopicId(b"\xab" * 32), digits),
            (TopicId.from_name("x" * 64), "x" * 64),
            (TopicId.from_name("x" * 10**6), "x" * 61 + "..."),
            (TopicId.from_name("a\n\x1b[2J\u202e"), "a\ufffd\ufffd[2J\ufffd"),
            (TopicId.from_name(b"caf\xe9"), "caf\ufffd"),
        ):
            self.assertEqual(topic_id.label, label)
            self.assertEqual(TopicId(topic_id).label, label)
            self.assertEqual(label_of(topic_id), label)
            self.assertEqual(label_of(bytes(topic_id))[:4], "hex:")
        self.assertTrue(TopicId.from_name("").label.startswith("hex:"))

    def test_command_line(self) -> None:
        """
        C{hex:} and 64 digits is an id, anything else a name.
        """
        self.assertEqual(TopicId.parse("hex:" + "aB" * 32), b"\xab" * 32)
        self.assertEqual(TopicId.parse("ab" * 32), TopicId.from_name("ab" * 32))
        self.assertEqual(TopicId.parse("HEX:x"), TopicId.from_name("HEX:x"))

    def test_undecodable_command_line(self) -> None:
        """
        A name that is not UTF-8 is used as the bytes that were typed.
        """
        typed = b"caf\xe9"
        self.assertEqual(TopicId.parse(typed.decode("utf-8", "surrogateescape")), TopicId.from_name(typed))

    def test_refused(self) -> None:
        """
        C{hex:} with anything but 64 digits, and text that is not Unicode, are refused.
        """
        for text in ("hex:", "hex:" + "a" * 63, "hex:" + "a" * 65, "hex:" + "g" * 64, "hex:" + " a" * 32):
            self.assertIn("64 hexadecimal digits", str(self.assertRaises(UsageError, TopicId.parse, text)))
        self.assertRaises(UsageError, TopicId.from_name, "\ud800")
        self.assertRaises(UsageError, TopicId.parse, "\ud800")


class SlotTests(SynchronousTestCase):
    """
    Tests for L{Slot} and minutes.
    """

    def test_equality(self) -> None:
        """
        Slots with equal topic and minute are equal, and slots are hashable.
        """
        topic_id = TopicId.from_name("x")
        self.assertEqual({Slot(topic_id, 1): "a"}[Slot(bytes(topic_id), 1)], "a")
        self.assertNotEqual(Slot(topic_id, 1), Slot(topic_id, 2))

    def test_range(self) -> None:
        """
        A minute is 0..2^64-1, a topic id 32 bytes.
        """
        topic_id = TopicId.from_name("x")
        self.assertEqual(Slot(topic_id, MAX_MINUTE).minute, 2**64 - 1)
        self.assertRaises(UsageError, Slot, topic_id, -1)
        self.assertRaises(UsageError, Slot, topic_id, 2**64)
        self.assertRaises(UsageError, Slot, b"short", 1)

    def test_unix_minute(self) -> None:
        """
        A minute begins with its first second; a time before the epoch is refused.
        """
        self.assertEqual([unix_minute(seconds) for seconds in (0, 59.99, 60, 119.9)], [0, 0, 1, 1])
        self.assertRaises(UsageError, unix_minute, -1.0)


class RotationTests(SynchronousTestCase):
    """
    Tests for custom rotations.
    """

    def test_arguments(self) -> None:
        """
        A rotation is called with topic id, minute and secret hash; its result is the seed.
        """
        slot = Slot(TopicId.from_name("x"), 7)
        calls: list[tuple[bytes, int, bytes]] = []

        def rotation(topic_id: bytes, minute: int, secret_hash: bytes) -> bytes:
            calls.append((topic_id, minute, secret_hash))
            return b"r" * 32

        self.assertEqual(encryption_seed(slot, b"h" * 32, rotation), b"r" * 32)
        self.assertEqual(calls, [(slot.topic_id, 7, b"h" * 32)])

    def test_wrong_result(self) -> None:
        """
        A rotation that does not return 32 bytes is a usage error.
        """
        slot = Slot(TopicId.from_name("x"), 7)
        for wrong in (b"", bytes(31), bytes(33), "a" * 32, None):
            error = self.assertRaises(
                UsageError,
                encryption_key,
                slot,
                b"h" * 32,
                lambda topic_id, minute, secret_hash, wrong=wrong: wrong,
            )
            self.assertIn("32 bytes", str(error))

    def test_default_depends_on_all(self) -> None:
        """
        The default rotation depends on topic, minute and secret.
        """
        seeds = {
            default_rotation(topic * 32, minute, secret * 32)
            for topic in (b"a", b"b")
            for minute in (1, 2)
            for secret in (b"c", b"d")
        }
        self.assertEqual(len(seeds), 8)
