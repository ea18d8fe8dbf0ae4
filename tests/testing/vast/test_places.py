"""
Tests for L{dtt.testing.vast.places}.
"""

from __future__ import annotations

from collections import Counter
from itertools import product
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from dtt.dht.routing.ids import is_valid
from dtt.krpc.compact import decode_address
from dtt.net.networks import is_exempt
from dtt.testing.vast.places import BOOTSTRAP, MEMBERS, Place, Places, member_host
from tests.sweeps import sized

KEY = b"k" * 32


def places(bits: int = 22, secure: float = 1.0, per_network: int = 1, ports_per_ip: int = 1) -> Places:
    """The places of several small DHTs."""
    return Places(bits, KEY, secure, per_network, ports_per_ip)


def address(place: Place) -> tuple[str, int]:
    """The host and port of a place."""
    return decode_address(place.compact[20:])


class PlacesTests(SynchronousTestCase):
    """
    Ids and addresses of nodes.
    """

    def test_inverse(self) -> None:
        """The number of a node can be computed from its address, in DHTs of all sizes and kinds."""
        rng = Random(1)
        for bits, secure, ports in product((20, 21, 22, 24), (0.0, 0.5, 1.0), (1, 8)):
            nodes = places(bits, secure, 2, ports)
            for number in [0, 2**bits - 1, *(rng.randrange(2**bits) for _ in range(50))]:
                self.assertEqual(nodes.number_at(*address(nodes.place(number))), number)

    def test_nobody(self) -> None:
        """
        Most addresses have no node, and those of members, bootstrap hosts and private
        networks never do.
        """
        nodes, rng = places(secure=0.5), Random(2)
        found = 0
        for _ in range(1000):
            host, port = decode_address(rng.randbytes(6))
            number = nodes.number_at(host, port)
            if number is not None:
                found += 1
                self.assertEqual(address(nodes.place(number)), (host, port))
        self.assertLess(found, 20)
        for host in ("127.0.0.1", "10.0.0.1", member_host(3), "44.0.0.1", "2001:db8::1", "a.b"):
            for port in (0x8000, 0xFFFF):
                self.assertIsNone(nodes.number_at(host, port))

    def test_public(self) -> None:
        """All addresses are public, and none belongs to a member or a bootstrap host."""
        nodes, rng = places(secure=0.5), Random(3)
        for _ in range(1000):
            host, port = address(nodes.place(rng.randrange(2**22)))
            first = int(host.partition(".")[0])
            self.assertFalse(is_exempt(host))
            self.assertTrue(0 < first < 224 and first not in (100, 127, 192, 198, 203, MEMBERS, BOOTSTRAP))
            self.assertGreaterEqual(port, 1024)

    def test_ids(self) -> None:
        """The top bits of an id are the number; no two nodes have the same id or address."""
        for bits in (20, 23):
            nodes = places(bits, 0.5, ports_per_ip=2)
            seen = set()
            for number in range(5000):
                compact = nodes.place(number).compact
                self.assertEqual(int.from_bytes(compact[:20]) >> 160 - bits, number)
                seen |= {compact[:20], compact[20:]}
            self.assertEqual(len(seen), 10000)

    def test_secure(self) -> None:
        """The given share of ids is valid by BEP42, and the node reports this correctly."""
        rng = Random(4)
        for secure in (0.0, 0.1, 0.9, 1.0):
            nodes, valid = places(secure=secure), 0
            for _ in range(2000):
                place = nodes.place(rng.randrange(2**22))
                self.assertEqual(is_valid(place.node_id, address(place)[0]), place.secure)
                valid += place.secure
            self.assertApproximates(valid / 2000, secure, 0.03)

    def test_networks(self) -> None:
        """
        A /24 has exactly the given number of nodes with other ids, and this number of
        nodes with valid ids on average.
        """
        others = places(20, 0.0, 50)
        one = address(others.place(7))[0].rpartition(".")[0]
        # In one /24: with a port for each address, 8 divides the offsets of other nodes.
        ports = range(0xC000, 0x10000, 8)
        found = [others.number_at(f"{one}.{last}", port) for last in range(60) for port in ports]
        self.assertEqual(len({number for number in found if number is not None}), 50)
        for per_network in (2, 50)[-sized(1, 2) :]:
            nodes = places(20, 1.0, per_network)
            hosts = Counter(address(nodes.place(n))[0].rpartition(".")[0] for n in range(0, 2**20, 64))
            # A 64th of all nodes: the number in each network that occurs at all.
            expected = per_network / 64 / (1 - 2.718 ** (-per_network / 64))
            self.assertApproximates(2**14 / len(hosts) / expected, 1.0, 0.1)

    def test_ports(self) -> None:
        """The given number of nodes share an address, with ids far from each other."""
        for secure in (0.0, 1.0):
            nodes = places(20, secure, 4, 4)
            for start in (70000, 1, 2**20 - 1)[: sized(1, 3)]:
                host, _ = address(nodes.place(start))
                numbers = {nodes.number_at(host, port) for port in range(2**15, 2**16)} - {None}
                self.assertGreaterEqual(len(numbers), 4)
                self.assertIn(start, numbers)

    def test_gone(self) -> None:
        """A former node has the same top bits and validity, and an address without a node."""
        nodes = places(secure=0.5)
        for number in range(1000):
            place = nodes.place(number)
            host, port = decode_address(place.gone[20:])
            self.assertIsNone(nodes.number_at(host, port))
            self.assertEqual(place.gone[:3], place.compact[:3])
            self.assertNotEqual(place.gone[:20], place.node_id)
            self.assertEqual(is_valid(place.gone[:20], host), place.secure)

    def test_members(self) -> None:
        """Each member host has its own /24."""
        hosts = [member_host(index) for index in (0, 1, 256, 65535)]
        self.assertEqual(hosts, ["45.0.0.1", "45.0.1.1", "45.1.0.1", "45.255.255.1"])
        self.assertRaises(ValueError, member_host, 65536)

    def test_bad(self) -> None:
        """Impossible parameters are refused."""
        for bad in ({"bits": 19}, {"bits": 25}, {"secure": 1.1}, {"per_network": 0}, {"ports_per_ip": 3}):
            self.assertRaises(ValueError, places, **bad)
        self.assertRaises(ValueError, places, 24, 0.5, 1)
