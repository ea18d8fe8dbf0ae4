"""
The contents of a topic: received, cached and awaited.  Pure.

Rules (docs/protocol/gossip.md section 7): message ids are kept for a while after a
content was seen, to recognise duplicates; payloads are kept for a shorter time, while a
neighbour may request them; announced contents that have not arrived are awaited from
the peers that announced them, in order.  Everything is limited in number and bytes,
whatever peers send (L{GossipConfig}).
"""

from __future__ import annotations

from collections import OrderedDict

from dtt.gossip.proto.config import (
    MESSAGE_CACHE_RETENTION,
    MESSAGE_ID_RETENTION,
    GossipConfig,
)
from dtt.gossip.proto.messages import Gossip


class Contents:
    """
    Contents that were seen.  All entries have the same lifetime, so the dicts are
    ordered by expiry, and the oldest entries are dropped first when there are too
    many.  (C{OrderedDict}, because finding the first key of a plain dict takes time
    proportional to the deletions before it.) Payloads are kept as tuples of plain
    values, which the garbage collector scans only once.

    @ivar received: the known message ids, and when each expires; read-only.
    @ivar behind: for each peer that may request contents, how many are kept for it;
        read-only.
    """

    __slots__ = ("_cache", "_cached_bytes", "_config", "behind", "received")

    def __init__(self, config: GossipConfig) -> None:
        """
        @param config: the limits and retention times.
        """
        self._config = config
        self.received: OrderedDict[bytes, float] = OrderedDict()
        self.behind: dict[bytes, int] = {}
        # Content, round, expiry time, and the peers that may request it.
        self._cache: OrderedDict[bytes, tuple[bytes, int, float, tuple[bytes, ...]]] = OrderedDict()
        self._cached_bytes = 0

    def __len__(self) -> int:
        """
        Return the number of ids and payloads.
        """
        return len(self.received) + len(self._cache)

    def sizes(self) -> tuple[int, int, int]:
        """
        Return the number of ids, the number of payloads, and the total bytes of
        payloads.
        """
        return len(self.received), len(self._cache), self._cached_bytes

    def remember(self, identity: bytes, now: float) -> None:
        """
        Record that the content of C{identity} was seen for the first time.
        """
        received = self.received
        if len(received) >= self._config.max_received:
            received.popitem(last=False)
        received[identity] = now + MESSAGE_ID_RETENTION

    def keep(self, identity: bytes, content: bytes, hops: int, peers: tuple[bytes, ...], now: float) -> None:
        """
        Cache a content until all of C{peers} have it.

        @param identity: its message id (32 bytes).
        @param hops: the round with which to send it.
        """
        config, cache = self._config, self._cache
        if identity in cache:
            self._drop(identity)
        cache[identity] = (content, hops, now + MESSAGE_CACHE_RETENTION, peers)
        self._cached_bytes += len(content)
        for peer in peers:
            self.behind[peer] = self.behind.get(peer, 0) + 1
        while self._cached_bytes > config.max_cached_bytes or len(cache) > config.max_cached:
            self._drop(next(iter(cache)))

    def peer_has(self, peer: bytes, identity: bytes) -> None:
        """
        Record that C{peer} has the content, and will not request it.
        """
        cached = self._cache.get(identity)
        if cached is None or peer not in cached[3]:
            return
        if len(cached[3]) == 1:
            self._drop(identity)
        else:
            others = tuple([other for other in cached[3] if other != peer])
            self._cache[identity] = (*cached[:3], others)
            self._decrement_behind(peer)

    def forget_peer(self, peer: bytes) -> None:
        """
        Record that C{peer} is gone, and will not request anything.
        """
        for identity in tuple(self._cache):
            if peer not in self.behind:
                break
            self.peer_has(peer, identity)

    def take_for(self, peer: bytes, identity: bytes) -> Gossip | None:
        """
        Return the cached message for C{identity} if C{peer} may request it, which it may
        do once, or C{None}.
        """
        cached = self._cache.get(identity)
        if cached is None or peer not in cached[3]:
            return None
        self.peer_has(peer, identity)
        return Gossip(identity, cached[0], cached[1])

    def evict(self, now: float) -> None:
        """
        Drop everything that has expired.
        """
        while self.received:
            identity = next(iter(self.received))
            if self.received[identity] > now:
                break
            del self.received[identity]
        while self._cache:
            identity = next(iter(self._cache))
            if self._cache[identity][2] > now:
                break
            self._drop(identity)

    def clear(self) -> None:
        """
        Drop everything.
        """
        self.received.clear()
        self._cache.clear()
        self.behind.clear()
        self._cached_bytes = 0

    def _drop(self, identity: bytes) -> None:
        content, _, _, peers = self._cache.pop(identity)
        self._cached_bytes -= len(content)
        for peer in peers:
            self._decrement_behind(peer)

    def _decrement_behind(self, peer: bytes) -> None:
        if (count := self.behind[peer] - 1) > 0:
            self.behind[peer] = count
        else:
            del self.behind[peer]


class Announcements:
    """
    The contents that are awaited: for each, the peers that have announced it, with
    their rounds, in order of arrival.  A content without a remaining peer is dropped.
    """

    __slots__ = ("_by_peer", "_config", "_sources")

    def __init__(self, config: GossipConfig) -> None:
        """
        @param config: the limits.
        """
        self._config = config
        self._sources: dict[bytes, dict[bytes, int]] = {}
        self._by_peer: dict[bytes, dict[bytes, None]] = {}

    def __len__(self) -> int:
        return len(self._sources)

    def __contains__(self, identity: bytes) -> bool:
        return identity in self._sources

    def count_by(self, peer: bytes) -> int:
        """
        Return how many contents are awaited from C{peer}.
        """
        return len(self._by_peer.get(peer, ()))

    def add(self, identity: bytes, peer: bytes, hops: int) -> bool:
        """
        Record that C{peer} has announced C{identity}.

        @return: C{False} if there is no room for it.
        """
        sources = self._sources.get(identity)
        if sources is not None and peer in sources:
            return True
        if self.count_by(peer) >= self._config.max_missing_per_peer or (
            sources is None and len(self._sources) >= self._config.max_missing
        ):
            return False
        self._sources.setdefault(identity, {})[peer] = hops
        self._by_peer.setdefault(peer, {})[identity] = None
        return True

    def pop(self, identity: bytes) -> tuple[bytes, int] | None:
        """
        Remove and return the first peer and round for C{identity}, or return C{None}.
        """
        sources = self._sources.get(identity)
        if sources is None:
            return None
        peer, hops = next(iter(sources.items()))
        self._remove(identity, peer)
        return peer, hops

    def take(self, identity: bytes) -> dict[bytes, int]:
        """
        Remove and return all peers and rounds for C{identity}.
        """
        if identity not in self._sources:
            return {}
        sources = dict(self._sources[identity])
        for peer in sources:
            self._remove(identity, peer)
        return sources

    def forget_peer(self, peer: bytes) -> None:
        """
        Await nothing from C{peer} any longer.
        """
        for identity in tuple(self._by_peer.get(peer, ())):
            self._remove(identity, peer)

    def clear(self) -> None:
        """
        Drop everything.
        """
        self._sources.clear()
        self._by_peer.clear()

    def _remove(self, identity: bytes, peer: bytes) -> None:
        sources = self._sources[identity]
        del sources[peer]
        if not sources:
            del self._sources[identity]
        announced = self._by_peer[peer]
        del announced[identity]
        if not announced:
            del self._by_peer[peer]
