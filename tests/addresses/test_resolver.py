"""
Tests for L{dtt.addresses.resolver}.
"""

from __future__ import annotations

from zope.interface.verify import verifyObject

from dtt.addresses.book import EXPIRY
from dtt.addresses.lookups import (
    FIRST_HOLD,
    TIMEOUT,
)
from dtt.addresses.resolver import Resolver
from dtt.interfaces import IAddressBook
from tests.addresses.common import ALICE, OWN, A, B, C, ResolverTestCase, packet_of


class ResolverTests(ResolverTestCase):
    """
    When the book answers, and when the stores are asked.
    """

    def test_interface(self) -> None:
        """
        The resolver is an address book.
        """
        verifyObject(IAddressBook, self.resolver)

    def test_known(self) -> None:
        """
        Recently named addresses are returned without asking the stores.
        """
        self.resolver.learn(ALICE.peer_id, [A], "record")
        self.assertEqual(self.successResultOf(self.resolve()), (A,))
        self.assertEqual(self.count(), 0)

    def test_nobody(self) -> None:
        """
        Invalid ids and the member's own id are not looked up.
        """
        for peer_id in (bytes(32), b"\x02" + bytes(31), b"short", OWN.peer_id):
            self.assertEqual(self.successResultOf(self.resolver.resolve(peer_id)), ())
        self.assertEqual(self.count(), 0)

    def test_learnt_meanwhile(self) -> None:
        """
        Addresses that the book learns during a search are part of the result.
        """
        resolving = self.resolve()
        self.resolver.learn(ALICE.peer_id, [A], "peer data")
        self.over()
        self.assertEqual(self.successResultOf(resolving), (A,))

    def test_failed_dial(self) -> None:
        """
        After a failed dial, which puts the known addresses in back-off, a search may find
        a new address, which is dialled immediately.
        """
        self.resolver.learn(ALICE.peer_id, [A], "record")
        self.resolver.failed(ALICE.peer_id, [A])
        resolving = self.resolve()
        self.assertNoResult(resolving)
        self.found(self.dht, packet_of(ALICE, 5, B))
        self.assertEqual(self.successResultOf(resolving), (B,))

    def test_hearsay_that_failed(self) -> None:
        """
        Hearsay addresses that fail do not prevent a search for the peer's signed packet;
        hearsay that has not failed does.
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
        After the peer was reached, hearsay is sufficient again.
        """
        self.resolver.learn(ALICE.peer_id, [A], "peer data")
        self.resolver.failed(ALICE.peer_id, [A])
        self.resolver.learn(ALICE.peer_id, [B], "peer data")
        self.resolver.succeeded(ALICE.peer_id)
        self.assertEqual(self.successResultOf(self.resolve()), (B,))
        self.assertEqual(self.count(), 0)

    def test_reached_before(self) -> None:
        """
        The address at which a peer was last reached is returned, while the stores are
        asked for a newer one.
        """
        self.resolver.learn(ALICE.peer_id, [A], "record")
        self.resolver.succeeded(ALICE.peer_id)
        self.clock.advance(EXPIRY)
        self.assertEqual(self.successResultOf(self.resolve()), (A,))
        self.assertEqual(self.count(), 1)
        self.found(self.dht, packet_of(ALICE, 5, B))
        self.assertEqual(self.successResultOf(self.resolve()), (B,))

    def test_no_room(self) -> None:
        """
        A peer whose addresses are all in networks that were dialled too often is neither
        dialled nor searched.
        """
        self.book.has_room = lambda address: address != A
        self.resolver.learn(ALICE.peer_id, [A], "record")
        self.assertEqual(self.successResultOf(self.resolve()), ())
        self.assertEqual(self.count(), 0)
        self.resolver.learn(ALICE.peer_id, [B], "record")
        self.assertEqual(self.successResultOf(self.resolve()), (B,))

    def test_no_stores(self) -> None:
        """
        Without stores, only the book is used.
        """
        resolver = Resolver(self.clock, self.book, OWN.peer_id, (), self.counters)
        self.assertEqual(self.successResultOf(resolver.resolve(ALICE.peer_id)), ())
        resolver.learn(ALICE.peer_id, [A], "record")
        self.assertEqual(self.successResultOf(resolver.resolve(ALICE.peer_id)), (A,))
        self.assertEqual(self.counters, {})

    def test_source(self) -> None:
        """
        The origin of addresses is that which the book knows.
        """
        self.resolver.learn(ALICE.peer_id, [A], "record")
        self.assertEqual(self.resolver.source(ALICE.peer_id), "record")
        self.assertEqual(self.resolver.source(ALICE.peer_id), self.book.source(ALICE.peer_id))

    def test_refresh(self) -> None:
        """
        C{refresh} asks the stores although addresses are known, once at a time; what they
        have goes into the book.
        """
        self.resolver.learn(ALICE.peer_id, [A], "record")
        self.resolver.refresh(ALICE.peer_id)
        self.resolver.refresh(ALICE.peer_id)
        self.assertEqual(self.count(), 1)
        self.found(self.dht, packet_of(ALICE, 5, B))
        self.over()
        self.assertEqual(self.successResultOf(self.resolve()), (A, B))

    def test_peek(self) -> None:
        """
        C{peek} asks the stores for newer packets, once at a time, and not while the peer is looked up.
        Time-outs are counted; an older packet changes nothing.
        """
        moved: list[bytes] = []
        self.book.on_moved = lambda peer, _: moved.append(peer)
        self.resolver.learn(ALICE.peer_id, [A], "record")
        self.resolver.peek(ALICE.peer_id)
        self.resolver.peek(ALICE.peer_id)
        (peer_id, on_packet, over) = self.dht.peeking[0]
        self.assertEqual((len(self.dht.peeking), len(self.relay.peeking), peer_id), (1, 1, ALICE.peer_id))
        on_packet(packet_of(ALICE, 5, B))
        on_packet(packet_of(ALICE, 4, C))
        self.assertEqual((self.successResultOf(self.resolve()), moved), ((A, B), [ALICE.peer_id]))
        over.callback(None)
        self.clock.advance(TIMEOUT)
        self.assertEqual(self.counters, {"relay: search_timed_out": 1})
        self.resolver.refresh(ALICE.peer_id)
        self.resolver.peek(ALICE.peer_id)
        self.assertEqual(len(self.dht.peeking), 1)
        self.over()
        self.resolver.peek(ALICE.peer_id)
        self.assertEqual(len(self.dht.peeking), 2)

    def test_peek_stopped(self) -> None:
        """
        The end cancels looks, and nothing is looked at afterwards.
        """
        self.resolver.peek(ALICE.peer_id)
        self.resolver.stop()
        self.assertEqual((self.dht.cancelled, self.relay.cancelled), (1, 1))
        self.dht.peeking[0][1](packet_of(ALICE, 5, B))
        self.assertEqual(self.book.known(ALICE.peer_id), ())
        self.resolver.peek(ALICE.peer_id)
        self.assertEqual(len(self.dht.peeking), 1)

    def test_refresh_nobody(self) -> None:
        """
        C{refresh} and C{peek} do not look up invalid ids, nor our own.
        """
        for peer_id in (bytes(32), b"short", OWN.peer_id):
            self.resolver.refresh(peer_id)
            self.resolver.peek(peer_id)
        self.assertEqual((self.count(), self.dht.peeking), (0, []))

    def test_stop(self) -> None:
        """
        Callers that wait get what the book has learnt; the stores are not asked again.
        """
        resolving = self.resolve()
        self.resolver.learn(ALICE.peer_id, [A], "peer data")
        self.resolver.stop()
        self.assertEqual(self.successResultOf(resolving), (A,))
        self.resolver.refresh(ALICE.peer_id)
        self.assertEqual(self.count(), 1)
