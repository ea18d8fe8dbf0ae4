"""
Tests for L{dtt.discovery.lan_messages}.
"""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dtt.discovery.lan_messages import GROUP4, GROUP6, MAX_COOKIE, MAX_MESSAGE, LocalMessage, decode, encode
from dtt.errors import DecodeError

#: A search, written by hand from docs/protocol/local-network.md section 1.
SEARCH = (
    b"DTT-SEARCH * HTTP/1.1\r\nHost: 239.192.152.143:6771\r\nPort: 6881\r\ncookie: 0123456789abcdef\r\n\r\n"
)


COOKIE = b"0123456789abcdef"


class LocalMessageTests(SynchronousTestCase):
    """
    The format of the messages.
    """

    def test_search(self) -> None:
        """A search has the documented bytes."""
        self.assertEqual(encode(LocalMessage(False, 6881, COOKIE), GROUP4), SEARCH)
        self.assertEqual(decode(SEARCH), LocalMessage(False, 6881, COOKIE))

    def test_answer(self) -> None:
        """So has an answer; the group of IPv6 is in brackets."""
        answer = encode(LocalMessage(True, 1, COOKIE), GROUP6)
        self.assertTrue(answer.startswith(b"HTTP/1.1 200 OK\r\nHost: [ff15::efc0:988f]:6771\r\nPort: 1\r\n"))
        self.assertEqual(decode(answer), LocalMessage(True, 1, COOKIE))

    def test_lenient(self) -> None:
        """Other headers, other cases and missing spaces do no harm."""
        odd = b"DTT-SEARCH * HTTP/1.1\r\nPORT:7\r\nX: y\r\nnonsense\r\nCookie:a\r\n\r\n\r\n"
        self.assertEqual(decode(odd), LocalMessage(False, 7, b"a"))

    def test_malformed(self) -> None:
        """Anything else is refused: BEP14's own searches, and what is absurd or too long."""
        for wrong in (
            b"",
            b"BT-SEARCH * HTTP/1.1\r\nPort: 6881\r\ncookie: a\r\n\r\n",
            SEARCH.replace(b"6881", b"0"),
            SEARCH.replace(b"6881", b"65536"),
            SEARCH.replace(b"6881", b"-1"),
            SEARCH.replace(b"Port", b"Sort"),
            SEARCH.replace(COOKIE, b""),
            SEARCH.replace(COOKIE, b"a b"),
            SEARCH.replace(COOKIE, b"a" * 33),
            SEARCH + b"x" * MAX_MESSAGE,
        ):
            self.assertRaises(DecodeError, decode, wrong)

    @given(st.binary(max_size=2 * MAX_MESSAGE))
    def test_anything(self, data: bytes) -> None:
        """Any bytes are read or refused, also behind the first line of a search."""
        for each in (data, SEARCH[:23] + data):
            with contextlib.suppress(DecodeError):
                decode(each)

    def test_bounds(self) -> None:
        """The largest port and cookie are accepted, also with leading and trailing spaces; nothing beyond."""
        longest = LocalMessage(True, 65535, b"Z" * MAX_COOKIE)
        self.assertEqual(decode(encode(longest, GROUP6)), longest)
        padded = SEARCH + b"x" * (MAX_MESSAGE - len(SEARCH))
        self.assertEqual(decode(padded).port, 6881)
        self.assertRaises(DecodeError, decode, padded + b"x")
        for port in (b"00001", b"+1", b"1_0", b"123456", b"1.0", b"\xd9\xa1", b"1 2", b""):
            self.assertRaises(DecodeError, decode, SEARCH.replace(b"6881", port))
        self.assertEqual(decode(SEARCH.replace(b"6881", b"  1\t")).port, 1)

    def test_repeated(self) -> None:
        """If a header is repeated, the last one counts."""
        twice = SEARCH.replace(b"Port: 6881", b"Port: 1\r\nPort: 2")
        self.assertEqual(decode(twice).port, 2)
