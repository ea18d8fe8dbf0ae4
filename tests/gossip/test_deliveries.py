"""
Tests for L{dtt.gossip.deliveries}, and for notifications about lost messages.
"""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from dtt.gossip.deliveries import STEPS, Deliveries
from dtt.gossip.observers import Observers
from dtt.interfaces import GossipMessage, PeerId
from dtt.testing.memory_transport import MemoryHub
from dtt.testing.net.clock import HeapClock, advance
from tests.gossip.test_many_topics import Process, topic

A, B = b"a" * 32, b"b" * 32


class Watcher:
    """
    Records notifications.
    """

    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []

    def neighbor_up(self, peer_id: PeerId) -> None:
        """Record it."""
        self.told.append(("up", peer_id))

    def neighbor_down(self, peer_id: PeerId) -> None:
        """Record it."""
        self.told.append(("down", peer_id))

    def message_received(self, message: GossipMessage) -> None:
        """Record it."""
        self.told.append(("message", message.content))

    def link_broken(self, peer_id: PeerId, reason: str, unconfirmed: int) -> None:
        """Record it."""
        self.told.append(("broken", peer_id, reason, unconfirmed))

    def broadcast_unheard(self) -> None:
        """Record it."""
        self.told.append(("unheard",))


class DeliveriesTests(SynchronousTestCase):
    """
    Tests for L{Deliveries}.
    """

    def test_count(self) -> None:
        """
        What was sent after the peer was last heard from is unconfirmed.
        """
        deliveries = Deliveries()
        for now in (1.0, 1.01, 2.0, 3.0, 3.0):
            deliveries.sent(A, now)
        deliveries.sent(B, 9.0)
        self.assertEqual(
            [deliveries.unconfirmed(A, heard) for heard in (0.0, 1.5, 2.0, 2.5, 3.5)], [5, 3, 3, 2, 0]
        )
        deliveries.forget(A)
        self.assertEqual((deliveries.unconfirmed(A, 0), deliveries.unconfirmed(B, 0)), (0, 1))

    def test_bounded(self) -> None:
        """
        The state is bounded however much is sent.
        """
        deliveries = Deliveries()
        rng = Random(1)
        now = 0.0
        for _ in range(20_000):
            now += rng.random()
            deliveries.sent(A, now)
        self.assertEqual(len(deliveries._sent[A]), STEPS)


class LinkTests(SynchronousTestCase):
    """
    Tests of members on a network in memory.
    """

    def setUp(self) -> None:
        self.clock = HeapClock()
        self.hub = MemoryHub(self.clock)
        self.a, self.b = Process(self.hub, 1), Process(self.hub, 2)
        self.a.know(self.b)
        self.on_a, self.on_b = self.a.open(topic(1)), self.b.open(topic(1))
        self.watcher = Watcher()
        self.on_a.subscribe(self.watcher)

    def join(self) -> None:
        """
        Become neighbours.
        """
        self.on_a.join([self.b.peer_id])
        advance(self.clock, 1)
        self.watcher.told.clear()

    def test_broken(self) -> None:
        """
        The unexpected end of a connection is reported with its reason and the number of messages that may be
        lost, before the neighbour is down.
        """
        self.join()
        self.on_a.broadcast(b"1")
        advance(self.clock, 1)
        self.on_b.broadcast(b"heard")
        advance(self.clock, 1)
        self.hub.stall(self.b.peer_id)
        for content in (b"2", b"3", b"4"):
            self.on_a.broadcast(content)
        advance(self.clock, 5)
        self.hub.cut(self.a.peer_id, self.b.peer_id)
        b = self.b.peer_id
        self.assertEqual(self.watcher.told, [("message", b"heard"), ("broken", b, "cut", 3), ("down", b)])
        self.assertEqual((self.on_a.counters["links_broken"], self.on_a.counters["unconfirmed"]), (1, 3))
        self.assertEqual(self.on_a.drops()["unconfirmed"], 3)

    def test_goodbye(self) -> None:
        """
        A neighbour that leaves is not a broken link.
        """
        self.join()
        self.on_a.broadcast(b"1")
        self.on_b.leave()
        advance(self.clock, 5)
        self.assertEqual(self.watcher.told, [("down", self.b.peer_id)])
        self.assertEqual(self.on_a.drops(), {})

    def test_unheard(self) -> None:
        """
        A broadcast without a neighbour is counted, and reported once until there is one.
        """
        self.on_a.broadcast(b"1")
        self.on_a.broadcast(b"2")
        self.assertEqual(self.watcher.told, [("unheard",)])
        self.assertEqual(self.on_a.counters["broadcast_unheard"], 2)
        self.join()
        self.on_a.broadcast(b"3")
        self.assertEqual(self.on_a.counters["broadcast_unheard"], 2)
        self.on_b.leave()
        advance(self.clock, 5)
        self.on_a.broadcast(b"4")
        self.assertEqual(self.watcher.told, [("down", self.b.peer_id), ("unheard",)])

    def test_unreachable(self) -> None:
        """
        What waited for a peer that is not reached is counted.
        """
        self.hub.unreachable.update((a.host, a.port) for a in self.b.transport.addresses())
        self.on_a.join([self.b.peer_id])
        advance(self.clock, 20)
        self.assertEqual(self.on_a.counters["send_dial_failed"], 1)

    def test_no_room(self) -> None:
        """
        Without room for a connection a peer is not dialled, and is not blamed: it is
        reached as soon as there is room.
        """
        table = self.a.transport.multiplexer.table
        self.patch(table, "_max_connections", 0)
        self.on_a.join([self.b.peer_id])
        advance(self.clock, 1)
        self.assertEqual(self.a.transport.counters["dialled"], 0)
        table._max_connections = 8
        self.join()
        self.assertEqual(self.on_a.neighbors(), (self.b.peer_id,))


class ObserversTests(SynchronousTestCase):
    """
    Tests for L{Observers}.
    """

    def test_plain_observers(self) -> None:
        """
        An observer without further methods is not notified of links.
        """

        class Plain:
            """An observer without further methods."""

            def neighbor_up(self, peer_id: PeerId) -> None:
                """Do nothing."""

            def neighbor_down(self, peer_id: PeerId) -> None:
                """Do nothing."""

            def message_received(self, message: GossipMessage) -> None:
                """Do nothing."""

        observers, watcher = Observers(), Watcher()
        observers.add(Plain())
        observers.add(watcher)
        observers.notify_optional("link_broken", A, "silent", 2)
        self.assertEqual(watcher.told, [("broken", A, "silent", 2)])
        self.assertEqual(self.flushLoggedErrors(), [])
