"""
Tests for L{dtt.krpc.bencode}.
"""

from __future__ import annotations

import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dtt.errors import DecodeError
from dtt.krpc.bencode import MAX_DEPTH, MAX_ELEMENTS, Encoded, decode, decode_message, encode
from tests.sweeps import sized

_LEAVES = st.integers(-(2**63), 2**64 - 1) | st.binary(max_size=30)
_VALUES = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.binary(max_size=6), inner, max_size=5),
    max_leaves=30,
)

# Bytes that often resemble bencode.
_NEARLY = st.lists(
    st.sampled_from([b"d", b"l", b"e", b"i", b"-", b"0", b"1", b"2:", b"1:a", b"1:b", b"0:", b"i0e", b"i-0e"])
    | st.binary(max_size=2),
    max_size=20,
).map(b"".join)


class CodecTests(SynchronousTestCase):
    """
    L{encode} and L{decode} are inverses.
    """

    @settings(derandomize=True, deadline=None, max_examples=sized(25, 300))
    @given(_VALUES)
    def test_round_trip(self, value: object) -> None:
        """
        Every value survives a round trip.
        """
        self.assertEqual(decode(encode(value)), value)

    @settings(derandomize=True, deadline=None, max_examples=sized(30, 1000))
    @given(_NEARLY | st.binary(max_size=40))
    def test_canonical(self, data: bytes) -> None:
        """
        Any bytes are either rejected or the only encoding of their value.
        """
        try:
            value = decode(data)
        except DecodeError:
            return
        self.assertEqual(encode(value), data)

    def test_values(self) -> None:
        """
        The examples of BEP3.
        """
        for data, value in (
            (b"4:spam", b"spam"),
            (b"0:", b""),
            (b"i3e", 3),
            (b"i-3e", -3),
            (b"i0e", 0),
            (b"l4:spam4:eggse", [b"spam", b"eggs"]),
            (b"d3:cow3:moo4:spam4:eggse", {b"cow": b"moo", b"spam": b"eggs"}),
            (b"d4:spaml1:a1:bee", {b"spam": [b"a", b"b"]}),
            (b"de", {}),
            (b"le", []),
            (b"ld1:adeed1:ble1:ci1eee", [{b"a": {}}, {b"b": [], b"c": 1}]),
        ):
            self.assertEqual(decode(data), value, data)
            self.assertEqual(encode(value), data)

    def test_encoded(self) -> None:
        """
        L{Encoded} bytes are copied verbatim.
        """
        self.assertEqual(encode({b"v": Encoded(b"i1e"), b"k": b"i1e"}), b"d1:k3:i1e1:vi1ee")

    def test_foreign_types(self) -> None:
        """
        A type that bencode does not have is a C{TypeError}, at any depth.
        """
        for value in (None, "text", 1.0, True, [("a",)], {b"a": None}):
            self.assertRaises(TypeError, encode, value)


class RefusalTests(SynchronousTestCase):
    """
    L{decode} rejects everything but the canonical encoding of a value.
    """

    def test_reasons(self) -> None:
        """
        Every fault has its own short reason, independent of the bytes.
        """
        for reason, cases in {
            "truncated": (b"", b"l", b"d", b"5:four", b"d1:a", b"li1e", b"99999:"),
            "bad length": (b"01:a", b"00:", b"1", b"1x:a", b"123456:", b"1 :a", b"1_0:aaaaaaaaaa"),
            "bad integer": (
                b"i",
                b"ie",
                b"i-e",
                b"i-0e",
                b"i01e",
                b"i-01e",
                b"i+1e",
                b"i 1e",
                b"i1_0e",
                b"i1",
            ),
            "trailing bytes": (b"i1ee", b"0:0:", b"lee", b"ded"),
            "unexpected end": (b"e", b"d1:ae", b"d1:bi1e1:ce"),
            "keys not sorted": (b"d1:bi1e1:ai2ee", b"d1:ai1e1:ai2ee", b"d2:aa0:1:b0:1:a0:e"),
            "bad key": (b"di1ei2ee", b"dlee", b"ddee"),
            "bad type": (b"x", b"lxe", b"-1", b" ", b"\xff"),
        }.items():
            for data in cases:
                error = self.assertRaises(DecodeError, decode, data)
                self.assertEqual(str(error), f"bencode: {reason}", data)

    def test_digits(self) -> None:
        """
        64-bit integers fit, signed and unsigned; 21 digits do not.
        """
        for number in (2**63 - 1, -(2**63), 2**64 - 1):
            self.assertEqual(decode(b"i%de" % number), number)
        for number in (10**20, -(10**20), 10**4000):
            self.assertRaises(DecodeError, decode, b"i%de" % number)

    def test_depth(self) -> None:
        """
        The nesting of containers is limited, for lists and dictionaries alike.
        """
        deepest = b"l" * MAX_DEPTH + b"e" * MAX_DEPTH
        self.assertEqual(encode(decode(deepest)), deepest)
        for data in (b"l" * (MAX_DEPTH + 1) + b"e" * (MAX_DEPTH + 1), b"d1:a" * 2000, b"l" * 1500):
            error = self.assertRaises(DecodeError, decode, data)
            self.assertEqual(str(error), "bencode: too deep")

    def test_elements(self) -> None:
        """
        The number of elements of any kind is limited.
        """
        for one, each in ((b"0:", 1), (b"i1e", 1), (b"le", 1), (b"de", 1), (b"l0:e", 2), (b"d0:0:e", 3)):
            most = (MAX_ELEMENTS - 1) // each
            self.assertEqual(len(decode(b"l" + one * most + b"e")), most)
            error = self.assertRaises(DecodeError, decode, b"l" + one * (most + 1) + b"e")
            self.assertEqual(str(error), "bencode: too many elements")


class MessageTests(SynchronousTestCase):
    """
    L{decode_message} is as lenient as libtorrent, within the same limits.
    """

    @settings(derandomize=True, deadline=None, max_examples=sized(30, 1000))
    @given(_NEARLY | st.binary(max_size=40))
    def test_superset(self, data: bytes) -> None:
        """
        What L{decode} accepts has the same value; everything else is accepted or
        rejected with L{DecodeError}.
        """
        try:
            expected = decode(data)
        except DecodeError:
            with contextlib.suppress(DecodeError):
                decode_message(data)
            return
        self.assertEqual(decode_message(data), expected)

    @settings(derandomize=True, deadline=None, max_examples=sized(30, 1000))
    @given(_NEARLY)
    def test_inner_values_are_verbatim(self, data: bytes) -> None:
        """
        Below the message and its arguments, the encoding of every value is preserved.
        """
        try:
            value = decode_message(b"d1:ad1:v%bee" % data)[b"a"][b"v"]
        except DecodeError:
            return
        encoded = encode(value)
        self.assertEqual(data[: len(encoded)], encoded)

    def test_still_refused(self) -> None:
        """
        What no implementation sends is rejected as before.
        """
        for reason, cases in {
            "truncated": (b"", b"d", b"d1:a", b"d1:ai1e"),
            "bad length": (b"1x:a", b"123456:", b"0000001:a", b"1_0:aaaaaaaaaa"),
            "bad integer": (b"i", b"ie", b"i-e", b"i+1e", b"i 1e", b"i1_0e", b"i" + b"1" * 5000),
            "unexpected end": (b"e", b"d1:ae"),
            "bad key": (b"di1ei2ee", b"dlee", b"ddee"),
            "bad type": (b"x", b"lxe", b"-1"),
            "too deep": (b"l" * (MAX_DEPTH + 1), b"d1:b0:1:a" * (MAX_DEPTH + 1)),
            "too many elements": (b"l" + b"i01e" * MAX_ELEMENTS, b"d" + b"0:0:" * MAX_ELEMENTS),
        }.items():
            for data in cases:
                error = self.assertRaises(DecodeError, decode_message, data)
                self.assertEqual(str(error), f"bencode: {reason}", data)
