"""
A network of topic machines without transports, under a virtual clock.

L{GossipNetwork} drives L{dtt.gossip.proto.swarm.Swarm}s: messages travel encoded,
take their link's time and may be lost; peers that are not connected are
dialled; peers can vanish, at once or noticed late.  Deterministic for a given
random generator.  L{dtt.testing.simulation.broadcasts} measures broadcasts on it.

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
from dtt.wire.values import GossipMessage

#: Seconds one way: the same on all links, or what is drawn for each link once.
Latency: TypeAlias = float | Callable[[Random], float]

#: Latencies of its link that a dial takes (docs/protocol/streams.md section 4), and
#: seconds until a dial of an absent peer has failed (guess: some retries of TCP).
DIAL_LATENCIES, DIAL_TIMEOUT = 4, 5.0


def uniform(shortest: float, longest: float) -> Latency:
    """
    A L{Latency} between two, all equally likely.
    """
    return lambda rng: rng.uniform(shortest, longest)


@define(slots=True, eq=False)
class GossipNode:
    """
    One machine on a L{GossipNetwork}.

    @ivar peer_id: who it is.
    @ivar swarm: its machine.
    @ivar events: the NeighborUp, NeighborDown and GossipMessage that it put out.
    @ivar sent: how many messages it sent.
    @ivar payloads: how many Gossip messages arrived, duplicates too.
    @ivar waiting: messages for peers that it is dialling.
    @ivar timer: when its machine wants to be called, as far as that is planned.
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
        What it received, in order.
        """
        return [event.content for event in self.events if isinstance(event, GossipMessage)]


class GossipNetwork:
    """
    Machines, and what lies between them.

    @ivar now: seconds since the start.
    @ivar nodes: the machines that are alive, by peer id.
    @ivar deliveries: how many contents were given to applications.
    @ivar loss: the share of messages that vanish; may be changed.
    @ivar tap: told sender, receiver and message of all that is sent.
    """

    def __init__(
        self,
        rng: Random,
        latency: Latency = 0.01,
        loss: float = 0.0,
        config: GossipConfig | None = None,
    ) -> None:
        """
        @param loss: the share of messages that vanish.
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
        A new machine; every id is a valid one here.
        """
        swarm = Swarm(peer_id, Random(self._rng.random()), lambda peer: True, data, self._config)
        self._killed.discard(peer_id)
        node = self.nodes[peer_id] = GossipNode(peer_id, swarm)
        return node

    def command(self, peer_id: bytes, event: Input) -> None:
        """
        Give C{peer_id} an input now.  After L{Quit} it is no part of the
        network any more.
        """
        node = self.nodes[peer_id]
        self._perform(node, node.swarm.handle(event, self.now))
        if isinstance(event, Quit):
            del self.nodes[peer_id]

    def deliver(self, sender: bytes, peer_id: bytes, message: Message) -> None:
        """
        C{message} of C{sender} arrives at C{peer_id} now.
        """
        node = self.nodes[peer_id]
        self._perform(node, node.swarm.receive(sender, message, self.now))

    def kill(self, peer_id: bytes, unnoticed: float = 0.0) -> None:
        """
        C{peer_id} vanishes, and nothing arrives from it any more.

        @param unnoticed: seconds until its connections break: none for a
            process that ended, many for a machine that lost its network.
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
        Let time pass.
        """
        self.run_while(lambda: True, seconds)

    def run_while(self, condition: Callable[[], bool], seconds: float) -> bool:
        """
        Let time pass while C{condition} holds, which is looked at before each
        event, and at most C{seconds}.

        @return: whether it holds still.
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
        The parts in which active views hold the living machines together.
        """
        parts: list[set[bytes]] = []
        for node in self.nodes.values():
            linked = {node.peer_id, *node.swarm.neighbors()} & self.nodes.keys()
            touched = [part for part in parts if part & linked]
            parts = [part for part in parts if not part & linked]
            parts.append(linked.union(*touched))
        return parts

    def asymmetric_links(self) -> list[tuple[bytes, bytes]]:
        """
        Pairs of which only the first has the other in its active view.
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
                # What was sent before still arrives: it is on its way already.
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
        # One message goes to many peers in a row.
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
