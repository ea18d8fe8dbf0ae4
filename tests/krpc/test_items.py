"""
Tests for L{dtt.krpc.items}.
"""

from __future__ import annotations

import json
from hashlib import sha1
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dtt.errors import DecodeError
from dtt.krpc import items
from dtt.krpc.bencode import Encoded, encode
from dtt.krpc.items import (
    MAX_SEQ,
    MutableItem,
    immutable_target,
    mutable_target,
    read_item,
    sign,
    sign_item,
    signature_buffer,
    verify,
)

_VECTORS = Path(__file__).parent.parent / "vectors"

#: BEP44, "Test vectors".
_KEY = bytes.fromhex("77ff84905a91936367c01360803104f92432fcd904a43511876df5cdf3e7e548")
_SIGNATURE_1 = bytes.fromhex(
    "305ac8aeb6c9c151fa120f120ea2cfb923564e11552d06a5d856091e5e853cff"
    "1260d3f39e4999684aa92eb73ffd136e6f4f3ecbfda0ce53a1608ecd7ae21f01"
)
_SIGNATURE_2 = bytes.fromhex(
    "6834284b6b24c3204eb2fea824d82f88883a3d95e8b4a21b8c0ded553d17d17d"
    "df9a8a7104b1258f30bed3787e6cb896fca78c58f8e03b5f18f14951a87d9a08"
)
_HELLO = b"12:Hello World!"


class VectorTests(SynchronousTestCase):
    """
    The vectors of BEP44 and of the Rust crates.
    """

    def test_bep44_buffers(self) -> None:
        """
        The signed bytes, without and with a salt.
        """
        self.assertEqual(signature_buffer(b"", 1, _HELLO), b"3:seqi1e1:v12:Hello World!")
        self.assertEqual(signature_buffer(b"foobar", 1, _HELLO), b"4:salt6:foobar3:seqi1e1:v12:Hello World!")

    def test_bep44_targets(self) -> None:
        """
        The targets of mutable items match, without and with a salt, and so does that of
        an immutable one.
        """
        self.assertEqual(mutable_target(_KEY).hex(), "4a533d47ec9c7d95b1ad75f576cffc641853b750")
        self.assertEqual(mutable_target(_KEY, b"foobar").hex(), "411eba73b6f087ca51a3795d9c8c938d365e32c1")
        self.assertEqual(immutable_target(_HELLO).hex(), "e5f96f6f38320f0f33959cb4d3d656452117aadb")

    def test_bep44_signatures(self) -> None:
        """
        The signatures are valid, each for its own salt only.
        """
        self.assertTrue(verify(_KEY, b"", 1, _HELLO, _SIGNATURE_1))
        self.assertTrue(verify(_KEY, b"foobar", 1, _HELLO, _SIGNATURE_2))
        self.assertFalse(verify(_KEY, b"", 1, _HELLO, _SIGNATURE_2))
        self.assertFalse(verify(_KEY, b"foobar", 1, _HELLO, _SIGNATURE_1))

    def test_strict(self) -> None:
        """
        Signatures are verified as strictly as the vectors require.
        """
        cases = json.loads((_VECTORS / "strict.json").read_text())
        self.assertTrue(cases)
        for case in cases:
            message, key, signature = (
                bytes.fromhex(case[name]) for name in ("message", "public_key", "signature")
            )
            self.patch(items, "signature_buffer", lambda *parts, message=message: message)
            self.assertEqual(verify(key, b"", 0, b"", signature), case["strict"], case["case"])


class SignTests(SynchronousTestCase):
    """
    L{sign_item}, L{sign}, L{verify}.
    """

    def test_genuine(self) -> None:
        """
        Our signatures are valid, at the limits too, and the target is right.
        """
        item = sign_item(b"s" * 32, b"x" * 64, MAX_SEQ, b"v" * 996)
        self.assertTrue(item.is_genuine())
        self.assertEqual(len(item.encoded), 1000)
        self.assertEqual(item.target, sha1(item.public_key + b"x" * 64).digest())
        self.assertEqual(sign(b"s" * 32, item.salt, item.seq, item.encoded), item.signature)

    def test_forged(self) -> None:
        """
        A change of any part invalidates the signature; wrong sizes are never valid.
        """
        good = sign_item(b"s" * 32, b"salt", 7, b"value")
        parts = (good.public_key, good.salt, good.seq, good.encoded, good.signature)
        other = sign_item(b"t" * 32, b"tlas", 8, b"eulav")
        others = (other.public_key, other.salt, other.seq, other.encoded, other.signature)
        self.assertTrue(verify(*parts))
        for index in range(5):
            changed: list[Any] = list(parts)
            changed[index] = others[index]
            self.assertFalse(verify(*changed), index)
        self.assertFalse(verify(good.public_key[:-1], *parts[1:]))
        self.assertFalse(verify(*parts[:-1], good.signature + b"x"))
        self.assertFalse(verify(*parts[:-1], b""))

    def test_limits(self) -> None:
        """
        A value that no node would store is a C{ValueError} at the call.
        """
        for salt, seq, value in (
            (b"", 1, b"v" * 997),
            (b"x" * 65, 1, b"v"),
            (b"", -1, b"v"),
            (b"", MAX_SEQ + 1, b"v"),
        ):
            self.assertRaises(ValueError, sign_item, b"s" * 32, salt, seq, value)

    def test_arguments(self) -> None:
        """
        A put contains everything that the target and the signature cover.
        """
        item = sign_item(b"s" * 32, b"salt", 7, b"value")
        self.assertEqual(
            encode(item.arguments()),
            b"d1:k32:%b4:salt4:salt3:seqi7e3:sig64:%b1:v5:valuee" % (item.public_key, item.signature),
        )
        self.assertNotIn(b"salt", sign_item(b"s" * 32, b"", 7, b"value").arguments())


class ReadItemTests(SynchronousTestCase):
    """
    L{read_item}.
    """

    def setUp(self) -> None:
        """
        A response with a valid item.
        """
        self.item = sign_item(b"s" * 32, b"salt", 7, b"value")
        self.values: dict[bytes, Any] = {
            b"k": self.item.public_key,
            b"seq": 7,
            b"sig": self.item.signature,
            b"v": b"value",
        }

    def read(self, **changes: Any) -> MutableItem | None:
        """
        Read the response with some values changed.
        """
        values = {**self.values, **{name.encode(): value for name, value in changes.items()}}
        return read_item(values, self.item.public_key, b"salt")

    def test_good(self) -> None:
        """
        A valid item is returned.
        """
        self.assertEqual(self.read(), self.item)

    def test_none(self) -> None:
        """
        Without a value there is no item, whatever the other keys.
        """
        del self.values[b"v"]
        self.assertIsNone(self.read())

    def test_structured(self) -> None:
        """
        The value may be any bencoded value.
        """
        value = {b"a": [1, b"x"]}
        signature = sign(b"s" * 32, b"salt", 7, encode(value))
        item = self.read(v=value, sig=signature)
        assert item is not None
        self.assertEqual(item.encoded, Encoded(b"d1:ali1e1:xee"))

    def test_bad(self) -> None:
        """
        Another key, salt or value, wrong types and sizes are rejected.
        """
        large = b"v" * 997
        for changes in (
            {"k": b"k" * 32},
            {"k": 1},
            {"seq": 8},
            {"seq": -1},
            {"seq": 2**63},
            {"seq": b"7"},
            {"sig": self.item.signature[:-1]},
            {"sig": 5},
            {"v": b"other"},
            {"v": large, "sig": sign(b"s" * 32, b"salt", 7, encode(large))},
        ):
            self.assertRaises(DecodeError, self.read, **changes)
        self.assertRaises(DecodeError, read_item, self.values, self.item.public_key, b"other")
