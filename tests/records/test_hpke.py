"""
Tests for L{dtt.records.hpke}; C{pyhpke} is the oracle.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from pyhpke import AEADId, CipherSuite, KDFId, KEMId, KEMKey, KEMKeyPair
from twisted.trial.unittest import SynchronousTestCase

from dtt.errors import DecodeError, UsageError
from dtt.identity import PeerKey
from dtt.records.hpke import OVERHEAD, KeyPair, open_, seal, x25519_public_key

CASES = json.loads((Path(__file__).parent.parent / "vectors" / "hpke.json").read_text())
SUITE = CipherSuite.new(KEMId.DHKEM_X25519_HKDF_SHA256, KDFId.HKDF_SHA256, AEADId.CHACHA20_POLY1305)
INFO = b"arbitrary_info_bytes"
AAD = b"arbitrary_seal_bytes"


class VectorTests(SynchronousTestCase):
    """
    Tests with messages that the Rust crate sealed.
    """

    def test_open(self) -> None:
        """
        Every message that Rust sealed and can open is opened.
        """
        self.assertEqual(len(CASES), 7)
        for case in CASES:
            self.assertTrue(case["rust_opens"])
            pair = KeyPair.from_seed(bytes.fromhex(case["recipient_seed"]))
            sealed = bytes.fromhex(case["sealed"])
            plaintext = bytes.fromhex(case["plaintext"])
            self.assertEqual(open_(pair, sealed), plaintext)
            self.assertEqual(len(sealed), len(plaintext) + OVERHEAD)

    def test_public_keys(self) -> None:
        """
        A recipient's key is the same from its seed and from its public key.
        """
        for case in CASES:
            self.assertEqual(
                x25519_public_key(bytes.fromhex(case["recipient_public_key"])),
                KeyPair.from_seed(bytes.fromhex(case["recipient_seed"])).public,
            )


class OracleTests(SynchronousTestCase):
    """
    Compares both directions with C{pyhpke}.
    """

    def setUp(self) -> None:
        self.seed = random.randrange(2**32)
        self.rng = random.Random(self.seed)

    def test_seal(self) -> None:
        """
        With the same ephemeral key, both seal to the same bytes.
        """
        for size in (0, 1, 32, 456, 848):
            pair = KeyPair.from_seed(self.rng.randbytes(32))
            ephemeral, data = self.rng.randbytes(32), self.rng.randbytes(size)
            private = X25519PrivateKey.from_private_bytes(ephemeral)
            enc, context = SUITE.create_sender_context(
                KEMKey.from_pyca_cryptography_key(X25519PublicKey.from_public_bytes(pair.public)),
                info=INFO,
                eks=KEMKeyPair(
                    KEMKey.from_pyca_cryptography_key(private),
                    KEMKey.from_pyca_cryptography_key(private.public_key()),
                ),
            )
            self.assertEqual(
                seal(pair.public, data, ephemeral),
                (32).to_bytes(8, "little") + enc + context.seal(data, AAD),
                f"seed {self.seed}",
            )

    def test_open(self) -> None:
        """
        The oracle opens messages that we seal.
        """
        pair = KeyPair.from_seed(self.rng.randbytes(32))
        data = self.rng.randbytes(100)
        sealed = seal(pair.public, data, self.rng.randbytes(32))
        recipient = KEMKey.from_pyca_cryptography_key(X25519PrivateKey.from_private_bytes(pair.secret))
        context = SUITE.create_recipient_context(sealed[8:40], recipient, info=INFO)
        self.assertEqual(context.open(sealed[40:], AAD), data, f"seed {self.seed}")


class RefusalTests(SynchronousTestCase):
    """
    Tests with messages and keys that are refused.
    """

    def setUp(self) -> None:
        self.pair = KeyPair.from_seed(b"s" * 32)
        self.sealed = seal(self.pair.public, b"data", b"e" * 32)

    def test_every_byte_counts(self) -> None:
        """
        A message with the lowest bit of any byte flipped, or with another length, is
        refused.
        """
        self.assertEqual(open_(self.pair, self.sealed), b"data")
        for index in range(len(self.sealed)):
            flipped = bytearray(self.sealed)
            flipped[index] ^= 1
            self.assertRaises(DecodeError, open_, self.pair, bytes(flipped))
            self.assertRaises(DecodeError, open_, self.pair, self.sealed[:index])
        self.assertRaises(DecodeError, open_, self.pair, self.sealed + b"x")

    def test_other_recipient(self) -> None:
        """
        Only the owner of the key can open a message.
        """
        self.assertRaises(DecodeError, open_, KeyPair.from_seed(b"t" * 32), self.sealed)

    def test_small_order(self) -> None:
        """
        An C{enc} that yields an all-zero secret is refused.
        """
        for enc in (bytes(32), b"\x01" + bytes(31)):
            self.assertRaises(DecodeError, open_, self.pair, self.sealed[:8] + enc + self.sealed[40:])

    def test_caller_mistakes(self) -> None:
        """
        Invalid recipients and ephemeral secrets are refused.
        """
        self.assertRaises(UsageError, seal, bytes(32), b"", b"e" * 32)
        self.assertRaises(UsageError, seal, self.pair.public[:-1], b"", b"e" * 32)
        self.assertRaises(UsageError, seal, self.pair.public, b"", b"e" * 31)
        for wrong in (b"", bytes(32), b"\x02" + bytes(31), PeerKey.from_seed(b"s" * 32).peer_id + b"x"):
            self.assertRaises(UsageError, x25519_public_key, wrong)

    def test_secret_not_in_repr(self) -> None:
        """
        The repr of a key pair does not show the secret.
        """
        self.assertNotIn(repr(self.pair.secret), repr(self.pair))
        self.assertNotIn(self.pair.secret.hex(), repr(self.pair))
