"""
The ids and addresses of the nodes of a L{dtt.testing.vast.VastDHT}. Pure.

Rules:
  - Each number below 2^bits is a node. The top C{bits} bits of its id are the number, the
    others are from a keyed hash of it.
  - The number of a node can be computed from its address. If the id is valid by BEP42,
    the number is in the CRC's input and in the port; otherwise the address is a
    permutation of the number. Bit 14 of the port tells these cases apart; bit 15 is set
    for all nodes.
  - BEP42: the first 21 bits of an id are those of the CRC32-C of 20 bits of the IPv4
    address and 3 bits, C{r}, of the id's last byte. That is an affine map over GF(2), so
    the 23 bits that give a wanted prefix are found by linear algebra; the other 12 bits
    of the address are free.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from math import gcd
from typing import Final, NamedTuple

from dtt.dht.routing.ids import crc32c

#: The first byte of members' addresses. No DHT node has such an address.
MEMBERS: Final = 45

#: The first byte of the addresses of bootstrap hosts.
BOOTSTRAP: Final = 44

#: First bytes of addresses that are not, or not all, public (RFC 6890), and the two above.
_RESERVED: Final = frozenset((0, 10, 100, 127, 169, 172, 192, 198, 203, MEMBERS, BOOTSTRAP))

#: First bytes of the nodes' addresses; 224 and above are multicast.
FIRST_BYTES: Final = tuple(byte for byte in range(1, 224) if byte not in _RESERVED)

#: Usable addresses in a /24.
_HOSTS: Final = 254

#: The number of places cached: about 15 MB. Guess.
_CACHED: Final = 32768

_PREFIX_BITS: Final = 21
_IP_MASK: Final = 0x030F3FFF  # BEP42
_NETWORK_MASK: Final = _IP_MASK & 0xFFFFFF00
_R_SHIFT: Final = 29  # position of r in the 32-bit input
_PORT: Final = 0x8000
_PORT_OTHER: Final = 0x4000

_BY_LOW_BITS = tuple(tuple(byte for byte in FIRST_BYTES if byte & 3 == low) for low in range(4))
_INDEX_OF = {byte: index for index, byte in enumerate(FIRST_BYTES)}


def member_host(index: int) -> str:
    """
    A public-looking address for a member, at which there is no DHT node. Each is in its
    own /24.

    @param index: 0..65535.
    @raise ValueError: C{index} is out of range.
    """
    if not 0 <= index < 0x10000:
        raise ValueError("index must be within 0..65535")
    return f"{MEMBERS}.{index >> 8}.{index & 255}.1"


def valid_address(prefix: int, draw: int) -> tuple[str, int]:
    """
    Return a public address at which ids with these first bits are valid (BEP42), and the
    last three bits of such ids.

    @param prefix: the first 21 bits of the ids.
    @param draw: chooses one of 2^22 addresses, at least 0.
    """
    wanted = prefix ^ _ZERO
    bits = _LOW[wanted & 127] ^ _MIDDLE[wanted >> 7 & 127] ^ _HIGH[wanted >> 14]
    bits ^= _SAME[draw & 3]
    firsts = _BY_LOW_BITS[bits >> 24 & 3]
    first = firsts[(draw >> 2) % len(firsts)]
    ip = bits & _IP_MASK | (first & 0xFC) << 24 | (draw >> 8 & 0xFFFFFF) & ~_IP_MASK
    return ".".join(map(str, ip.to_bytes(4))), bits >> _R_SHIFT


def _prefix(bits: int) -> int:
    # BEP42's 21 bits for r and the masked address, 32 bits.
    return crc32c(bits.to_bytes(4)) >> 32 - _PREFIX_BITS


_ZERO = _prefix(0)


def _solve() -> tuple[list[int], list[int]]:
    """
    For each bit of the prefix, the input bits that flip only this bit; and the
    combinations of input bits that change nothing (the kernel).
    """
    inputs = [1 << bit for bit in range(32) if (_IP_MASK | 7 << _R_SHIFT) >> bit & 1]
    rows: list[tuple[int, int]] = []  # the image, and the input bits that produce it
    kernel = []
    for bit in inputs:
        image, source = _prefix(bit) ^ _ZERO, bit
        for pivot_image, pivot_source in rows:
            if image ^ pivot_image < image:
                image, source = image ^ pivot_image, source ^ pivot_source
        if image:
            rows.append((image, source))
            rows.sort(reverse=True)
        else:
            kernel.append(source)
    solution = []
    for bit in range(_PREFIX_BITS):
        image, source = 1 << bit, 0
        for pivot_image, pivot_source in rows:
            if image ^ pivot_image < image:
                image, source = image ^ pivot_image, source ^ pivot_source
        assert image == 0, "BEP42's map has full rank"
        solution.append(source)
    return solution, kernel


def _tables(solution: list[int]) -> list[list[int]]:
    # Three table lookups of 7 bits instead of 21 conditions.
    tables = []
    for start in (0, 7, 14):
        table = [0]
        for source in solution[start : start + 7]:
            table += [entry ^ source for entry in table]
        tables.append(table)
    return tables


_SOLUTION, _KERNEL = _solve()
_LOW, _MIDDLE, _HIGH = _tables(_SOLUTION)
_SAME = (0, _KERNEL[0], _KERNEL[1], _KERNEL[0] ^ _KERNEL[1])


class Place(NamedTuple):
    """
    One node.

    @ivar number: below 2^bits.
    @ivar compact: its compact node info, 26 bytes (BEP5).
    @ivar gone: the compact node info of a former node with a similar id, whose address is
        no longer in use.
    @ivar secure: its id is valid by BEP42.
    @ivar draws: 8 more bytes of its hash, as a number: the source of its other
        properties.
    """

    number: int
    compact: bytes
    gone: bytes
    secure: bool
    draws: int

    @property
    def node_id(self) -> bytes:
        """
        The id, 20 bytes.
        """
        return self.compact[:20]


class Places:
    """
    All nodes; see L{dtt.testing.vast.places}.

    @ivar bits: there are 2^bits nodes.
    @ivar place: returns a node by its number.
    """

    def __init__(self, bits: int, key: bytes, secure: float, per_network: int, ports_per_ip: int) -> None:
        """
        @param bits: 20..24.
        @param key: the key of the hash that places the nodes.
        @param secure: the share of nodes with an id that is valid by BEP42.
        @param per_network: the number of nodes with other ids in a /24, and the average
            number of nodes with valid ids. The latter is at least 2^bits / 2^24 and at
            most 2^bits / 2^12.
        @param ports_per_ip: nodes on one address: 1, 2, 4 or 8.
        @raise ValueError: a parameter is out of range, or there are not enough addresses.
        """
        if not 20 <= bits <= 24:
            raise ValueError("bits must be within 20..24")
        if not 0 <= secure <= 1:
            raise ValueError("secure must be within 0..1")
        if ports_per_ip not in (1, 2, 4, 8):
            raise ValueError("ports_per_ip must be 1, 2, 4 or 8")
        if not 1 <= per_network <= _HOSTS * ports_per_ip:
            raise ValueError("per_network exceeds the number of addresses in a /24")
        self.bits = bits
        self._mask = (1 << bits) - 1
        self._key = key
        self._secure = int(secure * 2**32)
        self._per_network = per_network
        self._ports = ports_per_ip
        self._extra = bits - _PREFIX_BITS  # bits of the number that don't fit in the prefix
        # Valid ids: the number of /24s for each combination of the 12 bits that count.
        self._spread = max(1, min(4096, (1 << bits) // (4096 * per_network)))
        # The values of r used on one address.
        self._shared = [(_prefix(d << _R_SHIFT) ^ _ZERO, d << _R_SHIFT) for d in range(ports_per_ip)]
        # Other ids: two permutations, of the numbers and of the networks.
        networks = -(-(1 << bits) // per_network)
        self._networks = len(FIRST_BYTES) << 16
        if secure < 1 and networks > self._networks:
            raise ValueError("per_network is too small: there are not enough /24s")
        words = self._hash(b"permutations", 24)
        self._multiplier = int.from_bytes(words[:8]) & self._mask | 1
        self._inverse = pow(self._multiplier, -1, 1 << bits)
        stride = int.from_bytes(words[8:16]) % self._networks
        while gcd(stride, self._networks) != 1:
            stride += 1
        self._stride, self._back = stride, pow(stride, -1, self._networks)
        self._half = (bits + 1) // 2
        self.place = lru_cache(_CACHED)(self._place)

    def number_at(self, host: str, port: int) -> int | None:
        """
        The number of the node at an address; C{None} if there is none.
        """
        if port < _PORT:
            return None
        try:
            first, second, third, last = map(int, host.split("."))
        except ValueError:
            return None
        index = _INDEX_OF.get(first)
        if index is None:
            return None
        if port & _PORT_OTHER:
            number = self._other_number(index << 16 | second << 8 | third, last, port)
        else:
            number = self._valid_number(first << 24 | second << 16 | third << 8 | last, port)
        if number is None:
            return None
        address = bytes((first, second, third, last)) + port.to_bytes(2)
        return number if self.place(number).compact[20:] == address else None

    def _hash(self, what: bytes, size: int) -> bytes:
        return blake2b(what, digest_size=size, key=self._key).digest()

    def _place(self, number: int) -> Place:
        if not 0 <= number <= self._mask:
            raise ValueError("no such node")
        digest = self._hash(b"node%d" % number, 64)
        rest = int.from_bytes(digest[:20])
        # The ids on one address are either all valid or all invalid.
        group, prefix, flip, change = self._group(number)
        own = digest if group == number else self._hash(b"node%d" % group, 64)
        secure = int.from_bytes(own[20:24]) < self._secure
        if secure:
            bits = self._valid_bits(prefix, own) ^ flip
            r = bits >> _R_SHIFT
            node_id = self._valid_id(number, prefix ^ change, rest) & ~7 | r
            ip = bits & _IP_MASK | self._free_bits(bits, own)
            low = number & (1 << max(self._extra, 0)) - 1
            port = _PORT | own[28] << 6 | low << 3 | r
        else:
            node_id = number << 160 - self.bits | rest & (1 << 160 - self.bits) - 1
            ip, port = self._other_address(number, digest)
        packed = node_id.to_bytes(20)
        address = ip.to_bytes(4) + port.to_bytes(2)
        gone = packed[:3] + digest[32:48] + packed[19:] + ip.to_bytes(4) + (port ^ _PORT).to_bytes(2)
        return Place(number, packed + address, gone, secure, int.from_bytes(digest[48:56]))

    # Valid ids

    def _group(self, number: int) -> tuple[int, int, int, int]:
        """
        The smallest number of the nodes that share C{number}'s address, and its prefix;
        the differences between C{number}'s r and prefix and these.
        """
        extra = self._extra
        group, flip, change = number, 0, 0
        if self._ports > 1:
            group, flip, change = min(
                (number ^ (change << extra if extra >= 0 else change >> -extra), flip, change)
                for change, flip in self._shared
            )
        if extra >= 0:
            return group, group >> extra, flip, change
        fill = int.from_bytes(self._hash(b"prefix%d" % group, 4)) & (1 << -extra) - 1
        return group, group << -extra | fill, flip, change

    def _valid_bits(self, prefix: int, own: bytes) -> int:
        wanted = prefix ^ _ZERO
        solution = _LOW[wanted & 127] ^ _MIDDLE[wanted >> 7 & 127] ^ _HIGH[wanted >> 14]
        return solution ^ _SAME[own[29] & 3]

    def _valid_id(self, number: int, prefix: int, rest: int) -> int:
        if self._extra > 0:
            return number << 160 - self.bits | rest & (1 << 160 - self.bits) - 1
        return prefix << 160 - _PREFIX_BITS | rest & (1 << 160 - _PREFIX_BITS) - 1

    def _free_bits(self, bits: int, own: bytes) -> int:
        # Choose one of the /24s that have the same 12 significant bits.
        choice = int.from_bytes(own[24:28]) % self._spread
        draw = int.from_bytes(self._hash(b"network%d %d" % (bits & _NETWORK_MASK, choice), 8))
        first = _BY_LOW_BITS[bits >> 24 & 3]
        return (first[(draw >> 16) % len(first)] & 0xFC) << 24 | draw & 0xFFFFFF & ~_IP_MASK

    def _valid_number(self, ip: int, port: int) -> int | None:
        prefix = _prefix(ip & _IP_MASK | (port & 7) << _R_SHIFT)
        if self._extra <= 0:
            return prefix >> -self._extra
        low = port >> 3 & 7
        return prefix << self._extra | low if low < 1 << self._extra else None

    # Other ids

    def _other_address(self, number: int, digest: bytes) -> tuple[int, int]:
        mixed = number * self._multiplier & self._mask
        mixed ^= mixed >> self._half
        network, slot = divmod(mixed, self._per_network)
        network = network * self._stride % self._networks
        last, index = divmod(slot, self._ports)
        ip = FIRST_BYTES[network >> 16] << 24 | (network & 0xFFFF) << 8 | last + 1
        return ip, _PORT | _PORT_OTHER | (int.from_bytes(digest[28:30]) & 2047) << 3 | index

    def _other_number(self, network: int, last: int, port: int) -> int | None:
        network = network * self._back % self._networks
        mixed = network * self._per_network + (last - 1) * self._ports + (port & 7)
        if not 0 <= mixed <= self._mask:
            return None
        mixed ^= mixed >> self._half
        return mixed * self._inverse & self._mask
