"""
A DHT of realistic size, without a network.

Each number below 2^bits is a node. L{places<dtt.testing.vast.places>} gives its id and
address, L{tables<dtt.testing.vast.tables>} its routing table,
L{manners<dtt.testing.vast.manners>} its behaviour, and
L{storage<dtt.testing.vast.storage>} holds its data.

Not modelled: queries that nodes send on their own, upload limits and bans, IPv6, and
churn.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from hashlib import blake2b
from itertools import accumulate
from random import Random
from typing import Final

from dtt.errors import DecodeError
from dtt.interfaces import Contact
from dtt.krpc.compact import decode_address, encode_address
from dtt.krpc.messages import Query, decode
from dtt.testing.vast.answers import Answers
from dtt.testing.vast.bootstrap import BootstrapHosts
from dtt.testing.vast.manners import MANNERS, Manner
from dtt.testing.vast.places import FIRST_BYTES, Place, Places
from dtt.testing.vast.tables import BUCKET, Tables

#: The number of node lists, and of addresses, cached: 8 to 20 nodes each, about 5 MB. Guess.
_CACHED: Final = 8192

_FIRST = frozenset(map(str, FIRST_BYTES))


class VastDHT:
    """
    A Mainline DHT of realistic size: up to 2^24 nodes, computed when they are queried.

    @ivar bits: there are 2^bits nodes.
    @ivar bootstrap: hosts and ports to start from.
    """

    def __init__(
        self,
        bits: int = 22,
        *,
        seed: int = 0,
        silent: float = 0.0,
        secure: float = 1.0,
        per_network: int = 1,
        ports_per_ip: int = 1,
        missing: float = 0.0,
        dead: float = 0.0,
        manners: Mapping[str, float] | None = None,
        bootstrap_hosts: int = 3,
    ) -> None:
        """
        All shares are 0..1.

        @param bits: 20..24.
        @param seed: a different seed gives a different DHT.
        @param silent: the share of nodes that are in the tables and never answer.
        @param secure: the share of nodes with an id that is valid by BEP42.
        @param per_network: nodes in a /24: the exact number for nodes with other ids, the
            average for nodes with valid ids.
        @param ports_per_ip: nodes on one address: 1, 2, 4 or 8.
        @param missing: the share of entries missing from each table.
        @param dead: the share of entries with an address that is no longer in use.
        @param manners: names of L{dtt.testing.vast.manners.MANNERS} and the share of
            each; the shares add up to 1. By default all nodes are C{"libtorrent"}.
        @param bootstrap_hosts: the number of bootstrap hosts, at most 256.
        @raise ValueError: a parameter is out of range, or parameters contradict each
            other.
        """
        if not (0 <= silent <= 1 and 0 <= missing < 1 and 0 <= dead <= 1):
            raise ValueError("shares must be within 0..1")
        key = blake2b(b"vast %d %d" % (bits, seed), digest_size=32).digest()
        self.bits = bits
        self._key = key
        self._places = Places(bits, key, secure, per_network, ports_per_ip)
        self._tables = Tables(bits, key, missing, dead)
        self._bootstrap = BootstrapHosts(bootstrap_hosts, bits, key, self._places.place)
        self.bootstrap = self._bootstrap.addresses
        self._bootstrap_hosts = dict(self.bootstrap)
        self._silent = int(silent * 2**32)
        self._manners = _thresholds({"libtorrent": 1.0} if manners is None else manners)
        self._answers = Answers(key, Random(seed), self._near)
        self._nodes = lru_cache(_CACHED)(self._list_nodes)
        self._number_at = lru_cache(_CACHED)(self._places.number_at)

    def has(self, host: str) -> bool:
        """
        Is this IP literal in one of this DHT's networks, or a bootstrap host? The
        addresses of members and private networks are not.
        """
        return host.partition(".")[0] in _FIRST or host in self._bootstrap_hosts

    def answer(
        self, datagram: bytes, source: tuple[str, int], destination: tuple[str, int], now: float
    ) -> bytes | None:
        """
        The reply to a datagram; C{None} if there is none.

        @param datagram: the UDP payload.
        @param source: the sender's IPv4 address and port.
        @param destination: the address and port of the node.
        @param now: seconds; must never decrease.
        """
        host = destination[0]
        number = None
        if host in self._bootstrap_hosts:
            if destination not in self.bootstrap:
                return None
        else:
            number = self._number_at(*destination)
            if number is None or self.is_silent(number):
                return None
        try:
            query = decode(datagram)
        except DecodeError:
            return None
        if not isinstance(query, Query):
            return None
        if number is None:
            return self._bootstrap.answer(query, host, source, now)
        place = self._places.place(number)
        return self._answers.answer(place, self._manner(place), query, encode_address(*source), now)

    def contact(self, number: int) -> Contact:
        """
        The id and address of a node.

        @param number: 0..2^bits - 1.
        """
        compact = self._places.place(number).compact
        return Contact(compact[:20], *decode_address(compact[20:]))

    def number_at(self, host: str, port: int) -> int | None:
        """
        The number of the node at an address; C{None} if there is none.
        """
        return self._number_at(host, port)

    def is_silent(self, number: int) -> bool:
        """
        Does this node never answer?
        """
        return self._places.place(number).draws & 0xFFFFFFFF < self._silent

    def manner(self, number: int) -> Manner:
        """
        The behaviour of this node.
        """
        return self._manner(self._places.place(number))

    def nearest(self, target: bytes, count: int, *, living: bool = True) -> list[Contact]:
        """
        The nodes that are truly nearest to a target, the nearest first.

        @param target: 20 bytes.
        @param count: the number of nodes.
        @param living: leave out silent nodes.
        """
        wanted = self._wanted(target)
        found: list[Contact] = []
        for difference in range(1 << self.bits):
            if len(found) >= count:
                break
            if not (living and self.is_silent(wanted ^ difference)):
                found.append(self.contact(wanted ^ difference))
        return found

    def holders(self, target: bytes) -> dict[int, bytes]:
        """
        The bencoded values stored at a target, by the number of the node. A mutable item
        takes precedence over an immutable one.
        """
        mutable = self._answers.items.mutable.at(target)
        held = self._answers.items.immutable.at(target)
        return held | {number: bytes(item.encoded) for number, item in mutable.items()}

    def _wanted(self, target: bytes) -> int:
        return int.from_bytes(target[:3]) >> 24 - self.bits

    def _manner(self, place: Place) -> Manner:
        draw = place.draws >> 32 & 0xFFFFFF
        return next(manner for limit, manner in self._manners if draw < limit)

    def _list_nodes(self, number: int, wanted: int, capacity: int, count: int) -> bytes:
        place = self._places.place
        extended = capacity == BUCKET and place(number).draws >> 56 & 1 == 1
        entries = self._tables.nearest(number, wanted, count, capacity, extended)
        return b"".join(
            [place(entry >> 1).gone if entry & 1 else place(entry >> 1).compact for entry in entries]
        )

    def _near(self, place: Place, manner: Manner, target: bytes) -> bytes:
        return self._nodes(place.number, self._wanted(target), manner.bucket, manner.nodes_per_reply)


def _thresholds(manners: Mapping[str, float]) -> list[tuple[int, Manner]]:
    """
    Each manner, with the 24-bit draw below which a node has it.

    @raise ValueError: a name is unknown, or the shares do not add up to 1.
    """
    unknown = manners.keys() - MANNERS.keys()
    if unknown or abs(sum(manners.values()) - 1) > 1e-6 or min(manners.values()) < 0:
        raise ValueError(f"manners must be shares of {', '.join(MANNERS)}, with a sum of 1")
    limits = [int(limit * 2**24) for limit in accumulate(manners.values())]
    limits[-1] = 2**24
    return list(zip(limits, (MANNERS[name] for name in manners), strict=True))
