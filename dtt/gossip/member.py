"""
GossipMember: one topic's machine, driven over a transport.

Rules: whatever happens is handed to the L{Swarm}; its
outputs are performed in order, also those that arise while others are being
performed; one delayed call stands for all its timers.  Membership messages dial
peers that are not connected; contents and what controls their flow do so for
neighbours only (docs/protocol/gossip.md section 11, Q7: no peer is dialled again because it departed).
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from dtt.config import TimeoutsConfig
from dtt.deferreds import cancel_if_active
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
from dtt.identity import is_valid_peer_id
from dtt.interfaces import (
    GossipMessage,
    IAddressBook,
    IGossip,
    IGossipObserver,
    IPeerTransport,
    ITopicLinks,
    PeerId,
)
from dtt.wire.addresses import decode_peer_data, encode_peer_data

#: How many contents L{GossipMember.message_hashes} remembers
#: (docs/protocol/records.md section 2).
MAX_HASHES = 5

#: Dials that may run when a ShuffleReply to a stranger asks for one more: it is
#: a courtesy, and whoever sends Shuffles chooses whom we dial (guess).
MAX_COURTESY_DIALS = 8

#: Messages that go to neighbours only.
_FOR_NEIGHBORS = (Gossip, Prune, Graft, IHave)


@implementer(IGossip, ITopicLinks)
class GossipMember:
    """
    A member of one topic's swarm.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        rng: Random,
        peer_id: PeerId,
        topic_id: bytes,
        secret_hash: bytes,
        transport: IPeerTransport,
        book: IAddressBook,
        on_dialled: Callable[[PeerId], None] = lambda peer: None,
        on_failed: Callable[[PeerId, str], None] = lambda peer, reason: None,
        config: GossipConfig | None = None,
        timeouts: TimeoutsConfig | None = None,
    ) -> None:
        """
        @param peer_id: who we are: the transport's key.
        @param secret_hash: the initial secret hash, 32 bytes.
        @param on_dialled: told when a dial of ours has succeeded.
        @param on_failed: told, with a reason, when a peer could not be reached.
        @param config: the numbers of the protocol.
        @param timeouts: how long operations may take.
        """
        self._reactor = reactor
        self._topic_id = topic_id
        self._secret_hash = secret_hash
        self._transport = transport
        self._book = book
        self._on_dialled = on_dialled
        self._on_failed = on_failed
        self._config = config or GossipConfig()
        self._max_message_size = self._config.max_message_size
        self._timeouts = timeouts or TimeoutsConfig()
        self._swarm = Swarm(peer_id, rng, is_valid_peer_id, None, self._config)
        self._outbox = Outbox(
            reactor,
            topic_id,
            transport,
            book,
            self._timeouts.join_peer,
            lambda peer: self._feed(DialStarted(peer)),
            self._dial_succeeded,
            self._dial_failed,
        )
        # Neither of them before the start.
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
        self._joining: dict[Deferred[None], None] = {}
        self._pacing: dict[Deferred[None], None] = {}
        self._waiting: dict[Deferred[None], None] = {}
        self._leaving: list[Deferred[None]] = []

    # Lifecycle

    def start(self) -> None:
        """
        Take part in the topic.

        @raise ValueError: the topic is open on the transport already, or this
            member was started before.
        """
        if self._running or self._over:
            raise UsageError("a member is started once")
        self._transport.open_topic(self._topic_id, self._secret_hash, self)
        self._running = True
        self.update_addresses()
        self._feed(JoinPeers(()))

    def leave(self) -> Deferred[None]:
        """
        As L{IGossip.leave}.  May be called at any time and again.
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
            self._left()
            result.callback(None)
        return result

    def update_addresses(self) -> None:
        """
        The transport's addresses may have changed: tell peers from now on.
        """
        if self._running:
            data = encode_peer_data(self._transport.addresses())
            if data != self._data:
                self._data = data
                self._feed(UpdateData(data))

    # IGossip

    def join(self, peers: Sequence[PeerId]) -> None:
        """
        As L{IGossip.join}.  Ourselves, neighbours and ids that can't be
        anybody's are left out.  A peer that has not opened the topic yet does
        not answer, so join again until joined (docs/protocol/gossip.md Q12).

        @raise TopicLeft: after L{leave}.
        @raise UsageError: before L{start}.
        """
        self._check_running()
        self._feed(JoinPeers(tuple(peers)))

    def broadcast(self, content: bytes) -> Deferred[None]:
        """
        As L{IGossip.broadcast}.  The Deferred fires after C{timeouts.broadcast}
        in any case: the content is on its way then, and a neighbour that reads
        so slowly is the transport's business.  When all neighbours have pruned
        us it waits until one asks for contents again: they take note of so many
        announcements only.  It waits as well while a neighbour that has pruned
        us and still announces contents is behind by more than
        C{config.max_behind}: what it asks for must still be there.
        """
        return self._broadcast(content, False, self._timeouts.broadcast)

    def broadcast_neighbors(self, content: bytes) -> Deferred[None]:
        """
        As L{IGossip.broadcast_neighbors}.  The swarm remembers such contents
        not as received, so the same one may be sent to neighbours again.
        """
        return self._broadcast(content, True, self._timeouts.broadcast_neighbors)

    def neighbors(self) -> tuple[PeerId, ...]:
        """
        As L{IGossip.neighbors}; the oldest first.
        """
        return tuple(self._neighbors)

    def message_hashes(self) -> tuple[bytes, ...]:
        """
        As L{IGossip.message_hashes}.
        """
        return tuple(hashlib.sha512(content).digest()[:32] for content in self._contents)

    def when_joined(self) -> Deferred[None]:
        """
        As L{IGossip.when_joined}.
        """
        if self._over:
            return fail(TopicLeft("the topic was left"))
        if self._neighbors:
            return succeed(None)
        result: Deferred[None] = Deferred(lambda result: self._joining.pop(result, None))
        self._joining[result] = None
        return result

    def subscribe(self, observer: IGossipObserver) -> Callable[[], None]:
        """
        As L{IGossip.subscribe}.

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
        As L{ITopicLinks.messages_received}.
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
        As L{ITopicLinks.peer_connected}.
        """
        self._feed(PeerConnected(peer_id))
        if self._running:
            self._outbox.connected(peer_id)

    def peer_disconnected(self, peer_id: PeerId) -> None:
        """
        As L{ITopicLinks.peer_disconnected}.
        """
        self._feed(PeerDisconnected(peer_id))

    # The machine

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
                # The first two come by the thousand: to bind what is in them here takes longer.
                match output:
                    case SendMessage():
                        self._send(output.peer, output.message)
                    case GossipMessage():
                        self._heard(output)
                    case DisconnectPeer(peer=peer):
                        self._outbox.disconnect(peer)
                    case NeighborUp(peer=peer):
                        self._neighbor_up(peer)
                    case NeighborDown(peer=peer):
                        self._neighbor_down(peer)
                    case PeerDataLearned(peer=peer, data=data):
                        self._learn(peer, data)
                    case None:
                        self._left()
            except Exception:
                self._log.failure("{output} could not be performed", output=type(output).__name__)
        self._performing = False
        # A call that stands too early stays: it finds nothing to do and arms the next.
        when = self._swarm.next_timer() if self._running else None
        if when is None or when < self._timer_at or self._timer is None:
            self._arm(when)
        if self._waiting and not self._swarm.needs_backpressure():
            waiting, self._waiting = self._waiting, {}
            _fire_all(waiting)

    def _send(self, peer: PeerId, message: Message) -> None:
        # One message goes to many peers in a row.
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

    def _arm(self, when: float | None) -> None:
        """
        See to it that the machine is called at the time that it wants.
        """
        cancel_if_active(self._timer)
        self._timer = None
        if when is not None:
            self._timer_at = when
            self._timer = self._reactor.callLater(max(0.0, when - self._reactor.seconds()), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        # The call may come a rounding error too early; the machine would only
        # ask for another one, of no length.
        now = max(self._reactor.seconds(), self._timer_at)
        self._perform(self._swarm.handle_timer(now))

    # SharedServices of outputs

    def _neighbor_up(self, peer: PeerId) -> None:
        self._neighbors[peer] = None
        self._observers.tell(lambda observer: observer.neighbor_up(peer))
        self._fire_joined()

    def _neighbor_down(self, peer: PeerId) -> None:
        self._neighbors.pop(peer, None)
        self._observers.tell(lambda observer: observer.neighbor_down(peer))

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
            # The message around it is good (docs/protocol/gossip.md section 3).
            return
        if addresses:
            self._book.learn(peer, addresses, "peer data")

    def _heard(self, message: GossipMessage) -> None:
        contents = self._contents
        if message.content in contents:
            contents.remove(message.content)
        contents.append(message.content)
        del contents[:-MAX_HASHES]
        self._observers.tell(lambda observer: observer.message_received(message))

    def _broadcast(self, content: bytes, neighbors_only: bool, timeout: float) -> Deferred[None]:
        self._check_running()
        self._feed(Broadcast(content, neighbors_only))
        if neighbors_only or not self._swarm.needs_backpressure():
            written = self._transport.when_writable(self._swarm.eager_peers())
        else:
            written = Deferred(lambda written: self._waiting.pop(written, None))
            self._waiting[written] = None
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
            raise UsageError("the topic has not started yet: wait for when_joined()")

    def _left(self) -> None:
        """
        All goodbyes are out.
        """
        self._outbox.stop()
        self._neighbors.clear()
        if self._leaving:
            self._transport.close_topic(self._topic_id)
        self._arm(None)
        for written in tuple(self._pacing):
            written.cancel()
        joining, self._joining = self._joining, {}
        for result in joining:
            # The errback of one may have cancelled another.
            if not result.called:
                result.errback(TopicLeft("the topic was left"))
        leaving, self._leaving = self._leaving, []
        _fire_all(leaving)

    def _fire_joined(self) -> None:
        joining, self._joining = self._joining, {}
        _fire_all(joining)


def _fire_all(results: Iterable[Deferred[None]]) -> None:
    for result in results:
        # The callback of one may have cancelled another.
        if not result.called:
            result.callback(None)
