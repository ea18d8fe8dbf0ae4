"""
Tests for L{dtt.dht.routing.ids}.
"""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from dtt.dht.routing.ids import crc32c, distance, generate, is_valid, random_id
from dtt.net.networks import is_exempt, is_loopback

#: BEP42, "Test vectors": address, last byte, id.
_VECTORS = (
    ("124.31.75.21", 1, "5fbfbff10c5d6a4ec8a88e4c6ab4c28b95eee401"),
    ("21.75.31.124", 86, "5a3ce9c14e7a08645677bbd1cfe7d8f956d53256"),
    ("65.23.51.170", 22, "a5d43220bc8f112a3d426c84764f8c2a1150e616"),
    ("84.124.73.14", 65, "1b0321dd1bb1fe518101ceef99462b947a01ff41"),
    ("43.213.53.83", 90, "e56f6cbf5b7c4be0237986d5243b87aa6d51305a"),
)


class DistanceTests(SynchronousTestCase):
    """
    L{distance}.
    """

    def test_xor(self) -> None:
        """
        The distance is the XOR as a big-endian number.
        """
        self.assertEqual(distance(b"a" * 20, b"a" * 20), 0)
        self.assertEqual(distance(b"\x80" + bytes(19), bytes(20)), 1 << 159)
        self.assertEqual(distance(bytes(19) + b"\x05", bytes(19) + b"\x06"), 3)


class BEP42Tests(SynchronousTestCase):
    """
    Ids derived from addresses.
    """

    def test_crc32c(self) -> None:
        """
        The check value of CRC32-C, and a vector of RFC 3720, B.4.
        """
        self.assertEqual(crc32c(b"123456789"), 0xE3069283)
        self.assertEqual(crc32c(bytes(32)), 0x8A9136AA)

    def test_vectors(self) -> None:
        """
        The ids of BEP42 are valid for their addresses and no others.
        """
        for address, last, text in _VECTORS:
            node_id = bytes.fromhex(text)
            self.assertEqual(node_id[-1], last)
            for other, _, _ in _VECTORS:
                self.assertEqual(is_valid(node_id, other), other == address)

    def test_21_bits(self) -> None:
        """
        Only the first 21 bits and the low three bits of the last byte count.
        """
        node_id = bytes.fromhex(_VECTORS[0][2])
        for bit in range(160):
            changed = (int.from_bytes(node_id, "big") ^ 1 << 159 - bit).to_bytes(20, "big")
            self.assertEqual(is_valid(changed, _VECTORS[0][0]), not (bit < 21 or bit >= 157), bit)

    def test_generate(self) -> None:
        """
        Generated ids are valid, and differ in all free bits.
        """
        rng = Random(42)
        for ip in ("203.0.113.9", "2001:db8:1:2:3:4:5:6", "8.8.8.8"):
            ids = [generate(ip, rng) for _ in range(50)]
            for node_id in ids:
                self.assertEqual(len(node_id), 20)
                self.assertTrue(is_valid(node_id, ip), ip)
            self.assertEqual(len(set(ids)), 50)
            self.assertFalse(is_valid(ids[0], "198.51.100.1"))

    def test_ipv6_network(self) -> None:
        """
        Only the first 64 bits of an IPv6 address count.
        """
        node_id = generate("2001:db8:1:2:3:4:5:6", Random(1))
        self.assertTrue(is_valid(node_id, "2001:db8:1:2::1"))
        self.assertFalse(is_valid(node_id, "2001:db8:2:2::1"))

    def test_local(self) -> None:
        """
        In local networks every id is valid.
        """
        for ip in (
            *("10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.9.9", "127.0.0.1"),
            *("::1", "fe80::1", "fd00::1"),
        ):
            self.assertTrue(is_exempt(ip), ip)
            self.assertTrue(is_valid(b"x" * 20, ip), ip)
        for ip in ("172.32.0.1", "11.0.0.1", "192.169.0.1", "2001:db8::1"):
            self.assertFalse(is_exempt(ip), ip)

    def test_loopback(self) -> None:
        """
        127/8 and ::1 are loopback, other local networks are not.
        """
        for ip, expected in (("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("10.0.0.1", False)):
            self.assertEqual(is_loopback(ip), expected, ip)


class RandomIdTests(SynchronousTestCase):
    """
    L{random_id}.
    """

    def test_reproducible(self) -> None:
        """
        The id depends on the random source only.
        """
        self.assertEqual(random_id(Random(3)), random_id(Random(3)))
        self.assertNotEqual(random_id(Random(3)), random_id(Random(4)))
        self.assertEqual(len(random_id(Random(3))), 20)
