"""
HyParView: membership, the choice of neighbours.  Pure.

Contract: docs/protocol/gossip.md section 6, with the fixes of section 11: Q4 (never
ourselves), Q6 (an answer is not tracked as a request), Q9 (ttl clamped), Q10 (messages
fit) and Q11 (a Join is sent immediately).

Differences from upstream, all invisible on the wire:
 - Every request that awaits an answer times out, not only those made to refill the
   active view; the timeout starts at the end of a dial (docs/protocol/streams.md
   section 4), and when it expires the topic no longer needs the connection.
 - When a dial fails while we wait for the answer, the next passive peer is tried
   immediately.
 - A sender whose answer we await is not disconnected: a refusal consists of a
   ShuffleReply and a Disconnect, and the second would be lost.
 - An unsolicited Neighbor from a neighbour is answered at most every few seconds:
   otherwise two nodes would answer each other forever when an answer is late (Q6).  An
   unsolicited Neighbor from a former neighbour within that time counts as Low: it may
   be the answer to an answer, sent to a node that has been evicted since.  Otherwise,
   when a thousand nodes join one node simultaneously, it would evict and be evicted for
   minutes.
 - PeerData and "alive" marks are kept only for peers in a view.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from dtt.gossip.proto.config import GossipConfig
from dtt.gossip.proto.events import (
    DialStarted,
    DisconnectPeer,
    Input,
    JoinPeers,
    NeighborDown,
    NeighborUp,
    Output,
    PeerConnected,
    PeerDataLearned,
    PeerDisconnected,
    Quit,
    SendMessage,
    UpdateData,
)
from dtt.gossip.proto.fit import fit
from dtt.gossip.proto.messages import (
    Disconnect,
    ForwardJoin,
    Join,
    Message,
    Neighbor,
    PeerInfo,
    Priority,
    Shuffle,
    ShuffleReply,
)
from dtt.gossip.proto.timers import Timers
from dtt.gossip.proto.views import Views

if TYPE_CHECKING:
    from random import Random

#: Name of the shuffle timer; a request's timer is named after its peer id.
_SHUFFLE = b""


class HyParView:
    """
    The membership machine of one topic.

    @ivar views: the known peers; read-only.
    @ivar timers: the deadlines for L{handle_timer}; read-only.
    @ivar pending: peers whose answer to our Neighbor is awaited; read-only.
    """

    def __init__(
        self,
        me: bytes,
        rng: Random,
        is_valid_peer_id: Callable[[bytes], bool],
        data: bytes | None = None,
        config: GossipConfig | None = None,
    ) -> None:
        """
        @param me: our peer id (32 bytes).
        @param rng: the source of randomness.
        @param is_valid_peer_id: returns whether 32 bytes can be a peer's key
            (docs/protocol/addresses.md section 4).
        @param data: our PeerData, or C{None}.
        @param config: the protocol parameters.
        @raise ValueError: C{data} is too long.
        """
        self._config = config or GossipConfig()
        self.views = Views(me, rng, is_valid_peer_id, self._config)
        self.pending: dict[bytes, None] = {}
        self._me = me
        self.timers: Timers[bytes] = Timers()
        self._started = False
        self._now = 0.0
        self._out: list[Output] = []
        self._update_data(data)

    def receive(self, peer: bytes, message: Message, now: float) -> list[Output]:
        """
        Handle a membership message from the authenticated C{peer}, and return the
        outputs.
        """
        out = self._begin(now)
        self._on_message(peer, message)
        return out

    def handle(self, event: Input, now: float) -> list[Output]:
        """
        Handle another input, and return the outputs (commands for the broadcast machine
        are ignored).
        """
        out = self._begin(now)
        match event:
            case PeerConnected(peer=peer):
                if peer in self.pending:
                    self.timers.start(peer, now + self._config.neighbor_request_timeout)
            case DialStarted(peer=peer):
                if peer in self.pending:
                    self.timers.start(peer, now + self._config.dial_limit)
            case PeerDisconnected(peer=peer):
                self._on_peer_disconnected(peer)
            case JoinPeers(peers=peers):
                for peer in dict.fromkeys(peers):
                    if peer not in self.views.active and self.views.is_usable(peer):
                        self._send(peer, Join(self._data))
            case UpdateData(data=data):
                self._update_data(data)
            case Quit():
                self._quit()
        return out

    def handle_timer(self, now: float) -> list[Output]:
        """
        Handle the timers due at C{now}, and return the outputs.
        """
        self._now = now
        out = self._out = []
        while (name := self.timers.pop(now)) is not None:
            if name == _SHUFFLE:
                self._shuffle()
                self.timers.start(_SHUFFLE, now + self._config.shuffle_interval)
            else:
                self._on_request_timeout(name)
        return out

    def _begin(self, now: float) -> list[Output]:
        self._now = now
        self._out = []
        if not self._started:
            self._started = True
            self.timers.start(_SHUFFLE, now + self._config.shuffle_interval)
        return self._out

    # Messages

    def _on_message(self, peer: bytes, message: Message) -> None:
        match message:
            case Disconnect(alive=alive):
                self._on_disconnect(peer, alive)
                return
            case Join(data=data):
                self._on_join(peer, data)
            case ForwardJoin(peer=joining, ttl=ttl):
                self._on_forward_join(peer, joining, ttl)
            case Neighbor(priority=priority, data=data):
                self._on_neighbor(peer, priority, data)
            case Shuffle():
                self._on_shuffle(peer, message)
            case ShuffleReply(nodes=nodes):
                self._add_nodes(nodes)
                self._refill()
        if (
            peer not in self.views.active
            and peer not in self.pending
            and (goodbye := DisconnectPeer(peer)) not in self._out
        ):
            self._out.append(goodbye)

    def _on_join(self, peer: bytes, data: bytes | None) -> None:
        if not self._add_active(peer, data, Priority.HIGH):
            return
        self._request(peer, Priority.HIGH)
        walk = ForwardJoin(PeerInfo(peer, data), self._config.active_random_walk_length)
        for neighbor in self.views.active:
            if neighbor != peer:
                self._send(neighbor, walk)

    def _on_forward_join(self, sender: bytes, joining: PeerInfo, ttl: int) -> None:
        peer = joining.peer_id
        if not self.views.is_usable(peer):
            return
        ttl = min(ttl, self._config.active_random_walk_length)
        if peer in self.views.active or ttl == 0 or len(self.views.active) <= 1:
            self._learn(peer, joining.data)
            self._request(peer, Priority.HIGH)
            return
        if ttl == self._config.passive_random_walk_length:
            self._add_passive(peer, joining.data)
        if peer not in self.pending and (target := self.views.random_active(sender)) is not None:
            self._send(target, ForwardJoin(joining, ttl - 1))

    def _on_neighbor(self, peer: bytes, priority: Priority, data: bytes | None) -> None:
        asked = self._forget_request(peer)
        known = peer in self.views.active
        again = not asked and self._answered_recently(peer)
        if again:
            priority = Priority.LOW
        if not self._add_active(peer, data, priority):
            self._send_disconnect(peer, alive=True)
        elif not asked and not (known and again):
            self._answer(peer, priority)

    def _on_shuffle(self, sender: bytes, shuffle: Shuffle) -> None:
        origin = shuffle.origin
        if not self.views.is_usable(origin):
            return
        ttl = min(shuffle.ttl, self._config.shuffle_random_walk_length)
        if ttl == 0 or len(self.views.active) <= 1:
            self._add_nodes(shuffle.nodes)
            self._send_shuffle_reply(origin, min(len(shuffle.nodes), self._config.max_nodes))
        elif (target := self.views.random_active(sender, origin)) is not None:
            nodes = shuffle.nodes[: self._config.max_nodes]
            usable = tuple(node for node in nodes if self.views.is_usable(node.peer_id))
            self._send(target, Shuffle(origin, usable, ttl - 1))

    def _on_disconnect(self, peer: bytes, alive: bool) -> None:
        self._forget_request(peer)
        if peer in self.views.active:
            self._remove_active(peer)
            self._out.append(DisconnectPeer(peer))
            self._keep_passive(peer, keep=alive, alive=True)
            self._refill(peer)
        elif alive and peer in self.views.passive:
            self.views.alive.add(peer)

    # Network and timers

    def _on_peer_disconnected(self, peer: bytes) -> None:
        asked = self._forget_request(peer)
        if peer in self.views.active:
            self._remove_active(peer)
            self._out.append(DisconnectPeer(peer))
            self._keep_passive(peer, keep=peer in self.views.alive, alive=False)
            self._refill(peer)
            return
        if peer in self.views.alive:
            self.views.alive.discard(peer)
        else:
            self.views.drop_passive(peer)
        if asked:
            self._refill(peer)

    def _on_request_timeout(self, peer: bytes) -> None:
        self.pending.pop(peer, None)
        if peer not in self.views.active:
            self.views.drop_passive(peer)
            self._out.append(DisconnectPeer(peer))
            self._refill()

    def _shuffle(self) -> None:
        target = self.views.random_active()
        if target is None:
            return
        active = self.views.sample_active(self._config.shuffle_active_view_count, target)
        passive = self.views.sample_passive(self._config.shuffle_passive_view_count, target)
        nodes = (*self.views.infos(active + passive), PeerInfo(self._me, self._data))
        self._send(target, Shuffle(self._me, nodes, self._config.shuffle_random_walk_length))

    def _quit(self) -> None:
        for peer in tuple(self.views.active):
            del self.views.active[peer]
            self._send_disconnect(peer, alive=False)
        self.views.clear()
        self.pending.clear()
        self.timers.clear()

    def _update_data(self, data: bytes | None) -> None:
        if data is not None and len(data) > self._config.max_peer_data:
            raise ValueError(f"PeerData of {len(data)} bytes; the maximum is {self._config.max_peer_data}")
        self._data = data

    # Views

    def _learn(self, peer: bytes, data: bytes | None) -> None:
        if data is not None and self.views.learn(peer, data):
            self._out.append(PeerDataLearned(peer, data))

    def _add_nodes(self, nodes: tuple[PeerInfo, ...]) -> None:
        for node in nodes[: self._config.max_nodes]:
            if self.views.is_usable(node.peer_id):
                self._add_passive(node.peer_id, node.data)

    def _add_passive(self, peer: bytes, data: bytes | None) -> None:
        self._learn(peer, data)
        self.views.add_passive(peer)

    def _add_active(self, peer: bytes, data: bytes | None, priority: Priority) -> bool:
        if peer == self._me:
            return False
        self._learn(peer, data)
        if peer in self.views.active:
            return True
        if len(self.views.active) >= self._config.active_view_capacity:
            if priority is Priority.LOW:
                return False
            evicted = self.views.random_active()
            assert evicted is not None
            self._remove_active(evicted)
            self._send_disconnect(evicted, alive=True)
            self._keep_passive(evicted, keep=True, alive=True)
        self.views.add_active(peer)
        self._out.append(NeighborUp(peer))
        return True

    def _remove_active(self, peer: bytes) -> None:
        del self.views.active[peer]
        self._out.append(NeighborDown(peer))

    def _keep_passive(self, peer: bytes, *, keep: bool, alive: bool) -> None:
        """
        Move a former neighbour to the passive view, or forget it.

        @param alive: whether it will close its connection, which is then no reason to
            forget it.
        """
        data = self.views.data_of(peer)
        self.views.forget(peer)
        if keep:
            self._add_passive(peer, data)
            if alive:
                self.views.alive.add(peer)

    def _refill(self, skip: bytes = b"") -> None:
        if len(self.views.active) + len(self.pending) >= self._config.active_view_capacity:
            return
        candidate = self.views.random_passive((*self.pending, skip))
        if candidate is not None:
            self._request(candidate, Priority.LOW if self.views.active else Priority.HIGH)

    # Sending

    def _send(self, peer: bytes, message: Message) -> None:
        fitting = fit(message, self._config.max_sent)
        if fitting is not None:
            self._out.append(SendMessage(peer, fitting))

    def _request(self, peer: bytes, priority: Priority) -> None:
        if peer in self.pending:
            return
        if len(self.pending) >= self._config.max_pending and peer not in self.views.active:
            self._add_passive(peer, None)
            return
        self.pending[peer] = None
        self.timers.start(peer, self._now + self._config.neighbor_request_timeout)
        self._send(peer, Neighbor(priority, self._data))

    def _answered_recently(self, peer: bytes) -> bool:
        answered_at = self.views.answered.get(peer)
        return answered_at is not None and self._now - answered_at < self._config.neighbor_answer_interval

    def _answer(self, peer: bytes, priority: Priority) -> None:
        answered = self.views.answered
        answered.pop(peer, None)
        if len(answered) >= self._config.max_answered:
            del answered[next(iter(answered))]
        answered[peer] = self._now
        self._send(peer, Neighbor(priority, self._data))

    def _forget_request(self, peer: bytes) -> bool:
        if peer not in self.pending:
            return False
        del self.pending[peer]
        self.timers.stop(peer)
        return True

    def _send_shuffle_reply(self, peer: bytes, count: int) -> None:
        nodes = self.views.sample_passive(count)
        if len(nodes) < count:
            nodes += self.views.sample_active(count - len(nodes))
        self._send(peer, ShuffleReply(self.views.infos(nodes)))

    def _send_disconnect(self, peer: bytes, *, alive: bool) -> None:
        count = self._config.shuffle_active_view_count + self._config.shuffle_passive_view_count
        self._send_shuffle_reply(peer, count)
        self._send(peer, Disconnect(alive))
        self._forget_request(peer)
        self._out.append(DisconnectPeer(peer))
