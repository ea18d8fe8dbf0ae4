"""
Tests for L{dtt.addresses.publisher}.
"""

from __future__ import annotations

from collections import Counter

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from dtt.addresses.interfaces import IPacketStore
from dtt.addresses.publisher import (
    DEBOUNCE,
    FIRST_RETRY,
    LONGEST_RETRY,
    MAX_ATTEMPTS,
    SHORTEST,
    START_DELAY,
    TIMEOUT,
    PacketPublisher,
)
from dtt.addresses.signer import Signer
from dtt.errors import LocalError, PublishFailed
from dtt.identity import PeerKey
from dtt.testing.net.clock import advance
from dtt.wire.addresses import Address
from tests.addresses.common import A, B, C, ManualStore
from tests.tracker.common import collect_warnings

KEY = PeerKey.from_seed(b"k" * 32)
INTERVAL = 3600.0


class PublisherTests(SynchronousTestCase):
    """
    L{PacketPublisher}.
    """

    interval = INTERVAL

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_800_000_000)
        self.addresses: tuple[Address, ...] = (A,)
        self.store = ManualStore()
        self.counters: Counter[str] = Counter()
        self.published: list[tuple[str, int]] = []
        self.warnings: list[str] = []
        collect_warnings(self, self.warnings)
        self.publisher = PacketPublisher(
            self.clock,
            Signer(self.clock, KEY, lambda: self.addresses, None),
            self.store,
            self.interval,
            self.counters,
            lambda *what: self.published.append(what),
        )

    def start(self) -> None:
        """
        Start, and wait for the first packet.
        """
        self.publisher.startService()
        self.addCleanup(self.stop)
        self.advance(START_DELAY)

    def stop(self) -> None:
        """
        It stops at once, and leaves nothing.
        """
        self.successResultOf(self.publisher.stopService())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def advance(self, seconds: float) -> None:
        """
        Let time pass, event by event.
        """
        advance(self.clock, seconds)

    def end(self, error: Exception | None = None) -> None:
        """
        End the publishing that is under way.
        """
        _, over = self.store.publishing[-1]
        over.callback(None) if error is None else over.errback(Failure(error))

    def count(self) -> int:
        """
        How often it was published so far.
        """
        return len(self.store.publishing)

    def change(self, *addresses: Address) -> None:
        """
        Our addresses have become these.
        """
        self.addresses = addresses
        self.publisher.update()

    def test_store(self) -> None:
        """
        The store of these tests is one.
        """
        verifyObject(IPacketStore, self.store)

    def test_start(self) -> None:
        """
        A moment after the start our packet is published, and we are told.
        """
        self.start()
        self.assertEqual([p.addresses() for p, _ in self.store.publishing], [(A,)])
        self.assertEqual((self.published, self.publisher.published), ([], None))
        self.end()
        self.assertEqual((self.published, self.counters), ([("store", 1)], {"store: published": 1}))
        self.assertEqual(self.publisher.published, self.store.publishing[0][0].dns)

    def test_interval(self) -> None:
        """
        Each interval it is published again, with a higher number; we are told
        once.
        """
        self.start()
        for count in range(1, 5):
            self.end()
            self.advance(INTERVAL - 1)
            self.assertEqual(self.count(), count)
            self.advance(1 + DEBOUNCE)
        seqs = [packet.seq for packet, _ in self.store.publishing]
        self.assertEqual(seqs, sorted(set(seqs)))
        self.assertEqual(self.published, [("store", 1)])

    def test_not_ready(self) -> None:
        """
        Before there is anybody to ask nothing is done, however long it takes.
        """
        self.store.ready = Deferred()
        self.publisher.startService()
        self.advance(1000)
        self.assertEqual(self.count(), 0)
        self.store.ready.callback(None)
        self.advance(START_DELAY)
        self.assertEqual(self.count(), 1)
        self.stop()

    def test_change(self) -> None:
        """
        When the addresses change it is published at once, all changes together.
        """
        self.start()
        self.end()
        self.advance(100)
        self.change(B)
        self.change(B, C)
        self.advance(DEBOUNCE)
        self.assertEqual([p.addresses() for p, _ in self.store.publishing[1:]], [(B, C)])
        self.end()
        self.assertEqual(self.published, [("store", 1), ("store", 2)])

    def test_no_change(self) -> None:
        """
        An update that changes nothing is none.
        """
        self.start()
        self.end()
        self.advance(100)
        self.change(A)
        self.advance(INTERVAL - 101)
        self.assertEqual(self.count(), 1)
        self.advance(1 + DEBOUNCE)
        self.assertEqual(self.count(), 2)

    def test_change_while_publishing(self) -> None:
        """
        A change in the midst of it is published afterwards.
        """
        self.start()
        self.change(B)
        self.advance(1)
        self.end()
        self.advance(SHORTEST + DEBOUNCE)
        self.assertEqual([p.addresses() for p, _ in self.store.publishing], [(A,), (B,)])

    def test_flapping(self) -> None:
        """
        Addresses that change all the time are published every few seconds only.
        """
        self.start()
        for number in range(600):
            if not self.store.publishing[-1][1].called:
                self.end()
            self.change((A, B)[number % 2])
            self.advance(0.1)
        self.assertLessEqual(self.count(), 1 + 60 / SHORTEST)

    def test_nothing_to_publish(self) -> None:
        """
        Without an address there is no packet, until there is one.
        """
        self.addresses = ()
        self.start()
        self.advance(2 * INTERVAL)
        self.assertEqual((self.count(), self.counters), (0, {}))
        self.change(A)
        self.advance(DEBOUNCE)
        self.assertEqual(self.count(), 1)

    def test_first_address(self) -> None:
        """
        The first address is published at once, also right after the start.
        """
        self.addresses = ()
        self.start()
        self.advance(0.1)
        self.change(A)
        self.advance(DEBOUNCE)
        self.assertEqual(self.count(), 1)

    def test_newer_packet(self) -> None:
        """
        Where a newer packet of ours is found, ours is signed above it at once.
        """
        self.start()
        seq = self.store.publishing[0][0].seq + 10**12
        self.end(PublishFailed("newer packet", newer_seq=seq))
        self.assertEqual(self.store.publishing[1][0].seq, seq + 1)
        self.end()
        self.assertEqual((self.counters, self.warnings), ({"store: published": 1}, []))

    def test_always_newer(self) -> None:
        """
        Somebody with our key who is always ahead does not keep us busy.
        """
        self.start()
        for number in range(MAX_ATTEMPTS):
            self.assertEqual(self.count(), number + 1)
            self.end(PublishFailed("newer packet", newer_seq=self.store.publishing[-1][0].seq))
        self.assertEqual((self.count(), self.counters), (MAX_ATTEMPTS, {"store: newer_packet": 1}))
        self.advance(FIRST_RETRY + DEBOUNCE)
        self.assertEqual(self.count(), MAX_ATTEMPTS + 1)

    def test_no_higher_number(self) -> None:
        """
        Neither does a packet of ours with the highest number.
        """
        self.start()
        self.end(PublishFailed("newer packet", newer_seq=2**63 - 1))
        self.assertEqual(self.count(), 1)
        self.assertEqual(self.counters, {"store: no_higher_sequence_number": 1})

    def test_failures(self) -> None:
        """
        Failures are counted, told once, and tried again ever more slowly.
        """
        self.start()
        waits = []
        for _ in range(12):
            count, before = self.count(), self.clock.seconds()
            self.end(PublishFailed("no node stored it"))
            while self.count() == count:
                self.advance(0.25)
            waits.append(self.clock.seconds() - before)
        self.assertEqual([round(wait) for wait in waits[:5]], [5, 10, 20, 40, 80])
        self.assertEqual({round(wait) for wait in waits[7:]}, {int(LONGEST_RETRY)})
        self.assertEqual(self.counters, {"store: no_node_stored_it": 12})
        self.assertEqual(len(self.warnings), 1)
        self.end()
        self.assertEqual(self.published, [("store", 1)])
        self.advance(INTERVAL + DEBOUNCE)
        self.end(PublishFailed("again"))
        self.assertEqual(len(self.warnings), 2)

    def test_failures_with_a_short_interval(self) -> None:
        """
        No retry waits longer than the interval.
        """
        self.interval = 60.0
        self.setUp()
        self.start()
        for _ in range(8):
            count, before = self.count(), self.clock.seconds()
            self.end(PublishFailed("no node stored it"))
            while self.count() == count:
                self.advance(0.25)
            self.assertLessEqual(self.clock.seconds() - before, 61)

    def test_retry_after(self) -> None:
        """
        A store that wants to be left alone is, also when the addresses change.
        """
        self.start()
        self.end(PublishFailed("status 429", retry_after=1000.0))
        self.change(B)
        self.advance(999)
        self.assertEqual(self.count(), 1)
        self.advance(1 + DEBOUNCE)
        self.assertEqual(self.count(), 2)

    def test_time_out(self) -> None:
        """
        A store that never answers is given up, and asked again.
        """
        self.start()
        self.advance(TIMEOUT)
        self.assertEqual((self.store.cancelled, self.counters), (1, {"store: timed_out": 1}))
        self.advance(FIRST_RETRY + DEBOUNCE)
        self.assertEqual(self.count(), 2)

    def test_stop(self) -> None:
        """
        It can be stopped at any moment, and again; nothing is logged as a mistake.
        """
        for when in (0.0, START_DELAY, START_DELAY + 1, START_DELAY + TIMEOUT + 1, 2000.0):
            publisher = self.publisher
            publisher.startService()
            self.advance(when)
            self.stop()
            self.stop()

    def test_store_stops_first(self) -> None:
        """
        When the DHT node was stopped before us that is no mistake of ours.
        """
        self.store.ready = fail(LocalError("stopped"))
        self.publisher.startService()
        self.stop()
