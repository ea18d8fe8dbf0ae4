"""
What others have stored with us: BEP44 items and BEP5 peers.  Pure.

Rules (docs/protocol/dht.md section 3):
  - Everything is bounded by count, and, since the size of an item is, by bytes;
    no network (/24, or /64 of IPv6) has more than its share; over its share a
    network loses its own oldest entry.
  - Items live 2 h, peers 45 min, since they were last put or announced.
  - When all is full, of the oldest few entries that which is farthest from
    our id goes: the nearest are those that only we and few others keep.
  - BEP44's order: a wrong C{cas} is 301; a lower C{seq}, or an equal one with
    another value, is 302; an equal one with the same value refreshes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from itertools import islice
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from attrs import define

from dtt.krpc.items import MutableItem
from dtt.krpc.messages import CAS_MISMATCH, SEQ_TOO_LOW

if TYPE_CHECKING:
    from random import Random

#: Items in all: mainline's and bittorrent-dht's number (docs/protocol/dht.md section
#: 1); about 1.5 MB.
MAX_ITEMS: Final = 1000

#: Items that one network may keep here.  Guess.
MAX_ITEMS_OF_NETWORK: Final = 100

#: Seconds that an item lives (BEP44, "Expiration").
ITEM_LIFETIME: Final = 7200.0

#: Peers in all, for one info hash (libtorrent's C{max_peers}), and of one
#: network.  The first and the last are guesses; about 6 MB.
MAX_PEERS: Final = 20000
MAX_PEERS_OF_TORRENT: Final = 500
MAX_PEERS_OF_NETWORK: Final = 1000

#: Seconds that a peer lives: libtorrent announces every 15 to 30 minutes and
#: forgets after 45.
PEER_LIFETIME: Final = 2700.0

# How many of the oldest entries are looked at for the farthest.
_CANDIDATES = 8

# Expired entries that one query may have to remove: when thousands expire
# together, no datagram shall wait for all of them.
_SWEEP = 8

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@define(slots=True, weakref_slot=False)
class _Entry(Generic[V]):
    value: V
    network: bytes
    since: float


class ExpiringStore(Generic[K, V]):
    """
    A bounded mapping of targets, or keys that have one, whose entries expire.

    @ivar node_id: our 20-byte id; may be changed.
    """

    def __init__(self, node_id: bytes, capacity: int, share: int, lifetime: float) -> None:
        """
        @param capacity: entries in all.
        @param share: entries of one network.
        @param lifetime: seconds since an entry was last put.
        """
        self.node_id = node_id
        self._capacity = capacity
        self._share = share
        self._lifetime = lifetime
        # Both have the oldest first.
        self._entries: dict[K, _Entry[V]] = {}
        self._networks: dict[bytes, dict[K, None]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def _target(self, key: K) -> bytes:
        raise NotImplementedError

    def _remove(self, key: K) -> None:
        network = self._entries.pop(key).network
        keys = self._networks[network]
        del keys[key]
        if not keys:
            del self._networks[network]

    def expire(self, now: float, most: int) -> None:
        """
        Remove what has expired, the oldest first, C{most} entries at a time.
        An expired one that is still there is found by nobody.
        """
        expired = []
        for key, entry in islice(self._entries.items(), most):
            if now - entry.since < self._lifetime:
                break
            expired.append(key)
        for key in expired:
            self._remove(key)

    def _find(self, key: K, now: float) -> V | None:
        entry = self._entries.get(key)
        return None if entry is None or now - entry.since >= self._lifetime else entry.value

    def _refresh(self, key: K, now: float) -> None:
        # Youngest again, in both; who puts it does not matter.
        entry = self._entries.pop(key)
        entry.since = now
        self._entries[key] = entry
        theirs = self._networks[entry.network]
        del theirs[key]
        theirs[key] = None

    def _put(self, key: K, value: V, network: bytes, now: float) -> None:
        self.expire(now, _SWEEP)
        if key in self._entries:
            self._remove(key)
        theirs = self._networks.get(network)
        if theirs is not None:
            # One object for all of its entries.
            network = self._entries[next(reversed(theirs))].network
            if len(theirs) >= self._share:
                self._remove(next(iter(theirs)))
        if len(self._entries) >= self._capacity:
            own = int.from_bytes(self.node_id)
            oldest = islice(self._entries, _CANDIDATES)
            self._remove(max(oldest, key=lambda old: int.from_bytes(self._target(old)) ^ own))
        self._entries[key] = _Entry(value, network, now)
        self._networks.setdefault(network, {})[key] = None


def _same_value(old: MutableItem | bytes, new: MutableItem | bytes) -> bool:
    if isinstance(old, MutableItem) and isinstance(new, MutableItem):
        return old.seq == new.seq and old.encoded == new.encoded
    return old == new


class ItemStore(ExpiringStore[bytes, MutableItem | bytes]):
    """
    BEP44 items by target.  A mutable item is a L{MutableItem}, an immutable
    one its bencoded value.
    """

    def __init__(
        self,
        node_id: bytes,
        capacity: int = MAX_ITEMS,
        share: int = MAX_ITEMS_OF_NETWORK,
        lifetime: float = ITEM_LIFETIME,
    ) -> None:
        super().__init__(node_id, capacity, share, lifetime)

    def _target(self, key: bytes) -> bytes:
        return key

    def get(self, target: bytes, now: float) -> MutableItem | bytes | None:
        """
        The item at a target, or L{None}.
        """
        return self._find(target, now)

    @staticmethod
    def conflict(stored: MutableItem | bytes, item: MutableItem, cas: int | None) -> int | None:
        """
        Why may C{item} not take the place of what is stored: 301, 302, or
        L{None} if it may.

        @param cas: the sequence number that the writer expects to replace.
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
        The item that is stored at a target was put again.

        Anybody can repeat a put.  It stays in the share of the network that
        it came from: otherwise one could draw items into one's own share and
        push them out there.
        """
        self._refresh(target, now)

    def put(self, target: bytes, item: MutableItem | bytes, network: bytes, now: float) -> None:
        """
        Store an item that is genuine and has no L{conflict}, or refresh it.

        @param network: of the writer, L{dtt.net.networks.packed_network}.
        """
        entry = self._entries.get(target)
        if entry is not None and _same_value(entry.value, item):
            # The same under another signature: as in refresh.
            network = entry.network
        self._put(target, item, network, now)


class PeerStore(ExpiringStore[tuple[bytes, bytes], None]):
    """
    BEP5 peers (compact addresses, 6 or 18 bytes) by info hash.
    """

    def __init__(
        self,
        node_id: bytes,
        capacity: int = MAX_PEERS,
        share: int = MAX_PEERS_OF_NETWORK,
        lifetime: float = PEER_LIFETIME,
    ) -> None:
        super().__init__(node_id, capacity, share, lifetime)
        # A plain dictionary has to step over all that was removed in front to
        # find its first entry: little with a thousand items, for which the memory
        # counts, but twice the time of an announcement with all these peers.
        self._entries = OrderedDict()
        # The peers of each info hash, and when they were announced; the oldest first.
        self._torrents: dict[bytes, dict[bytes, float]] = {}

    def _target(self, key: tuple[bytes, bytes]) -> bytes:
        return key[0]

    def _remove(self, key: tuple[bytes, bytes]) -> None:
        super()._remove(key)
        info_hash, peer = key
        peers = self._torrents[info_hash]
        del peers[peer]
        if not peers:
            del self._torrents[info_hash]

    def announce(self, info_hash: bytes, peer: bytes, network: bytes, now: float) -> None:
        """
        Store or refresh a peer.

        @param network: of the peer, L{dtt.net.networks.packed_network}.
        """
        peers = self._torrents.get(info_hash, {})
        if peer not in peers and len(peers) >= MAX_PEERS_OF_TORRENT:
            self._remove((info_hash, next(iter(peers))))
        self._put((info_hash, peer), None, network, now)
        self._torrents.setdefault(info_hash, {})[peer] = now

    def peers(self, info_hash: bytes, size: int, count: int, rng: Random, now: float) -> list[bytes]:
        """
        Some of the peers for an info hash, in no order.

        @param size: bytes of an address: 6 for IPv4, 18 for IPv6.
        @param count: at most so many.
        """
        announced = self._torrents.get(info_hash)
        if announced is None:
            return []
        oldest = now - self._lifetime
        peers = [peer for peer, since in announced.items() if since > oldest and len(peer) == size]
        return peers if len(peers) <= count else rng.sample(peers, count)

    def sample(self, count: int, now: float) -> tuple[list[bytes], int]:
        """
        Some of the info hashes, those that were given out least recently, and
        how many there are (BEP51).

        @param count: at most so many.
        """
        self.expire(now, count)
        oldest = now - self._lifetime
        chosen = list(islice(self._torrents, count))
        for info_hash in chosen:
            # Behind all others: a choice from a list of all takes a millisecond.
            self._torrents[info_hash] = self._torrents.pop(info_hash)
        alive = [each for each in chosen if next(reversed(self._torrents[each].values())) > oldest]
        return alive, len(self._torrents)

    @property
    def info_hashes(self) -> int:
        """
        How many there are with peers.
        """
        return len(self._torrents)
