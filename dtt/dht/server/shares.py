"""
The eviction policy of a full store: which network loses an entry.  Pure.

Rules: networks are nested: an address family, an IPv4 /16 and /24, an IPv6 /32, /48,
/56 and /64.  When there is no room, an entry is evicted from the largest family, there from the largest
network, there from the largest one within it, and so on.  Thus neither one customer's line (a /48 has 65536
networks) nor one provider nor one family can displace the entries of others. A line, which is a /24 or a /48,
has its own limit.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from itertools import islice
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)

#: Bytes of an IPv6 prefix that has a share; an IPv4 /24 is not divided further.
_LINE6: Final = 6

#: A group with more members than this keeps them sorted by size. Below, looking at all of
#: them is as fast, and memory matters more.
_SCANNED: Final = 16

#: A smallest network with this many entries keeps them in an C{OrderedDict}: to find its
#: first entry, a plain dictionary scans over all those removed before it. It is smaller.
_ORDERED: Final = 64

# The members of a group by their size.
_BySize = dict[int, OrderedDict[bytes | int, None]]


class Leaf(Generic[K]):
    """
    A smallest network, represented by the same object as long as it has entries.

    @ivar network: 3 or 8 bytes.
    @ivar keys: the keys of its entries, from oldest to newest.
    """

    __slots__ = ("keys", "network")

    def __init__(self, network: bytes) -> None:
        self.network = network
        self.keys: dict[K, None] = {}

    @property
    def size(self) -> int:
        """
        The number of entries.
        """
        return len(self.keys)

    def refresh(self, key: K) -> None:
        """
        Make an entry the newest one.
        """
        keys = self.keys
        del keys[key]
        keys[key] = None


class _Group(Generic[K]):
    """
    A larger network, a family or all of them.

    @ivar size: the number of entries in it.
    @ivar members: the networks in it, by prefix. One that contains a single smallest
        network is represented by this.
    """

    __slots__ = ("_by_size", "_largest", "members", "size")

    def __init__(self) -> None:
        self.size = 0
        self.members: dict[bytes | int, _Group[K] | Leaf[K]] = {}
        self._by_size: _BySize | None = None
        self._largest = 0

    def resized(self, name: bytes | int, before: int, after: int) -> None:
        """
        Record that the size of a member has changed by one.
        """
        ranks = self._by_size
        if ranks is None:
            if len(self.members) > _SCANNED:
                self._sort()
            return
        if before:
            same = ranks[before]
            del same[name]
            if not same:
                del ranks[before]
        if after:
            if after not in ranks:
                ranks[after] = OrderedDict()
            ranks[after][name] = None
        if after > self._largest or (before == self._largest and before not in ranks):
            self._largest = after

    def _sort(self) -> None:
        self._by_size = {}
        for name, member in self.members.items():
            self._by_size.setdefault(member.size, OrderedDict())[name] = None
        self._largest = max(self._by_size)

    def largest(self) -> _Group[K] | Leaf[K]:
        """
        Return the largest member.
        """
        if self._by_size is None:
            return max(self.members.values(), key=lambda member: member.size)
        return self.members[next(iter(self._by_size[self._largest]))]


def _names(network: bytes) -> tuple[bytes | int, ...]:
    # The family and the networks that contain a network, itself the last.
    size = len(network)
    if size == 3:
        return 3, network[:2], network
    if size == 8:
        return 8, network[:4], network[:6], network[:7], network
    return size, network


class Shares(Generic[K]):
    """
    The entries of a store, by network.
    """

    def __init__(self) -> None:
        self._all: _Group[K] = _Group()

    def __len__(self) -> int:
        return self._all.size

    def add(self, key: K, network: bytes) -> Leaf[K]:
        """
        Add an entry, as the newest one of its network.

        @param network: a /24 or a /64, 3 or 8 bytes.
        @return: the network of the entry.
        """
        names = _names(network)
        group = self._all
        path = []
        for depth, name in enumerate(names):
            path.append((group, name))
            inner = group.members.get(name)
            if inner is None:
                inner = group.members[name] = Leaf(network)
            if isinstance(inner, Leaf):
                if inner.network == network:
                    break
                other, inner = inner, _Group()
                inner.size = other.size
                inner.members[_names(other.network)[depth + 1]] = other
                group.members[name] = inner
            group = inner
        assert isinstance(inner, Leaf)
        size = inner.size
        inner.keys[key] = None
        if size == _ORDERED:
            inner.keys = OrderedDict(inner.keys)
        for outer, name in reversed(path):
            outer.resized(name, size, size + 1)
            size = outer.size
            outer.size += 1
        return inner

    def remove(self, key: K, network: bytes) -> None:
        """
        Remove an entry.
        """
        path, leaf = self._path(network)
        size = leaf.size
        del leaf.keys[key]
        for outer, name in reversed(path):
            outer.resized(name, size, size - 1)
            if size == 1:
                del outer.members[name]
            size = outer.size
            outer.size -= 1

    def line_size(self, network: bytes) -> int:
        """
        Return the number of entries of the line (/24 or /48) that a network belongs to.
        """
        return self._line(network).size

    def oldest_of_line(self, network: bytes, most: int) -> list[K]:
        """
        Return some of the oldest entries of the largest network of a line; see
        L{oldest_of_largest}.
        """
        return self._oldest(self._line(network), most)

    def oldest_of_largest(self, most: int) -> list[K]:
        """
        Return some of the oldest entries of the network that has to make room, without its
        newest one, unless that is the only one.

        @param most: the most entries to return.
        """
        return self._oldest(self._all, most)

    def _path(self, network: bytes) -> tuple[list[tuple[_Group[K], bytes | int]], Leaf[K]]:
        group = self._all
        path = []
        for name in _names(network):
            path.append((group, name))
            inner = group.members[name]
            if isinstance(inner, Leaf):
                return path, inner
            group = inner
        raise KeyError(network)

    def _line(self, network: bytes) -> _Group[K] | Leaf[K]:
        group = self._all
        for name in _names(network):
            inner = group.members[name]
            if isinstance(inner, Leaf) or name == network[:_LINE6]:
                return inner
            group = inner
        raise KeyError(network)

    def _oldest(self, group: _Group[K] | Leaf[K], most: int) -> list[K]:
        while isinstance(group, _Group):
            group = group.largest()
        return list(islice(group.keys, min(most, max(group.size - 1, 1))))
