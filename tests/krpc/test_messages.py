"""
Tests for L{dtt.krpc.messages}.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dtt.errors import DecodeError
from dtt.krpc.bencode import decode as bdecode
from dtt.krpc.bencode import encode as bencode
from dtt.krpc.messages import (
    MAX_DATAGRAM,
    VERSION,
    Error,
    Query,
    Response,
    decode,
    encode_error,
    encode_query,
    encode_response,
)

_ID = b"abcdefghij0123456789"
_IP = b"\x0a\x00\x00\x01\x12\x34"


class EncodeTests(SynchronousTestCase):
    """
    What we send.
    """

    def test_query(self) -> None:
        """
        A query has a 4-byte C{t} and C{v}, sorted keys, and C{ro} if asked for.
        """
        self.assertEqual(
            encode_query(b"aaaa", b"find_node", _ID, {b"target": b"t" * 20}, False),
            b"d1:ad2:id20:abcdefghij01234567896:target20:tttttttttttttttttttte"
            b"1:q9:find_node1:t4:aaaa1:v4:%b1:y1:qe" % VERSION,
        )
        message = decode(encode_query(b"aaaa", b"ping", _ID, {}, True))
        self.assertEqual(message, Query(b"aaaa", b"ping", _ID, {}, True, VERSION))
        self.assertEqual(len(VERSION), 4)

    def test_response(self) -> None:
        """
        A response has C{ip}, if it is known, and all values.
        """
        for ip in (_IP, None):
            data = encode_response(b"xy", _ID, {b"token": b"tok", b"a": 1}, ip)
            expected = Response(b"xy", _ID, {b"a": 1, b"token": b"tok"}, VERSION, ip)
            self.assertEqual(decode(data), expected)

    def test_error(self) -> None:
        """
        An error has a code, words and C{ip}.
        """
        data = encode_error(b"xy", 203, "words", _IP)
        self.assertEqual(decode(data), Error(b"xy", 203, "words", VERSION))
        self.assertEqual(bdecode(data)[b"ip"], _IP)


class DecodeTests(SynchronousTestCase):
    """
    What we hear.
    """

    def query(self, **changes: Any) -> bytes:
        """
        A ping with some keys changed; L{None} leaves one out.
        """
        message: dict[str, Any] = {"a": {b"id": _ID}, "q": b"ping", "t": b"aa", "y": b"q", **changes}
        return bencode({key.encode(): value for key, value in message.items() if value is not None})

    def test_bep5(self) -> None:
        """
        The examples of BEP5.
        """
        self.assertEqual(
            decode(b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe"),
            Query(b"aa", b"ping", _ID, {}, False, b""),
        )
        self.assertEqual(
            decode(b"d1:rd2:id20:mnopqrstuvwxyz123456e1:t2:aa1:y1:re"),
            Response(b"aa", b"mnopqrstuvwxyz123456", {}, b"", None),
        )
        self.assertEqual(
            decode(b"d1:eli201e23:A Generic Error Ocurrede1:t2:aa1:y1:ee"),
            Error(b"aa", 201, "A Generic Error Ocurred", b""),
        )

    def test_answerable(self) -> None:
        """
        A query with a fault but a transaction can be told so: id and method
        are empty when they can't be used.
        """
        without_id: tuple[Any, ...] = (None, 1, {}, {b"id": b"short"}, {b"id": 1})
        for arguments in without_id:
            self.assertEqual(decode(self.query(a=arguments)), Query(b"aa", b"ping", b"", {}, False, b""))
        for method in (None, 1):
            self.assertEqual(decode(self.query(q=method)), Query(b"aa", b"", _ID, {}, False, b""))

    def test_read_only(self) -> None:
        """
        C{ro} is 1 or does not count.
        """
        for value, expected in ((1, True), (0, False), (2, False), (b"1", False), ([], False)):
            message = decode(self.query(ro=value))
            assert isinstance(message, Query)
            self.assertEqual(message.read_only, expected)

    def test_transactions(self) -> None:
        """
        1 to 32 bytes are a transaction id.
        """
        for size in (1, 4, 32):
            self.assertEqual(decode(self.query(t=b"x" * size)).transaction, b"x" * size)
        for value in (None, b"", b"x" * 33, 7):
            error = self.assertRaises(DecodeError, decode, self.query(t=value))
            self.assertEqual(str(error), "bad transaction")

    def test_lenient(self) -> None:
        """
        A C{v} or C{ip} that can't be used is none; other keys are ignored.
        """
        data = bencode({b"r": {b"id": _ID}, b"t": b"a", b"y": b"r", b"v": 1, b"ip": b"abc", b"zz": []})
        self.assertEqual(decode(data), Response(b"a", _ID, {}, b"", None))

    def test_refused(self) -> None:
        """
        What can be neither answered nor used is refused, with a reason.
        """
        for reason, data in (
            ("bencode: bad type", b"hello"),
            ("no dictionary", b"le"),
            ("no dictionary", b"4:spam"),
            ("bad message type", self.query(y=None)),
            ("bad message type", self.query(y=b"x")),
            ("bad message type", self.query(y=[])),
            ("bad response", bencode({b"t": b"a", b"y": b"r"})),
            ("bad response", bencode({b"r": [], b"t": b"a", b"y": b"r"})),
            ("bad response id", bencode({b"r": {}, b"t": b"a", b"y": b"r"})),
            ("bad response id", bencode({b"r": {b"id": b"x"}, b"t": b"a", b"y": b"r"})),
            ("bad error", bencode({b"t": b"a", b"y": b"e"})),
            ("bad error", bencode({b"e": [], b"t": b"a", b"y": b"e"})),
            ("bad error", bencode({b"e": [b"201", b"x"], b"t": b"a", b"y": b"e"})),
            ("bad error", bencode({b"e": [201], b"t": b"a", b"y": b"e"})),
            ("too large", self.query(zz=b"x" * MAX_DATAGRAM)),
        ):
            error = self.assertRaises(DecodeError, decode, data)
            self.assertEqual(str(error), reason, data)

    def test_error_text(self) -> None:
        """
        The words of an error are cut and need not be UTF-8.
        """
        message = decode(encode_error(b"a", 201, "é" * 1000, None))
        assert isinstance(message, Error)
        self.assertEqual(message.text, "é" * 100)
        message = decode(bencode({b"e": [1, b"\xff\x00"], b"t": b"a", b"y": b"e"}))
        assert isinstance(message, Error)
        self.assertEqual(message.text, "\ufffd\x00")

    @settings(derandomize=True, deadline=None, max_examples=500)
    @given(
        st.dictionaries(
            st.sampled_from([b"a", b"e", b"ip", b"q", b"r", b"ro", b"t", b"v", b"y"]),
            st.sampled_from([b"q", b"r", b"e", b"ping", b"aa", 1, [], [201, b"x"], {}, {b"id": _ID}]),
        )
    )
    def test_any(self, message: dict[bytes, Any]) -> None:
        """
        Whatever stands under the known keys: a message or L{DecodeError}.
        """
        try:
            decoded = decode(bencode(message))
        except DecodeError:
            return
        self.assertIsInstance(decoded, Query | Response | Error)
