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
 - With L{LimitNeighbors}, a member has fewer neighbours than others.  Their views are full without it, so it
   asks with High priority while it has fewer than two.
 - PeerData and "alive" marks are kept only for peers in a view.
 - A Shuffle with ttl 0 from a stranger is a query, and is answered with members of our part (section 19).
 - Hearsay is limited (section 6.5): what one peer can make us store, forward, dial or
   answer in a minute, whatever it sends.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

from dtt.gossip.proto.acquaintances import Acquaintances
from dtt.gossip.proto.config import (
    ACTIVE_RANDOM_WALK_LENGTH,
    DIAL_LIMIT,
    MAX_NODES,
    MAX_PEER_DATA,
    MAX_PENDING,
    NEIGHBOR_ANSWER_INTERVAL,
    NEIGHBOR_REQUEST_TIMEOUT,
    PASSIVE_RANDOM_WALK_LENGTH,
    SHUFFLE_ACTIVE_VIEW_COUNT,
    SHUFFLE_PASSIVE_VIEW_COUNT,
    SHUFFLE_RANDOM_WALK_LENGTH,
    SHUFFLE_TTL,
    GossipConfig,
)
from dtt.gossip.proto.events import (
    ComparePeer,
    DialStarted,
    DisconnectPeer,
    Input,
    JoinPeers,
    LimitNeighbors,
    NeighborDown,
    NeighborUp,
    Output,
    PeerCompared,
    PeerConnected,
    PeerDataLearned,
    PeerDisconnected,
    PeerRejected,
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
from dtt.gossip.proto.views import RELAYED, Views
from dtt.net.allowances import Allowances
from dtt.net.bounded import make_room

if TYPE_CHECKING:
    from random import Random

#: Neighbours below which a member with a limited view asks urgently (guess: with one, a lost
#: connection cuts it off), and above which members seldom ask for more.
_ENOUGH = 2

#: Name of the shuffle timer; a request's timer is named after its peer id.
_SHUFFLE = b""

#: What each peer may make us do, as (times in a row, seconds until once more); beyond that, its
#: message has a smaller effect or none (docs/protocol/gossip.md section 6.5).  Guesses, each far
#: above what was measured between honest members: 1.4 Shuffles a minute, and some hundred
#: ForwardJoins at once when a thousand members join the same one.
_SHUFFLES = (4, 15.0)  # pass on or answer a Shuffle
_NODES = (4, 15.0)  # add a peer to the passive view, unasked
_WALKS = (128, 0.25)  # pass on a ForwardJoin
_REQUESTS = (8, 10.0)  # send a Neighbor to the peer of a ForwardJoin
_JOINS = (3, 5.0)  # announce its Join to our neighbours
_EVICTIONS = (4, 15.0)  # evict a neighbour for it
_CONTACTS = (4, 5.0)  # name others to it when we refuse it

#: How often a refusal, and any other ShuffleReply, makes us ask another peer, while there are
#: neighbours: where all are full, each refusal contains one, and a member with two free places would
#: ask one peer after another for ever.  Guess: as many as the passive view has; with 10 and 15 s,
#: members that joined at the same moment stayed with one neighbour or two for minutes, and missed
#: five times as many contents at a loss of one message in twenty.
_SEARCHES = (30, 5.0)
_REFILLS = (10, 15.0)

#: The same for the last free place, and for how many seconds a peer that has refused is not asked again by a
#: member with more than C{_ENOUGH} neighbours: where all are full, another neighbour is never found, and
#: each attempt costs three messages.  Guesses.
_LAST = (4, 120.0)
_REFUSED_FOR = 150.0

#: Members that are named to a stranger who compares its part of the swarm with ours: neighbours
#: first.  A member of a swarm of 100 knows about 30 at a time: of 8 named members it would know none
#: in one of 25 comparisons, of 16 in one of 400.
MAX_COMPARED = 16

#: Peers whose answer to a comparison is awaited; the oldest are forgotten first (guess).
MAX_COMPARING = 8

#: Seconds for which a rejected peer is not accepted as a neighbour again, and the number of such
#: peers; the oldest are forgotten first.  Guesses.
REJECTED_FOR = 300.0
MAX_REJECTED = 256


class HyParView:
    """
    The membership machine of one topic.

    @ivar views: the known peers; read-only.
    @ivar acquaintances: the members of our part of the swarm; read-only.
    @ivar timers: the deadlines for L{handle_timer}; read-only.
    @ivar pending: peers whose answer to our Neighbor is awaited, and whether a
        ForwardJoin named them; read-only.
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
        self.acquaintances = Acquaintances()
        self.pending: dict[bytes, bool] = {}
        # The peers that we have asked for members of their part.
        self._comparing: dict[bytes, None] = {}
        self._shuffles = Allowances(*_SHUFFLES)
        self._nodes = Allowances(*_NODES)
        self._walks = Allowances(*_WALKS)
        self._requests = Allowances(*_REQUESTS)
        self._joins = Allowances(*_JOINS)
        self._evictions = Allowances(*_EVICTIONS)
        self._contacts = Allowances(*_CONTACTS)
        self._searches = Allowances(*_SEARCHES)
        self._refills = Allowances(*_REFILLS)
        self._refused: OrderedDict[bytes, float] = OrderedDict()
        self._last = Allowances(*_LAST)
        self._rejected: OrderedDict[bytes, float] = OrderedDict()
        # Whether our last Shuffle has not been answered yet.
        self._awaits_reply = False
        self._me = me
        self._capacity = self._config.active_view_capacity
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
                    self.timers.start(peer, now + NEIGHBOR_REQUEST_TIMEOUT)
            case DialStarted(peer=peer):
                if peer in self.pending:
                    self.timers.start(peer, now + DIAL_LIMIT)
            case PeerDisconnected(peer=peer):
                self._on_peer_disconnected(peer)
            case PeerRejected(peer=peer, remember=remember):
                if remember:
                    make_room(self._rejected, self._now, MAX_REJECTED)
                    self._rejected[peer] = self._now + REJECTED_FOR
                self._on_rejected(peer)
            case JoinPeers(peers=peers):
                for peer in dict.fromkeys(peers):
                    if peer not in self.views.active and self.views.is_usable(peer):
                        self._send(peer, Join(self._data))
            case UpdateData(data=data):
                self._update_data(data)
                # A Neighbor, of those who are neighbours, states it; it is answered once.
                for peer in tuple(self.views.active) if data else ():
                    self._answer(peer, Priority.LOW)
            case ComparePeer(peer=peer):
                self._compare(peer)
            case LimitNeighbors(capacity=capacity):
                self._limit_neighbors(capacity)
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
        self.views.prove(peer)
        if peer in self.views.active:
            self.acquaintances.heard(peer, self._now)
        match message:
            case Disconnect(alive=alive):
                self._on_disconnect(peer, alive)
                return
            case Join(data=data):
                self._on_join(peer, data)
            case ForwardJoin(peer=joining, ttl=ttl):
                if self._listens_to(peer):
                    self._on_forward_join(peer, joining, ttl)
            case Neighbor(priority=priority, data=data):
                self._on_neighbor(peer, priority, data)
            case Shuffle(origin=origin, ttl=ttl) if (
                peer not in self.views.active and origin == peer and ttl == 0
            ):
                self._on_compare(peer)
            case Shuffle():
                if self._listens_to(peer) and self._shuffles.take(peer, self._now):
                    self._on_shuffle(peer, message)
            case ShuffleReply(nodes=nodes):
                self._on_shuffle_reply(peer, nodes)
        if (
            peer not in self.views.active
            and peer not in self.pending
            and (goodbye := DisconnectPeer(peer)) not in self._out
        ):
            self._out.append(goodbye)

    def _listens_to(self, peer: bytes) -> bool:
        """
        Return whether C{peer} may name others: it is a neighbour, or there is none.
        """
        return peer in self.views.active or not self.views.active

    def _on_join(self, peer: bytes, data: bytes | None) -> None:
        first = self._joins.take(peer, self._now)
        if not first and peer in self.views.active:
            return
        if not self._add_active(peer, data, Priority.HIGH if first else Priority.LOW):
            if peer != self._me:
                self._refuse(peer)
            return
        self._request(peer, Priority.HIGH)
        if not first:
            return
        walk = ForwardJoin(PeerInfo(peer, data), ACTIVE_RANDOM_WALK_LENGTH)
        for neighbor in self.views.active:
            if neighbor != peer:
                self._send(neighbor, walk)

    def _on_forward_join(self, sender: bytes, joining: PeerInfo, ttl: int) -> None:
        peer = joining.peer_id
        if not self.views.is_usable(peer):
            return
        if sender in self.views.active:
            self.acquaintances.heard(peer, self._now)
        ttl = min(ttl, ACTIVE_RANDOM_WALK_LENGTH)
        if peer in self.views.active or ttl == 0 or len(self.views.active) <= 1:
            if self._requests.take(sender, self._now):
                self._learn(peer, joining.data)
                self._request(peer, Priority.HIGH, named=True)
            else:
                self._hear_of(sender, joining)
            return
        if ttl == PASSIVE_RANDOM_WALK_LENGTH:
            self._hear_of(sender, joining)
        if (
            peer not in self.pending
            and self._walks.take(sender, self._now)
            and (target := self.views.random_active(sender)) is not None
        ):
            self._send(target, ForwardJoin(joining, ttl - 1))

    def _on_neighbor(self, peer: bytes, priority: Priority, data: bytes | None) -> None:
        asked = self._forget_request(peer)
        known = peer in self.views.active
        again = not asked and self._answered_recently(peer)
        if again:
            priority = Priority.LOW
        if not self._add_active(peer, data, priority, asked):
            self._refuse(peer)
        elif not asked and not (known and again):
            self._answer(peer, priority)

    def _on_shuffle(self, sender: bytes, shuffle: Shuffle) -> None:
        origin = shuffle.origin
        if not self.views.is_usable(origin):
            return
        if sender in self.views.active:
            self.acquaintances.sampled(origin, self._now)
        ttl = min(shuffle.ttl, SHUFFLE_RANDOM_WALK_LENGTH)
        if ttl == 0 or len(self.views.active) <= 1:
            for node in self._usable(shuffle.nodes):
                self._hear_of(sender, node)
            self._send_shuffle_reply(origin, min(len(shuffle.nodes), self._max_exchanged()))
        elif (target := self.views.random_active(sender, origin)) is not None:
            self._send(target, Shuffle(origin, self._usable(shuffle.nodes), ttl - 1))

    def _on_shuffle_reply(self, peer: bytes, nodes: tuple[PeerInfo, ...]) -> None:
        """
        Add the peers of a reply: to our Shuffle, by the first peer that answers; by a peer that
        refuses our request; or by a neighbour that is about to leave.
        """
        if peer in self._comparing:
            del self._comparing[peer]
            named = tuple(node.peer_id for node in self._usable(nodes))
            self._out.append(PeerCompared(peer, named))
            return
        asked = refused = peer in self.pending
        if refused:
            make_room(self._refused, self._now, MAX_REJECTED)
            self._refused[peer] = self._now + _REFUSED_FOR
        if not asked and peer not in self.views.active:
            # A Shuffle is answered by a member that is usually no neighbour.
            asked, self._awaits_reply = self._awaits_reply, False
            if not asked:
                return
        for node in self._usable(nodes)[: self._max_exchanged()]:
            if asked:
                self._add_hearsay(node, peer, asked=True)
            elif not self._add_unasked(node, peer, peer):
                break
        allowances = self._searches if refused else self._refills
        if _ENOUGH < len(self.views.active) == self._capacity - 1:
            allowances = self._last
        if not self.views.active or allowances.take(self._me, self._now):
            self._refill()

    def _compare(self, peer: bytes) -> None:
        """
        Ask a peer for members of its part of the swarm.
        """
        if peer in self.views.active or not self.views.is_usable(peer):
            return
        self._comparing[peer] = None
        if len(self._comparing) > MAX_COMPARING:
            del self._comparing[next(iter(self._comparing))]
        nodes = (*self.views.infos(self._our_part(peer)), PeerInfo(self._me, self._data))
        self._send(peer, Shuffle(self._me, nodes, 0))

    def _on_compare(self, peer: bytes) -> None:
        """
        Name members of our part to a stranger; what it has named is not stored.
        """
        if self._contacts.take(peer, self._now):
            self._send(peer, ShuffleReply(self.views.infos(self._our_part(peer))))

    def _our_part(self, without: bytes) -> list[bytes]:
        known = (*self.views.active, *self.acquaintances.latest(MAX_COMPARED, self._now))
        return [peer for peer in dict.fromkeys(known) if peer != without][:MAX_COMPARED]

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
        self._comparing.pop(peer, None)
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

    def _on_rejected(self, peer: bytes) -> None:
        self._forget_request(peer)
        self.views.drop_passive(peer)
        if peer in self.views.active:
            self._remove_active(peer)
            self._send(peer, Disconnect(True))
            self.views.forget(peer)
        self._out.append(DisconnectPeer(peer))
        self._refill(peer)

    def _is_rejected(self, peer: bytes) -> bool:
        return self._rejected.get(peer, 0.0) > self._now

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
        active = self.views.sample_active(SHUFFLE_ACTIVE_VIEW_COUNT, target)
        passive = self.views.sample_passive(SHUFFLE_PASSIVE_VIEW_COUNT, target)
        nodes = (*self.views.infos(active + passive), PeerInfo(self._me, self._data))
        self._send(target, Shuffle(self._me, nodes, SHUFFLE_TTL))
        self._awaits_reply = True

    def _quit(self) -> None:
        for peer in tuple(self.views.active):
            del self.views.active[peer]
            self._send_disconnect(peer, alive=False)
        self.views.clear()
        self.acquaintances.clear()
        self._comparing.clear()
        self.pending.clear()
        self.timers.clear()

    def _update_data(self, data: bytes | None) -> None:
        if data is not None and len(data) > MAX_PEER_DATA:
            raise ValueError(f"PeerData of {len(data)} bytes; the maximum is {MAX_PEER_DATA}")
        self._data = data

    # Views

    def _learn(self, peer: bytes, data: bytes | None, stated: bool = False) -> None:
        if data is not None and self.views.learn(peer, data, stated):
            self._out.append(PeerDataLearned(peer, data))

    def _usable(self, nodes: tuple[PeerInfo, ...]) -> tuple[PeerInfo, ...]:
        return tuple(node for node in nodes[:MAX_NODES] if self.views.is_usable(node.peer_id))

    def _max_exchanged(self) -> int:
        """
        Return the number of peers in our Shuffles, and thus in the answers to them.
        """
        return SHUFFLE_ACTIVE_VIEW_COUNT + SHUFFLE_PASSIVE_VIEW_COUNT + 1

    def _hear_of(self, sender: bytes, node: PeerInfo) -> bool:
        """
        Add a peer that C{sender} has named in a message that members pass on.
        """
        return self._add_unasked(node, sender, RELAYED)

    def _add_unasked(self, node: PeerInfo, sender: bytes, introducer: bytes) -> bool:
        """
        Add a peer that C{sender} has named unasked, a few of each sender a minute.

        @return: whether C{sender} may name more.
        """
        peer = node.peer_id
        if peer in self.views.active or peer in self.views.passive:
            self._learn(peer, node.data)
            return True
        if not self._nodes.take(sender, self._now):
            return False
        self._add_hearsay(node, introducer, asked=False)
        return True

    def _add_hearsay(self, node: PeerInfo, introducer: bytes, asked: bool) -> None:
        if self._is_rejected(node.peer_id):
            return
        known = node.peer_id in self.views.active or node.peer_id in self.views.passive
        if self.views.add_hearsay(node.peer_id, introducer, asked) or known:
            self._learn(node.peer_id, node.data)

    def _add_active(self, peer: bytes, data: bytes | None, priority: Priority, asked: bool = False) -> bool:
        if peer == self._me or self._is_rejected(peer):
            return False
        if peer in self.views.active:
            self._learn(peer, data, stated=True)
            return True
        if len(self.views.active) >= self._capacity:
            if priority is Priority.LOW or not (asked or self._evictions.take(peer, self._now)):
                return False
            evicted = self.views.random_active()
            assert evicted is not None
            self._evict(evicted)
        self._learn(peer, data, stated=True)
        self.views.add_active(peer)
        self.acquaintances.heard(peer, self._now)
        self._out.append(NeighborUp(peer))
        return True

    def _limited(self) -> bool:
        """
        Return whether we have fewer neighbours than others have, and would be refused
        by those whose views are full.
        """
        return self._capacity < self._config.active_view_capacity

    def _evict(self, peer: bytes) -> None:
        self._remove_active(peer)
        self._send_disconnect(peer, alive=True)
        self._keep_passive(peer, keep=True, alive=True)

    def _limit_neighbors(self, capacity: int) -> None:
        self._capacity = min(max(1, capacity), self._config.active_view_capacity)
        for peer in tuple(self.views.active)[self._capacity :]:
            self._evict(peer)
        before = -1
        while before < len(self.pending) < self._capacity - len(self.views.active):
            before = len(self.pending)
            self._refill()

    def _remove_active(self, peer: bytes) -> None:
        del self.views.active[peer]
        self._out.append(NeighborDown(peer))
        if not self.views.active:
            self.acquaintances.clear()

    def _keep_passive(self, peer: bytes, *, keep: bool, alive: bool) -> None:
        """
        Move a former neighbour to the passive view, or forget it.

        @param alive: whether it will close its connection, which is then no reason to
            forget it.
        """
        if not keep:
            self.views.forget(peer)
            return
        self.views.add_passive(peer)
        if alive:
            self.views.alive.add(peer)
        else:
            self.views.alive.discard(peer)
        if data := self.views.data_of(peer):
            self._out.append(PeerDataLearned(peer, data))

    def _refill(self, skip: bytes = b"") -> None:
        # Requests caused by a ForwardJoin do not keep us from asking others.
        asked = sum(not named for named in self.pending.values())
        if len(self.views.active) + asked >= self._capacity:
            return
        tried = self._tried() if len(self.views.active) > _ENOUGH else ()
        candidate = self.views.random_passive((*self.pending, skip, *tried))
        if candidate is not None:
            urgent = not self.views.active or (self._limited() and len(self.views.active) < _ENOUGH)
            self._request(candidate, Priority.HIGH if urgent else Priority.LOW)

    def _tried(self) -> list[bytes]:
        """
        Return the peers that have refused us recently.
        """
        return [peer for peer, until in self._refused.items() if until > self._now]

    # Sending

    def _send(self, peer: bytes, message: Message) -> None:
        fitting = fit(message, self._config.max_sent)
        if fitting is not None:
            self._out.append(SendMessage(peer, fitting))

    def _request(self, peer: bytes, priority: Priority, named: bool = False) -> None:
        """
        Send a Neighbor, whose answer is awaited.

        @param named: whether a ForwardJoin named C{peer}.
        """
        if peer in self.pending or self._is_rejected(peer):
            return
        if len(self.pending) >= MAX_PENDING and peer not in self.views.active:
            self._add_hearsay(PeerInfo(peer), RELAYED, asked=False)
            return
        self.pending[peer] = named
        self.timers.start(peer, self._now + NEIGHBOR_REQUEST_TIMEOUT)
        self._send(peer, Neighbor(priority, self._data))

    def _answered_recently(self, peer: bytes) -> bool:
        answered_at = self.views.answered.get(peer)
        return answered_at is not None and self._now - answered_at < NEIGHBOR_ANSWER_INTERVAL

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

    def _refuse(self, peer: bytes) -> None:
        """
        Refuse to be a neighbour of C{peer}.  If it asks often, it gets no further contacts, which are many
        times larger than a request.
        """
        if self._contacts.take(peer, self._now):
            self._send_disconnect(peer, alive=True)
        else:
            self._send(peer, Disconnect(True))
            self._forget_request(peer)
            self._out.append(DisconnectPeer(peer))

    def _send_disconnect(self, peer: bytes, *, alive: bool) -> None:
        count = SHUFFLE_ACTIVE_VIEW_COUNT + SHUFFLE_PASSIVE_VIEW_COUNT
        self._send_shuffle_reply(peer, count)
        self._send(peer, Disconnect(alive))
        self._forget_request(peer)
        self._out.append(DisconnectPeer(peer))
