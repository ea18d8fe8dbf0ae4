"""
Tests for L{dtt.dht.routing.table}.
"""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from dtt.dht.routing.buckets import MAX_FAILURES, Bucket, Entry, K
from dtt.dht.routing.ids import distance, generate
from dtt.dht.routing.table import FRESH, RoutingTable
from dtt.interfaces import Contact
from dtt.krpc.compact import decode_nodes
from tests.sweeps import sized

OWN = bytes(20)


def contact(prefix: int, number: int = 0, port: int = 6881) -> Contact:
    """
    A node whose id starts with the byte C{prefix}, at a unique address.
    """
    return Contact(bytes((prefix,)) + number.to_bytes(19), f"10.{prefix}.{number >> 8}.{number & 255}", port)


def heard(table: RoutingTable, contact: Contact, now: float) -> bool:
    """
    L{RoutingTable.heard} of a contact.
    """
    return table.heard(contact.node_id, contact.host, contact.port, now)


class RoutingTableTests(SynchronousTestCase):
    """
    k-buckets as in BEP5.
    """

    def setUp(self) -> None:
        self.table = RoutingTable(OWN, 0.0)

    def fill(self, prefix: int, count: int = K, now: float = 0.0) -> list[Contact]:
        contacts = [contact(prefix, number) for number in range(count)]
        for each in contacts:
            self.table.responded(each, now)
        return contacts

    def test_far_bucket_is_bounded(self) -> None:
        """
        A bucket that does not contain the own id keeps the first k nodes.
        """
        contacts = self.fill(0x80, 20)
        self.assertEqual(set(self.table.nearest(b"\x80" + bytes(19), 50)), set(contacts[:K]))

    def test_own_bucket_splits(self) -> None:
        """
        The bucket of the own id is split, so that all near nodes have room.
        """
        near = [Contact(bytes(18) + bytes((0, 1 << bit)), f"10.0.0.{bit}", 1) for bit in range(8)]
        self.fill(0x80, 20)
        self.fill(0x40, 20)
        for each in near:
            self.table.responded(each, 0.0)
        self.assertEqual(len(self.table), 2 * K + len(near))

    def test_nearest_is_exact(self) -> None:
        """
        L{RoutingTable.nearest} equals the result of sorting all nodes by distance, for
        any target.
        """
        seed = 20
        rng = Random(seed)
        self.table = RoutingTable(rng.randbytes(20), 0.0)
        for number in range(400):
            self.table.responded(Contact(rng.randbytes(20), f"10.1.{number >> 8}.{number & 255}", 1), 0.0)
        everything = self.table.contacts()
        self.assertGreater(len(everything), 30)
        for _ in range(200):
            target = rng.randbytes(20)
            expected = sorted(everything, key=lambda each: distance(each.node_id, target))
            for count in (1, 8, 32):
                self.assertEqual(self.table.nearest(target, count), expected[:count], f"seed {seed}")
            self.assertEqual(
                set(decode_nodes(self.table.nearest_compact(target))), set(expected[:K]), f"seed {seed}"
            )

    def test_nearest_of_many_buckets(self) -> None:
        """
        The same holds if ids are crafted to fill a hundred buckets; only the nearest
        buckets are examined, to bound the time per query.
        """
        seed = 21
        rng = Random(seed)
        own = int.from_bytes(OWN)
        for depth in range(100):
            for number in range(K):
                node_id = own ^ 1 << 159 - depth ^ rng.getrandbits(159 - depth)
                self.table.responded(Contact(node_id.to_bytes(20), f"10.1.{depth}.{number}", 1), 0.0)
        everything = self.table.contacts()
        self.assertEqual(len(everything), 100 * K)
        for _ in range(200):
            shared = rng.randrange(160)
            target = (own ^ 1 << 159 - shared ^ rng.getrandbits(159 - shared)).to_bytes(20)
            expected = sorted(everything, key=lambda each: distance(each.node_id, target))
            self.assertEqual(self.table.nearest(target, 32), expected[:32], f"seed {seed}")
        looked_at = 0
        alive = Bucket.alive

        def counting(bucket: Bucket) -> list[Entry]:
            nonlocal looked_at
            looked_at += 1
            return alive(bucket)

        self.patch(Bucket, "alive", counting)
        self.table.nearest(b"\x80" + bytes(19), 32)
        self.assertLessEqual(looked_at, 5)

    def test_compact_follows_changes(self) -> None:
        """
        The cached compact nodes of a full bucket lose a node that becomes bad and regain
        it when it answers.
        """
        contacts = self.fill(0x80)
        target = b"\x80" + bytes(19)
        self.assertEqual(len(self.table.nearest_compact(target)), 26 * K)
        for _ in range(MAX_FAILURES):
            self.table.failed(contacts[0])
        self.assertNotIn(contacts[0], decode_nodes(self.table.nearest_compact(target)))
        self.table.responded(contacts[0], 1.0)
        self.assertIn(contacts[0], decode_nodes(self.table.nearest_compact(target)))

    def test_one_place_per_ip(self) -> None:
        """
        A second node of an IP address does not enter, except in a closed network.
        """
        first, second = contact(0x80), Contact(b"\x01" * 20, contact(0x80).host, 1)
        for closed, expected in ((False, 1), (True, 2)):
            table = RoutingTable(OWN, 0.0, closed=closed)
            table.responded(first, 0.0)
            table.responded(second, 0.0)
            self.assertEqual(len(table), expected)

    def test_one_of_a_network_in_a_bucket(self) -> None:
        """
        A /24 of public addresses has one place in a bucket, and the place of a bad node
        goes to the next one; local networks, closed ones and loopback are exempt.
        """
        for pattern, closed, places in (
            ("80.0.0.{}", False, 1),
            ("80.0.0.{}", True, K),
            ("10.0.0.{}", False, K),
            ("127.0.0.{}", False, K),
        ):
            table = RoutingTable(OWN, 0.0, closed=closed)
            for number in range(K):
                table.responded(contact(0x40, number << 8), 0.0)
            crowd = [Contact(bytes((0x80, n)) * 10, pattern.format(n), 1) for n in range(K)]
            for number, each in enumerate(crowd):
                self.assertEqual(heard(table, each, 0.0), number < places)
                table.responded(each, 0.0)
            self.assertEqual(len(table), K + places)
            other = Contact(b"\x20" * 20, pattern.format(99), 1)
            table.responded(other, 0.0)
            self.assertIn(other, table.contacts())
            for _ in range(MAX_FAILURES):
                table.failed(crowd[0])
            table.responded(crowd[1], 1.0)
            self.assertIn(crowd[1], table.contacts())
            self.assertEqual(len(table), K + places + 1 - (places == K))

    def test_new_id_at_same_address(self) -> None:
        """
        A node that returns with another id replaces its old entry.
        """
        self.table.responded(contact(0x80), 0.0)
        reborn = Contact(b"\x42" * 20, contact(0x80).host, 6881)
        self.table.responded(reborn, 1.0)
        self.assertEqual(self.table.contacts(), [reborn])

    def test_id_from_elsewhere(self) -> None:
        """
        A good node keeps its id if another address claims it; a bad one loses it.
        """
        first = contact(0x80)
        thief = Contact(first.node_id, "10.99.0.1", 1)
        self.table.responded(first, 0.0)
        self.table.responded(thief, 1.0)
        self.assertEqual(self.table.contacts(), [first])
        for _ in range(MAX_FAILURES):
            self.table.failed(first)
        self.table.responded(thief, 2.0)
        self.assertEqual(self.table.contacts(), [thief])

    def test_own_id_never_enters(self) -> None:
        """
        A node with our own id does not enter.
        """
        self.table.responded(Contact(OWN, "10.0.0.1", 1), 0.0)
        self.assertEqual(len(self.table), 0)

    def test_bad_nodes(self) -> None:
        """
        A node that fails twice in a row is neither handed out nor counted, but stays
        known, after the others, and returns when it answers.
        """
        first, second = self.fill(0x80, 2)
        self.table.failed(first)
        self.table.responded(first, 1.0)
        self.table.failed(first)
        self.assertEqual(len(self.table), 2)
        self.table.failed(first)
        self.assertEqual(len(self.table), 1)
        self.assertEqual(self.table.nearest(OWN), [second])
        self.assertEqual(self.table.contacts(), [second, first])
        self.table.failed(first)
        self.assertEqual(len(self.table), 1)
        self.table.responded(first, 2.0)
        self.assertEqual(len(self.table), 2)

    def test_replacement(self) -> None:
        """
        When a node goes bad, the latest node waiting for a place replaces it.
        """
        contacts = self.fill(0x80, K + 2)
        for _ in range(MAX_FAILURES):
            self.table.failed(contacts[3])
        found = self.table.nearest(b"\x80" + bytes(19), 50)
        self.assertEqual(len(found), K)
        self.assertNotIn(contacts[3], found)
        self.assertIn(contacts[K + 1], found)

    def test_bad_node_gives_way(self) -> None:
        """
        In a full bucket a newcomer replaces a bad node immediately.
        """
        contacts = self.fill(0x80, K)
        for _ in range(MAX_FAILURES):
            self.table.failed(contacts[0])
        newcomer = contact(0x80, 99)
        self.table.responded(newcomer, 1.0)
        self.assertIn(newcomer, self.table.nearest(OWN))
        self.assertEqual(len(self.table), K)

    def test_questionable_is_to_be_pinged(self) -> None:
        """
        When a newcomer waits, the node heard from least recently is returned if it is
        questionable, otherwise none.
        """
        contacts = self.fill(0x80, K)
        for each in contacts[1:]:
            self.table.responded(each, 100.0)
        self.fill(0x40, 1)
        self.assertIsNone(self.table.responded(contact(0x80, 50), FRESH - 1))
        self.assertEqual(self.table.responded(contact(0x80, 51), FRESH), contacts[0])

    def test_valid_id_preferred(self) -> None:
        """
        In a full bucket a node with a valid id (BEP42) replaces the one heard from
        least recently among those without. Where there is room both are accepted, and a
        node with a valid id keeps its place.
        """
        rng = Random(3)
        invalid = [Contact(bytes((0x80,)) + rng.randbytes(19), f"80.1.{n}.1", 1) for n in range(K - 1)]
        for number, each in enumerate(invalid):
            self.table.responded(each, 10.0 - number)
        self.table.responded(self.valid(0), 20.0)
        self.table.responded(contact(0x40), 20.0)
        self.assertEqual(len(self.table), K + 1)
        for number in range(1, K):
            self.assertTrue(heard(self.table, self.valid(number), 21.0))
            self.assertIsNone(self.table.responded(self.valid(number), 21.0))
            left = {each for each in self.table.contacts() if each in invalid}
            self.assertEqual(left, set(invalid[: K - 1 - number]))
        self.assertFalse(heard(self.table, self.valid(K), 22.0))
        self.table.responded(self.valid(K), 22.0)
        self.table.responded(invalid[0], 23.0)
        self.assertEqual({self.valid(n) for n in range(K)}, set(self.table.contacts()) - {contact(0x40)})
        for _ in range(MAX_FAILURES):
            self.table.failed(self.valid(0))
        # Nodes with a valid id are also first in the queue.
        self.assertIn(self.valid(K), self.table.contacts())

    def valid(self, number: int) -> Contact:
        """
        A node of the farthest bucket with a valid id.
        """
        rng = Random(number)
        host = f"90.{number}.1.1"
        while True:
            node_id = generate(host, rng)
            if node_id[0] & 0x80:
                return Contact(node_id, host, 1)

    def test_heard(self) -> None:
        """
        An unknown node that queries us is worth a ping if it could enter; a query from
        a known node keeps it good.
        """
        contacts = self.fill(0x80, K)
        self.fill(0x40, 1)
        self.assertTrue(heard(self.table, contact(0x41), 0.0))
        self.assertFalse(heard(self.table, contact(0x80, 77), 0.0))
        self.assertFalse(heard(self.table, Contact(b"\x41" * 20, contacts[0].host, 9), 0.0))
        self.assertFalse(heard(self.table, Contact(OWN, "10.9.9.9", 9), 0.0))
        for each in contacts:
            self.assertFalse(heard(self.table, each, FRESH))
        self.assertIsNone(self.table.responded(contact(0x80, 78), FRESH + 1))

    def test_refresh_targets(self) -> None:
        """
        After 15 minutes without a change each bucket yields an id within it, once.
        """
        self.fill(0x80)
        self.fill(0x40)
        self.fill(0x20)
        rng = Random(5)
        self.assertEqual(self.table.refresh_targets(FRESH - 1, rng), [])
        targets = self.table.refresh_targets(FRESH, rng)
        prefixes = [160 - distance(target, OWN).bit_length() for target in targets]
        self.assertEqual(prefixes[:-1], list(range(len(targets) - 1)))
        self.assertGreaterEqual(prefixes[-1], len(targets) - 1)
        self.assertGreater(len(targets), 1)
        self.assertEqual(self.table.refresh_targets(FRESH + 1, rng), [])
        self.table.responded(contact(0x80), 2 * FRESH - 1)
        self.assertEqual(len(self.table.refresh_targets(2 * FRESH, rng)), len(targets) - 1)

    def test_with_id(self) -> None:
        """
        A table for another id has the good nodes of the old one.
        """
        contacts = self.fill(0x80, 4)
        for _ in range(MAX_FAILURES):
            self.table.failed(contacts[0])
        table = self.table.with_id(b"\x81" * 20, 5.0)
        self.assertEqual(set(table.contacts()), set(contacts[1:]))
        self.assertEqual(table.own_id, b"\x81" * 20)

    def test_bookkeeping(self) -> None:
        """
        After any sequence of events all views agree, and all limits hold.
        """
        seed = 7
        rng = Random(seed)
        for closed in (False, True):
            table = RoutingTable(rng.randbytes(20), 0.0, closed=closed)
            pool = [
                Contact(rng.randbytes(20), f"10.0.0.{rng.randrange(60)}", rng.randrange(1, 5))
                for _ in range(300)
            ]
            pool += [Contact(rng.choice(pool).node_id, f"10.0.1.{n}", 1) for n in range(50)]
            for step in range(sized(500, 5000)):
                match rng.randrange(3):
                    case 0:
                        table.failed(rng.choice(pool))
                    case 1:
                        table.responded(rng.choice(pool), step)
                    case _:
                        heard(table, rng.choice(pool), step)
                contacts = table.contacts()
                good = table.nearest(rng.randbytes(20), 1000)
                self.assertEqual(len(good), len(table), f"seed {seed}")
                self.assertLessEqual(set(good), set(contacts), f"seed {seed}")
                self.assertEqual(len({each.node_id for each in contacts}), len(contacts), f"seed {seed}")
                places = {each.host if not closed else (each.host, each.port) for each in contacts}
                self.assertEqual(len(places), len(contacts), f"seed {seed}")
