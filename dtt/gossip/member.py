"""
GossipMember: the state machine of one topic, driven over a transport.

Rules: every event is passed to the L{Swarm}.  Its outputs are performed in order,
including those produced while others are being performed; one delayed call serves all
its timers.  Membership messages dial peers that are not connected; contents and flow
control messages do so for neighbours only (docs/protocol/gossip.md section 11, Q7: a
peer is not dialled again because it departed).
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from dtt.deferreds import Waiters, cancel_if_active
from dtt.errors import DecodeError, TopicLeft, UsageError
from dtt.gossip.observers import Observers
from dtt.gossip.outbox import MAX_DIALS, Outbox
from dtt.gossip.proto.config import GossipConfig
from dtt.gossip.proto.events import (
    Broadcast,
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
from dtt.gossip.proto.messages import Gossip, Graft, IHave, Message, Prune, ShuffleReply, decode, encode
from dtt.gossip.proto.swarm import Swarm
from dtt.gossip.services import GossipServices
from dtt.identity import is_valid_peer_id
from dtt.interfaces import GossipMessage, IGossip, IGossipObserver, ITopicLinks, PeerId
from dtt.wire.addresses import decode_peer_data, encode_peer_data

#: Number of contents that L{GossipMember.message_hashes} covers (docs/protocol/records.md section
#: 2).
MAX_HASHES = 5

#: A ShuffleReply to an unconnected peer dials only while fewer dials than this are in progress: the
#: reply is optional, and the sender of a Shuffle chooses whom we dial (guess).
MAX_COURTESY_DIALS = 8

#: Messages that are sent to neighbours only.
_FOR_NEIGHBORS = (Gossip, Prune, Graft, IHave)


@implementer(IGossip, ITopicLinks)
class GossipMember:
    """
    A member of one topic's swarm.
    """

    _log = Logger()

    def __init__(
        self,
        services: GossipServices,
        topic_id: bytes,
        secret_hash: bytes,
        on_dialled: Callable[[PeerId], None] = lambda peer: None,
        on_failed: Callable[[PeerId, str], None] = lambda peer, reason: None,
        config: GossipConfig | None = None,
    ) -> None:
        """
        @param services: shared with the members of other topics.
        @param topic_id: 32 bytes.
        @param secret_hash: the initial secret hash (32 bytes).
        @param on_dialled: called when one of our dials has succeeded.
        @param on_failed: called with a reason when a peer could not be reached.
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
        self._max_message_size = self._config.max_message_size
        self._swarm = Swarm(services.peer_id, services.rng, is_valid_peer_id, None, self._config)
        self._outbox = Outbox(
            services,
            topic_id,
            lambda peer: self._feed(DialStarted(peer)),
            self._dial_succeeded,
            self._dial_failed,
        )
        # Both are false before L{start}.
        self._running = self._over = False
        self._data: bytes | None = None
        self._todo: deque[Output | None] = deque()
        self._performing = False
        self._timer: IDelayedCall | None = None
        self._timer_at = 0.0
        self._encoded: tuple[Message | None, bytes] = (None, b"")
        self._neighbors: dict[PeerId, None] = {}
        self._contents: list[bytes] = []
        self._observers = Observers()
        self._joining: Waiters[None] = Waiters()
        self._pacing: dict[Deferred[None], None] = {}
        self._held_back: Waiters[None] = Waiters()
        self._leaving: list[Deferred[None]] = []

    # Lifecycle

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

    def leave(self) -> Deferred[None]:
        """
        Say goodbye to all neighbours and close the topic.  May be called at any time,
        also again.

        @return: fires when the goodbyes have been handed to the transport.
        """
        result: Deferred[None] = Deferred()
        if self._running:
            self._running, self._over = False, True
            self._leaving.append(result)
            self._observers.clear()
            outputs = self._swarm.handle(Quit(), self._reactor.seconds())
            self._perform([*outputs, None])
        elif self._leaving:
            self._leaving.append(result)
        else:
            self._over = True
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
        self._feed(JoinPeers(tuple(peers)))

    def broadcast(self, content: bytes) -> Deferred[None]:
        """
        Send C{content} to the whole swarm.

        @return: fires when the eager neighbours are writable, and after
            C{timeouts.broadcast} in any case: the content has been sent by then, and
            the transport deals with a neighbour that reads too slowly.  When all
            neighbours have pruned us, it waits until one requests contents again,
            because neighbours track a limited number of announcements.  It also waits
            while a neighbour that has pruned us, and that still announces contents, is
            behind by more than C{config.max_behind}: the contents that it requests must
            still be available.
        @raise ContentTooLarge: C{content} has more than 4055 bytes (with the default
            configuration).
        @raise DuplicateContent: the same content was broadcast or received within 90 s.
        @raise TopicLeft: after L{leave}.
        @raise UsageError: before L{start}.
        """
        return self._broadcast(content, False, self._timeouts.broadcast)

    def broadcast_neighbors(self, content: bytes) -> Deferred[None]:
        """
        Send C{content} to neighbours only.  The swarm does not record such contents as
        received, so the same content may be sent to neighbours again.
        """
        return self._broadcast(content, True, self._timeouts.broadcast_neighbors)

    def neighbors(self) -> tuple[PeerId, ...]:
        """
        Return the active view, the oldest neighbour first.
        """
        return tuple(self._neighbors)

    def message_hashes(self) -> tuple[bytes, ...]:
        """
        Return SHA-512[:32] of the last 5 distinct contents received, the oldest first.
        """
        return tuple(hashlib.sha512(content).digest()[:32] for content in self._contents)

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

    def subscribe(self, observer: IGossipObserver) -> Callable[[], None]:
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
                if len(message) > self._max_message_size:
                    raise DecodeError("message too large")
                outputs += self._swarm.receive(peer_id, decode(message), now)
        finally:
            self._perform(outputs)

    def peer_connected(self, peer_id: PeerId) -> None:
        """
        Inform the state machine, and send what waits for the peer.
        """
        self._feed(PeerConnected(peer_id))
        if self._running:
            self._outbox.connected(peer_id)

    def peer_disconnected(self, peer_id: PeerId) -> None:
        """
        Inform the state machine.
        """
        self._feed(PeerDisconnected(peer_id))

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
        self._neighbors[peer] = None
        self._observers.notify(lambda observer: observer.neighbor_up(peer))
        self._joining.fire(None)

    def _neighbor_down(self, peer: PeerId) -> None:
        self._neighbors.pop(peer, None)
        self._observers.notify(lambda observer: observer.neighbor_down(peer))

    def _dial_succeeded(self, peer: PeerId) -> None:
        self._feed(PeerConnected(peer))
        self._observers.guard(self._on_dialled, peer)

    def _dial_failed(self, peer: PeerId, reason: str) -> None:
        self._observers.guard(self._on_failed, peer, reason)
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
        contents = self._contents
        if message.content in contents:
            contents.remove(message.content)
        contents.append(message.content)
        del contents[:-MAX_HASHES]
        self._observers.notify(lambda observer: observer.message_received(message))

    def _broadcast(self, content: bytes, neighbors_only: bool, timeout: float) -> Deferred[None]:
        self._check_running()
        self._feed(Broadcast(content, neighbors_only))
        if neighbors_only or not self._swarm.needs_backpressure():
            written = self._transport.when_writable(self._swarm.eager_peers())
        else:
            written = self._held_back.wait()
            written.addCallback(lambda _: self._transport.when_writable(self._swarm.eager_peers()))
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
        leaving, self._leaving = self._leaving, []
        for result in leaving:
            # An earlier callback may have cancelled this one.
            if not result.called:
                result.callback(None)
