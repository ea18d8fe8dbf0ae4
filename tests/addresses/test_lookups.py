"""
Tests for L{dtt.addresses.lookups} and L{dtt.addresses.resolver}.
"""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from dtt.addresses.book import EXPIRY, AddressBook
from dtt.addresses.lookups import (
    FIRST_HOLD,
    LONGEST_HOLD,
    MAX_HELD,
    MAX_RUNNING,
    MAX_WAITING,
    TIMEOUT,
)
from dtt.addresses.pkarr import Packet
from dtt.addresses.resolver import Resolver
from dtt.identity import PeerKey
from dtt.interfaces import IAddressBook
from dtt.wire.addresses import Address, PeerAddress
from tests.addresses.common import A, B, C, ManualStore, packet_of

OWN, ALICE = PeerKey.from_seed(b"o" * 32), PeerKey.from_seed(b"a" * 32)


def keys(count: int) -> list[PeerKey]:
    """
    Different ones.
    """
    return [PeerKey.from_seed(number.to_bytes(32, "big")) for number in range(count)]


class ResolverTests(SynchronousTestCase):
    """
    L{Resolver} with two stores.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.counters: Counter[str] = Counter()
        self.book = AddressBook(self.clock, Random(1), tuple, OWN.peer_id)
        self.dht, self.relay = ManualStore("dht"), ManualStore("relay")
        self.resolver = Resolver(self.clock, self.book, OWN.peer_id, (self.dht, self.relay), self.counters)

    def resolve(self, key: PeerKey = ALICE) -> Deferred[tuple[Address, ...]]:
        """
        Ask for a peer.
        """
        return self.resolver.resolve(key.peer_id)

    def found(self, store: ManualStore, packet: Packet) -> None:
        """
        A store answers its last search.
        """
        store.finding[-1][1](packet)

    def over(self, *stores: ManualStore) -> None:
        """
        The last search of each store ends.
        """
        for store in stores or (self.dht, self.relay):
            store.finding[-1][2].callback(None)

    def count(self) -> int:
        """
        How often the stores were asked.
        """
        self.assertEqual(len(self.dht.finding), len(self.relay.finding))
        return len(self.dht.finding)

    def test_interface(self) -> None:
        """
        It is an address book.
        """
        verifyObject(IAddressBook, self.resolver)

    def test_known(self) -> None:
        """
        What was named lately is the answer, and nobody is asked.
        """
        self.resolver.learn(ALICE.peer_id, [A], "record")
        self.assertEqual(self.successResultOf(self.resolve()), (A,))
        self.assertEqual(self.count(), 0)

    def test_nobody(self) -> None:
        """
        Ids that can't be anybody's, and our own, are not looked for.
        """
        for peer_id in (bytes(32), b"\x02" + bytes(31), b"short", OWN.peer_id):
            self.assertEqual(self.successResultOf(self.resolver.resolve(peer_id)), ())
        self.assertEqual(self.count(), 0)

    def test_first_usable(self) -> None:
        """
        All stores are asked at once; the first that has something is enough,
        and what follows goes into the book.
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
        In whatever order they arrive; an older one is counted, the same one again
        is nothing.
        """
        self.resolve()
        for seq, address in ((5, A), (7, B), (6, C), (7, B)):
            self.found(self.dht, packet_of(ALICE, seq, address))
        self.over()
        self.assertEqual(self.successResultOf(self.resolve()), (B,))
        self.assertEqual(self.counters["older_packet"], 1)

    def test_newest_wins_without_addresses(self) -> None:
        """
        A peer that says that it is nowhere is not looked for where it was before.
        """
        resolving = self.resolve()
        self.found(self.dht, packet_of(ALICE, 7))
        self.found(self.relay, packet_of(ALICE, 6, A))
        self.over()
        self.assertEqual(self.successResultOf(resolving), ())

    def test_undialable(self) -> None:
        """
        A packet whose addresses may not be dialled is no answer; the next may be.
        """
        resolving = self.resolve()
        self.found(self.dht, packet_of(ALICE, 5, PeerAddress(1, "127.0.0.1", 5)))
        self.assertNoResult(resolving)
        self.found(self.relay, packet_of(ALICE, 6, A))
        self.assertEqual(self.successResultOf(resolving), (A,))

    def test_nothing(self) -> None:
        """
        Of whom no store knows anything the answer is empty, when all are done.
        """
        resolving = self.resolve()
        self.over(self.dht)
        self.assertNoResult(resolving)
        self.over(self.relay)
        self.assertEqual(self.successResultOf(resolving), ())
        self.assertEqual(self.counters, {"searches": 1})

    def test_learnt_meanwhile(self) -> None:
        """
        What the book learns during a search is part of the answer.
        """
        resolving = self.resolve()
        self.resolver.learn(ALICE.peer_id, [A], "peer data")
        self.over()
        self.assertEqual(self.successResultOf(resolving), (A,))

    def test_one_at_a_time(self) -> None:
        """
        All who ask for one peer share a search, each with a Deferred of its own.
        """
        one, two, three = self.resolve(), self.resolve(), self.resolve()
        self.assertEqual(self.count(), 1)
        two.cancel()
        self.failureResultOf(two, CancelledError)
        self.found(self.dht, packet_of(ALICE, 5, A))
        self.assertEqual([self.successResultOf(each) for each in (one, three)], [(A,)] * 2)

    def test_cancelled_by_another(self) -> None:
        """
        One who is told may cancel the others.
        """
        one, two = self.resolve(), self.resolve()
        one.addCallback(lambda _: two.cancel())
        self.over()
        self.successResultOf(one)
        self.failureResultOf(two, CancelledError)

    def test_goes_on(self) -> None:
        """
        A search that nobody waits for any more goes on: the next caller will be
        glad of it.
        """
        resolving = self.resolve()
        resolving.cancel()
        self.failureResultOf(resolving, CancelledError)
        self.assertEqual((self.dht.cancelled, self.relay.cancelled), (0, 0))
        self.found(self.dht, packet_of(ALICE, 5, A))
        self.assertEqual(self.successResultOf(self.resolve()), (A,))

    def test_time_out(self) -> None:
        """
        A store that does not answer in time is given up, and counted.
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
        A peer without a packet is not looked for each time that it is asked for:
        after 2 s, 4 s, ... 5 min.
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
        Once something was found the holds are short again.
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

    def test_failed_dial(self) -> None:
        """
        After a failed dial, which puts what is known in back-off, a search may
        find where the peer has gone: a new address is dialled at once.
        """
        self.resolver.learn(ALICE.peer_id, [A], "record")
        self.resolver.failed(ALICE.peer_id, [A])
        resolving = self.resolve()
        self.assertNoResult(resolving)
        self.found(self.dht, packet_of(ALICE, 5, B))
        self.assertEqual(self.successResultOf(resolving), (B,))

    def test_hearsay_that_failed(self) -> None:
        """
        Who names ever new addresses of a peer that lead nowhere does not keep us
        from asking for what the peer has signed; hearsay that has not failed is
        enough.
        """
        self.resolver.learn(ALICE.peer_id, [A], "peer data")
        self.assertEqual(self.successResultOf(self.resolve()), (A,))
        self.assertEqual(self.count(), 0)
        self.resolver.failed(ALICE.peer_id, [A])
        self.resolver.learn(ALICE.peer_id, [B], "peer data")
        self.assertEqual(self.successResultOf(self.resolve()), (B,))
        self.assertEqual(self.count(), 1)
        self.found(self.dht, packet_of(ALICE, 5, C))
        self.assertEqual(self.successResultOf(self.resolve()), (C, B))
        self.over()
        self.clock.advance(FIRST_HOLD)
        self.resolver.learn(ALICE.peer_id, [C], "peer data")
        self.successResultOf(self.resolve())
        self.assertEqual(self.count(), 1)

    def test_hearsay_that_was_reached(self) -> None:
        """
        Once the peer was reached hearsay is enough again.
        """
        self.resolver.learn(ALICE.peer_id, [A], "peer data")
        self.resolver.failed(ALICE.peer_id, [A])
        self.resolver.learn(ALICE.peer_id, [B], "peer data")
        self.resolver.succeeded(ALICE.peer_id)
        self.assertEqual(self.successResultOf(self.resolve()), (B,))
        self.assertEqual(self.count(), 0)

    def test_reached_before(self) -> None:
        """
        Where a peer was last reached is the answer, while others are asked for
        something newer.
        """
        self.resolver.learn(ALICE.peer_id, [A], "record")
        self.resolver.succeeded(ALICE.peer_id)
        self.clock.advance(EXPIRY)
        self.assertEqual(self.successResultOf(self.resolve()), (A,))
        self.assertEqual(self.count(), 1)
        self.found(self.dht, packet_of(ALICE, 5, B))
        self.assertEqual(self.successResultOf(self.resolve()), (B,))

    def test_at_most_so_many(self) -> None:
        """
        Searches beyond the fourth wait for their turn, and beyond the queue
        there is an answer at once.
        """
        many = keys(MAX_RUNNING + MAX_WAITING + 1)
        resolving = [self.resolve(key) for key in many]
        self.assertEqual(self.count(), MAX_RUNNING)
        self.assertEqual(self.successResultOf(resolving[-1]), ())
        self.assertEqual(self.counters["too_many_searches"], 1)
        self.assertEqual([each.called for each in resolving[:-1]], [False] * (len(many) - 1))
        self.over()
        self.assertEqual(self.count(), MAX_RUNNING + 1)
        self.assertEqual(self.dht.finding[-1][0], many[MAX_RUNNING].peer_id)

    def test_all_get_their_turn(self) -> None:
        """
        One after another, also when the stores answer at once.
        """
        many = keys(MAX_RUNNING + MAX_WAITING)
        resolving = [self.resolve(key) for key in many]
        number = 0
        while number < len(self.dht.finding):
            for store in (self.dht, self.relay):
                store.finding[number][2].callback(None)
            number += 1
        self.assertEqual([self.successResultOf(each) for each in resolving], [()] * len(many))

    def test_cancelled_in_the_queue(self) -> None:
        """
        A search whose turn has not come is given up with its last caller.
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
        Only so many ids without a packet are remembered.
        """
        for key in keys(MAX_HELD + 10):
            self.resolve(key)
            self.over()
        self.assertEqual(len(self.resolver._lookups._holds), MAX_HELD)

    def test_stop(self) -> None:
        """
        Stopped, all searches end, who waits is told, and nobody is asked any more.
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
        A store that answers after its search is over changes nothing.
        """
        self.resolve()
        self.over()
        self.found(self.dht, packet_of(ALICE, 5, A))
        self.assertEqual(self.successResultOf(self.resolve()), ())

    def test_no_stores(self) -> None:
        """
        Without stores it is the book alone.
        """
        resolver = Resolver(self.clock, self.book, OWN.peer_id, (), self.counters)
        self.assertEqual(self.successResultOf(resolver.resolve(ALICE.peer_id)), ())
        resolver.learn(ALICE.peer_id, [A], "record")
        self.assertEqual(self.successResultOf(resolver.resolve(ALICE.peer_id)), (A,))
        self.assertEqual(self.counters, {})

    def test_mistakes(self) -> None:
        """
        A store that fails, which it must not, is logged; the others' answers count.
        """
        resolving: Deferred[Any] = self.resolve()
        self.dht.finding[-1][2].errback(ZeroDivisionError())
        self.found(self.relay, packet_of(ALICE, 5, A))
        self.over(self.relay)
        self.assertEqual(self.successResultOf(resolving), (A,))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
