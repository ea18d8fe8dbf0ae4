"""
The L{IPeerTransport} contract: the same tests for L{StreamsTransport} over an in-memory
TCP network, for L{IrohTransport} over an in-memory QUIC network, and for
L{MemoryPeerTransport}.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from dtt.errors import DecodeError, DialFailed
from dtt.gossip.proto.messages import Disconnect, encode
from dtt.identity import PeerKey
from dtt.interfaces import IPeerTransport
from dtt.testing.iroh.network import MemoryIroh
from dtt.testing.memory_transport import MemoryHub, MemoryPeerTransport, RecordingLinks
from dtt.testing.net.clock import ThreadClock, advance
from dtt.testing.net.tcp import MemoryTCPNetwork
from dtt.transport.iroh.transport import IrohTransport
from dtt.transport.streams.multiplexer import Multiplexer
from dtt.transport.streams.transport import StreamsTransport
from dtt.wire.addresses import IROH, QUIC, STREAMS, PeerAddress
from tests.sweeps import sized
from tests.transport.quic.network import KEYS, QuicNetwork

if TYPE_CHECKING:
    _Base = SynchronousTestCase
else:
    _Base = object

Transport: TypeAlias = StreamsTransport | MemoryPeerTransport | IrohTransport

TOPIC, OTHER, SECRET = b"t" * 32, b"u" * 32, b"s" * 32

#: A gossip C{Disconnect}: the last message of a topic.
BYE = b"\x00\x05\x00\x00"

#: A gossip C{Join}: the first message of a topic.
JOIN = b"\x00\x00\x00"


class Network(Protocol):
    """
    The operations that the tests need from a network of either kind.
    """

    @property
    def clock(self) -> Clock:
        """The clock of the network."""

    kind: int
    """The kind of its transports, as in address hints."""
    keep_alive: bool | None
    """Whether an idle connection has a timer; C{None}: some have."""
    listener_timers: int
    """The number of timers of a running transport without connections."""
    refuses: bool
    """Whether a port without a listener refuses connections."""
    max_message: int
    """The size of the largest message, in bytes."""

    def transport(self, n: int) -> Transport:
        """Return a listening transport; a larger C{n} gives a larger peer id."""

    def advance(self, seconds: float) -> None:
        """Advance the clock."""

    def silence(self, transport: Transport) -> None:
        """Let connects to C{transport} go unanswered."""

    def cut(self, one: Transport, other: Transport) -> None:
        """Break all connections between two transports."""

    def stall(self, transport: Transport) -> None:
        """Stop C{transport} from reading."""

    def resume(self, transport: Transport) -> None:
        """Let C{transport} read again."""

    def connections(self, transport: Transport) -> int:
        """Return its number of connections."""


class StreamsNetwork:
    """
    L{Network} of L{StreamsTransport}s.
    """

    #: Sorted by peer id.
    keys = sorted((PeerKey.from_seed(bytes((n,)) * 32) for n in range(24)), key=lambda key: key.peer_id)

    kind = STREAMS
    keep_alive: bool | None = True
    listener_timers = 0
    refuses = True
    max_message = 4096

    def __init__(self) -> None:
        self.clock = Clock()
        self.tcp = MemoryTCPNetwork(self.clock)

    def transport(self, n: int) -> Transport:
        host = f"10.0.0.{n}"
        transport = StreamsTransport(self.tcp.reactor(host), self.keys[n])
        transport.listen(host, 0)
        return transport

    def _host(self, transport: Transport) -> str:
        return f"10.0.0.{[key.peer_id for key in self.keys].index(transport.peer_id)}"

    def advance(self, seconds: float) -> None:
        self.tcp.advance(seconds)

    def silence(self, transport: Transport) -> None:
        self.tcp.silent.add(self._host(transport))

    def cut(self, one: Transport, other: Transport) -> None:
        self.tcp.cut(self._host(one), self._host(other))

    def stall(self, transport: Transport) -> None:
        for end in self.tcp.transports(self._host(transport)):
            end.pauseProducing()

    def resume(self, transport: Transport) -> None:
        for end in self.tcp.transports(self._host(transport)):
            end.resumeProducing()

    def connections(self, transport: Transport) -> int:
        return len(self.tcp.transports(self._host(transport)))


class HubNetwork:
    """
    L{Network} of L{MemoryPeerTransport}s.
    """

    kind = STREAMS
    keep_alive: bool | None = False
    listener_timers = 0
    refuses = True
    max_message = 4096

    def __init__(self) -> None:
        self.clock = Clock()
        self.hub = MemoryHub(self.clock)

    def transport(self, n: int) -> Transport:
        return self.hub.transport(bytes((n + 1,)) * 32)

    def advance(self, seconds: float) -> None:
        MemoryTCPNetwork(self.clock).advance(seconds)

    def silence(self, transport: Transport) -> None:
        for address in transport.addresses():
            if isinstance(address, PeerAddress):
                self.hub.unreachable.add((address.host, address.port))

    def cut(self, one: Transport, other: Transport) -> None:
        self.hub.cut(one.peer_id, other.peer_id)

    def stall(self, transport: Transport) -> None:
        self.hub.stall(transport.peer_id)

    def resume(self, transport: Transport) -> None:
        self.hub.resume(transport.peer_id)

    def connections(self, transport: Transport) -> int:
        return self.hub.connections(transport.peer_id)


class QuicContractNetwork(QuicNetwork):
    """
    L{Network} of L{StreamsTransport}s over QUIC.  A larger C{n} gives a smaller peer id:
    the larger id opens the connections, and here that is the one that dials.
    """

    kind = QUIC
    keep_alive: bool | None = None
    listener_timers = 0
    refuses = False
    max_message = 4096

    def transport(self, n: int) -> StreamsTransport:  # type: ignore[override]
        return super().transport(len(KEYS) - n)

    def silence(self, transport: Transport) -> None:
        self.udp.dead.add(self._host(transport))

    def _host(self, transport: Transport) -> str:
        return f"10.0.0.{[key.peer_id for key in KEYS].index(transport.peer_id)}"

    def cut(self, one: Transport, other: Transport) -> None:
        for transport, peer in ((one, other), (other, one)):
            assert isinstance(transport, StreamsTransport)
            for connection in list(transport.connections):
                if connection.peer_id == peer.peer_id:
                    connection.abort("cut")

    def stall(self, transport: Transport) -> None:
        self.udp.dead.add(self._host(transport))

    def resume(self, transport: Transport) -> None:
        self.udp.dead.discard(self._host(transport))

    def connections(self, transport: Transport) -> int:
        assert isinstance(transport, StreamsTransport)
        return len(transport.connections)


class IrohNetwork:
    """
    L{Network} of L{IrohTransport}s.
    """

    keys = StreamsNetwork.keys

    kind = IROH
    keep_alive: bool | None = None
    listener_timers = 1
    refuses = False
    max_message = 4095

    def __init__(self) -> None:
        self.clock = ThreadClock()
        self.iroh = MemoryIroh(self.clock, window=65536)

    def transport(self, n: int) -> Transport:
        host = f"10.0.0.{n}"
        transport = IrohTransport(self.clock, self.keys[n], bindings=self.iroh.bindings(host))
        transport.listen(host, 0)
        return transport

    def _host(self, transport: Transport) -> str:
        return f"10.0.0.{[key.peer_id for key in self.keys].index(transport.peer_id)}"

    def advance(self, seconds: float) -> None:
        advance(self.clock, seconds)

    def silence(self, transport: Transport) -> None:
        self.iroh.silent.add(self._host(transport))

    def cut(self, one: Transport, other: Transport) -> None:
        self.iroh.cut(self._host(one), self._host(other))

    def stall(self, transport: Transport) -> None:
        self.iroh.stalled.add(self._host(transport))

    def resume(self, transport: Transport) -> None:
        self.iroh.resume(self._host(transport))

    def connections(self, transport: Transport) -> int:
        host = self._host(transport)
        return sum(end.endpoint.host == host for end in self.iroh.connections)


class ContractMixin(_Base):
    """
    Tests for L{IPeerTransport}.
    """

    def network(self) -> Network:
        """
        Return a new network.
        """
        raise NotImplementedError

    def setUp(self) -> None:
        self.net = self.network()
        self.a, self.b = self.net.transport(1), self.net.transport(2)

    def open(
        self, *transports: Transport, topic: bytes = TOPIC, secret: bytes = SECRET
    ) -> list[RecordingLinks]:
        """
        Open a topic on each of C{transports}.
        """
        found = []
        for transport in transports:
            links = RecordingLinks()
            transport.open_topic(topic, secret, links)
            found.append(links)
        return found

    def connect(self, one: Transport, other: Transport) -> None:
        """
        C{one} dials C{other}; both report the connection.
        """
        result = one.dial(other.peer_id, other.addresses())
        self.net.advance(0.1)
        self.successResultOf(result)

    def reason(self, result: Deferred[None]) -> str:
        """
        The reason of a failed dial.
        """
        return str(self.failureResultOf(result, DialFailed).value)

    def test_interface(self) -> None:
        """
        The interface is provided completely.
        """
        self.assertTrue(verifyObject(IPeerTransport, self.a))
        self.assertEqual(self.a.kinds, (self.net.kind,))
        self.assertEqual([address.transport for address in self.a.addresses()], [self.net.kind])

    # Dials

    def test_dial(self) -> None:
        """
        A dial connects both sides; every topic on each side is notified once.
        """
        on_a, on_b = self.open(self.a, self.b)
        (also_on_a,) = self.open(self.a, topic=OTHER)
        self.assertFalse(self.a.is_connected(self.b.peer_id))
        self.connect(self.a, self.b)
        self.assertTrue(self.a.is_connected(self.b.peer_id))
        self.assertTrue(self.b.is_connected(self.a.peer_id))
        self.assertEqual(on_a.connected, [self.b.peer_id])
        self.assertEqual(also_on_a.connected, [self.b.peer_id])
        self.assertEqual(on_b.connected, [self.a.peer_id])
        self.assertEqual((self.a.counters["dialled"], self.b.counters["accepted"]), (1, 1))

    def test_dial_when_connected(self) -> None:
        """
        A dial of a connected peer fires immediately, with or without addresses.
        """
        self.connect(self.a, self.b)
        self.successResultOf(self.a.dial(self.b.peer_id, []))
        self.successResultOf(self.b.dial(self.a.peer_id, []))

    def test_joined_dials(self) -> None:
        """
        Two dials of one peer make one connection.
        """
        results = [self.a.dial(self.b.peer_id, self.b.addresses()) for _ in range(2)]
        self.net.advance(0.1)
        for result in results:
            self.successResultOf(result)
        self.assertEqual(self.net.connections(self.a), 1)

    def test_dial_fails(self) -> None:
        """
        A dial fails with a specific reason for: no address, connection refused, wrong
        peer key, own key, no answer.
        """
        c = self.net.transport(3)
        a, b = self.a.peer_id, self.b.peer_id
        nowhere = PeerAddress(self.net.kind, "10.0.0.200", 1)
        other = PeerAddress(STREAMS + IROH - self.net.kind, "10.0.0.2", 4433)
        self.assertEqual(self.reason(self.a.dial(b, [])), "no address")
        self.assertEqual(self.reason(self.a.dial(b, [other])), "no address")
        self.assertEqual(self.reason(self.a.dial(a, self.a.addresses())), "own key")
        refused = self.a.dial(b, [nowhere])
        self.net.advance(0.1 if self.net.refuses else 10.1)
        self.assertEqual(self.reason(refused), "connection refused" if self.net.refuses else "timed out")
        wrong = self.a.dial(b, c.addresses())
        self.net.advance(0.1)
        self.assertEqual(self.reason(wrong), "wrong peer key")
        self.assertFalse(self.a.is_connected(c.peer_id))
        self.net.silence(c)
        silent = self.a.dial(c.peer_id, c.addresses())
        self.net.advance(9.9)
        self.assertNoResult(silent)
        self.net.advance(0.2)
        self.assertEqual(self.reason(silent), "timed out")

    def test_one_of_several_addresses(self) -> None:
        """
        One working address among several is enough.
        """
        c = self.net.transport(3)
        addresses = [PeerAddress(self.net.kind, "10.0.0.200", 1), *c.addresses(), *self.b.addresses()]
        result = self.a.dial(self.b.peer_id, addresses)
        self.net.advance(1)
        self.successResultOf(result)
        self.assertEqual(self.net.connections(self.a), 1)

    def test_cancelled_dial(self) -> None:
        """
        A dial cancelled at any time leaves nothing behind; the next one works.
        """
        for milliseconds in range(0, 60, 7):
            result = self.a.dial(self.b.peer_id, self.b.addresses())
            self.net.advance(milliseconds / 1000)
            if result.called:
                break
            result.cancel()
            self.failureResultOf(result, CancelledError)
            self.net.advance(1)
            self.assertFalse(self.a.is_connected(self.b.peer_id))
            self.assertFalse(self.b.is_connected(self.a.peer_id))
            self.assertEqual(self.net.connections(self.a), 0)
        else:
            self.fail("no dial got through")
        self.assertGreater(milliseconds, 20)

    def test_dialled_by_the_peer_meanwhile(self) -> None:
        """
        A dial succeeds when the peer connects to us first.
        """
        c = self.net.transport(3)
        self.net.silence(c)
        running = self.a.dial(self.b.peer_id, c.addresses())
        self.net.advance(1)
        self.assertNoResult(running)
        self.open(self.a, self.b)
        self.connect(self.b, self.a)
        self.successResultOf(running)
        self.b.send(self.a.peer_id, TOPIC, b"hello")
        self.net.advance(12)
        self.assertEqual(self.net.connections(self.a), 1)

    # Messages

    def test_messages(self) -> None:
        """
        Messages arrive in order, on their topic, from their sender.
        """
        on_a, on_b = self.open(self.a, self.b)
        (others,) = self.open(self.a, topic=OTHER)
        self.open(self.b, topic=OTHER)
        self.connect(self.a, self.b)
        for number in range(10):
            self.a.send(self.b.peer_id, TOPIC, b"%d" % number)
            self.b.send(self.a.peer_id, TOPIC, b"%d" % number)
        self.b.send(self.a.peer_id, OTHER, b"other")
        self.net.advance(0.1)
        self.assertEqual(on_a.messages, [(self.b.peer_id, b"%d" % number) for number in range(10)])
        self.assertEqual(on_b.messages, [(self.a.peer_id, b"%d" % number) for number in range(10)])
        self.assertEqual(others.messages, [(self.b.peer_id, b"other")])
        largest = bytes(self.net.max_message)
        self.a.send(self.b.peer_id, TOPIC, largest)
        self.net.advance(0.1)
        self.assertEqual(on_b.messages[-1], (self.a.peer_id, largest))

    def test_not_connected(self) -> None:
        """
        A message to an unconnected peer is dropped, and so is one on a topic that is
        not open; a message that is too large is an error.
        """
        (on_a,) = self.open(self.a)
        self.a.send(self.b.peer_id, TOPIC, b"lost")
        self.a.disconnect(self.b.peer_id, TOPIC)
        self.connect(self.a, self.b)
        self.a.send(self.b.peer_id, OTHER, b"lost")
        self.net.advance(10)
        self.assertEqual(on_a.disconnected, [])
        self.assertRaises(ValueError, self.a.send, self.b.peer_id, TOPIC, bytes(self.net.max_message + 1))

    def test_topic_twice(self) -> None:
        """
        An open topic can't be opened again.
        """
        self.open(self.a)
        self.assertRaises(ValueError, self.a.open_topic, TOPIC, SECRET, RecordingLinks())

    # Disconnection

    def test_disconnect(self) -> None:
        """
        After L{IPeerTransport.disconnect} earlier messages still arrive, the connection
        is closed, and no disconnection is reported.
        """
        on_a, on_b = self.open(self.a, self.b)
        self.connect(self.a, self.b)
        self.a.send(self.b.peer_id, TOPIC, b"hello")
        self.net.advance(0.1)
        self.a.send(self.b.peer_id, TOPIC, BYE)
        self.a.disconnect(self.b.peer_id, TOPIC)
        self.net.advance(2)
        self.assertEqual(on_b.messages, [(self.a.peer_id, b"hello"), (self.a.peer_id, BYE)])
        self.assertFalse(self.a.is_connected(self.b.peer_id))
        self.assertFalse(self.b.is_connected(self.a.peer_id))
        self.assertEqual(self.net.connections(self.a), 0)
        self.assertEqual(on_a.disconnected + on_b.disconnected, [])

    def test_disconnect_by_both(self) -> None:
        """
        Both sides may disconnect simultaneously.
        """
        on_a, on_b = self.open(self.a, self.b)
        self.connect(self.a, self.b)
        self.a.send(self.b.peer_id, TOPIC, b"hello")
        self.net.advance(0.1)
        for one, other in ((self.a, self.b), (self.b, self.a)):
            one.send(other.peer_id, TOPIC, BYE)
            one.disconnect(other.peer_id, TOPIC)
        self.net.advance(2)
        self.assertEqual(self.net.connections(self.a), 0)
        self.assertEqual(on_a.disconnected + on_b.disconnected, [])

    def test_used_again(self) -> None:
        """
        A connection that is used again soon after its last topic ended stays open.
        """
        on_a, on_b = self.open(self.a, self.b)
        self.connect(self.a, self.b)
        for wait in (0, 0.005, 0.015, 0.2, 0.9):
            self.a.send(self.b.peer_id, TOPIC, b"one")
            self.net.advance(0.1)
            self.a.disconnect(self.b.peer_id, TOPIC)
            self.net.advance(wait)
            self.a.send(self.b.peer_id, TOPIC, b"two")
            self.net.advance(3)
            self.assertEqual([message for _, message in on_b.messages], [b"one", b"two"], f"after {wait} s")
            on_b.messages.clear()
        self.assertEqual(self.a.counters["dialled"], 1)
        self.assertEqual(self.net.connections(self.a), 1)
        self.assertEqual(on_a.disconnected + on_b.disconnected, [])

    def test_two_topics_share_a_connection(self) -> None:
        """
        The end of one topic does not affect the other.
        """
        self.open(self.a, self.b)
        on_a, on_b = self.open(self.a, self.b, topic=OTHER)
        self.connect(self.a, self.b)
        self.a.send(self.b.peer_id, TOPIC, b"hello")
        self.a.send(self.b.peer_id, OTHER, b"hello")
        self.net.advance(0.1)
        self.assertEqual(self.net.connections(self.a), 1)
        self.a.disconnect(self.b.peer_id, TOPIC)
        self.net.advance(10)
        self.b.send(self.a.peer_id, OTHER, b"still here")
        self.net.advance(0.1)
        self.assertEqual(on_a.messages, [(self.b.peer_id, b"still here")])
        self.assertEqual(on_a.disconnected + on_b.disconnected, [])

    def test_cut(self) -> None:
        """
        A broken connection is reported to the topics that used it, and only to them.
        """
        on_a, on_b = self.open(self.a, self.b)
        unused = self.open(self.a, self.b, topic=OTHER)
        self.connect(self.a, self.b)
        self.a.send(self.b.peer_id, TOPIC, b"hello")
        self.net.advance(0.1)
        self.net.cut(self.a, self.b)
        self.net.advance(1)
        self.assertFalse(self.a.is_connected(self.b.peer_id))
        self.assertEqual(on_a.disconnected, [self.b.peer_id])
        self.assertEqual(on_b.disconnected, [self.a.peer_id])
        self.assertEqual([links.disconnected for links in unused], [[], []])
        self.assertEqual([peer_id for peer_id, _, _ in on_a.broken], [self.b.peer_id])
        self.assertEqual([peer_id for peer_id, _, _ in on_b.broken], [self.a.peer_id])
        for _, heard, reason in on_a.broken + on_b.broken:
            self.assertLessEqual(heard, self.net.clock.seconds())
            self.assertTrue(reason)
        self.assertEqual([links.broken for links in unused], [[], []])
        self.connect(self.b, self.a)
        self.assertEqual(on_a.connected, [self.b.peer_id] * 2)

    def test_goodbye_is_no_broken_link(self) -> None:
        """
        A connection that either side ended on purpose is not reported as broken.
        """
        on_a, on_b = self.open(self.a, self.b)
        self.connect(self.a, self.b)
        self.a.send(self.b.peer_id, TOPIC, b"hello")
        self.b.send(self.a.peer_id, TOPIC, b"hello")
        self.net.advance(0.1)
        self.b.send(self.a.peer_id, TOPIC, encode(Disconnect(alive=False)))
        self.b.close_topic(TOPIC)
        self.net.advance(10)
        self.a.close_topic(TOPIC)
        self.net.advance(400)
        self.assertEqual(on_a.broken + on_b.broken, [])

    def test_cut_while_waiting(self) -> None:
        """
        A connection that breaks before the peer has admitted us is reported
        immediately, and not again 5 s later.
        """
        (on_a,) = self.open(self.a)
        self.connect(self.a, self.b)
        self.a.send(self.b.peer_id, TOPIC, b"hello")
        self.net.cut(self.a, self.b)
        self.net.advance(1)
        self.assertEqual(on_a.disconnected, [self.b.peer_id])
        self.net.advance(10)
        self.assertEqual(on_a.disconnected, [self.b.peer_id])

    def test_close_topic(self) -> None:
        """
        A closed topic receives no more events; the peer reports no disconnection, and
        the connection is closed.
        """
        on_a, on_b = self.open(self.a, self.b)
        self.connect(self.a, self.b)
        self.a.send(self.b.peer_id, TOPIC, b"hello")
        self.net.advance(0.1)
        self.b.send(self.a.peer_id, TOPIC, b"under way")
        self.a.send(self.b.peer_id, TOPIC, BYE)
        self.a.close_topic(TOPIC)
        self.a.close_topic(TOPIC)
        self.net.advance(2)
        self.assertEqual(on_a.messages, [])
        self.assertEqual(on_b.messages[-1], (self.a.peer_id, BYE))
        self.assertEqual(on_a.disconnected + on_b.disconnected, [])
        self.assertEqual(self.net.connections(self.a), 0)

    def test_topic_opened_again(self) -> None:
        """
        A topic that is closed and opened again works on the same connection, without an
        endless exchange of OPEN and CLOSE.
        """
        _, on_b = self.open(self.a, self.b)
        self.connect(self.a, self.b)
        self.a.send(self.b.peer_id, TOPIC, b"hello")
        self.net.advance(0.1)
        self.a.close_topic(TOPIC)
        (on_a,) = self.open(self.a)
        self.a.send(self.b.peer_id, TOPIC, b"again")
        self.net.advance(0.5)
        self.b.send(self.a.peer_id, TOPIC, b"answer")
        self.net.advance(0.5)
        self.assertEqual(on_b.messages[-1], (self.a.peer_id, b"again"))
        self.assertEqual(on_a.messages, [(self.b.peer_id, b"answer")])
        self.assertEqual(self.a.counters["dialled"], 1)

    # Faults

    def test_peer_misbehaves(self) -> None:
        """
        A message that its topic rejects ends the connection for all topics; the reason
        is counted.
        """
        on_a, on_b = self.open(self.a, self.b)

        def refuse(peer_id: bytes, message: bytes) -> None:
            raise DecodeError("nonsense")

        on_b.on_message = refuse
        self.connect(self.a, self.b)
        self.a.send(self.b.peer_id, TOPIC, b"hello")
        self.a.send(self.b.peer_id, TOPIC, b"more")
        self.net.advance(1)
        self.assertEqual(len(on_b.messages), 1)
        self.assertEqual(self.b.counters["closed_nonsense"], 1)
        self.assertEqual(on_a.disconnected, [self.b.peer_id])
        self.assertEqual(on_b.disconnected, [self.a.peer_id])
        self.assertEqual(self.net.connections(self.b), 0)

    def test_our_own_fault(self) -> None:
        """
        Any other exception is logged and ends the connection.
        """
        _, on_b = self.open(self.a, self.b)

        def fail(peer_id: bytes, message: bytes) -> None:
            raise ZeroDivisionError

        on_b.on_message = fail
        self.connect(self.a, self.b)
        self.a.send(self.b.peer_id, TOPIC, b"hello")
        self.net.advance(1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.b.counters["closed_internal_error"], 1)
        self.assertEqual(self.net.connections(self.b), 0)

    def test_everything_within_a_callback(self) -> None:
        """
        A topic may call any method while it handles a message.
        """
        on_a, on_b = self.open(self.a, self.b)
        self.connect(self.a, self.b)

        def leave(peer_id: bytes, message: bytes) -> None:
            self.b.send(peer_id, TOPIC, BYE)
            self.b.disconnect(peer_id, TOPIC)
            self.b.close_topic(TOPIC)

        self.a.send(self.b.peer_id, TOPIC, b"hello")
        self.net.advance(1)
        on_b.on_message = leave
        for _ in range(3):
            self.a.send(self.b.peer_id, TOPIC, b"hello")
            self.net.advance(0.001)
        self.net.advance(2)
        self.assertEqual(len(on_b.messages), 2)
        self.assertEqual(on_a.messages, [(self.b.peer_id, BYE)])
        self.assertEqual(self.net.connections(self.a), 0)

    # Limits

    def test_when_writable(self) -> None:
        """
        A peer that does not read is not writable until it has read; other peers are,
        connected or not.
        """
        _, on_b = self.open(self.a, self.b)
        self.connect(self.a, self.b)
        self.a.send(self.b.peer_id, TOPIC, b"hello")
        self.net.advance(0.1)
        self.successResultOf(self.a.when_writable([self.b.peer_id, b"x" * 32]))
        self.net.stall(self.b)
        for _ in range(200):
            self.a.send(self.b.peer_id, TOPIC, bytes(4000))
        self.net.advance(1)
        waiting, cancelled = (self.a.when_writable([self.b.peer_id]) for _ in range(2))
        self.assertNoResult(waiting)
        cancelled.cancel()
        self.failureResultOf(cancelled, CancelledError)
        self.successResultOf(self.a.when_writable([b"x" * 32]))
        self.successResultOf(self.a.when_writable([]))
        self.net.resume(self.b)
        self.net.advance(5)
        self.successResultOf(waiting)
        self.assertEqual(len(on_b.messages), 201)

    def test_writable_when_gone(self) -> None:
        """
        A disconnected peer is writable.
        """
        self.open(self.a, self.b)
        self.connect(self.a, self.b)
        self.a.send(self.b.peer_id, TOPIC, b"hello")
        self.net.advance(0.1)
        self.net.stall(self.b)
        for _ in range(200):
            self.a.send(self.b.peer_id, TOPIC, bytes(4000))
        self.net.advance(1)
        waiting = self.a.when_writable([self.b.peer_id])
        self.assertNoResult(waiting)
        self.net.cut(self.a, self.b)
        self.net.advance(1)
        self.successResultOf(waiting)

    def test_too_many_connections(self) -> None:
        """
        At the limit the oldest connection that serves no topic is closed; if all serve
        one, the new one is refused.
        """
        b: Any = self.b
        connections = b.peers if isinstance(b, IrohTransport) else b.multiplexer
        self.patch(connections.table, "_max_connections", 2)
        others = [self.net.transport(n) for n in range(3, 7)]
        self.open(self.b, *others)
        for other in others[:3]:
            self.connect(other, self.b)
        self.net.advance(1)
        self.assertEqual([self.b.is_connected(o.peer_id) for o in others], [False, True, True, False])
        self.assertEqual(self.b.counters["closed_made_room"], 1)
        for other in others[1:3]:
            other.send(self.b.peer_id, TOPIC, b"hello")
        self.net.advance(1)
        others[3].dial(self.b.peer_id, self.b.addresses()).addErrback(lambda _: None)
        self.net.advance(1)
        self.assertEqual([self.b.is_connected(o.peer_id) for o in others], [False, True, True, False])
        self.assertFalse(others[3].is_connected(self.b.peer_id))
        self.assertEqual(self.b.counters["refused_too_many_connections"], 1)

    # Stopping

    def test_stop(self) -> None:
        """
        Stopping closes cleanly: the peer reports no disconnection; later calls fail,
        and no timer is left.
        """
        on_a, on_b = self.open(self.a, self.b)
        self.connect(self.a, self.b)
        self.b.send(self.a.peer_id, TOPIC, b"hello")
        self.net.advance(0.1)
        self.b.send(self.a.peer_id, TOPIC, BYE)
        running = self.b.dial(StreamsNetwork.keys[9].peer_id, [PeerAddress(self.net.kind, "10.0.0.200", 1)])
        result = self.b.stop()
        self.assertEqual(self.reason(running), "stopped")
        self.net.advance(1)
        self.successResultOf(result)
        self.assertEqual(on_a.messages[-1], (self.b.peer_id, BYE))
        self.assertEqual(on_a.disconnected + on_b.disconnected, [])
        self.assertEqual(self.net.connections(self.a), 0)
        self.assertEqual(self.b.addresses(), ())
        self.assertEqual(self.reason(self.b.dial(self.a.peer_id, self.a.addresses())), "stopped")
        self.successResultOf(self.b.stop())
        self.net.advance(6)
        self.assertEqual(len(self.net.clock.getDelayedCalls()), self.net.listener_timers)

    def test_random_use(self) -> None:
        """
        With four peers used at random nothing is logged, both sides agree once it is
        quiet, and nothing is left at the end.
        """
        for seed in range(self.random_runs):
            self.run_randomly(seed)

    random_runs = sized(1, 3)

    def run_randomly(self, seed: int) -> None:
        """
        One run of L{test_random_use}.
        """
        rng = Random(seed)
        self.net = self.network()
        transports: Sequence[Transport] = [self.net.transport(n) for n in range(1, 5)]
        topics = [TOPIC, OTHER]
        held = {(transport.peer_id, topic): False for transport in transports for topic in topics}
        for _ in range(200):
            one, other = rng.sample(transports, 2)
            topic = rng.choice(topics)
            match rng.randrange(9):
                case 0 | 1:
                    one.dial(other.peer_id, other.addresses()).addErrback(lambda _: None)
                case 2 | 3 | 4:
                    for _ in range(rng.randrange(4)):
                        one.send(other.peer_id, topic, rng.choice((JOIN, rng.randbytes(100))))
                case 5:
                    one.disconnect(other.peer_id, topic)
                case 6 if held[one.peer_id, topic]:
                    one.close_topic(topic)
                    held[one.peer_id, topic] = False
                case 6 | 7 if not held[one.peer_id, topic]:
                    self.open(one, topic=topic)
                    held[one.peer_id, topic] = True
                case 8 if rng.random() < 0.2:
                    self.net.cut(one, other)
            self.net.advance(rng.choice((0, 0.003, 0.01, 0.05, 0.5)))
        self.net.advance(20)
        for one in transports:
            for other in transports:
                self.assertEqual(
                    one.is_connected(other.peer_id), other.is_connected(one.peer_id), f"seed {seed}"
                )
        if self.net.keep_alive is not None:
            timers = sum(map(self.net.connections, transports)) if self.net.keep_alive else 0
            self.assertEqual(len(self.net.clock.getDelayedCalls()), timers, f"seed {seed}")
        for transport in transports:
            transport.stop()
        self.net.advance(10)
        self.assertEqual(self.net.clock.getDelayedCalls(), [], f"seed {seed}")
        for transport in transports:
            closed = {reason for reason in transport.counters if reason.startswith("closed_")}
            allowed = {
                "closed_by_peer",
                "closed_cut",
                "closed_timed_out",
                "closed_handshake_failed",
                "closed_replaced",
            }
            self.assertEqual(closed - allowed, set(), f"seed {seed}")


class AdmissionMixin(ContractMixin):
    """
    Tests for transports that admit peers to topics, and keep one connection per peer
    (docs/protocol/streams.md sections 1 and 3).
    """

    def test_simultaneous_dials(self) -> None:
        """
        Of two simultaneous connections, the one opened by the larger peer id stays;
        messages arrive meanwhile and no disconnection is reported.
        """
        on_a, on_b = self.open(self.a, self.b)
        for one, other in ((self.a, self.b), (self.b, self.a)):
            one.dial(other.peer_id, other.addresses()).addCallback(
                partial(lambda one, other, _: one.send(other.peer_id, TOPIC, b"first"), one, other)
            )
        self.net.advance(0.3)
        self.assertEqual(self.a.counters["duplicate_connections"], 1)
        for number in range(20):
            self.a.send(self.b.peer_id, TOPIC, b"%d" % number)
            self.b.send(self.a.peer_id, TOPIC, b"%d" % number)
            self.net.advance(0.1)
        self.assertEqual(self.net.connections(self.a), 1)
        self.assertEqual(self.opened_by(self.a), [False])
        self.assertEqual(self.opened_by(self.b), [True])
        expected = [b"first", *(b"%d" % number for number in range(20))]
        self.assertEqual([message for _, message in on_a.messages], expected)
        self.assertEqual([message for _, message in on_b.messages], expected)
        self.assertEqual(on_a.disconnected + on_b.disconnected, [])
        self.assertEqual((len(on_a.connected), len(on_b.connected)), (1, 1))

    def opened_by(self, transport: Transport) -> list[bool]:
        """
        For each connection of C{transport}: whether it dialled.
        """
        return [link.connection.opened_by_us for link in self.multiplexer(transport).table.links.values()]

    def multiplexer(self, transport: Transport) -> Multiplexer:
        """
        Return the transport's multiplexer.
        """
        assert not isinstance(transport, IrohTransport)
        return transport.multiplexer

    def test_peer_opens_later(self) -> None:
        """
        Messages wait up to 5 s for the peer to open the topic.
        """
        (on_a,) = self.open(self.a)
        self.connect(self.a, self.b)
        self.a.send(self.b.peer_id, TOPIC, b"early")
        self.net.advance(4.5)
        (on_b,) = self.open(self.b)
        self.net.advance(1)
        self.assertEqual(on_b.messages, [(self.a.peer_id, b"early")])
        self.b.send(self.a.peer_id, TOPIC, b"answer")
        self.net.advance(10)
        self.assertEqual(on_a.messages, [(self.b.peer_id, b"answer")])
        self.assertEqual(on_a.disconnected, [])

    def test_peer_opens_later_joined(self) -> None:
        """
        A waiting Join is sent immediately, but delivered first and once, and only after
        the topic is open.
        """
        (on_a,) = self.open(self.a)
        self.connect(self.a, self.b)
        for message in (JOIN, b"one", JOIN):
            self.a.send(self.b.peer_id, TOPIC, message)
        self.net.advance(4.5)
        (on_b,) = self.open(self.b)
        self.assertEqual(on_b.messages, [])
        self.net.advance(1)
        self.assertEqual([message for _, message in on_b.messages], [JOIN, b"one", JOIN])
        self.net.advance(10)
        self.assertEqual(on_a.disconnected, [])

    def test_join_of_who_is_gone(self) -> None:
        """
        The Join of a peer that has given up is not delivered to a topic opened later.
        """
        (on_a,) = self.open(self.a)
        self.open(self.a, self.b, topic=OTHER)
        self.connect(self.a, self.b)
        self.a.send(self.b.peer_id, OTHER, b"hello")
        self.a.send(self.b.peer_id, TOPIC, JOIN)
        self.net.advance(5.5)
        self.assertEqual(on_a.disconnected, [self.b.peer_id])
        (on_b,) = self.open(self.b)
        self.net.advance(1)
        self.assertEqual(on_b.messages, [])

    def test_join_again_on_the_same_connection(self) -> None:
        """
        A peer that leaves and joins again is heard each time, whether or not the
        other's OPEN stands.
        """
        (on_a,), (on_b,) = self.open(self.a), self.open(self.b)
        self.open(self.a, self.b, topic=OTHER)
        self.connect(self.a, self.b)
        self.a.send(self.b.peer_id, OTHER, b"hello")
        for count in range(1, 4):
            self.a.send(self.b.peer_id, TOPIC, JOIN)
            self.net.advance(0.1)
            self.assertEqual(on_b.messages, [(self.a.peer_id, JOIN)] * count)
            self.a.disconnect(self.b.peer_id, TOPIC)
            self.b.disconnect(self.a.peer_id, TOPIC)
            self.net.advance(0.1)
        self.assertEqual(on_a.disconnected, [])
        self.assertEqual(self.net.connections(self.a), 1)

    def test_early_join_refused(self) -> None:
        """
        A topic that rejects a Join ends the connection, whether the Join came before or
        after the topic was opened.
        """

        def refuse(peer_id: bytes, message: bytes) -> None:
            raise DecodeError("nonsense")

        for late in (False, True):
            self.setUp()
            (on_a,) = self.open(self.a)
            on_b = RecordingLinks()
            on_b.on_message = refuse
            if not late:
                self.b.open_topic(TOPIC, SECRET, on_b)
            self.connect(self.a, self.b)
            self.a.send(self.b.peer_id, TOPIC, JOIN)
            self.net.advance(0.1)
            if late:
                self.b.open_topic(TOPIC, SECRET, on_b)
            self.net.advance(1)
            self.assertEqual(self.b.counters["closed_nonsense"], 1)
            self.assertEqual(on_a.disconnected, [self.b.peer_id])
            self.assertEqual(self.net.connections(self.b), 0)

    def test_our_own_fault_with_an_early_join(self) -> None:
        """
        Any other exception is logged and ends the connection.
        """

        def fail(peer_id: bytes, message: bytes) -> None:
            raise ZeroDivisionError

        self.open(self.a)
        self.connect(self.a, self.b)
        self.a.send(self.b.peer_id, TOPIC, JOIN)
        self.net.advance(0.1)
        (on_b,) = self.open(self.b)
        on_b.on_message = fail
        self.net.advance(1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.b.counters["closed_internal_error"], 1)
        self.assertEqual(self.net.connections(self.b), 0)

    def test_not_admitted(self) -> None:
        """
        A peer that has not opened the topic within 5 s is reported as disconnected
        once, and an otherwise unused connection is closed.
        """
        (on_a,) = self.open(self.a)
        self.open(self.b, topic=OTHER)
        self.connect(self.a, self.b)
        for _ in range(3):
            self.a.send(self.b.peer_id, TOPIC, b"lost")
        self.net.advance(4.8)
        self.assertEqual(on_a.disconnected, [])
        self.net.advance(0.3)
        self.assertEqual(on_a.disconnected, [self.b.peer_id])
        self.net.advance(2)
        self.assertEqual(on_a.disconnected, [self.b.peer_id])
        self.assertEqual(self.net.connections(self.a), 0)

    def test_other_secret(self) -> None:
        """
        A peer with the topic but another secret neither receives nor delivers messages.
        """
        (on_a,) = self.open(self.a)
        (on_b,) = self.open(self.b, secret=b"x" * 32)
        self.connect(self.a, self.b)
        self.a.send(self.b.peer_id, TOPIC, b"from a")
        self.b.send(self.a.peer_id, TOPIC, b"from b")
        self.net.advance(5.5)
        self.assertEqual(on_a.messages + on_b.messages, [])
        self.assertEqual(on_a.disconnected, [self.b.peer_id])
        self.assertEqual(on_b.disconnected, [self.a.peer_id])

    def test_sixteen_wait(self) -> None:
        """
        Sixteen messages wait, further ones are dropped.
        """
        self.open(self.a)
        self.connect(self.a, self.b)
        for number in range(20):
            self.a.send(self.b.peer_id, TOPIC, b"%d" % number)
        (on_b,) = self.open(self.b)
        self.net.advance(1)
        self.assertEqual([message for _, message in on_b.messages], [b"%d" % number for number in range(16)])
        self.assertEqual(self.a.counters["send_too_many_waiting"], 4)

    def test_many_shared_topics(self) -> None:
        """
        Members that share many topics exchange messages in all of them, over one
        connection, whichever side speaks first.
        """
        for count in (17, 40, 200):
            topics = [count.to_bytes(16, "big") + number.to_bytes(16, "big") for number in range(count)]
            links = [self.open(self.a, self.b, topic=topic) for topic in topics]
            self.connect(self.a, self.b)
            for number, topic in enumerate(topics):
                sender, receiver = (self.a, self.b) if number % 2 else (self.b, self.a)
                sender.send(receiver.peer_id, topic, b"hello")
            self.net.advance(1)
            for number, on_both in enumerate(links):
                self.assertEqual(len(on_both[number % 2].messages), 1)
                self.assertEqual([on_each.disconnected for on_each in on_both], [[], []])
            for topic in topics:
                self.a.close_topic(topic)
                self.b.close_topic(topic)
            self.net.advance(3)

    def test_topics_that_are_not_shared(self) -> None:
        """
        Of topics that the peer does not have, sixteen at a time are tried; the others
        wait, and one that is shared is reached.
        """
        topics = [bytes((number,)) * 32 for number in range(40)]
        links = [self.open(self.a, topic=topic) for topic in topics]
        (on_b,) = self.open(self.b, topic=topics[39])
        self.connect(self.a, self.b)
        for topic in topics:
            self.a.send(self.b.peer_id, topic, b"hello")
        self.net.advance(4)
        self.assertEqual(on_b.messages, [])
        self.assertEqual(self.a.counters["open_must_wait"], 24)
        self.net.advance(12)
        self.assertEqual(len(on_b.messages), 1)
        self.assertEqual([len(on_a.disconnected) for (on_a,) in links], [1] * 39 + [0])
        self.assertEqual(self.a.counters["closed_too_many_channels"], 0)
        self.assertEqual(self.b.counters["closed_too_many_channels"], 0)


class StreamsContractTests(AdmissionMixin, SynchronousTestCase):
    """
    Tests for L{StreamsTransport} as an L{IPeerTransport}.
    """

    def network(self) -> Network:
        """
        Return an in-memory TCP network.
        """
        return StreamsNetwork()


class MemoryContractTests(AdmissionMixin, SynchronousTestCase):
    """
    Tests for L{MemoryPeerTransport} as an L{IPeerTransport}.
    """

    random_runs = sized(5, 15)

    def network(self) -> Network:
        """
        Return a hub.
        """
        return HubNetwork()


class QuicContractTests(ContractMixin, SynchronousTestCase):
    """
    Tests for L{StreamsTransport} over QUIC as an L{IPeerTransport}.
    """

    random_runs = sized(2, 5)

    def network(self) -> Network:
        """
        Return an in-memory UDP network.
        """
        return QuicContractNetwork()

    def test_dial_fails(self) -> None:
        """
        A dial fails with a specific reason for: no address, own key, no answer.  Another
        peer than the dialled one does not answer.
        """
        c = self.net.transport(3)
        a, b = self.a.peer_id, self.b.peer_id
        self.assertEqual(self.reason(self.a.dial(b, [])), "no address")
        self.assertEqual(self.reason(self.a.dial(b, [PeerAddress(STREAMS, "10.0.0.2", 1)])), "no address")
        self.assertEqual(self.reason(self.a.dial(a, self.a.addresses())), "own key")
        nobody = self.a.dial(b, [PeerAddress(QUIC, "10.0.0.200", 1), *c.addresses()])
        self.net.advance(9.9)
        self.assertNoResult(nobody)
        self.net.advance(0.2)
        self.assertEqual(self.reason(nobody), "timed out")
        self.assertFalse(self.a.is_connected(c.peer_id))

    def test_cancelled_dial(self) -> None:
        """
        After a dial was cancelled probing continues, since the other side may begin later;
        a connection that nobody uses is closed after 5 s.
        """
        for milliseconds in (0, 7, 14):
            result = self.a.dial(self.b.peer_id, self.b.addresses())
            self.net.advance(milliseconds / 1000)
            result.cancel()
            self.failureResultOf(result, CancelledError)
            self.net.advance(6)
            self.assertFalse(self.a.is_connected(self.b.peer_id))
            self.assertFalse(self.b.is_connected(self.a.peer_id))
            self.assertEqual(self.net.connections(self.a), 0)


class IrohContractTests(ContractMixin, SynchronousTestCase):
    """
    Tests for L{IrohTransport} as an L{IPeerTransport}.
    """

    random_runs = sized(5, 15)

    def network(self) -> Network:
        """
        Return an in-memory QUIC network.
        """
        return IrohNetwork()
