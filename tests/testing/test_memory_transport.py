"""
Tests for L{dtt.testing.memory_transport}, in addition to
L{tests.transport.test_contract}.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from dtt.errors import DialFailed
from dtt.interfaces import ITopicLinks
from dtt.testing.memory_transport import MemoryHub, RecordingLinks
from dtt.wire.addresses import IROH, PeerAddress

A, B = b"a" * 32, b"b" * 32
TOPIC, SECRET = b"t" * 32, b"s" * 32


class RecordingLinksTests(SynchronousTestCase):
    """
    Tests for L{RecordingLinks}.
    """

    def test_interface(self) -> None:
        """
        The class provides the interface.
        """
        self.assertTrue(verifyObject(ITopicLinks, RecordingLinks()))

    def test_remembers(self) -> None:
        """
        Calls are recorded in the lists.
        """
        links = RecordingLinks()
        seen: list[tuple[bytes, bytes]] = []
        links.on_message = lambda peer_id, message: seen.append((peer_id, message))
        links.peer_connected(A)
        links.messages_received(A, [b"hello"])
        links.peer_disconnected(A)
        self.assertEqual((links.connected, links.messages, links.disconnected), ([A], [(A, b"hello")], [A]))
        self.assertEqual(seen, links.messages)


class MemoryHubTests(SynchronousTestCase):
    """
    Tests for L{MemoryHub}.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.hub = MemoryHub(self.clock, latency=0.1)
        self.a, self.b = self.hub.transport(A), self.hub.transport(B)
        self.on_a, self.on_b = RecordingLinks(), RecordingLinks()
        self.a.open_topic(TOPIC, SECRET, self.on_a)
        self.b.open_topic(TOPIC, SECRET, self.on_b)

    def connect(self) -> None:
        """
        Let C{a} dial C{b}; both are notified.
        """
        self.a.dial(B, self.b.addresses())
        self.clock.pump([0.1] * 10)

    def test_latency(self) -> None:
        """
        A dial takes four latencies, five for the accepting end, a message one.
        """
        result = self.a.dial(B, self.b.addresses())
        self.clock.pump([0.1] * 3)
        self.assertNoResult(result)
        self.clock.advance(0.11)
        self.successResultOf(result)
        self.assertFalse(self.b.is_connected(A))
        self.clock.advance(0.1)
        self.assertTrue(self.b.is_connected(A))
        self.a.send(B, TOPIC, b"first")
        self.clock.pump([0.1] * 3)
        self.a.send(B, TOPIC, b"second")
        self.clock.advance(0.09)
        self.assertEqual(self.on_b.messages, [(A, b"first")])
        self.clock.advance(0.02)
        self.assertEqual(self.on_b.messages[-1], (A, b"second"))

    def test_addresses(self) -> None:
        """
        Each transport has its own address, of its kind; a stopped one has none.
        """
        iroh = self.hub.transport(b"c" * 32, kind=IROH)
        self.assertEqual(len({t.addresses() for t in (self.a, self.b, iroh)}), 3)
        self.assertEqual((iroh.kinds, iroh.addresses()[0].transport), ((IROH,), IROH))
        iroh.stop()
        self.assertEqual(iroh.addresses(), ())

    def test_unreachable(self) -> None:
        """
        An unreachable address times out, and others are tried concurrently.
        """
        (address,) = self.b.addresses()
        self.hub.unreachable.add((address.host, address.port))
        result = self.a.dial(B, [address])
        self.clock.pump([0.5] * 20)
        self.assertEqual(str(self.failureResultOf(result, DialFailed).value), "timed out")
        self.hub.unreachable.clear()
        self.hub.unreachable.add(("10.9.9.9", 1))
        result = self.a.dial(B, [PeerAddress(address.transport, "10.9.9.9", 1), address])
        self.clock.pump([0.1] * 9)
        self.successResultOf(result)

    def test_cut(self) -> None:
        """
        Both ends see a cut at the same time; other connections stay.
        """
        other = self.hub.transport(b"c" * 32)
        self.connect()
        other.dial(A, self.a.addresses())
        self.clock.pump([0.1] * 10)
        self.assertEqual(self.hub.connections(A), 2)
        self.a.send(B, TOPIC, b"hello")
        self.clock.pump([0.1] * 3)
        self.hub.cut(B, A)
        self.assertEqual((self.on_a.disconnected, self.on_b.disconnected), ([B], [A]))
        self.assertEqual(self.hub.connections(A), 1)

    def test_stall(self) -> None:
        """
        A stalled peer gets nothing until it reads again, then everything in order.
        """
        self.connect()
        self.a.send(B, TOPIC, b"0")
        self.clock.pump([0.1] * 3)
        self.hub.stall(B)
        for number in range(1, 5):
            self.a.send(B, TOPIC, b"%d" % number)
        self.clock.pump([0.1] * 20)
        self.assertEqual(len(self.on_b.messages), 1)
        self.hub.resume(B)
        self.assertEqual([message for _, message in self.on_b.messages], [b"0", b"1", b"2", b"3", b"4"])
