"""
GossipMember: the state machine of one topic, driven over a transport.

Rules: every event is passed to the L{Swarm}.  Its outputs are performed in order,
including those produced while others are being performed; one delayed call serves all
its timers.  Membership messages dial peers that are not connected; contents and flow
control messages do so for neighbours only (docs/protocol/gossip.md section 11, Q7: a
peer is not dialled again because it departed).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from dtt.arguments import check_bytes, check_id
from dtt.deferreds import Waiters, cancel_if_active
from dtt.errors import DecodeError, TopicLeft, UsageError
from dtt.gossip.acceptance import Acceptance, named_in
from dtt.gossip.comparisons import Comparisons
from dtt.gossip.deliveries import Deliveries
from dtt.gossip.observers import Observers
from dtt.gossip.outbox import MAX_DIALS, Outbox
from dtt.gossip.proto.config import GossipConfig
from dtt.gossip.proto.events import (
    Broadcast,
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
from dtt.gossip.proto.messages import Gossip, Graft, IHave, Message, Prune, ShuffleReply, decode, encode
from dtt.gossip.proto.swarm import Swarm
from dtt.gossip.seen import SeenMessages
from dtt.gossip.services import GossipServices
from dtt.identity import is_valid_peer_id
from dtt.interfaces import GossipMessage, GossipObserver, IGossip, ITopicLinks, PeerId
from dtt.wire.addresses import Address, decode_peer_data, encode_peer_data

#: A ShuffleReply to an unconnected peer dials only while fewer dials than this are in progress: the
#: reply is optional, and the sender of a Shuffle chooses whom we dial (guess).
MAX_COURTESY_DIALS = 8

#: Peers that are joined if they connect to us later, while we have no neighbour (guess: more than are
#: found in one slot).
MAX_MISSED = 64

#: Messages that are sent to neighbours only.
_FOR_NEIGHBORS = (Gossip, Prune, Graft, IHave)


@implementer(IGossip, ITopicLinks)
class GossipMember:
    """
    A member of one topic's swarm.

    @ivar counters: what was dropped or may be lost, by reason: those of L{Outbox};
        C{broadcast_unheard}: contents broadcast without a neighbour; C{peers_refused}:
        peers that the application has refused; C{links_broken}:
        connections to neighbours that broke; C{unconfirmed}: contents sent on these
        after the neighbour was last heard from.
    """

    _log = Logger()

    def __init__(
        self,
        services: GossipServices,
        topic_id: bytes,
        secret_hash: bytes,
        on_dialled: Callable[[PeerId], None] = lambda peer: None,
        on_failed: Callable[[PeerId, str, Sequence[Address]], None] = lambda peer, reason, tried: None,
        config: GossipConfig | None = None,
    ) -> None:
        """
        @param services: shared with the members of other topics.
        @param topic_id: 32 bytes.
        @param secret_hash: the initial secret hash (32 bytes).
        @param on_dialled: called when one of our dials has succeeded.
        @param on_failed: called with a reason when a peer could not be reached, and with
            the addresses that were dialled.
        @param config: the protocol parameters.
        """
        self._reactor = services.reactor
        self._transport = services.transport
        self._book = services.book
        self._timeouts = services.timeouts
        self._topic_id = topic_id
        self._secret_hash = secret_hash
        self._on_dialled = on_dialled
        self._on_failed = on_failed
        self._config = config or GossipConfig()
        self._swarm = Swarm(services.peer_id, services.rng, self._is_usable, None, self._config)
        self._outbox = Outbox(
            services,
            topic_id,
            lambda peer: self._feed(DialStarted(peer)),
            self._dial_succeeded,
            self._dial_failed,
        )
        self.counters = self._outbox.counters
        self._acceptance: Acceptance | None = None
        self._budget = services.budget
        self._deliveries = Deliveries()
        self._unheard = False
        # Both are false before L{start}.
        self._running = self._over = False
        self._data: bytes | None = None
        self._todo: deque[Output | None] = deque()
        self._performing = False
        self._timer: IDelayedCall | None = None
        self._timer_at = 0.0
        self._encoded: tuple[Message | None, bytes] = (None, b"")
        self._neighbors: dict[PeerId, None] = {}
        # The peers that could not be reached since there was a neighbour, the latest last: behind
        # NATs the dial may have ended before the other side began.
        self._missed: dict[PeerId, None] = {}
        self._seen = SeenMessages()
        self._comparisons = Comparisons(services.reactor)
        self._observers = Observers()
        self._joining: Waiters[None] = Waiters()
        self._pacing: dict[Deferred[None], None] = {}
        self._held_back: Waiters[None] = Waiters()
        self._leaving: list[Deferred[None]] = []

    # Lifecycle

    def accept_only(self, accept: Callable[[PeerId], bool]) -> None:
        """
        Let C{accept} decide which peers may be neighbours; call this before L{start}.
        """
        self._acceptance = Acceptance(self._reactor, accept, self.counters)

    def start(self) -> None:
        """
        Open the topic and start the protocol.

        @raise ValueError: the topic is already open on the transport, or this member
            was started before.
        """
        if self._running or self._over:
            raise UsageError("this member was already started: create a new one")
        self._transport.open_topic(self._topic_id, self._secret_hash, self)
        self._running = True
        self.update_addresses()
        self._feed(JoinPeers(()))
        self._budget.add(self)

    def leave(self) -> Deferred[None]:
        """
        Disconnect from all neighbours and close the topic.  May be called at any time, also again.

        @return: fires when the goodbyes have been passed to the transport.
        """
        result: Deferred[None] = Deferred()
        self._budget.remove(self)
        if self._running:
            self._running, self._over = False, True
            self._leaving.append(result)
            self._observers.end()
            outputs = self._swarm.handle(Quit(), self._reactor.seconds())
            self._perform([*outputs, None])
        elif self._leaving:
            self._leaving.append(result)
        else:
            if not self._over:
                self._over = True
                self._observers.end()
            self._finish_leave()
            result.callback(None)
        return result

    def update_addresses(self) -> None:
        """
        Include the transport's current addresses in messages from now on.
        """
        if self._running:
            data = encode_peer_data(self._transport.addresses())
            if data != self._data:
                self._data = data
                self._feed(UpdateData(data))

    # IGossip

    def join(self, peers: Sequence[PeerId]) -> None:
        """
        Send a Join to each of C{peers}.  Our own id, neighbours and invalid ids are
        skipped.  A peer that has not opened the topic yet does not answer, so call this
        again until joined (docs/protocol/gossip.md Q12).

        @raise TopicLeft: after L{leave}.
        @raise UsageError: before L{start}.
        """
        self._check_running()
        if self._acceptance is not None:
            self._acceptance.ask(peer for peer in peers if peer not in self._neighbors)
        self._feed(JoinPeers(tuple(peers)))

    def broadcast(self, content: bytes) -> Deferred[int]:
        """
        Send C{content} to the whole swarm.  Without a neighbour it reaches nobody, and is
        not remembered: it may be broadcast again.

        @return: fires with the number of neighbours to which it was sent or announced,
            when the eager neighbours are writable, and after C{timeouts.broadcast} in any
            case: the content has been sent by then, and the transport deals with a
            neighbour that reads too slowly.  When all neighbours have pruned us, it waits
            until one requests contents again, because neighbours track a limited number of
            announcements.  It also waits while a neighbour that has pruned us, and that
            still announces contents, is behind by more than C{config.max_behind}: the
            contents that it requests must still be available.
        @raise WrongType: C{content} is not C{bytes}.
        @raise ContentTooLarge: C{content} has more than 4055 bytes (with the default
            configuration).
        @raise DuplicateContent: the same content was broadcast or received within 90 s.
        @raise TopicLeft: after L{leave}.
        @raise UsageError: before L{start}.
        """
        reached = self._send_content(Broadcast(content))
        if reached:
            self._seen.add_sent(content, self._reactor.seconds())
        if not self._swarm.needs_backpressure():
            written = self._transport.when_writable(self._swarm.eager_peers())
        else:
            written = self._held_back.wait()
            written.addCallback(lambda _: self._transport.when_writable(self._swarm.eager_peers()))
        if written.called:
            return succeed(reached)
        return self._paced(written, self._timeouts.broadcast).addCallback(lambda _: reached)

    def broadcast_neighbors(self, content: bytes) -> Deferred[int]:
        """
        Send C{content} to all neighbours only.  The swarm does not record such contents as
        received, so the same content may be sent to neighbours again.
        """
        neighbors = self._swarm.neighbors()
        reached = self._send_content(Broadcast(content, True))
        written = self._transport.when_writable(neighbors)
        return self._paced(written, self._timeouts.broadcast_neighbors).addCallback(lambda _: reached)

    def send(self, peer_id: PeerId, content: bytes) -> Deferred[None]:
        """
        Send C{content} to one neighbour.

        @return: fires when the neighbour is writable, and after
            C{timeouts.broadcast_neighbors} in any case.
        @raise NotNeighbor: C{peer_id} is not a neighbour.
        """
        check_id("peer_id", peer_id)
        self._send_content(Broadcast(content, True, peer_id))
        return self._paced(self._transport.when_writable((peer_id,)), self._timeouts.broadcast_neighbors)

    def neighbors(self) -> tuple[PeerId, ...]:
        """
        Return the active view, the oldest neighbour first.
        """
        return tuple(self._neighbors)

    def drops(self) -> dict[str, int]:
        """
        Return how many messages were dropped, may be lost or reached nobody, by
        reason: L{counters}, and those of the protocol.
        """
        return dict(self.counters + self._swarm.counters)

    def known_peers(self) -> int:
        """
        Return how many other peers are known (the size of the passive view).
        """
        return len(self._swarm.known_peers())

    def limit_neighbors(self, capacity: int) -> None:
        """
        Have at most C{capacity} neighbours from now on, at least 1.
        """
        self._feed(LimitNeighbors(capacity))

    def message_hashes(self) -> tuple[bytes, ...]:
        """
        Return SHA-512[:32] of the last 5 distinct contents that were sent to the swarm
        and received in the last 120 s, the oldest first.
        """
        return self._seen.listed(self._reactor.seconds())

    def messages_known_since(self) -> float | None:
        """
        Return the unix seconds since which all messages of our part of the swarm are
        known; C{None} if there has been none since we joined.
        """
        return self._seen.complete_since()

    def are_foreign(self, hashes: Sequence[bytes], minute: int) -> bool:
        """
        Return whether a record of a minute that lists C{hashes} shows that its
        publisher is in another part of the swarm.
        """
        return self._seen.are_foreign(hashes, minute, self._reactor.seconds())

    def is_of_our_part(self, peer_id: PeerId) -> bool:
        """
        Return whether C{peer_id} is known to be in our part of the swarm: a neighbour, or
        heard of through one in the last minutes.
        """
        return self._swarm.is_of_our_part(peer_id, self._reactor.seconds())

    def knows_most(self) -> bool:
        """
        Return whether most members of our part of the swarm are known.
        """
        return self._swarm.knows_most(self._reactor.seconds())

    def compare(self, peer_id: PeerId) -> Deferred[tuple[PeerId, ...] | None]:
        """
        Ask a member for other members of its partition of the swarm.

        @return: fires with their ids, or with C{None} if it can't be reached or does not answer in time.
        @raise TopicLeft: after L{leave}.
        @raise UsageError: before L{start}.
        """
        self._check_running()
        answer = self._comparisons.wait(peer_id)
        self._feed(ComparePeer(peer_id))
        return answer

    def when_joined(self) -> Deferred[None]:
        """
        Return a Deferred that fires once there is a neighbour; it fails with
        L{TopicLeft}.
        """
        if self._over:
            return fail(TopicLeft("the topic was left"))
        if self._neighbors:
            return succeed(None)
        return self._joining.wait()

    def subscribe(self, observer: GossipObserver) -> Callable[[], None]:
        """
        Notify C{observer} of events from now on, starting with the current neighbours.

        @return: a function that ends the subscription.
        @raise TopicLeft: after L{leave}.
        """
        if self._over:
            raise TopicLeft("the topic was left")
        end = self._observers.add(observer)
        for peer in tuple(self._neighbors):
            self._observers.guard(observer.neighbor_up, peer)
        return end

    # ITopicLinks

    def messages_received(self, peer_id: PeerId, messages: Sequence[bytes]) -> None:
        """
        Decode and handle messages; raises L{DecodeError} for a malformed one, after
        those before it.
        """
        if not self._running:
            return
        now = self._reactor.seconds()
        outputs: list[Output] = []
        try:
            for message in messages:
                if len(message) > self._config.max_message_size:
                    raise DecodeError("message too large")
                decoded = decode(message)
                if self._acceptance is not None and not self._accepts(peer_id, decoded):
                    break
                outputs += self._swarm.receive(peer_id, decoded, now)
        finally:
            self._perform(outputs)

    def peer_connected(self, peer_id: PeerId) -> None:
        """
        Inform the state machine, and send what waits for the peer.
        """
        if self._acceptance is not None and not self._accepts(peer_id):
            return
        self._feed(PeerConnected(peer_id))
        if self._running:
            self._outbox.connected(peer_id)
            if peer_id in self._missed and not self._neighbors:
                self._feed(JoinPeers((peer_id,)))

    def peer_disconnected(self, peer_id: PeerId) -> None:
        """
        Inform the state machine.
        """
        self._feed(PeerDisconnected(peer_id))

    def link_broken(self, peer_id: PeerId, heard: float, reason: str) -> None:
        """
        Count messages that may be lost, and notify the observers; if the peer is not a neighbour yet, report
        that it was not reached.
        """
        if peer_id not in self._neighbors:
            if self._running:
                self._observers.guard(self._on_failed, peer_id, reason, ())
            return
        unconfirmed = self._deliveries.unconfirmed(peer_id, heard)
        self._deliveries.forget(peer_id)
        self.counters["links_broken"] += 1
        self.counters["unconfirmed"] += unconfirmed
        self._observers.notify_optional("link_broken", peer_id, reason, unconfirmed)

    # Acceptance

    def _is_usable(self, peer: PeerId) -> bool:
        return is_valid_peer_id(peer) if self._acceptance is None else self._acceptance.is_usable(peer)

    def _accepts(self, peer: PeerId, message: Message | None = None) -> bool:
        """
        Return whether a peer that is connected is accepted; if not, drop it.  Ask about
        the peers that its message names.
        """
        acceptance = self._acceptance
        assert acceptance is not None
        if peer not in self._neighbors:
            acceptance.ask((peer,))
            if acceptance.is_refused(peer):
                self._feed(PeerRejected(peer, remember=False))
                return False
        if message is not None:
            acceptance.ask(each for each in named_in(message) if each not in self._neighbors)
        return True

    # The state machine

    def _feed(self, event: Input) -> None:
        if self._running:
            self._perform(self._swarm.handle(event, self._reactor.seconds()))

    def _perform(self, outputs: Sequence[Output | None]) -> None:
        todo = self._todo
        todo.extend(outputs)
        if self._performing:
            return
        self._performing = True
        while todo:
            output = todo.popleft()
            try:
                # The first two are very frequent; binding their attributes in the pattern would be
                # slower.
                match output:
                    case SendMessage():
                        self._send(output.peer, output.message)
                    case GossipMessage():
                        self._content_received(output)
                    case DisconnectPeer(peer=peer):
                        self._outbox.disconnect(peer)
                    case NeighborUp(peer=peer):
                        self._neighbor_up(peer)
                    case NeighborDown(peer=peer):
                        self._neighbor_down(peer)
                    case PeerDataLearned(peer=peer, data=data):
                        self._learn(peer, data)
                    case PeerCompared(peer=peer, peers=peers):
                        self._comparisons.answered(peer, peers)
                    case None:
                        self._finish_leave()
            except Exception:
                self._log.failure("unexpected error while performing {output}", output=type(output).__name__)
        self._performing = False
        # A delayed call that is too early is kept: it finds nothing due and schedules the next.
        when = self._swarm.next_timer() if self._running else None
        if when is None or when < self._timer_at or self._timer is None:
            self._schedule_timer(when)
        if self._held_back and not self._swarm.needs_backpressure():
            self._held_back.fire(None)

    def _send(self, peer: PeerId, message: Message) -> None:
        # The same message is usually sent to several peers in a row: encode it once.
        if self._encoded[0] is not message:
            self._encoded = (message, encode(message))
        if self._outbox.send_connected(peer, self._encoded[1]):
            if isinstance(message, Gossip):
                self._deliveries.sent(peer, self._reactor.seconds())
            return
        max_dials = MAX_DIALS
        if not self._running:
            max_dials = 0
        elif isinstance(message, ShuffleReply):
            max_dials = MAX_COURTESY_DIALS
        elif isinstance(message, _FOR_NEIGHBORS) and not self._swarm.is_neighbor(peer):
            max_dials = 0
        self._outbox.send(peer, self._encoded[1], max_dials)

    def _schedule_timer(self, when: float | None) -> None:
        """
        Schedule the delayed call for time C{when}, in seconds; C{None} cancels it.
        """
        cancel_if_active(self._timer)
        self._timer = None
        if when is not None:
            self._timer_at = when
            self._timer = self._reactor.callLater(max(0.0, when - self._reactor.seconds()), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        # The delayed call may be early by a rounding error; the machine would then only request
        # another call without delay.
        now = max(self._reactor.seconds(), self._timer_at)
        self._perform(self._swarm.handle_timer(now))

    # Performing outputs

    def _neighbor_up(self, peer: PeerId) -> None:
        if not self._neighbors:
            self._seen.joined()
        self._neighbors[peer] = None
        self._missed.clear()
        self._unheard = False
        self._budget.changed()
        self._observers.notify(lambda observer: observer.neighbor_up(peer))
        self._joining.fire(None)

    def _neighbor_down(self, peer: PeerId) -> None:
        self._neighbors.pop(peer, None)
        self._deliveries.forget(peer)
        self._budget.changed()
        self._observers.notify(lambda observer: observer.neighbor_down(peer))

    def _dial_succeeded(self, peer: PeerId) -> None:
        self._feed(PeerConnected(peer))
        self._observers.guard(self._on_dialled, peer)

    def _dial_failed(self, peer: PeerId, reason: str, no_room: bool, tried: Sequence[Address]) -> None:
        self._observers.guard(self._on_failed, peer, reason, tried)
        self._comparisons.failed(peer)
        if no_room:
            # The peer stays known, and the next one would not be dialled either.  The request
            # times out.
            self._budget.changed()
        else:
            if not self._neighbors:
                self._missed[peer] = None
                if len(self._missed) > MAX_MISSED:
                    del self._missed[next(iter(self._missed))]
            self._feed(PeerDisconnected(peer))

    def _learn(self, peer: PeerId, data: bytes) -> None:
        try:
            addresses = decode_peer_data(data)
        except DecodeError:
            # Only the PeerData is ignored; the message is valid (docs/protocol/gossip.md section
            # 3).
            return
        if addresses:
            self._book.learn(peer, addresses, "peer data")

    def _content_received(self, message: GossipMessage) -> None:
        if message.scope == "swarm":
            self._seen.add_received(message.content, self._reactor.seconds())
        self._observers.notify(lambda observer: observer.message_received(message))

    def _send_content(self, broadcast: Broadcast) -> int:
        """
        Send or announce a content; return the number of neighbours that there are.
        """
        check_bytes("content", broadcast.content)
        self._check_running()
        reached = len(self._swarm.neighbors())
        self._feed(broadcast)
        if not reached:
            self.counters["broadcast_unheard"] += 1
            if not self._unheard:
                self._unheard = True
                self._observers.notify_optional("broadcast_unheard")
        return reached

    def _paced(self, written: Deferred[None], timeout: float) -> Deferred[None]:
        """
        Limit the time for which a sender waits.
        """
        if written.called:
            return written
        written.addTimeout(timeout, self._reactor)
        self._pacing[written] = None

        def over(result: Any) -> Any:
            self._pacing.pop(written, None)
            if isinstance(result, Failure) and (
                result.check(DeferredTimeoutError) or (self._over and result.check(CancelledError))
            ):
                return None
            return result

        return written.addBoth(over)

    def _check_running(self) -> None:
        if self._over:
            raise TopicLeft("the topic was left")
        if not self._running:
            raise UsageError("the topic has not been started yet: wait for when_joined()")

    def _finish_leave(self) -> None:
        """
        Close the topic after all goodbyes have been sent, and end everything that
        waits.
        """
        self._outbox.stop()
        self._neighbors.clear()
        if self._leaving:
            self._transport.close_topic(self._topic_id)
        self._schedule_timer(None)
        for written in tuple(self._pacing):
            written.cancel()
        self._joining.fire(Failure(TopicLeft("the topic was left")))
        self._comparisons.stop()
        leaving, self._leaving = self._leaving, []
        for result in leaving:
            # An earlier callback may have cancelled this one.
            if not result.called:
                result.callback(None)
