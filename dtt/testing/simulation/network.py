"""
A network of gossip state machines without transports, under a virtual clock.

L{GossipNetwork} drives L{dtt.gossip.proto.swarm.Swarm}s. Messages are encoded, take the
latency of their link and may be lost. Peers that are not connected are dialled. Peers can
vanish, noticed immediately or later. The simulation is deterministic for a given random
generator. L{dtt.testing.simulation.broadcasts} measures broadcasts on it.

Example::

    network = GossipNetwork(Random(1))
    for peer in peers:
        network.add(peer)
    network.command(peers[1], JoinPeers((peers[0],)))
    network.advance(1.0)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from heapq import heappop, heappush
from random import Random
from typing import TypeAlias

from attrs import define, field

from dtt.gossip.proto.config import GossipConfig
from dtt.gossip.proto.events import (
    DialStarted,
    DisconnectPeer,
    Input,
    NeighborDown,
    NeighborUp,
    Output,
    PeerConnected,
    PeerDisconnected,
    Quit,
    SendMessage,
)
from dtt.gossip.proto.messages import Gossip, Graft, IHave, Message, Prune, decode, encode
from dtt.gossip.proto.swarm import Swarm
from dtt.testing.components import components
from dtt.wire.values import GossipMessage

#: One-way latency in seconds: the same for all links, or a function that draws one for each link.
Latency: TypeAlias = float | Callable[[Random], float]

#: The duration of a dial in latencies of its link (docs/protocol/streams.md section 4), and seconds
#: until a dial of an absent peer fails (guess: some retries of TCP).
DIAL_LATENCIES, DIAL_TIMEOUT = 4, 5.0


def uniform(shortest: float, longest: float) -> Latency:
    """
    A L{Latency} drawn uniformly between two bounds, in seconds.
    """
    return lambda rng: rng.uniform(shortest, longest)


@define(slots=True, eq=False)
class GossipNode:
    """
    One machine on a L{GossipNetwork}.

    @ivar peer_id: its peer id, 32 bytes.
    @ivar swarm: the state machine.
    @ivar events: the C{NeighborUp}, C{NeighborDown} and C{GossipMessage} outputs, in
        order.
    @ivar sent: the number of messages it sent.
    @ivar payloads: the number of Gossip messages that arrived, including duplicates.
    @ivar waiting: messages for peers that it is dialling.
    @ivar timer: when its next timer is scheduled; C{None}: it is not.
    """

    peer_id: bytes
    swarm: Swarm
    events: list[Output] = field(factory=list)
    sent: int = 0
    payloads: int = 0
    waiting: dict[bytes, list[bytes]] = field(factory=dict)
    timer: float | None = None

    def contents(self) -> list[bytes]:
        """
        The contents it received, in order.
        """
        return [event.content for event in self.events if isinstance(event, GossipMessage)]


class GossipNetwork:
    """
    Gossip machines and the links between them.

    @ivar now: seconds since the start.
    @ivar nodes: the living machines, by peer id.
    @ivar deliveries: the number of contents delivered to applications.
    @ivar loss: the share of messages lost, 0..1; may be changed at any time.
    @ivar tap: called with sender, receiver and message for everything that is sent.
    """

    def __init__(
        self,
        rng: Random,
        latency: Latency = 0.01,
        loss: float = 0.0,
        config: GossipConfig | None = None,
    ) -> None:
        """
        @param rng: the source of all random choices.
        @param latency: the latency of the links.
        @param loss: the share of messages lost, 0..1.
        @param config: the configuration of all machines.
        """
        self.now = 0.0
        self.nodes: dict[bytes, GossipNode] = {}
        self.tap: Callable[[bytes, bytes, Message], None] = lambda sender, receiver, message: None
        self.deliveries = 0
        self._rng = rng
        self._latency = latency
        self._latencies: dict[frozenset[bytes], float] = {}
        self.loss = loss
        self._config = config or GossipConfig()
        self._connections: set[frozenset[bytes]] = set()
        self._killed: set[bytes] = set()
        self._encoded: tuple[Message | None, bytes] = (None, b"")
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def add(self, peer_id: bytes, data: bytes | None = b"") -> GossipNode:
        """
        Add a machine. Any 32 bytes are a valid id here.

        @param data: the peer data that it announces to its neighbours.
        """
        swarm = Swarm(peer_id, Random(self._rng.random()), lambda peer: True, data, self._config)
        self._killed.discard(peer_id)
        node = self.nodes[peer_id] = GossipNode(peer_id, swarm)
        return node

    def command(self, peer_id: bytes, event: Input) -> None:
        """
        Pass an input to C{peer_id} now. After L{Quit} it is removed from the network.
        """
        node = self.nodes[peer_id]
        self._perform(node, node.swarm.handle(event, self.now))
        if isinstance(event, Quit):
            del self.nodes[peer_id]

    def deliver(self, sender: bytes, peer_id: bytes, message: Message) -> None:
        """
        Deliver C{message} from C{sender} to C{peer_id} now.
        """
        node = self.nodes[peer_id]
        self._perform(node, node.swarm.receive(sender, message, self.now))

    def kill(self, peer_id: bytes, unnoticed: float = 0.0) -> None:
        """
        Make C{peer_id} vanish: nothing arrives from it from now on.

        @param unnoticed: seconds until its connections break: 0 for a process that ended,
            many for a machine that lost its network.
        """
        del self.nodes[peer_id]
        self._killed.add(peer_id)
        for other in list(self.nodes):
            if frozenset((peer_id, other)) in self._connections:
                if unnoticed:
                    self._later(unnoticed, partial(self._break, other, peer_id))
                else:
                    self._break(other, peer_id)

    def advance(self, seconds: float) -> None:
        """
        Advance the time by C{seconds}.
        """
        self.run_while(lambda: True, seconds)

    def run_while(self, condition: Callable[[], bool], seconds: float) -> bool:
        """
        Advance the time while C{condition} holds, by at most C{seconds}. The condition is
        checked before each event.

        @return: whether it still holds.
        """
        end = self.now + seconds
        while condition():
            if not self._agenda or self._agenda[0][0] > end:
                self.now = end
                return True
            self.now, _, act = heappop(self._agenda)
            act()
        return False

    def connected_components(self) -> list[set[bytes]]:
        """
        The connected components of the graph of active views, as sets of living peers.
        """
        return components({node.peer_id: node.swarm.neighbors() for node in self.nodes.values()})

    def asymmetric_links(self) -> list[tuple[bytes, bytes]]:
        """
        Pairs of peers of which only the first has the other in its active view.
        """
        return [
            (node.peer_id, peer)
            for node in self.nodes.values()
            for peer in node.swarm.neighbors()
            if peer not in self.nodes or not self.nodes[peer].swarm.is_neighbor(node.peer_id)
        ]

    def _later(self, delay: float, act: Callable[[], None]) -> None:
        self._count += 1
        heappush(self._agenda, (self.now + delay, self._count, act))

    def _perform(self, node: GossipNode, outputs: list[Output]) -> None:
        for output in outputs:
            if isinstance(output, SendMessage):
                self._send(node, output.peer, output.message)
            elif isinstance(output, DisconnectPeer):
                # Messages sent before still arrive: they are already on the way.
                self._connections.discard(frozenset((node.peer_id, output.peer)))
            elif isinstance(output, NeighborUp | NeighborDown | GossipMessage):
                node.events.append(output)
                self.deliveries += isinstance(output, GossipMessage)
        when = node.swarm.next_timer()
        if when is not None and (node.timer is None or when < node.timer):
            node.timer = when
            self._later(max(0.0, when - self.now), partial(self._on_timer, node, when))

    def _on_timer(self, node: GossipNode, when: float) -> None:
        if self.nodes.get(node.peer_id) is node and node.timer == when:
            node.timer = None
            self._perform(node, node.swarm.handle_timer(max(self.now, when)))

    def _send(self, node: GossipNode, peer: bytes, message: Message) -> None:
        self.tap(node.peer_id, peer, message)
        node.sent += 1
        # The same message is often sent to many peers in a row: encode it once.
        if self._encoded[0] is not message:
            self._encoded = (message, encode(message))
        data = self._encoded[1]
        if frozenset((node.peer_id, peer)) in self._connections:
            self._travel(node.peer_id, peer, data)
        elif peer in node.waiting:
            node.waiting[peer].append(data)
        elif node.swarm.is_neighbor(peer) or not isinstance(message, Gossip | Prune | Graft | IHave):
            node.waiting[peer] = [data]
            node.swarm.handle(DialStarted(peer), self.now)
            delay = DIAL_LATENCIES * self._latency_to(node.peer_id, peer)
            self._later(delay if peer in self.nodes else DIAL_TIMEOUT, partial(self._dialled, node, peer))

    def _dialled(self, node: GossipNode, peer: bytes) -> None:
        queue = node.waiting.pop(peer)
        if peer in self.nodes:
            self._connections.add(frozenset((node.peer_id, peer)))
            for one, other in ((node.peer_id, peer), (peer, node.peer_id)):
                if one in self.nodes:
                    self.command(one, PeerConnected(other))
            for data in queue:
                self._travel(node.peer_id, peer, data)
        elif node.peer_id in self.nodes:
            self.command(node.peer_id, PeerDisconnected(peer))

    def _break(self, peer_id: bytes, gone: bytes) -> None:
        link = frozenset((peer_id, gone))
        if link in self._connections:
            self._connections.discard(link)
            if peer_id in self.nodes:
                self.command(peer_id, PeerDisconnected(gone))

    def _latency_to(self, one: bytes, other: bytes) -> float:
        if not callable(self._latency):
            return self._latency
        link = frozenset((one, other))
        if link not in self._latencies:
            self._latencies[link] = self._latency(self._rng)
        return self._latencies[link]

    def _travel(self, sender: bytes, receiver: bytes, data: bytes) -> None:
        if self.loss and self._rng.random() < self.loss:
            return
        self._later(self._latency_to(sender, receiver), partial(self._arrive, sender, receiver, data))

    def _arrive(self, sender: bytes, receiver: bytes, data: bytes) -> None:
        node = self.nodes.get(receiver)
        if node is None or sender in self._killed:
            return
        message = decode(data)
        node.payloads += isinstance(message, Gossip)
        self.deliver(sender, receiver, message)
