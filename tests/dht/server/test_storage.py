"""
Tests for L{dtt.dht.server.storage}.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from dtt.dht.server.storage import ITEM_LIFETIME, MAX_ITEMS, PEER_LIFETIME, ItemStore, PeerStore
from dtt.krpc.bencode import Encoded, encode
from dtt.krpc.compact import encode_address
from dtt.krpc.items import MAX_SALT_SIZE, MAX_VALUE_SIZE, MutableItem
from dtt.net.networks import packed_network
from tests.sweeps import sized

_ME = bytes(20)
_NET = b"\x0a\x00\x00"
_TARGET = b"t" * 20


def _item(seq: int, value: bytes = b"v", signature: bytes = b"s" * 64) -> MutableItem:
    return MutableItem(b"k" * 32, b"", seq, Encoded(encode(value)), signature)


def _target(number: int) -> bytes:
    return number.to_bytes(20, "big")


class RulesTests(SynchronousTestCase):
    """
    The order of writes by BEP44.
    """

    def setUp(self) -> None:
        """
        A store that holds seq 5.
        """
        self.store = ItemStore(_ME)
        self.store.put(_TARGET, _item(5), _NET, 1000.0)

    def test_seq(self) -> None:
        """
        A lower seq, or an equal one with another value, is error 302; an equal one with
        the same value and higher ones may be stored.
        """
        for item, expected in (
            (_item(4), 302),
            (_item(4, b"w"), 302),
            (_item(5, b"w"), 302),
            (_item(5), None),
            (_item(5, signature=b"z" * 64), None),
            (_item(6), None),
            (_item(2**63 - 1, b"w"), None),
        ):
            self.assertEqual(ItemStore.conflict(_item(5), item, None), expected, item)

    def test_cas(self) -> None:
        """
        A C{cas} must equal the stored seq, and is checked first.
        """
        for item, cas, expected in (
            (_item(6), 5, None),
            (_item(6), 4, 301),
            (_item(6), 0, 301),
            (_item(4), 0, 301),
            (_item(4), 5, 302),
            (_item(5), 5, None),
        ):
            self.assertEqual(ItemStore.conflict(_item(5), item, cas), expected, (item, cas))

    def test_immutable(self) -> None:
        """
        C{cas} is ignored if the stored item is immutable.
        """
        for cas in (None, 0, 77):
            self.assertIsNone(ItemStore.conflict(b"5:value", _item(1), cas))

    def test_get(self) -> None:
        """
        The latest item is returned.
        """
        self.assertEqual(self.store.get(_TARGET, 1000.0), _item(5))
        self.store.put(_TARGET, _item(6), _NET, 1001.0)
        self.assertEqual(self.store.get(_TARGET, 1001.0), _item(6))
        self.assertIsNone(self.store.get(b"u" * 20, 1001.0))
        self.assertEqual(len(self.store), 1)


class BoundsTests(SynchronousTestCase):
    """
    Time, capacity and shares.
    """

    def test_expiry(self) -> None:
        """
        An item lives two hours from its last put, and then disappears.
        """
        store = ItemStore(_ME)
        store.put(_TARGET, _item(5), _NET, 1000.0)
        store.put(b"u" * 20, b"5:other", _NET, 1000.0)
        store.put(_TARGET, _item(5), _NET, 2000.0)
        now = 1000.0 + ITEM_LIFETIME
        self.assertEqual(store.get(_TARGET, now), _item(5))
        self.assertIsNone(store.get(b"u" * 20, now))
        store.put(b"w" * 20, b"3:new", _NET, now)
        self.assertEqual(len(store), 2)
        self.assertIsNone(store.get(_TARGET, 2000.0 + ITEM_LIFETIME))

    def test_share(self) -> None:
        """
        A network over its share loses its own oldest item; other networks' items stay.
        """
        store = ItemStore(_ME, capacity=100, share=3)
        store.put(_target(0), b"1:x", b"net", 1.0)
        for number in range(1, 5):
            store.put(_target(number), b"1:x", _NET, 1.0 + number)
        self.assertEqual(
            [store.get(_target(n), 9.0) is not None for n in range(5)], [True, False, True, True, True]
        )

    def test_bytes(self) -> None:
        """
        The number of items bounds their bytes: 1.2 MB of the largest ones, from a
        thousand networks, are kept.
        """
        store = ItemStore(_ME)
        value = Encoded(encode(b"v" * (MAX_VALUE_SIZE - 4)))
        self.assertEqual(len(value), MAX_VALUE_SIZE)
        for number in range(2 * MAX_ITEMS):
            item = MutableItem(b"k" * 32, bytes(MAX_SALT_SIZE), number, value, b"s" * 64)
            store.put(_target(number), item, (number % 1000).to_bytes(3), 1.0 + number / 1000)
        kept = [store.get(_target(number), 3.0) for number in range(2 * MAX_ITEMS)]
        size = sum(
            len(each.encoded) + len(each.salt) + len(each.public_key) + len(each.signature)
            for each in kept
            if isinstance(each, MutableItem)
        )
        self.assertEqual(len(store), MAX_ITEMS)
        self.assertEqual(size, MAX_ITEMS * 1160)

    def test_refresh_keeps_share(self) -> None:
        """
        Repeating another network's put does not move the item into one's own share.
        """
        store = ItemStore(_ME, capacity=100, share=3)
        store.put(_TARGET, _item(5), _NET, 1.0)
        store.put(_TARGET, _item(5, signature=b"z" * 64), b"bad", 2.0)
        for number in range(9):
            store.put(_target(number), b"1:x", b"bad", 3.0)
        self.assertIsNotNone(store.get(_TARGET, 4.0))
        self.assertEqual(len(store), 4)

    def test_refresh(self) -> None:
        """
        A refreshed item lives on, is the newest of its network, and stays in that
        network's share.
        """
        store = ItemStore(_ME, capacity=100, share=3)
        store.put(_TARGET, _item(5), _NET, 1.0)
        store.put(_target(1), b"1:x", _NET, 2.0)
        store.put(_target(2), b"1:x", _NET, 3.0)
        store.refresh(_TARGET, 4.0)
        store.put(_target(3), b"1:x", _NET, 5.0)
        self.assertIsNone(store.get(_target(1), 5.0))
        self.assertEqual(store.get(_TARGET, 3.5 + ITEM_LIFETIME), _item(5))
        self.assertIsNone(store.get(_TARGET, 4.0 + ITEM_LIFETIME))

    def test_capacity(self) -> None:
        """
        When the store is full, the farthest of the oldest items is removed; the newest
        and the nearest stay.
        """
        store = ItemStore(_ME, capacity=20, share=100)
        for number in (3, 1 << 159, 2, 1, *range(100, 116)):
            store.put(_target(number), b"1:x", _NET, 1.0)
        store.put(_target(1 << 158), b"1:x", _NET, 2.0)
        self.assertEqual(len(store), 20)
        self.assertIsNone(store.get(_target(1 << 159), 2.0))
        for number in (1, 2, 3, 1 << 158, 115):
            self.assertIsNotNone(store.get(_target(number), 2.0), number)

    def test_never_exceeded(self) -> None:
        """
        After any sequence of puts the bounds hold, and the last item put is there.
        """
        for seed in range(sized(2, 5)):
            rng = Random(seed)
            store = ItemStore(rng.randbytes(20), capacity=50, share=20, lifetime=30.0)
            now = 0.0
            for _ in range(2000):
                now += rng.random() / 10
                target = _target(rng.randrange(200) << 150)
                store.put(target, _item(1), bytes([rng.randrange(5)]), now)
                self.assertIsNotNone(store.get(target, now), f"seed {seed}")
                self.assertLessEqual(len(store), 50, f"seed {seed}")
                shares = Counter(entry.leaf.network for entry in store._entries.values())
                self.assertLessEqual(max(shares.values()), 20, f"seed {seed}")
                self.assertEqual(len(store._shares), len(store), f"seed {seed}")

    def put_from(self, store: ItemStore, hosts: Iterable[str]) -> set[bytes]:
        """
        Put an item from each of these hosts; return the targets.
        """
        targets = set()
        for host in hosts:
            self.serial += 1
            target = self.rng.randbytes(20)
            network = packed_network(encode_address(host, 0)[:-2])
            store.put(target, b"1:x", network, 1000.0 + self.serial / 1000)
            targets.add(target)
        return targets

    serial = 0
    rng = Random(7)

    def assert_fair(self, hostile: Callable[[int], str], *, honest: int = 400, most: int) -> None:
        """
        Fill a store from honest hosts in both families and then from hostile ones; check
        that the former keep their items, and that the latter got C{most}.
        """
        store = ItemStore(self.rng.randbytes(20))
        ours = self.put_from(
            store,
            [f"{20 + n % 97}.{n % 251}.{n // 251}.1" if n % 4 else f"2a00:{n:x}::1" for n in range(honest)],
        )
        theirs = self.put_from(store, map(hostile, range(5000)))
        now = 1000.0 + self.serial / 1000
        kept = {target for target in ours if store.get(target, now) is not None}
        self.assertEqual(len(kept), honest)
        self.assertEqual(sum(store.get(target, now) is not None for target in theirs), most)

    def test_one_line(self) -> None:
        """
        One customer's line, a /48 with any number of /64s or a /24, gets its share; all
        others keep what they have put, in both families.
        """
        self.assert_fair(lambda n: f"2001:db8:7:{n % 10:x}::1", most=100)
        self.assert_fair(lambda n: f"2001:db8:7:{n:x}::1", most=100)
        self.assert_fair(lambda n: f"2001:db8:7:{n << 8 & 0xFFFF:x}::1", most=100)
        self.assert_fair(lambda n: f"130.1.1.{n % 256}", most=100)

    def test_many_lines(self) -> None:
        """
        A provider's networks, a /32 or a /16, get what nobody else uses.
        """
        self.assert_fair(lambda n: f"2001:db8:{n:x}::1", most=600)
        self.assert_fair(lambda n: f"130.1.{n % 256}.1", most=600)

    def test_family(self) -> None:
        """
        A flood from everywhere in one family does not displace the other family, and gets
        half of a store that the other one has filled.
        """
        for flood, honest in (
            (lambda n: f"{n:04x}:db8::1", lambda n: f"{20 + n % 97}.{n // 97}.1.1"),
            (lambda n: f"{20 + n % 97}.{n // 97}.1.1", lambda n: f"{n + 1:04x}:db8::1"),
        ):
            store = ItemStore(_ME)
            ours = self.put_from(store, map(honest, range(500)))
            self.put_from(store, map(flood, range(1, 5000)))
            now = 1000.0 + self.serial / 1000
            self.assertEqual(sum(store.get(target, now) is not None for target in ours), 500)
            store = ItemStore(_ME)
            self.put_from(store, map(honest, range(1500)))
            theirs = self.put_from(store, map(flood, range(1, 3000)))
            now = 1000.0 + self.serial / 1000
            self.assertEqual(sum(store.get(target, now) is not None for target in theirs), 500)


class PeerStoreTests(SynchronousTestCase):
    """
    L{PeerStore}.
    """

    def setUp(self) -> None:
        """
        An empty store.
        """
        self.rng = Random(1)
        self.store = PeerStore(_ME)

    def peers(self, now: float, size: int = 6, count: int = 50) -> list[bytes]:
        """
        Return the peers of the default info hash.
        """
        return self.store.peers(_TARGET, size, count, self.rng, now)

    def test_families(self) -> None:
        """
        Peers are returned by the size of their addresses, each once.
        """
        for peer in (b"peer-1", b"peer-2", b"peer-1", b"6" * 18):
            self.store.announce(_TARGET, peer, _NET, 1.0)
        self.assertEqual(sorted(self.peers(1.0)), [b"peer-1", b"peer-2"])
        self.assertEqual(self.peers(1.0, size=18), [b"6" * 18])
        self.assertEqual(self.store.peers(b"u" * 20, 6, 50, self.rng, 1.0), [])

    def test_sampled(self) -> None:
        """
        Of many peers a random choice is returned.
        """
        for number in range(100):
            self.store.announce(_TARGET, b"%06d" % number, b"%03d" % number, 1.0)
        first, second = self.peers(1.0, count=10), self.peers(1.0, count=10)
        self.assertEqual((len(first), len(set(first)), len(second)), (10, 10, 10))
        self.assertNotEqual(first, second)

    def test_expiry(self) -> None:
        """
        A peer that does not announce itself again expires.
        """
        self.store.announce(_TARGET, b"peer-1", _NET, 1.0)
        self.store.announce(_TARGET, b"peer-2", _NET, 1.0)
        self.store.announce(_TARGET, b"peer-1", _NET, 100.0)
        self.assertEqual(self.peers(1.0 + PEER_LIFETIME), [b"peer-1"])
        self.assertEqual(self.peers(100.0 + PEER_LIFETIME), [])
        self.assertEqual(self.store.sample(20, 100.0 + PEER_LIFETIME), ([], 0))
        self.assertEqual((len(self.store), self.store.info_hashes), (0, 0))

    def test_incremental_expiry(self) -> None:
        """
        However many peers expire together, one announcement removes a few of them; the
        others are not returned.
        """
        for number in range(1000):
            self.store.announce(_target(number), b"peer-1", b"%d" % (number % 10), 1.0)
        now = 1.0 + PEER_LIFETIME
        self.store.announce(_TARGET, b"peer-2", _NET, now)
        self.assertEqual(self.store.info_hashes, 1001 - 8)
        self.assertEqual(self.store.peers(_target(999), 6, 50, self.rng, now), [])
        sample, total = self.store.sample(20, now)
        self.assertLessEqual(set(sample), {_TARGET})
        self.assertEqual(total, 1001 - 8 - 20)
        self.store.expire(now, 1000)
        self.assertEqual((len(self.store), self.store.info_hashes), (1, 1))

    def test_bounds(self) -> None:
        """
        One info hash, one network and the whole store have their limits.
        """
        for number in range(600):
            self.store.announce(_TARGET, b"%06d" % number, b"%03d" % (number // 2), 1.0)
        self.assertEqual(len(self.store), 500)
        self.assertNotIn(b"000000", self.peers(1.0, count=600))
        self.assertIn(b"000599", self.peers(1.0, count=600))
        store = PeerStore(_ME, capacity=30, share=5)
        for number in range(100):
            store.announce(_target(number << 150), b"peer-1", b"%d" % (number % 10), 1.0)
            self.assertLessEqual(len(store), 30)
        for number in range(100):
            store.announce(_target(number << 150), b"peer-1", _NET, 1.0)
        self.assertEqual([entry.leaf.network for entry in store._entries.values()].count(_NET), 5)
        self.assertEqual(sum(map(len, store._torrents.values())), len(store))

    def test_crowded_torrent(self) -> None:
        """
        One line can't displace the other peers of an info hash, nor can one family.
        """
        for size, honest, hostile in (
            (6, lambda n: n.to_bytes(3) + b"\x01", lambda n: b"\x82\x01\x01" + bytes([n % 256])),
            (18, lambda n: n.to_bytes(4) + bytes(12), lambda n: b"\x20\x01\x0d\xb8\0\7" + n.to_bytes(10)),
            (6, lambda n: n.to_bytes(3) + b"\x01", lambda n: (n << 32).to_bytes(16)),
        ):
            store = PeerStore(_ME)
            ours = []
            for number in range(100):
                ip = honest(number << 8)
                ours.append(ip + b"\x1a\xe1")
                store.announce(_TARGET, ours[-1], packed_network(ip), 1.0)
            for number in range(5000):
                ip = hostile(number)
                peer = ip + (1 + number % 60000).to_bytes(2)
                store.announce(_TARGET, peer, packed_network(ip), 2.0 + number / 1000)
            self.assertEqual(len(store), 500)
            self.assertLessEqual(set(ours), set(store.peers(_TARGET, size, 1000, self.rng, 8.0)))

    def test_crowded_model(self) -> None:
        """
        Whatever is announced and expires, the networks of crowded info hashes are those
        of their peers.
        """
        for seed in range(sized(1, 3)):
            rng = Random(seed)
            store = PeerStore(_ME, capacity=1500, share=800, lifetime=300.0)
            now = 0.0
            for _ in range(6000):
                now += rng.random() / 5
                ip = bytes([rng.randrange(3), rng.randrange(3), rng.randrange(9), rng.randrange(256)])
                store.announce(_target(rng.randrange(3)), ip + b"\0\1", packed_network(ip), now)
                for info_hash, shares in store._crowded.items():
                    self.assertEqual(len(shares), len(store._torrents[info_hash]), f"seed {seed}")
                    self.assertLessEqual(len(shares), 500, f"seed {seed}")
            self.assertTrue(store._crowded, f"seed {seed}")

    def test_sample(self) -> None:
        """
        A sample has some info hashes and their total number.
        """
        hashes = {_target(number) for number in range(30)}
        for info_hash in hashes:
            self.store.announce(info_hash, b"peer-1", _NET, 1.0)
        sample, total = self.store.sample(20, 1.0)
        self.assertEqual((len(set(sample)), set(sample) <= hashes, total), (20, True, 30))
        others, _ = self.store.sample(20, 1.0)
        self.assertEqual(set(sample) | set(others), hashes)
        self.store.expire(1.0 + PEER_LIFETIME, 100)
        sample, total = self.store.sample(20, 1.0 + PEER_LIFETIME)
        self.assertEqual((sample, total), ([], 0))
