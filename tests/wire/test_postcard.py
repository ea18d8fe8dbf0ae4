"""
Tests for L{dtt.wire.postcard}.
"""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis.strategies import binary, integers
from twisted.trial.unittest import SynchronousTestCase

from dtt.errors import DecodeError
from dtt.wire.postcard import Reader, encode_bytes, encode_option, encode_varint


class VarintTests(SynchronousTestCase):
    """
    Tests for varints.
    """

    @given(integers(0, 2**64 - 1))
    def test_round_trip(self, number: int) -> None:
        """
        Every 64-bit number survives a round trip, from at most ten bytes.
        """
        encoded = encode_varint(number)
        self.assertLessEqual(len(encoded), 10)
        reader = Reader(encoded)
        self.assertEqual(reader.varint(64), number)
        self.assertEqual(reader.remaining(), 0)

    def test_known(self) -> None:
        """
        Numbers are little-endian groups of seven bits, in the fewest bytes.
        """
        for number, encoded in ((0, "00"), (127, "7f"), (128, "8001"), (4433, "d122"), (65535, "ffff03")):
            self.assertEqual(encode_varint(number).hex(), encoded)

    def test_not_minimal(self) -> None:
        """
        Non-minimal forms are accepted within the type's byte count.
        """
        self.assertEqual(Reader(bytes.fromhex("8000")).varint(16), 0)
        self.assertEqual(Reader(bytes.fromhex("818000")).varint(16), 1)

    def test_refused(self) -> None:
        """
        Numbers beyond the type, too many bytes and missing ones are rejected.
        """
        for bits, encoded in (
            (16, "808004"),
            (16, "80808000"),
            (32, "ffffffff1f"),
            (32, "808080808000"),
            (64, "ffffffffffffffffff02"),
            (64, "8080808080808080808000"),
            (16, ""),
            (16, "80"),
        ):
            self.assertRaises(DecodeError, Reader(bytes.fromhex(encoded)).varint, bits)
        self.assertEqual(Reader(bytes.fromhex("ffffffffffffffffff01")).varint(64), 2**64 - 1)


class ReaderTests(SynchronousTestCase):
    """
    Tests for the other values.
    """

    def test_values(self) -> None:
        """
        Values are read one after another; the rest stays.
        """
        data = (
            b"\x01"
            + encode_bytes("\N{SNOWMAN}".encode())
            + encode_option(None)
            + encode_option(b"\x07")
            + b"rest"
        )
        reader = Reader(data)
        self.assertTrue(reader.boolean())
        self.assertEqual(reader.text(), "\N{SNOWMAN}")
        self.assertIsNone(reader.option(reader.u8))
        self.assertEqual(reader.option(reader.u8), 7)
        self.assertEqual(reader.remaining(), 4)
        self.assertEqual(reader.raw(4), b"rest")

    def test_refused(self) -> None:
        """
        Wrong tags, invalid UTF-8 and missing bytes are rejected.
        """
        self.assertRaises(DecodeError, Reader(b"\x02").boolean)
        reader = Reader(b"\x02\x00")
        self.assertRaises(DecodeError, reader.option, reader.u8)
        self.assertRaises(DecodeError, Reader(b"\x01\xff").text)
        self.assertRaises(DecodeError, Reader(b"\x02a").byte_string)
        self.assertRaises(DecodeError, Reader(b"").u8)
        self.assertRaises(DecodeError, Reader(b"abc").raw, 4)

    def test_huge_counts(self) -> None:
        """
        A count or length beyond the data is rejected before anything is allocated.
        """
        huge = encode_varint(2**63)
        self.assertRaises(DecodeError, Reader(huge + bytes(20)).byte_string)
        taken: list[None] = []
        self.assertRaises(DecodeError, Reader(huge + bytes(20)).sequence, lambda: taken.append(None))
        self.assertEqual(taken, [])

    @given(binary(max_size=64))
    def test_garbage(self, data: bytes) -> None:
        """
        Garbage is decoded or rejected, never another error.
        """
        for name in ("boolean", "text", "byte_string"):
            with contextlib.suppress(DecodeError):
                getattr(Reader(data), name)()
        reader = Reader(data)
        with contextlib.suppress(DecodeError):
            reader.sequence(lambda: reader.option(reader.text))
