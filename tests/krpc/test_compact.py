"""
Tests for L{dtt.krpc.compact}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dtt.errors import DecodeError
from dtt.interfaces import Contact
from dtt.krpc.compact import (
    decode_address,
    decode_nodes,
    decode_nodes6,
    decode_peers,
    encode_address,
    encode_nodes,
)


class AddressTests(SynchronousTestCase):
    """
    L{encode_address} and L{decode_address}.
    """

    def test_bytes(self) -> None:
        """
        IP and port are big-endian, and decoded addresses are formatted as a socket
        formats them.
        """
        for host, port, data in (
            ("192.0.2.255", 0x1234, b"\xc0\x00\x02\xff\x12\x34"),
            ("0.0.0.0", 0, bytes(6)),
            ("2001:db8::1", 65535, b"\x20\x01\x0d\xb8" + bytes(11) + b"\x01\xff\xff"),
            ("::1", 1, bytes(15) + b"\x01\x00\x01"),
        ):
            self.assertEqual(encode_address(host, port), data)
            self.assertEqual(decode_address(data), (host, port))

    def test_zone(self) -> None:
        """
        The zone of a link-local address is dropped.
        """
        self.assertEqual(encode_address("fe80::1%eth0", 1), encode_address("fe80::1", 1))

    def test_bad_literals(self) -> None:
        """
        An invalid IP literal or port is a C{ValueError}.
        """
        for host, port in (
            ("example.com", 1),
            ("", 1),
            ("1.2.3", 1),
            ("1.2.3.4.5", 1),
            ("1.2.3.256", 1),
            ("1.2.3.-4", 1),
            ("1.2.3.+4", 1),
            (" 1.2.3.4", 1),
            ("1.2.3.04", 1),
            ("1.2.3.\u0661", 1),
            ("::x", 1),
            ("1.2.3.4", -1),
            ("1.2.3.4", 65536),
        ):
            self.assertRaises(ValueError, encode_address, host, port)

    def test_bad_length(self) -> None:
        """
        An address has 6 or 18 bytes.
        """
        for size in (0, 4, 5, 7, 16, 17, 19):
            self.assertRaises(DecodeError, decode_address, bytes(size))


class NodesTests(SynchronousTestCase):
    """
    Lists of nodes.
    """

    def test_round_trip(self) -> None:
        """
        Nodes are decoded in order, 26 bytes each, or 38 of IPv6.
        """
        four = [Contact(bytes([i]) * 20, f"10.0.0.{i}", 1000 + i) for i in range(8)]
        self.assertEqual(len(encode_nodes(four)), 8 * 26)
        self.assertEqual(decode_nodes(encode_nodes(four)), four)
        six = [Contact(bytes([i]) * 20, f"2001:db8::{i + 1}", 1000 + i) for i in range(8)]
        self.assertEqual(len(encode_nodes(six)), 8 * 38)
        self.assertEqual(decode_nodes6(encode_nodes(six)), six)

    def test_skipped(self) -> None:
        """
        A node with port 0, or with an IPv4-mapped address in C{nodes6}, is skipped;
        those around it are kept.
        """
        good = Contact(b"g" * 20, "10.0.0.1", 1)
        self.assertEqual(decode_nodes(encode_nodes([Contact(b"b" * 20, "10.0.0.2", 0), good])), [good])
        good6 = Contact(b"g" * 20, "2001:db8::1", 1)
        mapped = Contact(b"b" * 20, "::ffff:10.0.0.2", 7)
        self.assertEqual(decode_nodes6(encode_nodes([good6, mapped])), [good6])

    def test_bad(self) -> None:
        """
        Other types are rejected; an incomplete node at the end is skipped.
        """
        for value in (None, 26, [bytes(26)]):
            self.assertRaises(DecodeError, decode_nodes, value)
            self.assertRaises(DecodeError, decode_nodes6, value)
        good, good6 = Contact(b"g" * 20, "10.0.0.1", 1), Contact(b"g" * 20, "2001:db8::1", 1)
        for size in (0, 1, 25):
            self.assertEqual(decode_nodes(bytes(size)), [])
            self.assertEqual(decode_nodes(encode_nodes([good]) + bytes(size)), [good])
        for size in (0, 1, 37):
            self.assertEqual(decode_nodes6(bytes(size)), [])
            self.assertEqual(decode_nodes6(encode_nodes([good6]) + bytes(size)), [good6])


class PeersTests(SynchronousTestCase):
    """
    L{decode_peers}.
    """

    def test_both_families(self) -> None:
        """
        IPv4 and IPv6 peers may be mixed; port 0 is skipped.
        """
        values = [encode_address("10.0.0.1", 80), encode_address("::1", 81), encode_address("10.0.0.2", 0)]
        self.assertEqual(decode_peers(values), [("10.0.0.1", 80), ("::1", 81)])

    def test_bad(self) -> None:
        """
        Anything other than a list is rejected; elements of a list that are not peers are skipped.
        """
        for value in (None, b"123456", {b"a": 1}):
            self.assertRaises(DecodeError, decode_peers, value)
        good = encode_address("10.0.0.1", 80)
        self.assertEqual(decode_peers([1, b"12345", good, [], {}, good + b"x"]), [("10.0.0.1", 80)])
