"""
Tests for L{dtt.krpc.messages}.
"""

from __future__ import annotations

from itertools import permutations
from random import Random
from typing import Any
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dtt.errors import DecodeError
from dtt.krpc.bencode import Encoded
from dtt.krpc.bencode import decode as bdecode
from dtt.krpc.bencode import encode as bencode
from dtt.krpc.messages import (
    MAX_DATAGRAM,
    VERSION,
    Error,
    Query,
    Response,
    decode,
    encode_answer,
    encode_error,
    encode_query,
    encode_response,
)
from tests.sweeps import sized

_ID = b"abcdefghij0123456789"
_IP = b"\x0a\x00\x00\x01\x12\x34"


class EncodeTests(SynchronousTestCase):
    """
    Messages that we send.
    """

    def test_query(self) -> None:
        """
        A query has a 4-byte C{t} and C{v}, sorted keys, and C{ro} if requested.
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
        A response has C{ip}, if known, and all values.
        """
        for ip in (_IP, None):
            data = encode_response(b"xy", _ID, {b"token": b"tok", b"a": 1}, ip)
            expected = Response(b"xy", _ID, {b"a": 1, b"token": b"tok"}, VERSION, ip)
            self.assertEqual(decode(data), expected)

    def test_answer(self) -> None:
        """
        An answer is a response whose values are already encoded.
        """
        entries = b"5:nodes0:5:token3:tok"
        expected = encode_response(b"xy", _ID, {b"nodes": b"", b"token": b"tok"}, _IP)
        self.assertEqual(encode_answer(b"xy", _ID, entries, _IP), expected)
        self.assertEqual(encode_answer(b"xy", _ID, b"", _IP), encode_response(b"xy", _ID, {}, _IP))

    def test_error(self) -> None:
        """
        An error has a code, a text and C{ip}.
        """
        data = encode_error(b"xy", 203, "words", _IP)
        self.assertEqual(decode(data), Error(b"xy", 203, "words", VERSION))
        self.assertEqual(bdecode(data)[b"ip"], _IP)


class DecodeTests(SynchronousTestCase):
    """
    Messages that we receive.
    """

    def query(self, **changes: Any) -> bytes:
        """
        Return a ping with some keys changed; C{None} removes one.
        """
        message: dict[str, Any] = {"a": {b"id": _ID}, "q": b"ping", "t": b"aa", "y": b"q", **changes}
        return bencode({key.encode(): value for key, value in message.items() if value is not None})

    def test_bep5(self) -> None:
        """
        The examples of BEP5 are decoded.
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
        A faulty query with a transaction can be answered: an invalid id or method is
        decoded as empty.
        """
        without_id: tuple[Any, ...] = (None, 1, {}, {b"id": b"short"}, {b"id": 1})
        for arguments in without_id:
            self.assertEqual(decode(self.query(a=arguments)), Query(b"aa", b"ping", b"", {}, False, b""))
        for method in (None, 1):
            self.assertEqual(decode(self.query(q=method)), Query(b"aa", b"", _ID, {}, False, b""))

    def test_read_only(self) -> None:
        """
        C{ro} counts only if it is 1.
        """
        for value, expected in ((1, True), (0, False), (2, False), (b"1", False), ([], False)):
            message = decode(self.query(ro=value))
            assert isinstance(message, Query)
            self.assertEqual(message.read_only, expected)

    def test_transactions(self) -> None:
        """
        A transaction id has 1 to 32 bytes.
        """
        for size in (1, 4, 32):
            self.assertEqual(decode(self.query(t=b"x" * size)).transaction, b"x" * size)
        for value in (None, b"", b"x" * 33, 7):
            error = self.assertRaises(DecodeError, decode, self.query(t=value))
            self.assertEqual(str(error), "bad transaction")

    def test_lenient(self) -> None:
        """
        An invalid C{v} or C{ip} counts as absent; other keys are ignored.
        """
        data = bencode({b"r": {b"id": _ID}, b"t": b"a", b"y": b"r", b"v": 1, b"ip": b"abc", b"zz": []})
        self.assertEqual(decode(data), Response(b"a", _ID, {}, b"", None))

    def test_refused(self) -> None:
        """
        A message that can be neither answered nor used is rejected with a reason.
        """
        for reason, data in (
            ("bencode: bad type", b"hello"),
            ("not a dictionary", b"le"),
            ("not a dictionary", b"4:spam"),
            ("bad message type", self.query(y=None)),
            ("bad message type", self.query(y=b"x")),
            ("bad message type", self.query(y=[])),
            ("bad response", bencode({b"t": b"a", b"y": b"r"})),
            ("bad response", bencode({b"r": [], b"t": b"a", b"y": b"r"})),
            ("bad response id", bencode({b"r": {}, b"t": b"a", b"y": b"r"})),
            ("bad response id", bencode({b"r": {b"id": b"x"}, b"t": b"a", b"y": b"r"})),
            ("too large", self.query(zz=b"x" * MAX_DATAGRAM)),
        ):
            error = self.assertRaises(DecodeError, decode, data)
            self.assertEqual(str(error), reason, data)

    def test_error_text(self) -> None:
        """
        The text of an error is truncated and need not be UTF-8.
        """
        message = decode(encode_error(b"a", 201, "é" * 1000, None))
        assert isinstance(message, Error)
        self.assertEqual(message.text, "é" * 100)
        message = decode(bencode({b"e": [1, b"\xff\x00"], b"t": b"a", b"y": b"e"}))
        assert isinstance(message, Error)
        self.assertEqual(message.text, "\ufffd\x00")

    def test_any_error(self) -> None:
        """
        An error is one whatever it contains: waiting longer for a reply is useless.
        """
        for content, code, text in (
            (None, 201, ""),
            ([], 201, ""),
            ([b"201", b"x"], 201, "201"),
            ([204], 204, ""),
            ([b"text", 204], 204, "text"),
            (202, 202, ""),
            (b"text", 201, "text"),
            ({b"code": 1}, 201, ""),
            ([Encoded(b"i%de" % 10**30), b"text"], 201, "text"),
            ([202, [b"text"]], 202, ""),
        ):
            message = {b"t": b"a", b"y": b"e"} | ({} if content is None else {b"e": content})
            self.assertEqual(decode(bencode(message)), Error(b"a", code, text, b""), content)

    def test_keys_in_any_order(self) -> None:
        """
        The keys of a message, and of its arguments or results, may have any order. Of
        equal keys the first counts, as in libtorrent.
        """
        response = Response(b"aa", _ID, {b"nodes": b"n" * 26, b"token": b"t"}, b"", None)
        entries = [b"2:id20:" + _ID, b"5:nodes26:" + b"n" * 26, b"5:token1:t"]
        for results in permutations(entries):
            for outer in permutations([b"1:rd%be" % b"".join(results), b"1:t2:aa", b"1:y1:r"]):
                self.assertEqual(decode(b"d%be" % b"".join(outer)), response)
        for data in (
            b"d1:t2:aa1:y1:q1:q4:ping1:q3:xxx1:ad2:id20:%bee" % _ID,
            b"d1:ad2:id20:%b2:id1:xe1:ad2:id20:%be1:q4:ping1:t2:aa1:t1:b1:y1:qe" % (_ID, bytes(20)),
        ):
            self.assertEqual(decode(data), Query(b"aa", b"ping", _ID, {}, False, b""))

    def test_integers_of_any_length(self) -> None:
        """
        An integer of any length, or with leading zeros, hides neither a query nor a
        reply; it counts as a value of a wrong type.
        """
        for digits in (b"9" * 21, b"-" + b"9" * 21, b"9" * 1900, b"0" * 1900, b"01", b"-0", b"-01"):
            number = b"i%be" % digits
            query = decode(b"d1:ad2:id20:%b3:seq%be1:q3:get1:t2:aa1:y1:qe" % (_ID, number))
            self.assertEqual(query, Query(b"aa", b"get", _ID, {b"seq": Encoded(number)}, False, b""))
            reply = decode(b"d1:p%b1:rd2:id20:%b3:num%be1:t2:aa1:y1:re" % (number, _ID, number))
            self.assertEqual(reply, Response(b"aa", _ID, {b"num": Encoded(number)}, b"", None))
            error = decode(b"d1:el%b4:texte1:t2:aa1:y1:ee" % number)
            self.assertEqual(error, Error(b"aa", 201, "text", b""))
        for digits in (b"", b"-", b"+1", b"1_0", b"1.0", b" 1", b"\xb2"):
            self.assertRaises(
                DecodeError, decode, b"d1:ad2:id20:%b3:seqi%bee1:q3:get1:t2:aa1:y1:qe" % (_ID, digits)
            )

    def test_trailing_bytes(self) -> None:
        """
        What follows a message is ignored if it ends as a message does, as in libtorrent.
        """
        for more in (b"e", b"junke", b"d1:t2:bbe"):
            self.assertEqual(decode(self.query() + more), Query(b"aa", b"ping", _ID, {}, False, b""))
        self.assertRaises(DecodeError, decode, self.query() + b"junk")

    def test_values_stay_verbatim(self) -> None:
        """
        The encoding of a value in a message is preserved whatever its keys and numbers
        look like: signatures and targets cover it.
        """
        for value in (
            b"d1:b1:x1:a1:ye",
            b"ld1:b1:x1:a1:yed1:a0:ee",
            b"d1:ad1:b0:1:a0:ee",
            b"d1:a0:1:a1:xe",
            b"i007e",
            b"i-0e",
            b"03:abc",
            b"l03:abci1ee",
            b"d01:a0:e",
            b"d1:al" + b"i%de" % 10**30 + b"ee",
        ):
            query = decode(b"d1:ad2:id20:%b1:v%b1:a0:e1:q3:put1:t2:aa1:y1:qe" % (_ID, value))
            assert isinstance(query, Query)
            self.assertEqual(bencode(query.arguments[b"v"]), value)

    @settings(derandomize=True, deadline=None, max_examples=sized(60, 500))
    @given(
        st.dictionaries(
            st.sampled_from([b"a", b"e", b"ip", b"q", b"r", b"ro", b"t", b"v", b"y"]),
            st.sampled_from([b"q", b"r", b"e", b"ping", b"aa", 1, [], [201, b"x"], {}, {b"id": _ID}]),
        )
    )
    def test_any(self, message: dict[bytes, Any]) -> None:
        """
        Any values under the known keys yield a message or L{DecodeError}.
        """
        try:
            decoded = decode(bencode(message))
        except DecodeError:
            return
        self.assertIsInstance(decoded, Query | Response | Error)


def _arguments(rng: Random) -> dict[bytes, Any]:
    """
    Arguments as other implementations send them, and some that none sends.
    """
    numbers: list[Any] = [0, 7, 2**63 - 1, 2**64, -1]
    choices: dict[bytes, list[Any]] = {
        b"cas": numbers,
        b"info_hash": [b"h" * 20, b"h" * 19],
        b"k": [b"k" * 32, b"k" * 33],
        b"salt": [b"salt", b"x" * 64, b"3:seqi1e", b"", b"x" * 65],
        b"seq": numbers,
        b"sig": [b"s" * 64, b"s" * 63],
        b"target": [b"t" * 20, b"t" * 21, b"\n" * 20],
        b"token": [b"\ntoken!!", b"t"],
        b"v": [b"value", b"v" * 600, b"v" * 1000, b"e1:q3:put1:t2:aa1:y1:qe", b"", 1, [b"v"]],
        b"want": [[b"n4"], [b"n6"], [b"n4", b"n6"], [], [b"n6", b"n4"], b"n4"],
    }
    usual = rng.choice(
        [
            (),
            (b"target",),
            (b"info_hash",),
            (b"seq", b"target"),
            (b"k", b"salt", b"seq", b"sig", b"target", b"token", b"v"),
            (b"k", b"seq", b"sig", b"token", b"v"),
            (b"cas", b"k", b"salt", b"seq", b"sig", b"token", b"v"),
            tuple(key for key in choices if rng.random() < 0.5),
        ]
    )
    # The first choices are the common ones.
    arguments = {
        key: choices[key][0 if rng.random() < 0.7 else rng.randrange(len(choices[key]))] for key in usual
    }
    if rng.random() < 0.2:
        arguments[b"want"] = rng.choice(choices[b"want"])
    return arguments


class CommonQueryTests(SynchronousTestCase):
    """
    Queries of the common shapes bypass the decoder.
    """

    def outcome(self, data: bytes) -> object:
        """
        Return the message, or the text of the error.
        """
        try:
            return decode(data)
        except DecodeError as error:
            return str(error)

    def test_taken(self) -> None:
        """
        Queries as libtorrent, mainline and we send them have such a shape.
        """
        put = {b"k": b"k" * 32, b"salt": b"s", b"seq": 1, b"sig": b"g" * 64, b"token": b"t" * 8, b"v": b"v"}
        for method, arguments in (
            (b"ping", {}),
            (b"find_node", {b"target": b"t" * 20}),
            (b"find_node", {b"target": b"t" * 20, b"want": [b"n4", b"n6"]}),
            (b"get_peers", {b"info_hash": b"t" * 20}),
            (b"get", {b"target": b"t" * 20, b"seq": 0}),
            (b"put", put),
            (b"put", {**put, b"target": b"t" * 20, b"cas": 0}),
        ):
            data = encode_query(b"aaaa", method, _ID, arguments, True)
            with patch("dtt.krpc.messages._query", side_effect=AssertionError("decoded")):
                self.assertEqual(decode(data), Query(b"aaaa", method, _ID, arguments, True, VERSION))

    def test_same(self) -> None:
        """
        The result always equals the decoder's: for common queries, uncommon ones, and
        both with a byte or two changed, inserted or removed.
        """
        seed = Random().getrandbits(32)
        rng = Random(seed)
        methods = [b"ping", b"find_node", b"get_peers", b"get", b"put", b"announce_peer"]
        for _ in range(sized(1000, 4000)):
            transaction = rng.choice([b"aa", b"aaaa", b"a", b"\n" * 4])
            data = encode_query(transaction, rng.choice(methods), _ID, _arguments(rng), rng.random() < 0.5)
            if rng.random() < 0.3:
                data = data.replace(b"1:v4:" + VERSION, b"")
            for _ in range(rng.choice([0, 0, 1, 2])):
                at = rng.randrange(len(data))
                middle = rng.choice([b"", data[at : at + 1] * 2, bytes([rng.choice(b"0123456789:eild")])])
                data = data[:at] + middle + data[at + 1 :]
            fast = self.outcome(data)
            with (
                patch("dtt.krpc.messages._common_read", lambda data: None),
                patch("dtt.krpc.messages._common_put", lambda data: None),
            ):
                slow = self.outcome(data)
            self.assertEqual(fast, slow, f"seed {seed}: {data!r}")
