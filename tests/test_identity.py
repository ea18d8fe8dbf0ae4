"""
Tests for L{dtt.identity}.
"""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dtt.errors import StateError, UsageError, WrongType
from dtt.identity import PeerKey, is_valid_peer_id, verify, z32_decode, z32_encode
from dtt.state import load_key, load_or_create_key

STRICT = json.loads((Path(__file__).parent / "vectors" / "strict.json").read_text())


class PeerKeyTests(SynchronousTestCase):
    """
    Tests for L{PeerKey} and L{verify}.
    """

    def test_rfc8032(self) -> None:
        """
        Key and signature match RFC 8032, section 7.1, test 2.
        """
        key = PeerKey.from_seed(
            bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
        )
        self.assertEqual(
            key.peer_id.hex(), "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
        )
        self.assertEqual(
            key.sign(b"\x72").hex(),
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
            "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        )

    def test_seed_not_in_repr(self) -> None:
        """
        The repr shows the peer id, but not the seed.
        """
        key = PeerKey.generate()
        self.assertIn(key.peer_id.hex(), repr(key))
        self.assertNotIn(key.seed.hex(), repr(key))
        self.assertNotIn(repr(key.seed), repr(key))

    def test_wrong_seed(self) -> None:
        """
        A seed that is not 32 bytes is refused.
        """
        self.assertRaises(UsageError, PeerKey.from_seed, bytes(31))
        wrong: Any
        for wrong in ("x" * 32, None, 32, bytearray(32), [0] * 32):
            self.assertRaises(WrongType, PeerKey.from_seed, wrong)
        for wrong in ("text", None, bytearray(b"x")):
            self.assertRaises(WrongType, PeerKey.generate().sign, wrong)

    def test_generated_keys_differ(self) -> None:
        """
        Generated keys differ.
        """
        self.assertNotEqual(PeerKey.generate(), PeerKey.generate())

    def test_strict_as_rust(self) -> None:
        """
        L{verify} agrees with Rust's C{verify_strict} in every case.
        """
        self.assertGreater(len(STRICT), 80)
        for case in STRICT:
            said = verify(
                bytes.fromhex(case["public_key"]),
                bytes.fromhex(case["message"]),
                bytes.fromhex(case["signature"]),
            )
            self.assertEqual(said, case["strict"], case["case"])

    def test_wrong_lengths(self) -> None:
        """
        With keys or signatures of other lengths the result is false, not an error.
        """
        key = PeerKey.generate()
        signature = key.sign(b"x")
        self.assertTrue(verify(key.peer_id, b"x", signature))
        for public_key, given in (
            (b"", signature),
            (key.peer_id + b"\x00", signature),
            (key.peer_id, b""),
            (key.peer_id, signature[:-1]),
            (key.peer_id, signature + b"x"),
        ):
            self.assertFalse(verify(public_key, b"x", given))


class ValidPeerIdTests(SynchronousTestCase):
    """
    Tests for L{is_valid_peer_id}.
    """

    def test_keys(self) -> None:
        """
        The peer id of every key pair is valid.
        """
        self.assertTrue(is_valid_peer_id(PeerKey.from_seed(b"\x01" * 32).peer_id))

    def test_nobody(self) -> None:
        """
        Zero, small-order keys, non-points and other lengths are invalid.
        """
        for case in STRICT:
            if case["case"].startswith(("small-order", "not a point")):
                self.assertFalse(is_valid_peer_id(bytes.fromhex(case["public_key"])), case["case"])
        for nobody in (bytes(32), b"", bytes(31), PeerKey.generate().peer_id + b"\x00"):
            self.assertFalse(is_valid_peer_id(nobody))


class Z32Tests(SynchronousTestCase):
    """
    Tests for L{z32_encode} and L{z32_decode}.
    """

    def test_known(self) -> None:
        """
        The example of docs/protocol/addresses.md is encoded correctly.
        """
        key = bytes.fromhex("1992d53c02cdc04566e5c0edb1ce83305cd550297953a047a445ea3264b54b18")
        text = "dgjpkxyn3zyrk3zfads5duwdgbqpkwbjxfj4yt7rezidr3fijccy"
        self.assertEqual(z32_encode(key), text)
        self.assertEqual(z32_decode(text), key)

    def test_round_trip(self) -> None:
        """
        Bytes of any length are decoded to the same bytes.
        """
        seed = random.randrange(2**32)
        rng = random.Random(seed)
        for size in range(40):
            data = rng.randbytes(size)
            self.assertEqual(z32_decode(z32_encode(data)), data, f"seed {seed}")

    def test_refused(self) -> None:
        """
        Foreign characters, impossible lengths and stray bits are refused.
        """
        for text in ("v", "2y", "Y", "y", "yyy", "yb", "\N{LATIN SMALL LETTER U WITH DIAERESIS}y"):
            self.assertRaises(UsageError, z32_decode, text)


class KeyFileTests(SynchronousTestCase):
    """
    Tests for L{load_key} and L{load_or_create_key}.
    """

    def setUp(self) -> None:
        directory = Path(self.mktemp())
        directory.mkdir()
        self.path = directory / "key"

    def test_created_once(self) -> None:
        """
        The first start creates a 0600 file of 64 digits, later ones get the same key, and
        the directory contains nothing else.
        """
        key = load_or_create_key(self.path)
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)
        self.assertEqual(self.path.read_bytes(), key.seed.hex().encode() + b"\n")
        self.assertEqual(load_or_create_key(self.path), key)
        self.assertEqual(load_key(self.path), key)
        self.assertEqual(os.listdir(self.path.parent), ["key"])

    def test_race(self) -> None:
        """
        If another process creates the file first, its key is used.
        """
        winner = PeerKey.generate()
        generate = PeerKey.generate

        def slow_generate() -> PeerKey:
            self.path.write_text(winner.seed.hex())
            self.path.chmod(0o600)
            return generate()

        self.patch(PeerKey, "generate", slow_generate)
        self.assertEqual(load_or_create_key(self.path), winner)
        self.assertEqual(os.listdir(self.path.parent), ["key"])

    def test_lax_mode(self) -> None:
        """
        A key file that others can access is refused, with the chmod to run.
        """
        load_or_create_key(self.path)
        for mode in (0o640, 0o604, 0o660, 0o644):
            self.path.chmod(mode)
            error = self.assertRaises(StateError, load_or_create_key, self.path)
            self.assertIn(f"chmod 600 {self.path}", str(error))
        self.path.chmod(0o400)
        load_or_create_key(self.path)

    def test_wrong_content(self) -> None:
        """
        A file without a key is refused and left unchanged.
        """
        for content in (b"", b"ab" * 31, b"ab" * 33, b"zz" * 32, bytes(32), b"\xff" * 64):
            self.path.write_bytes(content)
            self.path.chmod(0o600)
            error = self.assertRaises(StateError, load_or_create_key, self.path)
            self.assertIn("not a key file", str(error))
            self.assertEqual(self.path.read_bytes(), content)

    def test_no_file(self) -> None:
        """
        L{load_key} creates no key, and a missing directory is named.
        """
        self.assertIn(str(self.path), str(self.assertRaises(StateError, load_key, self.path)))
        self.assertFalse(self.path.exists())
        self.assertRaises(StateError, load_or_create_key, self.path / "missing" / "key")

    def test_broken_link(self) -> None:
        """
        A dangling symbolic link is refused, not replaced.
        """
        self.path.symlink_to("nowhere")
        self.assertRaises(StateError, load_or_create_key, self.path)
        self.assertTrue(self.path.is_symlink())
