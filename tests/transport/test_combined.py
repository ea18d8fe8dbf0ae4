"""
Tests for L{dtt.transport.combined}: streams and iroh, both in memory.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from dtt.errors import DialFailed, NoRoom
from dtt.interfaces import IPeerTransport
from dtt.testing.memory_transport import MemoryHub, MemoryPeerTransport, RecordingLinks
from dtt.testing.net.tcp import MemoryTCPNetwork
from dtt.transport.combined import CombinedTransport
from dtt.transport.streams.multiplexer import MAX_WAIT
from dtt.wire.addresses import IROH, STREAMS, Address, PeerAddress, RelayAddress

TOPIC, OTHER, SECRET = b"t" * 32, b"u" * 32, b"s" * 32


class Peer:
    """
    A member with both transports.
    """

    def __init__(self, hub: MemoryHub, number: int) -> None:
        self.id = bytes((number,)) * 32
        self.streams = hub.transport(self.id, STREAMS)
        self.iroh = hub.transport(self.id, IROH)
        self.transport = CombinedTransport(hub.clock, [self.streams, self.iroh])
        self.links = RecordingLinks()

    def open(self, topic: bytes = TOPIC, secret: bytes = SECRET) -> None:
        """
        Open the topic.
        """
        self.transport.open_topic(topic, secret, self.links)


class CombinedTransportTests(SynchronousTestCase):
    """
    Tests for L{CombinedTransport}.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.hub = MemoryHub(self.clock)
        self.a, self.b = Peer(self.hub, 1), Peer(self.hub, 2)
        self.a.open()
        self.b.open()

    def advance(self, seconds: float) -> None:
        """
        Advance the clock.
        """
        MemoryTCPNetwork(self.clock).advance(seconds)

    def dial(self, *addresses: Address) -> Deferred[None]:
        """
        Let C{a} dial C{b}.
        """
        return self.a.transport.dial(self.b.id, addresses)

    def connected(self) -> tuple[bool, bool]:
        """
        Whether C{a} has a connection to C{b} over streams, and over iroh.
        """
        return self.a.streams.is_connected(self.b.id), self.a.iroh.is_connected(self.b.id)

    def connect(self, *transports: MemoryPeerTransport) -> None:
        """
        Let C{a} dial C{b}, over one transport after the other.
        """
        for transport in transports:
            own = self.a.streams if transport is self.b.streams else self.a.iroh
            result = own.dial(self.b.id, transport.addresses())
            self.advance(0.1)
            self.successResultOf(result)

    def exchange(self, message: bytes) -> None:
        """
        Check that C{a} and C{b} can send messages to each other.
        """
        self.a.transport.send(self.b.id, TOPIC, message)
        self.b.transport.send(self.a.id, TOPIC, message)
        self.advance(0.2)
        self.assertEqual(self.b.links.messages[-1:], [(self.a.id, message)])
        self.assertEqual(self.a.links.messages[-1:], [(self.b.id, message)])

    def test_interface(self) -> None:
        """
        The interface is provided completely.
        """
        self.assertTrue(verifyObject(IPeerTransport, self.a.transport))
        self.assertFalse(self.a.transport.finds_peers)
        self.a.iroh.finds_peers = True
        self.assertTrue(CombinedTransport(self.clock, [self.a.streams, self.a.iroh]).finds_peers)

    def test_addresses(self) -> None:
        """
        The transports' addresses alternate, twelve in total, followed by a relay.
        """
        own = self.a.transport.addresses()
        self.assertEqual(own, (*self.a.streams.addresses(), *self.a.iroh.addresses()))
        relay = RelayAddress("https://relay.example/")
        streams = [PeerAddress(STREAMS, "192.0.2.1", port) for port in range(1, 13)]
        iroh = [PeerAddress(IROH, "192.0.2.1", port) for port in range(1, 3)]
        self.patch(self.a.streams, "addresses", lambda: tuple(streams))
        self.patch(self.a.iroh, "addresses", lambda: (relay, *iroh))
        self.assertEqual(
            self.a.transport.addresses(),
            (streams[0], iroh[0], streams[1], iroh[1], *streams[2:10], relay),
        )

    def test_dials_what_an_address_belongs_to(self) -> None:
        """
        An address is dialled by its own transport, and the other side is notified.
        """
        result = self.dial(*self.b.iroh.addresses())
        self.advance(0.1)
        self.successResultOf(result)
        self.assertEqual(self.connected(), (False, True))
        self.assertEqual((self.a.links.connected, self.b.links.connected), ([self.b.id], [self.a.id]))
        self.exchange(b"over iroh")

    def test_first_address_first(self) -> None:
        """
        The transport of the first address is tried first; the other one is not used if
        it connects in time.
        """
        result = self.dial(*self.b.iroh.addresses(), *self.b.streams.addresses())
        self.advance(0.1)
        self.successResultOf(result)
        self.advance(5)
        self.assertEqual(self.connected(), (False, True))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_side_by_side(self) -> None:
        """
        A transport that does not connect within 250 ms is joined by the next one; the
        loser is cancelled.
        """
        (silent,) = self.b.streams.addresses()
        self.hub.unreachable.add((silent.host, silent.port))
        result = self.dial(silent, *self.b.iroh.addresses())
        self.advance(0.24)
        self.assertNoResult(result)
        self.assertEqual(self.connected(), (False, False))
        self.advance(0.1)
        self.successResultOf(result)
        self.assertEqual(self.connected(), (False, True))
        self.advance(2)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_next_at_once_after_a_failure(self) -> None:
        """
        When a transport fails, the next one is tried immediately.
        """
        result = self.dial(PeerAddress(STREAMS, "10.9.9.9", 1), *self.b.iroh.addresses())
        self.advance(0.1)
        self.successResultOf(result)

    def test_all_fail(self) -> None:
        """
        When all transports fail, the error lists the reasons without duplicates.
        """
        result = self.dial(PeerAddress(STREAMS, "10.9.9.9", 1), PeerAddress(IROH, "10.9.9.9", 1))
        self.advance(0.2)
        self.assertEqual(str(self.failureResultOf(result, DialFailed).value), "connection refused")
        other = self.dial(PeerAddress(STREAMS, "10.9.9.9", 1), *Peer(self.hub, 3).iroh.addresses())
        self.advance(0.2)
        reason = str(self.failureResultOf(other, DialFailed).value)
        self.assertEqual(reason, "connection refused, wrong peer key")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_no_room(self) -> None:
        """
        Only if all transports lack room, that is the reason.
        """
        for transport in (self.a.streams, self.a.iroh):
            self.patch(transport, "dial", lambda *_: fail(NoRoom("too many connections")))
        addresses = (PeerAddress(STREAMS, "10.9.9.9", 1), PeerAddress(IROH, "10.9.9.9", 1))
        self.failureResultOf(self.dial(*addresses), NoRoom)
        self.patch(self.a.iroh, "dial", lambda *_: fail(DialFailed("timed out")))
        failure = self.failureResultOf(self.dial(*addresses), DialFailed)
        self.assertNotIsInstance(failure.value, NoRoom)
        self.assertEqual(str(failure.value), "too many connections, timed out")

    def test_no_address(self) -> None:
        """
        Without an address nothing is dialled, unless a transport finds peers by their
        ids; such a transport is also tried when there are addresses.
        """
        self.failureResultOf(self.dial(), DialFailed)
        asked = []

        def dial(peer_id: bytes, addresses: object, topic_id: bytes | None) -> Deferred[None]:
            asked.append((peer_id, addresses))
            return Deferred()

        self.a.iroh.finds_peers = True
        self.patch(self.a.iroh, "dial", dial)
        self.assertNoResult(self.dial())
        self.dial(PeerAddress(STREAMS, "10.9.9.9", 1))
        self.advance(0.3)
        self.assertEqual(asked, [(self.b.id, [])] * 2)

    def test_cancelled(self) -> None:
        """
        A cancelled dial leaves no connection and no timer.
        """
        for wait in (0.0, 0.1, 0.3):
            silent = [*self.b.streams.addresses(), *self.b.iroh.addresses()]
            self.hub.unreachable.update((a.host, a.port) for a in silent)
            result = self.dial(*silent)
            self.advance(wait)
            result.cancel()
            self.failureResultOf(result, CancelledError)
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_dialled_by_the_peer_meanwhile(self) -> None:
        """
        A dial succeeds when the peer connects to us over another transport.
        """
        (silent,) = self.b.streams.addresses()
        self.hub.unreachable.add((silent.host, silent.port))
        running = self.dial(silent)
        self.advance(0.1)
        self.assertNoResult(running)
        self.b.transport.dial(self.a.id, self.a.iroh.addresses())
        self.advance(0.1)
        self.successResultOf(running)

    def test_connected_already(self) -> None:
        """
        A peer connected over one transport is not dialled by another.
        """
        self.connect(self.b.iroh)
        self.successResultOf(self.dial(*self.b.streams.addresses()))
        self.assertEqual(self.connected(), (False, True))

    def test_one_of_two_breaks(self) -> None:
        """
        While one connection remains no disconnection is reported, and messages use it;
        when the last one breaks it is reported once.
        """
        self.connect(self.b.streams, self.b.iroh)
        self.exchange(b"over streams")
        for one, other in ((self.a, self.b), (self.b, self.a)):
            one.streams.multiplexer.disconnect(other.id, TOPIC)
        # An unexpected end: the streams connection is cut.
        self.hub._connections[0].abort("cut")
        self.advance(0.1)
        self.assertEqual(self.connected(), (False, True))
        self.assertEqual(self.a.links.disconnected + self.b.links.disconnected, [])
        self.exchange(b"over iroh")
        self.hub.cut(self.a.id, self.b.id)
        self.advance(0.1)
        self.assertEqual((self.a.links.disconnected, self.b.links.disconnected), ([self.b.id], [self.a.id]))

    def test_not_admitted(self) -> None:
        """
        If a peer does not admit us over one transport, messages use the other until
        there is a new connection; when neither admits us a disconnection is reported.
        """
        self.a.open(OTHER)
        self.b.iroh.open_topic(OTHER, SECRET, self.b.links)
        self.connect(self.b.streams, self.b.iroh)
        self.a.transport.send(self.b.id, OTHER, b"not admitted")
        self.advance(MAX_WAIT + 0.2)
        self.assertEqual((self.b.links.messages, self.a.links.disconnected), ([], []))
        self.a.transport.send(self.b.id, OTHER, b"admitted")
        self.advance(0.2)
        self.assertEqual(self.b.links.messages, [(self.a.id, b"admitted")])
        self.hub.cut(self.a.id, self.b.id)
        self.advance(0.1)
        self.assertEqual(self.a.links.disconnected, [self.b.id])
        self.b.streams.open_topic(OTHER, SECRET, self.b.links)
        self.connect(self.b.streams)
        self.a.transport.send(self.b.id, OTHER, b"over streams")
        self.advance(0.2)
        self.assertEqual(self.b.links.messages[-1], (self.a.id, b"over streams"))

    def test_not_admitted_and_gone(self) -> None:
        """
        The record that a peer did not admit us is dropped with its connection, however
        that ends.
        """
        self.a.open(OTHER)
        self.b.iroh.open_topic(OTHER, SECRET, self.b.links)
        self.connect(self.b.streams, self.b.iroh)
        self.exchange(b"over streams")
        self.a.transport.send(self.b.id, OTHER, b"not admitted")
        self.advance(MAX_WAIT + 0.2)
        self.a.transport.send(self.b.id, OTHER, b"over iroh")
        self.advance(0.2)
        self.assertEqual(len(self.a.transport._not_admitted), 1)
        # An end that was requested is not reported.
        for transport in (self.a.streams, self.a.iroh):
            transport.disconnect(self.b.id, TOPIC)
            transport.disconnect(self.b.id, OTHER)
        self.advance(5)
        self.assertEqual(self.connected(), (False, False))
        c = Peer(self.hub, 3)
        c.open()
        self.a.transport.dial(c.id, c.iroh.addresses())
        self.advance(0.2)
        self.assertTrue(self.a.iroh.is_connected(c.id))
        self.assertEqual(self.a.transport._not_admitted, set())

    def test_disconnect(self) -> None:
        """
        Disconnecting ends the topic's use of a peer on all transports; no disconnection
        is reported.
        """
        self.connect(self.b.streams, self.b.iroh)
        self.exchange(b"here")
        self.a.iroh.send(self.b.id, TOPIC, b"and here")
        self.advance(0.1)
        self.a.transport.disconnect(self.b.id, TOPIC)
        self.b.transport.disconnect(self.a.id, TOPIC)
        self.advance(3)
        self.assertEqual(self.connected(), (False, False))
        self.assertEqual(self.a.links.disconnected + self.b.links.disconnected, [])
        self.assertFalse(self.a.transport.send(self.b.id, TOPIC, b"nowhere"))

    def test_close_topic(self) -> None:
        """
        A topic is closed on all transports, and can be opened again.
        """
        self.connect(self.b.streams)
        self.exchange(b"here")
        self.a.transport.close_topic(TOPIC)
        self.advance(3)
        self.assertEqual(self.connected(), (False, False))
        self.a.open()

    def test_when_writable(self) -> None:
        """
        A caller waits for the transport that is not writable; the wait can be
        cancelled.
        """
        self.connect(self.b.streams, self.b.iroh)
        self.exchange(b"here")
        self.successResultOf(self.a.transport.when_writable([self.b.id]))
        self.hub.stall(self.b.id)
        for number in range(100):
            self.a.transport.send(self.b.id, TOPIC, bytes((number,)) * 4000)
        self.advance(0.1)
        waiting, cancelled = (self.a.transport.when_writable([self.b.id]) for _ in range(2))
        self.assertNoResult(waiting)
        cancelled.cancel()
        self.failureResultOf(cancelled, CancelledError)
        self.hub.resume(self.b.id)
        self.successResultOf(waiting)

    def test_when_writable_on_two(self) -> None:
        """
        If neither transport is writable, a caller waits for both.
        """
        ways: list[Deferred[None]] = [Deferred(), Deferred()]
        for transport, way in zip((self.a.streams, self.a.iroh), ways, strict=True):
            self.patch(transport, "when_writable", lambda peer_ids, way=way: way)
        waiting = self.a.transport.when_writable([self.b.id])
        ways[0].callback(None)
        self.assertNoResult(waiting)
        ways[1].callback(None)
        self.assertIsNone(self.successResultOf(waiting))

    def test_cancel_wait_on_two(self) -> None:
        """
        Cancelling a wait for both fails with a plain CancelledError.
        """
        for transport in (self.a.streams, self.a.iroh):
            self.patch(transport, "when_writable", lambda peer_ids: Deferred())
        waiting = self.a.transport.when_writable([self.b.id])
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
