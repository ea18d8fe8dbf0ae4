"""
PlumTree: broadcast to the neighbours.  Pure.

Contract: docs/protocol/gossip.md section 7, with the fixes of section 11: Q3 (nothing
is forwarded that a peer could not read), Q7 (only neighbours are eager or lazy), Q8 (no
empty entries), Q9 (no round beyond 65535).

Differences from upstream, all invisible on the wire or only earlier:
 - A message for direct neighbours goes to all of them: upstream sends it only to eager ones, although its
   description says "direct neighbors".
 - A content that is broadcast while there is no neighbour is not remembered.
 - An IHave is sent when it is full, not only after the dispatch timeout.
 - The dispatch timer runs only while something is queued.
 - A peer appears only once in the list of sources of a content, and the number of
   awaited contents is bounded; an announced content beyond the limit is requested
   immediately, without being tracked.
 - A content is kept only while a neighbour to which it was announced may request it:
   until that neighbour has announced, sent or requested it.  (No peer requests a
   content that was not announced to it, or requests it twice.)
 - Everything that is kept is bounded in number and bytes; the oldest entries are
   dropped first.
 - A peer whose announced contents do not arrive, or that sends contents with false ids, is first made lazy,
   and then dropped as a neighbour (L{dtt.gossip.proto.promises}).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container

from dtt.errors import ContentTooLarge, DuplicateContent, NotNeighbor
from dtt.gossip.proto.config import (
    CACHE_EVICT_INTERVAL,
    DISPATCH_TIMEOUT,
    GRAFT_TIMEOUT_1,
    GRAFT_TIMEOUT_2,
    MAX_SILENCE,
    MESSAGE_ID_RETENTION,
    OPTIMIZATION_THRESHOLD,
    GossipConfig,
)
from dtt.gossip.proto.contents import Announcements, Contents
from dtt.gossip.proto.events import (
    Broadcast,
    Input,
    NeighborDown,
    NeighborUp,
    Output,
    PeerDisconnected,
    Quit,
    SendMessage,
)
from dtt.gossip.proto.messages import Gossip, Graft, IHave, Message, Prune, encode, message_id
from dtt.gossip.proto.promises import DEBT_EAGER, DEBT_NEIGHBOR, Promises
from dtt.gossip.proto.timers import Timers
from dtt.wire.values import GossipMessage

#: Names of timers; a Graft's timer is named after its message id.
_EVICT = b"evict"
_DISPATCH = b"dispatch"

_MAX_ROUND = 0xFFFF


class PlumTree:
    """
    The broadcast machine of one topic.

    @ivar eager: neighbours that contents are pushed to; read-only.
    @ivar lazy: neighbours that receive announcements, and when each last announced or
        sent something or became lazy; read-only.
    @ivar timers: the deadlines for L{handle_timer}; read-only.
    @ivar counters: C{gossip_spoofed}: messages whose id did not match their content;
        C{ihave_untracked}: announced contents that could not be tracked and were
        requested immediately; C{contents_overdue}: contents that were requested and did
        not come; C{neighbors_dropped}: peers that were dropped for that.
    @ivar dropped: peers that should be dropped as neighbours; the owner clears it.
    """

    def __init__(self, config: GossipConfig | None = None) -> None:
        """
        @param config: the protocol parameters.
        """
        self.eager: dict[bytes, None] = {}
        self.lazy: dict[bytes, float] = {}
        self.counters: Counter[str] = Counter()
        self._config = config or GossipConfig()
        self._lazy_queues: dict[bytes, list[tuple[bytes, int]]] = {}
        self._contents = Contents(self._config)
        self._missing = Announcements(self._config)
        self._promises = Promises()
        self.dropped: list[bytes] = []
        self.timers: Timers[bytes] = Timers()
        self._now = 0.0
        self._out: list[Output] = []

    def receive(self, peer: bytes, message: Message, now: float) -> list[Output]:
        """
        Handle a message from the authenticated C{peer}, and return the outputs
        (membership messages are ignored).
        """
        out = self._begin(now)
        match message:
            case Gossip():
                self._on_gossip(peer, message)
            case IHave(entries=entries):
                self._on_ihave(peer, entries)
            case Prune():
                self._make_lazy(peer)
            case Graft(message_id=wanted):
                self._on_graft(peer, wanted)
        self._evict_later()
        return out

    def handle(self, event: Input | NeighborUp | NeighborDown, now: float) -> list[Output]:
        """
        Handle another input, and return the outputs (commands for the membership
        machine are ignored).

        @raise ContentTooLarge: by L{Broadcast}.
        @raise DuplicateContent: by L{Broadcast}: the content is already known.
        @raise NotNeighbor: by L{Broadcast} to one peer.
        """
        out = self._begin(now)
        match event:
            case Broadcast(neighbors_only=False):
                self._broadcast(event.content)
            case Broadcast():
                self._send_to_neighbors(event.content, event.peer)
            case NeighborUp(peer=peer):
                self.lazy.pop(peer, None)
                self.eager[peer] = None
            case NeighborDown(peer=peer) | PeerDisconnected(peer=peer):
                self._on_peer_gone(peer)
            case Quit():
                self._quit()
        self._evict_later()
        return out

    def handle_timer(self, now: float) -> list[Output]:
        """
        Handle the timers due at C{now}, and return the outputs.
        """
        self._now = now
        out = self._out = []
        while (name := self.timers.pop(now)) is not None:
            if name == _EVICT:
                self._contents.evict(now)
                self._on_overdue()
                self._evict_later()
            elif name == _DISPATCH:
                for peer in tuple(self._lazy_queues):
                    self._dispatch(peer)
            else:
                self._on_graft_timer(name)
        return out

    def is_ahead(self) -> bool:
        """
        Return whether a lazy neighbour has neither received nor requested more than
        C{max_behind} contents that were announced to it, but keeps announcing or
        sending: it is slow, not gone.
        """
        heard = self._now - MAX_SILENCE
        return any(
            count > self._config.max_behind and self.lazy.get(peer, heard) > heard
            for peer, count in self._contents.behind.items()
        )

    def _begin(self, now: float) -> list[Output]:
        self._now = now
        self._out = []
        return self._out

    def _evict_later(self) -> None:
        """
        Start the timer of the next eviction, if there is something to evict: a quiet topic wakes
        nobody up.
        """
        if _EVICT not in self.timers and (self._contents or self._promises):
            self.timers.start(_EVICT, self._now + CACHE_EVICT_INTERVAL)

    # Commands and messages

    def _broadcast(self, content: bytes) -> None:
        identity = self._check(content)
        if not self.eager and not self.lazy:
            return  # nobody received it: it may be broadcast again
        self._contents.remember(identity, self._now)
        self._announce(identity, content, 0, None, ())
        message = Gossip(identity, content, 0)
        self._out += [SendMessage(peer, message) for peer in self.eager]

    def _send_to_neighbors(self, content: bytes, peer: bytes | None) -> None:
        """
        Send a content to all neighbours or to one of them, whether eager or lazy.
        """
        message = Gossip(self._check(content), content, None)
        peers = (*self.eager, *self.lazy) if peer is None else (peer,)
        if peer is not None and peer not in self.eager and peer not in self.lazy:
            raise NotNeighbor(f"{peer.hex()[:10]} is not a neighbour; nothing was sent")
        self._out += [SendMessage(each, message) for each in peers]

    def _check(self, content: bytes) -> bytes:
        """
        Return the message id of a content that may be sent.
        """
        if len(content) > self._config.max_content:
            raise ContentTooLarge(f"{len(content)} bytes; at most {self._config.max_content} can be sent")
        identity = message_id(content)
        if identity in self._contents.received:
            period = MESSAGE_ID_RETENTION
            raise DuplicateContent(
                f"the same content was broadcast or received in the last {period:g} s;"
                " make each message unique"
            )
        return identity

    def _on_gossip(self, sender: bytes, message: Gossip) -> None:
        identity, content, hops = message.message_id, message.content, message.round
        if message_id(content) != identity:
            self.counters["gossip_spoofed"] += 1
            self._promises.spoofed(sender)
            self._judge(sender)
            return
        if sender in self.lazy:
            self.lazy[sender] = self._now
        if identity in self._contents.received:
            self._contents.peer_has(sender, identity)
            self._make_lazy(sender)
            self._send(sender, Prune())
            return
        if hops is None:
            self._out.append(GossipMessage(content, "neighbors", sender, 0))
            return
        self._contents.remember(identity, self._now)
        sources = self._missing.take(identity)
        self.timers.stop(identity)
        asked = self._promises.came(identity, sender, sources)
        if hops < _MAX_ROUND:
            self._forward(sender, identity, content, hops + 1, sources)
        if sources:
            self._optimise(sender, hops + 1, sources)
        self._out.append(GossipMessage(content, "swarm", sender, hops))
        for peer in asked:
            self._ask_next(peer)

    def _forward(
        self, sender: bytes, identity: bytes, content: bytes, hops: int, sources: Container[bytes]
    ) -> None:
        large = len(content) > self._config.max_content
        if large and len(encode(Gossip(identity, content, hops))) > self._config.max_sent:
            return
        if peers := [peer for peer in self.eager if peer != sender]:
            message = Gossip(identity, content, hops)
            self._out += [SendMessage(peer, message) for peer in peers]
        self._announce(identity, content, hops, sender, sources)

    def _optimise(self, sender: bytes, hops: int, sources: dict[bytes, int]) -> None:
        """
        Switch to the path of the best announcement if it is much shorter than the path
        by which the content arrived.

        @param hops: the round with which we forward the content.
        """
        known = [peer for peer in sources if peer in self.eager or peer in self.lazy]
        if not known:
            return
        best = min(known, key=lambda peer: sources[peer])
        if hops - sources[best] < OPTIMIZATION_THRESHOLD:
            return
        if best not in self.eager:
            self._make_eager(best)
            self._send(best, Graft(None, sources[best]))
        self._make_lazy(sender)
        self._send(sender, Prune())

    def _on_graft(self, peer: bytes, identity: bytes | None) -> None:
        self._make_eager(peer)
        if identity is not None and (kept := self._contents.take_for(peer, identity)) is not None:
            self._send(peer, kept)

    def _on_ihave(self, peer: bytes, entries: tuple[tuple[bytes, int], ...]) -> None:
        if self._promises.debt(peer) >= DEBT_NEIGHBOR:
            return
        if entries and peer in self.lazy:
            self.lazy[peer] = self._now
        for identity, hops in entries:
            if identity in self._contents.received:
                self._contents.peer_has(peer, identity)
            elif not self._missing.add(identity, peer, hops):
                self._graft_immediately(identity, peer, hops)
            elif identity not in self.timers:
                self.timers.start(identity, self._now + GRAFT_TIMEOUT_1)

    def _graft_immediately(self, identity: bytes, peer: bytes, hops: int) -> None:
        if identity not in self._missing:
            self.counters["ihave_untracked"] += 1
            self._ask(peer, identity, hops)

    # Timers

    def _on_graft_timer(self, identity: bytes) -> None:
        source = self._missing.pop(identity)
        if source is None:
            return
        self._ask(source[0], identity, source[1])
        self.timers.start(identity, self._now + GRAFT_TIMEOUT_2)

    def _on_overdue(self) -> None:
        debtors = self._promises.tick()
        self.counters["contents_overdue"] += len(debtors)
        for peer in dict.fromkeys(debtors):
            self._judge(peer)
            self._ask_next(peer)

    # Requests

    def _ask(self, peer: bytes, identity: bytes, hops: int) -> None:
        """
        Ask C{peer} for a content, now or when it has answered earlier requests.
        """
        if self._promises.ask(peer, identity, hops):
            if self._promises.debt(peer) < DEBT_EAGER:
                self._make_eager(peer)
            self._send(peer, Graft(identity, hops))

    def _ask_next(self, peer: bytes) -> None:
        """
        Request the next waiting contents from C{peer} that have not arrived meanwhile: two, since each
        arrived content allows one more unanswered request.
        """
        asked = 0
        while asked < 2 and (waiting := self._promises.next_waiting(peer)) is not None:
            if waiting[0] not in self._contents.received:
                self._ask(peer, *waiting)
                asked += 1

    def _judge(self, peer: bytes) -> None:
        """
        Draw the consequences of what C{peer} owes us.
        """
        debt = self._promises.debt(peer)
        if debt >= DEBT_EAGER and peer in self.eager:
            self._make_lazy(peer)
            self._send(peer, Prune())
        if debt >= DEBT_NEIGHBOR and peer not in self.dropped:
            self.counters["neighbors_dropped"] += 1
            self.dropped.append(peer)
            self._on_peer_gone(peer)

    # Neighbours

    def _make_eager(self, peer: bytes) -> None:
        if peer in self.lazy:
            del self.lazy[peer]
            self.eager[peer] = None

    def _make_lazy(self, peer: bytes) -> None:
        if peer in self.eager:
            del self.eager[peer]
            self.lazy[peer] = self._now

    def _on_peer_gone(self, peer: bytes) -> None:
        self.eager.pop(peer, None)
        self.lazy.pop(peer, None)
        self._lazy_queues.pop(peer, None)
        self._missing.forget_peer(peer)
        self._promises.forget_peer(peer)
        self._contents.forget_peer(peer)

    def _quit(self) -> None:
        for table in (self.eager, self.lazy, self._lazy_queues, self._contents, self._missing, self.timers):
            table.clear()
        self._promises.clear()

    # Sending

    def _send(self, peer: bytes, message: Message) -> None:
        self._out.append(SendMessage(peer, message))

    def _announce(
        self, identity: bytes, content: bytes, hops: int, sender: bytes | None, sources: Container[bytes]
    ) -> None:
        """
        Announce a content to the lazy neighbours except C{sender}, and keep it for
        those that have not announced it themselves.
        """
        asking: list[bytes] = []
        for peer in self.lazy:
            if peer == sender:
                continue
            if peer not in sources:
                asking.append(peer)
            queue = self._lazy_queues.get(peer)
            if queue is None:
                queue = self._lazy_queues[peer] = []
                if _DISPATCH not in self.timers:
                    self.timers.start(_DISPATCH, self._now + DISPATCH_TIMEOUT)
            queue.append((identity, hops))
            if len(queue) >= self._config.max_ihave_entries:
                self._dispatch(peer)
        if asking:
            self._contents.keep(identity, content, hops, tuple(asking), self._now)

    def _dispatch(self, peer: bytes) -> None:
        entries = self._lazy_queues.pop(peer)
        self._send(peer, IHave(tuple(entries)))
