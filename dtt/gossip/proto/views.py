"""
The peers that a member knows: active view, passive view, and their PeerData.  Pure.

Rules (docs/protocol/gossip.md section 6): the views are disjoint, bounded and never
contain ourselves; random choices are uniform.  Additional state - PeerData, and which
peers said that they stay alive - is bounded too, and is dropped with its peer.

A peer of the passive view is either proven - it has itself sent us a message - or known
from hearsay.  Hearsay replaces neither a proven peer nor the PeerData that a peer has
stated itself, and has few places: so one member can't fill the view with names of its
choice (section 6.5).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from dtt.gossip.proto.config import (
    MAX_PEER_DATA,
    GossipConfig,
)
from dtt.gossip.proto.messages import PeerInfo

if TYPE_CHECKING:
    from random import Random

#: The passive view has a place for each so many of its capacity for the peers that the same member
#: has named in a ShuffleReply (three of 30), and for those that were named in messages that members
#: pass on, which have no reliable origin (two).  Measured: this limits one hostile member to a
#: fifth of the view, and a swarm still fills its views in some minutes.
CAPACITY_PER_INTRODUCED: Final = 10
CAPACITY_PER_RELAYED: Final = 15

#: A view that is less than half full - that of a newcomer - takes so many times as many, and passes
#: on hearsay: otherwise those that join at the same moment know nobody but the members that they
#: have joined, and broadcasts take more hops.
YOUNG: Final = 4

#: The introducer of what members pass on.
RELAYED: Final = b""


class Views:
    """
    The known peers.

    @ivar active: the neighbours.
    @ivar passive: other known peers.
    @ivar introducers: for each peer of the passive view that is known from hearsay, the
        member that named it, or L{RELAYED}; read-only.
    @ivar alive: peers of either view that sent or received "alive" in a Disconnect: the
        end of their connection is no reason to forget them.
    @ivar answered: when peers, in either view or not, were last sent a Neighbor as an
        answer; the oldest first.
    """

    __slots__ = (
        "_config",
        "_data",
        "_is_valid_peer_id",
        "_max_introduced",
        "_max_relayed",
        "_me",
        "_rng",
        "_stated",
        "active",
        "alive",
        "answered",
        "introducers",
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
        self.introducers: dict[bytes, bytes] = {}
        self.alive: set[bytes] = set()
        self.answered: dict[bytes, float] = {}
        self._me = me
        self._rng = rng
        self._is_valid_peer_id = is_valid_peer_id
        self._config = config
        self._max_introduced = max(1, config.passive_view_capacity // CAPACITY_PER_INTRODUCED)
        self._max_relayed = max(1, config.passive_view_capacity // CAPACITY_PER_RELAYED)
        self._data: dict[bytes, bytes] = {}
        # The peers whose PeerData is their own statement.
        self._stated: set[bytes] = set()

    def is_usable(self, peer: bytes) -> bool:
        """
        Return whether C{peer} may be stored, dialled or named to others
        (docs/protocol/addresses.md section 4).
        """
        if peer == self._me:
            return False
        return peer in self.active or peer in self.passive or self._is_valid_peer_id(peer)

    def learn(self, peer: bytes, data: bytes | None, stated: bool = False) -> bool:
        """
        Store the PeerData C{data} of C{peer}.

        @param stated: whether the peer itself has stated it.  Otherwise it replaces no
            statement of the peer.
        @return: whether it is new and should be reported.
        """
        if data is None or (peer in self._stated and not stated):
            return False
        known = self._data
        news = bool(data) and data != known.get(peer)
        if len(data) <= MAX_PEER_DATA:
            if peer not in known and len(known) >= self._config.max_known_data:
                self._forget_stranger()
            known[peer] = data
            if stated:
                self._stated.add(peer)
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

    def prove(self, peer: bytes) -> None:
        """
        Record that C{peer} has itself sent us a message.
        """
        self.introducers.pop(peer, None)

    def add_active(self, peer: bytes) -> None:
        """
        Move C{peer} to the active view.
        """
        self._remove_passive(peer)
        self.active[peer] = None

    def add_passive(self, peer: bytes) -> None:
        """
        Add the proven C{peer} to the passive view unless it is known.  If the view is
        full, a random peer is dropped, proven or not: if only hearsay were, those that
        join the same member at the same moment would know nobody but each other.
        """
        if peer == self._me or peer in self.active or peer in self.passive:
            return
        if len(self.passive) >= self._config.passive_view_capacity:
            self.drop_passive(self._rng.choice(tuple(self.passive)))
        self.passive[peer] = None

    def add_hearsay(self, peer: bytes, introducer: bytes, asked: bool) -> bool:
        """
        Add C{peer} to the passive view unless it is known.  If its introducer has used
        its share of the view, or if the view is full, C{peer} replaces another one known
        from hearsay; a proven one only if C{asked}.

        @param introducer: the member that named C{peer}, or L{RELAYED}.
        @param asked: whether we asked that member for peers.
        @return: whether C{peer} was added.
        """
        if peer in self.active or peer in self.passive:
            return False
        replaceable = [known for known, other in self.introducers.items() if other == introducer]
        most = self._max_relayed if introducer == RELAYED else self._max_introduced
        if len(replaceable) < most * (YOUNG if self._is_young() else 1):
            replaceable = []
            if len(self.passive) >= self._config.passive_view_capacity:
                replaceable = list(self.introducers or (self.passive if asked else ()))
                if not replaceable:
                    return False
        if replaceable:
            self.drop_passive(self._rng.choice(replaceable))
        self.passive[peer] = None
        self.introducers[peer] = introducer
        return True

    def drop_passive(self, peer: bytes) -> None:
        """
        Remove C{peer} from the passive view, and forget its state unless it is a
        neighbour.
        """
        self._remove_passive(peer)
        if peer not in self.active:
            self.forget(peer)

    def forget(self, peer: bytes) -> None:
        """
        Forget the PeerData and the alive mark of C{peer}.
        """
        self.alive.discard(peer)
        self._stated.discard(peer)
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
        Return up to C{count} random proven peers of the passive view other than
        C{excluded}: hearsay is not passed on, unless the view is young.
        """
        hearsay = () if self._is_young() else self.introducers
        return self._sample((peer for peer in self.passive if peer not in hearsay), count, excluded)

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
        self.introducers.clear()
        self.alive.clear()
        self.answered.clear()
        self._data.clear()
        self._stated.clear()

    def _is_young(self) -> bool:
        return 2 * len(self.passive) < self._config.passive_view_capacity

    def _remove_passive(self, peer: bytes) -> None:
        self.passive.pop(peer, None)
        self.introducers.pop(peer, None)

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
            self._stated.discard(stranger)
