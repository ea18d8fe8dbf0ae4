"""
Storage for other nodes: BEP44 items and BEP5 peers. Pure.

Rules (docs/protocol/dht.md section 3):
  - Stores are bounded by the number of entries, and therefore, since item sizes are
    bounded, by bytes. No line (/24, or /48 of IPv6) has more than its share; one over
    its share loses an entry of its own largest network, the oldest one.
  - Items live 2 h, peers 45 min, since they were last put or announced.
  - When a store is full, the largest network loses an entry (L{Shares}): of its oldest
    few the farthest from our id, since the nearest ones are kept by only us and a few
    others. The same applies to the peers of one info hash.
  - BEP44's order: a wrong C{cas} is error 301. A lower C{seq}, or an equal one with
    another value, is error 302. An equal one with the same value refreshes the item.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from itertools import islice
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from attrs import define

from dtt.dht.server.shares import Leaf, Shares
from dtt.krpc.items import MutableItem
from dtt.krpc.messages import CAS_MISMATCH, SEQ_TOO_LOW

if TYPE_CHECKING:
    from random import Random

#: The most items in total: the number of mainline and bittorrent-dht
#: (docs/protocol/dht.md section 1); about 1.5 MB.
MAX_ITEMS: Final = 1000

#: The most items of one line. Guess.
MAX_ITEMS_OF_NETWORK: Final = 100

#: The lifetime of an item, seconds (BEP44, "Expiration").
ITEM_LIFETIME: Final = 7200.0

#: The most peers in total, of one info hash (libtorrent's C{max_peers}), and of one
#: line. The first and the last are guesses; up to 25 MB if each has a separate
#: info hash and network, 9 MB if 100 share each (measured).
MAX_PEERS: Final = 20000
MAX_PEERS_OF_TORRENT: Final = 500
MAX_PEERS_OF_NETWORK: Final = 1000

#: The lifetime of a peer, seconds: libtorrent announces every 15 to 30 minutes and
#: expires after 45.
PEER_LIFETIME: Final = 2700.0

# How many of the oldest entries are considered for removal.
_CANDIDATES = 8

# The most expired entries removed per query: when thousands expire together, no single
# datagram should be delayed by all of them.
_SWEEP = 8

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@define(slots=True, weakref_slot=False)
class _Entry(Generic[K, V]):
    value: V
    leaf: Leaf[K]
    since: float


class ExpiringStore(Generic[K, V]):
    """
    A bounded mapping whose entries expire. Each key has a DHT target.

    @ivar node_id: our 20-byte id; may be changed.
    """

    def __init__(self, node_id: bytes, capacity: int, share: int, lifetime: float) -> None:
        """
        @param node_id: our 20-byte id.
        @param capacity: the most entries in total.
        @param share: the most entries of one line (/24 or /48).
        @param lifetime: seconds from the last put of an entry to its expiry.
        """
        self.node_id = node_id
        self._capacity = capacity
        self._share = share
        self._lifetime = lifetime
        # From oldest to newest.
        self._entries: dict[K, _Entry[K, V]] = {}
        self._shares: Shares[K] = Shares()

    def __len__(self) -> int:
        return len(self._entries)

    def _target(self, key: K) -> bytes:
        raise NotImplementedError

    def _remove(self, key: K) -> None:
        self._shares.remove(key, self._entries.pop(key).leaf.network)

    def expire(self, now: float, most: int) -> None:
        """
        Remove at most C{most} expired entries, oldest first. Expired entries that
        remain are invisible.
        """
        expired = []
        for key, entry in islice(self._entries.items(), most):
            if now - entry.since < self._lifetime:
                break
            expired.append(key)
        for key in expired:
            self._remove(key)

    def _refresh(self, key: K, now: float) -> None:
        # The entry becomes the newest in both, regardless of who puts it.
        entry = self._entries.pop(key)
        entry.since = now
        self._entries[key] = entry
        entry.leaf.refresh(key)

    def _put(self, key: K, value: V, network: bytes, now: float) -> None:
        self.expire(now, _SWEEP)
        if key in self._entries:
            self._remove(key)
        shares = self._shares
        self._entries[key] = _Entry(value, shares.add(key, network), now)
        if shares.line_size(network) > self._share:
            self._remove(shares.oldest_of_line(network, 1)[0])
        elif len(shares) > self._capacity:
            own = int.from_bytes(self.node_id)
            oldest = shares.oldest_of_largest(_CANDIDATES)
            self._remove(max(oldest, key=lambda old: int.from_bytes(self._target(old)) ^ own))


def _same_value(old: MutableItem | bytes, new: MutableItem | bytes) -> bool:
    if isinstance(old, MutableItem) and isinstance(new, MutableItem):
        return old.seq == new.seq and old.encoded == new.encoded
    return old == new


class ItemStore(ExpiringStore[bytes, MutableItem | bytes]):
    """
    BEP44 items by target: a L{MutableItem<dtt.krpc.items.MutableItem>}, or the bencoded
    value of an immutable item.
    """

    def __init__(
        self,
        node_id: bytes,
        capacity: int = MAX_ITEMS,
        share: int = MAX_ITEMS_OF_NETWORK,
        lifetime: float = ITEM_LIFETIME,
    ) -> None:
        """
        @param node_id: our 20-byte id.
        @param capacity: the most items in total.
        @param share: the most items of one line (/24 or /48).
        @param lifetime: the lifetime of an item, seconds.
        """
        super().__init__(node_id, capacity, share, lifetime)

    def _target(self, key: bytes) -> bytes:
        return key

    def get(self, target: bytes, now: float) -> MutableItem | bytes | None:
        """
        Return the item with a target, or C{None}.
        """
        entry = self._entries.get(target)
        return None if entry is None or now - entry.since >= self._lifetime else entry.value

    @staticmethod
    def conflict(stored: MutableItem | bytes, item: MutableItem, cas: int | None) -> int | None:
        """
        Return the error code if C{item} may not replace C{stored}, 301 or 302; C{None}
        if it may.

        @param cas: the sequence number that the writer expects to replace, or C{None}.
        """
        if not isinstance(stored, MutableItem):
            return None
        if cas is not None and cas != stored.seq:
            return CAS_MISMATCH
        if item.seq < stored.seq or (item.seq == stored.seq and item.encoded != stored.encoded):
            return SEQ_TOO_LOW
        return None

    def refresh(self, target: bytes, now: float) -> None:
        """
        Restart the lifetime of a stored item that was put again.

        Anyone can repeat a put, so the item stays in the share of the network that it
        came from. Otherwise a network could draw items into its own share and evict
        them there.
        """
        self._refresh(target, now)

    def put(self, target: bytes, item: MutableItem | bytes, network: bytes, now: float) -> None:
        """
        Store an item that is genuine and has no L{conflict}, or refresh it.

        @param network: the writer's L{packed_network<dtt.net.networks.packed_network>}.
        """
        entry = self._entries.get(target)
        if entry is not None and _same_value(entry.value, item):
            # The same item with another signature: as in refresh.
            network = entry.leaf.network
        self._put(target, item, network, now)


class PeerStore(ExpiringStore[tuple[bytes, bytes], None]):
    """
    BEP5 peers by info hash, as compact addresses of 6 or 18 bytes.
    """

    def __init__(
        self,
        node_id: bytes,
        capacity: int = MAX_PEERS,
        share: int = MAX_PEERS_OF_NETWORK,
        lifetime: float = PEER_LIFETIME,
    ) -> None:
        """
        @param node_id: our 20-byte id.
        @param capacity: the most peers in total.
        @param share: the most peers of one line (/24 or /48).
        @param lifetime: the lifetime of a peer, seconds.
        """
        super().__init__(node_id, capacity, share, lifetime)
        # To find its first entry, a plain dictionary scans over all entries removed
        # before it. That is cheap with a thousand items, where memory matters more, but
        # doubles the time of an announcement with this many peers.
        self._entries = OrderedDict()
        # The peers of each info hash and when they were announced, oldest first.
        self._torrents: dict[bytes, dict[bytes, float]] = {}
        # Their networks, for info hashes that have, or recently had, as many as possible.
        self._crowded: dict[bytes, Shares[bytes]] = {}

    def _target(self, key: tuple[bytes, bytes]) -> bytes:
        return key[0]

    def _remove(self, key: tuple[bytes, bytes]) -> None:
        info_hash, peer = key
        shares = self._crowded.get(info_hash)
        if shares is not None:
            shares.remove(peer, self._entries[key].leaf.network)
        super()._remove(key)
        peers = self._torrents[info_hash]
        del peers[peer]
        if len(peers) <= MAX_PEERS_OF_TORRENT // 2:
            self._crowded.pop(info_hash, None)
            if not peers:
                del self._torrents[info_hash]

    def announce(self, info_hash: bytes, peer: bytes, network: bytes, now: float) -> None:
        """
        Store or refresh a peer.

        @param network: the peer's L{packed_network<dtt.net.networks.packed_network>}.
        """
        self._put((info_hash, peer), None, network, now)
        peers = self._torrents.setdefault(info_hash, {})
        peers[peer] = now
        shares = self._crowded.get(info_hash)
        if shares is not None:
            shares.add(peer, network)
        if len(peers) > MAX_PEERS_OF_TORRENT:
            if shares is None:
                shares = self._crowded[info_hash] = Shares()
                for each in peers:
                    shares.add(each, self._entries[info_hash, each].leaf.network)
            self._remove((info_hash, shares.oldest_of_largest(1)[0]))

    def peers(self, info_hash: bytes, size: int, count: int, rng: Random, now: float) -> list[bytes]:
        """
        Return some of the peers of an info hash, in no particular order.

        @param size: the bytes of an address: 6 for IPv4, 18 for IPv6.
        @param count: the most peers to return.
        """
        announced = self._torrents.get(info_hash)
        if announced is None:
            return []
        oldest = now - self._lifetime
        peers = [peer for peer, since in announced.items() if since > oldest and len(peer) == size]
        return peers if len(peers) <= count else rng.sample(peers, count)

    def sample(self, count: int, now: float) -> tuple[list[bytes], int]:
        """
        Return some of the info hashes, least recently returned first, and the total
        number of info hashes (BEP51).

        @param count: the most info hashes to return.
        """
        self.expire(now, count)
        oldest = now - self._lifetime
        chosen = list(islice(self._torrents, count))
        for info_hash in chosen:
            # Move it behind all others. A random choice from a list of all takes a
            # millisecond.
            self._torrents[info_hash] = self._torrents.pop(info_hash)
        alive = [each for each in chosen if next(reversed(self._torrents[each].values())) > oldest]
        return alive, len(self._torrents)

    @property
    def info_hashes(self) -> int:
        """
        The number of info hashes with peers.
        """
        return len(self._torrents)
