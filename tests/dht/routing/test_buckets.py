"""
Tests for L{dtt.dht.routing.buckets}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dtt.dht.routing.buckets import MAX_FAILURES, Bucket, Entry, K
from dtt.dht.routing.ids import ID_SIZE
from dtt.interfaces import Contact
from dtt.krpc.compact import encode_nodes


def entry(node_id: bytes, host: str = "10.0.0.1") -> Entry:
    """
    An entry with a valid id.
    """
    return Entry(encode_nodes((Contact(node_id, host, 6881),)), 0.0, True)


class EntryTests(SynchronousTestCase):
    """
    A node in compact form.
    """

    def test_contact(self) -> None:
        """
        Id, address and contact are those of the node, in both families.
        """
        for host, size in (("10.0.0.1", 6), ("2001:db8::1", 18)):
            made = entry(b"i" * 20, host)
            self.assertEqual(made.contact, Contact(b"i" * 20, host, 6881))
            self.assertEqual(made.number.to_bytes(20), b"i" * 20)
            self.assertEqual(len(made.address), size)

    def test_bad(self) -> None:
        """
        A node is bad after several failures in a row.
        """
        made = entry(b"i" * 20)
        made.failures = MAX_FAILURES - 1
        self.assertFalse(made.bad)
        made.failures += 1
        self.assertTrue(made.bad)


class BucketTests(SynchronousTestCase):
    """
    The prepared compact form of a bucket, and the search in it.
    """

    def bucket(self, *entries: Entry) -> Bucket:
        bucket = Bucket(0.0)
        bucket.entries = list(entries)
        bucket.update()
        return bucket

    def full(self, host: str = "10.0.0.1") -> Bucket:
        return self.bucket(*(entry(bytes((number,)) * 20, host) for number in range(K)))

    def test_compact(self) -> None:
        """
        Only a full bucket without a bad node has a compact form.
        """
        bucket = self.full()
        self.assertEqual(bucket.compact, b"".join(each.compact for each in bucket.entries))
        bucket.entries[3].failures = MAX_FAILURES
        bucket.update()
        self.assertIsNone(bucket.compact)
        self.assertEqual(len(bucket.alive()), K - 1)
        del bucket.entries[3]
        bucket.update()
        self.assertIsNone(bucket.compact)

    def test_secure(self) -> None:
        """
        A bucket is secure if all of its ids are valid.
        """
        bucket = self.full()
        self.assertTrue(bucket.secure)
        bucket.entries[5].secure = False
        bucket.update()
        self.assertFalse(bucket.secure)

    def test_find(self) -> None:
        """
        Each node is found by its id, whether the bucket is full or not; others are not.
        """
        for host in ("10.0.0.1", "2001:db8::1"):
            bucket = self.full(host)
            for _ in range(K):
                for each in bucket.entries:
                    self.assertIs(bucket.find(each.compact[:ID_SIZE]), each)
                self.assertIsNone(bucket.find(b"x" * 20))
                bucket.entries.pop()
                bucket.update()

    def test_find_across_nodes(self) -> None:
        """
        Bytes that span two nodes of the compact form are not taken for an id, and hide
        no node that has them as its id.
        """
        for at in range(1, 26):
            bucket = self.full()
            assert bucket.compact is not None
            spanning = bucket.compact[at : at + ID_SIZE]
            self.assertIsNone(bucket.find(spanning), str(at))
            last = bucket.entries[-1] = entry(spanning)
            bucket.update()
            self.assertIs(bucket.find(spanning), last, str(at))
