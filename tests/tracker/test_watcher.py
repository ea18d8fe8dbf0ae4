"""
Tests for L{dtt.tracker.watcher}.
"""

from __future__ import annotations

from random import Random
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dtt.discovery.candidates import FoundRecord
from dtt.tracker.watcher import JITTER, MAX_INTERVAL, MAX_NEW, MAX_SEEN, SECONDS_PER_PUBLISHER, Watcher
from dtt.wire.addresses import QUIC, PeerAddress

TOPIC, NEIGHBOR = b"t" * 32, b"n" * 32
ADDRESSES = (PeerAddress(QUIC, "203.0.113.1", 1),)

#: Seconds after which a read has certainly begun if there is one publisher.
LATEST = SECONDS_PER_PUBLISHER * (1 + JITTER)


def record(publisher: int, *peers: bytes, minute: int = 1) -> FoundRecord:
    """
    A record of a member.
    """
    return FoundRecord(publisher.to_bytes(32, "big"), minute, peers)


class WatcherTests(SynchronousTestCase):
    """
    Tests for L{Watcher}.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.neighbors: tuple[bytes, ...] = (NEIGHBOR,)
        self.is_reached = False
        self.found: list[FoundRecord] = []
        self.reads: list[float] = []
        self.probed: list[tuple[bytes, Any, bytes]] = []
        self.waiting: list[Deferred[None]] = []
        self.resolving: Any = lambda peer: succeed(ADDRESSES)
        shared: Any = SimpleNamespace(
            reactor=self.clock,
            rng=Random(1),
            reached=lambda: self.is_reached,
            probe=lambda *arguments: self.probed.append(arguments),
            book=SimpleNamespace(resolve=lambda peer: self.resolving(peer)),
        )
        gossip: Any = SimpleNamespace(neighbors=lambda: self.neighbors, when_joined=self.when_joined)
        self.watcher = Watcher(shared, gossip, SimpleNamespace(watch=self.watch), TOPIC)  # type: ignore[arg-type]
        self.watcher.startService()
        self.addCleanup(self.watcher.stopService)

    def when_joined(self) -> Deferred[None]:
        """
        Wait for a neighbour.
        """
        if self.neighbors:
            return succeed(None)
        self.waiting.append(Deferred())
        return self.waiting[-1]

    def watch(self, source: str) -> Deferred[list[FoundRecord]]:
        """
        Read the slot.
        """
        self.assertEqual(source, "watcher")
        self.reads.append(self.clock.seconds())
        return succeed(self.found)

    def read(self) -> None:
        """
        Advance the clock until the next read.
        """
        count = len(self.reads)
        while len(self.reads) == count:
            self.assertLess(self.clock.seconds(), 10_000)
            self.clock.advance(0.5)

    def test_probes(self) -> None:
        """
        Members without a neighbour are probed, once for each record; those that have one, and our own
        neighbours, are not.
        """
        alone = record(1)
        self.found = [alone, record(2, b"x" * 32), FoundRecord(NEIGHBOR, 1)]
        self.read()
        self.assertEqual(self.probed, [(alone.publisher, ADDRESSES, TOPIC)])
        self.read()
        self.assertEqual(len(self.probed), 1)
        self.found = [record(1, minute=2)]
        self.read()
        self.assertEqual(len(self.probed), 2)

    def test_unresolved(self) -> None:
        """
        A member whose addresses must be looked up is not probed, and not looked up.
        """
        resolving: Deferred[Any] = Deferred()
        self.resolving = lambda peer: resolving
        self.found = [record(1)]
        self.read()
        self.assertEqual(self.probed, [])
        self.assertEqual(self.flushLoggedErrors(), [])
        self.assertTrue(resolving.called)

    def test_interval(self) -> None:
        """
        The more publishers there are the more rarely each reads, up to a limit; intervals vary.
        """
        for count, expected in (
            (0, SECONDS_PER_PUBLISHER),
            (4, 5 * SECONDS_PER_PUBLISHER),
            (100, MAX_INTERVAL),
        ):
            self.found = [record(number, NEIGHBOR) for number in range(count)] * 2
            self.read()
            self.reads.clear()
            for _ in range(20):
                self.read()
            waits = [late - early for early, late in zip(self.reads, self.reads[1:], strict=False)]
            self.assertGreaterEqual(min(waits), expected * (1 - JITTER) - 0.5)
            self.assertLessEqual(max(waits), expected * (1 + JITTER) + 0.5)
            self.assertGreater(max(waits) - min(waits), expected * 0.3)

    def test_reached(self) -> None:
        """
        A member that others reach does not read; when that has ended, it does after the longest interval.
        """
        self.is_reached = True
        self.clock.pump([1.0] * 200)
        self.assertEqual(self.reads, [])
        self.is_reached = False
        self.clock.pump([1.0] * int(MAX_INTERVAL * (1 + JITTER) + 1))
        self.assertGreaterEqual(len(self.reads), 1)

    def test_alone(self) -> None:
        """
        Nothing is read before there is a neighbour, nor if it was lost meanwhile.
        """
        self.read()
        self.neighbors = ()
        self.reads.clear()
        self.clock.pump([1.0] * 100)
        self.assertEqual((self.reads, len(self.waiting)), ([], 1))
        self.neighbors = (NEIGHBOR,)
        self.waiting[0].callback(None)
        self.read()

    def test_bounded(self) -> None:
        """
        A read leads to so many probes, the rest waits for the next one; so many records are remembered.
        """
        self.found = [record(number) for number in range(MAX_NEW + 3)]
        self.read()
        self.assertEqual(len(self.probed), MAX_NEW)
        self.read()
        self.assertEqual(len(self.probed), MAX_NEW + 3)
        for minute in range(MAX_SEEN):
            self.found = [record(99, minute=minute)]
            self.read()
        self.probed.clear()
        self.found = [record(0), record(99, minute=MAX_SEEN - 1)]
        self.read()
        self.assertEqual([publisher for publisher, _, _ in self.probed], [record(0).publisher])

    def test_stop(self) -> None:
        """
        Nothing is left after the end.
        """
        self.read()
        self.successResultOf(self.watcher.stopService())
        self.assertEqual(self.clock.getDelayedCalls(), [])
