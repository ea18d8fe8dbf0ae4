"""
Tests for L{dtt.testing.simulation.network}.
"""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from dtt.gossip.proto.events import Broadcast, JoinPeers, NeighborDown, NeighborUp, Quit
from dtt.gossip.proto.messages import Join, Message
from dtt.testing.simulation.network import GossipNetwork
from dtt.wire.values import GossipMessage

A, B, C = (bytes((byte,)) * 32 for byte in b"abc")


class GossipNetworkTests(SynchronousTestCase):
    """
    Tests for L{GossipNetwork}.
    """

    def pair(self, latency: float = 0.01) -> GossipNetwork:
        """A and B, where B is about to join A."""
        net = GossipNetwork(Random(1), latency)
        net.add(A)
        net.add(B)
        net.command(B, JoinPeers((A,)))
        return net

    def test_latency(self) -> None:
        """A dial takes four latencies, a message one."""
        net = self.pair(latency=1.0)
        net.advance(4.9)
        self.assertEqual(net.nodes[A].events, [])
        net.advance(0.2)
        self.assertEqual(net.nodes[A].events, [NeighborUp(B)])
        self.assertEqual(net.nodes[B].events, [])
        net.advance(1.0)
        self.assertEqual(net.nodes[B].events, [NeighborUp(A)])

    def test_contents(self) -> None:
        """The contents that a node receives are in its events and its contents."""
        net = self.pair()
        net.advance(1.0)
        net.command(A, Broadcast(b"hi"))
        net.advance(1.0)
        self.assertEqual(net.nodes[B].events[-1], GossipMessage(b"hi", "swarm", A, 0))
        self.assertEqual((net.nodes[A].contents(), net.nodes[B].contents()), ([], [b"hi"]))

    def test_loss(self) -> None:
        """With a loss of 1, nothing arrives."""
        net = GossipNetwork(Random(1), loss=1.0)
        net.add(A)
        net.add(B)
        net.command(B, JoinPeers((A,)))
        net.advance(10.0)
        self.assertEqual((net.nodes[B].sent, net.nodes[A].events), (1, []))

    def test_kill(self) -> None:
        """Neighbours of a node that vanishes see its connection break; its last messages are lost."""
        net = self.pair()
        net.advance(1.0)
        net.command(B, Broadcast(b"last"))
        net.kill(B)
        net.advance(1.0)
        self.assertEqual(net.nodes[A].events, [NeighborUp(B), NeighborDown(B)])
        self.assertNotIn(B, net.nodes)

    def test_quit(self) -> None:
        """A node that quits says goodbye and is removed from the network."""
        net = self.pair()
        net.advance(1.0)
        net.command(B, Quit())
        net.advance(1.0)
        self.assertEqual(net.nodes[A].events, [NeighborUp(B), NeighborDown(B)])
        self.assertNotIn(B, net.nodes)

    def test_components(self) -> None:
        """Connected components and one-sided links are detected."""
        net = self.pair()
        net.add(C)
        net.advance(1.0)
        self.assertEqual(net.connected_components(), [{A, B}, {C}])
        self.assertEqual(net.asymmetric_links(), [])
        net.nodes[A].swarm.handle(Quit(), 1.0)
        self.assertEqual(net.asymmetric_links(), [(B, A)])

    def test_absent_peer(self) -> None:
        """A dial of an absent peer fails, and the next message dials again."""
        net = GossipNetwork(Random(1))
        net.add(A)
        net.command(A, JoinPeers((B,)))
        net.advance(6.0)
        self.assertEqual(net.nodes[A].waiting, {})
        net.add(B)
        net.command(A, JoinPeers((B,)))
        net.advance(1.0)
        self.assertEqual(net.nodes[A].events, [NeighborUp(B)])

    def test_tap(self) -> None:
        """The tap is called with everything that is sent."""
        net = GossipNetwork(Random(1))
        net.add(A)
        seen: list[tuple[bytes, bytes, Message]] = []
        net.tap = lambda sender, receiver, message: seen.append((sender, receiver, message))
        net.command(A, JoinPeers((B,)))
        self.assertEqual(seen, [(A, B, Join(b""))])
