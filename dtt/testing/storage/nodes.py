"""
The nodes of a L{dtt.testing.storage.StorageDHT}.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from random import Random
from typing import Final, TypeAlias

from attrs import define, frozen

from dtt.dht.routing.ids import generate, is_valid
from dtt.interfaces import Contact
from dtt.krpc.compact import encode_address
from dtt.krpc.messages import Query
from dtt.testing.vast.manners import MANNERS, Manner
from dtt.testing.vast.places import FIRST_BYTES, Place

#: The implementations and their shares, unless said otherwise. Guess.
MIX: Final[Mapping[str, float]] = {"libtorrent": 0.6, "mainline": 0.15, "dtt": 0.05, "jech": 0.2}

#: Bits of an id.
BITS: Final = 160


@frozen(slots=True)
class Asked:
    """
    A query to a node that does not answer as a L{Manner} does.

    @ivar node: the node.
    @ivar query: the query.
    @ivar address: the sender's compact address, 6 bytes.
    @ivar now: seconds.
    """

    node: StorageNode
    query: Query
    address: bytes
    now: float


#: Answers in the place of a L{Manner}: returns the reply, or C{None} if there is none.
Behaviour: TypeAlias = Callable[[Asked], bytes | None]


@define(slots=True, eq=False)
class StorageNode:
    """
    A node.

    @ivar place: its number, id and address.
    @ivar host: its address.
    @ivar port: its UDP port.
    @ivar name: its implementation, a key of L{MANNERS}.
    @ivar silent: it never answers.
    @ivar number: its id as a number.
    @ivar born: when it joined the DHT, in seconds.
    @ivar gone: when it left; C{None}: it is there.
    @ivar behaviour: answers in the place of its implementation; C{None}: none.
    """

    place: Place
    host: str
    port: int
    name: str
    silent: bool
    number: int
    born: float = 0.0
    gone: float | None = None
    behaviour: Behaviour | None = None

    @property
    def manner(self) -> Manner:
        """
        The behaviour of its implementation.
        """
        return MANNERS[self.name]

    @property
    def contact(self) -> Contact:
        """
        Its id and address.
        """
        return Contact(self.place.node_id, self.host, self.port)


class NodeFactory:
    """
    Creates nodes with unique addresses, each in a separate /24.
    """

    def __init__(self, rng: Random, silent: float, secure: float, manners: Mapping[str, float]) -> None:
        """
        @param rng: draws ids, addresses and properties.
        @param silent: the share of nodes that never answer.
        @param secure: the share of nodes with an id that is valid by BEP42.
        @param manners: implementations and their shares.
        @raise ValueError: a name is unknown, or a share is out of range.
        """
        if manners.keys() - MANNERS.keys() or abs(sum(manners.values()) - 1) > 1e-6:
            raise ValueError(f"manners must be shares of {', '.join(MANNERS)}, with a sum of 1")
        if not (0 <= silent <= 1 and 0 <= secure <= 1):
            raise ValueError("shares must be within 0..1")
        self._rng = rng
        self._silent, self._secure = silent, secure
        self._names, self._weights = tuple(manners), tuple(manners.values())
        self._networks: set[tuple[int, int, int]] = set()
        self._count = 0

    def ordinary(self, born: float = 0.0) -> StorageNode:
        """
        Create an honest node at a random place.
        """
        rng = self._rng
        host = self.host()
        node_id = generate(host, rng) if rng.random() < self._secure else rng.randbytes(20)
        name = rng.choices(self._names, self._weights)[0]
        return self.node(node_id, host, name, silent=rng.random() < self._silent, born=born)

    def node(
        self, node_id: bytes, host: str, name: str, *, silent: bool = False, born: float = 0.0
    ) -> StorageNode:
        """
        Create a node.

        @param node_id: 20 bytes.
        @param host: its address.
        @param name: its implementation.
        """
        self._count += 1
        port = self._rng.randrange(1024, 65536)
        compact = node_id + encode_address(host, port)
        place = Place(self._count, compact, compact, is_valid(node_id, host), 0)
        return StorageNode(place, host, port, name, silent, int.from_bytes(node_id), born)

    def host(self) -> str:
        """
        Return a public address in a /24 where there is no other node.
        """
        rng = self._rng
        while True:
            network = rng.choice(FIRST_BYTES), rng.randrange(256), rng.randrange(256)
            if network not in self._networks:
                break
        self._networks.add(network)
        return f"{network[0]}.{network[1]}.{network[2]}.{rng.randrange(1, 255)}"


class Ring:
    """
    Nodes, sorted by id.
    """

    def __init__(self, nodes: Iterable[StorageNode] = ()) -> None:
        self._nodes = sorted(nodes, key=lambda node: node.number)
        self._numbers = [node.number for node in self._nodes]

    def __len__(self) -> int:
        return len(self._nodes)

    def __getitem__(self, index: int) -> StorageNode:
        return self._nodes[index]

    def add(self, node: StorageNode) -> None:
        """
        Add a node.
        """
        index = bisect_left(self._numbers, node.number)
        self._numbers.insert(index, node.number)
        self._nodes.insert(index, node)

    def remove(self, node: StorageNode) -> None:
        """
        Remove a node.
        """
        index = bisect_left(self._numbers, node.number)
        while self._nodes[index] is not node:
            index += 1
        del self._numbers[index], self._nodes[index]

    def index(self, number: int) -> int:
        """
        Return the position of the first node whose id is at least C{number}.
        """
        return bisect_left(self._numbers, number)

    def nearest(self, number: int, count: int, wanted: Callable[[StorageNode], bool]) -> list[StorageNode]:
        """
        Return the nodes nearest to an id (XOR), the nearest first.

        @param wanted: chooses the nodes that count.
        """
        for bit in range(BITS, -1, -1):
            # All ids that share the first bits with it are nearer than all others.
            low = number >> (BITS - bit) << (BITS - bit)
            found = [
                node
                for node in self._nodes[self.index(low) : self.index(low + (1 << BITS - bit))]
                if wanted(node)
            ]
            if len(found) >= count or bit == 0:
                return sorted(found, key=lambda node: node.number ^ number)[:count]
        return []
