"""
The peers that a member knows: active view, passive view, and their PeerData.  Pure.

Rules (docs/protocol/gossip.md section 6): the views are disjoint, bounded and never
contain ourselves; random choices are uniform.  Additional state - PeerData, and which
peers said that they stay alive - is bounded too, and is dropped with its peer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from dtt.gossip.proto.config import GossipConfig
from dtt.gossip.proto.messages import PeerInfo

if TYPE_CHECKING:
    from random import Random


class Views:
    """
    The known peers.

    @ivar active: the neighbours.
    @ivar passive: other known peers.
    @ivar alive: peers of either view that sent or received "alive" in a Disconnect: the
        end of their connection is no reason to forget them.
    @ivar answered: when peers, in either view or not, were last sent a Neighbor as an
        answer; the oldest first.
    """

    __slots__ = (
        "_config",
        "_data",
        "_is_valid_peer_id",
        "_me",
        "_rng",
        "active",
        "alive",
        "answered",
        "passive",
    )

    def __init__(
        self, me: bytes, rng: Random, is_valid_peer_id: Callable[[bytes], bool], config: GossipConfig
    ) -> None:
        """
        @param me: our peer id (32 bytes).
        @param rng: the source of randomness.
        @param is_valid_peer_id: returns whether 32 bytes can be a peer's key.
        @param config: the capacities.
        """
        self.active: dict[bytes, None] = {}
        self.passive: dict[bytes, None] = {}
        self.alive: set[bytes] = set()
        self.answered: dict[bytes, float] = {}
        self._me = me
        self._rng = rng
        self._is_valid_peer_id = is_valid_peer_id
        self._config = config
        self._data: dict[bytes, bytes] = {}

    def is_usable(self, peer: bytes) -> bool:
        """
        Return whether C{peer} may be stored, dialled or named to others
        (docs/protocol/addresses.md section 4).
        """
        if peer == self._me:
            return False
        return peer in self.active or peer in self.passive or self._is_valid_peer_id(peer)

    def learn(self, peer: bytes, data: bytes | None) -> bool:
        """
        Store the PeerData C{data} of C{peer}.

        @return: whether it is new and should be reported.
        """
        if data is None:
            return False
        known = self._data
        news = bool(data) and data != known.get(peer)
        if len(data) <= self._config.max_peer_data:
            if peer not in known and len(known) >= self._config.max_known_data:
                self._forget_stranger()
            known[peer] = data
        return news

    def count_data(self) -> int:
        """
        Return the number of peers whose PeerData is kept.
        """
        return len(self._data)

    def data_of(self, peer: bytes) -> bytes | None:
        """
        Return the PeerData of C{peer}, or C{None}.
        """
        return self._data.get(peer)

    def add_active(self, peer: bytes) -> None:
        """
        Move C{peer} to the active view.
        """
        self.passive.pop(peer, None)
        self.active[peer] = None

    def add_passive(self, peer: bytes) -> None:
        """
        Add C{peer} to the passive view unless it is known; if the view is full, a
        random peer is dropped.
        """
        if peer == self._me or peer in self.active or peer in self.passive:
            return
        if len(self.passive) >= self._config.passive_view_capacity:
            self.drop_passive(self._rng.choice(tuple(self.passive)))
        self.passive[peer] = None

    def drop_passive(self, peer: bytes) -> None:
        """
        Remove C{peer} from the passive view, and forget its state unless it is a
        neighbour.
        """
        self.passive.pop(peer, None)
        if peer not in self.active:
            self.forget(peer)

    def forget(self, peer: bytes) -> None:
        """
        Forget the PeerData and the alive mark of C{peer}.
        """
        self.alive.discard(peer)
        self._data.pop(peer, None)

    def random_active(self, *excluded: bytes) -> bytes | None:
        """
        Return a random neighbour that is not in C{excluded}, or C{None}.
        """
        return self._choice(peer for peer in self.active if peer not in excluded)

    def random_passive(self, excluded: Iterable[bytes]) -> bytes | None:
        """
        Return a random peer of the passive view that is not in C{excluded}, or C{None}.
        """
        return self._choice(peer for peer in self.passive if peer not in excluded)

    def sample_active(self, count: int, excluded: bytes | None = None) -> list[bytes]:
        """
        Return up to C{count} random neighbours other than C{excluded}.
        """
        return self._sample(self.active, count, excluded)

    def sample_passive(self, count: int, excluded: bytes | None = None) -> list[bytes]:
        """
        Return up to C{count} random peers of the passive view other than C{excluded}.
        """
        return self._sample(self.passive, count, excluded)

    def infos(self, peers: Iterable[bytes]) -> tuple[PeerInfo, ...]:
        """
        Return C{peers} with their PeerData.
        """
        return tuple(PeerInfo(peer, self._data.get(peer)) for peer in peers)

    def clear(self) -> None:
        """
        Forget everything.
        """
        self.active.clear()
        self.passive.clear()
        self.alive.clear()
        self.answered.clear()
        self._data.clear()

    def _choice(self, candidates: Iterable[bytes]) -> bytes | None:
        among = tuple(candidates)
        return self._rng.choice(among) if among else None

    def _sample(self, view: Iterable[bytes], count: int, excluded: bytes | None) -> list[bytes]:
        among = [peer for peer in view if peer != excluded]
        return self._rng.sample(among, min(count, len(among)))

    def _forget_stranger(self) -> None:
        stranger = next((p for p in self._data if p not in self.active and p not in self.passive), None)
        if stranger is not None:
            del self._data[stranger]
