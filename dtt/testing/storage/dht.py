"""
A DHT of light hosts.

Rules:
  - A node's routing table has k-buckets: those that share i bits with it. A small bucket
    has all such nodes, a larger one those that follow some points of the bucket's range,
    which a hash of the owner gives. So a table hardly changes if few nodes do.
  - A table still names a node that has left, and does not yet name a new one, for up to
    L{NOTICED<dtt.testing.storage.dht.NOTICED>} seconds, which differ by owner.
  - Members are in no table: what they store on each other proves nothing about others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import blake2b
from random import Random
from struct import unpack
from typing import Final

from dtt.errors import DecodeError
from dtt.krpc.bencode import Encoded
from dtt.krpc.compact import encode_address
from dtt.krpc.items import MutableItem
from dtt.krpc.messages import Query, decode
from dtt.testing.storage.limits import Limits
from dtt.testing.storage.nodes import BITS, MIX, Asked, NodeFactory, Ring, StorageNode
from dtt.testing.vast.answers import Answers
from dtt.testing.vast.bootstrap import BootstrapHosts
from dtt.testing.vast.manners import Manner
from dtt.testing.vast.places import Place
from dtt.testing.vast.tables import EXTENDED

#: Seconds after which all tables have noticed that a node has come or gone (BEP5: nodes are questionable
#: after 15 minutes).
NOTICED: Final = 900.0

#: Bootstrap hosts.
_BOOTSTRAP_HOSTS: Final = 3

#: Points drawn for each place of a bucket: several may give the same node.
_DRAWS: Final = 3


class StorageDHT:
    """
    Light hosts that answer queries and store items; a
    L{Beyond<dtt.testing.net.distance.Beyond>}.

    @ivar bootstrap: hosts and ports to start from.
    @ivar factory: makes nodes.
    @ivar queries: the number of queries that nodes have got.
    """

    def __init__(
        self,
        count: int,
        rng: Random,
        *,
        silent: float = 0.2,
        secure: float = 1.0,
        manners: Mapping[str, float] = MIX,
        limits: bool = True,
    ) -> None:
        """
        @param count: the number of nodes.
        @param rng: draws them, and gives the keys of tokens.
        @param silent: the share of nodes that never answer, 0..1.
        @param secure: the share of nodes with an id that is valid by BEP42, 0..1.
        @param manners: the implementations and their shares; names of
            L{MANNERS<dtt.testing.vast.manners.MANNERS>}.
        @param limits: nodes like libtorrent limit their uploads, and ban.
        @raise ValueError: a parameter is out of range.
        """
        self._rng = rng
        self._key = rng.randbytes(32)
        self.factory = NodeFactory(rng, silent, secure, manners)
        self._ring = Ring(self.factory.ordinary() for _ in range(count))
        self._by_address = {(node.host, node.port): node for node in self._nodes()}
        self._by_number = {node.place.number: node for node in self._nodes()}
        self._hosts = {node.host for node in self._nodes()}
        self._answers = Answers(self._key, Random(rng.random()), self._near)
        self._limits: dict[int, Limits] | None = {} if limits else None
        self._buckets: dict[tuple[int, int], list[list[StorageNode]]] = {}
        self._leaving: list[StorageNode] = []
        self._unsettled = 0.0
        self._now = 0.0
        self.queries = 0
        hosts = self._bootstrap = BootstrapHosts(_BOOTSTRAP_HOSTS, 20, self._key, self._any_place)
        self.bootstrap = hosts.addresses

    def _nodes(self) -> list[StorageNode]:
        return [self._ring[index] for index in range(len(self._ring))]

    def nodes(self) -> list[StorageNode]:
        """
        Return all nodes that are there, by id.
        """
        return [node for node in self._nodes() if node.gone is None]

    def has(self, host: str) -> bool:
        """
        Is this IP address one of a node or a bootstrap host?
        """
        return host in self._hosts or any(host == each for each, _ in self.bootstrap)

    def answer(
        self, datagram: bytes, source: tuple[str, int], destination: tuple[str, int], now: float
    ) -> bytes | None:
        """
        The reply to a datagram; C{None} if there is none.

        @param datagram: the UDP payload.
        @param source: the sender's address and port.
        @param destination: those of the node.
        @param now: seconds.
        """
        self._now = now
        node = self._by_address.get(destination)
        if (node is None and destination not in self.bootstrap) or (node is not None and node.silent):
            return None
        try:
            query = decode(datagram)
        except DecodeError:
            return None
        if not isinstance(query, Query):
            return None
        if node is None:
            return self._bootstrap.answer(query, destination[0], source, now)
        address = encode_address(*source)
        self.queries += 1
        if node.behaviour is not None:
            return node.behaviour(Asked(node, query, address, now))
        limits = self._limits_of(node)
        if limits is not None and not limits.accepts(source[0], now):
            return None
        reply = self.honest(Asked(node, query, address, now))
        return None if reply is None or (limits is not None and not limits.sends(len(reply), now)) else reply

    def honest(self, asked: Asked) -> bytes | None:
        """
        Answer a query as the node's implementation does, without limits.
        """
        node = asked.node
        return self._answers.answer(node.place, node.manner, asked.query, asked.address, asked.now)

    def add(self, node: StorageNode) -> None:
        """
        Let a node join.  All tables learn of it soon, or at once if its C{born} is L{NOTICED} seconds ago.
        """
        self._ring.add(node)
        self._by_address[node.host, node.port] = node
        self._by_number[node.place.number] = node
        self._hosts.add(node.host)
        self._changed(node.born)

    def remove(self, node: StorageNode, now: float) -> None:
        """
        Let a node leave with its stored items.
        """
        node.gone = now
        del self._by_address[node.host, node.port], self._by_number[node.place.number]
        self._hosts.discard(node.host)
        if self._limits is not None:
            self._limits.pop(node.place.number, None)
        self._leaving.append(node)
        self._forget(now)
        self._changed(now)

    def _forget(self, now: float) -> None:
        # Nodes that are no longer in any table.
        while self._leaving and (self._leaving[0].gone or 0.0) + NOTICED <= now:
            self._ring.remove(self._leaving.pop(0))

    def replace(self, now: float) -> None:
        """
        Let one honest node leave and another one join.
        """
        while True:
            node = self._ring[self._rng.randrange(len(self._ring))]
            if node.gone is None and node.behaviour is None:
                break
        self.remove(node, now)
        self.add(self.factory.ordinary(now))

    def nearest(
        self, target: bytes, count: int, wanted: Callable[[StorageNode], bool] | None = None
    ) -> list[StorageNode]:
        """
        The nodes that are truly nearest to a target, the nearest first.

        @param target: 20 bytes.
        @param wanted: chooses the nodes that count; C{None}: those that answer.
        """

        def counts(node: StorageNode) -> bool:
            return node.gone is None and (not node.silent if wanted is None else wanted(node))

        return self._ring.nearest(int.from_bytes(target), count, counts)

    def store(self, node: StorageNode, item: MutableItem) -> None:
        """
        Put an item on a node, as if it had been put there before: replaces any other.
        """
        self._answers.items.mutable.put(node.place.number, item.target, item)

    def holders(self, target: bytes) -> list[tuple[StorageNode, Encoded]]:
        """
        The nodes that store a mutable item at a target, and its bencoded value.
        """
        held = self._answers.items.mutable.at(target)
        return [
            (self._by_number[number], item.encoded)
            for number, item in held.items()
            if number in self._by_number
        ]

    def limited(self) -> tuple[int, int]:
        """
        Return how many addresses all nodes have banned, and how many answers dropped.
        """
        each = (self._limits or {}).values()
        return sum(limits.bans for limits in each), sum(limits.dropped for limits in each)

    def _limits_of(self, node: StorageNode) -> Limits | None:
        if self._limits is None or node.name != "libtorrent":
            return None
        number = node.place.number
        limits = self._limits.get(number)
        if limits is None:
            limits = self._limits[number] = Limits()
        return limits

    def _any_place(self, draw: int) -> Place:
        return self._ring[draw % len(self._ring)].place

    def _changed(self, when: float) -> None:
        self._buckets.clear()
        self._unsettled = max(self._unsettled, when + NOTICED)

    def _near(self, place: Place, manner: Manner, target: bytes) -> bytes:
        wanted = int.from_bytes(target)
        found = self.known_to(self._by_number[place.number], wanted, manner.nodes_per_reply, manner.bucket)
        return b"".join([node.place.compact for node in found])

    def known_to(self, owner: StorageNode, wanted: int, count: int, capacity: int) -> list[StorageNode]:
        """
        The nodes of a table that are nearest to an id.

        @param owner: whose table it is.
        @param wanted: the id as a number.
        @param count: how many at most.
        @param capacity: the capacity of a bucket.
        """
        key = owner.place.number, capacity
        buckets = self._buckets.get(key)
        if buckets is None:
            self._forget(self._now)
            buckets = self._table(owner, capacity)
            if self._now >= self._unsettled:
                self._buckets[key] = buckets
        difference = owner.number ^ wanted
        order = [index for index in range(len(buckets)) if difference >> (BITS - 1 - index) & 1]
        order += [index for index in range(len(buckets) - 1, -1, -1) if index not in order]
        found: list[StorageNode] = []
        for index in order:
            bucket = buckets[index]
            if bucket:
                found += sorted(bucket, key=lambda node: node.number ^ wanted)
                if len(found) >= count:
                    break
        return found[:count]

    def _table(self, owner: StorageNode, capacity: int) -> list[list[StorageNode]]:
        buckets = []
        ring = self._ring
        for index in range(BITS):
            size = 1 << BITS - 1 - index
            low = (owner.number & -size) ^ size
            first, last = ring.index(low), ring.index(low + size)
            room = EXTENDED[index] if index < len(EXTENDED) and owner.name == "libtorrent" else capacity
            if last - first <= room:
                chosen = [ring[position] for position in range(first, last)]
            else:
                chosen = self._draw(owner, index, low, (first, last), room)
            buckets.append([node for node in chosen if self._is_listed(owner, node)])
            base = owner.number & -size
            if ring.index(base + size) - ring.index(base) <= 1:
                break  # it is alone behind this bucket
        return buckets

    def _draw(
        self, owner: StorageNode, index: int, low: int, span: tuple[int, int], room: int
    ) -> list[StorageNode]:
        # The nodes that follow pseudorandom points of the range.
        first, last = span
        draws = _DRAWS * room
        chosen: dict[int, StorageNode] = {}
        for block in range(-(-draws // 8)):
            seed = b"%d %d %d" % (owner.place.number, index, block)
            digest = blake2b(seed, digest_size=64, key=self._key).digest()
            for word in unpack("<8Q", digest):
                point = low + (word << BITS - 1 - index >> 64)
                position = self._ring.index(point)
                node = self._ring[position if position < last else first]
                chosen[node.place.number] = node
                if len(chosen) == room:
                    return list(chosen.values())
        return list(chosen.values())

    def _is_listed(self, owner: StorageNode, node: StorageNode) -> bool:
        now = self._now
        if now >= self._unsettled or (node.gone is None and now >= node.born + NOTICED):
            return node.gone is None
        seed = b"%d %d" % (owner.place.number, node.place.number)
        delay = NOTICED * int.from_bytes(blake2b(seed, digest_size=4, key=self._key).digest()) / 2**32
        if node.gone is not None and now >= node.gone + delay:
            return False
        return now >= node.born + delay
