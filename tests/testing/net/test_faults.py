"""
Tests for faults of in-memory networks and machines: duplicates, late and lost data, wrong
clocks, machines that sleep, stop and move, and divided networks.
"""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

from twisted.internet.error import AlreadyCalled, AlreadyCancelled, TCPTimedOutError
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from dtt.testing.net.clock import HeapClock
from dtt.testing.net.machine_time import MachineTime
from dtt.testing.net.machines import MachineNetwork

A, B = "45.0.0.1", "45.0.1.1"


class Sink(DatagramProtocol):
    """
    Records datagrams and their times.
    """

    def __init__(self, clock: HeapClock) -> None:
        self.clock = clock
        self.received: list[tuple[bytes, float]] = []

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        self.received.append((datagram, self.clock.seconds()))


class Stream(Protocol):
    """
    Records bytes, and the end.
    """

    transport: Any

    def __init__(self) -> None:
        self.received = b""
        self.reason: type[BaseException] | None = None

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.reason = reason.type


class Client(Factory):
    """
    A client factory that keeps its only protocol.
    """

    noisy = False

    def __init__(self) -> None:
        self.stream = Stream()
        self.failed: Failure | None = None

    def startedConnecting(self, connector: object) -> None:
        """Do nothing."""

    def buildProtocol(self, addr: object) -> Stream:
        return self.stream

    def clientConnectionFailed(self, connector: object, reason: Failure) -> None:
        """Keep the reason."""
        self.failed = reason

    def clientConnectionLost(self, connector: object, reason: Failure) -> None:
        """Do nothing."""


class FaultsTests(SynchronousTestCase):
    """
    Two machines.
    """

    def setUp(self) -> None:
        self.clock = HeapClock()
        self.net = MachineNetwork(self.clock, rng=Random(1))
        self.one, self.other = self.net.reactor(A), self.net.reactor(B)

    def send(self, count: int) -> Sink:
        """Send numbered datagrams, and return who has received them."""
        sink = Sink(self.clock)
        self.other.listenUDP(5, sink)
        port = self.one.listenUDP(6, DatagramProtocol())
        for number in range(count):
            port.write(b"%d" % number, (B, 5))
        self.net.advance(1)
        return sink

    def connect(self) -> tuple[Stream, Stream]:
        """Connect, and return both ends."""
        server = Client()
        self.other.listenTCP(7, server)
        client = Client()
        self.one.connectTCP(B, 7, client)
        self.net.advance(60)
        return client.stream, server.stream

    def test_duplicates(self) -> None:
        """A share of the datagrams arrives twice."""
        self.net.udp.duplication = 0.3
        counts = Counter(data for data, _ in self.send(1000).received)
        self.assertEqual(len(counts), 1000)
        self.assertTrue(250 < sum(count == 2 for count in counts.values()) < 350, counts)

    def test_reordering(self) -> None:
        """A share of the datagrams is late, and comes behind later ones."""
        self.net.udp.reordering = 0.3
        received = self.send(1000).received
        self.assertEqual(len(received), 1000)
        late = [time for _, time in received if time > 0.011]
        self.assertTrue(250 < len(late) < 350, len(late))
        self.assertLessEqual(max(late), 0.01 + self.net.udp.late)
        self.assertNotEqual([data for data, _ in received], [b"%d" % number for number in range(1000)])

    def test_same_seed(self) -> None:
        """The same seed gives the same faults."""
        traces = []
        for _ in range(2):
            self.setUp()
            self.net.udp.duplication = self.net.udp.reordering = self.net.udp.loss = 0.2
            traces.append(self.send(100).received)
        self.assertEqual(*traces)

    def test_the_log_is_bounded(self) -> None:
        """By default, the log keeps some of the last datagrams only."""
        self.assertEqual(self.net.udp._log_limit, 20000)

    def test_lossy_stream(self) -> None:
        """What a connection carries arrives complete and in order, later than without loss."""
        self.net.tcp.loss = self.net.tcp.reordering = 0.2
        ours, theirs = self.connect()
        data = b"".join(b"%d " % number for number in range(500))
        began = self.clock.seconds()
        for number in range(500):
            ours.transport.write(b"%d " % number)
        while theirs.received != data:
            self.net.advance(0.01)
            self.assertLess(self.clock.seconds(), began + 60)
        self.assertGreater(self.clock.seconds(), began + 0.2)

    def test_connecting_through_loss(self) -> None:
        """A lost request to connect costs seconds, or the attempt."""
        self.net.tcp.loss = 0.9
        client = Client()
        self.one.connectTCP(B, 7, client, timeout=5)
        self.net.advance(4.9)
        self.assertIsNone(client.failed)
        self.net.advance(0.2)
        self.assertIsNotNone(client.failed)

    def test_cable(self) -> None:
        """What is written while there is no network arrives when there is one again."""
        ours, theirs = self.connect()
        self.net.unplug(B)
        ours.transport.write(b"first ")
        self.net.advance(20)
        ours.transport.write(b"second")
        self.net.advance(20)
        self.assertEqual(theirs.received, b"")
        self.net.plug(B)
        self.net.advance(60)
        self.assertEqual(theirs.received, b"first second")
        self.assertIsNone(ours.reason)

    def test_no_network_for_long(self) -> None:
        """After a quarter of an hour without an answer, a connection is lost."""
        ours, _ = self.connect()
        self.net.unplug(B)
        ours.transport.write(b"x")
        self.net.advance(900)
        self.assertIsNone(ours.reason)
        self.net.advance(60)
        self.assertIs(ours.reason, TCPTimedOutError)

    def test_divided(self) -> None:
        """Hosts of different parts don't reach each other; a third one reaches both."""
        self.net.divide([A], [B])
        self.assertEqual(self.send(3).received, [])
        client = Client()
        self.one.connectTCP(B, 7, client, timeout=5)
        self.net.advance(6)
        self.assertIsNotNone(client.failed)
        sink = Sink(self.clock)
        self.other.listenUDP(8, sink)
        self.net.reactor("45.0.2.1").listenUDP(9, DatagramProtocol()).write(b"x", (B, 8))
        self.net.divide()
        self.net.advance(1)
        self.assertEqual(len(sink.received), 1)
        ours, theirs = self.connect()
        ours.transport.write(b"x")
        self.net.advance(1)
        self.assertEqual(theirs.received, b"x")

    def test_killed(self) -> None:
        """A process that is killed says nothing; its machine resets the connections."""
        ours, theirs = self.connect()
        called: list[int] = []
        self.other.callLater(5, called.append, 1)
        self.net.stop(B)
        self.net.advance(10)
        self.assertEqual((called, theirs.reason), ([], None))
        self.assertIsNotNone(ours.reason)
        self.assertEqual(self.net.listening(), set())
        self.net.reactor(B).callLater(1, called.append, 2)
        self.net.advance(2)
        self.assertEqual(called, [2])

    def test_switched_off(self) -> None:
        """Nobody is notified when a machine is switched off."""
        ours, _ = self.connect()
        self.net.stop(B, power=False)
        self.net.advance(100)
        self.assertIsNone(ours.reason)


class TimeTests(SynchronousTestCase):
    """
    The time of a machine.
    """

    def setUp(self) -> None:
        self.clock = HeapClock()
        self.time = MachineTime(self.clock)
        self.called: list[float] = []

    def later(self, delay: float) -> Any:
        """Schedule a call that notes the time."""
        return self.time.callLater(delay, lambda: self.called.append(self.clock.seconds()))

    def test_interface(self) -> None:
        """A timer is what Twisted expects."""
        verifyObject(IDelayedCall, self.later(1))

    def test_skew(self) -> None:
        """A wrong clock says another time; timers take as long as they say."""
        self.time.skew = 600.0
        call = self.later(5)
        self.assertEqual((self.time.seconds(), call.getTime()), (600.0, 605.0))
        self.clock.advance(4.9)
        self.assertEqual(self.called, [])
        self.clock.advance(0.2)
        self.assertEqual(len(self.called), 1)

    def test_sleep(self) -> None:
        """What falls due in its sleep runs when it wakes, in order, unless it was moved or cancelled."""
        first, second, third, fourth = (self.later(delay) for delay in (1, 2, 3, 4))
        del first
        self.time.asleep = True
        self.clock.advance(3.5)
        self.assertTrue(second.active())
        second.cancel()
        third.reset(10)
        fourth.delay(2)
        self.clock.advance(0)
        self.time.wake()
        self.assertEqual(self.called, [3.5])
        self.clock.advance(2.5)
        self.assertEqual(self.called, [3.5, 6.0])
        self.clock.advance(10)
        self.assertEqual(len(self.called), 3)
        self.assertFalse(any(each.active() for each in (second, third, fourth)))
        self.assertRaises(AlreadyCalled, third.cancel)

    def test_cancel(self) -> None:
        """A timer that was cancelled does not run, and can't be cancelled again."""
        call = self.later(1)
        call.cancel()
        self.clock.advance(2)
        self.assertEqual(self.called, [])
        self.assertRaises(AlreadyCancelled, call.cancel)

    def test_stopped(self) -> None:
        """On a stopped machine no timer runs, but what is left there can cancel and reset its timers."""
        first, second = self.later(1), self.later(1)
        self.time.stopped = True
        self.clock.advance(2)
        self.assertTrue(first.active())
        first.cancel()
        second.reset(1)
        self.clock.advance(2)
        second.cancel()
        self.assertEqual(self.called, [])

    def test_machine(self) -> None:
        """A machine that has moved in its sleep is reached at its new address, and not at the old one."""
        net = MachineNetwork(self.clock)
        machine, sink = net.reactor(A), Sink(self.clock)
        machine.listenUDP(5, sink)
        port = net.reactor(B).listenUDP(6, DatagramProtocol())
        net.sleep(A)
        port.write(b"asleep", (A, 5))
        net.advance(10)
        net.wake(machine, "45.0.2.1")
        port.write(b"old", (A, 5))
        port.write(b"new", ("45.0.2.1", 5))
        net.advance(1)
        self.assertEqual([data for data, _ in sink.received], [b"new"])
