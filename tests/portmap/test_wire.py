"""
Tests for L{dtt.portmap.wire}.
"""

from __future__ import annotations

import contextlib
import struct

from hypothesis import given
from hypothesis.strategies import binary
from twisted.trial.unittest import SynchronousTestCase

from dtt.errors import DecodeError
from dtt.portmap.wire import (
    MAX_ANSWER,
    Answer,
    RefusedError,
    UnsupportedVersionError,
    nat_pmp_address,
    nat_pmp_map,
    pcp_map,
    read_nat_pmp,
    read_pcp,
)
from tests.portmap.router import OUTSIDE, OWN, TCP, UDP

NONCE = b"n" * 12


def pcp_answer(
    result: int = 0, *, nonce: bytes = NONCE, protocol: int = 17, port: int = 6881, opcode: int = 0x81
) -> bytes:
    """
    The answer of a router that has mapped port 7881 for 7200 s.
    """
    head = struct.pack("!BBBBII12x", 2, opcode, 0, result, 7200, 99)
    outside = bytes(10) + b"\xff\xff" + bytes(map(int, OUTSIDE.split(".")))
    return head + nonce + struct.pack("!BxxxHH", protocol, port, 7881) + outside


class RequestTests(SynchronousTestCase):
    """
    What is sent.
    """

    def test_pcp(self) -> None:
        """
        A MAP request has the bytes of RFC 6887 section 11.1.
        """
        request = pcp_map(TCP, NONCE, OWN, 4433, 0, 3600)
        self.assertEqual(
            request.hex(),
            "02010000" + "00000e10" + "00000000000000000000ffffc0a80102"
            "6e6e6e6e6e6e6e6e6e6e6e6e" + "06000000" + "11510000" + "00000000000000000000ffff00000000",
        )

    def test_pcp_ipv6(self) -> None:
        """
        A member with an IPv6 address asks for any IPv6 address outside.
        """
        request = pcp_map(UDP, NONCE, "2001:db8::2", 6881, 7881, 0)
        self.assertEqual(request[8:24].hex(), "20010db8" + "00" * 11 + "02")
        self.assertEqual(request[36:].hex(), "11000000" + "1ae1" + "1ec9" + "00" * 16)

    def test_nat_pmp(self) -> None:
        """
        The requests have the bytes of RFC 6886 sections 3.2 and 3.3.
        """
        self.assertEqual(nat_pmp_address(), b"\x00\x00")
        self.assertEqual(nat_pmp_map(UDP, 6881, 7881, 3600).hex(), "00010000" + "1ae11ec9" + "00000e10")
        self.assertEqual(nat_pmp_map(TCP, 4433, 0, 0).hex(), "00020000" + "11510000" + "00000000")


class PCPAnswerTests(SynchronousTestCase):
    """
    Tests for L{read_pcp}.
    """

    def test_mapped(self) -> None:
        """
        An answer contains the port and the address outside, the lifetime and the epoch; options after it
        are ignored.
        """
        expected = Answer(7881, 7200, 99, OUTSIDE)
        self.assertEqual(read_pcp(pcp_answer(), UDP, NONCE, 6881), expected)
        self.assertEqual(read_pcp(pcp_answer() + bytes(8), UDP, NONCE, 6881), expected)

    def test_ipv6(self) -> None:
        """
        An address outside that is not IPv4 is read as IPv6.
        """
        outside = bytes.fromhex("20010db8" + "00" * 11 + "07")
        answer = read_pcp(pcp_answer()[:44] + outside, UDP, NONCE, 6881)
        assert answer is not None
        self.assertEqual(answer.host, "2001:db8::7")

    def test_other_request(self) -> None:
        """
        The answer to a request with another nonce, protocol, port or opcode is not ours, nor is a refusal
        with another nonce.
        """
        for answer in (
            pcp_answer(nonce=b"x" * 12),
            pcp_answer(protocol=6),
            pcp_answer(port=6882),
            pcp_answer(opcode=0x82),
            pcp_answer(8, nonce=b"x" * 12),
            pcp_answer(8, nonce=b"x" * 12)[:36],
        ):
            self.assertIsNone(read_pcp(answer, UDP, NONCE, 6881))

    def test_refused(self) -> None:
        """
        A refusal has a reason, be it short or unknown.
        """
        for answer, reason in (
            (pcp_answer(8), "no resources"),
            (pcp_answer(2)[:24], "not authorized"),
            (pcp_answer(200), "error 200"),
        ):
            error = self.assertRaises(RefusedError, read_pcp, answer, UDP, NONCE, 6881)
            self.assertEqual(str(error), reason)

    def test_malformed(self) -> None:
        """
        A request, and an answer of a wrong size, are errors.
        """
        for answer, reason in (
            (b"", "not an answer"),
            (pcp_answer()[:3], "not an answer"),
            (pcp_answer(opcode=0x01), "not an answer"),
            (pcp_answer() + b"x", "bad length"),
            (pcp_answer() + bytes(MAX_ANSWER), "bad length"),
            (pcp_answer()[:56], "too short"),
        ):
            error = self.assertRaises(DecodeError, read_pcp, answer, UDP, NONCE, 6881)
            self.assertEqual(str(error), reason)
        largest = pcp_answer() + bytes(MAX_ANSWER - 60)
        self.assertIsNotNone(read_pcp(largest, UDP, NONCE, 6881))

    def test_version(self) -> None:
        """
        A router that speaks another version says so.  The answer to somebody's NAT-PMP request does not say
        that.
        """
        address = struct.pack("!BBHI4s", 0, 0x80, 0, 9, b"\xcb\x00\x71\x07")
        self.assertIsNone(read_pcp(address, UDP, NONCE, 6881))
        for version in (0, 1, 3):
            refused = struct.pack("!BBHI", version, 0x81, 1, 9)
            self.assertRaises(UnsupportedVersionError, read_pcp, refused, UDP, NONCE, 6881)
        for answer in (bytes((0, 0x80, 0, 1, 0, 0, 0, 0)), bytes((1, 0x81, 0, 1)), bytes((2, 0x81, 0, 1))):
            self.assertRaises(UnsupportedVersionError, read_pcp, answer, UDP, NONCE, 6881)


class NATPMPAnswerTests(SynchronousTestCase):
    """
    Tests for L{read_nat_pmp}.
    """

    def test_address(self) -> None:
        """
        The answer about the address outside contains it.
        """
        answer = struct.pack("!BBHI4s", 0, 0x80, 0, 9, b"\xcb\x00\x71\x07")
        self.assertEqual(read_nat_pmp(answer, None, 0), Answer(0, 0, 9, OUTSIDE))
        self.assertIsNone(read_nat_pmp(answer, UDP, 6881))

    def test_mapped(self) -> None:
        """
        The answer about a mapping contains the port outside and the lifetime, but no address.
        """
        for transport, opcode in ((UDP, 0x81), (TCP, 0x82)):
            answer = struct.pack("!BBHIHHI", 0, opcode, 0, 9, 6881, 7881, 3600)
            self.assertEqual(read_nat_pmp(answer, transport, 6881), Answer(7881, 3600, 9, None))
            self.assertIsNone(read_nat_pmp(answer, transport, 6882))
            self.assertIsNone(read_nat_pmp(answer, None, 0))
            self.assertIsNone(read_nat_pmp(answer, TCP if transport is UDP else UDP, 6881))

    def test_refused(self) -> None:
        """
        A refusal has a reason, be it short or unknown; the answer to somebody's PCP request is not ours.
        """
        for result, reason in ((2, "not authorized"), (4, "no resources"), (999, "error 999")):
            for rest in (b"", bytes(8)):
                refused = struct.pack("!BBHI", 0, 0x81, result, 0) + rest
                error = self.assertRaises(RefusedError, read_nat_pmp, refused, UDP, 6881)
                self.assertEqual(str(error), reason)
        self.assertIsNone(read_nat_pmp(struct.pack("!BBHI", 0, 0x81, 1, 0), UDP, 6881))

    def test_malformed(self) -> None:
        """
        A request, PCP, and an answer of a wrong size, are errors.
        """
        answer = struct.pack("!BBHIHHI", 0, 0x81, 0, 9, 6881, 7881, 3600)
        for data, reason in (
            (answer[:7], "not an answer"),
            (b"\x00\x01" + answer[2:], "not an answer"),
            (b"\x02" + answer[1:], "not an answer"),
            (answer[:15], "bad length"),
            (answer + b"x", "bad length"),
        ):
            error = self.assertRaises(DecodeError, read_nat_pmp, data, UDP, 6881)
            self.assertEqual(str(error), reason)


class GarbageTests(SynchronousTestCase):
    """
    Datagrams of anybody.
    """

    @given(binary(max_size=80))
    def test_garbage(self, data: bytes) -> None:
        """
        Garbage is an error or no answer, never anything else.
        """
        for prefix in (b"", b"\x02\x81", b"\x00\x81\x00\x00", b"\x00\x80\x00\x00"):
            for read in (
                lambda datagram: read_pcp(datagram, UDP, NONCE, 6881),
                lambda datagram: read_nat_pmp(datagram, UDP, 6881),
                lambda datagram: read_nat_pmp(datagram, None, 0),
            ):
                with contextlib.suppress(DecodeError):
                    read(prefix + data)
