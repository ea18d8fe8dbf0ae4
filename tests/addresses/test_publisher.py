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
from dtt.addresses.signer import LocalPeer, Signer
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
            Signer(self.clock, LocalPeer(KEY, lambda: self.addresses, None)),
            self.store,
            self.interval,
            self.counters,
            lambda *what: self.published.append(what),
        )

    def start(self) -> None:
        """
        Start the publisher and wait for the first packet.
        """
        self.publisher.startService()
        self.addCleanup(self.stop)
        self.advance(START_DELAY)

    def stop(self) -> None:
        """
        Stopping is immediate and leaves no pending calls.
        """
        self.successResultOf(self.publisher.stopService())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def advance(self, seconds: float) -> None:
        """
        Advance the clock, event by event.
        """
        advance(self.clock, seconds)

    def end(self, error: Exception | None = None) -> None:
        """
        Finish the current publication.
        """
        _, over = self.store.publishing[-1]
        over.callback(None) if error is None else over.errback(Failure(error))

    def count(self) -> int:
        """
        The number of publications so far.
        """
        return len(self.store.publishing)

    def change(self, *addresses: Address) -> None:
        """
        Change the member's addresses.
        """
        self.addresses = addresses
        self.publisher.update()

    def test_store(self) -> None:
        """
        The store in these tests provides the interface.
        """
        verifyObject(IPacketStore, self.store)

    def test_start(self) -> None:
        """
        The packet is published shortly after the start, and an event reports it.
        """
        self.start()
        self.assertEqual([p.addresses() for p, _ in self.store.publishing], [(A,)])
        self.assertEqual((self.published, self.publisher.published), ([], None))
        self.end()
        self.assertEqual((self.published, self.counters), ([("store", 1)], {"store: published": 1}))
        self.assertEqual(self.publisher.published, self.store.publishing[0][0].dns)

    def test_interval(self) -> None:
        """
        The packet is published again after each interval, with a higher number; only the
        first time is reported.
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
        Before the store is ready nothing is published, however long it takes.
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
        Changed addresses are published immediately; several changes are combined.
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
        An update without a change publishes nothing.
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
        A change during a publication is published afterwards.
        """
        self.start()
        self.change(B)
        self.advance(1)
        self.end()
        self.advance(SHORTEST + DEBOUNCE)
        self.assertEqual([p.addresses() for p, _ in self.store.publishing], [(A,), (B,)])

    def test_flapping(self) -> None:
        """
        Addresses that change constantly are published only every few seconds.
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
        Without an address nothing is published, until there is one.
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
        The first address is published immediately, even directly after the start.
        """
        self.addresses = ()
        self.start()
        self.advance(0.1)
        self.change(A)
        self.advance(DEBOUNCE)
        self.assertEqual(self.count(), 1)

    def test_newer_packet(self) -> None:
        """
        If the store has a newer packet of this member, its own is immediately re-signed
        with a higher number.
        """
        self.start()
        seq = self.store.publishing[0][0].seq + 10**12
        self.end(PublishFailed("newer packet", newer_seq=seq))
        self.assertEqual(self.store.publishing[1][0].seq, seq + 1)
        self.end()
        self.assertEqual((self.counters, self.warnings), ({"store: published": 1}, []))

    def test_always_newer(self) -> None:
        """
        Another holder of the key that is always ahead does not keep the publisher busy.
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
        A packet with the highest possible number does not keep the publisher busy,
        either.
        """
        self.start()
        self.end(PublishFailed("newer packet", newer_seq=2**63 - 1))
        self.assertEqual(self.count(), 1)
        self.assertEqual(self.counters, {"store: no_higher_sequence_number": 1})

    def test_failures(self) -> None:
        """
        Failures are counted, reported once, and retried with growing delays.
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
        A store's Retry-After is respected, even if the addresses change.
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
        A store that never answers is given up and tried again.
        """
        self.start()
        self.advance(TIMEOUT)
        self.assertEqual((self.store.cancelled, self.counters), (1, {"store: timed_out": 1}))
        self.advance(FIRST_RETRY + DEBOUNCE)
        self.assertEqual(self.count(), 2)

    def test_stop(self) -> None:
        """
        Stopping works at any moment, and twice; nothing is logged as an error.
        """
        for when in (0.0, START_DELAY, START_DELAY + 1, START_DELAY + TIMEOUT + 1, 2000.0):
            publisher = self.publisher
            publisher.startService()
            self.advance(when)
            self.stop()
            self.stop()

    def test_store_stops_first(self) -> None:
        """
        It is not an error if the DHT node stops before the publisher.
        """
        self.store.ready = fail(LocalError("stopped"))
        self.publisher.startService()
        self.stop()
