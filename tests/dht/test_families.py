"""
Tests for L{dtt.dht.families}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dtt.dht.families import merge_puts, merge_reads, restrict_to_family
from dtt.interfaces import Contact, MutableRead, NodeAnswer, PutResult
from dtt.krpc.compact import IPV4, IPV6
from tests.dht.network import PUBLIC_KEY, SALT


class MergingTests(SynchronousTestCase):
    """
    Merging the results of both families.
    """

    def test_reads(self) -> None:
        """
        A merged read can be split again.
        """
        four = MutableRead(
            PUBLIC_KEY,
            SALT,
            tuple(NodeAnswer(Contact(bytes((n,)) * 20, f"10.0.{n}.1", 1), b"t") for n in range(4)),
            (Contact(b"s" * 20, "10.9.0.1", 1),),
        )
        six = MutableRead(
            PUBLIC_KEY,
            SALT,
            tuple(NodeAnswer(Contact(bytes((n,)) * 20, f"2001:db8:{n}::1", 1), b"t") for n in range(4, 8)),
        )
        both = merge_reads([four, six])
        self.assertEqual(len(both.answers), 8)
        self.assertEqual(set(restrict_to_family(both, IPV4).answers), set(four.answers))
        self.assertEqual(set(restrict_to_family(both, IPV6).answers), set(six.answers))
        self.assertEqual(
            (restrict_to_family(both, IPV4).silent, restrict_to_family(both, IPV6).silent), (four.silent, ())
        )

    def test_puts(self) -> None:
        """
        Results are concatenated.
        """
        a, b, c = (Contact(bytes((n,)) * 20, "10.0.0.1", n) for n in (1, 2, 3))
        self.assertEqual(
            merge_puts([PutResult((a,), (), ((b, 301),), ()), PutResult((c,), (), (), (b,))]),
            PutResult((a, c), (), ((b, 301),), (b,)),
        )
