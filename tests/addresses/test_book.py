"""
Tests for L{dtt.addresses.book}.
"""

from __future__ import annotations

import random

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from dtt.addresses import held
from dtt.addresses.book import EXPIRY, MAX_PEERS, PKARR, REACHED_EXPIRY, RECORD, AddressBook
from dtt.addresses.pkarr import Packet
from dtt.addresses.saved import MAX_REACHED, ReachedPeer
from dtt.errors import DecodeError
from dtt.identity import PeerKey
from dtt.interfaces import IAddressBook
from dtt.wire.addresses import IROH, MAX_ADDRESSES, STREAMS, Address, PeerAddress, RelayAddress
from tests.addresses.common import packet_of

OWN_ID = PeerKey.from_seed(b"o" * 32).peer_id
PEER = PeerKey.from_seed(b"p" * 32).peer_id
OTHER = PeerKey.from_seed(b"q" * 32).peer_id
A = PeerAddress(STREAMS, "192.0.2.1", 1)
B = PeerAddress(STREAMS, "192.0.2.2", 1)
C = PeerAddress(IROH, "192.0.2.3", 1)


def peer_ids(count: int) -> list[bytes]:
    """
    Valid ids.
    """
    return [PeerKey.from_seed(number.to_bytes(32, "big")).peer_id for number in range(count)]


class AddressBookTests(SynchronousTestCase):
    """
    Tests for L{AddressBook}.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.seed = random.randrange(2**32)
        self.own: tuple[Address, ...] = ()
        self.book = AddressBook(self.clock, random.Random(self.seed), lambda: self.own, OWN_ID)

    def resolve(self, peer_id: bytes = PEER) -> tuple[Address, ...]:
        """
        The addresses that may be dialled now.
        """
        return self.successResultOf(self.book.resolve(peer_id))

    def test_moved(self) -> None:
        """
        A peer whose addresses are known, and who is said to have another one, has moved.
        """
        moved: list[bytes] = []
        self.book.on_moved = lambda peer, addresses: moved.append(peer)
        self.book.learn(PEER, [A, B], "record")
        self.book.learn(PEER, [B], "peer data")
        self.assertEqual(moved, [])
        self.book.learn(PEER, [B, C], "peer data")
        self.assertEqual(moved, [PEER])
        self.assertIn(C, self.resolve())

    def test_network_changed(self) -> None:
        """
        Failures count no more when the network has changed: it may have been ours.
        """
        self.book.learn(PEER, [A], "record")
        for _ in range(6):
            self.book.failed(PEER, [A])
        self.assertEqual(self.resolve(), ())
        self.book.network_changed()
        self.assertEqual(self.resolve(), (A,))

    def test_published(self) -> None:
        """
        A new record ends the back-off of a peer that was reached before, once; the next failure begins a
        longer one.
        """
        self.book.learn(PEER, [A], "record")
        for _ in range(6):
            self.book.failed(PEER, [A])
        self.clock.advance(held.HOLD_TIME)
        self.book.published(PEER)
        self.assertEqual(self.resolve(), ())
        self.book.succeeded(PEER)
        for _ in range(6):
            self.book.failed(PEER, [A])
        self.clock.advance(held.HOLD_TIME)
        self.book.published(PEER)
        self.book.published(OTHER)
        self.assertEqual(self.resolve(), (A,))
        self.book.failed(PEER, [A])
        self.clock.advance(4 * held.HOLD_TIME)
        self.assertEqual(self.resolve(), ())

    def fail_when_free(self) -> float:
        """
        Let the only address fail as soon as it may be dialled. Returns the seconds until
        the id's back-off ends, to a sixteenth.
        """
        self.book.failed(PEER, [PeerAddress(STREAMS, "192.0.2.99", 1)])
        waited = 0.0
        while not self.resolve():
            self.clock.advance(1 / 16)
            waited += 1 / 16
            self.book.learn(PEER, [A], "record")
        return waited

    def test_interface(self) -> None:
        """
        The book provides the interface that gossip uses.
        """
        verifyObject(IAddressBook, self.book)

    def test_learn(self) -> None:
        """
        A learnt address is resolved, in the order given; an unknown id has none.
        """
        self.book.learn(PEER, [A, B, C], "record")
        self.assertEqual(self.resolve(), (A, B, C))
        self.assertEqual(self.resolve(OTHER), ())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_provenance(self) -> None:
        """
        Each address has a source and the time at which it was last named.
        """
        self.book.learn(PEER, [A], "record")
        self.clock.advance(10)
        self.book.learn(PEER, [B], "peer data")
        known = {k.address: (k.source, k.learned_at) for k in self.book.known(PEER)}
        self.assertEqual(known, {A: ("record", 0.0), B: ("peer data", 10.0)})
        self.book.learn(PEER, [A], "peer data")
        known = {k.address: (k.source, k.learned_at) for k in self.book.known(PEER)}
        self.assertEqual(known[A], ("record", 10.0))
        self.assertEqual(self.book.known(OTHER), ())

    def test_nobody(self) -> None:
        """
        Ids that are not valid points, zero, and the book's own id are not stored.
        """
        for peer_id in (bytes(32), b"\x02" + bytes(31), b"short", OWN_ID):
            self.book.learn(peer_id, [A], "record")
            self.assertEqual(self.resolve(peer_id), ())
        self.assertEqual(len(self.book), 0)

    def test_undialable(self) -> None:
        """
        Undialable addresses are dropped, even if they become undialable later.
        """
        local = PeerAddress(STREAMS, "127.0.0.1", 5)
        self.book.learn(PEER, [local], "record")
        self.assertEqual(len(self.book), 0)
        self.own = (PeerAddress(STREAMS, "127.0.0.1", 4),)
        self.book.learn(PEER, [local, A], "record")
        self.assertEqual(self.resolve(), (local, A))
        self.own = (A,)
        self.assertEqual(self.resolve(), ())

    def test_record_before_hearsay(self) -> None:
        """
        Addresses from a peer's own record come first, the newest first, and hearsay can't
        push them out.
        """
        self.book.learn(PEER, [A], "record")
        self.clock.advance(1)
        flood = [PeerAddress(STREAMS, f"192.0.2.{n}", 7) for n in range(20)]
        self.book.learn(PEER, flood[:8], "peer data")
        self.book.learn(PEER, flood[8:16], "peer data")
        self.assertEqual(self.resolve()[0], A)
        self.assertEqual(len(self.resolve()), MAX_ADDRESSES)
        self.clock.advance(1)
        self.book.learn(PEER, [B], "record")
        self.assertEqual(self.resolve()[:2], (B, A))

    def test_expiry(self) -> None:
        """
        An address expires 5 minutes after it was last named.
        """
        self.book.learn(PEER, [A, B], "record")
        self.clock.advance(200)
        self.book.learn(PEER, [A], "record")
        self.clock.advance(99)
        self.assertEqual(self.resolve(), (A, B))
        self.clock.advance(1)
        self.assertEqual(self.resolve(), (A,))
        self.clock.advance(200)
        self.assertEqual(self.resolve(), ())
        self.assertEqual(len(self.book), 0)

    def test_backoff_doubles(self) -> None:
        """
        The back-off of an id starts at 1 s and doubles up to 5 minutes; jitter reduces it
        by at most a quarter.
        """
        self.book.learn(PEER, [A], "record")
        for expected in (1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300):
            waited = self.fail_when_free()
            self.assertTrue(0.75 * expected <= waited <= expected + 1 / 16, f"{waited} seed {self.seed}")

    def test_success_ends_backoff(self) -> None:
        """
        After a successful dial, the back-off starts again at 1 s.
        """
        self.book.learn(PEER, [A], "record")
        for _ in range(5):
            self.fail_when_free()
        self.book.failed(PEER, [B])
        self.assertEqual(self.resolve(), ())
        self.book.succeeded(PEER)
        self.assertEqual(self.resolve(), (A,))
        self.assertLessEqual(self.fail_when_free(), 1.0625)
        self.book.succeeded(OTHER)

    def test_new_address_ends_backoff(self) -> None:
        """
        A new address of an id may be dialled immediately; known addresses change nothing.
        """
        self.book.learn(PEER, [A], "record")
        self.book.failed(PEER, [A])
        self.book.learn(PEER, [A], "record")
        self.assertEqual(self.resolve(), ())
        self.book.learn(PEER, [A, B], "record")
        self.assertEqual(self.resolve(), (B,))

    def test_undialable_address_ends_no_backoff(self) -> None:
        """
        A new address that is undialable or does not fit does not end the back-off.
        """
        full = [PeerAddress(STREAMS, f"192.0.2.{n}", 9) for n in range(MAX_ADDRESSES)]
        self.book.learn(PEER, full, "record")
        self.book.failed(PEER, [B])
        self.book.learn(PEER, [PeerAddress(STREAMS, "10.0.0.1", 1)], "record")
        self.book.learn(PEER, [A], "peer data")
        self.assertEqual(self.resolve(), ())

    def test_no_address_is_no_failure(self) -> None:
        """
        An id without an address does not count as a failed dial.
        """
        self.book.learn(PEER, [A], "record")
        self.book.failed(PEER, [])
        self.assertEqual(self.resolve(), (A,))

    def test_place_left_alone(self) -> None:
        """
        After a failed dial an (ip, port) is not used for 10 s, by any id and on any
        transport; other ports of the ip are.
        """
        self.book.failed(OTHER, [A])
        twin = PeerAddress(IROH, A.host, A.port)
        neighbour = PeerAddress(STREAMS, A.host, A.port + 1)
        self.book.learn(PEER, [A, twin, neighbour], "record")
        self.assertEqual(self.resolve(), (neighbour,))
        self.clock.advance(9.9)
        self.assertEqual(self.resolve(), (neighbour,))
        self.clock.advance(0.1)
        self.assertEqual(self.resolve(), (A, twin, neighbour))

    def test_place_held_again(self) -> None:
        """
        A second failure at the same (ip, port) starts its 10 s again, and does not delay
        the release of others.
        """
        self.book.learn(PEER, [A, B], "record")
        self.book.failed(OTHER, [A])
        self.clock.advance(5)
        self.book.failed(OTHER, [B])
        self.clock.advance(3)
        self.book.failed(OTHER, [A])
        self.clock.advance(6.9)
        self.assertEqual(self.resolve(), ())
        self.clock.advance(0.1)
        self.assertEqual(self.resolve(), (B,))
        self.clock.advance(3)
        self.assertEqual(self.resolve(), (A, B))

    def test_bounded_ids(self) -> None:
        """
        A full book forgets hearsay before records, and the oldest entries first.
        """
        ids = peer_ids(2 * MAX_PEERS)
        self.book.learn(ids[0], [A], "record")
        for peer_id in ids[1:]:
            self.clock.advance(0.01)
            self.book.learn(peer_id, [B], "peer data")
            self.assertLessEqual(len(self.book), MAX_PEERS)
        self.assertEqual(self.resolve(ids[0]), (A,))
        self.assertEqual(self.resolve(ids[1]), ())
        self.assertEqual(self.resolve(ids[-1]), (B,))

    def test_bounded_places(self) -> None:
        """
        The number of failed places remembered is limited; the newest are kept.
        """
        self.patch(held, "MAX_HELD_ADDRESSES", 10)
        places = [PeerAddress(STREAMS, "192.0.2.1", port) for port in range(1, 21)]
        self.book.failed(OTHER, places)
        self.book.learn(PEER, places[8:12], "record")
        self.assertEqual(self.resolve(), tuple(places[8:10]))


class PacketTests(SynchronousTestCase):
    """
    Signed packets in the book.
    """

    key = PeerKey.from_seed(b"p" * 32)

    def setUp(self) -> None:
        self.clock = Clock()
        self.book = AddressBook(self.clock, random.Random(1), tuple, OWN_ID)

    def learn(self, seq: int, *addresses: Address) -> bool:
        """
        Learn a packet of the peer.
        """
        return self.book.learn_packet(packet_of(self.key, seq, *addresses))

    def known(self) -> list[tuple[Address, str]]:
        """
        The peer's known addresses, in order.
        """
        return [(known.address, known.source) for known in self.book.known(PEER)]

    def test_newest(self) -> None:
        """
        A newer packet replaces the previous one; an older one is ignored.
        """
        self.assertTrue(self.learn(5, A, B))
        self.assertEqual(self.known(), [(A, PKARR), (B, PKARR)])
        self.assertTrue(self.learn(6, C))
        self.assertFalse(self.learn(5, A, B))
        self.assertEqual(self.known(), [(C, PKARR)])
        self.assertTrue(self.learn(7))
        self.assertEqual(self.known(), [])

    def test_same_again(self) -> None:
        """
        The same packet again renews its addresses.
        """
        self.learn(5, C)
        self.clock.advance(EXPIRY - 1)
        self.assertTrue(self.learn(5, C))
        self.clock.advance(EXPIRY - 1)
        self.assertEqual(self.known(), [(C, PKARR)])
        self.clock.advance(1)
        self.assertEqual(self.known(), [])

    def test_only_its_own(self) -> None:
        """
        A packet does not replace hearsay but ranks before it, and behind the peer's
        record.
        """
        self.book.learn(PEER, [A], "peer data")
        self.learn(5, C)
        self.clock.advance(1)
        self.book.learn(PEER, [B], RECORD)
        self.assertEqual(self.known(), [(B, RECORD), (C, PKARR), (A, "peer data")])
        self.book.learn(PEER, [C], "peer data")
        self.assertEqual(self.known(), [(B, RECORD), (C, PKARR), (A, "peer data")])
        self.learn(6)
        self.assertEqual(self.known(), [(B, RECORD), (A, "peer data")])

    def test_backoff(self) -> None:
        """
        A re-signed packet with the same addresses does not end a back-off; one with
        another address does.
        """
        self.learn(5, C)
        self.book.failed(PEER, [C])
        self.learn(6, C)
        self.assertEqual(self.successResultOf(self.book.resolve(PEER)), ())
        self.learn(7, C, A)
        self.assertEqual(self.successResultOf(self.book.resolve(PEER)), (A,))

    def test_nobody(self) -> None:
        """
        Packets of the book's own id and of invalid ids are ignored.
        """
        dns = packet_of(self.key, 1, A).dns
        for peer_id in (OWN_ID, bytes(32), b"\x02" + bytes(31)):
            self.assertFalse(self.book.learn_packet(Packet(peer_id, 1, dns)))
        self.assertEqual(len(self.book), 0)

    def test_malformed(self) -> None:
        """
        A malformed packet raises and changes nothing.
        """
        self.learn(5, C)
        self.assertRaises(DecodeError, self.book.learn_packet, Packet(PEER, 6, b"junk"))
        self.assertEqual(self.known(), [(C, PKARR)])

    def test_relay_is_kept(self) -> None:
        """
        Eight addresses do not push out the relay.
        """
        relay = RelayAddress("https://relay.example./")
        many = [PeerAddress(IROH, "192.0.2.1", port + 1) for port in range(MAX_ADDRESSES)]
        self.learn(5, *many, relay)
        self.assertEqual({address for address, _ in self.known()}, {*many, relay})
        self.assertIn(relay, self.successResultOf(self.book.resolve(PEER)))

    def test_survives_a_flood(self) -> None:
        """
        A flood of ids pushes out hearsay, but not signed packets.
        """
        self.learn(5, C)
        for peer_id in peer_ids(MAX_PEERS + 10):
            self.clock.advance(0.01)
            self.book.learn(peer_id, [B], "peer data")
        self.assertEqual(self.known(), [(C, PKARR)])


class ReachedTests(SynchronousTestCase):
    """
    Addresses at which peers were reached, also in an earlier run.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_800_000_000)
        self.book = AddressBook(self.clock, random.Random(1), tuple, OWN_ID)

    def resolve(self, book: AddressBook | None = None) -> tuple[Address, ...]:
        """
        The addresses that may be dialled now.
        """
        return self.successResultOf((book or self.book).resolve(PEER))

    def restart(self) -> AddressBook:
        """
        Create another book from what this one has saved.
        """
        book = AddressBook(self.clock, random.Random(2), tuple, OWN_ID)
        book.restore(self.book.reached())
        return book

    def test_for_a_day(self) -> None:
        """
        An address that was reached is used for a day, even if nothing names it again.
        """
        self.book.learn(PEER, [A, B], RECORD)
        self.book.succeeded(PEER)
        self.clock.advance(EXPIRY)
        self.assertEqual(self.resolve(), (A, B))
        self.assertFalse(self.book.has_current_address(PEER))
        self.book.learn(PEER, [C], RECORD)
        self.assertEqual(self.resolve(), (C,))
        self.clock.advance(REACHED_EXPIRY - EXPIRY)
        self.assertEqual((self.resolve(), len(self.book)), ((), 0))

    def test_restart(self) -> None:
        """
        An address that was reached survives a restart; one that was only named does not.
        """
        self.book.learn(PEER, [A], RECORD)
        self.book.learn(OTHER, [B], RECORD)
        self.book.succeeded(PEER)
        book = self.restart()
        self.assertEqual((self.resolve(book), len(book)), ((A,), 1))

    def test_backoff_applies(self) -> None:
        """
        The back-off applies to restored addresses.
        """
        self.book.learn(PEER, [A], RECORD)
        self.book.succeeded(PEER)
        book = self.restart()
        book.failed(PEER, [A])
        self.assertEqual(self.resolve(book), ())

    def test_latest_first(self) -> None:
        """
        At most 256 peers are saved, the most recent first.
        """
        for peer_id in peer_ids(MAX_REACHED + 10):
            self.clock.advance(1)
            self.book.learn(peer_id, [A], RECORD)
            self.book.succeeded(peer_id)
        reached = self.book.reached()
        self.assertEqual([peer.peer_id for peer in reached], peer_ids(MAX_REACHED + 10)[:9:-1])

    def test_only_real_peers(self) -> None:
        """
        Invalid ids, the book's own id, old entries and entries without addresses are not
        restored; a time in the future counts as now.
        """
        now = self.clock.seconds()
        self.book.restore(
            [
                ReachedPeer(bytes(32), (A,), now),
                ReachedPeer(OWN_ID, (A,), now),
                ReachedPeer(OTHER, (A,), now - REACHED_EXPIRY),
                ReachedPeer(peer_ids(1)[0], (), now),
                ReachedPeer(PEER, (A,), now + 10 * REACHED_EXPIRY),
            ]
        )
        self.assertEqual([(peer.peer_id, peer.at) for peer in self.book.reached()], [(PEER, now)])

    def test_reached_without_addresses(self) -> None:
        """
        A peer reached after all its addresses have expired keeps the earlier ones.
        """
        self.book.learn(PEER, [A], RECORD)
        self.book.succeeded(PEER)
        self.clock.advance(EXPIRY)
        self.resolve()
        self.book.succeeded(PEER)
        self.assertEqual(self.book.reached(), [ReachedPeer(PEER, (A,), self.clock.seconds())])

    def test_survives_a_flood(self) -> None:
        """
        A flood of ids pushes out hearsay, but not peers that were reached.
        """
        self.book.learn(PEER, [A], "peer data")
        self.book.succeeded(PEER)
        for peer_id in peer_ids(MAX_PEERS + 10):
            self.book.learn(peer_id, [B], "peer data")
        self.assertEqual(self.resolve(), (A,))
