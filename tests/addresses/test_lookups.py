"""
Tests for L{dtt.addresses.lookups}.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from dtt.addresses.lookups import (
    FIRST_HOLD,
    LONGEST_HOLD,
    MAX_HEARSAY,
    MAX_HELD,
    MAX_RUNNING,
    MAX_WAITING,
    TIMEOUT,
    WINDOW,
)
from dtt.identity import PeerKey
from dtt.wire.addresses import PeerAddress
from tests.addresses.common import ALICE, A, B, C, ResolverTestCase, packet_of


def keys(count: int) -> list[PeerKey]:
    """
    Distinct keys.
    """
    return [PeerKey.from_seed(number.to_bytes(32, "big")) for number in range(count)]


class LookupsTests(ResolverTestCase):
    """
    The searches of a L{Resolver} with two stores.
    """

    def unreachable(self, count: int) -> list[PeerKey]:
        """
        Return peers that have signed an address at which they were not reached.
        """
        peers = keys(count)
        for key in peers:
            self.resolver.learn(key.peer_id, [A], "record")
            self.resolver.failed(key.peer_id, [A])
        return peers

    def test_first_usable(self) -> None:
        """
        All stores are asked concurrently. The first usable packet completes the search;
        later packets go into the book.
        """
        resolving = self.resolve()
        self.assertEqual(self.count(), 1)
        self.assertNoResult(resolving)
        self.found(self.relay, packet_of(ALICE, 5, A))
        self.assertEqual(self.successResultOf(resolving), (A,))
        self.found(self.dht, packet_of(ALICE, 6, B, C))
        self.assertEqual(self.successResultOf(self.resolve()), (B, C))
        self.assertEqual({k.source for k in self.book.known(ALICE.peer_id)}, {"pkarr"})
        self.over()
        self.assertEqual(self.counters, {"searches": 1, "found": 1})

    def test_newest_wins(self) -> None:
        """
        The newest packet wins in any order of arrival; an older one is counted, a
        duplicate is ignored.
        """
        self.resolve()
        for seq, address in ((5, A), (7, B), (6, C), (7, B)):
            self.found(self.dht, packet_of(ALICE, seq, address))
        self.over()
        self.assertEqual(self.successResultOf(self.resolve()), (B,))
        self.assertEqual(self.counters["older_packet"], 1)

    def test_newest_wins_without_addresses(self) -> None:
        """
        A newer packet without addresses removes the earlier addresses.
        """
        resolving = self.resolve()
        self.found(self.dht, packet_of(ALICE, 7))
        self.found(self.relay, packet_of(ALICE, 6, A))
        self.over()
        self.assertEqual(self.successResultOf(resolving), ())

    def test_undialable(self) -> None:
        """
        A packet with only undialable addresses does not complete the search; the next one
        may.
        """
        resolving = self.resolve()
        self.found(self.dht, packet_of(ALICE, 5, PeerAddress(1, "127.0.0.1", 5)))
        self.assertNoResult(resolving)
        self.found(self.relay, packet_of(ALICE, 6, A))
        self.assertEqual(self.successResultOf(resolving), (A,))

    def test_nothing(self) -> None:
        """
        If no store has a packet, the result is empty once all have finished.
        """
        resolving = self.resolve()
        self.over(self.dht)
        self.assertNoResult(resolving)
        self.over(self.relay)
        self.assertEqual(self.successResultOf(resolving), ())
        self.assertEqual(self.counters, {"searches": 1})

    def test_one_at_a_time(self) -> None:
        """
        Concurrent lookups of one peer share a search, each with its own Deferred.
        """
        one, two, three = self.resolve(), self.resolve(), self.resolve()
        self.assertEqual(self.count(), 1)
        two.cancel()
        self.failureResultOf(two, CancelledError)
        self.found(self.dht, packet_of(ALICE, 5, A))
        self.assertEqual([self.successResultOf(each) for each in (one, three)], [(A,)] * 2)

    def test_cancelled_by_another(self) -> None:
        """
        A callback may cancel the other Deferreds of the same search.
        """
        one, two = self.resolve(), self.resolve()
        one.addCallback(lambda _: two.cancel())
        self.over()
        self.successResultOf(one)
        self.failureResultOf(two, CancelledError)

    def test_goes_on(self) -> None:
        """
        A search whose callers have all cancelled continues, for the benefit of the next
        caller.
        """
        resolving = self.resolve()
        resolving.cancel()
        self.failureResultOf(resolving, CancelledError)
        self.assertEqual((self.dht.cancelled, self.relay.cancelled), (0, 0))
        self.found(self.dht, packet_of(ALICE, 5, A))
        self.assertEqual(self.successResultOf(self.resolve()), (A,))

    def test_time_out(self) -> None:
        """
        A store that does not answer in time is given up and counted.
        """
        resolving = self.resolve()
        self.over(self.relay)
        self.clock.advance(TIMEOUT)
        self.assertEqual(self.successResultOf(resolving), ())
        self.assertEqual(self.dht.cancelled, 1)
        self.assertEqual(self.counters["dht: search_timed_out"], 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_remembered_nothing(self) -> None:
        """
        A peer without a packet is not searched for again for 2 s, then 4 s, ... up to 5
        min.
        """
        waits = []
        for _ in range(11):
            self.resolve()
            self.over()
            count, before = self.count(), self.clock.seconds()
            while self.resolve().called:
                self.clock.advance(1)
            self.over()
            self.assertEqual(self.count(), count + 1)
            waits.append(self.clock.seconds() - before)
            self.clock.advance(LONGEST_HOLD)
        self.assertEqual(waits[:3], [2.0, 8.0, 32.0])
        self.assertEqual(max(waits), LONGEST_HOLD)

    def test_something_ends_it(self) -> None:
        """
        After a packet was found, the intervals start again at 2 s.
        """
        for _ in range(5):
            self.resolve()
            self.over()
            self.clock.advance(LONGEST_HOLD)
        self.resolve()
        self.found(self.dht, packet_of(ALICE, 5, A))
        self.over()
        self.book.failed(ALICE.peer_id, [A])
        self.assertEqual(self.successResultOf(self.resolve()), ())
        self.clock.advance(FIRST_HOLD)
        self.book.failed(ALICE.peer_id, [A])
        self.assertNoResult(self.resolve())

    def test_at_most_so_many(self) -> None:
        """
        At most four searches run; others are queued, and if the queue is full the result
        is empty immediately.
        """
        many = self.unreachable(MAX_RUNNING + MAX_WAITING + 1)
        resolving = [self.resolve(key) for key in many]
        self.assertEqual(self.count(), MAX_RUNNING)
        self.assertEqual(self.successResultOf(resolving[-1]), ())
        self.assertEqual(self.counters["too_many_searches"], 1)
        self.assertEqual([each.called for each in resolving[:-1]], [False] * (len(many) - 1))
        self.over()
        self.assertEqual(self.count(), MAX_RUNNING + 1)
        self.assertEqual(self.dht.finding[-1][0], many[MAX_RUNNING].peer_id)

    def test_hearsay(self) -> None:
        """
        Of ids that have signed nothing, thirty are searched a minute; others are not
        concerned.
        """
        many = keys(MAX_HEARSAY + 2)
        for key in many[:MAX_HEARSAY]:
            self.resolve(key)
            self.over()
        self.assertEqual(self.successResultOf(self.resolve(many[-1])), ())
        self.assertEqual(self.counters["too_many_hearsay_searches"], 1)
        self.assertEqual(self.count(), MAX_HEARSAY)
        self.resolver.learn(ALICE.peer_id, [A], "record")
        self.resolver.failed(ALICE.peer_id, [A])
        self.assertNoResult(self.resolve(ALICE))
        self.clock.advance(WINDOW)
        self.assertNoResult(self.resolve(many[-1]))

    def test_all_get_their_turn(self) -> None:
        """
        Queued searches run one after another, even if the stores answer immediately.
        """
        many = self.unreachable(MAX_RUNNING + MAX_WAITING)
        resolving = [self.resolve(key) for key in many]
        number = 0
        while number < len(self.dht.finding):
            for store in (self.dht, self.relay):
                store.finding[number][2].callback(None)
            number += 1
        self.assertEqual([self.successResultOf(each) for each in resolving], [()] * len(many))

    def test_cancelled_in_the_queue(self) -> None:
        """
        A queued search is dropped when its last caller cancels.
        """
        many = keys(MAX_RUNNING + 2)
        resolving = [self.resolve(key) for key in many]
        another = self.resolve(many[-1])
        resolving[-1].cancel()
        resolving[-2].cancel()
        another.cancel()
        for each in (resolving[-1], resolving[-2], another):
            self.failureResultOf(each, CancelledError)
        self.over()
        self.assertEqual(self.count(), MAX_RUNNING)

    def test_holds_are_bounded(self) -> None:
        """
        The number of ids without a packet remembered is limited.
        """
        for key in keys(MAX_HELD + 10):
            self.resolve(key)
            self.over()
            self.clock.advance(WINDOW / MAX_HEARSAY)
        self.assertEqual(len(self.resolver._lookups._holds), MAX_HELD)

    def test_stop(self) -> None:
        """
        C{stop} ends all searches and fires their Deferreds; no store is asked from then
        on.
        """
        many = keys(MAX_RUNNING + 2)
        resolving = [self.resolve(key) for key in many]
        self.resolver.stop()
        self.assertEqual([self.successResultOf(each) for each in resolving], [()] * len(many))
        self.assertEqual((self.dht.cancelled, self.relay.cancelled), (MAX_RUNNING, MAX_RUNNING))
        self.assertEqual(self.successResultOf(self.resolve(ALICE)), ())
        self.assertEqual((self.count(), self.clock.getDelayedCalls()), (MAX_RUNNING, []))

    def test_late(self) -> None:
        """
        A store that answers after the end of its search changes nothing.
        """
        self.resolve()
        self.over()
        self.found(self.dht, packet_of(ALICE, 5, A))
        self.assertEqual(self.successResultOf(self.resolve()), ())

    def test_mistakes(self) -> None:
        """
        A store that raises, which is a bug, is logged; the other stores' answers count.
        """
        resolving: Deferred[Any] = self.resolve()
        self.dht.finding[-1][2].errback(ZeroDivisionError())
        self.found(self.relay, packet_of(ALICE, 5, A))
        self.over(self.relay)
        self.assertEqual(self.successResultOf(resolving), (A,))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
